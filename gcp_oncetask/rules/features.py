"""
Features that a record may need. A process of an older release does not touch a record that needs a feature unknown to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gcp_oncetask.rules.record import Lock

KNOWN: Final[frozenset[str]] = frozenset()
"""Features that this release knows."""


def unknown(lock: Lock | None) -> tuple[str, ...]:
    """
    Return the features that *lock* needs and this release does not know. If there are none, the record may be touched. The
    holder of a lease renews and settles its record in any case.
    """
    return () if lock is None or not lock.needs else of(lock.needs)


def of(needs: Iterable[str]) -> tuple[str, ...]:
    """
    Return the features in *needs* that this release does not know.
    """
    return tuple(need for need in needs if need not in KNOWN)
