"""
What a history of named locks and of functions that run once is made of.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from tests.simulation.chains.plan import Plan

LOCKS_TROUBLES = (
    "refused_calls",
    "lost_answers",
    "late_calls",
    "crashes",
    "freezes",
    "outages",
    "skews",
    "long_runs",
    "hangs",
    "failing_handlers",
    "forgets",
    "conflicts",
    "retirements",
    "deletes",
    "seizures",
    "drifts",
    "suspends",
    "starved_renewals",
    "long_leases",
    "rare_codes",
    "final_refusals",
    "listeners",
    "reads",
    "damages",
    "wrong_ttl",
)
"""Kinds of trouble; each is on or off in one history."""


@dataclass(frozen=True)
class LocksPlan(Plan):
    """
    One history of named locks and runs.

    Attributes:
        names: Of locks.
        holders: Who take them, again and again.
        keys: Of the function that runs once.
        callers: Who call it.
        listen: Whether those that wait listen.
    """

    names: int = 1
    holders: int = 3
    keys: int = 1
    callers: int = 2
    listen: bool = False

    def has(self, trouble: str) -> bool:
        """
        Whether *trouble* is on.
        """
        return trouble in self.troubles

    def smaller(self) -> list[Plan]:
        """
        The same history with one thing less, the greatest relief first.
        """
        counts = [name for name in ("holders", "callers") if getattr(self, name)]
        found: list[Plan] = [replace(self, **{name: 0}) for name in counts]
        found += [replace(self, **{name: getattr(self, name) - 1}) for name in counts if getattr(self, name) > 1]
        found += [replace(self, **{name: 1}) for name in ("names", "keys") if getattr(self, name) > 1]
        return found + super().smaller()


def locks_plan_of(seed: int) -> LocksPlan:
    """
    The history of *seed*.
    """
    draw = random.Random(f"locks {seed}")
    return LocksPlan(
        seed=seed,
        chains=1,
        steps=1,
        sweepers=1,
        instances=draw.randint(1, 4),
        minutes=draw.choice((5, 10, 20)),
        names=draw.randint(1, 2),
        holders=draw.randint(1, 4),
        keys=draw.randint(1, 4),
        callers=draw.randint(0, 3),
        troubles=frozenset(
            t
            for t in LOCKS_TROUBLES
            if draw.random() < (0.3 if t in ("retirements", "long_leases", "wrong_ttl") else 0.5)
        ),
        listen=draw.random() < 0.5,
    )
