"""
All checks of one history that look at the wire and at handlers: who is told of what.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc

from gcp_oncetask import Attempt
from gcp_oncetask.observe.alerts import Alert
from tests.simulation.checks.alerts import Alerts
from tests.simulation.checks.dispatches import Dispatches
from tests.simulation.checks.ends import Ends
from tests.simulation.checks.standing import Standing
from tests.simulation.checks.wire import Record, record_of
from tests.simulation.clients import path_of
from tests.simulation.world import Process, World

TASKS = ("jobs/", "onceTasks/")
ENDS = ("completed", "failed", "cancelled", "quarantined")
_PLAIN = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.FAILED_PRECONDITION)
"""What a server answers that was reached, and that has done nothing."""


class Watch:
    """
    Watches one world.

    Attributes:
        records: The record of each document, as stored now.
        lives: How often each document was deleted.
        began: Holders whose handlers were entered.
        damaged: Documents whose record a person has written or removed.
        outside: Documents of others that are told as damaged, and deliveries that are rejected.

    Args:
        world: The world.
        broken: Told of violations: a document and a sentence.
        is_damaged: Tells whether the record of a document can't be read now.
        collections: Of the records.
    """

    def __init__(
        self,
        world: World,
        broken: Callable[[str, str], None],
        is_damaged: Callable[[str], bool],
        collections: tuple[str, ...] = TASKS,
    ) -> None:
        self._world = world
        self._is_damaged = is_damaged
        self._collections = collections
        self.records: dict[str, Record] = {}
        self.lives: Counter[str] = Counter()
        self.began: set[str] = set()
        self.damaged: set[str] = set()
        self.outside: set[str] = set()
        self.alerts = Alerts(self, world, broken)
        self.dispatches = Dispatches(world, broken)
        self.standing = Standing(self, world, broken)
        self.ends = Ends(world, broken)
        world.mailed, world.lined, world.failed = self.mailed, self.ends.line, self.failed

    def observe(self, process: Process | None, name: str, request: Any) -> None:
        """
        A call took effect.
        """
        if name == "CreateTask":
            self.dispatches.created(process, request)
        elif name in ("Commit", "BatchWrite"):
            for path in dict.fromkeys(map(path_of, request.writes)):
                self._written(process, path)
            self.dispatches.look()

    def _written(self, process: Process | None, path: str) -> None:
        lends = False
        if path.startswith(self._collections):
            lends = self._record(process, path)
        elif self._is_damaged(path):
            # A resource key that a person has damaged.
            self.damaged.add(path)
        elif path.startswith("onceLocks/") and ":digest:" in path:
            document = self._world.stored(path)
            lends = document is not None
            if lends:
                self.alerts.digest(path, document)
        elif path.startswith("onceLocks/") and ":queue:" in path:
            self.standing.alarm(process, path, self._world.stored(path))
        if lends and process in self._world.processes and self._world.hit("crashes", 0.1):
            self._world.hub.spawn(self._world.cloud, self._world.kill_if_alive, process, "while it makes a digest")

    def _record(self, process: Process | None, path: str) -> bool:
        """
        Look at the record of a task. Returns whether it lends an alert to a digest.
        """
        before, document = self.records.get(path), self._world.stored(path)
        if document is None:
            self._deleted(path)
            return False
        after = None if self._is_damaged(path) else _read(document)
        if after is None:
            self._deleted(path)
            self.damaged.add(path)
            return False
        self.records[path] = after
        if before == after:
            return False
        if process is None or (before is None and path in self.damaged):
            # A person may write anything: it counts from here on.
            self.damaged.add(path)
            self.alerts.adopted(path, after)
            self.standing.adopted(path, after)
            self.dispatches.adopted(path, after)
            return False
        if before is not None and before.status != after.status and after.status in ENDS:
            self._world.counts[f"ended: {after.status}"] += 1
        self.dispatches.changed(process, path, before, after)
        self.standing.changed(process, path, before, after)
        self.ends.changed(path, self.lives[path], before, after)
        return self.alerts.changed(process, path, before, after)

    def _deleted(self, path: str) -> None:
        if self.records.pop(path, None) is not None:
            self.lives[path] += 1
            self.alerts.deleted(path)
            self.standing.gone(path)
            self.dispatches.deleted(path)

    def failed(self, process: Process, name: str, request: Any, code: grpc.StatusCode) -> None:
        """
        A process is told that its call has failed.
        """
        if code not in _PLAIN:
            process.failed_at = self._world.hub.now
        self.dispatches.failed(process, name, request, code)

    def mailed(self, process: Process, alert: Alert) -> None:
        """
        The mail server has taken an alert from a process.
        """
        if ":queue:" in alert.document and not alert.documents:
            self.standing.mailed(alert)
        self.alerts.mailed(process, alert)

    def begins(self, attempt: Attempt, *, cleans: bool = False) -> None:
        """
        The handler of *attempt* is entered.
        """
        path, granted = attempt._running.context.document, attempt._running.granted
        self.began.add(granted.holder or "")
        self._world.counts["handlers entered"] += 1
        # Without a handler of its own, a cancellation runs the durable handler itself.
        cleans = cleans or granted.cancelling
        self.ends.begins(path, self.lives[path], attempt.sequence, attempt.token, cleans=cleans)

    def at_the_end(self) -> None:
        """
        Troubles have stopped, and time has passed.
        """
        self.alerts.at_the_end()
        self.dispatches.at_the_end()


def _read(document: Any) -> Record | None:
    try:
        record = record_of(document)
        return record if record is not None and record.due_at >= 0 else None
    except (ValueError, TypeError):
        # A person has written what is no time.
        return None
