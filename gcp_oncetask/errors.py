"""
All exceptions of the library, grouped by the action of the catcher.

::

    OncetaskError
    |-- UsageError              your program is wrong: fix it; never retried
    |   |-- ConfigError         (also ValueError)
    |   |-- RecurrenceError     (also ValueError)
    |   |-- UnknownKindError    (also LookupError)
    |   |-- DuplicateKindError
    |   |-- AlreadySettledError
    |   |-- JournalMismatchError
    |   |-- JournalFullError
    |   `-- NoAttemptError
    |-- TaskError               this task cannot do that: tell the user
    |   |-- TaskNotFoundError
    |   |-- TaskConflictError
    |   |-- AlreadyScheduledError
    |   |-- AlreadyFinishedError
    |   |-- NotFinishedError
    |   |-- ResultNotStoredError
    |   |-- UnknownFeatureError
    |   |-- MailboxFullError
    |   `-- TaskFailedError
    |-- WordError               a word of a durable handler has ended badly: compensate
    |   |-- RunFailedError
    |   |-- EventTimeoutError
    |   `-- ChildFailedError
    |-- LeaseLostError          the lease is lost: stop, write nothing
    |-- LockBusyError           another holder has the lock: try later
    |-- ConflictError           a field changed under the handler
    |-- ContentionError         too many writers: try again
    |-- DeliveryError           the request is not one of ours
    `-- BackendError            a service said no: try later; __cause__ is its own error
        |-- StoreError
        |   `-- DamagedError     the stored lock is damaged: a person repairs it
        |-- DispatchError
        |-- RequestLogError
        |-- IdentityError
        `-- AlertError

Each carries its facts as keyword attributes; the message is one sentence that a person on call can act on.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AlertError",
    "AlreadyFinishedError",
    "AlreadyScheduledError",
    "AlreadySettledError",
    "BackendError",
    "ChildFailedError",
    "ConfigError",
    "ConflictError",
    "ContentionError",
    "DamagedError",
    "DeliveryError",
    "DispatchError",
    "DuplicateKindError",
    "EventTimeoutError",
    "IdentityError",
    "JournalFullError",
    "JournalMismatchError",
    "LeaseLostError",
    "LockBusyError",
    "MailboxFullError",
    "NoAttemptError",
    "NotFinishedError",
    "OncetaskError",
    "RecurrenceError",
    "RequestLogError",
    "ResultNotStoredError",
    "RunFailedError",
    "StoreError",
    "TaskConflictError",
    "TaskError",
    "TaskFailedError",
    "TaskNotFoundError",
    "UnknownFeatureError",
    "UnknownKindError",
    "UsageError",
    "WordError",
]


class OncetaskError(Exception):
    """
    Base of all errors of this library.

    Attributes:
        facts: Details of the message, by name (``document``, ``sequence``, ``holder``, ``until``, ...); each is an
            attribute too.
    """

    def __init__(self, message: str = "", /, **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["facts"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self), self.facts)


def _rebuild(kind: type[OncetaskError], message: str, facts: dict[str, Any]) -> OncetaskError:
    return kind(message, **facts)


class UsageError(OncetaskError):
    """
    The calling program is wrong; retrying can't help.
    """


class ConfigError(UsageError, ValueError):
    """
    The configuration is incomplete or contradicts itself.
    """


class RecurrenceError(UsageError, ValueError):
    """
    A recurrence can't be read, contradicts itself or never fires; ``field`` names the argument to change.
    """


class UnknownKindError(UsageError, LookupError):
    """
    No model or handler is known for this kind.
    """


class DuplicateKindError(UsageError):
    """
    A kind was registered twice.
    """


class AlreadySettledError(UsageError):
    """
    The attempt's entity was already scheduled or completed in this attempt.
    """


class NoAttemptError(UsageError):
    """
    The call needs a running attempt, and there is none.
    """


class JournalMismatchError(UsageError):
    """
    A name in the journal has an answer that this word can't have: the code was changed under a task under way. The task is
    set aside until a person decides.

    Attributes:
        name: The name.
    """


class JournalFullError(UsageError):
    """
    The journal has no room for another entry.
    """


class TaskError(OncetaskError):
    """
    The operation is not possible for this task.
    """


class TaskNotFoundError(TaskError):
    """
    There is no such document, or it has no lock.
    """


class TaskConflictError(TaskError):
    """
    The same id exists with another kind, payload or environment.
    """


class AlreadyScheduledError(TaskError):
    """
    The chain is running, or has changed since the entity was loaded; nothing was written.
    """


class AlreadyFinishedError(TaskError):
    """
    The chain has ended; nothing was written.
    """


class NotFinishedError(TaskError):
    """
    The result was asked for too early.
    """


class TaskFailedError(TaskError):
    """
    The result was asked for, but the task failed or was cancelled.
    """


class ResultNotStoredError(TaskError):
    """
    The run is completed and is never repeated, but its result could not be stored; ``reason`` tells why.
    """


class UnknownFeatureError(TaskError):
    """
    The record needs features that this release does not know (``needs``): only a newer release may touch it.
    """


class MailboxFullError(TaskError):
    """
    The mailbox of the task takes no more events, because no wait has taken the earlier ones.
    """


class WordError(OncetaskError):
    """
    A word of a durable handler has ended badly. It ends so in every later attempt, too, so an ``except`` may compensate.

    Attributes:
        name: The name of the word.
    """


class RunFailedError(WordError):
    """
    The retries of a run are used up.

    Attributes:
        kind: Class of the last error, as a text.
        tries: The errors of all tries, oldest first: maps with ``at`` and ``error``.
    """


class EventTimeoutError(WordError):
    """
    No event has come before the time-out.
    """


class ChildFailedError(WordError):
    """
    A child has failed, was cancelled or was deleted.

    Attributes:
        child: Path of the child.
        status: Its status.
    """


class LeaseLostError(OncetaskError):
    """
    The attempt has lost its lease: stop, nothing more can be written.
    """


class LockBusyError(OncetaskError):
    """
    Another holder has the lease.
    """


class ConflictError(OncetaskError):
    """
    A field that the handler changed was changed by another writer meanwhile.
    """


class ContentionError(OncetaskError):
    """
    There are too many writers at once; trying again later is safe.
    """


class DeliveryError(OncetaskError):
    """
    The request is not a delivery of this library, or is damaged.
    """


class BackendError(OncetaskError):
    """
    A service did not carry out a request; its own error is the cause.

    Attributes:
        final: True: no later try of the same call can succeed, because the service refuses the request itself.
    """

    @property
    def final(self) -> bool:
        """
        True if no later try of the same call can succeed.
        """
        return bool(self.facts.get("final"))


class StoreError(BackendError):
    """
    Firestore was unreachable or refused; ``unknown`` tells whether the write may still be applied.

    Attributes:
        contents: True: the error is final, and its reason is the data to be written, not the caller's rights or the
            database.
        seen: The document from which the refused write was decided; None: not known.
    """

    seen: Any = None

    @property
    def of_contents(self) -> bool:
        """
        True if the error is final because of the data to be written, so that the same write with less data may succeed.
        """
        return bool(self.facts.get("contents"))


class DamagedError(StoreError):
    """
    The lock of a document is damaged, for example by a manual change. A person must repair it before anything can be done
    with it.

    Attributes:
        document: Path of the document.
        field: Stored name of the damaged attribute; ``lock``: the whole lock.
        trouble: The damage, as the end of a sentence.
        env: Environment of the document; None: unreadable.
    """


class DispatchError(BackendError):
    """
    Cloud Tasks was unreachable or refused.
    """


class RequestLogError(BackendError):
    """
    Cloud Logging was unreachable, refused, or its budget is used up.
    """


class IdentityError(BackendError):
    """
    The certificates could not be fetched, so a caller can't be identified.
    """


class AlertError(BackendError):
    """
    An alert could not be sent.
    """
