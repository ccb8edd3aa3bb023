"""
Mistakes about named locks whose documents people damage.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

_READ = "        start = start or runtime.store.read(self.document)\n"
_AS_NEW = f"""\
        try:
    {_READ}\
        except StoreError as error:
            if type(error).__name__ != "DamagedError":
                raise
            document, read = runtime.store.documents([self.document])[self.document]
            start = Snapshot(self.document, document.update_time, document, None, read)
"""
_FOR_EVER = f"""\
        known = runtime.__dict__.setdefault("damages", {{}})
        if self.document in known:
            raise known[self.document]
        try:
    {_READ}\
        except StoreError as error:
            if type(error).__name__ == "DamagedError":
                known[self.document] = error
            raise
"""
LOCK_DAMAGES_MUTANTS = (
    Mutant("a named lock that can't be read counts as new", "locks/lock.py", _READ, _AS_NEW, "locks"),
    Mutant("a named lock that was repaired is said to be damaged", "locks/lock.py", _READ, _FOR_EVER, "locks"),
)
