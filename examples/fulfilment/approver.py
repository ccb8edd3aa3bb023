"""
A person who approves orders: an HTTP service that gets the links, opens the one that it chooses, and presses its button.
"""

from __future__ import annotations

import threading
import urllib.request
from queue import SimpleQueue
from typing import Any
from urllib.error import URLError

from examples.json_server import JsonServer


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
        self._server = JsonServer(self._answer)
        self.url = f"{self._server.url}/approvals"
        self._hand = threading.Thread(target=self._press_all, daemon=True)
        self._hand.start()

    def _answer(self, _: str, data: dict[str, str]) -> tuple[int, Any]:
        self.decide(data["order"], data["yes"], data["no"])
        return 200, {}

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
        self._server.stop()
