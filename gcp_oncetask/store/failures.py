"""
A failed call to Firestore, and the error of the library that it becomes.
"""

from __future__ import annotations

from typing import Any, Final

import grpc

from gcp_oncetask.errors import ContentionError, StoreError
from gcp_oncetask.rules.statuses import FailureClass, Service, fate_of, of_contents

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

    def __init__(self, fate: FailureClass, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.fate = fate
        self.code = code
        self.message = message

    def translated(self, what: str, *, unknown: bool) -> StoreError:
        """
        The library's error for *what* failed; ``unknown``: it may still be applied.
        """
        fate = " It may still be applied." if unknown else ""
        final = self.fate is FailureClass.REFUSED and not unknown
        hint = _HINTS.get(self.code, "")
        error = StoreError(
            f"Firestore: {what} failed with {self.code.name}: {self.message}.{hint}{fate}",
            unknown=unknown,
            final=final,
            contents=final and of_contents(self.code.name),
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
    return WireError(fate_of(Service.FIRESTORE, code.name, message), code, message)


def gave_up(path: str, error: WireError, patience: float, *, unsure: bool) -> Exception:
    """
    The error about a write to the document at *path* that failed until *patience*, in seconds, ran out; *unsure*: it may still be
    applied.
    """
    if unsure or error.fate is not FailureClass.CONTENTION:
        return error.translated(f"writing {path}", unknown=unsure)
    return ContentionError(
        f"{path}: gave up after {patience:g} s of contention ({error.message}); nothing was written.",
        document=path,
    )
