"""
Histories of their own for cases that are too rare for the histories of ``make test-all``: each plan meets its case.
"""

from __future__ import annotations

from dataclasses import replace

from tests.simulation.chains.plan import Plan
from tests.simulation.tasks.plan import TasksPlan
from tests.simulation.workers.plan import WorkersPlan

_BESIDE = TasksPlan(
    seed=100071,
    chains=1,
    steps=1,
    instances=1,
    minutes=20,
    quarantine=True,
    log_contents=False,
    max_attempts=5,
    sweepers=1,
    inline=True,
    window=600.0,
    works=0,
    newest=0,
    piles=0,
    ticks=3,
    keys=1,
    cleanup=False,
    cancel_attempts=4,
    misfire="latest",
    overlap="skip",
    troubles=frozenset(["crashes", "long_runs", "misroutes", "pauses", "schedules"]),
)

ALONE: dict[tuple[str, str], Plan] = {
    ("tasks", "steps beside a last run: quarantined"): _BESIDE,
    ("tasks", "steps beside a last run: waiting again"): replace(
        _BESIDE,
        seed=100019,
        quarantine=False,
        max_attempts=8,
        troubles=frozenset(
            [
                *("duplicates", "failing_handlers", "foreigners", "hangs", "late_calls", "long_runs", "lost_answers"),
                *("lost_lines", "mail_down", "misroutes", "newer", "paused_queue", "purges", "recreations", "resolves"),
                *("retirements", "schedules", "standstills", "suspends", "versions"),
            ]
        ),
    ),
    ("workers", "stood still for too long, and was swept"): WorkersPlan(
        seed=1,
        chains=1,
        steps=1,
        instances=2,
        minutes=5,
        quarantine=False,
        log_contents=False,
        max_attempts=2,
        sweepers=1,
        inline=True,
        window=60.0,
        works=0,
        newest=2,
        piles=3,
        ticks=1,
        keys=2,
        cleanup=True,
        cancel_attempts=1,
        misfire="latest",
        overlap="allow",
        concurrency=2,
        drill=(),
        poll=60.0,
        listen=False,
        troubles=frozenset(
            [
                "cancels",
                "crashes",
                "damages",
                "drifts",
                "failed_writes",
                "final_refusals",
                "freezes",
                "joins",
                "key_damages",
                "long_runs",
                "outages",
                "recreations",
                "resets",
                "sessions",
                "shuffled_lines",
                "standstills",
                "stops",
                "user_writes",
                "versions",
                "wrong_ttl",
            ]
        ),
    ),
}
"""By the kind of the history, and the name of the case in ``exercised.py``."""
