"""
The only module that reads a clock, sleeps or draws random numbers.
"""

from __future__ import annotations

import os
import random
import threading
import time
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol, TypeAlias

from gcp_oncetask.checks import values

Duration: TypeAlias = values.Duration
"""A length of time: a timedelta, or a number of seconds."""

_BOOTTIME: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_NONCES: Final = random.Random()  # a generator of our own: an application may seed the common one
os.register_at_fork(after_in_child=_NONCES.seed)


class Mark(NamedTuple):
    """
    One instant on three clocks, in seconds, to measure elapsed time from.
    """

    monotonic: float
    boottime: float
    wall: float


class Wakeup:
    """
    An event that is waited for by a clock: as ``threading.Event``, with its condition in the open.

    Attributes:
        changed: Notified when the event is set; a virtual clock notifies it as well when it is moved.
    """

    def __init__(self) -> None:
        self.changed: Final = threading.Condition()
        self._set = False

    def is_set(self) -> bool:
        """
        Whether it is set.
        """
        return self._set

    def set(self) -> None:
        """
        Wake every thread that waits for it, and let none wait until it is cleared.
        """
        with self.changed:
            self._set = True
            self.changed.notify_all()

    def clear(self) -> None:
        """
        Let threads wait for it again.
        """
        self._set = False


class Clock(Protocol):
    """
    Time, waiting and chance, as one object that tests replace.
    """

    def now(self) -> datetime:
        """
        Wall time, aware UTC. Never used to decide about a lease.
        """

    def mark(self) -> Mark:
        """
        This instant.
        """

    def wait(self, wakeup: Wakeup, timeout: float) -> bool:
        """
        Wait until *wakeup* is set or *timeout* seconds have passed; returns whether it is set.
        """

    def random(self) -> float:
        """
        A number in [0, 1).
        """

    def nonce(self) -> str:
        """
        24 random hexadecimal digits: how a writer recognises its own write.
        """


def elapsed(start: Mark, end: Mark) -> float:
    """
    Seconds from *start* to *end*, by the clock that saw the most.

    A machine that was suspended, or whose wall clock stepped forward, must not believe it still holds a lease;
    a wall clock that stepped back must not stretch it.
    """
    return max(end.monotonic - start.monotonic, end.boottime - start.boottime, end.wall - start.wall)


def at_least(start: Mark, end: Mark) -> float:
    """
    Seconds that have surely passed from *start* to *end*: what a suspended machine counts, wall clock left out.
    """
    return max(end.monotonic - start.monotonic, end.boottime - start.boottime)


class SystemClock:
    """
    The machine's clocks and its random source.
    """

    def now(self) -> datetime:
        return datetime.now(UTC)

    def mark(self) -> Mark:
        return Mark(time.monotonic(), time.clock_gettime(_BOOTTIME), time.time())

    def wait(self, wakeup: Wakeup, timeout: float) -> bool:
        with wakeup.changed:
            return wakeup.changed.wait_for(wakeup.is_set, max(0.0, timeout))

    def random(self) -> float:
        return _NONCES.random()

    def nonce(self) -> str:
        return f"{_NONCES.getrandbits(96):024x}"


class Pause(Wakeup):
    """
    A wakeup that is never set: a wait for it only lets time pass.
    """


def pause(clock: Clock, seconds: float) -> None:
    """
    Wait *seconds* of *clock*, with nothing to wake it.
    """
    clock.wait(Pause(), seconds)
