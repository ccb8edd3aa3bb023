"""
Two hundred small tests of an application; then the process does nothing for a second, and what it does all the same is counted.
"""

from __future__ import annotations

import json
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gcp_oncetask.clock import Wakeup
from gcp_oncetask.errors import UsageError
from gcp_oncetask.testing.cloud import OncetaskCloud, TestClock
from tests.support.orders import URL, Order, make_shop

SECONDS = 1.0
LEFT: list[threading.Thread] = []


def switches() -> int:
    """
    How often a thread of this process has given up its core by itself.
    """
    lines = [line for task in Path("/proc/self/task").iterdir() for line in (task / "status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def at_rest() -> dict[str, Any]:
    """
    Threads, switches and CPU seconds of a process that does nothing.
    """
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    tasks, before, used = len(list(Path("/proc/self/task").iterdir())), switches(), time.process_time()
    time.sleep(SECONDS)
    used, after = time.process_time() - used, switches()
    return {"threads": threads, "tasks": tasks, "switches": after - before, "cpu": used}


@pytest.fixture(scope="session", autouse=True)
def told() -> Iterator[None]:
    """
    Prints what is found before the first test and after the last one.
    """
    before = at_rest()
    yield
    print("\nBEFORE " + json.dumps(before))
    for thread in LEFT:
        thread.join()
        # Python has done with a thread a moment before the system has.
        while Path(f"/proc/self/task/{thread.native_id}").exists():
            time.sleep(0.001)
    print("AFTER " + json.dumps(at_rest()))


@pytest.mark.parametrize("number", range(200))
def test_small(oncetask_cloud: OncetaskCloud, number: int) -> None:
    """
    A chain of two steps, and a lock that is kept alive.
    """
    shop = make_shop()
    oncetask_cloud.use(shop.locker)
    oncetask_cloud.mount(URL, shop.app)
    shop.locker.schedule(Order(id=str(number)), "/tasks/order")
    with shop.locker.lock("a", keep_alive=30):
        assert oncetask_cloud.run_until_idle() == 2


def test_waiting(oncetask_cloud: OncetaskCloud) -> None:
    """
    Threads that wait for the virtual clock do nothing until it is moved.
    """
    clock, wakeup = TestClock(oncetask_cloud.clock), Wakeup()
    waiting = [threading.Thread(target=clock.wait, args=(wakeup, 30.0)) for _ in range(8)]
    for thread in waiting:
        thread.start()
    print("\nWAITING " + json.dumps(at_rest()))
    assert all(thread.is_alive() for thread in waiting)
    oncetask_cloud.advance(seconds=30)
    for thread in waiting:
        thread.join()


def test_left_waiting(oncetask_cloud: OncetaskCloud) -> None:
    """
    A thread that waits when its test ends is told so.
    """

    def wait() -> None:
        with pytest.raises(UsageError, match="has ended"):
            clock.wait(Wakeup(), 60)
        print("TOLD")

    shop = make_shop()
    oncetask_cloud.use(shop.locker)
    # The thread may begin when the test is over and the locker has its own clock again.
    clock = shop.locker._runtime.clock
    LEFT.append(threading.Thread(target=wait))
    LEFT[0].start()


resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
