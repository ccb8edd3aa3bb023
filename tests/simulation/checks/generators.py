"""
Generators: no occurrence missing that the policies want, and none beside those, whatever became of the last one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from gcp_oncetask import Status
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.tasks import Recurrence

if TYPE_CHECKING:
    from tests.simulation.tasks.checker import TasksChecker

GRACE = timedelta(minutes=1)
"""How late a run still is made under the misfire policy ``skip``."""
SLACK = timedelta(seconds=60)
"""How much older than the server's time an estimate of it may be."""


def check_step(checker: TasksChecker, path: str, before: Lock | None, created: set[str]) -> None:
    """
    A generator moves on only with what was due.
    """
    fields, lock = checker.stored.get(path, {}), checker.locks.get(path)
    if before is None or lock is None or "recurrence" not in fields or before.wait_until is None:
        return
    if lock.sequence == before.sequence and lock.status is not Status.COMPLETED:
        return
    if lock.status is Status.COMPLETED and before.status is not Status.SCHEDULED:
        return
    if lock.wait_until is None and (path, before.token) in checker.unfreed:
        # A person has made it anew, and for which run it had waited could not be read.
        return
    rule = Recurrence.from_data(fields["recurrence"])
    until = lock.wait_until if lock.status is Status.SCHEDULED else None
    due = [run for run in rule.runs(before.wait_until) if until is None or run < until]
    made = [run for run in due if checker.occurrences.get((fields["id"], run)) in checker.seen]
    here = [run for run in made if checker.occurrences[fields["id"], run] in created]
    counts = checker.world.counts
    counts["misfires"] += len(due) > 1
    counts["occurrences found existing"] += len(made) > len(here)
    counts["occurrences left out"] += len(due) > len(made)
    counts[f"steps with overlap {rule.overlap}, misfire {rule.misfire}"] += 1
    if before.paused and here:
        checker.broken(path, f"it is paused, and made {here[-1]}")
    allowed = due[-rule.misfire_limit :] if rule.misfire == "all" and rule.overlap != "skip" else due[-1:]
    surplus = [str(run) for run in here if run not in allowed]
    if surplus:
        checker.broken(path, f"it made {', '.join(surplus)}, which its policies leave out")
    missing = [str(run) for run in allowed if run not in made]
    if missing and _must(checker, path, before.wait_until, rule, allowed[-1]):
        checker.broken(path, f"it moved on without its occurrence of {', '.join(missing)}")
    late = [str(run) for run in here if run + GRACE + SLACK < checker.world.hub.time()]
    if rule.misfire == "skip" and late and checker._prompt():
        checker.broken(path, f"it made {late[0]}, which is too late for its policy")
    if rule.overlap == "skip":
        _skips(checker, path, here)


def _must(checker: TasksChecker, path: str, wait_until: datetime, rule: Recurrence, newest: datetime) -> bool:
    """
    Whether the policies surely want the newest run, whenever before this commit the generator has decided.
    """
    if rule.misfire == "skip" and newest + GRACE < checker.world.hub.time():
        return False
    if rule.overlap != "skip":
        return True
    last = checker.lasts.get(path)
    if last is None:
        return True
    lock, fields = checker.locks.get(last), checker.stored.get(last, {})
    # A generator decides when it is due, not earlier.
    return lock is not None and lock.finished and fields["doneAt"] <= wait_until


def _skips(checker: TasksChecker, path: str, here: list[Any]) -> None:
    """
    None is made beside the last one.
    """
    last, counts = checker.locks.get(checker.lasts.get(path) or ""), checker.world.counts
    counts["made after the last one was retired"] += bool(here) and checker.lasts.get(path) in checker.erased
    if last is None or last.finished:
        return
    state = str(last.status)
    if last.status is Status.SCHEDULED:
        state = "parked" if last.parked is not None else "waiting again" if last.token else "waiting"
    counts[f"steps beside a last run: {state}"] += 1
    if here:
        checker.broken(path, f"it made {here[-1]} while its last occurrence is {last.status}")


def check_occurrence(checker: TasksChecker, path: str, generator: str, rule: Recurrence) -> None:
    """
    Occurrences of one generator wait for each other where its policy says so.
    """
    if rule.overlap == "queue" and checker.locks[path].key is None:
        checker.broken(path, f"it is an occurrence of {generator}, which queues them, and has no key")
