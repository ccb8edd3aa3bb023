"""
The outside world: a language model and a search service behind HTTP. The model answers by a script, is busy now and then, and
counts the calls that it got.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from examples.json_server import JsonServer

TOPICS = ("price", "stock", "delivery")


def reply_to(history: list[dict[str, str]]) -> dict[str, Any]:
    """
    Return the model's next turn: first a search for each topic, then a question to a person, then the answer.
    """
    found = [line["content"] for line in history if line["role"] == "tool"]
    if len(found) < len(TOPICS):
        return {"tool": "search", "argument": TOPICS[len(found)], "text": "", "tokens": 120}
    answers = [line["content"] for line in history if line["role"] == "person"]
    if not answers:
        return {"tool": "ask", "argument": "May I order 40 pieces?", "text": "", "tokens": 80}
    return {"tool": None, "argument": "", "text": f"{'; '.join(found)}. The person says {answers[0]}.", "tokens": 200}


class World:
    """
    Serves the model at ``/model`` and the search at ``/search``.

    Attributes:
        calls: Number of calls that were answered, by their subject.
        busy: Every so many calls of the model is refused, because the model is busy; 0: none is.
    """

    def __init__(self, busy: int = 3) -> None:
        self.calls: Counter[str] = Counter()
        self.busy = busy
        self._guard = threading.Lock()
        self._turns = 0
        self._server = JsonServer(self._answer)
        self.url = self._server.url

    def _answer(self, path: str, data: dict[str, Any]) -> tuple[int, Any]:
        with self._guard:
            if path == "/search":
                self.calls[f"search {data['topic']}"] += 1
                return 200, {"text": f"{data['topic']}: fine"}
            self._turns += 1
            if self.busy and self._turns % self.busy == 0:
                return 429, {"error": "the model is busy"}
            self.calls[f"model turn {len(data['history'])}"] += 1
            return 200, reply_to(data["history"])

    def stop(self) -> None:
        """
        Stop serving.
        """
        self._server.stop()
