"""
A once-task as it is stored and read.

Shape:
    onceTasks/{2 hex}:{env}:{kind}:{id}: ``lock`` and the fields of ``OnceTask`` in camel case, times as timestamps, ``data`` as
    a map of JSON data; ``state`` and ``resource`` are the strings by which tasks are counted and found.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from gcp_oncetask import rules
from gcp_oncetask.entities.chains import returned_by
from gcp_oncetask.errors import StoreError
from gcp_oncetask.rules.document_paths import parse_task_path
from gcp_oncetask.rules.record import Failure, Lock, Status
from gcp_oncetask.rules.waits import waits
from gcp_oncetask.store.codec import decode
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.tasks.data import TaskData

D = TypeVar("D", bound=TaskData)

SCHEMA: Final = 1


class TaskStatus(StrEnum):
    """
    The status of a task at a given instant, derived from its record. The names are those of oncetask, and quarantined.
    """

    PENDING = "pending"
    """Due, and not leased, or its lease has expired."""
    WAITING = "waiting"
    """Not due yet."""
    LEASED = "leased"
    """Running."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLATION_PENDING = "cancellationPending"
    """A cancellation was requested and is not done yet."""
    CANCELLED = "cancelled"
    QUARANTINED = "quarantined"
    """Nothing is known about its last holder, and a person must decide."""


_TIMES: Final = {"createdAt": False, "doneAt": True, "occurrenceAt": True}
"""Stored times, and whether they may be absent."""
_ENDED: Final = {
    Status.COMPLETED: TaskStatus.COMPLETED,
    Status.FAILED: TaskStatus.FAILED,
    Status.CANCELLED: TaskStatus.CANCELLED,
    Status.QUARANTINED: TaskStatus.QUARANTINED,
}


def status_of(lock: Lock, now: datetime) -> TaskStatus:
    """
    Return the derived status of a record at *now*; the first match from above counts.

    Source:
        The ``GetStatus`` of oncetask, whose page swaps two columns of "waiting". Here the end of a task is read from
        its stored status, not from a comparison of attempts and errors.
    """
    if lock.status in _ENDED:
        return _ENDED[lock.status]
    if lock.cancel_requested_at is not None:
        return TaskStatus.CANCELLATION_PENDING
    if lock.status is Status.LEASED:
        return TaskStatus.LEASED if now < rules.expires_at(lock) else TaskStatus.PENDING
    if waits(lock, now) or (lock.wait_until is not None and now < lock.wait_until):
        return TaskStatus.WAITING
    return TaskStatus.PENDING


@dataclass(frozen=True, slots=True)
class OnceTask(Generic[D]):
    """
    A once-task as it was read.

    Attributes:
        id: Id of the task, unique within environment and kind.
        kind: Kind of the task.
        env: Environment of the task.
        payload: The payload as stored; empty after it was erased.
        data: The payload, typed.
        lock: The record: status, attempts, errors, result.
        resource_key: The resource key that it needs; None: it needs none.
        created_at: Time of its creation, an estimate of the server's clock.
        done_at: Time of its end; None: it has not ended.
        recurrence: The stored rule of a generator; None: the task is none.
        parent_id: Id of the generator that made this occurrence; None: the task is none.
        occurrence_at: The nominal time of this occurrence; None: the task is none.
        path: Path of its document.
    """

    id: str
    kind: str
    env: str
    payload: dict[str, Any]
    data: D
    lock: Lock
    path: str
    created_at: datetime
    resource_key: str | None = None
    done_at: datetime | None = None
    recurrence: dict[str, Any] | None = None
    parent_id: str | None = None
    occurrence_at: datetime | None = None

    def status(self, now: datetime) -> TaskStatus:
        """
        Return the status at *now* (aware) of the task as it was read.
        """
        return status_of(self.lock, now)

    @property
    def is_queued(self) -> bool:
        """
        True if the task is scheduled, so that it waits for a run.
        """
        return self.lock.status is Status.SCHEDULED

    @property
    def is_running(self) -> bool:
        """
        True if an attempt has its lease, expired or not.
        """
        return self.lock.status is Status.LEASED

    @property
    def errors(self) -> tuple[Failure, ...]:
        """
        The last failed attempts, oldest first.
        """
        return self.lock.errors

    @property
    def progress(self) -> Any:
        """
        The last words of the handler about its progress (``attempt.progress``), as JSON data; None: there are none.
        """
        return None if self.lock.progress is None else json.loads(self.lock.progress)

    @property
    def result(self) -> Any:
        """
        Result of the completed run, as JSON data; None before.

        Raises:
            ResultNotStoredError: The run has completed, and its result could not be stored.
        """
        return returned_by(self.path, self.lock)


def task_of(snapshot: Snapshot, model: type[D]) -> OnceTask[D]:
    """
    Return the task stored in *snapshot*.

    Raises:
        UsageError: The payload does not fit *model*.
        StoreError: The document is not a once-task.
    """
    name, lock = parse_task_path(snapshot.path), snapshot.lock
    if name is None or lock is None:
        raise StoreError(f"{snapshot.path} is not a once-task.", unknown=False)
    fields = {key: decode(value) for key, value in snapshot.fields.items()}
    for field, optional in _TIMES.items():
        if not isinstance(fields.get(field), datetime) and not (optional and fields.get(field) is None):
            raise StoreError(f"{snapshot.path}: {field} is {fields.get(field)!r}, which is no time.", unknown=False)
    payload = fields.get("data") or {}
    # An erased payload can't be validated, and need not be.
    data = model.model_construct() if lock.erased else model.of(payload, snapshot.path)
    return OnceTask(
        id=name.id,
        kind=name.kind,
        env=name.env,
        payload=payload,
        data=data,
        lock=lock,
        path=snapshot.path,
        created_at=fields["createdAt"],
        resource_key=fields.get("resourceKey"),
        done_at=fields.get("doneAt"),
        recurrence=fields.get("recurrence"),
        parent_id=fields.get("parentRecurrenceId"),
        occurrence_at=fields.get("occurrenceAt"),
    )
