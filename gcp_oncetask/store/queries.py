"""
Queries for documents whose ``due`` has passed, for tasks that wait for a key, and for tasks of a kind. Each query is for a
range of one indexed string, so that no composite index is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeAlias

from google.cloud.firestore_v1.types import query as _query

from gcp_oncetask.checks.values import LATEST
from gcp_oncetask.errors import DamagedError
from gcp_oncetask.rules.document_paths import AFTER, PULL, TASKS, fitting, parked_key, parked_prefix, pull_lane
from gcp_oncetask.rules.timestamps import instant, parse_instant
from gcp_oncetask.store.codec import Document, get_timestamp
from gcp_oncetask.store.failures import WireError
from gcp_oncetask.store.forms import is_due
from gcp_oncetask.store.snapshot import Snapshot, snapshot_of
from gcp_oncetask.store.store import Store

Aside: TypeAlias = Callable[[DamagedError, Document], object]
"""A function for a document that was found but whose lock can't be decoded, so that it does not hold up the others."""
_QueryType: Final = _query.StructuredQuery.pb()
_GREATER_OR_EQUAL, _LESS_OR_EQUAL, _AND, _OR, _ASCENDING = 4, 2, 1, 2, 1
_MOST_RANGES: Final = 15
"""Most ranges of a query: Firestore takes 30 disjuncts, and each range is two conditions."""
_DUE: Final = "lock.due"
_PARKED: Final = "lock.parked"
_WAITERS: Final = 100
"""Waiting tasks per page."""
_NEXT: Final = "\0"
"""Appended to a text, it gives the next text in order."""


def _sound(
    store: Store, found: Iterable[Document], read: datetime | None, aside: Aside | None, seen: set[str] | None = None
) -> list[Snapshot]:
    """
    Return the documents whose locks can be decoded. Each other one is given to *aside* once, and its path is added to
    *seen*; if *aside* is None, it is an error.
    """
    sound = []
    seen = set() if seen is None else seen
    for document in found:
        path = store.wire.path(document.name)
        try:
            sound.append(snapshot_of(path, document, read))
        except DamagedError as error:
            if aside is None:
                raise
            if path not in seen:
                seen.add(path)
                aside(error, document)
    return sound


def parked(store: Store, prefix: str, *, limit: int, aside: Aside | None = None) -> list[Snapshot]:
    """
    Return the once-tasks that wait for a resource key; the one that has waited longest is first.

    Args:
        store: The store.
        prefix: Beginning of their ``parked`` strings, before the slash.
        limit: Most tasks.
        aside: Called with damaged ones; None: they are an error.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    damaged: set[str] = set()
    most = limit
    while True:
        found, read = page_of(store, ("", TASKS, False), _PARKED, f"{prefix}/", f"{prefix}{AFTER}", most)
        sound = _sound(store, found, read, aside, damaged)
        if len(sound) >= limit or len(found) < most:
            return sound[:limit]
        # Damaged ones stay at the head until they are repaired.
        most *= 4


def waited_for(store: Store, env: str) -> Iterator[list[str]]:
    """
    Yield the resource keys for which once-tasks wait, damaged ones too, page by page. At most one page of tasks is read for
    each key.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    floor = f"{env}/"
    while True:
        query = range_query(TASKS, False, _PARKED, floor, f"{env}{AFTER}", _WAITERS)
        query.select.fields.add(field_path=_PARKED)
        try:
            found, _ = store.wire.run_query(query)
        except WireError as error:
            raise error.translated(f"looking at {_PARKED} in {TASKS}", unknown=False) from error
        places = [str(document.fields["lock"].map_value.fields["parked"].string_value) for document in found]
        keys = dict.fromkeys(parked_key(place) for place in places)
        yield [key for key in keys if key is not None]
        if len(found) < _WAITERS:
            return
        last = parked_key(places[-1])
        # If this place was written by hand, only that document has it.
        floor = places[-1] + _NEXT if last is None else parked_prefix(env, last) + AFTER


def in_range(store: Store, field: str, floor: str, ceiling: str) -> list[Snapshot]:
    """
    Return the once-tasks whose *field* is between two texts, in its order.

    Raises:
        StoreError: Firestore was unreachable or refused.
        DamagedError: A lock can't be decoded.
    """
    return [
        snapshot_of(path, document, read)
        for path, (document, read) in _all_in_range(store, field, floor, ceiling).items()
    ]


def paths_in_range(store: Store, field: str, floor: str, ceiling: str) -> list[str]:
    """
    Return the paths of the once-tasks of ``in_range``, damaged ones included.
    """
    return list(_all_in_range(store, field, floor, ceiling))


def first_in_range(
    store: Store, field: str, floor: str, ceiling: str, *, limit: int, aside: Aside | None = None
) -> list[Snapshot]:
    """
    Return the first *limit* once-tasks of ``in_range``, without damaged ones.
    """
    found, read = page_of(store, ("", TASKS, False), field, floor, ceiling, limit)
    return _sound(store, found, read, aside)


def _all_in_range(
    store: Store, field: str, floor: str, ceiling: str, *, limit: int = 1000
) -> dict[str, tuple[Document, datetime | None]]:
    seen: dict[str, tuple[Document, datetime | None]] = {}
    while True:
        found, read = page_of(store, ("", TASKS, False), field, floor, ceiling, limit)
        before = len(seen)
        for document in found:
            seen.setdefault(store.wire.path(document.name), (document, read))
        if len(found) < limit:
            return seen
        floor = str(found[-1].fields[field].string_value)
        if len(seen) == before:
            limit *= 2


def count_range(store: Store, field: str, floor: str, ceiling: str, *, most: int | None = None) -> int:
    """
    Count the once-tasks whose *field* is between two texts, by an aggregation; the count stops at *most* (None: nowhere).

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    try:
        return store.wire.count(range_query(TASKS, False, field, floor, ceiling, 0), most)
    except WireError as error:
        raise error.translated(f"counting in {TASKS}", unknown=False) from error


def due_for_workers(
    store: Store,
    env: str,
    kind: str,
    shards: Sequence[int],
    limit: int,
    aside: Aside | None = None,
    *,
    by: datetime | None = None,
) -> list[Snapshot]:
    """
    Return the once-tasks of a kind that are due for workers *by* an instant (None: now) in some shards, by one query per 15
    shards. Damaged ones are given to *aside* (None: they are an error).

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    now = instant(by or store.estimate())
    found: list[Snapshot] = []
    for start in range(0, len(shards), _MOST_RANGES):
        places = [f"{env}/{pull_lane(kind)}/{shard:03d}" for shard in shards[start : start + _MOST_RANGES]]
        ranges = [(f"{place}/", f"{place}/{now}") for place in places]
        found += _due_in_ranges(store, kind, ranges, limit - len(found), aside)
        if len(found) >= limit:
            break
    return found


def _due_in_ranges(
    store: Store, kind: str, ranges: Sequence[tuple[str, str]], limit: int, aside: Aside | None
) -> list[Snapshot]:
    damaged: set[str] = set()
    while True:
        known = len(damaged)
        most = limit + known
        try:
            documents, read = store.wire.run_query(_ranges_query(ranges, most))
        except WireError as error:
            raise error.translated(f"looking for {kind} tasks that are due", unknown=False) from error
        sound = _sound(store, documents, read, aside, damaged)
        # If documents were set aside, query again for those behind them. A document that can't be set aside is skipped.
        if len(damaged) == known or len(documents) < most:
            return sound[:limit]


def _ranges_query(ranges: Sequence[tuple[str, str]], limit: int) -> Any:
    query = range_query(TASKS, False, _DUE, *ranges[0], limit)
    if len(ranges) > 1:
        either = _QueryType()
        either.where.composite_filter.op = _OR
        for floor, ceiling in ranges:
            one = range_query(TASKS, False, _DUE, floor, ceiling, limit)
            either.where.composite_filter.filters.add().CopyFrom(one.where)
        query.where.CopyFrom(either.where)
    return query


def head_query(env: str, kind: str, shard: int, after: datetime | None = None) -> Any:
    """
    Return the query for the task of a kind and shard that is due first for workers, or first *after* an instant.
    """
    place = f"{env}/{pull_lane(kind)}/{shard:03d}"
    floor = f"{place}/" if after is None else f"{place}/{instant(after)}~"
    return range_query(TASKS, False, _DUE, floor, f"{place}{AFTER}", 1)


def first_of_shard(store: Store, env: str, kind: str, shard: int, after: datetime | None = None) -> datetime | None:
    """
    Return the time at which the first task of a kind and shard is due for workers, or the first *after* an instant; None if
    there is none.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    try:
        found, _ = store.wire.run_query(head_query(env, kind, shard, after))
    except WireError as error:
        raise error.translated(f"looking for {kind} tasks", unknown=False) from error
    return due_of(found[0]) if found else None


def due_of(document: Document) -> datetime:
    """
    Return the instant at which a document is due. For a damaged one, return an instant in the past if queries find it now,
    else one in the far future.
    """
    text = _due_of(document).rsplit("/", 1)[-1]
    try:
        return parse_instant(text)
    except ValueError:
        written = get_timestamp(document.update_time)
        return written if text < instant(written) else LATEST


def shard_of(snapshot: Snapshot) -> int:
    """
    Return the shard in which a due document was found.
    """
    assert snapshot.lock is not None
    assert snapshot.lock.due is not None
    return int(snapshot.lock.due.split("/")[-2])


@dataclass(frozen=True, slots=True)
class Area:
    """
    A collection or collection group in which the same queries find due documents.

    Attributes:
        parent: Document below which the collection is; empty: the collection is at the root, or it is a group.
        name: Last part of its path.
        templates: Templates of the paths that count in a collection group; empty: it is one collection.
    """

    parent: str
    name: str
    templates: tuple[str, ...] = ()

    @property
    def where(self) -> tuple[str, str, bool]:
        """
        Parent, name, and True if it is a collection group.
        """
        return self.parent, self.name, bool(self.templates)

    def __str__(self) -> str:
        return ", ".join(self.templates) or f"{self.parent}/{self.name}".removeprefix("/")

    def has(self, path: str) -> bool:
        """
        Tell whether the document at *path*, which was found in the area, counts.
        """
        return not self.templates or any(fitting(template).fullmatch(path) for template in self.templates)


def areas_of(collections: Iterable[str]) -> list[Area]:
    """
    Return the areas of *collections*: paths, and templates with ``{fields}``. Templates of the same name are one area, a
    collection group.
    """
    found = []
    groups: dict[str, list[str]] = {}
    for collection in sorted(set(collections)):
        parent, _, name = collection.rpartition("/")
        if "{" in collection:
            groups.setdefault(name, []).append(collection)
        else:
            found.append(Area(parent, name))
    return found + [Area("", name, tuple(templates)) for name, templates in groups.items()]


def overdue(
    store: Store, area: Area, env: str, *, page: int = 100, pulled: set[str] | None = None
) -> Iterator[tuple[Document, datetime]]:
    """
    Yield the due documents of *area*, shard by shard, the longest overdue first, each with the time of the read.

    Args:
        store: The store.
        area: The area to query.
        env: Environment.
        page: Documents per query.
        pulled: A set to which the kinds with tasks in their workers' lane are added, by one query for each kind; the
            workers attend to these tasks. None: one query skips all of them.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    floor = f"{env}/"
    while (first := _first_due(store, area.where, floor, env)) is not None:
        if not is_due(first):
            # This due was written by hand, so no other document is due in its shard.
            for document, read in _pages(store, area, first, first, page):
                yield document, read or store.estimate()
            floor = first + _NEXT
            continue
        place = first.rsplit("/", 1)[0]
        lane = place.split("/")[1]
        if lane.startswith(PULL):
            floor = f"{env}/{PULL}~" if pulled is None else f"{env}/{lane}{AFTER}"
            if pulled is not None:
                pulled.add(lane.removeprefix(PULL))
            continue
        now = store.estimate()
        for document, read in _pages(store, area, f"{place}/", f"{place}/{instant(now)}", page):
            yield document, read or now
        floor = place + AFTER


def overdue_heads(store: Store, area: Area, env: str) -> Iterator[tuple[str, datetime, datetime]]:
    """
    Yield the longest overdue document of each shard of *area*, tasks of workers left out: its path, its due time and the
    time of the read. It costs one or two queries for each shard.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    floor = f"{env}/"
    while True:
        found, read = _query_due(store, area.where, floor, f"{env}{AFTER}", 1)
        if not found:
            return
        due, now = _due_of(found[0]), read or store.estimate()
        if not is_due(due):
            floor = due + _NEXT
            continue
        place = due.rsplit("/", 1)[0]
        if place.split("/")[1].startswith(PULL):
            floor = f"{env}/{PULL}~"
            continue
        at, path = due_of(found[0]), store.wire.path(found[0].name)
        if at <= now and area.has(path):
            yield path, at, now
        floor = place + AFTER


def with_due(store: Store, area: Area, env: str) -> str | None:
    """
    Return the path of a document in *area* that has a due time, passed or not; None if there is none.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    found = _pages(store, area, f"{env}/", f"{env}{AFTER}", 100 if area.templates else 1)
    return next((store.wire.path(document.name) for document, _ in found), None)


def _first_due(store: Store, where: tuple[str, str, bool], floor: str, env: str) -> str | None:
    found, _ = _query_due(store, where, floor, f"{env}{AFTER}", 1)
    return None if not found else _due_of(found[0])


def _pages(store: Store, area: Area, floor: str, ceiling: str, page: int) -> Iterator[tuple[Document, datetime | None]]:
    seen: set[str] = set()
    while True:
        found, read = _query_due(store, area.where, floor, ceiling, page)
        fresh = [document for document in found if document.name not in seen]
        for document in fresh:
            seen.add(document.name)
            if area.has(store.wire.path(document.name)):
                yield document, read
        if len(found) < page:
            return
        floor = _due_of(found[-1])
        if not fresh:
            # All documents of the page have the same due, so the next page must be larger.
            page *= 2


def _due_of(document: Document) -> str:
    return str(document.fields["lock"].map_value.fields["due"].string_value)


def _query_due(
    store: Store, where: tuple[str, str, bool], floor: str, ceiling: str, limit: int
) -> tuple[list[Document], datetime | None]:
    return page_of(store, where, _DUE, floor, ceiling, limit)


def page_of(
    store: Store,
    where: tuple[str, str, bool],
    field: str,
    floor: str,
    ceiling: str,
    limit: int,
    after: Document | None = None,
) -> tuple[list[Document], datetime | None]:
    """
    Return the first *limit* documents with a text between two in *field*, in the order of text and name, and the server's
    time of the read.

    Args:
        store: The store.
        where: Parent, name, and True for a collection group.
        field: The indexed field.
        floor: The least text.
        ceiling: The greatest text.
        limit: Most documents.
        after: The document after which the page begins: a message with its name and its text; None: at the beginning.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    parent, name, group = where
    query = range_query(name, group, field, floor, ceiling, limit)
    if after is not None:
        order = query.order_by.add(direction=_ASCENDING)
        order.field.field_path = "__name__"
        query.start_at.values.add(string_value=text_in(after, field))
        query.start_at.values.add(reference_value=after.name)
    try:
        return store.wire.run_query(query, parent)
    except WireError as error:
        raise error.translated(f"looking at {field} in {name}", unknown=False) from error


def page_by_name(store: Store, area: Area, limit: int, after: str | None) -> tuple[list[Document], datetime | None]:
    """
    Return the first *limit* documents of *area* after the one with the full name *after*, in the order of names.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    query = _QueryType()
    query.from_.add(collection_id=area.name, all_descendants=bool(area.templates))
    query.order_by.add(direction=_ASCENDING).field.field_path = "__name__"
    query.limit.value = limit
    if after is not None:
        query.start_at.values.add(reference_value=after)
    try:
        return store.wire.run_query(query, area.parent)
    except WireError as error:
        raise error.translated(f"reading {area}", unknown=False) from error


def count_all(store: Store, area: Area) -> int:
    """
    Count the documents of *area*, which is at the root or a collection group.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    query = _QueryType()
    query.from_.add(collection_id=area.name, all_descendants=bool(area.templates))
    try:
        return store.wire.count(query)
    except WireError as error:
        raise error.translated(f"counting {area}", unknown=False) from error


def text_in(document: Document, field: str) -> str:
    """
    Return the text of an indexed *field*, such as ``state`` or ``lock.due``.
    """
    outer, _, inner = field.partition(".")
    value = document.fields[outer]
    return str(value.map_value.fields[inner].string_value if inner else value.string_value)


def range_query(name: str, group: bool, field: str, floor: str, ceiling: str, limit: int) -> Any:
    """
    Return the query for the documents of a collection (or collection *group*) with a text from *floor* to *ceiling* in
    *field*: the first *limit* in its order; 0: all, in any order.
    """
    query: Any = _QueryType.FromString(_frame(name, group, field, limit))
    for one, value in zip(query.where.composite_filter.filters, (floor, ceiling), strict=True):
        one.field_filter.value.string_value = value
    return query


@lru_cache
def _frame(name: str, group: bool, field: str, limit: int) -> bytes:
    """
    Return the encoded query without its texts, which all queries of the same field have in common.
    """
    query: Any = _QueryType()
    query.from_.add(collection_id=name, all_descendants=group)
    both = query.where.composite_filter
    both.op = _AND
    for op in (_GREATER_OR_EQUAL, _LESS_OR_EQUAL):
        one = both.filters.add().field_filter
        one.field.field_path = field
        one.op = op
    if limit:
        order = query.order_by.add()
        order.field.field_path = field
        order.direction = _ASCENDING
        query.limit.value = limit
    return bytes(query.SerializeToString())
