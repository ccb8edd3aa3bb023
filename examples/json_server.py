"""
An HTTP server on a free loopback port, for the outside world of an example: JSON in, JSON out.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str, Any], tuple[int, Any] | None]
"""Called with the path and the JSON data of a POST, or None for a GET; returns status and data, or None to send no answer."""


class JsonServer:
    """
    Answers each request by a function, in a thread of its own.

    Attributes:
        url: Where it serves, without a path.
    """

    def __init__(self, answer: Answer) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._send(answer(self.path, None))

            def do_POST(self) -> None:
                self._send(answer(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

            def _send(self, found: tuple[int, Any] | None) -> None:
                if found is None:
                    return
                body = json.dumps(found[1]).encode()
                self.send_response(found[0])
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                # The caller may have been killed.
                with suppress(ConnectionError):
                    self.wfile.write(body)

            def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 - as the base says it
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        """
        Stop serving.
        """
        self._server.shutdown()
        self._server.server_close()
