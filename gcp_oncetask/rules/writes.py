"""
The common parts of the rules: the due time of a document, and the records to which a decision can lead.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zlib import crc32

from gcp_oncetask.checks.values import storable_text
from gcp_oncetask.rules import attention, family, journal, waits
from gcp_oncetask.rules.decisions import Claimant, DecisionContext, Policy, Put, Target
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import SERVER_TIME, Event, Failure, Lock, PendingAlert, Status, superseded
from gcp_oncetask.rules.timestamps import instant

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MAX_ERRORS: Final = 10
MAX_MESSAGE: Final = 500
MAX_OWED: Final = 10
RESULT_LOST: Final = "result-lost"
"""End of the id of an alert about a lost result. Its event is a failure, which processes of older releases know."""
MAX_GRACE: Final = 3600.0
"""Longest time between two dispatches of an unclaimed task, in seconds."""
LATE_EVIDENCE: Final = timedelta(hours=1)
"""Time after its timeout for which a quarantined attempt is looked up in the logs."""
RECHECK: Final = timedelta(seconds=30)
"""Time between two looks at an expired lease without evidence."""
EARLY: Final = timedelta(seconds=60)
"""A delivery that comes earlier than this before its time is replaced by one that comes at the right time."""


def epoch_milliseconds(instant: datetime) -> int:
    """
    Return the epoch milliseconds of *instant*. The token of a new document, or the number of which its idempotency key is
    made, begins there: beyond all numbers of a document of the same name that was deleted before.
    """
    return round((instant - _EPOCH).total_seconds() * 1000)


def first_number(at: DecisionContext, nonce: str) -> int:
    """
    Return the number of which the first idempotency key of a document is made: the epoch milliseconds, and three digits of
    the call's *nonce*. Two calls may decide in one millisecond and make the document one after the other, because it was
    deleted in between; the digits tell their documents apart.
    """
    # The number stays below 2**53, so a program that reads numbers as floats reads it whole.
    return epoch_milliseconds(at.now) * 1000 + crc32(nonce.encode()) % 1000


def expires_at(lock: Lock) -> datetime:
    """
    Return the first instant at which the lease has expired, by the server's clock.
    """
    assert lock.leased_at is not None
    assert lock.granted_at is not None
    return expiry(lock, lock.leased_at, lock.granted_at)


def expiry(lock: Lock, leased_at: datetime, granted_at: datetime) -> datetime:
    """
    Return ``expires_at`` for times that the record does not have yet.
    """
    lease_end = leased_at + timedelta(0, lock.lease_seconds)
    run_end = granted_at + timedelta(0, lock.run_limit_seconds)
    return min(lease_end, run_end)


def timeout_at(lock: Lock, log_grace: float) -> datetime:
    """
    Return the last instant at which an expired lease without evidence is still left alone: the lease timeout, or later, the
    time until which an end line of the holder may become visible.

    Args:
        lock: The record.
        log_grace: Seconds until such a line is visible at the latest.
    """
    assert lock.leased_at is not None
    assert lock.granted_at is not None
    timeout = lock.granted_at + timedelta(0, lock.timeout_seconds)
    length = timedelta(0, lock.lease_seconds)
    run_end = lock.granted_at + timedelta(0, lock.run_limit_seconds)
    # The lease of a handler that hangs is renewed beyond its run limit while its process lives; such renewals don't count.
    lease_end = min(lock.leased_at, run_end) + length
    return max(timeout, max(lease_end, run_end) + timedelta(0, log_grace))


def with_due(lock: Lock, at: DecisionContext, **changes: Any) -> Lock:
    """
    Return *lock* with *changes* and with its ``due``: the earliest instant at which a sweeper or worker must look at it, or
    None if nothing is owed.
    """
    lock = lock.but(**changes)
    times = [owed.until for owed in lock.owed] if lock.owed else []
    match lock.status:
        case Status.SCHEDULED if lock.parked is not None or lock.paused:
            lock.__dict__["attention"] = None
        case Status.SCHEDULED if lock.wait is not None and family.awaits(lock) and waits.waits(lock, at.now):
            lock.__dict__["ready_at"] = None
            times.append(family.next_ask(lock.wait, at.now))
        case Status.SCHEDULED if lock.wait is not None and lock.wait_until is None and waits.waits(lock, at.now):
            # Only an event or a person ends this wait; a person is told of it once.
            lock.__dict__["ready_at"] = None
            if attention.said(lock.attention) is not attention.Reason.WAITING:
                times.append(max(at.now, lock.wait.since + waits.WAITING))
        case Status.SCHEDULED:
            start = at.now if lock.wait_until is None else max(at.now, lock.wait_until)
            # Workers look at a task when it is due; a delivery gets time to arrive before it is made again.
            patience = 0.0 if lock.url is None else min(at.grace * 2 ** min(max(lock.dispatches, 1) - 1, 16), MAX_GRACE)
            ready = attention.ready(lock, start)
            if ready is not lock.ready_at:
                # The time for which it waits begins anew, so it does not stand still any more.
                lock.__dict__.update(ready_at=ready, attention=None)
            times.append(attention.look_by(ready, start + timedelta(seconds=patience), at) if patience else start)
        case Status.LEASED:
            assert lock.leased_at is not None
            assert lock.granted_at is not None
            leased_at = at.now if lock.leased_at is SERVER_TIME else lock.leased_at
            granted_at = at.now if lock.granted_at is SERVER_TIME else lock.granted_at
            # The estimate is never later than the server's clock, so the sweeper could come a little early: add a second.
            times.append(expiry(lock, leased_at, granted_at) + timedelta(seconds=1))
        case Status.QUARANTINED if at.now < timeout_at(lock, at.log_grace) + LATE_EVIDENCE:
            times.append(at.now + timedelta(minutes=5))
        case _ if lock.finished and lock.erase_seconds is not None and not lock.erased:
            times.append(at.now + timedelta(seconds=lock.erase_seconds))
        case _:
            pass
    if lock.orphans:
        times.append(at.now)
    # No other code has seen this new record yet, so it is changed without another copy.
    lock.__dict__["due"] = f"{at.place}/{instant(min(times))}" if times else None
    reason = attention.reason_of(lock)
    if reason is not None or lock.attention is not None:
        lock.__dict__["attention"] = attention.attention(lock, at, reason)
    return lock


def look_again(lock: Lock, at: DecisionContext, when: datetime) -> Lock:
    """
    Return *lock*, due again at *when*, or earlier for an alert that is owed.
    """
    times = [when, *(owed.until for owed in lock.owed)]
    return lock.but(due=f"{at.place}/{instant(min(times))}")


def scheduled(lock: Lock, target: Target, nonce: str, at: DecisionContext, *, base: int) -> Lock:
    """
    Return the record of the next sequence, to be dispatched to *target*; its steps count from *base*.
    """
    begun = lock
    # Look-ups alone, as in begun_anew(): most records have none of these.
    if lock.journal or lock.chunks or lock.wait or lock.mailbox or lock.progress_at or lock.progress or lock.children:
        begun = journal.begun_anew(lock, mailbox=base == lock.base)
    return with_due(
        begun,
        at,
        env=at.env,
        sequence=lock.sequence + 1,
        base=base,
        keyed=max(lock.keyed, lock.sequence) + 1,
        status=Status.SCHEDULED,
        scheduled_token=lock.token,
        scheduled_by=nonce,
        attempts=0,
        releases=0,
        errors=(),
        wait_until=target.wait_until,
        dispatches=1,
        url=target.url,
        queue=target.queue,
        params=target.params,
        headers=target.headers,
        traceparent=target.traceparent,
        result=None,
        result_json=None,
        result_lost=None,
        cancel_requested_at=None,
        cancelling=False,
        parked=None,
        erased=False,
    )


def granted(lock: Lock, policy: Policy, claimant: Claimant, at: DecisionContext) -> Put:
    """
    Grant a lease to *claimant*: the token goes up by one, and an attempt is counted. A cancelled chain ends here instead,
    unless the policy is that of a cancellation handler; a chain whose attempts are used up ends here, too.
    """
    if lock.cancel_requested_at is not None:
        if not policy.cleanup and not lock.durable:
            return ended(lock, Status.CANCELLED, at, Outcome.CANCELLED)
        if not lock.cancelling:
            lock = lock.but(cancelling=True, attempts=0, progress_at=0)
    elif superseded(lock):
        # The lease was given back while a newer payload waited: that one has all of its attempts.
        lock = lock.but(attempts=0, progress_at=0)
    # As used_up(), without its calls: this is the grant of each attempt.
    if lock.attempts - lock.progress_at >= policy.max_attempts or lock.attempts >= policy.max_attempts * 10:
        return given_up(lock, at, f"its {lock.attempts} attempts are used up")
    granted = with_due(
        lock,
        at,
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
        cleanup=policy.cleanup,
        # A payload that came after the cancellation is not cancelled with it: it runs in the next sequence.
        granted=lock.granted if lock.cancelling else lock.wanted,
        attempts=lock.attempts + 1,
        parked=None,
        rides=False,
        trace=claimant.trace,
        instance=claimant.instance,
    )
    return Put(granted)


def used_up(lock: Lock, limit: int) -> bool:
    """
    Tell whether no other attempt may be granted. Attempts count since the last one that brought the journal forward; all
    together may be ten times as many.
    """
    return lock.tries >= limit or lock.attempts >= limit * 10


def given_back(lock: Lock) -> Lock:
    """
    Return *lock* after the orderly end of an attempt that does not count.
    """
    attempts = max(0, lock.attempts - 1)
    return lock.but(attempts=attempts, progress_at=min(lock.progress_at, attempts))


def ridden(lock: Lock, policy: Policy, claimant: Claimant, at: DecisionContext) -> Put | None:
    """
    Grant a lease to one more task of a batch, whose resource key *claimant* has. Return None if the task must run alone, or
    not now.
    """
    early = lock.wait is not None or (lock.wait_until is not None and at.now < lock.wait_until)
    if lock.status is not Status.SCHEDULED or early or lock.cancel_requested_at is not None:
        return None
    put = granted(lock, policy, claimant, at)
    return Put(put.lock.but(rides=True)) if put.outcome is None else None


def again(lock: Lock, wait_until: datetime | None, outcome: Outcome, at: DecisionContext) -> Put:
    """
    Run the same sequence once more, by a new dispatch. A cancelled chain ends here instead; a chain with a newer payload
    goes on with that.
    """
    if stopped(lock):
        return cancelled(lock, at)
    if superseded(lock) and not lock.cancelling:
        return following(lock, at)
    waiting = with_due(lock, at, status=Status.SCHEDULED, wait_until=wait_until, dispatches=lock.dispatches + 1)
    return Put(waiting, outcome, dispatch=True)


def stopped(lock: Lock) -> bool:
    """
    Tell whether a cancellation was requested that was not passed on to its cancellation handler yet.
    """
    return lock.cancel_requested_at is not None and not lock.cancelling


def cancelled(lock: Lock, at: DecisionContext) -> Put:
    """
    Cancel the chain: at once, or by one more delivery if there may be a cancellation handler.
    """
    if not lock.cleanup and not lock.durable:
        return ended(lock, Status.CANCELLED, at, Outcome.CANCELLED)
    waiting = with_due(
        lock,
        at,
        status=Status.SCHEDULED,
        wait_until=None,
        wait=waits.woken(lock, at.now),
        ready_at=None,
        parked=None,
        cancelling=True,
        attempts=0,
        progress_at=0,
        dispatches=lock.dispatches + 1,
    )
    return Put(waiting, Outcome.CANCELLED, dispatch=True)


def ended(lock: Lock, status: Status, at: DecisionContext, outcome: Outcome, **changes: Any) -> Put:
    """
    End the chain, or stop it, with *status* and *changes*. If a newer payload was requested meanwhile, the next sequence
    with that payload follows instead.
    """
    if lock.open:
        return asked(lock, at)
    if superseded(lock):
        return following(lock, at)
    if lock.children:
        lock = family.parting(lock, status)
    over = lock if lock.wait is None else journal.left(lock)
    return Put(with_due(over, at, status=status, wait_until=None, parked=None, paused=False, **changes), outcome)


def asked(lock: Lock, at: DecisionContext, reason: str | None = None) -> Put:
    """
    Set a sequence aside until a person has answered a question: about the runs that were begun once and whose results are
    not known, or the one of *reason*.
    """
    if reason is None:
        names = ", ".join(repr(intent.name) for intent in lock.open)
        several = "runs were" if len(lock.open) > 1 else "run was"
        reason = f"the {several} begun once and the result is not known: {names}. Did it happen?"
    owing = owe_named(lock, Event.QUARANTINE, reason, at, Event.QUARANTINE)
    return Put(set_aside(owing, at), Outcome.QUARANTINED)


def set_aside(lock: Lock, at: DecisionContext, **changes: Any) -> Lock:
    """
    Return *lock* quarantined without a holder, so that no former attempt may settle it. Its times are so old that the logs
    are not queried about a former attempt.
    """
    longest = max(lock.timeout_seconds, lock.run_limit_seconds + lock.lease_seconds) + at.log_grace
    long_over = at.now - timedelta(seconds=longest) - LATE_EVIDENCE
    return with_due(
        lock,
        at,
        status=Status.QUARANTINED,
        holder=None,
        granted_at=long_over,
        leased_at=long_over,
        wait_until=None,
        parked=None,
        **changes,
    )


def following(lock: Lock, at: DecisionContext) -> Put:
    """
    Schedule the next sequence at the same target, for a payload that came while this one ran; it runs at the time that the
    payload's request has set.
    """
    if lock.open:
        return asked(lock, at)
    target = Target(lock.url, lock.queue, lock.params, lock.headers, lock.wait_until, traceparent=lock.traceparent)
    made = scheduled(family.orphaning(lock), target, lock.settled_by or lock.holder or "-", at, base=lock.sequence)
    return Put(made, Outcome.CONTINUED, dispatch=True)


def given_up(lock: Lock, at: DecisionContext, reason: str, evidence: Sequence[str] = ()) -> Put:
    """
    End the chain as failed, and owe an alert. A chain whose cancellation was requested is cancelled instead.
    """
    if stopped(lock):
        return cancelled(lock, at)
    if lock.open:
        return asked(lock, at)
    owing = owe(lock, Event.FAILURE, reason, evidence, at)
    if lock.cancelling:
        return ended(owing, Status.CANCELLED, at, Outcome.CANCELLED)
    return ended(owing, Status.FAILED, at, Outcome.FAILED)


def swallowed(lock: Lock, at: DecisionContext) -> Lock:
    """
    Return *lock*, whose handler went on after its suspension, so that a person is needed.
    """
    return lock.but(attention=attention.attention(lock, at, attention.Reason.SWALLOWED))


def noted(lock: Lock, message: str, at: DecisionContext) -> Lock:
    """
    Return *lock* with one more failure of its present attempt.
    """
    failure = Failure(at.now, lock.attempts, lock.sequence, storable_text(message)[:MAX_MESSAGE])
    return lock.but(errors=(*lock.errors, failure)[-MAX_ERRORS:])


def owe(lock: Lock, event: Event, reason: str, evidence: Sequence[str], at: DecisionContext) -> Lock:
    """
    Return *lock* with an alert owed, if its policy has alerts of *event*.
    """
    if event not in lock.alert_on:
        return lock
    return _owing(lock, f"{event}", event, reason, evidence, at)


def owe_named(lock: Lock, name: str, reason: str, at: DecisionContext, event: Event = Event.FAILURE) -> Lock:
    """
    Return *lock* with an alert of *event* owed, under a *name* of its own, so that it does not replace other alerts of the
    same grant.
    """
    return _owing(lock, name, event, reason, (), at) if event in lock.alert_on else lock


def owe_result_lost(lock: Lock, reason: str, at: DecisionContext) -> Lock:
    """
    Return *lock* with an alert owed about a completed run whose result could not be stored. Its event is a failure, but
    nothing is run again.
    """
    return owe_named(lock, RESULT_LOST, f"its result could not be stored: {reason}", at)


def _owing(lock: Lock, id_: str, event: Event, reason: str, evidence: Sequence[str], at: DecisionContext) -> Lock:
    owed = PendingAlert(
        id=f"{lock.sequence}-{lock.token}-{id_}",
        event=event,
        at=at.now,
        until=at.now + timedelta(seconds=at.alert_retry),
        sequence=lock.sequence,
        attempt=lock.attempts,
        reason=storable_text(reason)[:MAX_MESSAGE],
        evidence=tuple(line[:300] for line in evidence[:5]),
    )
    return lock.but(owed=(*(old for old in lock.owed if old.id != owed.id), owed)[-MAX_OWED:])
