"""
A quarantined step is left only by its own holder's settling, or by a person.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gcp_oncetask import Status
from gcp_oncetask.rules.record import Lock
from tests.simulation.hub import SECOND
from tests.simulation.world import Process, World

LONGEST_CALL = 2400 * SECOND
"""Micros for which a person's call may still take effect: its process sleeps up to 1000 s, its commit is up to 900 s late."""


@dataclass
class Quarantines:
    """
    Watches the quarantined steps of one world.

    Attributes:
        broken: Told of violations: a document and a sentence.
        entered: Tells whether the handler of (document, token, holder) was entered.
        asked: When a person last called a verb for a document, micros.
    """

    broken: Callable[[str, str], None]
    entered: Callable[[tuple[str, int, str | None]], bool]
    asked: dict[str, int] = field(default_factory=dict)

    def changed(self, world: World, process: Process | None, path: str, before: Lock, lock: Lock) -> None:
        """
        The record at *path* went from *before* to *lock* by a commit of *process*.
        """
        stays = lock.status is Status.QUARANTINED and lock.sequence == before.sequence
        if before.status is not Status.QUARANTINED or stays:
            return
        own = process is not None and process.name == before.instance
        settled = lock.settled_by != before.settled_by
        # A claim that comes too late is given back before its handler begins: nothing has happened. Its holder signs that, too;
        # a sweep or a delivery in the same process does not.
        back = lock.status is Status.SCHEDULED and lock.sequence == before.sequence and lock.attempts < before.attempts
        if own and settled and (back or self.entered((path, before.token, before.holder))):
            world.counts["quarantine left by its holder"] += 1
        elif settled and before.holder in world.returned:
            # The settlement that its holder had logged was written by others.
            world.counts["quarantine left by its holder"] += 1
        elif world.hub.now <= self.asked.get(path, -LONGEST_CALL) + LONGEST_CALL:
            world.counts["quarantine left by a person"] += 1
        else:
            self.broken(path, f"it was quarantined, and became {lock.status} by nobody who may do so")
