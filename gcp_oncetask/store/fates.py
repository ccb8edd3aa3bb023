"""
What a failed call to Firestore says about its effect. Every failure is classified here and nowhere else.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, Final

import grpc

from gcp_oncetask.errors import StoreError


class Fate(Enum):
    """
    What a failed call says about its effect.
    """

    MOVED = auto()
    """A precondition did not hold: not applied, unless an earlier try was."""
    CONTENTION = auto()
    """Not applied; try again after a pause."""
    AMBIGUOUS = auto()
    """May have been applied, may still be."""
    REFUSED = auto()
    """Not applied; trying again can't help."""


_FATES: Final[dict[grpc.StatusCode, Fate]] = {
    grpc.StatusCode.ALREADY_EXISTS: Fate.MOVED,
    grpc.StatusCode.NOT_FOUND: Fate.MOVED,
    grpc.StatusCode.FAILED_PRECONDITION: Fate.MOVED,
    grpc.StatusCode.ABORTED: Fate.CONTENTION,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Fate.CONTENTION,
    grpc.StatusCode.UNAVAILABLE: Fate.AMBIGUOUS,
    grpc.StatusCode.DEADLINE_EXCEEDED: Fate.AMBIGUOUS,
    grpc.StatusCode.INTERNAL: Fate.AMBIGUOUS,
    grpc.StatusCode.CANCELLED: Fate.AMBIGUOUS,
    grpc.StatusCode.UNKNOWN: Fate.AMBIGUOUS,
}
_HINTS: Final[dict[grpc.StatusCode, str]] = {
    grpc.StatusCode.PERMISSION_DENIED: " Grant this service account roles/datastore.user.",
    grpc.StatusCode.UNAUTHENTICATED: " Check the credentials of this process.",
    grpc.StatusCode.UNAVAILABLE: " Is it reachable from here?",
}


class WireError(Exception):
    """
    A call failed.

    Attributes:
        fate: What that says about its effect.
        code: The service's status.
        message: The service's sentence.
    """

    def __init__(self, fate: Fate, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.fate = fate
        self.code = code
        self.message = message

    def translated(self, what: str, *, unknown: bool) -> StoreError:
        """
        The library's error for *what* failed; ``unknown``: it may still be applied.
        """
        fate = " It may still be applied." if unknown else ""
        hint = _HINTS.get(self.code, "")
        error = StoreError(
            f"Firestore: {what} failed with {self.code.name}: {self.message}.{hint}{fate}",
            unknown=unknown,
            code=self.code,
        )
        error.__cause__ = self
        return error


def classify(error: grpc.RpcError) -> WireError:
    """
    The failure of a call on the channel.
    """
    call: Any = error  # every error of a call is the call as well, which its type does not say
    code: grpc.StatusCode = call.code()
    message = call.details() or code.name
    fate = _FATES.get(code, Fate.REFUSED)
    if code is grpc.StatusCode.NOT_FOUND and "database" in message and "not exist" in message:
        fate = Fate.REFUSED
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in message:
        fate = Fate.REFUSED
    return WireError(fate, code, message)
