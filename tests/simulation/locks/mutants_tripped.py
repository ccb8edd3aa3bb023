"""
Mistakes in locks and runs, each played until its history trips the check for which it was made.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

TRIPPED_LOCK_MUTANTS = (
    Mutant(
        "a late holder of a lock is told that nobody has it",
        "locks/holding.py",
        "            taken_over=True,\n",
        "            taken_over=lost.finished,\n",
        "locks",
        check="checks/late: token … is lost, and its holder was told that nobody has taken it",
    ),
    Mutant(
        "a lock that was refreshed just now is not refreshed",
        "locks/holding.py",
        "        self._change(lambda lock, fence, _: named.refresh(lock, fence), self.retiring())\n",
        (
            "        if elapsed(self.leased_mark, self.runtime.clock.mark()) > self.policy.lease / 4:\n"
            "            self._change(lambda lock, fence, _: named.refresh(lock, fence), "
            "self.retiring())\n"
        ),
        "locks",
        check="checks/seizures: token … was refreshed, and a person had deleted its document",
    ),
    Mutant(
        "a lock whose create came late is acquired by its old token",
        "rules/named.py",
        "            return _granted(lock, policy, claimant) if came_late(lock) else Put(",
        "            return Put(",
        "locks",
        also=(
            "locks/holding.py",
            "    while isinstance(changed.decision, Put) and changed",
            "    while False and isinstance(changed.decision, Put) and changed",
        ),
        check="locks: token … was acquired, and is behind others",
    ),
    Mutant(
        "a takeover does not move the token",
        "rules/named.py",
        "        token=max(lock.token, before) + 1,\n",
        "        token=max(lock.token, 1),\n",
        "locks",
        check="locks: … became … with the token …",
    ),
    Mutant(
        "keep_alive is not renewed",
        "locks/lock.py",
        "        if self._renews:\n            self._renewals().add(",
        "        if False:\n            self._renewals().add(",
        "locks",
        check="locks: token … is kept alive, and is not held any more",
    ),
)
