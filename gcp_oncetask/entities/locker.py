"""
The locker, the first class that a user meets: it schedules, completes, reads and locks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from gcp_oncetask import rules
from gcp_oncetask.checks import urls, values
from gcp_oncetask.checks.callables import plain
from gcp_oncetask.checks.fingerprints import fingerprint
from gcp_oncetask.clock import Clock, Duration
from gcp_oncetask.config import Config
from gcp_oncetask.effects import kin
from gcp_oncetask.effects.dispatch import cloud_task_name, dispatch
from gcp_oncetask.entities import models
from gcp_oncetask.entities.acted import ActedChains
from gcp_oncetask.entities.chains import Scheduled, refusal
from gcp_oncetask.entities.models import LockedModel, MaybeNone
from gcp_oncetask.entities.sending import Sent, send
from gcp_oncetask.entities.subject import attempt_of
from gcp_oncetask.errors import LockBusyError, TaskNotFoundError, UsageError
from gcp_oncetask.execution.attempt import Middleware
from gcp_oncetask.execution.executor import Executor
from gcp_oncetask.execution.fenced_transaction import after_commit, fencing
from gcp_oncetask.execution.results import Continue
from gcp_oncetask.execution.running import RunningAttempt
from gcp_oncetask.execution.settling import completing, continuing
from gcp_oncetask.locks.lock import NamedLock
from gcp_oncetask.observe.alerts import AlertChannel
from gcp_oncetask.observe.observers import Message, destination
from gcp_oncetask.rules.decisions import CallRefused, Put, Target
from gcp_oncetask.rules.document_paths import LOCKS
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Fingerprint
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.runtime import addressing, requirements
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.services.cloud_logging import RequestLog
from gcp_oncetask.store import transaction as transactions
from gcp_oncetask.store.client import Client, Transaction
from gcp_oncetask.store.json_data import given_result, parameters
from gcp_oncetask.store.needs import check_needs
from gcp_oncetask.store.snapshot import Changes, Snapshot

M = TypeVar("M", bound=LockedModel)
R = TypeVar("R")


class Locker(ActedChains):
    """
    Locks in Firestore documents, and the tasks that they guard.

    It opens no connection until its first use, and new ones after a fork. Several lockers in one process are
    independent.

    Args:
        firestore: A Firestore client; None: one is made.
        config: Settings; None: they are read from the environment.
        tasks: A ``CloudTasksClient``; None: one is made.
        request_log: The log in which evidence about expired holders is found; None: Cloud Logging.
        alerts: An alert channel of your own; None: mail if it is configured, else the log.
        clock: Source of time and random numbers; None: the machine's.
        middleware: Functions that run around each handler and each function that runs once, the first one outermost.
            ``around(attempt, call_next)`` returns the value of ``call_next()``, or a result or verdict of its own. If
            it raises an error, the attempt fails. In a batch it runs once, with the leader's attempt.

    Raises:
        UsageError: A middleware is async or a generator, or can't be called.
        ConfigError: Settings are malformed or contradict each other, or are missing in a web server. The message names
            all of them.
    """

    def __init__(
        self,
        firestore: Client | None = None,
        *,
        config: Config | None = None,
        tasks: Any | None = None,
        request_log: RequestLog | None = None,
        alerts: AlertChannel | None = None,
        clock: Clock | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        serving = requirements.serving()
        config = requirements.checked(
            config,
            requirements.STORE if serving else (),
            also=requirements.SERVE if serving else (),
            project=None if firestore is None else firestore.project,
            mails=alerts is None,
        )
        runtime = Runtime(firestore, config, tasks, request_log, alerts, clock)
        runtime.after_kin = kin.after_commit
        super().__init__(
            Executor(
                runtime,
                [
                    plain(each, "middleware is plain functions for now", given=("attempt", "call_next"))
                    for each in middleware
                ],
            )
        )

    @classmethod
    def from_env(cls) -> Locker:
        """
        Make a locker that is configured by the environment.

        Raises:
            ConfigError: As the constructor.
        """
        return cls()

    # --- schedule and complete ---

    def schedule(
        self,
        entity: LockedModel,
        url: str | None = None,
        *,
        delay: Duration | None = None,
        at: datetime | None = None,
        queue: str | None = None,
        params: Any = None,
        headers: dict[str, str] | None = None,
        transaction: Transaction | None = None,
    ) -> Scheduled:
        """
        Schedule the next sequence of *entity*: one commit, then one Cloud Task. The first schedule in a collection, and
        then one an hour, also reads the registry, by which sweeps find the collection. This read is never part of
        *transaction*.

        On the attempt's own entity this ends the step: the changed fields are saved, and the next step follows.

        Args:
            entity: An entity made in Python, whose document or first lock is created; or a loaded one, whose completed
                chain goes on.
            url: An absolute URL, or a path that is joined to the base URL; None: the present URL, inside a handler
                only.
            delay: Shortest time from now to the run; seconds or a timedelta.
            at: Earliest time of the run; an aware datetime.
            queue: Queue id or full name; None: the present queue inside a handler, else the configured one.
            params: JSON data for ``attempt.params``.
            headers: Extra headers of the deliveries.
            transaction: Transaction of which the write becomes a part. Outside a handler, call ``dispatch()`` on the
                returned object after the commit.

        Raises:
            AlreadyScheduledError: The chain is running, or has moved on since the entity was loaded.
            AlreadyFinishedError: The chain has ended, and the entity was not loaded, or the chain needs reset() or
                resolve().
            AlreadySettledError: Inside a handler, for the second time.
            TaskNotFoundError: The document was deleted since the entity was loaded.
            TaskConflictError: The entity belongs to another environment.
            LeaseLostError: Inside a handler: its attempt does not hold its lease any more.
            ConflictError: Another writer has changed a field that was changed here.
            UsageError: The URL, a header, the queue, the time or a field is invalid; or no task may go to that origin
                or queue (``ONCETASK_TARGETS``); or the document would have more than 896 KiB (``size``, ``limit``),
                which leaves no room for the records of its run. Nothing was written.
            ConfigError: The URL, queue or account is not configured.
            StoreError: Firestore was unreachable or refused.
        """
        with self._runtime.events.scheduling(lambda: self._message(entity, queue)):
            if headers is not None:
                headers = urls.headers(headers, "headers")
            binding = models.binding_of(entity)
            if binding is not None and binding.attempt is not None:
                how = Continue(url, delay=delay, params=params, queue=queue)
                return self._continue(entity, binding.attempt, how, at, headers, transaction)
            if url is None:
                raise UsageError("schedule() needs a url outside a handler.")
            urls.target(url, "url")
            if queue is not None:
                values.queue(queue, "queue")
            if params is not None:
                params = parameters(params)
            target = addressing.target(
                self._runtime, url, queue=queue, params=params, headers=headers, delay=delay, at=at
            )
            return self._schedule(entity, None if binding is None else binding.snapshot, target, transaction)

    def _schedule(
        self, entity: LockedModel, known: Snapshot | None, target: Target, transaction: Transaction | None
    ) -> Scheduled:
        runtime = self._runtime
        nonce = runtime.clock.nonce()
        loaded = None if known is None or known.lock is None else known.lock.sequence

        def decide(seen: Snapshot) -> Put | CallRefused:
            if known is not None and (deleted := _deleted_since(known, seen)) is not None:
                return deleted
            return _written(entity, rules.schedule(seen.lock, loaded, target, nonce, runtime.decision_context(seen)))

        def changes(seen: Snapshot) -> Changes:
            written = models.new_fields_of(entity, seen.exists) if known is None else models.changes_of(entity)
            # The commit comes next. From here on every sweep must know the collection.
            runtime.register(type(entity).__collection__, target.url)
            return written

        path = entity.document_path
        if transaction is not None:
            return self._join(transaction, path, decide, changes)
        start = known if known is not None else Snapshot(path, None, None, None)
        changed = runtime.store.change(path, decide, start=start, changes=changes, room=True, shares=True)
        if isinstance(changed.decision, CallRefused):
            raise refusal(path, changed.decision)
        models.remember(entity, changed.snapshot)
        return self._dispatched(changed.snapshot)

    def _continue(
        self,
        entity: LockedModel,
        attempt: RunningAttempt,
        how: Continue,
        at: datetime | None,
        headers: dict[str, str] | None,
        transaction: Transaction | None,
    ) -> Scheduled:
        settlement = continuing(self._runtime, attempt, how, at=at, headers=headers)
        put = attempt.settle(settlement, models.changes_of(entity), transaction)
        if put.outcome is Outcome.CANCELLED:
            return Scheduled(put.lock.sequence, None, dispatched=False, cancelled=True)
        if transaction is not None:
            self._runtime.events.scheduled(Snapshot(attempt.context.document, None, None, put.lock, whole=False))
            made = Scheduled(put.lock.sequence, None, dispatched=False)

            def send() -> bool:
                made.task_name = cloud_task_name(attempt.snapshot)
                return dispatch(self._runtime, attempt.snapshot)

            made._dispatch = send  # noqa: SLF001 - our own class
            after_commit(attempt, made.dispatch, transaction)
            return made
        models.remember(entity, attempt.snapshot)
        return self._dispatched(attempt.snapshot)

    def _join(
        self,
        transaction: Transaction,
        path: str,
        decide: Callable[[Snapshot], Put | CallRefused],
        changes: Callable[[Snapshot], Changes],
    ) -> Scheduled:
        """
        Add the decision to the caller's transaction; the Cloud Task is created after its commit.
        """
        store = self._runtime.store
        snapshot = transactions.read_in(store, transaction, path)
        check_needs(snapshot)
        decision = decide(snapshot)
        if isinstance(decision, CallRefused):
            raise refusal(path, decision)
        transactions.add_write(store, transaction, snapshot, decision, changes(snapshot))
        later = Snapshot(path, None, None, decision.lock, whole=False)
        made = self._dispatched(later, now=False)
        attempt = fencing(transaction)
        if attempt is not None and decision.dispatch:
            after_commit(attempt, made.dispatch, transaction)
        return made

    def _message(self, entity: LockedModel, queue: str | None) -> Message:
        attempt = attempt_of(entity)
        queue = queue or (attempt.granted.queue if attempt is not None else None) or self.config.queue
        return Message("schedule", destination(queue, None), entity.document_path)

    def complete(self, entity: LockedModel, *, result: Any = None, transaction: Transaction | None = None) -> None:
        """
        End the chain of *entity*, which does not run again, and save its changed fields.

        Args:
            entity: The attempt's own entity, or a loaded one whose present sequence is not running.
            result: JSON data or a pydantic model, bounded; see ``result()``.
            transaction: Transaction of which the write becomes a part.

        Raises:
            AlreadySettledError: Inside a handler, for the second time.
            AlreadyFinishedError: The chain has ended.
            AlreadyScheduledError: The chain has moved on since the entity was loaded.
            LockBusyError: The chain is running or quarantined.
            TaskNotFoundError: The chain was never scheduled.
            LeaseLostError, ConflictError, StoreError: As ``schedule``.
        """
        binding = models.binding_of(entity)
        attempt = None if binding is None else binding.attempt
        if attempt is not None:
            attempt.settle(completing(attempt, result), models.changes_of(entity), transaction)
            if transaction is None:
                models.remember(entity, attempt.snapshot)
            return
        runtime = self._runtime
        nonce = runtime.clock.nonce()
        known = None if binding is None else binding.snapshot
        loaded = None if known is None or known.lock is None else known.lock.sequence
        kept = given_result(result)

        def decide(seen: Snapshot) -> Put | CallRefused:
            if known is not None and (deleted := _deleted_since(known, seen)) is not None:
                return deleted
            return _written(entity, rules.finish(seen.lock, loaded, kept, nonce, runtime.decision_context(seen)))

        def changes(seen: Snapshot) -> Changes:
            return models.new_fields_of(entity, seen.exists) if known is None else models.changes_of(entity)

        path = entity.document_path
        if transaction is not None:
            self._join(transaction, path, decide, changes)
            return
        changed = runtime.store.change(path, decide, start=known, changes=changes)
        if isinstance(changed.decision, CallRefused):
            if changed.decision.refusal in (Refusal.RUNNING, Refusal.QUARANTINED):
                raise LockBusyError(f"{path}: {changed.decision.reason}. Nothing was written.", document=path)
            raise refusal(path, changed.decision)
        models.remember(entity, changed.snapshot)

    def send(
        self,
        model: type[LockedModel],
        id_: str,
        event: str,
        payload: Any = None,
        /,
        *,
        id: str | None = None,  # noqa: A002 - the usual name
        transaction: Transaction | None = None,
        **parts: str,
    ) -> Sent:
        """
        Send an event to the durable handler of an entity, for its ``attempt.wait_event``: one commit, and one Cloud Task if
        the handler waits for the event. An event that comes early is kept.

        Args:
            model: Model of the entity.
            id_: Id of the entity.
            event: Name of the event.
            payload: JSON data or a pydantic model.
            id: Id of the event, by which a repeated one is dropped, for 30 days; None: one is drawn.
            transaction: Transaction of which the write becomes a part. Outside a handler, call ``dispatch()`` on the
                returned object after the commit.
            **parts: The fields that the model's collection names.

        Raises:
            TaskNotFoundError: There is no such document, or it was never scheduled.
            AlreadyFinishedError: The chain has ended.
            MailboxFullError: 100 events or 64 KiB wait there, and no wait has taken them.
            UsageError: The name, the id or the payload is invalid.
            StoreError: Firestore was unreachable or refused.
        """
        path = models.path_of(model, id_, parts)
        return send(self._runtime, path, event, payload, id_=id, transaction=transaction)

    # --- reading and saving ---

    def get(self, model: type[M], id: str, **parts: str) -> M | MaybeNone:  # noqa: A002 - the usual name
        """
        Load a document; return None if there is none.

        Args:
            model: Model of the document.
            id: Id of the document.
            **parts: The fields that the model's collection names.

        Raises:
            UsageError: The stored fields do not fit the model.
            StoreError: Firestore was unreachable or refused.
        """
        snapshot = self._runtime.store.get(models.path_of(model, id, parts))
        return models.load(model, snapshot, self._runtime.store.reference) if snapshot.exists else None

    def save(self, entity: LockedModel) -> None:
        """
        Write only the fields that were changed since *entity* was loaded. Inside its handler the write is fenced.

        Raises:
            TaskNotFoundError: The document is gone, or the entity was never loaded.
            ConflictError: Another writer has changed one of the fields; nothing was written.
            LeaseLostError: Inside a handler: its attempt does not hold its lease any more.
            StoreError: Firestore was unreachable or refused.
        """
        attempt = attempt_of(entity)
        if attempt is not None:
            attempt.checkpoint(models.changes_of(entity))
            models.remember(entity, attempt.snapshot)
            return
        binding = models.binding_of(entity)
        if binding is None:
            raise TaskNotFoundError(f"{entity.document_path} was not loaded; schedule() creates it.")
        snapshot = self._runtime.store.save(binding.snapshot, models.changes_of(entity))
        if snapshot is None:
            raise TaskNotFoundError(f"{entity.document_path} is gone.", document=entity.document_path)
        models.remember(entity, snapshot)

    # --- named locks ---

    def lock(
        self,
        name: str,
        ttl: Duration | None = None,
        *,
        keep_alive: Duration | None = None,
        timeout: Duration | None = None,
        collection: str = LOCKS,
        listen: bool = True,
    ) -> NamedLock:
        """
        Return a lock on *name* in this environment, for ``with locker.lock("network-graph", ttl=30) as lock: ...``.
        This makes no call to Firestore.

        Arguments and errors are those of ``NamedLock``.
        """
        return NamedLock(
            self._runtime,
            lambda: self._executor.renewals,
            name,
            ttl=ttl,
            keep_alive=keep_alive,
            timeout=timeout,
            collection=collection,
            listen=listen,
        )


def _deleted_since(known: Snapshot, seen: Snapshot) -> CallRefused | None:
    """
    Return the refusal of an entity whose document, loaded as *known*, was deleted since, and perhaps made again; None if it
    was not deleted.
    """
    if not seen.exists:
        return CallRefused(Refusal.MISSING, "it was deleted since it was loaded")
    before, now = known.lock, seen.lock
    if before is None or now is None or before.sequence != now.sequence or before.keyed == now.keyed:
        return None
    return CallRefused(Refusal.MOVED, "it was deleted and made again since it was loaded; load it again")


def _written(entity: LockedModel, decision: Put | CallRefused) -> Put | CallRefused:
    """
    Return *decision* with the fingerprint of the model by which its fields are written.
    """
    if isinstance(decision, CallRefused):
        return decision
    written = Fingerprint(str(decision.lock.sequence), fingerprint(type(entity)))
    return Put(decision.lock.but(fingerprint=written), *decision[1:])
