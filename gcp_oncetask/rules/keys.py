"""
Resource keys: one task at a time per key.

A key's record has no clock. It names the document that holds it and the fencing token of the holding attempt: that of the
grant, or, where the key was handed over to a waiter, the next one that the waiter will be granted. It is given back in the
commit that ends the attempt; where that could not be (the document was deleted), whoever finds the holder gone or past
that token takes the key.

A person frees a key by deleting its document. The attempt that had it keeps its lease and ends as it would have; it has the
key no longer, so its end does not touch what others make of it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

from gcp_oncetask.rules.decisions import DecisionContext, Lost, Put
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.rules.writes import expires_at, with_due

HELD_RECHECK: Final = timedelta(minutes=5)
"""How often the sweeper looks at a key that is held while others wait for it."""


class KeyStanding(Enum):
    """
    How a key stands towards a task that wants it.
    """

    FREE = auto()
    """Nobody holds it, or its holder is gone or past its token: take it."""
    OURS = auto()
    """It was handed over to this task."""
    BUSY = auto()
    """Somebody holds it, or it was handed over to somebody."""
    EXPIRED = auto()
    """The holder's lease has expired: judge it by the evidence first."""


class Effect(Enum):
    """
    What a change of a task's record does to the key that it needs.
    """

    NONE = auto()
    TAKE = auto()
    MOVE = auto()
    """Another attempt of the same task goes on with it."""
    FREE = auto()


def standing(key: Lock | None, path: str, token: int, holder: Lock | None, read: datetime) -> KeyStanding:
    """
    Whether the task at *path* may take the key for its grant of *token*.

    Args:
        key: The key's record; None if there is none yet.
        path: Document of the task that wants it.
        token: The fencing token that its grant would have.
        holder: Record of the document that the key names, as of *read*; None if it is gone.
        read: Server time of the reads.
    """
    if key is None or key.status is not Status.LEASED:
        return KeyStanding.FREE
    if key.holder == path:
        return KeyStanding.OURS if key.token == token else KeyStanding.FREE
    if holder is None or holder.token > key.token:
        return KeyStanding.FREE
    if holder.token == key.token and holder.status is Status.LEASED:
        return KeyStanding.BUSY if read < expires_at(holder) else KeyStanding.EXPIRED
    handed_over = holder.token == key.token - 1 and holder.status is Status.SCHEDULED and holder.parked is None
    if handed_over and (holder.wait_until is None or holder.wait_until <= read):
        return KeyStanding.BUSY
    return KeyStanding.FREE


def effect(before: Lock | None, after: Lock) -> Effect:
    """
    What the step from *before* to *after* does to the key of the task.
    """
    if after.key is None:
        return Effect.NONE
    held = before is not None and before.status is Status.LEASED and not before.rides
    holds = after.status is Status.LEASED and not after.rides
    if not held:
        return Effect.TAKE if holds else Effect.NONE
    if not holds:
        return Effect.FREE
    return Effect.MOVE if before is not None and after.token != before.token else Effect.NONE


def holds(key: Lock | None, path: str, token: int) -> bool:
    """
    Whether the key is that of the attempt of *token* of the task at *path*.

    Args:
        key: The key's record; None if there is none, because a person has deleted it.
        path: Document of the task.
        token: Fencing token of the attempt.
    """
    return key is not None and key.status is Status.LEASED and key.holder == path and key.token == token


def writable(key: str | None, *, lost: bool) -> Lost | None:
    """
    None if an attempt may write other documents than its own under the resource key that it runs with: it may still end, but
    what the key guards is somebody else's once the key is *lost*.
    """
    if not lost:
        return None
    return Lost(
        f"the attempt may settle, but has its resource key {key!r} no longer: its document was deleted", finished=False
    )


def park(lock: Lock, place: str, at: DecisionContext) -> Put:
    """
    Let the task wait for its key, at *place* in the queue of those that wait.
    """
    return Put(with_due(lock, at, parked=place), Outcome.PARKED)


def unpark(lock: Lock, at: DecisionContext) -> Put:
    """
    The key is this task's now: deliver it.
    """
    ready = with_due(lock, at, parked=None, ready_at=None, dispatches=lock.dispatches + 1)
    return Put(ready, dispatch=True)


def unused(env: str) -> Lock:
    """
    The record of a key that nobody has.
    """
    return Lock.of({"env": env, "sequence": 1, "status": Status.COMPLETED})


def taken(key: Lock | None, env: str, path: str, token: int, holder: str | None = None) -> Lock:
    """
    The key's record, held by the attempt of *token* of the task at *path*.

    Its nonce *holder* (None: handed over, not claimed yet) makes each claim a change of the key's document: whoever found the
    key free before the claim, because the task had been postponed or deleted, can't take it after the claim.
    """
    return (key or unused(env)).but(status=Status.LEASED, holder=path, token=token, scheduled_by=holder)


def look_at_key(key: Lock, place: str, at: DecisionContext) -> Lock:
    """
    The record of a key for which others wait, to be looked at again by the sweeper.
    """
    wait = HELD_RECHECK if key.status is Status.LEASED else timedelta(seconds=at.grace)
    return key.but(due=f"{place}/{instant(at.now + wait)}")
