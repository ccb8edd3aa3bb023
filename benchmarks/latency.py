"""
Measure the time from the call of schedule() to the first line of the handler, paced, over real HTTP on loopback.
"""

from __future__ import annotations

import logging
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from werkzeug.serving import make_server

from benchmarks.variants import Nowhere
from gcp_oncetask import Attempt, Config, LockedModel, Locker
from gcp_oncetask.flask import locked_handler


class Ping(LockedModel, collection="pings"):
    sent: float


@contextmanager
def emulator() -> Iterator[dict[str, str]]:
    """
    Run the local cloud in a process of its own; yields its environment.
    """
    command = [sys.executable, "-m", "gcp_emulator", "start", "--project", "bench", "-q"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    environment: dict[str, str] = {}
    try:
        assert process.stdout is not None
        while "ONCETASK_OIDC_CERTS_URL" not in environment:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the local cloud did not start")
            name, _, value = line.removeprefix("export ").strip().partition("=")
            environment[name] = value.strip("'\"")
        yield environment
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def measure(tasks: int = 200, per_second: float = 50) -> dict[str, Any]:
    """
    Return the median and the 99th percentile, in milliseconds.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    times: list[float] = []
    done = threading.Event()
    with emulator() as environment:
        app = Flask(__name__)
        server = make_server("127.0.0.1", 0, app, threaded=True)
        config = Config(
            project="bench",
            location="us-central1",
            verify="off",
            base_url=f"http://127.0.0.1:{server.server_port}",
            tasks_emulator=environment["CLOUD_TASKS_EMULATOR_HOST"],
        )
        locker = Locker(_client(environment["FIRESTORE_EMULATOR_HOST"]), config=config)
        locker._runtime.trail_to(Nowhere())

        @app.post("/ping")
        @locked_handler(locker, Ping)
        def ping(entity: Ping, attempt: Attempt) -> None:
            times.append(time.perf_counter() - entity.sent)
            if len(times) == tasks:
                done.set()

        threading.Thread(target=server.serve_forever, daemon=True).start()
        pause = threading.Event()
        for number in range(tasks):
            locker.schedule(Ping(id=f"{number:x}{number}", sent=time.perf_counter()), "/ping")
            pause.wait(1 / per_second)
        if not done.wait(30):
            raise RuntimeError(f"only {len(times)} of {tasks} arrived")
        server.shutdown()
    ordered = sorted(times[tasks // 10 :])
    return {
        "tasks": tasks,
        "p50_ms": statistics.median(ordered) * 1000,
        "p99_ms": ordered[int(len(ordered) * 0.99) - 1] * 1000,
    }


def _client(address: str) -> Any:
    import os

    from google.cloud.firestore import Client

    os.environ["FIRESTORE_EMULATOR_HOST"] = address
    try:
        return Client(project="bench")
    finally:
        del os.environ["FIRESTORE_EMULATOR_HOST"]
