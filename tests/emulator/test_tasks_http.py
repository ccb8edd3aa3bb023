"""
Deliveries in the background, over real HTTP: connections, limits, faults, identity tokens.
"""

from __future__ import annotations

import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import google.auth.transport.urllib3
import grpc
import pytest
import urllib3
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport
from google.oauth2 import id_token

from gcp_emulator.clock import SystemClock
from gcp_emulator.oidc import OidcIssuer
from gcp_emulator.tasks import Dispatch, HttpTransport, TasksServer
from tests.support.patience import patient

QUEUE = "projects/p/locations/l/queues/q"
EMAIL = "caller@p.iam.gserviceaccount.com"


class Worker:
    """
    A handler behind a real port; what it does with a request is a function that returns the status.
    """

    def __init__(self):
        self.respond = lambda request: 200
        self.received = []
        self.connections = set()
        self.lock = threading.Lock()
        worker = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = SimpleNamespace(path=self.path, headers=self.headers, body=body)
                with worker.lock:
                    worker.received.append(request)
                    worker.connections.add(self.client_address)
                status = worker.respond(request)
                try:
                    self.send_response(status)
                    if status == 302:
                        self.send_header("Location", "/elsewhere")
                    self.send_header("Content-Length", "2")
                    self.end_headers()
                    self.wfile.write(b"ok")
                except ConnectionError:
                    self.close_connection = True

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def header(self, name):
        return [request.headers.get(name) for request in self.received]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    worker.stop()


@pytest.fixture
def issuer():
    issuer = OidcIssuer(SystemClock())
    issuer.start()
    yield issuer
    issuer.stop()


@pytest.fixture
def server(issuer):
    server = TasksServer(issuer=issuer)
    server.start()
    server.create_queue(QUEUE, min_backoff=timedelta(seconds=0.01), max_backoff=timedelta(seconds=0.02))
    yield server
    server.stop()


@pytest.fixture
def client(server):
    with grpc.insecure_channel(server.address) as channel:
        yield tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))


def create(client, url, *, queue=QUEUE, name="", at=None, **http):
    task = tasks_v2.Task(http_request={"url": url, **http}, schedule_time=at)
    if name:
        task.name = f"{queue}/tasks/{name}"
    return client.create_task(parent=queue, task=task).name


def settled(server, count, timeout=10.0):
    """
    Wait until *count* dispatches have ended; retries wait for their time, so idle alone won't do.
    """
    deadline = time.monotonic() + timeout
    while len(server.dispatches) < count:
        assert time.monotonic() < deadline, f"{len(server.dispatches)} of {count} dispatches ended"
        time.sleep(0.005)
    assert server.idle(timeout)
    return server.dispatches


def test_task_is_pushed_over_http(server, client, worker):
    """
    A task arrives at a real port with its body and the service's headers, and is gone afterwards.
    """
    create(client, worker.url + "/a?b=c", name="t", body=b"hello", headers={"X-Mine": "1"})
    assert server.idle(patient(30))
    [request] = worker.received
    assert (request.path, request.body, request.headers["X-Mine"]) == ("/a?b=c", b"hello", "1")
    assert request.headers["User-Agent"] == "Google-Cloud-Tasks"
    assert request.headers["X-CloudTasks-TaskName"] == "t"
    assert "Content-Type" not in request.headers
    assert "Authorization" not in request.headers
    assert server.tasks() == []
    [record] = server.dispatches
    assert (record.status, record.body, record.url) == (200, b"ok", worker.url + "/a?b=c")


def test_connections_are_kept(server, client, worker):
    """
    Pushes one after the other use one connection.
    """
    for _ in range(5):
        create(client, worker.url)
        assert server.idle(patient(30))
    assert len(worker.received) == 5
    assert len(worker.connections) == 1


def test_redirect_is_a_failed_attempt(server, client, worker):
    """
    302 with a Location is not followed but retried.
    """
    statuses = iter([302, 200])
    worker.respond = lambda _: next(statuses)
    create(client, worker.url + "/here")
    settled(server, 2)
    assert [request.path for request in worker.received] == ["/here", "/here"]
    assert worker.header("X-CloudTasks-TaskPreviousResponse") == [None, "302"]


def test_task_waits_for_its_time(server, client, worker):
    """
    A scheduled task runs at its time, not before; idle does not wait for it.
    """
    at = time.time() + patient(1)
    create(client, worker.url, at=datetime.fromtimestamp(at, UTC))
    assert server.idle(1)
    assert worker.received == []
    [record] = settled(server, 1)
    assert record.started / 1e6 >= at


def test_refused_connection_is_retried(server, client):
    """
    A handler that is down costs attempts without an answer; once it is up the task arrives.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    create(client, f"http://127.0.0.1:{port}/")
    records = settled(server, 2)
    assert {record.status for record in records} == {None}
    assert b"refused" in records[0].body
    assert server.tasks()[0].response_count == 0


def test_transport_stops_listening_at_the_deadline(worker):
    """
    HttpTransport gives up when the deadline has passed and says that it timed out.
    """
    release = threading.Event()

    def hang(_):
        release.wait(patient(30))
        return 200

    worker.respond = hang
    transport = HttpTransport()
    answer = transport(Dispatch("POST", worker.url, {}, b"", 0.1))
    release.set()
    transport.close()
    assert (answer.status, answer.timed_out) == (None, True)


@pytest.mark.parametrize(("limits", "threads"), [({"max_concurrent_dispatches": 3}, 64), ({}, 3)])
def test_concurrency_limit_is_kept_and_reached(worker, limits, threads):
    """
    Of nine tasks exactly three run at once, be it by the queue's limit or by the number of threads of a transport that
    needs some.
    """
    transport = None if limits else HttpTransport().__call__
    server = TasksServer(max_dispatch_threads=threads, transport=transport)
    server.start()
    release = threading.Event()

    def hang(_):
        release.wait(patient(30))
        return 200

    worker.respond = hang
    try:
        server.create_queue(QUEUE, **limits)
        request = tasks_v2.CreateTaskRequest.pb()(parent=QUEUE)
        request.task.http_request.url = worker.url
        for _ in range(9):
            server.service.call("CreateTask", request)
        assert not server.idle(0.3)
        assert len(worker.received) == 3
        release.set()
        assert server.idle(patient(30))
        assert len(worker.received) == 9
    finally:
        release.set()
        server.stop()


def test_duplicate_runs_beside_its_original(server, client, worker):
    """
    In the background a duplicate is delivered while the original still runs.
    """
    together = threading.Barrier(2)

    def work(_):
        together.wait(patient(30))
        return 200

    worker.respond = work
    server.faults.fail("duplicate")
    create(client, worker.url)
    assert server.idle(patient(30))
    assert sorted(record.fault for record in server.dispatches) == ["", "duplicate"]
    assert [record.status for record in server.dispatches] == [200, 200]
    assert worker.header("X-CloudTasks-TaskRetryCount") == ["0", "0"]


def test_lost_answer_leaves_the_handler_running(server, client, worker):
    """
    When the connection is dropped the whole request has arrived; the handler runs on, and the queue tries again.
    """
    finished = []

    def work(request):
        finished.append(len(request.body))
        return 200

    worker.respond = work
    server.faults.fail("lose_answer")
    create(client, worker.url, body=b"x" * 300_000)
    records = settled(server, 2)
    assert [(record.status, record.fault) for record in records] == [(None, "lose_answer"), (200, "")]
    deadline = time.monotonic() + patient(30)
    while len(finished) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert finished == [300_000, 300_000]


def test_delayed_delivery_is_overtaken(server, client, worker):
    """
    A delay fault lets a later task pass; idle waits for the delayed one too.
    """
    server.faults.deliveries.delay_seconds = 0.4
    server.faults.fail("delay")
    create(client, worker.url + "/first")
    create(client, worker.url + "/second")
    assert server.idle(patient(30))
    assert [request.path for request in worker.received] == ["/second", "/first"]


def test_paused_queue_holds_back_and_is_idle(server, client, worker):
    """
    A paused queue is not waited for; RunTask goes through; resuming delivers the rest.
    """
    client.pause_queue(name=QUEUE)
    create(client, worker.url + "/a")
    name = create(client, worker.url + "/b")
    assert server.idle(1)
    assert worker.received == []
    client.run_task(name=name)
    assert server.idle(patient(30))
    assert [request.path for request in worker.received] == ["/b"]
    client.resume_queue(name=QUEUE)
    assert server.idle(patient(30))
    assert [request.path for request in worker.received] == ["/b", "/a"]


def test_idle_gives_up(server, client, worker):
    """
    idle answers False when a handler is still running at the time-out.
    """
    release = threading.Event()

    def hang(_):
        release.wait(patient(30))
        return 200

    worker.respond = hang
    create(client, worker.url)
    assert not server.idle(0.1)
    release.set()
    assert server.idle(patient(30))


def test_stop_is_quick_although_a_handler_hangs(server, client, worker):
    """
    stop does not wait for a handler that hangs, starts nothing more, and start goes on where it stopped.
    """
    entered, release = threading.Event(), threading.Event()

    def hang(_):
        entered.set()
        release.wait()
        return 200

    worker.respond = hang
    create(client, worker.url)
    assert entered.wait(patient(30))
    server.stop()
    release.set()
    assert server.idle(patient(30))
    worker.respond = lambda _: 200
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        again = tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
        create(again, worker.url)
        abandoned, *others = settled(server, 3, patient(30))
    assert (abandoned.status, {record.status for record in others}) == (None, {200})
    assert len(others) == 2


def test_oidc_token_is_minted_for_each_dispatch(server, client, worker, issuer):
    """
    Each dispatch brings a token that google-auth verifies, in place of the task's own Authorization header; after a
    rotation it is signed with the new key, also for a late copy.
    """
    url = worker.url + "/t?x=1"
    token = {"service_account_email": EMAIL}
    create(client, url, oidc_token=token, headers={"authorization": "Basic mine"})
    assert server.idle(patient(30))
    issuer.rotate(keep_old=False)
    create(client, url, oidc_token={**token, "audience": "https://orders.test"})
    assert server.idle(patient(30))
    assert server.duplicate_last() == 200
    tokens = [value.removeprefix("Bearer ") for value in worker.header("Authorization")]
    assert [request.headers.get_all("Authorization") for request in worker.received] == [
        [f"Bearer {value}"] for value in tokens
    ]
    with urllib3.PoolManager() as pool:
        request = google.auth.transport.urllib3.Request(pool)
        for value in tokens[1:]:
            claims = id_token.verify_token(value, request, "https://orders.test", issuer.certs_url)
            assert (claims["email"], claims["email_verified"]) == (EMAIL, True)
        with pytest.raises(ValueError, match="key id"):
            id_token.verify_token(tokens[0], request, url, issuer.certs_url)


def test_default_audience_is_the_url(server, client, worker, issuer):
    """
    Without an audience the token is for the task's URL with its query.
    """
    url = worker.url + "/t?x=1"
    create(client, url, oidc_token={"service_account_email": EMAIL})
    assert server.idle(patient(30))
    [value] = worker.header("Authorization")
    with urllib3.PoolManager() as pool:
        request = google.auth.transport.urllib3.Request(pool)
        claims = id_token.verify_token(value.removeprefix("Bearer "), request, url, issuer.certs_url)
    assert claims["aud"] == url


def test_backlog_is_delivered_once_each(server, client, worker):
    """
    A backlog of 400 tasks is delivered, each of them once, to a server that lets only five callers wait.
    """
    client.pause_queue(name=QUEUE)
    request = tasks_v2.CreateTaskRequest.pb()(parent=QUEUE)
    request.task.http_request.url = worker.url
    for number in range(400):
        request.task.name = f"{QUEUE}/tasks/t{number}"
        server.service.call("CreateTask", request)
    client.resume_queue(name=QUEUE)
    assert server.idle(patient(60))
    assert sorted(worker.header("X-CloudTasks-TaskName")) == sorted(f"t{number}" for number in range(400))
