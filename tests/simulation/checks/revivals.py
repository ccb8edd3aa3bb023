"""
An ended chain goes on only by a schedule with an entity of its present sequence, or by a reset; and it is completed from outside
only with an entity of its present sequence. A person may find that a failed step has happened.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from gcp_oncetask import Status
from gcp_oncetask.rules.record import Lock

Sequence = tuple[str, int, int]
"""Document, which of its lives, sequence."""


@dataclass
class Revivals:
    """
    What people have asked for in one world.

    Attributes:
        scheduled: Sequences of the entities with which somebody has called ``schedule`` outside of a handler.
        completed: Sequences of the entities with which somebody has called ``complete`` there.
        reset: Documents that somebody has reset.
        happened: Documents of which a person has found that their step has happened.
        offsets: Of each document how many more steps its handlers saved than the present chain has done.
    """

    scheduled: set[Sequence] = field(default_factory=set)
    completed: set[Sequence] = field(default_factory=set)
    reset: set[str] = field(default_factory=set)
    happened: set[str] = field(default_factory=set)
    offsets: Counter[str] = field(default_factory=Counter)

    def allow(self, path: str, life: int, before: Lock, lock: Lock, saved: int) -> bool:
        """
        Whether the ended record *before* may become *lock*, whose handlers have *saved* so many steps.
        """
        found = before.status is Status.FAILED and path in self.happened
        if found and (lock.sequence, lock.status) == (before.sequence, Status.COMPLETED):
            return True
        if (lock.sequence, lock.status) != (before.sequence + 1, Status.SCHEDULED):
            return False
        again = before.status is Status.COMPLETED and (path, life, before.sequence) in self.scheduled
        if not again and not found and path not in self.reset:
            return False
        self.offsets[path] = saved - (lock.step - 1)
        return True

    def steps(self, path: str, life: int, lock: Lock) -> tuple[int, ...]:
        """
        How many steps the handlers of *lock* may have saved.
        """
        done: tuple[int, ...] = (lock.step - 1,)
        if lock.status is Status.CANCELLED:
            done = (lock.step - 1, lock.step)
        elif lock.status is Status.COMPLETED:
            outside = (path, life, lock.sequence) in self.completed
            done = (lock.step - 1, lock.step) if outside else (lock.step,)
        return tuple(self.offsets[path] + one for one in done)
