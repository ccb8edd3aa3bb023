"""
What a person, or code outside a handler, may do to a chain.
"""

from __future__ import annotations

from typing import Any

from gcp_oncetask.decision import Moment, Put, Refused, Target
from gcp_oncetask.delivery import Outcome
from gcp_oncetask.lease import writes
from gcp_oncetask.lease.attempts import complete
from gcp_oncetask.record import Lock, Status


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
    return writes.ended(lock.but(cancel_requested_at=at.now), Status.CANCELLED, at, Outcome.CANCELLED)


def reset(lock: Lock, nonce: str, at: Moment, *, keep_errors: bool = False) -> Put | Refused:
    """
    Run an ended step again, as a new sequence; one that did not complete keeps its idempotency key.
    """
    if not lock.finished and lock.status is not Status.QUARANTINED:
        return Refused(Outcome.BUSY, f"sequence {lock.sequence} is {lock.status}; only ended ones are reset")
    if lock.url is None or lock.queue is None:
        return Refused(Outcome.GONE, "it was never scheduled: there is nobody to deliver it to")
    target = Target(url=lock.url, queue=lock.queue, params=lock.params, headers=lock.headers)
    again = writes.scheduled(lock, target, nonce, at, base=lock.base + 1)
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
            noted = writes.noted(signed, "resolved as failed by a person", at)
            return writes.ended(noted, Status.FAILED, at, Outcome.FAILED)


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
