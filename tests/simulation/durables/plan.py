"""
What a history of durable handlers is made of.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from tests.simulation.chains.plan import Plan, calls_of
from tests.simulation.tasks.plan import TASK_TROUBLES, TasksPlan, deployment_of

_NOT_HERE = {
    "damages",
    "key_damages",
    "wrong_ttl",
    "versions",
    "neighbours",
    "foreigners",
    "misroutes",
    "deployments",
    "retirements",
    "late_ttl",
    "schedules",
    "pauses",
    "recreations",
    "final_refusals",
}
DURABLE_TROUBLES = (
    *(t for t in TASK_TROUBLES if t not in _NOT_HERE),
    "edits",
    "swallows",
    "early_events",
    "late_events",
    "events_twice",
)
"""Kinds of trouble; each is on or off in one history."""


@dataclass(frozen=True)
class DurablesPlan(TasksPlan):
    """
    One history of durable handlers.

    Attributes:
        words: Most words of a handler.
        large: Whether answers are so large that journals are sealed.
    """

    words: int = 6
    large: bool = False

    def has(self, trouble: str) -> bool:
        """
        Whether *trouble* is on.
        """
        return trouble in self.troubles

    def smaller(self) -> list[Plan]:
        """
        The same history with one thing less, the greatest relief first.
        """
        found: list[Plan] = [replace(self, words=self.words // 2)] if self.words > 1 else []
        return found + super().smaller()


def durables_plan_of(seed: int) -> DurablesPlan:
    """
    The history of *seed*.
    """
    draw = random.Random(f"durables {seed}")
    calm = draw.random() < 0.1
    plan = DurablesPlan(
        seed=seed,
        chains=1,
        steps=draw.choice((1, 1, 2)),
        **deployment_of(draw),
        works=draw.randint(1, 4),
        newest=draw.choice((0, 0, 1, 2)),
        piles=0,
        ticks=0,
        keys=draw.randint(1, 3),
        cleanup=draw.random() < 0.3,
        cancel_attempts=draw.choice((2, 4)),
        troubles=frozenset(t for t in DURABLE_TROUBLES if draw.random() < 0.4 and not calm),
        window=0.0,
        words=draw.randint(2, 9),
        large=draw.random() < 0.25,
    )
    calls = calls_of(seed)
    return replace(plan, calls=calls, instances=1, works=plan.works + 2) if calls else plan
