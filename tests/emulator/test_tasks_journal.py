"""
A queue whose operations are logged: the entries in the local Cloud Logging, and the lines about failures on the terminal.
"""

from __future__ import annotations

import threading

import pytest
from google.cloud import tasks_v2
from google.protobuf import json_format
from werkzeug.wrappers import Response

from gcp_emulator.clock import VirtualClock
from gcp_emulator.failures import FailureLines
from gcp_emulator.tasks import Dispatch, DispatchRecord
from gcp_emulator.testing import InProcessCloud
from tests.support.patience import patient

ORIGIN = "https://orders.test"
LOG = "projects/demo-local/logs/cloudtasks.googleapis.com%2Ftask_operations_log"


class App:
    """
    Answers from a list, then 200.
    """

    def __init__(self):
        self.answers = []

    def __call__(self, environ, start_response):
        return Response("done", status=self.answers.pop(0) if self.answers else 200)(environ, start_response)


@pytest.fixture
def app():
    return App()


@pytest.fixture
def cloud(app):
    cloud = InProcessCloud()
    cloud.mount(ORIGIN, app)
    yield cloud
    cloud.close()


@pytest.fixture
def client(cloud):
    return cloud.tasks_client()


def sampled(cloud, client, ratio):
    """
    Let the queue log a share of its operations.
    """
    queue = tasks_v2.Queue(name=cloud.queue, stackdriver_logging_config={"sampling_ratio": ratio})
    client.update_queue(queue=queue, update_mask={"paths": ["stackdriver_logging_config"]})


def create(cloud, client, **task):
    return client.create_task(parent=cloud.queue, task={"http_request": {"url": f"{ORIGIN}/x"}, **task}).name


def payloads(cloud, kind):
    entries = [json_format.MessageToDict(entry) for entry in cloud.logging.entries]
    return [entry["jsonPayload"][kind] for entry in entries if kind in entry["jsonPayload"]]


def test_operations_are_logged_as_the_service_logs_them(cloud, client, app):
    """
    A creation, two dispatches and their answers; names, labels and fields are those on record.
    """
    sampled(cloud, client, 1.0)
    app.answers = [503]
    name = create(cloud, client)
    cloud.run_until_idle()
    cloud.advance(1)
    entries = [json_format.MessageToDict(entry) for entry in cloud.logging.entries]
    assert {entry["logName"] for entry in entries} == {LOG}
    assert {entry["jsonPayload"]["task"] for entry in entries} == {name}
    assert {entry["jsonPayload"]["@type"] for entry in entries} == {
        "type.googleapis.com/google.cloud.tasks.logging.v1.TaskActivityLog"
    }
    assert entries[0]["resource"] == {
        "type": "cloud_tasks_queue",
        "labels": {"project_id": "demo-local", "location": "us-central1", "queue_id": "default", "target_type": "HTTP"},
    }
    target = {"targetAddress": f"POST {ORIGIN}/x", "targetType": "HTTP"}
    at = "2026-01-01T00:00:00Z"
    assert payloads(cloud, "taskCreationLog") == [{"scheduleTime": at, "status": "OK", **target}]
    first, second = payloads(cloud, "attemptDispatchLog")
    assert first == {
        "dispatchCount": "1", "maxAttempts": 100, "responseCount": "0", "scheduleTime": at, "status": "OK", **target,
    }  # fmt: skip
    assert (second["dispatchCount"], second["responseCount"]) == ("2", "1")
    failed, passed = payloads(cloud, "attemptResponseLog")
    assert failed == {
        "attemptDuration": "0.000000s", "dispatchCount": "1", "maxAttempts": 100, "responseCount": "1", "scheduleTime": at,
        "status": "UNAVAILABLE", "retryTime": "2026-01-01T00:00:00.100Z", **target,
    }  # fmt: skip
    assert (passed["status"], passed["dispatchCount"], "retryTime" in passed) == ("OK", "2", False)
    severities = [entry["severity"] for entry in entries if "attemptResponseLog" in entry["jsonPayload"]]
    assert severities == ["ERROR", "INFO"]


def test_nothing_is_logged_by_default(cloud, client):
    """
    The documented default is no logging.
    """
    create(cloud, client)
    cloud.run_until_idle()
    assert cloud.logging.entries == []


def test_a_share_is_logged(client, cloud):
    """
    With a ratio of 0.5 about half of the operations are logged.
    """
    sampled(cloud, client, 0.5)
    for _ in range(100):
        create(cloud, client)
    cloud.run_until_idle()
    assert 100 < len(cloud.logging.entries) < 200


def test_app_engine_targets_are_logged(cloud, client):
    """
    Their entries tell them from those over HTTP.
    """
    cloud.tasks.app_engine = ORIGIN
    sampled(cloud, client, 1.0)
    client.create_task(parent=cloud.queue, task={"app_engine_http_request": {"relative_uri": "/y"}})
    cloud.run_until_idle()
    assert [payload["targetAddress"] for payload in payloads(cloud, "taskCreationLog")] == ["POST http://orders.test/y"]
    assert {entry.resource.labels["target_type"] for entry in cloud.logging.entries} == {"APP_ENGINE"}


# Lines about failures


def record(status=None, body=b"", *, retry_count=0, finished=0):
    dispatch = Dispatch("POST", f"{ORIGIN}/x", {}, b"", 600)
    queue = "projects/p/locations/l/queues/mail"
    return DispatchRecord(
        f"{queue}/tasks/t", queue, retry_count, status, False, finished, finished, "", body, dispatch, None
    )


def test_failures_are_told_with_their_next_attempt(cloud, client, app):
    """
    Each failed attempt is told once, with the time of the next one; a success is not told, nor is a copy.
    """
    told = []
    cloud.tasks.on_failure = FailureLines(told.append, cloud.clock)
    app.answers = [503, 500]
    cloud.faults.fail("duplicate", times=1)
    name = create(cloud, client).rpartition("/")[2]
    cloud.advance(10)
    assert len(cloud.tasks.dispatches) == 4 - 1
    assert told == [f"failed     default/{name}: HTTP 503 from {ORIGIN}/x; attempt 1, again in 0.1 s"]


def test_failures_without_an_answer_say_why():
    """
    The sentence of the delivery stands in the line, without characters that would move a terminal's cursor.
    """
    told = []
    lines = FailureLines(told.append, VirtualClock())
    lines(record(body=b"127.0.0.1:8080 refused the connection; no server listens there."), 2_500_000)
    lines(record(404, retry_count=2), None)
    lines(record(body=b"\x1b[2Jevil"), None)
    assert told == [
        "failed     mail/t: 127.0.0.1:8080 refused the connection; no server listens there; attempt 1, again in 2.5 s",
        f"failed     mail/t: HTTP 404 from {ORIGIN}/x; attempt 3, there will be no other attempt",
        "failed     mail/t: ?[2Jevil; attempt 1, there will be no other attempt",
    ]


def test_a_burst_of_failures_does_not_drown_the_terminal():
    """
    Of a thousand failures in a second five are told, and then how many were left out.
    """
    told = []
    clock = VirtualClock()
    lines = FailureLines(told.append, clock)
    for _ in range(1000):
        lines(record(500), None)
    clock.advance(1.5)
    lines(record(404), None)
    assert len(told) == 7
    assert told[5] == "failed     995 more deliveries"
    assert "404" in told[6]


def test_the_end_of_a_burst_is_told_without_another_failure():
    """
    How many were left out is told after a second, even if nothing fails any more.
    """
    told, ended = [], threading.Event()

    def say(text):
        told.append(text)
        if "more" in text:
            ended.set()

    lines = FailureLines(say, VirtualClock(), most=1)
    lines(record(500), None)
    lines(record(500), None)
    assert ended.wait(patient(30))
    assert told[1] == "failed     1 more delivery"
