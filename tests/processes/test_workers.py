"""
Workers in processes of their own: signals, kills, joins; sessions of three seconds, no polling, only the listener.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from gcp_emulator.cloud import LocalCloud
from gcp_oncetask import Config, Locker
from gcp_oncetask.store.sessions import all_of
from gcp_oncetask.tasks import TaskManager, TaskStatus
from gcp_oncetask.worker.shares import Session, shares
from tests.processes.test_servers import ROOT, Control
from tests.support.patience import patient
from tests.support.worker_app import Parcel

TTL = patient(3.0)
MANY = int(os.environ.get("WORKER_TASKS", "1000"))
"""Tasks of the test of kills and joins; WORKER_TASKS=2000 for more."""


class Depot:
    """
    A cloud, a manager of the test's own, and worker processes.
    """

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        self.gate = threading.Event()
        self.control = Control()
        self.control.hold = lambda fact: self.gate if fact["event"] == "running" else None
        self.settings = {
            **cloud.environment(),
            "ONCETASK_REQUEST_TIMEOUT_SECONDS": "4",
            "ONCETASK_LOG_GRACE_SECONDS": "1",
            "ONCETASK_LOG_INTERVAL_SECONDS": "0",
            "ONCETASK_VERIFY": "off",
            "WORKER_TTL": str(TTL),
            "WORKER_LEASE": str(patient(3.0)),
        }
        self.manager = TaskManager(Locker(config=Config.from_env(self.settings)))
        self.processes: list[subprocess.Popen[bytes]] = []
        self.errors: IO[bytes] | None = None

    def start(self, mode: str = "ledger", **settings: str) -> subprocess.Popen[bytes]:
        """
        Another worker.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.worker_app", mode],
            cwd=ROOT,
            env={**os.environ, **self.settings, "CONTROL_URL": self.control.url, **settings},
            stdout=subprocess.DEVNULL,
            stderr=self.errors,
        )
        self.processes.append(process)
        return process

    def create(self, numbers: range) -> None:
        """
        Parcels.
        """
        assert self.manager.create_tasks(Parcel(number=number) for number in numbers).created == len(numbers)

    def shares(self) -> dict[str, tuple[int, ...]]:
        """
        What any worker would compute now: the shards of each that is alive, by its process's id.
        """
        found, now = all_of(self.manager.locker._runtime.store, "DEFAULT")
        live = [Session(*one) for one in found]
        return shares(live, "parcel", 8, now)

    def ledger(self) -> dict[str, dict[str, int]]:
        """
        What was done, by id.
        """
        return {each.id: each.to_dict() for each in self.manager.locker.client.collection("ledger").stream()}

    def done(self) -> int:
        """
        How many entries the ledger has; not counted as a call.
        """
        return sum(path.startswith("ledger/") for path in self.cloud.firestore.documents(self.cloud.project))


def until(true: Callable[[], bool], timeout: float = 60, every: float = 0.05) -> float:
    """
    Wait for processes that tell nobody; returns the seconds it took.
    """
    start = time.monotonic()
    while not true():
        assert time.monotonic() - start < patient(timeout)
        threading.Event().wait(every)
    return time.monotonic() - start


@pytest.fixture
def depot(monkeypatch: pytest.MonkeyPatch) -> Iterator[Depot]:
    with LocalCloud(smtp=False) as cloud:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", cloud.environment()["FIRESTORE_EMULATOR_HOST"])
        depot = Depot(cloud)
        try:
            yield depot
        finally:
            depot.gate.set()
            for process in depot.processes:
                process.kill()
                process.wait(patient(30))
            depot.control.server.shutdown()
            depot.control.server.server_close()


def test_a_task_created_in_another_process_starts_within_the_listeners_latency(depot: Depot) -> None:
    """
    The worker would poll once an hour: that it starts at all shows that it is told.
    """
    depot.gate.set()
    depot.start("hold")
    until(lambda: len(depot.shares()) == 1)
    depot.create(range(1))
    depot.control.wait("running")
    waits = []
    for number in range(1, 6):
        start = time.monotonic()
        depot.create(range(number, number + 1))
        depot.control.wait("running", number + 1)
        waits.append(time.monotonic() - start)
    print("create to start, seconds:", [round(wait, 3) for wait in waits])


def test_sigterm_finishes_what_runs_and_takes_nothing_more(depot: Depot) -> None:
    """
    Its session ends at once, its task when the task is ready, and the process with 0.
    """
    process = depot.start("hold", WORKER_CONCURRENCY="1")
    depot.create(range(2))
    [fact] = depot.control.wait("running")
    process.send_signal(signal.SIGTERM)
    until(lambda: not depot.shares())
    assert process.poll() is None
    depot.gate.set()
    [over] = depot.control.wait("over")
    assert (process.wait(patient(20)), over["done"]) == (0, 1)
    assert depot.manager.result(Parcel, fact["id"]) == "delivered"
    left = depot.manager.get_task(Parcel, str(1 - int(fact["id"])))
    assert left is not None
    assert (left.is_queued, left.lock.attempts) == (True, 0)


def test_a_worker_tells_of_its_start_and_stop_where_nobody_set_up_logging(depot: Depot, tmp_path: Path) -> None:
    """
    Who it is, what it runs, the signal, how many tasks it still waits for, and that it has ended; one line each.
    """
    with (tmp_path / "stderr").open("w+b") as depot.errors:
        process = depot.start("hold", WORKER_CONCURRENCY="2")
        depot.create(range(3))
        depot.control.wait("running", 2)
        process.send_signal(signal.SIGTERM)
        until(lambda: not depot.shares())
        told = (tmp_path / "stderr").read_text().splitlines()
        assert [line.split("Z INFO ")[1].split(") ")[1] for line in told] == [
            "starts: 2 at once, environment DEFAULT, kinds: parcel (up to 2)",
            "got SIGTERM; another signal hands back what runs",
            "stops; it takes no more, and waits for running tasks: 2",
        ], told
        depot.gate.set()
        assert process.wait(20) == 0
        told = (tmp_path / "stderr").read_text().splitlines()
    names = {
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO worker (\S+/\d+) \(session \w+\) .+", line) for line in told
    }
    assert None not in names
    assert {found[1].rpartition("/")[2] for found in names if found} == {str(process.pid)}
    assert (len(told), told[-1].split(") ")[1]) == (4, "has ended; tasks run: 2")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_hands_back_and_ends_at_once(depot: Depot, number: signal.Signals) -> None:
    """
    Though the handlers still run: what they held is free, no attempt is burned, and another worker runs it.
    """
    process = depot.start("hold")
    depot.create(range(3))
    depot.control.wait("running", 3)
    process.send_signal(number)
    until(lambda: not depot.shares())
    process.send_signal(number)
    assert process.wait(patient(20)) == 128 + number
    assert not depot.control.of("over")
    for id_ in range(3):
        task = depot.manager.get_task(Parcel, str(id_))
        assert task is not None
        assert (task.is_queued, task.lock.attempts) == (True, 0)
    depot.gate.set()
    depot.start("hold")
    depot.control.wait("running", 6)
    until(lambda: depot.manager.count(Parcel)[TaskStatus.COMPLETED] == 3)


def test_a_killed_workers_shards_move_within_its_ttl(depot: Depot) -> None:
    """
    After SIGKILL nobody looks at its shards until its session is dead; then the other one has all of them.
    """
    first, _second = depot.start(), depot.start()
    until(lambda: sorted(map(len, depot.shares().values())) == [4, 4])
    depot.create(range(100))
    until(lambda: depot.done() == 100)
    assert len({entry["pid"] for entry in depot.ledger().values()}) == 2

    first.kill()
    first.wait(patient(30))
    killed = time.monotonic()
    depot.create(range(100, 200))
    until(lambda: depot.done() == 200)
    took = time.monotonic() - killed
    print(f"the last of 100 tasks was done {took:.2f} s after the kill; ttl {TTL} s")
    assert took < TTL + patient(1.5)
    assert {entry["attempt"] for entry in depot.ledger().values()} == {1}


def test_a_stopped_workers_shards_move_at_once(depot: Depot) -> None:
    """
    The others are told that it leaves: with sessions of ten minutes, what is created after SIGTERM is run within seconds.
    """
    first = depot.start(WORKER_TTL="600")
    until(lambda: len(depot.shares()) == 1)
    depot.start(WORKER_TTL="600")
    until(lambda: sorted(map(len, depot.shares().values())) == [4, 4])
    first.send_signal(signal.SIGTERM)
    assert first.wait(patient(20)) == 0
    depot.create(range(100))
    took = until(lambda: depot.done() == 100, timeout=20)
    print(f"100 tasks in shards of which half were just left: {took:.2f} s")


@pytest.mark.slow
def test_kills_and_joins_lose_nothing_and_do_nothing_twice(depot: Depot) -> None:
    """
    Four workers; two are killed while they work, two join: every parcel is in the ledger, once, whoever did it.
    """
    workers = [depot.start() for _ in range(4)]
    until(lambda: sorted(map(len, depot.shares().values())) == [2, 2, 2, 2])
    start = time.monotonic()
    depot.create(range(MANY))
    for place, share in enumerate((0.2, 0.5)):
        until(lambda share=share: depot.done() >= MANY * share)
        workers[place].kill()
        workers[place].wait(patient(30))
        workers.append(depot.start())
    until(lambda: depot.done() >= MANY, timeout=100)
    took = time.monotonic() - start

    until(lambda: sorted(map(len, depot.shares().values())) == [2, 2, 2, 2])
    until(lambda: depot.manager.count(Parcel)[TaskStatus.COMPLETED] == MANY)
    ledger = depot.ledger()
    assert sorted(map(int, ledger)) == list(range(MANY))
    by_worker = Counter(entry["pid"] for entry in ledger.values())
    again = sum(entry["attempt"] > 1 for entry in ledger.values())
    print(f"{MANY} tasks in {took:.1f} s; by worker {[by_worker[each.pid] for each in workers]}; run again: {again}")
    assert all(by_worker[worker.pid] for worker in workers[:4])
