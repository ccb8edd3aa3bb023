"""
Parents and children: once-tasks that a durable handler has made, and for whose ends it waits. Pure.

Shape:
    The children of one word are a group. A child stores ``parent``, the text ``{digest}/{state}``: the digest is of the
    parent's path and of the group's nonce, the state is ``open``, ``ended`` or ``failed``. The parent's path is in
    ``parentPath``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from gcp_oncetask.rules.record import HandlerWait, Lock, Status, WaitFor

PARENT: Final = "parent"
PARENT_PATH: Final = "parentPath"
CHILD: Final = "child"
"""The feature that a child needs."""
OPEN: Final = "open"
ENDED: Final = "ended"
FAILED: Final = "failed"
ANY_NUMBER: Final = 2**31 - 1
"""So many tolerated failures are any number."""
RELEASED: Final = "*"
"""Mark among the groups: some are over, and the end of the parent brings the expiry of their children forward."""
NOT_BEGUN: Final = "/not begun"
"""End of the text of a group of which only the children that have not begun are to be cancelled."""
KEPT: Final = timedelta(days=366)
"""Time for which a child is kept beyond its retention, so that its parent finds its outcome."""
_FIRST: Final = timedelta(minutes=5)
_LONGEST: Final = timedelta(hours=1)


def group_of(path: str, nonce: str) -> str:
    """
    Return the digest of the group of children that the task at *path* has made with *nonce*.
    """
    return hashlib.sha256(f"{path}\n{nonce}".encode()).hexdigest()[:32]


def state_of_child(lock: Lock) -> str:
    """
    Return the state of a child, as its parent asks for it.
    """
    if not lock.finished:
        return OPEN
    return ENDED if lock.status is Status.COMPLETED else FAILED


def parent_text(group: str, lock: Lock) -> str:
    """
    Return the text ``parent`` of a child of *group*.
    """
    return f"{group}/{state_of_child(lock)}"


def next_ask(wait: HandlerWait, now: datetime) -> datetime:
    """
    Return the time at which a sweeper asks for the children of *wait*: 5 minutes after its beginning, then after twice as
    long each time, at most an hour.
    """
    pause, at = _FIRST, wait.since + _FIRST
    while at <= now:
        if pause >= _LONGEST:
            return at + ((now - at) // _LONGEST + 1) * _LONGEST
        pause = min(pause * 2, _LONGEST)
        at += pause
    return at


def has_begun(lock: Lock) -> bool:
    """
    Tell whether a child was begun: a lease of it was granted once.
    """
    return lock.token > 0


def is_over(lock: Lock | None, path: str, group: str) -> bool:
    """
    Tell whether the parent at *path*, whose record is *lock*, needs the outcomes of the children of *group* no more: it has
    ended or is gone, or its journal has them.
    """
    if lock is None or lock.finished:
        return True
    return group not in [group_of(path, nonce) for nonce in groups(lock.children)]


def brought_forward(expires: datetime, done: datetime, retention: float) -> datetime | None:
    """
    Return the earlier expiry of a child whose outcome is needed no more; None: the present one is not later.

    Args:
        expires: The present expiry.
        done: Time of its end.
        retention: Seconds for which it is kept, those of ``KEPT`` included.
    """
    sooner = done + timedelta(seconds=retention) - KEPT
    return sooner if sooner < expires else None


def awaits(lock: Lock) -> bool:
    """
    Tell whether the sequence waits for children that have not ended, as far as the record knows.
    """
    wait = lock.wait
    return lock.status is Status.SCHEDULED and wait is not None and wait.sort is WaitFor.CHILDREN and wait.ended is None


def orphaning(lock: Lock) -> Lock:
    """
    Return *lock*, which owes the cancellation of all of its children.
    """
    if not groups(lock.children):
        return lock
    return lock.but(children=(RELEASED,), orphans=tuple(dict.fromkeys((*lock.orphans, *groups(lock.children)))))


def groups(marks: Iterable[str]) -> tuple[str, ...]:
    """
    Return the nonces among *marks*, which may be ``Lock.children`` or ``Lock.orphans``.
    """
    return tuple(dict.fromkeys(mark.removesuffix(NOT_BEGUN) for mark in marks if mark != RELEASED))


def parting(lock: Lock, status: Status) -> Lock:
    """
    Return *lock*, which ends as *status* and owes its children this: the cancellation of all, if it is cancelled, or
    of those that have not begun, if it has failed; and the earlier expiry of those that have ended. A failed sequence keeps
    its groups, because a person may reset it.
    """
    if not lock.children:
        return lock
    owed: tuple[str, ...] = ()
    if status is Status.CANCELLED:
        owed = groups(lock.children)
    elif status is Status.FAILED:
        owed = tuple(f"{nonce}{NOT_BEGUN}" for nonce in groups(lock.children))
    kept = lock.children if status is Status.FAILED else ()
    return lock.but(children=kept, orphans=tuple(dict.fromkeys((*lock.orphans, *owed, RELEASED))))


def with_group(lock: Lock, begun: Iterable[str], over: Iterable[str]) -> Lock:
    """
    Return *lock* with the groups of children that were *begun*, and without those that are *over*.
    """
    gone = set(over)
    kept = [nonce for nonce in dict.fromkeys((*lock.children, *begun)) if nonce not in gone]
    if gone and RELEASED not in kept:
        kept.append(RELEASED)
    return lock.but(children=tuple(kept))
