"""
Mistakes that only show when people delete documents of named locks and of functions that run once.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

LOCK_PEOPLE_MUTANTS = (
    *(
        Mutant(mistake, file, old, new, "locks")
        for mistake, file, old, new in (
            (
                "a create that came late keeps its token",
                "rules/named.py",
                "    return first and lock.granted_at is not None and writes",
                "    return False and lock.granted_at is not None and writes",
            ),
            (
                "a holder whose document was deleted and made again is told that it has released it",
                "rules/named.py",
                "    if lock is not None and lock.keyed == mine.keyed and lock.sequence",
                "    if lock is not None and lock.sequence",
            ),
            (
                "a function that runs again after its document was deleted has the idempotency key of before",
                "rules/named.py",
                '"sequence": 1, "keyed": now, "status"',
                '"sequence": 1, "status"',
            ),
        )
    ),
    Mutant(
        "a function whose claim came late has the idempotency key of an earlier life",
        "rules/named.py",
        "        keyed=before if came_late(lock) else lock.keyed,\n",
        "",
        test="tests/unit/rules/test_named_rules.py::test_create_that_comes_late_is_granted_the_next_token_first",
    ),
    Mutant(
        "a function whose claim came late runs with a token that may be behind others",
        "locks/holding.py",
        "and changed.snapshot.lock and named.came_late(",
        'and changed.snapshot.lock and ":once:" not in path and named.came_late(',
        "locks",
    ),
)
