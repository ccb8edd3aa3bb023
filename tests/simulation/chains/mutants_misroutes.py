"""
Mistakes that show only where deliveries come at the URL of another route.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

MISROUTE_MUTANTS = (
    Mutant(
        "a route takes deliveries of other collections",
        "entities/handler.py",
        "        if elsewhere is not None:\n",
        "        if elsewhere is not None and not headers.task:\n",
    ),
)
"""Need the trouble ``misroutes``."""
