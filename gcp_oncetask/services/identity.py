"""
Who is calling: the only importer of google.auth. Verifies the identity token of a delivery; other headers are never identity.
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
"""Seconds that a fetch takes at most."""
_MOST_BYTES: Final = 262_144
"""Size of what is fetched at most; Google's certificates are 4 KB."""
_FETCH_PATIENCE: Final = 10.0
"""Seconds that a request waits for another one's fetch."""
_LEAST_FETCH: Final = 10.0
"""Seconds between two fetches for an unknown key: a flood of forged ones must not become a flood of fetches."""
_LEAST_RETRY: Final = 1.0
"""Seconds between two fetches after one that failed."""
_DEFAULT_AGE: Final = 3600.0
_LONGEST_AGE: Final = 86_400.0
_MAX_AGE: Final = re.compile(r"max-age=(\d{1,12})")
_LAST_TIME: Final = 1e11
_METADATA_TIMEOUT: Final = 1.0
_REGION: Final = re.compile(r"projects/[^/]+/regions/([a-z0-9-]+)")


Certificates: TypeAlias = Callable[[], tuple[dict[str, str], str]]
"""Certificates in PEM by key id, and the Cache-Control that they came with; OSError or ValueError if there are none."""


@dataclass(frozen=True, slots=True)
class Identity:
    """
    A verified caller.

    Attributes:
        email: Its account.
        audience: The audience its token was made for.
        issuer: Who made the token.
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
        forbidden: The token is good, the account is not (403); else the token is missing or bad (401).
        reason: A sentence for the log alone: it says what is configured, which is not the caller's to know.
    """

    forbidden: bool
    reason: str


class Verifier:
    """
    Verifies identity tokens.

    Args:
        mode: ``token`` verifies the token of ``Authorization``. ``platform`` goes by ``X-Serverless-Authorization`` first, as
            IAM does, and believes IAM where it has removed the signature, which it does on Cloud Run alone; a signature that
            is there is verified. ``off`` lets everybody in, with a loud warning.
        audiences: Accepted audiences.
        callers: Accounts that may call.
        certs_url: Where the public keys are; None: Google's.
        clock: Wall time for expiry, elapsed time for the cache.
        service: The Cloud Run service that this process belongs to; None: it does not run there.
        skew: Seconds that clocks may differ.
        certificates: Where the public keys come from instead.
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
            IdentityError: The public keys could not be fetched: nothing can be told.
        """
        if self._mode == "off":
            return Identity("", "", "", float("inf"))
        # If both are there, the second one is all that IAM has looked at.
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
        Why a token is refused whose signature the platform says that it has verified and removed; None: it is not.
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
        # IAM refuses such a request: where it is to stand before this service, it does not.
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
    # Seconds since 1970; what is no number, not finite or absurd is none. bool is an int to Python, not to us.
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

    A key that is not known is fetched, at most once in ten seconds; if that fails, the known ones go on working. One
    thread fetches at a time; those whose key is known don't wait for it.
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
            # While this thread waited, another one may have fetched: then it is not due.
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
        # Where nothing can be told until a fetch succeeds, the next one is soon; a known key bears waiting.
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
                f"The identity certificates could not be fetched from {self._url}: {error}. Nobody's identity can be "
                "told until they are; is the address right (ONCETASK_OIDC_CERTS_URL), and may this service reach it?"
            )
            self._trouble, self._tried = (sentence, error), self._clock.mark()
            return
        age = _MAX_AGE.search(control)
        self._age = min(float(age[1]), _LONGEST_AGE) if age else _DEFAULT_AGE
        # Replaced in one step, so that no thread sees half of it.
        self._keys, self._fetched, self._tried, self._trouble = keys, start, start, None


def _download(url: str) -> tuple[dict[str, str], str]:
    from gcp_oncetask.services import download

    answer = download.get(url, seconds=_FETCH_TIMEOUT, size=_MOST_BYTES)
    return answer.json(), answer.headers.get("Cache-Control", "")


def default_project() -> str | None:
    """
    The project of the environment, of the credentials, or of the machine; None if there is none to be had.
    """
    for name in ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"):
        if os.environ.get(name):
            return os.environ[name]
    import google.auth
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport import requests as transport

    class Hasty(transport.Request):  # off Google's machines, the library's own patience is tens of seconds
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
    The region of this Cloud Run service or machine, by its metadata server; None if there is none.
    """
    from gcp_oncetask.services import download

    url = f"http://{os.environ.get('GCE_METADATA_HOST', 'metadata.google.internal')}/computeMetadata/v1/instance/region"
    flavor = {"Metadata-Flavor": "Google"}
    try:
        answer = download.get(url, seconds=_METADATA_TIMEOUT, size=_MOST_BYTES, headers=flavor)
    except (OSError, ValueError):
        return None
    # A provider's search page answers for any name; only the real server says who it is.
    told = answer.body.decode(errors="replace").strip() if answer.headers.get("Metadata-Flavor") == "Google" else ""
    region = _REGION.fullmatch(told)
    return region[1] if region else None
