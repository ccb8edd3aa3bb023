"""
Mistakes that histories of workers catch by what is seen on the wire.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

WORKER_WIRE_MUTANTS = tuple(
    Mutant(mistake, file, old, new, "workers")
    for mistake, file, old, new in (
        (
            "a worker that is busy counts as gone",
            "recovery/unfetched.py",
            "    by = store.estimate() - timedelta(seconds=config.stuck)\n",
            "    by = store.estimate()\n",
        ),
    )
)
