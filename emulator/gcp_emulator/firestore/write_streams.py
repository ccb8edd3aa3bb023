"""
Write: commits one after the other on one stream, which goes on after a break.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from gcp_emulator.clock import Clock, new_id
from gcp_emulator.firestore import messages as m
from gcp_emulator.firestore.database import Committed
from gcp_emulator.firestore.paths import invalid
from gcp_emulator.rpc import Mouth, RpcError
from gcp_emulator.waiting import Steps

STREAMS = 1000
"""
Streams that can be resumed; beyond it, the one that was used least recently is forgotten.
"""
UNACKNOWLEDGED = 1000
"""
Answers of one stream that are kept until the client has sent their token.
"""
Commit = Callable[[str, Sequence[m.AnyWrite], bytes, int], Steps]


@dataclass(slots=True)
class WriteStream:
    """
    One stream of writes.

    Attributes:
        database: Name of its database.
        number: Answers so far; the token of the last one.
        kept: Answers that the client has not acknowledged, by number.
        waiting: The next writes in order, each with the call that brought them; None in place of writes: the call greets.
        running: Whether writes are being applied.
        talk: The call that carries the stream now.
    """

    database: str
    number: int = 0
    kept: deque[tuple[int, Any]] = field(default_factory=deque)
    waiting: deque[tuple[WriteTalk, Sequence[m.AnyWrite] | None]] = field(default_factory=deque)
    running: bool = False
    talk: WriteTalk | None = None

    def acknowledged(self, number: int) -> None:
        """
        Forget the answers up to *number*.
        """
        while self.kept and self.kept[0][0] <= number:
            self.kept.popleft()


class WriteStreams:
    """
    The streams of one server by id.
    """

    def __init__(self) -> None:
        self._streams: OrderedDict[str, WriteStream] = OrderedDict()

    def new(self, database: str) -> tuple[str, WriteStream]:
        """
        Begin a stream; returns its id with it.
        """
        if len(self._streams) >= STREAMS:
            self._streams.popitem(last=False)
        id_ = new_id()[:16]
        stream = self._streams[id_] = WriteStream(database)
        return id_, stream

    def find(self, id_: str, database: str) -> WriteStream:
        """
        Return a stream that was begun before.

        Raises:
            RpcError: NOT_FOUND.
        """
        stream = self._streams.get(id_)
        if stream is None or stream.database != database:
            raise RpcError(grpc.StatusCode.NOT_FOUND, f"The write stream '{id_}' is not known; begin a new one.")
        self._streams.move_to_end(id_)
        return stream


class WriteTalk:
    """
    One Write call through a port.

    Args:
        streams: The streams of the server.
        commit: Waits for locks and commits.
        clock: The clock of the server.
        mouth: The way to the caller.
    """

    def __init__(self, streams: WriteStreams, commit: Commit, clock: Clock, mouth: Mouth) -> None:
        self._streams = streams
        self._commit = commit
        self._clock = clock
        self._mouth = mouth
        self._stream: WriteStream | None = None
        self._token = b""
        self._closed = False

    def heard(self, request: Any) -> None:
        """
        Greet, or take the next writes.
        """
        if self._stream is None:
            if request.writes:
                raise invalid("The first request of a write stream has no writes.")
            if not request.stream_id:
                id_, self._stream = self._streams.new(request.database)
                self._stream.talk = self
                self._mouth.say([m.WriteResponse(stream_id=id_, stream_token=_token(0))])
                return
            self._stream = self._streams.find(request.stream_id, request.database)
            # The writes that came before the break are applied first: the client hears of them, and does not repeat them.
            self._token = request.stream_token
            self._stream.waiting.append((self, None))
        else:
            self._stream.acknowledged(_number(request.stream_token))
            if request.writes:
                self._stream.waiting.append((self, request.writes))
        self._next(self._stream)

    def closed(self) -> None:
        """
        End the call after the writes that have come.
        """
        self._closed = True
        if self._stream is None:
            self._mouth.end()
        else:
            self._next(self._stream)

    def over(self) -> None:
        """
        Leave the stream for another call to resume; the writes that have come are applied.
        """
        if self._stream is not None and self._stream.talk is self:
            self._stream.talk = None

    def _next(self, stream: WriteStream) -> None:
        while stream.waiting and not stream.running:
            talk, writes = stream.waiting.popleft()
            if writes is None:
                talk._resume(stream)  # noqa: SLF001 - its own class
            else:
                stream.running = True
                talk._mouth.run(talk._applied(stream, writes), talk._answered)  # noqa: SLF001 - its own class
        if self._closed and not stream.running:
            self._mouth.end()

    def _resume(self, stream: WriteStream) -> None:
        number = _number(self._token)
        first = stream.kept[0][0] if stream.kept else stream.number + 1
        if not first - 1 <= number <= stream.number:
            self._mouth.soon(_refuse)
            return
        stream.acknowledged(number)
        stream.talk = self
        self._mouth.say([*(answer for _, answer in stream.kept), m.WriteResponse(stream_token=_token(stream.number))])

    def _applied(self, stream: WriteStream, writes: Sequence[m.AnyWrite]) -> Steps:
        try:
            committed = yield from self._commit(stream.database, writes, b"", self._clock.micros())
        except RpcError as error:
            return error
        finally:
            stream.running = False
        return committed

    def _answered(self, committed: Committed | RpcError) -> None:
        stream = self._stream
        assert stream is not None
        if isinstance(committed, RpcError):
            # The call ends with it, so the writes behind it are not applied either.
            kept = [each for each in stream.waiting if each[0] is not self]
            stream.waiting.clear()
            stream.waiting.extend(kept)
            self._next(stream)
            raise committed
        stream.number += 1
        answer = m.WriteResponse(stream_token=_token(stream.number))
        fill(answer, committed)
        stream.kept.append((stream.number, answer))
        if stream.talk is not None:
            stream.talk._mouth.say([answer])  # noqa: SLF001 - its own class
        if len(stream.kept) > UNACKNOWLEDGED:
            raise RpcError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many responses of this write stream are not acknowledged."
            )
        self._next(stream)


def _refuse() -> None:
    raise invalid("The stream token is neither the last one that this write stream has acknowledged nor a later one.")


def fill(response: m.AnyResponse, committed: Committed) -> None:
    """
    Put the time and the results of a commit into *response*.
    """
    m.set_time(response.commit_time, committed.time)
    for stored, results in committed.results:
        result = response.write_results.add()
        if stored is not None:
            m.set_time(result.update_time, stored.version)
        if results:
            result.transform_results.extend(results)


def _token(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _number(token: bytes) -> int:
    return int.from_bytes(token[:8], "big")
