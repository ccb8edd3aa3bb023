"""
Mistakes that show only where documents of others are in the library's collections.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

FOREIGNERS_MUTANTS = (
    Mutant(
        "a sweep takes an environment whose name begins with its own for its own",
        "store/queries.py",
        "_first_due(store, area.where, floor, env)) is not None:\n",
        '_first_due(store, area.where, floor, f"{env}~")) is not None:\n',
        also=(
            "recovery/sweep.py",
            "    if lock is None or lock.env != runtime.config.env:\n",
            "    if lock is None or not lock.env.startswith(runtime.config.env):\n",
        ),
    ),
    Mutant(
        "a lock of another program, which is a text, is overwritten",
        "effects/damage.py",
        "    is_map = error.field != WHOLE\n",
        "    is_map = True\n",
    ),
)
"""Need the trouble ``foreigners``."""
