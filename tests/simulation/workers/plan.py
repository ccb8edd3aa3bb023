"""
What a history of workers that pull once-tasks is made of.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from tests.simulation.chains.plan import TROUBLES, WINDOWS, Plan, calls_of
from tests.simulation.tasks.plan import TASK_TROUBLES, TasksPlan

_NOT_HERE = {
    "lost_deliveries",
    "duplicates",
    "delays",
    "paused_queue",
    "purges",
    "retirements",
    "late_ttl",
    "foreigners",
    "misroutes",
    "neighbours",
    "deployments",
}
WORKER_TROUBLES = (
    *(t for t in TASK_TROUBLES if t not in (*_NOT_HERE, "frees")),
    "stops",
    "joins",
    "frees",
    "listeners",
    "sessions",
)
"""Kinds of trouble; each is on or off in one history."""
REPEATING = ("stops", "cancels", "resets", "deletes", "recreations", "key_damages", "wrong_ttl")
"""Those of people and workers after which a handler may run again for a sequence."""


@dataclass(frozen=True)
class WorkersPlan(TasksPlan):
    """
    One history of workers.

    Attributes:
        concurrency: Tasks at once in each.
        drill: What happens to the workers once all is quiet: ``join``, ``stop``, ``kill``.
        poll: Seconds between two queries of a worker.
        listen: Whether listeners wake the workers.
    """

    concurrency: int = 2
    drill: tuple[str, ...] = ()
    poll: float = 15.0
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
        found: list[Plan] = [replace(self, drill=self.drill[:-1])] if self.drill else []
        return found + super().smaller()


def workers_plan_of(seed: int) -> WorkersPlan:
    """
    The history of *seed*.
    """
    draw = random.Random(f"workers {seed}")
    unrest = draw.random()
    calm = {*(TROUBLES if unrest < 0.15 else ()), *(REPEATING if unrest < 0.08 else ())}
    plan = WorkersPlan(
        seed=seed,
        chains=1,
        steps=draw.randint(1, 2),
        instances=draw.randint(1, 4),
        minutes=draw.choice((5, 8)),
        quarantine=draw.random() < 0.2,
        log_contents=draw.random() < 0.6,
        max_attempts=draw.choice((2, 3, 5)),
        sweepers=1,
        works=draw.randint(1, 6),
        newest=draw.randint(0, 3),
        piles=draw.choice((0, 0, 0, 3)),
        ticks=draw.choice((0, 0, 0, 1)),
        keys=draw.randint(1, 3),
        cleanup=draw.random() < 0.5,
        cancel_attempts=draw.choice((1, 4)),
        misfire=draw.choice(("all", "latest", "skip")),
        overlap=draw.choice(("allow", "queue", "skip")),
        concurrency=draw.randint(1, 3),
        drill=tuple(draw.choice(("join", "stop", "kill")) for _ in range(2)),
        troubles=frozenset(t for t in WORKER_TROUBLES if draw.random() < 0.45 and t not in calm),
        window=draw.choice(WINDOWS),
        poll=draw.choice((15.0, 60.0, 60.0, 60.0)),
        listen=draw.random() < 0.6,
    )
    calls = calls_of(seed)
    return replace(plan, calls=calls, instances=1, works=plan.works + 5, concurrency=6) if calls else plan
