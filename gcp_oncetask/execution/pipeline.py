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
from gcp_oncetask.execution.lifetime import open_attempt
from gcp_oncetask.execution.settling import conclude
from gcp_oncetask.observe.log_context import About
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.task_headers import TaskHeaders
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.snapshot import Snapshot


def parse(runtime: Runtime, body: bytes) -> Delivery | Ended:
    """
    The delivery in *body*, if it is one, and one for this environment.
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
    Execute one delivery, or a task that a worker has found to be due.

    Args:
        executor: Shared parts.
        spec: The handler.
        delivery: The delivery, of this environment.
        headers: Headers of its Cloud Task; None in pull mode.
        trace: Trace id of the request, by which the platform's log knows it.
        arguments: Route variables for the handler.
        start: The document as it was read just now; None: as the delivery says, or it is read.

    Returns:
        How it ended; failures of services included, so that the caller only translates.
    """
    claim, granted = Claim(executor, spec, delivery, headers, trace), None
    try:
        granted = claim.acquire(start)
        if isinstance(granted, Ended):
            return granted if granted.about is not None else granted._replace(about=claim.about)
        with open_attempt(executor, granted) as attempt:
            said = call_handler(executor, granted.spec, attempt, arguments)
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
    How a delivery ends that an *error* kept from being dealt with.

    Args:
        runtime: Shared parts.
        delivery: The delivery.
        error: What was met: a damaged record, one that needs a newer release, Firestore's refusal or failure, or contention.
        about: What a line about the delivery names.
        holder: Nonce of the delivery's own attempt, which is over.
    """
    if isinstance(error, DamagedError):
        return _damaged(runtime, delivery, error, about)
    if isinstance(error, StoreError) and error.final:
        return _refused(runtime, delivery, error, about, holder)
    newer = isinstance(error, UnknownFeatureError)
    return Ended(Outcome.UNHANDLED if newer else Outcome.UNAVAILABLE, str(error), about)


def _damaged(runtime: Runtime, delivery: Delivery, error: DamagedError, about: About) -> Ended:
    """
    The answer to a delivery that met a damaged document: acknowledged only if the sweep will find it.
    """
    outcome = damage.attend(runtime, error)
    # One in whose way another document stands waits in the queue.
    return Ended(outcome if error.document == delivery.document else Outcome.DAMAGED, str(error), about)


def _refused(runtime: Runtime, delivery: Delivery, error: StoreError, about: About, holder: str | None) -> Ended:
    """
    The answer to a delivery at which Firestore has refused for good: that is no outage.
    """
    try:
        attended = keys.attend_refused(runtime, error, holder=holder)
    except OncetaskError as failed:
        return Ended(Outcome.UNAVAILABLE, f"{error} {failed}", about)
    if error.seen is not None and error.seen.path != delivery.document:
        return Ended(Outcome.BUSY, f"it waits for {error.seen.path}: {attended.reason}", about)
    return Ended(attended.outcome, attended.reason, about)
