"""
What a delivery runs: a handler, what it is given, and how it wants its leases and retries.
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
    How a handler of any sort wants its leases; see ``entity_handler`` and ``TaskManager.register_task_handler``.
    """

    lease_duration: Duration
    lease_timeout: Duration
    run_limit: Duration | None
    renew: bool
    on_unknown: OnUnknown
    alert_on: Sequence[AlertOn]


class Subject(Protocol):
    """
    What a handler is given: how it is made of a document, and what of it is saved.
    """

    def unread(self, runtime: Runtime, seen: Snapshot) -> str | None:
        """
        Why the document *seen* can't be read here, if another version of the program has written it; None: it can, or it was
        written by a model like this one. It costs a comparison where the models are the same.
        """

    def written_at(self, seen: Snapshot) -> datetime | None:
        """
        When the document *seen* was made; None: that is not known.
        """

    def load(self, runtime: Runtime, attempt: RunningAttempt) -> Any:
        """
        The subject of *attempt*.

        Raises:
            UsageError: What is stored does not fit.
        """

    def changes(self, subject: Any, value: Any) -> Changes:
        """
        The fields to save with the settling, of a run that ended in *value*: a result or a verdict.

        Raises:
            UsageError: The value asks for what can't be stored.
        """


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """
    A handler with what its deliveries need.

    Attributes:
        subject: What it is given.
        run: User code: (subject, attempt, **route variables) -> result or verdict.
        policy: How it wants its leases.
        retry: Retry policy; None: the queue retries.
        renew: Whether leases are renewed while it runs.
        keyed: Whether its documents may need a resource key.
        cleanup: The handler of cancelled tasks, if there is one.
        middleware: Runs around this handler, inside that of the executor.
    """

    subject: Subject
    run: Callable[..., Any]
    policy: Policy
    retry: RetryPolicy | None
    renew: bool
    keyed: bool = False
    cleanup: HandlerSpec | None = None
    middleware: tuple[Middleware, ...] = ()

    def to_claim(self, lock: Lock | None) -> HandlerSpec:
        """
        The handler for which a document with this record is claimed.
        """
        cancelled = lock is not None and lock.cancel_requested_at is not None
        return self.cleanup if cancelled and self.cleanup is not None else self

    def to_run(self, granted: Lock) -> HandlerSpec:
        """
        The handler for which the lease was *granted*: a cancellation that came after the claim is for the next attempt.
        """
        return self.cleanup if granted.cancelling and self.cleanup is not None else self


def unfit(written: str | None, model: type[BaseModel], read: Callable[[], object]) -> str | None:
    """
    Why what was *written* by a model of that fingerprint does not fit *model*, as a sentence; None: it does, or that model was
    like this one, or is not known.

    Args:
        written: The fingerprint.
        model: The model by which it is read here.
        read: Reads it.
    """
    if written is None or written == fingerprint(model):
        return None
    try:
        read()
    except Exception as error:  # noqa: BLE001 - validators are code of the user's
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
    A handler's wishes as the rules know them; ``max_attempts`` counts only without a retry policy.

    Raises:
        ConfigError: One of them can't be, or they contradict each other or the configuration.
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
    A takeover without evidence must only follow a request that the platform has ended; and what that said at its end must have
    had its time, also where the handler went on beyond its run limit.
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
