"""
Mistakes that trip checks of histories of locks and runs which no other mistake trips.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

LOCKS_CHECK_MUTANTS = (
    Mutant(
        "a release that can't ask for the time leaves the lock renewed",
        "locks/holding.py",
        "            self.ending = True\n            self._change(rule, fields())\n",
        "            values = fields()\n            self.ending = True\n            self._change(rule, values)\n",
        test="tests/integration/locks/test_lock.py::test_release_that_can_not_ask_for_the_time_ends_the_renewals",
    ),
    Mutant(
        "a refresh moves the token back",
        "rules/named.py",
        "    assert lock is not None\n    return Put(lock.but(leased_at=SERVER_TIME))\n",
        ("    assert lock is not None\n    return Put(lock.but(leased_at=SERVER_TIME, token=lock.token - 1))\n"),
        "locks",
    ),
    Mutant(
        "the tokens of a lock are ahead of the time",
        "rules/named.py",
        '"token": now - 1}',
        '"token": now + 10**9}',
        "locks",
    ),
    Mutant(
        "a grant of a lock names no machine",
        "rules/named.py",
        "        instance=claimant.instance,\n    )\n    return Put(granted)\n",
        "    )\n    return Put(granted)\n",
        "locks",
    ),
    Mutant(
        "an acquire refreshes the lock of another for itself",
        "rules/named.py",
        (
            "        if lock.holder == claimant.nonce:\n"
            "            return _granted(lock, policy, claimant) if came_late(lock) else "
            "Put(lock.but(leased_at=SERVER_TIME))\n"
        ),
        ("        if True:\n            return Put(lock.but(leased_at=SERVER_TIME, holder=claimant.nonce))\n"),
        "locks",
    ),
    Mutant(
        "a released lock keeps its sequence",
        "rules/named.py",
        "    return lock.but(\n        status=Status.SCHEDULED,\n        sequence=lock.sequence + 1,\n",
        "    return lock.but(\n        status=Status.SCHEDULED,\n        sequence=lock.sequence,\n",
        "locks",
    ),
    Mutant(
        "a lease that is over is begun",
        "locks/holding.py",
        (
            "        while elapsed(self.leased_mark, self.runtime.clock.mark()) > self.policy.lease / 2:\n"
            "            try:\n                self.renew()\n            except LeaseLostError:\n"
            "                return False\n        return self.alive()\n"
        ),
        "        return True\n",
        "locks",
    ),
    Mutant(
        "a holder counts the token after its own",
        "locks/holding.py",
        "            token=lock.token,\n            holder=holder,\n",
        "            token=lock.token + 1,\n            holder=holder,\n",
        "locks",
    ),
    Mutant(
        "a release writes nothing",
        "rules/named.py",
        "    return Put(_freed(lock, nonce))\n",
        '    return CallRefused(Refusal.NOT_HELD, "it was freed before")\n',
        "locks",
    ),
    Mutant(
        "an expired lock is held for ever",
        "rules/named.py",
        (
            "        if at.read < expires_at(lock):\n            return _busy(lock)\n"
            "    return _granted(lock, policy, claimant)\n\n\ndef came"
        ),
        ("        if True:\n            return _busy(lock)\n    return _granted(lock, policy, claimant)\n\n\ndef came"),
        "locks",
    ),
    Mutant(
        "once: an expired run is held for ever",
        "rules/named.py",
        "        if at.read < expires_at(lock):\n            return _busy(lock)\n        lock = writes",
        "        if True:\n            return _busy(lock)\n        lock = writes",
        "locks",
    ),
    Mutant(
        "once: a call runs though it has run",
        "locks/runs.py",
        (
            "        if refused.refusal is Refusal.ENDED and lock is not None:\n            return lock\n"
            "        raise _refusal(run, refused)\n"
        ),
        "        if refused.refusal is not Refusal.ENDED: raise _refusal(run, refused)\n\n\n",
        "locks",
    ),
    Mutant(
        "once: every payload is another one",
        "locks/runs.py",
        "        same = _forgotten(seen) if stored is None else stored.string_value == run.data_hash\n",
        "        same = False\n",
        "locks",
    ),
    Mutant(
        "a holder may not believe in the lock that it acquired",
        "locks/holding.py",
        ("        if self.lost.is_set() or self.ending:\n            return 0.0\n        return self.left()\n"),
        "        return 0.0\n\n\n",
        "locks",
    ),
    Mutant(
        "once: a call is answered with the result of its own payload",
        "locks/runs.py",
        "        return claimed.returned\n",
        ('        return claimed.returned._replace(value={**(claimed.returned.value or {}), "made": -1})\n'),
        "locks",
    ),
)
