"""
Batches: all due tasks of a resource key in one call. The task that was delivered, the leader, holds the key, and the
others ride with it.

Each task has a lease, an attempt and an outcome of its own. The leader is settled last, so that the key is not given
back before the work is done. If the process dies, each task is judged by its own trail.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple

from gcp_oncetask import rules
from gcp_oncetask.checks import values
from gcp_oncetask.clock import Duration
from gcp_oncetask.effects import damage
from gcp_oncetask.errors import OncetaskError, UsageError
from gcp_oncetask.execution.attempt import Attempt
from gcp_oncetask.execution.ended import Ended
from gcp_oncetask.execution.executor import Executor
from gcp_oncetask.execution.handler_spec import HandlerSpec
from gcp_oncetask.execution.lifetime import Granted
from gcp_oncetask.execution.results import CancelledByRequest, HandlerResult, Snooze
from gcp_oncetask.execution.running import RunningAttempt
from gcp_oncetask.execution.settling import commit_settlement, failure
from gcp_oncetask.execution.value_words import running_of
from gcp_oncetask.observe.log_context import context_at, current
from gcp_oncetask.observe.observers import destination
from gcp_oncetask.rules.decisions import Claimant, Put, Refused
from gcp_oncetask.rules.document_paths import parse_task_path, resource_prefix, state_prefix
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.store.queries import first_in_range
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.tasks.task import OnceTask

MAX_BATCH: Final = 100
"""Most tasks of one call; the rest follow in the next."""
_NOT_NOW: Final = Refused(Outcome.BUSY, "it does not ride along")


class PerTask:
    """
    The return value of a batch handler whose tasks end differently.

    Args:
        outcomes: Result or verdict (``Retry``, ``Snooze``, ``Fail``) by task id; tasks that are left out end as
            *otherwise*.
        otherwise: Result or verdict of the other tasks.
    """

    def __init__(self, outcomes: Mapping[str, Any], *, otherwise: Any = None) -> None:
        self.outcomes = dict(outcomes)
        self.otherwise = otherwise

    @classmethod
    def finished(cls, tasks: Iterable[OnceTask[Any]], *, again: Duration = 60.0) -> PerTask:
        """
        Return the outcomes of a batch of which *tasks* are completed. The other tasks run again after *again*, seconds
        or a timedelta; no attempt is burned.

        Raises:
            UsageError: *again* is no valid delay.

        Source:
            The Tasker of go-session-lock, which returns the finished tasks of its batch.
        """
        values.seconds(again, "again")
        return cls({task.id: None for task in tasks}, otherwise=Snooze(again))

    def of(self, task: OnceTask[Any]) -> Any:
        """
        Return the result or verdict of *task*.
        """
        return self.outcomes.get(task.id, self.otherwise)


class _Rider(NamedTuple):
    """
    A task that rides along, its attempt, and the exit stack that ends the attempt.
    """

    task: OnceTask[Any]
    attempt: RunningAttempt
    life: ExitStack


class Batch:
    """
    Runs ``fn(tasks, attempts)`` for a task and its riders.

    Args:
        executor: Shared parts.
        fn: The batch handler of user code.
        whole_kind: Whether to gather the due tasks of the kind that need no resource key, in place of the tasks with
            the same key.
        size: Most tasks of one call; the rest follow in the next.
    """

    def __init__(
        self, executor: Executor, fn: Callable[..., Any], *, whole_kind: bool = False, size: int = MAX_BATCH
    ) -> None:
        self._executor = executor
        self._fn = fn
        self._whole_kind = whole_kind
        self._size = size
        self.spec: HandlerSpec | None = None

    def __call__(self, task: OnceTask[Any], attempt: Attempt) -> Any:
        """
        Run the batch of *task*, as the user code of the handler spec: gather its riders, call the handler, settle the
        riders, and return the result or verdict of *task*.
        """
        leader = running_of(attempt)
        leader.batched = True
        with ExitStack() as lives:
            riders = self._gather(task, leader, lives)
            everybody = sorted(
                [(task, attempt), *((rider.task, Attempt(rider.attempt)) for rider in riders)],
                key=lambda one: (one[0].lock.wait_until or one[0].created_at, one[0].created_at),
            )
            if any(one.held_for() <= 0 for _, one in everybody):
                # Gathering took so long that a lease is over. All leases are given back, and no attempt is burned.
                self._settle(riders, Snooze(0))
                return Snooze(0)
            if riders:
                about = current.set(replace(leader.context, task=None))
                lives.callback(current.reset, about)
            try:
                value = self._run(everybody)
            except (Exception, SystemExit, KeyboardInterrupt, CancelledByRequest) as error:
                # A cancellation is the leader's own; its riders run again.
                self._settle(riders, Snooze(0) if isinstance(error, CancelledByRequest) else error)
                raise
            self._settle(riders, value)
            return value.of(task) if isinstance(value, PerTask) else value

    def _run(self, everybody: Sequence[tuple[OnceTask[Any], Attempt]]) -> Any:
        tasks, attempts = [task for task, _ in everybody], [attempt for _, attempt in everybody]
        value = self._fn(tasks, attempts)
        if isinstance(value, PerTask):
            unknown = sorted(set(value.outcomes) - {task.id for task in tasks})
            if unknown:
                raise UsageError(f"The batch handler gave an outcome for {unknown[0]!r}, which is not in its batch.")
        return value

    # --- gathering ----------------------------------------------------------------------------------------------------

    def _gather(self, task: OnceTask[Any], leader: RunningAttempt, lives: ExitStack) -> list[_Rider]:
        """
        Lease the other due tasks of the key. A task that can't be leased is left for later, as are all once the lease of
        *leader* is over. *lives* ends the attempts that are not settled otherwise.
        """
        key = leader.granted.key
        if (key is None) is not self._whole_kind or leader.granted.cancel_requested_at is not None:
            return []
        runtime = self._executor.runtime
        if key is not None:
            field, prefix = "resource", resource_prefix(task.env, task.kind, key, live=True)
        else:
            field, prefix = "state", state_prefix(task.env, task.kind, Status.SCHEDULED)
        now = instant(runtime.store.estimate())
        aside = partial(damage.pass_over, runtime)
        found = first_in_range(runtime.store, field, f"{prefix}/", f"{prefix}/{now}", limit=self._size, aside=aside)
        riders: list[_Rider] = []
        for snapshot in found:
            alone = snapshot.lock is None or snapshot.lock.key != key or snapshot.path == leader.context.document
            # A generator makes occurrences and is never run itself.
            alone = alone or "recurrence" in snapshot.fields
            if not alone and len(riders) < self._size - 1:
                rider = self._lease(snapshot, leader)
                if rider is not None:
                    lives.push(rider.life)
                    riders.append(rider)
        return riders

    def _lease(self, snapshot: Snapshot, leader: RunningAttempt) -> _Rider | None:
        runtime, spec = self._executor.runtime, self.spec
        assert spec is not None
        claimant = Claimant(runtime.clock.nonce(), leader.context.trace, runtime.instance())

        def decide(seen: Snapshot) -> Put | Refused:
            if leader.held_for() <= 0:
                return _NOT_NOW
            if seen.lock is None or spec.subject.unread(runtime, seen) is not None:
                return _NOT_NOW
            return rules.ridden(seen.lock, spec.policy, claimant, runtime.decision_context(seen)) or _NOT_NOW

        try:
            changed = runtime.store.change(snapshot.path, decide, start=snapshot)
        except OncetaskError as error:
            about = runtime.about(snapshot)
            about.log(logging.WARNING, "it does not ride along: %s", error)
            return None
        lock = changed.snapshot.lock
        if not isinstance(changed.decision, Put) or lock is None or lock.holder != claimant.nonce:
            return None
        return self._open(spec, snapshot, changed.snapshot, lock, leader)

    def _open(
        self,
        spec: HandlerSpec,
        before: Snapshot,
        snapshot: Snapshot,
        lock: Lock,
        leader: RunningAttempt,
    ) -> _Rider | None:
        """
        Open the attempt of a rider whose lease was granted, and load its task.
        """
        context = context_at(snapshot.path, lock.env, lock)
        # The run limit of a rider counts from the leader's claim, because its run must end no later than the leader's.
        attempt = RunningAttempt(leader.runtime, snapshot, context, policy=spec.policy, mark=leader.granted_mark)
        attempt.leader, attempt.hold = leader, leader.hold
        life = ExitStack()
        life.enter_context(Granted(self._executor, spec, attempt, before))
        try:
            attempt.subject = spec.subject.load(self._executor.runtime, attempt)
        except Exception as error:  # noqa: BLE001 - validators are user code
            unread = spec.subject.unread(self._executor.runtime, snapshot) is not None
            self._end(attempt, life, Snooze(0) if unread else error)
            return None
        return _Rider(attempt.subject, attempt, life)

    # --- settling -----------------------------------------------------------------------------------------------------

    def _settle(self, riders: Sequence[_Rider], value: Any) -> None:
        """
        End each rider. If one was deleted or lost meanwhile, the others end all the same.
        """
        for task, attempt, life in riders:
            self._end(attempt, life, value.of(task) if isinstance(value, PerTask) else value)

    def _end(self, attempt: RunningAttempt, life: ExitStack, value: Any) -> None:
        runtime, spec = self._executor.runtime, self.spec
        assert spec is not None
        try:
            with life:
                if attempt.settled is not None:
                    attempt.ended = Ended(attempt.settled, "settled by the handler", attempt.context)
                    return
                if isinstance(value, BaseException) and not isinstance(value, HandlerResult):
                    value = failure(runtime, spec, attempt, value)
                ended = attempt.ended = commit_settlement(runtime, spec, attempt, value)
        except OncetaskError as error:
            attempt.context.log(logging.ERROR, "it could not be settled: %s", error)
            return
        to = destination(attempt.granted.queue, attempt.context.kind)
        name = parse_task_path(attempt.context.document)
        runtime.events.delivered(
            ended.outcome, attempt.context, ended.reason, to=to, level=logging.DEBUG, task=name and name.id
        )
