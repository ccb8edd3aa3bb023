"""
The life of one delivery: read, claim, run, settle, dispatch, alert; in that order, each step in its own function.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gcp_oncetask import rules
from gcp_oncetask.checks.told import text_of
from gcp_oncetask.clock import Mark, elapsed
from gcp_oncetask.effects import damage, keys, owed_alerts
from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.errors import (
    ContentionError,
    DamagedError,
    DeliveryError,
    LeaseLostError,
    OncetaskError,
    StoreError,
    UnknownFeatureError,
)
from gcp_oncetask.execution import takeover, unread
from gcp_oncetask.execution.attempt import Attempt, running
from gcp_oncetask.execution.handler_spec import HandlerSpec
from gcp_oncetask.execution.renewal import Renewals, renewal_interval
from gcp_oncetask.execution.results import HandlerResult
from gcp_oncetask.execution.settling import Ended, delivered, failure, lost, settle
from gcp_oncetask.observe.log_context import About, LogContext, current
from gcp_oncetask.rules.decisions import Claimant, Expired, Fence, NeedTime, Put, Refused, Settlement, SettlementKind
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.documents import task_name
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.task_headers import TaskHeaders
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.side_writes import Freed, Hold
from gcp_oncetask.store.snapshot import Snapshot, trusted

_CONTESTS: Final = 5


@dataclass(slots=True)
class _DeliveryRun:
    """
    What is known of one delivery on its way.

    Attributes:
        undecided: Nonce of an expired holder of the resource key of which nothing is known yet.
        seen: The document as a rule last decided on it.
        started: The lease was granted, and the handler has begun.
    """

    runtime: Runtime
    renewals: Renewals
    spec: HandlerSpec
    delivery: Delivery
    headers: TaskHeaders | None
    claimant: Claimant
    mark: Mark
    arguments: Mapping[str, Any]
    undecided: str | None = None
    seen: Snapshot | None = None
    started: bool = False

    def about(self) -> LogContext:
        """
        What a line about this delivery names; it may be of a sequence that is over.
        """
        delivery = self.delivery
        seen = self.seen or Snapshot(delivery.document, None, None, None)
        return self.runtime.about(seen, delivery.sequence)


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


def as_delivered(delivery: Delivery, headers: TaskHeaders | None) -> Snapshot | None:
    """
    The document as it travelled in *delivery*, on the first try only: whatever is redelivered has most likely moved. None: it
    is to be read, as one whose lock is damaged.

    Raises:
        StoreError: It did not travel well.
    """
    first = headers is not None and headers.retry_count == 0
    if not first or delivery.contents is None or delivery.version is None:
        return None
    try:
        return trusted(delivery.document, delivery.version, delivery.contents)
    except DamagedError:
        return None


def execute(
    runtime: Runtime,
    renewals: Renewals,
    spec: HandlerSpec,
    delivery: Delivery,
    headers: TaskHeaders | None,
    trace: str | None,
    arguments: Mapping[str, Any],
    start: Snapshot | None = None,
) -> Ended:
    """
    Execute one delivery, or what a worker has found to be due.

    Args:
        runtime: Shared parts.
        renewals: Renews the lease while the handler runs.
        spec: The handler.
        delivery: The delivery, of this environment.
        headers: What Cloud Tasks says about it; None in pull mode.
        trace: Trace id of the request, by which the platform's log knows it.
        arguments: Route variables for the handler.
        start: The document as it was read just now; None: as the delivery says, or it is read.

    Returns:
        How it ended; failures of services included, so that the caller only translates.
    """
    run = _DeliveryRun(
        runtime,
        renewals,
        spec,
        delivery,
        headers,
        Claimant(runtime.clock.nonce(), trace, runtime.instance()),
        runtime.clock.mark(),
        arguments,
    )
    try:
        ended = claim(run, start)
        return ended if ended.about is not None else ended._replace(about=run.about)
    except (StoreError, UnknownFeatureError, ContentionError) as error:
        if isinstance(error, StoreError) and error.facts.get("unknown") and not run.started:
            context = _context(run, None if run.seen is None else run.seen.lock, run.delivery.token + 1, 0)
            runtime.events.never_started(context, "the fate of the claim is unknown; it was not used")
        return prevented(runtime, delivery, error, run.about, run.claimant.nonce)


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


def _context(run: _DeliveryRun, lock: Lock | None, token: int, attempt: int) -> LogContext:
    delivery = run.delivery
    return context_of(
        delivery.document,
        delivery.env,
        delivery.sequence,
        0 if lock is None else lock.step_of(delivery.sequence),
        token=token,
        attempt=attempt,
        claimant=run.claimant,
        key=None if lock is None else lock.key,
    )


def context_of(
    path: str,
    env: str,
    sequence: int,
    step: int,
    *,
    token: int,
    attempt: int,
    claimant: Claimant,
    key: str | None,
) -> LogContext:
    """
    The attempt as log lines name it.
    """
    task = task_name(path)
    return LogContext(
        document=path,
        sequence=sequence,
        attempt=attempt,
        token=token,
        holder=claimant.nonce,
        env=env,
        trace=claimant.trace,
        task=None if task is None else task.id,
        kind=None if task is None else task.kind,
        key=key,
        step=step,
    )


# --- claim ------------------------------------------------------------------------------------------------------------


def claim(run: _DeliveryRun, start: Snapshot | None) -> Ended:
    """
    Ask for the lease, and go on as the rules decide.
    """
    runtime, delivery = run.runtime, run.delivery
    start = start or as_delivered(delivery, run.headers)
    for _ in range(_CONTESTS):
        gate = None
        if run.spec.keyed:
            start = start or runtime.store.read(delivery.document)
            gate = _gate(run, start)
        ended = _try_claim(run, start, gate)
        if not isinstance(ended, keys.Contested):
            return ended
        _contest(run, ended.holder)
        start = None
    return Ended(Outcome.BUSY, "others kept taking its resource key")


def _gate(run: _DeliveryRun, start: Snapshot) -> keys.Gate | None:
    key = None if start.lock is None else start.lock.key
    return None if key is None else keys.Gate(run.runtime, start.path, key, undecided=run.undecided)


def _try_claim(run: _DeliveryRun, start: Snapshot | None, gate: keys.Gate | None) -> Ended | keys.Contested:
    runtime, delivery = run.runtime, run.delivery
    before: list[Snapshot] = []

    def decide(seen: Snapshot) -> Put | Refused | Expired | NeedTime | keys.Contested:
        before[:] = [seen]
        run.seen = seen
        at = runtime.moment(seen)
        decision = rules.claim(seen.lock, delivery, run.spec.to_claim(seen.lock).policy, run.claimant, at)
        if not isinstance(decision, Put) or decision.outcome is not None:
            return decision
        left = unread.judge(runtime, run.spec, seen, run.claimant.nonce)
        if left is not None:
            return left
        return decision if gate is None else gate.admit(seen, decision, at)

    changed = runtime.store.change(delivery.document, decide, start=start, along=gate)
    decision = changed.decision
    if isinstance(decision, keys.Contested):
        return decision
    if isinstance(decision, Expired):
        return _recover(run, changed.snapshot)
    if gate is not None and gate.free:
        keys.hand_over(runtime, Freed(gate.key))
    if isinstance(decision, Refused) and decision.outcome is Outcome.UNHANDLED:
        return unread.leave(delivery, decision.reason)
    if isinstance(decision, Refused):
        return postpone(runtime, changed.snapshot, decision)
    assert isinstance(decision, Put)
    if decision.outcome is not None:
        if decision.outcome is not Outcome.PARKED:
            keys.give_up_reservation(runtime, changed.snapshot)
        return _closed(run, before[0].lock, changed.snapshot, decision.outcome, "")
    return _granted(run, before[0], changed.snapshot, None if gate is None else gate.version)


def _contest(run: _DeliveryRun, holder: Snapshot) -> None:
    """
    The holder of the resource key has let its lease expire: judge it, before the claim is tried again.
    """
    runtime = run.runtime
    [judged] = takeover.judge_all(runtime, [holder])
    changed = takeover.take_over(runtime, judged, None)
    decision = changed.decision
    verdict = judged.verdict
    put = decision if isinstance(decision, Put) else None
    runtime.events.key_contested(runtime.about(holder), verdict, put)
    if isinstance(decision, Put):
        if decision.dispatch:
            dispatch(runtime, changed.snapshot)
        owed_alerts.send_owed(
            runtime, changed.snapshot, owed_alerts.newly_owed(holder.lock, changed.snapshot.lock), run.mark
        )
    if isinstance(decision, Refused) and decision.outcome is Outcome.UNKNOWN:
        # Nothing is known of it yet: wait for the key like everybody else.
        run.undecided = judged.fence.holder


def postpone(runtime: Runtime, snapshot: Snapshot, refused: Refused) -> Ended:
    """
    The answer to a refused delivery; one that came far too early is replaced by one that comes at the right time.
    """
    early = refused.outcome is Outcome.EARLY and refused.until is not None
    if not early or refused.until is None or refused.until - (snapshot.read or runtime.store.estimate()) <= rules.EARLY:
        return Ended(refused.outcome, refused.reason)
    before = snapshot.lock

    def decide(seen: Snapshot) -> Put | Refused:
        if seen.lock is None or seen.lock != before:
            return Refused(Outcome.EARLY, "it has moved meanwhile")
        return rules.postpone(seen.lock, runtime.moment(seen))

    changed = runtime.store.change(snapshot.path, decide, start=snapshot)
    if isinstance(changed.decision, Refused):
        return Ended(Outcome.EARLY, changed.decision.reason)
    if not dispatch(runtime, changed.snapshot):
        return Ended(Outcome.EARLY, "the delivery for the right time could not be made")
    return Ended(Outcome.POSTPONED, "it came too early; another delivery was made")


def _recover(run: _DeliveryRun, snapshot: Snapshot) -> Ended:
    runtime = run.runtime
    [judged] = takeover.judge_all(runtime, [snapshot])
    lock = takeover.lock_of(snapshot)
    # One that rode in the batch of another has no key of its own: it is released, and claims anew; so is what this version of
    # the program can't read.
    alone = lock.rides or run.spec.subject.unread(runtime, snapshot) is not None
    grant_to = None if alone else (run.spec.to_claim(lock).policy, run.claimant)
    changed = takeover.take_over(runtime, judged, grant_to)
    decision = changed.decision
    if isinstance(decision, Refused):
        return Ended(decision.outcome, decision.reason)
    if not isinstance(decision, Put):
        # Somebody else was quicker: what is there now is decided by the ordinary table.
        return Ended(Outcome.BUSY, "another delivery or the sweeper took it over")
    verdict = judged.verdict
    runtime.events.taken_over(runtime.about(snapshot), verdict, decision.outcome)
    if decision.outcome is None:
        version = None if changed.hold is None else changed.hold.version
        newly = owed_alerts.newly_owed(snapshot.lock, changed.snapshot.lock)
        return _granted(run, None, changed.snapshot, version, newly)
    if decision.dispatch:
        dispatch(runtime, changed.snapshot)
    return _closed(run, snapshot.lock, changed.snapshot, decision.outcome, verdict.reason)


def _closed(run: _DeliveryRun, before: Lock | None, snapshot: Snapshot, outcome: Outcome, reason: str) -> Ended:
    """
    Nothing is left to run; send what that owes.
    """
    owed_alerts.send_owed(
        run.runtime, snapshot, owed_alerts.newly_owed(before, snapshot.lock), run.runtime.clock.mark()
    )
    return Ended(outcome, reason or f"it is {outcome}")


# --- run --------------------------------------------------------------------------------------------------------------


def _granted(
    run: _DeliveryRun, before: Snapshot | None, snapshot: Snapshot, version: Any | None, newly: tuple[str, ...] = ()
) -> Ended:
    """
    Run what was granted; *version* is that of the resource key's document after the grant, None: not known, or there is none.
    """
    runtime, lock = run.runtime, snapshot.lock
    assert lock is not None
    hold = Hold.of(snapshot.path, lock, version)
    spec = run.spec.to_run(lock)
    context = _context(run, lock, lock.token, lock.attempts)
    if lock.holder != run.claimant.nonce:
        return Ended(Outcome.BUSY, "the lease was granted and taken over before the answer came")
    if elapsed(run.mark, runtime.clock.mark()) > spec.policy.lease / 2:
        return _give_back(run, snapshot, context, hold)
    attempt = Attempt(
        runtime,
        snapshot,
        policy=spec.policy,
        mark=run.mark,
        context=context,
        delivery=run.headers,
        renewing=spec.renew,
        hold=hold,
    )
    run.started = True
    token, outer = current.set(context), running.set(attempt)
    runtime.attempts.add(attempt)
    if spec.renew:
        run.renewals.add(attempt, renewal_interval(spec.policy.lease), run.mark)
    runtime.events.granted(attempt, before, current=True)
    try:
        ended = _run(run, attempt)
        runtime.events.ended(attempt, ended.outcome, ended.reason)
        return ended
    except BaseException as error:
        runtime.events.ended(attempt, attempt.settled, "", error)
        raise
    finally:
        if spec.renew:
            run.renewals.remove(attempt)
        current.reset(token)
        running.reset(outer)
        runtime.attempts.discard(attempt)
        now = attempt.snapshot
        newly += owed_alerts.newly_owed(lock, now.lock)
        owed_alerts.send_owed(runtime, now, newly, run.mark)


def _give_back(run: _DeliveryRun, snapshot: Snapshot, context: LogContext, hold: Hold | None) -> Ended:
    fence = Fence(context.sequence, context.token, context.holder)
    how = Settlement(kind=SettlementKind.RELEASE, nonce=run.runtime.clock.nonce())
    changed = run.runtime.store.change(
        snapshot.path,
        lambda seen: rules.settle(seen.lock, fence, how, run.runtime.moment(seen)),
        start=snapshot,
        own=True,
        hold=hold,
    )
    keys.hand_over(run.runtime, changed.freed)
    if isinstance(changed.decision, Put) and changed.decision.dispatch:
        dispatch(run.runtime, changed.snapshot)
    run.runtime.events.never_started(context, "the claim took half the lease; it was given back")
    return Ended(Outcome.SHORT_LEASE, "the claim took more than half of the lease; it was given back")


def _run(run: _DeliveryRun, attempt: Attempt) -> Ended:
    spec = run.spec.to_run(attempt.granted)
    entity: Any = None
    try:
        entity = spec.subject.load(run.runtime, attempt)
        value = spec.run(entity, attempt, **run.arguments)
    except LeaseLostError as error:
        return lost(run.runtime, attempt, error)
    except HandlerResult as verdict:
        value = verdict
    except (SystemExit, KeyboardInterrupt) as error:
        # The process is to end: that is a failed attempt, and the lease is not left to run out.
        if attempt.settled is None:
            settle(run.runtime, spec, attempt, entity, failure(run.runtime, spec, attempt, error))
        raise
    except Exception as error:  # noqa: BLE001 - whatever user code raises is a failed attempt
        if attempt.settled is not None:
            return _raised_after(run, attempt, error)
        reason = None if entity is not None else spec.subject.unread(run.runtime, attempt.snapshot)
        if reason is not None:
            return _unread(run, attempt, reason)
        attempt.context.log(logging.ERROR, "the attempt failed", exc_info=True)
        return settle(run.runtime, spec, attempt, entity, failure(run.runtime, spec, attempt, error))
    if attempt.settled is not None:
        return _already(attempt, value)
    return settle(run.runtime, spec, attempt, entity, value)


def _unread(run: _DeliveryRun, attempt: Attempt, reason: str) -> Ended:
    """
    It came after the claim was decided: a payload that another version of the program has stored meanwhile.
    """
    try:
        unread.give_back(run.runtime, attempt)
    except LeaseLostError as error:
        return lost(run.runtime, attempt, error)
    return unread.leave(run.delivery, reason)


def _already(attempt: Attempt, value: Any) -> Ended:
    outcome = attempt.settled
    assert outcome is not None
    if value is not None:
        attempt.context.log(
            logging.WARNING,
            "the handler returned a value after it had settled the attempt; pass result= to complete().",
        )
    return Ended(outcome, "settled by the handler", attempt.context)


def _raised_after(run: _DeliveryRun, attempt: Attempt, error: Exception) -> Ended:
    run.runtime.events.raised(attempt, error)
    attempt.context.log(
        logging.ERROR, "the handler raised after it had settled the attempt; the settling stands.", exc_info=error
    )
    run.runtime.events.person_needed(
        attempt.snapshot,
        f"{attempt.sequence}-{attempt.token}-raised",
        f"the handler raised {type(error).__name__} after it had settled sequence {attempt.sequence}: "
        f"{text_of(error, words=run.runtime.config.log_contents)}",
    )
    return Ended(Outcome.SETTLED, f"settled, then raised {type(error).__name__}", attempt.context)
