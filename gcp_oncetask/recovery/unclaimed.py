"""
Attend to tasks of Cloud Tasks that were not claimed in time: ask the queue, dispatch again, alert a person.

Cost:
    One look-up and one write for each task. Once a queue still has ``ASKED`` of them, its further tasks cost a write alone,
    many in one call. So a paused queue with any number of tasks never keeps a sweep from the documents behind them.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeGuard

from gcp_oncetask import rules
from gcp_oncetask.effects import owed_alerts, queue_alarm
from gcp_oncetask.effects.dispatch import push_of
from gcp_oncetask.errors import DispatchError, OncetaskError, UsageError
from gcp_oncetask.observe.log_context import LOGGER
from gcp_oncetask.rules import attention
from gcp_oncetask.rules.decisions import DecisionContext
from gcp_oncetask.rules.delivery import cloud_task_id
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.runtime.requirements import DISPATCH
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.services.cloud_tasks import Queued
from gcp_oncetask.store.codec import encode
from gcp_oncetask.store.failures import WireError
from gcp_oncetask.store.snapshot import Snapshot

ASKED: Final = 20
"""After so many look-ups that find a task still in its queue, a sweep takes the queue's other tasks to be there as well."""
REFUSED: Final = 409
"""HTTP status of a delivery that reached the library and can't be run here. The cause is the task alone, not its queue."""
LEFT: Final = "left"
"""Name for the queue of all tasks that may not be made here: the queue in the document is not trusted."""
_TROUBLES: Final = 3
"""Most reasons about them that are told in one sweep."""
_TOGETHER: Final = 200
"""Due times that are moved in one call."""


@dataclass(slots=True)
class _Queue:
    """
    The state of a queue, as a sweep has seen it.

    Attributes:
        queued: Number of tasks that are still in the queue.
        stuck: Number of those that have waited for too long, without tasks that have an alert of their own.
        since: Time since which the oldest of these could have been claimed.
        answers: HTTP statuses with which its tasks were last answered.
        troubles: Reasons for which its tasks may not be made here.
    """

    queued: int = 0
    stuck: int = 0
    since: datetime | None = None
    answers: Counter[int] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)

    def add(self, lock: Lock, at: DecisionContext, seen: Queued | None) -> None:
        """
        Count one more task that is still queued.
        """
        self.queued += 1
        if seen is not None and seen.status is not None:
            self.answers[seen.status] += 1
        if _refused_by_us(seen):
            return
        since = lock.ready_since
        if since is not None and attention.is_stuck(lock, at):
            self.stuck += 1
            self.since = since if self.since is None else min(self.since, since)

    def sentence(self, name: str) -> str:
        """
        Return the text of the alert about the queue *name*, whose tasks stand still.
        """
        assert self.since is not None
        if self.troubles:
            return (
                f"{self.stuck} task(s) wait unclaimed, the oldest since {instant(self.since)}, that this sweep may not make and "
                f"no other process has made. {' '.join(self.troubles)}"
            )
        answers = ", ".join(map(str, sorted(self.answers)))
        answered = f"Their last answers: HTTP {answers}. " if answers else ""
        return (
            f"{self.stuck} task(s) of the queue {name} wait unclaimed, the oldest since {instant(self.since)}. {answered}"
            "Is the queue paused, is their URL served by a version that knows them, and is their caller let in?"
        )


def _refused_by_us(seen: Queued | None) -> TypeGuard[Queued]:
    return seen is not None and seen.status == REFUSED


class Unclaimed:
    """
    The unclaimed tasks of one sweep.

    Args:
        runtime: Shared parts.
        complain: Called with a task at which a service failed, and the error.

    Attributes:
        dispatched: Cloud Tasks made again.
        queued: Tasks that are still in their queue.
        left: Tasks that may not be made here.
        unasked: Number of both that were put off together, without a look-up.
        alerted: Alerts sent.
        failed: Tasks at which an error was raised.
    """

    def __init__(self, runtime: Runtime, complain: Callable[[Snapshot, OncetaskError], None]) -> None:
        self._runtime = runtime
        self._complain = complain
        self._queues: dict[str, _Queue] = {}
        self._unasked: list[tuple[Snapshot, Any]] = []
        self.dispatched = 0
        self.queued = 0
        self.left = 0
        self.unasked = 0
        self.alerted = 0
        self.failed = 0

    def attend(self, snapshot: Snapshot, lock: Lock) -> None:
        """
        Attend to a task that is due.

        Raises:
            ConfigError: The task needs a Cloud Task, and settings for that are missing.
            OncetaskError: As ``Store.change``.
        """
        runtime = self._runtime
        if lock.url is not None:
            runtime.require(DISPATCH)
            try:
                runtime.targets.check(lock.url, lock.queue or "", lock.headers)
            except UsageError as error:
                self._leave(snapshot, lock, str(error))
                return
        queue = self._queues.setdefault(lock.queue or "", _Queue())
        if queue.queued >= ASKED:
            self.queued += 1
            self._put_off(queue, snapshot, lock)
            return
        try:
            seen = runtime.tasks.queued(lock.queue or "", cloud_task_id(snapshot.path, lock))
        except DispatchError as error:
            self._not_told(queue, snapshot, lock, error)
            return
        if seen is None:
            self._dispatch(snapshot, lock)
        else:
            self._still_queued(queue, snapshot, lock, seen)

    def close(self) -> None:
        """
        Write the due times of the tasks that were put off, and send alerts about queues whose tasks stand still.
        """
        self._move_unasked()
        for name, queue in self._queues.items():
            if queue.since is not None:
                found = queue_alarm.Standstill(name, queue.stuck, queue.since, queue.sentence(name))
                self.alerted += queue_alarm.tell(self._runtime, found)

    # --- still queued ---

    def _still_queued(self, queue: _Queue, snapshot: Snapshot, lock: Lock, seen: Queued | None) -> None:
        at = self._runtime.decision_context(snapshot)
        queue.add(lock, at, seen)
        self.queued += 1
        refused = f"{seen.attempts} deliveries, the last one answered HTTP {REFUSED}" if _refused_by_us(seen) else None
        committed = self._runtime.store.put(snapshot, rules.still_queued(lock, at, refused))
        if committed is not None:
            self._send_owed(lock, committed)

    def _put_off(self, queue: _Queue, snapshot: Snapshot, lock: Lock) -> None:
        at = self._runtime.decision_context(snapshot)
        queue.add(lock, at, None)
        self.unasked += 1
        due = rules.still_queued(lock, at).lock.due
        self._unasked.append(
            (snapshot, self._runtime.store.raw_write(snapshot.path, snapshot.version, {"lock.due": encode(due)}))
        )
        if len(self._unasked) >= _TOGETHER:
            self._move_unasked()

    def _move_unasked(self) -> None:
        moved, self._unasked = self._unasked, []
        if not moved:
            return
        try:
            # If a document has moved meanwhile, its write is refused. That does no harm.
            self._runtime.wire.batch_write([write for _, write in moved])
        except WireError as error:
            self.failed += len(moved)
            LOGGER.error("%d tasks that are still queued could not be put off: %s", len(moved), error.message)

    # --- not ours ---

    def _leave(self, snapshot: Snapshot, lock: Lock, trouble: str) -> None:
        """
        Leave a task whose Cloud Task may not be made here to another process. All such tasks count as those of one queue.
        """
        queue, at = self._queues.setdefault(LEFT, _Queue()), self._runtime.decision_context(snapshot)
        if trouble not in queue.troubles and len(queue.troubles) < _TROUBLES:
            queue.troubles.append(trouble)
            message = f"it is left to a process that may make its task. {trouble}"
            self._runtime.events.left(partial(self._runtime.about, snapshot), message, logging.WARNING)
        self.left += 1
        if queue.queued >= ASKED:
            self._put_off(queue, snapshot, lock)
            return
        queue.add(lock, at, None)
        self._runtime.store.put(snapshot, rules.still_queued(lock, at))

    # --- no answer ---

    def _not_told(self, queue: _Queue, snapshot: Snapshot, lock: Lock, error: DispatchError) -> None:
        """
        Attend to a task about which the queue could not be asked. If the look-up was refused for good, the same Cloud Task
        is made again, which changes nothing if it exists. Only after a long wait it gets a new name: a Cloud Task of the old
        name may have run, and then it can't be made again.
        """
        runtime, at = self._runtime, self._runtime.decision_context(snapshot)
        if not error.facts.get("final"):
            self.failed += 1
            self._complain(snapshot, error)
            self._runtime.store.put(snapshot, rules.still_queued(lock, at))
            return
        if attention.may_rename(lock, at):
            self._dispatch(snapshot, lock)
            return
        try:
            made = runtime.tasks.create(push_of(runtime, snapshot))
        except DispatchError as refused:
            self._refused(snapshot, lock, refused)
            return
        if not made:
            self._still_queued(queue, snapshot, lock, None)
            return
        self.dispatched += 1
        self._runtime.store.put(snapshot, rules.still_queued(lock, at))

    # --- dispatch again ---

    def _dispatch(self, snapshot: Snapshot, lock: Lock) -> None:
        runtime = self._runtime
        put = rules.redispatch(lock, runtime.decision_context(snapshot))
        committed = self._runtime.store.put(snapshot, put)
        if committed is None:
            return
        self._send_owed(lock, committed)
        try:
            runtime.tasks.create(push_of(runtime, committed))
        except DispatchError as refused:
            self._refused(committed, put.lock, refused)
            return
        self.dispatched += 1
        message = f"dispatched again, for the {put.lock.dispatches}. time"
        runtime.events.redispatched(partial(runtime.about, committed), message)

    def _refused(self, snapshot: Snapshot, lock: Lock, refused: DispatchError) -> None:
        """
        Attend to a task whose Cloud Task can't be made; if it is refused for good, a person is alerted.
        """
        self.failed += 1
        self._complain(snapshot, refused)
        if not refused.facts.get("final"):
            return
        queue = Snapshot(f"queues/{(lock.queue or '').rsplit('/', 1)[-1]}", None, None, None)
        owed_alerts.send_daily(
            self._runtime, queue, "refused", f"{refused} Its tasks wait, {snapshot.path} among them."
        )
        put = rules.undispatched(lock, self._runtime.decision_context(snapshot))
        if put is not None:
            self._runtime.store.put(snapshot, put)

    def _send_owed(self, before: Lock, after: Snapshot) -> None:
        self.alerted += owed_alerts.send_newly_owed(self._runtime, before, after, self._runtime.clock.mark())
