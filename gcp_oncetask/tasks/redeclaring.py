"""
Generators that are declared again with another payload or schedule. Pure.

What a generator has made stays as it is. What its stored schedule owes at this moment is made first, by that schedule; the newer
one holds from the next run on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gcp_oncetask import rules
from gcp_oncetask.errors import TaskConflictError
from gcp_oncetask.rules.decisions import CallRefused, DecisionContext, Put
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.store.codec import Value, decode, encode
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.tasks.data import difference
from gcp_oncetask.tasks.draft import Draft
from gcp_oncetask.tasks.recurrence import Recurrence


def schedule_differences(stored: Any, given: Recurrence | None) -> list[str]:
    """
    Where two schedules differ, as ``recurrence.tz: stored -> given``; None: it does not recur.
    """
    if stored is not None and not isinstance(stored, Mapping):
        return ["recurrence: (it can't be read) -> another one"]
    before = None if stored is None else Recurrence.completed(stored)
    return difference(before, None if given is None else given.to_data(), "recurrence")


def differences(made: Draft, seen: Snapshot) -> list[str]:
    """
    Where the schedule of *made* differs from the stored one, and, of a generator, its resource key.
    """
    found = schedule_differences(_stored(seen, "recurrence"), made.recurrence)
    # Where max_running has changed since, the stored place is as good.
    if made.recurrence is not None and made.kind.max_running is None:
        found += difference(_stored(seen, "resourceKey"), made.resource_key, "resource_key")
    return found


def owes(made: Draft, seen: Snapshot, at: DecisionContext) -> bool:
    """
    Whether runs of the stored schedule are to be made before that of *made* replaces it.
    """
    lock = seen.lock
    if made.recurrence is None or not made.kind.replaces or lock is None or "recurrence" not in seen.fields:
        return False
    waits = lock.status is Status.SCHEDULED and not lock.paused and lock.wait_until is not None
    late = waits and lock.wait_until is not None and lock.wait_until <= at.now
    return late and schedule_differences(_stored(seen, "recurrence"), made.recurrence) != []


def decide(made: Draft, seen: Snapshot, lock: Lock, found: list[str], at: DecisionContext) -> Put | CallRefused:
    """
    Replace the stored generator by *made*, if it differs.

    Args:
        made: What is declared.
        seen: What is stored.
        lock: Its record.
        found: Where they differ.
        at: Moment.

    Raises:
        TaskConflictError: The one recurs and the other does not.
    """
    if made.recurrence is None or "recurrence" not in seen.fields:
        stored = (
            "recurs, and the newer one does not"
            if made.recurrence is None
            else "does not recur, and the newer one does"
        )
        raise TaskConflictError(
            f"{seen.path}: the stored task {stored}; delete the stored one first. Nothing was written.",
            document=seen.path,
            differences=found,
        )
    if not found and not (lock.finished and made.kind.unique is not None):
        return CallRefused(Refusal.EXISTS, "it exists")
    upcoming = lock.wait_until
    if lock.finished or schedule_differences(_stored(seen, "recurrence"), made.recurrence):
        # What fell due while it was paused is the newer schedule's, as its misfire policy says.
        late = not lock.finished and lock.wait_until is not None and lock.wait_until < at.now
        upcoming = made.recurrence.first(lock.wait_until if late else at.now)
    return rules.redeclare(lock, made.target._replace(wait_until=upcoming), made.nonce, at)


def fields(made: Draft) -> dict[str, Value | None]:
    """
    What is stored of a generator's newer schedule.
    """
    assert made.recurrence is not None
    key = made.resource_key
    return {"recurrence": encode(made.recurrence.to_data()), "resourceKey": None if key is None else encode(key)}


def _stored(seen: Snapshot, name: str) -> Any:
    return decode(seen.fields[name]) if name in seen.fields else None
