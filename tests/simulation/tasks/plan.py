"""
What a history of once-tasks is made of.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from tests.simulation.chains.plan import TROUBLES, WINDOWS, Plan, calls_of

TASK_TROUBLES = (
    *TROUBLES,
    "deletes",
    "newer",
    "resets",
    "pauses",
    "recreations",
    "schedules",
    "retirements",
    "frees",
    "late_ttl",
    "foreigners",
    "misroutes",
    "neighbours",
    "deployments",
    "key_damages",
    "wrong_ttl",
)
"""Kinds of trouble; each is on or off in one history."""
RARER = {"key_damages", "wrong_ttl"}
"""Troubles that make a history longer: they are on in one of four."""


@dataclass(frozen=True)
class TasksPlan(Plan):
    """
    One history of once-tasks.

    Attributes:
        works: Ordinary tasks.
        newest: Tasks of which the newest payload runs.
        piles: Tasks that are run in batches of their resource key.
        ticks: Generators.
        keys: Resource keys that all of them share.
        cleanup: Whether there are cancellation handlers.
        cancel_attempts: How often one of those is tried.
        misfire: What generators do after an outage.
        overlap: What they do while the last occurrence runs.
    """

    works: int = 3
    newest: int = 1
    piles: int = 2
    ticks: int = 1
    keys: int = 1
    cleanup: bool = True
    cancel_attempts: int = 3
    misfire: str = "all"
    overlap: str = "allow"

    def has(self, trouble: str) -> bool:
        """
        Whether *trouble* is on.
        """
        assert trouble in TASK_TROUBLES, trouble
        return trouble in self.troubles

    def smaller(self) -> list[Plan]:
        """
        The same history with one thing less, the greatest relief first.
        """
        counts = ("works", "newest", "piles", "ticks")
        found: list[Plan] = [replace(self, **{name: 0}) for name in counts if getattr(self, name)]
        found += [replace(self, **{name: getattr(self, name) // 2}) for name in counts if getattr(self, name) > 1]
        return found + super().smaller()


def deployment_of(draw: random.Random) -> dict[str, Any]:
    """
    Draw the processes of a history, and their options.
    """
    return {
        "instances": draw.randint(1, 3),
        "minutes": draw.choice((5, 10, 20)),
        "quarantine": draw.random() < 0.3,
        "log_contents": draw.random() < 0.6,
        "max_attempts": draw.choice((2, 3, 5)),
        "sweepers": draw.randint(1, 2),
        "inline": draw.random() < 0.8,
    }


def tasks_plan_of(seed: int) -> TasksPlan:
    """
    The history of *seed*.
    """
    draw = random.Random(f"tasks {seed}")
    calm = draw.random() < 0.1
    plan = TasksPlan(
        seed=seed,
        chains=1,
        steps=draw.randint(1, 2),
        **deployment_of(draw),
        works=draw.randint(0, 4),
        newest=draw.randint(0, 2),
        piles=draw.choice((0, 0, 2, 4)),
        ticks=draw.choice((0, 0, 1, 2)),
        keys=draw.randint(1, 2),
        cleanup=draw.random() < 0.5,
        cancel_attempts=draw.choice((1, 4)),
        misfire=draw.choice(("all", "all", "latest", "skip")),
        overlap=draw.choice(("allow", "queue", "skip")),
        troubles=frozenset(
            t for t in TASK_TROUBLES if draw.random() < (0.25 if t in RARER else 0.5) and not (calm and t in TROUBLES)
        ),
        window=draw.choice(WINDOWS),
    )
    calls = calls_of(seed)
    return replace(plan, calls=calls, instances=1, works=plan.works + 5) if calls else plan
