"""
Payloads of another version of the program that this one can't read.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from gcp_oncetask.rules import writes
from gcp_oncetask.rules.decisions import DecisionContext, Put, Refused
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Event, Lock

LEFT: Final = timedelta(days=7)
"""Time for which the payload is left to processes that can read it; then a person decides."""


def left(lock: Lock, reason: str, since: datetime | None, nonce: str, at: DecisionContext) -> Put | Refused:
    """
    Leave a sequence whose payload can't be read here to a version of the program that can read it. No attempt is counted.

    Args:
        lock: The record.
        reason: The reason for which the payload can't be read, as a sentence.
        since: Time since which the payload could have been run; None: not known.
        nonce: Recognises this decision.
        at: Moment.

    Returns:
        Refused UNHANDLED; or, after ``LEFT``, Put with QUARANTINED and an alert owed.
    """
    if since is None or at.now < since + LEFT:
        return Refused(Outcome.UNHANDLED, reason)
    owing = writes.owe(lock, Event.QUARANTINE, f"for {LEFT.days} days no version could read it: {reason}", (), at)
    return Put(writes.set_aside(owing, at, settled_by=nonce), Outcome.QUARANTINED)
