"""
When Firestore's TTL may delete the document of an ended task, and who comes too late to run it again. Pure.

Guarantee
    Only what has ended and owes nothing has a time at which it may be deleted. Whoever finds a document deleted by TTL knows
    that its task had ended, so a generator need not ask more of the occurrence that it made last.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from gcp_oncetask.rules.decisions import CallRefused, DecisionContext, NeedTime
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.timestamps import instant

AHEAD: Final = timedelta(hours=1)
"""No commit lets a document expire sooner than this after it."""


def kept(lock: Lock) -> bool:
    """
    Whether the document stays, however long ago its retention was over: it has not ended, or an alert is owed.
    """
    # What is to wake it later, and children of its own, will keep it too.
    return not lock.finished or bool(lock.owed)


def expires_at(ended: datetime, retention: float, now: datetime) -> datetime:
    """
    From when TTL may delete a document, as a commit says that leaves nothing owed.

    Args:
        ended: When the task ended.
        retention: Seconds.
        now: Estimate of the server's clock at that commit.
    """
    return max(ended + timedelta(seconds=retention), now + AHEAD)


def too_late(expires: datetime | None, at: DecisionContext) -> CallRefused | NeedTime | None:
    """
    Why a record whose document *expires* then (None: never) is not to be run again or resolved; None: it may be.
    """
    if expires is None:
        return None
    if at.read is None and at.now < expires:
        return NeedTime()
    if (at.read or at.now) < expires:
        return None
    return CallRefused(
        Refusal.RETENTION_OVER,
        f"its retention was over at {instant(expires)}, and Firestore may delete it at any moment; delete it and create it "
        "anew to run it again",
    )
