"""
What is fetched by HTTP ends within its time and its size, whatever the server does: plain, through a proxy, by TLS.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gcp_oncetask.clock import SystemClock
from gcp_oncetask.errors import IdentityError
from gcp_oncetask.services import download
from gcp_oncetask.services.identity import Verifier, default_region
from tests.support.patience import patient
from tests.unit.services.test_identity import encoded, token

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
PLAIN = HEAD + b"Content-Length: 2\r\n\r\n{}"
LIMIT = 262_144


class Server:
    """
    Answers each connection with the same pieces, a pause after each, until there are no more or the client has gone.
    """

    def __init__(self, pieces: Iterable[bytes], pause: float = 0, context: ssl.SSLContext | None = None) -> None:
        self.pieces, self.pause, self.context = pieces, pause, context
        self.sent = 0
        self.gone = threading.Event()
        self.requests: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                with contextlib.suppress(OSError), connection:
                    self._answer(connection)
                self.gone.set()

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(patient(20))
        if self.context is not None:
            connection = self.context.wrap_socket(connection, server_side=True)
        with connection:
            self.requests.append(connection.recv(65_536))
            for piece in self.pieces:
                connection.sendall(piece)
                self.sent += len(piece)
                if self._stopped.wait(self.pause):
                    return

    def stop(self) -> None:
        """
        Close the port, and end what is being answered.
        """
        self._stopped.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(patient(30))


@pytest.fixture
def serve() -> Iterator[Any]:
    """
    Makes servers that end with the test.
    """
    made: list[Server] = []

    def make(pieces: Iterable[bytes], pause: float = 0, context: ssl.SSLContext | None = None) -> Server:
        made.append(Server(pieces, pause, context))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """
    How a server speaks TLS, and the file by which it is trusted.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "certs.local")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    public, private = folder / "public.pem", folder / "private.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, public


@pytest.fixture(params=["plain", "proxy", "tls"])
def served(request: pytest.FixtureRequest, serve: Any, monkeypatch: pytest.MonkeyPatch, authority: Any) -> Any:
    """
    Serves pieces in one of three ways; returns server and address.
    """
    context, file = authority

    def start(pieces: Iterable[bytes], pause: float = 0) -> tuple[Server, str]:
        server = serve(pieces, pause, context if request.param == "tls" else None)
        if request.param == "proxy":
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
            return server, "http://certs.test/certs"
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
        return server, f"{'https' if request.param == 'tls' else 'http'}://127.0.0.1:{server.port}/certs"

    return start


def verifier(url: str) -> Verifier:
    return Verifier(mode="token", audiences=["a"], callers=["c@d.test"], certs_url=url, clock=SystemClock())


def downloading() -> list[threading.Thread]:
    """
    Threads that fetch something.
    """
    return [thread for thread in threading.enumerate() if thread.name == "oncetask-download"]


def test_answer_within_the_limits_is_read(served: Any) -> None:
    """
    Body and headers, whatever the way; the body is asked for as it is.
    """
    server, url = served([HEAD + b"Cache-Control: max-age=7\r\n\r\n", b"{}"])
    answer = download.get(url, seconds=patient(5), size=LIMIT, headers={"X-Mark": "1"})

    assert (answer.json(), answer.headers["cache-control"]) == ({}, "max-age=7")
    assert b"Accept-Encoding: identity\r\n" in server.requests[0]
    assert b"X-Mark: 1\r\n" in server.requests[0]


SLOW = {
    "status": [],
    "headers": [HEAD, b"X-Long: "],
    "continue": itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": [HEAD + b"Content-Length: 100000\r\n\r\n"],
    "endless": [HEAD + b"\r\n"],
    "chunks": [HEAD + b"Transfer-Encoding: chunked\r\n\r\n"],
}


@pytest.mark.parametrize("kind", SLOW)
def test_server_that_sends_byte_by_byte_is_left(served: Any, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """
    A server that is never silent for long holds neither a request nor the thread that fetches beyond the limit of the whole.
    """
    monkeypatch.setattr("gcp_oncetask.services.tokens.FETCH_TIMEOUT", 0.2)
    server, url = served(itertools.chain(SLOW[kind], itertools.repeat(b"1")), pause=0.02)
    start = time.monotonic()
    with pytest.raises(IdentityError, match="could not be fetched"):
        verifier(url).check(token(encoded(b"x")))

    assert time.monotonic() - start < patient(2)
    assert server.gone.wait(patient(2))
    for thread in downloading():
        thread.join(patient(2))
    assert not downloading()


LARGE = {
    "status": [b"HTTP/1.1 200 "],
    "headers": [HEAD, b"X-Long: "],
    "continue": itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "body": [HEAD + b"Content-Length: 1000000000000\r\n\r\n"],
    "endless": [HEAD + b"\r\n"],
    "chunks": [HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 2_000_000],
    "small chunks": itertools.chain(
        [HEAD + b"Transfer-Encoding: chunked\r\n\r\n"], itertools.repeat(b"1\r\n1\r\n" * 1000)
    ),
}


@pytest.mark.parametrize("kind", LARGE)
def test_endless_answer_ends_at_the_size_limit(serve: Any, kind: str) -> None:
    """
    A server that never ends its answer is left long before the time is over.
    """
    server = serve(itertools.chain(LARGE[kind], itertools.repeat(b" " * 65_536)))
    with pytest.raises(IdentityError, match="could not be fetched"):
        verifier(f"http://127.0.0.1:{server.port}/").check(token(encoded(b"x")))

    assert server.gone.wait(patient(2))
    # What the kernel's buffers take on the way is no matter of ours.
    assert server.sent < 16_000_000


BEYOND = [
    HEAD + b"Content-Length: %d\r\n\r\n" % LIMIT + b" " * LIMIT,
    HEAD + b"X-Long: " + b"x" * 60_000 + b"\r\n" + b"Content-Length: 210000\r\n\r\n" + b" " * 210_000,
]


@pytest.mark.parametrize("answer", BEYOND, ids=["body", "headers"])
def test_size_is_that_of_the_whole_answer(serve: Any, answer: bytes) -> None:
    """
    Headers count; one byte more than the limit is too much, the limit itself is not.
    """
    server = serve([answer])
    url = f"http://127.0.0.1:{server.port}/"
    with pytest.raises(OSError, match=f"more than {len(answer) - 1:,} bytes"):
        download.get(url, seconds=patient(5), size=len(answer) - 1)

    assert b" " in download.get(url, seconds=patient(5), size=len(answer)).body


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n", "status 302"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "status 204"),
        (HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b" " * 1_000_000), "encoding 'gzip'"),
        (HEAD + b"\r\n" + b"[" * 200_000, "nested too deeply"),
        (HEAD + b"\r\n" + b"1" * 200_000, "digits"),
        (b"SSH-2.0-OpenSSH\r\n", "SSH"),
        (b"", "without response"),
    ],
    ids=["moved", "empty", "compressed", "deep", "number", "ssh", "nothing"],
)
def test_odd_answer_is_cannot_tell(serve: Any, answer: bytes, said: str) -> None:
    """
    Other places are not asked, nothing is unpacked, and what is no answer is none.
    """
    server = serve([answer])
    with pytest.raises(IdentityError, match=said):
        verifier(f"http://127.0.0.1:{server.port}/").check(token(encoded(b"x")))

    assert len(server.requests) == 1


def test_process_without_threads_left_is_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where no thread can be started nothing can be fetched: as any other failure to.
    """
    with monkeypatch.context() as patch:

        def start(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(IdentityError, match="can't start new thread"):
            verifier("http://127.0.0.1:1/").check(token(encoded(b"x")))


def test_names_that_are_not_found_in_time_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A resolver that doesn't answer, or many addresses of which none does, hold nobody beyond the limit.
    """
    answered = threading.Event()

    def resolve(*_: Any, **__: Any) -> Any:
        answered.wait(patient(20))
        raise OSError("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    start = time.monotonic()
    try:
        with pytest.raises(TimeoutError, match=r"within 0\.1 s"):
            download.get("http://certs.test/", seconds=0.1, size=LIMIT)
        assert time.monotonic() - start < patient(2)
    finally:
        answered.set()
        for thread in downloading():
            thread.join(patient(5))


def test_metadata_server_has_the_same_limits(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A provider's page that answers for any name, slowly or without end, has no region.
    """
    monkeypatch.setattr("gcp_oncetask.services.identity._METADATA_TIMEOUT", 0.2)
    for pieces, pause in (([HEAD], 0.02), ([HEAD + b"Metadata-Flavor: Google\r\n\r\n"], 0.0)):
        server = serve(itertools.chain(pieces, itertools.repeat(b"1" if pause else b"1" * 65_536)), pause)
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.port}")
        assert default_region() is None
        assert server.gone.wait(patient(2))
