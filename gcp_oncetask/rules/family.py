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
    return lock.but(children=(), orphans=(*lock.orphans, *lock.children)) if lock.children else lock


def with_group(lock: Lock, begun: Iterable[str], over: Iterable[str]) -> Lock:
    """
    Return *lock* with the groups of children that were *begun*, and without those that are *over*.
    """
    gone = set(over)
    kept = [nonce for nonce in dict.fromkeys((*lock.children, *begun)) if nonce not in gone]
    return lock.but(children=tuple(kept))
