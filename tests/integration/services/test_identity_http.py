"""
Identity tokens with real signatures, against a real endpoint of certificates: caching, rotation, failure, hanging, forks.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from google.auth import environment_vars
from jwt.algorithms import RSAAlgorithm

from gcp_emulator.clock import VirtualClock
from gcp_emulator.oidc import OidcIssuer
from gcp_oncetask.config import Verify
from gcp_oncetask.errors import IdentityError
from gcp_oncetask.services.identity import Denied, Identity, Verifier, default_region
from gcp_oncetask.testing.cloud import TestClock
from tests.support.patience import patient
from tests.unit.services.test_identity import encoded

AUDIENCE = "https://orders.test"
EMAIL = "caller@p.iam.gserviceaccount.com"


class World:
    """
    An issuer and a verifier that goes by its keys, on one clock that moves when told to.
    """

    def __init__(self, max_age: int = 3600) -> None:
        self.clock = VirtualClock()
        self.issuer = OidcIssuer(self.clock, max_age=max_age)
        self.issuer.start()
        self.verifier = self.make()

    def make(self, certs_url: str | None = None, mode: Verify = "token", service: str | None = "orders") -> Verifier:
        """
        Another verifier.
        """
        return Verifier(
            mode=mode,
            audiences=[AUDIENCE],
            callers=[EMAIL],
            certs_url=certs_url or self.issuer.certs_url,
            clock=TestClock(self.clock),
            service=service,
        )

    def token(self, **claims: Any) -> str:
        """
        The header of a good request.
        """
        return f"Bearer {self.issuer.token(AUDIENCE, EMAIL, **claims)}"

    def forged(self, kid: str | None = None) -> str:
        """
        The header of a request whose token was signed by somebody else; with *kid*, by a key of that name.
        """
        header, claims, signature = self.issuer.forged(AUDIENCE, EMAIL).split(".")
        if kid is not None:
            header = base64.urlsafe_b64encode(b'{"alg":"RS256","kid":"%s"}' % kid.encode()).rstrip(b"=").decode()
        return f"Bearer {header}.{claims}.{signature}"

    def passes(self, authorization: str | None = None) -> bool:
        """
        Whether a request is let in.
        """
        return isinstance(self.verifier.check(authorization or self.token()), Identity)


@pytest.fixture
def world() -> Iterator[World]:
    """
    A world of the test's own.
    """
    made = World()
    yield made
    made.issuer.stop()


def test_signed_token_is_verified_and_keys_are_kept(world):
    """
    A real signature passes; the certificates are fetched once, not at every request.
    """
    for _ in range(20):
        assert world.passes()

    assert world.issuer.fetches == 1


def test_forged_or_changed_tokens_are_denied(world):
    """
    Another key's signature, a changed claim, a cut or foreign signature: 401, whatever the claims say.
    """
    header, claims, signature = world.token().split(".")
    other = world.token(sub="1").split(".")[1]
    for bad in (
        world.forged(),
        f"{header}.{other}.{signature}",
        f"{header}.{claims}.{signature[:-8]}",
        f"{header}.{claims}.",
        f"{header}.{claims}.!!!!",
    ):
        denied = world.verifier.check(bad)
        assert denied == Denied(forbidden=False, reason="The identity token's signature is wrong.")


def test_token_does_not_bring_its_key(world):
    """
    A key in the token, a place to fetch one from, the public key as a shared secret, and names of keys that look like paths
    or addresses: 401, and nothing is fetched but the issuer's certificates.
    """
    good = jwt.decode(world.token().split()[1], options={"verify_signature": False})
    published = requests.get(world.issuer.certs_url, timeout=patient(5)).json()
    [(kid, certificate)] = published.items()
    own = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = json.loads(RSAAlgorithm.to_jwk(own.public_key()))
    other = world.issuer.url + "/mine"
    fetches = world.issuer.fetches
    tokens = [
        jwt.encode(good, own, "RS256", {"kid": kid, **more})
        for more in ({"jwk": public}, {"x5u": other}, {"jku": other})
    ]
    tokens += [
        jwt.encode(good, own, "RS256", {"kid": name}) for name in ("../" + kid, "/dev/null", other, kid + "\x00", "")
    ]
    tokens.append(jwt.encode(good, ec.generate_private_key(ec.SECP256R1()), "ES256", {"kid": kid}))
    head, claims = (encoded(json.dumps(one).encode()) for one in ({"alg": "HS256", "kid": kid}, good))
    mac = hmac.digest(certificate.encode(), f"{head}.{claims}".encode(), "sha256")
    tokens.append(f"{head}.{claims}.{encoded(mac)}")

    for verifier in (world.verifier, world.make(mode="platform")):
        for token in tokens:
            denied = verifier.check(f"Bearer {token}")
            assert isinstance(denied, Denied)
            assert not denied.forbidden
        assert isinstance(verifier.check(world.token()), Identity)
    assert world.issuer.fetches == fetches + 2


def test_signature_that_is_there_is_verified_in_platform_mode(world):
    """
    Whatever stands before the service: a signed token is believed for its signature, in either header; X-Serverless-
    Authorization of somebody else outdoes a good Authorization.
    """
    somebody = f"Bearer {world.issuer.token(AUDIENCE, 'else@p.iam.gserviceaccount.com')}"
    for service in ("orders", None):
        made = world.make(mode="platform", service=service)
        for headers in ((world.token(), None), (None, world.token()), (world.forged(), world.token())):
            assert isinstance(made.check(*headers), Identity)
        for headers in ((world.forged(), None), (None, world.forged()), (world.token(), world.forged())):
            assert made.check(*headers) == Denied(forbidden=False, reason="The identity token's signature is wrong.")
        denied = made.check(world.token(), somebody)
        assert isinstance(denied, Denied)
        assert denied.forbidden


def test_unknown_key_tells_nothing_of_the_public(world, caplog):
    """
    A key that was published a moment ago, and is fetched in ten seconds, is no sign that the service lets the public in.
    """
    made = world.make(mode="platform")
    assert isinstance(made.check(world.token()), Identity)
    world.issuer.rotate()
    assert isinstance(made.check(world.token()), Denied)
    assert not caplog.records

    made.check(world.forged())
    world.clock.advance(11)
    made.check(world.forged())
    assert ["lets the public in" in record.getMessage() for record in caplog.records] == [True]


def test_token_counts_in_authorization_alone_in_token_mode(world):
    """
    In token mode the signature proves who calls: what else IAM or a proxy has been shown changes nothing, either way.
    """
    somebody = f"Bearer {world.issuer.token(AUDIENCE, 'else@p.iam.gserviceaccount.com')}"
    assert isinstance(world.verifier.check(world.token(), somebody), Identity)
    assert isinstance(world.verifier.check(world.token(), "Bearer x"), Identity)
    for headers in ((somebody, world.token()), (None, world.token())):
        assert isinstance(world.verifier.check(*headers), Denied)


def test_token_expires_with_the_clock(world):
    """
    A token that passed is denied once it has expired: nothing remembers that it was good.
    """
    token = world.token(lifetime=60)
    assert world.passes(token)
    world.clock.advance(69)
    assert world.passes(token)
    world.clock.advance(2)
    assert not world.passes(token)


def test_rotation_is_survived_at_once(world):
    """
    A token of a new key is accepted with one more fetch, as soon as ten seconds lie behind the last one.
    """
    assert world.passes()
    world.issuer.rotate()
    world.clock.advance(11)

    assert world.passes()
    assert world.issuer.fetches == 2


def test_revoked_key_ends_with_the_cache(world):
    """
    A key that is published no more stops working when the certificates are fetched anew after their max-age.
    """
    old = world.token(lifetime=100_000)
    assert world.passes(old)
    world.issuer.rotate(keep_old=False)
    world.clock.advance(3590)
    assert world.passes(old)
    world.clock.advance(20)
    assert not world.passes(old)
    assert world.issuer.fetches == 2


def test_max_age_of_the_answer_is_respected():
    """
    The endpoint says how long its certificates may be kept; not even 0 makes a fetch of every request.
    """
    for max_age, wait, fetches in ((60, 59, 1), (60, 61, 2), (0, 5, 1), (0, 11, 2), (10**11, 86_401, 2)):
        world = World(max_age)
        assert world.passes()
        world.clock.advance(wait)
        assert world.passes()
        assert (max_age, wait, world.issuer.fetches) == (max_age, wait, fetches)
        world.issuer.stop()


def test_flood_of_forged_keys_does_not_hammer(world):
    """
    Two hundred tokens of invented keys make one fetch in ten seconds, and good tokens pass all the while.
    """
    assert world.passes()
    world.clock.advance(11)
    for number in range(200):
        assert not world.passes(world.forged(f"forged-{number}"))
        assert world.passes()

    assert world.issuer.fetches == 2


def test_failed_fetch_is_cannot_tell_not_denied(world):
    """
    Without certificates nobody can be told from anybody: an error that names the address, and soon another try.
    """
    world.issuer.fail(1)
    for _ in range(3):
        with pytest.raises(IdentityError, match=world.issuer.certs_url) as caught:
            world.verifier.check(world.token())
        assert isinstance(caught.value.__cause__, requests.HTTPError)
    assert world.issuer.fetches == 1

    world.clock.advance(1.1)
    assert world.passes()


def test_failed_refetch_keeps_known_keys(world):
    """
    While the endpoint is down past the max-age, known keys go on working at one try in ten seconds; an unknown one can't
    be told.
    """
    assert world.passes()
    world.issuer.fail(None)
    world.clock.advance(4000)
    for _ in range(5):
        assert world.passes()
        world.clock.advance(1.5)
    assert world.issuer.fetches == 2
    with pytest.raises(IdentityError):
        world.verifier.check(world.forged("new"))

    world.issuer.heal()
    world.issuer.rotate()
    world.clock.advance(2)
    assert world.passes()


def test_unreachable_endpoint_is_cannot_tell(world):
    """
    Nobody listening is an IdentityError too, with requests' own error as its cause.
    """
    world.issuer.stop()
    with pytest.raises(IdentityError) as caught:
        world.verifier.check(world.token())

    assert isinstance(caught.value.__cause__, requests.ConnectionError)


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b"{}", b'{"keys": []}', b'{"k": "no PEM"}', b'{"k": null}'])
def test_nonsense_instead_of_certificates_is_cannot_tell(world, served, answer):
    """
    An endpoint that answers 200 with something else has not said that the token is bad.
    """
    with pytest.raises(IdentityError, match="ONCETASK_OIDC_CERTS_URL"):
        world.make(served(answer)).check(world.token())


def test_hanging_endpoint_is_bounded_and_holds_up_no_known_key(world, monkeypatch):
    """
    While a fetch hangs, requests with known keys pass at once; the one that fetches gives up after the time-out and goes
    on with the key it knows.
    """
    monkeypatch.setattr("gcp_oncetask.services.tokens.FETCH_TIMEOUT", 0.5)
    assert world.passes()
    world.clock.advance(4000)
    world.issuer.hang()
    token = world.token()
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(world.passes, token)
        while world.issuer.fetches < 2:
            time.sleep(0.001)
        for _ in range(20):
            assert world.passes(token)
        assert not fetching.done()
        # The endpoint hangs for ever: it is the time-out that ends this.
        assert fetching.result(patient(30))


def test_threads_share_one_fetch(world):
    """
    Thirty requests that meet a cold cache, and again a rotation, make one fetch each time, and none of them is denied.
    """
    with ThreadPoolExecutor(30) as pool:
        for expected in (1, 2):
            token = world.token()
            together = threading.Barrier(30)

            def check(_: int, token: str = token, together: threading.Barrier = together) -> bool:
                together.wait(patient(30))
                return world.passes(token)

            assert all(pool.map(check, range(30)))
            assert expected == world.issuer.fetches
            world.issuer.rotate()
            world.clock.advance(11)


def test_fork_during_a_fetch_does_not_block_the_child(world):
    """
    A child forked while another thread fetches has no thread to free that lock, and verifies nevertheless.
    """
    world.issuer.hang()
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(world.passes)
        while world.issuer.fetches < 1:
            time.sleep(0.001)
        # Ends with the parent's fetch, so that only the lock could keep the child.
        child = os.fork()
        if child == 0:
            code = 1
            try:
                threading.Timer(patient(30), os._exit, (2,)).start()
                code = 0 if world.passes() else 1
            finally:
                os._exit(code)
        while world.issuer.fetches < 2:
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "the child ended without a fetch of its own"
            time.sleep(0.001)
        world.issuer.heal()
        assert fetching.result(patient(30))

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_verification_is_cheap(world):
    """
    With the keys cached, a verification makes few calls, most of them of the JSON parser and the RSA library.
    """
    token = world.token()
    assert world.passes(token)
    calls = 0

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        world.verifier.check(token)
    finally:
        sys.setprofile(None)
    assert calls < 150


# --- the metadata server ----------------------------------------------------------------------------------------------


@pytest.fixture
def served() -> Iterator[Any]:
    """
    Serves one body, with status and headers, at every path on loopback; answers its address.
    """
    servers: list[ThreadingHTTPServer] = []

    def serve(body: bytes, status: int = 200, **headers: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Type", "application/text")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("body", "status", "headers", "region"),
    [
        (b"projects/123/regions/europe-west1", 200, {"Metadata_Flavor": "Google"}, "europe-west1"),
        (b"projects/123/regions/europe-west1\n", 200, {"Metadata_Flavor": "Google"}, "europe-west1"),
        (b"projects/123/regions/europe-west1", 200, {}, None),
        (b"<html>Did you mean metadata?</html>", 200, {"Metadata_Flavor": "Google"}, None),
        (b"not here", 404, {"Metadata_Flavor": "Google"}, None),
        (b"", 200, {"Metadata_Flavor": "Google"}, None),
    ],
)
def test_region_is_the_metadata_server_s(served, monkeypatch, body, status, headers, region):
    """
    The region is the last part of what the metadata server says; anybody else who answers is not believed.
    """
    monkeypatch.setenv("GCE_METADATA_HOST", served(body, status, **headers).removeprefix("http://"))

    assert region == default_region()


def test_region_is_none_without_a_metadata_server(monkeypatch):
    """
    Off Google's machines there is no region, and no error.
    """
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:1")

    assert default_region() is None


@pytest.fixture
def silent() -> Iterator[str]:
    """
    The address of a server that takes connections and never answers.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_silent_metadata_server_has_no_region(silent, monkeypatch):
    """
    A server that never answers is given up after the time-out.
    """
    monkeypatch.setattr("gcp_oncetask.services.identity._METADATA_TIMEOUT", 0.2)
    monkeypatch.setenv("GCE_METADATA_HOST", silent)

    assert default_region() is None


def project_found(host: str) -> tuple[str, float]:
    """
    What a process of its own, without any setting, finds as its project, and in how many seconds.

    A process of its own: google.auth reads the metadata server's address when it is imported.
    """
    code = (
        "import time; from gcp_oncetask.services import identity; import google.auth.transport.requests; "
        "start = time.monotonic(); print(identity.default_project(), time.monotonic() - start)"
    )
    unset = ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "GOOGLE_APPLICATION_CREDENTIALS", "NO_GCE_CHECK")
    environ = {name: value for name, value in os.environ.items() if name not in unset}
    environ |= {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host, "CLOUDSDK_CONFIG": "/does/not/exist"}
    environ |= {"GCE_METADATA_DETECT_RETRIES": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    project, seconds = done.stdout.split()
    return project, float(seconds)


def test_project_is_the_metadata_server_s(served):
    """
    On Google's machines the project is the machine's.
    """
    project, _ = project_found(served(b"orders-prod", Metadata_Flavor="Google").removeprefix("http://"))

    assert project == "orders-prod"


@pytest.mark.skipif(
    not hasattr(environment_vars, "GCE_METADATA_DETECT_RETRIES"),
    reason="this google-auth tries three times, whatever it is told",
)
def test_silent_metadata_server_has_no_project(silent):
    """
    Each look for a machine's project is given up after a second, where google.auth itself would wait three.
    """
    project, seconds = project_found(silent)

    assert project == "None"
    assert seconds < patient(2.5)
