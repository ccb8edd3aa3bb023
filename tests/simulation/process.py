"""
App processes of one world, and the clocks of the machines on which they run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from gcp_emulator.clock import datetime_of
from gcp_oncetask.clock import Mark, Wakeup
from tests.simulation.hub import SECOND, Hub, Owner, Promise, Signal

ENV = "DEFAULT"
"""The environment that a history plays."""
MONOTONIC, BOOTTIME, WALL = "monotonic", "boottime", "wall"


class MachineClocks:
    """
    The clocks of one machine: each is right but for its error, in micros.

    Attributes:
        drift: Share by which all of them run too fast; negative: too slow.
        standing: Clocks that stand at this moment.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._born = hub.now
        self._since = hub.now
        self._errors = dict.fromkeys((MONOTONIC, BOOTTIME, WALL), 0.0)
        self.drift = 0.0
        self.standing: tuple[str, ...] = ()

    def error(self, clock: str) -> float:
        """
        How far *clock* is ahead of the world's time.
        """
        passed = self._hub.now - self._since
        return self._errors[clock] + passed * (-1.0 if clock in self.standing else self.drift)

    def set(self, *, drift: float, standing: Collection[str]) -> None:
        """
        From now on the clocks drift so, and some of them stand.
        """
        self._errors = {clock: self.error(clock) for clock in self._errors}
        self._since, self.drift, self.standing = self._hub.now, drift, tuple(standing)

    def correct(self) -> bool:
        """
        None stands from now on, and the time of day is not behind at this moment; return whether it was, by more than a second.
        One that is ahead by its drift is not set back at once: where the other clocks have stood meanwhile, a process could
        not know it.
        """
        self.set(drift=self.drift, standing=())
        behind = -self._errors[WALL]
        self._errors[WALL] = max(0.0, -behind)
        return behind > SECOND

    def monotonic(self) -> float:
        """
        Seconds by the clock by which the process waits.
        """
        return (self._hub.now - self._born + self.error(MONOTONIC)) / SECOND

    def boottime(self) -> float:
        """
        Seconds since the machine has started.
        """
        return (self._hub.now - self._born + self.error(BOOTTIME)) / SECOND

    def now(self) -> datetime:
        """
        Time of day.
        """
        return datetime_of(self._hub.now + round(self.error(WALL)))

    @property
    def dated_wrongly(self) -> bool:
        """
        Whether the time of day is so wrong that log lines carry times of long ago, or of times to come.
        """
        return abs(self.error(WALL)) > 30 * SECOND


@dataclass(eq=False)
class Process(Owner):
    """
    One app process.

    Attributes:
        clocks: Those of its machine.
        skew: How far its wall clock was set wrong by somebody.
        cut_off: Until then (micros) its network is down.
        hurt_until: Until then it may be frozen, cut off, starved, or unable to read.
        starved_until: Until then its renewal threads do not run.
        unread: How often it has failed to read a document since it last wrote it.
        failed_at: When it was told last that a call has failed, other than by a plain answer of the server.
        refused_commits: Of each document how many of its commits were refused since one was applied.
        released: Whether it is of the release before.
        env: Its environment.
        deployment: Which one of two deployments it is of; empty: there is one.
        unheard: Nonces that were granted a lease by a commit whose answer never came.
        locker: Its locker.
        app: Its Flask app; None before the first delivery.
        requests: Those it has not answered.
    """

    clocks: MachineClocks = field(kw_only=True)
    skew: timedelta = timedelta(0)
    cut_off: int = 0
    hurt_until: int = 0
    starved_until: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    unheard: set[str] = field(default_factory=set)
    failed_at: int = 0
    refused_commits: Counter[str] = field(default_factory=Counter)
    released: bool = False
    env: str = ENV
    deployment: str = ""
    locker: Any = None
    app: Any = None
    requests: list[Promise] = field(default_factory=list)

    @property
    def dated_wrongly(self) -> bool:
        """
        Whether its log lines carry times at which recovery does not look for them.
        """
        return bool(self.skew) or self.clocks.dated_wrongly

    def corrects_its_clocks(self, now: int) -> None:
        """
        Its time of day is right from *now* on. For the process, time jumps if it was behind.
        """
        self.skew = timedelta(0)
        if self.clocks.correct():
            self.hurt_until = max(self.hurt_until, now)


class ProcessClock:
    """
    The library's clock in one process: the clocks of its machine, and a wall clock that may be set wrong.
    """

    def __init__(self, hub: Hub, process: Process) -> None:
        self._hub = hub
        self._process = process

    def now(self) -> datetime:
        return self._process.clocks.now() + self._process.skew

    def mark(self) -> Mark:
        clocks, skew = self._process.clocks, self._process.skew.total_seconds()
        return Mark(clocks.monotonic(), clocks.boottime(), (self._hub.now + clocks.error(WALL)) / SECOND + skew)

    def wait(self, event: Wakeup | Signal, timeout: float) -> bool:
        clocks = self._process.clocks
        end = clocks.monotonic() + timeout
        left = timeout
        while not event.is_set():
            # Rounded up: a process that waits for less than a microsecond would look again at the same instant, for ever.
            wait = left / (1 + clocks.drift) + 1 / SECOND if left > 0 else 0.0
            if isinstance(event, Signal):
                event.wait(wait)
            else:
                self._hub.sleep(wait)
            # A machine that was suspended meanwhile waits for the rest.
            left = end - clocks.monotonic()
            if left <= 0 or self._hub.task is None:
                break
        return event.is_set()

    def random(self) -> float:
        return self._hub.rng.random()

    def nonce(self) -> str:
        return f"{self._hub.rng.getrandbits(96):024x}"
