"""
A person who approves orders: an HTTP service that gets the links, opens the one that it chooses, and presses its button.
"""

from __future__ import annotations

import json
import threading
import urllib.request
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from typing import Any
from urllib.error import URLError


class Approver:
    """
    Answers the questions about orders.

    Attributes:
        asked: Answer by order: True, False, or None for no answer at all.
        pressed: Number of buttons that were pressed, by order.
    """

    def __init__(self) -> None:
        self.asked: dict[str, bool | None] = {}
        self.pressed: dict[str, int] = {}
        self._todo: SimpleQueue[tuple[str, str] | None] = SimpleQueue()
        approver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                approver.decide(data["order"], data["yes"], data["no"])
                body = b"{}"
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with suppress(ConnectionError):
                    self.wfile.write(body)

            def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 - as the base says it
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/approvals"
        self._hand = threading.Thread(target=self._press_all, daemon=True)
        self._hand.start()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def decide(self, order: str, yes: str, no: str) -> None:
        """
        Choose an answer by the last digit of the order: 3 is refused, 8 gets no answer, others are approved.
        """
        chosen = {"3": False, "8": None}.get(order[-1], True)
        self.asked[order] = chosen
        if chosen is not None:
            self._todo.put((order, yes if chosen else no))

    def _press_all(self) -> None:
        while (found := self._todo.get()) is not None:
            order, link = found
            try:
                with urllib.request.urlopen(link, timeout=10) as page:
                    page.read()
                with urllib.request.urlopen(urllib.request.Request(link, data=b"", method="POST"), timeout=10):
                    self.pressed[order] = self.pressed.get(order, 0) + 1
            except URLError:
                # The process that served the page was killed; the person tries again.
                self._todo.put(found)

    def stop(self) -> None:
        """
        Stop serving.
        """
        self._todo.put(None)
        self._hand.join()
        self._server.shutdown()
        self._server.server_close()
