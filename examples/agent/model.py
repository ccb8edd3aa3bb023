"""
The outside world: a language model and a search service behind HTTP. The model answers by a script, is busy now and then, and
counts the calls that it got.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

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
    x
        busy: Every so many calls of the model is refused, because the model is busy; 0: none is.
    """

    def __init__(self, busy: int = 3) -> None:
        self.calls: Counter[str] = Counter()
        self.busy = busy
        world, guard, asked = self, threading.Lock(), Counter[str]()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with guard:
                    asked[self.path] += 1
                    if self.path == "/model" and world.busy and asked[self.path] % world.busy == 0:
                        self._answer(429, {"error": "the model is busy"})
                        return
                    if self.path == "/model":
                        turn = reply_to(data["history"])
                        world.calls[f"model turn {len(data['history'])}"] += 1
                        self._answer(200, turn)
                    else:
                        world.calls[f"search {data['topic']}"] += 1
                        self._answer(200, {"text": f"{data['topic']}: fine"})

            def _answer(self, status: int, facts: dict[str, Any]) -> None:
                body = json.dumps(facts).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
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
