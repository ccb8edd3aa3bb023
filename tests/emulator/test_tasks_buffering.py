"""
Tasks out of a bare body, for queues with an HTTP target: over REST, and by the bytes of gRPC.
"""

from __future__ import annotations

import base64
from typing import Any

import grpc
import httpx
import pytest
from google.cloud import tasks_v2

from gcp_emulator.clock import VirtualClock
from gcp_emulator.tasks import Answer, TasksServer
from gcp_emulator.tasks.buffering import Request, Response

QUEUE = "projects/p/locations/l/queues/q"
BODY = {"body": {"contentType": "text/plain", "data": base64.b64encode(b"hello").decode()}}


class Target:
    """
    A transport that keeps the dispatches.
    """

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def __call__(self, dispatch: Any) -> Answer:
        self.sent.append(dispatch)
        return Answer(200)


@pytest.fixture
def target() -> Target:
    return Target()


@pytest.fixture
def server(target: Target) -> Any:
    server = TasksServer(VirtualClock(), transport=target, auto=False, project="p")
    server.start()
    server.create_queue(QUEUE)
    yield server
    server.stop()


def aim(server: TasksServer) -> None:
    queue = tasks_v2.Queue.pb()(name=QUEUE)
    queue.http_target.uri_override.host = "orders.test"
    server.service.call(
        "UpdateQueue", tasks_v2.UpdateQueueRequest.pb()(queue=queue, update_mask={"paths": ["http_target"]})
    )


@pytest.mark.parametrize("version", ["v2", "v2beta3"])
@pytest.mark.parametrize("task", ["", "/first"])
def test_body_becomes_a_task_for_the_target_of_the_queue(
    server: TasksServer, target: Target, version: str, task: str
) -> None:
    aim(server)
    answer = httpx.post(f"http://{server.address}/{version}/{QUEUE}/tasks{task}:buffer", json=BODY)
    assert answer.status_code == 200
    name = answer.json()["task"]["name"]
    assert name == f"{QUEUE}/tasks/first" if task else name.startswith(f"{QUEUE}/tasks/")
    assert server.run_due() == 1
    (sent,) = target.sent
    assert (sent.body, sent.headers["Content-Type"]) == (b"hello", "text/plain")
    assert "orders.test" in sent.url


def test_clients_that_have_the_call_use_it_over_grpc(server: TasksServer, target: Target) -> None:
    aim(server)
    with grpc.insecure_channel(server.address) as channel:
        stub = channel.unary_unary("/google.cloud.tasks.v2.CloudTasks/BufferTask")
        answer = Response.FromString(stub(Request(queue=QUEUE, task_id="a", body={"data": b"x"}).SerializeToString()))
    assert answer.task.name == f"{QUEUE}/tasks/a"
    assert [task.http_request.body for task in server.tasks()] == [b"x"]


def test_queue_without_a_target_is_refused(server: TasksServer) -> None:
    answer = httpx.post(f"http://{server.address}/v2/{QUEUE}/tasks:buffer", json=BODY)
    assert answer.status_code == 400
    assert "must have an HTTP target" in answer.json()["error"]["message"]
    assert server.tasks() == []


@pytest.mark.parametrize(("queue", "status"), [(f"{QUEUE}x", 404), (QUEUE.replace("projects/p", "projects/o"), 403)])
def test_missing_queue_and_other_project_are_refused(server: TasksServer, queue: str, status: int) -> None:
    assert httpx.post(f"http://{server.address}/v2/{queue}/tasks:buffer", json=BODY).status_code == status
