"""
The service ``google.firestore.v1.Firestore``, in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import grpc

from gcp_emulator import words
from gcp_emulator.clock import Clock, SystemClock, new_id
from gcp_emulator.faults import Faults
from gcp_emulator.firestore import documents, files, partitions
from gcp_emulator.firestore import messages as m
from gcp_emulator.firestore.aggregation import read_aggregations
from gcp_emulator.firestore.committing import Committer, Conflicts
from gcp_emulator.firestore.database import Database
from gcp_emulator.firestore.execution import Answer, count
from gcp_emulator.firestore.indexes import AUTOMATIC, IndexCheck
from gcp_emulator.firestore.listen import Listener, ListenTalk
from gcp_emulator.firestore.listeners import listener_of
from gcp_emulator.firestore.paths import FieldPath, check_database, database_of, document_segments, field_path, invalid
from gcp_emulator.firestore.query import Query, read_query
from gcp_emulator.firestore.rest import ROUTES, wiped
from gcp_emulator.firestore.values import masked
from gcp_emulator.firestore.write_streams import WriteStreams, WriteTalk
from gcp_emulator.port import Port
from gcp_emulator.rest import Rest
from gcp_emulator.rpc import Method, Mouth, RpcError, Service, unimplemented
from gcp_emulator.waiting import WaitingRoom

AGGREGATED_PER_READ = 1000
IMPORTED_AT_ONCE = 500


class FirestoreServer:
    """
    A Firestore in Native mode for one process's tests and demos: documents, transactions, queries.

    Projects and databases exist as soon as they are named. A call whose answer could be wrong is refused with
    UNIMPLEMENTED. Safe to call from any thread.

    Args:
        clock: The clock of the server; the machine's by default.
        faults: Injected faults; none by default.
        indexes: Indexes and TTL fields. Queries without an index are refused, as in production. By default no query is
            refused and nothing expires.
        conflicts: ``optimistic``: a transaction whose reads have changed is aborted when it commits. ``pessimistic``, as
            production documents its default: a commit waits until no other open transaction has read the documents it
            changes; if transactions wait for each other, the last one is aborted. ``emulator``, as Google's: the same for
            two seconds, then ABORTED.
        ttl_lag: Seconds after its time that an expired document is deleted; the service says typically within a day.

    Attributes:
        service: To put behind a port or to call directly.
        address: ``127.0.0.1:port`` while started.
        reads: Documents read so far, as they would be billed: a missing one counts, and a query without results
            counts one.
        examined: Index entries that queries have looked at so far.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        faults: Faults | None = None,
        *,
        indexes: IndexCheck | None = None,
        ttl_lag: float = 86_400.0,
        conflicts: Conflicts = "optimistic",
    ) -> None:
        words.check("conflicts", conflicts, get_args(Conflicts))
        self._conflicts = conflicts
        self._indexes = indexes
        self._ttl = {} if indexes is None else dict(indexes.ttl)
        self._ttl_lag = round(ttl_lag * 1_000_000)
        self._clock = SystemClock() if clock is None else clock
        self._room = WaitingRoom()
        self._lock = self._room.lock
        self._identity = bytes.fromhex(new_id()[:16])
        self._databases: dict[str, Database] = {}
        self._port: Port | None = None
        self._write_streams = WriteStreams()
        self._committer = Committer(self._database, self._room, self._clock, conflicts)
        self.reads = self.examined = 0
        self.service = Service(
            "google.firestore.v1.Firestore",
            self._methods(),
            Faults() if faults is None else faults,
            self._clock,
        )

    @property
    def address(self) -> str:
        return "" if self._port is None else self._port.address

    @property
    def writes(self) -> int:
        """
        Writes applied so far in commits.
        """
        return self._committer.writes

    @property
    def counts(self) -> Counter[str]:
        """
        Calls by name of the RPC.
        """
        return self.service.counts

    def start(self, port: int = 0) -> str:
        """
        Serve on a loopback *port* (0: a free one); returns the address.
        """
        self._port = Port([self.service], Rest([(self.service, ROUTES)], self._wiped))
        return self._port.start(port)

    def stop(self) -> None:
        """
        Close the port; documents stay.
        """
        if self._port is not None:
            self._port.stop()
            self._port = None

    def reset_counts(self) -> None:
        """
        Count from zero.
        """
        with self._lock:
            self.reads = self._committer.writes = self.examined = 0
            self.service.counts.clear()

    def export(self, path: str | Path, project: str, database: str = "(default)") -> int:
        """
        Write all documents of one database to a file, whole or not at all; returns how many.
        """
        found = self.documents(project, database)
        files.write(Path(path), list(found.values()))
        return len(found)

    def import_(self, path: str | Path, project: str, database: str = "(default)") -> int:
        """
        Write the documents of an exported file into a database, in place of documents with the same names; return their
        number.

        Raises:
            ValueError: The file is no exported file, or it is damaged; nothing is written.
        """
        name = f"projects/{project}/databases/{database}"
        read = files.read(Path(path))
        with self._lock:
            target = self._database(name)
            for first in range(0, len(read), IMPORTED_AT_ONCE):
                writes = []
                for document in read[first : first + IMPORTED_AT_ONCE]:
                    write = m.Write()
                    write.update.name = f"{name}/documents/{document.name.split('/documents/', 1)[1]}"
                    write.update.fields.MergeFrom(document.fields)
                    writes.append(write)
                target.commit(writes, b"", self._clock.micros())
        return len(read)

    def _wiped(self, verb: str, path: str) -> bytes | None:
        if (found := wiped(verb, path)) is None:
            return None
        self.wipe(*found)
        return b"{}"

    def set_ttl(self, collection_group: str, field: str) -> None:
        """
        Let documents of *collection_group* expire at the time in their *field*, such as ``expireAt``.
        """
        with self._lock:
            self._ttl[collection_group] = field_path(field)

    def wipe(self, project: str | None = None, database: str | None = None) -> None:
        """
        Forget the documents of every database, of one project's, or of one of these, and close its transactions.
        """
        with self._lock:
            for each in self._databases.values():
                _, owner, _, name = each.name.split("/")
                if project in (None, owner) and database in (None, name):
                    each.wipe()

    def documents(self, project: str, database: str = "(default)") -> dict[str, m.AnyDocument]:
        """
        Copies of all documents by path, such as ``orders/42``; counts as no read.
        """
        name = f"projects/{project}/databases/{database}"
        with self._lock:
            stored = list(self._database(name).store.all()) if name in self._databases else []
        return {each.path: _copy(each.document) for each in sorted(stored, key=lambda each: each.segments)}

    def _methods(self) -> dict[str, Method]:
        return {
            "GetDocument": Method(self._get, m.GetDocumentRequest, m.Document),
            "BatchGetDocuments": Method(
                self._batch_get, m.BatchGetDocumentsRequest, m.BatchGetDocumentsResponse, stream=True
            ),
            "BeginTransaction": Method(self._begin, m.BeginTransactionRequest, m.BeginTransactionResponse),
            "Commit": Method(self._committer.commit, m.CommitRequest, m.CommitResponse, waits=True),
            "CreateDocument": Method(self._committer.create, m.CreateDocumentRequest, m.Document, waits=True),
            "UpdateDocument": Method(self._committer.update, m.UpdateDocumentRequest, m.Document, waits=True),
            "DeleteDocument": Method(self._committer.delete, m.DeleteDocumentRequest, m.Empty, waits=True),
            "BatchWrite": Method(self._committer.batch_write, m.BatchWriteRequest, m.BatchWriteResponse, waits=True),
            "ListDocuments": Method(self._list_documents, m.ListDocumentsRequest, m.ListDocumentsResponse),
            "ListCollectionIds": Method(
                self._list_collection_ids, m.ListCollectionIdsRequest, m.ListCollectionIdsResponse
            ),
            "PartitionQuery": Method(self._partition_query, m.PartitionQueryRequest, m.PartitionQueryResponse),
            "Rollback": Method(self._rollback, m.RollbackRequest, m.Empty),
            "Write": Method(self._write, m.WriteRequest, m.WriteResponse, bidi=True),
            "Listen": Method(self._listen, m.ListenRequest, m.ListenResponse, bidi=True),
            "RunQuery": Method(self._run_query, m.RunQueryRequest, m.RunQueryResponse, stream=True),
            "RunAggregationQuery": Method(
                self._run_aggregation,
                m.RunAggregationQueryRequest,
                m.RunAggregationQueryResponse,
                stream=True,
            ),
        }

    def _database(self, name: str) -> Database:
        database = self._databases.get(name)
        if database is None:
            check_database(name)
            database = self._databases[name] = Database(
                name,
                self._clock,
                self._indexes or AUTOMATIC,
                locks=self._conflicts != "optimistic",
                ended=lambda key: self._room.ended((name, key)),
            )
        if self._ttl:
            database.expire(self._ttl, self._clock.micros() - self._ttl_lag)
        return database

    def _begin(self, request: m.AnyRequest) -> m.AnyResponse:
        with self._lock:
            database = self._database(request.database)
            return m.BeginTransactionResponse(transaction=_begun(database, request.options))

    def _rollback(self, request: m.AnyRequest) -> m.AnyResponse:
        with self._lock:
            self._database(request.database).rollback(request.transaction)
        return m.Empty()

    def _list_documents(self, request: m.AnyRequest) -> m.AnyResponse:
        with self._lock:
            database = self._database(documents.parent_database(request.parent))
            transaction = database.reader(request.transaction, _past(request))[0]
            response, read = documents.list_documents(
                database, request, transaction, lambda message, parent: self._read_query(message, parent)[1]
            )
            self.reads += read
        return response

    def _list_collection_ids(self, request: m.AnyRequest) -> m.AnyResponse:
        with self._lock:
            self.reads += 1
            database = self._database(documents.parent_database(request.parent))
            return documents.list_collection_ids(database, request, database.reader(b"", _past(request))[0])

    def _get(self, request: m.AnyRequest) -> m.AnyResponse:
        mask = documents.mask_of(request)
        name = database_of(request.name, "Document")
        segments = document_segments(request.name, name)
        with self._lock:
            database = self._database(name)
            transaction, _ = database.reader(request.transaction, _past(request))
            stored = database.get("/".join(segments), transaction)
            self.reads += 1
        if stored is None:
            raise RpcError(grpc.StatusCode.NOT_FOUND, f"Document ({request.name}) not found.")
        return stored.document if mask is None else masked(stored.document, mask)

    def _batch_get(self, request: m.AnyRequest) -> list[m.AnyResponse]:
        _check_selector(request)
        mask = documents.mask_of(request)
        paths = {name: "/".join(document_segments(name, request.database)) for name in request.documents}
        responses = []
        with self._lock:
            database = self._database(request.database)
            key = request.transaction
            if request.HasField("new_transaction"):
                key = _begun(database, request.new_transaction)
                responses.append(m.BatchGetDocumentsResponse(transaction=key))
            transaction, read_time = database.reader(key, _past(request))
            found = [(name, database.get(path, transaction)) for name, path in paths.items()]
            self.reads += len(found)
        for name, stored in found:
            response = m.BatchGetDocumentsResponse()
            m.set_time(response.read_time, read_time)
            if stored is None:
                response.missing = name
            else:
                response.found.CopyFrom(stored.document if mask is None else masked(stored.document, mask))
            responses.append(response)
        return responses

    def _listen(self, mouth: Mouth) -> ListenTalk:
        return ListenTalk(self.listener, mouth)

    def _write(self, mouth: Mouth) -> WriteTalk:
        return WriteTalk(self._write_streams, self._committer.committed, self._clock, mouth)

    def listener(self, database_name: str, changed: Callable[[], None]) -> Listener:
        """
        Return the server's side of one Listen call, which calls *changed* when it has something to tell.
        """
        with self._lock:
            database = self._database(database_name)
        return listener_of(database, self._lock, self._identity, self._read_query, changed)

    def _read_query(self, message: m.AnyQuery, parent: str, having: Iterable[FieldPath] = ()) -> tuple[str, Query]:
        name, query = read_query(message, parent)
        if having:
            query = query.having(having)
        if self._indexes is not None:
            self._indexes.check(query)
        return name, query

    def _run_query(self, request: m.AnyRequest) -> list[m.AnyResponse]:
        _check_selector(request)
        if request.WhichOneof("query_type") != "structured_query":
            raise invalid("A query must be a structured query.")
        name, query = self._read_query(request.structured_query, request.parent)
        responses = []
        with self._lock:
            database = self._database(name)
            key = request.transaction
            if request.HasField("new_transaction"):
                key = _begun(database, request.new_transaction)
                responses.append(m.RunQueryResponse(transaction=key))
            transaction, read_time = database.reader(key, _past(request))
            answer = database.run(query, transaction)
            self.reads += max(1, len(answer.documents))
            self.examined += answer.examined
        results = []
        for stored in answer.documents:
            response = m.RunQueryResponse()
            response.document.CopyFrom(
                stored.document if query.projection is None else masked(stored.document, query.projection)
            )
            results.append(response)
        results = results or [m.RunQueryResponse()]
        for response in results:
            m.set_time(response.read_time, read_time)
        results[0].skipped_results = answer.skipped
        results[-1].done = True
        return responses + results

    def _partition_query(self, request: m.AnyRequest) -> m.AnyResponse:
        partitions.check(request)
        name, query = self._read_query(request.structured_query, request.parent)
        with self._lock:
            self.reads += 1
            database = self._database(name)
            return partitions.partition(database, query, request, database.reader(b"", _past(request))[0])

    def _run_aggregation(self, request: m.AnyRequest) -> list[m.AnyResponse]:
        _check_selector(request)
        if request.WhichOneof("query_type") is None:
            raise invalid("Only structured aggregation queries are supported.")
        aggregated = request.structured_aggregation_query
        # Faults of the query are told before those of the aggregations.
        read_query(aggregated.structured_query, request.parent)
        aggregations = read_aggregations(aggregated.aggregations)
        counted = all(each.kind == "count" for each in aggregations.values())
        name, query = self._read_query(
            aggregated.structured_query,
            request.parent,
            # A number is made of an index of its field: documents without the field are no part of the query.
            having=[each.path for each in aggregations.values() if each.path is not None],
        )
        responses = []
        with self._lock:
            database = self._database(name)
            key = request.transaction
            if request.HasField("new_transaction"):
                key = _begun(database, request.new_transaction)
                responses.append(m.RunAggregationQueryResponse(transaction=key))
            transaction, read_time = database.reader(key, _past(request))
            number = count(database.store, query) if counted and transaction is None else None
            answer = (
                database.run(query, transaction, counted=counted) if number is None else Answer([], 0, examined=number)
            )
            self.reads += max(1, -(-answer.examined // AGGREGATED_PER_READ))
            self.examined += answer.examined
        response = m.RunAggregationQueryResponse()
        m.set_time(response.read_time, read_time)
        for alias, aggregation in aggregations.items():
            value = aggregation.over(answer.documents) if number is None else aggregation.of(number)
            response.result.aggregate_fields[alias].CopyFrom(value)
        return [*responses, response]


def _copy(document: m.AnyDocument) -> m.AnyDocument:
    copy = m.Document()
    copy.CopyFrom(document)
    return copy


def _begun(database: Database, options: Any) -> bytes:
    if options.HasField("read_only"):
        return database.begin(read_only=True, at=_past(options.read_only))
    if options.read_write.retry_transaction:
        database.check_known(options.read_write.retry_transaction)
    return database.begin(read_only=False)


def _check_selector(request: m.AnyRequest) -> None:
    if "explain_options" in request.DESCRIPTOR.fields_by_name and request.HasField("explain_options"):
        raise unimplemented("Query explain")


def _past(message: Any) -> int | None:
    """
    The ``read_time`` that is asked for, in microseconds; None for now.
    """
    if not message.HasField("read_time"):
        return None
    if message.read_time.nanos % 1000:
        raise invalid("read_time must be a whole number of microseconds.")
    return int(message.read_time.seconds * 1_000_000 + message.read_time.nanos // 1000)
