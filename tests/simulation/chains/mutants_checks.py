"""
Mistakes that trip checks of histories of chains which no other mistake trips.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

CHAINS_CHECK_MUTANTS = (
    Mutant(
        "a digest says that it tells one alert more",
        "effects/windows.py",
        "_contents(alerts[0].kind, group, len(alerts), first, members)",
        "_contents(alerts[0].kind, group, len(alerts) + 1, first, members)",
        "chains",
    ),
    Mutant(
        "the end of a chain deletes its record",
        "store/snapshot.py",
        "            if snapshot.lock is None:\n                self.changed = None\n",
        (
            "            if lock.finished or snapshot.lock is None:\n"
            '                self.changed = None if not lock.finished else (fields.pop("lock"), None)[1]\n'
        ),
        "chains",
    ),
    Mutant(
        "each grant of a chain takes two tokens",
        "rules/writes.py",
        "        token=lock.token + 1,\n        holder=claimant.nonce,\n",
        "        token=lock.token + 2,\n        holder=claimant.nonce,\n",
        "chains",
    ),
    Mutant(
        "the token of a chain rises when it is settled",
        "rules/attempts.py",
        "    signed = lock.but(settled_by=how.nonce, fingerprint",
        "    signed = lock.but(token=lock.token + 1, settled_by=how.nonce, fingerprint",
        "chains",
    ),
    Mutant(
        "an alert of a chain has no due time",
        "rules/writes.py",
        "    times = [owed.until for owed in lock.owed] if lock.owed else []\n",
        "    times = [owed.until for owed in lock.owed if not lock.finished]\n",
        "chains",
    ),
    Mutant(
        "a failure of a chain owes no alert",
        "rules/writes.py",
        "    owing = owe(lock, Event.FAILURE, reason, evidence, at)\n    if lock.cancelling:\n",
        "    owing = lock\n    if lock.cancelling:\n",
        "chains",
    ),
    Mutant(
        "a step that can be claimed does not say since when",
        "rules/writes.py",
        "                lock.__dict__.update(ready_at=ready, attention=None)\n",
        "                pass\n",
        "chains",
    ),
    Mutant(
        "a granted lease is not used",
        "execution/claiming.py",
        "        return Granted(self._executor, spec, attempt, before, owed)\n",
        '        return Ended(Outcome.BUSY, "it was granted")\n',
        "chains",
    ),
    Mutant(
        "the dispatch of a first step is forgotten, and its sweep",
        "rules/attempts.py",
        "        return Put(writes.scheduled(new, target, nonce, at, base=0), dispatch=True)\n",
        '        return CallRefused(Refusal.ENDED, "")\n',
        "chains",
    ),
    Mutant(
        "a dispatch of a chain counts as a hundred",
        "rules/expiry.py",
        "    again = lock.but(dispatches=lock.dispatches + 1)\n",
        "    again = lock.but(dispatches=lock.dispatches + 100)\n",
        "chains",
    ),
    Mutant(
        "the second step of a chain takes two sequences",
        "rules/writes.py",
        "        sequence=lock.sequence + 1,\n        base=base,\n",
        "        sequence=lock.sequence + (2 if lock.sequence else 1),\n        base=base,\n",
        "chains",
    ),
)
