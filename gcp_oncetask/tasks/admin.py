"""
Stored once-tasks: reads, and the verbs of a person (cancel, reset, delete, pause, resume).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload

from gcp_oncetask import rules
from gcp_oncetask.checks import values
from gcp_oncetask.clock import Duration
from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.entities.acted import How
from gcp_oncetask.entities.chains import Scheduled, executor_of, has_verb, result_of, runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.entities.models import MaybeNone
from gcp_oncetask.entities.sending import Sent, send
from gcp_oncetask.errors import AlreadyScheduledError, DamagedError, TaskNotFoundError
from gcp_oncetask.finding.searching import Page
from gcp_oncetask.rules.decisions import CallRefused, Put
from gcp_oncetask.rules.document_paths import TASKS, TaskName
from gcp_oncetask.store.client import Transaction
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.tasks import bulk, reads
from gcp_oncetask.tasks.data import TaskData, kind_of
from gcp_oncetask.tasks.task import OnceTask, TaskStatus

D = TypeVar("D", bound=TaskData)
R = TypeVar("R")


class StoredTasks:
    """
    The once-tasks of one environment. Calls that take an id take the model of its kind first.

    Args:
        locker: The locker, which gives the environment and the database.
    """

    def __init__(self, locker: Locker) -> None:
        self.locker = locker
        self._executor = executor_of(locker)
        self._runtime = runtime_of(locker)

    # --- reading ------------------------------------------------------------------------------------------------------

    def _name_of(self, model: type[TaskData], id: str) -> TaskName:  # noqa: A002 - the usual name
        """
        Return the name of the task of that kind and id.

        Raises:
            UsageError: The model has no kind, or the id is invalid.
        """
        return TaskName(self.locker.config.env, kind_of(model).name, values.name(id, "id"))

    def get_task(self, model: type[D], id: str) -> OnceTask[D] | MaybeNone:  # noqa: A002
        """
        Return a task; None if there is none.

        Raises:
            UsageError: The stored payload does not fit *model*.
            StoreError: Firestore was unreachable or refused.
        """
        return reads.one(self._runtime, model, self._name_of(model, id))

    def get_tasks_by_ids(self, model: type[D], ids: Iterable[str]) -> list[OnceTask[D]]:
        """
        Return the tasks that exist, in the order of *ids*; duplicates are left out.

        Raises:
            UsageError: A stored payload does not fit *model*.
            StoreError: Firestore was unreachable or refused.
        """
        return reads.many(self._runtime, model, [self._name_of(model, id_) for id_ in dict.fromkeys(ids)])

    def get_tasks_by_resource_key(self, model: type[D], key: str) -> list[OnceTask[D]]:
        """
        Return the tasks of a kind and a resource key, ordered by creation.

        Raises:
            UsageError: A stored payload does not fit *model*.
            StoreError: Firestore was unreachable or refused.
        """
        return reads.by_resource_key(self._runtime, model, values.name(key, "key"))

    def find(
        self,
        model: type[TaskData] | None = None,
        *,
        status: str | None = None,
        reason: str | None = None,
        key: str | None = None,
        older_than: Duration | None = None,
        newer_than: Duration | None = None,
        dismissed: bool = False,
        limit: int = 50,
        after: str | None = None,
    ) -> Page:
        """
        Return once-tasks, of one kind or of all, page by page: without a status, those that need a person, the oldest
        first. The arguments are those of ``Locker.find``.

        Raises:
            UsageError, StoreError: As ``Locker.find``.
        """
        return self.locker.find(
            status=status,
            reason=reason,
            collection=TASKS,
            kind=None if model is None else kind_of(model).name,
            key=key,
            older_than=older_than,
            newer_than=newer_than,
            dismissed=dismissed,
            limit=limit,
            after=after,
        )

    def count(self, model: type[TaskData]) -> dict[TaskStatus, int]:
        """
        Count the tasks of a kind by status. A task with an expired lease counts as leased.

        Firestore counts by index entries and reads no document: one aggregation query for each status, and one for the due
        tasks. It bills one read for each query, and one more for each further 1,000 entries (Firestore's documentation,
        "Aggregation queries"). A count of a million ended tasks costs 1,000 reads.

        Raises:
            UsageError: The model has no kind.
            StoreError: Firestore was unreachable or refused.
        """
        return reads.count(self._runtime, kind_of(model).name)

    def get_pending_count(self, model: type[TaskData]) -> int:
        """
        Count the tasks of a kind that are due and not running, by one aggregation query; see ``count`` for its cost.

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
        Return the result of the completed run, as JSON data, or read into *as_*, a pydantic model or any type.

        Raises:
            TaskNotFoundError: There is no such task.
            NotFinishedError: The task has not completed yet.
            TaskFailedError: The task failed, was cancelled or is quarantined.
        """
        path = self._name_of(model, id).path
        return result_of(path, self.locker.show(path), as_)

    def send(
        self,
        model: type[TaskData],
        id_: str,
        event: str,
        payload: Any = None,
        /,
        *,
        id: str | None = None,  # noqa: A002 - the usual name
        transaction: Transaction | None = None,
    ) -> Sent:
        """
        Send an event to the durable handler of a task; as ``Locker.send``.

        Raises:
            TaskNotFoundError: There is no such task.
            AlreadyFinishedError, MailboxFullError, UsageError, StoreError: As ``Locker.send``.
        """
        return send(self._runtime, self._name_of(model, id_).path, event, payload, id_=id, transaction=transaction)

    # --- the verbs of a person ----------------------------------------------------------------------------------------

    def cancel_task(self, model: type[TaskData], id: str) -> bool:  # noqa: A002
        """
        Cancel a task before it runs or while it waits. A running task is cancelled only if its handler heeds
        ``attempt.cancelled``.

        Returns:
            True if this call asked for the cancellation; False if there is no such task, if it has ended, or if its
            cancellation is under way.

        Raises:
            TaskConflictError: The document belongs to another environment.
            StoreError: Firestore was unreachable or refused.
        """
        return self.cancel_tasks_by_ids(model, [id]) == 1

    def cancel_tasks_by_ids(self, model: type[TaskData], ids: Iterable[str]) -> int:
        """
        Cancel several tasks; return the number whose cancellation this call asked for. Duplicates and missing tasks are
        harmless.

        Raises:
            DamagedError: A record is damaged; the other tasks are cancelled.
            StoreError: Firestore was unreachable or refused; calling again cancels the rest.
        """
        return self._each([self._name_of(model, id_).path for id_ in dict.fromkeys(ids)], self.locker.cancel_path)

    def cancel_tasks_by_resource_key(self, model: type[TaskData], key: str) -> int:
        """
        Cancel all tasks of a kind and a resource key that have not ended; return the number whose cancellation this
        call asked for.

        Raises:
            DamagedError: A record is damaged; the other tasks are cancelled.
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
        fresh: bool = False,
        from_name: str | None = None,
    ) -> bool:
        """
        Run an ended task again from the start. A task that did not complete keeps its ``attempt.key``, and its journal but for
        *fresh* and *from_name*, see ``Locker.reset``. A damaged record
        is written anew, as by ``Locker.reset``, with *new_key* and *step*.

        Returns:
            True if the task was reset; False if there is no such task, or if it has not ended.

        Raises:
            AlreadyFinishedError: The payload was erased, or the retention is over and the task may be deleted at any
                moment.
            DamagedError: The record can't be written anew with these arguments; the message says which one to add, or
                what to repair by hand.
        """
        more = {"fresh": fresh, "from_name": from_name}

        def reset(path: str) -> bool:
            return self._reset(path, keep_errors=keep_errors, new_key=new_key, step=step, **more)

        return self._each([self._name_of(model, id).path], reset) == 1

    def _reset(self, path: str, **options: Any) -> bool:
        """
        Reset the task at *path*; return False if it has not ended, and so was not changed.
        """
        try:
            self.locker.reset_path(path, **options)
        except AlreadyScheduledError:
            return False
        return True

    def reset_tasks_by_ids(self, model: type[TaskData], ids: Iterable[str], *, keep_errors: bool = False) -> int:
        """
        Reset several tasks; return the number reset. Duplicates, missing tasks and tasks that have not ended are
        skipped.

        Raises:
            AlreadyFinishedError: The payload of a task was erased, or its retention is over.
            DamagedError: A record is damaged; the other tasks are reset.
            StoreError: Firestore was unreachable or refused; calling again resets the rest.
        """

        def reset(path: str) -> bool:
            return self._reset(path, keep_errors=keep_errors)

        return self._each([self._name_of(model, id_).path for id_ in dict.fromkeys(ids)], reset)

    def resolve_task(
        self,
        model: type[TaskData],
        id: str,  # noqa: A002
        how: How | None = None,
        *,
        result: Any = ...,
        next: str | None = None,  # noqa: A002 - as the option of the command line
        params: Any = None,
        end: bool = False,
        run: str | None = None,
        not_done: bool = False,
    ) -> Scheduled | None:
        """
        Resolve a quarantined task by a person's decision; see ``Locker.resolve`` for *how* or *run*, and their arguments.
        The next step of a once-task that workers pull is ``"."``, the same target.

        Returns:
            The new sequence with ``"run"``, with a *next* step, or after the answer about the last *run*; else None.

        Raises:
            TaskNotFoundError: There is no such task.
            UsageError: *next* and *end* contradict each other; or *result* or *params* can't be stored, or the
                kind's handler would not return *result*, by its annotation.
            AlreadyScheduledError: The task is not quarantined; or as ``Locker.resolve`` about *run*.
        """
        path = self._name_of(model, id).path
        return self.locker.decide_path(
            path, how, result=result, next=next, params=params, end=end, run=run, not_done=not_done
        )

    def dismiss_task(self, model: type[TaskData], id: str) -> None:  # noqa: A002
        """
        Take a failed task, or one whose result is lost, off the list of those that need a person.

        Raises:
            TaskNotFoundError: There is no such task.
            TaskError: It needs no person, or another decision: a quarantined task is resolved.
        """
        self.locker.dismiss_path(self._name_of(model, id).path)

    def delete_task(self, model: type[TaskData], id: str, *, open_runs: bool = False) -> bool:  # noqa: A002
        """
        Delete a task, running or not; return whether there was one. A running handler can write nothing more. Only with
        *open_runs* is a task deleted that has begun a run with ``once=True`` whose result is not known: its record alone tells
        of that effect.

        Raises:
            TaskError: The task has such a run; the message has its name and key.
            StoreError: Firestore was unreachable or refused.
        """
        return self.delete_tasks_by_ids(model, [id], open_runs=open_runs) == 1

    def delete_tasks_by_ids(self, model: type[TaskData], ids: Iterable[str], *, open_runs: bool = False) -> int:
        """
        Delete several tasks; return the number that existed. See ``delete_task`` for *open_runs*.

        Raises:
            TaskError: A task has begun a run whose result is not known; the others are deleted.
            StoreError: Firestore was unreachable or refused; calling again deletes the rest.
        """
        names = [self._name_of(model, id_) for id_ in dict.fromkeys(ids)]
        return bulk.delete_many(self._runtime, [name.path for name in names], open_runs=open_runs)

    def clear(self, model: type[TaskData], *, open_runs: bool = False) -> int:
        """
        Delete all tasks of a kind in this environment; return the number that existed. See ``delete_task`` for *open_runs*.

        Raises:
            TaskError, StoreError: As ``delete_tasks_by_ids``.
        """
        paths = reads.all_paths(self._runtime, kind_of(model).name)
        return bulk.delete_many(self._runtime, paths, open_runs=open_runs)

    def pause(self, model: type[TaskData], id: str) -> bool:  # noqa: A002
        """
        Pause a recurring task, so that it makes no occurrences until ``resume``; return whether this call paused it.

        Raises:
            TaskNotFoundError: There is no such task.
            UsageError: It does not recur.
        """
        return self._recurring(model, id, "pause", rules.pause)

    def resume(self, model: type[TaskData], id: str) -> bool:  # noqa: A002
        """
        Let a paused task recur again; return whether this call resumed it. The misfire policy decides on the
        occurrences that were due meanwhile.

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
            return rule(seen.lock, runtime.decision_context(seen))

        changed = runtime.store.change(path, decide)
        if not isinstance(changed.decision, Put):
            return False
        if changed.decision.dispatch:
            dispatch(runtime, changed.snapshot)
        return True

    def _each(self, paths: Iterable[str], act: Callable[[str], bool]) -> int:
        """
        Call *act* for each path; return the number of calls that returned True. A missing task is skipped, and a
        damaged one does not hold up the others.
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
