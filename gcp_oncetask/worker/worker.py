"""
The loop of a worker: send heartbeats, fetch due tasks of its shards, run them on threads, wait to be woken.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any, Final

from gcp_oncetask.checks import values, words
from gcp_oncetask.clock import Duration, Mark, Wakeup, elapsed
from gcp_oncetask.effects import damage
from gcp_oncetask.entities.chains import executor_of
from gcp_oncetask.errors import OncetaskError, UsageError
from gcp_oncetask.execution.ended import Ended
from gcp_oncetask.observe.log_context import LOGGER
from gcp_oncetask.rules.document_paths import parse_task_path
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.runtime.requirements import STORE
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.client import Client
from gcp_oncetask.store.queries import due_for_workers
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.tasks.data import TaskData
from gcp_oncetask.tasks.handlers import pull
from gcp_oncetask.tasks.manager import TaskManager, registry_of
from gcp_oncetask.tasks.reads import first_due
from gcp_oncetask.worker.fetcher import Fetcher
from gcp_oncetask.worker.listening import ListenerSupervisor
from gcp_oncetask.worker.membership import Membership
from gcp_oncetask.worker.telling import shown

_UNPRODUCTIVE: Final = frozenset(
    {
        Outcome.BUSY,
        Outcome.UNKNOWN,
        Outcome.UNAVAILABLE,
        Outcome.REFUSED,
        Outcome.UNHANDLED,
        Outcome.DAMAGED,
        Outcome.EARLY,
        Outcome.LOST,
        Outcome.SHORT_LEASE,
    }
)

_NOT_RUN: Final = frozenset(
    {Outcome.DUPLICATE, Outcome.GONE, Outcome.NEWER, Outcome.PARKED, Outcome.FOREIGN, Outcome.SET_ASIDE}
)

_ALL: Final = 1_000_000
"""A limit higher than the number of tasks that a query finds."""

_Claim = tuple[str, int]


class Worker:
    """
    Claims and runs the tasks of pull kinds (``pull=True``); the handlers are those of the manager.

    Any number of workers share the shards of each kind evenly. The shards of a dead worker are given to others within
    ``session_ttl``, those of a stopped one at once. A task runs once, however many workers see it, because each run needs a
    claim.

    Args:
        manager: Gives the handlers, the environment and the database.
        kinds: Models or names of the kinds to run; None: all pull kinds that have a handler.
        concurrency: Most tasks running at once in this worker. If it runs several kinds, each kind leaves one place free
            for each of the others. Or a mapping of kind to its own limit; a missing kind has 1, and the sum of all is the
            most running at once. A handler that goes on after the end of its lease takes no place.
        poll_interval: Time between two queries while no listener runs; seconds or a timedelta.
        session_ttl: Time without a heartbeat after which the worker's shards are given to others; seconds or a timedelta.
        max_tasks: Stop after so many tasks; None: never.
        client_factory: Makes the Firestore client of this worker when it starts; None: the manager's client is used.
        listen: Whether a listener wakes the worker; False: only poll.

    Raises:
        UsageError: There is no kind to run, or a number is invalid.
    """

    def __init__(
        self,
        manager: TaskManager,
        *,
        kinds: Sequence[type[TaskData] | str] | None = None,
        concurrency: int | Mapping[str, int] = 8,
        poll_interval: Duration = 10.0,
        session_ttl: Duration = 60.0,
        max_tasks: int | None = None,
        client_factory: Callable[[], Client] | None = None,
        listen: bool = True,
    ) -> None:
        self.manager = manager
        self._executor, self._registry = executor_of(manager.locker), registry_of(manager)
        self.kinds = self._registry.pull_kinds(kinds)
        if not self.kinds:
            raise UsageError(
                "There is nothing to run: register a handler for a kind that is pulled "
                '(class Resize(TaskData, kind="resize", pull=True)).'
            )
        self._limits = _limits(self.kinds, concurrency)
        self._total = sum(self._limits.values()) if isinstance(concurrency, Mapping) else int(concurrency)
        self._poll = values.seconds(poll_interval, "poll_interval", above=0)
        self._ttl = values.seconds(session_ttl, "session_ttl", above=0)
        self._max_tasks = None if max_tasks is None else values.whole(max_tasks, "max_tasks")
        self._client_factory = client_factory
        self._listens = listen
        self._wake = Wakeup()
        self._stopping = threading.Event()
        self._stopped = Wakeup()
        self._stopped.set()
        self._guard = threading.Lock()
        self._signalled = False
        self._threads: dict[threading.Thread, None] = {}
        # Kind by path and token. The token is part of the key, because a task that hung until its lease ended may run again
        # here.
        self._running: dict[_Claim, str] = {}
        self._membership: Membership | None = None
        self._listening: ListenerSupervisor | None = None
        self._polled: Mark | None = None
        self._more: int | None = None
        self._ended = 0
        self._keys_freed = self._keys_seen = 0
        self._turn = 0
        self._looking = Fetcher(self._runtime, self._limits, self._alive)
        self.done = 0

    @property
    def _runtime(self) -> Runtime:
        return self._executor.runtime

    @property
    def shards(self) -> dict[str, tuple[int, ...]]:
        """
        The shards of each kind that this worker has at present.
        """
        return {} if self._membership is None else dict(self._membership.shards)

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """
        Work until ``stop()``, a signal, or ``max_tasks``; a worker that was stopped does not run again.

        The context variables of the caller reach the handlers. The worker logs its start, its stop and the tasks it waits
        for. In the main thread of a process where logging was not set up, the library's lines from INFO on go to standard
        error meanwhile.

        In the main thread SIGTERM and SIGINT stop it: no more tasks are taken, and running ones are finished. A second
        signal hands running tasks back at once, and raises SystemExit.

        Raises:
            ConfigError: No project is known.
            UsageError: The worker is running already.
        """
        if not self._stopped.is_set():
            raise UsageError("This worker is running already.")
        self._stopped.clear()
        previous = self._catch_signals()
        try:
            with shown():
                self._work_until_stopped()
        finally:
            self._stopped.set()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _work_until_stopped(self) -> None:
        try:
            self._start()
            while not self._stopping.is_set():
                self._round()
            self._finish()
        except Exception:
            self._finish()
            raise
        except BaseException:
            self._abandon()
            raise
        finally:
            LOGGER.info("%s has ended; tasks run: %d", self._name(), self.done)

    def _name(self) -> str:
        session = "" if self._membership is None else f" (session {self._membership.id})"
        return f"worker {self._runtime.instance()}{session}"

    def _start(self) -> None:
        if self._client_factory is not None:
            self._runtime.use_client(self._client_factory())
        self._runtime.require(STORE)
        self._membership = Membership(self._runtime, self.kinds, self._ttl)
        self._listening = ListenerSupervisor(self._runtime, self._wake.set) if self._listens else None
        limits = ", ".join(f"{kind} (up to {limit})" for kind, limit in self._limits.items())
        env = self._runtime.config.env
        LOGGER.info("%s starts: %d at once, environment %s, kinds: %s", self._name(), self._total, env, limits)

    def _round(self) -> None:
        membership = self._membership
        assert membership is not None
        self._wake.clear()
        departed = self._listening is not None and self._listening.departed()
        if departed or membership.due_in() <= 0:
            self._beat(membership)
        if self._listening is not None:
            self._listening.tend()
        took = self._look() if membership.alive() else 0
        if self._max_tasks is not None and self.done >= self._max_tasks:
            self._stopping.set()
        if not took and not self._stopping.is_set():
            self._runtime.clock.wait(self._wake, self._patience())

    def _beat(self, membership: Membership) -> None:
        failing = membership.failing
        changed = membership.beat()
        if changed:
            self._polled = None
            self._looking.forget()
            if self._listening is not None:
                self._listening.to(membership.watched)
        elif failing and not membership.failing and self._listening is not None:
            self._listening.distrust()

    def _finish(self) -> None:
        """
        Free the shards for other workers first, then wait for the running tasks, which are kept by their leases.
        """
        LOGGER.info("%s stops; it takes no more, and waits for running tasks: %d", self._name(), len(self._working()))
        self._leave()
        for thread in self._working():
            thread.join()

    def _abandon(self) -> None:
        self.hand_back()
        self._leave()

    def _leave(self) -> None:
        if self._listening is not None:
            self._listening.close()
        if self._membership is not None:
            self._membership.end()

    def _working(self) -> list[threading.Thread]:
        with self._guard:
            return list(self._threads)

    def stop(self, timeout: Duration | None = None) -> bool:
        """
        Take no more tasks, and wait until the running ones are finished.

        Args:
            timeout: Seconds, or a timedelta, after which running tasks are handed back: their leases are released without
                counting an attempt, and they can write nothing more. None: wait for them.

        Returns:
            True if all tasks were finished.

        Raises:
            UsageError: The timeout is no length of time; the worker goes on.
        """
        limit = values.LONGEST if timeout is None else values.seconds(timeout, "timeout")
        self._stopping.set()
        self._wake.set()
        if self._runtime.clock.wait(self._stopped, limit):
            return True
        self.hand_back()
        return False

    def hand_back(self) -> int:
        """
        Release the leases of the tasks running here, so that other workers can take them at once; return their number.
        """
        released = self._executor.hand_back({path for path, _ in list(self._running)})
        LOGGER.info("%s has handed back running tasks: %d", self._name(), released)
        return released

    def _catch_signals(self) -> dict[int, Any]:
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._signalled:
            raise SystemExit(128 + number)
        self._signalled = True
        # The signal may have interrupted this thread while it held the lock of an event, so another thread sets the events.
        threading.Thread(target=self._stop_taking, args=(number,), daemon=True).start()

    def _stop_taking(self, number: int) -> None:
        self._stopping.set()
        self._wake.set()
        LOGGER.info("%s got %s; another signal hands back what runs", self._name(), signal.Signals(number).name)

    # --- looking ------------------------------------------------------------------------------------------------------

    def _look(self) -> int:
        """
        Fetch due tasks and start them, if it is time to; return the number of started ones. Without an answer of Firestore,
        also to the question for its time, the worker soon looks again.
        """
        try:
            return self._fill() if self._should_look() else 0
        except OncetaskError as error:
            self._polled = self._runtime.clock.mark()
            self._looking.fail("due", error)
            return 0

    def _should_look(self) -> bool:
        if self._polled is None or (self._more is not None and self._more != self._places_freed()):
            return True
        if elapsed(self._polled, self._runtime.clock.mark()) >= self._interval():
            return True
        if self._keys_freed != self._keys_seen and not self._hears():
            return True
        due = self._first_due()
        return due is not None and due <= self._runtime.store.estimate()

    def _hears(self) -> bool:
        return self._listening is not None and self._listening.healthy

    def _first_due(self) -> datetime | None:
        listener = None if self._listening is None else self._listening.listener
        return None if listener is None else listener.first_due()

    def _interval(self) -> float:
        if not self._hears():
            return self._poll
        # The listener does not show again the tasks that were skipped, or for which the query failed.
        return self._looking.again_in

    def _patience(self) -> float:
        assert self._membership is not None
        wait = self._membership.due_in()
        if self._listening is not None:
            wait = min(wait, self._listening.due_in())
        if sum(self._busy().values()) >= self._total or not self._membership.alive():
            # The end of a task wakes this wait. Without a session no due task may be taken.
            return wait
        if self._polled is not None:
            wait = min(wait, self._interval() - elapsed(self._polled, self._runtime.clock.mark()))
        due, now = self._first_due(), self._runtime.wire.estimate()
        if due is not None and now is not None:
            wait = min(wait, (due - now).total_seconds())
        return max(0.0, wait)

    def _fill(self) -> int:
        """
        Fetch due tasks and start them; return the number of started ones.
        """
        took = 0
        self._turn += 1
        self._looking.begin()
        freed, full = self._places_freed(), False
        self._keys_seen = self._keys_freed
        listener = None if self._listening is None else self._listening.listener
        # These are read before the queries, because the queries may miss tasks that fall due meanwhile.
        shown, asked = 0 if listener is None else listener.shown(), self._runtime.store.estimate()
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
                    # Handlers see the context variables of the caller of run(); a variable set by a handler is seen by no
                    # other.
                    thread = threading.Thread(
                        target=copy_context().run,
                        args=(self._work, kind, snapshot),
                        name=f"oncetask-worker-{kind}",
                        daemon=True,
                    )
                    with self._guard:
                        self._threads[thread] = None
                    thread.start()
        self._polled = self._runtime.clock.mark()
        # If there may be more tasks than free places, query again when a place is free.
        self._more = freed if full else None
        if listener is not None:
            listener.looked(asked, shown)
        return took

    def _free(self, kind: str) -> int:
        running = self._busy()
        free = min(self._limits[kind] - running[kind], self._total - sum(running.values()))
        return free if self._max_tasks is None else min(free, self._max_tasks - self.done - sum(running.values()))

    def _busy(self) -> Counter[str]:
        """
        Return the number of taken places by kind. A handler that goes on after its lease takes none, because it must not
        block the shards of this worker for ever.
        """
        with self._guard:
            running = dict(self._running)
        for claimed in self._over(running):
            del running[claimed]
        return Counter(running.values())

    def _places_freed(self) -> int:
        with self._guard:
            return self._ended + len(self._over(self._running))

    def _over(self, running: Mapping[_Claim, str]) -> list[_Claim]:
        """
        Return those of *running* whose leases are over; their handlers may go on.
        """
        left = Counter(one.context.document for one in list(self._executor.attempts) if one.held_for() <= 0)
        over = []
        # Of two attempts of one document, the earlier one has lost its lease.
        for claimed in sorted(running):
            if left[claimed[0]] > 0:
                left[claimed[0]] -= 1
                over.append(claimed)
        return over

    def _alive(self) -> bool:
        return self._membership is not None and self._membership.alive()

    def _due(self, kind: str, limit: int) -> list[Snapshot]:
        assert self._membership is not None
        shards, watched = self._membership.shards.get(kind, ()), self._membership.watched.get(kind, ())
        # The session may have died during the queries for the kinds before this one.
        if not watched or not self._membership.alive():
            return []
        others = tuple(sorted({*watched}.difference(shards)))
        # With max_tasks, do not read ahead.
        return self._looking.due(kind, shards, limit, others=others, most=None if self._max_tasks is None else 0)

    # --- one task -----------------------------------------------------------------------------------------------------

    def _begin(self, kind: str, snapshot: Snapshot) -> bool:
        with self._guard:
            if _claim(snapshot) in self._running:
                return False
            self._running[_claim(snapshot)] = kind
            return True

    def _work(self, kind: str, snapshot: Snapshot) -> None:
        try:
            self._run_one(kind, snapshot)
        except (SystemExit, KeyboardInterrupt) as error:
            about = self._runtime.about(snapshot)
            about.log(logging.WARNING, "the handler asked the process to end (%s); a worker goes on", repr(error))
        finally:
            with self._guard:
                self._threads.pop(threading.current_thread(), None)
            self._wake.set()

    def _run_one(self, kind: str, snapshot: Snapshot) -> Ended | None:
        ended = None
        try:
            ended = pull(self._executor, self._registry, snapshot)
        except OncetaskError as error:
            about = self._runtime.about(snapshot)
            about.log(logging.WARNING, "it could not be run: %s", error)
        except Exception:  # noqa: BLE001 - an error of one task must not end the worker
            self._runtime.about(snapshot).log(logging.ERROR, "it could not be run", exc_info=True)
        finally:
            with self._guard:
                self._running.pop(_claim(snapshot), None)
                self._ended += 1
                # Its key may have been handed on to another task, which only a listener would show.
                self._keys_freed += snapshot.lock is not None and snapshot.lock.key is not None
                if ended is None or ended.outcome in _UNPRODUCTIVE:
                    unhandled = ended is not None and ended.outcome is Outcome.UNHANDLED
                    self._looking.leave(snapshot.path, longer=unhandled)
                elif ended.outcome not in _NOT_RUN:
                    self.done += 1
        if ended is not None:
            named = ended.about or partial(self._runtime.about, snapshot)
            self._runtime.events.delivered(ended.outcome, named, ended.reason, to=kind, level=logging.DEBUG)
        return ended

    # --- without threads ----------------------------------------------------------------------------------------------

    def drain(self) -> int:
        """
        Run, on the calling thread, all due tasks in any shard, until none is due; return their number. For tests, and for
        jobs that end when their work is done.
        """
        ran = 0
        shards = range(self._runtime.config.pull_shards)
        left: set[str] = set()
        aside = partial(damage.set_aside, self._runtime)
        while True:
            progressed, known = 0, len(left)
            for kind in self.kinds:
                limit = self._total + len(left)
                env = self._runtime.config.env
                for snapshot in due_for_workers(self._runtime.store, env, kind, shards, limit, aside):
                    if snapshot.path in left:
                        continue
                    ended = self._run_one(kind, snapshot)
                    if ended is not None and ended.outcome is Outcome.UNHANDLED:
                        # It must not stop the other tasks.
                        left.add(snapshot.path)
                    progressed += ended is not None and ended.outcome not in _UNPRODUCTIVE | _NOT_RUN
            if not progressed and len(left) == known:
                return ran
            ran += progressed

    def ripe(self, now: datetime) -> list[Snapshot]:
        """
        Return all tasks of the worker's kinds that are due by *now*, in any shard and any order. For custom schedulers.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        store, config = self._runtime.store, self._runtime.config
        shards, aside = range(config.pull_shards), partial(damage.set_aside, self._runtime)
        asked = (due_for_workers(store, config.env, kind, shards, _ALL, aside, by=now) for kind in self.kinds)
        return list(chain.from_iterable(asked))

    def run_here(self, snapshot: Snapshot) -> bool | None:
        """
        Run a task that was found to be due, on the calling thread; return True if it was run, None if it can't be run yet.
        """
        name = parse_task_path(snapshot.path)
        assert name is not None
        ended = self._run_one(name.kind, snapshot)
        if ended is None or ended.outcome in _UNPRODUCTIVE:
            return None
        return ended.outcome not in _NOT_RUN

    def next_due(self, *, after: datetime | None = None) -> datetime | None:
        """
        Return the time at which the first task of the worker's kinds is due, *after* an instant, in any shard; None if
        there is none.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        return first_due(self._runtime, self.kinds, after)


def _claim(snapshot: Snapshot) -> _Claim:
    return snapshot.path, 0 if snapshot.lock is None else snapshot.lock.token


def _limits(kinds: Sequence[str], concurrency: int | Mapping[str, int]) -> dict[str, int]:
    if isinstance(concurrency, Mapping):
        unknown = sorted(set(concurrency) - set(kinds))
        if unknown:
            raise UsageError(
                f"concurrency names {unknown[0]!r}, which this worker does not run.{words.hint(unknown[0], kinds)}"
            )
        limits = {kind: concurrency.get(kind, 1) for kind in kinds}
    else:
        # A slow kind leaves a place for each of the others.
        limits = dict.fromkeys(kinds, concurrency if concurrency < 1 else max(1, concurrency - len(kinds) + 1))
    if min(limits.values()) < 1:
        raise UsageError("concurrency must be at least 1.")
    return limits
