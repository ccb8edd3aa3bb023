"""
The once-tasks that are stored: reading them, and what a person may do to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload

from gcp_oncetask import rules
from gcp_oncetask.checks import values
from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.entities.chains import executor_of, has_verb, result_of, runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.entities.models import MaybeNone
from gcp_oncetask.errors import AlreadyScheduledError, DamagedError, TaskNotFoundError
from gcp_oncetask.rules.decisions import CallRefused, Put
from gcp_oncetask.rules.documents import TaskName
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.tasks import bulk, reads
from gcp_oncetask.tasks.data import TaskData, kind_of
from gcp_oncetask.tasks.task import OnceTask, TaskStatus

D = TypeVar("D", bound=TaskData)
R = TypeVar("R")


class StoredTasks:
    """
    The once-tasks of one environment; by-id calls take the kind first.

    Args:
        locker: In whose environment and database.
    """

    def __init__(self, locker: Locker) -> None:
        self.locker = locker
        self._executor = executor_of(locker)
        self._runtime = runtime_of(locker)

    # --- reading ------------------------------------------------------------------------------------------------------

    def _name_of(self, model: type[TaskData], id: str) -> TaskName:  # noqa: A002 - as everybody says it
        """
        What tells the task of that kind and id from all others.

        Raises:
            UsageError: The model has no kind, or the id can't be one.
        """
        return TaskName(self.locker.config.env, kind_of(model).name, values.name(id, "id"))

    def get_task(self, model: type[D], id: str) -> OnceTask[D] | MaybeNone:  # noqa: A002
        """
        One task; None if there is none.

        Raises:
            UsageError: Its payload does not fit *model*.
            StoreError: Firestore was unreachable or refused.
        """
        return reads.one(self._runtime, model, self._name_of(model, id))

    def get_tasks_by_ids(self, model: type[D], ids: Iterable[str]) -> list[OnceTask[D]]:
        """
        Those of the tasks that exist, in the order of their ids as given; duplicates are left out.

        Raises:
            UsageError: A stored payload does not fit *model*.
            StoreError: Firestore was unreachable or refused.
        """
        return reads.many(self._runtime, model, [self._name_of(model, id_) for id_ in dict.fromkeys(ids)])

    def get_tasks_by_resource_key(self, model: type[D], key: str) -> list[OnceTask[D]]:
        """
        The tasks of a kind and a resource key, ordered by creation.

        Raises:
            UsageError: A stored payload does not fit *model*.
            StoreError: Firestore was unreachable or refused.
        """
        return reads.by_resource_key(self._runtime, model, values.name(key, "key"))

    def count(self, model: type[TaskData]) -> dict[TaskStatus, int]:
        """
        How many tasks of a kind have each status, by aggregations; an expired lease counts as leased.

        Raises:
            UsageError: The model has no kind.
            StoreError: Firestore was unreachable or refused.
        """
        return reads.count(self._runtime, kind_of(model).name)

    def get_pending_count(self, model: type[TaskData]) -> int:
        """
        How many tasks of a kind are due and not running.

        Raises:
            UsageError: The model has no kind.
            StoreError: Firestore was unreachable or refused.
        """
        return reads.pending(self._runtime, kind_of(model).name)

    @overload
    def result(self, model: type[TaskData], id: str, *, as_: type[R]) -> R: ...
    @overload
    def result(self, model: type[TaskData], id: str, *, as_: Any = None) -> Any: ...
    def result(self, model: type[TaskData], id: str, *, as_: Any = None) -> Any:  # noqa: A002
        """
        What the completed run returned: JSON data, or *as_* a pydantic model or any type.

        Raises:
            TaskNotFoundError: There is no such task.
            NotFinishedError: It has not completed yet.
            TaskFailedError: It failed, was cancelled or is quarantined.
        """
        path = self._name_of(model, id).path
        return result_of(path, self.locker.show(path), as_)

    # --- what a person may do -----------------------------------------------------------------------------------------

    def cancel_task(self, model: type[TaskData], id: str) -> bool:  # noqa: A002
        """
        Cancel a task: before it runs, while it waits, or, if its handler heeds ``attempt.cancelled``, while it runs.

        Returns:
            Whether this call asked for it; False: there is none, it has ended, or its cancellation is under way.

        Raises:
            TaskConflictError: It belongs to another environment.
            StoreError: Firestore was unreachable or refused.
        """
        return self.cancel_tasks_by_ids(model, [id]) == 1

    def cancel_tasks_by_ids(self, model: type[TaskData], ids: Iterable[str]) -> int:
        """
        Cancel several; returns of how many this call asked for the cancellation. Duplicates and missing ones are harmless.

        Raises:
            DamagedError: One is damaged; the others are cancelled.
            StoreError: Firestore was unreachable or refused; calling again cancels the rest.
        """
        return self._each([self._name_of(model, id_).path for id_ in dict.fromkeys(ids)], self.locker.cancel_path)

    def cancel_tasks_by_resource_key(self, model: type[TaskData], key: str) -> int:
        """
        Cancel all tasks of a kind and a resource key that have not ended; returns of how many.

        Raises:
            DamagedError: One is damaged; the others are cancelled.
            StoreError: Firestore was unreachable or refused; calling again cancels the rest.
        """
        paths = reads.live_paths(self._runtime, kind_of(model).name, values.name(key, "key"))
        return self._each(paths, self.locker.cancel_path)

    def reset_task(
        self,
        model: type[TaskData],
        id: str,  # noqa: A002
        *,
        keep_errors: bool = False,
        new_key: bool = False,
        step: int | None = None,
    ) -> bool:
        """
        Run an ended task again from the start; one that did not complete keeps its ``attempt.key``. A damaged record is made
        anew, as ``Locker.reset`` does, with *new_key* and *step*.

        Returns:
            Whether it was reset; False: there is none, or it has not ended.

        Raises:
            AlreadyFinishedError: Its payload was erased, or its retention is over and it may be deleted at any moment.
            DamagedError: It can't be made anew so: the message says what is to be said, or repaired by hand.
        """

        def reset(path: str) -> bool:
            return self._reset(path, keep_errors=keep_errors, new_key=new_key, step=step)

        return self._each([self._name_of(model, id).path], reset) == 1

    def _reset(self, path: str, **options: Any) -> bool:
        """
        Reset the task at *path*; False: it has not ended, and is left alone.
        """
        try:
            self.locker.reset_path(path, **options)
        except AlreadyScheduledError:
            return False
        return True

    def reset_tasks_by_ids(self, model: type[TaskData], ids: Iterable[str], *, keep_errors: bool = False) -> int:
        """
        Reset several; returns how many. Duplicates, missing ones and those that have not ended are left alone.

        Raises:
            AlreadyFinishedError: The payload of one was erased, or its retention is over.
            DamagedError: One is damaged; the others are reset.
            StoreError: Firestore was unreachable or refused; calling again resets the rest.
        """

        def reset(path: str) -> bool:
            return self._reset(path, keep_errors=keep_errors)

        return self._each([self._name_of(model, id_).path for id_ in dict.fromkeys(ids)], reset)

    def delete_task(self, model: type[TaskData], id: str) -> bool:  # noqa: A002
        """
        Delete a task, running or not; a handler that runs is not heard any more. Returns whether there was one.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        return self.delete_tasks_by_ids(model, [id]) == 1

    def delete_tasks_by_ids(self, model: type[TaskData], ids: Iterable[str]) -> int:
        """
        Delete several; returns how many there were.

        Raises:
            StoreError: Firestore was unreachable or refused; calling again deletes the rest.
        """
        names = [self._name_of(model, id_) for id_ in dict.fromkeys(ids)]
        return bulk.delete_many(self._runtime, [name.path for name in names])

    def clear(self, model: type[TaskData]) -> int:
        """
        Delete all tasks of a kind in this environment; returns how many there were.

        Raises:
            StoreError: Firestore was unreachable or refused; calling again deletes the rest.
        """
        return bulk.delete_many(self._runtime, reads.all_paths(self._runtime, kind_of(model).name))

    def pause(self, model: type[TaskData], id: str) -> bool:  # noqa: A002
        """
        Let a recurring task make no occurrences until ``resume``; returns whether this call paused it.

        Raises:
            TaskNotFoundError: There is no such task.
            UsageError: It does not recur.
        """
        return self._recurring(model, id, "pause", rules.pause)

    def resume(self, model: type[TaskData], id: str) -> bool:  # noqa: A002
        """
        Let a paused task recur again; its misfire policy says what becomes of what was due meanwhile.

        Raises:
            TaskNotFoundError: There is no such task.
            UsageError: It does not recur.
        """
        return self._recurring(model, id, "resume", rules.resume)

    def _recurring(self, model: type[TaskData], id_: str, verb: str, rule: Callable[..., Put | CallRefused]) -> bool:
        runtime, path = self._runtime, self._name_of(model, id_).path

        def decide(seen: Snapshot) -> Put | CallRefused:
            if seen.lock is None:
                raise TaskNotFoundError(f"{path} does not exist.", document=path)
            has_verb(verb, seen, seen.lock)
            return rule(seen.lock, runtime.moment(seen))

        changed = runtime.store.change(path, decide)
        if not isinstance(changed.decision, Put):
            return False
        if changed.decision.dispatch:
            dispatch(runtime, changed.snapshot)
        return True

    def _each(self, paths: Iterable[str], act: Callable[[str], bool]) -> int:
        """
        Of how many *act* was true; a missing one is left alone, and a damaged one holds up none of the others.
        """
        done, damaged = 0, None
        for path in paths:
            try:
                done += act(path)
            except TaskNotFoundError:
                pass
            except DamagedError as error:
                damaged = damaged or error
        if damaged is not None:
            raise damaged
        return done
