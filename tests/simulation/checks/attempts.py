"""
Attempts are bounded: the grants of a sequence, less those that were snoozed or given back unused, by the count of the wire and
of handlers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from gcp_oncetask import Attempt, Status
from gcp_oncetask.rules.record import Lock
from tests.simulation.world import Process

Grant = tuple[str, int, str | None]
"""Document, token, holder."""
Round = tuple[str, int, int, int, bool]
"""Document, which of its lives, sequence, revision of the payload, whether it is its cancellation handler that runs."""


@dataclass
class Attempts:
    """
    Counts the grants of one world.

    Attributes:
        broken: Told of violations: a document and a sentence.
        entered: Tells whether the handler of a grant was entered.
        logged: Tells whether the holder of a grant has logged how it settles.
        counted: Grants of each round.
        snoozed: Grants whose handlers asked to be run later.
        stopping: Names of the processes whose workers hand back what they run.
    """

    broken: Callable[[str, str], None]
    entered: Callable[[Grant], bool]
    logged: Callable[[Grant], bool]
    counted: Counter[Round] = field(default_factory=Counter)
    snoozed: set[Grant] = field(default_factory=set)
    stopping: set[str] = field(default_factory=set)
    _rounds: dict[Grant, Round] = field(default_factory=dict)

    def snoozes(self, attempt: Attempt) -> None:
        """
        The handler of *attempt* asks to be run later.
        """
        lock = attempt._running.granted
        self.snoozed.add((attempt._running.context.document, attempt.token, lock.holder))

    def changed(
        self, process: Process | None, path: str, life: int, before: Lock | None, lock: Lock, most: int
    ) -> None:
        """
        The record at *path* went from *before* to *lock* by a commit of *process*; *most* attempts are allowed.
        """
        if before is None:
            return
        if lock.token > before.token and lock.status is Status.LEASED:
            this = (path, life, lock.sequence, lock.granted, lock.cancelling)
            self._rounds[path, lock.token, lock.holder] = this
            self.counted[this] += 1
            if self.counted[this] > most:
                self.broken(
                    path, f"sequence {lock.sequence} was granted {self.counted[this]} times, {most} are allowed"
                )
            if self.counted[this] != lock.attempts:
                self.broken(path, f"it says that it has {lock.attempts} attempts, and had {self.counted[this]}")
            return
        grant = (path, before.token, before.holder)
        held = before.status in (Status.LEASED, Status.QUARANTINED)
        again = lock.status is Status.SCHEDULED and lock.sequence == before.sequence
        if not (held and again and grant in self._rounds):
            return
        settled = lock.settled_by != before.settled_by
        # A lease is settled by its holder, or as its holder has logged it, even after its quarantine.
        others = before.status is Status.LEASED or self.logged(grant)
        own = process is not None and (process.name == before.instance or others)
        # A batch that can't be gathered is a failed attempt, although its handler was not entered.
        unused = settled and own and not self.entered(grant) and lock.errors == before.errors
        # Where the time of the next run can't be known, the attempt has failed.
        snoozed = settled and grant in self.snoozed and lock.errors == before.errors
        plain = (lock.errors, lock.dispatches) == (before.errors, before.dispatches)
        handed_back = settled and before.instance in self.stopping and plain
        if unused or handed_back or snoozed:
            self.counted[self._rounds[grant]] -= 1
