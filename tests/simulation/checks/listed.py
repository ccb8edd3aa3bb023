"""
The list of records that need a person, at the end of a history: a record that needs one is found, any other is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gcp_oncetask import OncetaskError, Status
from gcp_oncetask.finding import rebuilding
from gcp_oncetask.rules.record import Lock
from tests.simulation.hub import Promise

if TYPE_CHECKING:
    from tests.simulation.chains.history import History
    from tests.simulation.process import Process

_PAGE = 3
"""Rows of a page: few, so that most lists have several."""


def check_listed(history: History) -> None:
    """
    Let a process of this release list what needs a person; where one of the release before has written, it rebuilds the
    index first, as after an upgrade.
    """
    world, hub, checker = history.world, history.hub, history.checker
    process, done = world.start_process(later=True), Promise(hub)
    hub.spawn(process, lambda: done.give(_listed(history, process)))
    hub.run(lambda: done.given or bool(checker.violations))
    if checker.violations or isinstance(done.value, OncetaskError):
        world.counts["lists that failed"] += not checker.violations
        return
    found: list[str] = done.value
    for path, lock in checker.locks.items():
        wanted = _needs_a_person(lock, by_hand=path in checker.by_hand | checker.dismissing)
        world.counts["records that need a person at the end"] += wanted
        if wanted and path not in found:
            checker.broken(path, f"it is {lock.status}, and the list of records that need a person lacks it")
        elif not wanted and path in found:
            checker.broken(path, f"it is {lock.status}, and is listed as if it needed a person")
        # The release before writes no reason, and the rebuilt index lists its records anew.
        kept = not history.plan.has("versions") and path not in checker.damages.repaired
        dismissed = checker.dismissed.get(path) == (checker.lives[path], lock.sequence)
        if dismissed and kept and lock.status is Status.FAILED and path in found:
            checker.broken(path, "a person has dismissed it, and it is listed")
    for path in found:
        if found.count(path) > 1:
            checker.broken(path, "it is listed twice")
    world.counts["lists looked at"] += 1


def _listed(history: History, process: Process) -> list[str] | OncetaskError:
    locker = process.locker
    try:
        if history.plan.has("versions"):
            for area in rebuilding.areas(locker._runtime, None):
                for _ in rebuilding.examine(locker._runtime, area, write=True):
                    pass
        paths, after = [], None
        while True:
            page = locker.find(limit=_PAGE, after=after)
            paths += [row.path for row in page.items]
            after = page.next
            if after is None:
                return paths
    except OncetaskError as error:
        return error


def _needs_a_person(lock: Lock, *, by_hand: bool) -> bool:
    if lock.status is Status.FAILED:
        # A record that a person has failed is dismissed, too.
        return not (by_hand and "/dismissed/" in (lock.attention or ""))
    return lock.status is Status.QUARANTINED or (lock.status is Status.COMPLETED and lock.result_lost is not None)
