"""
Identity tokens without their signatures: claims, malformed tokens, modes, headers, and where this code runs.
"""

from __future__ import annotations

import base64
import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from gcp_oncetask.clock import SystemClock
from gcp_oncetask.errors import IdentityError
from gcp_oncetask.services.identity import Denied, Identity, Verifier, default_project

AUDIENCE = "https://orders.test"
EMAIL = "caller@p.iam.gserviceaccount.com"
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
REMOVED = "SIGNATURE_REMOVED_BY_GOOGLE"
NOWHERE = "http://127.0.0.1:1/certs"
"""Nobody listens there: a test that would fetch fails."""

GOOD: dict[str, Any] = {
    "iss": "https://accounts.google.com",
    "aud": AUDIENCE,
    "email": EMAIL,
    "email_verified": True,
    "iat": SECONDS,
    "exp": SECONDS + 3600,
}


class _LeftOut:
    def __repr__(self) -> str:
        return "left out"


LEFT_OUT = _LeftOut()


class FixedClock(SystemClock):
    """
    A clock whose wall time stands still.
    """

    def now(self) -> datetime:
        return NOW


def verifier(mode: Any = "platform", service: str | None = "orders") -> Verifier:
    return Verifier(
        mode=mode,
        audiences=[AUDIENCE, "b"],
        callers=[EMAIL, "c"],
        certs_url=NOWHERE,
        clock=FixedClock(),
        service=service,
    )


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def part(value: Any) -> str:
    return encoded(json.dumps(value).encode())


def token(signature: str = REMOVED, header: Any = None, **changes: Any) -> str:
    claims = {name: value for name, value in (GOOD | changes).items() if value is not LEFT_OUT}
    return f"Bearer {part(header or {'alg': 'RS256', 'kid': 'k'})}.{part(claims)}.{signature}"


def test_platform_mode_reads_the_claims():
    """
    Where IAM has verified and removed the signature, the claims say who calls.
    """
    expected = Identity(EMAIL, AUDIENCE, "https://accounts.google.com", SECONDS + 3600.0)

    assert expected == verifier().check(token())


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "accounts.google.com"},
        {"aud": "b"},
        {"email": "c"},
        {"exp": SECONDS - 9},
        {"iat": SECONDS + 9},
        {"exp": SECONDS + 0.5},
        {"nbf": 0},
        {"nbf": SECONDS + 9},
        {"nbf": SECONDS - 0.5},
    ],
    ids=str,
)
def test_good_claims_pass(changes):
    """
    Both spellings of the issuer, each audience and caller of several, and clocks that differ by less than the skew pass.
    """
    assert isinstance(verifier().check(token(**changes)), Identity)


@pytest.mark.parametrize(
    ("changes", "forbidden", "says"),
    [
        ({"iss": "https://evil.test"}, False, "issuer"),
        ({"iss": LEFT_OUT}, False, "issuer"),
        ({"iss": ["accounts.google.com"]}, False, "issuer"),
        ({"aud": "https://else.where"}, False, "audience"),
        ({"aud": AUDIENCE + "/tasks"}, False, "audience"),
        ({"aud": LEFT_OUT}, False, "audience"),
        ({"aud": [AUDIENCE]}, False, "audience"),
        ({"aud": {"a": 1}}, False, "audience"),
        ({"exp": SECONDS - 11}, False, "expired 11 s ago"),
        ({"exp": LEFT_OUT}, False, "expires"),
        ({"exp": str(SECONDS + 60)}, False, "expires"),
        ({"exp": True}, False, "expires"),
        ({"exp": float("nan")}, False, "expires"),
        ({"exp": float("inf")}, False, "expires"),
        ({"exp": 10**400}, False, "expires"),
        ({"exp": -1}, False, "expires"),
        ({"iat": LEFT_OUT}, False, "issued"),
        ({"iat": SECONDS + 11}, False, "future"),
        ({"iat": True}, False, "issued"),
        ({"iat": str(SECONDS)}, False, "issued"),
        ({"iat": float("nan")}, False, "issued"),
        ({"iat": 10**400}, False, "issued"),
        ({"nbf": SECONDS + 11}, False, "not valid before"),
        ({"nbf": str(SECONDS)}, False, "not valid before"),
        ({"nbf": True}, False, "not valid before"),
        ({"nbf": None}, False, "not valid before None"),
        ({"nbf": float("nan")}, False, "not valid before"),
        ({"nbf": float("-inf")}, False, "not valid before"),
        ({"nbf": 10**400}, False, "not valid before"),
        ({"nbf": -1}, False, "not valid before"),
        ({"nbf": [SECONDS]}, False, "not valid before"),
        ({"email": LEFT_OUT}, True, "no verified account"),
        ({"email": None}, True, "no verified account"),
        ({"email": [EMAIL]}, True, "no verified account"),
        ({"email_verified": False}, True, "no verified account"),
        ({"email_verified": "true"}, True, "no verified account"),
        ({"email_verified": LEFT_OUT}, True, "no verified account"),
        ({"email": "else@p.iam.gserviceaccount.com"}, True, "may not call"),
        ({"email": EMAIL.upper()}, True, "may not call"),
        ({"email": "a\nb\ud800" + "x" * 9999}, True, "may not call"),
    ],
    ids=lambda value: str(value)[:40].encode("ascii", "replace").decode() if isinstance(value, dict) else None,
)
def test_bad_claims_are_denied(changes, forbidden, says):
    """
    A bad token is 401, a good token of the wrong account is 403; the reason is one short line that names what is wrong.
    """
    denied = verifier().check(token(**changes))

    assert isinstance(denied, Denied)
    assert (denied.forbidden, says in denied.reason) == (forbidden, True), denied.reason
    assert "\n" not in denied.reason
    assert len(denied.reason) < 400


def test_nobody_may_call_where_nobody_is_configured():
    """
    An empty list of audiences or callers lets nobody in.
    """
    for audiences, callers, forbidden in (([], [EMAIL], False), ([AUDIENCE], [], True)):
        made = Verifier(
            mode="platform", audiences=audiences, callers=callers, certs_url=None, clock=FixedClock(), service="orders"
        )
        denied = made.check(token())
        assert isinstance(denied, Denied)
        assert denied.forbidden is forbidden


DEEP = encoded(b"[" * 12_000)
HUGE = encoded(b"x" * 100_000)
MALFORMED = [
    None,
    "",
    "Bearer",
    "Bearer ",
    "Basic dXNlcjpwYXNz",
    token().removeprefix("Bearer "),
    "Bearer a",
    "Bearer a.b",
    "Bearer a.b.c",
    "Bearer ..",
    "Bearer a.b.c.d",
    "Bearer \x00\xff.\x01.\x02",
    "Bearer é.è.ê",
    f"Bearer {encoded(b'{')}.{encoded(b'}')}.c",
    f"Bearer {encoded(bytes(range(256)))}.{encoded(bytes(range(256)))}.{encoded(bytes(256))}",
    f"Bearer {part([])}.{part([])}.c",
    f"Bearer {part(None)}.{part(1)}.c",
    f"Bearer {part({'alg': 'RS256'})}.{part('x')}.c",
    f"Bearer {DEEP}.{part(GOOD)}.c",
    f"Bearer {part({})}.{DEEP}.c",
    f"Bearer {part({})}.{encoded(b'1' * 9000)}.c",
    f"Bearer {HUGE}.{HUGE}.{HUGE}",
    "Bearer " + "." * 1_000_000,
    "Bearer " + token(),
    f"{token()},{token()}",
    f"{token()}, {token()}",
    token().replace(".", ". "),
    token().replace(" ", "\t"),
]


@pytest.mark.parametrize("mode", ["token", "platform"])
@pytest.mark.parametrize("authorization", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_tokens_are_denied(mode, authorization):
    """
    Whatever stands in the header, the answer is a refusal, never an exception and never a fetch.
    """
    denied = verifier(mode).check(authorization)

    assert isinstance(denied, Denied)
    assert not denied.forbidden


def test_token_of_any_length_is_not_read():
    """
    A good one that is longer than any of Google's is malformed.
    """
    assert isinstance(verifier().check(token(padding="x" * 10_000)), Identity)
    assert isinstance(verifier().check(token(padding="x" * 13_000)), Denied)


@pytest.mark.parametrize("mode", ["token", "platform"])
@pytest.mark.parametrize("signature", [encoded(b"x" * 256), REMOVED, ""], ids=["signed", "removed", "none"])
@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"alg": "none", "kid": "k"}, "'none'"),
        ({"alg": "HS256", "kid": "k"}, "'HS256'"),
        ({"alg": "ES256", "kid": "k"}, "'ES256'"),
        ({"alg": "rs256", "kid": "k"}, "'rs256'"),
        ({"alg": ["RS256"], "kid": "k"}, "RS256"),
        ({"kid": "k"}, "None"),
        ({"alg": "RS256", "kid": "k", "crit": ["exp"], "exp": 0}, "crit"),
        ({"alg": "RS256", "kid": "k", "crit": []}, "crit"),
    ],
    ids=str,
)
def test_only_rs256_is_looked_at(mode, signature, header, says):
    """
    The token does not choose how it is verified: other algorithms, and extensions that must be understood, are refused
    before anything is fetched, the removed signature among them.
    """
    denied = verifier(mode).check(token(signature, header))

    assert isinstance(denied, Denied)
    assert says in denied.reason
    assert not denied.forbidden


@pytest.mark.parametrize("mode", ["token", "platform"])
@pytest.mark.parametrize("kid", [None, 7, ["k"], {"k": "k"}], ids=str)
def test_signature_names_its_key(mode, kid):
    """
    A signature without the name of a key is refused before anything is fetched.
    """
    denied = verifier(mode).check(token(encoded(b"x" * 256), {"alg": "RS256", "kid": kid}))

    assert isinstance(denied, Denied)
    assert "names no key" in denied.reason


def test_removed_signature_is_denied_with_the_setting_to_change():
    """
    In token mode a token without signature proves nothing; the reason names the setting for services behind IAM.
    """
    denied = verifier("token").check(token(REMOVED))

    assert isinstance(denied, Denied)
    assert "ONCETASK_VERIFY=platform" in denied.reason
    assert not denied.forbidden


def test_removed_signature_is_believed_on_cloud_run_alone():
    """
    Where K_SERVICE is not set nothing stands before the service that could have verified a signature.
    """
    denied = verifier(service=None).check(token())

    assert isinstance(denied, Denied)
    assert "K_SERVICE" in denied.reason
    assert not denied.forbidden


@pytest.mark.parametrize(
    "signature",
    ["", encoded(b"x" * 256), "x" + REMOVED, REMOVED + "x", REMOVED.lower(), REMOVED + "=", encoded(REMOVED.encode())],
)
def test_any_other_signature_is_verified_in_platform_mode(signature):
    """
    Only the platform's own mark stands for its verification: every other signature needs the certificates, which nobody has
    here, or is none.
    """
    with pytest.raises(IdentityError):
        verifier().check(token(signature))


OTHER = token(email="else@p.iam.gserviceaccount.com")


@pytest.mark.parametrize(
    ("authorization", "serverless", "forbidden"),
    [
        (token(), OTHER, True),
        (token(), token(aud="https://else.where"), False),
        (token(), "Bearer garbage", False),
        (token(), "", False),
        (token(), f"{token()},{token()}", False),
        (None, OTHER, True),
    ],
)
def test_what_iam_has_looked_at_counts_in_platform_mode(authorization, serverless, forbidden):
    """
    Beside X-Serverless-Authorization, of which IAM has verified the token, Authorization is what its sender likes: it says
    nothing, even where the other one opens nothing.
    """
    denied = verifier().check(authorization, serverless)

    assert isinstance(denied, Denied)
    assert forbidden is denied.forbidden


def test_either_header_alone_opens_in_platform_mode():
    """
    Cloud Tasks sends Authorization; who needs that for something else sends X-Serverless-Authorization.
    """
    for authorization, serverless in ((token(), None), (None, token()), (OTHER, token()), ("Basic eA==", token())):
        assert isinstance(verifier().check(authorization, serverless), Identity)


UNPROVED = [
    None,
    "Bearer garbage",
    token("", {"alg": "none"}),
    token(REMOVED, {"alg": "none"}),
    token(encoded(b"x"), {"alg": "RS256"}),
]


@pytest.mark.parametrize("authorization", UNPROVED, ids=range(len(UNPROVED)))
def test_service_that_lets_the_public_in_is_told_once(caplog, authorization):
    """
    In platform mode a request that IAM would have refused shows that IAM does not stand before the service: one error in the
    log, with the commands that make it private.
    """
    made = verifier(service="orders-api")
    for header in (authorization, *UNPROVED):
        assert isinstance(made.check(header), Denied)

    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "remove-iam-policy-binding orders-api " in record.getMessage()


def test_what_iam_lets_in_tells_nothing_of_the_public(caplog):
    """
    Tokens of other accounts and audiences, expired ones, and requests where IAM is not asked to stand before the service.
    """
    for authorization in (token(), OTHER, token(aud="https://else.where"), token(exp=SECONDS - 11)):
        verifier().check(authorization)
    for authorization in UNPROVED:
        verifier("token").check(authorization)
        verifier(service=None).check(authorization)

    assert not caplog.records


def test_off_lets_everybody_in_and_warns(caplog):
    """
    Off verifies nothing, and says so loudly when it is made, not at every request; other modes are quiet.
    """
    verifier("platform")
    verifier("token")
    assert not caplog.records

    made = verifier("off")
    assert isinstance(made.check(None), Identity)
    assert isinstance(made.check("rubbish"), Identity)
    [record] = caplog.records
    assert (record.levelno, "ONCETASK_VERIFY" in record.getMessage()) == (logging.WARNING, True)


@pytest.mark.parametrize("name", ["GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"])
def test_project_of_the_environment_needs_no_credentials(monkeypatch, name):
    """
    A project that is set is taken as it is, without looking for credentials or a metadata server.
    """
    for other in ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/does/not/exist")
    monkeypatch.setenv(name, "orders-prod")

    assert default_project() == "orders-prod"


def test_project_is_none_where_credentials_are_broken(monkeypatch):
    """
    Credentials that can't be read are no reason to fail: the project is just not known.
    """
    for other in ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/does/not/exist")

    assert default_project() is None
