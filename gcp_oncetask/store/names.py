"""
The documents of named locks and ``@once`` keys, found by the name that is stored in them. Their ids begin with a hash.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from gcp_oncetask.errors import StoreError
from gcp_oncetask.rules.document_paths import LOCKS
from gcp_oncetask.rules.record import STORED_NAMES
from gcp_oncetask.store.codec import Document
from gcp_oncetask.store.failures import WireError
from gcp_oncetask.store.queries import range_query
from gcp_oncetask.store.store import Store

_NAME: Final = "name"
_ID: Final = "__name__"
_LAST: Final = "\U0010ffff"
"""The last character: a prefix with it sorts behind all names that begin with the prefix."""
_ASCENDING: Final = 1
_CONTENTS: Final = frozenset({"result", "result_json", "params", "headers"})
_READ: Final = (
    _NAME,
    "key",
    "env",
    *(f"lock.{stored}" for name, stored in STORED_NAMES.items() if name not in _CONTENTS),
)
"""Fields that are read: results may be large, and a list shows none."""


def named(
    store: Store, prefix: str, *, exact: bool = False, collection: str = LOCKS, page: int
) -> Iterator[tuple[Document, datetime | None]]:
    """
    Yield the documents of *collection* whose ``name`` begins with *prefix* (*exact*: is it), in the order of name and id,
    each with the time of its read. Contents are left out. Each document costs one read, also those of other environments.

    Args:
        store: The store.
        prefix: Beginning of the names; empty: all documents that have a name.
        exact: Whether names must be equal to *prefix*.
        collection: Path of the collection.
        page: Documents per query.

    Raises:
        StoreError: Firestore was unreachable or refused. If the index is missing, the message has the commands that
            deploy it.
    """
    parent, _, group = collection.rpartition("/")
    query = range_query(group, False, _NAME, prefix, prefix if exact else prefix + _LAST, page)
    query.order_by.add(direction=_ASCENDING).field.field_path = _ID
    for field in _READ:
        query.select.fields.add(field_path=field)
    while True:
        try:
            found, read = store.wire.run_query(query, parent)
        except WireError as error:
            raise _translated(error, collection) from error
        for document in found:
            yield document, read
        if len(found) < page:
            return
        _resume(query, found[-1])


def _resume(query: Any, last: Document) -> None:
    # Many documents have the same name (the keys of one function), so the name alone is no place to go on from.
    query.start_at.Clear()
    query.start_at.before = False
    query.start_at.values.add().CopyFrom(last.fields[_NAME])
    query.start_at.values.add().reference_value = last.name


def _translated(error: WireError, collection: str) -> StoreError:
    made = error.translated(f"looking at {_NAME} in {collection}", unknown=False)
    if error.code.name != "FAILED_PRECONDITION" or "index" not in error.message:
        return made
    deploy = (
        "Deploy it: python -m gcp_oncetask indexes write && firebase deploy --only firestore:indexes"
        if collection == LOCKS
        else f"Remove the exemption of {_NAME} in {collection} from firestore.indexes.json, and deploy that"
    )
    indexed = StoreError(
        f"Firestore requires an index of {_NAME} in {collection}, by which names are found, and has none. {deploy}. "
        "An index that is being built can be used when it is ready.",
        **made.facts,
    )
    indexed.__cause__ = error
    return indexed
