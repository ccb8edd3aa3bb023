"""
Mistakes in the clocks of holders and in what late holders are told, each to be caught by histories of chains.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

_MOST = "    most = max(end.monotonic - start.monotonic, end.boottime - start.boottime, end.wall - start.wall)\n"
_LEAST = "    return max(end.monotonic - start.monotonic, end.boottime - start.boottime) / (1 + end.drift)\n"

CHAIN_CLOCK_MUTANTS = (
    Mutant(
        "a holder does not count the time for which its machine was suspended",
        "clock.py",
        _MOST,
        "    most = max(end.monotonic - start.monotonic, end.wall - start.wall)\n",
    ),
    Mutant(
        "a holder does not count the time for which its machine was a snapshot",
        "clock.py",
        _MOST,
        "    most = max(end.monotonic - start.monotonic, end.boottime - start.boottime)\n",
    ),
    Mutant(
        "the estimate of the server's time trusts a clock that runs too fast",
        "clock.py",
        _LEAST,
        _LEAST.replace(" / (1 + end.drift)", ""),
    ),
    Mutant(
        "the estimate of the server's time trusts the wall clock",
        "store/wire.py",
        "        surely = at_least(mark, now)\n",
        "        surely = now.wall - mark.wall\n",
    ),
    Mutant(
        "a renewed lease is believed in beyond the run limit",
        "execution/held_lease.py",
        (
            "        left = min(policy.lease - elapsed(self.leased_mark, now),"
            " policy.run_limit - elapsed(self.granted_mark, now))\n"
        ),
        "        left = policy.lease - elapsed(self.leased_mark, now)\n",
    ),
    Mutant(
        "a lease whose renewals come late is believed in until one of them fails",
        "execution/held_lease.py",
        (
            "        left = min(policy.lease - elapsed(self.leased_mark, now),"
            " policy.run_limit - elapsed(self.granted_mark, now))\n"
        ),
        "        left = policy.run_limit - elapsed(self.granted_mark, now)\n",
    ),
    Mutant(
        "a late holder is told of another token",
        "execution/running.py",
        "                token=self.granted.token,\n                finished=decision.finished,\n",
        (
            "                token=self.granted.token if changed.snapshot.lock is None else changed.snapshot.lock.token,\n"
            "                finished=decision.finished,\n"
        ),
    ),
    Mutant(
        "a holder that lost its lease to a later sequence is told that it may be tried again",
        "rules/attempts.py",
        "finished=lock.sequence > fence.sequence)",
        "finished=False)",
    ),
    Mutant(
        "a lost lease is renewed without a word",
        "execution/running.py",
        "            own=True,\n        )\n        self.took(changed)\n",
        "            own=True,\n        )\n        if isinstance(changed.decision, Put):\n            self.took(changed)\n",
    ),
)
