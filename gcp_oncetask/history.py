"""
The life of a task, and the acts of people, for the command line, the console and mails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from gcp_oncetask.checks.paths import trouble_with_path
from gcp_oncetask.effects.kinship import Kinship, kinship_of
from gcp_oncetask.errors import DamagedError, OncetaskError, TaskNotFoundError, UsageError
from gcp_oncetask.observe.log_filters import acts_filter, task_filter
from gcp_oncetask.rules.act_lines import ToldAct, merged_acts, told_acts
from gcp_oncetask.rules.evidence import Line
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.timeline import TimelineEntry, recorded_acts, timeline
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.services.cloud_logging import Findings
from gcp_oncetask.store.codec import decode

RETENTION: Final = timedelta(days=30)
"""Time for which Cloud Logging keeps lines, unless a bucket has another setting."""
_BEFORE: Final = timedelta(minutes=6)
"""A line may be dated so much before the document was created, because clocks differ and containers take time to start."""
_VIEWER: Final = "Lines are read by accounts with the role roles/logging.viewer."
_MOST_ACTS: Final = 10
"""Acts that a record keeps."""


@dataclass(frozen=True, slots=True)
class History:
    """
    The life of a task.

    Attributes:
        document: Path of its document.
        lock: Its record; None: the document is gone, or its record can't be read.
        entries: The events, in causal order.
        unread: Sentences about the sources that could not be read.
        age: Seconds since the logs were asked.
        kin: Its parent and its children; None: not known.
    """

    document: str
    lock: Lock | None
    entries: tuple[TimelineEntry, ...]
    unread: tuple[str, ...]
    age: float = 0.0
    kin: Kinship | None = None


@dataclass(frozen=True, slots=True)
class Acts:
    """
    Acts of people.

    Attributes:
        items: The acts, oldest first.
        unread: Sentences about the sources that could not be read.
        age: Seconds since the logs were asked.
    """

    items: tuple[ToldAct, ...]
    unread: tuple[str, ...]
    age: float = 0.0


@dataclass(slots=True)
class _Stored:
    lock: Lock | None = None
    created: datetime | None = None
    ended: datetime | None = None
    kin: Kinship | None = None


def timeline_of(
    runtime: Runtime, path: str, *, since: timedelta | None = None, exported: Sequence[Line] | None = None
) -> History:
    """
    Return the life of the task at *path*. It reads one document, and Cloud Logging at most once a minute for one task;
    sources that fail are named in the result.

    Args:
        runtime: Shared parts.
        path: Path of the document.
        since: Age of the oldest lines that are used; None: the age of the document, if it is known, else 30 days.
        exported: Lines that were exported from the logs; None: the logs are asked.

    Raises:
        UsageError: *path* is no path of a document.
        TaskNotFoundError: There is no such document, and no lines tell of it.
    """
    _check(path)
    unread: list[str] = []
    stored = _stored(runtime, path, unread)
    env = stored.lock.env if stored.lock is not None else runtime.config.env
    trace = None if stored.lock is None else stored.lock.trace
    start = None if since is None else runtime.store.estimate() - since
    if exported is None:
        first = start or _start(runtime, stored)
        # The name has the length of time, not its begin, so that an answer can be used again.
        name = f"task {path} {since}"
        found = runtime.task_log.lines(name, lambda: task_filter(runtime.project(), env, path, trace, first))
        _complain(found, unread)
    else:
        found = Findings(exported)
    lines = [line for line in found if start is None or line.at >= start]
    acts = () if stored.lock is None else stored.lock.acts
    entries = timeline(path, env, stored.lock, acts, lines, created=stored.created, ended=stored.ended)
    if not entries and stored.lock is None and not unread[1:]:
        raise TaskNotFoundError(f"{path} does not exist, and no line in the logs is about it.", document=path)
    return History(path, stored.lock, entries, tuple(unread), found.age, stored.kin)


def acts_of(
    runtime: Runtime, path: str | None = None, *, by: str | None = None, since: timedelta | None = None
) -> Acts:
    """
    Return the acts of people in this environment: on one document from its record and the trail, else all from the trail,
    which has those on deleted documents too. Sources that fail are named in the result.

    Args:
        runtime: Shared parts.
        path: Path of the document; None: acts on all documents.
        by: Name of a person, as it was proved or claimed; None: acts of all.
        since: Age of the oldest acts; None: 30 days.

    Raises:
        UsageError: *path* is no path of a document.
    """
    unread: list[str] = []
    recorded: tuple[ToldAct, ...] = ()
    env = runtime.config.env
    if path is not None:
        _check(path)
        lock = _stored(runtime, path, unread).lock
        if lock is not None:
            env, recorded = lock.env, recorded_acts(path, lock.acts)
    length = RETENTION if since is None else since
    start = runtime.store.estimate() - length
    found = runtime.task_log.lines(f"acts {path} {length}", lambda: acts_filter(env, path, start))
    _complain(found, unread)
    if found.trouble is not None and len(recorded) >= _MOST_ACTS:
        unread.append(f"The record keeps the last {_MOST_ACTS} acts; those before them are in the trail alone.")
    told = [each for each in told_acts(found) if path is None or each.document == path]
    items = [
        each
        for each in merged_acts(told, recorded)
        if each.act.at >= start and (by is None or by in (each.act.by, each.act.claimed))
    ]
    return Acts(tuple(items), tuple(unread), found.age)


def _check(path: str) -> None:
    trouble = trouble_with_path(path)
    if trouble is not None:
        raise UsageError(f"{path!r:.80} is not the path of a document, as orders/42 is: {trouble}.")


def _stored(runtime: Runtime, path: str, unread: list[str]) -> _Stored:
    try:
        snapshot = runtime.store.get(path)
    except DamagedError as error:
        unread.append(f"The record can't be decoded: {error}")
        return _Stored()
    except OncetaskError as error:
        unread.append(f"The record could not be read: {error}")
        return _Stored()
    if snapshot.lock is None:
        unread.append("There is no record: the document was deleted, or was never scheduled.")
        return _Stored()
    try:
        kin = kinship_of(runtime, snapshot)
    except OncetaskError as error:
        kin = None
        unread.append(f"Its children could not be read: {error}")
    return _Stored(snapshot.lock, _time(snapshot.fields, "createdAt"), _time(snapshot.fields, "doneAt"), kin)


def _time(fields: Any, name: str) -> datetime | None:
    value = decode(fields[name]) if name in fields else None
    return value if isinstance(value, datetime) else None


def _start(runtime: Runtime, stored: _Stored) -> datetime:
    if stored.created is not None:
        return stored.created - _BEFORE
    return runtime.store.estimate() - RETENTION


def _complain(found: Findings, unread: list[str]) -> None:
    if found.trouble is not None:
        part = "The logs could be read in part only" if found else "The logs could not be read"
        hint = f" {_VIEWER}" if found.trouble.facts.get("final") else ""
        unread.append(f"{part}: {found.trouble}{hint}")
