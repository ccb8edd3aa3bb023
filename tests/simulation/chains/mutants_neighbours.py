"""
Mistakes that show only where two environments share a database and a queue.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

NEIGHBOURS_MUTANTS = (
    Mutant(
        "a delivery runs in the environment that it reaches",
        "execution/pipeline.py",
        "    if delivery.env != runtime.config.env:\n",
        "    if not delivery.env:\n",
        also=(
            "rules/attempts.py",
            "    if lock.env != at.env or delivery.env != at.env:\n",
            "    if lock.env != delivery.env:\n",
        ),
    ),
    Mutant(
        "the documents of all environments are due in the place of one",
        "runtime/runtime.py",
        '        return f"{config.env}/{lane}/{shard:03d}"\n',
        '        return f"DEFAULT/{lane}/{shard:03d}"\n',
    ),
    Mutant(
        "sweeps look for what is due in one environment alone",
        "store/queries.py",
        '    found, _ = _query_due(store, where, floor, f"{env}{AFTER}", 1)\n',
        '    found, _ = _query_due(store, where, floor, f"DEFAULT{AFTER}", 1)\n',
    ),
    Mutant(
        "the tasks of all environments wait for a resource key together",
        "rules/document_paths.py",
        '    return f"{env}/{_escaped(key)}"\n',
        '    return f"DEFAULT/{_escaped(key)}"\n',
        kind="tasks",
    ),
)
"""Need the trouble ``neighbours``."""
