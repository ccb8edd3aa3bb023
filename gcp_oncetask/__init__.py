"""
Tasks that run once, on Firestore and Cloud Tasks.
"""

from gcp_oncetask.attempt import Attempt, Continue, Fail, Retry, Snooze
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
    DeliveryError,
    DispatchError,
    DuplicateKindError,
    IdentityError,
    LeaseLostError,
    LockBusyError,
    NoAttemptError,
    NotFinishedError,
    OncetaskError,
    RequestLogError,
    StoreError,
    TaskConflictError,
    TaskError,
    TaskFailedError,
    TaskNotFoundError,
    UnknownKindError,
    UsageError,
)
from gcp_oncetask.locker import Locker, Scheduled
from gcp_oncetask.models import LockedModel
from gcp_oncetask.record import Lock, Status
from gcp_oncetask.retry import ExponentialBackoff, FixedDelay, NoRetry, RetryPolicy
from gcp_oncetask.sweeper import Swept, sweep

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
    "NoAttemptError",
    "NoRetry",
    "NotFinishedError",
    "OncetaskError",
    "RequestLogError",
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
    "UnknownKindError",
    "UsageError",
    "sweep",
]
