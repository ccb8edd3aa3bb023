"""
The outcomes of deliveries.
"""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """
    The outcome of a delivery; ``endpoint.OUTCOME_STATUS`` has its HTTP status.
    """

    COMPLETED = "completed"
    CONTINUED = "continued"
    SNOOZED = "snoozed"
    SUSPENDED = "suspended"
    CANCELLED = "cancelled"
    SETTLED = "settled"
    RETRYING = "retrying"
    UNDISPATCHED = "undispatched"
    FAILED_ATTEMPT = "failed-attempt"
    FAILED = "failed"
    RECOVERED = "recovered"
    QUARANTINED = "quarantined"
    DUPLICATE = "duplicate"
    GONE = "gone"
    NEWER = "newer"
    FOREIGN = "foreign"
    BUSY = "busy"
    UNKNOWN = "unknown"
    EARLY = "early"
    PARKED = "parked"
    POSTPONED = "postponed"
    SHORT_LEASE = "short-lease"
    LOST = "lost"
    LOST_TO_LATER = "lost-to-later"
    UNHANDLED = "unhandled"
    DAMAGED = "damaged"
    SET_ASIDE = "set-aside"
    REJECTED = "rejected"
    UNAUTHORISED = "unauthorised"
    FORBIDDEN = "forbidden"
    UNAVAILABLE = "unavailable"
    REFUSED = "refused"
