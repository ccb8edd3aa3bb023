"""
Handlers of once-tasks, and the deliveries that find them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from gcp_oncetask.checks import words
from gcp_oncetask.checks.fingerprints import fingerprint
from gcp_oncetask.errors import (
    ContentionError,
    DuplicateKindError,
    StoreError,
    UnknownFeatureError,
    UnknownKindError,
    UsageError,
)
from gcp_oncetask.execution.claiming import as_delivered
from gcp_oncetask.execution.ended import Ended, delivered
from gcp_oncetask.execution.executor import Executor
from gcp_oncetask.execution.handler_spec import HandlerSpec, unfit
from gcp_oncetask.execution.pipeline import execute, parse, prevented
from gcp_oncetask.execution.results import Continue
from gcp_oncetask.execution.running import RunningAttempt
from gcp_oncetask.execution.unread import leave
from gcp_oncetask.recovery import sweep
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.document_paths import DATA_HASH, parse_task_path
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.task_headers import TaskHeaders
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import encode, get_timestamp
from gcp_oncetask.store.needs import check_needs
from gcp_oncetask.store.snapshot import NO_CHANGES, Changes, Snapshot
from gcp_oncetask.tasks import creation, generator
from gcp_oncetask.tasks.data import TaskData, hash_of, kind_of
from gcp_oncetask.tasks.task import OnceTask, task_of

D = TypeVar("D", bound=TaskData)


class Tasks(Generic[D]):
    """
    Gives the handler of a kind its subject: the task of the attempt.
    """

    def __init__(self, model: type[D]) -> None:
        self.model = model

    def unread(self, runtime: Runtime, seen: Snapshot) -> str | None:
        """
        Return the reason why the payload in *seen* does not fit the model, if another model has written it, or why the
        task can't run here. None: it can run.
        """
        document, lock = seen.document, seen.lock
        if document is None or lock is None:
            return None
        if "recurrence" in document.fields and not generator.recurs(self.model):
            return f"it recurs, and {self.model.__name__} of this version of the program has no recurrence()"
        written = lock.written_by(document.fields[DATA_HASH].string_value) if DATA_HASH in document.fields else None
        return unfit(written, self.model, lambda: task_of(seen, self.model))

    def written_at(self, seen: Snapshot) -> datetime | None:
        """
        Return the time at which the task was created; None if it is not known.
        """
        document = seen.document
        if document is None or not document.fields["createdAt"].HasField("timestamp_value"):
            return None
        return get_timestamp(document.fields["createdAt"].timestamp_value)

    def load(self, runtime: Runtime, attempt: RunningAttempt) -> OnceTask[D]:
        """
        Return the task with its payload validated.
        """
        task = task_of(attempt.snapshot, self.model)
        attempt.model = fingerprint(self.model)
        return task

    def changes(self, subject: OnceTask[D], value: Any) -> Changes:
        """
        Return the payload of the next sequence, if the run ended in a ``Continue`` with data.

        Raises:
            UsageError: The data is no payload of this kind, or a URL is given.
        """
        if not isinstance(value, Continue):
            return NO_CHANGES
        if value.url is not None:
            raise UsageError("Continue(url=...) is for entities; a once-task goes on where its kind is delivered.")
        if value.data is None:
            return NO_CHANGES
        given = value.data if isinstance(value.data, self.model) else self.model.of(value.data, subject.path)
        kind, wanted = kind_of(given), kind_of(self.model)
        if kind is not wanted:
            raise UsageError(
                f"Continue(data=...) has a payload of the kind {kind.name!r}; the task is of {wanted.name!r}."
            )
        payload = given.payload()
        return Changes({"data": creation.stored_payload(kind, payload), DATA_HASH: encode(hash_of(payload))})


@dataclass(frozen=True, slots=True)
class Handler:
    """
    The handler that is registered for a kind.

    Attributes:
        model: Model of the payload.
        spec: The handler spec of its tasks.
    """

    model: type[TaskData]
    spec: HandlerSpec


class HandlerRegistry:
    """
    The handlers of one manager, by kind.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def add(self, handler: Handler) -> None:
        """
        Register *handler*.

        Raises:
            DuplicateKindError: The kind has a handler already.
            UsageError: The model has no kind.
        """
        name = kind_of(handler.model).name
        if name in self._handlers:
            raise DuplicateKindError(f"The kind {name!r} has a handler already; one kind, one handler.")
        self._handlers[name] = handler

    def get(self, kind: str) -> Handler | None:
        """
        Return the handler of a kind; None: this deployment has none.
        """
        return self._handlers.get(kind)

    def pull_kinds(self, wanted: Sequence[type[TaskData] | str] | None) -> tuple[str, ...]:
        """
        Return the names of the pull kinds that have a handler: of all, or of the *wanted* ones (models or names).

        Raises:
            UnknownKindError: A wanted kind has no handler.
            UsageError: A wanted kind is pushed.
        """
        if wanted is None:
            return tuple(name for name, handler in self._handlers.items() if kind_of(handler.model).pull)
        names = tuple(dict.fromkeys(one if isinstance(one, str) else kind_of(one).name for one in wanted))
        for name in names:
            handler = self._handlers.get(name)
            if handler is None:
                near = words.hint(name, self._handlers)
                raise UnknownKindError(f"No handler is registered for the kind {name!r}.{near}", kind=name)
            if not kind_of(handler.model).pull:
                raise UsageError(f"The kind {name!r} is pushed by Cloud Tasks; declare it with pull=True to pull it.")
        return names

    def kinds(self) -> tuple[str, ...]:
        """
        Return the kinds that have a handler.
        """
        return tuple(self._handlers)


def deliver(
    executor: Executor,
    registry: HandlerRegistry,
    body: bytes,
    headers: TaskHeaders,
    trace: str | None,
) -> Ended:
    """
    Execute one delivery of a once-task.

    Returns:
        The end of the delivery. If this deployment has no handler for its kind, it is UNHANDLED: the task stays and is
        delivered again.
    """
    runtime = executor.runtime
    delivery = parse(runtime, body)
    if isinstance(delivery, Ended):
        return delivery
    name = parse_task_path(delivery.document)
    if name is None:
        return Ended(Outcome.REJECTED, f"{delivery.document} is not a once-task")
    handler = registry.get(name.kind)
    if handler is None:
        reason = f"there is no handler for the kind {name.kind!r} here; the task stays until there is one"
        return leave(delivery, reason)
    start = None
    if generator.recurs(handler.model):
        try:
            start = as_delivered(delivery, headers) or runtime.store.read(delivery.document)
            ended = generator.deliver(runtime, handler.model, delivery, start)
        except (StoreError, UnknownFeatureError, ContentionError) as error:
            return prevented(runtime, delivery, error, delivered(delivery))
        if ended is not None:
            return ended
    return execute(executor, handler.spec, delivery, headers, trace, {}, start)


def pull(executor: Executor, registry: HandlerRegistry, snapshot: Snapshot) -> Ended:
    """
    Run a due task that a worker has found; its lease may be free or expired.
    """
    name, lock = parse_task_path(snapshot.path), snapshot.lock
    if name is None or lock is None:
        return Ended(Outcome.REJECTED, f"{snapshot.path} is not a once-task")
    handler = registry.get(name.kind)
    if handler is None:
        return Ended(Outcome.UNHANDLED, f"there is no handler for the kind {name.kind!r} here")
    runtime, delivery = executor.runtime, Delivery.present(snapshot.path, lock)
    try:
        check_needs(snapshot)
        attended = sweep.attend(runtime, snapshot)
        if attended is not None:
            return attended
        ended = (
            generator.deliver(runtime, handler.model, delivery, snapshot) if generator.recurs(handler.model) else None
        )
    except (StoreError, UnknownFeatureError) as error:
        return prevented(runtime, delivery, error, delivered(delivery))
    if ended is not None:
        return ended
    return execute(executor, handler.spec, delivery, None, None, {}, start=snapshot)
