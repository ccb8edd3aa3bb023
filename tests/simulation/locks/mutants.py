"""
Mistakes in named locks and in functions that run once, each to be caught by their histories.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

_FENCE = "    lost = fenced(lock, fence)\n    if lost is not None:\n        return lost\n    assert lock is not None\n"
_GONE = '    if lock is None:\n        return Lost("gone", finished=True)\n'
_BUSY = "        if at.read < expires_at(lock):\n            return _busy(lock)\n"

LOCK_MUTANTS = tuple(
    Mutant(mistake, file, old, new, "locks")
    for mistake, file, old, new in (
        (
            "a lock is released without the fence",
            "rules/named.py",
            _FENCE + "    return Put(_freed(lock, nonce))\n",
            _GONE + "    return Put(_freed(lock, nonce))\n",
        ),
        (
            "a lock is refreshed without the fence",
            "rules/named.py",
            _FENCE + "    return Put(lock.but(leased_at=SERVER_TIME))\n",
            _GONE + "    return Put(lock.but(leased_at=SERVER_TIME))\n",
        ),
        (
            "a function that raised gives its lease up without the fence",
            "rules/named.py",
            _FENCE + "    return Put(writes.noted(",
            _GONE + "    return Put(writes.noted(",
        ),
        (
            "tokens begin at 0 when a document is made again",
            "rules/named.py",
            '"token": now - 1}',
            '"token": 0}',
        ),
        (
            "the end of a lock is judged by the local clock",
            "runtime/runtime.py",
            "            read=snapshot.read,\n",
            "            read=snapshot.read and self.clock.now(),\n",
        ),
        (
            "a lock is taken from its holder before its end",
            "rules/named.py",
            _BUSY + "    return _granted(lock, policy, claimant)\n\n\ndef came_late",
            "    return _granted(lock, policy, claimant)\n\n\ndef came_late",
        ),
        (
            "a lock object that acquires counts its lease from the answer",
            "locks/lock.py",
            "policy=self._policy, mark=mark,",
            "policy=self._policy, mark=runtime.clock.mark(),",
        ),
        (
            "a lease that is nearly over is acquired",
            "locks/holding.py",
            "        while elapsed(self.leased_mark, self.runtime.clock.mark()) > self.policy.lease / 2:\n",
            "        while False:\n",
        ),
        (
            "a refresh does not move the time at which the document is retired",
            "locks/holding.py",
            "named.refresh(lock, fence), self.retiring())",
            "named.refresh(lock, fence), {})",
        ),
        (
            "a lock without an end keeps the time at which an earlier one was to be retired",
            "locks/lock.py",
            "self._policy.lease + _RETENTION if finite else None)",
            "self._policy.lease + _RETENTION if finite else _RETENTION)",
        ),
        (
            "once: a completed run runs again",
            "rules/named.py",
            '    if lock.status is Status.COMPLETED:\n        return CallRefused(Refusal.ENDED, "it has run")\n',
            "",
        ),
        (
            "once: the hash of the payload is ignored",
            "rules/named.py",
            "    if not same:\n",
            "    if False:\n",
        ),
        (
            "once: the lease is not renewed",
            "locks/runs.py",
            "    with executor.renewed(claimed, runtime.clock.mark()):\n",
            "    if True:\n",
        ),
        (
            "once: a run that may still go on is run beside",
            "rules/named.py",
            _BUSY + "        lock = writes.noted",
            "        lock = writes.noted",
        ),
        (
            "once: the caller gets the result of its own run even if it was not recorded",
            "locks/runs.py",
            "        lambda lock, fence, at: rules.settle(lock, fence, how, at),\n",
            (
                "        lambda *now: rules.settle(now[0], now[1], how, now[2])"
                " if claimed.alive() else CallRefused(Refusal.NOT_HELD, ''),\n"
            ),
        ),
    )
)
