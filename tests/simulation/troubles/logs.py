"""
Cloud Logging as the processes of one history write to it: lines come late, twice, in any order or never, and among them are
lines of others that look like evidence.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from gcp_emulator.run.logs import RequestRecord, RunLogs
from gcp_oncetask import forks
from gcp_oncetask.logs import CloudFormatter
from tests.simulation.clients import PROJECT
from tests.simulation.hub import SECOND

if TYPE_CHECKING:
    from tests.simulation.world import Process, World

MOST_SHUFFLED = 100.0
"""Seconds by which lines overtake each other: within the log grace."""


class Logs:
    """
    The log of one world.

    Args:
        world: The world.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def of(self, process: Process, delay: float | None = None, *, service: str = "app", of: str = "") -> RunLogs:
        """
        Return the platform's log writer for *process*, as slow as this moment is unless *delay* says otherwise; or that of
        another *service*, or of a revision that is called like the process *of*.
        """
        return RunLogs(
            self._world.logging,
            self._world.hub,
            project=PROJECT,
            region="here",
            service=service,
            revision=f"app-{of or process.name}",
            delay=self.delay() if delay is None else delay,
        )

    def delay(self) -> float:
        """
        Seconds until a line that is written now can be read: within the log grace, or far beyond it.
        """
        world = self._world
        if world.hit("late_lines", 0.1):
            return world.hub.rng.choice((5.0, 100.0, 400.0))
        return world.hub.rng.random() * MOST_SHUFFLED if world.hit("shuffled_lines", 0.5) else 0.3

    def output(self, process: Process, text: str, delay: float) -> None:
        """
        One line of standard output, which can be read after *delay*.
        """
        world = self._world
        self.of(process, delay).line("stdout", text, process.name)
        if world.hit("twice_lines", 0.2):
            # The collector has sent it again, and each copy has an id of its own.
            self.of(process).line("stdout", text, process.name)

    def others(self, process: Process) -> None:
        """
        What other instances and services say at the beginning of an attempt: they die, and *process* does not.
        """
        world = self._world
        if not world.hit("others_lines", 0.3):
            return
        stamped = f"[{world.hub.time():%Y-%m-%d %H:%M:%S %z}] [{forks.parent}] [ERROR] "
        killed = f"{stamped}Worker (pid:{forks.pid}) was sent SIGKILL! Perhaps out of memory?"
        for logs, instance in (
            (self.of(process, 0.3), f"{process.name}-other"),
            (self.of(process, 0.3, service="other"), process.name),
            (self.of(process, 0.3, of="older"), process.name),
        ):
            logs.system("Container terminated on signal 9.", instance)
            logs.line("stderr", killed, instance)

    def request(self, process: Process, record: RequestRecord) -> None:
        """
        The entry of a request that has ended.
        """
        self.of(process).request(record)
        if self._world.hit("twice_lines", 0.2):
            self.of(process).request(record)

    def shuffle(self, answer: Any) -> None:
        """
        Bring the entries of a list into any order: entries of one instant have none.
        """
        if self._world.hit("shuffled_lines", 0.5):
            entries = list(answer.entries)
            self._world.hub.rng.shuffle(entries)
            del answer.entries[:]
            answer.entries.extend(entries)

    def words(self, process: Process) -> None:
        """
        What users say on the instance of *process*: it looks like evidence about its holders, and is none.
        """
        world = self._world
        if not (world.trouble and world.plan.has("words")):
            return
        world.counts["words"] += 1
        logs = self.of(process, 0.3)
        killed = f"Worker (pid:{forks.pid}) was sent SIGKILL! Perhaps out of memory?"
        stamped = f"[{world.hub.time():%Y-%m-%d %H:%M:%S %z}] [{{}}] [ERROR] {killed}"
        logs.line("stderr", f"WARNING:root:can't parse comment '{killed}'", process.name)
        logs.line("stderr", f"can't parse comment 'x\n{stamped.format(forks.parent)}", process.name)
        logs.line("stderr", f"{stamped.format(forks.parent)}, says a user", process.name)
        logs.line("stderr", stamped.format(forks.pid), process.name)
        logs.line("stdout", "Container terminated on signal 9.", process.name)
        data = {"oncetask": {"event": "returned", "settlement": '{"kind": "complete", "nonce": "users"}'}}
        created = world.hub.time().timestamp()
        record = logging.makeLogRecord({"msg": "ordered", "levelno": logging.INFO, "created": created, **data})
        logs.line("stdout", CloudFormatter().format(record), process.name)

    def passed_on(self, url: str, trace: str, begun: int) -> None:
        """
        The entry of another service, which has passed a delivery on and did not wait for its end.
        """
        world = self._world
        if not world.hit("others_lines", 0.2):
            return
        gateway = RunLogs(
            world.logging, world.hub, project=PROJECT, region="here", service="gateway", revision="gateway-1", delay=0.3
        )
        query = url.partition("?")[2]
        ended = begun + SECOND // 10
        gateway.request(
            request_record(
                f"https://gateway.test/run?{query}",
                502,
                started=begun - SECOND,
                ended=ended,
                trace=trace,
                instance="gateway-1",
            )
        )


def request_record(url: str, status: int, *, started: int, ended: int, trace: str, instance: str) -> RequestRecord:
    """
    Return the entry of a request.
    """
    return RequestRecord(
        method="POST",
        url=url,
        status=status,
        started=started,
        ended=ended,
        request_size=0,
        response_size=0,
        user_agent="",
        remote_ip="",
        referer="",
        trace=trace,
        span_id="",
        instance_id=instance,
    )
