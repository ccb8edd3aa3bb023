"""
Histories that have broken the promise, made small and kept by name: each must hold for ever.

They come from ``report()``, which ends with the line to be pasted here. Up to now the library has broken it with the mistakes
of ``mutants.py`` alone; the name says with which.
"""

from __future__ import annotations

import pytest

from tests.simulation.history import play
from tests.simulation.plan import Plan

FOUND = {
    "settling without the fence": Plan(
        seed=3,
        chains=3,
        steps=2,
        instances=1,
        minutes=5,
        quarantine=False,
        log_contents=True,
        max_attempts=11,
        sweepers=2,
        inline=False,
        troubles=frozenset({"long_runs", "lost_answers", "lost_lines", "outages", "user_writes"}),
    ),
    "the fence asks for a lease, not for whose": Plan(
        seed=249,
        chains=3,
        steps=3,
        instances=3,
        minutes=20,
        quarantine=False,
        log_contents=False,
        max_attempts=6,
        sweepers=2,
        inline=False,
        troubles=frozenset(
            {
                "cancels",
                "crashes",
                "duplicates",
                "failing_handlers",
                "freezes",
                "lost_answers",
                "lost_deliveries",
                "lost_lines",
                "outages",
                "paused_queue",
                "refused_calls",
                "user_writes",
            }
        ),
    ),
    "expiry judged by the local clock": Plan(
        seed=48,
        chains=1,
        steps=2,
        instances=2,
        minutes=20,
        quarantine=False,
        log_contents=True,
        max_attempts=6,
        sweepers=1,
        inline=True,
        troubles=frozenset(
            {
                "cancels",
                "crashes",
                "duplicates",
                "freezes",
                "hangs",
                "late_lines",
                "lost_answers",
                "lost_deliveries",
                "mail_down",
                "skews",
                "user_writes",
            }
        ),
    ),
    "a holder without evidence is taken over at once": Plan(
        seed=24,
        chains=3,
        steps=3,
        instances=3,
        minutes=5,
        quarantine=True,
        log_contents=True,
        max_attempts=3,
        sweepers=1,
        inline=True,
        troubles=frozenset(
            {
                "cancels",
                "delays",
                "duplicates",
                "failing_handlers",
                "freezes",
                "hangs",
                "long_runs",
                "lost_answers",
                "paused_queue",
                "user_writes",
            }
        ),
    ),
    "an ambiguous commit counts as done": Plan(
        seed=0,
        chains=4,
        steps=1,
        instances=3,
        minutes=5,
        quarantine=False,
        log_contents=False,
        max_attempts=11,
        sweepers=2,
        inline=True,
        troubles=frozenset({"cancels", "crashes", "failing_handlers", "hangs", "lost_answers", "refused_calls"}),
    ),
    "an ambiguous commit that was applied counts as failed": Plan(
        seed=15,
        chains=4,
        steps=1,
        instances=3,
        minutes=10,
        quarantine=False,
        log_contents=False,
        max_attempts=6,
        sweepers=2,
        inline=True,
        troubles=frozenset(
            {
                "cancels",
                "failing_handlers",
                "hangs",
                "late_calls",
                "long_runs",
                "lost_answers",
                "mail_down",
                "outages",
                "paused_queue",
            }
        ),
    ),
    "contents travel after a merge": Plan(
        seed=1,
        chains=1,
        steps=3,
        instances=2,
        minutes=20,
        quarantine=True,
        log_contents=True,
        max_attempts=11,
        sweepers=1,
        inline=True,
        troubles=frozenset(
            {"cancels", "crashes", "freezes", "hangs", "lost_deliveries", "lost_lines", "refused_calls", "user_writes"}
        ),
    ),
    "a 2xx in the request log counts as success": Plan(
        seed=141,
        chains=4,
        steps=2,
        instances=1,
        minutes=10,
        quarantine=False,
        log_contents=True,
        max_attempts=3,
        sweepers=1,
        inline=True,
        troubles=frozenset(
            {
                "cancels",
                "crashes",
                "freezes",
                "hangs",
                "lost_answers",
                "lost_lines",
                "outages",
                "paused_queue",
                "skews",
                "user_writes",
            }
        ),
    ),
    "renewals have no end": Plan(
        seed=11,
        chains=4,
        steps=1,
        instances=1,
        minutes=5,
        quarantine=False,
        log_contents=True,
        max_attempts=11,
        sweepers=1,
        inline=True,
        troubles=frozenset({"failing_handlers", "freezes", "hangs", "late_calls", "lost_lines", "paused_queue"}),
    ),
    "a step runs before its time": Plan(
        seed=11,
        chains=2,
        steps=3,
        instances=1,
        minutes=5,
        quarantine=False,
        log_contents=True,
        max_attempts=11,
        sweepers=1,
        inline=True,
        troubles=frozenset(
            {
                "crashes",
                "failing_handlers",
                "freezes",
                "hangs",
                "late_calls",
                "late_lines",
                "lost_deliveries",
                "lost_lines",
                "paused_queue",
                "skews",
            }
        ),
    ),
    "a transaction reads its document outside of itself": Plan(
        seed=2,
        chains=3,
        steps=3,
        instances=2,
        minutes=5,
        quarantine=False,
        log_contents=True,
        max_attempts=3,
        sweepers=2,
        inline=True,
        troubles=frozenset(
            {
                "cancels",
                "delays",
                "failing_handlers",
                "freezes",
                "hangs",
                "lost_answers",
                "lost_lines",
                "mail_down",
                "refused_calls",
                "skews",
                "user_writes",
            }
        ),
    ),
    "each attempt has a key of its own": Plan(
        seed=0,
        chains=4,
        steps=1,
        instances=1,
        minutes=5,
        quarantine=False,
        log_contents=False,
        max_attempts=11,
        sweepers=1,
        inline=True,
        troubles=frozenset({"crashes", "failing_handlers", "lost_answers", "mail_down", "refused_calls"}),
    ),
    "a cancelled chain goes on": Plan(
        seed=114,
        chains=2,
        steps=2,
        instances=1,
        minutes=5,
        quarantine=True,
        log_contents=True,
        max_attempts=3,
        sweepers=1,
        inline=False,
        troubles=frozenset(
            {"cancels", "duplicates", "failing_handlers", "freezes", "late_lines", "lost_deliveries", "user_writes"}
        ),
    ),
    "a takeover owes no alert": Plan(
        seed=0,
        chains=2,
        steps=1,
        instances=3,
        minutes=5,
        quarantine=False,
        log_contents=False,
        max_attempts=11,
        sweepers=1,
        inline=True,
        troubles=frozenset({"cancels", "hangs", "lost_answers", "refused_calls"}),
    ),
    "an alert that was not sent counts as sent": Plan(
        seed=12,
        chains=4,
        steps=1,
        instances=1,
        minutes=10,
        quarantine=True,
        log_contents=False,
        max_attempts=11,
        sweepers=1,
        inline=True,
        troubles=frozenset(
            {
                "cancels",
                "crashes",
                "duplicates",
                "failing_handlers",
                "late_calls",
                "late_lines",
                "lost_deliveries",
                "lost_lines",
                "mail_down",
                "outages",
                "paused_queue",
                "skews",
            }
        ),
    ),
    "a handler starts however long its claim took": Plan(
        seed=47,
        chains=3,
        steps=1,
        instances=1,
        minutes=5,
        quarantine=True,
        log_contents=False,
        max_attempts=11,
        sweepers=1,
        inline=True,
        troubles=frozenset({"freezes", "long_runs", "lost_answers", "lost_lines", "skews", "user_writes"}),
    ),
    "a holder counts its lease from the answer": Plan(
        seed=15,
        chains=4,
        steps=1,
        instances=3,
        minutes=10,
        quarantine=False,
        log_contents=False,
        max_attempts=6,
        sweepers=2,
        inline=True,
        troubles=frozenset(
            {
                "cancels",
                "failing_handlers",
                "hangs",
                "late_calls",
                "long_runs",
                "lost_answers",
                "outages",
                "paused_queue",
            }
        ),
    ),
    "a holder measures with the wall clock alone": Plan(
        seed=106,
        chains=3,
        steps=1,
        instances=1,
        minutes=10,
        quarantine=False,
        log_contents=False,
        max_attempts=3,
        sweepers=1,
        inline=True,
        troubles=frozenset(
            {
                "failing_handlers",
                "freezes",
                "hangs",
                "late_lines",
                "long_runs",
                "outages",
                "refused_calls",
                "skews",
                "user_writes",
            }
        ),
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_found_once_and_mended(name: str) -> None:
    """
    It does not break the promise again.
    """
    told = play(FOUND[name])

    assert told.violations == []
    assert told.counts["delivery.completed"] + told.counts["delivery.failed"] + told.counts["delivery.cancelled"] > 0
