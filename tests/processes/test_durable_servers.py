"""
Durable handlers under gunicorn: processes that are killed, and two versions of the code at once.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from gcp_emulator.clock import rng
from gcp_emulator.cloud import LocalCloud
from gcp_emulator.faults import DeliveryFaults
from gcp_oncetask import Config, Locker, Status, sweep
from gcp_oncetask.rules.journal import EntryState, JournalEntry
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.tasks import TaskData, TaskManager
from tests.processes.test_servers import ACCOUNT, ROOT, Control
from tests.support.durable_app import Changed, Fulfil
from tests.support.patience import patient


class Balancer:
    """
    One address before several servers: each connection goes to one of them, by chance.
    """

    def __init__(self) -> None:
        self.backends: list[int] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        chance = rng(3)
        while True:
            try:
                here, _ = self.listener.accept()
            except OSError:
                return
            try:
                there = socket.create_connection(("127.0.0.1", chance.choice(self.backends)))
            except OSError:
                here.close()
                continue
            threading.Thread(target=self._join, args=(here, there), daemon=True).start()

    def _join(self, here: socket.socket, there: socket.socket) -> None:
        with here, there:
            back = threading.Thread(target=self._pump, args=(there, here), daemon=True)
            back.start()
            self._pump(here, there)
            back.join()

    def _pump(self, from_: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while data := from_.recv(65_536):
                to.sendall(data)
        with suppress(OSError):
            to.shutdown(socket.SHUT_WR)


class Deployment:
    """
    A cloud, servers of the old and the new code behind one address, and a manager of the test's own.
    """

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud, self.control = cloud, Control()
        self.balancer = Balancer()
        self.lease = patient(3.0)
        self.settings = {
            **cloud.environment(),
            "ONCETASK_BASE_URL": self.balancer.url,
            "ONCETASK_SERVICE_ACCOUNT": ACCOUNT,
            "ONCETASK_REQUEST_TIMEOUT_SECONDS": str(self.lease + 1),
            "ONCETASK_DISPATCH_GRACE_SECONDS": "2",
            "ONCETASK_LOG_GRACE_SECONDS": "1",
            "ONCETASK_LOG_INTERVAL_SECONDS": "0",
        }
        self.manager = TaskManager(Locker(config=Config.from_env(self.settings)))
        self.processes: list[subprocess.Popen[bytes]] = []

    def serve(self, version: str) -> subprocess.Popen[bytes]:
        """
        Serve *version* with two processes, beside those that serve already.
        """
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        descriptor = listener.fileno()
        # Without connections that stay, each delivery may come to each server.
        options = f"--bind fd://{descriptor} --workers 2 --worker-class gthread --threads 8 --keep-alive 0".split()
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "tests.support.durable_app:make_app()", *options],
            cwd=ROOT,
            env={
                **os.environ,
                **self.settings,
                "CONTROL_URL": self.control.url,
                "HANDLERS": version,
                "TASK_LEASE": str(self.lease),
            },
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(descriptor,),
        )
        self.processes.append(process)
        self.balancer.backends.append(listener.getsockname()[1])
        listener.close()
        return process

    def lock(self, id_: str, model: type[TaskData] = Fulfil) -> Lock:
        """
        The record of a task.
        """
        return self.manager.locker.show(self.manager._name_of(model, id_).path)

    def result(self, id_: str) -> Any:
        """
        The result of a task.
        """
        task = self.manager.get_task(Fulfil, id_)
        return None if task is None else task.result

    def results(self, id_: str) -> int:
        """
        How many answers the journal of a task has.
        """
        return sum(JournalEntry.of(row).state is EntryState.DONE for row in self.lock(id_).journal)

    def until(self, true: Callable[[], Any], *, sweeps: bool = False) -> None:
        """
        Wait for *true*, which only the stored records tell.
        """
        end = time.monotonic() + patient(80)
        while not true():
            assert time.monotonic() < end, self.control.told
            if sweeps:
                sweep(self.manager.locker)
            threading.Event().wait(0.1)

    def effects(self) -> Counter[tuple[str, str, Any]]:
        """
        Calls of the effects: name, task and value.
        """
        return Counter((fact["event"], fact["task"], fact["value"]) for fact in self.control.told)

    def stop(self) -> None:
        """
        Kill what still runs.
        """
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(patient(30))
        self.balancer.listener.close()
        self.control.server.shutdown()
        self.control.server.server_close()


@pytest.fixture
def deployment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with LocalCloud(smtp=False) as cloud:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", cloud.environment()["FIRESTORE_EMULATOR_HOST"])
        made = Deployment(cloud)
        try:
            yield made
        finally:
            made.stop()


@pytest.mark.slow
def test_du_27_a_killed_process_repeats_only_the_item_under_way(deployment: Deployment) -> None:
    """
    SIGKILL in the middle of a map: the charge and the items with a result are not called again, the one under way is.
    """
    gate, control = threading.Event(), deployment.control
    held = ("pack", "a", 4)
    control.hold = lambda fact: gate if (fact["event"], fact["task"], fact["value"]) == held else None
    deployment.serve("old")
    deployment.manager.create_task(Fulfil(number="a", items=tuple(range(1, 8))))
    try:
        control.wait("pack", 7)
        # The charge, and six items of the map.
        deployment.until(lambda: deployment.results("a") == 7)
        [pid] = {fact["pid"] for fact in control.told}
        os.kill(pid, signal.SIGKILL)
    finally:
        gate.set()
    deployment.until(lambda: deployment.lock("a").wait, sweeps=True)
    deployment.manager.send(Fulfil, "a", "approval", {"by": "ann"}, id="1")
    deployment.until(lambda: deployment.lock("a").finished)

    lock = deployment.lock("a")
    assert (lock.status, deployment.result("a"), lock.open) == (
        Status.COMPLETED,
        ["paid", list(range(1, 8)), "ann"],
        (),
    )
    once = {("charge", "a", "paid"), ("mail", "a", None), *(("pack", "a", item) for item in range(1, 8))}
    assert deployment.effects() == {each: 1 + (each == held) for each in once}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_du_27_two_versions_of_the_code_serve_one_queue(deployment: Deployment) -> None:
    """
    Each delivery comes twice, to processes of either version: each effect happens once and each result is the journal's. What
    does not fit the journal is refused with a sentence.
    """
    control, manager = deployment.control, deployment.manager
    deployment.cloud.faults.deliveries = DeliveryFaults(duplicate=1)
    first = deployment.serve("old")
    manager.create_task(Changed(number="c"))
    deployment.until(lambda: deployment.lock("c", Changed).wait)

    deployment.serve("new")
    names: list[str] = []
    while {fact["version"] for fact in control.of("charge")} != {"old", "new"} or len(names) < 4:
        assert len(names) < 200
        names.append(f"f{len(names)}")
        manager.create_task(Fulfil(number=names[-1]))
        control.wait("charge", len(names))
    deployment.until(lambda: all(deployment.lock(name).wait for name in names), sweeps=True)
    for name in names:
        for _ in range(2):
            manager.send(Fulfil, name, "approval", {"by": "ann"}, id="1")
    deployment.until(lambda: all(deployment.lock(name).finished for name in names), sweeps=True)

    assert [deployment.result(name) for name in names] == [["paid", [1, 2, 3], "ann"]] * len(names)
    effects = deployment.effects()
    for name in names:
        assert effects["charge", name, "paid"] == effects["mail", name, None] == 1
        assert [effects["pack", name, item] for item in (1, 2, 3)] == [1, 1, 1]
        assert effects["audit", name, None] <= 1

    del deployment.balancer.backends[0]
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(patient(30))
    manager.send(Changed, "c", "approval", {"by": "ann"}, id="1")
    deployment.until(lambda: deployment.lock("c", Changed).status is Status.QUARANTINED, sweeps=True)
    assert deployment.effects()["check", "c", None] == 1
    assert not control.of("end")
    assert "'check' is a run in the journal, and a sleep in the code" in str(deployment.lock("c", Changed).errors[-1])
