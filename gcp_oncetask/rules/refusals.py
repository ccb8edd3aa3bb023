"""
Why a call of a person or a program is refused, and the error that the refusal is to its caller. How a delivery ends is an
``Outcome``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from gcp_oncetask.errors import (
    AlreadyFinishedError,
    AlreadyScheduledError,
    DamagedError,
    LeaseLostError,
    LockBusyError,
    OncetaskError,
    TaskConflictError,
    TaskError,
    TaskNotFoundError,
    UsageError,
)


class Refusal(StrEnum):
    """
    What is true of a record, so that a call is refused.
    """

    MISSING = "missing"
    """There is no document, or it was never scheduled."""
    FOREIGN = "foreign"
    """It belongs to another environment."""
    NO_VERB = "no-verb"
    """It is of a sort that does not have the verb."""
    EXISTS = "exists"
    """It is there, and its kind keeps what is there."""
    UNIQUE = "unique"
    """It waits or runs, and its kind takes no other request until then."""
    NOT_ENDED = "not-ended"
    """It waits or runs."""
    RUNNING = "running"
    """An attempt has its lease, or may have it."""
    QUARANTINED = "quarantined"
    NOT_QUARANTINED = "not-quarantined"
    CANCELLING = "cancelling"
    """Its cancellation is under way."""
    PAUSED = "paused"
    NOT_PAUSED = "not-paused"
    MOVED = "moved"
    """It has changed since the caller has read it."""
    ENDED = "ended"
    """It has completed, failed or been cancelled."""
    ERASED = "erased"
    """Its payload was erased."""
    RETENTION_OVER = "retention-over"
    """Firestore may delete it at any moment."""
    DAMAGED = "damaged"
    """An attribute can't be read that the call needs."""
    OTHER_PAYLOAD = "other-payload"
    """It was made for another payload."""
    HELD = "held"
    """Somebody else has the named lock, or runs the function."""
    NOT_HELD = "not-held"
    """The caller does not have the named lock: it was freed, or never granted."""


ERRORS: Final[dict[Refusal, type[OncetaskError]]] = {
    Refusal.MISSING: TaskNotFoundError,
    Refusal.FOREIGN: TaskConflictError,
    Refusal.NO_VERB: UsageError,
    Refusal.EXISTS: TaskConflictError,
    Refusal.UNIQUE: AlreadyScheduledError,
    Refusal.NOT_ENDED: AlreadyScheduledError,
    Refusal.RUNNING: AlreadyScheduledError,
    Refusal.QUARANTINED: AlreadyScheduledError,
    Refusal.NOT_QUARANTINED: AlreadyScheduledError,
    Refusal.CANCELLING: TaskError,
    Refusal.PAUSED: TaskError,
    Refusal.NOT_PAUSED: TaskError,
    Refusal.MOVED: AlreadyScheduledError,
    Refusal.ENDED: AlreadyFinishedError,
    Refusal.ERASED: AlreadyFinishedError,
    Refusal.RETENTION_OVER: AlreadyFinishedError,
    Refusal.DAMAGED: DamagedError,
    Refusal.OTHER_PAYLOAD: TaskConflictError,
    Refusal.HELD: LockBusyError,
    Refusal.NOT_HELD: LeaseLostError,
}
"""The class of the error that each refusal is, where its caller raises one. Some are told by False, or by a stored result."""
