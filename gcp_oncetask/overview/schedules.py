"""
The recurring once-tasks, with their next runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from gcp_oncetask.errors import RecurrenceError
from gcp_oncetask.rules.document_paths import AFTER, parse_task_path, state_prefix
from gcp_oncetask.rules.record import Status
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import decode
from gcp_oncetask.store.queries import first_in_range
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.tasks.generator import LAST
from gcp_oncetask.tasks.recurrence import Recurrence, explain

MOST: Final = 200
"""Waiting tasks that are read for each kind that recurs."""


class ScheduleRow(NamedTuple):
    """
    A recurring task.

    Attributes:
        path: Path of its document.
        kind: Its kind.
        id: Its id.
        rule: The rule as it is stored.
        zone: Name of its time zone.
        misfire: Policy for missed runs.
        overlap: Policy for runs that overlap.
        paused: Whether it is paused.
        due: Time at which it makes its next occurrence; None: it makes none.
        last: Path of the occurrence that it made last; None: it has made none.
        runs: Its next runs in lines, with notes where the clocks change.
        trouble: Reason for which the rule can't be read; None: it can.
    """

    path: str
    kind: str
    id: str
    rule: str
    zone: str
    misfire: str
    overlap: str
    paused: bool
    due: datetime | None
    last: str | None
    runs: tuple[str, ...]
    trouble: str | None


class Schedules(NamedTuple):
    """
    The recurring tasks of some kinds.

    Attributes:
        rows: The tasks, by kind and id.
        cut: Kinds with more than ``MOST`` waiting tasks, of which some were not read.
        read: Server time of the read, estimated.
    """

    rows: list[ScheduleRow]
    cut: tuple[str, ...]
    read: datetime


def schedules(runtime: Runtime, kinds: Sequence[str], runs: int = 5) -> Schedules:
    """
    Return the recurring tasks of *kinds*, each with its next *runs*. It reads the waiting tasks of each kind, at most
    ``MOST``; damaged ones are left out.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    env, now, rows, cut = runtime.config.env, runtime.store.estimate(), [], []
    for kind in kinds:
        prefix = state_prefix(env, kind, Status.SCHEDULED)
        found = first_in_range(
            runtime.store, "state", f"{prefix}/", f"{prefix}{AFTER}", limit=MOST, aside=lambda *_: None
        )
        rows += [row(snapshot, now, runs) for snapshot in found if "recurrence" in snapshot.fields]
        cut += [kind] if len(found) >= MOST else []
    return Schedules(sorted(rows, key=lambda one: (one.kind, one.id)), tuple(cut), now)


def row(snapshot: Snapshot, now: datetime, runs: int = 5) -> ScheduleRow:
    """
    Describe the recurring task in *snapshot* at *now*.
    """
    name, lock = parse_task_path(snapshot.path), snapshot.lock
    assert name is not None
    assert lock is not None
    stored: Any = decode(snapshot.fields["recurrence"])
    stored = stored if isinstance(stored, dict) else {}
    lines: tuple[str, ...] = ()
    trouble = None
    try:
        lines = tuple(explain(Recurrence.from_data(stored), runs, now))
    except RecurrenceError as error:
        trouble = str(error)
    last = decode(snapshot.fields[LAST]) if LAST in snapshot.fields else None
    return ScheduleRow(
        snapshot.path,
        name.kind,
        name.id,
        str(stored.get("rrule", "")),
        str(stored.get("tz") or "UTC"),
        str(stored.get("misfire", "")),
        str(stored.get("overlap", "")),
        lock.paused,
        lock.wait_until,
        last if isinstance(last, str) else None,
        lines,
        trouble,
    )
