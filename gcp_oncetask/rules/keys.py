"""
Resource keys: one task at a time per key.

A key's record has no times. It names the document of its holder and the fencing token of the holding attempt: that of the
grant, or, if the key was handed over to a waiting task, the next one that the task will be granted. The key is given back in
the commit that ends the attempt. If that was impossible (the document was deleted), a task that wants the key takes it, once
it finds the holder gone or past that token.

A person frees a key by deleting its document. The attempt that had the key keeps its lease, and its end is the same as
otherwise; but it no longer has the key, so its end does not change the key's new document.
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
"""Time between two looks of the sweeper at a key that is held while tasks wait for it."""


class KeyStanding(Enum):
    """
    The standing of a key for a task that wants it.
    """

    FREE = auto()
    """The key has no holder, or the holder is gone or past the key's token: take the key."""
    OURS = auto()
    """The key was handed over to this task."""
    BUSY = auto()
    """Another task holds the key, or the key was handed over to one."""
    EXPIRED = auto()
    """The holder's lease has expired: judge the holder by the evidence first."""


class Effect(Enum):
    """
    The effect of a change of a task's record on the resource key of the task.
    """

    NONE = auto()
    TAKE = auto()
    MOVE = auto()
    """The key moves on to another attempt of the same task."""
    FREE = auto()


def standing(key: Lock | None, path: str, token: int, holder: Lock | None, read: datetime) -> KeyStanding:
    """
    Return the standing of the key for the task at *path*, which would take it for its grant of *token*.

    Args:
        key: The key's record; None if there is none yet.
        path: Document of the task that wants the key.
        token: The fencing token that the task's grant would have.
        holder: Record of the document that the key names, as of *read*; None if that document is gone.
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
    Return the effect of the step from *before* to *after* on the key of the task.
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
    Tell whether the attempt of *token* of the task at *path* holds the key.

    Args:
        key: The key's record; None if there is none, because a person has deleted it.
        path: Document of the task.
        token: Fencing token of the attempt.
    """
    return key is not None and key.status is Status.LEASED and key.holder == path and key.token == token


def writable(key: str | None, *, lost: bool) -> Lost | None:
    """
    Return None if an attempt may write other documents than its own under its resource *key*. If the key is *lost*, the
    attempt may still end, but another task may own the data that the key protects.
    """
    if not lost:
        return None
    return Lost(
        f"the attempt may settle, but has its resource key {key!r} no longer: its document was deleted", finished=False
    )


def park(lock: Lock, place: str, at: DecisionContext) -> Put:
    """
    Let the task wait for its key, at *place* among the waiting tasks.
    """
    return Put(with_due(lock, at, parked=place), Outcome.PARKED)


def unpark(lock: Lock, at: DecisionContext) -> Put:
    """
    Deliver a task to which its key was handed over.
    """
    ready = with_due(lock, at, parked=None, ready_at=None, dispatches=lock.dispatches + 1)
    return Put(ready, dispatch=True)


def unused(env: str) -> Lock:
    """
    Return the record of a key without a holder.
    """
    return Lock.of({"env": env, "sequence": 1, "status": Status.COMPLETED})


def taken(key: Lock | None, env: str, path: str, token: int, nonce: str) -> Lock:
    """
    Return the key's record, held by the attempt of *token* of the task at *path*.

    A write that changes nothing leaves the version of a document as it was. The fresh *nonce* makes each write a change of
    the key's document, even if a document of the same path and token had the key just before. So another task that found
    the key free before the write, because this task had been postponed or deleted, can't take it after the write.
    """
    return (key or unused(env)).but(status=Status.LEASED, holder=path, token=token, scheduled_by=nonce)


def look_at_key(key: Lock, place: str, at: DecisionContext) -> Lock:
    """
    Return the record of a key for which tasks wait, with the time at which the sweeper looks at it again.
    """
    wait = HELD_RECHECK if key.status is Status.LEASED else timedelta(seconds=at.grace)
    return key.but(due=f"{place}/{instant(at.now + wait)}")
