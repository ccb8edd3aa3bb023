"""
The RPCs of one HTTP/2 connection of a port.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import Message
from grpclib.protocol import AbstractHandler, Stream
from h2.connection import H2Connection
from h2.exceptions import H2Error

from gcp_emulator import frames
from gcp_emulator.clock import Clock
from gcp_emulator.parking import held
from gcp_emulator.rpc import Method, RpcError, Service, Talk
from gcp_emulator.waiting import Steps

if TYPE_CHECKING:
    from gcp_emulator.wire import Wire

STOPPED = RpcError(grpc.StatusCode.UNAVAILABLE, "This local server stops.")
_HEAD = [(":status", "200"), ("content-type", "application/grpc")]
_DONE = [("grpc-status", "0")]


class Calls(AbstractHandler):
    """
    The RPCs of one connection.

    Attributes:
        writing: Those that may have to wait until the client takes more data.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._h2: H2Connection | None = None
        self._transport: asyncio.Transport | None = None
        self.writing: set[Stream] = set()
        self._interested: dict[Stream, asyncio.Task[None]] = {}
        self._talking: set[Voice] = set()

    def connected(self, h2: H2Connection, transport: asyncio.Transport) -> None:
        """
        Write to this connection from now on.
        """
        self._h2, self._transport = h2, transport

    def accept(self, stream: Stream, headers: Any, release_stream: Callable[[], None]) -> None:
        call = asyncio.get_running_loop().create_task(self._run(stream, dict(headers), release_stream))
        self._interested[stream] = call
        self._wire.calls.add(call)
        call.add_done_callback(self._wire.calls.discard)

    def cancel(self, stream: Stream) -> None:
        # A call that has begun goes on without its caller, as at Google.
        call = self._interested.pop(stream, None)
        if call is not None:
            call.cancel()

    def close(self) -> None:
        for stream in tuple(self._interested):
            self.cancel(stream)

    def hang_up(self) -> None:
        """
        End the RPCs of two streams.
        """
        for mouth in tuple(self._talking):
            mouth.stop(STOPPED)

    def say_goodbye(self) -> None:
        """
        Tell the client to leave.
        """
        assert self._h2 is not None
        assert self._transport is not None
        if not self._transport.is_closing():
            self._h2.close_connection()
            self._transport.write(self._h2.data_to_send())

    async def _run(self, stream: Stream, headers: dict[str, str], release: Callable[[], None]) -> None:
        try:
            await self._answer(stream, headers)
        except RpcError as error:
            await self._send(stream, [], frames.trailers(error))
        except asyncio.CancelledError:
            if self._wire.closing:
                await self._send(stream, [], frames.trailers(STOPPED))
        finally:
            self._interested.pop(stream, None)
            release()

    async def _answer(self, stream: Stream, headers: dict[str, str]) -> None:
        if not headers.get("content-type", "").startswith("application/grpc"):
            await self._send(stream, None, [(":status", "415")])
            return
        if self._wire.closing:
            raise STOPPED
        _, owner, name = f"{headers[':path']}//".split("/")[:3]
        service = self._wire.services.get(owner)
        if service is None:
            served = ", ".join(self._wire.services)
            raise RpcError(
                grpc.StatusCode.UNIMPLEMENTED,
                f"This local server has no service {owner or '(none)'}; it serves {served}.",
            )
        method = service.methods.get(name)
        encoding = headers.get("grpc-encoding", "identity")
        if method is not None and method.bidi:
            await self._talk(stream, service, name, method, encoding)
            return
        message = await frames.read(stream, encoding)
        if message is None:
            raise RpcError(grpc.StatusCode.INTERNAL, f"The call of {owner}/{name} came without a request.")
        request = None if method is None else frames.parsed(method, message)
        interested = self._interested.pop(stream, None)
        answer = await self._wire.call(service, name, request)
        if interested is not None and stream.closable:
            self._interested[stream] = interested
            assert method is not None
            await self._send(stream, answer if method.stream else (answer,), _DONE)

    async def _talk(self, stream: Stream, service: Service, name: str, method: Method, encoding: str) -> None:
        path = f"{service.name}/{name}"
        mouth = Voice(self._wire.calls, service.clock, path)
        talk = await self._wire.call(service, name, mouth)
        listening = asyncio.create_task(_listen(stream, method, encoding, mouth, talk))
        self._talking.add(mouth)
        end = _DONE
        try:
            await stream.send_headers(_HEAD)
            while (said := await mouth.next()) is not None:
                await self._send_data(stream, said)
        except RpcError as error:
            end = frames.trailers(error)
        except H2Error:
            return
        finally:
            self._talking.discard(mouth)
            listening.cancel()
            talk.over()
        if stream.closable:
            await stream.send_headers(end, end_stream=True)
            if stream.closable:
                stream.reset_nowait()

    async def _send_data(self, stream: Stream, data: bytes) -> None:
        self.writing.add(stream)
        try:
            await stream.send_data(data)
        finally:
            self.writing.discard(stream)

    async def _send(self, stream: Stream, answers: Iterable[Message] | None, trailers: list[tuple[str, str]]) -> None:
        """
        Send the whole answer of a call, in one write if it is small; None: the trailers are all.
        """
        data = b"".join(map(frames.framed, answers or ()))
        h2, transport, id_ = self._h2, self._transport, stream.id
        assert h2 is not None
        assert transport is not None
        assert id_ is not None
        try:
            await stream.connection.write_ready.wait()
            if not stream.closable:
                return
            if answers is None:
                h2.send_headers(id_, trailers, end_stream=True)
            elif not data:
                h2.send_headers(id_, _HEAD + trailers, end_stream=True)
            else:
                h2.send_headers(id_, _HEAD)
                if len(data) <= min(h2.local_flow_control_window(id_), h2.max_outbound_frame_size):
                    h2.send_data(id_, data)
                else:
                    await self._send_data(stream, data)
                h2.send_headers(id_, trailers, end_stream=True)
            transport.write(h2.data_to_send())
            if stream.closable:
                # The caller goes on with a request that is not read any more.
                stream.reset_nowait()
        except H2Error:
            # The caller has gone.
            return


class Voice:
    """
    The way to the caller of one RPC of two streams: a ``Mouth``.
    """

    def __init__(self, running: set[asyncio.Task[None]], clock: Clock, path: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._running = running
        self._clock = clock
        self._path = path
        self._said: deque[bytes] = deque()
        self._end: list[RpcError | None] = []
        self._more = asyncio.Event()

    def say(self, answers: Iterable[Message]) -> None:
        self._said.extend(map(frames.framed, answers))
        self._more.set()

    def soon(self, call: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(self.try_, call)

    def try_(self, call: Callable[[], None]) -> None:
        """
        Run *call*; its refusal ends the RPC.
        """
        if self._end:
            return
        try:
            call()
        except RpcError as error:
            self.stop(error)
        except Exception as error:  # noqa: BLE001 - told, and printed
            self.stop(frames.internal(self._path, error))

    def run(self, steps: Steps, then: Callable[[Any], None]) -> None:
        async def run() -> None:
            try:
                then(await held(steps, self._clock))
            except RpcError as error:
                self.stop(error)
            except Exception as error:  # noqa: BLE001 - told, and printed
                self.stop(frames.internal(self._path, error))

        running = self._loop.create_task(run())
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    def end(self) -> None:
        self._end.append(None)
        self._more.set()

    def stop(self, error: RpcError) -> None:
        """
        End the RPC with *error*, after the answers so far.
        """
        self._end.append(error)
        self._more.set()

    async def next(self) -> bytes | None:
        """
        Wait for the next answers; None after the last one.

        Raises:
            RpcError: The call ends with this refusal.
        """
        while not self._said:
            if self._end:
                if self._end[0] is not None:
                    raise self._end[0]
                return None
            self._more.clear()
            await self._more.wait()
        said = b"".join(self._said)
        self._said.clear()
        return said


async def _listen(stream: Stream, method: Method, encoding: str, mouth: Voice, talk: Talk) -> None:
    try:
        while (message := await frames.read(stream, encoding)) is not None:
            request = frames.parsed(method, message)
            mouth.try_(partial(talk.heard, request))
    except RpcError as error:
        mouth.stop(error)
    else:
        mouth.try_(talk.closed)
