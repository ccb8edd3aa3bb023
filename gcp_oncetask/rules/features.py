"""
Features that a record may need: a process of an older release leaves alone what it does not understand.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gcp_oncetask.rules.record import Lock

KNOWN: Final[frozenset[str]] = frozenset()
"""What this release understands."""


def unknown(lock: Lock | None) -> tuple[str, ...]:
    """
    The features that *lock* needs and this release does not know; empty: it may be touched. The own holder of a lease renews
    and settles whatever its record needs.
    """
    return () if lock is None or not lock.needs else of(lock.needs)


def of(needs: Iterable[str]) -> tuple[str, ...]:
    """
    Those of *needs* that this release does not know.
    """
    return tuple(need for need in needs if need not in KNOWN)
