"""
Carry out a search: choose the index of each collection, read its documents in order, and drop those that the criteria exclude.

A document whose ``lock.attention`` contradicts its status is left out, and mended: a process of an older release has changed the
status and knows nothing of ``attention``.
"""

from __future__ import annotations

import heapq
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final

from gcp_oncetask.checks import values
from gcp_oncetask.errors import DamagedError, OncetaskError, StoreError, UsageError
from gcp_oncetask.finding.criteria import Criteria, Index, index_for, refused
from gcp_oncetask.rules import attention, features, verbs
from gcp_oncetask.rules.attention import Reason
from gcp_oncetask.rules.decisions import Put
from gcp_oncetask.rules.document_paths import CANCELLING, LOCKS, TASKS, resource_prefix, state_prefix
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.rules.timestamps import parse_instant
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.by_instant import Position, Seen, Span, in_order
from gcp_oncetask.store.indexes import override
from gcp_oncetask.store.queries import Area, areas_of, page_by_name, page_of, text_in
from gcp_oncetask.store.records import record_of
from gcp_oncetask.store.snapshot import Snapshot, snapshot_of, version_of

MOST: Final = 1000
"""Most records of a page."""
_MOST_READ: Final = 10_000
"""Most documents that are read for one page, those that the criteria exclude included."""
_SCANNED: Final = 300
DAMAGED: Final = "damaged"
"""Status of a record that can't be decoded."""


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """
    A record that was found.

    Attributes:
        path: Path of its document.
        sort: Sort of the record, such as ``chain`` or ``once-task``.
        kind: Kind of a once-task; None: it is no once-task.
        id: Id of a once-task, else of the document.
        reason: Reason for which it needs a person; None: it needs none.
        status: Its status; ``damaged`` if its lock can't be decoded.
        since: Time since which a person is needed, else the time from which it may run or has run; None: not known.
        sequence: Its sequence; 0 if the lock can't be decoded.
        step: Step of its chain, 1-based; 0 if the lock can't be decoded.
        attempts: Attempts of the sequence.
        max_attempts: Most attempts.
        last_error: Message of the last failure; None: there was none.
        key: Resource key that it needs; None: none.
        version: Version of the document, for acts that count for this version alone.
        acknowledged_by: Person who has promised to attend to it; None: there is no such promise now.
        acknowledged_until: End of that time.
        lock: The whole record; None if it can't be decoded.
    """

    path: str
    sort: str
    kind: str | None
    id: str
    reason: Reason | None
    status: str
    since: datetime | None
    sequence: int
    step: int
    attempts: int
    max_attempts: int
    last_error: str | None
    key: str | None
    version: str
    acknowledged_by: str | None
    acknowledged_until: datetime | None
    lock: Lock | None


@dataclass(frozen=True, slots=True)
class Page:
    """
    A page of a search.

    Attributes:
        items: The records, oldest first.
        next: Argument for the next page; None: this is the last one.
        index: The indexes that served the search, such as ``lock.attention``.
        read: Server's time of the last read; None: nothing was read.
        reads: Documents that were read.
        left_out: Sentence about collections that the search left out; empty: it left none out.
    """

    items: tuple[FoundRecord, ...]
    next: str | None
    index: str
    read: datetime | None
    reads: int
    left_out: str = ""


def find(runtime: Runtime, wanted: Criteria, *, limit: int = 50, after: str | None = None) -> Page:
    """
    Return one page of the records that *wanted* describes.

    Args:
        runtime: Shared parts.
        wanted: The criteria.
        limit: Most records of the page.
        after: ``next`` of the page before; None: the first page.

    Raises:
        UsageError: No index serves the search, or *after* is of no page.
        StoreError: Firestore was unreachable or refused; if an index is missing, the message has the line that makes it.
    """
    limit = values.whole(limit, "limit", most=MOST)
    place = None if after is None else _place(after)
    served, left_out = _served(runtime, wanted)
    seen = all_of(runtime, wanted, served, min(limit + 1, MOST), place)
    found: list[FoundRecord] = []
    read: datetime | None = None
    last: Position | None = None
    reads, more = 0, False
    for each in islice(seen, _MOST_READ):
        if len(found) == limit:
            more = True
            break
        reads, read, last = reads + 1, each.read or read, each.place
        row = _row(runtime, wanted, each)
        if row is not None:
            found.append(row)
    more = more or reads == _MOST_READ
    following = f"{last.instant} {last.path}" if more and last is not None else None
    return Page(tuple(found), following, ", ".join(sorted({*served.values()})), read, reads, left_out)


def find_each(runtime: Runtime, wanted: Criteria, *, page: int = MOST) -> Iterator[FoundRecord]:
    """
    Yield all records that *wanted* describes; *page* is the number of records that are read ahead.

    Raises:
        UsageError, StoreError: As ``find``.
    """
    found = find(runtime, wanted, limit=page)
    yield from found.items
    while found.next is not None:
        found = find(runtime, wanted, limit=page, after=found.next)
        yield from found.items


def _served(runtime: Runtime, wanted: Criteria) -> tuple[dict[Area, Index], str]:
    """
    Return the index that serves each collection, and a sentence about collections that are left out.
    """
    areas = areas_of(collections_of(runtime, wanted))
    served = {area: index_for(wanted, tasks=str(area) == TASKS) for area in areas}
    found = {area: index for area, index in served.items() if index is not None}
    without = tuple(str(area) for area in areas if area not in found)
    if not without or wanted.kind is not None:
        return found, ""
    error = refused(wanted, without, _line(without[0], "lock.status"))
    if wanted.collection is not None:
        raise error
    return found, str(error)


def collections_of(runtime: Runtime, wanted: Criteria) -> Iterable[str]:
    """
    Return the collections that a search is about.
    """
    if wanted.collection is not None:
        return [wanted.collection]
    if wanted.kind is not None:
        return [TASKS]
    known = {each.collection for each in runtime.registry.all()[0]}
    return {TASKS, *known, *runtime.collections} - {LOCKS}


def _line(collection: str, field: str) -> str:
    made = override(
        collection.split(", ", maxsplit=1)[0].rpartition("/")[2], "lock.due", [collection.split(", ", maxsplit=1)[0]]
    )
    return json.dumps({} if made is None else made | {"fieldPath": field})


def _place(text: str) -> Position:
    at, _, path = text.partition(" ")
    if not path:
        raise UsageError(f"{text!r:.80} is no page: give the next of the page before.")
    return Position(at, tuple(path.split("/")))


# --- reading ----------------------------------------------------------------------------------------------------------


def all_of(
    runtime: Runtime, wanted: Criteria, served: dict[Area, Index], page: int, after: Position | None
) -> Iterator[Seen]:
    """
    Yield the documents that *served* gives for a search, in the order of their instants.
    """
    spans: list[Span] = []
    scans: list[Area] = []
    for area, index in served.items():
        if index is Index.SCAN:
            scans.append(area)
        else:
            spans += _spans(runtime, wanted, area, index)
    parts = [_explained(in_order(runtime.store, spans, page=page, after=after), spans)]
    parts += [scanned(runtime, area, after) for area in scans]
    return heapq.merge(*parts, key=lambda seen: seen.place)


def _spans(runtime: Runtime, wanted: Criteria, area: Area, index: Index) -> list[Span]:
    env = runtime.config.env
    match index:
        case Index.ATTENTION:
            floors = [f"{env}/{reason}/" for reason in wanted.reasons]
        case Index.DUE:
            floors = [f"{env}/"]
        case Index.RESOURCE:
            assert wanted.kind is not None
            assert wanted.key is not None
            floors = [f"{resource_prefix(env, wanted.kind, wanted.key)}/"]
        case _:
            assert wanted.status is not None
            kinds = _kinds(runtime, area) if wanted.kind is None else [wanted.kind]
            states = [str(wanted.status)]
            if wanted.status in (Status.SCHEDULED, Status.LEASED):
                states.append(CANCELLING)
            floors = [f"{state_prefix(env, kind, state)}/" for kind in kinds for state in states]
    return [Span(area, str(index), floor) for floor in floors]


def _kinds(runtime: Runtime, area: Area) -> list[str]:
    """
    Return the kinds of the once-tasks that are stored, by one read each.
    """
    env = runtime.config.env
    found: list[str] = []
    floor = f"{env}/"
    while True:
        first, _ = page_of(runtime.store, area.where, "state", floor, f"{env}0", 1)
        if not first:
            return found
        found.append(text_in(first[0], "state").split("/")[1])
        floor = f"{env}/{found[-1]}0"


def scanned(runtime: Runtime, area: Area, after: Position | None) -> Iterator[Seen]:
    """
    Yield all documents of *area*, in the order of their names.
    """
    # A scan has no instants: its documents come first, and are in order by their paths alone.
    if after is not None and after.instant:
        return
    last = None if after is None else runtime.wire.name(after.path)
    while True:
        found, read = page_by_name(runtime.store, area, _SCANNED, last)
        for document in found:
            path = runtime.wire.path(document.name)
            if area.has(path):
                yield Seen(Position("", tuple(path.split("/"))), document, read)
        if len(found) < _SCANNED:
            return
        last = found[-1].name


def _explained(found: Iterator[Seen], spans: Sequence[Span]) -> Iterator[Seen]:
    with index_named(spans):
        yield from found


@contextmanager
def index_named(spans: Sequence[Span]) -> Iterator[None]:
    """
    If an index of *spans* is missing, let the error of the block have the line that makes it.
    """
    try:
        yield
    except StoreError as error:
        if getattr(error.facts.get("code"), "name", "") != "FAILED_PRECONDITION" or "index" not in str(error):
            raise
        lines = {_line(str(span.area), span.field) for span in spans if span.field.startswith("lock.")}
        told = "; ".join(sorted(lines)) or "python -m gcp_oncetask indexes write"
        raise StoreError(
            f'{error} Add to "fieldOverrides" of firestore.indexes.json: {told}. Then deploy it: firebase deploy --only '
            "firestore:indexes; Firestore may take some minutes to build it.",
            **error.facts,
        ) from error


# --- rows -------------------------------------------------------------------------------------------------------------


def _row(runtime: Runtime, wanted: Criteria, seen: Seen) -> FoundRecord | None:
    """
    Return the row of a document, or None if the criteria exclude it.
    """
    path = seen.place.path
    try:
        snapshot = snapshot_of(path, seen.document, seen.read)
    except DamagedError as error:
        return _damaged(wanted, seen, error) if _is_damaged_wanted(wanted) else None
    lock = snapshot.lock
    if lock is None or lock.env != runtime.config.env:
        return None
    if wanted.reasons and wanted.key is None:
        _mend(runtime, snapshot, lock)
    row = found_of(snapshot, lock, runtime.store.estimate())
    return row if _fits(wanted, row, seen.read or runtime.store.estimate()) else None


def found_of(snapshot: Snapshot, lock: Lock, now: datetime) -> FoundRecord:
    """
    Return the row of a document that was read.
    """
    record = record_of(snapshot)
    until = attention.acknowledged_until(lock, now)
    task = record.task
    return FoundRecord(
        path=snapshot.path,
        sort=str(record.sort),
        kind=None if task is None else task.kind,
        id=snapshot.path.rpartition("/")[2] if task is None else task.id,
        reason=attention.reason_of(lock),
        status=str(lock.status),
        since=since_of(lock),
        sequence=lock.sequence,
        step=lock.step,
        attempts=lock.attempts,
        max_attempts=lock.max_attempts,
        last_error=lock.errors[-1].message if lock.errors else None,
        key=lock.key,
        version="" if snapshot.version is None else version_of(snapshot.version),
        acknowledged_by=None if until is None or lock.acknowledgement is None else lock.acknowledgement.by,
        acknowledged_until=until,
        lock=lock,
    )


def since_of(lock: Lock) -> datetime | None:
    """
    Return the time since which a person is needed; else, of a record that runs, the time of the grant; else the time from
    which it may run.
    """
    stored = attention.since(lock.attention)
    if stored is not None and attention.reason_of(lock) is not None:
        return parse_instant(stored)
    return lock.granted_at if lock.status is Status.LEASED else lock.ready_since or lock.wait_until


def _is_damaged_wanted(wanted: Criteria) -> bool:
    return wanted.status is None and Reason.DAMAGED in wanted.reasons


def _damaged(wanted: Criteria, seen: Seen, error: DamagedError) -> FoundRecord | None:
    record = verbs.record_of(seen.place.path, None, {})
    kind = None if record.task is None else record.task.kind
    if wanted.kind not in (None, kind):
        return None
    return FoundRecord(
        path=record.path,
        sort=str(record.sort),
        kind=kind,
        id=record.path.rpartition("/")[2] if record.task is None else record.task.id,
        reason=Reason.DAMAGED,
        status=DAMAGED,
        since=_needed_since(seen),
        sequence=0,
        step=0,
        attempts=0,
        max_attempts=0,
        last_error=str(error),
        key=None,
        version=version_of(seen.document.update_time),
        acknowledged_by=None,
        acknowledged_until=None,
        lock=None,
    )


def _needed_since(seen: Seen) -> datetime | None:
    # Entries of lock.attention end with this time; those of other indexes may end with another text.
    try:
        return parse_instant(seen.place.instant)
    except ValueError:
        return None


def _fits(wanted: Criteria, row: FoundRecord, now: datetime) -> bool:
    if wanted.kind not in (None, row.kind) or wanted.status not in (None, row.status):
        return False
    if wanted.dismissed is not (row.reason is Reason.DISMISSED) and wanted.status is None and wanted.key is None:
        return False
    if wanted.reasons and wanted.status is None and wanted.key is None and row.reason not in wanted.reasons:
        return False
    age = None if row.since is None else now - row.since
    if wanted.older_than is not None and (age is None or age < wanted.older_than):
        return False
    return wanted.newer_than is None or (age is not None and age <= wanted.newer_than)


def _mend(runtime: Runtime, snapshot: Snapshot, lock: Lock) -> None:
    """
    Mend ``attention`` of a record whose status contradicts it. A failure is logged: the next search tries again.
    """
    if features.unknown(lock) or attention.mended(lock, runtime.decision_context(snapshot)) is None:
        return
    try:
        mend(runtime, snapshot)
    except OncetaskError as error:
        runtime.about(snapshot).log(logging.WARNING, "its attention could not be mended: %s", error)


def mend(runtime: Runtime, snapshot: Snapshot) -> bool:
    """
    Write the ``attention`` that the record's status asks for; return whether it was another one.

    Raises:
        OncetaskError: As ``Store.change``.
    """

    def decide(seen: Snapshot) -> Put | None:
        if seen.lock is None or seen.lock.env != runtime.config.env:
            return None
        return attention.mended(seen.lock, runtime.decision_context(seen))

    return isinstance(runtime.store.change(snapshot.path, decide, start=snapshot).decision, Put)
