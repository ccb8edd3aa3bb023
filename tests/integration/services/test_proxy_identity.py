"""
Tokens of the identity-aware proxy with real signatures, against a real endpoint of public keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gcp_emulator.clock import VirtualClock
from gcp_emulator.iap import ISSUER, ProxySigner
from gcp_emulator.oidc import OidcIssuer
from gcp_oncetask.errors import IdentityError
from gcp_oncetask.services.identity import Denied
from gcp_oncetask.services.proxy_identity import ProxyUser, ProxyVerifier
from gcp_oncetask.testing.cloud import TestClock

AUDIENCE = "/projects/123/locations/europe-west1/services/console"
ANN = "ann@example.com"


class World:
    """
    A proxy, its keys on a real endpoint, and a verifier, on one clock that moves when told to.
    """

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.issuer = OidcIssuer(self.clock)
        self.issuer.start()
        self.proxy = self.issuer.proxy
        self.verifier = ProxyVerifier(
            audience=AUDIENCE, keys_url=self.issuer.proxy_keys_url, clock=TestClock(self.clock)
        )

    def passes(self, token: str) -> bool:
        return isinstance(self.verifier.check(token), ProxyUser)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.issuer.stop()


def bad_tokens(proxy: ProxySigner, now: int) -> dict[str, str | None]:
    """
    Tokens that must be refused, by the mistake in them, and headers that are none.
    """
    good = proxy.token(AUDIENCE, ANN)
    claims: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "email": ANN, "sub": "1", "iat": now, "exp": now + 600}
    other = ec.generate_private_key(ec.SECP256R1())
    head, body, signature = good.split(".")
    return {
        "no header": None,
        "empty": "",
        "header twice": f"{good},{good}",
        "no token": "Bearer x",
        "wrong audience": proxy.token("/projects/123/locations/europe-west1/services/other", ANN),
        "audiences as a list": proxy.token(AUDIENCE, ANN, aud=[AUDIENCE]),
        "RS256": jwt.encode(claims, rsa.generate_private_key(65537, 2048), "RS256", headers={"kid": proxy.kid}),
        "HS256 with the public key": proxy.sign({"alg": "HS256", "kid": proxy.kid}, claims),
        "alg none": jwt.encode(claims, None, "none", headers={"kid": proxy.kid}),
        "no signature": f"{head}.{body}.",
        "another key": jwt.encode(claims, other, "ES256", headers={"kid": proxy.kid}),
        "DER signature": proxy.token(AUDIENCE, ANN, raw=False),
        "zero signature": f"{head}.{body}.{'A' * 86}",
        "changed": f"{head}.{body[:-2]}AA.{signature}",
        "crit": proxy.sign({"alg": "ES256", "kid": proxy.kid, "crit": ["b64"]}, claims),
        "unknown kid": proxy.sign({"alg": "ES256", "kid": "nobody"}, claims),
        "no kid": proxy.sign({"alg": "ES256"}, claims),
        "expired by 31 s": proxy.token(AUDIENCE, ANN, iat=now - 331, exp=now - 31),
        "from the future": proxy.token(AUDIENCE, ANN, iat=now + 31, exp=now + 600),
        "lives too long": proxy.token(AUDIENCE, ANN, exp=now + 661),
        "no exp": proxy.token(AUDIENCE, ANN, exp=None),
        "no iat": proxy.token(AUDIENCE, ANN, iat=None),
        "exp is a text": proxy.token(AUDIENCE, ANN, exp=str(now + 600)),
        "other issuer": proxy.token(AUDIENCE, ANN, iss="https://accounts.google.com"),
        "no account": proxy.token(AUDIENCE, None),
        "no subject": proxy.token(AUDIENCE, ANN, sub=None),
    }


NAMES = tuple(bad_tokens(ProxySigner(VirtualClock()), 0))


def test_good_token_names_the_person(world: World) -> None:
    """
    Account, subject and Workspace domain are those of the token; thirty seconds of skew are allowed at both ends.
    """
    found = world.verifier.check(world.proxy.token(AUDIENCE, ANN, sub="accounts.google.com:7", hd="example.com"))
    now = world.clock.micros() // 1_000_000

    assert found == ProxyUser(ANN, "accounts.google.com:7", "example.com")
    assert world.passes(world.proxy.token(AUDIENCE, ANN, iat=now - 600, exp=now - 29))
    assert world.passes(world.proxy.token(AUDIENCE, ANN, iat=now + 29, exp=now + 600))


@pytest.mark.parametrize("name", NAMES)
def test_op_42_bad_proxy_token_is_denied(world: World, name: str) -> None:
    """
    Each mistake is refused, and the reason, which is for the log, has no part of the token.
    """
    token = bad_tokens(world.proxy, world.clock.micros() // 1_000_000)[name]
    found = world.verifier.check(token)

    assert isinstance(found, Denied)
    assert found.forbidden
    parts = [part for part in (token or "").split(".") if len(part) > 10]
    assert [part for part in parts if part in found.reason] == []


def test_op_42_unknown_keys_cause_one_fetch_in_ten_seconds(world: World) -> None:
    """
    A flood of tokens with made-up keys costs one fetch; ten seconds later one more.
    """
    for number in range(50):
        assert not world.passes(world.proxy.sign({"alg": "ES256", "kid": f"k{number}"}, {}))
    assert world.issuer.fetches == 1
    world.clock.advance(11)
    assert not world.passes(world.proxy.sign({"alg": "ES256", "kid": "k"}, {}))
    assert world.issuer.fetches == 2


def test_op_43_cached_keys_serve_while_the_key_file_is_away(world: World) -> None:
    """
    Keys that are known go on verifying, even after their time; without any key the verifier can't tell.
    """
    assert world.passes(world.proxy.token(AUDIENCE, ANN))
    world.issuer.fail(None)
    world.clock.advance(7200)
    assert world.passes(world.proxy.token(AUDIENCE, ANN))

    fresh = ProxyVerifier(audience=AUDIENCE, keys_url=world.issuer.proxy_keys_url, clock=TestClock(world.clock))
    with pytest.raises(IdentityError, match="ONCETASK_CONSOLE_KEYS_URL"):
        fresh.check(world.proxy.token(AUDIENCE, ANN))
