"""
Cooperative tasks on a virtual clock: one runs at a time, until it waits; who runs next follows from the seed alone.
"""

from __future__ import annotations

import heapq
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from greenlet import GreenletExit, getcurrent, greenlet

from gcp_emulator.clock import datetime_of, micros_of

SECOND = 1_000_000


@dataclass(eq=False)
class Owner:
    """
    What tasks belong to: a process, or the world outside of them.

    Attributes:
        name: For the story.
        dead: Its tasks never run again.
        frozen: None of its tasks runs; those that would are *parked*.
        parked: See there.
    """

    name: str
    dead: bool = False
    frozen: bool = False
    parked: list[Task] = field(default_factory=list)


@dataclass(eq=False)
class Task:
    """
    One line of execution.

    Attributes:
        ticket: Goes up whenever it runs: of several appointments to wake it the first counts.
        thread: What the library takes it for, if it has started it as one.
    """

    owner: Owner
    greenlet: greenlet
    ticket: int = 0
    thread: Thread | None = None


MOST_AT_ONCE = 100_000
"""Tasks that may run at one instant; more of them mean that something waits for no time at all, for ever."""


@dataclass(eq=False)
class Hub:
    """
    The scheduler.

    Attributes:
        seed: Decides every draw.
        now: Virtual time, micros since the epoch.
        before: Told of the owner of each task that is about to run.
    """

    seed: int
    start: datetime
    rng: random.Random = field(init=False)
    now: int = field(init=False)
    steps: int = 0
    before: Callable[[Owner], None] | None = None
    task: Task | None = None
    _heap: list[tuple[int, float, int, Task, int]] = field(default_factory=list)
    _order: int = 0
    _standing: int = 0
    _tasks: list[Task] = field(default_factory=list)
    _looks: list[tuple[int, int, Callable[[], None]]] = field(default_factory=list)
    _closed: bool = False
    _main: Any = None

    def __post_init__(self) -> None:
        self._main = getcurrent()
        self.rng = random.Random(self.seed)
        self.now = micros_of(self.start)

    def micros(self) -> int:
        """
        The clock of the servers.
        """
        return self.now

    def wait(self, condition: threading.Condition, until: int | None) -> None:
        """
        The servers' clock is never waited on here: nothing of theirs runs by itself.
        """
        raise AssertionError("a server waits")

    def time(self) -> datetime:
        return datetime_of(self.now)

    def spawn(self, owner: Owner, run: Callable[..., Any], *arguments: Any, after: float = 0.0) -> Task:
        """
        Start *run* beside what runs now.
        """
        # Whoever ends hands over to the scheduler, not to whoever started it.
        task = Task(owner, greenlet(lambda: run(*arguments), parent=self._main))
        self._tasks.append(task)
        self._push(task, after)
        return task

    def sleep(self, seconds: float) -> None:
        """
        Let others run for *seconds* of virtual time.
        """
        task = self.task
        if self._closed:
            raise GreenletExit
        if task is None:
            # Outside of the simulation (setting up, looking at the end) time stands still.
            return
        self._push(task, seconds)
        self._main.switch()

    def run(self, until: Callable[[], bool]) -> None:
        """
        Run tasks until *until* holds between two of them, or none is left.
        """
        assert getcurrent() is self._main
        while self._heap and not until():
            if self._looks and self._looks[0][0] <= self._heap[0][0]:
                at, _, look = heapq.heappop(self._looks)
                self.now = max(self.now, at)
                look()
                continue
            at, _, _, task, ticket = heapq.heappop(self._heap)
            if ticket != task.ticket:
                continue
            self._standing = 0 if at > self.now else self._standing + 1
            self.now = max(self.now, at)
            owner = task.owner
            if self._standing > MOST_AT_ONCE:
                raise AssertionError(f"{owner.name} goes round in circles, and time stands still")
            if owner.dead:
                # Never resumed: ending it would run its clean-up, which a killed process does not.
                continue
            if owner.frozen:
                owner.parked.append(task)
                continue
            self.steps += 1
            if self.before is not None:
                self.before(owner)
            task.ticket += 1
            self.task = task
            try:
                task.greenlet.switch()
            finally:
                self.task = None

    def close(self) -> None:
        """
        End what still waits, once nobody looks any more; what is suspended is never collected as garbage.
        """
        self._closed = True
        for task in self._tasks:
            # Its clean-up may stumble over a world that has ended.
            with suppress(Exception):
                task.greenlet.throw()
        self._tasks.clear()
        self._heap.clear()
        self._looks.clear()

    def look_at(self, at: int, look: Callable[[], None]) -> None:
        """
        Call *look* at that time, between two tasks; it sees the world and changes nothing.
        """
        self._order += 1
        heapq.heappush(self._looks, (max(at, self.now), self._order, look))

    def _push(self, task: Task, seconds: float) -> None:
        self._order += 1
        at = self.now + max(0, round(seconds * SECOND))
        heapq.heappush(self._heap, (at, self.rng.random(), self._order, task, task.ticket))

    def thaw(self, owner: Owner) -> None:
        """
        Let a frozen *owner* go on.
        """
        owner.frozen = False
        while owner.parked:
            self._push(owner.parked.pop(0), 0)

    def wake(self, task: Task) -> None:
        """
        Let a sleeping *task* run at once.
        """
        self._push(task, 0)


class Promise:
    """
    A value that somebody else will give.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._waiting: Task | None = None
        self.value: Any = None
        self.given = False

    def give(self, value: Any) -> None:
        """
        The first value counts.
        """
        if self.given:
            return
        self.value, self.given = value, True
        if self._waiting is not None:
            self._hub.wake(self._waiting)

    def wait(self, timeout: float) -> bool:
        """
        Wait for the value; returns whether it came in time.
        """
        if not self.given:
            self._waiting = self._hub.task
            self._hub.sleep(timeout)
            self._waiting = None
        return self.given


class Signal(threading.Event):
    """
    An event between tasks instead of threads.
    """

    def __init__(self, hub: Hub) -> None:
        super().__init__()
        self._hub = hub
        self._waiting: list[Task] = []

    def set(self) -> None:
        """
        Let those that wait run.
        """
        super().set()
        while self._waiting:
            self._hub.wake(self._waiting.pop())

    def wait(self, timeout: float | None = None) -> bool:
        """
        Wait until it is set, or *timeout* seconds.
        """
        task = self._hub.task
        if not self.is_set() and task is not None:
            self._waiting.append(task)
            self._hub.sleep(1e9 if timeout is None else timeout)
            if task in self._waiting:
                self._waiting.remove(task)
        return self.is_set()


class Thread:
    """
    A task in place of a thread, in the process of whoever starts it.
    """

    def __init__(self, hub: Hub, *, target: Callable[..., Any], args: tuple[Any, ...] = (), **_: Any) -> None:
        self._hub = hub
        self._target, self._args = target, args
        self._over = Signal(hub)

    def start(self) -> None:
        """
        Begin, after the caller has gone on.
        """
        assert self._hub.task is not None
        self._hub.spawn(self._hub.task.owner, self._run).thread = self

    def _run(self) -> None:
        self._target(*self._args)
        self._over.set()

    def join(self) -> None:
        """
        Wait for its end.
        """
        self._over.wait()


class Mutex:
    """
    A re-entrant lock between tasks, in place of one between threads.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._owner: Any = None
        self._count = 0

    def acquire(self, blocking: bool = True) -> bool:
        me = getcurrent()
        while self._owner not in (None, me):
            if not blocking:
                return False
            self._hub.sleep(0.05)
        self._owner = me
        self._count += 1
        return True

    def release(self) -> None:
        assert self._owner is getcurrent()
        self._count -= 1
        if self._count == 0:
            self._owner = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        # A task that is thrown away with its world leaves its locks behind.
        if self._owner is getcurrent():
            self.release()
