"""
What stands still: since when a sequence could have been claimed, when that is too long, and what a person is needed for.

``ready_at`` is set by the commit that makes a sequence, a retry or a key's hand-over claimable, and never moved by looks; so age
tells, whatever keeps the task from being run.

Source:
    SRE's "symptom, not cause": one alarm by age covers a paused queue, a wrong URL, a refused caller and a broken deployment.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from gcp_oncetask.rules.decisions import DecisionContext
from gcp_oncetask.rules.record import Lock, Since, Status
from gcp_oncetask.rules.timestamps import instant

LONGEST_LOOK: Final = timedelta(hours=1)
"""A task that is still queued is looked at again after half of its age, and after this at the latest."""
RENAMED_EVERY: Final = timedelta(hours=1)
"""Where the queue can't be asked, a task gets a new name at most once in this time."""
REFUSED_LOOKS: Final = 3
"""From this look-up that is refused on, the task may have a new name."""


class Reason(StrEnum):
    """
    What a person is needed for, the gravest first.
    """

    FAILED = "failed"
    QUARANTINED = "quarantined"
    STUCK = "stuck"
    UNDISPATCHED = "undispatched"
    RESULT_LOST = "result-lost"


ORDER: Final = tuple(Reason)


def ready(lock: Lock, at: datetime) -> Since:
    """
    ``ready_at`` of a record that can be claimed from *at* on; one that could before is ready since then.
    """
    known = lock.ready_at
    if known is not None and (known.sequence, known.token) == (lock.sequence, lock.token):
        return known
    return Since(lock.sequence, lock.token, at)


def age(lock: Lock, at: DecisionContext) -> timedelta:
    """
    For how long it could have been claimed, and was not; 0: it could not, or it is not known.
    """
    since = lock.ready_since
    waits = lock.status is Status.SCHEDULED and lock.parked is None and not lock.paused
    return max(timedelta(0), at.now - since) if waits and since is not None else timedelta(0)


def is_stuck(lock: Lock, at: DecisionContext) -> bool:
    """
    Whether it waits for longer than ``ONCETASK_STUCK_SECONDS``.
    """
    return age(lock, at) > timedelta(seconds=at.stuck)


def look_by(ready: Since, when: datetime, at: DecisionContext) -> datetime:
    """
    *when* a task is looked at again, or earlier: as soon as it has waited for too long.
    """
    alarm = ready.at + timedelta(seconds=at.stuck + 1)
    return alarm if at.now < alarm < when else when


def next_look(lock: Lock, at: DecisionContext) -> datetime:
    """
    When a task that is still queued is looked at again: the longer it waits, the later.
    """
    return at.now + min(max(timedelta(seconds=at.grace), age(lock, at) / 2), LONGEST_LOOK)


def may_rename(lock: Lock, at: DecisionContext) -> bool:
    """
    Whether a task may be dispatched under a new name though the queue can't be asked for the old one: the third look is the
    first one for which it may, and once an hour is the most.
    """
    first = timedelta(seconds=at.grace * REFUSED_LOOKS)
    return age(lock, at) >= first + RENAMED_EVERY * (max(lock.dispatches, 1) - 1)


def reason_of(lock: Lock) -> Reason | None:
    """
    What the record needs a person for, by its status; ``stuck`` and ``undispatched`` are said by those who find it so.
    """
    match lock.status:
        case Status.FAILED:
            return Reason.FAILED
        case Status.QUARANTINED:
            return Reason.QUARANTINED
        case Status.COMPLETED if lock.returned.lost is not None:
            return Reason.RESULT_LOST
        case Status.SCHEDULED if lock.attention is not None:
            return _said(lock.attention)
        case _:
            return None


def attention(lock: Lock, at: DecisionContext, reason: Reason | None) -> str | None:
    """
    ``lock.attention`` for *reason*: another reason keeps the time since which a person is needed.
    """
    if reason is None:
        return None
    since = instant(at.now) if lock.attention is None else lock.attention.rsplit("/", 1)[-1]
    return f"{at.env}/{reason}/{at.place.rsplit('/', 1)[-1]}/{since}"


def _said(text: str) -> Reason | None:
    parts: Sequence[str] = text.split("/")
    return Reason(parts[-3]) if len(parts) == 4 and parts[-3] in (Reason.STUCK, Reason.UNDISPATCHED) else None
