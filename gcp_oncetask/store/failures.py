"""
Failed calls to Firestore, and their errors in the library.
"""

from __future__ import annotations

from typing import Any, Final

import grpc

from gcp_oncetask.errors import ContentionError, StoreError
from gcp_oncetask.rules.statuses import FailureClass, Service, failure_class, of_contents

_HINTS: Final[dict[grpc.StatusCode, str]] = {
    grpc.StatusCode.PERMISSION_DENIED: " Grant this service account roles/datastore.user.",
    grpc.StatusCode.UNAUTHENTICATED: " Check the credentials of this process.",
    grpc.StatusCode.UNAVAILABLE: " Is it reachable from here?",
}
_CODES: Final[dict[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}


class WireError(Exception):
    """
    The error of a failed call.

    Attributes:
        failure: Class of the failure, which tells whether the call may have had an effect.
        code: The service's status.
        message: The service's sentence.
    """

    def __init__(self, failure: FailureClass, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.failure = failure
        self.code = code
        self.message = message

    def translated(self, what: str, *, unknown: bool) -> StoreError:
        """
        Return the library's error for the failure of *what*; ``unknown``: it may still be applied.
        """
        pending = " It may still be applied." if unknown else ""
        final = self.failure is FailureClass.REFUSED and not unknown
        hint = _HINTS.get(self.code, "")
        error = StoreError(
            f"Firestore: {what} failed with {self.code.name}: {self.message}.{hint}{pending}",
            unknown=unknown,
            final=final,
            contents=final and of_contents(self.code.name),
            code=self.code,
        )
        error.__cause__ = self
        return error


def classify(error: grpc.RpcError) -> WireError:
    """
    Return the failure for the error of a call on the channel.
    """
    call: Any = error  # every error of a call is also the call, but its type does not show that
    code: grpc.StatusCode = call.code()
    message = call.details() or code.name
    return WireError(failure_class(Service.FIRESTORE, code.name, message), code, message)


def status_error(status: Any) -> WireError:
    """
    Return the failure for the plain ``google.rpc.Status`` of one write of a call.
    """
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    message = status.message or code.name
    return WireError(failure_class(Service.FIRESTORE, code.name, message), code, message)


def out_of_time(failure: FailureClass, message: str) -> WireError:
    """
    Return the failure of a write for which no answer has come until its caller's deadline.
    """
    return WireError(failure, grpc.StatusCode.DEADLINE_EXCEEDED, message)


def gave_up(path: str, error: WireError, patience: float, *, unsure: bool) -> Exception:
    """
    Return the error about a write to the document at *path* that failed until *patience*, in seconds, ran out; *unsure*: the
    write may still be applied.
    """
    if unsure or error.failure is not FailureClass.CONTENTION:
        return error.translated(f"writing {path}", unknown=unsure)
    return ContentionError(
        f"{path}: gave up after {patience:g} s of contention ({error.message}); nothing was written.",
        document=path,
    )
