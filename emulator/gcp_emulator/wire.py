"""
The protocols of a port: HTTP/2 with gRPC, and HTTP/1.1, told apart by the first bytes of a connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import GeneratorType
from typing import Any, cast

from grpclib.config import Configuration
from grpclib.protocol import Connection, EventsProcessor, H2Protocol
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import WindowUpdated
from h2.settings import SettingCodes

from gcp_emulator import frames
from gcp_emulator.calls import Calls
from gcp_emulator.parking import held
from gcp_emulator.rest import Rest
from gcp_emulator.rpc import RpcError, Service

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STREAMS = 2**31 - 1
"""
RPCs that one connection may have open at once.
"""
_NO_HTTP = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
_GRPC_ONLY = b"This port answers gRPC, and no HTTP/1.1 requests.\n"


class Wire:
    """
    The connections of one port. All runs in one loop, but for the constructor.
    """

    def __init__(self, services: Sequence[Service], rest: Rest | None) -> None:
        self.services = {service.name: service for service in services}
        self.closing = False
        self.connections: set[_Sniffed] = set()
        self.calls: set[asyncio.Task[None]] = set()
        self._rest = rest
        self._http_server: Any = None
        self._listening: asyncio.Server | None = None

    async def open(self, port: int) -> int:
        """
        Accept connections on *port* (0: a free one); returns the port.
        """
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(lambda: _Sniffed(self), "127.0.0.1", port, backlog=1024)
        return int(self._listening.sockets[0].getsockname()[1])

    async def close(self, grace: float) -> None:
        """
        Close the port; running calls have *grace* seconds.
        """
        self.closing = True
        assert self._listening is not None
        self._listening.close()
        for connection in tuple(self.connections):
            connection.hang_up()
        if self.calls:
            await asyncio.wait(self.calls, timeout=grace)
        for call in self.calls:
            call.cancel()
        if self.calls:
            await asyncio.wait(self.calls)
        if self._http_server is not None:
            await self._http_server.shutdown(grace)
        for connection in tuple(self.connections):
            connection.end()
        await asyncio.sleep(0)

    async def call(self, service: Service, name: str, request: Any) -> Any:
        """
        Run one call; a wait holds no thread.

        Raises:
            RpcError: The service's refusal; INTERNAL, with a traceback on the terminal, for a mistake of this server.
        """
        try:
            answer = service.begin(name, request)
            return await held(answer, service.clock) if type(answer) is GeneratorType else answer
        except (RpcError, asyncio.CancelledError):
            raise
        except Exception as error:
            raise frames.internal(f"{service.name}/{name}", error) from error

    def http(self) -> Any:
        """
        Return a protocol of HTTP/1.1 for one connection; None if the port has no addresses.
        """
        if self._rest is None:
            return None
        if self._http_server is None:
            from gcp_emulator.web import server

            self._http_server = server(self._rest, lambda asked: self.call(asked.service, asked.rpc, asked.request))
        return self._http_server()


class _Sniffed(asyncio.Protocol):
    """
    A connection: its first bytes say which protocol takes it over.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._begun = b""
        self._transport: asyncio.Transport | None = None
        self._calls: Calls | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._wire.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._begun += data
        if PREFACE.startswith(self._begun):
            if len(self._begun) < len(PREFACE):
                return
        elif not self._begun.startswith(PREFACE):
            self._take(self._wire.http())
            return
        self._calls = Calls(self._wire)
        self._take(_Http2(self._calls, self))

    def _take(self, protocol: Any) -> None:
        transport, begun = self._transport, self._begun
        assert transport is not None
        if protocol is None:
            transport.write(_NO_HTTP % (len(_GRPC_ONLY), _GRPC_ONLY))
            transport.close()
            return
        if self._calls is None:
            self._wire.connections.discard(self)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(begun)

    def hang_up(self) -> None:
        """
        End the RPCs of two streams.
        """
        if self._calls is not None:
            self._calls.hang_up()

    def end(self) -> None:
        """
        Tell the client to leave, and close the connection.
        """
        assert self._transport is not None
        if self._calls is not None:
            self._calls.say_goodbye()
        self._transport.close()


class _H2(H2Connection):
    """
    h2's connection, without its look at every open stream for each new one.
    """

    def __init__(self, config: H2Configuration) -> None:
        super().__init__(config=config)
        self._most = 100
        self.local_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = STREAMS
        self.local_settings.acknowledge()

    @property
    def open_inbound_streams(self) -> int:
        """
        No limit is kept, so nothing is counted; now and then h2 forgets its closed streams by counting.
        """
        if len(self.streams) > self._most:
            self._most = 2 * super().open_inbound_streams + 100
        return 0


class _Events(EventsProcessor):
    """
    grpclib's events, without its look at every open stream whenever the client takes more data.
    """

    def __init__(self, calls: Calls, connection: Connection) -> None:
        super().__init__(calls, connection)
        self._calls = calls

    def process_window_updated(self, event: WindowUpdated) -> None:
        if event.stream_id:
            super().process_window_updated(event)
        else:
            for stream in self._calls.writing:
                stream.window_updated.set()


class _Http2(H2Protocol):
    """
    grpclib's protocol for one connection.
    """

    def __init__(self, calls: Calls, sniffed: _Sniffed) -> None:
        config = Configuration().__for_server__()
        h2_config = H2Configuration(
            client_side=False,
            header_encoding="latin-1",
            validate_inbound_headers=False,
            validate_outbound_headers=False,
            normalize_inbound_headers=False,
            normalize_outbound_headers=False,
        )
        super().__init__(calls, config, h2_config)
        self._calls = calls
        self._sniffed = sniffed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """
        As grpclib's, with a connection without its limit of a hundred streams.
        """
        connection = _H2(self.h2_config)
        connection.initiate_connection()
        connection.increment_flow_control_window(
            self.config.http2_connection_window_size - connection.local_settings.initial_window_size
        )
        connection.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: self.config.http2_stream_window_size})
        self.connection = Connection(connection, cast("asyncio.Transport", transport), config=self.config)
        self.connection.flush()
        self.connection.initialize()
        self.processor = _Events(self._calls, self.connection)
        self._calls.connected(connection, cast("asyncio.Transport", transport))

    def connection_lost(self, exc: BaseException | None) -> None:
        self._sniffed.connection_lost(None)
        super().connection_lost(exc)
