"""
The outside world: a payment service that records every call, and charges once per idempotency key. A GET tells the charge of
a key.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from examples.json_server import JsonServer


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
    _server: JsonServer | None = None

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
        self._server = JsonServer(self._answer)
        self.url = f"{self._server.url}/charges"
        return self.url

    def _answer(self, path: str, data: dict[str, Any] | None) -> tuple[int, Any] | None:
        if data is None:
            [key] = parse_qs(urlsplit(path).query).get("key", [""])
            return 200, {"charge": self.charges.get(key)}
        try:
            return 200, {"charge": self.charge(data["order"], data["key"], data["pid"])}
        except ConnectionAbortedError:
            return None

    def stop(self) -> None:
        """
        Stop serving.
        """
        if self._server is not None:
            self._server.stop()

    def repeated(self) -> int:
        """
        Number of calls beyond the first of their key.
        """
        return sum(len(keys) - len(set(keys)) for keys in self.calls.values())
