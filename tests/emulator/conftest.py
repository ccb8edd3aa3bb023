"""
Firestore servers under test, and ways to call them.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import uuid
from collections.abc import AsyncIterable, Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from google.cloud.firestore_v1 import types
from google.protobuf import empty_pb2

from gcp_emulator.firestore import FirestoreServer, GoogleFirestore, find
from tests.support.calls import Calls

RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def firestore_embedded() -> Iterator[FirestoreServer]:
    server = FirestoreServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def firestore_google() -> Iterator[GoogleFirestore]:
    if find() is None:
        pytest.skip("Google's Firestore emulator (or Java) is not installed")
    server = GoogleFirestore()
    server.start()
    yield server
    server.stop()


@dataclass(frozen=True)
class Difference:
    """
    Where the two servers differ on purpose.

    Attributes:
        embedded: What the embedded one does.
        google: What Google's emulator does.
        reason: Why.
        limit: It is one of the limits of ``test_firestore_limits.py``.
    """

    embedded: Any
    google: Any
    reason: str
    limit: bool = False


def lax(reason: str, google: grpc.StatusCode = grpc.StatusCode.OK) -> Difference:
    """
    A limit that Google's emulator does not enforce.
    """
    return Difference(grpc.StatusCode.INVALID_ARGUMENT, google, reason, limit=True)


DIFFERENCES = {
    "empty commit has a commit_time": Difference(
        embedded=True, google=False, reason="the service documents a commit_time; callers use it as the server's time"
    ),
    "write into another database": Difference(
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.OK,
        "the service refuses it; a test must not pass by accident",
    ),
    "__name__ in an update mask": Difference(
        grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OK, "reserved; Google's emulator ignores it"
    ),
    "a deleted document that is listed as missing has an update_time": Difference(
        embedded=False, google=True, reason="documented: neither create_time nor update_time is set"
    ),
    "pages of a list by a field": Difference(
        grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN, "Google's emulator breaks down over its own page token"
    ),
    "write while a transaction has read the document": Difference(
        grpc.StatusCode.OK,
        grpc.StatusCode.ABORTED,
        "optimistic against two seconds of waiting for a lock",
    ),
    "document of 1 MiB less 4 bytes": lax("Google's emulator lets some ten bytes more pass"),
    "name of 6 KiB": lax("a documented limit"),
    "____ is of the form __.*__": lax("it matches the documented expression"),
    "transform of a field path over 1,500 bytes": lax("refused by Google's emulator in every other write"),
    "40,000 index entries of a document": lax("a documented limit; Google's emulator has no indexes"),
    "8 MiB of index entries of a document": lax("a documented limit; Google's emulator has no indexes"),
    "500 transforms of a document": lax("a documented limit"),
    "request of 10 MiB": lax("Google's emulator refuses from 4 MiB on, in its transport", RESOURCE_EXHAUSTED),
    "500 writes of a BatchWrite": lax("a documented limit"),
    "database id of 4 to 63 letters, digits and hyphens": lax("a documented rule; Google's emulator takes any id"),
    "no sixth aggregation": lax("refused by both; Google's emulator has no status for it", grpc.StatusCode.UNKNOWN),
    "count up to 0": lax("documented as greater than zero"),
}


@pytest.fixture(scope="session")
def firestore_differences() -> dict[str, Difference]:
    """
    Every difference by its name.
    """
    return DIFFERENCES


@dataclass(frozen=True)
class ServerUnderTest:
    name: str
    address: str

    def expected(self, difference: str) -> Any:
        """
        What this server does where the two differ.
        """
        known = DIFFERENCES[difference]
        return known.embedded if self.name == "embedded" else known.google

    def refused(self, limit: str, code: grpc.StatusCode) -> Any:
        """
        What this server answers beyond a limit that is documented to end with *code*.
        """
        return self.expected(limit) if limit in DIFFERENCES else code


@pytest.fixture(params=["embedded", pytest.param("google", marks=pytest.mark.google)])
def firestore_server(request: pytest.FixtureRequest) -> ServerUnderTest:
    """
    Each of the two servers in turn.
    """
    server = request.getfixturevalue(f"firestore_{request.param}")
    return ServerUnderTest(request.param, server.address)


@pytest.fixture
def firestore_project() -> str:
    """
    A project that nobody else uses.
    """
    return f"p{next(_numbers)}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def firestore_client(
    firestore_server: ServerUnderTest, firestore_project: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[firestore.Client]:
    """
    The unmodified client, pointed at the server as documented.
    """
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_server.address)
    client = firestore.Client(project=firestore_project, credentials=AnonymousCredentials())
    yield client
    client.close()


@dataclass(frozen=True)
class EitherClient:
    """
    Google's client or its asyncio client, in a test that is written once.

    Attributes:
        client: The client.
        loop: Runs what the asyncio client returns; None for the other client.
    """

    client: Any
    loop: asyncio.Runner | None

    def __call__(self, made: Any) -> Any:
        """
        The result of a call: awaited if it must be, and as a list if it is a stream.
        """
        if inspect.isawaitable(made):
            assert self.loop is not None
            made = self.loop.run(_awaited(made))
        if isinstance(made, AsyncIterable):
            assert self.loop is not None
            return self.loop.run(_collected(made))
        return list(made) if isinstance(made, Generator) else made


async def _awaited(made: Awaitable[Any]) -> Any:
    return await made


async def _collected(made: AsyncIterable[Any]) -> list[Any]:
    return [each async for each in made]


@pytest.fixture(params=["sync", "async"])
def firestore_either(
    request: pytest.FixtureRequest,
    firestore_server: ServerUnderTest,
    firestore_project: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[EitherClient]:
    """
    The unmodified clients, one after the other, on each of the two servers.
    """
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_server.address)
    if request.param == "sync":
        client = firestore.Client(project=firestore_project, credentials=AnonymousCredentials())
        yield EitherClient(client, None)
        client.close()
        return
    with asyncio.Runner() as loop:
        aio = loop.run(_async_client(firestore_project))
        yield EitherClient(aio, loop)
        loop.run(_close(aio))


async def _async_client(project: str) -> firestore.AsyncClient:
    return firestore.AsyncClient(project=project, credentials=AnonymousCredentials())


async def _close(client: firestore.AsyncClient) -> None:
    await client._firestore_api.transport.close()


@pytest.fixture
def calls(firestore_client: firestore.Client) -> Calls:
    """
    The client's RPCs, field by field.
    """
    return Calls(firestore_client)


@pytest.fixture
def firestore_wire(firestore_server: ServerUnderTest, firestore_project: str) -> Iterator[Wire]:
    """
    Plain messages on a channel, for what the client doesn't show.
    """
    with grpc.insecure_channel(firestore_server.address) as channel:
        yield Wire(channel, firestore_project)


@pytest.fixture
def firestore_embedded_wire(firestore_embedded: FirestoreServer, firestore_project: str) -> Iterator[Wire]:
    """
    The same, for the embedded server only.
    """
    with grpc.insecure_channel(firestore_embedded.address) as channel:
        yield Wire(channel, firestore_project)


@pytest.fixture(scope="session")
def firestore_wire_to() -> type[Wire]:
    """
    ``Wire``, for tests that start servers of their own.
    """
    return Wire


def pb(name: str) -> Any:
    return getattr(types, name).pb()


def value(data: Any) -> Any:
    """
    A plain ``Value`` of Python data; a message passes through.
    """
    made = pb("Value")()
    match data:
        case None:
            made.null_value = 0
        case bool():
            made.boolean_value = data
        case int():
            made.integer_value = data
        case float():
            made.double_value = data
        case str():
            made.string_value = data
        case bytes():
            made.bytes_value = data
        case list():
            made.array_value.SetInParent()
            made.array_value.values.extend(value(element) for element in data)
        case dict():
            made.map_value.SetInParent()
            for name, field in data.items():
                made.map_value.fields[name].CopyFrom(value(field))
        case _:
            made.CopyFrom(data)
    return made


def outcome(call: Callable[..., Any], *args: Any, **kwargs: Any) -> grpc.StatusCode:
    """
    Status that a call ends with.
    """
    try:
        call(*args, **kwargs)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def micros(timestamp: Any) -> int:
    return int(timestamp.seconds * 1_000_000 + timestamp.nanos // 1000)


class Wire:
    """
    Firestore's RPCs on plain messages, in one project.
    """

    pb = staticmethod(pb)
    value = staticmethod(value)
    outcome = staticmethod(outcome)
    micros = staticmethod(micros)

    def __init__(self, channel: grpc.Channel, project: str, database: str = "(default)") -> None:
        self._channel = channel
        self.project = project
        self.database = f"projects/{project}/databases/{database}"
        self.root = f"{self.database}/documents"

    def other(self, project: str | None = None, database: str = "(default)") -> Wire:
        return Wire(self._channel, project or self.project, database)

    def name(self, path: str) -> str:
        return f"{self.root}/{path}"

    def call(self, method: str, request: Any, response: Any, *, stream: bool = False) -> Any:
        kind = self._channel.unary_stream if stream else self._channel.unary_unary
        rpc = kind(
            f"/google.firestore.v1.Firestore/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        metadata = (("authorization", "Bearer owner"), ("google-cloud-resource-prefix", self.database))
        answer = rpc(request, timeout=100, metadata=metadata)
        return list(answer) if stream else answer

    def write(
        self,
        path: str,
        data: dict[str, Any] | None = None,
        *,
        mask: list[str] | None = None,
        exists: bool | None = None,
        update_time: Any = None,
        transforms: list[Any] | None = None,
    ) -> Any:
        write = pb("Write")()
        write.update.name = self.name(path)
        for name, field in (data or {}).items():
            write.update.fields[name].CopyFrom(value(field))
        if mask is not None:
            write.update_mask.SetInParent()
            write.update_mask.field_paths.extend(mask)
        write.update_transforms.extend(transforms or [])
        return self._conditional(write, exists, update_time)

    def delete(self, path: str, *, exists: bool | None = None, update_time: Any = None) -> Any:
        return self._conditional(pb("Write")(delete=self.name(path)), exists, update_time)

    def transform(self, path: str, *transforms: Any, exists: bool | None = None) -> Any:
        write = pb("Write")()
        write.transform.document = self.name(path)
        write.transform.field_transforms.extend(transforms)
        return self._conditional(write, exists, None)

    @staticmethod
    def field_transform(path: str, operation: str, operand: Any = None) -> Any:
        made = pb("DocumentTransform").FieldTransform(field_path=path)
        if operation == "set_to_server_value":
            made.set_to_server_value = 1
        elif isinstance(operand, list):
            getattr(made, operation).SetInParent()
            getattr(made, operation).values.extend(value(element) for element in operand)
        else:
            getattr(made, operation).CopyFrom(value(operand))
        return made

    def commit(self, *writes: Any, transaction: bytes = b"") -> Any:
        request = pb("CommitRequest")(database=self.database, writes=writes, transaction=transaction)
        return self.call("Commit", request, pb("CommitResponse"))

    def begin(self, **options: Any) -> bytes:
        request = pb("BeginTransactionRequest")(database=self.database, options=options)
        return bytes(self.call("BeginTransaction", request, pb("BeginTransactionResponse")).transaction)

    def rollback(self, transaction: bytes) -> None:
        request = pb("RollbackRequest")(database=self.database, transaction=transaction)
        self.call("Rollback", request, empty_pb2.Empty)

    def get(self, path: str, **request: Any) -> Any:
        return self.call("GetDocument", pb("GetDocumentRequest")(name=self.name(path), **request), pb("Document"))

    def batch_get(self, *paths: str, **request: Any) -> list[Any]:
        made = pb("BatchGetDocumentsRequest")(
            database=self.database, documents=[self.name(path) for path in paths], **request
        )
        return list(self.call("BatchGetDocuments", made, pb("BatchGetDocumentsResponse"), stream=True))

    def query_message(self, collection: str, *, group: bool = False, **query: Any) -> Any:
        made = pb("StructuredQuery")(**query)
        made.from_.add(collection_id=collection, all_descendants=group)
        return made

    def query(self, collection: str, *, parent: str = "", request: Any = None, **query: Any) -> list[Any]:
        """
        Responses of a RunQuery.
        """
        made = pb("RunQueryRequest")(
            parent=f"{self.root}/{parent}" if parent else self.root,
            structured_query=self.query_message(collection, **query),
            **(request or {}),
        )
        return list(self.call("RunQuery", made, pb("RunQueryResponse"), stream=True))

    def ids(self, collection: str, **query: Any) -> list[str]:
        """
        Paths of a query's results.
        """
        responses = self.query(collection, **query)
        found = [each.document.name for each in responses if each.HasField("document")]
        return [name.removeprefix(self.root + "/").removeprefix(collection + "/") for name in found]

    def count(self, collection: str, *, up_to: int | None = None, request: Any = None, **query: Any) -> int:
        aggregated = pb("StructuredAggregationQuery")(structured_query=self.query_message(collection, **query))
        counted = aggregated.aggregations.add(alias="n").count
        counted.SetInParent()
        if up_to is not None:
            counted.up_to.value = up_to
        made = pb("RunAggregationQueryRequest")(
            parent=self.root, structured_aggregation_query=aggregated, **(request or {})
        )
        responses = self.call("RunAggregationQuery", made, pb("RunAggregationQueryResponse"), stream=True)
        return int(responses[-1].result.aggregate_fields["n"].integer_value)

    def aggregate(self, collection: str, *aggregations: Any, request: Any = None, **query: Any) -> dict[str, Any]:
        """
        Values by alias.
        """
        made = pb("RunAggregationQueryRequest")(
            parent=self.root,
            structured_aggregation_query={
                "structured_query": self.query_message(collection, **query),
                "aggregations": list(aggregations),
            },
            **(request or {}),
        )
        responses = self.call("RunAggregationQuery", made, pb("RunAggregationQueryResponse"), stream=True)
        return dict(responses[-1].result.aggregate_fields)

    def filter(self, path: str, operator: str, operand: Any) -> Any:
        made = pb("StructuredQuery").Filter()
        made.field_filter.field.field_path = path
        made.field_filter.op = pb("StructuredQuery").FieldFilter.Operator.Value(operator)
        made.field_filter.value.CopyFrom(value(operand))
        return made

    def unary(self, path: str, operator: str) -> Any:
        made = pb("StructuredQuery").Filter()
        made.unary_filter.field.field_path = path
        made.unary_filter.op = pb("StructuredQuery").UnaryFilter.Operator.Value(operator)
        return made

    def both(self, *filters: Any) -> Any:
        made = pb("StructuredQuery").Filter()
        made.composite_filter.op = 1
        made.composite_filter.filters.extend(filters)
        return made

    @staticmethod
    def order(*paths: str) -> list[Any]:
        """
        Orders by field path, descending with a minus before it.
        """
        return [
            pb("StructuredQuery").Order(
                field={"field_path": path.removeprefix("-")}, direction=2 if path.startswith("-") else 1
            )
            for path in paths
        ]

    @staticmethod
    def _conditional(write: Any, exists: bool | None, update_time: Any) -> Any:
        if exists is not None:
            write.current_document.exists = exists
        if update_time is not None:
            write.current_document.update_time.CopyFrom(update_time)
        return write
