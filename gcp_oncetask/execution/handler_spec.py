"""
Handler specs: a handler with its subject, its leases and its retries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol, TypedDict, get_args

from pydantic import BaseModel

from gcp_oncetask.checks import values, words
from gcp_oncetask.checks.fingerprints import fingerprint
from gcp_oncetask.checks.told import said_by, text_of
from gcp_oncetask.clock import Duration
from gcp_oncetask.config import Config, config_error
from gcp_oncetask.errors import UsageError
from gcp_oncetask.execution.attempt import Middleware
from gcp_oncetask.execution.running import RunningAttempt
from gcp_oncetask.rules.decisions import Policy
from gcp_oncetask.rules.record import Event, Lock
from gcp_oncetask.rules.retry_policy import RetryPolicy, to_data
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.snapshot import Changes, Snapshot

OnUnknown = Literal["takeover", "quarantine"]
AlertOn = Literal["takeover", "failure", "quarantine"]


class LeaseOptions(TypedDict, total=False):
    """
    The options of a handler's leases; see ``entity_handler`` and ``TaskManager.register_task_handler``.
    """

    lease_duration: Duration
    lease_timeout: Duration
    run_limit: Duration | None
    renew: bool
    on_unknown: OnUnknown
    alert_on: Sequence[AlertOn]


class Subject(Protocol):
    """
    Makes the subject of a handler from a document, and returns the fields of it that are saved.
    """

    def unread(self, runtime: Runtime, seen: Snapshot) -> str | None:
        """
        Return the reason why the document *seen*, written by another version of the program, can't be read here; None
        if it can be read, or if a model like this one has written it. With equal models this costs one comparison.
        """

    def written_at(self, seen: Snapshot) -> datetime | None:
        """
        Return the time at which the document *seen* was made; None if that is not known.
        """

    def load(self, runtime: Runtime, attempt: RunningAttempt) -> Any:
        """
        Return the subject of *attempt*.

        Raises:
            UsageError: The stored fields do not fit the model.
        """

    def changes(self, subject: Any, value: Any) -> Changes:
        """
        Return the fields to save with the settling of a run that ended in *value*, a result or a verdict.

        Raises:
            UsageError: *value* holds data that can't be stored.
        """


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """
    A handler with the options of its deliveries.

    Attributes:
        subject: Makes the argument of the handler.
        run: The function of user code: (subject, attempt, **route variables) -> result or verdict.
        policy: Its leases, attempts and alerts.
        retry: Retry policy; None: the queue retries.
        renew: Whether leases are renewed while it runs.
        keyed: Whether its tasks may need a resource key.
        cleanup: The handler of cancelled tasks; None: there is none.
        cleans: Whether it is such a handler of cancelled tasks.
        middleware: Functions that run around this handler, inside those of the executor.
    """

    subject: Subject
    run: Callable[..., Any]
    policy: Policy
    retry: RetryPolicy | None
    renew: bool
    keyed: bool = False
    cleanup: HandlerSpec | None = None
    middleware: tuple[Middleware, ...] = ()
    cleans: bool = False

    def to_claim(self, lock: Lock | None) -> HandlerSpec:
        """
        Return the handler for which a document with this record is claimed.
        """
        cancelled = lock is not None and lock.cancel_requested_at is not None
        return self.cleanup if cancelled and self.cleanup is not None else self

    def to_run(self, granted: Lock) -> HandlerSpec:
        """
        Return the handler for which the lease was *granted*. A cancellation after the claim counts for the next
        attempt.
        """
        return self.cleanup if granted.cancelling and self.cleanup is not None else self


def unfit(written: str | None, model: type[BaseModel], read: Callable[[], object]) -> str | None:
    """
    Return the reason why stored data does not fit *model*, as a sentence. None: the data fits, or its model was like
    this one, or its model is not known.

    Args:
        written: Fingerprint of the model by which the data was written; None: it is not known.
        model: The model by which the data is read here.
        read: Reads the data; raises if it does not fit.
    """
    if written is None or written == fingerprint(model):
        return None
    try:
        read()
    except Exception as error:  # noqa: BLE001 - validators are user code
        text = text_of(error) if isinstance(error, UsageError) else said_by(error)
        return f"another version of this program has written it, and this one can't read it: {text}"
    return None


def policy_of(
    config: Config,
    *,
    retry: RetryPolicy | None,
    max_attempts: int,
    lease_duration: Duration,
    lease_timeout: Duration,
    run_limit: Duration | None,
    on_unknown: OnUnknown,
    alert_on: Sequence[AlertOn],
    cleanup: bool = False,
) -> Policy:
    """
    Return the options of a handler as a policy of the rules; ``max_attempts`` counts only without a retry policy.

    Raises:
        ConfigError: An option is invalid, or the options contradict each other or the configuration.
    """
    given = {"lease_duration": lease_duration, "lease_timeout": lease_timeout, "run_limit": run_limit}
    if run_limit is None:
        given["run_limit"] = lease_timeout
    lease, timeout, limit = _seconds(given)
    policy = Policy(
        lease=lease,
        timeout=timeout,
        run_limit=limit,
        max_attempts=max_attempts if retry is None else retry.max_attempts,
        on_unknown=on_unknown,
        alert_on=tuple(alert_on),
        retry=to_data(retry),
        cleanup=cleanup,
    )
    _check(policy, config)
    return policy


def _seconds(given: Mapping[str, Any]) -> list[float]:
    found: list[float] = []
    wrong: list[str] = []
    for name, length in given.items():
        try:
            found.append(values.seconds(length, name))
        except UsageError as error:
            wrong.append(str(error))
    if wrong:
        raise config_error(wrong)
    return found


def _check(policy: Policy, config: Config) -> None:
    checks = [
        (
            0 < policy.lease <= policy.timeout,
            f"0 < lease_duration ({policy.lease:g} s) <= lease_timeout ({policy.timeout:g} s) must hold.",
        ),
        (
            policy.lease > 2 * config.margin,
            f"lease_duration ({policy.lease:g} s) must be more than twice ONCETASK_MARGIN_SECONDS ({config.margin:g} s).",
        ),
        (
            policy.lease <= policy.run_limit <= policy.timeout,
            (
                f"lease_duration ({policy.lease:g} s) <= run_limit ({policy.run_limit:g} s) <= lease_timeout "
                f"({policy.timeout:g} s) must hold."
            ),
        ),
        *_against_requests(policy, config),
    ]
    chosen = [_wrong_count(policy.max_attempts), words.wrong("on_unknown", policy.on_unknown, get_args(OnUnknown))]
    chosen += [words.wrong("an event of alert_on", event, Event) for event in policy.alert_on]
    found = [sentence for holds, sentence in checks if not holds]
    if found := [*found, *(sentence for sentence in chosen if sentence)]:
        raise config_error(found)


def _against_requests(policy: Policy, config: Config) -> list[tuple[bool, str]]:
    """
    Return the conditions between the policy and the platform's requests, each with its message. A takeover without
    evidence must only follow a request that the platform has ended. The log lines of its end must also have had time to
    arrive, even if the handler ran beyond its run limit.
    """
    end = config.request_timeout + config.margin
    margin = f"ONCETASK_MARGIN_SECONDS ({config.margin:g} s)"
    request = f"ONCETASK_REQUEST_TIMEOUT_SECONDS ({config.request_timeout:g} s) plus {margin}"
    heard = end + config.log_grace < policy.timeout or end < policy.run_limit
    return [
        (
            end < policy.timeout,
            f"lease_timeout ({policy.timeout:g} s) must exceed {request}, or a running request could be taken over.",
        ),
        (
            heard or end >= policy.timeout,
            (
                f"lease_timeout ({policy.timeout:g} s) must exceed {request} plus ONCETASK_LOG_GRACE_SECONDS "
                f"({config.log_grace:g} s), or run_limit ({policy.run_limit:g} s) the first two: else a request that has just "
                "finished could be taken over."
            ),
        ),
    ]


def _wrong_count(attempts: object) -> str | None:
    try:
        values.whole(attempts, "max_attempts")
    except UsageError as error:
        return str(error)
    return None
