"""
What is looked for: documents whose ``due`` has passed, tasks that wait for a key, tasks of a kind. Each time a range of one
indexed string, so that no composite index is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from google.cloud.firestore_v1.types import query as _query

from gcp_oncetask.delivery import instant
from gcp_oncetask.documents import AFTER, TASKS
from gcp_oncetask.store.codec import Document
from gcp_oncetask.store.snapshot import Snapshot, snapshot_of
from gcp_oncetask.store.store import Store
from gcp_oncetask.store.wire import WireError

_QueryType: Final = _query.StructuredQuery.pb()
_GREATER_OR_EQUAL, _LESS_OR_EQUAL, _AND, _ASCENDING = 4, 2, 1, 1
_DUE: Final = "lock.due"
_PARKED: Final = "lock.parked"


def parked(store: Store, prefix: str, *, limit: int) -> list[Snapshot]:
    """
    The once-tasks that wait for a resource key, the one that has waited longest first.

    Args:
        store: Where.
        prefix: What their ``parked`` strings begin with, before the slash.
        limit: At most so many.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    found, read = _range(store, ("", TASKS, False), _PARKED, f"{prefix}/", f"{prefix}{AFTER}", limit)
    return [snapshot_of(store.wire.path(document.name), document, read) for document in found]


def in_range(store: Store, field: str, floor: str, ceiling: str, *, limit: int = 1000) -> list[Snapshot]:
    """
    Once-tasks whose *field* lies between two texts, in its order; all of them, page by page.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    seen: dict[str, Snapshot] = {}
    while True:
        found, read = _range(store, ("", TASKS, False), field, floor, ceiling, limit)
        before = len(seen)
        for document in found:
            path = store.wire.path(document.name)
            seen.setdefault(path, snapshot_of(path, document, read))
        if len(found) < limit:
            return list(seen.values())
        floor = str(found[-1].fields[field].string_value)
        if len(seen) == before:
            limit *= 2


def count_range(store: Store, field: str, floor: str, ceiling: str) -> int:
    """
    How many once-tasks have a *field* between two texts, by an aggregation.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    try:
        return store.wire.count(_range_query(TASKS, False, field, floor, ceiling, 0))
    except WireError as error:
        raise error.translated(f"counting in {TASKS}", unknown=False) from error


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
        floor = place + AFTER


def _next_place(store: Store, where: tuple[str, str, bool], floor: str, env: str) -> str | None:
    found, _ = _query_due(store, where, floor, f"{env}{AFTER}", 1)
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
    return _range(store, where, _DUE, floor, ceiling, limit)


def _range(
    store: Store, where: tuple[str, str, bool], field: str, floor: str, ceiling: str, limit: int
) -> tuple[list[Document], datetime | None]:
    parent, name, group = where
    try:
        return store.wire.run_query(_range_query(name, group, field, floor, ceiling, limit), parent)
    except WireError as error:
        raise error.translated(f"looking at {field} in {name}", unknown=False) from error


def _range_query(name: str, group: bool, field: str, floor: str, ceiling: str, limit: int) -> Any:
    query: Any = _QueryType()
    query.from_.add(collection_id=name, all_descendants=group)
    both = query.where.composite_filter
    both.op = _AND
    for op, value in ((_GREATER_OR_EQUAL, floor), (_LESS_OR_EQUAL, ceiling)):
        one = both.filters.add().field_filter
        one.field.field_path = field
        one.op = op
        one.value.string_value = value
    if limit:
        order = query.order_by.add()
        order.field.field_path = field
        order.direction = _ASCENDING
        query.limit.value = limit
    return query
