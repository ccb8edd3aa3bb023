"""
Deliveries on a virtual clock, by hand, to a WSGI application: headers, retries, limits, faults. Nothing waits.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import grpc
import pytest
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport
from werkzeug.wrappers import Request, Response

from gcp_emulator.clock import EPOCH, VirtualClock
from gcp_emulator.faults import DeliveryFaults, Faults
from gcp_emulator.tasks import Dispatch, TasksServer, WsgiTransport

QUEUE = "projects/p/locations/l/queues/q"
OTHER = "projects/p/locations/l/queues/other"
ORIGIN = "https://orders.test"
START = datetime(2026, 1, 1, tzinfo=UTC)


class App:
    """
    A handler that answers from a list, then 200, and keeps what it received.
    """

    def __init__(self, clock):
        self.clock = clock
        self.answers = []
        self.received = []

    @Request.application
    def __call__(self, request):
        self.received.append(request)
        request.body = request.get_data()
        request.at = self.clock.micros()
        answer = self.answers.pop(0) if self.answers else 200
        return answer(request) if callable(answer) else Response("done", status=answer)

    @property
    def paths(self):
        return [request.path for request in self.received]

    def seconds(self):
        return [(request.at - micros(START)) / 1_000_000 for request in self.received]


def micros(instant):
    return (instant - EPOCH) // timedelta(microseconds=1)


@pytest.fixture
def clock():
    return VirtualClock(START)


@pytest.fixture
def app(clock):
    return App(clock)


@pytest.fixture
def serve(clock, app):
    servers = []

    def make(**kwargs):
        server = TasksServer(clock, transport=WsgiTransport({ORIGIN: app}), auto=False, **kwargs)
        server.start()
        server.create_queue(QUEUE)
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def server(serve):
    return serve()


@pytest.fixture
def client(server):
    with grpc.insecure_channel(server.address) as channel:
        yield tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))


def create(server, path="/", *, name="", queue=QUEUE, at=None, **http):
    """
    Create a task through the service's own function; at: seconds after the start.
    """
    task = tasks_v2.Task(name=f"{queue}/tasks/{name}" if name else "", http_request={"url": ORIGIN + path, **http})
    if at is not None:
        task.schedule_time = START + timedelta(seconds=at)
    request = tasks_v2.CreateTaskRequest.pb()(parent=queue, task=tasks_v2.Task.pb(task))
    return server.service.call("CreateTask", request).name


def drain(server, clock, most=200):
    """
    Run until nothing is scheduled, moving the clock to each due time.
    """
    for _ in range(most):
        server.run_due()
        due = server.next_due()
        if due is None:
            return
        clock.advance((due - clock.micros()) / 1_000_000)
    raise AssertionError(f"still not idle after {most} rounds")


def test_dispatch_carries_the_request_and_the_service_headers(server, app):
    """
    The first dispatch brings method, path, query, headers and body of the task with the recorded headers, and no
    Content-Type of its own.
    """
    headers = {"X-Mine": "1", "x-cloudtasks-taskretrycount": "99"}
    create(server, "/a%20b?x=1&y=%2F", name="t", http_method="PUT", body=b"\x00\xff", headers=headers)
    assert server.run_due() == 1
    request = app.received[0]
    assert (request.method, request.path, request.query_string) == ("PUT", "/a b", b"x=1&y=%2F")
    assert request.host == "orders.test"
    assert request.scheme == "https"
    assert request.body == b"\x00\xff"
    own = {name: value for name, value in request.headers if name.startswith("X-")}
    assert own == {
        "X-Mine": "1",
        "X-Cloudtasks-Queuename": "q",
        "X-Cloudtasks-Taskname": "t",
        "X-Cloudtasks-Taskretrycount": "0",
        "X-Cloudtasks-Taskexecutioncount": "0",
        "X-Cloudtasks-Tasketa": "1767225600.000000",
    }
    assert request.headers["User-Agent"] == "Google-Cloud-Tasks"
    assert "Content-Type" not in request.headers


def test_retry_headers_are_the_recorded_ones(server, app, clock):
    """
    Answers 503, 404, 429, 500, 302, 200 give the headers that were recorded from the service.
    """
    app.answers = [503, 404, 429, 500, 302, 200]
    create(server)
    drain(server, clock)
    names = ("RetryCount", "ExecutionCount", "PreviousResponse", "RetryReason")
    assert [tuple(r.headers.get(f"X-CloudTasks-Task{name}") for name in names) for r in app.received] == [
        ("0", "0", None, None),
        ("1", "0", "503", ""),
        ("2", "1", "404", ""),
        ("3", "2", "429", ""),
        ("4", "2", "500", ""),
        ("5", "3", "302", ""),
    ]
    assert server.tasks() == []


def test_deadline_is_a_failed_attempt_with_504(server, app, clock):
    """
    A handler that takes longer than the dispatch deadline by the clock counts as no answer, told as 504.
    """

    def slow(_):
        clock.advance(601)
        return Response("too late")

    app.answers = [slow]
    create(server)
    drain(server, clock)
    headers = app.received[1].headers
    assert headers["X-CloudTasks-TaskPreviousResponse"] == "504"
    assert headers["X-CloudTasks-TaskExecutionCount"] == "0"
    assert [(r.status, r.timed_out) for r in server.dispatches] == [(None, True), (200, False)]


def test_eta_is_the_schedule_time_with_fraction(server, app, clock):
    """
    TaskETA is when the attempt was scheduled, in seconds with six decimals, also for retries.
    """
    app.answers = [500]
    create(server, at=1.5)
    drain(server, clock)
    etas = [request.headers["X-CloudTasks-TaskETA"] for request in app.received]
    assert etas == ["1767225601.500000", "1767225601.600000"]


def test_retry_intervals_double_then_grow_linearly_then_stay(server, app, clock):
    """
    min 10 s, max 300 s, 3 doublings: the documented intervals 10, 20, 40, 80, 160, 240, 300, 300.
    """
    server.create_queue(QUEUE, min_backoff=timedelta(seconds=10), max_backoff=timedelta(seconds=300), max_doublings=3)
    app.answers = [500] * 8
    create(server)
    drain(server, clock)
    times = app.seconds()
    waits = [after - before for before, after in pairwise(times)]
    assert waits == [10, 20, 40, 80, 160, 240, 300, 300]


def test_attempts_are_limited(server, app, clock):
    """
    max_attempts counts the first attempt; the task is then gone and its name taken.
    """
    server.create_queue(QUEUE, max_attempts=3)
    app.answers = [500] * 10
    name = create(server, name="t")
    drain(server, clock)
    assert len(app.received) == 3
    assert server.tasks() == []
    with pytest.raises(Exception, match="existed too recently"):
        create(server, name=name.rpartition("/")[2])


def test_both_limits_must_be_passed(server, app, clock):
    """
    With a retry duration a task goes on past max_attempts until the duration is over too.
    """
    server.create_queue(
        QUEUE,
        max_attempts=2,
        max_retry_duration=timedelta(seconds=30),
        min_backoff=timedelta(seconds=10),
        max_backoff=timedelta(seconds=10),
    )
    app.answers = [500] * 10
    create(server)
    drain(server, clock)
    assert app.seconds() == [0, 10, 20, 30]


def test_many_attempts_outlast_the_duration(server, app, clock):
    """
    A retry duration that is over does not end a task before max_attempts.
    """
    server.create_queue(
        QUEUE,
        max_attempts=4,
        max_retry_duration=timedelta(seconds=5),
        min_backoff=timedelta(seconds=10),
        max_backoff=timedelta(seconds=10),
    )
    app.answers = [500] * 10
    create(server)
    drain(server, clock)
    assert app.seconds() == [0, 10, 20, 30]


def test_unlimited_attempts_end_with_the_retention(server, app, clock):
    """
    With both limits off a task is tried until it is 31 days old.
    """
    server.create_queue(QUEUE, max_attempts=-1, min_backoff=timedelta(days=3), max_backoff=timedelta(days=3))
    app.answers = [500] * 100
    create(server)
    drain(server, clock)
    assert app.seconds() == [day * 86400 for day in range(0, 31, 3)]


def test_failing_task_without_backoff_does_not_hold_the_clock(server, app):
    """
    With min_backoff 0 a failed task is not due again in the same instant.
    """
    server.create_queue(QUEUE, max_attempts=-1, min_backoff=timedelta(0), max_backoff=timedelta(0))
    app.answers = [500] * 10
    create(server)
    assert server.run_due() == 1


def test_tasks_run_in_order_of_due_time_then_creation(server, app, clock):
    """
    run_due takes the earliest due first, over all queues, and ties in order of creation.
    """
    server.create_queue(OTHER)
    create(server, "/late", at=2)
    create(server, "/first")
    create(server, "/second", queue=OTHER)
    create(server, "/early", at=1, queue=OTHER)
    assert server.next_due() == clock.micros()
    assert server.run_due() == 2
    assert app.paths == ["/first", "/second"]
    assert server.next_due() == micros(START) + 1_000_000
    clock.advance(5)
    server.run_due()
    assert app.paths[2:] == ["/early", "/late"]
    assert server.next_due() is None


def test_one_task_at_a_time(server, app):
    """
    run_next takes the one that is due first, and its copy; 0 when nothing is due.
    """
    create(server, "/first")
    create(server, "/second")
    create(server, "/late", at=2)
    assert server.run_next() == 1
    assert app.paths == ["/first"]
    server.faults.fail("duplicate", times=1)
    assert server.run_next() == 2
    assert server.run_next() == 0
    assert app.paths == ["/first", "/second", "/second"]


def test_tasks_created_by_a_handler_run_in_the_same_round(server, app):
    """
    run_due also delivers what handlers create meanwhile.
    """

    def chain(_):
        create(server, "/two")
        return Response("ok")

    app.answers = [chain]
    create(server, "/one")
    assert server.run_due() == 2
    assert app.paths == ["/one", "/two"]


def test_task_at_its_due_time_runs(server, app, clock):
    """
    A task is not due a microsecond early, and due at its time.
    """
    create(server, at=60)
    clock.advance(59.999999)
    assert server.run_due() == 0
    clock.advance(0.000001)
    assert server.run_due() == 1


def test_exception_in_the_application_is_a_500(server, app):
    """
    An application that raises is answered for with 500, and the record shows the traceback.
    """

    def fail(_):
        raise RuntimeError("boom in the handler")

    app.answers = [fail]
    create(server)
    server.run_due()
    record = server.dispatches[0]
    assert record.status == 500
    assert b"boom in the handler" in record.body


def test_unmounted_address_is_reported(server):
    """
    A delivery to an address where nothing is mounted fails loudly, and counts as an attempt without an answer.
    """
    url = "https://elsewhere.test/x"
    task = tasks_v2.Task(http_request={"url": url})
    request = tasks_v2.CreateTaskRequest.pb()(parent=QUEUE, task=tasks_v2.Task.pb(task))
    server.service.call("CreateTask", request)
    with pytest.raises(LookupError, match="No application is mounted for https://elsewhere"):
        server.run_due()
    assert [record.status for record in server.dispatches] == [None]
    assert server.tasks()[0].dispatch_count == 1
    assert server.idle(0)


def test_failure_of_the_transport_leaves_nothing_running(clock):
    """
    When the transport raises, the duplicate that was to follow is not counted as running either.
    """

    def fail(_):
        raise ZeroDivisionError

    server = TasksServer(clock, transport=fail, auto=False)
    server.create_queue(QUEUE)
    server.faults.fail("duplicate")
    create(server)
    with pytest.raises(ZeroDivisionError):
        server.run_due()
    assert server.idle(0)
    assert server.next_due() == clock.micros() + 100_000


def test_task_shows_its_attempts(server, app, client):
    """
    GetTask counts dispatches and responses and tells how the last attempt ended.
    """
    app.answers = [503]
    name = create(server)
    server.run_due()
    task = client.get_task(name=name)
    assert (task.dispatch_count, task.response_count) == (1, 1)
    assert task.first_attempt.dispatch_time == START
    assert task.last_attempt.response_status.message == "UNAVAILABLE(14): HTTP status code 503"
    assert task.schedule_time == START + timedelta(seconds=0.1)


def test_paused_queue_dispatches_nothing_but_run_task(server, app, client):
    """
    A paused queue keeps its tasks, RunTask dispatches one of them all the same, and resuming brings the rest.
    """
    client.pause_queue(name=QUEUE)
    create(server, "/a")
    forced = create(server, "/b", at=3600)
    assert (server.run_due(), server.next_due()) == (0, None)
    assert client.run_task(name=forced).name == forced
    assert server.run_due() == 1
    assert app.paths == ["/b"]
    client.resume_queue(name=QUEUE)
    server.run_due()
    assert app.paths == ["/b", "/a"]


def test_forced_run_that_fails_is_rescheduled(server, app, client, clock):
    """
    After a failed RunTask the task is tried again after the retry interval, not at its old schedule.
    """
    app.answers = [500]
    name = create(server, at=3600)
    client.run_task(name=name)
    server.run_due()
    assert client.get_task(name=name).schedule_time == START + timedelta(seconds=0.1)
    drain(server, clock)
    assert app.seconds() == [0, 0.1]


def test_deleted_task_is_not_dispatched(server, app, client):
    """
    DeleteTask, PurgeQueue and DeleteQueue each keep waiting tasks from being dispatched.
    """
    client.delete_task(name=create(server))
    create(server)
    client.purge_queue(name=QUEUE)
    create(server)
    client.delete_queue(name=QUEUE)
    assert server.run_due() == 0
    assert server.next_due() is None


@pytest.mark.parametrize("status", [200, 500])
def test_task_deleted_while_it_runs_is_not_retried(server, app, client, clock, status):
    """
    A task deleted by its own handler does not come back, whatever the attempt's answer.
    """
    name = create(server)

    def delete(_):
        client.delete_task(name=name)
        return Response(status=status)

    app.answers = [delete]
    drain(server, clock)
    assert len(app.received) == 1
    assert server.tasks() == []


def test_queue_deleted_while_a_task_runs_is_harmless(server, app, client, clock):
    """
    A queue deleted by a handler takes the running task with it.
    """

    def delete(_):
        client.delete_queue(name=QUEUE)
        return Response(status=500)

    app.answers = [delete]
    create(server)
    drain(server, clock)
    assert len(app.received) == 1
    assert server.idle(0)


def test_rate_limit_is_a_token_bucket(serve, app, clock):
    """
    At 2 dispatches per second a burst of 10 goes out at once, then one every half second.
    """
    server = serve(rate_limits=True)
    server.create_queue("projects/p/locations/l/queues/slow", max_dispatches_per_second=2)
    for _ in range(14):
        create(server, queue="projects/p/locations/l/queues/slow")
    drain(server, clock)
    assert app.seconds() == [0] * 10 + [0.5, 1, 1.5, 2]


def test_rate_limits_are_off_by_hand(server, app):
    """
    On a clock that stands still a burst beyond the bucket is delivered whole.
    """
    for _ in range(150):
        create(server)
    assert server.run_due() == 150


def test_duplicate_follows_with_the_same_headers(server, app):
    """
    A duplicate is delivered right after its original with the same headers, and settles nothing.
    """
    server.faults.fail("duplicate")
    app.answers = [200, 500]
    create(server, name="t", body=b"x")
    assert server.run_due() == 2
    first, second = app.received
    assert list(first.headers) == list(second.headers)
    assert first.body == second.body
    assert [(r.status, r.fault) for r in server.dispatches] == [(200, ""), (500, "duplicate")]
    assert server.tasks() == []
    assert server.faults.injected["duplicate"] == 1


def test_lost_delivery_is_a_failed_attempt(server, app, clock):
    """
    A lost delivery never reaches the handler; the next attempt says 503 and has retry count 1.
    """
    server.faults.fail("lose")
    create(server)
    server.run_due()
    assert app.received == []
    drain(server, clock)
    headers = app.received[0].headers
    assert headers["X-CloudTasks-TaskRetryCount"] == "1"
    assert headers["X-CloudTasks-TaskExecutionCount"] == "0"
    assert headers["X-CloudTasks-TaskPreviousResponse"] == "503"
    assert [(r.status, r.fault) for r in server.dispatches] == [(None, "lose"), (200, "")]


def test_lost_answer_runs_the_handler_twice(server, app, clock):
    """
    With a lost answer the handler runs, the queue sees no answer and delivers again.
    """
    server.faults.fail("lose_answer")
    create(server)
    drain(server, clock)
    assert len(app.received) == 2
    assert app.received[1].headers["X-CloudTasks-TaskPreviousResponse"] == "503"
    assert [(r.status, r.fault, r.body) for r in server.dispatches] == [
        (None, "lose_answer", b"done"),
        (200, "", b"done"),
    ]


def test_delay_reorders(server, app, clock):
    """
    A delayed task is overtaken by one created later; its ETA stays, and it is delayed once only.
    """
    server.faults.fail("delay")
    create(server, "/first")
    create(server, "/second")
    server.run_due()
    assert app.paths == ["/second"]
    assert not server.idle(0)
    due = server.next_due()
    assert micros(START) < due <= micros(START) + 1_000_000
    drain(server, clock)
    assert app.paths == ["/second", "/first"]
    assert app.received[1].headers["X-CloudTasks-TaskETA"] == "1767225600.000000"


def test_faults_by_rate_repeat_from_the_seed(serve, clock):
    """
    The same seed gives the same deliveries; the faults are really injected.
    """

    def history(seed):
        rates = DeliveryFaults(duplicate=0.3, delay=0.3, lose=0.2, lose_answer=0.2)
        server = serve(faults=Faults(seed=seed, deliveries=rates))
        begin = clock.micros()
        for number in range(30):
            create(server, f"/{number}", name=f"t{number}")
        drain(server, clock)
        return [(r.task, r.retry_count, r.fault, r.started - begin) for r in server.dispatches]

    first, second, third = history(7), history(7), history(8)
    assert first == second
    assert first != third
    assert {fault for _, _, fault, _ in first} == {"", "duplicate", "lose", "lose_answer"}


def test_late_copy_of_a_finished_task_is_delivered(server, app, clock):
    """
    A finished task can be delivered again, by name, by record, or as the last one, with its headers of then.
    """
    app.answers = [500]
    name = create(server, "/a", name="t")
    drain(server, clock)
    clock.advance(3600)
    app.answers = [409, 200, 503]
    assert server.redeliver(name) == 409
    assert server.redeliver(server.dispatches[0]) == 200
    assert server.duplicate_last() == 503
    counts = [request.headers["X-CloudTasks-TaskRetryCount"] for request in app.received]
    assert counts == ["0", "1", "1", "0", "0"]
    assert [record.fault for record in server.dispatches] == ["", "", "redelivery", "redelivery", "redelivery"]
    assert server.tasks() == []


def test_redelivery_of_the_unknown_is_refused(server):
    """
    What was never dispatched can't be delivered again.
    """
    with pytest.raises(LookupError, match="nothing to duplicate"):
        server.duplicate_last()
    with pytest.raises(LookupError, match="No dispatch of task"):
        server.redeliver(f"{QUEUE}/tasks/none")


def test_record_tells_about_the_dispatch(server, app, clock):
    """
    A record has names, address, times and the start of the answer.
    """

    def slow(_):
        clock.advance(2)
        return Response(b"y" * 10_000)

    app.answers = [slow]
    name = create(server, "/a")
    server.run_due()
    [record] = server.dispatches
    assert (record.task, record.queue, record.url) == (name, QUEUE, f"{ORIGIN}/a")
    assert record.finished - record.started == 2_000_000
    assert record.body == b"y" * 4096


def test_plain_function_is_a_transport(clock):
    """
    Any function from a dispatch to a status, or to None, can carry deliveries.
    """
    seen = []

    def carry(dispatch: Dispatch) -> int | None:
        seen.append(dispatch)
        return None if len(seen) == 1 else 204

    server = TasksServer(clock, transport=carry, auto=False)
    server.create_queue(QUEUE)
    server.faults.fail("lose_answer", skip=1)
    create(server, body=b"b")
    drain(server, clock)
    assert [(d.method, d.url, d.body, d.deadline) for d in seen] == [("POST", f"{ORIGIN}/", b"b", 600.0)] * 3
    assert [(r.status, r.fault) for r in server.dispatches] == [(None, ""), (None, "lose_answer"), (204, "")]


def test_run_due_is_refused_in_the_background():
    """
    A server that dispatches by itself says so when asked to do it by hand.
    """
    with pytest.raises(RuntimeError, match="auto=False"):
        TasksServer().run_due()


def test_mount_takes_an_origin_only(app):
    """
    A mount with a path is refused, since deliveries are matched by scheme and host.
    """
    with pytest.raises(ValueError, match="is no origin"):
        WsgiTransport({"https://orders.test/api": app})
