"""
The records that need a person, by reason.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.rules.attention import ASKING, Reason

MOST: Final = 50
"""Records that are read for each reason."""


class ReasonRow(NamedTuple):
    """
    The records that need a person for one reason.

    Attributes:
        reason: The reason.
        number: Number of records; ``MOST`` or fewer.
        more: Whether there are more.
        oldest: Path of the oldest one.
        since: Time since which it needs a person; None: not known.
    """

    reason: Reason
    number: int
    more: bool
    oldest: str
    since: datetime | None


def needed(locker: Locker) -> list[ReasonRow]:
    """
    Return the reasons for which records need a person, with the oldest of each. It reads at most ``MOST`` and one records for
    each reason.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    rows = []
    for reason in ASKING:
        page = locker.find(reason=reason, limit=MOST)
        if page.items:
            first = page.items[0]
            rows.append(ReasonRow(reason, len(page.items), page.next is not None, first.path, first.since))
    return rows
