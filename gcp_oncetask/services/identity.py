"""
Verify the identity token of a delivery; no other header counts as identity. The only importer of google.auth.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from gcp_oncetask import forks
from gcp_oncetask.clock import Clock, Mark, elapsed
from gcp_oncetask.config import Verify
from gcp_oncetask.errors import IdentityError

CERTS_URL: Final = "https://www.googleapis.com/oauth2/v1/certs"
ISSUERS: Final = frozenset({"accounts.google.com", "https://accounts.google.com"})
_REMOVED: Final = "SIGNATURE_REMOVED_BY_GOOGLE"
_MAX_TOKEN: Final = 16_384
_FETCH_TIMEOUT: Final = 5.0
"""Most seconds that a fetch takes."""
_MOST_BYTES: Final = 262_144
"""Most bytes of a fetched answer; Google's certificates are 4 KB."""
_FETCH_PATIENCE: Final = 10.0
"""Seconds that a request waits for a fetch by another request."""
_LEAST_FETCH: Final = 10.0
"""Seconds between two fetches for an unknown key, so that a flood of forged tokens does not cause a flood of fetches."""
_LEAST_RETRY: Final = 1.0
"""Seconds between two fetches after a failed one."""
_DEFAULT_AGE: Final = 3600.0
_LONGEST_AGE: Final = 86_400.0
_MAX_AGE: Final = re.compile(r"max-age=(\d{1,12})")
_LAST_TIME: Final = 1e11
_METADATA_TIMEOUT: Final = 1.0
_REGION: Final = re.compile(r"projects/[^/]+/regions/([a-z0-9-]+)")


Certificates: TypeAlias = Callable[[], tuple[dict[str, str], str]]
"""
Returns certificates in PEM by key id, and the Cache-Control header that came with them. Raises OSError or ValueError if it
can't get them.
"""


@dataclass(frozen=True, slots=True)
class Identity:
    """
    A verified caller.

    Attributes:
        email: Account of the caller.
        audience: The audience its token was made for.
        issuer: Issuer of the token.
        expires: Unix time at which the token ends, in seconds.
    """

    email: str
    audience: str
    issuer: str
    expires: float


@dataclass(frozen=True, slots=True)
class Denied:
    """
    A refused caller.

    Attributes:
        forbidden: True: the token is good, but the account may not call (403). False: the token is missing or bad (401).
        reason: A sentence for the log alone. It names settings, which a caller must not learn.
    """

    forbidden: bool
    reason: str


class Verifier:
    """
    Verifies identity tokens.

    Args:
        mode: ``token`` verifies the token of ``Authorization``. ``platform`` prefers ``X-Serverless-Authorization``, as IAM
            does. On Cloud Run only, it also accepts a token whose signature IAM has removed; a signature that is there is
            verified. ``off`` accepts every caller, and logs a warning.
        audiences: Accepted audiences.
        callers: Accounts that may call.
        certs_url: URL of the public keys; None: Google's.
        clock: Gives wall time for expiry, and elapsed time for the cache.
        service: Name of the Cloud Run service of this process; None: it does not run on Cloud Run.
        skew: Seconds by which clocks may differ.
        certificates: Returns the public keys, instead of *certs_url*.
    """

    def __init__(
        self,
        *,
        mode: Verify,
        audiences: Collection[str],
        callers: Collection[str],
        certs_url: str | None,
        clock: Clock,
        service: str | None = None,
        skew: float = 10.0,
        certificates: Certificates | None = None,
    ) -> None:
        self._mode = mode
        self._audiences = frozenset(audiences)
        self._callers = frozenset(callers)
        self._clock = clock
        self._skew = skew
        self._service = service
        self._told = False
        url = certs_url or CERTS_URL
        self._keys = _Keys(url, clock, certificates or partial(_download, url))
        if mode == "off":
            logging.getLogger("gcp_oncetask").warning(
                "ONCETASK_VERIFY is off: ANYBODY who can reach this service can run its tasks. For local work only."
            )

    def check(self, authorization: str | None, serverless: str | None = None) -> Identity | Denied:
        """
        Verify the ``Authorization`` and ``X-Serverless-Authorization`` headers of a request.

        Raises:
            IdentityError: The public keys could not be fetched, so no token can be verified.
        """
        if self._mode == "off":
            return Identity("", "", "", float("inf"))
        # If both headers are there, IAM has checked the second one only.
        given = serverless if self._mode == "platform" and serverless is not None else authorization
        scheme, _, token = (given or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return self._unproved("The request has no identity token (Authorization: Bearer ...).")
        parts = _split(token.strip())
        if parts is None:
            return self._unproved("The identity token is malformed.")
        header, claims, signed, signature = parts
        return self._bad_signature(header, signed, signature) or self._claims(claims)

    def _bad_signature(self, header: dict[str, Any], signed: bytes, signature: str) -> Denied | None:
        if header.get("alg") != "RS256":
            return self._unproved(
                f"The identity token is signed with {_shown(header.get('alg'))}; only RS256 is accepted."
            )
        if "crit" in header:
            return self._unproved("The identity token has extensions that must be understood (crit), and are not.")
        if signature == _REMOVED:
            return self._not_believed()
        kid = header.get("kid")
        if not isinstance(kid, str):
            return self._unproved("The identity token names no key.")
        key = self._keys.get(kid)
        if key is None:
            # It may be a new key, which IAM knows already.
            return Denied(False, "The identity token is signed with a key that its issuer does not publish.")
        raw = _decoded(signature)
        if raw is None or not key.verify(signed, raw):
            return self._unproved("The identity token's signature is wrong.")
        return None

    def _not_believed(self) -> Denied | None:
        """
        Return the refusal of a token whose signature was removed, by the platform as it says; None if it is accepted.
        """
        if self._mode != "platform":
            return Denied(
                False,
                "The platform has verified and removed the token's signature; if this service is reachable through IAM "
                "alone, set ONCETASK_VERIFY=platform.",
            )
        if self._service is None:
            return Denied(
                False,
                "The identity token's signature is said to be removed by the platform, but this is not Cloud Run (K_SERVICE "
                "is not set): anybody can write that.",
            )
        return None

    def _unproved(self, reason: str) -> Denied:
        # IAM refuses such a request. So it does not protect this service, although the setting says so.
        if self._mode == "platform" and self._service is not None and not self._told:
            self._told = True
            logging.getLogger("gcp_oncetask").error(
                "A request without a good identity token has reached the service %s, and ONCETASK_VERIFY is platform: the "
                "service lets the public in, so ANYBODY can run its tasks. Set ONCETASK_VERIFY=token, or make it private: "
                "gcloud run services remove-iam-policy-binding %s --region=REGION --member=allUsers "
                "--role=roles/run.invoker; and: gcloud run services update %s --region=REGION --invoker-iam-check. "
                "The request: %s",
                *(self._service,) * 3,
                reason,
            )
        return Denied(forbidden=False, reason=reason)

    def _claims(self, claims: dict[str, Any]) -> Identity | Denied:
        now = self._clock.now().timestamp()
        expires, issued = _time(claims.get("exp")), _time(claims.get("iat"))
        if expires is None or issued is None:
            return Denied(
                forbidden=False, reason="The identity token doesn't say when it was issued and when it expires."
            )
        if now > expires + self._skew:
            return Denied(forbidden=False, reason=f"The identity token expired {now - expires:.0f} s ago.")
        if issued > now + self._skew:
            return Denied(
                forbidden=False, reason="The identity token is from the future; is this machine's clock right?"
            )
        if "nbf" in claims:
            begins = _time(claims["nbf"])
            if begins is None or begins > now + self._skew:
                return Denied(
                    forbidden=False, reason=f"The identity token is not valid before {_shown(claims['nbf'])}."
                )
        issuer, audience, email = claims.get("iss"), claims.get("aud"), claims.get("email")
        if not isinstance(issuer, str) or issuer not in ISSUERS:
            return Denied(forbidden=False, reason=f"The identity token's issuer is {_shown(issuer)}, not Google.")
        if not isinstance(audience, str) or audience not in self._audiences:
            accepted = ", ".join(sorted(self._audiences))
            return Denied(
                forbidden=False,
                reason=f"The identity token's audience is {_shown(audience)}; ONCETASK_AUDIENCE accepts: {accepted}.",
            )
        if not isinstance(email, str) or claims.get("email_verified") is not True:
            return Denied(forbidden=True, reason="The identity token has no verified account.")
        if email not in self._callers:
            return Denied(
                forbidden=True,
                reason=f"{_shown(email)} may not call: set ONCETASK_CALLERS or ONCETASK_SERVICE_ACCOUNT.",
            )
        return Identity(email, audience, issuer, expires)


def _time(value: Any) -> float | None:
    # Seconds since 1970, or None for a value that is no number, not finite or absurd. A bool is no number here.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LAST_TIME:
        return None
    return float(value)


def _shown(value: Any) -> str:
    return repr(value)[:200]


def _split(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes, str] | None:
    if len(token) > _MAX_TOKEN or token.count(".") != 2 or not token.isascii():
        return None
    head, body, signature = token.split(".")
    header, claims = _object(head), _object(body)
    if header is None or claims is None:
        return None
    return header, claims, f"{head}.{body}".encode(), signature


def _object(text: str) -> dict[str, Any] | None:
    raw = _decoded(text)
    if raw is None:
        return None
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None


class _Keys:
    """
    The issuer's public keys by id, parsed once.

    An unknown key causes a fetch, at most once in ten seconds; if that fails, the known keys go on working. One thread
    fetches at a time; threads whose key is known don't wait for it.
    """

    def __init__(self, url: str, clock: Clock, certificates: Certificates) -> None:
        self._url = url
        self._certificates = certificates
        self._clock = clock
        self._keys: dict[str, Any] = {}
        self._fetched: Mark | None = None
        self._tried: Mark | None = None
        self._trouble: tuple[str, Exception] | None = None
        self._age = _DEFAULT_AGE
        self._lock = threading.Lock()
        self._forks = forks.generation

    def get(self, kid: str) -> Any | None:
        key = self._keys.get(kid)
        if key is not None and self._fresh():
            return key
        lock = self._own_lock()
        if not lock.acquire(timeout=_FETCH_PATIENCE if key is None else 0):
            if key is not None:
                return key
            raise IdentityError(f"Another request still fetches the identity certificates from {self._url}.")
        try:
            # Another thread may have fetched while this one waited; then no fetch is due.
            if self._due(kid):
                self._fetch()
        finally:
            lock.release()
        key, trouble = self._keys.get(kid), self._trouble
        if key is None and trouble is not None:
            sentence, cause = trouble
            raise IdentityError(sentence) from cause
        return key

    def _fresh(self) -> bool:
        return self._fetched is not None and elapsed(self._fetched, self._clock.mark()) < self._age

    def _due(self, kid: str) -> bool:
        # An unknown key can't be verified until a fetch succeeds, so the next fetch is soon; a known key can wait.
        pause = _LEAST_RETRY if self._trouble is not None and kid not in self._keys else _LEAST_FETCH
        return self._tried is None or elapsed(self._tried, self._clock.mark()) >= pause

    def _own_lock(self) -> threading.Lock:
        # A lock that another thread held at the fork would never be released in the child.
        if self._forks != forks.generation:
            self._lock, self._forks = threading.Lock(), forks.generation
        return self._lock

    def _fetch(self) -> None:
        from google.auth.crypt import RSAVerifier

        start = self._clock.mark()
        try:
            found, control = self._certificates()
            parse: Any = RSAVerifier.from_string
            keys = {kid: parse(pem) for kid, pem in found.items()}
            if not keys:
                raise ValueError("the answer has no keys")
        except (OSError, ValueError, AttributeError, TypeError) as error:
            sentence = (
                f"The identity certificates could not be fetched from {self._url}: {error}. No caller can be "
                "identified until they are; is the address right (ONCETASK_OIDC_CERTS_URL), and may this service reach it?"
            )
            self._trouble, self._tried = (sentence, error), self._clock.mark()
            return
        age = _MAX_AGE.search(control)
        self._age = min(float(age[1]), _LONGEST_AGE) if age else _DEFAULT_AGE
        # The keys are replaced in one step, so that no thread sees only some of them.
        self._keys, self._fetched, self._tried, self._trouble = keys, start, start, None


def _download(url: str) -> tuple[dict[str, str], str]:
    from gcp_oncetask.services import download

    answer = download.get(url, seconds=_FETCH_TIMEOUT, size=_MOST_BYTES)
    return answer.json(), answer.headers.get("Cache-Control", "")


def default_project() -> str | None:
    """
    Return the project of the environment, of the credentials, or of the machine; None if none of them has one.
    """
    for name in ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"):
        if os.environ.get(name):
            return os.environ[name]
    import google.auth
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport import requests as transport

    class Hasty(transport.Request):  # outside of Google Cloud, google.auth waits tens of seconds
        def __call__(self, *args: Any, **options: Any) -> Any:
            call: Any = super().__call__  # without types in google.auth
            return call(*args, **{**options, "timeout": _METADATA_TIMEOUT})

    try:
        project: str | None = google.auth.default(request=Hasty())[1]
    except (GoogleAuthError, OSError):
        return None
    return project


def default_region() -> str | None:
    """
    Return the region of this Cloud Run service or machine, as its metadata server gives it; None if there is no such
    server.
    """
    from gcp_oncetask.services import download

    url = f"http://{os.environ.get('GCE_METADATA_HOST', 'metadata.google.internal')}/computeMetadata/v1/instance/region"
    flavor = {"Metadata-Flavor": "Google"}
    try:
        answer = download.get(url, seconds=_METADATA_TIMEOUT, size=_MOST_BYTES, headers=flavor)
    except (OSError, ValueError):
        return None
    # An internet provider may answer any name with a search page; only the real server sends this header.
    told = answer.body.decode(errors="replace").strip() if answer.headers.get("Metadata-Flavor") == "Google" else ""
    region = _REGION.fullmatch(told)
    return region[1] if region else None
