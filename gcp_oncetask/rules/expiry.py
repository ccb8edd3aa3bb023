"""
The rules of recovery and of the sweeper: for expired leases, overdue tasks and alerts that are owed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from gcp_oncetask.checks.urls import without_data
from gcp_oncetask.rules import attention, family, features, journal, waits, writes
from gcp_oncetask.rules.attempts import fenced, settle
from gcp_oncetask.rules.attention import ORDER, Reason
from gcp_oncetask.rules.decisions import (
    Claimant,
    DecisionContext,
    Fence,
    Look,
    Lost,
    NeedTime,
    Policy,
    Put,
    Refused,
    Settlement,
    SweepAction,
)
from gcp_oncetask.rules.evidence import Finding
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Event, Lock, Status, superseded
from gcp_oncetask.rules.retry_policy import delay_of
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.rules.writes import LATE_EVIDENCE, RECHECK, expires_at, timeout_at

_LOGGED: Final = (
    "There is no handler for it, another version has written its payload, or it needs a newer release: the lines of the "
    "service's log that bear this document's name say which."
)


def take_over(
    lock: Lock | None,
    fence: Fence,
    *,
    finding: Finding,
    reason: str,
    evidence: Sequence[str],
    settlement: Settlement | None,
    at: DecisionContext,
    grant_to: tuple[Policy, Claimant] | None,
    asked: datetime | None = None,
) -> Put | Refused | Lost | NeedTime:
    """
    Decide about an expired lease whose holder was judged.

    Args:
        lock: The record as it is now.
        fence: The holder that was judged.
        finding: The finding about that holder.
        reason: The verdict as a sentence.
        evidence: Log lines on which the verdict rests.
        settlement: The settlement that the holder was about to commit (``recorded``).
        at: Moment of the read that showed *lock*.
        grant_to: Policy and claimant to which the lease is granted (a delivery); None: it is only released (the sweeper).
        asked: Server time at which the logs were queried, if that was before *at*. The timeout must have passed by that
            time, because missing lines may have become visible since.

    Returns:
        Put with outcome RECOVERED, QUARANTINED, FAILED, CANCELLED, or None (taken over); Refused UNKNOWN before the
        timeout, or BUSY if the lease was renewed; Lost if it is no longer that holder's lease.
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
    # 1. The holder had finished and logged its settlement: write exactly that.
    if finding is Finding.RECORDED and settlement is not None:
        return _recovered(writes.owe(lock, Event.TAKEOVER, reason, evidence, at), fence, settlement, at)
    # 2. The logs show no end of the holder: leave the lease alone until the timeout.
    timeout = timeout_at(lock, at.log_grace)
    if finding is Finding.UNKNOWN and min(asked or at.read, at.read) <= timeout:
        return Refused(Outcome.UNKNOWN, reason, timeout)
    # 3. A person decides, if the handler's policy says so.
    if finding in (Finding.UNKNOWN, Finding.FINISHED, Finding.RECORDED) and lock.on_unknown == "quarantine":
        owing = writes.owe(lock, Event.QUARANTINE, reason, evidence, at)
        return Put(writes.with_due(owing, at, status=Status.QUARANTINED), Outcome.QUARANTINED)
    noted = writes.noted(lock, f"lease expired: {reason}", at)
    if finding is Finding.DIED and noted.open:
        noted = journal.over(noted, fence.token, at.now)
    # 4. The limit of attempts, then the takeover.
    limit = lock.max_attempts if grant_to is None else grant_to[0].max_attempts
    if writes.used_up(lock, limit) and not writes.stopped(lock):
        return writes.given_up(noted, at, f"its {lock.attempts} attempts are used up; the last one: {reason}", evidence)
    owing = noted if finding is Finding.NEVER_STARTED else writes.owe(noted, Event.TAKEOVER, reason, evidence, at)
    if grant_to is not None and not superseded(lock):
        return writes.granted(owing, *grant_to, at)
    wait = None
    if lock.retry is not None:
        wait = at.now + timedelta(seconds=delay_of(lock.retry, lock.attempts, at.chance))
    return writes.again(owing, wait, Outcome.RETRYING, at)


def _recovered(lock: Lock, fence: Fence, settlement: Settlement, at: DecisionContext) -> Put:
    put = settle(lock, fence, settlement, at)
    assert isinstance(put, Put)
    # The queue was not told of the failure, so it does not redeliver: dispatch again.
    if put.outcome is Outcome.FAILED_ATTEMPT:
        again = writes.again(put.lock, None, Outcome.RETRYING, at)
        return Put(again.lock, Outcome.RECOVERED, dispatch=again.dispatch)
    return Put(put.lock, Outcome.RECOVERED, dispatch=put.dispatch)


def _late(
    lock: Lock, fence: Fence, finding: Finding, settlement: Settlement | None, at: DecisionContext
) -> Put | Refused:
    if finding is Finding.RECORDED and settlement is not None:
        return _recovered(lock, fence, settlement, at)
    return Refused(Outcome.QUARANTINED, f"sequence {lock.sequence} is quarantined; resolve it")


def look(lock: Lock, at: DecisionContext) -> Look:
    """
    Decide what to do with a document whose due time has come; this is the sweeper's table.
    """
    assert at.read is not None
    if lock.due is None or lock.due.rsplit("/", 1)[-1] > instant(at.read):
        return Look(SweepAction.LEAVE)
    ripe = tuple(owed.id for owed in lock.owed if owed.until <= at.read)
    if ripe or lock.orphans:
        return Look(SweepAction.ALERT if ripe else SweepAction.ORPHANS, owed=ripe)
    match lock.status:
        case Status.SCHEDULED if lock.wait is not None and family.awaits(lock) and waits.waits(lock, at.now):
            return Look(SweepAction.CHILDREN, Put(writes.with_due(told_of_wait(lock, at), at)))
        case Status.SCHEDULED if lock.wait is not None and lock.wait_until is None and waits.waits(lock, at.now):
            return Look(SweepAction.PUT, Put(writes.with_due(told_of_wait(lock, at), at)))
        case Status.SCHEDULED:
            return Look(SweepAction.DISPATCH)
        case Status.LEASED if at.read < expires_at(lock):
            return Look(SweepAction.PUT, Put(writes.with_due(lock, at)))
        case Status.LEASED:
            return Look(SweepAction.JUDGE)
        case Status.QUARANTINED if at.read < timeout_at(lock, at.log_grace) + LATE_EVIDENCE:
            return Look(SweepAction.JUDGE)
        case _ if lock.finished and lock.erase_seconds is not None and not lock.erased:
            return Look(SweepAction.ERASE, erased(lock, at))
        case _:
            return Look(SweepAction.PUT, Put(writes.with_due(lock, at)))


def told_of_wait(lock: Lock, at: DecisionContext) -> Lock:
    """
    Return *lock*, which waits without a time-out, so that a person is told if it has waited for long.
    """
    wait = lock.wait
    if wait is None or at.now < wait.since + waits.WAITING:
        return lock
    asked = " or ".join(wait.events) or wait.name
    return needs_person(lock, Reason.WAITING, f"it has waited for {asked} since {instant(wait.since)}", at)


def erased(lock: Lock, at: DecisionContext) -> Put:
    """
    Return the tombstone of an ended task: its payload, result, parameters and journal are erased, its id and outcome stay.
    """
    return Put(
        writes.with_due(
            journal.begun_anew(lock, mailbox=False),
            at,
            erased=True,
            result=None,
            result_json=None,
            result_lost=None,
            params=None,
            errors=(),
        )
    )


def still_queued(lock: Lock, at: DecisionContext, refused: str | None = None) -> Put:
    """
    Decide about an overdue, unclaimed task whose Cloud Task is still in the queue: only ``due`` moves, so a paused queue is
    not flooded.

    Args:
        lock: The record.
        at: Moment.
        refused: Sentence about its deliveries that the library itself refused. Then the other tasks of the queue need not
            wait: a person is alerted of this one, if it waits for too long.
    """
    # A record of an older release gets the time here since which it has waited.
    known = writes.with_due(lock, at)
    if refused is not None and attention.is_stuck(known, at):
        known = needs_person(known, Reason.STUCK, f"it is refused at {lock.url}: {refused}. {_LOGGED}", at)
    return Put(writes.look_again(known, at, attention.look_by(known.ready_at, attention.next_look(known, at), at)))


def redispatch(lock: Lock, at: DecisionContext) -> Put:
    """
    Decide about an overdue, unclaimed task that has no Cloud Task any more: it gets another one. A person is alerted if it
    waits for too long.
    """
    again = lock.but(dispatches=lock.dispatches + 1)
    if attention.is_stuck(lock, at):
        known = f"it was dispatched {lock.dispatches} times and not claimed"
        again = needs_person(
            again, Reason.STUCK, f"{known}: is {without_data(lock.url or '')} served, by this version?", at
        )
    return Put(writes.with_due(again, at), dispatch=True)


def undispatched(lock: Lock, at: DecisionContext) -> Put | None:
    """
    Record that a task needs a person, because its Cloud Task was refused for good; None if that is recorded already. The
    person is alerted for all tasks of the queue at once, not by this record.
    """
    marked = needs_person(writes.with_due(lock, at), Reason.UNDISPATCHED, None, at)
    return None if marked.attention == lock.attention else Put(marked)


def needs_person(lock: Lock, reason: Reason, message: str | None, at: DecisionContext) -> Lock:
    """
    Return *lock*, which waits, with ``attention`` for *reason*; a graver reason stays. An alert with *message* is owed
    unless a person was alerted before.
    """
    present = attention.reason_of(lock)
    if present is not None and ORDER.index(present) <= ORDER.index(reason):
        return lock
    marked = lock.but(attention=attention.attention(lock, at, reason))
    return marked if message is None or present is not None else writes.owe_named(marked, reason, message, at)


def newly_scheduled(before: Lock | None, after: Lock | None, env: str) -> bool:
    """
    Tell, for the outbox trigger, whether a write owes a delivery whose Cloud Task has a new name.

    Args:
        before: The record before the write; None if there was none.
        after: The record after it; None if the document is gone.
        env: Environment of the process.

    Returns:
        False if the record is not scheduled, needs a newer release, is another environment's or waits to be pulled, or if
        an earlier write already owed a Cloud Task of the same name.
    """
    if after is None or after.env != env or after.status is not Status.SCHEDULED or features.unknown(after):
        return False
    if after.url is None or after.queue is None or not (after.due or "").startswith(f"{env}/push/"):
        return False
    return before is None or _named(before) != _named(after)


def _named(lock: Lock) -> tuple[str | None, int, int]:
    # The parts of the name of its Cloud Task, besides environment and document.
    return lock.scheduled_by, lock.sequence, lock.dispatches


def is_overdue(lock: Lock, now: datetime) -> bool:
    """
    Tell whether the due time of a task has come: from then on the sweeper may have dispatched it under another name.
    """
    return lock.due is not None and lock.due.rsplit("/", 1)[-1] <= instant(now)


def postpone(lock: Lock, at: DecisionContext) -> Put:
    """
    Decide about a delivery that came far too early: make one that comes when the task is due.
    """
    return Put(writes.with_due(lock, at, dispatches=lock.dispatches + 1), Outcome.POSTPONED, dispatch=True)


def later(lock: Lock, at: DecisionContext, by: timedelta = RECHECK) -> Put:
    """
    Let the sweeper look at the document again after *by*; if its holder is unknown, at the timeout at the latest.
    """
    when = at.now + by
    if lock.status is Status.LEASED and at.now < (timeout := timeout_at(lock, at.log_grace)):
        when = min(when, timeout + timedelta(seconds=1))
    return Put(writes.look_again(lock, at, when))
