"""
The end of an attempt: from the verdict of user code to the commit that settles the attempt.
"""

from __future__ import annotations

import inspect
import logging
from datetime import datetime
from typing import Any

from gcp_oncetask.checks import values
from gcp_oncetask.checks.told import said_by, text_of
from gcp_oncetask.effects import kin
from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.errors import (
    AlreadySettledError,
    ConflictError,
    ContentionError,
    LeaseLostError,
    StoreError,
    UsageError,
)
from gcp_oncetask.execution import unread
from gcp_oncetask.execution.calling import Raised
from gcp_oncetask.execution.ended import Ended
from gcp_oncetask.execution.handler_spec import HandlerSpec
from gcp_oncetask.execution.results import CancelledByRequest, Continue, Fail, HandlerResult, Retry, Snooze, Suspended
from gcp_oncetask.execution.running import RunningAttempt, Stop
from gcp_oncetask.observe.observers import Message, destination
from gcp_oncetask.rules.decisions import Put, Settlement, SettlementKind, Target
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import NO_RESULT, WaitFor
from gcp_oncetask.runtime import addressing
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.json_data import parameters
from gcp_oncetask.store.json_data import result as result_of
from gcp_oncetask.store.snapshot import NO_CHANGES, Changes


def conclude(runtime: Runtime, spec: HandlerSpec, attempt: RunningAttempt, said: Any) -> Ended:
    """
    End the attempt as its handler has *said*, by a result, a verdict or a raised error.

    Raises:
        SystemExit, KeyboardInterrupt: The handler has asked for the end of the process; the attempt counts as failed.
        OncetaskError: The settling commit failed, or its fate is unknown.
    """
    if attempt.journaled is not None:
        attempt.journaled.settle_down()
    if runtime.watch is not None:
        runtime.watch.ended(spec, attempt, said)
    if attempt.stop is not None and attempt.settled is None:
        said = _stopped(runtime, attempt, attempt.stop, said)
        if isinstance(said, Ended):
            return said
    if isinstance(said, Raised):
        if not isinstance(said.error, CancelledByRequest):
            return _after(runtime, spec, attempt, said.error)
        # The task ends cancelled, however its handler ends.
        said = None
    if attempt.settled is None:
        return commit_settlement(runtime, spec, attempt, said)
    if said is not None:
        attempt.context.log(
            logging.WARNING,
            "the handler returned a value after it had settled the attempt; pass result= to complete().",
        )
    return Ended(attempt.settled, "settled by the handler", attempt.context)


def _stopped(runtime: Runtime, attempt: RunningAttempt, stop: Stop, said: Any) -> Any:
    """
    End an attempt whose end a word of the handler has set. The handler may have returned or raised something else since.

    Returns:
        The end; or the error with which the attempt has failed.
    """
    swallowed = not (
        isinstance(said, Raised) and (said.error is stop.error or isinstance(said.error, type(stop.error)))
    )
    if isinstance(said, Raised) and isinstance(said.error, LeaseLostError | SystemExit | KeyboardInterrupt):
        return said
    if stop.unread is not None:
        return _unread(runtime, attempt, stop.unread)
    how = stop.how
    if how is None:
        return stop.error if isinstance(stop.error, HandlerResult) else Raised(stop.error)
    if swallowed:
        attempt.context.log(
            logging.ERROR,
            "its handler went on after %s had ended the attempt; look for a bare except or a return in a finally.",
            type(stop.error).__name__,
        )
        how = how._replace(swallowed=True)
    if not isinstance(stop.error, Suspended):
        attempt.context.log(logging.ERROR, "the attempt ended: %s", stop.error)
    try:
        try:
            put = attempt.settle(how)
        except StoreError as error:
            if not error.of_contents:
                raise
            attempt.context.log(logging.ERROR, "its end could not be recorded: %s", error)
            how = how.instead(str(error))
            put = attempt.settle(how)
    except LeaseLostError as error:
        return lost(runtime, attempt, error)
    ended = _dispatched(runtime, attempt, how, put)
    if how.wait is not None and how.wait.sort is WaitFor.CHILDREN:
        kin.ask_at_once(runtime, attempt.snapshot)
    return ended


def _after(runtime: Runtime, spec: HandlerSpec, attempt: RunningAttempt, error: BaseException) -> Ended:
    """
    End the attempt whose handler has raised *error*.
    """
    if isinstance(error, LeaseLostError):
        return lost(runtime, attempt, error)
    if not isinstance(error, Exception):
        # The process is about to end. The attempt is settled as failed, so that its lease need not run out.
        if attempt.settled is None:
            commit_settlement(runtime, spec, attempt, failure(runtime, spec, attempt, error))
        raise error
    if attempt.settled is not None:
        return _raised_after(runtime, attempt, error)
    reason = None if attempt.subject is not None else spec.subject.unread(runtime, attempt.snapshot)
    if reason is not None:
        return _unread(runtime, attempt, reason)
    attempt.context.log(logging.ERROR, "the attempt failed", exc_info=error)
    return commit_settlement(runtime, spec, attempt, failure(runtime, spec, attempt, error))


def _unread(runtime: Runtime, attempt: RunningAttempt, reason: str) -> Ended:
    """
    Leave a payload to the other version of the program that has stored it after the claim was decided.
    """
    try:
        unread.give_back(runtime, attempt)
    except LeaseLostError as error:
        return lost(runtime, attempt, error)
    return unread.leave(Delivery.present(attempt.context.document, attempt.granted), reason)


def _raised_after(runtime: Runtime, attempt: RunningAttempt, error: Exception) -> Ended:
    """
    End an attempt whose handler has settled it and then raised *error*: the settling stands, and a person is told.
    """
    runtime.events.raised(attempt, error)
    attempt.context.log(
        logging.ERROR, "the handler raised after it had settled the attempt; the settling stands.", exc_info=error
    )
    sequence, token = attempt.granted.sequence, attempt.granted.token
    runtime.events.person_needed(
        attempt.snapshot,
        f"{sequence}-{token}-raised",
        f"the handler raised {type(error).__name__} after it had settled sequence {sequence}: "
        f"{text_of(error, words=runtime.config.log_contents)}",
    )
    return Ended(Outcome.SETTLED, f"settled, then raised {type(error).__name__}", attempt.context)


def failure(runtime: Runtime, spec: HandlerSpec, attempt: RunningAttempt, error: BaseException) -> HandlerResult:
    """
    Return the verdict of the retry policy on an attempt that raised *error*.
    """
    runtime.events.raised(attempt, error)
    return _by_policy(runtime, spec, attempt, error, said_by(error, words=runtime.config.log_contents))


def _by_policy(
    runtime: Runtime, spec: HandlerSpec, attempt: RunningAttempt, error: BaseException, message: str
) -> HandlerResult:
    policy = spec.retry
    if policy is None:
        return Retry(message)
    try:
        tries = attempt.tries
        if not policy.should_retry(tries, error):
            return Fail(message)
        delay = policy.next_delay(tries, error, runtime.clock.random())
        return Retry(message, after=values.seconds(delay, "next_delay()"))
    except Exception as trouble:  # noqa: BLE001 - a policy is user code and may raise anything
        attempt.context.log(logging.ERROR, "its retry policy failed; it is tried again: %s", said_by(trouble))
        return Retry(message, after=0)


def _next_step(attempt: RunningAttempt, value: Continue) -> Message:
    kind = attempt.context.kind
    to = destination(value.queue or attempt.granted.queue, kind)
    return Message("schedule", to, attempt.context.document, kind)


def commit_settlement(runtime: Runtime, spec: HandlerSpec, attempt: RunningAttempt, value: Any) -> Ended:
    """
    End the attempt as *value* says: a verdict, or the result of a completed run.
    """
    if not isinstance(value, Continue) or attempt.pending is not None:
        return _commit(runtime, spec, attempt, value)
    with runtime.events.scheduling(lambda: _next_step(attempt, value)):
        return _commit(runtime, spec, attempt, value)


def _commit(runtime: Runtime, spec: HandlerSpec, attempt: RunningAttempt, value: Any) -> Ended:
    # If the handler has settled the attempt, and only the commit failed, that settlement stands.
    how, changes = attempt.pending or _decided(runtime, spec, attempt, value)
    try:
        try:
            put = attempt.settle(how, changes)
        except AlreadySettledError:
            raise
        except (ConflictError, ContentionError, StoreError, UsageError) as error:
            if isinstance(error, StoreError) and not error.of_contents:
                raise
            attempt.context.log(logging.ERROR, "%s", error)
            put = attempt.settle(_by_verdict(runtime, attempt, failure(runtime, spec, attempt, error)))
    except LeaseLostError as error:
        return lost(runtime, attempt, error)
    return _dispatched(runtime, attempt, how, put)


def _dispatched(runtime: Runtime, attempt: RunningAttempt, how: Settlement, put: Put) -> Ended:
    """
    Make the delivery that follows on the settling commit *put*, and return the end.
    """
    if how.kind is SettlementKind.CONTINUE:
        runtime.events.scheduled(attempt.snapshot)
    if put.dispatch and not dispatch(runtime, attempt.snapshot) and put.outcome is not Outcome.CONTINUED:
        reason = "the next delivery could not be made; the queue shall try this one again"
        return Ended(Outcome.UNDISPATCHED, reason, attempt.context)
    assert put.outcome is not None
    return Ended(put.outcome, how.message or put.outcome, attempt.context)


def _decided(runtime: Runtime, spec: HandlerSpec, attempt: RunningAttempt, value: Any) -> tuple[Settlement, Changes]:
    """
    Return the settlement that *value* asks for, and the fields that it saves.
    """
    try:
        if isinstance(value, HandlerResult):
            if isinstance(value, Retry) and value.after is None:
                value = _by_policy(runtime, spec, attempt, value, text_of(value, words=runtime.config.log_contents))
            how = _by_verdict(runtime, attempt, value)
        elif value is not None and (inspect.isawaitable(value) or inspect.isasyncgen(value)):
            raise UsageError(
                f"The handler returned {type(value).__name__}, of which nothing has run; it must be plain."
            )
        else:
            how = completing(attempt, value)
        saves = how.kind not in (SettlementKind.RETRY, SettlementKind.FAIL) and attempt.subject is not None
        return how, spec.subject.changes(attempt.subject, value) if saves else NO_CHANGES
    except Exception as error:  # noqa: BLE001 - serializers and options of the user are user code
        attempt.context.log(logging.ERROR, "it could not be settled as it ended: %s", said_by(error))
        return _by_verdict(runtime, attempt, failure(runtime, spec, attempt, error)), NO_CHANGES


def _by_verdict(runtime: Runtime, attempt: RunningAttempt, value: HandlerResult) -> Settlement:
    match value:
        case Retry():
            wait = addressing.wait_until(runtime, value.after)
            by_queue = value.after is None
            text = text_of(value, words=runtime.config.log_contents)
            return Settlement(
                kind=SettlementKind.RETRY, nonce=runtime.clock.nonce(), message=text, wait_until=wait, by_queue=by_queue
            )
        case Fail():
            return Settlement(
                kind=SettlementKind.FAIL,
                nonce=runtime.clock.nonce(),
                message=text_of(value, words=runtime.config.log_contents),
            )
        case Snooze():
            return Settlement(
                kind=SettlementKind.SNOOZE,
                nonce=runtime.clock.nonce(),
                wait_until=addressing.wait_until(runtime, value.delay),
            )
        case _:
            assert isinstance(value, Continue)
            return continuing(runtime, attempt, value)


def completing(attempt: RunningAttempt, value: Any) -> Settlement:
    """
    Return the settlement of a finished run that has returned *value*. The run is completed even if the value can't be
    stored.
    """
    result = NO_RESULT if value is None else result_of(value)
    if result.lost is not None:
        attempt.context.log(logging.ERROR, "the result could not be stored: %s", result.lost)
    return Settlement(kind=SettlementKind.COMPLETE, nonce=attempt.runtime.clock.nonce(), result=result)


def continuing(
    runtime: Runtime,
    attempt: RunningAttempt,
    how: Continue,
    *,
    at: datetime | None = None,
    headers: dict[str, str] | None = None,
) -> Settlement:
    """
    Return the settlement that schedules the next step. It keeps the present URL, queue and headers where none are
    given.
    """
    lock = attempt.granted
    if lock.url is None:
        wait = addressing.wait_until(runtime, how.delay, at)
        target = Target(None, None, parameters(how.params), headers, wait, runtime.events.traceparent())
        return Settlement(
            kind=SettlementKind.CONTINUE, nonce=runtime.clock.nonce(), next_nonce=runtime.clock.nonce(), target=target
        )
    target = addressing.target(
        runtime,
        how.url or lock.url,
        queue=how.queue or lock.queue,
        params=parameters(how.params),
        headers=headers if headers is not None else lock.headers,
        delay=how.delay,
        at=at,
        present=how.url is None and how.queue is None and headers is None,
    )
    return Settlement(
        kind=SettlementKind.CONTINUE, nonce=runtime.clock.nonce(), next_nonce=runtime.clock.nonce(), target=target
    )


def lost(runtime: Runtime, attempt: RunningAttempt, error: LeaseLostError) -> Ended:
    """
    Return the end of a delivery whose attempt has lost its lease.
    """
    attempt.context.log(logging.WARNING, "%s", error)
    runtime.events.raised(attempt, error)
    if error.facts.get("removed"):
        runtime.events.person_needed(
            attempt.snapshot,
            f"{attempt.granted.sequence}-{attempt.granted.token}-removed",
            "its field 'lock' was removed while the handler ran (a set() without merge?); the handler's work is not recorded",
        )
    outcome = Outcome.LOST_TO_LATER if error.facts.get("finished") else Outcome.LOST
    return Ended(outcome, str(error), attempt.context)
