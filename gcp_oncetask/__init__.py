"""
Tasks that run once, on Firestore and Cloud Tasks.

Names are imported when they are first used: the pytest plugin, which every test run loads, must cost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gcp_oncetask.config import Config
    from gcp_oncetask.decorators import locked, once
    from gcp_oncetask.entities.chains import Scheduled
    from gcp_oncetask.entities.locker import Locker
    from gcp_oncetask.entities.models import LockedModel
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
    from gcp_oncetask.execution.attempt import Attempt, Middleware
    from gcp_oncetask.execution.results import Continue, Fail, Retry, Snooze
    from gcp_oncetask.locks.lock import NamedLock
    from gcp_oncetask.observe.alerts import Alert, AlertChannel
    from gcp_oncetask.rules.record import Lock, Status
    from gcp_oncetask.rules.retry_policy import ExponentialBackoff, FixedDelay, NoRetry, RetryPolicy
    from gcp_oncetask.sweeper import Swept, sweep

    __version__: str

_HOMES = {
    "execution.attempt": ("Attempt", "Middleware"),
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
    "decorators": ("locked", "once"),
    "entities.locker": ("Locker",),
    "locks.lock": ("NamedLock",),
    "observe.alerts": ("Alert", "AlertChannel"),
    "entities.models": ("LockedModel",),
    "rules.record": ("Lock", "Status"),
    "rules.retry_policy": ("ExponentialBackoff", "FixedDelay", "NoRetry", "RetryPolicy"),
    "entities.chains": ("Scheduled",),
    "sweeper": ("Swept", "sweep"),
    "execution.results": ("Continue", "Fail", "Retry", "Snooze"),
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
        # The package is on a path, but was not installed.
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


__all__ = [
    "Alert",
    "AlertChannel",
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
    "Middleware",
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
