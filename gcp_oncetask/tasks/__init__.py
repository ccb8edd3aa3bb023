"""
Once-tasks: typed payloads with an id, each run once, on the locker's leases.

``data``, ``payloads``: payloads and kinds. ``task``: a task as stored and read. ``manager``, ``admin``: the classes
that users call. ``creation``, ``draft``, ``bulk``: the creation of tasks. ``handlers``: deliveries. ``batch``: all
tasks of a resource key in one call. ``generator``, ``redeclaring``, ``recurrence``: tasks that recur. ``queues``:
queues in which the newest request wins. ``reads``: queries. ``context``: the attempt of the present context.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gcp_oncetask.tasks.batch import PerTask
from gcp_oncetask.tasks.bulk import CreatedMany
from gcp_oncetask.tasks.context import current_attempt, current_resource_key, current_task_id
from gcp_oncetask.tasks.data import TaskData
from gcp_oncetask.tasks.draft import Created
from gcp_oncetask.tasks.manager import TaskManager
from gcp_oncetask.tasks.queues import Request, queue_kind
from gcp_oncetask.tasks.task import OnceTask, TaskStatus

if TYPE_CHECKING:
    from gcp_oncetask.tasks.recurrence import Recurrence, cron, every, explain

__all__ = [
    "Created",
    "CreatedMany",
    "OnceTask",
    "PerTask",
    "Recurrence",
    "Request",
    "TaskData",
    "TaskManager",
    "TaskStatus",
    "cron",
    "current_attempt",
    "current_resource_key",
    "current_task_id",
    "every",
    "explain",
    "queue_kind",
]
_RECURRENCE = ("Recurrence", "cron", "every", "explain")


def __getattr__(name: str) -> Any:
    # Most programs have no task that recurs.
    if name not in _RECURRENCE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.recurrence"), name)
    globals()[name] = value
    return value
