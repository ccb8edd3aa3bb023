"""
People answer the questions about runs that were begun once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gcp_oncetask import rules
from gcp_oncetask.checks import tagged
from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.rules import journal
from gcp_oncetask.rules.decisions import CallRefused, Put
from gcp_oncetask.rules.journal import EntryState
from gcp_oncetask.store import journals as stored_journals
from gcp_oncetask.store.snapshot import Snapshot
from tests.simulation.world import Process

if TYPE_CHECKING:
    from tests.simulation.durables.history import DurablesHistory


def answer(history: DurablesHistory, process: Process, path: str, name: str) -> Any:
    """
    Tell the truth about the run *name*: its result, or that nothing has happened.
    """
    runtime = process.locker._runtime
    nonce = runtime.clock.nonce()

    def decide(seen: Snapshot) -> Put | CallRefused:
        lock = seen.lock
        if lock is None:
            raise LookupError(path)
        at = runtime.decision_context(seen)
        found = journal.latest(stored_journals.read(runtime.store, path, lock)).get(name)
        if found is None:
            history.checker.broken(path, f"nothing is known of {name!r}, which it has begun once")
            raise LookupError(name)
        more = found.more or {}
        done = history.effects.get(more["key"])
        if done is None:
            entry = found._replace(state=EntryState.WITHDRAWN, at=at.now)
        else:
            entry = found._replace(state=EntryState.DONE, at=at.now, value=tagged.keep(done).data)
        told = rules.answer(lock, name, entry, nonce, at)
        if isinstance(told, Put) and done is None:
            history.checker.withdrawn.add((path, more["key"]))
        return told

    try:
        changed = runtime.store.change(path, decide)
    except LookupError:
        return None
    told = changed.decision
    if isinstance(told, CallRefused):
        return str(told.refusal)
    history.world.counts["answers of people"] += 1
    if told.dispatch:
        dispatch(runtime, changed.snapshot)
    return "answered"
