"""
The ways between parents and children: the last child that ends wakes its parent, and a cancelled parent cancels its children.

Cost
    The end of a child costs one aggregation, which bills one read. The child that finds no open sibling costs one read and
    one commit more. So the reads of a parent grow with the number of its children, and not with its square.
"""

from __future__ import annotations

import logging
from typing import Final

from gcp_oncetask import rules
from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.errors import DamagedError, OncetaskError
from gcp_oncetask.rules import family, features, journal
from gcp_oncetask.rules.decisions import CallRefused, Put
from gcp_oncetask.rules.record import HandlerWait, Lock
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store import expiring, journals
from gcp_oncetask.store.codec import Value, decode
from gcp_oncetask.store.queries import count_range, first_in_range
from gcp_oncetask.store.snapshot import Snapshot

_PAGE: Final = 100
"""Children that are cancelled by one query."""


def after_commit(runtime: Runtime, snapshot: Snapshot) -> None:
    """
    Attend to a record after a commit that has ended it, if it is a child, or by which it owes the cancellation of its
    children. A failure is logged and left to the sweeper.
    """
    lock = snapshot.lock
    try:
        if lock is not None and lock.orphans:
            attend(runtime, snapshot)
        if lock is not None and lock.finished:
            _child_ended(runtime, snapshot.fields, family.state_of_child(lock))
    except OncetaskError as error:
        runtime.about(snapshot).log(logging.WARNING, "its kin was not attended to: %s The sweep does.", error)


def child_deleted(runtime: Runtime, path: str, fields: dict[str, Value]) -> None:
    """
    Tell the parent of a child at *path*, with *fields*, that the child was deleted. A failure is logged and left to the
    sweeper.
    """
    try:
        _child_ended(runtime, fields, family.ENDED)
    except OncetaskError as error:
        logging.getLogger("gcp_oncetask").warning(
            "the parent of %s, which was deleted, was not told: %s The sweep does.", path, error
        )


def _child_ended(runtime: Runtime, fields: dict[str, Value], state: str) -> None:
    if family.PARENT not in fields or family.PARENT_PATH not in fields:
        return
    group = str(decode(fields[family.PARENT])).partition("/")[0]
    path = str(decode(fields[family.PARENT_PATH]))
    if state == family.FAILED:
        parent = runtime.store.get(path)
        wait = None if parent.lock is None else parent.lock.wait
        ours = wait is not None and family.group_of(path, wait.nonce or "") == group
        if wait is not None and ours and _too_many_failed(runtime, group, wait):
            _wake(runtime, path, group)
            return
    if not _count(runtime, group, family.OPEN, 1):
        _wake(runtime, path, group)


def ask(runtime: Runtime, snapshot: Snapshot) -> bool:
    """
    Ask whether the children for which the record in *snapshot* waits have ended; if so, wake it.

    Returns:
        Whether it was woken.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    lock = snapshot.lock
    if lock is None or not family.awaits(lock) or lock.wait is None:
        return False
    group = family.group_of(snapshot.path, lock.wait.nonce or "")
    if _count(runtime, group, family.OPEN, 1) and not _too_many_failed(runtime, group, lock.wait):
        return False
    return _wake(runtime, snapshot.path, group)


def ask_at_once(runtime: Runtime, snapshot: Snapshot) -> None:
    """
    Do as ``ask``; a failure is logged and left to the sweeper.
    """
    try:
        ask(runtime, snapshot)
    except OncetaskError as error:
        runtime.about(snapshot).log(logging.WARNING, "its children were not asked for: %s The sweep does.", error)


def _count(runtime: Runtime, group: str, state: str, most: int) -> int:
    text = f"{group}/{state}"
    return count_range(runtime.store, family.PARENT, text, text, most=most)


def _too_many_failed(runtime: Runtime, group: str, wait: HandlerWait) -> bool:
    most = wait.tolerate
    return most != family.ANY_NUMBER and _count(runtime, group, family.FAILED, most + 1) > most


def _wake(runtime: Runtime, path: str, group: str) -> bool:
    def decide(seen: Snapshot) -> Put | CallRefused:
        return rules.children_ended(seen.lock, path, group, runtime.decision_context(seen))

    changed = runtime.store.change(path, decide)
    if not isinstance(changed.decision, Put):
        if family.is_over(changed.snapshot.lock, path, group):
            expiring.bring_forward(runtime.store, group)
        return False
    runtime.events.scheduled(changed.snapshot)
    dispatch(runtime, changed.snapshot)
    return True


# --- cancellation -----------------------------------------------------------------------------------------------------


def attend(runtime: Runtime, snapshot: Snapshot) -> int:
    """
    Pay the debts of the record in *snapshot* to its children: request the cancellation of open ones, and bring the expiry of
    ended ones forward. Return the number of those that were cancelled.

    Raises:
        StoreError: Firestore was unreachable or refused; the sweeper does the rest.
        DamagedError: A child can't be read.
    """
    lock = snapshot.lock
    assert lock is not None
    cancelled = 0
    for mark in lock.orphans:
        if mark != family.RELEASED:
            group = family.group_of(snapshot.path, mark.removesuffix(family.NOT_BEGUN))
            cancelled += _cancel_group(runtime, group, begun=not mark.endswith(family.NOT_BEGUN))
    if family.RELEASED in lock.orphans and lock.finished:
        for nonce in _nonces(runtime, snapshot.path, lock):
            expiring.bring_forward(runtime.store, family.group_of(snapshot.path, nonce))
    done = frozenset(lock.orphans)
    runtime.store.change(
        snapshot.path,
        lambda seen: rules.orphans_cancelled(seen.lock, done, runtime.decision_context(seen)),
    )
    return cancelled


def _nonces(runtime: Runtime, path: str, lock: Lock) -> list[str]:
    try:
        entries = journal.latest(journals.read(runtime.store, path, lock))
    except DamagedError as error:
        # Its children are kept for the longer time.
        runtime.about(runtime.store.get(path)).log(logging.WARNING, "the expiry of its children stays: %s", error)
        return []
    return [str(entry.more["nonce"]) for entry in entries.values() if entry.more and "nonce" in entry.more]


def _cancel_group(runtime: Runtime, group: str, *, begun: bool) -> int:
    text = f"{group}/{family.OPEN}"
    floor, cancelled, seen = text, 0, set[str]()
    limit = _PAGE
    while True:
        # Children that run stay open until they end, so each page may begin with children that were cancelled before.
        found = first_in_range(runtime.store, family.PARENT, floor, text, limit=limit)
        for child in found:
            if child.path not in seen:
                seen.add(child.path)
                cancelled += _cancel(runtime, child, begun=begun)
        if len(found) < limit:
            return cancelled
        limit = max(limit, len(seen) + _PAGE)


def _cancel(runtime: Runtime, child: Snapshot, *, begun: bool) -> bool:
    def decide(seen: Snapshot) -> Put | CallRefused:
        if seen.lock is None or features.unknown(seen.lock):
            return CallRefused(Refusal.MISSING, "it is gone, or needs a newer release")
        if not begun and family.has_begun(seen.lock):
            return CallRefused(Refusal.NOT_NEEDED, "it has begun")
        return rules.cancel(seen.lock, runtime.decision_context(seen))

    changed = runtime.store.change(child.path, decide, start=child)
    if not isinstance(changed.decision, Put):
        return False
    if changed.decision.dispatch:
        dispatch(runtime, changed.snapshot)
    return True
