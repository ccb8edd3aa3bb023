"""
Mistakes that only show when people change things in histories of chains.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

CHAIN_PEOPLE_MUTANTS = (
    Mutant(
        "a failed record stays on the list though a person dismisses it",
        "rules/admin.py",
        "    if reason in (Reason.FAILED, Reason.RESULT_LOST):\n        return Put(_dismissed(lock, at))\n",
        "    if reason in (Reason.FAILED, Reason.RESULT_LOST):\n        return Put(lock)\n",
    ),
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
        "    return writes.again(writes.given_back(lock), wait_until, Outcome.SNOOZED, at)\n",
        "    return writes.again(lock, wait_until, Outcome.SNOOZED, at)\n",
    ),
    Mutant(
        "a lease that is given back unused costs an attempt",
        "rules/attempts.py",
        "        writes.given_back(lock), at, status=Status.SCHEDULED, releases=",
        "        lock, at, status=Status.SCHEDULED, releases=",
    ),
    Mutant(
        "an ended chain is scheduled anew with an entity of an earlier sequence",
        "rules/attempts.py",
        '    if loaded != lock.sequence:\n        return CallRefused(Refusal.MOVED, f"it has moved on from',
        '    if False:\n        return CallRefused(Refusal.MOVED, f"it has moved on from',
    ),
    Mutant(
        "a chain is completed with an entity of an earlier sequence",
        "rules/admin.py",
        "    if loaded != lock.sequence:\n",
        "    if False:\n",
    ),
    Mutant(
        "a chain that is made again has the idempotency keys of the first",
        "rules/attempts.py",
        '"sequence": 0, "keyed": keyed, ',
        '"sequence": 0, ',
    ),
    Mutant(
        "the damage of a record is told to nobody",
        "effects/damage.py",
        "    if written or not is_map:\n        _tell(runtime, document, error)\n",
        "",
    ),
    Mutant(
        "a damaged record that is made anew gets a new idempotency key",
        "rules/repair.py",
        "    if not keyed:\n        keyed = writes.first_number(at, nonce)\n",
        "    if True:\n        keyed = writes.first_number(at, nonce)\n",
    ),
    Mutant(
        "a damaged record is made anew as the first step",
        "rules/repair.py",
        "base=sequence + 1 - step)",
        "base=sequence)",
    ),
)
