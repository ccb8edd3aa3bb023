"""
Rules about tasks that stand still: the time since which a sequence could have been claimed, the alarm when that is too
long, and the reasons for which a record needs a person.

``ready_at`` is set by the commit that makes a sequence, a retry or a key's hand-over claimable. Looks of the sweeper never
move it, so a task's age shows that it stands still, for any cause.

Source:
    SRE's "symptom, not cause": one alarm by age covers a paused queue, a wrong URL, a refused caller and a broken deployment.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from gcp_oncetask.rules.decisions import DecisionContext, Put
from gcp_oncetask.rules.record import Lock, Since, Status
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.rules.waits import waits as is_waiting

LONGEST_LOOK: Final = timedelta(hours=1)
"""A task that is still queued is looked at again after half of its age, and after this at the latest."""
RENAMED_EVERY: Final = timedelta(hours=1)
"""If the queue can't be asked, a task gets a new name at most once in this time."""
REFUSED_LOOKS: Final = 3
"""From this refused look-up on, the task may have a new name."""


class Reason(StrEnum):
    """
    Reasons for which a record needs a person, the gravest first.
    """

    FAILED = "failed"
    QUARANTINED = "quarantined"
    STUCK = "stuck"
    DAMAGED = "damaged"
    """The record can't be decoded."""
    UNDISPATCHED = "undispatched"
    RESULT_LOST = "result-lost"
    SWALLOWED = "swallowed"
    """A handler went on after a suspension had ended its attempt."""
    WAITING = "waiting"
    """A sequence has waited for an event without a time-out for long."""
    DISMISSED = "dismissed"
    """A person has seen it, and needs to do no more."""


ORDER: Final = tuple(Reason)
ASKING: Final = tuple(reason for reason in Reason if reason is not Reason.DISMISSED)
"""The reasons for which a person must still do something."""
_WAITING: Final = frozenset({Reason.STUCK, Reason.UNDISPATCHED, Reason.SWALLOWED, Reason.WAITING})
_ALWAYS: Final = frozenset({Status.FAILED, Status.QUARANTINED})
_REASONS: Final = {str(reason): reason for reason in Reason}
_TEXT: Final = re.compile(
    r"[^/]+/([a-z-]+)/[0-9]{3,}/([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z)"
)


def ready(lock: Lock, at: datetime) -> Since:
    """
    Return ``ready_at`` of a record that can be claimed from *at* on; a record that could be claimed before keeps its time.
    """
    known = lock.ready_at
    if known is not None and (known.sequence, known.token) == (lock.sequence, lock.token):
        return known
    return Since(lock.sequence, lock.token, at)


def age(lock: Lock, at: DecisionContext) -> timedelta:
    """
    Return the time for which the record could have been claimed, and was not; 0 if it can't be claimed, or if the time is
    not known.
    """
    since = lock.ready_since
    waits = lock.status is Status.SCHEDULED and lock.parked is None and not lock.paused
    if lock.wait is not None and is_waiting(lock, at.now):
        return timedelta(0)
    return max(timedelta(0), at.now - since) if waits and since is not None else timedelta(0)


def is_stuck(lock: Lock, at: DecisionContext) -> bool:
    """
    Tell whether the task has waited for longer than ``ONCETASK_STUCK_SECONDS``.
    """
    return age(lock, at) > timedelta(seconds=at.stuck)


def look_by(ready: Since | None, when: datetime, at: DecisionContext) -> datetime:
    """
    Return the time of the next look at a task: *when*, or earlier, as soon as it has waited for too long since *ready*.
    """
    if ready is None:
        return when
    alarm = ready.at + timedelta(seconds=at.stuck + 1)
    return alarm if at.now < alarm < when else when


def next_look(lock: Lock, at: DecisionContext) -> datetime:
    """
    Return the time of the next look at a task that is still queued: the longer the task has waited, the later.
    """
    return at.now + min(max(timedelta(seconds=at.grace), age(lock, at) / 2), LONGEST_LOOK)


def may_rename(lock: Lock, at: DecisionContext) -> bool:
    """
    Tell whether a task may be dispatched under a new name though the queue can't be asked for the old one. It may from the
    third look on, at most once an hour.
    """
    first = timedelta(seconds=at.grace * REFUSED_LOOKS)
    return age(lock, at) >= first + RENAMED_EVERY * (max(lock.dispatches, 1) - 1)


def reason_of(lock: Lock) -> Reason | None:
    """
    Return the reason for which the record needs a person, by its status. ``stuck``, ``undispatched`` and ``dismissed`` are
    kept if the record has them.
    """
    if lock.attention is None and lock.result_lost is None and lock.status not in _ALWAYS:
        # Most records, at each commit.
        return None
    match lock.status:
        case Status.FAILED:
            return Reason.DISMISSED if said(lock.attention) is Reason.DISMISSED else Reason.FAILED
        case Status.QUARANTINED:
            return Reason.QUARANTINED
        case Status.COMPLETED if lock.read(lock.result_lost) is not None:
            return Reason.DISMISSED if said(lock.attention) is Reason.DISMISSED else Reason.RESULT_LOST
        case Status.SCHEDULED if said(lock.attention) in _WAITING:
            return said(lock.attention)
        case _:
            return None


def attention(lock: Lock, at: DecisionContext, reason: Reason | None) -> str | None:
    """
    Return ``lock.attention`` for *reason*; if the reason changes, the time since which a person is needed stays.
    """
    if reason is None:
        return None
    return f"{at.env}/{reason}/{at.place.rsplit('/', 1)[-1]}/{since(lock.attention) or instant(at.now)}"


def mended(lock: Lock, at: DecisionContext) -> Put | None:
    """
    Return the record with the ``attention`` that its status asks for, or None if it has that. A process of an older release
    changes the status and leaves ``attention`` as it was; a failed record without one has needed a person since its last failure.
    """
    reason = reason_of(lock)
    if reason is said(lock.attention) and (reason is None) is (lock.attention is None):
        return None
    if reason is Reason.FAILED and lock.errors:
        at = at._replace(now=min(at.now, lock.errors[-1].at))
    return Put(lock.but(attention=attention(lock, at, reason)))


def said(text: str | None) -> Reason | None:
    """
    Return the reason in a text of ``lock.attention``; None if it has none, or if a newer release or a person has written it.
    """
    found = _TEXT.fullmatch(text or "")
    return _REASONS.get(found[1]) if found is not None else None


def since(text: str | None) -> str | None:
    """
    Return the time since which a person is needed, as it is stored in a text of ``lock.attention``; None if it has none.
    """
    found = _TEXT.fullmatch(text or "")
    return found[2] if found is not None else None


def acknowledged_until(lock: Lock, now: datetime) -> datetime | None:
    """
    Return the time until which a person has promised to attend to the record; None if there is no such promise, or if the
    time has passed.
    """
    known = lock.acknowledgement
    return known.until if known is not None and now < known.until else None
