"""
The only place of this distribution that reads a clock, waits, or draws random numbers.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """
    Wall time in whole microseconds since the epoch, and waiting on it.
    """

    def micros(self) -> int:
        """
        Microseconds since 1970-01-01 UTC.
        """

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """
        Wait on a held *condition* until it is notified or *timeout* seconds of this clock have passed.

        May return early; callers loop on their own predicate.
        """


class SystemClock:
    """
    The machine's clock.
    """

    def micros(self) -> int:
        return time.time_ns() // 1000

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        condition.wait(timeout)


class VirtualClock:
    """
    A clock that moves only when told to.

    Waiters wake when the clock is advanced past their time-out or when their condition is notified.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._micros = (start - EPOCH) // timedelta(microseconds=1)
        self._lock = threading.Lock()
        self._waiting: set[threading.Condition] = set()

    def micros(self) -> int:
        return self._micros

    def advance(self, seconds: float) -> None:
        """
        Move time forward and wake every waiter, so that each looks at its own time-out again.
        """
        if seconds < 0:
            raise ValueError("a clock is only advanced forward")
        with self._lock:
            self._micros += round(seconds * 1_000_000)
            waiting = list(self._waiting)
        for condition in waiting:
            with condition:
                condition.notify_all()

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        if timeout is not None and timeout <= 0:
            return
        with self._lock:
            self._waiting.add(condition)
        try:
            # Bounded: an advance between the caller's look at the time and this line has nobody to wake.
            condition.wait(0.05)
        finally:
            with self._lock:
                self._waiting.discard(condition)


class LoneClock(VirtualClock):
    """
    A virtual clock of one thread: nobody else could move it while that thread waits, so waiting moves it.
    """

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        if timeout is None:
            raise RuntimeError("This would wait for ever: nothing else runs on this clock.")
        self._micros += max(0, round(timeout * 1_000_000))


def datetime_of(micros: int) -> datetime:
    """
    Aware UTC instant of *micros* since the epoch.
    """
    return EPOCH + timedelta(microseconds=micros)


def micros_of(instant: datetime) -> int:
    """
    Microseconds since the epoch of an aware *instant*.
    """
    return (instant - EPOCH) // timedelta(microseconds=1)


def rng(seed: int) -> random.Random:
    """
    A generator that repeats itself for the same *seed*.
    """
    return random.Random(seed)


def new_id() -> str:
    """
    32 random hexadecimal digits.
    """
    return uuid.uuid4().hex
