"""
The entry of the journal by which a person answers the question about a run that was begun once.
"""

from __future__ import annotations

from typing import Any

from gcp_oncetask.checks import tagged, values
from gcp_oncetask.checks.tagged import NotTaggableError, Tagged
from gcp_oncetask.entities.chains import stored_chain
from gcp_oncetask.errors import UsageError
from gcp_oncetask.rules import journal
from gcp_oncetask.rules.journal import MAX_ENTRY, EntrySort, EntryState, JournalEntry
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
