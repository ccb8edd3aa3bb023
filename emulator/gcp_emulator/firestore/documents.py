"""
The RPCs on single documents and lists of them, each carried out by a commit or by reads of the stored documents.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from gcp_emulator.clock import new_id
from gcp_emulator.firestore import messages as m
from gcp_emulator.firestore.database import Committed, Database
from gcp_emulator.firestore.paths import (
    NAME,
    FieldPath,
    Segments,
    check_collection,
    check_document_id,
    database_of,
    document_segments,
    field_path,
    ids_of,
    invalid,
    parent_segments,
)
from gcp_emulator.firestore.query import Query, everything_below
from gcp_emulator.firestore.transactions import Transaction
from gcp_emulator.firestore.values import find, masked
from gcp_emulator.rpc import RpcError
from gcp_emulator.waiting import Steps

PAGE = 30
MAX_PAGE = 150
"""
Most documents in one page of a list, as in Google's emulator. A caller that does not ask for the next page misses some.
"""
COLLECTIONS_PAGE = 300
MAX_WRITES = 500
ReadQuery = Callable[[m.AnyQuery, str], Query]
_AFTER = "after:"
_NAME = r"(?:[a-zA-Z_][a-zA-Z_0-9]*|`(?:[^`\\]|\\.)+`)"
_ORDER = re.compile(rf"({_NAME}(?:\.{_NAME})*)(?:\s+(asc|desc))?(?:\s*,\s*(?=.)|$)", re.IGNORECASE | re.DOTALL)


def mask_of(request: m.AnyRequest) -> list[FieldPath] | None:
    """
    The fields that an answer shall have; None for all.
    """
    if not request.HasField("mask"):
        return None
    return [path for text in request.mask.field_paths if (path := field_path(text)) != NAME]


def creation(request: m.AnyRequest) -> m.AnyWrite:
    """
    CreateDocument: the write of a new document, with an id of its own if none is given.
    """
    parent_segments(request.parent, parent_database(request.parent))
    check_collection(request.collection_id)
    check_document_id(request.document_id)
    if not request.collection_id:
        raise invalid("collectionId is the empty string.")
    write = m.Write()
    write.update.CopyFrom(request.document)
    write.update.name = f"{request.parent}/{request.collection_id}/{request.document_id or new_id()[:20]}"
    write.current_document.exists = False
    return write


def replacement(request: m.AnyRequest) -> m.AnyWrite:
    """
    UpdateDocument: the write of the masked fields, or of all; creates the document unless a precondition forbids it.
    """
    write = m.Write()
    write.update.CopyFrom(request.document)
    if request.HasField("update_mask"):
        write.update_mask.CopyFrom(request.update_mask)
    if request.HasField("current_document"):
        write.current_document.CopyFrom(request.current_document)
    return write


def deletion(request: m.AnyRequest) -> m.AnyWrite:
    """
    DeleteDocument: the write that deletes the document.
    """
    write = m.Write()
    setattr(write, "delete", request.name)  # noqa: B010 - a field that has the name of a keyword in other languages
    if request.HasField("current_document"):
        write.current_document.CopyFrom(request.current_document)
    return write


def batch_write(request: m.AnyRequest, commit: Callable[[list[m.AnyWrite]], Steps]) -> Steps:
    """
    BatchWrite: each write for itself, with a status of its own; *commit* waits for locks and commits.
    """
    if len(request.writes) > MAX_WRITES:
        raise invalid(f"A BatchWrite has at most {MAX_WRITES} writes ({len(request.writes)} were sent).")
    names = [write.update.name or write.delete or write.transform.document for write in request.writes]
    if len(set(names)) < len(names):
        raise invalid("the same document cannot be written more than once in a single request")
    response = m.BatchWriteResponse()
    for write in request.writes:
        result, status = response.write_results.add(), response.status.add()
        try:
            [(stored, transformed)] = (yield from commit([write])).results
        except RpcError as error:
            status.CopyFrom(status_pb2.Status(code=error.code.value[0], message=error.message))
            continue
        if stored is not None:
            m.set_time(result.update_time, stored.version)
        result.transform_results.extend(transformed)
    return response


def list_documents(
    database: Database, request: m.AnyRequest, transaction: Transaction | None, read: ReadQuery
) -> tuple[m.AnyResponse, int]:
    """
    ListDocuments: a query with pages, or by name with the missing parents.

    Args:
        database: The database.
        request: The request.
        transaction: The transaction that asks, or a reader of a past time.
        read: Reads a ``StructuredQuery`` below a parent.

    Returns:
        The answer, and how many documents were read.
    """
    if request.page_size < 0:
        raise invalid("Page size must be nonnegative.")
    mask = mask_of(request)
    size = min(request.page_size or PAGE, MAX_PAGE)
    asked = _list_query(request)
    message = m.StructuredQuery()
    message.CopyFrom(asked)
    if request.page_token:
        message.start_at.CopyFrom(_resumed(asked, request))
    if request.show_missing:
        found = _with_missing(database, request, transaction, read(message, request.parent))
    else:
        message.limit.value = size + 1
        found = [each.document for each in database.run(read(message, request.parent), transaction).documents]
    page = found[:size]
    response = m.ListDocumentsResponse()
    for document in page:
        # A missing one has no times, and none of the fields.
        shown = document if mask is None or not document.HasField("create_time") else masked(document, mask)
        response.documents.append(shown)
    if len(found) > size:
        response.next_page_token = _token(asked, page[-1])
    return response, max(1, len(page))


def _list_query(request: m.AnyRequest) -> m.AnyQuery:
    """
    Return the query that lists the documents for *request*, in an order that ends with the name.
    """
    if request.show_missing and not request.collection_id:
        raise invalid("collection id must be set when show_missing is true")
    if request.show_missing and request.order_by:
        raise invalid("cannot specify an order when show_missing is true")
    asked = m.StructuredQuery()
    asked.from_.add(collection_id=request.collection_id)
    check_collection(request.collection_id)
    at = 0
    while at < len(request.order_by):
        match = _ORDER.match(request.order_by, at)
        if match is None:
            raise invalid(f'Invalid order by clause "{request.order_by}".')
        at = match.end()
        order = asked.order_by.add(direction=(match[2] or "asc").upper() + "ENDING")
        order.field.field_path = match[1]
    if not asked.order_by or asked.order_by[-1].field.field_path != "__name__":
        direction = asked.order_by[-1].direction if asked.order_by else "ASCENDING"
        asked.order_by.add(direction=direction).field.field_path = "__name__"
    return asked


def _with_missing(
    database: Database, request: m.AnyRequest, transaction: Transaction | None, query: Query
) -> list[m.AnyDocument]:
    """
    The documents of a collection, and a bare name for each one that only has something below it.
    """
    collection = (*_parent(database, request), request.collection_id)
    prefix = f"{database.name}/documents/{'/'.join(collection)}/"
    found = {each.segments[-1]: each.document for each in database.run(query, transaction).documents}
    last = () if query.start is None else query.start.keys[0]
    for name in set(_below(database, collection, transaction)):
        if (*collection, name) > last:
            found.setdefault(name, m.Document(name=prefix + name))
    return [found[name] for name in sorted(found)]


def _token(asked: m.AnyQuery, last: m.AnyDocument) -> str:
    """
    Return the token for the page behind *last*: the query, with a place in it.
    """
    following = m.StructuredQuery()
    following.CopyFrom(asked)
    following.start_at.SetInParent()
    for order in asked.order_by:
        path = field_path(order.field.field_path)
        value = m.Value(reference_value=last.name) if path == NAME else find(last.fields, path)
        following.start_at.values.add().CopyFrom(value)
    return base64.urlsafe_b64encode(following.SerializeToString()).decode()


def _resumed(asked: m.AnyQuery, request: m.AnyRequest) -> Any:
    """
    The place that a page token stands for: one that this very request was given.
    """
    following = m.StructuredQuery()
    try:
        following.ParseFromString(base64.b64decode(request.page_token, altchars=b"-_", validate=True))
    except (ValueError, DecodeError):
        raise invalid("invalid page token") from None
    start = m.StructuredQuery(start_at=following.start_at).start_at
    following.ClearField("start_at")
    if following != asked or not start.values or not start.values[-1].reference_value.startswith(f"{request.parent}/"):
        raise invalid("invalid page token")
    return start


def list_collection_ids(database: Database, request: m.AnyRequest, transaction: Transaction | None) -> m.AnyResponse:
    """
    ListCollectionIds: of the root, or of a document whether it exists or not; as *transaction* sees them.
    """
    if request.page_size < 0:
        raise invalid("page_size must be greater than or equal to zero.")
    names = sorted(set(_below(database, _parent(database, request), transaction)))
    if request.page_token:
        # The last name of the page before, marked so that not any text is taken for one.
        if not request.page_token.startswith(_AFTER):
            raise invalid("invalid page token")
        names = [name for name in names if name > request.page_token.removeprefix(_AFTER)]
    page = names[: request.page_size or COLLECTIONS_PAGE]
    token = _AFTER + page[-1] if len(names) > len(page) else ""
    return m.ListCollectionIdsResponse(collection_ids=page, next_page_token=token)


def parent_database(name: str) -> str:
    """
    The database of a request's parent.
    """
    return database_of(name, "Document parent")


def document_database(name: str) -> str:
    """
    The database of a document.
    """
    database = database_of(name, "Document")
    document_segments(name, database)
    return database


def _parent(database: Database, request: m.AnyRequest) -> Segments:
    return parent_segments(request.parent, database.name)


def _below(database: Database, prefix: Segments, transaction: Transaction | None) -> Iterator[str]:
    """
    Ids right below *prefix* on the way to any document.
    """
    depth = len(prefix)
    if transaction is not None:
        documents = database.run(everything_below(prefix), transaction).documents
        # The document with the name itself comes first, if there is one.
        yield from (each.segments[depth] for each in documents if len(each.segments) > depth)
        return
    for path in database.store.collections():
        segments = ids_of(path)
        if len(segments) > depth and segments[:depth] == prefix:
            yield segments[depth]


def shown(committed: Committed, mask: list[FieldPath] | None) -> m.AnyDocument:
    """
    The document that a single write has left, or its masked fields.
    """
    [(stored, _)] = committed.results
    assert stored is not None
    return stored.document if mask is None else masked(stored.document, mask)
