"""
``google.cloud.tasks.v2.CloudTasks`` as plain functions on a backlog.

Not done, and refused with a sentence: filters on lists, keys of one's own. Simpler than the service: purging takes effect at
once; 429 and 503 from a handler do not slow the queue down; any service account exists and has every permission, and so does
any project unless one alone is served; App Engine is one address, and routing is ignored.
"""

from __future__ import annotations

import random  # noqa: TID251 - the type only; numbers come from clock.rng
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from typing import Any

from google.protobuf import field_mask_pb2

from gcp_emulator.clock import Clock, rng
from gcp_emulator.faults import Faults
from gcp_emulator.rpc import Method, Service, unimplemented
from gcp_emulator.tasks import buffering, checks, forms, rules
from gcp_emulator.tasks import messages as m
from gcp_emulator.tasks.backlog import Backlog, Entry, QueueState
from gcp_emulator.tasks.batches import Batches
from gcp_emulator.tasks.dispatcher import Dispatcher
from gcp_emulator.tasks.journal import Journal
from gcp_emulator.tasks.messages import BASIC, FULL, QueueMessage, TaskMessage
from gcp_emulator.tasks.policies import Policies

NAME = "google.cloud.tasks.v2.CloudTasks"
MAX_TASK_PAGE = 1000
MAX_QUEUE_PAGE = 9800


class CloudTasks:
    """
    The RPCs; each takes a request and returns a response, or raises ``RpcError``.
    """

    def __init__(
        self,
        backlog: Backlog,
        dispatcher: Dispatcher,
        *,
        clock: Clock,
        faults: Faults,
        tokens: bool,
        project: str | None = None,
        journal: Journal | None = None,
    ) -> None:
        """
        Serve *backlog*.

        Args:
            backlog: Queues and tasks.
            dispatcher: Owner of the lock; told of every change.
            clock: Creation times.
            faults: Its seed repeats the generated task ids.
            tokens: Whether OIDC tokens can be minted.
            project: The only project that is served; None: any.
            journal: Told of the tasks that are created.
        """
        self._backlog = backlog
        self._dispatcher = dispatcher
        self._clock = clock
        self._tokens = tokens
        self._project = project
        self._journal = journal
        self._ids: random.Random = rng(faults.seed)
        self._policies = Policies(self._queue)
        self.batches = Batches(self.create_task, self.delete_task, self._queue, clock)

    def service(self, faults: Faults) -> Service:
        """
        These RPCs as a gRPC service.
        """
        table: dict[str, tuple[Any, Any, Any]] = {
            "CreateQueue": (self.create_queue, m.CreateQueueRequest, m.Queue),
            "GetQueue": (self.get_queue, m.GetQueueRequest, m.Queue),
            "ListQueues": (self.list_queues, m.ListQueuesRequest, m.ListQueuesResponse),
            "UpdateQueue": (self.update_queue, m.UpdateQueueRequest, m.Queue),
            "DeleteQueue": (self.delete_queue, m.DeleteQueueRequest, m.Empty),
            "PauseQueue": (self.pause_queue, m.PauseQueueRequest, m.Queue),
            "ResumeQueue": (self.resume_queue, m.ResumeQueueRequest, m.Queue),
            "PurgeQueue": (self.purge_queue, m.PurgeQueueRequest, m.Queue),
            "CreateTask": (self.create_task, m.CreateTaskRequest, m.Task),
            "GetTask": (self.get_task, m.GetTaskRequest, m.Task),
            "ListTasks": (self.list_tasks, m.ListTasksRequest, m.ListTasksResponse),
            "DeleteTask": (self.delete_task, m.DeleteTaskRequest, m.Empty),
            "RunTask": (self.run_task, m.RunTaskRequest, m.Task),
        }
        methods = {name: Method(*row) for name, row in table.items()}
        methods |= self._policies.methods() | self.batches.methods()
        methods |= buffering.methods(self.create_task, lambda name: self.get_queue(m.GetQueueRequest(name=name)))
        if self._project is not None:
            methods = {name: replace(method, run=self._of_project(method.run)) for name, method in methods.items()}
        return Service(NAME, methods, faults, self._clock)

    def _of_project(self, run: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def guarded(request: Any) -> Any:
            parts = _named(request).split("/")
            if len(parts) > 1 and parts[0] == "projects" and parts[1] != self._project:
                raise checks.other_project(parts[1])
            return run(request)

        return guarded

    def locations(self, project: str) -> set[str]:
        """
        Ids of the locations in which *project* has queues.
        """
        with self._dispatcher.changed:
            return {name.split("/")[3] for name in self._backlog.queues if name.startswith(f"projects/{project}/")}

    def create_queue(self, request: Any) -> QueueMessage:
        checks.location_name(request.parent)
        name = checks.queue_name(request.queue.name)
        if not name.startswith(f"{request.parent}/queues/"):
            raise checks.invalid(f"The queue name ('{name}') must be in the parent ('{request.parent}').")
        self._check_target(request.queue)
        queue = _checked(rules.overlay(rules.default_queue(name), request.queue))
        with self._dispatcher.changed:
            if name in self._backlog.queues:
                raise checks.taken_queue(live=True)
            return _copy(self._add_queue(queue).queue)

    def get_queue(self, request: Any) -> QueueMessage:
        with self._dispatcher.changed:
            return _copy(self._queue(request.name).queue)

    def list_queues(self, request: Any) -> Any:
        parent = checks.location_name(request.parent)
        if request.filter:
            raise unimplemented("ListQueuesRequest.filter")
        size = _page_size(request.page_size, MAX_QUEUE_PAGE)
        with self._dispatcher.changed:
            names = sorted(
                name
                for name in self._backlog.queues
                if name.startswith(f"{parent}/queues/") and name > request.page_token
            )
            queues = [_copy(self._backlog.queues[name].queue) for name in names[:size]]
        token = names[size - 1] if len(names) > size else ""
        return m.ListQueuesResponse(queues=queues, next_page_token=token)

    def update_queue(self, request: Any) -> QueueMessage:
        """
        Change a queue, or create it. Fields that the mask names are taken as they are; so are zeros, if zero is a valid
        setting.
        """
        name = checks.queue_name(request.queue.name)
        self._check_target(request.queue)
        with self._dispatcher.changed:
            state = self._backlog.queues.get(name)
            old = state.queue if state else rules.default_queue(name)
            queue = _checked(_updated(old, request.queue, request.update_mask))
            if state is None:
                state = self._add_queue(queue)
            state.queue = queue
            self._dispatcher.changed.notify_all()
            return _copy(queue)

    def delete_queue(self, request: Any) -> Any:
        name = checks.queue_name(request.name)
        with self._dispatcher.changed:
            state = self._backlog.queues.get(name)
            if state is None:
                raise checks.missing_entity()
            self._backlog.remove_queue(state, self._clock.micros())
            self._dispatcher.changed.notify_all()
        return m.Empty()

    def pause_queue(self, request: Any) -> QueueMessage:
        return self._set_state(request.name, m.PAUSED)

    def resume_queue(self, request: Any) -> QueueMessage:
        return self._set_state(request.name, m.RUNNING)

    def purge_queue(self, request: Any) -> QueueMessage:
        with self._dispatcher.changed:
            state = self._queue(request.name)
            now = self._clock.micros()
            self._backlog.clear(state, now)
            state.queue.purge_time.CopyFrom(m.timestamp(now))
            self._dispatcher.changed.notify_all()
            return _copy(state.queue)

    def create_task(self, request: Any) -> TaskMessage:
        parent = checks.queue_name(request.parent)
        now = self._clock.micros()
        with self._dispatcher.changed:
            known = self._backlog.queues.get(parent)
            task = forms.stored(
                parent,
                request.task,
                now,
                tokens=self._tokens,
                app_engine=self._dispatcher.app_engine(),
                queue=known.queue if known else None,
            )
            state = self._queue(parent)
            if not task.name:
                task.name = self._new_name(parent, state)
            if task.name in state.entries:
                raise checks.taken_name(live=True)
            if state.taken(task.name, now):
                raise checks.taken_name(live=False)
            forms.check_size(task)
            entry = self._backlog.add(state, task)
            if self._journal is not None:
                self._journal.created(state, entry, now)
            self._dispatcher.changed.notify_all()
            return _view(entry, request.response_view)

    def get_task(self, request: Any) -> TaskMessage:
        with self._dispatcher.changed:
            return _view(self._task(request.name)[1], request.response_view)

    def list_tasks(self, request: Any) -> Any:
        size = _page_size(request.page_size, MAX_TASK_PAGE)
        if request.page_token and not request.page_token.isdecimal():
            raise checks.invalid("ListTasksRequest.pageToken is not one that this server gave out.")
        after = int(request.page_token or 0)
        with self._dispatcher.changed:
            entries = self._queue(request.parent).entries.values()
            page = list(islice((entry for entry in entries if entry.order > after), size + 1))
            token = str(page[size - 1].order) if len(page) > size else ""
            tasks = [_view(entry, request.response_view) for entry in page[:size]]
        return m.ListTasksResponse(tasks=tasks, next_page_token=token)

    def delete_task(self, request: Any) -> Any:
        """
        Forget a task; an attempt under way goes on, and its answer means nothing.
        """
        with self._dispatcher.changed:
            state, entry = self._task(request.name)
            self._backlog.remove(state, entry, self._clock.micros())
            self._dispatcher.changed.notify_all()
        return m.Empty()

    def run_task(self, request: Any) -> TaskMessage:
        """
        Dispatch a task now, regardless of its schedule, the queue's state and rate, and a running attempt.
        """
        with self._dispatcher.changed:
            state, entry = self._task(request.name)
            self._backlog.forced.append((state, entry))
            self._dispatcher.changed.notify_all()
            return _view(entry, request.response_view)

    def tasks(self, queue: str | None) -> list[TaskMessage]:
        """
        Tasks of *queue*, or of all queues, in full, in order of creation.
        """
        with self._dispatcher.changed:
            states: Iterable[QueueState] = self._backlog.queues.values() if queue is None else [self._queue(queue)]
            entries = sorted((entry for state in states for entry in state.entries.values()), key=lambda e: e.order)
            return [_view(entry, FULL) for entry in entries]

    def _set_state(self, name: str, value: int) -> QueueMessage:
        with self._dispatcher.changed:
            state = self._queue(name)
            state.queue.state = value
            self._dispatcher.changed.notify_all()
            return _copy(state.queue)

    def _check_target(self, queue: QueueMessage) -> None:
        if checks.knows_and_has(queue, "http_target"):
            forms.check_tokens(queue.http_target, tokens=self._tokens)

    def _add_queue(self, queue: QueueMessage) -> QueueState:
        now = self._clock.micros()
        if self._backlog.deleted.get(queue.name, now) > now:
            raise checks.taken_queue(live=False)
        return self._backlog.add_queue(queue, now)

    def _queue(self, name: str) -> QueueState:
        state = self._backlog.queues.get(checks.queue_name(name))
        if state is None:
            raise checks.missing_queue()
        return state

    def _task(self, name: str) -> tuple[QueueState, Entry]:
        state = self._queue(checks.split_task_name(name)[0])
        entry = state.entries.get(name)
        if entry is None:
            raise (checks.gone_task() if state.taken(name, self._clock.micros()) else checks.missing_entity())
        return state, entry

    def _new_name(self, parent: str, state: QueueState) -> str:
        while True:
            name = f"{parent}/tasks/{self._ids.randrange(10**18, 10**20)}"
            if name not in state.entries and name not in state.tombstones:
                return name


def _named(request: Any) -> str:
    """
    The name of the resource that a request is about.
    """
    fields = request.DESCRIPTOR.fields_by_name
    found = next((getattr(request, field) for field in ("parent", "name", "resource") if field in fields), None)
    if found is None:
        found = request.queue if isinstance(request.queue, str) else request.queue.name
    return str(found)


def _checked(queue: QueueMessage) -> QueueMessage:
    sentence = rules.complaint(queue)
    if sentence:
        raise checks.invalid(sentence)
    return queue


def _updated(old: QueueMessage, given: QueueMessage, mask: field_mask_pb2.FieldMask) -> QueueMessage:
    if not mask.paths:
        return rules.overlay(old, given)
    if not mask.IsValidForDescriptor(m.Queue.DESCRIPTOR):
        raise checks.invalid(f"UpdateQueueRequest.updateMask names unknown fields: {', '.join(mask.paths)}.")
    queue = _copy(old)
    mask.MergeMessage(given, queue, replace_message_field=True)
    queue.name, queue.state = old.name, old.state
    queue.purge_time.CopyFrom(old.purge_time)
    if not old.HasField("purge_time"):
        queue.ClearField("purge_time")
    return rules.filled(queue)


def _page_size(asked: int, most: int) -> int:
    if asked < 0:
        raise checks.invalid("The page size cannot be negative.")
    return min(asked or most, most)


def _copy(queue: QueueMessage) -> QueueMessage:
    copy = m.Queue()
    copy.CopyFrom(queue)
    return copy


def _view(entry: Entry, view: int) -> TaskMessage:
    copy = m.Task()
    copy.CopyFrom(entry.task)
    copy.view = view or BASIC
    if copy.view == BASIC:
        # To clear a field of an empty message would set its parent.
        for request in ("http_request", "app_engine_http_request"):
            if copy.HasField(request):
                getattr(copy, request).ClearField("body")
    return copy
