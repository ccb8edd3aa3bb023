"""
The outside world: a payment service that records every call, and charges once per idempotency key. A GET tells the charge of
a key.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Payments:
    """
    A payment service, with a record of its calls.

    Attributes:
        calls: Keys of the calls, by order.
        charges: Charge id by key.
        running: Process ids of callers whose call has just been answered; the demo kills some of them.
        struck: Of an order the signal that its next caller gets when the card is charged, before it hears the answer.
        struck_before: The same, before the card is charged.
    """

    calls: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    charges: dict[str, str] = field(default_factory=dict)
    running: list[int] = field(default_factory=list)
    struck: dict[str, signal.Signals] = field(default_factory=dict)
    struck_before: dict[str, signal.Signals] = field(default_factory=dict)
    url: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _server: ThreadingHTTPServer | None = None

    def charge(self, order: str, key: str, pid: int) -> str:
        """
        Return the charge of *key*; only a new key gets a new charge.
        """
        with self._lock:
            if order in self.struck_before:
                os.kill(pid, self.struck_before.pop(order))
                raise ConnectionAbortedError
            self.calls[order].append(key)
            self.running.append(pid)
            charge = self.charges.setdefault(key, f"ch_{len(self.charges) + 1}")
            if order in self.struck:
                os.kill(pid, self.struck.pop(order))
            return charge

    def start(self) -> str:
        """
        Serve on a free loopback port; return the URL.
        """
        payments = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with suppress(ConnectionAbortedError):
                    self._answer({"charge": payments.charge(data["order"], data["key"], data["pid"])})

            def do_GET(self) -> None:
                [key] = parse_qs(urlsplit(self.path).query).get("key", [""])
                self._answer({"charge": payments.charges.get(key)})

            def _answer(self, facts: dict[str, str | None]) -> None:
                body = json.dumps(facts).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with suppress(ConnectionError):
                    self.wfile.write(body)

            def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 - as the base says it
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/charges"
        return self.url

    def stop(self) -> None:
        """
        Stop serving.
        """
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def repeated(self) -> int:
        """
        Number of calls beyond the first of their key.
        """
        return sum(len(keys) - len(set(keys)) for keys in self.calls.values())
