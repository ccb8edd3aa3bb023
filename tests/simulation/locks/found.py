"""
Histories of named locks and of functions that run once that have broken the promise, kept for ever.

``test_found.py`` plays them. The name says which fault the history has shown: of the library, of a mutant, or of the checker.
"""

from __future__ import annotations

from tests.simulation.locks.plan import LocksPlan

LOCKS_FOUND: dict[str, LocksPlan] = {
    "a claim of unknown fate makes a deleted document anew, for another payload": LocksPlan(
        seed=1349,
        chains=1,
        steps=1,
        instances=1,
        minutes=10,
        quarantine=False,
        log_contents=True,
        max_attempts=6,
        sweepers=1,
        inline=True,
        names=1,
        holders=1,
        keys=3,
        callers=3,
        troubles=frozenset(
            {
                "conflicts",
                "forgets",
                "freezes",
                "late_calls",
                "long_runs",
                "lost_answers",
                "outages",
                "retirements",
            }
        ),
    ),
    "a holder on a slow clock relies on a long lease past its end": LocksPlan(
        seed=87,
        chains=1,
        steps=1,
        instances=1,
        minutes=5,
        sweepers=1,
        names=1,
        holders=3,
        keys=1,
        callers=3,
        troubles=frozenset({"drifts", "long_leases"}),
    ),
    "a create of a named lock is applied after its document was used and deleted": LocksPlan(
        seed=3391,
        chains=1,
        steps=1,
        minutes=10,
        sweepers=1,
        troubles=frozenset(
            {
                "crashes",
                "failing_handlers",
                "forgets",
                "freezes",
                "hangs",
                "late_calls",
                "outages",
                "refused_calls",
                "skews",
            }
        ),
        names=2,
        holders=4,
        callers=3,
    ),
    "a result is kept where the caller is refused": LocksPlan(
        seed=45,
        chains=1,
        steps=1,
        instances=3,
        minutes=5,
        sweepers=1,
        names=1,
        holders=2,
        keys=4,
        callers=3,
        troubles=frozenset(
            {
                "conflicts",
                "crashes",
                "failing_handlers",
                "final_refusals",
                "freezes",
                "late_calls",
                "lost_answers",
            }
        ),
    ),
    "a release that could not ask for the time leaves the lock renewed": LocksPlan(
        seed=5202,
        chains=1,
        steps=1,
        instances=3,
        minutes=20,
        quarantine=False,
        log_contents=True,
        max_attempts=6,
        sweepers=1,
        inline=True,
        names=1,
        holders=3,
        keys=2,
        callers=2,
        troubles=frozenset(
            {
                "conflicts",
                "crashes",
                "drifts",
                "final_refusals",
                "freezes",
                "late_calls",
                "lost_answers",
                "outages",
                "rare_codes",
                "reads",
                "seizures",
                "starved_renewals",
                "suspends",
            }
        ),
    ),
    "a release in time whose answer was lost counts as a loss once a clock is fast": LocksPlan(
        seed=202551,
        chains=1,
        steps=1,
        instances=4,
        minutes=10,
        quarantine=False,
        log_contents=True,
        max_attempts=6,
        sweepers=1,
        inline=True,
        names=1,
        holders=3,
        keys=1,
        callers=0,
        listen=True,
        troubles=frozenset(
            {
                "crashes",
                "drifts",
                "hangs",
                "late_calls",
                "listeners",
                "lost_answers",
                "outages",
                "reads",
                "seizures",
                "starved_renewals",
            }
        ),
    ),
}
