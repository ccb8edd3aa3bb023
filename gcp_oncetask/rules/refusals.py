"""
The reasons for which a call of a person or a program is refused, and the error that the caller gets for each. The end of a
delivery is an ``Outcome`` instead.
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
    MailboxFullError,
    OncetaskError,
    TaskConflictError,
    TaskError,
    TaskNotFoundError,
    UsageError,
)


class Refusal(StrEnum):
    """
    Reasons for which a call is refused: each is a state of the record.
    """

    MISSING = "missing"
    """The document does not exist, or was never scheduled."""
    FOREIGN = "foreign"
    """The record belongs to another environment."""
    NO_VERB = "no-verb"
    """Records of this sort do not have the verb."""
    EXISTS = "exists"
    """The task exists, and its kind keeps the existing task."""
    UNIQUE = "unique"
    """The task waits or runs, and its kind takes no other request until it has ended."""
    NOT_ENDED = "not-ended"
    """The record waits or runs."""
    RUNNING = "running"
    """An attempt has the lease, or may have it."""
    QUARANTINED = "quarantined"
    NOT_QUARANTINED = "not-quarantined"
    NOT_NEEDED = "not-needed"
    """The record needs no person, or was dismissed."""
    UNDECIDED = "undecided"
    """The record needs another decision of a person."""
    CANCELLING = "cancelling"
    """The cancellation of the record is under way."""
    PAUSED = "paused"
    NOT_PAUSED = "not-paused"
    MOVED = "moved"
    """The record has changed since the caller read it."""
    ENDED = "ended"
    """The record has completed, failed or been cancelled."""
    ERASED = "erased"
    """The payload of the record was erased."""
    RETENTION_OVER = "retention-over"
    """Firestore may delete the document at any moment."""
    DAMAGED = "damaged"
    """An attribute that the call needs can't be read."""
    OTHER_PAYLOAD = "other-payload"
    """The record was made for another payload."""
    HELD = "held"
    """Another process has the named lock, or runs the function."""
    DUPLICATE = "duplicate"
    """The event was stored before."""
    FULL = "full"
    """The mailbox of the record takes no more events."""
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
    Refusal.NOT_NEEDED: TaskError,
    Refusal.UNDECIDED: TaskError,
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
    Refusal.DUPLICATE: TaskError,
    Refusal.FULL: MailboxFullError,
    Refusal.NOT_HELD: LeaseLostError,
}
"""The class of the error that is raised for each refusal. For some, the caller gets False or a stored result instead."""
