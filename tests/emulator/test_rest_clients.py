"""
REST and gRPC on one port, by Google's clients, firebase-admin and plain HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import firebase_admin
import grpc
import httpx
import pytest
from firebase_admin import functions
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore, tasks_v2, tasks_v2beta3
from google.cloud.firestore_v1.services.firestore import FirestoreClient
from google.cloud.firestore_v1.services.firestore.transports import FirestoreRestTransport
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksRestTransport
from google.cloud.tasks_v2beta3.services.cloud_tasks.transports import (
    CloudTasksGrpcTransport,
)
from google.cloud.tasks_v2beta3.services.cloud_tasks.transports import CloudTasksRestTransport as BetaRestTransport

from gcp_emulator.cloud import LocalCloud

QUEUE = "projects/demo-local/locations/us-central1/queues/default"
DATABASE = "projects/demo-local/databases/(default)"


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud(auto=False, smtp=False) as found:
        yield found


@pytest.fixture
def plain(cloud: LocalCloud) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{cloud.firestore.address}") as client:
        yield client


@pytest.fixture
def admin(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[firebase_admin.App]:
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", cloud.tasks.address)
    app = firebase_admin.initialize_app(options={"projectId": "demo-local"}, name="rest")
    yield app
    firebase_admin.delete_app(app)


def purge(cloud: LocalCloud) -> None:
    cloud.tasks.service.call("PurgeQueue", tasks_v2.PurgeQueueRequest.pb()(name=QUEUE))


@pytest.mark.parametrize(
    ("module", "transport"), [(tasks_v2, CloudTasksRestTransport), (tasks_v2beta3, BetaRestTransport)]
)
def test_client_of_cloud_tasks_works_over_rest(cloud: LocalCloud, module: Any, transport: Any) -> None:
    purge(cloud)
    carrier = transport(host=cloud.tasks.address, credentials=AnonymousCredentials(), url_scheme="http")
    client = module.CloudTasksClient(transport=carrier)
    task = {"http_request": {"url": "http://h/a?b=c", "body": b"\x00\xff", "headers": {"X-A": "1"}}}
    made = client.create_task(parent=QUEUE, task=task)
    found = client.get_task(request={"name": made.name, "response_view": module.Task.View.FULL})
    assert (found.http_request.url, found.http_request.body) == ("http://h/a?b=c", b"\x00\xff")
    assert [each.name for each in client.list_tasks(parent=QUEUE)] == [made.name]
    assert client.pause_queue(name=QUEUE).state == module.Queue.State.PAUSED
    assert client.resume_queue(name=QUEUE).state == module.Queue.State.RUNNING
    with pytest.raises(exceptions.NotFound):
        client.delete_task(name=f"{QUEUE}/tasks/none")
    client.delete_task(name=made.name)
    assert cloud.tasks.tasks() == []


def test_beta_client_works_over_grpc(cloud: LocalCloud) -> None:
    purge(cloud)
    with grpc.insecure_channel(cloud.tasks.address) as channel:
        client = tasks_v2beta3.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
        made = client.create_task(parent=QUEUE, task={"http_request": {"url": "http://h/"}})
    assert [task.name for task in cloud.tasks.tasks()] == [made.name]


def test_firestores_rest_and_grpc_have_the_same_documents(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", cloud.firestore.address)
    firestore.Client(project="demo-local").document("rest/1").set({"n": 5, "text": "ä", "none": None})
    transport = FirestoreRestTransport(
        host=cloud.firestore.address, credentials=AnonymousCredentials(), url_scheme="http"
    )
    client = FirestoreClient(transport=transport)
    name = f"{DATABASE}/documents/rest/1"
    found = client.get_document(request={"name": name})
    assert (found.fields["n"].integer_value, found.fields["text"].string_value) == (5, "ä")
    query = {"from_": [{"collection_id": "rest"}]}
    answers = list(client.run_query(request={"parent": f"{DATABASE}/documents", "structured_query": query}))
    assert [each.document.name for each in answers if each.document.name] == [name]
    client.commit(database=DATABASE, writes=[{"delete": name}])
    with pytest.raises(exceptions.NotFound):
        client.get_document(request={"name": name})


def test_firebase_admin_queues_and_deletes_a_task(cloud: LocalCloud, admin: firebase_admin.App) -> None:
    purge(cloud)
    queue = functions.task_queue("default", app=admin)
    made = queue.enqueue({"n": 1}, functions.TaskOptions(task_id="first", uri="http://h/x"))
    (task,) = cloud.tasks.tasks()
    assert (made, task.name) == ("first", f"{QUEUE}/tasks/first")
    assert task.http_request.url == "http://h/x"
    assert b'"n": 1' in task.http_request.body
    queue.delete("first")
    assert cloud.tasks.tasks() == []


def test_task_of_firebase_admin_without_an_address_goes_to_the_function(
    cloud: LocalCloud, admin: firebase_admin.App, monkeypatch: pytest.MonkeyPatch
) -> None:
    purge(cloud)
    with pytest.raises(Exception, match="url is required"):
        functions.task_queue("default", app=admin).enqueue({})
    monkeypatch.setattr(cloud.tasks, "app_url", "http://127.0.0.1:5001/")
    functions.task_queue("default", app=admin).enqueue({})
    assert [task.http_request.url for task in cloud.tasks.tasks()] == ["http://127.0.0.1:5001/default"]


def test_documents_are_wiped_by_the_address_of_googles_emulator(plain: httpx.Client) -> None:
    documents = "/v1/projects/wiped/databases/(default)/documents"
    assert plain.post(f"{documents}/a?documentId=1", json={}).status_code == 200
    assert plain.get(f"{documents}/a/1").status_code == 200
    answer = plain.delete("/emulator/v1/projects/wiped/databases/(default)/documents")
    assert (answer.status_code, answer.json()) == (200, {})
    assert plain.get(f"{documents}/a/1").status_code == 404


def test_error_is_googles_json(plain: httpx.Client) -> None:
    answer = plain.get("/v1/projects/p/databases/(default)/documents/a/none")
    assert answer.status_code == 404
    assert answer.json()["error"]["status"] == "NOT_FOUND"
    assert plain.get("/nothing").json()["error"]["message"] == "This server has no address GET /nothing."
    assert plain.get("/").text == "Ok\n"


def test_program_in_a_browser_may_call(plain: httpx.Client) -> None:
    answer = plain.options("/v1/projects/p/databases/(default)/documents/a/b", headers={"Origin": "http://page"})
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_body_of_many_megabytes_is_read(plain: httpx.Client) -> None:
    fields = {f"f{number}": {"stringValue": "x" * 900_000} for number in range(3)}
    writes = [
        {"update": {"name": f"projects/big/databases/(default)/documents/a/{key}", "fields": {key: value}}}
        for key, value in fields.items()
    ]
    body = json.dumps({"writes": writes})
    answer = plain.post("/v1/projects/big/databases/(default)/documents:commit", content=body)
    assert (answer.status_code, len(answer.json()["writeResults"])) == (200, 3)
