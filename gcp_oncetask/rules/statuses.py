"""
The meaning of remote services' statuses for the effect of a call: one table for Firestore, Cloud Tasks and Cloud Logging.

Pure. Source: the services' error documentation, and answers that they were seen to give.
"""

from __future__ import annotations

from enum import Enum, IntEnum, auto
from typing import Final


class Service(IntEnum):
    """
    A remote service; its number is its column of the table.
    """

    FIRESTORE = 0
    TASKS = 1
    LOGGING = 2


class FailureClass(Enum):
    """
    The effect of a call that failed.
    """

    MOVED = auto()
    """A condition on existing data did not hold: the call was not applied, unless an earlier try was."""
    CONTENTION = auto()
    """Temporary: the call was not applied; a later try may succeed."""
    AMBIGUOUS = auto()
    """Temporary: the call may have been applied, or may still be applied."""
    REFUSED = auto()
    """Final: the call was not applied, and no later try of it will be."""


_M, _C, _A, _R = FailureClass.MOVED, FailureClass.CONTENTION, FailureClass.AMBIGUOUS, FailureClass.REFUSED
STATUSES: Final[dict[str, tuple[FailureClass, FailureClass, FailureClass]]] = {
    # status: Firestore, Cloud Tasks, Cloud Logging
    "CANCELLED": (_A, _A, _A),
    "UNKNOWN": (_A, _A, _A),
    "INVALID_ARGUMENT": (_R, _R, _R),
    "DEADLINE_EXCEEDED": (_A, _A, _A),
    "NOT_FOUND": (_M, _R, _R),  # the document; the queue; the project
    "ALREADY_EXISTS": (_M, _M, _R),
    "PERMISSION_DENIED": (_R, _R, _R),
    "UNAUTHENTICATED": (_R, _R, _R),
    "RESOURCE_EXHAUSTED": (_C, _C, _C),
    "FAILED_PRECONDITION": (_M, _R, _R),
    "ABORTED": (_C, _C, _C),
    "OUT_OF_RANGE": (_R, _R, _R),
    "UNIMPLEMENTED": (_R, _R, _R),
    "INTERNAL": (_A, _A, _A),
    "UNAVAILABLE": (_A, _A, _A),
    "DATA_LOSS": (_R, _R, _R),
}
"""A status that is not here is final. Google's client libraries and servers send no other one."""

_OF_CONTENTS: Final = frozenset({"INVALID_ARGUMENT", "OUT_OF_RANGE", "RESOURCE_EXHAUSTED"})


def of_contents(status: str) -> bool:
    """
    Tell whether the reason of a final *status* of Firestore is the data to be written; else it is the caller's rights or
    the database.
    """
    return status in _OF_CONTENTS


def failure_class(service: Service, status: str, message: str = "") -> FailureClass:
    """
    Return the effect of a call to *service* that failed with *status*, a gRPC name, and the service's *message*.
    """
    row = STATUSES.get(status)
    if row is None:
        return FailureClass.REFUSED
    if service is Service.FIRESTORE:
        if status == "NOT_FOUND" and "database" in message and "not exist" in message:
            return FailureClass.REFUSED
        if status == "RESOURCE_EXHAUSTED" and "larger than max" in message:
            return FailureClass.REFUSED
    return row[service]
