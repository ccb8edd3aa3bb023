"""
The HTTP endpoint without a framework: it answers a request. No other module knows HTTP statuses.

An adapter turns its framework's request into an ``IncomingRequest``, calls ``serve``, and turns the ``Answer`` into its
framework's response.
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
    Outcome.SUSPENDED: 200,
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
"""HTTP status of each outcome. None is 429 or 503, because these slow down the whole queue for the sake of one task."""

_PATIENT: Final = frozenset({Outcome.BUSY, Outcome.UNKNOWN})
_LAST_REFUSAL: Final = 5
"""Retry from which on the answer for a busy or unknown lease is 200; from then on the sweep cares for it, by its due time."""
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
    Outcome.UNAVAILABLE: "The caller can't be told now; the log of this service says why.",
}
"""Messages for callers without a proved identity. They tell nothing about the request or about this service."""


class IncomingRequest(NamedTuple):
    """
    A request in a form that every framework can fill.

    Attributes:
        header: Returns the value of a header by its name, in upper or lower case; None if there is no such header.
        query: The query of the URL, undecoded, without the question mark.
        body: Reads the body, at most one byte more than ``delivery.MAX_BODY``. It is called only for callers who may
            call.
    """

    header: Callable[[str], str | None]
    query: str
    body: Callable[[], bytes]


class Answer(NamedTuple):
    """
    The answer to a request.

    Attributes:
        json: The body, as JSON data.
        status: HTTP status.
    """

    json: dict[str, Any]
    status: int


Deal: TypeAlias = Callable[[bytes, TaskHeaders, str | None], Ended]
"""A function that executes a delivery, given body, headers of Cloud Tasks and trace id of the request."""


def serve(runtime: Runtime, request: IncomingRequest, deal: Deal) -> Answer:
    """
    Verify the caller, execute the delivery with *deal*, and return the answer.
    """
    headers = TaskHeaders.of(request.header)
    refused = denied(runtime, request, headers)
    if refused is not None:
        return refused
    return _answer(runtime, deal(request.body(), headers, trace_of(request.header)), headers)


def check_settings(runtime: Runtime) -> None:
    """
    Check that all settings of a server are there, if this process is a server. A program that imports an application to
    test it or to schedule needs none of them.

    Raises:
        ConfigError: Settings are missing; the message names all of them.
    """
    if requirements.serving():
        runtime.require(requirements.SERVE)


def denied(runtime: Runtime, request: IncomingRequest, headers: TaskHeaders) -> Answer | None:
    """
    Return the answer to a caller who may not call or can't be identified now; None if the caller may call. Only the log
    names the reason.
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
        # The URL names the document that the sender claims to deliver. Only the log line uses this claim.
        claimed = claimed_in(request.query)
        about = None if claimed is None else context_at(claimed[0], runtime.config.env, None, claimed[1])
        ended = Ended(Outcome.FORBIDDEN if identity.forbidden else Outcome.UNAUTHORISED, identity.reason, about)
    return _answer(runtime, ended, headers, _TOLD[ended.outcome])


def status_of(outcome: Outcome, retry_count: int) -> int:
    """
    Return the HTTP status of *outcome* for a delivery at its *retry_count*-th retry.
    """
    if outcome in _PATIENT and retry_count >= _LAST_REFUSAL:
        return 200
    return OUTCOME_STATUS[outcome]


def _answer(runtime: Runtime, ended: Ended, headers: TaskHeaders, told: str | None = None) -> Answer:
    """
    Log the end of a delivery and return the answer. The answer holds *told*, if given, in place of the reason.
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
