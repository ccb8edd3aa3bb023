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
    from gcp_oncetask.entities.sending import Sent
    from gcp_oncetask.errors import (
        AlertError,
        AlreadyFinishedError,
        AlreadyScheduledError,
        AlreadySettledError,
        BackendError,
        ChildFailedError,
        ConfigError,
        ConflictError,
        ContentionError,
        DamagedError,
        DeliveryError,
        DispatchError,
        DuplicateKindError,
        EventTimeoutError,
        IdentityError,
        JournalFullError,
        JournalMismatchError,
        LeaseLostError,
        LockBusyError,
        MailboxFullError,
        NoAttemptError,
        NotFinishedError,
        OncetaskError,
        RecurrenceError,
        RequestLogError,
        ResultNotStoredError,
        RunFailedError,
        StoreError,
        TaskConflictError,
        TaskError,
        TaskFailedError,
        TaskNotFoundError,
        UnknownFeatureError,
        UnknownKindError,
        UsageError,
        WordError,
    )
    from gcp_oncetask.execution.attempt import Attempt, Middleware
    from gcp_oncetask.execution.mapping import ItemFailure
    from gcp_oncetask.execution.results import (
        NOT_DONE,
        CancelledByRequest,
        Continue,
        Fail,
        NotDone,
        Retry,
        Snooze,
        Suspended,
    )
    from gcp_oncetask.locks.lock import NamedLock
    from gcp_oncetask.observe.alerts import Alert, AlertChannel
    from gcp_oncetask.rules.record import Lock, Status
    from gcp_oncetask.rules.retry_policy import ExponentialBackoff, FixedDelay, NoRetry, RetryPolicy
    from gcp_oncetask.sweeper import Swept, sweep

    __version__: str

_HOMES = {
    "execution.attempt": ("Attempt", "Middleware"),
    "execution.mapping": ("ItemFailure",),
    "config": ("Config",),
    "errors": (
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
    ),
    "decorators": ("locked", "once"),
    "entities.locker": ("Locker",),
    "locks.lock": ("NamedLock",),
    "observe.alerts": ("Alert", "AlertChannel"),
    "entities.models": ("LockedModel",),
    "rules.record": ("Lock", "Status"),
    "rules.retry_policy": ("ExponentialBackoff", "FixedDelay", "NoRetry", "RetryPolicy"),
    "entities.chains": ("Scheduled",),
    "entities.sending": ("Sent",),
    "sweeper": ("Swept", "sweep"),
    "execution.results": (
        "NOT_DONE",
        "CancelledByRequest",
        "Continue",
        "Fail",
        "NotDone",
        "Retry",
        "Snooze",
        "Suspended",
    ),
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
    "NOT_DONE",
    "Alert",
    "AlertChannel",
    "AlertError",
    "AlreadyFinishedError",
    "AlreadyScheduledError",
    "AlreadySettledError",
    "Attempt",
    "BackendError",
    "CancelledByRequest",
    "ChildFailedError",
    "Config",
    "ConfigError",
    "ConflictError",
    "ContentionError",
    "Continue",
    "DamagedError",
    "DeliveryError",
    "DispatchError",
    "DuplicateKindError",
    "EventTimeoutError",
    "ExponentialBackoff",
    "Fail",
    "FixedDelay",
    "IdentityError",
    "ItemFailure",
    "JournalFullError",
    "JournalMismatchError",
    "LeaseLostError",
    "Lock",
    "LockBusyError",
    "LockedModel",
    "Locker",
    "MailboxFullError",
    "Middleware",
    "NamedLock",
    "NoAttemptError",
    "NoRetry",
    "NotDone",
    "NotFinishedError",
    "OncetaskError",
    "RecurrenceError",
    "RequestLogError",
    "ResultNotStoredError",
    "Retry",
    "RetryPolicy",
    "RunFailedError",
    "Scheduled",
    "Sent",
    "Snooze",
    "Status",
    "StoreError",
    "Suspended",
    "Swept",
    "TaskConflictError",
    "TaskError",
    "TaskFailedError",
    "TaskNotFoundError",
    "UnknownFeatureError",
    "UnknownKindError",
    "UsageError",
    "WordError",
    "locked",
    "once",
    "sweep",
]
