"""
Verify the header that Google's identity-aware proxy adds to the requests of people. No unsigned header counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from gcp_oncetask.clock import Clock
from gcp_oncetask.services import tokens
from gcp_oncetask.services.identity import Denied
from gcp_oncetask.services.tokens import Certificates, shown, time_claim

HEADER: Final = "x-goog-iap-jwt-assertion"
KEYS_URL: Final = "https://www.gstatic.com/iap/verify/public_key"
ISSUER: Final = "https://cloud.google.com/iap"
SKEW: Final = 30.0
"""Seconds by which clocks may differ."""
LONGEST: Final = 600.0
"""Most seconds that a token lives, without the skew at both ends."""


@dataclass(frozen=True, slots=True)
class ProxyUser:
    """
    A person whom the proxy has identified.

    Attributes:
        email: Account of the person.
        subject: Stable id of the account.
        domain: Google Workspace domain of the account; None: it has none.
    """

    email: str
    subject: str
    domain: str | None


class ProxyVerifier:
    """
    Verifies the tokens of the identity-aware proxy: ES256, with the proxy's own issuer and keys.

    Args:
        audience: The audience of this service, like ``/projects/123/locations/europe-west1/services/console``.
        keys_url: URL of the public keys; None: Google's.
        clock: Gives wall time for expiry, and elapsed time for the cache.
        keys: Returns the public keys, instead of *keys_url*.

    Source:
        Google's documentation, "Securing your app with signed headers".
    """

    def __init__(self, *, audience: str, keys_url: str | None, clock: Clock, keys: Certificates | None = None) -> None:
        url = keys_url or KEYS_URL
        fetch = keys or partial(tokens.download_keys, url)
        self._audience = audience
        self._clock = clock
        self._keys = tokens.PublicKeys(url, clock, fetch, _es256, "ONCETASK_CONSOLE_KEYS_URL")

    def check(self, header: str | None) -> ProxyUser | Denied:
        """
        Verify the value of the header ``x-goog-iap-jwt-assertion``.

        Raises:
            IdentityError: The public keys could not be fetched, so no token can be verified.
        """
        if not header:
            return _denied("The request has no signed header of the identity-aware proxy.")
        token = tokens.split(header)
        if token is None:
            return _denied("The proxy's token is malformed.")
        return self._bad_signature(token) or self._claims(token.claims)

    def _bad_signature(self, token: tokens.Token) -> Denied | None:
        if token.header.get("alg") != "ES256":
            return _denied(
                f"The proxy's token is signed with {shown(token.header.get('alg'))}; only ES256 is accepted."
            )
        if "crit" in token.header:
            return _denied("The proxy's token has extensions that must be understood (crit), and are not.")
        kid = token.header.get("kid")
        if not isinstance(kid, str):
            return _denied("The proxy's token names no key.")
        key = self._keys.get(kid)
        if key is None:
            return _denied("The proxy's token is signed with a key that the proxy does not publish.")
        raw = tokens.decoded(token.signature)
        if raw is None or not key.verify(token.signed, raw):
            return _denied("The signature of the proxy's token is wrong.")
        return None

    def _claims(self, claims: dict[str, Any]) -> ProxyUser | Denied:
        now = self._clock.now().timestamp()
        expires, issued = time_claim(claims.get("exp")), time_claim(claims.get("iat"))
        if expires is None or issued is None:
            return _denied("The proxy's token doesn't say when it was issued and when it expires.")
        if now > expires + SKEW:
            return _denied(f"The proxy's token expired {now - expires:.0f} s ago.")
        if issued > now + SKEW:
            return _denied("The proxy's token is from the future; is this machine's clock right?")
        if expires - issued > LONGEST + 2 * SKEW:
            return _denied(f"The proxy's token lives {expires - issued:.0f} s, which is longer than the proxy allows.")
        if claims.get("iss") != ISSUER:
            return _denied(f"The issuer of the proxy's token is {shown(claims.get('iss'))}, not {ISSUER}.")
        if claims.get("aud") != self._audience:
            return _denied(
                f"The audience of the proxy's token is {shown(claims.get('aud'))}; ONCETASK_CONSOLE_AUDIENCE is "
                f"{self._audience}."
            )
        email, subject, domain = claims.get("email"), claims.get("sub"), claims.get("hd")
        if not isinstance(email, str) or not isinstance(subject, str) or not email or not subject:
            return _denied("The proxy's token has no account.")
        return ProxyUser(email, subject, domain if isinstance(domain, str) else None)


def _denied(reason: str) -> Denied:
    return Denied(forbidden=True, reason=reason)


def _es256(pem: str) -> Any:
    from google.auth.crypt import ES256Verifier

    parse: Any = ES256Verifier.from_string
    return parse(pem)
