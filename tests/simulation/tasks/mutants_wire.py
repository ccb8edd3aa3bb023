"""
Mistakes in deliveries and recovery that histories of once-tasks catch by what is seen on the wire.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

TASK_WIRE_MUTANTS = tuple(
    Mutant(mistake, file, old, new, "tasks")
    for mistake, file, old, new in (
        (
            "a run whose end line is found is tried again",
            "rules/expiry.py",
            "    put = settle(lock, fence, settlement, at)\n",
            "    put = settle(lock, fence, settlement._replace(kind=type(settlement.kind).RETRY), at)\n",
        ),
        (
            "occurrences are left to the sweeper",
            "tasks/generator.py",
            "    failed = sum(not dispatch(runtime, made) for made in step.made)\n",
            "    failed = 0\n",
        ),
        (
            "a task that waits for its key is said to stand still",
            "rules/writes.py",
            '            lock.__dict__["attention"] = None\n',
            "            pass\n",
        ),
        (
            "a generator that has ended stays paused",
            "rules/writes.py",
            "parked=None, paused=False, **changes",
            "parked=None, **changes",
        ),
        (
            "a newer time of a task that waits has no delivery",
            "rules/admin.py",
            "        dispatches=lock.dispatches + moved,\n        ready_at=None if moved else lock.ready_at,\n",
            "        ready_at=None if moved else lock.ready_at,\n",
        ),
    )
)
