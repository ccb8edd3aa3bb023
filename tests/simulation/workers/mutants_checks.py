"""
Mistakes that trip checks of histories of workers which no other mistake trips.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

WORKERS_CHECK_MUTANTS = (
    Mutant(
        "drain counts tasks that it can't run",
        "worker/worker.py",
        "            if not progressed and len(left) == known:\n                return ran\n",
        ("            if not progressed and len(left) == known and ran > 10**6:\n                return ran\n"),
        "workers",
    ),
    Mutant(
        "a session is written over by another worker",
        "worker/membership.py",
        "        self.id = runtime.clock.nonce()\n        self.shards",
        '        self.id = "worker"\n        self.shards',
        "workers",
    ),
    Mutant(
        "a handler is called twice in an attempt",
        "execution/calling.py",
        "_once(around, call))\n    return call()\n",
        "_once(around, call))\n    call()\n    return call()\n",
        "workers",
    ),
)
