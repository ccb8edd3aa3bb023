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

from gcp_oncetask.alerts import Alert
from gcp_oncetask.errors import AlertError
from tests.simulation.hub import Hub, Mutex, Signal, Thread

if TYPE_CHECKING:
    from tests.simulation.world import Process, World

LOG_GRACE = 120.0
"""The library's default: a line that is visible within it must be heard."""


class Stdout:
    """
    Standard output of a process: its lines reach Cloud Logging late, or not at all.
    """

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    def write(self, text: str) -> int:
        own = json.loads(text)["oncetask"]
        if own["event"] == "returned":
            self._world.returned.add(own["holder"])
        if not self._world.hit("lost_lines", 0.15):
            delay = self._world.log_delay()
            self._world.run_logs(self._process, delay).line("stdout", text.rstrip("\n"), self._process.name)
            # A line that is dated by a wrong clock is not among those that recovery asks for.
            if own.get("settlement") and delay <= LOG_GRACE and not self._process.skew:
                self._world.in_time[own["holder"]] = self._world.hub.time()
        return len(text)

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
        if world.mail_down:
            world.counts["mails refused"] += 1
            raise AlertError("the mail server of the simulation is down")
        world.alerts.append(alert)
        world.tell(self._process.name, f"mails {alert.event} of {alert.document}")
        world.hub.sleep(world.hub.rng.expovariate(2))


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
        if isinstance(own, dict):
            event = str(own.get("event"))
            world.counts[event + (f" {own['verdict']}" if "verdict" in own else "")] += 1
        elif record.levelno >= logging.WARNING and "ONCETASK_VERIFY" not in record.getMessage():
            world.tell("log", record.getMessage()[:200])
