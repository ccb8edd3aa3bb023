"""
All due tasks of a resource key in one call: the task that was delivered holds the key, the others ride with it.

Each has a lease, an attempt and an outcome of its own. The one that holds the key is settled last, so that the key is not given
back before the work is done; if the process dies, each is judged by its own trail.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from gcp_oncetask import rules
from gcp_oncetask.checks import values
from gcp_oncetask.clock import Duration, Mark
from gcp_oncetask.effects import damage, owed_alerts
from gcp_oncetask.errors import OncetaskError, UsageError
from gcp_oncetask.execution.attempt import Attempt
from gcp_oncetask.execution.handler_spec import HandlerSpec
from gcp_oncetask.execution.pipeline import context_of
from gcp_oncetask.execution.renewal import Renewals, renewal_interval
from gcp_oncetask.execution.results import HandlerResult, Snooze
from gcp_oncetask.execution.settling import failure, settle
from gcp_oncetask.observe.events import destination
from gcp_oncetask.observe.log_context import current
from gcp_oncetask.rules.decisions import Claimant, Put, Refused
from gcp_oncetask.rules.documents import resource_prefix, state_prefix, task_name
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Status
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.queries import first_in_range
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.tasks.task import OnceTask

MAX_BATCH: Final = 100
"""Tasks of one call; the rest follow in the next."""
_NOT_NOW: Final = Refused(Outcome.BUSY, "it does not ride along")


class PerTask:
    """
    What a batch handler returns when its tasks end differently.

    Args:
        outcomes: Task id -> result or verdict (``Retry``, ``Snooze``, ``Fail``); those left out end as *otherwise*.
        otherwise: Result or verdict of the others.
    """

    def __init__(self, outcomes: Mapping[str, Any], *, otherwise: Any = None) -> None:
        self.outcomes = dict(outcomes)
        self.otherwise = otherwise

    @classmethod
    def finished(cls, tasks: Iterable[OnceTask[Any]], *, again: Duration = 60.0) -> PerTask:
        """
        Those *tasks* are done; the others are offered again after *again* (seconds or a timedelta), no attempt burned.

        Raises:
            UsageError: *again* can't be a delay.

        Source:
            go-session-lock's Tasker, which returns what it has done of its batch.
        """
        values.seconds(again, "again")
        return cls({task.id: None for task in tasks}, otherwise=Snooze(again))

    def of(self, task: OnceTask[Any]) -> Any:
        """
        How *task* ends.
        """
        return self.outcomes.get(task.id, self.otherwise)


class Batch:
    """
    Runs ``fn(tasks, attempts)`` for a task and those that ride with it.

    Args:
        runtime: Finds the shared parts when it is called, since a test may exchange them.
        renewals: Likewise.
        fn: User code.
        whole_kind: Gather whatever is due of the kind and needs no resource key, instead of what needs the same one.
        size: Tasks of one call; the rest follow in the next.
    """

    def __init__(
        self,
        runtime: Callable[[], Runtime],
        renewals: Callable[[], Renewals],
        fn: Callable[..., Any],
        *,
        whole_kind: bool = False,
        size: int = MAX_BATCH,
    ) -> None:
        self._whole_kind = whole_kind
        self._size = size
        self._runtime = runtime
        self._renewals = renewals
        self._fn = fn
        self.spec: HandlerSpec | None = None

    def __call__(self, task: OnceTask[Any], attempt: Attempt) -> Any:
        """
        The job's user code: gathers, runs, settles the others, and returns how *task* ends.
        """
        runtime, spec = self._runtime(), self.spec
        assert spec is not None
        riders = self._gather(runtime, spec, task, attempt)
        everybody = sorted(
            [(task, attempt), *riders], key=lambda one: (one[0].lock.wait_until or one[0].created_at, one[0].created_at)
        )
        if any(one.held_for() <= 0 for _, one in everybody):
            # Gathering took so long that a lease is over: all are given back, and no attempt is burned.
            self._settle(runtime, spec, riders, Snooze(0))
            return Snooze(0)
        token = None
        if riders:
            token = current.set(replace(attempt.context, task=None))
        try:
            value = self._run(everybody)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            self._settle(runtime, spec, riders, error)
            raise
        else:
            self._settle(runtime, spec, riders, value)
            return value.of(task) if isinstance(value, PerTask) else value
        finally:
            if token is not None:
                current.reset(token)

    def _run(self, everybody: Sequence[tuple[OnceTask[Any], Attempt]]) -> Any:
        tasks, attempts = [task for task, _ in everybody], [attempt for _, attempt in everybody]
        value = self._fn(tasks, attempts)
        if isinstance(value, PerTask):
            unknown = sorted(set(value.outcomes) - {task.id for task in tasks})
            if unknown:
                raise UsageError(f"The batch handler gave an outcome for {unknown[0]!r}, which is not in its batch.")
        return value

    # --- gathering ----------------------------------------------------------------------------------------------------

    def _gather(
        self, runtime: Runtime, spec: HandlerSpec, task: OnceTask[Any], attempt: Attempt
    ) -> list[tuple[OnceTask[Any], Attempt]]:
        """
        Lease the other due tasks of the key; one that can't be is left for later.
        """
        key = attempt.granted.key
        if (key is None) is not self._whole_kind or attempt.granted.cancel_requested_at is not None:
            return []
        if key is not None:
            field, prefix = "resource", resource_prefix(task.env, task.kind, key, live=True)
        else:
            field, prefix = "state", state_prefix(task.env, task.kind, Status.SCHEDULED)
        now = instant(runtime.store.estimate())
        aside = partial(damage.pass_over, runtime)
        found = first_in_range(runtime.store, field, f"{prefix}/", f"{prefix}/{now}", limit=self._size, aside=aside)
        riders: list[tuple[OnceTask[Any], Attempt]] = []
        for snapshot in found:
            alone = snapshot.lock is None or snapshot.lock.key != key or snapshot.path == attempt.context.document
            # A generator makes occurrences; it is never run itself.
            alone = alone or "recurrence" in snapshot.fields
            if not alone and len(riders) < self._size - 1:
                rider = self._lease(runtime, spec, snapshot, attempt)
                if rider is not None:
                    riders.append(rider)
        return riders

    def _lease(
        self, runtime: Runtime, spec: HandlerSpec, snapshot: Snapshot, leader: Attempt
    ) -> tuple[OnceTask[Any], Attempt] | None:
        # It counts from the leader's claim: its run must end no later than that of the attempt that has the key.
        mark: Mark = leader.granted_mark
        claimant = Claimant(runtime.clock.nonce(), leader.context.trace, runtime.instance())

        def decide(seen: Snapshot) -> Put | Refused:
            if seen.lock is None or spec.subject.unread(runtime, seen) is not None:
                return _NOT_NOW
            return rules.ridden(seen.lock, spec.policy, claimant, runtime.moment(seen)) or _NOT_NOW

        try:
            changed = runtime.store.change(snapshot.path, decide, start=snapshot)
        except OncetaskError as error:
            about = runtime.about(snapshot)
            about.log(logging.WARNING, "it does not ride along: %s", error)
            return None
        lock = changed.snapshot.lock
        if not isinstance(changed.decision, Put) or lock is None or lock.holder != claimant.nonce:
            return None
        context = context_of(
            snapshot.path,
            lock.env,
            lock.sequence,
            lock.step,
            token=lock.token,
            attempt=lock.attempts,
            claimant=claimant,
            key=lock.key,
        )
        attempt = Attempt(
            runtime,
            changed.snapshot,
            policy=spec.policy,
            mark=mark,
            context=context,
            delivery=None,
            renewing=spec.renew,
            hold=leader.hold,
        )
        attempt.leader = leader
        runtime.attempts.add(attempt)
        runtime.events.granted(attempt, snapshot, current=False, note=", in a batch")
        if spec.renew:
            self._renewals().add(attempt, renewal_interval(spec.policy.lease), mark)
        try:
            return spec.subject.load(runtime, attempt), attempt
        except Exception as error:  # noqa: BLE001 - validators are code of the user's
            unread = spec.subject.unread(runtime, changed.snapshot) is not None
            self._end(runtime, spec, None, attempt, Snooze(0) if unread else error)
            return None

    # --- settling -----------------------------------------------------------------------------------------------------

    def _settle(
        self, runtime: Runtime, spec: HandlerSpec, riders: Sequence[tuple[OnceTask[Any], Attempt]], value: Any
    ) -> None:
        """
        End each rider; one that was deleted or lost meanwhile spoils nothing for the others.
        """
        for task, attempt in riders:
            self._end(runtime, spec, task, attempt, value.of(task) if isinstance(value, PerTask) else value)

    def _end(
        self, runtime: Runtime, spec: HandlerSpec, task: OnceTask[Any] | None, attempt: Attempt, value: Any
    ) -> None:
        runtime.attempts.discard(attempt)
        if spec.renew:
            self._renewals().remove(attempt)
        if attempt.settled is not None:
            runtime.events.ended(attempt, attempt.settled, "settled by the handler")
            return
        if isinstance(value, BaseException) and not isinstance(value, HandlerResult):
            value = failure(runtime, spec, attempt, value)
        try:
            ended = settle(runtime, spec, attempt, task, value)
        except OncetaskError as error:
            attempt.context.log(logging.ERROR, "it could not be settled: %s", error)
            runtime.events.ended(attempt, None, "", error)
            return
        runtime.events.ended(attempt, ended.outcome, ended.reason)
        newly = owed_alerts.newly_owed(attempt.granted, attempt.snapshot.lock)
        owed_alerts.send_owed(runtime, attempt.snapshot, newly, runtime.clock.mark())
        name = task_name(attempt.context.document)
        to = destination(attempt.granted.queue, attempt.context.kind)
        runtime.events.delivered(
            ended.outcome, attempt.context, ended.reason, to=to, level=logging.DEBUG, task=name and name.id
        )
