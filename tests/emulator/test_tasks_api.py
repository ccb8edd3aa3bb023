"""
The RPCs of Cloud Tasks through Google's client: names, defaults, views, pages, refusals. Nothing is dispatched.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport
from google.protobuf import duration_pb2, field_mask_pb2

from gcp_emulator.clock import SystemClock, VirtualClock
from gcp_emulator.faults import Faults
from gcp_emulator.oidc import OidcIssuer
from gcp_emulator.tasks import TasksServer

LOCATION = "projects/p/locations/l"
QUEUE = f"{LOCATION}/queues/q"
URL = "https://orders.test/tasks"
START = datetime(2026, 1, 1, tzinfo=UTC)
MISSING_QUEUE = (
    "Queue does not exist. If you just created the queue, wait at least a minute for the queue to initialize."
)
GONE_TASK = (
    "The task no longer exists, though a task with this name existed recently. "
    "The task either successfully completed or was deleted."
)
BAD_TASK_ID = (
    "can contain only letters ([A-Za-z]), numbers ([0-9]), hyphens (-), or underscores (_). "
    "Task ID must between 1 and 500 characters."
)
NO_APP_ENGINE = (
    "This local server has no address that stands for App Engine; start it with one (app_engine, --app-engine), or use "
    "http_request."
)
WRONG_QUEUE = (
    f"The queue name from request ('{QUEUE}') must be the same as the queue name in the named task ('{QUEUE}-other')."
)


@pytest.fixture
def clock():
    return VirtualClock(START)


@pytest.fixture
def server(clock):
    server = TasksServer(clock, auto=False)
    server.start()
    server.create_queue(QUEUE)
    yield server
    server.stop()


@pytest.fixture
def client(server):
    with grpc.insecure_channel(server.address) as channel:
        yield tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))


def task(name=None, url=URL, queue=QUEUE, **fields):
    request = {"url": url, **fields.pop("http", {})}
    return tasks_v2.Task(name=f"{queue}/tasks/{name}" if name else "", http_request=request, **fields)


def create(client, name=None, queue=QUEUE, **fields):
    return client.create_task(parent=queue, task=task(name, queue=queue, **fields))


def make(client, queue_id, **fields):
    queue = tasks_v2.Queue(name=f"{LOCATION}/queues/{queue_id}", **fields)
    return client.create_queue(parent=LOCATION, queue=queue)


def test_queue_gets_the_defaults_of_the_service(client):
    """
    A queue created with nothing but a name runs with the documented defaults.
    """
    queue = make(client, "plain")
    assert queue.state == tasks_v2.Queue.State.RUNNING
    assert (queue.rate_limits.max_dispatches_per_second, queue.rate_limits.max_burst_size) == (500, 100)
    assert queue.rate_limits.max_concurrent_dispatches == 1000
    assert (queue.retry_config.max_attempts, queue.retry_config.max_doublings) == (100, 16)
    assert queue.retry_config.min_backoff == timedelta(seconds=0.1)
    assert queue.retry_config.max_backoff == timedelta(hours=1)
    assert queue.retry_config.max_retry_duration == timedelta(0)
    assert client.get_queue(name=queue.name) == queue


def test_queue_settings_override_defaults_whole(client):
    """
    A duration that is given replaces the default; its fraction is not mixed in.
    """
    queue = make(client, "set", retry_config={"min_backoff": timedelta(seconds=5), "max_attempts": -1})
    assert queue.retry_config.min_backoff == timedelta(seconds=5)
    assert (queue.retry_config.max_attempts, queue.retry_config.max_doublings) == (-1, 16)


def test_update_queue_changes_what_the_mask_names(client):
    """
    UpdateQueue changes the masked fields only, takes a masked zero as zero, and ignores output-only fields.
    """
    changed = tasks_v2.Queue(
        name=QUEUE,
        state=tasks_v2.Queue.State.PAUSED,
        retry_config={"max_attempts": 7},
        rate_limits={"max_dispatches_per_second": 1},
    )
    mask = field_mask_pb2.FieldMask(paths=["retry_config.max_attempts", "retry_config.max_doublings", "state"])
    queue = client.update_queue(queue=changed, update_mask=mask)
    assert (queue.retry_config.max_attempts, queue.retry_config.max_doublings) == (7, 0)
    assert queue.rate_limits.max_dispatches_per_second == 500
    assert queue.state == tasks_v2.Queue.State.RUNNING


def test_update_queue_creates_a_missing_one(client):
    """
    UpdateQueue on a name that is free creates the queue.
    """
    name = f"{LOCATION}/queues/updated"
    client.update_queue(queue=tasks_v2.Queue(name=name, rate_limits={"max_concurrent_dispatches": 3}))
    assert client.get_queue(name=name).rate_limits.max_concurrent_dispatches == 3


def test_create_queue_by_hand_is_idempotent(server):
    """
    The convenience creates a queue once; later it changes only the settings it is given.
    """
    server.create_queue(QUEUE, max_attempts=-1, min_backoff=timedelta(seconds=1), max_doublings=0)
    queue = server.create_queue(QUEUE, max_backoff=timedelta(seconds=60))
    assert (queue.retry_config.max_attempts, queue.retry_config.max_doublings) == (-1, 0)
    assert queue.retry_config.min_backoff.ToTimedelta() == timedelta(seconds=1)
    assert queue.retry_config.max_backoff.ToTimedelta() == timedelta(seconds=60)


def test_pause_and_resume_change_the_state(client):
    """
    PauseQueue and ResumeQueue are seen in the queue's state.
    """
    assert client.pause_queue(name=QUEUE).state == tasks_v2.Queue.State.PAUSED
    assert client.get_queue(name=QUEUE).state == tasks_v2.Queue.State.PAUSED
    assert client.resume_queue(name=QUEUE).state == tasks_v2.Queue.State.RUNNING


def test_purge_deletes_tasks_and_keeps_names_taken(client):
    """
    PurgeQueue empties the queue, records when, and leaves tombstones.
    """
    create(client, "a")
    assert client.purge_queue(name=QUEUE).purge_time.timestamp() == START.timestamp()
    assert list(client.list_tasks(parent=QUEUE)) == []
    with pytest.raises(exceptions.AlreadyExists):
        create(client, "a")


def test_queues_are_listed_in_pages(client):
    """
    ListQueues pages through the queues of one location only.
    """
    for number in range(5):
        make(client, f"n{number}")
    other = "projects/p/locations/elsewhere"
    client.create_queue(parent=other, queue=tasks_v2.Queue(name=f"{other}/queues/x"))
    pages = client.list_queues(request={"parent": LOCATION, "page_size": 2}).pages
    assert [len(page.queues) for page in pages] == [2, 2, 2]


def test_deleted_queue_keeps_its_name_for_days(client, clock):
    """
    A deleted queue's name can't be used for three days, and then it can.
    """
    client.delete_queue(name=QUEUE)
    clock.advance(3 * 86400 - 1)
    with pytest.raises(exceptions.FailedPrecondition, match="existed too recently"):
        make(client, "q")
    clock.advance(1)
    assert make(client, "q").name == QUEUE


def test_task_is_stored_as_the_service_stores_it(client, clock):
    """
    Times and deadline are filled in, header names keep their case, User-Agent is added, Content-Type is not, and
    headers that the service computes are dropped.
    """
    clock.advance(1.25)
    headers = {"X-Mixed-Case": "keep", "content-LENGTH": "5", "X-Google-Secret": "1", "user-agent": "me"}
    answer = create(client, "a", http={"body": b"{}", "headers": headers})
    assert answer.http_request.headers == {"X-Mixed-Case": "keep", "User-Agent": "Google-Cloud-Tasks"}
    assert answer.http_request.http_method == tasks_v2.HttpMethod.POST
    assert answer.schedule_time == START + timedelta(seconds=1.25)
    assert answer.create_time == START + timedelta(seconds=1)
    assert answer.dispatch_deadline == timedelta(minutes=10)


def test_schedule_time_in_the_past_is_now(client):
    """
    A schedule time that has passed is replaced by the present.
    """
    assert create(client, schedule_time=START - timedelta(days=400)).schedule_time == START


def test_generated_task_ids_are_long_decimals(client):
    """
    A task without a name gets an id of about twenty digits, a different one each.
    """
    ids = {create(client).name.removeprefix(f"{QUEUE}/tasks/") for _ in range(20)}
    assert len(ids) == 20
    assert all(task_id.isdecimal() and 18 < len(task_id) <= 20 for task_id in ids)


def test_basic_view_hides_only_the_body(client):
    """
    BASIC, the default, shows headers and hides the body; FULL shows both.
    """
    name = create(client, "a", http={"body": b"secret", "headers": {"X-A": "1"}}).name
    basic = client.get_task(name=name)
    full = client.get_task(request={"name": name, "response_view": tasks_v2.Task.View.FULL})
    assert (basic.http_request.body, basic.http_request.headers["X-A"], basic.view.name) == (b"", "1", "BASIC")
    assert (full.http_request.body, full.view.name) == (b"secret", "FULL")


def test_run_task_shows_the_asked_view(client):
    """
    ``RunTask`` returns the task in the view that is asked for.
    """
    name = create(client, http={"body": b"secret"}).name
    assert client.run_task(name=name).http_request.body == b""
    assert client.run_task(request={"name": name, "response_view": "FULL"}).http_request.body == b"secret"


def test_tasks_are_listed_in_pages(client, server):
    """
    ListTasks walks all tasks in pages of the asked size, although one of them is deleted on the way.
    """
    names = [create(client, f"t{number}").name for number in range(7)]
    pages = client.list_tasks(request={"parent": QUEUE, "page_size": 3}).pages
    first = next(pages)
    client.delete_task(name=names[2])
    assert [task.name for task in first.tasks] == names[:3]
    assert [task.name for page in pages for task in page.tasks] == names[3:]
    assert [task.name for task in server.tasks(QUEUE)] == names[:2] + names[3:]


def test_name_is_free_again_after_the_tombstone(client, clock):
    """
    A deleted task's name is taken for 24 hours to the microsecond; GetTask says that it existed.
    """
    name = create(client, "a").name
    with pytest.raises(exceptions.AlreadyExists, match="Requested entity already exists"):
        create(client, "a")
    client.delete_task(name=name)
    with pytest.raises(exceptions.NotFound, match="existed recently"):
        client.get_task(name=name)
    clock.advance(86400 - 0.000001)
    with pytest.raises(exceptions.AlreadyExists, match="existed too recently"):
        create(client, "a")
    clock.advance(0.000001)
    with pytest.raises(exceptions.NotFound, match="Requested entity was not found"):
        client.get_task(name=name)
    assert create(client, "a").name == name


def test_tombstone_window_can_be_set(clock):
    """
    The tombstone window is an argument of the server.
    """
    server = TasksServer(clock, auto=False, tombstone=timedelta(minutes=1))
    server.start()
    try:
        server.create_queue(QUEUE)
        with grpc.insecure_channel(server.address) as channel:
            client = tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
            client.delete_task(name=create(client, "a").name)
            clock.advance(60)
            assert create(client, "a").name == f"{QUEUE}/tasks/a"
    finally:
        server.stop()


def test_schedule_horizon_is_30_days(client):
    """
    720 hours ahead is accepted, a microsecond more is not.
    """
    create(client, schedule_time=START + timedelta(hours=720))
    with pytest.raises(exceptions.InvalidArgument) as refusal:
        create(client, schedule_time=START + timedelta(hours=720, microseconds=1))
    assert refusal.value.message == (
        "The Task.scheduleTime, 2026-01-31T00:00:00.000001Z, is too far in the future. "
        "Schedule time must be no more than 720h in the future."
    )


def test_size_limit_counts_the_stored_form(client):
    """
    A task whose stored form has 1,048,569 bytes is accepted, one byte more is refused.
    """
    overhead = tasks_v2.Task.pb(create(client, "a", http={"body": b"x" * 1_000_000}))
    overhead.ClearField("view")
    fits = 1_048_569 - overhead.ByteSize() - 4  # the answer shows no body: one byte of tag, three of length
    create(client, "b", http={"body": b"x" * (fits - 2)})
    server_side = client.get_task(request={"name": f"{QUEUE}/tasks/b", "response_view": tasks_v2.Task.View.FULL})
    stored = tasks_v2.Task.pb(server_side)
    stored.ClearField("view")
    room = 1_048_569 - stored.ByteSize()
    assert create(client, "c", http={"body": b"x" * (fits - 2 + room)})
    with pytest.raises(exceptions.InvalidArgument, match="1048570 bytes"):
        create(client, "d", http={"body": b"x" * (fits - 2 + room + 1)})


REFUSALS = {
    "create task, missing queue": (
        lambda c: create(c, queue=f"{LOCATION}/queues/none"),
        exceptions.NotFound,
        MISSING_QUEUE,
    ),
    "create task, deleted queue": (
        lambda c: (c.delete_queue(name=QUEUE), create(c)),
        exceptions.NotFound,
        MISSING_QUEUE,
    ),
    "get queue, missing": (
        lambda c: c.get_queue(name=f"{LOCATION}/queues/none"),
        exceptions.NotFound,
        MISSING_QUEUE,
    ),
    "pause queue, missing": (
        lambda c: c.pause_queue(name=f"{LOCATION}/queues/none"),
        exceptions.NotFound,
        MISSING_QUEUE,
    ),
    "resume queue, missing": (
        lambda c: c.resume_queue(name=f"{LOCATION}/queues/none"),
        exceptions.NotFound,
        MISSING_QUEUE,
    ),
    "purge queue, missing": (
        lambda c: c.purge_queue(name=f"{LOCATION}/queues/none"),
        exceptions.NotFound,
        MISSING_QUEUE,
    ),
    "delete queue, missing": (
        lambda c: c.delete_queue(name=f"{LOCATION}/queues/none"),
        exceptions.NotFound,
        "Requested entity was not found.",
    ),
    "create queue, exists": (lambda c: make(c, "q"), exceptions.AlreadyExists, "Queue already exists"),
    "create queue, deleted": (
        lambda c: (c.delete_queue(name=QUEUE), make(c, "q")),
        exceptions.FailedPrecondition,
        "The queue cannot be created because a queue with this name existed too recently.",
    ),
    "create queue, bad name": (
        lambda c: make(c, "not_valid"),
        exceptions.InvalidArgument,
        'Queue name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>".',
    ),
    "queue rate too high": (
        lambda c: make(c, "x", rate_limits={"max_dispatches_per_second": 500.5}),
        exceptions.InvalidArgument,
        "RateLimits.maxDispatchesPerSecond must be less than or equal to 500.",
    ),
    "queue rate negative": (
        lambda c: make(c, "x", rate_limits={"max_dispatches_per_second": -1}),
        exceptions.InvalidArgument,
        "RateLimits.maxDispatchesPerSecond cannot be negative.",
    ),
    "queue concurrency too high": (
        lambda c: make(c, "x", rate_limits={"max_concurrent_dispatches": 5001}),
        exceptions.InvalidArgument,
        "RateLimits.maxConcurrentDispatches must be less than or equal to 5000.",
    ),
    "queue concurrency negative": (
        lambda c: make(c, "x", rate_limits={"max_concurrent_dispatches": -1}),
        exceptions.InvalidArgument,
        "RateLimits.maxConcurrentDispatches cannot be negative.",
    ),
    "queue attempts below -1": (
        lambda c: make(c, "x", retry_config={"max_attempts": -2}),
        exceptions.InvalidArgument,
        "RetryConfig.maxAttempts must be greater or equal to -1.",
    ),
    "queue doublings negative": (
        lambda c: make(c, "x", retry_config={"max_doublings": -1}),
        exceptions.InvalidArgument,
        "RetryConfig.maxDoublings cannot be negative.",
    ),
    "queue backoff negative": (
        lambda c: make(c, "x", retry_config={"min_backoff": timedelta(seconds=-1)}),
        exceptions.InvalidArgument,
        "RetryConfig.minBackoff cannot be negative.",
    ),
    "queue backoffs out of order": (
        lambda c: make(c, "x", retry_config={"min_backoff": timedelta(seconds=9), "max_backoff": timedelta(seconds=8)}),
        exceptions.InvalidArgument,
        "RetryConfig.minBackoff must be less than or equal to RetryConfig.maxBackoff.",
    ),
    "queue target, empty host": (
        lambda c: make(c, "x", http_target={"uri_override": {"host": ""}}),
        exceptions.InvalidArgument,
        "UriOverride.host cannot be empty.",
    ),
    "queue target, port": (
        lambda c: make(c, "x", http_target={"uri_override": {"port": -1}}),
        exceptions.InvalidArgument,
        "UriOverride.port must be between 0 and 65535.",
    ),
    "queue target, header without a name": (
        lambda c: make(c, "x", http_target={"header_overrides": [{"header": {"value": "v"}}]}),
        exceptions.InvalidArgument,
        "HttpTarget.headerOverrides need a key each.",
    ),
    "queue target, token without scope": (
        lambda c: make(c, "x", http_target={"oauth_token": {"service_account_email": "a@b"}}),
        exceptions.InvalidArgument,
        "HttpTarget.oauthToken needs serviceAccountEmail and scope.",
    ),
    "queue target, identity token without audience": (
        lambda c: make(c, "x", http_target={"oidc_token": {"service_account_email": "a@b"}}),
        exceptions.FailedPrecondition,
        "This local server has no issuer of OIDC tokens; start it with one, or leave oidc_token out.",
    ),
    "queue, sampling ratio": (
        lambda c: make(c, "x", stackdriver_logging_config={"sampling_ratio": 1.5}),
        exceptions.InvalidArgument,
        "StackdriverLoggingConfig.samplingRatio must be between 0.0 and 1.0.",
    ),
    "task, settings for retries": (
        lambda c: create(c, retry_config={"max_attempts": -2}),
        exceptions.InvalidArgument,
        "RetryConfig.maxAttempts must be greater or equal to -1.",
    ),
    "get task, missing": (
        lambda c: c.get_task(name=f"{QUEUE}/tasks/none"),
        exceptions.NotFound,
        "Requested entity was not found.",
    ),
    "get task, deleted": (
        lambda c: (c.delete_task(name=create(c, "a").name), c.get_task(name=f"{QUEUE}/tasks/a")),
        exceptions.NotFound,
        GONE_TASK,
    ),
    "delete task, missing": (
        lambda c: c.delete_task(name=f"{QUEUE}/tasks/none"),
        exceptions.NotFound,
        "Requested entity was not found.",
    ),
    "run task, missing": (
        lambda c: c.run_task(name=f"{QUEUE}/tasks/none"),
        exceptions.NotFound,
        "Requested entity was not found.",
    ),
    "create task, bad id": (
        lambda c: create(c, "not a valid id"),
        exceptions.InvalidArgument,
        f'Task ID "not a valid id" {BAD_TASK_ID}',
    ),
    "create task, long id": (
        lambda c: create(c, "a" * 501),
        exceptions.InvalidArgument,
        f'Task ID "{"a" * 501}" {BAD_TASK_ID}',
    ),
    "create task, another queue's name": (
        lambda c: c.create_task(parent=QUEUE, task=task("a", queue=f"{QUEUE}-other")),
        exceptions.InvalidArgument,
        WRONG_QUEUE,
    ),
    "create task, no url": (
        lambda c: create(c, url=""),
        exceptions.InvalidArgument,
        "HttpRequest.url is required.",
    ),
    "create task, other scheme": (
        lambda c: create(c, url="ftp://orders.test"),
        exceptions.InvalidArgument,
        "HttpTarget.url must start with 'http://' or 'https://'.",
    ),
    "create task, no scheme": (
        lambda c: create(c, url="orders.test/x"),
        exceptions.InvalidArgument,
        "HttpTarget.url must start with 'http://' or 'https://'.",
    ),
    "create task, deadline too short": (
        lambda c: create(c, dispatch_deadline=timedelta(seconds=14)),
        exceptions.InvalidArgument,
        "Task.dispatchDeadline must be between [15s, 30m].",
    ),
    "create task, deadline too long": (
        lambda c: create(c, dispatch_deadline=duration_pb2.Duration(seconds=1801)),
        exceptions.InvalidArgument,
        "Task.dispatchDeadline must be between [15s, 30m].",
    ),
    "create task, body of a GET": (
        lambda c: create(c, http={"http_method": tasks_v2.HttpMethod.GET, "body": b"x"}),
        exceptions.InvalidArgument,
        "HttpRequest.body can only be set for POST, PUT, PATCH; the method is GET.",
    ),
    "create task, no address for App Engine": (
        lambda c: c.create_task(parent=QUEUE, task=tasks_v2.Task(app_engine_http_request={"relative_uri": "/"})),
        exceptions.FailedPrecondition,
        NO_APP_ENGINE,
    ),
    "create task, OAuth without an account": (
        lambda c: create(c, http={"oauth_token": {"scope": "s"}}),
        exceptions.InvalidArgument,
        "OAuthToken.serviceAccountEmail is required.",
    ),
    "create task, no issuer": (
        lambda c: create(c, http={"oidc_token": {"service_account_email": "a@b"}}),
        exceptions.FailedPrecondition,
        "This local server has no issuer of OIDC tokens; start it with one, or leave oidc_token out.",
    ),
    "list tasks, foreign token": (
        lambda c: c.list_tasks(request={"parent": QUEUE, "page_token": "mine"}),
        exceptions.InvalidArgument,
        "ListTasksRequest.pageToken is not one that this server gave out.",
    ),
    "list queues, filter": (
        lambda c: list(c.list_queues(request={"parent": LOCATION, "filter": "state: PAUSED"})),
        exceptions.MethodNotImplemented,
        "ListQueuesRequest.filter is not implemented by this local server.",
    ),
    "get key": (
        lambda c: c.get_cmek_config(name=f"{LOCATION}/cmekConfig"),
        exceptions.MethodNotImplemented,
        "google.cloud.tasks.v2.CloudTasks/GetCmekConfig is not implemented by this local server.",
    ),
    "update key": (
        lambda c: c.update_cmek_config(cmek_config={"name": f"{LOCATION}/cmekConfig"}),
        exceptions.MethodNotImplemented,
        "google.cloud.tasks.v2.CloudTasks/UpdateCmekConfig is not implemented by this local server.",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal_is_the_one_of_the_service(client, case):
    """
    Each refusal has the status and the sentence that were recorded from the service, or the local server's own.
    """
    act, error, sentence = REFUSALS[case]
    with pytest.raises(error) as refusal:
        act(client)
    assert refusal.value.message == sentence


def test_refused_task_id_comes_with_help(client):
    """
    The refusal of a bad task id carries a Help detail.
    """
    with pytest.raises(exceptions.InvalidArgument) as refusal:
        create(client, "not a valid id")
    assert [link.description for detail in refusal.value.details for link in detail.links] == ["Definition of task ID"]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"dispatch_deadline": timedelta(seconds=15)}, id="shortest deadline"),
        pytest.param({"dispatch_deadline": timedelta(minutes=30)}, id="longest deadline"),
        pytest.param({"url": "https://orders.test/%zz"}, id="bad escape"),
        pytest.param({"http": {"http_method": tasks_v2.HttpMethod.GET}}, id="GET"),
        pytest.param({"name": "A-z_9" * 100}, id="500 characters"),
    ],
)
def test_unusual_task_is_accepted(client, fields):
    """
    What the service accepts at its limits is accepted here.
    """
    assert create(client, **fields).name.startswith(QUEUE)


def test_negative_burst_size_is_ignored(client):
    """
    The burst size is output only; a negative one is not refused.
    """
    assert make(client, "burst", rate_limits={"max_burst_size": -5}).rate_limits.max_burst_size == 100


def test_failed_answer_after_effect_leaves_the_task(client, server):
    """
    An RPC fault after the effect loses the answer of CreateTask: the task is there, and its name taken.
    """
    server.faults.fail("CreateTask", when="after")
    with pytest.raises(exceptions.ServiceUnavailable):
        create(client, "a")
    with pytest.raises(exceptions.AlreadyExists):
        create(client, "a")
    assert [task.name for task in server.tasks()] == [f"{QUEUE}/tasks/a"]
    assert server.counts["CreateTask"] == 2


def test_generated_ids_repeat_for_a_seed():
    """
    Two servers with the same seed generate the same task ids; another seed gives others.
    """
    names = []
    for seed in (1, 1, 2):
        server = TasksServer(VirtualClock(START), Faults(seed=seed), auto=False)
        server.create_queue(QUEUE)
        request = tasks_v2.CreateTaskRequest.pb()(parent=QUEUE, task=tasks_v2.Task.pb(task()))
        names.append(server.service.call("CreateTask", request).name)
    assert names[0] == names[1] != names[2]


def test_issuer_makes_oidc_tasks_possible():
    """
    With an issuer a task may ask for an identity token; the account must be named.
    """
    server = TasksServer(VirtualClock(START), issuer=OidcIssuer(SystemClock()), auto=False)
    server.start()
    try:
        server.create_queue(QUEUE)
        with grpc.insecure_channel(server.address) as channel:
            client = tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
            create(client, http={"oidc_token": {"service_account_email": "a@b"}})
            with pytest.raises(exceptions.InvalidArgument, match="serviceAccountEmail is required"):
                create(client, http={"oidc_token": {"audience": "x"}})
    finally:
        server.stop()
