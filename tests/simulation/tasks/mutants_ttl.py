"""
Mistakes about documents that expire when a person has said.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

TASK_TTL_MUTANTS = (
    Mutant(
        "an end keeps the time of expiry that somebody has written before",
        "store/retiring.py",
        "    if EXPIRE_AT in stored and not retention.kept(before):\n",
        "    if EXPIRE_AT in stored:\n",
        "tasks",
    ),
)
