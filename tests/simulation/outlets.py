"""
What a simulated process writes to: standard output, mail, the library's own log; and its locks.
"""

from __future__ import annotations

import json
import logging
import threading
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

from gcp_oncetask.errors import AlertError
from gcp_oncetask.observe.alerts import Alert
from tests.simulation.hub import Hub, Mutex, Signal, Thread

if TYPE_CHECKING:
    from tests.simulation.world import Process, World

LEASE, LOG_GRACE = 60.0, 120.0
"""The library's defaults: a line that is visible within the grace must be heard, also when the lease is over before."""


class Stdout:
    """
    Standard output of a process: its lines reach Cloud Logging late, or not at all.
    """

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    def write(self, text: str) -> int:
        own = json.loads(text)["oncetask"]
        delay = None if self._world.hit("lost_lines", 0.15) else self._world.logs.delay()
        if delay is not None:
            self._world.logs.output(self._process, text.rstrip("\n"), delay)
        self._world.lined(self._process, own, delay)
        if own["event"] == "started":
            self._world.logs.others(self._process)
        if own["event"] == "returned":
            self._returned(own, delay)
        return len(text)

    def _returned(self, own: dict[str, str], delay: float | None) -> None:
        world, process = self._world, self._process
        world.returned.add(own["holder"])
        # The last end counts. A line that is dated by a wrong clock is not among those that recovery asks for.
        world.in_time.pop(own["holder"], None)
        if delay is not None and delay <= LOG_GRACE and own.get("settlement") and not process.dated_wrongly:
            world.in_time[own["holder"]] = world.hub.time()
            if delay > LEASE and world.hit("crashes", 0.5):
                # The worst moment to die: the platform tells of it before the end line comes.
                world.kill(process, "when it has returned")
                world.hub.sleep(0)

    def flush(self) -> None:
        """
        Nothing is held back.
        """


class Mail:
    """
    The alert channel of a process; sending takes time, and fails while the mail server is down.
    """

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    def send(self, alert: Alert) -> None:
        world = self._world
        world.hub.sleep(world.hub.rng.expovariate(2))
        if alert.documents:
            self._may_die("before its digest is taken")
        if world.mail_down:
            world.counts["mails refused"] += 1
            raise AlertError("the mail server of the simulation is down")
        world.alerts.append(alert)
        world.mailed(self._process, alert)
        world.refusals.mailed(self._process, alert)
        world.tell(self._process.name, f"mails {alert.count} {alert.event} of {alert.document}")
        if alert.documents:
            self._may_die("when its digest was taken")
        world.hub.sleep(world.hub.rng.expovariate(2))

    def _may_die(self, when: str) -> None:
        if self._world.hit("crashes", 0.2):
            self._world.kill(self._process, when)
            self._world.hub.sleep(0)


def cooperative(hub: Hub) -> SimpleNamespace:
    """
    What the library needs of ``threading``, between tasks instead of threads.
    """
    return SimpleNamespace(
        Thread=partial(Thread, hub),
        Event=lambda: Signal(hub),
        RLock=lambda: Mutex(hub),
        Lock=lambda: Mutex(hub),
        current_thread=lambda: None if hub.task is None else hub.task.thread,
        main_thread=threading.main_thread,
    )


class Heard(logging.Handler):
    """
    Counts the library's decisions, and keeps them for the story.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.world: World | None = None

    def emit(self, record: logging.LogRecord) -> None:
        world, own = self.world, getattr(record, "oncetask", None)
        if world is None:
            return
        if isinstance(own, dict) and "event" in own:
            world.counts[own["event"] + (f" {own['verdict']}" if "verdict" in own else "")] += 1
        elif record.levelno >= logging.WARNING and "ONCETASK_VERIFY" not in record.getMessage():
            world.tell("log", record.getMessage()[:200])
