"""
What must hold in every state of the tasks.
"""

from __future__ import annotations

from collections import Counter

from tests.model import documents
from tests.model.documents import lock_of
from tests.model.moves import is_settled_by_holder
from tests.model.programs import believes
from tests.model.state import KEY_AT, Process, State, broken_by, looked_after, process_of


def wrong_in(state: State, key: str | None) -> str | None:
    """
    Return what is wrong in *state*, as a sentence; None: nothing. *key* is the path of the resource key that all tasks need.
    """
    believers: Counter[str] = Counter()
    for number in state.processes:
        running = process_of(number).running
        if running is not None and believes(running, state.tick):
            believers[running.path] += 1
            if key is not None and running.hand is not None and not state.freed:
                believers[key] += 1
    for path, count in believers.items():
        if count > 1:
            return f"{path}: {count} attempts believe that they have it"
    for path, number in state.docs:
        wrong = looked_after(number)
        if wrong is not None and not path.startswith(KEY_AT):
            return f"{path}: {wrong}"
    return _parked(state, key) if key is not None and not state.freed else None


def _parked(state: State, path_of_key: str) -> str | None:
    docs = dict(state.docs)
    for path, number in state.docs:
        lock = lock_of(number)
        if lock is None or lock.parked is None:
            continue
        document = documents.document_of(docs.get(path_of_key, documents.MISSING))
        record = lock_of(docs.get(path_of_key, documents.MISSING))
        if document is None or record is None or not document.fields["waiting"].integer_value or record.due is None:
            return f"{path}: it waits for its key, and nobody is to look at the key"
    return None


def broken_in(state: State, after: tuple[tuple[str, int], ...], process: Process | None) -> str | None:
    """
    Return what the commit of *process* that leads from *state* to the documents *after* breaks; None: nothing.
    """
    old = dict(state.docs)
    running = [r for number in state.processes if (r := process_of(number).running) is not None]
    for path, number in after:
        if path.startswith(KEY_AT) or number == old.get(path):
            continue
        before, now = lock_of(old.get(path, documents.MISSING)), lock_of(number)
        own = before is not None and now is not None and is_settled_by_holder(before, now, state, process)
        began = before is not None and any(
            line.nonce == before.holder and line.event == "started" for line in state.lines
        )
        wrong = broken_by(before, now, own=own, running=running, began=began, tick=state.tick)
        if wrong is not None:
            return f"{path}: {wrong}"
    return None
