"""
Threads that wait for work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class Crew:
    """
    Up to *most* daemon threads, started when needed and kept.

    Unlike those of ``ThreadPoolExecutor`` they never hold up the end of the process: a handler that hangs may keep one
    busy for the whole dispatch deadline.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads = 0

    def submit(self, work: Callable[[], None]) -> None:
        """
        Have *work* done; it must not raise. One thread submits.
        """
        self._work.put(work)
        if not self._idle.acquire(blocking=False) and self._threads < self._most:
            self._threads += 1
            threading.Thread(target=self._run, name=f"{self._name}-{self._threads}", daemon=True).start()

    def dismiss(self) -> None:
        """
        Let the threads end after the submitted work.
        """
        for _ in range(self._threads):
            self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            self._idle.release()
