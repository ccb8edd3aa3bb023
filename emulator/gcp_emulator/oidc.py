"""
OIDC identity tokens shaped like Google's, and the endpoint that publishes the keys to verify them with.
"""

from __future__ import annotations

import hashlib
import json
import threading
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from gcp_emulator.clock import Clock, datetime_of
from gcp_emulator.faults import Faults
from gcp_emulator.http_server import HttpServer
from gcp_emulator.iap import KEYS_PATH, ProxySigner

CERTS_PATH = "/oauth2/v1/certs"
JWKS_PATH = "/oauth2/v3/certs"
DISCOVERY_PATH = "/.well-known/openid-configuration"
FETCH = "FetchCerts"


class OidcIssuer:
    """
    Signs identity tokens with RSA keys and serves the public halves on loopback.

    Tokens verify with ``google.oauth2.id_token.verify_token(..., certs_url=issuer.certs_url)``. Safe to use from
    several threads.

    Attributes:
        issuer: The ``iss`` claim.
        fetches: Requests for keys so far, failed ones included.
        proxy: Signs tokens of the identity-aware proxy, whose keys are served too.
    """

    def __init__(
        self,
        clock: Clock,
        issuer: str = "https://accounts.google.com",
        faults: Faults | None = None,
        *,
        max_age: int = 3600,
    ) -> None:
        """
        Make the first signing key; nothing is served before ``start``.

        Args:
            clock: Gives ``iat`` and ``exp``.
            issuer: The ``iss`` claim of every token.
            faults: Rules for ``FetchCerts`` make requests for keys fail, beside ``fail`` and ``hang``.
            max_age: Seconds that the keys may be cached.
        """
        self.issuer = issuer
        self.fetches = 0
        self.proxy = ProxySigner(clock)
        self._clock = clock
        self._faults = faults or Faults()
        self._max_age = max_age
        self._changed = threading.Condition()
        self._failing: int | None = 0
        self._hanging = False
        self._server: HttpServer | None = None
        self._port = 0

    # Made when first asked for: a key takes longer than everything else that a test's cloud is made of.
    @cached_property
    def _signing(self) -> _Key:
        return _Key.generate(self._clock, _first_private())

    @cached_property
    def _published(self) -> dict[str, _Key]:
        return {self._signing.kid: self._signing}

    def token(
        self, audience: str, email: str | None, *, subject: str | None = None, lifetime: int = 3600, **overrides: Any
    ) -> str:
        """
        A signed identity token of the service account *email*.

        Args:
            audience: The ``aud`` claim.
            email: The ``email`` claim, marked as verified; None leaves both claims out.
            subject: The ``sub`` and ``azp`` claims; None makes Google's shape of 21 digits out of *email*.
            lifetime: Seconds until ``exp``; negative makes a token that has expired.
            overrides: Claims to put in place of the usual ones; None leaves a claim out.
        """
        return self._signing.sign(self._claims(audience, email, subject, lifetime, overrides))

    def forged(self, audience: str, email: str) -> str:
        """
        A token with the right claims and key id, signed by a key that is not published.
        """
        claims = self._claims(audience, email, None, 3600, {})
        return self._stranger.sign(claims, kid=self._signing.kid)

    def rotate(self, *, keep_old: bool = True) -> str:
        """
        Sign with a new key from now on; returns its key id.

        Args:
            keep_old: Whether the keys so far stay published, so that tokens signed with them still verify.
        """
        key = _Key.generate(self._clock)
        with self._changed:
            self._published = {**self._published, key.kid: key} if keep_old else {key.kid: key}
            self._signing = key
        return key.kid

    def start(self, port: int = 0) -> str:
        """
        Serve on *port* (0: a free one); returns ``certs_url``.
        """
        # Before several threads can ask for it.
        assert self._published
        self._server = HttpServer(_handler(self), port, "oidc")
        self._server.start()
        self._port = self._server.port
        return self.certs_url

    def stop(self) -> None:
        """
        Stop serving; requests that hang are let go.
        """
        self.heal()
        if self._server is not None:
            self._server.stop()
            self._server = None

    @property
    def url(self) -> str:
        """
        Where the endpoint is; the port of the last ``start`` stays in it after ``stop``.
        """
        if not self._port:
            raise RuntimeError("The issuer has no address yet; call start() first.")
        return f"http://127.0.0.1:{self._port}"

    @property
    def certs_url(self) -> str:
        """
        Address of the keys as ``{key id: x509 certificate in PEM}``.
        """
        return self.url + CERTS_PATH

    @property
    def jwks_url(self) -> str:
        """
        Address of the keys as a JSON Web Key Set.
        """
        return self.url + JWKS_PATH

    @property
    def proxy_keys_url(self) -> str:
        """
        Address of the identity-aware proxy's keys as ``{key id: public key in PEM}``.
        """
        return self.url + KEYS_PATH

    def fail(self, times: int | None = 1) -> None:
        """
        Answer the next *times* requests for keys with 500; None for every one until ``heal``.
        """
        with self._changed:
            self._failing = times

    def hang(self) -> None:
        """
        Leave requests for keys without an answer until ``heal`` or ``stop``.
        """
        with self._changed:
            self._hanging = True

    def heal(self) -> None:
        """
        End ``fail`` and ``hang``; hanging requests are answered now.
        """
        with self._changed:
            self._failing = 0
            self._hanging = False
            self._changed.notify_all()

    def answer(self, path: str) -> tuple[HTTPStatus, dict[str, Any]]:
        """
        Status and document for a GET of *path*; waits while the endpoint hangs.
        """
        if path == DISCOVERY_PATH:
            return HTTPStatus.OK, self._discovery()
        if path not in (CERTS_PATH, JWKS_PATH, KEYS_PATH):
            return HTTPStatus.NOT_FOUND, {"error": f"{path} is not served; keys are at {CERTS_PATH}."}
        fault = self._faults.take(FETCH)
        with self._changed:
            self.fetches += 1
            while self._hanging:
                self._changed.wait()
            failing = self._failing is None or self._failing > 0
            if self._failing:
                self._failing -= 1
            keys = list(self._published.values())
        if failing or (fault is not None and fault.code is not None):
            return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "injected fault"}
        if path == KEYS_PATH:
            return HTTPStatus.OK, dict(self.proxy.keys)
        if path == CERTS_PATH:
            return HTTPStatus.OK, {key.kid: key.certificate for key in keys}
        return HTTPStatus.OK, {"keys": [key.jwk() for key in keys]}

    @property
    def cache_control(self) -> str:
        """
        The header that goes with the keys.
        """
        return f"public, max-age={self._max_age}, must-revalidate, no-transform"

    @cached_property
    def _stranger(self) -> _Key:
        return _Key.generate(self._clock)

    def _claims(
        self, audience: str, email: str | None, subject: str | None, lifetime: int, overrides: dict[str, Any]
    ) -> dict[str, Any]:
        now = self._clock.micros() // 1_000_000
        subject = subject or _subject(email or "")
        claims = {
            "iss": self.issuer,
            "aud": audience,
            "azp": subject,
            "email": email,
            "email_verified": None if email is None else True,
            "iat": now,
            "exp": now + lifetime,
            "sub": subject,
        }
        return {name: value for name, value in (claims | overrides).items() if value is not None}

    def _discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "jwks_uri": self.jwks_url,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "claims_supported": ["aud", "azp", "email", "email_verified", "exp", "iat", "iss", "sub"],
        }


@cache
def _first_private() -> rsa.RSAPrivateKey:
    """
    Return the private key from which every issuer of this process makes its first key. Finding prime numbers takes long,
    and each test has an issuer.
    """
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass(frozen=True, slots=True)
class _Key:
    kid: str
    private: rsa.RSAPrivateKey
    certificate: str

    @classmethod
    def generate(cls, clock: Clock, private: rsa.RSAPrivateKey | None = None) -> _Key:
        private = private or rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "federated-signon.local")])
        now = datetime_of(clock.micros())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=3650))
            .sign(private, hashes.SHA256())
        )
        kid = certificate.fingerprint(hashes.SHA256()).hex()[:40]
        return cls(kid, private, certificate.public_bytes(serialization.Encoding.PEM).decode())

    def sign(self, claims: dict[str, Any], kid: str | None = None) -> str:
        header = {"alg": "RS256", "kid": kid or self.kid, "typ": "JWT"}
        signed = f"{_base64(_json(header))}.{_base64(_json(claims))}"
        signature = self.private.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64(signature)}"

    def jwk(self) -> dict[str, str]:
        numbers = self.private.public_key().public_numbers()
        return {
            "kty": "RSA",
            "alg": "RS256",
            "use": "sig",
            "kid": self.kid,
            "n": _base64(numbers.n.to_bytes(256, "big")),
            "e": _base64(numbers.e.to_bytes(3, "big")),
        }


def _handler(issuer: OidcIssuer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, document = issuer.answer(self.path.partition("?")[0])
            body = _json(document)
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json; charset=UTF-8")
                self.send_header("Content-Length", str(len(body)))
                if status == HTTPStatus.OK:
                    self.send_header("Cache-Control", issuer.cache_control)
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:
                # The client gave up while the endpoint hung.
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def _subject(email: str) -> str:
    return f"1{int(hashlib.sha256(email.encode()).hexdigest(), 16) % 10**20:020d}"


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
