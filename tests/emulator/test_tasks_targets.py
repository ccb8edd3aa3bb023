"""
Where tasks go: App Engine, addresses that a queue overrides, access tokens, a task's own retries, headers that are dropped.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport
from google.protobuf import duration_pb2

from gcp_emulator.clock import VirtualClock
from gcp_emulator.oidc import OidcIssuer
from gcp_emulator.tasks import Answer, TasksServer

LOCATION = "projects/p/locations/l"
QUEUE = f"{LOCATION}/queues/q"
APP = "http://127.0.0.1:8080"
URL = "https://orders.test:8443/old/path?x=1"
START = datetime(2026, 1, 1, tzinfo=UTC)
AGENT = "AppEngine-Google; (+http://code.google.com/appengine)"


class Target:
    """
    A transport that answers from a list, then 200, and keeps the dispatches.
    """

    def __init__(self):
        self.answers = []
        self.sent = []

    def __call__(self, dispatch):
        self.sent.append(dispatch)
        return self.answers.pop(0) if self.answers else 200


@pytest.fixture
def clock():
    return VirtualClock(START)


@pytest.fixture
def target():
    return Target()


@pytest.fixture
def server(clock, target):
    server = TasksServer(clock, issuer=OidcIssuer(clock), transport=target, auto=False)
    server.app_engine = APP
    server.start()
    server.create_queue(QUEUE)
    yield server
    server.stop()


@pytest.fixture
def client(server):
    with grpc.insecure_channel(server.address) as channel:
        yield tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))


def drain(server, clock):
    """
    Deliver until nothing is scheduled.
    """
    server.run_due()
    while (due := server.next_due()) is not None:
        clock.advance((due - clock.micros()) / 1_000_000)
        server.run_due()


def app_engine(client, **request):
    task = tasks_v2.Task(app_engine_http_request=request)
    return client.create_task(request={"parent": QUEUE, "task": task, "response_view": "FULL"})


def http(client, url=URL, parent=QUEUE, **request):
    task = tasks_v2.Task(http_request={"url": url, **request})
    return client.create_task(request={"parent": parent, "task": task, "response_view": "FULL"})


def override(client, **target):
    """
    Give the queue a target of its own.
    """
    client.update_queue(queue=tasks_v2.Queue(name=QUEUE, http_target=target))


# App Engine


def test_app_engine_task_goes_to_the_local_address(server, client, target):
    """
    Path and query are the task's, the address is the local one, and method, headers and body arrive.
    """
    app_engine(client, relative_uri="/tasks?n=1", body=b"{}", headers={"content-type": "application/json", "X-A": "1"})
    server.run_due()
    [sent] = target.sent
    assert (sent.method, sent.url, sent.body) == ("POST", f"{APP}/tasks?n=1", b"{}")
    assert (sent.headers["content-type"], sent.headers["X-A"]) == ("application/json", "1")
    assert "Content-Length" not in sent.headers


def test_app_engine_task_is_stored_as_the_service_stores_it(client):
    """
    A body gets a length and a type; the agent is the recorded one, after one of the task's own.
    """
    plain = app_engine(client, body=b"x" * 17, headers={"X-Mixed-Case": "preserve-me"}).app_engine_http_request
    assert dict(plain.headers) == {
        "Content-Length": "17",
        "Content-Type": "application/octet-stream",
        "User-Agent": AGENT,
        "X-Mixed-Case": "preserve-me",
    }
    assert (plain.relative_uri, plain.http_method) == ("/", tasks_v2.HttpMethod.POST)
    own = app_engine(client, headers={"user-agent": "mine"}).app_engine_http_request
    assert dict(own.headers) == {"User-Agent": f"mine {AGENT}"}


def test_app_engine_routing_is_kept_and_ignored(server, client, target):
    """
    Service and version are kept; the host is the local address, to which the task goes.
    """
    task = app_engine(client, app_engine_routing={"service": "worker", "version": "7"})
    routing = task.app_engine_http_request.app_engine_routing
    assert (routing.service, routing.version, routing.host) == ("worker", "7", "127.0.0.1:8080")
    server.run_due()
    assert target.sent[0].url == f"{APP}/"


def test_routing_of_a_queue_is_kept_and_ignored(server, client, target):
    """
    The routing of a queue comes back, and its tasks go to the local address.
    """
    queue = tasks_v2.Queue(name=QUEUE, app_engine_routing_override={"service": "worker"})
    client.update_queue(queue=queue)
    assert client.get_queue(name=QUEUE).app_engine_routing_override.service == "worker"
    app_engine(client)
    server.run_due()
    assert target.sent[0].url == f"{APP}/"


def test_app_engine_headers_are_the_recorded_ones(server, client, clock, target):
    """
    Headers of five attempts: answers of 5xx count as executions, and a missing answer is an unavailable instance.
    """
    target.answers = [503, 404, Answer(None, timed_out=True), 200]
    name = app_engine(client).name.rpartition("/")[2]
    drain(server, clock)
    found = [{key: value for key, value in sent.headers.items() if key.startswith("X-")} for sent in target.sent]
    for headers in found:
        assert headers.pop("X-AppEngine-TaskETA").startswith("17672")
        assert headers.pop("X-AppEngine-QueueName") == "q"
        assert headers.pop("X-AppEngine-TaskName") == name
    prefix = "X-AppEngine-Task"
    rows = [
        [headers.get(prefix + one) for one in ("RetryCount", "ExecutionCount", "PreviousResponse", "RetryReason")]
        for headers in found
    ]
    assert rows == [
        ["0", "0", None, None],
        ["1", "1", "503", "App Error"],
        ["2", "2", "404", "App Error"],
        ["3", "2", "0", "Instance Unavailable"],
    ]


def test_app_engine_task_may_run_for_a_day(client):
    """
    The deadline reaches up to 24 hours and 15 seconds; 0 is the default.
    """
    longest = 24 * 3600 + 15

    def create(seconds):
        task = tasks_v2.Task(app_engine_http_request={}, dispatch_deadline=duration_pb2.Duration(seconds=seconds))
        return client.create_task(parent=QUEUE, task=task).dispatch_deadline

    assert create(longest) == timedelta(seconds=longest)
    assert create(0) == timedelta(minutes=10)
    with pytest.raises(exceptions.InvalidArgument, match=r"\[15s, 24h15s\]"):
        create(longest + 1)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"relative_uri": "tasks"}, "must start with '/' and cannot contain spaces"),
        ({"relative_uri": "/a b"}, "must start with '/' and cannot contain spaces"),
        ({"relative_uri": "/" * 2084}, "no longer than 2083"),
        ({"http_method": "PATCH", "body": b"x"}, "can only be set for POST, PUT; the method is PATCH"),
    ],
)
def test_ill_formed_app_engine_task_is_refused(client, request_, sentence):
    """
    Addresses that are none, and bodies where there is none.
    """
    with pytest.raises(exceptions.InvalidArgument, match=sentence):
        app_engine(client, **request_)


def test_basic_view_hides_the_body_of_an_app_engine_task(client):
    """
    The body is in the full view only, and a task of App Engine does not turn into one over HTTP.
    """
    name = app_engine(client, body=b"secret").name
    basic = client.get_task(name=name)
    assert basic.app_engine_http_request.body == b""
    assert "http_request" not in basic
    assert client.get_task(request={"name": name, "response_view": "FULL"}).app_engine_http_request.body == b"secret"


def test_app_engine_stands_for_the_app_by_default(server, client, target):
    """
    Without an address of its own, App Engine is the app.
    """
    server.app_engine, server.app_url = "", "http://127.0.0.1:5000/"
    app_engine(client, relative_uri="/x")
    server.run_due()
    assert target.sent[0].url == "http://127.0.0.1:5000/x"


# The queue's target


@pytest.mark.parametrize(
    ("given", "url", "expected"),
    [
        ({"host": "new.test"}, URL, "https://new.test:8443/old/path?x=1"),
        ({"scheme": "HTTP"}, URL, "http://orders.test:8443/old/path?x=1"),
        ({"port": 99}, URL, "https://orders.test:99/old/path?x=1"),
        ({"port": 0}, URL, "https://orders.test/old/path?x=1"),
        ({"path_override": {"path": "/new"}}, URL, "https://orders.test:8443/new?x=1"),
        ({"path_override": {"path": "new"}}, URL, "https://orders.test:8443/new?x=1"),
        ({"path_override": {"path": ""}}, URL, "https://orders.test:8443?x=1"),
        ({"query_override": {"query_params": "y=2"}}, URL, "https://orders.test:8443/old/path?y=2"),
        ({"query_override": {"query_params": ""}}, URL, "https://orders.test:8443/old/path"),
        ({"host": "new.test", "uri_override_enforce_mode": "ALWAYS"}, URL, "https://new.test:8443/old/path?x=1"),
        ({"host": "new.test", "uri_override_enforce_mode": "IF_NOT_EXISTS"}, URL, URL),
        (
            {
                "path_override": {"path": "/new"},
                "query_override": {"query_params": "y=2"},
                "uri_override_enforce_mode": "IF_NOT_EXISTS",
            },
            "https://orders.test",
            "https://orders.test/new?y=2",
        ),
        ({"host": "new.test", "path_override": {"path": "/all"}}, "", "https://new.test/all"),
        (
            {"host": "new.test", "scheme": "HTTP", "port": 81, "uri_override_enforce_mode": "IF_NOT_EXISTS"},
            "",
            "http://new.test:81",
        ),
    ],
)
def test_queue_overrides_the_address(server, client, target, given, url, expected):
    """
    Each part of an address, in both modes, and for a task without one.
    """
    override(client, uri_override=given)
    http(client, url)
    server.run_due()
    assert target.sent[0].url == expected


def test_queue_overrides_method_and_headers(server, client, target):
    """
    The queue's method and headers win, the service's own headers win over those; a body goes only with methods that have one.
    """
    headers = [
        {"header": {"key": "x-team", "value": "queue"}},
        {"header": {"key": "User-Agent", "value": "mine"}},
    ]
    override(client, http_method="GET", header_overrides=headers)
    http(client, body=b"{}", headers={"X-Team": "task", "X-Own": "1"})
    server.run_due()
    [sent] = target.sent
    assert (sent.method, sent.body) == ("GET", b"")
    assert {name: value for name, value in sent.headers.items() if not name.startswith("X-CloudTasks")} == {
        "x-team": "queue",
        "X-Own": "1",
        "User-Agent": "Google-Cloud-Tasks",
    }


def test_queue_overrides_the_token(server, client, target):
    """
    The queue's identity token takes the place of the task's access token.
    """
    override(client, oidc_token={"service_account_email": "q@p", "audience": "aud"})
    http(client, oauth_token={"service_account_email": "t@p"})
    server.run_due()
    [record] = server.dispatches
    assert (record.identity, record.access) == (("aud", "q@p"), None)
    assert target.sent[0].headers["Authorization"].count(".") == 2


def test_queue_adds_an_access_token(server, client, target):
    """
    A task without a token gets the queue's.
    """
    override(client, oauth_token={"service_account_email": "q@p", "scope": "https://s.test/all"})
    http(client)
    server.run_due()
    assert server.dispatches[0].access == ("https://s.test/all", "q@p")
    assert target.sent[0].headers["Authorization"].startswith("Bearer ya29.")


def test_queue_target_is_kept_and_removed(client):
    """
    A queue shows its target; a mask that names it alone takes it away.
    """
    override(client, http_method="PUT", uri_override={"host": "new.test"})
    assert client.get_queue(name=QUEUE).http_target.uri_override.host == "new.test"
    client.update_queue(queue=tasks_v2.Queue(name=QUEUE), update_mask={"paths": ["http_target"]})
    assert "http_target" not in client.get_queue(name=QUEUE)
    with pytest.raises(exceptions.InvalidArgument, match=r"HttpRequest\.url is required\."):
        http(client, "")


def test_app_engine_task_is_not_overridden(server, client, target):
    """
    The target of a queue is for tasks over HTTP.
    """
    override(client, uri_override={"host": "new.test"})
    app_engine(client, relative_uri="/x")
    server.run_due()
    assert target.sent[0].url == f"{APP}/x"


# Tokens


@pytest.mark.parametrize(
    ("scope", "expected"),
    [("https://s.test/read", "https://s.test/read"), ("", "https://www.googleapis.com/auth/cloud-platform")],
)
def test_access_token_says_its_scope_and_account(server, client, target, scope, expected):
    """
    The access token takes the place of an Authorization of the task's own; the default scope is the documented one.
    """
    http(client, oauth_token={"service_account_email": "a@p", "scope": scope}, headers={"authorization": "mine"})
    server.run_due()
    [sent] = target.sent
    assert "authorization" not in sent.headers
    scheme, _, token = sent.headers["Authorization"].partition(" ")
    assert (scheme, token[:11]) == ("Bearer", "ya29.local.")
    claims = json.loads(base64.urlsafe_b64decode(token[11:] + "=" * (-len(token[11:]) % 4)))
    assert claims == {"email": "a@p", "scope": expected, "exp": int(START.timestamp()) + 3600}
    assert server.dispatches[0].access == (expected, "a@p")


# Retries of one task


def test_task_has_retries_of_its_own(server, client, clock, target):
    """
    The task's settings win, and the queue's hold for the rest.
    """
    client.update_queue(queue={"name": QUEUE, "retry_config": {"max_attempts": 9, "min_backoff": {"seconds": 5}}})
    target.answers = [500] * 20
    task = tasks_v2.Task(http_request={"url": URL}, retry_config={"max_attempts": 3})
    assert client.create_task(parent=QUEUE, task=task).retry_config.max_attempts == 3
    drain(server, clock)
    started = [(record.started - server.dispatches[0].started) / 1_000_000 for record in server.dispatches]
    assert started == [0, 5, 15]
    http(client)
    drain(server, clock)
    assert len(server.dispatches) == 3 + 9


def test_retries_follow_the_settings(server, client, clock, target):
    """
    Waits double, then grow by the same amount, up to the cap; attempts end when both limits are passed.
    """
    retries = {
        "max_attempts": 3,
        "max_retry_duration": {"seconds": 100},
        "min_backoff": {"seconds": 10},
        "max_backoff": {"seconds": 30},
        "max_doublings": 1,
    }
    client.update_queue(queue={"name": QUEUE, "retry_config": retries})
    target.answers = [500] * 20
    http(client)
    drain(server, clock)
    started = [(record.started - server.dispatches[0].started) / 1_000_000 for record in server.dispatches]
    assert started == [0, 10, 30, 60, 90, 120]


# Headers


def test_headers_of_the_connection_are_dropped(server, client, target):
    """
    What belongs to a connection, is computed or is Google's own does not travel with the task, nor does what Connection
    names.
    """
    dropped = {
        "Transfer-Encoding": "chunked",
        "connection": "close, X-Hop",
        "Keep-Alive": "timeout=5",
        "TE": "trailers",
        "Trailer": "X-T",
        "Upgrade": "h2c",
        "Proxy-Connection": "close",
        "X-Hop": "1",
        "Host": "elsewhere.test",
        "Content-Length": "99",
        "X-Google-Secret": "1",
        "X-AppEngine-Secret": "1",
    }
    stored = http(client, headers={**dropped, "X-Stays": "1"}).http_request
    assert dict(stored.headers) == {"X-Stays": "1", "User-Agent": "Google-Cloud-Tasks"}
    server.run_due()
    assert not {name.lower() for name in target.sent[0].headers} & {name.lower() for name in dropped}
