"""
Generators that are declared again with another payload or schedule. Pure.

The occurrences that a generator has made stay as they are. The occurrences that its stored schedule owes now are made
first, by that schedule; the newer schedule counts from the next run on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gcp_oncetask import rules
from gcp_oncetask.errors import TaskConflictError
from gcp_oncetask.rules.decisions import CallRefused, DecisionContext, Put
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.store.codec import Value, decode, encode
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.tasks.data import difference
from gcp_oncetask.tasks.draft import Draft

if TYPE_CHECKING:
    from gcp_oncetask.tasks.recurrence import Recurrence


def schedule_differences(stored: Any, given: Recurrence | None) -> list[str]:
    """
    Return the differences of two schedules, as ``recurrence.tz: stored -> given``; None stands for a task that does not
    recur.
    """
    if stored is not None and not isinstance(stored, Mapping):
        return ["recurrence: (it can't be read) -> another one"]
    before = None if stored is None else _completed(stored)
    return difference(before, None if given is None else given.to_data(), "recurrence")


def _completed(stored: Mapping[str, Any]) -> dict[str, Any]:
    from gcp_oncetask.tasks.recurrence import Recurrence

    return Recurrence.completed(stored)


def differences(made: Draft, seen: Snapshot) -> list[str]:
    """
    Return the differences between the stored schedule and that of *made*, and for a generator also those of the
    resource key.
    """
    found = schedule_differences(_stored(seen, "recurrence"), made.recurrence)
    # If max_running has changed since, the stored key serves as well.
    if made.recurrence is not None and made.kind.max_running is None:
        found += difference(_stored(seen, "resourceKey"), made.resource_key, "resource_key")
    return found


def owes(made: Draft, seen: Snapshot, at: DecisionContext) -> bool:
    """
    Tell whether the stored schedule owes occurrences that must be made before *made* replaces it.
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
        made: The declared generator.
        seen: The stored task.
        lock: The stored record.
        found: Their differences.
        at: Moment of the decision.

    Raises:
        TaskConflictError: One of the two recurs and the other does not.
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
        # The newer schedule's misfire policy decides on the runs that fell due while the generator was paused.
        late = not lock.finished and lock.wait_until is not None and lock.wait_until < at.now
        upcoming = made.recurrence.first(lock.wait_until if late else at.now)
    return rules.redeclare(lock, made.target._replace(wait_until=upcoming), made.nonce, at)


def fields(made: Draft) -> dict[str, Value | None]:
    """
    Return the stored fields of a generator's newer schedule.
    """
    assert made.recurrence is not None
    key = made.resource_key
    return {"recurrence": encode(made.recurrence.to_data()), "resourceKey": None if key is None else encode(key)}


def _stored(seen: Snapshot, name: str) -> Any:
    return decode(seen.fields[name]) if name in seen.fields else None
