"""
The time from which Firestore's TTL may delete the document of an ended task, and calls that come too late to run the task
again. Pure.

Guarantee
    A document has a time at which it may be deleted only if its task has ended and owes nothing. So if TTL has deleted the
    document of the occurrence that a generator made last, the generator knows that the occurrence has ended.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from gcp_oncetask.rules.decisions import CallRefused, DecisionContext, NeedTime
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.timestamps import instant

AHEAD: Final = timedelta(hours=1)
"""Shortest time between a commit and the expiry that it sets."""


def kept(lock: Lock) -> bool:
    """
    Tell whether the document stays even after its retention: its task has not ended, or owes an alert or
    the cancellation of its children.
    """
    # A later wake-up of the task, and its own children, will keep the document, too.
    return not lock.finished or bool(lock.owed) or bool(lock.orphans)


def expires_at(ended: datetime, retention: float, now: datetime) -> datetime:
    """
    Return the time from which TTL may delete a document, for a commit after which nothing is owed.

    Args:
        ended: Time at which the task ended.
        retention: Seconds.
        now: Estimate of the server's clock at that commit.
    """
    return max(ended + timedelta(seconds=retention), now + AHEAD)


def too_late(expires: datetime | None, at: DecisionContext) -> CallRefused | NeedTime | None:
    """
    Return the reason for which a record must not be run again or resolved, as its document *expires* (None: never); None if
    it may be.
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
