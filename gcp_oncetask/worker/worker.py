"""
The loop of a worker: heartbeat, fetch what is due in its shards, run it on threads, wait to be woken.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, Final

from google.cloud.firestore import Client

from gcp_oncetask import telemetry
from gcp_oncetask.clock import Mark, elapsed
from gcp_oncetask.delivery import Outcome
from gcp_oncetask.engine import LOGGER, Engine
from gcp_oncetask.errors import OncetaskError, UsageError
from gcp_oncetask.execution import Ended
from gcp_oncetask.store.queries import due_for_workers
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.tasks.manager import TaskManager
from gcp_oncetask.worker.listening import Listener
from gcp_oncetask.worker.membership import Membership

_BACKOFF: Final = 5.0
"""Seconds for which a task that could not be run here is left alone by this worker."""
_UNPRODUCTIVE: Final = frozenset(
    {Outcome.BUSY, Outcome.UNKNOWN, Outcome.UNAVAILABLE, Outcome.EARLY, Outcome.LOST, Outcome.SHORT_LEASE}
)

_NOT_RUN: Final = frozenset({Outcome.DUPLICATE, Outcome.GONE, Outcome.NEWER, Outcome.PARKED, Outcome.FOREIGN})


def _seconds(length: timedelta | float) -> float:
    return length.total_seconds() if isinstance(length, timedelta) else float(length)


class Worker:
    """
    Claims and runs the tasks of pull kinds (``pull=True``); the handlers are those of the manager.

    Any number of workers share the shards of each kind evenly; a dead one's move within ``session_ttl``, a stopped one's at
    once. One task runs once however many workers see it: each run is a claim.

    Args:
        manager: Whose handlers, environment and database.
        kinds: Models or names of the kinds to run; None: all pull kinds that have a handler.
        concurrency: Tasks running at once in this worker, or a mapping of kind to its own limit (their sum at once).
        poll_interval: Between two questions for work where no listener runs; seconds or a timedelta.
        session_ttl: After so long without a heartbeat its shards are given to others.
        max_tasks: Stop after so many tasks; None: never.
        client_factory: Makes the Firestore client of this worker, when it starts; None: the manager's.
        listen: Be woken by a listener; False polls.

    Raises:
        UsageError: There is nothing to run, or a number is none.
    """

    def __init__(
        self,
        manager: TaskManager,
        *,
        kinds: Sequence[Any] | None = None,
        concurrency: int | Mapping[str, int] = 8,
        poll_interval: timedelta | float = 10.0,
        session_ttl: timedelta | float = 60.0,
        max_tasks: int | None = None,
        client_factory: Callable[[], Client] | None = None,
        listen: bool = True,
    ) -> None:
        self.manager = manager
        self.kinds = manager.registry.pull_kinds(kinds)
        if not self.kinds:
            raise UsageError(
                "There is nothing to run: register a handler for a kind that is pulled "
                '(class Resize(TaskData, kind="resize", pull=True)).'
            )
        self._limits = _limits(self.kinds, concurrency)
        self._total = sum(self._limits.values()) if isinstance(concurrency, Mapping) else int(concurrency)
        self._poll = _seconds(poll_interval)
        self._ttl = _seconds(session_ttl)
        if self._poll <= 0 or self._ttl <= 0:
            raise UsageError("poll_interval and session_ttl must be more than 0.")
        self._max_tasks = max_tasks
        self._client_factory = client_factory
        self._listens = listen
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        self._stopped.set()
        self._guard = threading.Lock()
        self._running: dict[str, str] = {}
        self._later: dict[str, Mark] = {}
        self._membership: Membership | None = None
        self._listener: Listener | None = None
        self._polled: Mark | None = None
        self._more: int | None = None
        self._ended = 0
        self._turn = 0
        self.done = 0

    @property
    def engine(self) -> Engine:
        """
        Shared parts of the manager's locker.
        """
        return self.manager.locker.engine

    @property
    def shards(self) -> dict[str, tuple[int, ...]]:
        """
        The shards of each kind that are this worker's at present.
        """
        return {} if self._membership is None else dict(self._membership.shards)

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """
        Work until ``stop()``, a signal, or ``max_tasks``.

        In the main thread SIGTERM and SIGINT stop it: nothing more is taken, what runs is finished; a second signal hands
        back what runs at once.
        """
        self._start()
        previous = self._catch_signals()
        pool = ThreadPoolExecutor(self._total, thread_name_prefix="oncetask-worker")
        try:
            while not self._stopping.is_set():
                self._round(pool)
        finally:
            self._finish(pool)
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _start(self) -> None:
        if not self._stopped.is_set():
            raise UsageError("This worker is running already.")
        self._stopped.clear()
        self._stopping.clear()
        if self._client_factory is not None:
            self.engine.use_client(self._client_factory())
        self._membership = Membership(self.engine, self.kinds, self._ttl)
        LOGGER.info("worker %s runs %s", self._membership.id, ", ".join(self.kinds))

    def _round(self, pool: ThreadPoolExecutor) -> None:
        membership = self._membership
        assert membership is not None
        self._wake.clear()
        if membership.due_in() <= 0 and membership.beat():
            self._listen()
            self._polled = None
        took = 0
        if membership.alive() and self._should_look():
            took = self._fill(pool)
        if self._max_tasks is not None and self.done >= self._max_tasks:
            self._stopping.set()
        if not took and not self._stopping.is_set():
            self.engine.clock.wait(self._wake, self._patience())

    def _finish(self, pool: ThreadPoolExecutor) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        # Its shards go to others before it waits for its own last tasks, and its session stays alive by their leases.
        assert self._membership is not None
        self._membership.end()
        pool.shutdown(wait=True)
        self._stopped.set()

    def stop(self, timeout: timedelta | float | None = None) -> bool:
        """
        Take nothing more, and wait until what runs is finished.

        Args:
            timeout: After so long what still runs is handed back: its lease is released without burning an attempt, and
                it can write nothing more. None: wait for it.

        Returns:
            Whether everything was finished.
        """
        self._stopping.set()
        self._wake.set()
        if self.engine.clock.wait(self._stopped, 1e9 if timeout is None else _seconds(timeout)):
            return True
        self.hand_back()
        return False

    def hand_back(self) -> int:
        """
        Release the leases of what runs here, so that others can take it at once; returns how many.
        """
        return self.manager.hand_back(list(self._running))

    def _catch_signals(self) -> dict[int, Any]:
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._stopping.is_set():
            LOGGER.warning("a second signal: handing back what runs")
            self.hand_back()
            raise SystemExit(128 + number)
        LOGGER.info("signal %d: finishing what runs", number)
        self._stopping.set()
        self._wake.set()

    # --- looking ------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._listens and self._membership is not None:
            try:
                self._listener = Listener(self.engine, self._membership.shards, self._wake.set)
            except OncetaskError as error:
                LOGGER.warning("no listener: %s", error)

    def _should_look(self) -> bool:
        if self._polled is None or (self._more is not None and self._more != self._ended):
            return True
        if elapsed(self._polled, self.engine.clock.mark()) >= self._interval():
            return True
        due = self._listener.first_due() if self._listener is not None else None
        return due is not None and due <= self.engine.store.estimate()

    def _interval(self) -> float:
        healthy = self._listener is not None and self._listener.healthy
        if not healthy:
            return self._poll
        # What was left alone for a while is shown to nobody again.
        return _BACKOFF if self._later else float("inf")

    def _patience(self) -> float:
        assert self._membership is not None
        wait = self._membership.due_in()
        if len(self._running) >= self._total:
            # A task that ends sets the event.
            return wait
        if self._polled is not None:
            wait = min(wait, self._interval() - elapsed(self._polled, self.engine.clock.mark()))
        due = self._listener.first_due() if self._listener is not None else None
        if due is not None:
            wait = min(wait, (due - self.engine.store.estimate()).total_seconds())
        return max(0.0, wait)

    def _fill(self, pool: ThreadPoolExecutor) -> int:
        """
        Fetch what is due, and start it; returns how much was started.
        """
        took = 0
        self._turn += 1
        ended, full = self._ended, False
        shown = 0 if self._listener is None else self._listener.shown()
        for kind in (*self.kinds[self._turn % len(self.kinds) :], *self.kinds[: self._turn % len(self.kinds)]):
            free = self._free(kind)
            if free <= 0:
                full = True
                continue
            found = self._due(kind, free)
            full = full or len(found) >= free
            for snapshot in found:
                if self._begin(kind, snapshot):
                    took += 1
                    future = pool.submit(self._run_one, kind, snapshot)
                    future.add_done_callback(lambda _: self._wake.set())
        self._polled = self.engine.clock.mark()
        # Where there may be more than there was room for, look again when a task has ended.
        self._more = ended if full else None
        if self._listener is not None:
            self._listener.looked(self.engine.store.estimate(), shown)
        return took

    def _free(self, kind: str) -> int:
        with self._guard:
            running = Counter(self._running.values())
        free = min(self._limits[kind] - running[kind], self._total - sum(running.values()))
        return free if self._max_tasks is None else min(free, self._max_tasks - self.done - sum(running.values()))

    def _due(self, kind: str, limit: int) -> list[Snapshot]:
        assert self._membership is not None
        owned = self._membership.shards.get(kind, ())
        if not owned:
            return []
        turn = self._turn % len(owned)
        try:
            found = due_for_workers(
                self.engine.store,
                self.engine.config.env,
                kind,
                (*owned[turn:], *owned[:turn]),
                limit + len(self._later),
            )
        except OncetaskError as error:
            LOGGER.warning("looking for %s tasks failed: %s", kind, error)
            return []
        now = self.engine.clock.mark()
        self._later = {path: until for path, until in self._later.items() if elapsed(until, now) < _BACKOFF}
        return [snapshot for snapshot in found if snapshot.path not in self._later][:limit]

    # --- one task -----------------------------------------------------------------------------------------------------

    def _begin(self, kind: str, snapshot: Snapshot) -> bool:
        with self._guard:
            if snapshot.path in self._running:
                return False
            self._running[snapshot.path] = kind
            return True

    def _run_one(self, kind: str, snapshot: Snapshot) -> Ended | None:
        ended = None
        try:
            ended = self.manager.pull(snapshot)
        except OncetaskError as error:
            LOGGER.warning("%s could not be run: %s", snapshot.path, error)
        except Exception:  # noqa: BLE001 - one task's trouble must not end the worker
            LOGGER.exception("%s could not be run", snapshot.path)
        finally:
            with self._guard:
                self._running.pop(snapshot.path, None)
                self._ended += 1
                if ended is None or ended.outcome in _UNPRODUCTIVE:
                    self._later[snapshot.path] = self.engine.clock.mark()
                elif ended.outcome not in _NOT_RUN:
                    self.done += 1
        if ended is not None:
            telemetry.ended(ended.outcome, kind)
            self.engine.decided(f"delivery.{ended.outcome}", None, ended.reason, logging.DEBUG)
        return ended

    # --- without threads ----------------------------------------------------------------------------------------------

    def drain(self) -> int:
        """
        Run, on the calling thread, everything that is due in any shard, until nothing is; returns how much. For tests and
        for jobs that end when their work is done.
        """
        ran = 0
        shards = range(self.engine.config.pull_shards)
        while True:
            progressed = 0
            for kind in self.kinds:
                for snapshot in due_for_workers(self.engine.store, self.engine.config.env, kind, shards, self._total):
                    ended = self._run_one(kind, snapshot)
                    progressed += ended is not None and ended.outcome not in _UNPRODUCTIVE | _NOT_RUN
            if not progressed:
                return ran
            ran += progressed

    def next_due(self) -> datetime | None:
        """
        When the first task of its kinds is due, in whichever shard; None: there is none.
        """
        return self.manager.next_due(self.kinds)


def _limits(kinds: Sequence[str], concurrency: int | Mapping[str, int]) -> dict[str, int]:
    if isinstance(concurrency, Mapping):
        unknown = sorted(set(concurrency) - set(kinds))
        if unknown:
            raise UsageError(f"concurrency names {unknown[0]!r}, which this worker does not run.")
        limits = {kind: concurrency.get(kind, 1) for kind in kinds}
    else:
        limits = dict.fromkeys(kinds, concurrency)
    if min(limits.values()) < 1:
        raise UsageError("concurrency must be at least 1.")
    return limits
