"""
The only place of this distribution that reads a clock, waits, or draws random numbers.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
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

    def wait(self, condition: threading.Condition, until: int | None) -> None:
        """
        Wait on a held *condition* until it is notified or this clock shows *until*, in microseconds (None: only notified).

        May return early; callers loop on their own predicate.
        """


class SystemClock:
    """
    The machine's clock.
    """

    def micros(self) -> int:
        return time.time_ns() // 1000

    def wait(self, condition: threading.Condition, until: int | None) -> None:
        condition.wait(None if until is None else max(0, until - self.micros()) / 1_000_000)


class VirtualClock:
    """
    A clock that moves only when told to.

    Waiters sleep until the clock is advanced or their condition is notified; nothing looks at the time in between.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._micros = (start - EPOCH) // timedelta(microseconds=1)
        self._lock = threading.Lock()
        self._waiting: Counter[threading.Condition] = Counter()
        self._alarms: dict[object, tuple[int, Callable[[], None]]] = {}

    def micros(self) -> int:
        return self._micros

    def advance(self, seconds: float) -> None:
        """
        Move time forward and wake every waiter, so that each looks at the time again.
        """
        if seconds < 0:
            raise ValueError("a clock is only advanced forward")
        self._move(lambda now: now + round(seconds * 1_000_000))

    def _move(self, to: Callable[[int], int]) -> None:
        with self._lock:
            self._micros = to(self._micros)
            waiting = list(self._waiting)
            due = [key for key, (until, _) in self._alarms.items() if until <= self._micros]
            calls = [self._alarms.pop(key)[1] for key in due]
        for condition in waiting:
            with condition:
                condition.notify_all()
        for call in calls:
            call()

    def alarm(self, until: int, call: Callable[[], None]) -> Callable[[], None]:
        """
        Have *call* run, once, as soon as this clock shows *until*; returns a function that ends that.
        """
        key = object()
        with self._lock:
            late = self._micros >= until
            if not late:
                self._alarms[key] = (until, call)
        if late:
            call()
        return lambda: self._forget(key)

    def _forget(self, key: object) -> None:
        with self._lock:
            self._alarms.pop(key, None)

    def wait(self, condition: threading.Condition, until: int | None) -> None:
        if until is None:
            condition.wait()
        else:
            self.sleep(condition, until)

    def sleep(self, condition: threading.Condition, until: int) -> None:
        """
        Wait on a held *condition* until it is notified or another thread has moved this clock to *until*, in microseconds.
        """
        with self._lock:
            if self._micros >= until:
                return
            self._waiting[condition] += 1
        try:
            # The caller holds the condition until it sleeps, so an advance from here on can't notify too early.
            condition.wait()
        finally:
            with self._lock:
                self._waiting[condition] -= 1
                if not self._waiting[condition]:
                    del self._waiting[condition]


class LoneClock(VirtualClock):
    """
    A virtual clock of one thread: no other thread would move it while that one waits, so ``wait`` moves it.
    """

    def wait(self, condition: threading.Condition, until: int | None) -> None:
        if until is None:
            raise RuntimeError("This would wait for ever: nothing else runs on this clock.")
        self.move_to(until)

    def move_to(self, until: int) -> None:
        """
        Move time forward to *until*, microseconds; a later time stays.
        """
        self._move(lambda now: max(now, until))


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
