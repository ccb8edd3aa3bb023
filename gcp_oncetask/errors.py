"""
Every exception of the library, grouped by what the catcher does.

::

    OncetaskError
    |-- UsageError              your program is wrong: fix it; never retried
    |   |-- ConfigError         (also ValueError)
    |   |-- RecurrenceError     (also ValueError)
    |   |-- UnknownKindError    (also LookupError)
    |   |-- DuplicateKindError
    |   |-- AlreadySettledError
    |   `-- NoAttemptError
    |-- TaskError               this task cannot do that: tell the user
    |   |-- TaskNotFoundError
    |   |-- TaskConflictError
    |   |-- AlreadyScheduledError
    |   |-- AlreadyFinishedError
    |   |-- NotFinishedError
    |   |-- ResultNotStoredError
    |   |-- UnknownFeatureError
    |   `-- TaskFailedError
    |-- LeaseLostError          somebody else holds it now: stop, write nothing
    |-- LockBusyError           somebody holds it: try later
    |-- ConflictError           a field changed under the handler
    |-- ContentionError         too many writers: try again
    |-- DeliveryError           the request is not one of ours
    `-- BackendError            a service said no: try later; __cause__ is its own error
        |-- StoreError
        |   `-- DamagedError     what is stored is not our record: a person repairs it
        |-- DispatchError
        |-- RequestLogError
        |-- IdentityError
        `-- AlertError

Each carries its facts as keyword attributes; the message is one sentence that a person on call can act on.
"""

from __future__ import annotations

from typing import Any


class OncetaskError(Exception):
    """
    Base of all errors of this library.

    Attributes:
        facts: What the message speaks of, by name (``document``, ``sequence``, ``holder``, ``until``, ...); each is an
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
    A recurrence can't be read, contradicts itself or never fires; ``field`` names what to change.
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
    The attempt's entity was scheduled or completed before in this attempt.
    """


class NoAttemptError(UsageError):
    """
    Called outside a running attempt.
    """


class TaskError(OncetaskError):
    """
    This task cannot do that.
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
    The chain is running, or has moved on since the entity was loaded; nothing was written.
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
    The run is completed and is never repeated, but what it returned could not be stored; ``reason`` tells why.
    """


class UnknownFeatureError(TaskError):
    """
    The record needs features that this release does not know (``needs``): only a newer release may touch it.
    """


class LeaseLostError(OncetaskError):
    """
    The lease is no longer this attempt's: stop, nothing more can be written.
    """


class LockBusyError(OncetaskError):
    """
    Somebody else holds the lease.
    """


class ConflictError(OncetaskError):
    """
    A field that the handler changed was changed by somebody else meanwhile.
    """


class ContentionError(OncetaskError):
    """
    Too many writers at once; trying again later is safe.
    """


class DeliveryError(OncetaskError):
    """
    The request is not a delivery of this library, or is damaged.
    """


class BackendError(OncetaskError):
    """
    A service did not do what was asked; its own error is the cause.

    Attributes:
        final: No later try of the same call can succeed: what was asked for is refused, not the moment.
    """

    @property
    def final(self) -> bool:
        """
        See above.
        """
        return bool(self.facts.get("final"))


class StoreError(BackendError):
    """
    Firestore was unreachable or refused; ``unknown`` tells whether the write may still be applied.

    Attributes:
        contents: It is final, and about what was to be written: not about who asks, or for which database.
        seen: The document on which the refused write was decided; None: not known.
    """

    seen: Any = None


class DamagedError(StoreError):
    """
    The lock of a document is damaged, say by a change by hand: until a person repairs it, nothing can be done with it.

    Attributes:
        document: Path of the document.
        field: The attribute in question, as it is stored; ``lock``: the whole.
        trouble: What is wrong with it, as the end of a sentence.
        env: Environment of the document; None: it can't be read.
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
    The certificates could not be fetched, so a caller's identity can't be told.
    """


class AlertError(BackendError):
    """
    An alert could not be sent.
    """
