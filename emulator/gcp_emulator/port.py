"""
Services on one loopback port: gRPC, and HTTP/1.1 if there is a handler for it.

One thread runs a port, with one asyncio loop; a call that waits holds no thread. In-process users need none of it, so the
libraries of the protocols are loaded when a port is started.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gcp_emulator.rest import Rest
from gcp_emulator.rpc import Service

if TYPE_CHECKING:
    from gcp_emulator.wire import Wire


@dataclass(slots=True)
class Port:
    """
    Services on one loopback port.

    Attributes:
        services: The served services.
        rest: Answers requests of HTTP/1.1; None: they are answered 404.
        address: ``127.0.0.1:port`` once started.
    """

    services: Sequence[Service]
    rest: Rest | None = None
    address: str = ""
    _wire: Wire | None = field(default=None, repr=False)
    _loop: asyncio.AbstractEventLoop | None = field(default=None, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)

    def start(self, port: int = 0) -> str:
        """
        Serve on *port* (0: a free one); returns the address.

        Raises:
            OSError: The port is taken.
        """
        from gcp_emulator.wire import Wire

        self._loop = asyncio.new_event_loop()
        self._wire = Wire(self.services, self.rest)
        self._thread = threading.Thread(target=self._run, name="gcp-emulator-port", daemon=True)
        self._thread.start()
        try:
            bound = self._wait(self._wire.open(port))
        except BaseException:
            self._end()
            raise
        self.address = f"127.0.0.1:{bound}"
        return self.address

    def stop(self, grace: float = 0.2) -> None:
        """
        Refuse new calls, let running ones end within *grace* seconds.

        A call that still waits then is answered UNAVAILABLE and has no effect.
        """
        if self._wire is not None:
            self._wait(self._wire.close(grace))
            self._end()

    async def call(self, service: Service, name: str, request: Any) -> Any:
        """
        Run one unary or streamed call in the loop of this port; a wait holds no thread.

        Raises:
            RpcError: The service's refusal.
        """
        assert self._wire is not None
        return await self._wire.call(service, name, request)

    def _run(self) -> None:
        assert self._loop is not None
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _wait(self, work: Any) -> Any:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end(self) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._wire = self._loop = self._thread = None
