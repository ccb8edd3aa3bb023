"""
Changes of a journal by a person: the answer about a run that was begun once, and a journal that is cut for a reset.
"""

from __future__ import annotations

from typing import Any

from gcp_oncetask.checks import tagged, values
from gcp_oncetask.checks.tagged import NotTaggableError, Tagged
from gcp_oncetask.entities.chains import checked, stored_chain
from gcp_oncetask.errors import DamagedError, UsageError
from gcp_oncetask.rules import cutting, journal, ledger
from gcp_oncetask.rules.cutting import CutJournal
from gcp_oncetask.rules.journal import MAX_ENTRY, EntrySort, EntryState, JournalEntry
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store import journals as stored_journals
from gcp_oncetask.store.json_data import parameters


def entry_for(runtime: Runtime, path: str, run: str, result: Any, *, not_done: bool) -> JournalEntry:
    """
    Return the entry of *run* in the journal of the record at *path*, with the *result* that a person gives.

    The intent names the type by which the handler reads the result. If this process has loaded that type, it must read
    *result*; else *result* is kept as it is, and the handler leaves the task alone if its type can't read it.

    Raises:
        TaskNotFoundError: There is no such document, or it was never scheduled.
        UsageError: *result* can't be stored, or the run's type can't read it.
        DamagedError: A sealed part of the journal can't be read.
        StoreError: Firestore was unreachable or refused.
    """
    _, lock = stored_chain(runtime, path)
    known = journal.latest(stored_journals.read(runtime.store, path, lock))
    now = runtime.store.estimate()
    before = known.get(run)
    if before is None:
        ordinal = max((entry.ordinal for entry in known.values()), default=0) + 1
        before = JournalEntry(run, EntrySort.RUN, ordinal, lock.token, now, EntryState.OPEN)
    more = dict(before.more or {})
    read_by = more.pop("type", None)
    if not_done:
        return before._replace(state=EntryState.WITHDRAWN, at=now, value=None, model=False, more=more)
    kept = _kept(run, parameters(result, "the result"), read_by)
    more |= {"begun": instant(before.at), "answered": True}
    more.pop("tries", None)
    made = before._replace(state=EntryState.DONE, at=now, value=kept.data, model=kept.model, more=more)
    size = len(made.to_bytes())
    if size > MAX_ENTRY:
        raise UsageError(f"The result of the run {run!r} has {size:,} bytes; an entry has at most {MAX_ENTRY:,}.")
    return made


def unchecked(runtime: Runtime, path: str, lock: Lock, run: str) -> str | None:
    """
    Return the name of the type that reads the result of *run*, if this process has not loaded it and so does not check a result
    that a person gives; None if it has, or if the result is plain data.

    Raises:
        DamagedError: A sealed part of the journal can't be read.
        StoreError: Firestore was unreachable or refused.
    """
    entry = journal.latest(stored_journals.read(runtime.store, path, lock)).get(run)
    named = (entry.more or {}).get("type") if entry is not None else None
    return named if named is not None and tagged.loaded(named) is None else None


def cut_for(runtime: Runtime, path: str, name: str | None, *, fresh: bool) -> CutJournal | None:
    """
    Return the journal of the record at *path* without the entry *name* and those after it; None if it is not to be cut.

    Raises:
        UsageError: There is no such entry; or *name* and *fresh* contradict each other.
        DamagedError: A sealed part that the reset would keep can't be read.
        StoreError: Firestore was unreachable or refused.
    """
    if name is None:
        return None
    if fresh:
        raise UsageError(
            "fresh=True (--fresh) forgets the whole journal, from_name= (--from) a part: give one of both."
        )
    _, lock = stored_chain(runtime, checked(path))
    rows = stored_journals.read(runtime.store, path, lock)
    made = cutting.cut_at(lock, rows, name, runtime.store.estimate())
    if made is None:
        names = ", ".join(repr(entry.name) for entry in ledger.last(journal.latest(rows).values())) or "none"
        raise UsageError(f"{path}: its journal has no entry {name!r}; the last ones are {names}. Nothing was written.")
    if sum(map(len, made.journal)) > cutting.MAX_REST:
        raise UsageError(f"{path}: too much of a sealed part would stay; begin at another name, or use --fresh.")
    return made


def check_whole(runtime: Runtime, path: str, lock: Lock) -> None:
    """
    Check that the journal of *lock*, the record at *path*, can be read, before a reset keeps it.

    Raises:
        UsageError: A sealed part is missing or damaged. A completed step has no use for it.
        StoreError: Firestore was unreachable or refused.
    """
    if lock.status is Status.COMPLETED:
        return
    try:
        stored_journals.read(runtime.store, path, lock)
    except DamagedError as error:
        raise UsageError(f"{error} fresh=True (--fresh) runs it with a new key and an empty journal.") from error


def _kept(run: str, data: Any, read_by: str | None) -> Tagged:
    if read_by is None:
        return tagged.keep(data)
    kept, type_ = Tagged(data, model=True), tagged.loaded(read_by)
    if type_ is not None:
        try:
            tagged.read(kept, type_)
        except NotTaggableError as trouble:
            raise UsageError(
                f"{values.shown(data)} is no result of the run {run!r}: {trouble}. Nothing was written."
            ) from None
    return kept
