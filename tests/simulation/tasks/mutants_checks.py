"""
Mistakes that trip checks of histories of once-tasks which no other mistake trips.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

TASKS_CHECK_MUTANTS = (
    Mutant(
        "each grant of a once-task takes two tokens",
        "rules/writes.py",
        "        token=lock.token + 1,\n        holder=claimant.nonce,\n",
        "        token=lock.token + 2,\n        holder=claimant.nonce,\n",
        "tasks",
    ),
    Mutant(
        "each step of a once-task takes two sequences",
        "rules/writes.py",
        "        sequence=lock.sequence + 1,\n        base=base,\n",
        "        sequence=lock.sequence + 2,\n        base=base,\n",
        "tasks",
    ),
    Mutant(
        "the token of a once-task rises when it is settled",
        "rules/attempts.py",
        "    signed = lock.but(settled_by=how.nonce)\n",
        "    signed = lock.but(settled_by=how.nonce, token=lock.token + 1)\n",
        "tasks",
    ),
    Mutant(
        "an alert of a once-task has no due time",
        "rules/writes.py",
        "    times = [owed.until for owed in lock.owed]\n",
        "    times = [owed.until for owed in lock.owed if not lock.finished]\n",
        "tasks",
    ),
    Mutant(
        "a holder of a once-task believes in its lease a minute longer",
        "execution/held_lease.py",
        "        return left - self.runtime.config.margin\n",
        "        return left + 60\n",
        "tasks",
    ),
    Mutant(
        "a failure of a once-task owes no alert",
        "rules/writes.py",
        "    owing = owe(lock, Event.FAILURE, reason, evidence, at)\n    if lock.cancelling:\n",
        "    owing = lock\n    if lock.cancelling:\n",
        "tasks",
    ),
    Mutant(
        "a lease of a once-task that nobody can find expired",
        "rules/writes.py",
        "            times.append(expiry(lock, leased_at, granted_at) + timedelta(seconds=1))\n",
        "            pass\n",
        "tasks",
    ),
    Mutant(
        "a cancelled step of a once-task is tried again",
        "rules/writes.py",
        "    return lock.cancel_requested_at is not None and not lock.cancelling\n",
        "    return False\n",
        "tasks",
    ),
    Mutant(
        "a retention is halved",
        "rules/retention.py",
        "    return max(ended + timedelta(seconds=retention), now + AHEAD)\n",
        "    return max(ended + timedelta(seconds=retention / 2), now)\n",
        "tasks",
    ),
    Mutant(
        "a document expires in the past",
        "rules/retention.py",
        "    return max(ended + timedelta(seconds=retention), now + AHEAD)\n",
        "    return ended + timedelta(seconds=retention)\n",
        "tasks",
    ),
)
