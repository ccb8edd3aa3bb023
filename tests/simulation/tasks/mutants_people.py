"""
Mistakes that only show when people change things in histories of once-tasks.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

TASK_PEOPLE_MUTANTS = (
    Mutant(
        "a reset of a failed step gets a new idempotency key",
        "rules/admin.py",
        "    kept = again.keyed if renewed else lock.keyed\n",
        "    kept = again.keyed\n",
        "tasks",
    ),
    Mutant(
        "a reset of a completed step keeps its idempotency key",
        "rules/admin.py",
        "    kept = again.keyed if renewed else lock.keyed\n",
        "    kept = lock.keyed\n",
        "tasks",
    ),
    Mutant(
        "a task is reset that TTL may delete at any moment",
        "rules/retention.py",
        "    if (at.read or at.now) < expires:\n",
        "    if True:\n",
        "tasks",
    ),
    Mutant(
        "a cancellation takes newer payloads with it",
        "rules/admin.py",
        "        return Put(newer.but(wait_until=target.wait_until))\n",
        "        asked = lock.cancel_requested_at is not None\n"
        "        granted = newer.wanted if asked else lock.granted\n"
        "        return Put(newer.but(wait_until=target.wait_until, granted=granted))\n",
        "tasks",
    ),
)
