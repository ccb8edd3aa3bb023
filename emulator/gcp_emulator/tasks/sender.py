"""
HTTP deliveries in one event loop: each waits for its answer without a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from gcp_emulator.tasks.transport import Answer, Dispatch, failure, quoted

# Shorter than the times for which servers keep an idle connection (gunicorn: 2 s), so that none is closed while a request
# is on its way to it.
_KEPT = 1.5
_LOOKUPS = 8
_OPENING = 4
_MOST = 65_536


def most_at_once() -> int:
    """
    Deliveries for which this process may open a connection each, with some files left for the rest of it.
    """
    try:
        import resource
    except ImportError:
        # Windows has no such limit.
        return _MOST
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if files == resource.RLIM_INFINITY else max(64, files - 256)


def allow_files() -> None:
    """
    Let this process open as many files as the system lets it, up to 65,536: each delivery under way is a connection.
    """
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    with contextlib.suppress(OSError, ValueError):
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class Sender:
    """
    Sends dispatches from one thread, any number at once, over connections that are kept. Redirects are not followed.

    The deadline bounds the whole delivery, up to the last byte of the answer.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ended: asyncio.Event | None = None
        self._session: Any = None

    def start(self) -> None:
        """
        Start the thread.
        """
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="tasks-deliveries", daemon=True)
        self._thread.start()
        started.wait()

    def stop(self) -> None:
        """
        Cancel the deliveries under way, and end the thread.
        """
        loop, ended, thread = self._loop, self._ended, self._thread
        if loop is None or ended is None or thread is None:
            return
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        self._loop = self._thread = self._ended = None

    def submit(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """
        Have *work* done in the loop; it must not raise.
        """
        if self._loop is None:
            raise RuntimeError("The sender is not started; start it first.")
        self._loop.call_soon_threadsafe(self._begin, work)

    async def send(self, dispatch: Dispatch) -> Answer:
        """
        Send one request and wait for the answer.
        """
        from aiohttp import ClientError

        try:
            if dispatch.answer_lost:
                async with asyncio.timeout(dispatch.deadline):
                    return await _send_only(dispatch)
            return await self._exchange(dispatch)
        except TimeoutError as error:
            return failure(dispatch, error, timed_out=True)
        except (ClientError, OSError, ValueError, TypeError) as error:
            return failure(dispatch, error)

    async def _exchange(self, dispatch: Dispatch) -> Answer:
        from aiohttp import ClientTimeout
        from yarl import URL

        async with self._session.request(
            dispatch.method,
            URL(quoted(dispatch.url), encoded=True),
            data=dispatch.body or None,
            headers=dispatch.headers,
            allow_redirects=False,
            # Without a threshold long deadlines would be rounded up to whole seconds.
            timeout=ClientTimeout(total=dispatch.deadline, ceil_threshold=float("inf")),
        ) as response:
            return Answer(response.status, await response.read())

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.ensure_future(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _run(self, started: threading.Event) -> None:
        loop = asyncio.new_event_loop()
        # Only the looking up of host names needs threads.
        loop.set_default_executor(ThreadPoolExecutor(_LOOKUPS, "tasks-lookup"))
        self._tasks: set[asyncio.Future[None]] = set()
        try:
            loop.run_until_complete(self._serve(loop, started))
        finally:
            started.set()
            loop.close()

    async def _serve(self, loop: asyncio.AbstractEventLoop, started: threading.Event) -> None:
        from aiohttp import ClientSession, DummyCookieJar

        self._ended = asyncio.Event()
        connector = _connector()
        async with ClientSession(
            connector=connector,
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        ) as self._session:
            self._loop = loop
            started.set()
            await self._ended.wait()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)


def _connector() -> Any:
    """
    A pool of any number of connections, of which few are opened at once to one server.

    A server that keeps five callers waiting drops the others, and those try again seconds later, all at the same time: so it
    would take minutes to open some hundred connections to Python's own HTTP server.
    """
    from aiohttp import TCPConnector

    class Gated(TCPConnector):
        async def connect(self, req: Any, *arguments: Any, **options: Any) -> Any:
            gate = gates.setdefault(req.connection_key, asyncio.Semaphore(_OPENING))
            async with gate:
                return await super().connect(req, *arguments, **options)

    gates: dict[Any, asyncio.Semaphore] = {}
    return Gated(limit=0, keepalive_timeout=_KEPT)


async def _send_only(dispatch: Dispatch) -> Answer:
    """
    Send the whole request and drop the connection; the handler goes on with the request.
    """
    parts = urlsplit(quoted(dispatch.url))
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    context = ssl.create_default_context() if secure else None
    _, writer = await asyncio.open_connection(parts.hostname, port, ssl=context)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{dispatch.method} {target} HTTP/1.1", f"Host: {parts.netloc.rpartition('@')[2]}"]
        lines += [f"{name}: {value}" for name, value in dispatch.headers.items()]
        lines.append(f"Content-Length: {len(dispatch.body)}")
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a header has a line break")
        writer.write("\r\n".join([*lines, "", ""]).encode() + dispatch.body)
        await writer.drain()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return Answer(None)
