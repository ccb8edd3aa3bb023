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
        "an alert of a once-task has no due time",
        "rules/writes.py",
        "    times = [owed.until for owed in lock.owed] if lock.owed else []\n",
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
    Mutant(
        "an ended task that runs again is leased at once",
        "rules/writes.py",
        "        keyed=max(lock.keyed, lock.sequence) + 1,\n        status=Status.SCHEDULED,\n",
        (
            "        keyed=max(lock.keyed, lock.sequence) + 1,\n"
            "        status=Status.CANCELLED if lock.finished else Status.SCHEDULED,\n"
        ),
        "tasks",
    ),
    Mutant(
        "a completed task that is cancelled loses its result",
        "rules/admin.py",
        (
            "    if lock.finished:\n"
            '        return CallRefused(Refusal.ENDED, f"sequence {lock.sequence} is {lock.status} '
            'already")\n'
        ),
        "    if lock.finished:\n        return Put(lock.but(result=None))\n",
        "tasks",
    ),
    Mutant(
        "a cancellation handler completes its task",
        "rules/attempts.py",
        "    if lock.cancelling:\n        return writes.ended(lock, Status.CANCELLED",
        "    if False:\n        return writes.ended(lock, Status.CANCELLED",
        "tasks",
    ),
    Mutant(
        "a parked task that is looked at goes to the end of its queue",
        "effects/keys.py",
        (
            "        if lock.parked is not None:\n            return Refused(Outcome.PARKED, reason)\n"
            '        created = decode(seen.fields["createdAt"])\n'
        ),
        "        created = self._runtime.store.estimate()\n\n\n",
        "tasks",
    ),
    Mutant(
        "a parked task is granted and stays parked",
        "rules/writes.py",
        "        parked=None,\n        rides=False,\n",
        "        rides=False,\n",
        "tasks",
    ),
    Mutant(
        "a task that has ended stays due",
        "rules/writes.py",
        (
            "    return Put(with_due(over, at, status=status, wait_until=None, parked=None, paused=False, **changes), outcome)\n"
        ),
        "    return Put(over.but(status=status, wait_until=None, parked=None, **changes), outcome)\n",
        "tasks",
    ),
    Mutant(
        "a retried task drops its payload",
        "execution/running.py",
        "            changes=saved if changes.values else NO_CHANGES,\n",
        '            changes=lambda seen: changes.with_({"data": None}),\n',
        "tasks",
    ),
    Mutant(
        "the payload of before is given to the handler",
        "execution/claiming.py",
        "        attempt = RunningAttempt(runtime, snapshot, context,",
        "        attempt = RunningAttempt(runtime, before or snapshot, context,",
        "tasks",
    ),
    Mutant(
        "a dispatch of a once-task counts as a hundred",
        "rules/expiry.py",
        "    again = lock.but(dispatches=lock.dispatches + 1)\n",
        "    again = lock.but(dispatches=lock.dispatches + 100)\n",
        "tasks",
    ),
)
