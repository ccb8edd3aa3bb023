"""
Remote calls to Firestore: plain messages on the client's own channel, with explicit deadlines and without hidden retries.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar
from urllib.parse import quote

import grpc
from google.cloud import firestore
from google.cloud.firestore_v1.types import firestore as _api
from google.cloud.firestore_v1.types import write as _write
from google.protobuf.empty_pb2 import Empty

from gcp_oncetask import forks
from gcp_oncetask.clock import Clock, Mark, at_least, elapsed
from gcp_oncetask.rules.statuses import FailureClass
from gcp_oncetask.store.codec import Document, DocumentType, get_timestamp
from gcp_oncetask.store.failures import WireError, classify

CommitRequest: Final = _api.CommitRequest.pb()
WriteType: Final = _write.Write.pb()
_CommitResponse: Final = _api.CommitResponse.pb()
_GetDocumentRequest: Final = _api.GetDocumentRequest.pb()
_BatchGetRequest: Final = _api.BatchGetDocumentsRequest.pb()
_BatchGetResponse: Final = _api.BatchGetDocumentsResponse.pb()
_BeginRequest: Final = _api.BeginTransactionRequest.pb()
_BeginResponse: Final = _api.BeginTransactionResponse.pb()
_RollbackRequest: Final = _api.RollbackRequest.pb()
_RunQueryRequest: Final = _api.RunQueryRequest.pb()
_RunQueryResponse: Final = _api.RunQueryResponse.pb()
_AggregationRequest: Final = _api.RunAggregationQueryRequest.pb()
_AggregationResponse: Final = _api.RunAggregationQueryResponse.pb()
_BatchWriteRequest: Final = _api.BatchWriteRequest.pb()
_BatchWriteResponse: Final = _api.BatchWriteResponse.pb()

_ListenRequest: Final = _api.ListenRequest.pb()
_ListenResponse: Final = _api.ListenResponse.pb()
_Target: Final = _api.Target.pb()
_QueryTarget: Final = _Target.QueryTarget
_CURRENT: Final = 3
_REMOVED: Final = 2

T = TypeVar("T")
_MOST_BEHIND: Final = 3.6
"""
Seconds by which the estimate of the server's time may be behind. A clock that runs up to 500 ppm too fast or too slow is
behind by that much about an hour after the latest answer; then the server is asked.
"""
_SERVICE: Final = "/google.firestore.v1.Firestore/"


@dataclass(frozen=True, slots=True)
class _FirestoreCalls:
    forks: int
    client: firestore.Client
    prefix: str
    database: str
    metadata: tuple[tuple[str, str], ...]
    commit: Any
    get: Any
    batch_get: Any
    begin: Any
    rollback: Any
    run_query: Any
    aggregate: Any
    batch_write: Any
    listen: Any


class Wire:
    """
    Calls to one database; opens its channel at first use, and a new one in a forked child.

    Args:
        connect: Makes the client; called once per process.
        clock: Measures time for the estimate of the server's clock.
        timeout: Deadline of one call, in seconds.
    """

    def __init__(self, connect: Callable[[bool], firestore.Client], clock: Clock, timeout: float) -> None:
        self._connect = connect
        self._clock = clock
        self._timeout = timeout
        self._calls: _FirestoreCalls | None = None
        self._seen: tuple[Any, Mark] | None = None

    def reopen(self) -> None:
        """
        Open a new channel with the next call.
        """
        self._calls = None

    # --- names ---

    @property
    def client(self) -> firestore.Client:
        """
        The client of this process.
        """
        return self._open().client

    @property
    def database(self) -> str:
        """
        ``projects/{project}/databases/{database}``.
        """
        return self._open().database

    def name(self, path: str) -> str:
        """
        Return the full name of the document at *path*.
        """
        return self._open().prefix + path

    def path(self, name: str) -> str:
        """
        Return the path of the document with the full *name*.
        """
        return name.removeprefix(self._open().prefix)

    # --- calls ---

    def request(self, path: str | None = None) -> Any:
        """
        Make a plain ``CommitRequest``, to be filled and handed to ``commit``: with one write, of the document at *path*, or
        without writes.
        """
        calls = self._open()
        made = CommitRequest(database=calls.database)
        if path is not None:
            made.writes.add().update.name = calls.prefix + path
        return made

    def write(self, path: str, request: Any | None = None) -> Any:
        """
        Make a plain ``Write`` of the document at *path*, to be filled: the next one of *request*, or a separate one.
        """
        write = WriteType() if request is None else request.writes.add()
        write.update.name = self._open().prefix + path
        return write

    def deletion(self, path: str, version: Any) -> Any:
        """
        Make a plain ``Write`` that deletes the document at *path* if it still has *version*, its update time.
        """
        write = WriteType(delete=self.name(path))
        write.current_document.update_time.CopyFrom(version)
        return write

    def commit(self, request: Any, *, timeout: float | None = None) -> Any:
        """
        Commit the writes of *request* together. A request without writes returns the server's time.

        Raises:
            WireError: The call failed.
        """
        calls = self._open()
        response = self._unary(calls.commit, calls, request, timeout)
        self._saw(response.commit_time)
        return response

    def get(self, path: str, *, timeout: float | None = None) -> Document | None:
        """
        Read one document by a unary call; None if it is missing. The answer has no server time.
        """
        calls = self._open()
        try:
            return self._unary(calls.get, calls, _GetDocumentRequest(name=calls.prefix + path), timeout)
        except WireError as error:
            if error.code is grpc.StatusCode.NOT_FOUND and error.failure is FailureClass.MOVED:
                return None
            raise

    def batch_get(
        self, paths: Sequence[str], *, transaction: bytes | None = None
    ) -> dict[str, tuple[Document | None, datetime]]:
        """
        Read documents: return them (None: missing) by path, each with the server time of the read.
        """
        calls = self._open()
        request = _BatchGetRequest(database=calls.database, documents=[calls.prefix + path for path in paths])
        if transaction is not None:
            request.transaction = transaction
        found = {}
        for answer in self._stream(calls.batch_get, calls, request):
            if answer.HasField("found"):
                found[answer.found.name.removeprefix(calls.prefix)] = (answer.found, get_timestamp(answer.read_time))
            elif answer.missing:
                found[answer.missing.removeprefix(calls.prefix)] = (None, get_timestamp(answer.read_time))
            self._saw(answer.read_time)
        return found

    def run_query(self, query: Any, parent: str = "") -> tuple[list[Document], datetime | None]:
        """
        Return the documents that match a plain ``StructuredQuery``, and the server time of the read.
        """
        calls = self._open()
        root = calls.prefix.removesuffix("/") + (f"/{parent}" if parent else "")
        found, read = [], None
        for answer in self._stream(calls.run_query, calls, _RunQueryRequest(parent=root, structured_query=query)):
            if answer.HasField("document"):
                found.append(answer.document)
            if answer.HasField("read_time"):
                read = get_timestamp(answer.read_time)
                self._saw(answer.read_time)
        return found, read

    def count(self, query: Any, most: int | None = None) -> int:
        """
        Count the documents that match a plain ``StructuredQuery``, by an aggregation; not beyond *most*, if it is given.
        """
        calls = self._open()
        request = _AggregationRequest(parent=calls.prefix.removesuffix("/"))
        request.structured_aggregation_query.structured_query.CopyFrom(query)
        one = request.structured_aggregation_query.aggregations.add(alias="n")
        one.count.SetInParent()
        if most is not None:
            one.count.up_to.value = most
        counted = 0
        for answer in self._stream(calls.aggregate, calls, request):
            if answer.HasField("result"):
                counted = answer.result.aggregate_fields["n"].integer_value
            self._saw(answer.read_time)
        return counted

    def batch_write(self, writes: Sequence[Any], *, timeout: float | None = None) -> list[tuple[Any, Any]]:
        """
        Apply writes that do not depend on each other; return the result and the ``google.rpc.Status`` of each (code 0:
        applied).
        """
        calls = self._open()
        request = _BatchWriteRequest(database=calls.database, writes=writes)
        response = self._unary(calls.batch_write, calls, request, timeout)
        self._saw_changes(writes, response.write_results)
        return list(zip(response.write_results, response.status, strict=True))

    def listen(self, queries: Sequence[Any]) -> tuple[Iterator[tuple[int, str, Document | None]], Callable[[], None]]:
        """
        Listen to the results of some queries, over one stream, until it is closed.

        Returns:
            An iterator and a function that closes the stream. The iterator yields a query's place, the full name of a
            document, and the document as the query now shows it; None: the query shows it no more. Place -1 - n: the query
            at place n is up to date.
        """
        calls = self._open()
        ended = threading.Event()
        targets = [
            _ListenRequest(
                database=calls.database,
                add_target=_Target(
                    target_id=place + 1,
                    query=_QueryTarget(parent=calls.prefix.removesuffix("/"), structured_query=query),
                ),
            )
            for place, query in enumerate(queries)
        ]

        def requests() -> Iterator[Any]:
            yield from targets
            ended.wait()

        stream = calls.listen(requests(), metadata=calls.metadata)

        def close() -> None:
            ended.set()
            stream.cancel()

        return _changes(stream, len(queries)), close

    def begin(self, retry: bytes | None = None) -> bytes:
        """
        Begin a read-write transaction; *retry* names the failed one that it repeats.
        """
        calls = self._open()
        request = _BeginRequest(database=calls.database)
        if retry is not None:
            request.options.read_write.retry_transaction = retry
        return bytes(self._unary(calls.begin, calls, request, None).transaction)

    def rollback(self, transaction: bytes) -> None:
        """
        Roll back a transaction.
        """
        calls = self._open()
        self._unary(calls.rollback, calls, _RollbackRequest(database=calls.database, transaction=transaction), None)

    # --- time ---

    def estimate(self) -> datetime | None:
        """
        Return a lower bound of the server's present time: the time of its latest answer plus the time that has surely
        passed since. None before the first answer, and about an hour after the latest, when the bound is seconds behind.
        """
        if self._seen is None:
            return None
        (stamp, mark), now = self._seen, self._clock.mark()
        surely = at_least(mark, now)
        return None if elapsed(mark, now) - surely > _MOST_BEHIND else get_timestamp(stamp, surely)

    def _saw(self, stamp: Any) -> None:
        # The mark is taken at the answer's arrival, so that the estimate is never later than the server's clock.
        self._seen = (stamp, self._clock.mark())

    def _saw_changes(self, writes: Sequence[Any], results: Sequence[Any]) -> None:
        # The answer has no time of its own. A write that changed nothing has the time of an earlier one.
        changed = [
            result.update_time
            for write, result in zip(writes, results, strict=True)
            if result.HasField("update_time") and result.update_time != write.current_document.update_time
        ]
        if not changed:
            return
        latest, known = max(changed, key=get_timestamp), self.estimate()
        if known is None or get_timestamp(latest) > known:
            self._saw(latest)

    # --- plumbing ---

    def _open(self) -> _FirestoreCalls:
        calls = self._calls
        if calls is not None and calls.forks == forks.generation:
            return calls
        client = self._connect(calls is not None)
        api = client._firestore_api  # noqa: SLF001 - the client's only way to its channel
        channel: grpc.Channel = api.transport.grpc_channel
        database: str = client._database_string  # noqa: SLF001 - it has no public name

        def unary(method: str, request: Any, response: Any) -> Any:
            return channel.unary_unary(
                _SERVICE + method,
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )

        def stream(method: str, request: Any, response: Any) -> Any:
            return channel.unary_stream(
                _SERVICE + method,
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )

        calls = _FirestoreCalls(
            forks=forks.generation,
            client=client,
            prefix=f"{database}/documents/",
            database=database,
            metadata=(
                *client._rpc_metadata,  # noqa: SLF001 - resource prefix, and the emulator's authorization
                ("x-goog-request-params", f"database={quote(database, safe='')}"),
            ),
            commit=unary("Commit", CommitRequest, _CommitResponse),
            get=unary("GetDocument", _GetDocumentRequest, DocumentType),
            batch_get=stream("BatchGetDocuments", _BatchGetRequest, _BatchGetResponse),
            begin=unary("BeginTransaction", _BeginRequest, _BeginResponse),
            rollback=unary("Rollback", _RollbackRequest, Empty),
            run_query=stream("RunQuery", _RunQueryRequest, _RunQueryResponse),
            aggregate=stream("RunAggregationQuery", _AggregationRequest, _AggregationResponse),
            batch_write=unary("BatchWrite", _BatchWriteRequest, _BatchWriteResponse),
            listen=channel.stream_stream(
                _SERVICE + "Listen",
                request_serializer=_ListenRequest.SerializeToString,
                response_deserializer=_ListenResponse.FromString,
            ),
        )
        self._calls, self._seen = calls, None
        return calls

    def _unary(self, call: Any, calls: _FirestoreCalls, request: Any, timeout: float | None) -> Any:
        try:
            return call(request, timeout=timeout or self._timeout, metadata=calls.metadata)
        except grpc.RpcError as error:
            raise classify(error) from error

    def _stream(self, call: Any, calls: _FirestoreCalls, request: Any) -> Iterator[Any]:
        try:
            yield from call(request, timeout=self._timeout, metadata=calls.metadata)
        except grpc.RpcError as error:
            raise classify(error) from error


def _changes(stream: Any, count: int) -> Iterator[tuple[int, str, Document | None]]:
    try:
        for answer in stream:
            match answer.WhichOneof("response_type"):
                case "document_change":
                    change = answer.document_change
                    name = change.document.name
                    yield from ((target - 1, name, change.document) for target in change.target_ids)
                    yield from ((target - 1, name, None) for target in change.removed_target_ids)
                case "document_delete" | "document_remove" as what:
                    gone = getattr(answer, what)
                    yield from ((target - 1, gone.document, None) for target in gone.removed_target_ids)
                case "target_change" if answer.target_change.target_change_type == _CURRENT:
                    # A change without ids is about all targets.
                    yield from (
                        (-target, "", None) for target in answer.target_change.target_ids or range(1, count + 1)
                    )
                case "target_change" if answer.target_change.target_change_type == _REMOVED:
                    return
                case _:
                    pass
    except grpc.RpcError as error:
        raise classify(error) from error
