"""
The end of an attempt: from what user code said to the commit that settles it.
"""

from __future__ import annotations

import json
import logging
from datetime import datetime
from typing import Any, Final, NamedTuple

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from gcp_oncetask import courier, telemetry
from gcp_oncetask.attempt import Attempt
from gcp_oncetask.decision import Kind, Put, Settlement, Target
from gcp_oncetask.delivery import Outcome
from gcp_oncetask.engine import Engine
from gcp_oncetask.errors import (
    ConflictError,
    ContentionError,
    LeaseLostError,
    UsageError,
)
from gcp_oncetask.job import Job
from gcp_oncetask.logs import About
from gcp_oncetask.store.codec import encode
from gcp_oncetask.store.snapshot import NO_CHANGES, Changes
from gcp_oncetask.verdicts import Continue, Fail, Retry, Snooze, Verdict

MAX_RESULT: Final = 65_536
"""Bytes of a stored result, as JSON."""


class Ended(NamedTuple):
    """
    How a delivery ended.

    Attributes:
        outcome: Decides the HTTP status.
        reason: A sentence for the log.
        about: The document, sequence, step and attempt that the log names before it; None: nothing is known.
    """

    outcome: Outcome
    reason: str
    about: About = None


def failure(engine: Engine, job: Job, attempt: Attempt, error: BaseException) -> Verdict:
    """
    The verdict of the retry policy on an attempt that raised.
    """
    telemetry.raised(attempt, error)
    return _by_policy(engine, job, attempt, error, f"{type(error).__name__}: {error}")


def _by_policy(engine: Engine, job: Job, attempt: Attempt, error: BaseException, message: str | None = None) -> Verdict:
    policy = job.retry
    message = message or str(error)
    if policy is None:
        return Retry(message)
    if not policy.should_retry(attempt.number, error):
        return Fail(message)
    return Retry(message, after=policy.next_delay(attempt.number, error, engine.clock.random()))


def _next_step(_engine: Any, _job: Any, attempt: Attempt, _entity: Any, value: Any) -> telemetry.Message | None:
    if not isinstance(value, Continue) or attempt.pending is not None:
        return None
    kind = attempt.context.kind
    to = telemetry.destination(value.queue or attempt.granted.queue, kind)
    return telemetry.Message("schedule", to, attempt.context.document, kind)


@telemetry.producer(_next_step)
def settle(engine: Engine, job: Job, attempt: Attempt, entity: Any, value: Any) -> Ended:
    """
    End the attempt as *value* says: a verdict, or the result of a completed run.
    """
    if attempt.pending is not None:
        # The handler has said how the step ends, and only the commit failed: that word stands.
        how, changes = attempt.pending
    else:
        how, changes = _decided(engine, job, attempt, entity, value)
    try:
        put = _try_settle(engine, job, attempt, how, changes)
    except LeaseLostError as error:
        return lost(engine, attempt, error)
    telemetry.scheduled(attempt.snapshot)
    if put.dispatch and not engine.dispatch(attempt.snapshot) and put.outcome is not Outcome.CONTINUED:
        reason = "the next delivery could not be made; the queue shall try this one again"
        return Ended(Outcome.UNDISPATCHED, reason, attempt.context)
    assert put.outcome is not None
    return Ended(put.outcome, how.message or put.outcome, attempt.context)


def _decided(engine: Engine, job: Job, attempt: Attempt, entity: Any, value: Any) -> tuple[Settlement, Changes]:
    """
    The settlement that *value* asks for, and the fields it saves.
    """
    try:
        if isinstance(value, Retry) and value.after is None:
            value = _by_policy(engine, job, attempt, value)
        how = _settlement(engine, attempt, value)
        saves = how.kind not in (Kind.RETRY, Kind.FAIL) and entity is not None
        return how, job.subject.changes(entity, value) if saves else NO_CHANGES
    except UsageError as error:
        attempt.context.log(logging.ERROR, "%s", error)
        return _settlement(engine, attempt, failure(engine, job, attempt, error)), NO_CHANGES


def _try_settle(engine: Engine, job: Job, attempt: Attempt, how: Settlement, changes: Changes) -> Put:
    try:
        return attempt.settle(how, changes)
    except (ConflictError, ContentionError) as error:
        attempt.context.log(logging.ERROR, "%s", error)
        failed = _settlement(engine, attempt, failure(engine, job, attempt, error))
        return attempt.settle(failed)


def _settlement(engine: Engine, attempt: Attempt, value: Any) -> Settlement:
    nonce = attempt.nonce()
    match value:
        case Retry():
            wait = engine.wait_until(value.after)
            by_queue = value.after is None
            return Settlement(kind=Kind.RETRY, nonce=nonce, message=str(value), wait_until=wait, by_queue=by_queue)
        case Fail():
            return Settlement(kind=Kind.FAIL, nonce=nonce, message=str(value))
        case Snooze():
            return Settlement(kind=Kind.SNOOZE, nonce=nonce, wait_until=engine.wait_until(value.delay))
        case Continue():
            return continuing(engine, attempt, value)
        case _:
            return Settlement(kind=Kind.COMPLETE, nonce=nonce, result=storable(value))


def continuing(
    engine: Engine,
    attempt: Attempt,
    how: Continue,
    *,
    at: datetime | None = None,
    headers: dict[str, str] | None = None,
) -> Settlement:
    """
    The settlement that schedules the next step, at the present URL, queue and with the present headers unless told
    otherwise.
    """
    lock = attempt.granted
    if lock.url is None:
        wait = engine.wait_until(how.delay, at)
        target = Target(None, None, storable(how.params), headers, wait, telemetry.traceparent())
        return Settlement(kind=Kind.CONTINUE, nonce=attempt.nonce(), next_nonce=attempt.nonce(), target=target)
    target = engine.target(
        how.url or lock.url,
        queue=how.queue or lock.queue,
        params=storable(how.params),
        headers=headers if headers is not None else lock.headers,
        delay=how.delay,
        at=at,
    )
    return Settlement(kind=Kind.CONTINUE, nonce=attempt.nonce(), next_nonce=attempt.nonce(), target=target)


def storable(value: Any) -> Any:
    """
    *value* as JSON data: None, data, or a pydantic model.

    Raises:
        UsageError: It can't be JSON, or is too large to be kept.
    """
    if value is None:
        return None
    try:
        plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else to_jsonable_python(value)
        size = len(json.dumps(plain, allow_nan=True))
    except (PydanticSerializationError, TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"A {type(value).__name__} can't be stored: {error}. Return JSON data or a pydantic model."
        ) from None
    if size > MAX_RESULT:
        raise UsageError(
            f"It has {size} bytes as JSON; at most {MAX_RESULT} are kept. Store it elsewhere and keep its name."
        )
    encode(plain)
    return plain


def lost(engine: Engine, attempt: Attempt, error: LeaseLostError) -> Ended:
    """
    How a delivery ends whose lease is somebody else's.
    """
    attempt.context.log(logging.WARNING, "%s", error)
    telemetry.raised(attempt, error)
    if error.facts.get("removed"):
        courier.send_directly(
            engine,
            attempt.snapshot,
            f"{attempt.sequence}-{attempt.token}-removed",
            "its field 'lock' was removed while the handler ran (a set() without merge?); what the handler did is not recorded",
        )
    outcome = Outcome.LOST_TO_LATER if error.facts.get("finished") else Outcome.LOST
    return Ended(outcome, str(error), attempt.context)
