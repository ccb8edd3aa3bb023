"""
Functions that run inline, once per key; every later call returns the stored result.

Shape:
    reads and writes onceLocks/{2 hex}:{env}:once:{function}:{key}: ``lock`` (the record of every document; ``result`` has
    the returned value), ``name``, ``key``, ``dataHash`` (of the payload; not while the key is forgotten),
    ``env``, ``schema``, and ``expireAt`` if results are not kept for ever. If the result is lost, ``expireAt`` is written
    only after a person was alerted; until then ``retentionSeconds`` and ``doneAt`` keep the time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gcp_oncetask import rules
from gcp_oncetask.checks.told import said_by
from gcp_oncetask.effects import owed_alerts
from gcp_oncetask.errors import OncetaskError, StoreError
from gcp_oncetask.execution.attempt import Attempt
from gcp_oncetask.execution.executor import Executor
from gcp_oncetask.execution.running import without_result
from gcp_oncetask.locks.arguments import readable
from gcp_oncetask.locks.holding import Holding, claim
from gcp_oncetask.observe.log_context import LOGGER
from gcp_oncetask.rules import named
from gcp_oncetask.rules.decisions import (
    CallRefused,
    Claimant,
    DecisionContext,
    Fence,
    Lost,
    NeedTime,
    Policy,
    Put,
    Settlement,
    SettlementKind,
)
from gcp_oncetask.rules.document_paths import DATA_HASH
from gcp_oncetask.rules.record import SCHEMA, Lock, Result, Status
from gcp_oncetask.rules.refusals import ERRORS, Refusal
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import encode
from gcp_oncetask.store.retiring import ending
from gcp_oncetask.store.snapshot import NO_CHANGES, Changes, Snapshot


@dataclass(frozen=True, slots=True)
class OnceCall:
    """
    One call of a function that runs once.

    Attributes:
        document: Path of the call's document.
        name: Name of the function.
        key: Key of the call; None: the function runs once ever.
        data_hash: SHA-256 of the payload, hexadecimal.
        policy: Lease and run limit.
        retention: Seconds for which the result is kept; None: for ever.
    """

    document: str
    name: str
    key: str | None
    data_hash: str
    policy: Policy
    retention: float | None


def run_once(executor: Executor, run: OnceCall, fn: Callable[[Attempt], Result]) -> Result:
    """
    Call *fn* unless it has run. The create of the document claims the run, so that a run costs two commits and no read.

    If *fn* raises, the error is recorded in the record's ``errors`` and raised, and the next call may run *fn* again.
    Neither a result nor a failure is written after the lease was lost.

    Args:
        executor: Renews the lease while it runs.
        run: The call.
        fn: Makes the result, as it is to be recorded, in the attempt that it is given.

    Returns:
        The result, as it was recorded by this run or by an earlier one.

    Raises:
        LockBusyError: Another call is running it; ``until`` is the end of its lease.
        TaskConflictError: The key was used with another payload.
        LeaseLostError: *fn* ran too long, or the process was stopped meanwhile, and another call took over; the result was
            not recorded.
        StoreError: Firestore was unreachable or refused.
    """
    runtime = executor.runtime
    claimed = _claim(runtime, run)
    if isinstance(claimed, Lock):
        return claimed.returned
    with executor.renewed(claimed, runtime.clock.mark()):
        try:
            result = fn(Attempt(claimed))
        except Exception as error:
            _note(runtime, claimed, error)
            raise
    how = Settlement(kind=SettlementKind.COMPLETE, nonce=runtime.clock.nonce(), result=result)
    return _record(runtime, claimed, run, how)


def _record(runtime: Runtime, claimed: Holding, run: OnceCall, how: Settlement) -> Result:
    """
    Record that the function has run; without the result if Firestore refuses the result for good.
    """

    def commit(how: Settlement) -> Result:
        mark = runtime.clock.mark()
        after = claimed.end(
            lambda lock, fence, at: rules.settle(lock, fence, how, at),
            lambda: ending(run.retention, runtime.store.estimate(), owes=how.result.lost is not None),
        )
        owed_alerts.send_newly_owed(runtime, None, after, mark)
        return how.result

    try:
        recorded = commit(how)
    except StoreError as error:
        recorded = commit(without_result(how, error))
    if recorded.lost is not None:
        claimed.context.log(logging.ERROR, "its result could not be stored: %s", recorded.lost)
    return recorded


def _claim(runtime: Runtime, run: OnceCall) -> Holding | Lock:
    """
    Return the lease for the run, or the record of a run that is over.
    """
    claimant = Claimant(runtime.clock.nonce(), instance=runtime.instance())
    fields = Changes(
        {
            "name": encode(run.name),
            "key": encode(None if run.key is None else readable(run.key)),
            DATA_HASH: encode(run.data_hash),
            "env": encode(runtime.config.env),
            "schema": encode(SCHEMA),
        },
        None,
    )

    def decide(seen: Snapshot) -> Put | CallRefused | NeedTime:
        stored = seen.fields.get(DATA_HASH)
        same = _forgotten(seen) if stored is None else stored.string_value == run.data_hash
        return named.begin(
            seen.lock, same=same, policy=run.policy, claimant=claimant, at=runtime.decision_context(seen)
        )

    mark = runtime.clock.mark()
    changed = claim(
        runtime,
        run.document,
        decide,
        start=Snapshot(run.document, None, None, None),
        changes=lambda seen: fields if seen.lock is None or _forgotten(seen) else NO_CHANGES,
    )
    refused = changed.decision
    if isinstance(refused, CallRefused):
        lock = changed.snapshot.lock
        if refused.refusal is Refusal.ENDED and lock is not None:
            return lock
        raise _refusal(run, refused)
    holding = Holding(runtime, changed.snapshot, claimant.nonce, policy=run.policy, mark=mark, retention=None)
    if not holding.long_enough():
        raise _refusal(run, CallRefused(Refusal.HELD, "it was granted, and over before the answer came"))
    return holding


def _forgotten(seen: Snapshot) -> bool:
    """
    Tell whether a person has let the key be forgotten, and its payload with it.
    """
    return seen.lock is not None and seen.lock.status is Status.SCHEDULED and DATA_HASH not in seen.fields


def _refusal(run: OnceCall, refused: CallRefused) -> OncetaskError:
    facts: dict[str, Any] = {"document": run.document, "name": run.name, "key": run.key}
    key = None if run.key is None else readable(run.key)
    if refused.refusal is Refusal.OTHER_PAYLOAD:
        said = f"{run.name} has been called for the key {key!r} with another payload; it was not run."
    else:
        said = f"{run.name} is running for the key {key!r}: {refused.reason}. Call again later."
        facts["until"] = refused.until
    return ERRORS[refused.refusal](said, **facts)


def _note(runtime: Runtime, holding: Holding, error: Exception) -> None:
    """
    Record that the function raised. If that fails, a warning is logged; the caller raises the function's exception in any
    case.
    """
    nonce, message = runtime.clock.nonce(), said_by(error, words=runtime.config.log_contents)

    def rule(lock: Lock | None, fence: Fence, at: DecisionContext) -> Put | Lost:
        return named.give_up(lock, fence, message, nonce, at)

    try:
        holding.end(rule, dict)
    except OncetaskError as trouble:
        LOGGER.warning("%s The function had raised %s, which goes on.", trouble, type(error).__name__)
