"""
The HTTP server of the local cloud: it sleeps while nothing comes, and stops at once.
"""

from __future__ import annotations

import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from gcp_emulator.http_server import HttpServer


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def switches(thread: threading.Thread) -> int:
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("voluntary"))


def test_sleeps_until_a_request_comes() -> None:
    """
    Its thread is not woken once while nothing comes, answers what comes, and is gone when the server has stopped.
    """
    server = HttpServer(Hello, 0, "quiet")
    server.start()
    [thread] = [each for each in threading.enumerate() if each.name == "quiet"]
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}") as answer:
        assert answer.status == 204
    time.sleep(0.1)
    before = switches(thread)
    time.sleep(0.5)
    assert switches(thread) == before
    server.stop()
    assert not thread.is_alive()
