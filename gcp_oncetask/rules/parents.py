"""
The rules by which the end of children reaches their parent, and a parent's cancellation its children. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from gcp_oncetask.rules import family, writes
from gcp_oncetask.rules.decisions import CallRefused, DecisionContext, Put
from gcp_oncetask.rules.record import Lock, Woken
from gcp_oncetask.rules.refusals import Refusal


def children_ended(lock: Lock | None, path: str, group: str, at: DecisionContext) -> Put | CallRefused:
    """
    End the wait of the record at *path* for the children of *group*, and dispatch it.

    Returns:
        Put; or CallRefused NOT_NEEDED: it does not wait for them (any more).
    """
    if lock is None or not family.awaits(lock):
        return CallRefused(Refusal.NOT_NEEDED, "it waits for no children")
    wait = lock.wait
    assert wait is not None
    if family.group_of(path, wait.nonce or "") != group:
        return CallRefused(Refusal.NOT_NEEDED, "it waits for other children")
    ready = replace(wait, ended=Woken.CHILDREN)
    again = writes.with_due(lock, at, wait=ready, wait_until=None, ready_at=None, dispatches=lock.dispatches + 1)
    return Put(again, dispatch=True)


def orphans_cancelled(lock: Lock | None, done: Collection[str], at: DecisionContext) -> Put | CallRefused:
    """
    Note that the children of the groups *done* are cancelled.

    Returns:
        Put; or CallRefused NOT_NEEDED: none of these cancellations is owed.
    """
    if lock is None or not set(lock.orphans) & set(done):
        return CallRefused(Refusal.NOT_NEEDED, "it owes no such cancellation")
    left = tuple(nonce for nonce in lock.orphans if nonce not in done)
    return Put(writes.with_due(lock, at, orphans=left))
