"""
A port: gRPC and HTTP/1.1 on one loopback port, in one thread.
"""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from google.cloud.firestore_v1.types import Document, GetDocumentRequest
from google.protobuf import empty_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from grpclib.client import Channel, UnaryStreamMethod
from grpclib.config import Configuration

from gcp_emulator.clock import VirtualClock
from gcp_emulator.faults import Faults
from gcp_emulator.firestore import FirestoreServer
from gcp_emulator.port import Port
from gcp_emulator.rest import Rest, Route
from gcp_emulator.rpc import Method, RpcError, Service
from tests.support.patience import patient

NAME = "projects/p/databases/(default)/documents/things/a"


def service(run: Any, **more: Any) -> Service:
    return Service("test.Things", {"Get": Method(run, empty_pb2.Empty, Document.pb(), **more)}, Faults())


def call(address: str, path: str = "/test.Things/Get", request: bytes = b"", **options: Any) -> Any:
    channel = grpc.insecure_channel(
        address, options=[("grpc.max_send_message_length", -1), *options.pop("options", ())]
    )
    with channel:
        return channel.unary_unary(path)(request, timeout=patient(30), **options)


def refusal(address: str, *args: Any, **options: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call(address, *args, **options)
    return caught.value


@pytest.fixture
def serve() -> Iterator[Any]:
    ports = []

    def start(*services: Service, **more: Any) -> str:
        port = Port(services, **more)
        ports.append(port)
        return port.start()

    yield start
    for port in ports:
        port.stop()


def test_in_process_loads_no_protocols():
    """A process that opens no port loads none of its libraries."""
    program = (
        "import sys; from gcp_emulator.testing import InProcessCloud; from gcp_emulator.firestore import FirestoreServer;"
        "from gcp_emulator.tasks import TasksServer; from gcp_emulator.logging import LoggingServer; FirestoreServer();"
        # Google's own clients load aiohttp's client where it is installed.
        "print(sorted({'grpclib', 'h2', 'aiohttp.web'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class TestRefusals:
    def test_unknown_service_and_method_are_named(self, serve):
        """Each with a sentence, and UNIMPLEMENTED."""
        address = serve(service(lambda _: Document.pb()(name="a")))
        error = refusal(address, "/other.Service/Get")
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED
        assert error.details() == "This local server has no service other.Service; it serves test.Things."
        error = refusal(address, "/test.Things/Put")
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED
        assert error.details() == "test.Things/Put is not implemented by this local server."

    def test_details_travel(self, serve):
        """A refusal's text in any language, and its details as Google's clients read them."""

        def run(_: Any) -> Any:
            raise RpcError(grpc.StatusCode.ABORTED, "50 % für 再", [error_details_pb2.ErrorInfo(reason="WHY")])

        error = refusal(serve(service(run)))
        assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, "50 % für 再")
        status = rpc_status.from_call(error)
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert info.reason == "WHY"

    def test_internal_error_is_told_and_printed(self, serve, capfd):
        """INTERNAL with a sentence; the traceback is on the terminal, and the next call is answered."""

        def run(request: Any) -> Any:
            raise KeyError("lost")

        address = serve(service(run))
        error = refusal(address)
        assert error.code() == grpc.StatusCode.INTERNAL
        assert error.details() == (
            "An internal error of this local server, in test.Things/Get: KeyError: 'lost'. Its terminal shows more."
        )
        assert "Traceback" in (printed := capfd.readouterr().err)
        assert "KeyError: 'lost'" in printed
        assert refusal(address).code() == grpc.StatusCode.INTERNAL

    def test_request_that_is_no_message(self, serve):
        """Bytes that can't be read are refused."""
        error = refusal(serve(service(lambda _: Document.pb()())), request=b"\xff")
        assert error.code() == grpc.StatusCode.INTERNAL
        assert "The request is no google.protobuf.Empty" in error.details()

    def test_large_requests(self, serve):
        """Up to 16 MiB, packed or not."""
        method = Method(lambda request: Document.pb()(name=str(len(request.name))), Document.pb(), Document.pb())
        address = serve(Service("test.Things", {"Get": method}, Faults()))
        small, large = Document.pb()(name="x" * 15_000_000), Document.pb()(name="x" * 17_000_000)
        assert Document.pb().FromString(call(address, request=small.SerializeToString())).name == "15000000"
        assert refusal(address, request=large.SerializeToString()).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        packed = {"compression": grpc.Compression.Gzip}
        assert len(gzip.compress(small.SerializeToString())) < 100_000
        assert Document.pb().FromString(call(address, request=small.SerializeToString(), **packed)).name == "15000000"
        assert (
            refusal(address, request=large.SerializeToString(), **packed).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        )

    def test_large_answers(self, serve):
        """Larger than the window of the caller's connection, which is smaller than those of its two calls."""
        method = Method(
            lambda _: [Document.pb()(name="x" * 1_000_000)] * 3, empty_pb2.Empty, Document.pb(), stream=True
        )
        host, _, port = serve(Service("test.Things", {"Get": method}, Faults())).partition(":")

        async def read() -> list[int]:
            config = Configuration(http2_connection_window_size=2**16 - 1, http2_stream_window_size=2**24)
            async with Channel(host, int(port), config=config) as channel:
                get = UnaryStreamMethod(channel, "/test.Things/Get", empty_pb2.Empty, Document.pb())
                both = await asyncio.wait_for(asyncio.gather(*(get(empty_pb2.Empty()) for _ in range(2))), patient(10))
                return [len(answer.name) for each in both for answer in each]

        assert asyncio.run(read()) == [1_000_000] * 6


class TestHttp:
    def test_without_addresses_it_is_refused(self, serve):
        """404 with a sentence."""
        connection = http.client.HTTPConnection(serve(service(lambda _: Document.pb()())))
        connection.request("GET", "/v1/x")
        response = connection.getresponse()
        assert (response.status, response.read()) == (404, b"This port answers gRPC, and no HTTP/1.1 requests.\n")
        connection.close()

    def test_addresses_answer_beside_grpc(self, serve):
        """Both protocols on one port; a connection stays open."""
        things = service(lambda _: Document.pb()(name="a"))
        rest = Rest([(things, [Route(verb, "/x", "Get", "*") for verb in ("POST", "PATCH", "PUT")])])
        address = serve(things, rest=rest)
        connection = http.client.HTTPConnection(address)
        for verb in ("POST", "PATCH", "PUT"):
            connection.request(verb, "/x", body=b"{}")
            assert json.loads(connection.getresponse().read()) == {"name": "a"}
            assert Document.pb().FromString(call(address)).name == "a"
        connection.close()

    def test_first_bytes_may_come_one_by_one(self, serve):
        """ "P" alone may become either protocol."""
        address = serve(service(lambda _: Document.pb()()))
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port)), timeout=patient(10)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in b"PRI /":
                connection.sendall(bytes([byte]))
                threading.Event().wait(0.05)
            assert connection.recv(100).startswith(b"HTTP/1.1 404")


class TestLife:
    def test_taken_port_is_refused(self, serve):
        """And no thread is left behind."""
        address = serve(service(lambda _: Document.pb()()))
        before = threading.active_count()
        with pytest.raises(OSError, match="in use"):
            Port([]).start(int(address.rpartition(":")[2]))
        assert threading.active_count() == before

    def test_restart_on_the_same_port(self, monkeypatch):
        """A client goes on with the same documents; one thread while it serves, none after it."""
        before = threading.active_count()
        server = FirestoreServer()
        port = int(server.start().rpartition(":")[2])
        assert threading.active_count() == before + 1
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", server.address)
        client = firestore.Client(project="p", credentials=AnonymousCredentials())
        client.document("things/a").set({"n": 1})
        for _ in range(3):
            server.stop()
            server.start(port)
            assert client.document("things/a").get(timeout=patient(30)).to_dict() == {"n": 1}
        client.close()
        server.stop()
        assert threading.active_count() <= before

    def test_running_calls_have_their_grace(self):
        """A call that ends within it is answered, one that does not is UNAVAILABLE."""
        faults = Faults()
        port = Port(
            [Service("test.Things", {"Get": Method(lambda _: Document.pb()(), empty_pb2.Empty, Document.pb())}, faults)]
        )
        for delay, code in ((0.3, None), (60.0, grpc.StatusCode.UNAVAILABLE)):
            faults.fail("Get", code=None, delay=delay)
            with grpc.insecure_channel(port.start()) as channel:
                running = channel.unary_unary("/test.Things/Get").future(b"", timeout=patient(60))
                until_counted(port, "Get")
                port.stop(grace=1.0)
                error = running.exception(timeout=patient(10))
                assert (None if error is None else error.code()) == code
            port.services[0].counts.clear()


def until_counted(port: Port, name: str, count: int = 1) -> None:
    """
    Wait until *count* calls of *name* have begun.
    """
    step = threading.Event()
    for _ in range(round(patient(10) * 100)):
        if port.services[0].counts[name] >= count:
            return
        step.wait(0.01)
    raise AssertionError(f"{port.services[0].counts[name]} of {count} calls have begun")


def test_caller_that_leaves_disturbs_no_other(serve):
    """A deadline, and a channel that is closed, in the midst of a call."""
    faults = Faults()
    method = Method(lambda _: Document.pb()(name="a"), empty_pb2.Empty, Document.pb())
    address = serve(Service("test.Things", {"Get": method}, faults))
    faults.fail("Get", code=None, delay=0.3, times=2)
    with grpc.insecure_channel(address) as channel:
        get = channel.unary_unary("/test.Things/Get")
        with pytest.raises(grpc.RpcError) as caught:
            get(b"", timeout=0.1)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        left = get.future(b"")
        left.cancel()
        assert Document.pb().FromString(get(b"", timeout=patient(10))).name == "a"
    assert Document.pb().FromString(call(address)).name == "a"


def test_hundreds_of_calls_of_one_channel():
    """HTTP/2's usual hundred streams of a connection are no limit here; no call ends while time stands still."""
    clock = VirtualClock()
    faults = Faults()
    faults.fail("Get", code=None, delay=60.0, times=None)
    method = Method(lambda _: Document.pb()(name="a"), empty_pb2.Empty, Document.pb())
    port = Port([Service("test.Things", {"Get": method}, faults, clock)])
    with grpc.insecure_channel(port.start()) as channel:
        get = channel.unary_unary("/test.Things/Get")
        running = [get.future(b"", timeout=patient(60)) for _ in range(300)]
        until_counted(port, "Get", 300)
        assert not any(each.done() for each in running)
        clock.advance(60)
        assert {each.result() for each in running} == {Document.pb()(name="a").SerializeToString()}
    port.stop()


def test_get_document_over_a_port(serve):
    """The stub as Google's clients generate it."""
    server = FirestoreServer()
    address = serve(server.service)
    request = GetDocumentRequest.pb()(name=NAME).SerializeToString()
    error = refusal(address, "/google.firestore.v1.Firestore/GetDocument", request)
    assert error.code() == grpc.StatusCode.NOT_FOUND
