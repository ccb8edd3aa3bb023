"""
The life of an attempt, from a delivery to its answer: claim, open, call, settle, close.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gcp_oncetask.effects import damage, keys
from gcp_oncetask.errors import (
    ContentionError,
    DamagedError,
    DeliveryError,
    OncetaskError,
    StoreError,
    UnknownFeatureError,
)
from gcp_oncetask.execution.calling import call_handler
from gcp_oncetask.execution.claiming import Claim
from gcp_oncetask.execution.ended import Ended, delivered
from gcp_oncetask.execution.executor import Executor
from gcp_oncetask.execution.handler_spec import HandlerSpec
from gcp_oncetask.execution.settling import conclude
from gcp_oncetask.observe.log_context import About
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.task_headers import TaskHeaders
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.snapshot import Snapshot


def parse(runtime: Runtime, body: bytes) -> Delivery | Ended:
    """
    Return the delivery in *body*; ``Ended`` if there is none, or if it belongs to another environment.
    """
    try:
        delivery = Delivery.from_json(body)
    except DeliveryError as error:
        return Ended(Outcome.REJECTED, str(error))
    if delivery.env != runtime.config.env:
        reason = f"a delivery of environment {delivery.env!r} reached environment {runtime.config.env!r}"
        return Ended(Outcome.FOREIGN, reason, delivered(delivery))
    return delivery


def execute(
    executor: Executor,
    spec: HandlerSpec,
    delivery: Delivery,
    headers: TaskHeaders | None,
    trace: str | None,
    arguments: Mapping[str, Any],
    start: Snapshot | None = None,
) -> Ended:
    """
    Execute one delivery, or one due task that a worker has found.

    Args:
        executor: Shared parts.
        spec: The handler.
        delivery: The delivery, of this environment.
        headers: Headers of its Cloud Task; None in pull mode.
        trace: Trace id of the request, which the platform's log lines about it carry.
        arguments: Route variables for the handler.
        start: The document, if it was just read; None: it is taken from the delivery, or read.

    Returns:
        The end of the delivery. Failures of services are among its outcomes, so that the caller only translates.
    """
    claim, granted = Claim(executor, spec, delivery, headers, trace), None
    try:
        granted = claim.acquire(start)
        if isinstance(granted, Ended):
            return granted if granted.about is not None else granted._replace(about=claim.about)
        with granted as attempt:
            said = call_handler(executor, granted.spec, attempt, granted.seen, arguments)
            attempt.ended = conclude(executor.runtime, granted.spec, attempt, said)
            return attempt.ended
    except (StoreError, UnknownFeatureError, ContentionError) as error:
        if granted is None and error.facts.get("unknown"):
            claim.unknown()
        return prevented(executor.runtime, delivery, error, claim.about, claim.claimant.nonce)


def prevented(
    runtime: Runtime,
    delivery: Delivery,
    error: StoreError | UnknownFeatureError | ContentionError,
    about: About,
    holder: str | None = None,
) -> Ended:
    """
    Return the end of a delivery that could not be executed because of *error*.

    Args:
        runtime: Shared parts.
        delivery: The delivery.
        error: Its cause: a damaged record, a record that needs a newer release, Firestore's refusal or failure, or
            contention.
        about: The document and the sequence that log lines about the delivery name.
        holder: Nonce of the delivery's own attempt, which has ended; None: it has none.
    """
    if isinstance(error, DamagedError):
        return _damaged(runtime, delivery, error, about)
    if isinstance(error, StoreError) and error.final:
        return _refused(runtime, delivery, error, about, holder)
    newer = isinstance(error, UnknownFeatureError)
    return Ended(Outcome.UNHANDLED if newer else Outcome.UNAVAILABLE, str(error), about)


def _damaged(runtime: Runtime, delivery: Delivery, error: DamagedError, about: About) -> Ended:
    """
    Return the end of a delivery that met a damaged document. It is acknowledged only if the sweep will find the
    document.
    """
    outcome = damage.attend(runtime, error)
    # If the damaged document is not the delivery's own, the delivery waits in the queue.
    return Ended(outcome if error.document == delivery.document else Outcome.DAMAGED, str(error), about)


def _refused(runtime: Runtime, delivery: Delivery, error: StoreError, about: About, holder: str | None) -> Ended:
    """
    Return the end of a delivery for which Firestore has refused a request for good; this is no outage.
    """
    try:
        attended = keys.attend_refused(runtime, error, holder=holder)
    except OncetaskError as failed:
        return Ended(Outcome.UNAVAILABLE, f"{error} {failed}", about)
    if error.seen is not None and error.seen.path != delivery.document:
        return Ended(Outcome.BUSY, f"it waits for {error.seen.path}: {attended.reason}", about)
    return Ended(attended.outcome, attended.reason, about)
