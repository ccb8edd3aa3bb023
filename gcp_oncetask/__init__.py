"""
Tasks that run once, on Firestore and Cloud Tasks.

Names are imported when they are first used: the pytest plugin, which every test run loads, must cost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gcp_oncetask.attempt import Attempt
    from gcp_oncetask.config import Config
    from gcp_oncetask.errors import (
        AlertError,
        AlreadyFinishedError,
        AlreadyScheduledError,
        AlreadySettledError,
        BackendError,
        ConfigError,
        ConflictError,
        ContentionError,
        DamagedError,
        DeliveryError,
        DispatchError,
        DuplicateKindError,
        IdentityError,
        LeaseLostError,
        LockBusyError,
        NoAttemptError,
        NotFinishedError,
        OncetaskError,
        RecurrenceError,
        RequestLogError,
        ResultNotStoredError,
        StoreError,
        TaskConflictError,
        TaskError,
        TaskFailedError,
        TaskNotFoundError,
        UnknownFeatureError,
        UnknownKindError,
        UsageError,
    )
    from gcp_oncetask.functions import locked, once
    from gcp_oncetask.locker import Locker
    from gcp_oncetask.locks.lock import NamedLock
    from gcp_oncetask.models import LockedModel
    from gcp_oncetask.record import Lock, Status
    from gcp_oncetask.retry import ExponentialBackoff, FixedDelay, NoRetry, RetryPolicy
    from gcp_oncetask.stored import Scheduled
    from gcp_oncetask.sweeper import Swept, sweep
    from gcp_oncetask.verdicts import Continue, Fail, Retry, Snooze

    __version__: str

_HOMES = {
    "attempt": ("Attempt",),
    "config": ("Config",),
    "errors": (
        "AlertError",
        "AlreadyFinishedError",
        "AlreadyScheduledError",
        "AlreadySettledError",
        "BackendError",
        "ConfigError",
        "ConflictError",
        "ContentionError",
        "DamagedError",
        "DeliveryError",
        "DispatchError",
        "DuplicateKindError",
        "IdentityError",
        "LeaseLostError",
        "LockBusyError",
        "NoAttemptError",
        "NotFinishedError",
        "ResultNotStoredError",
        "ResultNotStoredError",
        "OncetaskError",
        "RecurrenceError",
        "RequestLogError",
        "StoreError",
        "TaskConflictError",
        "TaskError",
        "TaskFailedError",
        "TaskNotFoundError",
        "UnknownFeatureError",
        "UnknownKindError",
        "UsageError",
    ),
    "functions": ("locked", "once"),
    "locker": ("Locker",),
    "locks.lock": ("NamedLock",),
    "models": ("LockedModel",),
    "record": ("Lock", "Status"),
    "retry": ("ExponentialBackoff", "FixedDelay", "NoRetry", "RetryPolicy"),
    "stored": ("Scheduled",),
    "sweeper": ("Swept", "sweep"),
    "verdicts": ("Continue", "Fail", "Retry", "Snooze"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _HOME:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gcp-oncetask")
    except PackageNotFoundError:
        # The source as it is, on a path, without having been installed.
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


__all__ = [
    "AlertError",
    "AlreadyFinishedError",
    "AlreadyScheduledError",
    "AlreadySettledError",
    "Attempt",
    "BackendError",
    "Config",
    "ConfigError",
    "ConflictError",
    "ContentionError",
    "Continue",
    "DamagedError",
    "DeliveryError",
    "DispatchError",
    "DuplicateKindError",
    "ExponentialBackoff",
    "Fail",
    "FixedDelay",
    "IdentityError",
    "LeaseLostError",
    "Lock",
    "LockBusyError",
    "LockedModel",
    "Locker",
    "NamedLock",
    "NoAttemptError",
    "NoRetry",
    "NotFinishedError",
    "OncetaskError",
    "RecurrenceError",
    "RequestLogError",
    "ResultNotStoredError",
    "Retry",
    "RetryPolicy",
    "Scheduled",
    "Snooze",
    "Status",
    "StoreError",
    "Swept",
    "TaskConflictError",
    "TaskError",
    "TaskFailedError",
    "TaskNotFoundError",
    "UnknownFeatureError",
    "UnknownKindError",
    "UsageError",
    "locked",
    "once",
    "sweep",
]
