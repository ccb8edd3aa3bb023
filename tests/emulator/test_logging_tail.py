from __future__ import annotations

import queue
import threading
import time

import grpc
import pytest
from google.api_core import exceptions
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
from google.cloud.logging_v2.services.logging_service_v2.transports import LoggingServiceV2GrpcTransport
from google.cloud.logging_v2.types import TailLogEntriesRequest

from gcp_emulator.clock import VirtualClock, datetime_of
from gcp_emulator.faults import Faults
from gcp_emulator.logging import LoggingServer
from tests.support.patience import patient, until

PROJECT = "projects/p"
LOG = "projects/p/logs/orders"


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def server(clock):
    server = LoggingServer(clock, Faults())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(server):
    with grpc.insecure_channel(server.address) as channel:
        yield LoggingServiceV2Client(transport=LoggingServiceV2GrpcTransport(channel=channel))


class Tail:
    """A call of TailLogEntries whose answers are read in a thread of the test."""

    def __init__(self, client, server, **request):
        self._server = server
        self._requests = queue.Queue()
        self._texts = queue.Queue()
        self.error = None
        self.ended = threading.Event()
        before = watchers(server)
        self.stream = None
        self._client = client
        self.ask(**request)
        threading.Thread(target=self._read, daemon=True).start()
        until(lambda: watchers(server) == before + 1 or self.ended.is_set())

    def ask(self, **request):
        self._requests.put(TailLogEntriesRequest(resource_names=[PROJECT], **request))

    def _read(self):
        try:
            # The client waits for the first answer in here.
            self.stream = self._client.tail_log_entries(requests=iter(self._requests.get, None), retry=None)
            for response in self.stream:
                for entry in response.entries:
                    self._texts.put(entry.text_payload)
        except exceptions.GoogleAPICallError as error:
            self.error = error
        self.ended.set()

    def next(self):
        return self._texts.get(timeout=patient(10))

    def empty(self):
        return self._texts.empty()

    def hang_up(self):
        self._requests.put(None)
        if self.stream is not None:
            self.stream.cancel()


def watchers(server):
    return len(server._store._observers)


def write(client, text, log=LOG, **fields):
    client.write_log_entries(log_name=log, resource={"type": "global"}, entries=[{"text_payload": text, **fields}])


def test_tail_shows_new_entries_that_match(client, server):
    """Entries from now on come, those of the project and filter only."""
    write(client, "before")
    tail = Tail(client, server, filter='textPayload:"yes"', buffer_window={"seconds": 0})
    for text in ("yes 1", "no", "yes 2"):
        write(client, text)
    write(client, "yes elsewhere", log="projects/q/logs/orders")
    write(client, "yes 3")
    assert [tail.next() for _ in range(3)] == ["yes 1", "yes 2", "yes 3"]
    assert tail.empty()
    tail.hang_up()
    until(lambda: watchers(server) == 0)


def test_tail_holds_entries_back_and_puts_them_in_order(client, server, clock):
    """For two seconds, if no window is asked for, a late entry finds its place."""
    tail = Tail(client, server)
    now = clock.micros()
    for text, seconds in (("second", 0), ("first", -5), ("third", 3)):
        write(client, text, timestamp=datetime_of(now + seconds * 1_000_000))
    clock.advance(1.9)
    write(client, "later")
    assert tail.empty()
    clock.advance(0.1)
    assert [tail.next() for _ in range(3)] == ["first", "second", "third"]
    assert tail.empty()
    clock.advance(1.9)
    assert tail.next() == "later"
    tail.hang_up()


def test_tail_waits_until_an_entry_can_be_listed(client, server, clock):
    """An entry that the server delays is not in the tail before it can be listed."""
    server.delay = 30
    tail = Tail(client, server, buffer_window={"seconds": 1})
    write(client, "slow")
    server.delay = 0
    clock.advance(28)
    write(client, "quick")
    clock.advance(1)
    assert tail.next() == "quick"
    clock.advance(1)
    assert tail.next() == "slow"
    tail.hang_up()


def test_tail_changes_its_filter(client, server):
    """A later request on the stream replaces the earlier one."""
    tail = Tail(client, server, filter="severity>=ERROR", buffer_window={"seconds": 0})
    write(client, "error", severity="ERROR")
    assert tail.next() == "error"
    tail.ask(filter="severity=INFO", buffer_window={"seconds": 0})
    # Nothing tells when a request has arrived.
    deadline = time.monotonic() + patient(10)
    while tail.empty():
        assert time.monotonic() < deadline
        write(client, "info", severity="INFO")
        time.sleep(0.01)
    assert tail.next() == "info"
    tail.hang_up()


def test_tail_by_the_system_clock(server):
    """With a real clock the window is that long."""
    real = LoggingServer()
    real.start()
    try:
        with grpc.insecure_channel(real.address) as channel:
            client = LoggingServiceV2Client(transport=LoggingServiceV2GrpcTransport(channel=channel))
            tail = Tail(client, real, buffer_window={"nanos": 200_000_000})
            begun = time.monotonic()
            write(client, "x")
            assert tail.next() == "x"
            assert time.monotonic() - begun >= 0.2
            tail.hang_up()
    finally:
        real.stop()


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"filter": "sevirity=ERROR"}, "Did you mean severity"),
        ({"buffer_window": {"seconds": 61}}, "buffer_window is 61 s; it may be from 0 to 60 s"),
    ],
)
def test_tail_refuses_bad_requests(client, server, request_, says):
    """A filter or window that is none ends the stream with a sentence."""
    tail = Tail(client, server, **request_)
    assert tail.ended.wait(patient(10))
    assert isinstance(tail.error, exceptions.InvalidArgument)
    assert says in str(tail.error)
    assert watchers(server) == 0


def test_tail_ends_when_the_server_stops(client, server):
    """A server that stops ends its tails."""
    tail = Tail(client, server)
    server.stop()
    assert tail.ended.wait(patient(10))
    assert isinstance(tail.error, exceptions.ServiceUnavailable)


def test_many_tails_hold_no_thread(server):
    """Two hundred tails get each entry; the server has the thread of its port and no other."""
    path = "/google.logging.v2.LoggingServiceV2/TailLogEntries"
    asked = TailLogEntriesRequest(resource_names=[PROJECT], buffer_window={"seconds": 0})
    with grpc.insecure_channel(server.address) as channel:
        client = LoggingServiceV2Client(transport=LoggingServiceV2GrpcTransport(channel=channel))
        write(client, "warm")
        before = {one for one in threading.enumerate() if one.name.startswith("gcp-emulator")}
        tail = channel.stream_stream(path, TailLogEntriesRequest.serialize)
        open_ = threading.Event()

        def requests():
            yield asked
            open_.wait(patient(60))

        streams = [tail(requests()) for _ in range(200)]
        until(lambda: watchers(server) == 200)
        assert {one for one in threading.enumerate() if one.name.startswith("gcp-emulator")} <= before
        write(client, "for all")
        assert all(b"for all" in next(stream) for stream in streams)
        open_.set()
        for stream in streams:
            stream.cancel()
    until(lambda: watchers(server) == 0)
