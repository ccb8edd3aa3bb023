"""
``attempt.run_task`` and ``attempt.run_tasks``: once-tasks that a durable handler makes, and for whose ends it waits.

Shape:
    The first commit keeps an entry with a nonce, of which the ids of the children are made; so an attempt that comes again
    makes no child twice. Each commit that creates children is fenced by the parent's lease. The commit with the last of them
    says so in the entry. Outcomes are read once, when the wait has ended, and kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.errors import ChildFailedError, JournalMismatchError, UsageError
from gcp_oncetask.execution.journaling import Journal
from gcp_oncetask.rules import family
from gcp_oncetask.rules.decisions import Put
from gcp_oncetask.rules.journal import MAX_ENTRY, EntrySort, EntryState, JournalEntry
from gcp_oncetask.rules.record import Status, WaitFor, Woken
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import decode
from gcp_oncetask.store.snapshot import Snapshot, Update

MOST: Final = 5_000
"""Most children of one word."""
_BATCH: Final = 50
"""Most children of one commit."""
_BYTES: Final = 4 * 1024 * 1024
"""Bytes of one commit, from which on no further child is added; Firestore takes 10 MiB."""
_PAGE: Final = 100
"""Children that are read by one call."""
_PARALLEL: Final = 8
_ROOM: Final = 2_000


class ChildDraft(Protocol):
    """
    The draft of a child.
    """

    @property
    def digest(self) -> str:
        """
        Hash of its payload.
        """


class Maker(Protocol):
    """
    The part of a task manager that makes children.
    """

    def told(self, data: Any) -> tuple[str, str]:
        """
        Return the kind of a payload, and its digest.
        """

    def make(self, data: Any, id_: str, parent: str, group: str) -> tuple[ChildDraft, Update]:
        """
        Return the draft of a child, and the write that creates it.
        """

    def path(self, kind: str, id_: str) -> str:
        """
        Return the path of a child.
        """


def run_tasks(
    journal: Journal,
    name: str,
    tasks: Sequence[Any],
    *,
    tolerate: int,
    was: str | None = None,
) -> list[Any]:
    """
    See ``Attempt.run_tasks``; *tolerate* is the number of failures that are tolerated.
    """
    runtime = journal.attempt.runtime
    maker = _maker(runtime)
    given = [(data, *maker.told(data)) for data in tasks]
    if len(given) > MOST:
        raise UsageError(f"{name!r} has {len(given):,} tasks, and may have {MOST:,}; make them by several words.")
    digest = hashlib.sha256(json.dumps([each[1:] for each in given]).encode()).hexdigest()[:16]
    entry = journal.enter(name, EntrySort.TASKS, suspends=True, was=was)
    if entry is None:
        journal.room(name)
        more = {"nonce": runtime.clock.nonce(), "count": len(given)}
        entry = journal.entry(name, EntrySort.TASKS, state=EntryState.BEGUN, args=digest, more=more)
        journal.commit([entry])
    elif entry.args != digest:
        raise journal.ask(
            JournalMismatchError(
                f"{name!r} has another list of tasks in the journal. A list that decides which tasks are made belongs into a "
                "run, so that each attempt has the same.",
                name=name,
            )
        )
    if entry.state is EntryState.BEGUN:
        entry = _awaited(journal, maker, entry, given, tolerate)
    return _answer(journal, entry, tolerate)


def _maker(runtime: Runtime) -> Maker:
    maker: Maker | None = runtime.child_maker
    if maker is None:
        raise UsageError(
            "run_task() and run_tasks() make once-tasks, and this process has no task manager: make a TaskManager(locker) in "
            "it, at import time."
        )
    return maker


def _awaited(
    journal: Journal, maker: Maker, entry: JournalEntry, given: Sequence[tuple[Any, str, str]], tolerate: int
) -> JournalEntry:
    """
    Return the entry with the outcomes of the children; they are made before, if they are not yet.

    Raises:
        Suspended: Some have not ended.
        CancelledByRequest: The parent is cancelled.
    """
    attempt = journal.attempt
    if attempt.cancelled and not attempt.told:
        journal.tell()
    more = dict(entry.more or {})
    nonce = str(more["nonce"])
    wait = journal.lock.wait
    ended = wait is not None and wait.ended is Woken.CHILDREN and wait.nonce == nonce
    if not ended and not more.get("made"):
        entry = _make(journal, maker, entry, given)
    paths = [maker.path(kind, _id(nonce, index)) for index, (_, kind, _) in enumerate(given)]
    rows = _outcomes(journal, paths) if ended or not paths else []
    failed = sum(row["s"] not in (family.OPEN, Status.COMPLETED) for row in rows)
    undecided = tolerate == family.ANY_NUMBER or failed <= tolerate
    if paths and (not ended or (undecided and any(row["s"] == family.OPEN for row in rows))):
        # A person may have reset the failed child that has woken the parent.
        raise journal.suspend(
            journal.wait_for(entry.name, WaitFor.CHILDREN, None, before=entry, nonce=nonce, tolerate=tolerate)
        )
    return _keep(journal, entry, rows)


def _id(nonce: str, index: int) -> str:
    return f"{nonce}-{index}"


# --- making -----------------------------------------------------------------------------------------------------------


class _Births:
    """
    The writes that create children, in the same commit as a write of their parent's journal (``flow.Along``).

    Attributes:
        foreign: Path of a document that has the id of a child and is none; None: there is none.
        born: The children that the commit has created.
    """

    def __init__(self, runtime: Runtime, group: str, batch: Sequence[tuple[ChildDraft, Update]]) -> None:
        self._runtime, self._group = runtime, group
        self._left = list(batch)
        self.foreign: str | None = None
        self.born: list[Snapshot] = []

    def writes(self, put: Put) -> Sequence[Any]:
        return [update.message for _, update in self._left]

    def done(self, results: Sequence[Any] | None) -> None:
        for index, (_, update) in enumerate(self._left):
            known = Snapshot(update.before.path, None, None, update.lock, whole=False)
            self.born.append(known if results is None else update.applied(results[index]))

    def again(self) -> None:
        """
        Leave out the children that exist, because an earlier attempt has created them.
        """
        found = self._runtime.store.read_all([update.before.path for _, update in self._left])
        left = []
        for made, update in self._left:
            stored = found[update.before.path]
            if not stored.exists:
                left.append((made, update))
            elif not self._is_ours(made, stored):
                self.foreign = stored.path
        self._left = left

    def _is_ours(self, made: ChildDraft, stored: Snapshot) -> bool:
        fields = stored.fields
        if family.PARENT not in fields or "dataHash" not in fields:
            return False
        group = str(decode(fields[family.PARENT])).partition("/")[0]
        return group == self._group and decode(fields["dataHash"]) == made.digest


def _make(journal: Journal, maker: Maker, entry: JournalEntry, given: Sequence[tuple[Any, str, str]]) -> JournalEntry:
    """
    Create the children that do not exist yet, and return the entry that says so.
    """
    attempt = journal.attempt
    runtime, path = attempt.runtime, attempt.snapshot.path
    nonce = str((entry.more or {})["nonce"])
    group = family.group_of(path, nonce)
    made = (maker.make(data, _id(nonce, index), path, group) for index, (data, _, _) in enumerate(given))
    done = entry._replace(more={**(entry.more or {}), "made": True})
    batches = _batches(made)
    batch = next(batches, None)
    while batch is not None:
        following = next(batches, None)
        births = _Births(runtime, group, batch)
        journal.check()
        journal.commit([done] if following is None else [], also=births)
        if births.foreign is not None:
            raise journal.ask(
                JournalMismatchError(
                    f"{births.foreign} has the id of a child of {entry.name!r}, and another payload or parent.",
                    name=entry.name,
                )
            )
        _dispatch(runtime, births.born)
        batch = following
    return done


def _batches(made: Iterator[tuple[ChildDraft, Update]]) -> Iterator[list[tuple[ChildDraft, Update]]]:
    batch: list[tuple[ChildDraft, Update]] = []
    size = 0
    for each in made:
        batch.append(each)
        size += each[1].message.ByteSize()
        if len(batch) >= _BATCH or size >= _BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _dispatch(runtime: Runtime, born: Sequence[Snapshot]) -> None:
    """
    Make the deliveries of children; the sweeper makes those that fail.
    """
    for child in born:
        runtime.events.scheduled(child)
    if len(born) <= _PARALLEL:
        for child in born:
            dispatch(runtime, child)
        return
    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="oncetask-children") as pool:
        list(pool.map(lambda child: dispatch(runtime, child), born))


# --- outcomes ---------------------------------------------------------------------------------------------------------


def _outcomes(journal: Journal, paths: Sequence[str]) -> list[dict[str, Any]]:
    """
    Read the outcomes of the children at *paths*.
    """
    store = journal.attempt.runtime.store
    rows: list[dict[str, Any]] = []
    for start in range(0, len(paths), _PAGE):
        page = paths[start : start + _PAGE]
        found = store.read_all(page)
        rows += [_outcome(path, found[path]) for path in page]
    return rows


def _keep(journal: Journal, entry: JournalEntry, rows: Sequence[dict[str, Any]]) -> JournalEntry:
    """
    Keep the outcomes of the children, and return the entry of the word. Many outcomes are kept in several entries.
    """
    more = {key: value for key, value in (entry.more or {}).items() if key != "made"}
    if any(row["s"] == family.OPEN for row in rows):
        more["left"] = True
    parts = list(_parts(journal, entry.name, rows))
    for index, part in enumerate(parts if len(parts) > 1 else ()):
        journal.commit([journal.entry(_part(entry.name, index), EntrySort.TASKS, value=part)])
    if len(parts) > 1:
        more["parts"] = len(parts)
    value = None if len(parts) > 1 else [*rows]
    done = entry._replace(state=EntryState.DONE, token=journal.attempt.granted.token, value=value, more=more)
    journal.commit([done])
    return done


def _part(name: str, index: int) -> str:
    return f"{name}[{index}]"


def _parts(journal: Journal, name: str, rows: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    part: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        length = len(json.dumps(row)) + 1
        if length > MAX_ENTRY - _ROOM:
            raise journal.fail(
                UsageError(
                    f"The result of {row['p']}, a child of {name!r}, has {length:,} bytes; an entry of the journal has at most "
                    f"{MAX_ENTRY:,}. Store it elsewhere, and return its name."
                )
            )
        if part and size + length > MAX_ENTRY - _ROOM:
            yield part
            part, size = [], 0
        part.append(row)
        size += length
    if part:
        yield part


def _outcome(path: str, child: Snapshot) -> dict[str, Any]:
    lock = child.lock
    if lock is None:
        return {"p": path, "s": "deleted"}
    if not lock.finished:
        return {"p": path, "s": family.OPEN}
    if lock.status is Status.COMPLETED and lock.returned.lost is None:
        return {"p": path, "s": str(lock.status), "v": lock.returned.data()}
    if lock.status is Status.COMPLETED:
        return {"p": path, "s": "result lost", "e": str(lock.returned.lost)[:300]}
    last = lock.errors[-1].message[:300] if lock.errors else None
    return {"p": path, "s": str(lock.status), "e": last}


def _answer(journal: Journal, entry: JournalEntry, tolerate: int) -> list[Any]:
    """
    Return the results of the children, with an error in the place of each that has failed.

    Raises:
        ChildFailedError: More have failed than are tolerated.
    """
    parts = int((entry.more or {}).get("parts", 0))
    rows: list[dict[str, Any]] = entry.value or []
    for index in range(parts):
        rows = rows + journal.kept[_part(entry.name, index)].value
    answers: list[Any] = []
    failed: list[ChildFailedError] = []
    for row in rows:
        if row["s"] == str(Status.COMPLETED):
            answers.append(row["v"])
            continue
        error = ChildFailedError(_said(entry.name, row), name=entry.name, child=row["p"], status=row["s"])
        answers.append(error)
        if row["s"] != family.OPEN:
            failed.append(error)
    if failed and tolerate != family.ANY_NUMBER and len(failed) > tolerate:
        raise failed[0]
    return answers


def _said(name: str, row: dict[str, Any]) -> str:
    because = f": {row['e']}" if row.get("e") else ""
    return f"{row['p']}, a child of {name!r}, is {row['s']}{because}."
