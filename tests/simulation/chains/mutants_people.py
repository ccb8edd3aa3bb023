"""
Mistakes that only show when people change things in histories of chains.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

CHAIN_PEOPLE_MUTANTS = (
    Mutant(
        "a quarantined step runs for a duplicate delivery",
        "rules/attempts.py",
        "    if lock.finished or lock.status is Status.QUARANTINED:\n",
        "    if lock.finished:\n",
    ),
    Mutant(
        "a sweep lets a quarantined step run that has no evidence",
        "rules/expiry.py",
        '    return Refused(Outcome.QUARANTINED, f"sequence {lock.sequence} is quarantined; resolve it")\n',
        "    return writes.again(lock, None, Outcome.RETRYING, at)\n",
    ),
    Mutant(
        "a failed attempt gives its attempt back",
        "rules/attempts.py",
        "    noted = writes.noted(lock, message, at)\n    if not by_queue:\n",
        "    noted = writes.noted(lock, message, at).but(attempts=lock.attempts - 1)\n    if not by_queue:\n",
    ),
    Mutant(
        "a snooze costs an attempt",
        "rules/attempts.py",
        "    return writes.again(lock.but(attempts=max(0, lock.attempts - 1)), wait_until, Outcome.SNOOZED, at)\n",
        "    return writes.again(lock, wait_until, Outcome.SNOOZED, at)\n",
    ),
    Mutant(
        "a lease that is given back unused costs an attempt",
        "rules/attempts.py",
        "    back = writes.with_due(lock, at, status=Status.SCHEDULED, attempts=max(0, lock.attempts - 1))\n",
        "    back = writes.with_due(lock, at, status=Status.SCHEDULED)\n",
    ),
)
