"""
The RPCs on single documents and lists of them, each told in terms of a commit or of what is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.rpc import status_pb2

from gcp_emulator.clock import new_id
from gcp_emulator.firestore import messages as m
from gcp_emulator.firestore.database import Committed, Database
from gcp_emulator.firestore.paths import (
    NAME,
    FieldPath,
    Segments,
    check_collection,
    database_of,
    document_segments,
    field_path,
    invalid,
    parent_segments,
)
from gcp_emulator.firestore.values import masked
from gcp_emulator.rpc import RpcError, unimplemented

PAGE = 300
MAX_WRITES = 500


def mask_of(request: m.AnyRequest) -> list[FieldPath] | None:
    """
    The fields that an answer shall have; None for all.
    """
    if not request.HasField("mask"):
        return None
    return [path for text in request.mask.field_paths if (path := field_path(text)) != NAME]


def create(database: Database, request: m.AnyRequest, arrived: int) -> m.AnyDocument:
    """
    CreateDocument: a new document, with an id of its own if none is given.
    """
    check_collection(request.collection_id)
    write = m.Write()
    write.update.CopyFrom(request.document)
    write.update.name = f"{request.parent}/{request.collection_id}/{request.document_id or new_id()[:20]}"
    write.current_document.exists = False
    return _shown(database.commit([write], b"", arrived), mask_of(request))


def update(database: Database, request: m.AnyRequest, arrived: int) -> m.AnyDocument:
    """
    UpdateDocument: the masked fields, or all of them; creates the document unless a precondition forbids it.
    """
    write = m.Write()
    write.update.CopyFrom(request.document)
    if request.HasField("update_mask"):
        write.update_mask.CopyFrom(request.update_mask)
    if request.HasField("current_document"):
        write.current_document.CopyFrom(request.current_document)
    return _shown(database.commit([write], b"", arrived), mask_of(request))


def delete(database: Database, request: m.AnyRequest, arrived: int) -> None:
    """
    DeleteDocument.
    """
    write = m.Write()
    setattr(write, "delete", request.name)  # noqa: B010 - a field that has the name of a keyword in other languages
    if request.HasField("current_document"):
        write.current_document.CopyFrom(request.current_document)
    database.commit([write], b"", arrived)


def batch_write(database: Database, request: m.AnyRequest, arrived: int) -> m.AnyResponse:
    """
    BatchWrite: each write for itself, with a status of its own.
    """
    if len(request.writes) > MAX_WRITES:
        raise invalid(f"A BatchWrite has at most {MAX_WRITES} writes ({len(request.writes)} were sent).")
    names = [write.update.name or write.delete or write.transform.document for write in request.writes]
    if len(set(names)) < len(names):
        raise invalid("A document can't be written twice in one BatchWrite.")
    response = m.BatchWriteResponse()
    for write in request.writes:
        result, status = response.write_results.add(), response.status.add()
        try:
            [(stored, transformed)] = database.commit([write], b"", arrived).results
        except RpcError as error:
            status.CopyFrom(status_pb2.Status(code=error.code.value[0], message=error.message))
            continue
        if stored is not None:
            m.set_time(result.update_time, stored.version)
        result.transform_results.extend(transformed)
    return response


def list_documents(database: Database, request: m.AnyRequest) -> tuple[m.AnyResponse, int]:
    """
    ListDocuments by name, with missing parents on demand; returns the answer and how many documents were read.
    """
    if request.order_by not in ("", "__name__", "__name__ asc"):
        raise unimplemented("Listing documents by anything but their names")
    if request.transaction or request.HasField("read_time"):
        raise unimplemented("Listing documents in a transaction or at a past read_time")
    if not request.collection_id:
        raise unimplemented("Listing the documents of all collections at once")
    if request.page_size < 0:
        raise invalid("page_size is negative")
    check_collection(request.collection_id)
    mask = mask_of(request)
    collection = (*_parent(database, request), request.collection_id)
    found = {stored.segments[-1]: stored for stored in database.store.in_collection("/".join(collection))}
    names = set(found)
    if request.show_missing:
        names.update(_below(database, collection))
    page, token = _page(sorted(names), request)
    response = m.ListDocumentsResponse(next_page_token=token)
    for name in page:
        if name in found:
            document = found[name].document
            response.documents.append(document if mask is None else masked(document, mask))
        else:
            response.documents.add(name=f"{database.name}/documents/{'/'.join((*collection, name))}")
    return response, max(1, len(page))


def list_collection_ids(database: Database, request: m.AnyRequest) -> m.AnyResponse:
    """
    ListCollectionIds: of the root, or of a document whether it exists or not.
    """
    if request.HasField("read_time"):
        raise unimplemented("Reading at a past read_time")
    page, token = _page(sorted(set(_below(database, _parent(database, request)))), request)
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


def _below(database: Database, prefix: Segments) -> Iterator[str]:
    """
    Ids right below *prefix* on the way to any document.
    """
    depth = len(prefix)
    for path in database.store.collections():
        segments = tuple(path.split("/"))
        if len(segments) > depth and segments[:depth] == prefix:
            yield segments[depth]


def _page(names: list[str], request: Any) -> tuple[list[str], str]:
    rest = [name for name in names if name > request.page_token]
    size = request.page_size or PAGE
    page = rest[:size]
    return page, page[-1] if len(rest) > size else ""


def _shown(committed: Committed, mask: list[FieldPath] | None) -> m.AnyDocument:
    [(stored, _)] = committed.results
    assert stored is not None
    return stored.document if mask is None else masked(stored.document, mask)
