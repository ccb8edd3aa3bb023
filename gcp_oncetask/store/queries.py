"""
What the sweeper looks for: documents whose ``due`` has passed. One indexed string field, ranges and a skip scan.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from google.cloud.firestore_v1.types import query as _query

from gcp_oncetask.delivery import instant
from gcp_oncetask.store.codec import Document
from gcp_oncetask.store.store import Store
from gcp_oncetask.store.wire import WireError

_QueryType: Final = _query.StructuredQuery.pb()
_GREATER_OR_EQUAL, _LESS_OR_EQUAL, _AND, _ASCENDING = 4, 2, 1, 1
_DUE: Final = "lock.due"
_AFTER: Final = "0"
"""The character after "/": sorts behind everything that begins with a prefix and a slash."""


def overdue(store: Store, collection: str, env: str, *, page: int = 100) -> Iterator[tuple[Document, datetime]]:
    """
    Documents of *collection* that are due, shard by shard, the longest overdue first, each with the time of the read.

    Args:
        store: Where.
        collection: Path of a collection; with ``{fields}`` in it, every collection of its last part's name is looked at.
        env: Environment.
        page: Documents per query.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    group = "{" in collection
    parent, _, name = collection.rpartition("/")
    where = ("" if group else parent, name, group)
    floor = f"{env}/"
    while (place := _next_place(store, where, floor, env)) is not None:
        yield from _due_in(store, where, place, page)
        floor = place + _AFTER


def _next_place(store: Store, where: tuple[str, str, bool], floor: str, env: str) -> str | None:
    found, _ = _query_due(store, where, floor, f"{env}{_AFTER}", 1)
    return None if not found else _due_of(found[0]).rsplit("/", 1)[0]


def _due_in(store: Store, where: tuple[str, str, bool], place: str, page: int) -> Iterator[tuple[Document, datetime]]:
    floor = f"{place}/"
    now = store.estimate()
    ceiling = f"{place}/{instant(now)}"
    seen: set[str] = set()
    while True:
        found, read = _query_due(store, where, floor, ceiling, page)
        fresh = [document for document in found if document.name not in seen]
        for document in fresh:
            seen.add(document.name)
            yield document, read or now
        if len(found) < page:
            return
        floor = _due_of(found[-1])
        if not fresh:
            # A whole page with one and the same due: the next page must hold more than that many.
            page *= 2


def _due_of(document: Document) -> str:
    return str(document.fields["lock"].map_value.fields["due"].string_value)


def _query_due(
    store: Store, where: tuple[str, str, bool], floor: str, ceiling: str, limit: int
) -> tuple[list[Document], datetime | None]:
    parent, name, group = where
    query: Any = _QueryType()
    query.from_.add(collection_id=name, all_descendants=group)
    both = query.where.composite_filter
    both.op = _AND
    for op, value in ((_GREATER_OR_EQUAL, floor), (_LESS_OR_EQUAL, ceiling)):
        one = both.filters.add().field_filter
        one.field.field_path = _DUE
        one.op = op
        one.value.string_value = value
    order = query.order_by.add()
    order.field.field_path = _DUE
    order.direction = _ASCENDING
    query.limit.value = limit
    try:
        return store.wire.run_query(query, parent)
    except WireError as error:
        raise error.translated(f"looking for what is due in {name}", unknown=False) from error
