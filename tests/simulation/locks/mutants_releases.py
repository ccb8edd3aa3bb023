"""
Mistakes in releases whose answers were lost, before others have had the lock.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

_BEFORE = "(lock.granted_at is not None and lock.granted_at < expires_at(mine))"
_TEST = "tests/unit/rules/test_named_rules.py::test_release_is_recognised_after_holders_that_came_before_its_leases_end"

_ONCE = "tests/unit/rules/test_named_rules.py::test_release_that_is_repeated_finds_what_it_did"

RELEASE_MUTANTS = (
    Mutant(
        "a release whose answer was lost counts as a loss",
        "rules/named.py",
        "        sequence=lock.sequence + 1,\n        scheduled_token=lock.token,\n",
        "        sequence=lock.sequence + 1,\n",
        test=_ONCE,
    ),
    Mutant(
        "a release in time is not known after two other holders",
        "rules/named.py",
        f"        if ours or {_BEFORE}:\n",
        "        if ours:\n",
        test=_TEST,
    ),
    Mutant(
        "a release whose answer was lost counts as a loss once another has the lock",
        "rules/named.py",
        f"        if ours or {_BEFORE}:\n",
        "        if False:\n",
        "locks",
    ),
    Mutant(
        "a lock that was taken over and freed counts as freed by the holder of before",
        "rules/named.py",
        f"        if ours or {_BEFORE}:\n",
        "        if True:\n",
        "locks",
    ),
)
