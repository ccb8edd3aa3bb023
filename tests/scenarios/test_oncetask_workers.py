"""
oncetask: its workers' options, and how they shut down. One test per row of its behaviour.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gcp_oncetask import Config, Locker, UsageError
from gcp_oncetask.tasks import TaskData, TaskManager
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker
from tests.scenarios import row
from tests.support.workers import Ledger

SECONDS = 30.0


class Pack(TaskData, kind="pack", pull=True):
    number: int
    box: str = ""

    def task_id(self) -> str:
        return str(self.number)

    def resource_key(self) -> str | None:
        return self.box or None


@pytest.fixture
def manager(oncetask_cloud: OncetaskCloud) -> TaskManager:
    """
    On the test's cloud.
    """
    made = TaskManager(Locker(config=Config()))
    oncetask_cloud.use(made.locker)
    return made


@contextmanager
def working(worker: Worker) -> Iterator[threading.Thread]:
    """
    A worker on a thread of its own.
    """
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield thread
    finally:
        worker.stop()
        thread.join(SECONDS)
        assert not thread.is_alive()


@row(
    "OT-136",
    "concurrency 5 / 1 / 0 / -3 is taken as 5 / 1 / 1 / 1",
    "0 and less are refused, and the sentence says why",
)
@pytest.mark.parametrize(("given", "taken"), [(5, 5), (1, 1), (0, None), (-3, None)])
def test_ot_136_concurrency(manager: TaskManager, given: int, taken: int | None) -> None:
    manager.register_task_handler(Pack, lambda task, attempt: None)
    if taken is None:
        with pytest.raises(UsageError, match="concurrency must be at least 1"):
            Worker(manager, concurrency=given)
        return
    gate, at_once = threading.Event(), Ledger()
    manager = TaskManager(manager.locker)  # without the handler from above

    def hold(task: object, attempt: object) -> None:
        at_once.note(task.id)  # type: ignore[attr-defined]  # a OnceTask
        assert gate.wait(SECONDS)

    manager.register_task_handler(Pack, hold)
    manager.create_tasks([Pack(number=number) for number in range(taken + 2)])
    with working(Worker(manager, concurrency=given, listen=False)):
        at_once.wait(taken)
        running = [one for one in range(taken + 2) if (task := manager.get_task(Pack, str(one))) and task.is_running]
        gate.set()
        at_once.wait(taken + 2)
    assert len(running) == taken


@row("OT-137", "poll 30 s / 0 / -1 s is taken as 30 s / 1 min / 1 min", "0 and less are refused")
@pytest.mark.parametrize(("given", "accepted"), [(30, True), (0, False), (-1, False)])
def test_ot_137_poll_interval(manager: TaskManager, given: float, accepted: bool) -> None:
    manager.register_task_handler(Pack, lambda task, attempt: None)
    if accepted:
        assert Worker(manager, poll_interval=given).kinds == ("pack",)
        return
    with pytest.raises(UsageError, match="poll_interval"):
        Worker(manager, poll_interval=given)


def shut_down_while_running(manager: TaskManager, started: Ledger, gate: threading.Event, count: int) -> list[bool]:
    """
    Stop a worker whose handlers are held: whether it had stopped before they were let go, and after.
    """
    worker = Worker(manager, concurrency=count, listen=False)
    thread = threading.Thread(target=worker.run)
    thread.start()
    started.wait(count)
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    stopper.join(0.2)
    seen = [stopper.is_alive()]
    gate.set()
    stopper.join(SECONDS)
    thread.join(SECONDS)
    return [*seen, not stopper.is_alive() and not thread.is_alive()]


@row("OT-138", "4 workers, shut down: returns only when none runs")
def test_ot_138_shut_down_waits(manager: TaskManager) -> None:
    gate, started, ended = threading.Event(), Ledger(), Ledger()

    def pack(task: object, attempt: object) -> None:
        started.note(task.id)  # type: ignore[attr-defined]  # a OnceTask
        assert gate.wait(SECONDS)
        ended.note(task.id)  # type: ignore[attr-defined]  # a OnceTask

    manager.register_task_handler(Pack, pack)
    manager.create_tasks([Pack(number=number) for number in range(4)])
    assert shut_down_while_running(manager, started, gate, 4) == [True, True]
    assert len(ended.runs) == 4


@row("OT-139", "3 group workers, shut down: returns only when none runs")
def test_ot_139_shut_down_of_groups_waits(manager: TaskManager) -> None:
    gate, started, ended = threading.Event(), Ledger(), Ledger()

    def pack(tasks: list[object], attempts: list[object]) -> None:
        started.note(tasks[0].resource_key)  # type: ignore[attr-defined]  # a OnceTask
        assert gate.wait(SECONDS)
        ended.note(tasks[0].resource_key)  # type: ignore[attr-defined]  # a OnceTask

    manager.register_resource_key_handler(Pack, pack)
    manager.create_tasks([Pack(number=number, box=f"box-{number % 3}") for number in range(6)])
    assert shut_down_while_running(manager, started, gate, 3) == [True, True]
    assert set(ended.runs) == {"box-0", "box-1", "box-2"}


@row("OT-140", "no handlers, shut down: returns at once", "a worker without anything to run is refused when it is made")
def test_ot_140_no_handlers(manager: TaskManager) -> None:
    with pytest.raises(UsageError, match="nothing to run"):
        Worker(manager)
    manager.register_task_handler(Pack, lambda task, attempt: None)
    assert Worker(manager).stop()
