"""
Mistakes in the waits for named locks, each to be caught by their histories.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

WAITER_MUTANTS = (
    Mutant(
        "a waiter is not woken by the release that its listener shows",
        "store/listen.py",
        "            wake.set()\n",
        "            pass\n",
        "locks",
    ),
    Mutant(
        "a waiter without a listener waits as long as one with it",
        "store/listen.py",
        "        yield watch is not None\n",
        "        yield True\n",
        "locks",
    ),
)
"""Need the check of ``checks/waking.py``."""
