"""
Features that a record may need. A process of an older release does not touch a record that needs a feature unknown to it.

A new form of a stored attribute is such a feature. It comes in two releases: the first one reads both forms (``KNOWN``) and
writes each record in the form that the record has; the next one writes the new form (``WRITTEN``). So a process of either
release reads all that the other one writes, and a roll-back by one release leaves no record unread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from gcp_oncetask.rules.record import DEFAULTS, Lock, Status

KNOWN: Final[frozenset[str]] = frozenset({"journal", "wait", "mailbox", "child"})
"""Features that this release knows."""
WRITTEN: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
"""Features in whose forms this release stores attributes, with these attributes: feature -> attributes of ``Lock``."""


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


def in_written_form(lock: Lock, before: Lock | None) -> Lock:
    """
    Return *lock*, which is to be committed in place of *before* (None: a new record), so that it needs the features in whose
    forms this release stores its attributes.

    While a record has a holder, it keeps its form. The holder may be a process that does not know the new form, and it goes
    on with the record.
    """
    if not WRITTEN or lock is before:
        return lock
    held = before is not None and before.status in (Status.LEASED, Status.QUARANTINED)
    if held and before is not None and (lock.holder, lock.sequence) == (before.holder, before.sequence):
        return lock
    more = [
        feature
        for feature, names in WRITTEN.items()
        if feature not in lock.needs and any(lock.__dict__[name] != DEFAULTS[name] for name in names)
    ]
    return lock.but(needs=(*lock.needs, *more)) if more else lock
