"""
The rules of a sequence: its schedule, and the claim, renewal and settling of its attempts.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from gcp_oncetask.rules import journal, waits, writes
from gcp_oncetask.rules.decisions import (
    CallRefused,
    Claimant,
    DecisionContext,
    Expired,
    Fence,
    Lost,
    NeedTime,
    Policy,
    Put,
    Refused,
    Settlement,
    SettlementKind,
    Target,
)
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import SERVER_TIME, HandlerWait, Lock, Result, Status, Woken, superseded
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.rules.writes import expires_at

FREE_RELEASES: Final = 5
"""Releases of a sequence whose attempts do not count."""


def schedule(
    lock: Lock | None, loaded: int | None, target: Target, nonce: str, at: DecisionContext
) -> Put | CallRefused:
    """
    Make the next sequence of a document from outside a handler.

    Args:
        lock: The record, or None if the document has none or does not exist.
        loaded: Sequence with which the caller's entity was loaded; None for an entity made in Python (or loaded without
            a lock).
        target: Target of the sequence.
        nonce: Recognises this schedule.
        at: Moment.

    Returns:
        Put with a dispatch; or CallRefused: FOREIGN (another environment), NOT_ENDED, QUARANTINED, MOVED (since the
        entity was loaded) or ENDED (the entity was not loaded, or the chain needs a person's decision).
    """
    if lock is None:
        # A document that is deleted and made again under the same id must not have the keys of the first one.
        keyed = writes.first_number(at, nonce) - 1
        new = Lock.of({"env": at.env, "sequence": 0, "keyed": keyed, "status": Status.SCHEDULED})
        return Put(writes.scheduled(new, target, nonce, at, base=0), dispatch=True)
    if lock.env != at.env:
        return CallRefused(Refusal.FOREIGN, f"it belongs to environment {lock.env!r}, not {at.env!r}")
    if lock.status in (Status.SCHEDULED, Status.LEASED):
        return CallRefused(Refusal.NOT_ENDED, f"its chain is at sequence {lock.sequence} and {lock.status}")
    if lock.status is Status.QUARANTINED:
        return CallRefused(Refusal.QUARANTINED, f"sequence {lock.sequence} is quarantined; resolve it first")
    if loaded is None:
        return CallRefused(Refusal.ENDED, f"its chain has ended at sequence {lock.sequence}: {lock.status}")
    if loaded != lock.sequence:
        return CallRefused(Refusal.MOVED, f"it has moved on from sequence {loaded} to {lock.sequence}; load it again")
    if lock.status is not Status.COMPLETED:
        return CallRefused(Refusal.ENDED, f"sequence {lock.sequence} is {lock.status}; reset it first")
    return Put(writes.scheduled(lock, target, nonce, at, base=lock.sequence), dispatch=True)


def claim(
    lock: Lock | None, delivery: Delivery, policy: Policy, claimant: Claimant, at: DecisionContext
) -> Put | Refused | Expired | NeedTime:
    """
    Decide whether *delivery* may run.

    Every grant raises the token by one, and counts as an attempt.

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
    wait = lock.wait
    if wait is not None:
        if delivery.dispatch < lock.dispatches:
            return Refused(Outcome.DUPLICATE, f"it was dispatched again since; dispatch {lock.dispatches} counts")
        moment = at.now if at.read is None else max(at.now, at.read)
        # An end that an earlier grant has found stays; the time is that of the next try then.
        ended = waits.woken(lock, moment) if wait.ended is None else None
        if ended is not None:
            lock = lock.but(wait=ended, wait_until=lock.wait_until if ended.ended is Woken.TIME else None)
        elif wait.ended is None and wait.until is None:
            return Refused(Outcome.DUPLICATE, f"it waits for {wait.name!r}")
    return _early(lock, at) or writes.granted(lock, policy, claimant, at)


def _early(lock: Lock, at: DecisionContext) -> Refused | NeedTime | None:
    # The estimate is never later than the server's clock: if the sequence is due by the estimate, it is due.
    if lock.wait_until is None or at.now >= lock.wait_until:
        return None
    if at.read is None:
        return NeedTime()
    if at.read >= lock.wait_until:
        return None
    return Refused(Outcome.EARLY, f"it is not due before {instant(lock.wait_until)}", lock.wait_until)


def ready(lock: Lock | None, delivery: Delivery, at: DecisionContext) -> Refused | NeedTime | None:
    """
    Return the reason for which the generator of *delivery* makes no occurrences now; None if it is due. A generator needs
    no lease: its occurrences and its own next time are one commit.
    """
    refusal = _not_ours(lock, delivery, at)
    if refusal is not None:
        return refusal
    assert lock is not None
    if lock.paused:
        return Refused(Outcome.PARKED, "it is paused")
    return _early(lock, at)


def recur(lock: Lock, upcoming: datetime | None, nonce: str, at: DecisionContext) -> Put:
    """
    Record that the generator made the occurrences that were due; it is due again at *upcoming*, or has ended (None).
    """
    signed = lock.but(settled_by=nonce)
    if upcoming is None:
        return writes.ended(signed, Status.COMPLETED, at, Outcome.COMPLETED)
    target = Target(lock.url, lock.queue, lock.params, lock.headers, upcoming, lock.traceparent)
    return Put(writes.scheduled(signed, target, nonce, at, base=lock.base), Outcome.CONTINUED, dispatch=True)


def _not_ours(lock: Lock | None, delivery: Delivery, at: DecisionContext) -> Refused | None:
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


def fenced(lock: Lock | None, fence: Fence) -> Lost | None:
    """
    Return None if the lease is still that of *fence*; else the reason why not.
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


def writable(lock: Lock | None, fence: Fence) -> Lost | None:
    """
    Return None if the holder may write other documents than its own. A quarantined holder may still settle, but another
    task may have its resource key.
    """
    lost = fenced(lock, fence)
    if lost is None and lock is not None and lock.status is Status.QUARANTINED and lock.key is not None:
        return Lost("the attempt is quarantined; it may settle, but has its resource key no longer", finished=False)
    return lost


def settle(  # noqa: PLR0911 - a table of settlements
    lock: Lock | None, fence: Fence, how: Settlement, at: DecisionContext
) -> Put | Lost:
    """
    End an attempt, or only record its nonce (``CHECKPOINT``), if the fence holds.
    """
    lost = fenced(lock, fence)
    if lost is not None:
        return lost
    assert lock is not None
    mine = how.fingerprint is not None and not outdated(lock, how)
    signed = lock.but(settled_by=how.nonce, fingerprint=how.fingerprint if mine else lock.fingerprint)
    if how.journal is not None:
        signed = journal.applied(signed, how.journal, how.nonce)
    if signed.open and how.kind is not SettlementKind.CHECKPOINT:
        signed = journal.over(signed, fence.token, at.now)
    match how.kind:
        case SettlementKind.COMPLETE if writes.stopped(lock) and outdated(lock, how):
            # The cancellation was of the newer payload, which has not run.
            return writes.cancelled(signed, at)
        case SettlementKind.COMPLETE:
            return complete(signed, how.result, at)
        case SettlementKind.CONTINUE:
            assert how.target is not None
            assert how.next_nonce is not None
            return continue_(signed, how.target, how.next_nonce, at)
        case SettlementKind.SNOOZE:
            return snooze(signed, how.wait_until, at)
        case SettlementKind.RETRY:
            return retry(signed, how.message or "", how.wait_until, how.by_queue, at)
        case SettlementKind.FAIL:
            return fail(signed, how.message or "", at)
        case SettlementKind.RELEASE:
            return release(signed, at, counts=how.message is None)
        case SettlementKind.SUSPEND:
            return suspend(signed, how.wait, at, swallowed=how.swallowed)
        case SettlementKind.ASK:
            return writes.asked(writes.noted(signed, how.message or "", at), at, how.message)
        case SettlementKind.CHECKPOINT:
            return Put(signed)


def journaled(lock: Lock | None, fence: Fence, write: journal.JournalWrite, nonce: str) -> Put | Lost:
    """
    Write into the journal, if the fence holds; the attempt goes on.
    """
    lost = fenced(lock, fence)
    if lost is not None:
        return lost
    assert lock is not None
    return Put(journal.applied(lock, write, nonce, seals=journal.chunk_id(lock.env, nonce)))


def suspend(lock: Lock, wait: HandlerWait | None, at: DecisionContext, *, swallowed: bool = False) -> Put:
    """
    End an attempt that waits: the sequence runs again when *wait* has ended, or at once (None). The attempt does not count.
    If the wait has ended already, the sequence is dispatched at once.
    """
    if writes.stopped(lock):
        return writes.cancelled(journal.needing(lock.but(wait=wait)), at)
    if superseded(lock) and not lock.cancelling:
        return writes.following(lock, at)
    back = journal.needing(writes.given_back(lock).but(wait=wait, parked=None, status=Status.SCHEDULED))
    woken = None if wait is None else waits.woken(back, at.now)
    if wait is None or woken is not None:
        again = writes.with_due(back, at, wait=woken, wait_until=None, dispatches=lock.dispatches + 1)
        put = Put(again, Outcome.SUSPENDED, dispatch=True)
    elif wait.until is None:
        put = Put(writes.with_due(back, at, wait_until=None), Outcome.SUSPENDED)
    else:
        later = writes.with_due(back, at, wait_until=wait.until, dispatches=lock.dispatches + 1)
        put = Put(later, Outcome.SUSPENDED, dispatch=True)
    return put._replace(lock=writes.swallowed(put.lock, at)) if swallowed else put


def outdated(lock: Lock | None, how: Settlement) -> bool:
    """
    Tell whether a newer payload is stored than that of the attempt that settles; if so, the attempt's payload is not
    saved. The record alone does not show it: a cancellation meanwhile marks all payloads requested before it as granted.
    """
    return superseded(lock) or (lock is not None and how.wanted is not None and lock.wanted > how.wanted)


def complete(lock: Lock, result: Result, at: DecisionContext) -> Put:
    """
    Complete the chain. A cancellation that came too late is forgotten; if its cancellation handler ran, the chain is
    cancelled. A person is alerted if the result is lost.
    """
    if lock.cancelling:
        return writes.ended(lock, Status.CANCELLED, at, Outcome.CANCELLED)
    told = lock if result.lost is None else writes.owe_result_lost(lock, result.lost, at)
    return writes.ended(
        told,
        Status.COMPLETED,
        at,
        Outcome.COMPLETED,
        result=result.value,
        result_json=lock.note(result.text),
        result_lost=lock.note(result.lost),
        cancel_requested_at=None,
    )


def continue_(lock: Lock, target: Target, nonce: str, at: DecisionContext) -> Put:
    """
    Complete the step and schedule the next one; a cancelled chain ends here instead.
    """
    if writes.stopped(lock):
        return writes.cancelled(lock, at)
    if lock.open:
        return writes.asked(lock, at)
    if superseded(lock):
        return writes.following(lock, at)
    made = writes.scheduled(lock, target, nonce, at, base=lock.base)
    if lock.cancelling:
        made = made.but(cancel_requested_at=lock.cancel_requested_at, cancelling=True)
    return Put(made, Outcome.CONTINUED, dispatch=True)


def snooze(lock: Lock, wait_until: datetime | None, at: DecisionContext) -> Put:
    """
    Run the same step again later; the attempt does not count.
    """
    return writes.again(writes.given_back(lock), wait_until, Outcome.SNOOZED, at)


def release(lock: Lock, at: DecisionContext, *, counts: bool = True) -> Put:
    """
    Give the lease back unused; the queue delivers again. The attempt does not count, unless the sequence was released
    ``FREE_RELEASES`` times already. A payload that can't be read here is given back any number of times (*counts* is false).
    """
    if writes.stopped(lock):
        return writes.cancelled(lock, at)
    if counts and lock.releases >= FREE_RELEASES:
        return Put(writes.with_due(lock, at, status=Status.SCHEDULED), Outcome.SHORT_LEASE)
    back = writes.with_due(
        writes.given_back(lock), at, status=Status.SCHEDULED, releases=lock.releases + 1 if counts else lock.releases
    )
    return Put(back, Outcome.SHORT_LEASE)


def retry(lock: Lock, message: str, wait_until: datetime | None, by_queue: bool, at: DecisionContext) -> Put:
    """
    Record that the attempt failed; another one follows unless the attempts are used up.
    """
    if writes.used_up(lock, lock.max_attempts):
        return fail(lock, message, at)
    noted = writes.noted(lock, message, at)
    if not by_queue:
        return writes.again(noted, wait_until, Outcome.RETRYING, at)
    if writes.stopped(noted):
        return writes.cancelled(noted, at)
    return Put(writes.with_due(noted, at, status=Status.SCHEDULED), Outcome.FAILED_ATTEMPT)


def fail(lock: Lock, message: str, at: DecisionContext) -> Put:
    """
    Record that the attempt failed, and that no other follows.
    """
    return writes.given_up(writes.noted(lock, message, at), at, message)


def renew(lock: Lock | None, fence: Fence, at: DecisionContext) -> Put | Lost:
    """
    Start the lease's length anew; the run limit still counts from the grant.
    """
    lost = fenced(lock, fence)
    if lost is not None:
        return lost
    assert lock is not None
    if lock.status is Status.QUARANTINED:
        return Lost("the attempt is quarantined; it may settle, not renew", finished=False)
    return Put(writes.with_due(lock, at, leased_at=SERVER_TIME))


def was_applied(meant: Lock, before: Lock | None, found: Lock | None, *, alive: bool) -> bool:
    """
    Tell whether a commit whose answer was lost has been applied, judged by the record as it is *found*.

    Args:
        meant: The record that the commit would have written; its nonces are fresh.
        before: The record on which the commit was decided.
        found: The record now.
        alive: Whether the writer's own lease had not expired when *found* was read, so that no other process can have
            taken it over.

    Returns:
        True if the record has one of the commit's nonces, or if its sequence is later and no other process can have moved
        it there.
    """
    if found is None:
        return False
    for name in ("holder", "settled_by", "scheduled_by", "wanted_by", "journaled_by"):
        ours = getattr(meant, name)
        if ours is not None and (before is None or getattr(before, name) != ours) and getattr(found, name) == ours:
            return True
    settling = before is not None and before.status is Status.LEASED and meant.settled_by != before.settled_by
    if not settling or before is None or found.sequence <= before.sequence:
        return False
    # The record of a lock keeps its number: this one is of a document that was deleted and made again.
    if before.scheduled_by is None and found.keyed != before.keyed:
        return False
    if found.sequence == before.sequence + 1 and _is_of_others(meant, before, found):
        return False
    # If a later token had been granted for our sequence, the next sequence would have been scheduled with that token.
    return alive or (found.sequence == before.sequence + 1 and found.scheduled_token == before.token)


def _is_of_others(meant: Lock, before: Lock, found: Lock) -> bool:
    """
    Tell whether the next sequence, which has none of the nonces of the commit *meant*, shows that the commit was not applied.
    Its step may have ended without a later grant: by a takeover, or by a person.
    """
    if not found.scheduled_token:
        # A person has scheduled it.
        return True
    if meant.scheduled_by is None:
        return False
    # A sequence keeps the nonce of its schedule. Until its first grant, the record keeps the nonce by which the step before
    # has ended, too.
    return meant.sequence == found.sequence or (found.status is Status.SCHEDULED and found.token == before.token)
