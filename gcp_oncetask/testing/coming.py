"""
The coming events in the cloud of a test, in the order of their times: deliveries, tasks that workers pull, and tasks that
they check again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from gcp_emulator.clock import VirtualClock, datetime_of, micros_of
from gcp_emulator.tasks import TasksServer
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.rules import timeout_at
from gcp_oncetask.rules.record import Status
from gcp_oncetask.rules.timestamps import parse_instant
from gcp_oncetask.store.snapshot import Snapshot, version_of
from gcp_oncetask.worker import Worker
from gcp_oncetask.worker.fetcher import LEFT_ALONE

_LONGEST: Final = 86_400.0
"""
Most seconds between two checks of a task that can't be run. The pause grows up to this, so that a year of virtual time
passes quickly.
"""

_Key = tuple[str, str, str]


class Coming:
    """
    A queue of coming events: deliveries of Cloud Tasks, tasks that workers pull, and renewed checks of tasks that they
    could not run. Of two events at one instant, the delivery is first.

    Args:
        tasks: The server that delivers tasks.
        clock: The virtual clock, which is moved to each event.
        workers: The workers, which run the tasks they pull on the calling thread.
    """

    def __init__(self, tasks: TasksServer, clock: VirtualClock, workers: Sequence[Worker]) -> None:
        self._tasks = tasks
        self._clock = clock
        self._workers = workers
        self._ripe: deque[tuple[datetime, Worker, Snapshot]] = deque()
        self._asked: dict[int, datetime] = {}
        self._left: dict[_Key, tuple[int, int]] = {}

    def run(self, end: int = 0) -> int:
        """
        Move the clock from event to event, up to *end* in microseconds, and carry out each event. Events that are due now
        are always carried out.

        Returns:
            Number of deliveries made and tasks run.
        """
        ran = 0
        while (at := self._next()) is not None and at <= max(end, self._clock.micros()):
            self._clock.advance(max(0, at - self._clock.micros()) / 1_000_000)
            ran += self._happen()
        return ran

    def _next(self) -> int | None:
        """
        Return the time of the next event, in microseconds; None if there is none.
        """
        push, now = self._tasks.next_due(), self._clock.micros()
        if not self._ripe:
            self._ask()
        if self._ripe or (push is not None and push <= now):
            # The tasks are due by Firestore's clock, which may be some microseconds ahead of this one.
            return now
        looks = [until for until, _ in self._left.values() if until > now]
        pulls = [self._pull(place, worker) for place, worker in enumerate(self._workers)]
        return min((at for at in (push, *looks, *pulls) if at is not None), default=None)

    def _pull(self, place: int, worker: Worker) -> int | None:
        """
        Return the time, in microseconds, at which *worker* has a task that was not due when it was asked last; None if
        there is none.
        """
        due = worker.next_due(after=self._asked[place])
        if due is None:
            return None
        return self._clock.micros() if due <= runtime_of(worker.manager.locker).store.estimate() else micros_of(due)

    def _ask(self) -> None:
        """
        Ask the workers for all tasks that they can pull now.
        """
        now, seen, found = self._clock.micros(), set[_Key](), []
        for place, worker in enumerate(self._workers):
            self._asked[place] = runtime_of(worker.manager.locker).store.estimate()
            for snapshot in worker.ripe(self._asked[place]):
                key = _key(worker, snapshot)
                if key not in seen and self._left.get(key, (0, 0))[0] <= now:
                    seen.add(key)
                    found.append((_due(snapshot), worker, snapshot))
        self._ripe.extend(sorted(found, key=lambda one: one[0]))

    def _happen(self) -> int:
        """
        Carry out the event that is due now, if any; return the number of deliveries made and tasks run.
        """
        push, now = self._tasks.next_due(), self._clock.micros()
        pull = micros_of(self._ripe[0][0]) if self._ripe else None
        if push is not None and push <= now and (pull is None or push <= pull):
            return self._tasks.run_next()
        if pull is None:
            return 0
        _, worker, snapshot = self._ripe.popleft()
        done = worker.run_here(snapshot)
        if done is None:
            self._leave(worker, snapshot)
        return int(done is True)

    def _leave(self, worker: Worker, snapshot: Snapshot) -> None:
        """
        Put off a task that can't be run: longer each time, but not beyond the time-out of its holder.
        """
        key, lock = _key(worker, snapshot), snapshot.lock
        assert lock is not None
        tries = self._left.get(key, (0, 0))[1]
        now = self._clock.micros()
        until = now + round(min(_LONGEST, LEFT_ALONE * 2 ** min(tries, 20)) * 1_000_000)
        if lock.status is Status.LEASED:
            timeout = timeout_at(lock, runtime_of(worker.manager.locker).config.log_grace)
            until = min(until, micros_of(timeout + timedelta(seconds=1))) if timeout >= datetime_of(now) else until
        self._left[key] = until, tries + 1


def _key(worker: Worker, snapshot: Snapshot) -> _Key:
    # The version is part of the key, so that a changed task is checked again at once.
    return runtime_of(worker.manager.locker).wire.database, snapshot.path, version_of(snapshot.version)


def _due(snapshot: Snapshot) -> datetime:
    assert snapshot.lock is not None
    assert snapshot.lock.due is not None
    return parse_instant(snapshot.lock.due.rsplit("/", 1)[-1])
