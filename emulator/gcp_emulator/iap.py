"""
Tokens shaped like those that Google's identity-aware proxy adds to requests, and their public keys.
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from gcp_emulator.clock import Clock

KEYS_PATH = "/iap/verify/public_key"
HEADER = "x-goog-iap-jwt-assertion"
ISSUER = "https://cloud.google.com/iap"


class ProxySigner:
    """
    Signs tokens with ES256, as the proxy does. The keys are published as public keys in PEM, not as certificates.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    # Made when first asked for.
    @cached_property
    def private(self) -> ec.EllipticCurvePrivateKey:
        """
        The key that signs.
        """
        return ec.generate_private_key(ec.SECP256R1())

    @cached_property
    def kid(self) -> str:
        """
        The id of the key.
        """
        return hashlib.sha256(self._pem.encode()).hexdigest()[:6]

    @property
    def keys(self) -> dict[str, str]:
        """
        The published keys in PEM by id.
        """
        return {self.kid: self._pem}

    def token(
        self, audience: str, email: str | None, *, lifetime: int = 600, raw: bool = True, **overrides: Any
    ) -> str:
        """
        A signed token of a person.

        Args:
            audience: The ``aud`` claim.
            email: The ``email`` claim; None leaves it out.
            lifetime: Seconds until ``exp``.
            raw: Whether the signature is r and s, 32 bytes each, as it must be; else it is in ASN.1.
            overrides: Claims to put in place of the usual ones; None leaves a claim out.
        """
        now = self._clock.micros() // 1_000_000
        claims = {
            "iss": ISSUER,
            "aud": audience,
            "email": email,
            "sub": f"accounts.google.com:1{int(hashlib.sha256((email or '').encode()).hexdigest(), 16) % 10**20:020d}",
            "iat": now,
            "exp": now + lifetime,
        } | overrides
        header = {"alg": "ES256", "typ": "JWT", "kid": self.kid}
        return self.sign(header, {name: value for name, value in claims.items() if value is not None}, raw=raw)

    def sign(self, header: dict[str, Any], claims: dict[str, Any], *, raw: bool = True) -> str:
        """
        A token of any header and claims, signed with the key.
        """
        signed = f"{_base64(json.dumps(header).encode())}.{_base64(json.dumps(claims).encode())}"
        signature = self.private.sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
        if raw:
            r, s = decode_dss_signature(signature)
            signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return f"{signed}.{_base64(signature)}"

    @cached_property
    def _pem(self) -> str:
        public = self.private.public_key()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return public.public_bytes(serialization.Encoding.PEM, form).decode()


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
