"""
Who is calling: the only importer of google.auth. Verifies the identity token of a delivery; headers are never identity.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from gcp_oncetask.clock import Clock, Mark, elapsed
from gcp_oncetask.config import Verify
from gcp_oncetask.errors import IdentityError

CERTS_URL: Final = "https://www.googleapis.com/oauth2/v1/certs"
ISSUERS: Final = frozenset({"accounts.google.com", "https://accounts.google.com"})
_REMOVED: Final = "SIGNATURE_REMOVED_BY_GOOGLE"
_MAX_TOKEN: Final = 16_384
_FETCH_TIMEOUT: Final = 3.0
_LEAST_FETCH: Final = 10.0
"""Seconds between two fetches for an unknown key: a flood of forged ones must not become a flood of fetches."""
_DEFAULT_AGE: Final = 3600.0
_MAX_AGE: Final = re.compile(r"max-age=(\d+)")


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
        reason: A sentence for the log.
    """

    forbidden: bool
    reason: str


class Verifier:
    """
    Verifies identity tokens.

    Args:
        mode: ``token`` verifies everything; ``platform`` trusts IAM with the signature and checks the claims; ``off``
            lets everybody in, with a loud warning.
        audiences: Accepted audiences.
        callers: Accounts that may call.
        certs_url: Where the public keys are; None: Google's.
        clock: Wall time for expiry, elapsed time for the cache.
        skew: Seconds that clocks may differ.
    """

    def __init__(
        self,
        *,
        mode: Verify,
        audiences: Collection[str],
        callers: Collection[str],
        certs_url: str | None,
        clock: Clock,
        skew: float = 10.0,
    ) -> None:
        self._mode = mode
        self._audiences = frozenset(audiences)
        self._callers = frozenset(callers)
        self._clock = clock
        self._skew = skew
        self._keys = _Keys(certs_url or CERTS_URL, clock)
        if mode == "off":
            logging.getLogger("gcp_oncetask").warning(
                "ONCETASK_VERIFY is off: ANYBODY who can reach this service can run its tasks. For local work only."
            )

    def check(self, authorization: str | None) -> Identity | Denied:
        """
        Verify the ``Authorization`` header of a request.

        Raises:
            IdentityError: The public keys could not be fetched: nothing can be told.
        """
        if self._mode == "off":
            return Identity("", "", "", float("inf"))
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return Denied(forbidden=False, reason="The request has no identity token (Authorization: Bearer ...).")
        parts = _split(token.strip())
        if parts is None:
            return Denied(forbidden=False, reason="The identity token is malformed.")
        header, claims, signed, signature = parts
        if self._mode == "token":
            bad = self._bad_signature(header, signed, signature)
            if bad is not None:
                return Denied(forbidden=False, reason=bad)
        return self._claims(claims)

    def _bad_signature(self, header: dict[str, Any], signed: bytes, signature: str) -> str | None:
        if signature.endswith(_REMOVED):
            return (
                "The platform has verified and removed the token's signature; if this service is reachable through IAM "
                "alone, set ONCETASK_VERIFY=platform."
            )
        if header.get("alg") != "RS256":
            return f"The identity token is signed with {str(header.get('alg'))[:20]!r}; only RS256 is accepted."
        kid = header.get("kid")
        if not isinstance(kid, str):
            return "The identity token names no key."
        key = self._keys.get(kid)
        if key is None:
            return "The identity token is signed with a key that its issuer does not publish."
        raw = _decoded(signature)
        if raw is None or not key.verify(signed, raw):
            return "The identity token's signature is wrong."
        return None

    def _claims(self, claims: dict[str, Any]) -> Identity | Denied:
        now = self._clock.now().timestamp()
        expires, issued = claims.get("exp"), claims.get("iat")
        if not _is_time(expires) or not _is_time(issued):
            return Denied(forbidden=False, reason="The identity token says not when it was issued and expires.")
        assert isinstance(expires, int | float)
        assert isinstance(issued, int | float)
        if now > expires + self._skew:
            return Denied(forbidden=False, reason=f"The identity token expired {now - expires:.0f} s ago.")
        if issued > now + self._skew:
            return Denied(
                forbidden=False, reason="The identity token is from the future; is this machine's clock right?"
            )
        if claims.get("iss") not in ISSUERS:
            return Denied(forbidden=False, reason=f"The identity token's issuer is {str(claims.get('iss'))[:100]!r}.")
        if claims.get("aud") not in self._audiences:
            accepted = ", ".join(sorted(self._audiences))
            return Denied(
                forbidden=False,
                reason=f"The identity token's audience is {str(claims.get('aud'))[:200]!r}; accepted: {accepted}.",
            )
        email = claims.get("email")
        if not isinstance(email, str) or claims.get("email_verified") is not True:
            return Denied(forbidden=True, reason="The identity token has no verified account.")
        if email not in self._callers:
            return Denied(
                forbidden=True, reason=f"{email[:200]} may not call: set ONCETASK_CALLERS or ONCETASK_SERVICE_ACCOUNT."
            )
        return Identity(email, str(claims["aud"]), str(claims["iss"]), float(expires))


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


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

    A key that is not known is fetched, at most once in ten seconds; if that fails, the known ones go on working.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        self._url = url
        self._clock = clock
        self._keys: dict[str, Any] = {}
        self._fetched: Mark | None = None
        self._tried: Mark | None = None
        self._age = _DEFAULT_AGE

    def get(self, kid: str) -> Any | None:
        now = self._clock.mark()
        key = self._keys.get(kid)
        fresh = self._fetched is not None and elapsed(self._fetched, now) < self._age
        if key is not None and fresh:
            return key
        if self._tried is not None and elapsed(self._tried, now) < _LEAST_FETCH and (key is not None or fresh):
            return key
        try:
            self._fetch(now)
        except IdentityError:
            if key is not None:
                return key
            raise
        return self._keys.get(kid)

    def _fetch(self, now: Mark) -> None:
        import requests
        from google.auth.crypt import RSAVerifier

        self._tried = now
        try:
            response = requests.get(self._url, timeout=_FETCH_TIMEOUT)
            response.raise_for_status()
            parse: Any = RSAVerifier.from_string
            keys = {kid: parse(pem) for kid, pem in response.json().items()}
        except (requests.RequestException, ValueError, AttributeError, TypeError) as error:
            raise IdentityError(
                f"The identity certificates could not be fetched from {self._url}: {error}. Nobody's identity can be told."
            ) from error
        age = _MAX_AGE.search(response.headers.get("Cache-Control", ""))
        # Replaced in one step, so that no thread sees half of it.
        self._keys, self._age, self._fetched = keys, float(age[1]) if age else _DEFAULT_AGE, now


def default_project() -> str | None:
    """
    The project of the environment, of the credentials, or of the machine; None if there is none to be had.
    """
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError

    try:
        return google.auth.default()[1]
    except DefaultCredentialsError:
        return os.environ.get("GCLOUD_PROJECT")


def default_region() -> str | None:
    """
    The region of this Cloud Run service or machine, by its metadata server; None if there is none.
    """
    import requests

    host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
    try:
        response = requests.get(
            f"http://{host}/computeMetadata/v1/instance/region", headers={"Metadata-Flavor": "Google"}, timeout=1.0
        )
        response.raise_for_status()
    except requests.RequestException:
        return None
    return response.text.rsplit("/", 1)[-1] or None
