"""
Mistakes that show only where two versions of the library share documents.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

VERSION_MUTANTS = (
    Mutant(
        "a version clears what it does not know of a record",
        "store/lock_codec.py",
        "        if value is known or (known is not None and value == known):\n            continue\n",
        "        if value != DEFAULTS[name] and value == known:\n            continue\n",
    ),
)
"""Need the trouble ``versions``."""
