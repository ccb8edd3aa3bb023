"""
A slow service is kept in step with a stream of updates: python -m examples.sync_queue

Customers change all the time. The CRM, an HTTP service that takes 0.3 s a call and one call per customer at a time, must
get the newest state of each. Each change adds a request to the queue "crm". If several requests wait for one customer, only
the newest is run; a request that comes during a call is run after it. ``--each`` makes one call per change instead.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
import urllib.request
from collections import Counter
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from gcp_emulator.cloud import LocalCloud
from gcp_oncetask import Attempt, Config, Locker
from gcp_oncetask.tasks import OnceTask, TaskManager, queue_kind
from gcp_oncetask.worker import Worker

SLOW = 0.3
PAUSE = 0.005
CRM = queue_kind("crm", pull=True)


class Service:
    """
    The slow service. It keeps the state of each customer and the calls that it got, and notes whether two calls for one
    customer overlapped.
    """

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.calls: Counter[str] = Counter()
        self.overlaps = 0
        service, busy, guard = self, set[str](), threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                customer = self.path.strip("/")
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with guard:
                    service.overlaps += customer in busy
                    busy.add(customer)
                    service.calls[customer] += 1
                threading.Event().wait(SLOW)
                with guard:
                    busy.discard(customer)
                    service.known[customer] = body["version"]
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 - as the base says it
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


def main() -> int:
    """
    Stream the updates, wait until they are done, compare; the exit code is 0 only if the service knows the newest state of
    every customer.
    """
    parser = argparse.ArgumentParser(prog="python -m examples.sync_queue", description=__doc__)
    parser.add_argument("--updates", type=int, default=400, help="(default: %(default)s)")
    parser.add_argument("--customers", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--each", action="store_true", help="a call per update")
    chosen = parser.parse_args()
    service = Service()
    with ExitStack() as stack:
        if "FIRESTORE_EMULATOR_HOST" not in os.environ:
            cloud = stack.enter_context(LocalCloud(smtp=False))
            os.environ["FIRESTORE_EMULATOR_HOST"] = cloud.firestore.address
            os.environ["GOOGLE_CLOUD_PROJECT"] = cloud.project
        manager = TaskManager(Locker(config=Config.from_env(os.environ)))
        manager.register_task_handler(CRM, lambda task, attempt: push(service.url, task, attempt))
        worker = Worker(manager)
        thread = threading.Thread(target=worker.run)
        thread.start()
        newest = stream(manager, chosen.updates, chosen.customers, each=chosen.each)
        wait_until_done(manager)
        worker.stop()
        thread.join()
    return report(service, newest, chosen.updates)


def push(url: str, task: OnceTask[Any], attempt: Attempt) -> None:
    """
    Handle a request: call the service. If the process dies here, the handler is run again with the same key, by which the
    service recognises the repetition.
    """
    customer = task.data.data["customer"]
    body = json.dumps(task.data.data).encode()
    headers = {"Idempotency-Key": attempt.key, "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/{customer}", body, headers, method="PUT"), timeout=10):
        pass


def stream(manager: TaskManager, updates: int, customers: int, *, each: bool) -> dict[str, int]:
    """
    Add a request for each update; return the newest version of each customer.
    """
    newest: dict[str, int] = {}
    pause = threading.Event()
    for version in range(updates):
        customer = f"customer-{(version * 7 + version // 3) % customers}"
        newest[customer] = version
        key = f"{customer}/{version}" if each else customer
        manager.add_task("crm", key, {"customer": customer, "version": version})
        pause.wait(PAUSE)
    return newest


def wait_until_done(manager: TaskManager) -> None:
    """
    Wait until no request is waiting or running.
    """
    end = time.monotonic() + 120
    pause = threading.Event()
    while any(count for status, count in manager.count(CRM).items() if status != "completed"):
        if time.monotonic() > end:
            raise SystemExit("the queue does not become empty")
        pause.wait(0.1)


def report(service: Service, newest: dict[str, int], updates: int) -> int:
    """
    Print the numbers of updates and calls; return the exit code.
    """
    calls = sum(service.calls.values())
    stale = sum(service.known.get(customer) != version for customer, version in newest.items())
    print(f"updates {updates}")
    print(f"calls {calls}")
    print(f"calls saved {updates - calls}")
    print(f"customers out of date {stale}")
    print(f"calls of one customer at the same time {service.overlaps}")
    return int(bool(stale or service.overlaps))


if __name__ == "__main__":
    sys.exit(main())
