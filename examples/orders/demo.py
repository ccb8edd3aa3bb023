"""
``make demo``: 500 orders on a local Google Cloud in which deliveries are duplicated, answers and enqueues lost, and worker
processes killed; then the records of the payment service and the mail sink show what happened.
"""

from __future__ import annotations

import argparse
import csv
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from examples.orders.on_call import leave_open
from examples.orders.payments import Payments
from examples.orders.report import Report, collect
from gcp_emulator.cloud import LocalCloud
from gcp_emulator.faults import DeliveryFaults
from gcp_emulator.firestore.server import FirestoreServer
from gcp_emulator.mail import MailSink
from gcp_emulator.run import RunService
from gcp_oncetask import Config, LockedModel, Locker, OncetaskError, sweep
from gcp_oncetask.entities.chains import runtime_of

ROOT = Path(__file__).parents[2]
ACCOUNT = "orders@demo-local.iam.gserviceaccount.com"
LEASE, TIMEOUT, GRACE, LOG_GRACE, LOG_DELAY = 4.0, 14.0, 3.0, 1.5, 0.3


class Order(LockedModel, collection="orders"):
    amount: int
    email: str
    charged: str = ""


def main() -> int:
    """
    Run the demo; the exit code is 0 only if every order was charged once although everything failed.
    """
    parser = argparse.ArgumentParser(prog="python -m examples.orders.demo", description=__doc__)
    parser.add_argument("--orders", type=int, default=500, help="how many of the 500 orders (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="gunicorn worker processes (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=8, help="worker processes to kill (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="repeats the faults (default: %(default)s)")
    parser.add_argument(
        "--deadline", type=float, default=120, help="give up after so many seconds (default: %(default)s)"
    )
    parser.add_argument(
        "--console", action="store_true", help="then leave a console open, with an order to decide about"
    )
    chosen = parser.parse_args()
    with (ROOT / "examples" / "orders" / "orders.csv").open() as rows:
        orders = [Order(id=r["id"], amount=int(r["amount"]), email=r["email"]) for r in csv.DictReader(rows)][
            : chosen.orders
        ]
    with Shop(chosen) as shop, local_firestore(shop.settings):
        locker = Locker(config=Config.from_env(shop.settings))
        runtime_of(locker).trail_to(QUIET)
        report = shop.run(locker, orders)
        say(str(report))
        if chosen.console:
            leave_open(shop, locker, Order(id="by-bank", amount=129_000, email="eve@example.com"))
    return 0 if report.convincing else 1


class Shop:
    """
    The local cloud, the app behind its Run stand-in, and the outside world.
    """

    application = "examples.orders.app:app"

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.cloud = LocalCloud(seed=chosen.seed, queues=())
        self.payments = Payments()
        self.receipts = MailSink()
        self.run_service: RunService | None = None
        self.killed: list[int] = []
        self.verdicts: list[str] = []
        self.stopping = threading.Event()
        self.began = time.monotonic()

    def __enter__(self) -> Self:
        say("starting a local Google Cloud:")
        self.cloud.start(on_ready=lambda name, address: say(f"  {name:<10} {address}"))
        self.cloud.logging.delay = LOG_DELAY
        self.cloud.tasks.create_queue(
            self.cloud.queue(),
            max_attempts=-1,
            min_backoff=timedelta(seconds=0.5),
            max_backoff=timedelta(seconds=4),
            max_doublings=3,
            max_dispatches_per_second=500,
            max_concurrent_dispatches=24,
        )
        self.environment = self._environment()
        say(f"  {'payments':<10} {self.environment['PAYMENTS_URL']}")
        self.serve()
        say(f"  {'run':<10} {self.url} ({self.chosen.workers} gunicorn processes)")
        say(
            f"here, seconds instead of minutes: lease {LEASE:g} s, timeout {TIMEOUT:g} s, dispatch grace {GRACE:g} s, "
            f"log grace {LOG_GRACE:g} s, log delay {LOG_DELAY:g} s"
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        if self.run_service is not None:
            self.run_service.stop()
        self.payments.stop()
        self.receipts.stop()
        self.cloud.stop()

    def serve(self, log_delay: float = LOG_DELAY) -> None:
        """
        Serve the app, instead of the one before; its log lines can be read after *log_delay* seconds.
        """
        if self.run_service is not None:
            self.run_service.stop()
        service = RunService(
            self._command(),
            name="orders",
            project=self.cloud.project,
            logging=self.cloud.logging,
            port=self.port,
            request_timeout=TIMEOUT - 4,
            env=self.environment,
            cwd=str(ROOT),
            log_delay=log_delay,
        )
        service.start()
        self.run_service = service
        self.url = service.url

    def _command(self) -> list[str]:
        # As in a Dockerfile's CMD: the platform chooses the port.
        gunicorn = (
            f"exec {sys.executable} -m gunicorn {self.application} --bind 127.0.0.1:$PORT --workers "
            f"{self.chosen.workers} --worker-class gthread --threads 6 --timeout {int(TIMEOUT)} --log-level warning"
        )
        return ["sh", "-c", gunicorn]

    def _environment(self) -> dict[str, str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.settings = {
            **self.cloud.environment(),
            "ONCETASK_LOCATION": self.cloud.location,
            "ONCETASK_BASE_URL": f"http://127.0.0.1:{self.port}",
            "ONCETASK_SERVICE_ACCOUNT": ACCOUNT,
            "ONCETASK_COLLECTIONS": "orders",
            "ONCETASK_ALERT_TO": "oncall@example.com",
            "ONCETASK_ALERT_FROM": "oncetask@example.com",
            "ONCETASK_REQUEST_TIMEOUT_SECONDS": str(TIMEOUT - 4),
            "ONCETASK_DISPATCH_GRACE_SECONDS": str(GRACE),
            "ONCETASK_LOG_GRACE_SECONDS": str(LOG_GRACE),
            "ONCETASK_LOG_INTERVAL_SECONDS": "1",
            "ONCETASK_ALERT_RETRY_SECONDS": "8",
        }
        return {
            **os.environ,
            **self.settings,
            "DEMO_LEASE_SECONDS": str(LEASE),
            "DEMO_TIMEOUT_SECONDS": str(TIMEOUT),
            "DEMO_WORK_SECONDS": "0.05",
            "PAYMENTS_URL": self.payments.start(),
            "RECEIPTS_URL": self.receipts.start(),
        }

    def run(self, locker: Locker, orders: list[Order]) -> Report:
        """
        Schedule the orders, cause failures, sweep, wait; then count.
        """
        faults = self.cloud.faults
        faults.deliveries = DeliveryFaults(duplicate=0.2, lose_answer=0.04)
        faults.fail("CreateTask", when="before", probability=0.05, times=None)
        logging.getLogger("gcp_oncetask").addHandler(Verdicts(self.verdicts))
        logging.getLogger("gcp_oncetask").propagate = False
        helpers = [threading.Thread(target=work, daemon=True) for work in (self._kill, lambda: self._sweep(locker))]
        for helper in helpers:
            helper.start()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda order: schedule(locker, order), orders))
        done = self._wait(len(orders))
        # Let the last alerts and owed work be done, without failures.
        faults.clear()
        self.stopping.set()
        for helper in helpers:
            helper.join()
        self._settle(locker)
        return collect(self, orders, done, time.monotonic() - self.began)

    def _kill(self) -> None:
        """
        Kill worker processes right after they have charged a card.
        """
        every = max(1, self.chosen.orders // (self.chosen.kills + 2)) if self.chosen.kills else 0
        while not self.stopping.wait(0.02):
            charged = len(self.payments.calls)
            if len(self.killed) >= self.chosen.kills or charged < (len(self.killed) + 1) * every:
                continue
            victim = self.payments.running[-1]
            if victim not in self.killed:
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    self.killed.append(victim)

    def _sweep(self, locker: Locker) -> None:
        while not self.stopping.wait(1.0):
            with suppress(OncetaskError):
                sweep(locker)

    def _settle(self, locker: Locker) -> None:
        for _ in range(12):
            sweep(locker)
            if not any(self._owing()):
                return
            time.sleep(1)

    def _owing(self) -> Iterator[str]:
        for path, document in self._documents().items():
            if "due" in document.fields["lock"].map_value.fields:
                yield path

    def mails_about(self, order: Order) -> list[str]:
        """
        Return the texts of the alerts about *order*.
        """
        mails = [
            mail.message for mail in self.cloud.mail.messages if f"orders/{order.id}" in str(mail.message["Subject"])
        ]
        return [f"Subject: {mail['Subject']}\n\n{mail.get_content()}" for mail in mails]

    def statuses(self) -> Counter[str]:
        """
        Count the orders by status, as their documents have it.
        """
        documents = self._documents().values()
        return Counter(d.fields["lock"].map_value.fields["status"].string_value for d in documents)

    def _documents(self) -> dict[str, Any]:
        firestore = self.cloud.firestore
        assert isinstance(firestore, FirestoreServer)
        return firestore.documents(self.cloud.project)

    def _wait(self, wanted: int) -> int:
        shown = 0.0
        while True:
            now = self.statuses()
            spent = time.monotonic() - self.began
            if spent - shown >= 1 or now["completed"] >= wanted:
                shown = spent
                say(
                    f"{spent:5.0f} s  completed {now['completed']:>3}/{wanted}  running {now['leased']:>2}  "
                    f"deliveries {len(self.cloud.tasks.dispatches):>4}  kills {len(self.killed)}"
                )
            if now["completed"] >= wanted or spent > self.chosen.deadline:
                return now["completed"]
            time.sleep(0.25)


class Verdicts(logging.Handler):
    """
    Notes the verdicts of the takeovers that the sweeper logs.
    """

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def emit(self, record: logging.LogRecord) -> None:
        own = getattr(record, "oncetask", {})
        if own.get("event") == "lease.taken_over":
            self.found.append(own["verdict"])


class _Quiet:
    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass


QUIET: Any = _Quiet()


@contextmanager
def local_firestore(settings: dict[str, str]) -> Iterator[None]:
    """
    The Firestore client takes its emulator from the environment only.
    """
    os.environ["FIRESTORE_EMULATOR_HOST"] = settings["FIRESTORE_EMULATOR_HOST"]
    try:
        yield
    finally:
        del os.environ["FIRESTORE_EMULATOR_HOST"]


def schedule(locker: Locker, order: Order) -> None:
    """
    Schedule one order; the sweeper makes good for a lost enqueue.
    """
    locker.schedule(order, "/tasks/order")


def say(text: str) -> None:
    """
    Print progress.
    """
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
