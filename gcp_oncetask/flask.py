"""
HTTP in, HTTP out: the only place where statuses appear.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import RequestEntityTooLarge

from gcp_oncetask import courier, models, requirements, telemetry
from gcp_oncetask.attempt import Attempt
from gcp_oncetask.callables import plain
from gcp_oncetask.clock import Duration
from gcp_oncetask.delivery import MAX_BODY, Outcome, TaskHeaders, claimed_in
from gcp_oncetask.engine import LOGGER
from gcp_oncetask.errors import ConfigError, IdentityError, StoreError, UsageError
from gcp_oncetask.execution import execute, parse
from gcp_oncetask.identity import Denied
from gcp_oncetask.job import AlertOn, Job, OnUnknown, policy_of
from gcp_oncetask.locker import Locker
from gcp_oncetask.logs import context_at, trace_of
from gcp_oncetask.models import LockedModel
from gcp_oncetask.retry import RetryPolicy
from gcp_oncetask.settling import Ended, delivered
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.subject import Entities
from gcp_oncetask.sweeper import sweep
from gcp_oncetask.tasks.manager import TaskManager

M = TypeVar("M", bound=LockedModel)
P = ParamSpec("P")

OUTCOME_STATUS: Final[dict[Outcome, int]] = {
    Outcome.COMPLETED: 200,
    Outcome.CONTINUED: 200,
    Outcome.SNOOZED: 200,
    Outcome.CANCELLED: 200,
    Outcome.SETTLED: 200,
    Outcome.RETRYING: 200,
    Outcome.UNDISPATCHED: 500,
    Outcome.FAILED_ATTEMPT: 500,
    Outcome.FAILED: 200,
    Outcome.RECOVERED: 200,
    Outcome.QUARANTINED: 200,
    Outcome.DUPLICATE: 200,
    Outcome.GONE: 200,
    Outcome.NEWER: 200,
    Outcome.FOREIGN: 200,
    Outcome.BUSY: 409,
    Outcome.UNKNOWN: 409,
    Outcome.EARLY: 409,
    Outcome.POSTPONED: 200,
    Outcome.PARKED: 200,
    Outcome.SHORT_LEASE: 409,
    Outcome.LOST: 409,
    Outcome.LOST_TO_LATER: 200,
    Outcome.UNHANDLED: 409,
    Outcome.DAMAGED: 409,
    Outcome.SET_ASIDE: 200,
    Outcome.REJECTED: 200,
    Outcome.UNAUTHORISED: 401,
    Outcome.FORBIDDEN: 403,
    Outcome.UNAVAILABLE: 500,
    Outcome.REFUSED: 409,
}
"""HTTP status of each outcome. Never 429 or 503: those slow the whole queue for one task's own business."""

_PATIENT: Final = frozenset({Outcome.BUSY, Outcome.UNKNOWN})
_LAST_REFUSAL: Final = 5
"""From this retry on, a busy or unknown lease is answered 200: its due time is behind it."""
_ERRORS: Final = frozenset(
    {
        Outcome.GONE,
        Outcome.NEWER,
        Outcome.FOREIGN,
        Outcome.REJECTED,
        Outcome.DAMAGED,
        Outcome.SET_ASIDE,
        Outcome.UNAVAILABLE,
        Outcome.REFUSED,
    }
)
_TOLD: Final = {
    Outcome.UNAUTHORISED: "The identity token is missing or not accepted; the log of this service says why (settings: "
    "ONCETASK_AUDIENCE, else ONCETASK_BASE_URL; ONCETASK_VERIFY).",
    Outcome.FORBIDDEN: "The account of the identity token may not call; the log of this service names it (settings: "
    "ONCETASK_CALLERS, else ONCETASK_SERVICE_ACCOUNT).",
    Outcome.UNAVAILABLE: "Who calls can't be told now; the log of this service says why.",
}
"""What somebody is told whose identity is not proved: nothing about the request, or about this service."""


def locked_handler(
    locker: Locker,
    model: type[M],
    *,
    retry: RetryPolicy | None = None,
    max_attempts: int = 11,
    lease_duration: Duration = 60.0,
    lease_timeout: Duration = 630.0,
    run_limit: Duration | None = None,
    renew: bool = True,
    on_unknown: OnUnknown = "takeover",
    alert_on: Sequence[AlertOn] = ("takeover", "failure", "quarantine"),
) -> Callable[[Callable[Concatenate[M, Attempt, P], Any]], Callable[P, ResponseReturnValue]]:
    """
    Make a Flask view of ``fn(entity, attempt, **route_variables)`` that runs once per sequence.

    Returning settles: None, JSON data or a pydantic model completes the chain with that result, a ``Retry``, ``Snooze``,
    ``Fail`` or ``Continue`` (raised or returned) does what it says. Raising is a failed attempt.

    Args:
        locker: The locker.
        model: Model of the entity.
        retry: When a failed attempt is tried again, and how often; None: the queue retries, ``max_attempts`` in all.
        max_attempts: Executions per sequence, the first included (the ancestor's 10 retries are 11 executions).
        lease_duration: Within this the holder is trusted without question; seconds or a timedelta.
        lease_timeout: After this it is taken over whatever the logs say; no earlier than the log grace after the run limit
            and the last lease's end.
        run_limit: Renewals end here; None: the lease timeout.
        renew: Whether the lease is renewed while the handler runs.
        on_unknown: What happens at the timeout when nothing is known: takeover, or quarantine until a person resolves it.
        alert_on: Events a person is alerted of: takeover, failure, quarantine.

    Raises:
        ConfigError: The durations contradict each other; or this is a web server, and settings are missing. The message names
            all of them.
        UsageError: The function is a coroutine, or the model has no collection.
    """
    _check_settings(locker)
    policy = policy_of(
        locker.config,
        retry=retry,
        max_attempts=max_attempts,
        lease_duration=lease_duration,
        lease_timeout=lease_timeout,
        run_limit=run_limit,
        on_unknown=on_unknown,
        alert_on=alert_on,
    )
    if not model.__collection__:
        raise UsageError(
            f'{model.__name__} has no collection; declare it: class {model.__name__}(LockedModel, collection="...").'
        )

    def decorate(fn: Callable[Concatenate[M, Attempt, P], Any]) -> Callable[P, ResponseReturnValue]:
        job = Job(Entities(model), plain(fn, "handlers are plain functions for now"), policy, retry, renew)

        @functools.wraps(fn)
        def view(*_: P.args, **arguments: P.kwargs) -> ResponseReturnValue:
            environ = request.environ
            headers = TaskHeaders.of(environ)
            denied = _denied(locker, environ, headers)
            if denied is not None:
                return denied
            found = parse(locker.engine, _body())
            if isinstance(found, Ended):
                return _answer(locker, found, headers)
            elsewhere = models.misrouted(model, found.document)
            if elsewhere is not None:
                return _answer(locker, Ended(Outcome.REJECTED, elsewhere, delivered(found)), headers)
            trace = trace_of(environ)
            ended = execute(locker.engine, locker.renewals, job, found, headers, trace, arguments)
            return _answer(locker, ended, headers)

        # Flask names the endpoint after the function; its signature is not that of a view.
        del view.__wrapped__
        return view

    return decorate


def _check_settings(locker: Locker) -> None:
    # A program that imports the app to test it, or to schedule, is not asked for what only a server needs.
    if requirements.serving():
        locker.engine.require(requirements.SERVE)


# --- who calls --------------------------------------------------------------------------------------------------------


def _denied(locker: Locker, environ: Mapping[str, Any], headers: TaskHeaders) -> ResponseReturnValue | None:
    """
    The answer to somebody who may not call, or of whom nothing can be told; None: the caller may. The reason is for the log.
    """
    try:
        identity = locker.engine.verifier().check(
            environ.get("HTTP_AUTHORIZATION"), environ.get("HTTP_X_SERVERLESS_AUTHORIZATION")
        )
    except (IdentityError, ConfigError) as error:
        ended = Ended(Outcome.UNAVAILABLE, str(error))
    else:
        if not isinstance(identity, Denied):
            return None
        # The URL says for which document it would be, as its sender claims: nothing but the log line goes by it.
        claimed = claimed_in(environ.get("QUERY_STRING", ""))
        about = None if claimed is None else context_at(claimed[0], locker.engine.config.env, None, claimed[1])
        ended = Ended(Outcome.FORBIDDEN if identity.forbidden else Outcome.UNAUTHORISED, identity.reason, about)
    return _answer(locker, ended, headers, _TOLD[ended.outcome])


def _body() -> bytes:
    request.max_content_length = MAX_BODY
    try:
        # Not from the stream: a hook of the app may have read it, and then Flask has kept what was there.
        return request.get_data()
    except RequestEntityTooLarge:
        # One byte more than a delivery can have is enough to refuse it.
        return b" " * (MAX_BODY + 1)


# --- the answer -------------------------------------------------------------------------------------------------------


def status_of(outcome: Outcome, retry_count: int) -> int:
    """
    HTTP status of *outcome* for the delivery's *retry_count*-th retry.
    """
    if outcome in _PATIENT and retry_count >= _LAST_REFUSAL:
        return 200
    return OUTCOME_STATUS[outcome]


def _answer(locker: Locker, ended: Ended, headers: TaskHeaders, told: str | None = None) -> ResponseReturnValue:
    """
    The answer to a delivery, logged with its reason; *told* is what the caller gets in place of it.
    """
    telemetry.ended(ended.outcome, headers.queue)
    severity = logging.ERROR if ended.outcome in _ERRORS else None
    if ended.outcome in (Outcome.UNAUTHORISED, Outcome.FORBIDDEN):
        severity = logging.WARNING
    locker.engine.decided(
        f"delivery.{ended.outcome}", ended.about, ended.reason, severity, task=headers.task, queue=headers.queue
    )
    if ended.outcome is Outcome.REJECTED:
        name = headers.task or "unnamed"
        reason = f"a delivery by an authorised caller (task {name}) was rejected: {ended.reason}"
        courier.send_directly(
            locker.engine, Snapshot(f"deliveries/{name}", None, None, None), f"rejected-{name}", reason
        )
    return {"outcome": str(ended.outcome), "reason": told or ended.reason}, status_of(
        ended.outcome, headers.retry_count
    )


def blueprint(serves: Locker | TaskManager, *, url_prefix: str = "/oncetask") -> Blueprint:
    """
    ``POST /oncetask/sweep``, for Cloud Scheduler: sweeps and answers with what was done. Of a manager also ``POST
    /oncetask/deliver``, where Cloud Tasks delivers its once-tasks.

    The caller must be one of ``ONCETASK_CALLERS`` (or the service account), as for deliveries.

    Raises:
        ConfigError: This is a web server, and settings are missing; the message names all of them.
    """
    locker = serves if isinstance(serves, Locker) else serves.locker
    _check_settings(locker)
    made = Blueprint("oncetask", __name__, url_prefix=url_prefix)

    if isinstance(serves, TaskManager):
        manager = serves

        @made.post("/deliver")
        def deliver_route() -> ResponseReturnValue:
            environ = request.environ
            headers = TaskHeaders.of(environ)
            denied = _denied(locker, environ, headers)
            if denied is not None:
                return denied
            return _answer(locker, manager.deliver(_body(), headers, trace_of(environ)), headers)

    @made.post("/sweep")
    def sweep_route() -> ResponseReturnValue:
        denied = _denied(locker, request.environ, TaskHeaders())
        if denied is not None:
            return denied
        try:
            swept = sweep(locker)
        except (StoreError, ConfigError) as error:
            LOGGER.error("the sweep failed: %s", error)
            return {"error": str(error)}, OUTCOME_STATUS[Outcome.UNAVAILABLE]
        return jsonify({name: getattr(swept, name) for name in swept.__slots__})

    return made
