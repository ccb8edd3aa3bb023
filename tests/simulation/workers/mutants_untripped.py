"""
Mistakes in workers, one for each check that no mistake beside them trips.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

UNTRIPPED_WORKER_MUTANTS = tuple(
    Mutant(mistake, file, old, new, "workers")
    for mistake, file, old, new in (
        (
            "one worker has all shards but one of each other",
            "worker/shares.py",
            "if (shard + start) % len(able) == place)",
            "if min(shard, len(able) - 1) == place)",
        ),
        (
            "a first attempt that completes counts as failed",
            "execution/settling.py",
            "            how = completing(attempt, value)\n        saves",
            (
                "            how = completing(attempt, value)\n"
                "        if attempt.granted.attempts == 1 and not isinstance(value, HandlerResult):\n"
                '            how = _by_verdict(runtime, attempt, Retry("again", after=0))\n'
                "        saves"
            ),
        ),
    )
)
