"""
The children of durable handlers, as a task manager makes them.
"""

from __future__ import annotations

from typing import Any

from gcp_oncetask.errors import UsageError
from gcp_oncetask.rules import family
from gcp_oncetask.rules.document_paths import TaskName
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.snapshot import Update
from gcp_oncetask.tasks import creation
from gcp_oncetask.tasks.data import TaskData, hash_of, kind_of
from gcp_oncetask.tasks.draft import Draft


class ChildMaker:
    """
    Makes the once-tasks of ``attempt.run_task`` (``execution.child_tasks.Maker``).

    Args:
        runtime: Shared parts.
        path: Path or URL of their deliveries.
    """

    def __init__(self, runtime: Runtime, path: str) -> None:
        self._runtime, self._path = runtime, path

    def told(self, data: Any) -> tuple[str, str]:
        """
        Return the kind of a payload, and its digest.

        Raises:
            UsageError: *data* is no payload of a once-task, or it recurs.
        """
        if not isinstance(data, TaskData):
            raise UsageError(f"{data!r:.80} is no TaskData; run_task() and run_tasks() take payloads of once-tasks.")
        if data.recurrence() is not None:
            raise UsageError(f"{type(data).__name__}: a task that recurs never ends, so no handler can wait for it.")
        return kind_of(data).name, hash_of(data.payload())

    def path(self, kind: str, id_: str) -> str:
        """
        Return the path of a child.
        """
        return TaskName(self._runtime.config.env, kind, id_).path

    def make(self, data: Any, id_: str, parent: str, group: str) -> tuple[Draft, Update]:
        """
        Return the draft of a child of *group* and the write that creates it.

        Args:
            data: The payload.
            id_: Its id.
            parent: Path of its parent.
            group: Digest of its group.

        Raises:
            UsageError: The payload is invalid.
            ConfigError: The URL, queue or account is not configured.
        """
        extra = {family.PARENT: f"{group}/{family.OPEN}", family.PARENT_PATH: parent}
        made = creation.draft(self._runtime, data, self._path, id_=id_, needed=family.KEPT.total_seconds(), extra=extra)
        self._runtime.register(None, made.target.url)
        return made, creation.new_task(self._runtime, made)
