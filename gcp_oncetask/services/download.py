"""
Download one small file by HTTP, within limits of time and size. The only importer of requests.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Mapping
from http.client import HTTPResponse
from typing import Any, Final, NamedTuple

import requests
from requests.adapters import HTTPAdapter

from gcp_oncetask.clock import Mark, SystemClock, at_least

_CLOCK: Final = SystemClock()
"""The machine's clock: sockets don't know a virtual one."""


class Downloaded(NamedTuple):
    """
    A server's answer with status 200.
    """

    body: bytes
    headers: Mapping[str, str]

    def json(self) -> Any:
        """
        Return the body as JSON data.

        Raises:
            ValueError: The body is no JSON.
        """
        try:
            return json.loads(self.body)
        except RecursionError:
            raise ValueError("the answer is nested too deeply") from None


def get(url: str, *, seconds: float, size: int, headers: Mapping[str, str] | None = None) -> Downloaded:
    """
    Fetch *url*. Redirections are not followed, because only this address is trusted.

    Args:
        url: Its address; proxies and certificate authorities are those of the environment.
        seconds: The call ends within this time, however slow the server is. It includes the look-up of the name,
            connecting, headers and body.
        size: Most bytes that are read, headers included.
        headers: Sent with the request.

    Raises:
        OSError: There was no whole answer, it was too large, or its status is an error.
        ValueError: The answer has not status 200, or its body is compressed.
    """
    limits = _Limits(seconds, size)
    found: list[Downloaded | Exception] = []

    def fetch() -> None:
        try:
            found.append(_get(url, limits, headers or {}))
        except Exception as error:  # noqa: BLE001 - it is raised in the caller's thread
            found.append(error)

    # The look-up of a name and the attempts to connect take no time limit, so they run in a thread that can be abandoned.
    thread = threading.Thread(target=fetch, name="oncetask-download", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(str(error)) from error
    thread.join(seconds)
    if not found:
        raise TimeoutError(f"there was no whole answer within {seconds:g} s")
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


class _Limits:
    # The time and bytes that a download has left. A socket's time-out limits one read only, and a server may send byte by
    # byte.

    def __init__(self, seconds: float, size: int) -> None:
        self._start: Mark = _CLOCK.mark()
        self._seconds = seconds
        self._size = self._most = size

    def seconds(self) -> float:
        left = self._seconds - at_least(self._start, _CLOCK.mark())
        if left <= 0:
            raise TimeoutError(f"there was no whole answer within {self._seconds:g} s")
        return left

    def count(self, size: int) -> None:
        self._size -= size
        if self._size < 0:
            raise OSError(f"the answer has more than {self._most:,} bytes")


def _get(url: str, limits: _Limits, headers: Mapping[str, str]) -> Downloaded:
    with requests.Session() as session:
        session.mount("http://", _Adapter(limits))
        session.mount("https://", _Adapter(limits))
        # A compressed body may be a thousand times as large as its bytes.
        asked = {"Accept-Encoding": "identity", **headers}
        with session.get(url, headers=asked, timeout=limits.seconds(), allow_redirects=False, stream=True) as response:
            response.raise_for_status()
            if response.status_code != requests.codes.ok or "Content-Encoding" in response.headers:
                encoding = response.headers.get("Content-Encoding", "none")
                raise ValueError(f"the answer has status {response.status_code} and encoding {encoding[:100]!r}")
            return Downloaded(response.content, response.headers)


class _Adapter(HTTPAdapter):
    # Makes connections, to a server or to a proxy, that read answers within the limits.

    def __init__(self, limits: _Limits) -> None:
        class Response(HTTPResponse):
            def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
                super().__init__(sock, *args, **options)
                self.fp = io.BufferedReader(_Limited(self.fp.detach(), sock, limits))

        self._response = Response
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self._limit(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        return self._limit(super().proxy_manager_for(*args, **options))

    def _limit(self, manager: Any) -> Any:
        pools = {}
        for scheme, pool in manager.pool_classes_by_scheme.items():
            connection = type("Connection", (pool.ConnectionCls,), {"response_class": self._response})
            pools[scheme] = type("Pool", (pool,), {"ConnectionCls": connection})
        manager.pool_classes_by_scheme = pools
        return manager


class _Limited(io.RawIOBase):
    def __init__(self, raw: Any, sock: Any, limits: _Limits) -> None:
        self._raw, self._sock, self._limits = raw, sock, limits

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._limits.seconds())
        size: int | None = self._raw.readinto(buffer)
        self._limits.count(size or 0)
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()
