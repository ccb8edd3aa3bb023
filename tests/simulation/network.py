"""
Remote calls of the processes of one history, and everything that goes wrong with them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import grpc

from gcp_emulator.rpc import RpcError, Service
from tests.simulation.clients import path_of
from tests.simulation.hub import SECOND
from tests.simulation.troubles import batches
from tests.simulation.troubles.batches import holders

if TYPE_CHECKING:
    from tests.simulation.world import Process, World

MOST_READS = 3
"""Tries of one read, as many as the library makes."""
MOST_REFUSALS = 3
"""After so many refusals an end leaves its resource key alone."""
AMBIGUOUS = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
)
"""Codes that don't say whether the call took effect. The first three are the frequent ones."""
_LOST = AMBIGUOUS[:3]
_REFUSED = (grpc.StatusCode.ABORTED, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
_ANY_REFUSED = (grpc.StatusCode.ABORTED, grpc.StatusCode.RESOURCE_EXHAUSTED, *AMBIGUOUS)


_WRITING = ("Commit", "BatchWrite", "CreateTask")
"""Calls that change something also when their caller has given up."""


class Network:
    """
    What lies between the processes of one world and the cloud.

    Args:
        world: The world.
        observe: Told of every call that took effect: process, name, request.
    """

    def __init__(self, world: World, observe: Callable[[Process | None, str, Any], None]) -> None:
        self._world = world
        self._observe = observe

    def call_of(self, process: Process) -> Callable[..., Any]:
        """
        Return the function by which *process* makes its calls.
        """

        def call(service: Service, name: str, request: Any, timeout: float | None) -> Any:
            self._world.calls(process)
            if name in ("Commit", "BatchWrite"):
                for write in request.writes:
                    process.unread.pop(write.update.name, None)
            try:
                return self._hurt(process, service, name, request, timeout)
            except RpcError as error:
                self._world.failed(process, name, request, error.code)
                for read in [request.name] if name == "GetDocument" else getattr(request, "documents", ()):
                    self._unread(process, read)
                raise

        return call

    def applied(self, process: Process | None, service: Service, name: str, request: Any) -> Any:
        """
        Let a call take effect, whatever goes wrong around it.
        """
        world = self._world
        if name == "BatchWrite" and process is not None:
            answer, request = batches.applied(world, process, service, request)
        else:
            answer = service.call(name, request)
        if name == "CreateTask":
            world.made[request.task.name.rpartition("/")[2]] = world.counts["tasks made"]
            world.counts["tasks made"] += 1
        if name == "Commit" and request.transaction:
            world.transactions.committed(request.transaction)
        with nullcontext() if world.versions is None else world.versions.newest():
            self._observe(process, name, request)
        if name == "Commit" and process is not None:
            for write in request.writes:
                del process.refused_commits[path_of(write)]
        return answer

    def _hurt(self, process: Process, service: Service, name: str, request: Any, timeout: float | None) -> Any:
        world, draw = self._world, self._world.hub.rng
        world.hub.sleep(draw.expovariate(50))
        self._struck(process, f"before its {name}")
        if world.hub.now < process.cut_off:
            self._cut(process, service, name, request, timeout)
        world.refusals.check(process, service, name, request)
        if world.hit("refused_calls", 0.05) or (name == "Rollback" and world.hit("failed_rollbacks", 0.7)):
            self._refuse(process, name, request)
        if world.hit("late_calls", 0.04):
            self._lands_late(process, service, name, request, timeout)
        if name == "ListLogEntries" and world.trouble and draw.random() < 0.5:
            # The worst moment to come back: while somebody asks whether one is still alive.
            for other in world.processes:
                world.thaw(other)
        if name == "Commit" and request.transaction and world.hit("failed_rollbacks", 0.3):
            self._lands_soon(process, service, request)
        if name in ("Commit", "BatchWrite") and world.trouble and world.plan.calls and draw.random() < 0.8:
            self._slow(process)
        answer = self.applied(process, service, name, request)
        if name == "ListLogEntries":
            world.logs.shuffle(answer)
        self._struck(process, f"after its {name}")
        if world.hit("lost_answers", 0.06) or self._is_doubtful(name, request):
            self._lose(process, name, request)
        world.hub.sleep(draw.expovariate(50))
        return answer

    def _slow(self, process: Process) -> None:
        """
        A write takes long: others come meanwhile, to share the next call.
        """
        world = self._world
        world.counts["slow writes"] += 1
        length = world.hub.rng.choice((0.2, 0.2, 0.2, 0.4, 3.0))
        if length > 1:
            process.hurt_until = max(process.hurt_until, world.hub.now + round(length * SECOND))
        world.hub.sleep(length)

    def _is_doubtful(self, name: str, request: Any) -> bool:
        return name == "Commit" and bool(request.transaction) and self._world.hit("failed_rollbacks", 0.15)

    def _refuse(self, process: Process, name: str, request: Any) -> None:
        world = self._world
        code = world.hub.rng.choice(_ANY_REFUSED if world.plan.has("rare_codes") else _REFUSED)
        world.tell(process.name, f"{name} fails before its effect: {code.name}")
        if name == "Commit":
            process.refused_commits.update(map(path_of, request.writes))
        if name == "Commit" and code in AMBIGUOUS:
            world.counts[f"commit without effect: {code.name}"] += 1
        if name == "Rollback":
            world.counts["rollbacks failed"] += 1
        raise RpcError(code, "refused by the simulation")

    def _lose(self, process: Process, name: str, request: Any) -> None:
        world, draw = self._world, self._world.hub.rng
        code = draw.choice(AMBIGUOUS if world.plan.has("rare_codes") else _LOST)
        world.tell(process.name, f"the answer of {name} is lost: {code.name}")
        if name == "BatchWrite":
            world.counts["ambiguous batches"] += 1
        if name == "Commit":
            world.counts[f"ambiguous commit: {code.name}"] += 1
            world.counts[f"ambiguous commit: {_kind(request)}"] += 1
        if name in ("Commit", "BatchWrite"):
            process.unheard |= holders(request.writes)
        world.hub.sleep(draw.expovariate(1))
        raise RpcError(code, "the answer was lost")

    def _unread(self, process: Process, name: str) -> None:
        """
        A library that can't read back what became of its commit leaves that to others, after a few tries.
        """
        world = self._world
        process.unread[name] += 1
        if process.unread[name] >= MOST_READS:
            world.counts["claims never heard of"] += 1
            process.hurt_until = max(process.hurt_until, world.hub.now)

    def _struck(self, process: Process, when: str) -> None:
        """
        The process may die, or stop for a while, right here.
        """
        world = self._world
        if world.hit("crashes", 0.015):
            world.kill(process, when)
            world.hub.sleep(0)
        if world.hit("freezes", 0.01):
            world.freeze(process, world.hub.rng.choice((30, 90, 400, 1000)), when)
            world.hub.sleep(0)

    def _cut(self, process: Process, service: Service, name: str, request: Any, timeout: float | None) -> None:
        """
        The network of the process is down: nothing is answered, and what it sent may have got through.
        """
        self._world.counts["calls into an outage"] += 1
        # A stream hangs in silence on a connection that is lost; the heartbeats on it are lost too.
        if name == "Commit" and any("/onceSessions/" in write.update.name for write in request.writes):
            for _, stream in [each for each in self._world.streams if each[0] is process]:
                stream.hang()
        if self._world.hub.rng.random() < 0.3:
            self._lands_late(process, service, name, request, timeout)
        self._world.hub.sleep(1)
        raise RpcError(grpc.StatusCode.UNAVAILABLE, "the network is down")

    def _lands_soon(self, process: Process, service: Service, commit: Any) -> None:
        """
        The commit of a transaction fails, and takes effect while its caller finds out what became of it.
        """
        world = self._world
        world.counts["transactions that land after their error"] += 1
        self._land(process, service, "Commit", commit, after=world.hub.rng.random() * 0.15)
        raise RpcError(grpc.StatusCode.UNAVAILABLE, "the connection was lost")

    def _lands_late(self, process: Process, service: Service, name: str, request: Any, timeout: float | None) -> None:
        world = self._world
        after = min(world.hub.rng.choice((1.0, 15.0, 90.0, 900.0)), world.latest)
        if name in _WRITING:
            world.quiet_from = max(world.quiet_from, world.hub.now + round(after * SECOND))
        self._land(process, service, name, request, after=after)
        world.hub.sleep(timeout or 10.0)
        raise RpcError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _land(self, process: Process, service: Service, name: str, request: Any, *, after: float) -> None:
        world = self._world
        world.tell(process.name, f"{name} gets no answer; it lands {after:g} s later")

        def land() -> None:
            world.tell("network", f"the {name} of {process.name} lands")
            world.landing = True
            try:
                self.applied(process, service, name, request)
            except RpcError as error:
                world.counts[f"late {name} refused"] += 1
                world.tell("network", f"and is refused: {error.code.name}")
            else:
                world.counts[f"late {name} applied"] += 1
                if name in ("Commit", "BatchWrite"):
                    process.unheard |= holders(request.writes)
            finally:
                world.landing = False

        world.hub.spawn(world.cloud, land, after=after)


def _kind(commit: Any) -> str:
    """
    What a commit of the library's makes of its lock.
    """
    for write in commit.writes:
        lock = write.update.fields.get("lock")
        if lock is not None and "status" in lock.map_value.fields:
            return f"to {lock.map_value.fields['status'].string_value}"
    return "others"
