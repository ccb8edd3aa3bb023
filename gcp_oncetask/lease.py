"""
All the rules about locks, as pure functions of (record, request, server time).

Guarantee
    Whoever commits what these functions decide, on condition that the document has not changed since the record was
    read, keeps the promise of the README: one holder at a time, fenced writes, finished stays finished, nothing lost,
    attempts bounded, evidence before takeover.

No guarantee
    A holder may still *believe* it holds a lease that was taken over, and may still call the outside world. It can't
    write through us, and the idempotency key is for the rest.

States::

    (none) --schedule--> scheduled --claim--> leased --complete--> completed
                            ^  ^                |  |----fail-----> failed ----.
                            |  '-continue,retry-'  |--(cancelled)-> cancelled -+--reset--> scheduled, sequence + 1
                            |    snooze,release    '--no evidence-> quarantined+--resolve-> any of the others
                            '----------- schedule again (loaded and completed) -- a new chain

Trust window
    A lease counts from ``leased_at``, which the server's clock wrote. The holder counts from before it sent the claim,
    less a margin, so it stops believing before anybody else may stop. Expiry is judged only against the server time of
    the very read that showed the record. A lease is valid while ``read < leased_at + lease`` (exactly at its end it has
    expired), and it is taken over without evidence when ``read > granted_at + timeout`` (exactly then it is not yet).

Fence
    ``status`` leased (or quarantined: its own holder may still settle), and ``holder`` and ``token`` those of the
    attempt.

Source:
    datastore-locker's Aquire, Schedule, Complete and its handler's table; it differs in that finished tasks are refused
    by status and not by a sentinel, that attempts are counted when granted, and that the alert follows the commit.
    Leases as in Gray and Cheriton (1989), fencing as Chubby's sequencers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from gcp_oncetask.decision import (
    Claimant,
    Expired,
    Fence,
    Kind,
    Look,
    Lost,
    Moment,
    NeedTime,
    Policy,
    Put,
    Refused,
    Settlement,
    Target,
)
from gcp_oncetask.delivery import Delivery, Outcome, instant
from gcp_oncetask.record import SERVER_TIME, Event, Failure, Lock, Owed, Status
from gcp_oncetask.retry import delay_of

MAX_ERRORS: Final = 10
MAX_MESSAGE: Final = 500
MAX_OWED: Final = 10
MAX_GRACE: Final = 3600.0
"""Longest time between two dispatches of a task that nobody claims, in seconds."""
UNCLAIMED: Final = 5
"""After this many dispatches without a claim, a person is told."""
LATE_EVIDENCE: Final = timedelta(hours=1)
"""For how long after its timeout a quarantined attempt is looked up in the logs."""
RECHECK: Final = timedelta(seconds=30)
"""How often an expired lease without evidence is looked at again."""
EARLY: Final = timedelta(seconds=60)
"""A delivery earlier than this is replaced by one that comes at the right time."""


# --- time -------------------------------------------------------------------------------------------------------------


def expires_at(lock: Lock) -> datetime:
    """
    First instant at which the lease has expired, by the server's clock.
    """
    assert lock.leased_at is not None
    assert lock.granted_at is not None
    return _expiry(lock, lock.leased_at, lock.granted_at)


def _expiry(lock: Lock, leased_at: datetime, granted_at: datetime) -> datetime:
    lease_end = leased_at + timedelta(0, lock.lease_seconds)
    run_end = granted_at + timedelta(0, lock.run_limit_seconds)
    return min(lease_end, run_end)


def timeout_at(lock: Lock) -> datetime:
    """
    Last instant at which an expired lease without evidence is still left alone.
    """
    assert lock.granted_at is not None
    return lock.granted_at + timedelta(seconds=lock.timeout_seconds)


def _with_due(lock: Lock, at: Moment) -> Lock:
    """
    *lock* with its ``due``: the earliest instant at which somebody must look at it; none if nothing is owed.
    """
    times = [owed.until for owed in lock.owed]
    match lock.status:
        case Status.SCHEDULED:
            start = at.now if lock.wait_until is None else max(at.now, lock.wait_until)
            patience = min(at.grace * 2 ** min(max(lock.dispatches, 1) - 1, 16), MAX_GRACE)
            times.append(start + timedelta(seconds=patience))
        case Status.LEASED:
            assert lock.leased_at is not None
            assert lock.granted_at is not None
            leased_at = at.now if lock.leased_at is SERVER_TIME else lock.leased_at
            granted_at = at.now if lock.granted_at is SERVER_TIME else lock.granted_at
            # The estimate is never late, so the sweeper would come a little early: give it a second.
            times.append(_expiry(lock, leased_at, granted_at) + timedelta(seconds=1))
        case Status.QUARANTINED if at.now < timeout_at(lock) + LATE_EVIDENCE:
            times.append(at.now + timedelta(minutes=5))
        case _:
            pass
    return lock.but(due=f"{at.place}/{instant(min(times))}" if times else None)


def _look_again(lock: Lock, at: Moment, when: datetime) -> Lock:
    times = [when, *(owed.until for owed in lock.owed)]
    return lock.but(due=f"{at.place}/{instant(min(times))}")


# --- schedule ---------------------------------------------------------------------------------------------------------


def schedule(lock: Lock | None, loaded: int | None, target: Target, nonce: str, at: Moment) -> Put | Refused:
    """
    Make the next sequence of a document from outside a handler.

    Args:
        lock: The record, or None if the document has none or does not exist.
        loaded: Sequence the caller's entity was loaded with; None for one made in Python (or loaded without a lock).
        target: Where it goes.
        nonce: Recognises this schedule.
        at: Moment.

    Returns:
        Put with a dispatch; or Refused: FOREIGN (another environment), BUSY (the chain runs or has moved on), FAILED
        (it ended and needs a person's word), DUPLICATE (it has finished).
    """
    if lock is None:
        new = Lock.of({"env": at.env, "sequence": 0, "status": Status.SCHEDULED})
        return _scheduled(new, target, nonce, at, base=0)
    if lock.env != at.env:
        return Refused(Outcome.FOREIGN, f"it belongs to environment {lock.env!r}, not {at.env!r}")
    if lock.status in (Status.SCHEDULED, Status.LEASED):
        return Refused(Outcome.BUSY, f"its chain is at sequence {lock.sequence} and {lock.status}")
    if lock.status is Status.QUARANTINED:
        return Refused(Outcome.QUARANTINED, f"sequence {lock.sequence} is quarantined; resolve it first")
    if loaded is None:
        return Refused(Outcome.DUPLICATE, f"its chain has ended at sequence {lock.sequence}: {lock.status}")
    if loaded != lock.sequence:
        return Refused(Outcome.BUSY, f"it has moved on from sequence {loaded} to {lock.sequence}; load it again")
    if lock.status is not Status.COMPLETED:
        return Refused(Outcome.FAILED, f"sequence {lock.sequence} is {lock.status}; reset it first")
    return _scheduled(lock, target, nonce, at, base=lock.sequence)


def _scheduled(lock: Lock, target: Target, nonce: str, at: Moment, *, base: int) -> Put:
    made = lock.but(
        env=at.env,
        sequence=lock.sequence + 1,
        base=base,
        keyed=lock.sequence + 1,
        status=Status.SCHEDULED,
        scheduled_token=lock.token,
        scheduled_by=nonce,
        attempts=0,
        errors=(),
        wait_until=target.wait_until,
        dispatches=1,
        url=target.url,
        queue=target.queue,
        params=target.params,
        headers=target.headers,
        result=None,
        cancel_requested_at=None,
    )
    return Put(_with_due(made, at), Outcome.CONTINUED, dispatch=True)


# --- claim ------------------------------------------------------------------------------------------------------------


def claim(
    lock: Lock | None, delivery: Delivery, policy: Policy, claimant: Claimant, at: Moment
) -> Put | Refused | Expired | NeedTime:
    """
    Decide whether *delivery* may run.

    Grants raise the token by one, always, and count as an attempt.

    Returns:
        Put(lock) with outcome None: granted. Put with FAILED: the attempts are used up. Refused: GONE, FOREIGN, NEWER,
        DUPLICATE, EARLY or BUSY, tested in that order. Expired: ask for evidence, then ``take_over``. NeedTime: read
        again.
    """
    refusal = _not_ours(lock, delivery, at)
    if refusal is not None:
        return refusal
    assert lock is not None
    if lock.status is Status.LEASED:
        if at.read is None:
            return NeedTime()
        if at.read < expires_at(lock):
            return Refused(Outcome.BUSY, f"attempt {lock.attempts} holds the lease", expires_at(lock))
        return Expired(lock)
    # The estimate is never later than the server's clock: if it says due, it is due.
    if lock.wait_until is not None and at.now < lock.wait_until:
        if at.read is None:
            return NeedTime()
        if at.read < lock.wait_until:
            return Refused(Outcome.EARLY, f"it is not due before {instant(lock.wait_until)}", lock.wait_until)
    return _grant(lock, policy, claimant, at)


def _not_ours(lock: Lock | None, delivery: Delivery, at: Moment) -> Refused | None:
    if lock is None:
        return Refused(Outcome.GONE, "the document is gone, or its lock was removed")
    if lock.env != at.env or delivery.env != at.env:
        return Refused(Outcome.FOREIGN, f"document {lock.env!r}, delivery {delivery.env!r}, process {at.env!r}")
    if delivery.sequence > lock.sequence:
        return Refused(Outcome.NEWER, f"the document is only at sequence {lock.sequence}")
    if delivery.sequence < lock.sequence:
        return Refused(Outcome.DUPLICATE, f"the document is already at sequence {lock.sequence}")
    if lock.finished or lock.status is Status.QUARANTINED:
        return Refused(Outcome.DUPLICATE, f"sequence {lock.sequence} is {lock.status}")
    return None


def _grant(lock: Lock, policy: Policy, claimant: Claimant, at: Moment) -> Put:
    if lock.cancel_requested_at is not None:
        return _finish(lock, Status.CANCELLED, at, Outcome.CANCELLED)
    if lock.attempts >= policy.max_attempts:
        return _give_up(lock, at, f"its {lock.attempts} attempts are used up")
    granted = lock.but(
        status=Status.LEASED,
        token=lock.token + 1,
        holder=claimant.nonce,
        granted_at=SERVER_TIME,
        leased_at=SERVER_TIME,
        lease_seconds=policy.lease,
        timeout_seconds=policy.timeout,
        run_limit_seconds=policy.run_limit,
        max_attempts=policy.max_attempts,
        on_unknown=policy.on_unknown,
        alert_on=policy.alert_on,
        retry=policy.retry,
        attempts=lock.attempts + 1,
        wait_until=None,
        trace=claimant.trace,
        instance=claimant.instance,
    )
    return Put(_with_due(granted, at))


# --- what a holder may do ---------------------------------------------------------------------------------------------


def fenced(lock: Lock | None, fence: Fence) -> Lost | None:
    """
    None if the lease is still that of *fence*; else what was found.
    """
    if lock is None:
        return Lost("the document is gone, or its lock was removed", finished=True)
    if lock.status in (Status.LEASED, Status.QUARANTINED) and lock.token == fence.token and lock.holder == fence.holder:
        return None
    if lock.sequence != fence.sequence:
        return Lost(f"the document has moved on to sequence {lock.sequence}", finished=lock.sequence > fence.sequence)
    if lock.finished:
        return Lost(f"sequence {lock.sequence} is {lock.status} already", finished=True)
    return Lost(f"token {fence.token} is out of date; the record has {lock.token} and is {lock.status}", finished=False)


def settle(lock: Lock | None, fence: Fence, how: Settlement, at: Moment) -> Put | Lost:
    """
    End an attempt, or leave its mark (``CHECKPOINT``), if the fence holds.
    """
    lost = fenced(lock, fence)
    if lost is not None:
        return lost
    assert lock is not None
    signed = lock.but(settled_by=how.nonce)
    match how.kind:
        case Kind.COMPLETE:
            return complete(signed, how.result, at)
        case Kind.CONTINUE:
            assert how.target is not None
            assert how.next_nonce is not None
            return continue_(signed, how.target, how.next_nonce, at)
        case Kind.SNOOZE:
            return snooze(signed, how.wait_until, at)
        case Kind.RETRY:
            return retry(signed, how.message or "", how.wait_until, how.by_queue, at)
        case Kind.FAIL:
            return fail(signed, how.message or "", at)
        case Kind.RELEASE:
            return release(signed, at)
        case Kind.CHECKPOINT:
            return Put(signed)


def complete(lock: Lock, result: Any, at: Moment) -> Put:
    """
    The chain is done. A cancellation that came too late is forgotten.
    """
    return _finish(lock.but(result=result, cancel_requested_at=None), Status.COMPLETED, at, Outcome.COMPLETED)


def continue_(lock: Lock, target: Target, nonce: str, at: Moment) -> Put:
    """
    The step is done and the next one scheduled; a cancelled chain ends here instead.
    """
    if lock.cancel_requested_at is not None:
        return _finish(lock, Status.CANCELLED, at, Outcome.CANCELLED)
    return _scheduled(lock, target, nonce, at, base=lock.base)


def snooze(lock: Lock, wait_until: datetime | None, at: Moment) -> Put:
    """
    The same step again later; no attempt is burned.
    """
    return _again(lock.but(attempts=max(0, lock.attempts - 1)), wait_until, Outcome.SNOOZED, at)


def release(lock: Lock, at: Moment) -> Put:
    """
    The lease is given back unused; the queue delivers again, no attempt is burned.
    """
    if lock.cancel_requested_at is not None:
        return _finish(lock, Status.CANCELLED, at, Outcome.CANCELLED)
    back = lock.but(status=Status.SCHEDULED, attempts=max(0, lock.attempts - 1))
    return Put(_with_due(back, at), Outcome.SHORT_LEASE)


def retry(lock: Lock, message: str, wait_until: datetime | None, by_queue: bool, at: Moment) -> Put:
    """
    The attempt failed; another follows unless they are used up.
    """
    if lock.attempts >= lock.max_attempts:
        return fail(lock, message, at)
    noted = _noted(lock, message, at)
    if not by_queue:
        return _again(noted, wait_until, Outcome.RETRYING, at)
    if noted.cancel_requested_at is not None:
        return _finish(noted, Status.CANCELLED, at, Outcome.CANCELLED)
    return Put(_with_due(noted.but(status=Status.SCHEDULED), at), Outcome.FAILED_ATTEMPT)


def fail(lock: Lock, message: str, at: Moment) -> Put:
    """
    The attempt failed and no other follows.
    """
    return _give_up(_noted(lock, message, at), at, message)


def renew(lock: Lock | None, fence: Fence, at: Moment) -> Put | Lost:
    """
    Start the lease's length anew; the run limit stays where the grant put it.
    """
    lost = fenced(lock, fence)
    if lost is not None:
        return lost
    assert lock is not None
    if lock.status is Status.QUARANTINED:
        return Lost("the attempt is quarantined; it may settle, not renew", finished=False)
    return Put(_with_due(lock.but(leased_at=SERVER_TIME), at))


def _again(lock: Lock, wait_until: datetime | None, outcome: Outcome, at: Moment) -> Put:
    if lock.cancel_requested_at is not None:
        return _finish(lock, Status.CANCELLED, at, Outcome.CANCELLED)
    waiting = lock.but(status=Status.SCHEDULED, wait_until=wait_until, dispatches=lock.dispatches + 1)
    return Put(_with_due(waiting, at), outcome, dispatch=True)


def _finish(lock: Lock, status: Status, at: Moment, outcome: Outcome) -> Put:
    return Put(_with_due(lock.but(status=status, wait_until=None), at), outcome)


def _give_up(lock: Lock, at: Moment, reason: str, evidence: Sequence[str] = ()) -> Put:
    owing = _owe(lock, Event.FAILURE, reason, evidence, at)
    return _finish(owing, Status.FAILED, at, Outcome.FAILED)


def _noted(lock: Lock, message: str, at: Moment) -> Lock:
    failure = Failure(at.now, lock.attempts, lock.sequence, message[:MAX_MESSAGE])
    return lock.but(errors=(*lock.errors, failure)[-MAX_ERRORS:])


def _owe(lock: Lock, event: Event, reason: str, evidence: Sequence[str], at: Moment) -> Lock:
    if event not in lock.alert_on:
        return lock
    owed = Owed(
        id=f"{lock.sequence}-{lock.token}-{event}",
        event=event,
        at=at.now,
        until=at.now + timedelta(seconds=at.alert_retry),
        sequence=lock.sequence,
        attempt=lock.attempts,
        reason=reason[:MAX_MESSAGE],
        evidence=tuple(line[:300] for line in evidence[:5]),
    )
    return lock.but(owed=(*(old for old in lock.owed if old.id != owed.id), owed)[-MAX_OWED:])


# --- recovery ---------------------------------------------------------------------------------------------------------


def take_over(
    lock: Lock | None,
    fence: Fence,
    *,
    finding: str,
    reason: str,
    evidence: Sequence[str],
    settlement: Settlement | None,
    at: Moment,
    grant_to: tuple[Policy, Claimant] | None,
) -> Put | Refused | Lost | NeedTime:
    """
    Decide about an expired lease, once its holder was judged.

    Args:
        lock: The record as it is now.
        fence: The holder that was judged.
        finding: ``recorded``, ``finished``, ``died``, ``never-started`` or ``unknown``.
        reason: The verdict as a sentence.
        evidence: Log lines it rests on.
        settlement: What the holder was about to commit (``recorded``).
        at: Moment of the read that showed *lock*.
        grant_to: Grant the lease anew (a delivery), or None: only release it (the sweeper).

    Returns:
        Put with outcome RECOVERED, QUARANTINED, FAILED, CANCELLED, or None (taken over); Refused UNKNOWN before the
        timeout; Lost if it is no longer that holder's expired lease.
    """
    lost = fenced(lock, fence)
    if lost is not None:
        return lost
    assert lock is not None
    if lock.status is Status.QUARANTINED:
        return _late(lock, fence, finding, settlement, at)
    if at.read is None:
        return NeedTime()
    if at.read < expires_at(lock):
        return Refused(Outcome.BUSY, "the lease was renewed", expires_at(lock))
    # 1. The holder had finished and said what it would write: write exactly that.
    if finding == "recorded" and settlement is not None:
        return _recovered(_owe(lock, Event.TAKEOVER, reason, evidence, at), fence, settlement, at)
    # 2. Nothing is known: leave it alone until the timeout.
    if finding == "unknown" and at.read <= timeout_at(lock):
        return Refused(Outcome.UNKNOWN, reason, timeout_at(lock))
    # 3. A person decides where the kind says so.
    if finding in ("unknown", "finished", "recorded") and lock.on_unknown == "quarantine":
        owing = _owe(lock, Event.QUARANTINE, reason, evidence, at)
        return Put(_with_due(owing.but(status=Status.QUARANTINED), at), Outcome.QUARANTINED)
    noted = _noted(lock, f"lease expired: {reason}", at)
    # 4. The limit of attempts, then the takeover.
    limit = lock.max_attempts if grant_to is None else grant_to[0].max_attempts
    if lock.attempts >= limit:
        return _give_up(noted, at, f"its {lock.attempts} attempts are used up; the last one: {reason}", evidence)
    owing = noted if finding == "never-started" else _owe(noted, Event.TAKEOVER, reason, evidence, at)
    if grant_to is not None:
        return _grant(owing, *grant_to, at)
    wait = None
    if lock.retry is not None:
        wait = at.now + timedelta(seconds=delay_of(lock.retry, lock.attempts, at.chance))
    return _again(owing, wait, Outcome.RETRYING, at)


def _recovered(lock: Lock, fence: Fence, settlement: Settlement, at: Moment) -> Put:
    put = settle(lock, fence, settlement, at)
    assert isinstance(put, Put)
    # What the queue would have redelivered, had it heard of the failure, must now be dispatched.
    if put.outcome is Outcome.FAILED_ATTEMPT:
        again = _again(put.lock, None, Outcome.RETRYING, at)
        return Put(again.lock, Outcome.RECOVERED, dispatch=again.dispatch)
    return Put(put.lock, Outcome.RECOVERED, dispatch=put.dispatch)


def _late(lock: Lock, fence: Fence, finding: str, settlement: Settlement | None, at: Moment) -> Put | Refused:
    if finding == "recorded" and settlement is not None:
        return _recovered(lock, fence, settlement, at)
    return Refused(Outcome.QUARANTINED, f"sequence {lock.sequence} is quarantined; resolve it")


# --- the sweeper ------------------------------------------------------------------------------------------------------


def look(lock: Lock, at: Moment) -> Look:
    """
    What is to be done with a document whose due time has come; the sweeper's table.

    Returns:
        ``leave`` (not due after all), ``put`` (a write settles it), ``alert`` (send what is owed), ``dispatch`` (ask
        the queue, then dispatch again), ``judge`` (an expired or quarantined lease).
    """
    assert at.read is not None
    if lock.due is None or lock.due.rsplit("/", 1)[-1] > instant(at.read):
        return Look("leave")
    ripe = tuple(owed.id for owed in lock.owed if owed.until <= at.read)
    if ripe:
        return Look("alert", owed=ripe)
    match lock.status:
        case Status.SCHEDULED:
            return Look("dispatch")
        case Status.LEASED if at.read < expires_at(lock):
            return Look("put", Put(_with_due(lock, at)))
        case Status.LEASED:
            return Look("judge")
        case Status.QUARANTINED if at.read < timeout_at(lock) + LATE_EVIDENCE:
            return Look("judge")
        case _:
            return Look("put", Put(_with_due(lock, at)))


def redispatch(lock: Lock, at: Moment, *, queued: bool) -> Put:
    """
    An unclaimed task is overdue.

    Args:
        lock: The record.
        at: Moment.
        queued: Its present task is still in the queue: then only ``due`` moves, so a paused queue is not flooded.
    """
    if queued:
        return Put(_with_due(lock, at))
    again = lock.but(dispatches=lock.dispatches + 1)
    if again.dispatches == UNCLAIMED and lock.attempts == 0:
        reason = f"it was dispatched {lock.dispatches} times and never claimed: is {lock.url} served, by this version?"
        again = _owe(again, Event.FAILURE, reason, (), at)
    return Put(_with_due(again, at), Outcome.CONTINUED, dispatch=True)


def postpone(lock: Lock, at: Moment) -> Put:
    """
    Its delivery came far too early: make one that comes when it is due.
    """
    return Put(_with_due(lock.but(dispatches=lock.dispatches + 1), at), Outcome.POSTPONED, dispatch=True)


def later(lock: Lock, at: Moment, by: timedelta = RECHECK) -> Put:
    """
    Look at it again after *by*; an unknown holder at its timeout at the latest.
    """
    when = at.now + by
    if lock.status is Status.LEASED and at.now < timeout_at(lock):
        when = min(when, timeout_at(lock) + timedelta(seconds=1))
    return Put(_look_again(lock, at, when))


def sending(lock: Lock, ids: Sequence[str], at: Moment) -> Put | None:
    """
    Make this process the trusted sender of those alerts among *ids* that nobody sends; None if there are none.
    """
    assert at.read is not None
    owed = tuple(_lent(o, at) if o.id in ids and o.until <= at.read else o for o in lock.owed)
    return None if owed == lock.owed else Put(_with_due(lock.but(owed=owed), at))


def _lent(owed: Owed, at: Moment) -> Owed:
    wait = min(at.alert_retry * 2 ** min(owed.tries, 10), MAX_GRACE)
    return Owed(
        owed.id,
        owed.event,
        owed.at,
        at.now + timedelta(seconds=wait),
        owed.sequence,
        owed.attempt,
        owed.reason,
        owed.tries + 1,
        owed.evidence,
    )


def sent(lock: Lock, ids: Sequence[str], at: Moment) -> Put | None:
    """
    Those alerts are sent; None if none of them is owed any more.
    """
    owed = tuple(o for o in lock.owed if o.id not in ids)
    return None if owed == lock.owed else Put(_with_due(lock.but(owed=owed), at))


# --- what a person may do ---------------------------------------------------------------------------------------------


def cancel(lock: Lock, at: Moment) -> Put | Refused:
    """
    Stop a chain: at once if it waits, at its next settling if it runs.
    """
    if lock.finished:
        return Refused(Outcome.DUPLICATE, f"sequence {lock.sequence} is {lock.status} already")
    if lock.status is Status.LEASED:
        if lock.cancel_requested_at is not None:
            return Refused(Outcome.DUPLICATE, "its cancellation is under way")
        return Put(lock.but(cancel_requested_at=at.now), Outcome.CANCELLED)
    return _finish(lock.but(cancel_requested_at=at.now), Status.CANCELLED, at, Outcome.CANCELLED)


def reset(lock: Lock, nonce: str, at: Moment, *, keep_errors: bool = False) -> Put | Refused:
    """
    Run an ended step again, as a new sequence; one that did not complete keeps its idempotency key.
    """
    if not lock.finished and lock.status is not Status.QUARANTINED:
        return Refused(Outcome.BUSY, f"sequence {lock.sequence} is {lock.status}; only ended ones are reset")
    assert lock.url is not None
    assert lock.queue is not None
    target = Target(url=lock.url, queue=lock.queue, params=lock.params, headers=lock.headers)
    again = _scheduled(lock, target, nonce, at, base=lock.base + 1)
    kept = lock.keyed if lock.status is not Status.COMPLETED else again.lock.keyed
    errors = lock.errors if keep_errors else ()
    return Put(again.lock.but(keyed=kept, errors=errors), Outcome.CONTINUED, dispatch=True)


def resolve(lock: Lock, how: str, nonce: str, at: Moment, *, result: Any = None) -> Put | Refused:
    """
    A person's word about a quarantined step: ``run`` it again, or hold it ``complete`` or ``fail``ed.
    """
    if lock.status is not Status.QUARANTINED:
        return Refused(Outcome.BUSY, f"sequence {lock.sequence} is {lock.status}; only quarantined ones are resolved")
    signed = lock.but(settled_by=nonce)
    match how:
        case "run":
            return reset(lock, nonce, at, keep_errors=True)
        case "complete":
            return complete(signed, result, at)
        case _:
            noted = _noted(signed, "resolved as failed by a person", at)
            return _finish(noted, Status.FAILED, at, Outcome.FAILED)


def finish(lock: Lock | None, loaded: int | None, result: Any, nonce: str, at: Moment) -> Put | Refused:
    """
    Complete a chain from outside its handler, from exactly the sequence that was loaded.
    """
    if lock is None:
        return Refused(Outcome.GONE, "it was never scheduled")
    if lock.env != at.env:
        return Refused(Outcome.FOREIGN, f"it belongs to environment {lock.env!r}, not {at.env!r}")
    if lock.finished:
        return Refused(Outcome.DUPLICATE, f"its chain has ended at sequence {lock.sequence}: {lock.status}")
    if lock.status is not Status.SCHEDULED:
        return Refused(Outcome.BUSY, f"sequence {lock.sequence} is {lock.status}")
    if loaded != lock.sequence:
        return Refused(Outcome.NEWER, f"it has moved on to sequence {lock.sequence}; load it again")
    return complete(lock.but(settled_by=nonce), result, at)


# --- ambiguous commits ------------------------------------------------------------------------------------------------


def was_applied(meant: Lock, before: Lock | None, found: Lock | None, *, alive: bool) -> bool:
    """
    Whether a commit whose answer was lost has been applied, judged from the record as it is *found*.

    Args:
        meant: What the commit would have written; its nonces are fresh.
        before: The record it was decided on.
        found: The record now.
        alive: The writer's own lease had not run out when *found* was read, so nobody can have taken it over.

    Returns:
        True if one of our nonces is there, or if the document is beyond ours and nobody else can have moved it.
    """
    if found is None:
        return False
    for name in ("holder", "settled_by", "scheduled_by"):
        ours = getattr(meant, name)
        if ours is not None and (before is None or getattr(before, name) != ours) and getattr(found, name) == ours:
            return True
    settling = before is not None and before.status is Status.LEASED and meant.settled_by != before.settled_by
    if not settling or before is None or found.sequence <= before.sequence:
        return False
    # Beyond ours: a later token granted on ours would show in the token its successor was scheduled with.
    return alive or (found.sequence == before.sequence + 1 and found.scheduled_token == before.token)
