"""
From HTTP requests to RPCs, without a port: addresses, parameters, bodies, refusals.
"""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from google.cloud.firestore_v1 import types
from google.cloud.firestore_v1.services.firestore.transports import rest_base as firestore_rest
from google.cloud.tasks_v2.services.cloud_tasks.transports import rest_base as tasks_rest
from google.cloud.tasks_v2beta3.services.cloud_tasks.transports import rest_base as beta_rest
from google.rpc import error_details_pb2

from gcp_emulator.firestore import FirestoreServer
from gcp_emulator.firestore.rest import ROUTES
from gcp_emulator.rest import Rest, refused, rendered
from gcp_emulator.rpc import RpcError
from gcp_emulator.tasks import TasksServer, beta
from gcp_emulator.tasks.rest import routes

OTHER_SERVICES = ("cmekConfig", "operations", "{name=projects/*/locations/*}", "{name=projects/*}/locations")
ROOT = "projects/p/databases/(default)/documents"


@pytest.fixture
def firestore() -> FirestoreServer:
    return FirestoreServer()


def asked(server: FirestoreServer, verb: str, target: str, body: object = None) -> Any:
    """
    The RPC's short name and request for an HTTP request to *server*.
    """
    call = Rest([(server.service, ROUTES)]).call(verb, target, b"" if body is None else json.dumps(body).encode())
    return call.rpc, call.request


@pytest.mark.parametrize(
    ("verb", "path", "rpc", "fields"),
    [
        ("GET", "/a/b", "GetDocument", {"name": f"{ROOT}/a/b"}),
        ("GET", "/a/b/c/d", "GetDocument", {"name": f"{ROOT}/a/b/c/d"}),
        ("GET", "/a/b%2520%C3%A4", "GetDocument", {"name": f"{ROOT}/a/b%20ä"}),
        ("GET", "/a", "ListDocuments", {"parent": ROOT, "collection_id": "a"}),
        ("GET", "/a/b/c", "ListDocuments", {"parent": f"{ROOT}/a/b", "collection_id": "c"}),
        ("DELETE", "/a/b", "DeleteDocument", {"name": f"{ROOT}/a/b"}),
        ("POST", "/a", "CreateDocument", {"parent": ROOT, "collection_id": "a"}),
        ("POST", "/a/b/c", "CreateDocument", {"parent": f"{ROOT}/a/b", "collection_id": "c"}),
        ("POST", ":runQuery", "RunQuery", {"parent": ROOT}),
        ("POST", "/a/b:runQuery", "RunQuery", {"parent": f"{ROOT}/a/b"}),
        ("POST", ":commit", "Commit", {"database": "projects/p/databases/(default)"}),
    ],
)
def test_addresses_of_documents_and_collections(
    firestore: FirestoreServer, verb: str, path: str, rpc: str, fields: dict[str, str]
) -> None:
    name, request = asked(firestore, verb, f"/v1/{ROOT}{path}", {} if verb == "POST" else None)
    assert name == rpc
    assert {field: getattr(request, field) for field in fields} == fields


def test_parameters_are_read_by_the_type_of_their_field(firestore: FirestoreServer) -> None:
    query = "pageSize=3&showMissing=true&order_by=x%20desc&mask.fieldPaths=a&mask.fieldPaths=b%2Bc&readTime=2026-01-02T03:04:05Z"
    _, request = asked(firestore, "GET", f"/v1/{ROOT}/a?{query}&alt=json&key=1")
    assert (request.page_size, request.show_missing, request.order_by) == (3, True, "x desc")
    assert list(request.mask.field_paths) == ["a", "b+c"]
    assert request.read_time.ToJsonString() == "2026-01-02T03:04:05Z"


@pytest.mark.parametrize(
    ("verb", "path", "body", "code", "text"),
    [
        ("GET", "/v2/nothing", None, "NOT_FOUND", "has no address GET /v2/nothing"),
        ("PUT", f"/v1/{ROOT}/a/b", None, "NOT_FOUND", "has no address PUT"),
        ("GET", f"/v1/{ROOT}/a/b?colour=red", None, "INVALID_ARGUMENT", "no parameter 'colour'"),
        ("GET", f"/v1/{ROOT}/a?showMissing=yes", None, "INVALID_ARGUMENT", "can't be read"),
        ("GET", f"/v1/{ROOT}/a?pageSize=many", None, "INVALID_ARGUMENT", "can't be read"),
        ("GET", f"/v1/{ROOT}/a/b", {"x": 1}, "INVALID_ARGUMENT", "takes no body"),
        ("POST", f"/v1/{ROOT}:commit", {"wrong": 1}, "INVALID_ARGUMENT", "no field named"),
        ("POST", f"/v1/{ROOT}:commit", [1], "INVALID_ARGUMENT", "must be a JSON object"),
        ("POST", f"/v1/{ROOT}:executePipeline", {}, "UNIMPLEMENTED", "ExecutePipeline is not implemented"),
    ],
)
def test_refusals_name_the_fault(
    firestore: FirestoreServer, verb: str, path: str, body: object, code: str, text: str
) -> None:
    with pytest.raises(RpcError) as raised:
        asked(firestore, verb, path, body)
    assert raised.value.code is grpc.StatusCode[code]
    assert text in raised.value.message


def test_body_that_is_no_json_is_refused(firestore: FirestoreServer) -> None:
    with pytest.raises(RpcError, match="The body is no JSON"):
        Rest([(firestore.service, ROUTES)]).call("POST", f"/v1/{ROOT}:commit", b"{")


def test_stream_is_an_array_and_so_is_its_refusal(firestore: FirestoreServer) -> None:
    call = Rest([(firestore.service, ROUTES)]).call("POST", f"/v1/{ROOT}:runQuery", b"{}")
    answer = types.RunQueryResponse.pb()(skipped_results=1)
    assert call.streamed
    assert json.loads(rendered(call, [answer])) == [{"skippedResults": 1}]
    status, body = refused(RpcError(grpc.StatusCode.ABORTED, "Again."), streamed=True)
    assert (status, json.loads(body)) == (409, [{"error": {"code": 409, "message": "Again.", "status": "ABORTED"}}])


def test_refusal_carries_its_details() -> None:
    help_ = error_details_pb2.Help(links=[error_details_pb2.Help.Link(url="http://h")])
    _, body = refused(RpcError(grpc.StatusCode.INVALID_ARGUMENT, "No.", [help_]))
    (detail,) = json.loads(body)["error"]["details"]
    assert detail == {"@type": "type.googleapis.com/google.rpc.Help", "links": [{"url": "http://h"}]}


def google_rules(module: Any) -> set[tuple[str, str]]:
    """
    Verb and address of every rule that Google's client sends.
    """
    (base,) = [found for name, found in vars(module).items() if name.endswith("RestTransport")]
    methods = [found for found in vars(base).values() if hasattr(found, "_get_http_options")]
    return {(rule["method"].upper(), rule["uri"]) for each in methods for rule in each._get_http_options()}


@pytest.mark.parametrize(
    ("module", "rows", "elsewhere"),
    [
        (firestore_rest, ROUTES, ("operations",)),
        (tasks_rest, routes("v2"), OTHER_SERVICES),
        (beta_rest, routes("v2beta3"), OTHER_SERVICES),
    ],
)
def test_every_address_of_googles_client_has_a_route(module: Any, rows: Any, elsewhere: tuple[str, ...]) -> None:
    ours = {(row.verb, row.template.replace("<*/*>", "*/**")) for row in rows}
    theirs = {rule for rule in google_rules(module) if not any(word in rule[1] for word in elsewhere)}
    assert len(theirs) > 15
    assert not theirs - ours


def test_beta_version_has_the_rpcs_of_v2_and_its_own_field_of_a_queue() -> None:
    tasks = TasksServer(auto=False)
    second = beta.service(tasks.service)
    rest = Rest([(second, routes("v2beta3"))])
    location = "projects/p/locations/l"

    def call(verb: str, path: str, body: object) -> Any:
        found = rest.call(verb, path, json.dumps(body).encode())
        return found.service.call(found.rpc, found.request)

    assert set(second.methods) == set(tasks.service.methods)
    made = call("POST", f"/v2beta3/{location}/queues", {"name": f"{location}/queues/q", "type": "PUSH"})
    assert type(made).DESCRIPTOR.full_name == "google.cloud.tasks.v2beta3.Queue"
    assert tasks.tasks() == []
    with pytest.raises(RpcError, match="pull_message"):
        call("POST", f"/v2beta3/{location}/queues/q/tasks", {"task": {"pullMessage": {}}})
    call("POST", f"/v2beta3/{location}/queues/q/tasks", {"task": {"httpRequest": {"url": "http://h/"}}})
    assert [task.http_request.url for task in tasks.tasks()] == ["http://h/"]
    assert tasks.counts["CreateTask"] == 1
