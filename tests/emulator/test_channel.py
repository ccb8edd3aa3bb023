"""
The channel that ends in this process, under unmodified Google clients.
"""

from __future__ import annotations

import threading
from typing import Any

import grpc
import pytest
from google.api_core.exceptions import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    MethodNotImplemented,
    NotFound,
)
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from google.cloud.firestore_v1.services.firestore import FirestoreClient
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcTransport
from google.cloud.firestore_v1.types import Document, ExecutePipelineRequest
from google.cloud.tasks_v2 import CloudTasksClient
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from gcp_emulator.channel import InProcessChannel, firestore_client
from gcp_emulator.clock import VirtualClock
from gcp_emulator.firestore import FirestoreServer
from gcp_emulator.rpc import RpcError
from gcp_emulator.tasks import TasksServer


@pytest.fixture
def server() -> FirestoreServer:
    """
    A server that is never put on a port.
    """
    return FirestoreServer(VirtualClock())


@pytest.fixture
def client(server: FirestoreServer) -> firestore.Client:
    """
    The ordinary client on it.
    """
    return firestore_client(InProcessChannel([server.service]), "p")


def test_documents_queries_and_transactions_work(client: firestore.Client) -> None:
    """
    The whole ordinary client: create, get, update, delete, query, transaction.
    """
    reference = client.collection("things").document("a")
    reference.create({"n": 1})
    client.collection("things").document("b").set({"n": 2})

    @firestore.transactional
    def raise_(transaction: firestore.Transaction) -> None:
        found = reference.get(transaction=transaction)
        transaction.update(reference, {"n": found.get("n") + 10})

    raise_(client.transaction())
    found = [d.get("n") for d in client.collection("things").where(filter=firestore.FieldFilter("n", ">", 1)).stream()]
    assert found == [2, 11]
    reference.delete()
    assert not reference.get().exists


def test_refusals_are_the_client_s_own_errors(client: firestore.Client) -> None:
    """
    What the service refuses arrives as the exception that a real channel would give.
    """
    reference = client.collection("things").document("a")
    with pytest.raises(NotFound):
        reference.update({"n": 1})
    written = reference.create({"n": 1})
    with pytest.raises(AlreadyExists):
        reference.create({"n": 1})
    reference.update({"n": 2})
    with pytest.raises(FailedPrecondition):
        reference.update({"n": 3}, option=client.write_option(last_update_time=written.update_time))


def test_no_thread_and_no_socket_is_opened(client: firestore.Client) -> None:
    """
    A call is a function call.
    """
    before = threading.active_count()
    client.collection("things").document("a").set({"n": 1})
    list(client.collection("things").stream())
    assert threading.active_count() == before


def test_neither_side_sees_the_other_s_later_changes(server: FirestoreServer) -> None:
    """
    Messages are copied as on a wire: what a caller does to an answer does not reach what is stored.
    """
    channel = InProcessChannel([server.service])
    client = firestore_client(channel, "p")
    client.document("things/a").set({"n": 1})
    api = FirestoreClient(transport=FirestoreGrpcTransport(channel=channel, credentials=AnonymousCredentials()))
    name = "projects/p/databases/(default)/documents/things/a"
    answer = Document.pb(api.get_document(request={"name": name}))
    answer.fields["n"].integer_value = 99

    assert client.document("things/a").get().get("n") == 1


def test_call_that_takes_too_long_is_applied_and_times_out() -> None:
    """
    DEADLINE_EXCEEDED says nothing about the effect.
    """
    clock = VirtualClock()
    server = FirestoreServer(clock)

    def slow(service: Any, name: str, request: Any, timeout: float | None) -> Any:
        answer = service.call(name, request)
        clock.advance(60)
        return answer

    client = firestore_client(InProcessChannel([server.service], clock, via=slow), "p")
    with pytest.raises(DeadlineExceeded):
        client.document("things/a").set({"n": 1}, retry=None, timeout=10)
    assert list(server.documents("p")) == ["things/a"]


def test_answer_lost_on_the_way_is_what_the_caller_sees(server: FirestoreServer) -> None:
    """
    Whoever stands in between decides what the caller sees, whatever became of the call.
    """

    def lossy(service: Any, name: str, request: Any, timeout: float | None) -> Any:
        service.call(name, request)
        raise RpcError(grpc.StatusCode.NOT_FOUND, "lost")

    client = firestore_client(InProcessChannel([server.service], via=lossy), "p")
    with pytest.raises(NotFound, match="lost"):
        client.document("things/a").set({"n": 1})
    assert list(server.documents("p")) == ["things/a"]


def test_unknown_method_is_refused(client: firestore.Client) -> None:
    """
    An RPC that the server lacks is UNIMPLEMENTED with a sentence.
    """
    request = ExecutePipelineRequest(database="projects/p/databases/(default)")
    with pytest.raises(MethodNotImplemented, match="ExecutePipeline is not implemented"):
        list(client._firestore_api.execute_pipeline(request))


def test_cloud_tasks_client_works() -> None:
    """
    Any service of the local cloud, for any client.
    """
    server = TasksServer(VirtualClock(), auto=False)
    queue = server.create_queue("projects/p/locations/l/queues/q").name
    channel = InProcessChannel([server.service])
    client = CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel, credentials=AnonymousCredentials()))
    client.create_task(parent=queue, task={"http_request": {"url": "https://x.test/"}})

    assert len(list(client.list_tasks(parent=queue))) == 1
