"""
The renewal of leases while their handlers run; one thread per process watches all leases.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from gcp_oncetask import forks
from gcp_oncetask.clock import Clock, Mark, Wakeup, elapsed
from gcp_oncetask.errors import LeaseLostError, OncetaskError
from gcp_oncetask.observe.log_context import LogContext

_THREADS = 8
_SHARE = 3.0
"""Renewals per length of a lease: a lease is renewed after a third of it, so that two renewals may fail."""


class Renewable(Protocol):
    """
    A lease that can be renewed: of an attempt, or of a named lock.
    """

    @property
    def context(self) -> LogContext:
        """
        The holder of the lease, as log lines name it.
        """

    def renew_if_idle(self) -> bool:
        """
        Renew the lease unless a commit is under way; return False if one is.
        """


class Renewals:
    """
    Renews the leases of the attempts that are running in this process, and of the locks that are kept alive.

    A thread watches them. It starts with the first lease, and again in a forked child. It ends when it looks and finds
    no lease. It looks when the next renewal is due, when this object is closed, and when this object is no longer used.

    Args:
        clock: Tells when a renewal is due.
        spawn: Starts a function that runs beside the caller; None: threads run it.
    """

    def __init__(self, clock: Clock, spawn: Callable[..., Any] | None = None) -> None:
        self._clock = clock
        self._spawn = spawn
        self._start()

    def _start(self) -> None:
        self._forks = forks.generation
        self._watch = _Watch(self._clock, self._spawn)
        # The thread refers to the watch only, so it does not keep this object, and with it a whole locker, alive.
        self._unused = weakref.finalize(self, self._watch.wake)
        self._unused.atexit = False

    def add(self, attempt: Renewable, lease: float, since: Mark) -> None:
        """
        Renew *attempt*, whose lease of *lease* seconds was granted or renewed at *since*, until it is removed.
        """
        if self._forks != forks.generation:
            # The parent's watch may be locked by a thread that the child does not have.
            self._unused.detach()
            self._start()
        self._watch.add(attempt, lease / _SHARE, since)

    def remove(self, attempt: Renewable) -> None:
        """
        Stop renewing *attempt*.
        """
        self._watch.remove(attempt)

    def stop(self) -> None:
        """
        Start no renewal from now on.
        """
        self._watch.stop()

    def close(self) -> None:
        """
        Stop, and wait until the threads have ended.
        """
        self._unused.detach()
        self._watch.close()


class _Watch:
    """
    The leases that are watched, and the threads that renew them.
    """

    def __init__(self, clock: Clock, spawn: Callable[..., Any] | None) -> None:
        self._clock = clock
        self._spawn = spawn
        self._guard = threading.Lock()
        self._looks = Wakeup()
        self._next: dict[Renewable, tuple[Mark, float]] = {}
        self._thread: threading.Thread | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._patience: float | None = None
        self._stopped = False

    def add(self, attempt: Renewable, every: float, since: Mark) -> None:
        with self._guard:
            if self._stopped:
                return
            self._next[attempt] = (since, every)
            if self._patience is None:
                self._patience = every
                self._begin(every)
            elif every < self._patience:
                # The thread looks at least this often, so it need not be woken for each attempt.
                self._patience = every
                self.wake()

    def _begin(self, wait: float) -> None:
        if self._spawn is not None:
            self._spawn(self._run, wait)
            return
        self._thread = threading.Thread(target=self._run, args=(wait,), name="oncetask-renewals", daemon=True)
        self._thread.start()

    def remove(self, attempt: Renewable) -> None:
        with self._guard:
            self._next.pop(attempt, None)

    def wake(self) -> None:
        """
        Make the thread look now. This takes no guard, because the garbage collector may call it in any thread, also in
        one that holds the guard.
        """
        self._looks.set()

    def stop(self) -> None:
        self._stopped = True
        self.wake()

    def close(self) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join()
        if self._pool is not None:
            self._pool.shutdown()

    def _run(self, wait: float | None) -> None:
        # The thread waits before it looks. Most attempts end during the first wait, and a thread for each of them would
        # cost more than they do.
        while wait is not None:
            self._clock.wait(self._looks, wait)
            self._looks.clear()
            wait = self._due()

    def _due(self) -> float | None:
        """
        Start the renewals that are due; return the seconds until the next look, or None if there is no lease to watch.
        """
        now = self._clock.mark()
        ripe = []
        with self._guard:
            if self._stopped or not self._next:
                self._patience = None
                return None
            wait = self._patience or 0.0
            for attempt, (mark, every) in list(self._next.items()):
                left = every - elapsed(mark, now)
                if left <= 0:
                    ripe.append(attempt)
                    self._next[attempt] = (now, every)
                    left = every
                wait = min(wait, left)
            if ripe and self._pool is None and self._spawn is None:
                self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="oncetask-renewal")
            start = self._spawn if self._pool is None else self._pool.submit
        for attempt in ripe:
            assert start is not None
            start(self._renew, attempt)
        return wait

    def _renew(self, attempt: Renewable) -> None:
        try:
            attempt.renew_if_idle()
        except LeaseLostError as error:
            # There is no lease left to renew; the attempt itself learns of it at its next write.
            attempt.context.log(logging.WARNING, "its renewals ended: %s", error)
            self.remove(attempt)
        except OncetaskError as error:
            # The lease is renewed until the run limit at the latest.
            attempt.context.log(logging.WARNING, "a renewal failed: %s", error)
        except Exception:  # noqa: BLE001 - one attempt's trouble must not end the renewals of others
            attempt.context.log(logging.ERROR, "a renewal failed", exc_info=True)
