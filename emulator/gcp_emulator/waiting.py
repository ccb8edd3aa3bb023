"""
Waiting that needs no thread of its own.

A call that has to wait is a generator: it yields a ``Hold`` and is resumed when that is over. A direct caller waits in its
thread (``finished``), a port keeps the generator and goes on with other calls.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from gcp_emulator.clock import Clock


class WaitingRoom:
    """
    The lock of a server, and the calls that wait for a change of its state.

    Attributes:
        lock: Held by all that look at the state or change it.
    """

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self._turn = 0
        self._parked: dict[object, dict[Callable[[], None], None]] = {}

    def hold(self, until: int | None, keys: Collection[object]) -> Hold:
        """
        Return a wait for the end of one of *keys*, or for the time *until* (microseconds); the lock is held.
        """
        return Hold(until, self, frozenset(keys), self._turn)

    def ended(self, *keys: object) -> None:
        """
        Let the calls go on that wait for one of *keys*; the lock is held.
        """
        self._turn += 1
        for key in keys:
            for wake in tuple(self._parked.get(key, ())):
                wake()
        self.lock.notify_all()

    def park(self, hold: Hold, wake: Callable[[], None]) -> Callable[[], None] | None:
        """
        Have *wake* called when *hold* is over by a change; it may come from any thread.

        Returns:
            A function that ends that; None if a change has come already.
        """
        with self.lock:
            if self._turn != hold.turn:
                return None
            for key in hold.keys:
                self._parked.setdefault(key, {})[wake] = None

        def leave() -> None:
            with self.lock:
                for key in hold.keys:
                    parked = self._parked.get(key, {})
                    parked.pop(wake, None)
                    if not parked:
                        self._parked.pop(key, None)

        return leave

    def wait(self, hold: Hold, clock: Clock) -> None:
        """
        Wait for *hold* in this thread; may return early.
        """
        with self.lock:
            if self._turn == hold.turn:
                clock.wait(self.lock, hold.until)


@dataclass(frozen=True, slots=True)
class Hold:
    """
    One wait of a call.

    Attributes:
        until: Time at which the call goes on at the latest, microseconds; None: only a change ends the wait.
        room: Where the change is told; None: the call waits for the time alone.
        keys: Names of the things of which one must end.
        turn: State of the room when the wait began.
    """

    until: int | None
    room: WaitingRoom | None = None
    keys: frozenset[object] = field(default=frozenset())
    turn: int = 0


Steps: TypeAlias = Generator[Hold, None, Any]


def finished(steps: Steps, clock: Clock) -> Any:
    """
    Run *steps* to their end, waiting in this thread; returns their value.
    """
    while True:
        try:
            hold = next(steps)
        except StopIteration as end:
            return end.value
        if hold.room is not None:
            hold.room.wait(hold, clock)
            continue
        alone = threading.Condition()
        with alone:
            clock.wait(alone, hold.until)
