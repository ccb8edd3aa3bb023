"""
The task manager, the class with which users create, handle and read once-tasks.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final, Generic, TypeVar, Unpack

from gcp_oncetask.checks import urls, values
from gcp_oncetask.checks.callables import plain
from gcp_oncetask.checks.returned import check_returned
from gcp_oncetask.clock import Duration
from gcp_oncetask.effects import keys
from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.entities.sending import Creation, Sent, send
from gcp_oncetask.errors import LeaseLostError, UsageError
from gcp_oncetask.execution import endpoint
from gcp_oncetask.execution.attempt import Attempt
from gcp_oncetask.execution.ended import Ended
from gcp_oncetask.execution.fenced_transaction import after_commit, fencing
from gcp_oncetask.execution.handler_spec import AlertOn, HandlerSpec, LeaseOptions, OnUnknown, policy_of
from gcp_oncetask.execution.results import Fail, HandlerResult, Retry
from gcp_oncetask.execution.value_words import running_of
from gcp_oncetask.rules.decisions import CallRefused, Put
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.retry_policy import ExponentialBackoff, RetryPolicy
from gcp_oncetask.rules.task_headers import TaskHeaders
from gcp_oncetask.runtime import addressing
from gcp_oncetask.store import transaction as transactions
from gcp_oncetask.store.client import Transaction
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.tasks import bulk, creation, generator, redeclaring
from gcp_oncetask.tasks.admin import StoredTasks
from gcp_oncetask.tasks.batch import MAX_BATCH, Batch
from gcp_oncetask.tasks.children import ChildMaker
from gcp_oncetask.tasks.data import TaskData, kind_of
from gcp_oncetask.tasks.draft import Created, Draft
from gcp_oncetask.tasks.handlers import Handler, HandlerRegistry, Tasks, deliver
from gcp_oncetask.tasks.moving import Move
from gcp_oncetask.tasks.queues import queue_kind
from gcp_oncetask.tasks.task import OnceTask

D = TypeVar("D", bound=TaskData)
R = TypeVar("R")

LEASE: Final = timedelta(minutes=10)
RETRY: Final = ExponentialBackoff()
"""The default retry policy, as in oncetask: 3 attempts, pauses of 1 s, doubled each time, at most 5 minutes."""
CATCH_UPS: Final = 5
"""
Times that owed occurrences of a stored schedule are made before another one replaces it. There must be a limit, because a
rule of seconds would always owe some.
"""
CANCEL_RETRY: Final = ExponentialBackoff(max_attempts=5, maximum=timedelta(minutes=10))


class HandlerOptions(LeaseOptions, Generic[D], total=False):
    """
    Options of a handler; see ``TaskManager.register_task_handler``.
    """

    retry: RetryPolicy
    on_cancel: Callable[[OnceTask[D], Attempt], Any] | None
    cancel_retry: RetryPolicy


_PLAIN: Final = "handlers are plain functions for now"
_GIVEN: Final = ("task", "attempt")
_MANY: Final = ("tasks", "attempts")


class TaskManager(StoredTasks):
    """
    The once-tasks of one deployment. A manager without handlers only creates and reads tasks.

    Args:
        locker: The locker, which gives the leases, the environment and the database.
        path: Target of the deliveries: a path that is joined to the base URL, or an absolute URL.
        on_error: Function that is called as ``on_error(task, error)`` for each attempt that raised, or that ended in a
            ``Retry`` or ``Fail``. An error that it raises itself is logged and changes nothing. It may be replaced at
            any time.

    Raises:
        UsageError: The path is neither a path nor an absolute URL.
    """

    def __init__(
        self,
        locker: Locker,
        *,
        path: str = "/oncetask/deliver",
        on_error: Callable[[OnceTask[Any], BaseException], object] | None = None,
    ) -> None:
        super().__init__(locker)
        self.path = urls.target(path, "path")
        self.on_error = on_error
        self._registry = HandlerRegistry()
        if self._runtime.child_maker is None:
            self._runtime.child_maker = ChildMaker(self._runtime, self.path)

    # --- creating -----------------------------------------------------------------------------------------------------

    def create_task(self, data: TaskData, *, transaction: Transaction | None = None) -> Created:
        """
        Create the task of *data*: one commit, then one Cloud Task. If the id exists, the stored task is kept, or
        treated as the kind's ``on_conflict`` says.

        Args:
            data: The payload.
            transaction: Transaction of which the write becomes a part. Call ``dispatch()`` on the returned object after
                the commit, or leave the dispatch to the sweeper.

        Raises:
            TaskConflictError: The id exists with another payload or recurrence, and the kind says ``raise``.
            UsageError: The payload, its id, time or recurrence is invalid.
            ConfigError: The URL, queue or account is not configured.
            StoreError: Firestore was unreachable or refused.
        """
        runtime = self._runtime
        with runtime.events.scheduling(lambda: creation.message(runtime, "create_task", [data])):
            made = creation.draft(runtime, data, self.path)
            return self._create(made) if transaction is None else self._join(made, made.name.path, transaction)

    def _create(self, made: Draft, move: Move | None = None) -> Created:
        """
        Create the task of a draft, or deal with the stored one. If an earlier call has created the draft and its answer
        was lost, it is recognised by its nonce. If *move* has lost its document, nothing is created.

        Raises:
            As ``create_task``.
        """
        runtime, path = self._runtime, made.name.path
        fresh: list[bool] = []
        found: list[str] = []
        owing: list[Snapshot] = []

        def decide(seen: Snapshot) -> Put | CallRefused | None:
            owing.clear()
            if move is not None and move.lost and not seen.exists:
                return CallRefused(Refusal.MOVED, "the document from which it comes has changed")
            if tries and made.past is None and redeclaring.owes(made, seen, runtime.decision_context(seen)):
                # The occurrences that the stored schedule owes are made first.
                owing.append(seen)
                return None
            return creation.decide(runtime, made, seen)

        def changes(seen: Snapshot) -> Any:
            fresh[:] = [not seen.exists]
            found[:] = creation.differences(made, seen) if seen.exists else []
            return creation.changes(runtime, made, seen)

        runtime.register(None, made.target.url)
        start = Snapshot(path, None, None, None)
        tries = CATCH_UPS
        changed = runtime.store.change(
            path, decide, start=start, changes=changes, along=move, room=True, shares=move is None
        )
        while owing:
            tries -= 1
            generator.make_due(runtime, made.kind, owing[0])
            changed = runtime.store.change(path, decide, changes=changes, room=True)
        runtime.events.scheduled(changed.snapshot)
        decision = changed.decision
        assert decision is not None
        if isinstance(decision, CallRefused):
            lock = changed.snapshot.lock
            if lock is not None and lock.scheduled_by == made.nonce:
                return Created(made.name.id, created=True, dispatched=dispatch(runtime, changed.snapshot))
            return self._existing(made, changed.snapshot, decision)
        dispatched = decision.dispatch and dispatch(runtime, changed.snapshot)
        if not fresh[0]:
            keys.give_up_reservation(runtime, changed.snapshot)
        if not fresh[0] and made.recurrence is not None:
            self._say("task.replaced", changed.snapshot, "it takes {}, from its next run on: {}", found)
        return Created(made.name.id, created=fresh[0], dispatched=dispatched, replaced=not fresh[0])

    def _existing(self, made: Draft, stored: Snapshot, decision: CallRefused) -> Created:
        if decision.refusal is Refusal.UNIQUE:
            if made.kind.on_refused is not None and made.data is not None:
                made.kind.on_refused(made.data)
            return Created(made.name.id, created=False, dispatched=False, refused=True)
        found = creation.differences(made, stored) if stored.exists else []
        if found and made.kind.on_conflict == "raise" and made.past is None:
            raise creation.conflict(self._runtime, made, stored.path, found)
        if found:
            self._say("task.kept", stored, "it exists with {}, which was kept: {}", found)
        return Created(made.name.id, created=False, dispatched=False, differences=tuple(found))

    def _say(self, event: str, stored: Snapshot, sentence: str, found: Sequence[str]) -> None:
        shown = found if self.locker.config.log_contents else creation.without_values(found)
        message = sentence.format(creation.another(found), "; ".join(shown))
        self._runtime.events.requested(event, functools.partial(self._runtime.about, stored), message)

    def _join(self, made: Draft, path: str, transaction: Transaction) -> Created:
        runtime = self._runtime
        if made.recurrence is not None and made.kind.replaces:
            stored = runtime.store.get(path)
            if redeclaring.owes(made, stored, runtime.decision_context(stored)):
                generator.make_due(runtime, made.kind, stored)
        snapshot = transactions.read_in(runtime.store, transaction, path)
        decision = creation.decide(runtime, made, snapshot)
        if isinstance(decision, CallRefused):
            return self._existing(made, snapshot, decision)
        changes = creation.changes(runtime, made, snapshot)
        runtime.register(None, made.target.url)
        transactions.add_write(runtime.store, transaction, snapshot, decision, changes)
        later = Snapshot(path, None, None, decision.lock, whole=False)
        runtime.events.scheduled(later)

        def send() -> bool:
            return not decision.dispatch or dispatch(runtime, later)

        attempt = fencing(transaction)
        if attempt is not None:
            after_commit(attempt, send, transaction)
        return Created(
            made.name.id,
            created=not snapshot.exists,
            dispatched=False,
            replaced=snapshot.exists,
            _dispatch=send,
        )

    def create_tasks(
        self,
        tasks: Iterable[TaskData],
        *,
        parallel: int = 8,
        progress: Callable[[int, int], None] | None = None,
    ) -> bulk.CreatedMany:
        """
        Create many tasks by batched writes. Repeated calls are safe, because existing tasks are kept.

        Args:
            tasks: The payloads; a payload that comes twice is created once.
            parallel: Most calls under way at once.
            progress: Function that is called as ``progress(done, total)`` after each batch, in the calling thread.

        Returns:
            For each payload, in order, ``Created`` or the error.

        Raises:
            UsageError: A payload is invalid; nothing was written.
            StoreError: Firestore was unreachable, and nothing was written.
        """
        runtime, create, given = self._runtime, self._create, list(tasks)
        with runtime.events.scheduling(lambda: creation.message(runtime, "create_tasks", given)):
            return bulk.create_many(runtime, given, path=self.path, create=create, parallel=parallel, progress=progress)

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
        create: TaskData | None = None,
    ) -> Sent:
        """
        Send an event to the durable handler of a task; as ``Locker.send``.

        With *create*, the payload of that task, a task that does not exist is created in the same commit, with the event in
        its mailbox: for an event that may overtake the order that creates its task. A task that exists is kept as it is, and
        a later ``create_task`` finds the one that was created here.

        Raises:
            TaskNotFoundError: There is no such task, and no *create*.
            AlreadyFinishedError, MailboxFullError, StoreError: As ``Locker.send``.
            UsageError: As ``Locker.send``; or *create* is the payload of another task, or a recurring one.
            ConfigError: With *create*: the URL, queue or account is not configured.
        """
        if create is None:
            return super().send(model, id_, event, payload, id=id, transaction=transaction)
        runtime, path = self._runtime, self._name_of(model, id_).path
        with runtime.events.scheduling(lambda: creation.message(runtime, "create_task", [create])):
            made = creation.draft(runtime, create, self.path)
            if made.name.path != path or made.recurrence is not None:
                raise UsageError(
                    f"create= is the payload of {made.name.path}, and the event is for {path}."
                    if made.recurrence is None
                    else "create= is the payload of a recurring task, which has no handler that waits for events."
                )
            runtime.register(None, made.target.url)
            new = Creation(partial(creation.decide, runtime, made), partial(creation.changes, runtime, made))
            return send(runtime, path, event, payload, id_=id, transaction=transaction, create=new)

    # --- handling -----------------------------------------------------------------------------------------------------

    def handler(
        self, model: type[D], **options: Unpack[HandlerOptions[D]]
    ) -> Callable[[Callable[[OnceTask[D], Attempt], R]], Callable[[OnceTask[D], Attempt], R]]:
        """
        Register ``fn(task, attempt)`` as the handler of a kind; the options are those of ``register_task_handler``.

        Raises:
            As ``register_task_handler``.
        """

        def decorate(fn: Callable[[OnceTask[D], Attempt], R]) -> Callable[[OnceTask[D], Attempt], R]:
            self.register_task_handler(model, fn, **options)
            return fn

        return decorate

    def register_task_handler(
        self,
        model: type[D],
        fn: Callable[[OnceTask[D], Attempt], Any],
        *,
        retry: RetryPolicy = RETRY,
        lease_duration: Duration = LEASE,
        lease_timeout: Duration = 630.0,
        run_limit: Duration | None = None,
        renew: bool = True,
        on_unknown: OnUnknown = "takeover",
        alert_on: Sequence[AlertOn] = ("takeover", "failure", "quarantine"),
        on_cancel: Callable[[OnceTask[D], Attempt], Any] | None = None,
        cancel_retry: RetryPolicy = CANCEL_RETRY,
    ) -> None:
        """
        Register ``fn(task, attempt)`` as the handler of the tasks of a kind.

        Its return value settles the attempt. None, JSON data or a pydantic model is the result; a ``Retry``,
        ``Snooze``, ``Fail`` or ``Continue``, returned or raised, is a verdict. Any other raised error is a failed
        attempt.

        Args:
            model: Model of the payload.
            fn: The handler.
            retry: Retry policy for failed attempts.
            lease_duration: Time after the grant or a renewal in which the lease is not taken over; seconds or a
                timedelta.
            lease_timeout: Time after the grant after which an expired lease is taken over even if the logs show nothing
                about its holder; no earlier than the log grace after the run limit and after the end of the last lease.
            run_limit: Time after the grant after which the lease is no longer renewed; None: the lease timeout.
            renew: Whether the lease is renewed while the handler runs.
            on_unknown: The decision at the timeout if nothing is known about the holder: takeover, or quarantine until
                a person resolves it.
            alert_on: Events of which a person is alerted: takeover, failure, quarantine.
            on_cancel: Handler that runs once for a task that was cancelled before it ended; None: such a task only
                ends.
            cancel_retry: Retry policy of *on_cancel*, with an attempt count of its own.

        Raises:
            DuplicateKindError: The kind has a handler already.
            ConfigError: The durations contradict each other.
            UsageError: A function is async or a generator, or the model has no kind.
        """
        runtime = self._runtime

        def spec(
            run: Callable[..., Any],
            policy: RetryPolicy,
            cleanup: HandlerSpec | None = None,
            *,
            delivered: bool,
            cleans: bool = False,
        ) -> HandlerSpec:
            wishes = policy_of(
                runtime.config,
                retry=policy,
                max_attempts=1,
                lease_duration=lease_duration,
                lease_timeout=lease_timeout,
                run_limit=run_limit,
                on_unknown=on_unknown,
                alert_on=alert_on,
                cleanup=delivered,
            )
            return HandlerSpec(
                Tasks(model),
                run,
                wishes,
                policy,
                renew,
                keyed=True,
                cleanup=cleanup,
                middleware=(self._around,),
                cleans=cleans,
            )

        cleanup = None
        if on_cancel is not None:
            cleanup = spec(plain(on_cancel, _PLAIN, given=_GIVEN), cancel_retry, delivered=True, cleans=True)
        done = spec(plain(fn, _PLAIN, given=_GIVEN), retry, cleanup, delivered=cleanup is not None)
        if isinstance(fn, Batch):
            fn.spec = done
        self._registry.add(Handler(model, done))
        self._runtime.child_maker = ChildMaker(self._runtime, self.path)
        if not isinstance(fn, Batch):
            checks = self._runtime.result_checks
            checks[kind_of(model).name] = lambda result: check_returned(fn, result, HandlerResult)

    def _around(self, attempt: Attempt, call_next: Callable[[], Any]) -> Any:
        """
        Call ``on_error`` for failed attempts, as a middleware.
        """
        try:
            value = call_next()
        except (Retry, Fail) as verdict:
            self._tell(attempt, verdict)
            raise
        except (HandlerResult, LeaseLostError):
            raise
        except Exception as error:
            self._tell(attempt, error)
            raise
        if isinstance(value, Retry | Fail):
            self._tell(attempt, value)
        return value

    def _tell(self, attempt: Attempt, error: BaseException) -> None:
        if self.on_error is None:
            return
        running = running_of(attempt)
        try:
            self.on_error(running.subject, error)
        except Exception:  # noqa: BLE001 - the user's callback must not change the outcome
            running.context.log(logging.ERROR, "the error callback failed", exc_info=True)

    def add_task(self, name: str, key: str, data: Any = None, *, delay: Duration | None = None) -> Created:
        """
        Add a request for *key* to the queue *name*. Only the newest of several waiting requests is run. Requests that
        come while one runs lead to one more run, with the newest *data*.

        Args:
            name: Name of the queue; see ``queue_kind``.
            key: Name of the thing to bring up to date.
            data: JSON data.
            delay: Shortest time from now to the run, seconds or a timedelta. A later request postpones the run again
                (debounce).

        Raises:
            As ``create_task``.
        """
        model = queue_kind(name)
        values.name(key, "key")
        wait = addressing.wait_until(self._runtime, delay)
        return self.create_task(model.request(key, data, wait))

    def register_resource_key_handler(
        self,
        model: type[D],
        fn: Callable[[list[OnceTask[D]], list[Attempt]], Any],
        **options: Unpack[HandlerOptions[D]],
    ) -> None:
        """
        Register ``fn(tasks, attempts)`` as the handler of all due tasks of a kind and a resource key in one call, in
        due order.

        Its return value becomes the result of every task, unless it is a ``PerTask``. If it raises, the attempt of each
        task fails. If a task is deleted meanwhile, the others end all the same. A cancelled task runs alone. The
        options are those of ``register_task_handler``.

        Raises:
            As ``register_task_handler``.
        """
        _not_limited(model)
        batch = Batch(self._executor, plain(fn, _PLAIN, given=_MANY))
        self.register_task_handler(model, batch, **options)

    def register_batch_handler(
        self,
        model: type[D],
        fn: Callable[[list[OnceTask[D]], list[Attempt]], Any],
        *,
        size: int = MAX_BATCH,
        **options: Unpack[HandlerOptions[D]],
    ) -> None:
        """
        Register ``fn(tasks, attempts)`` as the handler of up to *size* due tasks of a kind in one call, for kinds
        without resource keys.

        Its return value becomes the result of every task, unless it is a ``PerTask``, such as
        ``PerTask.finished(tasks)``. The options are those of ``register_task_handler``.

        Raises:
            As ``register_task_handler``.
        """
        values.whole(size, "size")
        _not_limited(model)
        batch = Batch(self._executor, plain(fn, _PLAIN, given=_MANY), whole_kind=True, size=size)
        self.register_task_handler(model, batch, **options)

    def _deliver(self, body: bytes, headers: TaskHeaders, trace: str | None = None) -> Ended:
        """
        Execute one delivery of a once-task; the caller was verified before.
        """
        return deliver(self._executor, self._registry, body, headers, trace)

    def serve(self, request: endpoint.IncomingRequest) -> endpoint.Answer:
        """
        Verify the caller, execute the delivery, and return the answer. The adapter of a framework calls this.
        """
        return endpoint.serve(self._runtime, request, self._deliver)


def registry_of(manager: TaskManager) -> HandlerRegistry:
    """
    Return the handlers of *manager*, for the library's own modules.
    """
    return manager._registry  # noqa: SLF001 - hidden from users only


def create_drafted(manager: TaskManager, made: Draft, move: Move | None = None) -> Created:
    """
    Create the task of a draft as ``create_task`` does, for the library's own modules. With *move*, the same commit deletes a
    document of another system; if that has changed, nothing is created.

    Raises:
        As ``create_task``.
    """
    return manager._create(made, move)  # noqa: SLF001 - hidden from users only


def _not_limited(model: type[TaskData]) -> None:
    kind = kind_of(model)
    if kind.max_running is not None:
        raise UsageError(f"The kind {kind.name!r} has max_running=, which counts single tasks; give it a task handler.")


def models_of(manager: TaskManager) -> dict[str, type[TaskData]]:
    """
    Return the models of the kinds that have a handler in *manager*, by kind, for the library's own modules.
    """
    registry = manager._registry  # noqa: SLF001 - hidden from users only
    found = ((kind, registry.get(kind)) for kind in registry.kinds())
    return {kind: handler.model for kind, handler in found if handler is not None}
