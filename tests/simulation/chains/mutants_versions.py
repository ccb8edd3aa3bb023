"""
Mistakes that show only where two versions of the library share documents.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

_CHANGED = """    for name in compress(new, map(is_not, new.values(), old.values())):
        value, known = new[name], old[name]
        if known is not None and value == known:
            continue
"""

VERSION_MUTANTS = (
    Mutant(
        "a version clears what it does not know of a record",
        "store/lock_codec.py",
        _CHANGED,
        _CHANGED.replace("compress(new, map(is_not, new.values(), old.values()))", "new").replace(
            "known is not None", "value != DEFAULTS[name]"
        ),
    ),
)
"""Need the trouble ``versions``."""
