"""
A once-task as it is stored and read.

Shape:
    onceTasks/{2 hex}:{env}:{kind}:{id}: ``lock`` and the fields of ``OnceTask`` in camel case, times as timestamps, ``data`` as
    a map of JSON data; ``state`` and ``resource`` are the strings by which tasks are counted and found.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from gcp_oncetask import rules
from gcp_oncetask.entities.chains import returned_by
from gcp_oncetask.errors import StoreError
from gcp_oncetask.rules.documents import task_name
from gcp_oncetask.rules.record import Failure, Lock, Status
from gcp_oncetask.store.codec import decode
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.tasks.data import TaskData

D = TypeVar("D", bound=TaskData)

SCHEMA: Final = 1


class TaskStatus(StrEnum):
    """
    What a task looks like at a given instant; the names are the ancestor's, and quarantined.
    """

    PENDING = "pending"
    """Due, and nobody holds it (or its holder's lease has expired)."""
    WAITING = "waiting"
    """Not due yet."""
    LEASED = "leased"
    """Running."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLATION_PENDING = "cancellationPending"
    """Its cancellation was asked for and is not done."""
    CANCELLED = "cancelled"
    QUARANTINED = "quarantined"
    """Its holder is gone without a trace, and a person must decide."""


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
    The derived status of a record at *now*, first match from above.

    Source:
        oncetask's ``GetStatus``, whose page swaps two columns of "waiting"; here what has ended is read from the stored
        status, not from counting attempts against errors.
    """
    if lock.status in _ENDED:
        return _ENDED[lock.status]
    if lock.cancel_requested_at is not None:
        return TaskStatus.CANCELLATION_PENDING
    if lock.status is Status.LEASED:
        return TaskStatus.LEASED if now < rules.expires_at(lock) else TaskStatus.PENDING
    if lock.wait_until is not None and now < lock.wait_until:
        return TaskStatus.WAITING
    return TaskStatus.PENDING


@dataclass(frozen=True, slots=True)
class OnceTask(Generic[D]):
    """
    A once-task as it was read.

    Attributes:
        id: Its id, unique within environment and kind.
        kind: Its kind.
        env: Its environment.
        payload: The payload as stored; empty once it was erased.
        data: The payload, typed.
        lock: Its record: status, attempts, errors, result.
        resource_key: The key it needs, if any.
        created_at: Estimate of the server's clock.
        done_at: When it ended; None before.
        recurrence: The stored rule of a generator.
        parent_id: The generator that made this occurrence.
        occurrence_at: The nominal time of this occurrence.
        path: Its document.
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
        What it looked like, when read, at *now* (aware).
        """
        return status_of(self.lock, now)

    @property
    def is_queued(self) -> bool:
        """
        Whether it waits to be run: scheduled, for whatever reason.
        """
        return self.lock.status is Status.SCHEDULED

    @property
    def is_running(self) -> bool:
        """
        Whether an attempt holds its lease, expired or not.
        """
        return self.lock.status is Status.LEASED

    @property
    def errors(self) -> tuple[Failure, ...]:
        """
        Its last failures, oldest first.
        """
        return self.lock.errors

    @property
    def result(self) -> Any:
        """
        What its completed run returned, as JSON data; None before.

        Raises:
            ResultNotStoredError: It has completed, and what it returned could not be stored.
        """
        return returned_by(self.path, self.lock)


def task_of(snapshot: Snapshot, model: type[D]) -> OnceTask[D]:
    """
    The task stored in *snapshot*.

    Raises:
        UsageError: Its payload does not fit *model*.
        StoreError: The document is not a once-task.
    """
    name, lock = task_name(snapshot.path), snapshot.lock
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
