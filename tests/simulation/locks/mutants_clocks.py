"""
Mistakes in the clocks of holders and in what late holders are told, each to be caught by histories of locks and runs.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

LOCK_CLOCK_MUTANTS = tuple(
    Mutant(mistake, file, old, new, "locks")
    for mistake, file, old, new in (
        (
            "a holder trusts a clock that runs too slow",
            "clock.py",
            "    return most / (1 - end.drift)\n",
            "    return most\n",
        ),
        (
            "a late holder of a lock is told of another token",
            "locks/holding.py",
            "            token=context.token,\n            taken_over=True,\n",
            "            token=context.token + 1,\n            taken_over=True,\n",
        ),
        (
            "a lock that is given back late counts as given back in time",
            "locks/holding.py",
            "        return end is not None and get_timestamp(ended.version) >= end\n",
            "        return False\n",
        ),
        (
            "a lock that is given back in time counts as given back late",
            "locks/holding.py",
            "        return end is not None and get_timestamp(ended.version) >= end\n",
            "        return end is not None\n",
        ),
        (
            "a lost lock is refreshed without a word",
            "locks/holding.py",
            "        self._change(lambda lock, fence, _: named.refresh(lock, fence), self.retiring())\n",
            (
                "        try:\n"
                "            self._change(lambda lock, fence, _: named.refresh(lock, fence), self.retiring())\n"
                "        except LeaseLostError:\n"
                "            pass\n"
            ),
        ),
    )
)
LOCK_CLOCK_MUTANTS += (
    Mutant(
        "a lease that was over once is renewed no more",
        "execution/held_lease.py",
        "            if self._goes_on():\n",
        "            if self._goes_on() and self.alive():\n",
        test="tests/integration/locks/test_lock.py::test_lock_whose_renewal_came_late_is_kept",
    ),
)
