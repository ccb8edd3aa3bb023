"""
Transports that carry a dispatch to its handler: HTTP over sockets, or WSGI in this process.
"""

from __future__ import annotations

import socket
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Protocol, TypeAlias
from urllib.parse import quote, urlsplit, urlunsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as DeadlineError
from werkzeug.test import EnvironBuilder, run_wsgi_app

WsgiApp: TypeAlias = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Dispatch:
    """
    One request to a handler.

    Attributes:
        deadline: Seconds until the queue stops listening.
        answer_lost: The request is to be sent and the answer need not be waited for; it does not count.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    deadline: float
    answer_lost: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """
    The answer to a dispatch.

    Attributes:
        status: HTTP status; None if there was no answer.
        body: The answer's body.
        timed_out: No answer within the dispatch deadline.
    """

    status: int | None
    body: bytes = b""
    timed_out: bool = False


class Transport(Protocol):
    """
    Sends one dispatch and waits for its answer; called from several threads at once.

    A plain status, or None for no answer, will do as an answer.
    """

    def __call__(self, dispatch: Dispatch, /) -> Answer | int | None: ...


class HttpTransport:
    """
    HTTP with kept-alive connections. Redirects are not followed: 302 is an answer like any other.

    Called, it holds the calling thread, and the deadline bounds the connecting and every single wait for bytes, not a body
    that trickles. A server that dispatches in the background does not call it: there HTTP needs no thread for a delivery.
    """

    def __init__(self, connections: int = 64) -> None:
        """
        Open nothing yet.

        Args:
            connections: Connections kept per host.
        """
        self._pool = urllib3.PoolManager(num_pools=32, maxsize=connections, block=False, retries=False)

    def __call__(self, dispatch: Dispatch) -> Answer:
        try:
            if dispatch.answer_lost:
                return _send_only(dispatch)
            response = self._pool.request(
                dispatch.method,
                dispatch.url,
                body=dispatch.body or None,
                headers=dispatch.headers,
                timeout=urllib3.Timeout(total=dispatch.deadline),
                redirect=False,
                retries=False,
            )
        except NewConnectionError as error:
            # It is one of the timeouts of urllib3, and none.
            return failure(dispatch, error)
        except DeadlineError as error:
            return failure(dispatch, error, timed_out=True)
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            return failure(dispatch, error)
        return Answer(response.status, response.data)

    def close(self) -> None:
        """
        Close the connections that are idle; the next dispatch opens new ones.
        """
        self._pool.clear()


def quoted(url: str) -> str:
    """
    *url* with the characters percent-encoded that no request line may have, and its host in ASCII; other characters stay as
    they are.
    """
    if not url.isascii():
        parts = urlsplit(url)
        with suppress(UnicodeError):
            url = urlunsplit(parts._replace(netloc=parts.netloc.encode("idna").decode()))
    return quote(url, safe="!#$%&'()*+,/:;=?@[]~")


def failure(dispatch: Dispatch, error: BaseException, *, timed_out: bool = False) -> Answer:
    """
    The answer to a dispatch that got none, with a sentence that says why.

    The sentences are ours: no text of the service is on record for an address that can't be reached.
    """
    host = urlsplit(dispatch.url).netloc.rpartition("@")[2]
    causes = tuple(_causes(error))
    if timed_out:
        sentence = f"{host} did not answer within the deadline of {dispatch.deadline:g} s."
    elif any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        sentence = f"{host} refused the connection; no server listens there."
    elif any(isinstance(cause, socket.gaierror) or "DNS" in type(cause).__name__ for cause in causes):
        sentence = f"The host of {host} is unknown."
    elif any(isinstance(cause, ConnectionError) or "Disconnected" in type(cause).__name__ for cause in causes):
        sentence = f"{host} closed the connection without an answer."
    else:
        sentence = f"The delivery to {host} failed: {error!r}"
    return Answer(None, sentence.encode(), timed_out)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    left = [error]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        below = (
            one.__cause__,
            one.__context__,
            getattr(one, "os_error", None),
            getattr(one, "reason", None),
            *one.args,
        )
        left.extend(cause for cause in below if isinstance(cause, BaseException))


class WsgiTransport:
    """
    WSGI applications in this process, by the address they answer for.

    An exception out of an application is answered 500 with the traceback, as a server would.
    """

    def __init__(self, mounts: Mapping[str, WsgiApp] | None = None) -> None:
        """
        Mount applications.

        Args:
            mounts: Applications by origin, such as ``https://orders.test``.
        """
        self._lock = threading.Lock()
        self._mounts: dict[str, WsgiApp] = {}
        for origin, app in (mounts or {}).items():
            self.mount(origin, app)

    def mount(self, origin: str, app: WsgiApp) -> None:
        """
        Deliver dispatches for *origin* to *app*, in place of an app that was mounted there.
        """
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/") or parts.query:
            raise ValueError(f"{origin!r} is no origin; mount at scheme and host alone, such as https://orders.test.")
        with self._lock:
            self._mounts = {**self._mounts, f"{parts.scheme}://{parts.netloc}".lower(): app}

    def __call__(self, dispatch: Dispatch) -> Answer:
        parts = urlsplit(dispatch.url)
        origin = f"{parts.scheme}://{parts.netloc}".lower()
        app = self._mounts.get(origin)
        if app is None:
            mounted = ", ".join(sorted(self._mounts)) or "nothing"
            raise LookupError(
                f"No application is mounted for {origin} (mounted: {mounted}); mount one, or schedule to another "
                "address."
            )
        builder = EnvironBuilder(
            method=dispatch.method,
            path=parts.path or "/",
            base_url=origin,
            query_string=parts.query,
            headers=list(dispatch.headers.items()),
            data=dispatch.body,
        )
        try:
            chunks, status, _ = run_wsgi_app(app, builder.get_environ(), buffered=True)
            answer = Answer(int(status.partition(" ")[0]), b"".join(chunks))
        except Exception:  # noqa: BLE001 - a WSGI server answers 500 to any exception of the application
            answer = Answer(500, traceback.format_exc().encode())
        finally:
            builder.close()
        return answer


def _send_only(dispatch: Dispatch) -> Answer:
    """
    Send the whole request and drop the connection; the handler goes on with the request.
    """
    url = urllib3.util.parse_url(dispatch.url)
    kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
    connection = kind(url.host or "", url.port, timeout=dispatch.deadline)
    try:
        connection.request(dispatch.method, url.request_uri, body=dispatch.body or None, headers=dict(dispatch.headers))
    finally:
        connection.close()
    return Answer(None)
