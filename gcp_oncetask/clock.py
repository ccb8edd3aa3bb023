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

DRIFT: Final = 500e-6
"""
Share by which the clocks of a machine may run too fast or too slow: the most by which Linux corrects a clock for good.
"""
_BOOTTIME: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_NONCES: Final = random.Random()  # not the common generator, which an application may seed
os.register_at_fork(after_in_child=_NONCES.seed)


class Mark(NamedTuple):
    """
    One instant on three clocks, in seconds. Elapsed time is measured between two marks.

    Attributes:
        monotonic: Time that stands while the machine is suspended.
        boottime: Time that goes on while the machine is suspended, where the system has such a clock.
        wall: Time of day, which may step.
        drift: Share by which these clocks may run too fast or too slow.
    """

    monotonic: float
    boottime: float
    wall: float
    drift: float = DRIFT


class Wakeup:
    """
    An event for ``Clock.wait``: like ``threading.Event``, but with a public condition.

    Attributes:
        changed: Condition that is notified when the event is set. A virtual clock also notifies it when the clock is moved.
    """

    def __init__(self) -> None:
        self.changed: Final = threading.Condition()
        self._set = False

    def is_set(self) -> bool:
        """
        Tell whether the event is set.
        """
        return self._set

    def set(self) -> None:
        """
        Set the event: wake every thread that waits for it, and let no thread wait until it is cleared.
        """
        with self.changed:
            self._set = True
            self.changed.notify_all()

    def clear(self) -> None:
        """
        Clear the event, so that threads wait for it again.
        """
        self._set = False


class Clock(Protocol):
    """
    Time, waiting and chance, as one object that tests replace.
    """

    def now(self) -> datetime:
        """
        Return the wall time, aware UTC. No decision about a lease uses it.
        """

    def mark(self) -> Mark:
        """
        Return the present instant.
        """

    def wait(self, wakeup: Wakeup, timeout: float) -> bool:
        """
        Wait until *wakeup* is set or *timeout* seconds have passed; return True if it is set.
        """

    def random(self) -> float:
        """
        Return a random number in [0, 1).
        """

    def nonce(self) -> str:
        """
        Return 24 random hexadecimal digits, by which a writer recognises its own write.
        """


def elapsed(start: Mark, end: Mark) -> float:
    """
    Return the most seconds that can have passed from *start* to *end*, by the clock on which most time has passed.

    A machine that was suspended, whose wall clock stepped forward, or whose clocks run too slow, must not believe that it
    still holds a lease. A wall clock that stepped back must not lengthen the lease.
    """
    most = max(end.monotonic - start.monotonic, end.boottime - start.boottime, end.wall - start.wall)
    return most / (1 - end.drift)


def at_least(start: Mark, end: Mark) -> float:
    """
    Return the seconds that have surely passed from *start* to *end*, even if the clocks run too fast. Suspended time is
    included. The wall clock is not used.
    """
    return max(end.monotonic - start.monotonic, end.boottime - start.boottime) / (1 + end.drift)


class SystemClock:
    """
    The machine's clocks and its random source.
    """

    def now(self) -> datetime:
        return datetime.now(UTC)

    def mark(self) -> Mark:
        # A dozen times per task: tuple.__new__ saves the call of the Python function that NamedTuple makes.
        return tuple.__new__(Mark, (time.monotonic(), time.clock_gettime(_BOOTTIME), time.time(), DRIFT))

    def wait(self, wakeup: Wakeup, timeout: float) -> bool:
        with wakeup.changed:
            return wakeup.changed.wait_for(wakeup.is_set, max(0.0, timeout))

    def random(self) -> float:
        return _NONCES.random()

    def nonce(self) -> str:
        return f"{_NONCES.getrandbits(96):024x}"


class Pause(Wakeup):
    """
    A wakeup that is never set; waiting for it lets time pass.
    """


def pause(clock: Clock, seconds: float) -> None:
    """
    Wait *seconds* by *clock*; nothing ends the wait early.
    """
    clock.wait(Pause(), seconds)
