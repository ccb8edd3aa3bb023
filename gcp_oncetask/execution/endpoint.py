"""
HTTP without a framework: a request comes in, an answer goes out. The only place where statuses appear.

An adapter makes an ``IncomingRequest`` of its framework's, calls ``serve``, and makes its framework's response of the ``Answer``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

from gcp_oncetask.errors import ConfigError, IdentityError
from gcp_oncetask.execution.ended import Ended
from gcp_oncetask.observe.log_context import context_at, trace_of
from gcp_oncetask.rules.delivery import claimed_in
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.task_headers import TaskHeaders
from gcp_oncetask.runtime import requirements
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.services.identity import Denied
from gcp_oncetask.store.snapshot import Snapshot

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


class IncomingRequest(NamedTuple):
    """
    A request, as every framework has it.

    Attributes:
        header: The value of a header by its name, in whatever case; None: it is not there.
        query: The query of its URL, undecoded, without the question mark.
        body: Reads the body, at most one byte more than ``delivery.MAX_BODY``; called only for a caller who is let in.
    """

    header: Callable[[str], str | None]
    query: str
    body: Callable[[], bytes]


class Answer(NamedTuple):
    """
    What is answered.

    Attributes:
        json: The body, as JSON data.
        status: HTTP status.
    """

    json: dict[str, Any]
    status: int


Deal: TypeAlias = Callable[[bytes, TaskHeaders, str | None], Ended]
"""Deals with a delivery: body, headers of Cloud Tasks, trace id of the request."""


def serve(runtime: Runtime, request: IncomingRequest, deal: Deal) -> Answer:
    """
    Verify the caller, *deal* with the delivery, answer.
    """
    headers = TaskHeaders.of(request.header)
    refused = denied(runtime, request, headers)
    if refused is not None:
        return refused
    return _answer(runtime, deal(request.body(), headers, trace_of(request.header)), headers)


def check_settings(runtime: Runtime) -> None:
    """
    Ask for all that a server needs, if this is one: a program that imports an application to test it, or to schedule, is not
    asked.

    Raises:
        ConfigError: Settings are missing; the message names all of them.
    """
    if requirements.serving():
        runtime.require(requirements.SERVE)


def denied(runtime: Runtime, request: IncomingRequest, headers: TaskHeaders) -> Answer | None:
    """
    The answer to somebody who may not call, or of whom nothing can be told; None: the caller may. The reason is for the log.
    """
    try:
        identity = runtime.verifier().check(
            request.header("Authorization"), request.header("X-Serverless-Authorization")
        )
    except (IdentityError, ConfigError) as error:
        ended = Ended(Outcome.UNAVAILABLE, str(error))
    else:
        if not isinstance(identity, Denied):
            return None
        # The URL says for which document it would be, as its sender claims: nothing but the log line goes by it.
        claimed = claimed_in(request.query)
        about = None if claimed is None else context_at(claimed[0], runtime.config.env, None, claimed[1])
        ended = Ended(Outcome.FORBIDDEN if identity.forbidden else Outcome.UNAUTHORISED, identity.reason, about)
    return _answer(runtime, ended, headers, _TOLD[ended.outcome])


def status_of(outcome: Outcome, retry_count: int) -> int:
    """
    HTTP status of *outcome* for the delivery's *retry_count*-th retry.
    """
    if outcome in _PATIENT and retry_count >= _LAST_REFUSAL:
        return 200
    return OUTCOME_STATUS[outcome]


def _answer(runtime: Runtime, ended: Ended, headers: TaskHeaders, told: str | None = None) -> Answer:
    """
    The answer to a delivery, logged with its reason; *told* is said to the caller in place of it.
    """
    severity = logging.ERROR if ended.outcome in _ERRORS else None
    if ended.outcome in (Outcome.UNAUTHORISED, Outcome.FORBIDDEN):
        severity = logging.WARNING
    runtime.events.delivered(
        ended.outcome,
        ended.about,
        ended.reason,
        to=headers.queue,
        level=severity,
        task=headers.task,
        queue=headers.queue,
    )
    if ended.outcome is Outcome.REJECTED:
        name = headers.task or "unnamed"
        reason = f"a delivery by an authorised caller (task {name}) was rejected: {ended.reason}"
        runtime.events.person_needed(Snapshot(f"deliveries/{name}", None, None, None), f"rejected-{name}", reason)
    body = {"outcome": str(ended.outcome), "reason": told or ended.reason}
    return Answer(body, status_of(ended.outcome, headers.retry_count))
