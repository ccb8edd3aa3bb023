"""
Mistakes in what others are told of a named lock, which only the order of all calls shows.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

READ_MUTANTS = tuple(
    Mutant(mistake, file, old, new, "locks")
    for mistake, file, old, new in (
        (
            "a lock whose lease is over is told to be held",
            "locks/lock.py",
            "lock.status is Status.LEASED and seen.read < expires_at(lock)",
            "lock.status is Status.LEASED",
        ),
        (
            "a lock without an end is told to be free",
            "locks/lock.py",
            "lock.status is Status.LEASED and seen.read < expires_at(lock)",
            "lock.status is Status.LEASED and lock.lease_seconds < named.UNLIMITED and seen.read < expires_at(lock)",
        ),
    )
)
