"""
The listening side: HTTP/1.1 with keep-alive on a loopback port, one thread per connection.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from gcp_emulator.http_server import HttpServer
from gcp_emulator.run.instance import Answer, Headers

MAX_BODY = 32 * 1024 * 1024
_HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
    )
)
_BODILESS = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


@dataclass(frozen=True, slots=True)
class Request:
    """
    A request as it came in, without hop-by-hop headers.

    Attributes:
        target: Path with query, as written on the request line.
    """

    method: str
    target: str
    headers: Headers
    body: bytes
    remote_ip: str

    def header(self, name: str) -> str:
        """
        First value of a header, or the empty string.
        """
        return next((value for key, value in self.headers if key.lower() == name), "")


class Front:
    """
    A server that answers every request by calling *handle*.
    """

    def __init__(self, handle: Callable[[Request], Answer], port: int) -> None:
        self._server = _Server(_Connection, port, "run-front")
        self._server.handle_whole = handle
        self.port = self._server.port
        self._server.start()

    def stop_accepting(self) -> None:
        """
        Close the port; open connections go on.
        """
        self._server.stop()

    def close(self) -> None:
        """
        Close the remaining connections.
        """
        self._server.close_connections()


class _Server(HttpServer):
    handle_whole: Callable[[Request], Answer]

    def __init__(self, *arguments: Any) -> None:
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._open.discard(request)
            self._changed.notify_all()

    def close_connections(self) -> None:
        with self._changed:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._open, 5.0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """
        A client that went away is no news; anything else is a bug and shown.
        """
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _forward(self) -> None:
        body = self._body()
        if body is None:
            return
        kept = [(name, value) for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP]
        if body or self.command in ("POST", "PUT", "PATCH"):
            kept.append(("Content-Length", str(len(body))))
        self._send(self.server.handle_whole(Request(self.command, self.path, kept, body, self.client_address[0])))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _forward  # noqa: N815 - http.server's names

    def _body(self) -> bytes | None:
        if "Transfer-Encoding" in self.headers:
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "This local server takes bodies with a Content-Length only.")
            return None
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal():
            self._refuse(HTTPStatus.BAD_REQUEST, "The Content-Length is no number.")
            return None
        if int(length) > MAX_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "A request has at most 32 MiB.")
            return None
        return self.rfile.read(int(length))

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        self.close_connection = True
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Connection", "close")]
        self._send(Answer(status, status.phrase, headers, sentence.encode()))

    def _send(self, answer: Answer) -> None:
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
        for name, value in answer.headers:
            if name.lower() not in _HOP_BY_HOP or (name.lower() == "content-length" and self.command == "HEAD"):
                lines.append(f"{name}: {value}")
        if self.command != "HEAD" and answer.status not in _BODILESS:
            lines.append(f"Content-Length: {len(answer.body)}")
        if self.close_connection:
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        try:
            self.wfile.write(head + answer.body)
        except OSError:
            # The client has gone; over HTTP/1.1 the container is never told.
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """
        Nothing: the request log says it.
        """
