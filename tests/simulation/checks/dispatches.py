"""
Each Cloud Task belongs to a record that asked for it; none is missing, and none is made twice without a reason.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from tests.simulation.checks.wire import Record, record_of
from tests.simulation.hub import SECOND
from tests.simulation.world import Process, World

PROMPT = 60 * SECOND
"""Time within which a process makes the Cloud Task that its own commit has asked for, where nothing goes wrong."""
OVERTAKEN = 10 * SECOND
"""The time-out of a call. A call that a freeze has overtaken takes effect after the freeze, and its answer comes too late."""
EARLY = 59 * SECOND
"""A delivery that comes more than that before its time is replaced by another one; less one second for the calls."""
UNKNOWN = -1
_REFUSALS = (
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
)
"""Final refusals of a look-up: whether the task is still there can't be known then."""


class Key(NamedTuple):
    """
    What the name of a Cloud Task is made of.
    """

    document: str
    scheduled_by: str
    sequence: int
    dispatch: int


class Asked(NamedTuple):
    """
    A commit that owes a Cloud Task.
    """

    at: int
    wait_until: int
    url: str
    queue: str


class Dispatches:
    """
    Watches the Cloud Tasks of one world.

    Attributes:
        refused: Documents of which a write was refused for good.
        closed: Whether a queue has refused a Cloud Task for good.
    """

    def __init__(self, world: World, broken: Callable[[str, str], None]) -> None:
        self._world = world
        self._broken = broken
        self._asked: dict[Key, Asked] = {}
        self._waiting: dict[str, Key] = {}
        self._names: dict[Key, str] = {}
        self._keys: dict[str, Key] = {}
        self._tried: dict[Process, set[Key]] = {}
        self._missing: dict[Process, dict[str, int]] = {}
        self._refused: dict[Process, int] = {}
        self.refused: set[str] = set()
        self.closed = False
        self._owing: dict[Key, tuple[int, Process]] = {}
        self._order: deque[tuple[int, Key]] = deque()

    def changed(self, process: Process | None, path: str, before: Record | None, after: Record) -> None:
        """
        A commit has changed a record.
        """
        self._waiting.pop(path, None)
        if after.status != "scheduled" or not after.url or after.waiting:
            # What ends its wait, an event or a child, brings a delivery of the next number.
            return
        key = self._waiting[path] = Key(path, after.scheduled_by, after.sequence, after.dispatches)
        known = self._asked.get(key)
        if known is None:
            self._asked[key] = Asked(self._world.hub.now, after.wait_until, after.url, after.queue)
            self._world.counts["dispatches asked for"] += 1
            self._expect(process, key, after)
            if before is not None and _same(before, after) and after.dispatches > before.dispatches:
                self._again(process, path, before, after)
        elif max(after.wait_until, known.wait_until) <= self._world.hub.now:
            # A lease is given back after its time had come: its delivery is tried again.
            self._asked[key] = known._replace(wait_until=after.wait_until)
        elif known.wait_until not in (after.wait_until, UNKNOWN):
            if before is not None and before.status == "leased" and before.wait_until == after.wait_until:
                # A newer payload has moved it while it ran; then its lease was given back, for the queue to deliver again.
                self._asked[key] = known._replace(wait_until=UNKNOWN)
                return
            self._broken(
                path, f"its time moved from {known.wait_until} to {after.wait_until}, without another delivery"
            )

    def _expect(self, process: Process | None, key: Key, after: Record) -> None:
        """
        The process whose commit asks for a Cloud Task makes it, unless something goes wrong with it.
        """
        world = self._world
        if process is None or world.landing or process.dead or process.hurt_until >= world.hub.now - OVERTAKEN:
            return
        if after.claimable:
            self._owing[key] = (world.hub.now, process)
            self._order.append((world.hub.now, key))

    def deleted(self, path: str) -> None:
        """
        A document was deleted. A create that lands late makes it once more, with the same nonce.
        """
        for key, asked in self._asked.items():
            if key.document == path:
                self._asked[key] = asked._replace(wait_until=UNKNOWN)

    def _is_elsewhere(self, process: Process, key: Key) -> bool:
        """
        Whether *process* may not send a task to that address: it is of another deployment, which has not been able to
        register it.
        """
        own = process.locker.config.base_url or ""
        return self._world.refusals.ever and not self._asked[key].url.startswith(f"{own}/")

    def look(self) -> None:
        """
        Look for Cloud Tasks that should have been made.
        """
        now = self._world.hub.now
        while self._order and self._order[0][0] + PROMPT < now:
            _, key = self._order.popleft()
            if key not in self._owing:
                continue
            asked, process = self._owing.pop(key)
            if self._is_elsewhere(process, key):
                continue
            if not (process.dead or process.frozen or process.hurt_until >= asked or process.failed_at >= asked):
                self._broken(key.document, f"{process.name} asked for dispatch {key.dispatch}, and did not make it")

    def _again(self, process: Process | None, path: str, before: Record, after: Record) -> None:
        """
        A waiting task gets another Cloud Task: only by a process that was told that the one before is not in the queue, or if
        its delivery came far too early.
        """
        world = self._world
        if process is None or process.hurt_until >= world.hub.now or world.landing:
            return
        if after.wait_until > world.hub.now:
            if after.wait_until - world.hub.now < EARLY:
                self._broken(
                    path, f"it gets dispatch {after.dispatches}, {after.wait_until - world.hub.now} micros early"
                )
            return
        old = Key(path, before.scheduled_by, before.sequence, before.dispatches)
        asked = self._asked[old].at if old in self._asked else 0
        name = self._names.get(old)
        told = any(
            at >= asked and (one == name or (name is None and one not in self._keys))
            for one, at in self._missing.get(process, {}).items()
        )
        world.counts["dispatched again"] += 1
        if not told and self._refused.get(process, 0) < asked:
            self._broken(
                path, f"it gets dispatch {after.dispatches}, and whether {before.dispatches} is queued was not asked"
            )

    def created(self, process: Process | None, request: Any) -> None:
        """
        A Cloud Task was made.
        """
        task = request.task
        body = json.loads(task.http_request.body)
        key = Key(body["document"], body["scheduledBy"], body["sequence"], body["dispatch"])
        name = task.name.rpartition("/")[2]
        self._world.counts["Cloud Tasks made"] += 1
        asked = self._asked.get(key)
        if asked is None and process is not None and key in self._tried.get(process, ()):
            # It does not know which of its tries has created the document.
            self._world.counts["Cloud Tasks of tries that were refused"] += 1
            return
        if asked is None:
            self._broken(key.document, f"a Cloud Task was made that it did not ask for: {key[1:]}")
            return
        if self._names.setdefault(key, name) != name or self._keys.setdefault(name, key) != key:
            self._broken(
                key.document, f"dispatch {key.dispatch} of sequence {key.sequence} has the name of another one"
            )
        at = task.schedule_time.seconds * SECOND + task.schedule_time.nanos // 1000
        # One that has moved on since needs no delivery: any time will do.
        if self._waiting.get(key.document) == key and asked.wait_until not in (at, UNKNOWN):
            self._broken(key.document, f"its delivery is to come at {at}, and it waits until {asked.wait_until}")
        if not task.http_request.url.startswith(asked.url) or request.parent != asked.queue:
            self._broken(key.document, f"its Cloud Task goes to {task.http_request.url} by {request.parent}")
        self._owing.pop(key, None)

    def failed(self, process: Process, name: str, request: Any, code: grpc.StatusCode) -> None:
        """
        A process is told that its call has failed.
        """
        if name == "GetTask":
            if code is grpc.StatusCode.NOT_FOUND:
                self._missing.setdefault(process, {})[request.name.rpartition("/")[2]] = self._world.hub.now
            elif code in _REFUSALS:
                self._refused[process] = self._world.hub.now
        elif name == "Commit":
            self._try(process, request)
            if code in _REFUSALS:
                self.refused.update(write.update.name.partition("/documents/")[2] for write in request.writes)
        elif name == "CreateTask" and code in (
            *_REFUSALS,
            grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.FAILED_PRECONDITION,
        ):
            self.closed = True
        elif name == "CreateTask" and code is grpc.StatusCode.ALREADY_EXISTS:
            key = self._keys.get(request.task.name.rpartition("/")[2])
            if key is not None:
                self._owing.pop(key, None)

    def adopted(self, path: str, after: Record) -> None:
        """
        A person has written a record.
        """
        if after.status == "scheduled" and after.url:
            key = self._waiting[path] = Key(path, after.scheduled_by, after.sequence, after.dispatches)
            self._asked.setdefault(key, Asked(self._world.hub.now, UNKNOWN, after.url, after.queue))

    def _try(self, process: Process, commit: Any) -> None:
        """
        The process does not know whether its commit was applied.
        """
        for write in commit.writes:
            record = record_of(write.update)
            if record is not None and record.scheduled_by:
                path = write.update.name.partition("/documents/")[2]
                key = Key(path, record.scheduled_by, record.sequence, record.dispatches)
                self._tried.setdefault(process, set()).add(key)

    def at_the_end(self) -> None:
        """
        Nothing that was asked for is under way any more.
        """
        self.look()


def _same(before: Record, after: Record) -> bool:
    """
    Whether a claimable record stays as it was, but for its looks and dispatches.
    """
    return before.claimable and after.claimable and _facts(before) == _facts(after)


def _facts(record: Record) -> tuple[Any, ...]:
    return (
        record.sequence,
        record.token,
        record.scheduled_by,
        record.wait_until,
        record.wanted,
        record.cancelling,
        record.cancel_asked,
    )
