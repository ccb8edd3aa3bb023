"""
Mistakes in listeners and heartbeats of workers, each to be caught by their histories.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

LISTENER_MUTANTS = tuple(
    Mutant(mistake, file, old, new, "workers")
    for mistake, file, old, new in (
        (
            "a listener does not wake its worker",
            "worker/listening.py",
            "                        del self._heads[place]\n                self._wake()\n",
            "                        del self._heads[place]\n",
        ),
        (
            "a worker whose listener has broken does not poll",
            "worker/worker.py",
            "        if not self._hears():\n            return self._poll\n",
            "        if self._listening is None:\n            return self._poll\n",
        ),
        (
            "a listener that has broken is not opened again",
            "worker/listening.py",
            "        if self._shards is None or self.due_in() > 0:\n            return\n",
            "        return\n",
        ),
        (
            "a worker polls although its listener is open",
            "worker/worker.py",
            "        if not self._hears():\n            return self._poll\n",
            "        if True:\n            return self._poll\n",
        ),
        (
            "a task that is due no more stays the first one of its shard",
            "worker/listening.py",
            "                        del self._heads[place]\n",
            "                        pass\n",
        ),
    )
)
"""Needs the trouble ``listeners`` and the check of ``checks/waking.py``; the last one needs versions of heartbeats."""

LISTENER_MUTANTS += (
    Mutant(
        "a worker trusts its listener after heartbeats that failed",
        "worker/worker.py",
        "            self._listening.distrust()\n",
        "            pass\n",
        test="tests/unit/worker/test_listening.py::test_listener_is_opened_again_after_heartbeats_that_failed",
    ),
    Mutant(
        "a listener counts as open before it has shown all",
        "worker/listening.py",
        "        return not self.broken and len(self._current) > len(self._places)\n",
        "        return not self.broken\n",
        test="tests/unit/worker/test_listening.py::test_listener_is_healthy_once_each_of_its_queries_is_up_to_date",
    ),
)
