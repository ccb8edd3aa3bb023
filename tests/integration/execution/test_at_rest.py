"""
A process that has nothing to do does nothing: no thread stays behind, and none looks at a clock.
"""

from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

from gcp_oncetask import Config, Locker
from gcp_oncetask.clock import SystemClock
from gcp_oncetask.execution.renewal import Renewals
from gcp_oncetask.observe.log_context import LogContext
from tests.support.patience import patient

ROOT = Path(__file__).parents[3]


def test_two_hundred_tests_leave_nothing_running() -> None:
    """
    Each of them held a lease and a lock that is kept alive. Afterwards the process has the threads it had before, it gives up
    its core for its own sleep alone, and needs no CPU; nor do threads that wait for the virtual clock.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "tests/support/at_rest.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "TOLD\n" in done.stdout
    found = {name: json.loads(text) for name, text in re.findall(r"([A-Z]+) (\{[^{}\n]*\})", done.stdout)}
    assert found["BEFORE"]["threads"] == found["AFTER"]["threads"] == []
    assert found["AFTER"]["tasks"] == found["BEFORE"]["tasks"]
    assert len(found["WAITING"]["threads"]) == 8
    for name, rest in found.items():
        # Its own sleep is one; reading the numbers may be another.
        assert rest["switches"] <= 3, (name, rest)
        assert rest["cpu"] < 0.02, (name, rest)


class Idle:
    """
    A lease that needs no renewal.
    """

    context = LogContext("orders/1", 1, 1, 1, "holder", "DEFAULT")

    def renew_if_idle(self) -> bool:
        return True


def test_the_thread_ends_with_a_locker_that_is_no_longer_used() -> None:
    """
    It would look again in an hour; it ends when the locker is gone, and when it is closed.
    """
    before = set(threading.enumerate())
    locker, closed = Locker(config=Config(project="p", base_url="https://app.test")), Renewals(SystemClock())
    for renewals in (locker._executor.renewals, closed):
        lease = Idle()
        renewals.add(lease, 3600.0, SystemClock().mark())
        renewals.remove(lease)
    del renewals
    threads = set(threading.enumerate()) - before
    assert len(threads) == 2
    closed.close()
    del locker
    gc.collect()
    for thread in threads:
        thread.join(patient(30))
    assert not any(thread.is_alive() for thread in threads)


def test_a_lease_is_renewed_after_its_locker_is_gone() -> None:
    """
    A lock that is kept alive is held until it is released or the process ends, whatever became of the objects that took it.
    """
    renewed = threading.Event()

    class Held(Idle):
        def renew_if_idle(self) -> bool:
            renewed.set()
            return True

    renewals, before = Renewals(SystemClock()), set(threading.enumerate())
    renewals.add(Held(), 0.2, SystemClock().mark())
    [thread] = set(threading.enumerate()) - before
    watch = renewals._watch
    del renewals
    gc.collect()
    renewed.clear()
    assert renewed.wait(patient(30))
    watch.close()
    assert not thread.is_alive()
