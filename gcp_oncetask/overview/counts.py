"""
Counts of once-tasks by kind and status, and the document that is overdue longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from gcp_oncetask.rules.document_paths import AFTER, CANCELLING, LOCKS, TASKS, state_prefix
from gcp_oncetask.rules.record import Status
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.queries import areas_of, count_range, overdue_heads

MOST: Final = 10_000
"""Counts stop here, so that each costs at most ten reads."""
STATES: Final = (*(str(status) for status in Status), CANCELLING)


class KindCounts(NamedTuple):
    """
    The once-tasks of a kind.

    Attributes:
        kind: Name of the kind.
        states: Number of tasks by state, from ``STATES``; ``MOST`` means so many or more.
    """

    kind: str
    states: dict[str, int]


class Overdue(NamedTuple):
    """
    A document whose due time has passed.

    Attributes:
        path: Its path.
        due: Its due time.
        read: Server time of the read.
    """

    path: str
    due: datetime
    read: datetime


def counts(runtime: Runtime, kinds: Sequence[str]) -> list[KindCounts]:
    """
    Count the tasks of some kinds, by one aggregation for each kind and state: at least one read each, at most ten.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    env = runtime.config.env

    def number(kind: str, state: str) -> int:
        prefix = state_prefix(env, kind, state)
        return count_range(runtime.store, "state", f"{prefix}/", f"{prefix}{AFTER}", most=MOST)

    return [KindCounts(kind, {state: number(kind, state) for state in STATES}) for kind in kinds]


def oldest_overdue(runtime: Runtime) -> Overdue | None:
    """
    Return the document that is overdue longest, tasks of workers left out; None: none is overdue. It costs two queries for
    each collection and shard.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    found: list[Overdue] = []
    known = [each.collection for each in runtime.registry.all()[0]]
    for area in areas_of({TASKS, LOCKS, *runtime.collections, *known}):
        for path, due, read in overdue_heads(runtime.store, area, runtime.config.env):
            found.append(Overdue(path, due, read))
    return min(found, key=lambda one: (one.due, one.path), default=None)
