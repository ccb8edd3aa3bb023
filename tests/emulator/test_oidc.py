"""
Identity tokens of the local issuer, verified by google-auth.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request

import google.auth.transport.urllib3
import grpc
import pytest
import urllib3
from google.auth.exceptions import GoogleAuthError, TransportError
from google.oauth2 import id_token

from gcp_emulator.clock import SystemClock
from gcp_emulator.faults import Faults
from gcp_emulator.oidc import OidcIssuer
from tests.support.patience import patient

AUDIENCE = "https://orders.test"
EMAIL = "caller@p.iam.gserviceaccount.com"


@pytest.fixture
def issuer():
    issuer = OidcIssuer(SystemClock())
    issuer.start()
    yield issuer
    issuer.stop()


@pytest.fixture
def verify(issuer):
    with urllib3.PoolManager() as pool:
        request = google.auth.transport.urllib3.Request(pool)

        def run(token, certs_url=None):
            return id_token.verify_token(token, request, AUDIENCE, certs_url=certs_url or issuer.certs_url)

        yield run


def get(url):
    with urllib.request.urlopen(url, timeout=patient(30)) as response:
        return response.headers, json.load(response)


def test_token_verifies_with_google_auth(issuer, verify):
    """
    A token carries Google's claims and verifies against the published certificates.
    """
    claims = verify(issuer.token(AUDIENCE, EMAIL))
    assert claims["iss"] == "https://accounts.google.com"
    assert (claims["aud"], claims["email"], claims["email_verified"]) == (AUDIENCE, EMAIL, True)
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["sub"] == claims["azp"]
    assert len(claims["sub"]) == 21
    assert claims["sub"].isdecimal()


def test_token_verifies_against_the_key_set(issuer, verify):
    """
    The same key is published as a JSON Web Key Set, at the address that discovery names.
    """
    _, discovery = get(f"{issuer.url}/.well-known/openid-configuration")
    assert discovery["issuer"] == issuer.issuer
    assert verify(issuer.token(AUDIENCE, EMAIL), discovery["jwks_uri"])["email"] == EMAIL


@pytest.mark.parametrize(
    "kwargs",
    [
        pytest.param({"lifetime": -3600}, id="expired"),
        pytest.param({"aud": "https://other.test"}, id="another audience"),
        pytest.param({"iat": None}, id="claim left out"),
    ],
)
def test_token_with_overrides_is_refused(issuer, verify, kwargs):
    """
    Overrides make tokens that a verifier must refuse, under a good signature.
    """
    with pytest.raises(GoogleAuthError):
        verify(issuer.token(AUDIENCE, EMAIL, **kwargs))


def test_token_overrides_reach_the_claims(issuer, verify):
    """
    Claims can be replaced and left out where google-auth does not look.
    """
    claims = verify(issuer.token(AUDIENCE, None, subject="7", iss="https://evil.test"))
    assert (claims["iss"], claims["sub"], "email" in claims) == ("https://evil.test", "7", False)


def test_forged_token_is_refused(issuer, verify):
    """
    A token signed by a key that is not published fails on its signature, although its key id is known.
    """
    with pytest.raises(GoogleAuthError, match="signature"):
        verify(issuer.forged(AUDIENCE, EMAIL))


def test_rotation_keeps_the_old_key(issuer, verify):
    """
    After a rotation that keeps the old key, tokens of both keys verify, and they name different keys.
    """
    old = issuer.token(AUDIENCE, EMAIL)
    kid = issuer.rotate()
    assert verify(old)["email"] == EMAIL
    assert verify(issuer.token(AUDIENCE, EMAIL))["email"] == EMAIL
    _, certs = get(issuer.certs_url)
    assert len(certs) == 2
    assert kid in certs


def test_rotation_can_drop_the_old_key(issuer, verify):
    """
    After a rotation that drops the old key, its tokens are refused.
    """
    old = issuer.token(AUDIENCE, EMAIL)
    issuer.rotate(keep_old=False)
    with pytest.raises(GoogleAuthError, match="key id"):
        verify(old)
    assert verify(issuer.token(AUDIENCE, EMAIL))["email"] == EMAIL


def test_fetches_are_counted_and_cacheable(issuer, verify):
    """
    Each fetch of keys counts once; the answer says how long it may be cached.
    """
    token = issuer.token(AUDIENCE, EMAIL)
    verify(token)
    verify(token)
    headers, _ = get(issuer.certs_url)
    assert issuer.fetches == 3
    assert "max-age=3600" in headers["Cache-Control"]


def test_endpoint_fails_on_demand(issuer, verify):
    """
    fail(2) spoils two fetches, and the third one is served.
    """
    issuer.fail(2)
    token = issuer.token(AUDIENCE, EMAIL)
    for _ in range(2):
        with pytest.raises(TransportError):
            verify(token)
    assert verify(token)["email"] == EMAIL


def test_endpoint_fails_by_shared_faults():
    """
    A rule for FetchCerts in shared faults spoils a fetch.
    """
    faults = Faults()
    faults.fail("FetchCerts", code=grpc.StatusCode.UNAVAILABLE)
    issuer = OidcIssuer(SystemClock(), faults=faults)
    issuer.start()
    try:
        with pytest.raises(urllib.error.HTTPError) as failure:
            get(issuer.certs_url)
        failure.value.close()
        assert failure.value.code == 500
        assert get(issuer.certs_url)
    finally:
        issuer.stop()


def test_endpoint_hangs_until_healed(issuer):
    """
    While it hangs a fetch gets no answer; once healed the same fetch is answered.
    """
    issuer.hang()
    answers = []
    fetch = threading.Thread(target=lambda: answers.append(get(issuer.certs_url)))
    fetch.start()
    fetch.join(0.2)
    assert fetch.is_alive()
    assert answers == []
    issuer.heal()
    fetch.join(patient(30))
    assert len(answers) == 1


def test_stopped_endpoint_refuses_connections(issuer):
    """
    After stop nobody listens, and start on the same port serves again.
    """
    port = int(issuer.url.rpartition(":")[2])
    issuer.stop()
    with pytest.raises(urllib.error.URLError):
        get(issuer.certs_url)
    issuer.start(port)
    assert get(issuer.certs_url)


def test_proxy_token_verifies_with_google_auth(issuer, verify):
    """
    A token of the identity-aware proxy is signed with ES256, and verifies against the proxy's own keys alone.
    """
    token = issuer.proxy.token(AUDIENCE, "ann@example.com", hd="example.com")
    claims = verify(token, issuer.proxy_keys_url)
    assert claims["iss"] == "https://cloud.google.com/iap"
    assert (claims["aud"], claims["email"], claims["hd"]) == (AUDIENCE, "ann@example.com", "example.com")
    assert claims["exp"] - claims["iat"] == 600
    with pytest.raises((GoogleAuthError, ValueError)):
        verify(token)
    with pytest.raises((GoogleAuthError, ValueError)):
        verify(issuer.proxy.token(AUDIENCE, "ann@example.com", raw=False), issuer.proxy_keys_url)
