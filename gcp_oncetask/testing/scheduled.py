"""
Compare the tasks scheduled on the local cloud with the expectation of a test. Reads the stored documents, and no clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from gcp_oncetask.entities.models import LockedModel, parts_of
from gcp_oncetask.errors import UsageError
from gcp_oncetask.rules.document_paths import LOCKS, parse_task_path
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.store.codec import decode
from gcp_oncetask.store.snapshot import snapshot_of
from gcp_oncetask.tasks.data import TaskData, kind_of

Model = type[LockedModel] | type[TaskData]
_SAME: Final = timedelta(seconds=1)
"""Times closer to each other than this are equal, because a delay counts from a server's time."""
_LISTED: Final = 20


@dataclass(frozen=True)
class Wanted:
    """
    The task that a test expects. Attributes that are None are not compared.

    Attributes:
        model: Model of the entity or the payload.
        id: Id of the document or the task.
        url: Target of the delivery: absolute, the path alone, or the path below a base URL.
        params: The complete params that ``schedule`` was given.
        payload: Some fields of the stored entity or payload.
        at: Time of the task, compared to the second.
        bases: The base URLs of the used lockers.
    """

    model: Model
    id: str | None = None
    url: str | None = None
    params: Any = None
    payload: Mapping[str, Any] | None = None
    at: datetime | None = None
    bases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.at is not None and self.at.utcoffset() is None:
            raise UsageError(f"at is {self.at}, without a time zone; use an aware datetime.")

    def fits(self, found: Found) -> bool:
        """
        Tell whether *found* is such a task.
        """
        lock = found.lock
        return (
            found.is_of(self.model)
            and self.id in (None, found.id)
            and (self.url is None or (lock.url is not None and self.url in self._spellings(lock.url)))
            and (self.params is None or self.params == lock.params)
            and all(
                name in found.fields and found.fields[name] == value for name, value in (self.payload or {}).items()
            )
            and (self.at is None or (lock.wait_until is not None and abs(lock.wait_until - self.at) < _SAME))
        )

    def _spellings(self, url: str) -> list[str]:
        bases = [base.rstrip("/") for base in self.bases]
        below = [url.removeprefix(base) for base in bases if url.startswith(f"{base}/")]
        return [url, _path(url), *below]

    def __str__(self) -> str:
        parts = {"id": self.id, "url": self.url, "params": self.params, "payload": self.payload, "at": self.at}
        given = [f"{name} {_said(value)}" for name, value in parts.items() if value is not None]
        return f"{self.model.__name__} with {', '.join(given)}" if given else self.model.__name__


@dataclass(frozen=True)
class Found:
    """
    One stored document with a lock.

    Attributes:
        path: Path of the document.
        id: Id of the document or the task.
        kind: Kind of a once-task; None for a chain.
        lock: The lock.
        fields: The stored fields beside the lock; of a once-task, the fields of its payload.
    """

    path: str
    id: str
    kind: str | None
    lock: Lock
    fields: dict[str, Any]

    def is_of(self, model: Model) -> bool:
        """
        Tell whether the document belongs to *model*.
        """
        if issubclass(model, TaskData):
            return self.kind == kind_of(model).name
        return self.kind is None and bool(model.__collection__) and parts_of(model, self.path) is not None

    def __str__(self) -> str:
        lock = self.lock
        name = self.path if self.kind is None else f"{self.kind} {self.id!r}"
        when = "at once" if lock.wait_until is None else f"at {_said(lock.wait_until)}"
        parts = [name, when if lock.status is Status.SCHEDULED else f"is {lock.status}"]
        if lock.url is not None:
            parts.append(f"to {lock.url}")
        if lock.params is not None:
            parts.append(f"params {_said(lock.params)}")
        if self.fields:
            parts.append(f"payload {_said(self.fields)}")
        return ", ".join(parts)


def check(documents: Mapping[str, Any], wanted: Wanted) -> None:
    """
    Check that one of *documents* (path -> stored document) is scheduled as *wanted*.

    Raises:
        AssertionError: There is no such document. The message lists the scheduled ones, and the tasks of that model that
            are not scheduled any more.
    """
    all_ = list(found(documents))
    scheduled = [one for one in all_ if one.lock.status is Status.SCHEDULED]
    if any(wanted.fits(one) for one in scheduled):
        return
    others = [one for one in all_ if one.lock.status is not Status.SCHEDULED and one.is_of(wanted.model)]
    lines = [f"No {wanted} is scheduled.", *_listed("Scheduled", scheduled), *_listed("Not scheduled any more", others)]
    raise AssertionError("\n".join(lines))


def found(documents: Mapping[str, Any]) -> Iterator[Found]:
    """
    Yield the documents with a lock, but for those of named locks.
    """
    for path, document in documents.items():
        if path.startswith(f"{LOCKS}/"):
            continue
        snapshot = snapshot_of(path, document, None)
        if snapshot.lock is None:
            continue
        name = parse_task_path(path)
        fields = {key: decode(value) for key, value in snapshot.fields.items()}
        if name is None:
            yield Found(path, path.rpartition("/")[2], None, snapshot.lock, fields)
        else:
            yield Found(path, name.id, name.kind, snapshot.lock, fields.get("data") or {})


def _listed(head: str, found: list[Found]) -> list[str]:
    if not found:
        return [f"{head}: nothing."] if head == "Scheduled" else []
    more = [f"  and {len(found) - _LISTED} more"] if len(found) > _LISTED else []
    return [f"{head}:", *(f"  {one}" for one in found[:_LISTED]), *more]


def _path(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _said(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(sep=" ", timespec="seconds")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str, sort_keys=True)
