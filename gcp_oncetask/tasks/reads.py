"""
Reads of once-tasks by id and by resource key, and counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, TypeVar

from gcp_oncetask.rules.document_paths import AFTER, CANCELLING, TaskName, resource_prefix, state_prefix
from gcp_oncetask.rules.record import Status
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.queries import count_range, first_of_shard, in_range, paths_in_range
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.tasks.data import TaskData
from gcp_oncetask.tasks.task import OnceTask, TaskStatus, task_of

D = TypeVar("D", bound=TaskData)
PAGE: Final = 100
"""Documents of one read."""


def one(runtime: Runtime, model: type[D], name: TaskName) -> OnceTask[D] | None:
    """
    Return a task; None if there is none.
    """
    snapshot = runtime.store.get(name.path)
    return task_of(snapshot, model) if snapshot.lock is not None else None


def many(runtime: Runtime, model: type[D], names: Sequence[TaskName]) -> list[OnceTask[D]]:
    """
    Return the tasks that exist, in the given order.
    """
    found: dict[str, Snapshot] = {}
    paths = [name.path for name in names]
    for start in range(0, len(paths), PAGE):
        found |= runtime.store.read_all(paths[start : start + PAGE])
    return [task_of(found[path], model) for path in paths if found[path].lock is not None]


def by_resource_key(runtime: Runtime, model: type[D], key: str) -> list[OnceTask[D]]:
    """
    Return the tasks of a resource key, ordered by creation.
    """
    kind = model.__kind__
    assert kind is not None
    prefix = resource_prefix(runtime.config.env, kind.name, key)
    found = in_range(runtime.store, "resource", f"{prefix}/", f"{prefix}{AFTER}")
    return sorted((task_of(snapshot, model) for snapshot in found), key=lambda task: (task.created_at, task.id))


def live_paths(runtime: Runtime, kind: str, key: str) -> list[str]:
    """
    Return the paths of the tasks of a resource key that have not ended.
    """
    prefix = resource_prefix(runtime.config.env, kind, key, live=True)
    return paths_in_range(runtime.store, "resource", f"{prefix}/", f"{prefix}{AFTER}")


def all_paths(runtime: Runtime, kind: str) -> list[str]:
    """
    Return the paths of all tasks of a kind.
    """
    prefix = state_prefix(runtime.config.env, kind)
    return paths_in_range(runtime.store, "state", f"{prefix}/", f"{prefix}{AFTER}")


def first_due(runtime: Runtime, kinds: Sequence[str], after: datetime | None = None) -> datetime | None:
    """
    Return the due time of the first task of some pull kinds, in any shard; only times *after* an instant count, if it
    is given. None: there is none.
    """
    shards, env = range(runtime.config.pull_shards), runtime.config.env
    found = (first_of_shard(runtime.store, env, kind, shard, after) for kind in kinds for shard in shards)
    return min((due for due in found if due is not None), default=None)


def pending(runtime: Runtime, kind: str) -> int:
    """
    Count the tasks that are due and not running.
    """
    prefix = state_prefix(runtime.config.env, kind, Status.SCHEDULED)
    return count_range(runtime.store, "state", f"{prefix}/", f"{prefix}/{instant(runtime.store.estimate())}")


_STATES: Final = {
    TaskStatus.LEASED: Status.LEASED,
    TaskStatus.COMPLETED: Status.COMPLETED,
    TaskStatus.FAILED: Status.FAILED,
    TaskStatus.CANCELLED: Status.CANCELLED,
    TaskStatus.QUARANTINED: Status.QUARANTINED,
    TaskStatus.CANCELLATION_PENDING: CANCELLING,
}


def count(runtime: Runtime, kind: str) -> dict[TaskStatus, int]:
    """
    Count the tasks of each status, with one aggregation query each.
    """
    env = runtime.config.env

    def within(state: str) -> int:
        prefix = state_prefix(env, kind, state)
        return count_range(runtime.store, "state", f"{prefix}/", f"{prefix}{AFTER}")

    due = pending(runtime, kind)
    found = {TaskStatus.PENDING: due, TaskStatus.WAITING: within(Status.SCHEDULED) - due}
    return found | {status: within(state) for status, state in _STATES.items()}
