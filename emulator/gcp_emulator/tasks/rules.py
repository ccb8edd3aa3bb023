"""
Queue settings and their rules: defaults, limits, retry intervals, and the end of retries. Pure.

Documented truncation of backoffs to whole seconds is not applied, since the documented default minimum is 0.1 s.
"""

from __future__ import annotations

import math
from typing import Any

from gcp_emulator.tasks.messages import DAY, RUNNING, SECOND, Micros, Queue, QueueMessage, TaskMessage, duration

MAX_RATE = 500
MAX_CONCURRENT = 5000
MAX_ATTEMPTS = 100
RETENTION: Micros = 31 * DAY
HORIZON: Micros = 30 * DAY
MIN_DEADLINE: Micros = 15 * SECOND
MAX_DEADLINE: Micros = 30 * 60 * SECOND
MAX_APP_ENGINE_DEADLINE: Micros = (24 * 3600 + 15) * SECOND
DEFAULT_DEADLINE: Micros = 10 * 60 * SECOND
MAX_TASK_BYTES = 1_048_569
MAX_URL = 2083
MAX_HEADER_BYTES = 80 * 1024

# With min_backoff 0 a failing task would otherwise be due again in the same instant of a virtual clock, for ever.
LEAST_INTERVAL: Micros = 1000

_DURATIONS = ("max_retry_duration", "min_backoff", "max_backoff")


def default_queue(name: str) -> QueueMessage:
    """
    A queue as it is when created with nothing but a name.
    """
    queue = Queue(name=name, state=RUNNING)
    queue.rate_limits.max_dispatches_per_second = MAX_RATE
    queue.rate_limits.max_concurrent_dispatches = 1000
    queue.retry_config.max_attempts = MAX_ATTEMPTS
    queue.retry_config.max_doublings = 16
    queue.retry_config.max_retry_duration.CopyFrom(duration(0))
    queue.retry_config.min_backoff.CopyFrom(duration(SECOND // 10))
    queue.retry_config.max_backoff.CopyFrom(duration(3600 * SECOND))
    return filled(queue)


def overlay(queue: QueueMessage, given: QueueMessage) -> QueueMessage:
    """
    *queue* with everything that *given* specifies; zero numbers count as unspecified.

    Fields that only the service sets (name, state, purge time, burst size) stay.
    """
    changed = Queue()
    changed.CopyFrom(given)
    for field in ("name", "state", "purge_time"):
        changed.ClearField(field)
    result = Queue()
    result.CopyFrom(queue)
    # Merging would add the seconds of one duration to the fraction of the other.
    for field in _DURATIONS:
        if changed.HasField("retry_config") and changed.retry_config.HasField(field):
            getattr(result.retry_config, field).CopyFrom(getattr(changed.retry_config, field))
    result.MergeFrom(changed)
    return filled(result)


def filled(queue: QueueMessage) -> QueueMessage:
    """
    *queue* with the defaults in place of zero limits, and its burst size.
    """
    rate, retry = queue.rate_limits, queue.retry_config
    rate.max_dispatches_per_second = rate.max_dispatches_per_second or MAX_RATE
    rate.max_concurrent_dispatches = rate.max_concurrent_dispatches or 1000
    retry.max_attempts = retry.max_attempts or MAX_ATTEMPTS
    rate.max_burst_size = max(10, math.ceil(rate.max_dispatches_per_second / 5))
    return queue


def retry_config(queue: QueueMessage, task: TaskMessage) -> Any:
    """
    The settings for retries of *task*: its own where it has some, the queue's for the rest.
    """
    if "retry_config" not in task.DESCRIPTOR.fields_by_name or not task.HasField("retry_config"):
        return queue.retry_config
    config = type(queue.retry_config)()
    config.CopyFrom(queue.retry_config)
    for field in _DURATIONS:
        if task.retry_config.HasField(field):
            getattr(config, field).Clear()
    config.MergeFrom(task.retry_config)
    return config


def complaint(queue: QueueMessage) -> str | None:
    """
    The service's sentence about settings out of range, or None.
    """
    rate = queue.rate_limits
    table = (
        (rate.max_dispatches_per_second < 0, "RateLimits.maxDispatchesPerSecond cannot be negative."),
        (
            rate.max_dispatches_per_second > MAX_RATE,
            f"RateLimits.maxDispatchesPerSecond must be less than or equal to {MAX_RATE}.",
        ),
        (rate.max_concurrent_dispatches < 0, "RateLimits.maxConcurrentDispatches cannot be negative."),
        (
            rate.max_concurrent_dispatches > MAX_CONCURRENT,
            f"RateLimits.maxConcurrentDispatches must be less than or equal to {MAX_CONCURRENT}.",
        ),
        (
            not 0 <= queue.stackdriver_logging_config.sampling_ratio <= 1,
            "StackdriverLoggingConfig.samplingRatio must be between 0.0 and 1.0.",
        ),
    )
    wrong = next((sentence for wrong, sentence in table if wrong), None)
    return wrong or retry_complaint(queue.retry_config, whole=True) or _target_complaint(queue)


def retry_complaint(retry: Any, *, whole: bool = False) -> str | None:
    """
    The service's sentence about settings for retries out of range, or None. Unless they are *whole*, a backoff that is not
    set has no bound.
    """
    least, most = retry.min_backoff.ToMicroseconds(), retry.max_backoff.ToMicroseconds()
    both = whole or (retry.HasField("min_backoff") and retry.HasField("max_backoff"))
    table = (
        (retry.max_attempts < -1, "RetryConfig.maxAttempts must be greater or equal to -1."),
        (retry.max_doublings < 0, "RetryConfig.maxDoublings cannot be negative."),
        (
            retry.max_retry_duration.ToMicroseconds() < 0,
            "RetryConfig.maxRetryDuration cannot be negative.",
        ),
        (least < 0, "RetryConfig.minBackoff cannot be negative."),
        (both and least > most, "RetryConfig.minBackoff must be less than or equal to RetryConfig.maxBackoff."),
    )
    return next((sentence for wrong, sentence in table if wrong), None)


def _target_complaint(queue: QueueMessage) -> str | None:
    if "http_target" not in queue.DESCRIPTOR.fields_by_name or not queue.HasField("http_target"):
        return None
    target = queue.http_target
    override = target.uri_override
    table = (
        (override.HasField("host") and not override.host, "UriOverride.host cannot be empty."),
        (override.HasField("port") and not 0 <= override.port < 65536, "UriOverride.port must be between 0 and 65535."),
        (any(not one.header.key for one in target.header_overrides), "HttpTarget.headerOverrides need a key each."),
        (
            target.HasField("oidc_token")
            and not (target.oidc_token.service_account_email and target.oidc_token.audience),
            "HttpTarget.oidcToken needs serviceAccountEmail and audience.",
        ),
        (
            target.HasField("oauth_token")
            and not (target.oauth_token.service_account_email and target.oauth_token.scope),
            "HttpTarget.oauthToken needs serviceAccountEmail and scope.",
        ),
    )
    return next((sentence for wrong, sentence in table if wrong), None)


def names_a_host(queue: QueueMessage) -> bool:
    """
    Tell whether *queue* gives an address to tasks that have none.
    """
    known = "http_target" in queue.DESCRIPTOR.fields_by_name
    return known and queue.HasField("http_target") and bool(queue.http_target.uri_override.host)


def retry_interval(config: Any, retry: int) -> Micros:
    """
    Time between the failure of an attempt and its *retry*, 1-based: doubling, then linear, then capped.

    Source: documentation of ``RetryConfig.max_doublings``; its example 10, 20, 40, 80, 160, 240, 300, 300 s comes out.
    """
    least: Micros = config.min_backoff.ToMicroseconds()
    most: Micros = config.max_backoff.ToMicroseconds()
    # A doubling past 2**60 is beyond every cap, and a power this size stays cheap.
    doublings = min(config.max_doublings, 60)
    doubled = min(retry - 1, doublings)
    interval: Micros = least * 2**doubled * (retry - doubled)
    return max(min(most, interval), LEAST_INTERVAL)


def exhausted(config: Any, attempts: int, age: Micros) -> bool:
    """
    Tell whether a task is given up that failed *attempts* times, the first time *age* ago.

    Both limits have to be passed; one that is off counts as passed unless the other one is off too.
    """
    longest: Micros = config.max_retry_duration.ToMicroseconds()
    limit: int = config.max_attempts
    if limit == -1 and longest == 0:
        return False
    return (limit == -1 or attempts >= limit) and (longest == 0 or age >= longest)
