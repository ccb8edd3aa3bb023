"""
Deliveries over HTTP hold no threads: many at once, queues that hang, handlers that can't be reached.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from datetime import timedelta

import pytest
from google.cloud import tasks_v2

from gcp_emulator.tasks import Dispatch, HttpTransport, TasksServer
from gcp_emulator.tasks.sender import Sender
from gcp_emulator.tasks.transport import quoted
from tests.support.patience import patient

HANGING = "projects/p/locations/l/queues/hanging"
QUEUE = "projects/p/locations/l/queues/q"


class Hanging:
    """
    A handler that takes requests without a thread for each, and answers 200 to all once it is released; a path of ``/now``
    is answered at once.
    """

    def __init__(self):
        self.heads = []
        self.bodies = []
        self.lock = threading.Lock()
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self.thread.start()
        started.wait()
        self.url = f"http://127.0.0.1:{self.port}"

    def _run(self, started):
        self.loop.run_until_complete(self._serve(started))
        self.loop.close()

    async def _serve(self, started):
        self.released, self.ended = asyncio.Event(), asyncio.Event()
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0, backlog=2000)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self.ended.wait()
        server.close()
        talks = asyncio.all_tasks() - {asyncio.current_task()}
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)

    async def _talk(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    (
                        int(line.split(":")[1])
                        for line in head.splitlines()
                        if line.lower().startswith("content-length:")
                    ),
                    0,
                )
                body = await reader.readexactly(length)
                with self.lock:
                    self.heads.append(head)
                    self.bodies.append(body)
                if not head.startswith("POST /now"):
                    await self.released.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    def release(self):
        self.loop.call_soon_threadsafe(self.released.set)

    def stop(self):
        self.release()
        self.loop.call_soon_threadsafe(self.ended.set)
        self.thread.join()


@pytest.fixture
def handler():
    handler = Hanging()
    yield handler
    handler.stop()


@pytest.fixture
def serve():
    """
    Servers of this test.
    """
    servers = []

    def start(**options):
        server = TasksServer(**options)
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def sender():
    sender = Sender()
    sender.start()
    yield sender
    sender.stop()


def create(server, url, queue=QUEUE, **http):
    request = tasks_v2.CreateTaskRequest.pb()(parent=queue)
    request.task.http_request.url = url
    for name, value in http.items():
        setattr(request.task.http_request, name, value)
    return server.service.call("CreateTask", request).name


def until(condition, timeout=30):
    deadline = time.monotonic() + patient(timeout)
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def send(sender, dispatch):
    """
    The answer to one dispatch.
    """
    found = []
    done = threading.Event()

    async def run():
        found.append(await sender.send(dispatch))
        done.set()

    sender.submit(run)
    assert done.wait(patient(30))
    return found[0]


def test_a_thousand_deliveries_hold_no_threads(serve, handler):
    """
    A thousand tasks are with a handler that does not answer; no thread more runs than with the first of them. Then each
    gets its answer.
    """
    server = serve(rate_limits=False)
    server.create_queue(QUEUE, max_concurrent_dispatches=2000)
    create(server, handler.url)
    until(lambda: len(handler.heads) == 1)
    before = threading.active_count()
    for _ in range(999):
        create(server, handler.url)
    until(lambda: len(handler.heads) == 1000)
    assert threading.active_count() <= before
    assert server.dispatches == []
    handler.release()
    assert server.idle(patient(30))
    assert {record.status for record in server.dispatches} == {200}
    assert len(server.dispatches) == 1000
    assert server.tasks() == []


def test_a_queue_that_hangs_holds_up_no_other(serve, handler):
    """
    While three hundred tasks of one queue hang, those of another queue are delivered.
    """
    server = serve(rate_limits=False)
    server.create_queue(HANGING)
    server.create_queue(QUEUE)
    for _ in range(300):
        create(server, handler.url, HANGING)
    until(lambda: len(handler.heads) == 300)
    for _ in range(50):
        create(server, f"{handler.url}/now")
    until(lambda: len(server.dispatches) == 50)
    assert {record.queue for record in server.dispatches} == {QUEUE}


def test_concurrent_dispatches_of_a_queue_are_limited(serve, handler):
    """
    A queue sends no more than ``max_concurrent_dispatches`` at once, also where nothing else limits it.
    """
    server = serve(rate_limits=False)
    server.create_queue(QUEUE, max_concurrent_dispatches=7)
    for _ in range(20):
        create(server, handler.url)
    assert not server.idle(0.3)
    assert len(handler.heads) == 7
    handler.release()
    assert server.idle(patient(30))
    assert len(handler.heads) == 20


def test_the_deadline_ends_a_delivery(sender, handler):
    """
    Without an answer within the deadline, the answer says so.
    """
    answer = send(sender, Dispatch("POST", handler.url, {}, b"", 0.1))
    assert (answer.status, answer.timed_out) == (None, True)
    assert answer.body == f"127.0.0.1:{handler.port} did not answer within the deadline of 0.1 s.".encode()


def test_a_request_goes_out_as_it_was_given(sender, handler):
    """
    Nothing is added to the headers but Host and Content-Length, and an escape in the path stays as it is.
    """
    url = f"{handler.url}/now?a=%7e%zz&b=\u00e9 c"
    answer = send(sender, Dispatch("POST", url, {"X-Mixed": "1"}, b"body", 30))
    assert answer.status == 200
    first, *lines = handler.heads[0].strip().splitlines()
    assert first == "POST /now?a=%7e%zz&b=%C3%A9%20c HTTP/1.1"
    assert sorted(lines) == [f"Content-Length: {len(b'body')}", f"Host: 127.0.0.1:{handler.port}", "X-Mixed: 1"]
    assert handler.bodies == [b"body"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://b\u00fccher.test:81/\u00e9?q=\u00e9", "http://xn--bcher-kva.test:81/%C3%A9?q=%C3%A9"),
        ("http://x.test/a b%20%zz", "http://x.test/a%20b%20%zz"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
    ],
)
def test_an_address_is_quoted_where_it_must_be(url, expected):
    """
    A name with letters beyond ASCII is looked up by its ASCII form, and no character is escaped twice.
    """
    assert quoted(url) == expected


def test_a_lost_answer_is_not_waited_for(serve, handler):
    """
    With a lost answer the whole request reaches the handler, and the queue tries again at once.
    """
    server = serve()
    server.create_queue(QUEUE, min_backoff=timedelta(seconds=0.01), max_backoff=timedelta(seconds=0.02))
    server.faults.fail("lose_answer", times=1)
    create(server, f"{handler.url}/hanging", body=b"whole")
    until(lambda: len(handler.bodies) == 2)
    assert handler.bodies == [b"whole", b"whole"]
    [lost] = server.dispatches
    assert (lost.fault, lost.status) == ("lose_answer", None)


def unreachable():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def refuse(dispatch, sender):
    """
    The answer of both ways to send: the one of the background and the one that holds its caller.
    """
    waiting, held = send(sender, dispatch), HttpTransport()(dispatch)
    assert waiting == held
    return waiting


def test_a_refused_connection_is_told_in_a_sentence(sender):
    """
    The address that refuses is in the sentence.
    """
    port = unreachable()
    answer = refuse(Dispatch("POST", f"http://127.0.0.1:{port}/x", {}, b"", 30), sender)
    assert answer.body == f"127.0.0.1:{port} refused the connection; no server listens there.".encode()
    assert (answer.status, answer.timed_out) == (None, False)


def test_an_unknown_host_is_told_in_a_sentence(sender):
    """
    The host that has no address is in the sentence.
    """
    answer = refuse(Dispatch("POST", "http://nowhere.invalid/x", {}, b"", 30), sender)
    assert answer.body == b"The host of nowhere.invalid is unknown."


def test_a_connection_that_ends_is_told_in_a_sentence(sender):
    """
    A server that closes the connection without an answer is told from one that refuses it.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def hang_up():
            for _ in range(2):
                connection, _ = listening.accept()
                connection.recv(4096)
                connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        answer = refuse(Dispatch("POST", f"http://127.0.0.1:{port}/x", {}, b"", 30), sender)
        thread.join()
    assert answer.body == f"127.0.0.1:{port} closed the connection without an answer.".encode()


def test_attempts_without_an_answer_say_why(serve):
    """
    The task shows UNAVAILABLE with the sentence, as its last attempt's status.
    """
    port = unreachable()
    server = serve()
    server.create_queue(QUEUE, min_backoff=timedelta(seconds=0.2))
    create(server, f"http://127.0.0.1:{port}/")
    until(lambda: server.dispatches)
    status = server.tasks()[0].last_attempt.response_status
    assert (status.code, status.message) == (
        14,
        f"UNAVAILABLE(14): 127.0.0.1:{port} refused the connection; no server listens there.",
    )


def test_stop_settles_what_runs(serve, handler):
    """
    A delivery that is abandoned by ``stop`` is a failed attempt, and the next start tries again.
    """
    server = serve()
    server.create_queue(QUEUE, min_backoff=timedelta(seconds=0.01), max_backoff=timedelta(seconds=0.02))
    create(server, handler.url)
    until(lambda: handler.heads)
    server.stop()
    [record] = server.dispatches
    assert record.status is None
    assert record.body == b"the local server was stopped before the answer came"
    handler.release()
    server.start()
    until(lambda: len(server.dispatches) == 2)
    assert server.dispatches[1].status == 200
