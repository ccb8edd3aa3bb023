"""
Mistakes in workers, each played until its history trips the check for which it was made.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

TRIPPED_WORKER_MUTANTS = (
    Mutant(
        "a heartbeat does not depend on the version of its session",
        "store/sessions.py",
        "        condition.update_time.CopyFrom(version)\n",
        "        pass\n",
        "workers",
        check="workers: a late heartbeat has revived it",
    ),
    Mutant(
        "a worker looks for a kind without asking whether its session has died",
        "worker/fetcher.py",
        "            if part and len(found) < limit and self._alive():\n",
        "            if part and len(found) < limit:\n",
        "workers",
        check="workers: it looks for … in … although its session has died",
    ),
)
