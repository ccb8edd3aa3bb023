"""
Named locks, and functions that run once per key: they have the same record and fence as tasks, but no deliveries.

Nothing is ever owed for them: their records have no ``due``, so the sweeper never sees them. A caller that wants an expired
one takes it over.

States of a named lock::

    (none) --acquire--> leased --free--> scheduled, sequence + 1 --acquire--> leased --...
                        |    ^
                        '----' acquire after its end: a takeover, next token

A person may free it too (``free_by_hand``); then its record gets another number.

States of a run (``settle`` completes it)::

    (none) --begin--> leased --complete--> completed, for good
                      |  | ^
                      |  '-' begin after its end: a takeover, next token
                      '-give_up--> scheduled --begin--> leased, next token

A person may let a completed run be forgotten (``forget``); then it is scheduled again, with another number.

Tokens
    The token of a new document is the server's epoch milliseconds. The next token is one more than the greater of two
    numbers: the token before it, and the epoch milliseconds of the grant before it. So if a document without a holder is
    deleted (by TTL, or by a person) and made again, its tokens are beyond all tokens of the deleted one. A create that is
    applied long after it was sent may have a token that is behind those of a document deleted meanwhile: its holder is
    granted the next token first (``came_late``).

Numbers
    The number of a new document (``keyed``) is the server's epoch milliseconds, and the document keeps it. A grant that came
    late gets a number of its own time. So if the document of a function that ran is deleted, the next run has another
    idempotency key. And if the document of a held lock is deleted and made again, the late holder is told so. A person who
    frees a lock or has a run forgotten gives the record another number, with the same effect.

Source:
    resque-lock-timeout's acquire, refresh and release. The differences: expiry is judged by the server's clock alone, and
    release and refresh compare the token in the commit, while the ancestor deletes by its own clock.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from gcp_oncetask.rules import writes
from gcp_oncetask.rules.attempts import fenced
from gcp_oncetask.rules.decisions import CallRefused, Claimant, DecisionContext, Fence, Lost, NeedTime, Policy, Put
from gcp_oncetask.rules.record import SERVER_TIME, Lock, Status
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.writes import expires_at

UNLIMITED: Final = 100 * 365.25 * 86_400
"""Seconds of a lease that only its release ends: a century."""
RAISED: Final = "it raised when it ran last: the next call runs it again, with the same attempt.key"
"""The reason for which a key is not forgotten whose function has not completed."""
_PROMPT: Final = 1000
"""
Milliseconds after its token within which a create is applied as a rule. No document is made, used and deleted in such a time.
"""


def acquire(lock: Lock | None, policy: Policy, claimant: Claimant, at: DecisionContext) -> Put | CallRefused | NeedTime:
    """
    Decide whether *claimant* may hold a named lock.

    Args:
        lock: The record; None if there is no document, or it has none.
        policy: Length of the lease; ``UNLIMITED``: only its release ends it.
        claimant: The claimant; its nonce is fresh, or that of an earlier try whose fate is unknown.
        at: Moment.

    Returns:
        Put: granted, or granted already to this very nonce (then the lease begins anew, with the next token if the grant
        came late). CallRefused: HELD. NeedTime: read again; also for a new document, because its token is made of the
        server's time.
    """
    if lock is None:
        return NeedTime() if at.read is None else _granted(_new(at, at.read), policy, claimant)
    if lock.status is Status.LEASED:
        if lock.holder == claimant.nonce:
            return _granted(lock, policy, claimant) if came_late(lock) else Put(lock.but(leased_at=SERVER_TIME))
        if at.read is None:
            return NeedTime()
        if at.read < expires_at(lock):
            return _busy(lock)
    return _granted(lock, policy, claimant)


def came_late(lock: Lock) -> bool:
    """
    Tell whether *lock* is a first grant that was applied so long after its token was made that a document of the same name
    may have been used and deleted meanwhile. Then its holder must be granted the next token before it begins.
    """
    first = lock.status is Status.LEASED and lock.sequence == 1 and lock.attempts == 1
    return first and lock.granted_at is not None and writes.epoch_milliseconds(lock.granted_at) > lock.token + _PROMPT


def refresh(lock: Lock | None, fence: Fence) -> Put | Lost:
    """
    Start the lease's length anew, if the fence holds; also after the lease's end, if no other holder has taken the lock.
    """
    lost = fenced(lock, fence)
    if lost is not None:
        return lost
    assert lock is not None
    return Put(lock.but(leased_at=SERVER_TIME))


def free(lock: Lock | None, fence: Fence, nonce: str, *, mine: Lock) -> Put | CallRefused | Lost:
    """
    Give a named lock back, if the fence holds.

    Args:
        lock: The record.
        fence: The holding that ends.
        nonce: Recognises this release.
        mine: The record as the holder has last left it, acquired or refreshed.

    Returns:
        Put; Lost; or CallRefused NOT_HELD: an earlier try has freed it, and later holders may have had it since.
    """
    # A document that was deleted and made again has another number.
    if lock is not None and lock.keyed == mine.keyed and lock.sequence > fence.sequence:
        ours = lock.sequence == fence.sequence + 1 and lock.scheduled_token == fence.token
        # Later grants before the end of the holder's lease are no takeovers.
        if ours or (lock.granted_at is not None and lock.granted_at < expires_at(mine)):
            return CallRefused(Refusal.NOT_HELD, "it was freed before")
    lost = fenced(lock, fence)
    if lost is not None:
        return lost
    assert lock is not None
    return Put(_freed(lock, nonce))


def _freed(lock: Lock, nonce: str) -> Lock:
    # The token that was freed stays in the record: a release whose answer was lost is recognised even after later holders.
    return lock.but(
        status=Status.SCHEDULED,
        sequence=lock.sequence + 1,
        scheduled_token=lock.token,
        settled_by=nonce,
        attempts=0,
    )


def free_by_hand(lock: Lock | None, token: int, nonce: str, at: DecisionContext) -> Put | CallRefused:
    """
    Free a named lock by a person's decision, whether or not its lease has ended.

    Its number changes, so that the late holder's ``refresh`` and ``release`` are refused, also before the next
    acquire. Its token stays: the next grant's token is greater.

    Args:
        lock: The record.
        token: The token that the person has seen: a later holder keeps the lock.
        nonce: Recognises this decision.
        at: Moment.

    Returns:
        Put; or CallRefused: MISSING, NOT_HELD, or MOVED if another holder has it now.
    """
    if lock is None:
        return CallRefused(Refusal.MISSING, "there is no such lock")
    if lock.status is not Status.LEASED:
        return CallRefused(Refusal.NOT_HELD, "no process holds it")
    if lock.token != token:
        return CallRefused(Refusal.MOVED, f"{_holder(lock)} has taken it meanwhile, with token {lock.token}")
    return Put(_freed(lock, nonce).but(keyed=_another_number(lock, at)))


def abandon(lock: Lock | None, holder: str, nonce: str) -> Put | CallRefused:
    """
    Free the named lock if *holder* has it, after an acquire of unknown fate.
    """
    if lock is None or lock.status is not Status.LEASED or lock.holder != holder:
        return CallRefused(Refusal.NOT_HELD, "it was not granted")
    put = free(lock, Fence(lock.sequence, lock.token, holder), nonce, mine=lock)
    assert isinstance(put, Put)
    return put


def begin(
    lock: Lock | None, *, same: bool, policy: Policy, claimant: Claimant, at: DecisionContext
) -> Put | CallRefused | NeedTime:
    """
    Decide whether a function may run for its key.

    Args:
        lock: The record; None if there is no document.
        same: Whether the record was made for the same payload.
        policy: Length of the lease and its run limit.
        claimant: The claimant; its nonce is fresh, or that of a grant that came late.
        at: Moment.

    Returns:
        Put: the function may run. CallRefused: OTHER_PAYLOAD, ENDED (the function has run; the result is in the record) or
        HELD, tested in that order. NeedTime: read again.
    """
    if lock is None:
        return _granted(_new(at, at.now), policy, claimant)
    if not same:
        return CallRefused(Refusal.OTHER_PAYLOAD, "the same key was used with another payload")
    if lock.status is Status.COMPLETED:
        return CallRefused(Refusal.ENDED, "it has run")
    if lock.status is Status.LEASED and lock.holder != claimant.nonce:
        if at.read is None:
            return NeedTime()
        if at.read < expires_at(lock):
            return _busy(lock)
        lock = writes.noted(lock, "lease expired", at)
    return _granted(lock, policy, claimant)


def give_up(lock: Lock | None, fence: Fence, message: str, nonce: str, at: DecisionContext) -> Put | Lost:
    """
    Note that the function raised, and let it run again for its key.
    """
    lost = fenced(lock, fence)
    if lost is not None:
        return lost
    assert lock is not None
    return Put(writes.noted(lock, message, at).but(status=Status.SCHEDULED, settled_by=nonce))


def forget(lock: Lock | None, token: int, nonce: str, at: DecisionContext) -> Put | CallRefused:
    """
    Let a function run again for its key by a person's decision, as if it had never run: its result and its errors are
    deleted, and the next run has another idempotency key. An alert that is owed for a lost result is not sent any more.

    Args:
        lock: The record.
        token: The token of the run that the person has seen.
        nonce: Recognises this decision.
        at: Moment.

    Returns:
        Put; or CallRefused: MISSING, RUNNING, NOT_ENDED (the function raised, so the next call runs it again anyway, with the
        same idempotency key), or MOVED if it has run again since.
    """
    if lock is None:
        return CallRefused(Refusal.MISSING, "there is no such key")
    if lock.status is Status.LEASED:
        return CallRefused(Refusal.RUNNING, f"it runs on {lock.instance or 'some machine'}, or its process has died")
    if lock.status is not Status.COMPLETED:
        return CallRefused(
            Refusal.NOT_ENDED, "it has not completed: the next call runs it again, with the same attempt.key"
        )
    if lock.token != token:
        return CallRefused(Refusal.MOVED, f"it has run again meanwhile, with token {lock.token}")
    forgotten = lock.but(
        status=Status.SCHEDULED,
        sequence=lock.sequence + 1,
        base=lock.sequence,
        keyed=_another_number(lock, at),
        scheduled_token=lock.token,
        settled_by=nonce,
        attempts=0,
        errors=(),
        result=None,
        result_json=None,
        result_lost=None,
        owed=(),
        due=None,
        attention=None,
    )
    return Put(forgotten)


def ends_at(lock: Lock) -> datetime | None:
    """
    Return the time at which the lease expires by the server's clock; None if only its release ends it.
    """
    return None if lock.lease_seconds >= UNLIMITED else expires_at(lock)


def _new(at: DecisionContext, server: datetime) -> Lock:
    now = writes.epoch_milliseconds(server)
    return Lock.of({"env": at.env, "sequence": 1, "keyed": now, "status": Status.SCHEDULED, "token": now - 1})


def _busy(lock: Lock) -> CallRefused:
    until = ends_at(lock)
    return CallRefused(Refusal.HELD, f"{_holder(lock)} holds it with token {lock.token}", until)


def _holder(lock: Lock) -> str:
    return lock.instance or "somebody"


def _another_number(lock: Lock, at: DecisionContext) -> int:
    return max(lock.keyed + 1, writes.epoch_milliseconds(at.now))


def _granted(lock: Lock, policy: Policy, claimant: Claimant) -> Put:
    before = 0 if lock.granted_at is None else writes.epoch_milliseconds(lock.granted_at)
    granted = lock.but(
        status=Status.LEASED,
        token=max(lock.token, before) + 1,
        # Its number is as old as its token: it may be that of a document deleted meanwhile.
        keyed=before if came_late(lock) else lock.keyed,
        holder=claimant.nonce,
        granted_at=SERVER_TIME,
        leased_at=SERVER_TIME,
        lease_seconds=policy.lease,
        timeout_seconds=policy.lease,
        run_limit_seconds=policy.run_limit,
        attempts=lock.attempts + 1,
        instance=claimant.instance,
    )
    return Put(granted)
