"""
The life of one delivery: read, claim, run, settle, dispatch, alert; in that order, each step in its own function.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from gcp_oncetask import courier, lease, models, recovery
from gcp_oncetask.attempt import Attempt, Continue, Fail, Retry, Snooze, Verdict
from gcp_oncetask.clock import Mark, elapsed
from gcp_oncetask.decision import Claimant, Expired, Fence, Kind, NeedTime, Policy, Put, Refused, Settlement
from gcp_oncetask.delivery import Delivery, Outcome, TaskHeaders
from gcp_oncetask.engine import LOGGER, Engine
from gcp_oncetask.errors import (
    ConflictError,
    ContentionError,
    DeliveryError,
    LeaseLostError,
    StoreError,
    UsageError,
)
from gcp_oncetask.logs import LogContext, current
from gcp_oncetask.record import Lock
from gcp_oncetask.renewal import Renewals, renewal_interval
from gcp_oncetask.retry import RetryPolicy
from gcp_oncetask.store.codec import encode
from gcp_oncetask.store.snapshot import NO_CHANGES, Changes, Snapshot, trusted

MAX_RESULT: Final = 65_536
"""Bytes of a stored result, as JSON."""


@dataclass(frozen=True, slots=True)
class Job:
    """
    A handler with what its deliveries need.

    Attributes:
        model: The entity's model.
        run: User code: (entity, attempt, **route variables) -> result or verdict.
        policy: How it wants its leases.
        retry: Retry policy; None: the queue retries.
        renew: Whether leases are renewed while it runs.
    """

    model: type[models.LockedModel]
    run: Callable[..., Any]
    policy: Policy
    retry: RetryPolicy | None
    renew: bool


class Ended(NamedTuple):
    """
    How a delivery ended.

    Attributes:
        outcome: Decides the HTTP status.
        reason: A sentence for the log.
    """

    outcome: Outcome
    reason: str


@dataclass(slots=True)
class _Run:
    """
    What is known of one delivery on its way.
    """

    engine: Engine
    renewals: Renewals
    job: Job
    delivery: Delivery
    headers: TaskHeaders
    claimant: Claimant
    mark: Mark
    arguments: Mapping[str, Any]


def execute(
    engine: Engine,
    renewals: Renewals,
    job: Job,
    body: bytes,
    headers: TaskHeaders,
    trace: str | None,
    arguments: Mapping[str, Any],
) -> Ended:
    """
    Execute one delivery.

    Args:
        engine: Shared parts.
        renewals: Renews the lease while the handler runs.
        job: The handler.
        body: The delivery as it came.
        headers: What Cloud Tasks says about it.
        trace: Trace id of the request, by which the platform's log knows it.
        arguments: Route variables for the handler.

    Returns:
        How it ended; failures of services included, so that the caller only translates.
    """
    try:
        delivery = Delivery.from_json(body)
    except DeliveryError as error:
        return Ended(Outcome.REJECTED, str(error))
    if delivery.env != engine.config.env:
        return Ended(
            Outcome.FOREIGN, f"a delivery of environment {delivery.env!r} reached environment {engine.config.env!r}"
        )
    run = _Run(
        engine,
        renewals,
        job,
        delivery,
        headers,
        Claimant(engine.clock.nonce(), trace, engine.instance()),
        engine.clock.mark(),
        arguments,
    )
    try:
        return _claim(run)
    except StoreError as error:
        if error.facts.get("unknown"):
            context = _context(run, run.delivery.token + 1, 0)
            engine.trail.write("never-started", context, message="the fate of the claim is unknown; it was not used")
        return Ended(Outcome.UNAVAILABLE, str(error))
    except ContentionError as error:
        return Ended(Outcome.UNAVAILABLE, str(error))


def _context(run: _Run, token: int, attempt: int) -> LogContext:
    return LogContext(
        document=run.delivery.document,
        sequence=run.delivery.sequence,
        attempt=attempt,
        token=token,
        holder=run.claimant.nonce,
        env=run.delivery.env,
        trace=run.claimant.trace,
    )


# --- claim ------------------------------------------------------------------------------------------------------------


def _claim(run: _Run) -> Ended:
    engine, delivery = run.engine, run.delivery
    start = None
    # Blind on the first try only: whatever is redelivered has most likely moved.
    if delivery.contents is not None and delivery.version is not None and run.headers.retry_count == 0:
        start = trusted(delivery.document, delivery.version, delivery.contents)
    before: list[Lock | None] = []

    def decide(seen: Snapshot) -> Put | Refused | Expired | NeedTime:
        before[:] = [seen.lock]
        return lease.claim(seen.lock, delivery, run.job.policy, run.claimant, engine.moment(seen))

    changed = engine.store.change(delivery.document, decide, start=start)
    decision = changed.decision
    if isinstance(decision, Expired):
        return _recover(run, changed.snapshot)
    if isinstance(decision, Refused):
        return _refuse(run, changed.snapshot, decision)
    assert isinstance(decision, Put)
    if decision.outcome is not None:
        return _closed(run, before[0], changed.snapshot, decision.outcome, "")
    return _granted(run, changed.snapshot)


def _refuse(run: _Run, snapshot: Snapshot, refused: Refused) -> Ended:
    if refused.outcome is Outcome.EARLY and refused.until is not None:
        now = snapshot.read or run.engine.store.estimate()
        if refused.until - now > lease.EARLY:
            return _postpone(run, snapshot)
    return Ended(refused.outcome, refused.reason)


def _postpone(run: _Run, snapshot: Snapshot) -> Ended:
    fence = snapshot.lock

    def decide(seen: Snapshot) -> Put | Refused:
        if seen.lock is None or seen.lock != fence:
            return Refused(Outcome.EARLY, "it has moved meanwhile")
        return lease.postpone(seen.lock, run.engine.moment(seen))

    changed = run.engine.store.change(snapshot.path, decide, start=snapshot)
    if isinstance(changed.decision, Refused):
        return Ended(Outcome.EARLY, changed.decision.reason)
    if not run.engine.dispatch(changed.snapshot):
        return Ended(Outcome.EARLY, "the delivery for the right time could not be made")
    return Ended(Outcome.POSTPONED, "it came too early; another delivery was made")


def _recover(run: _Run, snapshot: Snapshot) -> Ended:
    engine = run.engine
    [judged] = recovery.judge_all(engine, [snapshot])
    changed = recovery.take_over(engine, judged, (run.job.policy, run.claimant))
    decision = changed.decision
    if isinstance(decision, Refused):
        return Ended(decision.outcome, decision.reason)
    if not isinstance(decision, Put):
        # Somebody else was quicker: what is there now is decided by the ordinary table.
        return Ended(Outcome.BUSY, "another delivery or the sweeper took it over")
    verdict = judged.verdict
    engine.decided(
        "lease.taken_over",
        _context(run, judged.fence.token, 0),
        f"{snapshot.path}: {verdict.finding}: {verdict.reason}",
        logging.WARNING,
        verdict=str(verdict.finding),
        outcome=str(decision.outcome or "granted"),
    )
    if decision.outcome is None:
        return _granted(run, changed.snapshot, newly=courier.newly_owed(snapshot.lock, changed.snapshot.lock))
    if decision.dispatch:
        engine.dispatch(changed.snapshot)
    return _closed(run, snapshot.lock, changed.snapshot, decision.outcome, verdict.reason)


def _closed(run: _Run, before: Lock | None, snapshot: Snapshot, outcome: Outcome, reason: str) -> Ended:
    """
    Nothing is left to run; send what that owes.
    """
    courier.send_owed(run.engine, snapshot, courier.newly_owed(before, snapshot.lock), run.engine.clock.mark())
    return Ended(outcome, reason or f"{snapshot.path} is {outcome}")


# --- run --------------------------------------------------------------------------------------------------------------


def _granted(run: _Run, snapshot: Snapshot, newly: tuple[str, ...] = ()) -> Ended:
    engine, job = run.engine, run.job
    lock = snapshot.lock
    assert lock is not None
    context = _context(run, lock.token, lock.attempts)
    if lock.holder != run.claimant.nonce:
        return Ended(Outcome.BUSY, "the lease was granted and taken over before the answer came")
    if elapsed(run.mark, engine.clock.mark()) > job.policy.lease / 2:
        return _give_back(run, snapshot, context)
    attempt = Attempt(
        engine,
        snapshot,
        policy=job.policy,
        mark=run.mark,
        context=context,
        delivery=run.headers,
        renewing=job.renew,
    )
    engine.trail.write("started", context, message=f"attempt {lock.attempts} of {snapshot.path} started")
    token = current.set(context)
    if job.renew:
        run.renewals.add(attempt, renewal_interval(job.policy.lease), run.mark)
    try:
        return _run(run, attempt)
    finally:
        if job.renew:
            run.renewals.remove(attempt)
        current.reset(token)
        now = attempt.snapshot
        newly += courier.newly_owed(lock, now.lock)
        courier.send_owed(engine, now, newly, run.mark)


def _give_back(run: _Run, snapshot: Snapshot, context: LogContext) -> Ended:
    fence = Fence(context.sequence, context.token, context.holder)
    how = Settlement(kind=Kind.RELEASE, nonce=run.engine.clock.nonce())
    run.engine.store.change(
        snapshot.path,
        lambda seen: lease.settle(seen.lock, fence, how, run.engine.moment(seen)),
        start=snapshot,
    )
    run.engine.trail.write("never-started", context, message="the claim took half the lease; it was given back")
    return Ended(Outcome.SHORT_LEASE, "the claim took more than half of the lease; it was given back")


def _run(run: _Run, attempt: Attempt) -> Ended:
    entity: models.LockedModel | None = None
    try:
        entity = models.load(run.job.model, attempt.snapshot, run.engine.store.reference)
        models.bind(entity, attempt)
        value = run.job.run(entity, attempt, **run.arguments)
    except LeaseLostError as error:
        return _lost(run, attempt, error)
    except Verdict as verdict:
        value = verdict
    except Exception as error:  # noqa: BLE001 - whatever user code raises is a failed attempt
        if attempt.settled is not None:
            return _raised_after(run, attempt, error)
        LOGGER.exception("attempt %d of %s failed", attempt.number, run.delivery.document)
        return _settle(run, attempt, entity, _failure(run, attempt, error))
    if attempt.settled is not None:
        return _already(run, attempt, value)
    return _settle(run, attempt, entity, value)


def _already(run: _Run, attempt: Attempt, value: Any) -> Ended:
    outcome = attempt.settled
    assert outcome is not None
    if value is not None:
        LOGGER.warning(
            "%s: the handler returned a value after it had settled the attempt; pass result= to complete().",
            run.delivery.document,
        )
    return Ended(outcome, "settled by the handler")


def _raised_after(run: _Run, attempt: Attempt, error: Exception) -> Ended:
    LOGGER.error(
        "%s: the handler raised after it had settled the attempt; the settling stands.",
        run.delivery.document,
        exc_info=error,
    )
    courier.send_directly(
        run.engine,
        attempt.snapshot,
        f"{attempt.sequence}-{attempt.token}-raised",
        f"the handler raised {type(error).__name__} after it had settled sequence {attempt.sequence}: {error}",
    )
    return Ended(Outcome.SETTLED, f"settled, then raised {type(error).__name__}")


def _lost(run: _Run, attempt: Attempt, error: LeaseLostError) -> Ended:
    LOGGER.warning("%s", error)
    if error.facts.get("removed"):
        courier.send_directly(
            run.engine,
            attempt.snapshot,
            f"{attempt.sequence}-{attempt.token}-removed",
            "its field 'lock' was removed while the handler ran (a set() without merge?); what the handler did is not recorded",
        )
    return Ended(Outcome.LOST_TO_LATER if error.facts.get("finished") else Outcome.LOST, str(error))


# --- settle -----------------------------------------------------------------------------------------------------------


def _failure(run: _Run, attempt: Attempt, error: Exception) -> Verdict:
    return _by_policy(run, attempt, error, f"{type(error).__name__}: {error}")


def _by_policy(run: _Run, attempt: Attempt, error: Exception, message: str | None = None) -> Verdict:
    policy = run.job.retry
    message = message or str(error)
    if policy is None:
        return Retry(message)
    if not policy.should_retry(attempt.number, error):
        return Fail(message)
    return Retry(message, after=policy.next_delay(attempt.number, error, run.engine.clock.random()))


def _settle(run: _Run, attempt: Attempt, entity: models.LockedModel | None, value: Any) -> Ended:
    """
    End the attempt as *value* says: a verdict, or the result of a completed run.
    """
    engine = run.engine
    if attempt.pending is not None:
        # The handler has said how the step ends, and only the commit failed: that word stands.
        how, changes = attempt.pending
    else:
        how, changes = _decided(run, attempt, entity, value)
    try:
        put = _try_settle(run, attempt, how, changes)
    except LeaseLostError as error:
        return _lost(run, attempt, error)
    if put.dispatch and not engine.dispatch(attempt.snapshot) and put.outcome is not Outcome.CONTINUED:
        return Ended(Outcome.UNDISPATCHED, "the next delivery could not be made; the queue shall try this one again")
    assert put.outcome is not None
    return Ended(put.outcome, how.message or f"{run.delivery.document}: {put.outcome}")


def _decided(run: _Run, attempt: Attempt, entity: models.LockedModel | None, value: Any) -> tuple[Settlement, Changes]:
    """
    The settlement that *value* asks for, and the fields it saves.
    """
    try:
        if isinstance(value, Retry) and value.after is None:
            value = _by_policy(run, attempt, value)
        how = _settlement(run.engine, attempt, value)
        saves = how.kind not in (Kind.RETRY, Kind.FAIL) and entity is not None
        return how, models.changes_of(entity) if saves and entity is not None else NO_CHANGES
    except UsageError as error:
        LOGGER.error("%s: %s", run.delivery.document, error)
        return _settlement(run.engine, attempt, _failure(run, attempt, error)), NO_CHANGES


def _try_settle(run: _Run, attempt: Attempt, how: Settlement, changes: Changes) -> Put:
    try:
        return attempt.settle(how, changes)
    except (ConflictError, ContentionError) as error:
        LOGGER.error("%s: %s", run.delivery.document, error)
        failed = _settlement(run.engine, attempt, _failure(run, attempt, error))
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
    target = engine.target(
        how.url or lock.url or "",
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
