"""
A person is woken by a payment whose process is gone: gunicorn, SIGKILL and SIGSTOP, sweeps, mails and commands as real processes.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from examples.orders.payments import Payments
from gcp_emulator.cloud import LocalCloud
from gcp_emulator.mail import MailSink
from tests.support.patience import patient

ROOT = Path(__file__).parents[2]
ACCOUNT = "orders@demo-local.iam.gserviceaccount.com"
PATH = "orders/by-bank"


class Night:
    """
    A shop before a local Google Cloud, its bank, and the commands of the person on call.
    """

    def __init__(
        self,
        cloud: LocalCloud,
        payments: Payments,
        receipts: MailSink,
        environ: dict[str, str],
        server: subprocess.Popen[bytes],
    ) -> None:
        self.cloud, self.payments, self.receipts, self.environ = cloud, payments, receipts, environ
        self.server = server

    def run(self, *arguments: str, status: int = 0) -> str:
        """
        Run a command of the library; return all that it said.
        """
        return self.shell(shlex.join([sys.executable, "-m", "gcp_oncetask", *arguments]), status)

    def shell(self, line: str, status: int = 0) -> str:
        """
        Run a command line, with the settings of the local cloud alone; return all that it said.
        """
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=ROOT,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
            timeout=patient(60),
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def order(self) -> dict[str, Any]:
        """
        Return the lock of the order.
        """
        return dict(json.loads(self.run("show", PATH, "--json")))

    def sweep_until(self, true: Callable[[], bool]) -> None:
        """
        Sweep until *true*.
        """
        end = time.monotonic() + patient(60)
        while not true():
            assert self.server.poll() is None, "the shop's server has ended"
            assert time.monotonic() < end, self.run("show", PATH)
            self.run("sweep")
            threading.Event().wait(0.3)

    def is_(self, status: str) -> bool:
        """
        True if the order has the status.
        """
        return bool(self.order()["status"] == status)

    def alerts(self) -> list[Any]:
        """
        Return the mails about the order.
        """
        return [mail.message for mail in self.cloud.mail.messages if PATH in str(mail.message["Subject"])]

    def key(self) -> str:
        """
        Return the idempotency key of the order's present step, as the person reads it.
        """
        [found] = set(re.findall(r"otk_\w+", self.run("show", PATH)))
        return str(found)

    def quarantined(self) -> tuple[dict[str, Any], str]:
        """
        Schedule the order, and sweep until a person must decide; return its row of the list, and its key.
        """
        schedule(self)
        self.sweep_until(lambda: self.is_("quarantined"))
        [row] = map(json.loads, self.run("list", "--json").splitlines())
        return row, self.key()

    def holders(self) -> list[int]:
        """
        Return the processes that have asked the bank.
        """
        return list(self.payments.running)


@contextmanager
def night() -> Iterator[Night]:
    """
    The whole of it; the logs know nothing of the shop's processes.
    """
    lease = patient(3)
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    payments, receipts = Payments(), MailSink()
    with LocalCloud() as cloud:
        settings = {
            **cloud.environment(),
            "ONCETASK_LOCATION": cloud.location,
            "ONCETASK_BASE_URL": f"http://127.0.0.1:{listener.getsockname()[1]}",
            "ONCETASK_SERVICE_ACCOUNT": ACCOUNT,
            "ONCETASK_COLLECTIONS": "orders",
            "ONCETASK_ALERT_TO": "oncall@example.com",
            "ONCETASK_ALERT_FROM": "oncetask@example.com",
            "ONCETASK_REQUEST_TIMEOUT_SECONDS": str(lease + 1),
            "ONCETASK_DISPATCH_GRACE_SECONDS": "2",
            "ONCETASK_LOG_GRACE_SECONDS": "1",
            "ONCETASK_LOG_INTERVAL_SECONDS": "0",
        }
        environ = {**os.environ, **settings}
        served = {
            **environ,
            "DEMO_LEASE_SECONDS": str(lease),
            "DEMO_TIMEOUT_SECONDS": str(2 * lease),
            "PAYMENTS_URL": payments.start(),
            "RECEIPTS_URL": receipts.start(),
        }
        gunicorn = f"-m gunicorn examples.orders.app:app --workers 2 --threads 4 --bind fd://{listener.fileno()}"
        server = subprocess.Popen(
            [sys.executable, *gunicorn.split(), "--timeout", "600"],
            cwd=ROOT,
            env=served,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(listener.fileno(),),
        )
        listener.close()
        try:
            yield Night(cloud, payments, receipts, environ, server)
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(patient(30))
            payments.stop()
            receipts.stop()


def schedule(night: Night) -> None:
    """
    Schedule the order, in a process of its own.
    """
    program = (
        "from gcp_oncetask import LockedModel, Locker\n"
        "class Order(LockedModel, collection='orders'):\n"
        "    amount: int\n"
        "    email: str\n"
        "Locker.from_env().schedule(Order(id='by-bank', amount=129000, email='eve@example.com'), '/tasks/bank-order')"
    )
    night.shell(shlex.join([sys.executable, "-c", program]))


def asked(night: Night, key: str) -> str | None:
    """
    Ask the bank for the charge of a key.
    """
    with urllib.request.urlopen(f"{night.payments.url}?key={key}", timeout=30) as answer:
        found: str | None = json.load(answer)["charge"]
    return found


@pytest.mark.timeout(300)
def test_op_09_10_11_12_killed_payment_is_found_asked_about_and_resolved() -> None:
    """
    SIGKILL between the bank's charge and the settling: one mail, which has the key; the bank knows the key; the person says
    that it happened, with the mail's own command; the next step runs with the result, and nothing is charged again.
    """
    with night() as shop:
        shop.payments.struck["by-bank"] = signal.SIGKILL
        schedule(shop)
        shop.sweep_until(lambda: shop.is_("quarantined") and bool(shop.alerts()))
        [row] = map(json.loads, shop.run("list", "--json").splitlines())
        assert (row["path"], row["reason"]) == (PATH, "quarantined")
        shop.run("sweep")
        [mail] = shop.alerts()

        text = mail.get_content().replace("\r\n", "\n")
        [key] = set(re.findall(r"otk_\w+", text))
        assert asked(shop, key) == "ch_1"
        assert "129000" not in text
        assert "eve@" not in text
        commands = re.findall(r"^ *(\S+=.* resolve .*)$", text, re.MULTILINE)
        assert len(commands) >= 4
        [happened] = [line for line in commands if " happened " in line]
        assert all("--if-version " in line for line in commands)
        line = happened.replace("--end", "--result '\"ch_1\"' --next /tasks/receipt")
        line = line.replace("python -m", f"{sys.executable} -m")
        said = shop.shell(f"{line} --as ann --note 'seen at the bank'")
        assert "/tasks/receipt" in said

        shop.sweep_until(lambda: shop.is_("completed"))
        assert shop.payments.calls == {"by-bank": [key]}
        assert len(shop.receipts.messages) == 1
        assert shop.run("list", "--json") == "No record of environment DEFAULT needs a person.\n"
        shown, acts = shop.run("show", PATH), shop.run("acts", "--json")
        assert "ann" in shown
        assert "seen at the bank" in shown
        [act] = [json.loads(line) for line in acts.splitlines() if line.startswith("{")]
        assert (act["verb"], act["status"], act["note"]) == ("happened", "quarantined", "seen at the bank")
        shop.shell(line, status=3)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_op_13_payment_that_never_happened_runs_again() -> None:
    """
    SIGKILL before the bank has charged: the bank does not know the key, ``run`` charges once under it.
    """
    with night() as shop:
        shop.payments.struck_before["by-bank"] = signal.SIGKILL
        row, key = shop.quarantined()
        assert asked(shop, key) is None
        shop.run("resolve", PATH, "run", "--if-version", row["version"])

        shop.sweep_until(lambda: shop.is_("completed"))
        assert shop.payments.calls == {"by-bank": [key]}
        assert shop.order()["sequence"] == 3
        assert len(shop.receipts.messages) == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_op_16_18_holder_that_comes_back_makes_the_decision_needless() -> None:
    """
    A stopped process (SIGSTOP) is quarantined, goes on, and settles: the person's ``run`` was prepared for the old version,
    so it is refused with exit code 3, and the bank is asked once. Its next step, which could not be dispatched, is swept.
    """
    with night() as shop:
        shop.payments.struck["by-bank"] = signal.SIGSTOP
        row, key = shop.quarantined()
        shop.cloud.faults.fail("CreateTask", when="before", probability=1, times=None)
        [holder] = shop.holders()
        os.kill(holder, signal.SIGCONT)
        end = time.monotonic() + patient(60)
        while shop.is_("quarantined"):
            assert time.monotonic() < end
        said = shop.run("resolve", PATH, "run", "--if-version", row["version"], status=3)
        assert "changed since" in said
        assert shop.is_("scheduled")
        shop.cloud.faults.clear()

        shop.sweep_until(lambda: shop.is_("completed"))
        assert shop.payments.calls == {"by-bank": [key]}
        assert shop.order()["acts"] == []
        assert psutil.pid_exists(holder)
