"""
Streams of Listen: they lag, can't be opened, break, and hang in silence when the network was down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import grpc
from google.cloud.firestore_v1._helpers import decode_dict
from google.cloud.firestore_v1.base_document import DocumentSnapshot

from gcp_emulator.channel import InProcessError
from gcp_emulator.firestore.messages import ListenRequest
from gcp_emulator.rpc import RpcError
from tests.simulation.clients import DATABASE
from tests.simulation.hub import SECOND, Signal

if TYPE_CHECKING:
    from tests.simulation.world import Process, World

REFUSED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.RESOURCE_EXHAUSTED)
BROKEN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.ABORTED)


class Stream:
    """
    One Listen call of a process, as the library iterates it.

    Args:
        world: Has the server and the troubles.
        process: The one that calls.
        requests: Its side of the stream.
    """

    def __init__(self, world: World, process: Process, requests: Iterator[Any]) -> None:
        self._world = world
        self._process = process
        self._listener = world.listener(self._changed)
        self._inbox: deque[Any] = deque()
        self._heard = Signal(world.hub)
        self._error: grpc.StatusCode | None = None
        self._hung = self._closed = False
        world.streams.append((process, self))
        if world.no_listeners or world.hit("listeners", 0.1):
            world.counts["listeners refused"] += 1
            self.end(world.hub.rng.choice(REFUSED))
            return
        world.counts["listeners opened"] += 1
        world.hub.spawn(process, self._receive, requests)
        if world.trouble and world.plan.has("listeners"):
            world.hub.spawn(world.cloud, self._breaks, after=world.hub.rng.expovariate(1 / 200))

    def _receive(self, requests: Iterator[Any]) -> None:
        for request in requests:
            self._put(request)

    def _changed(self) -> None:
        self._put(None)

    def _put(self, item: Any) -> None:
        if self._process.dead:
            self._over()
            return
        self._inbox.append(item)
        self._heard.set()

    def _breaks(self) -> None:
        if self._world.trouble and not self._closed:
            self._world.counts["listeners broken"] += 1
            self.end(self._world.hub.rng.choice(BROKEN))

    def end(self, code: grpc.StatusCode) -> None:
        """
        Break it.
        """
        self._error = code
        self._over()
        self._heard.set()

    def hang(self) -> None:
        """
        Show nothing more, without an error.
        """
        self._world.counts["listeners hung"] += not self._hung
        self._hung = True

    def cancel(self) -> None:
        """
        End it, as the caller wishes.
        """
        self._closed = True
        self._over()
        self._heard.set()

    def _over(self) -> None:
        self._listener.over()
        self._world.streams[:] = [(owner, one) for owner, one in self._world.streams if one is not self]

    def __iter__(self) -> Iterator[Any]:
        hub, world = self._world.hub, self._world
        while not self._closed:
            if self._error is not None:
                raise InProcessError(RpcError(self._error, "the stream of the simulation has broken"))
            if self._hung or not self._inbox:
                self._heard.clear()
                self._heard.wait()
                continue
            item = self._inbox.popleft()
            lag = hub.rng.choice((1.0, 10.0, 60.0)) if world.hit("listeners", 0.1) else hub.rng.expovariate(20)
            hub.sleep(max(lag, (self._process.cut_off - hub.now) / SECOND))
            answers = self._listener.news() if item is None else self._listener.asked(item)
            yield from list(answers)


class Watch:
    """
    What ``on_snapshot`` of Google's client does, by a task in place of its threads: it opens its stream again.

    Args:
        world: Has the server and the troubles.
        reference: The document.
        callback: Told of the document whenever it has changed.
    """

    def __init__(self, world: World, reference: Any, callback: Callable[..., None]) -> None:
        if world.no_listeners:
            raise InProcessError(RpcError(grpc.StatusCode.UNIMPLEMENTED, "no streams on this channel"))
        assert world.hub.task is not None
        self._world, self._reference, self._callback = world, reference, callback
        self._owner: Any = world.hub.task.owner
        self._closed = False
        self._stream: Stream | None = None
        world.hub.spawn(self._owner, self._run)

    def _run(self) -> None:
        request = ListenRequest(database=DATABASE)
        request.add_target.target_id = 1
        request.add_target.documents.documents.append(f"{DATABASE}/documents/{self._reference.path}")
        while not self._closed:
            self._stream = Stream(self._world, self._owner, iter([request]))
            try:
                for answer in self._stream:
                    self._tell(answer)
            except InProcessError:
                self._world.hub.sleep(1.0)

    def _tell(self, answer: Any) -> None:
        match answer.WhichOneof("response_type"):
            case "document_change":
                data = decode_dict(answer.document_change.document.fields, self._reference._client)
            case "document_delete":
                data = None
            case _:
                return
        snapshot = DocumentSnapshot(self._reference, data, data is not None, None, None, None)
        self._callback([snapshot], [], None)

    def unsubscribe(self) -> None:
        """
        Tell of nothing more.
        """
        self._closed = True
        if self._stream is not None:
            self._stream.cancel()


def watching(world: World) -> Callable[..., Watch]:
    """
    What stands in place of ``DocumentReference.on_snapshot``.
    """
    return lambda reference, callback: Watch(world, reference, callback)
