"""
Workers that pull, on the real clock: threads, a listener, sessions that share.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from google.cloud.firestore import Client

from gcp_emulator.cloud import LocalCloud
from gcp_oncetask import Config, Locker, UnknownKindError, UsageError
from gcp_oncetask.tasks import PerTask, TaskData, TaskManager, TaskStatus
from gcp_oncetask.worker import Worker


class Resize(TaskData, kind="resize", pull=True):
    number: int
    shelf: str = ""

    def task_id(self) -> str:
        return str(self.number)

    def resource_key(self) -> str | None:
        return self.shelf or None


class Pushed(TaskData, kind="pushed"):
    number: int


@pytest.fixture
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud(smtp=False) as cloud:
        yield cloud


@pytest.fixture
def make_manager(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> Callable[[], TaskManager]:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", cloud.firestore.address)

    def make() -> TaskManager:
        config = Config(project=cloud.project, verify="off", logging_emulator=cloud.logging.address, log_interval=0.0)
        return TaskManager(Locker(Client(project=cloud.project), config=config))

    return make


@contextmanager
def at_work(*workers: Worker) -> Iterator[None]:
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.stop()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()


class Ledger:
    """
    What was run, and how often.
    """

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.news = threading.Condition()

    def note(self, id_: str) -> None:
        with self.news:
            self.runs[id_] += 1
            self.news.notify_all()

    def wait(self, count: int, timeout: float = 60) -> None:
        with self.news:
            assert self.news.wait_for(lambda: len(self.runs) >= count, timeout), f"only {len(self.runs)} of {count} ran"


@pytest.mark.parametrize("listen", [True, False])
def test_a_task_created_while_the_worker_sleeps_is_run(make_manager, listen):
    manager, ledger = make_manager(), Ledger()
    manager.register_task_handler(Resize, lambda task, attempt: ledger.note(task.id))
    worker = Worker(manager, listen=listen, poll_interval=0.2)
    with at_work(worker):
        manager.create_task(Resize(number=1))
        ledger.wait(1)
        manager.create_task(Resize(number=2))
        ledger.wait(2)
    assert ledger.runs == {"1": 1, "2": 1}
    assert manager.count(Resize)[TaskStatus.COMPLETED] == 2
    assert worker.done == 2


def test_several_workers_share_and_run_each_task_once(make_manager):
    ledger = Ledger()
    managers = [make_manager() for _ in range(3)]
    for manager in managers:
        manager.register_task_handler(Resize, lambda task, attempt: ledger.note(task.id))
    assert managers[0].create_tasks([Resize(number=number) for number in range(200)]).created == 200
    workers = [Worker(manager, concurrency=4, session_ttl=3.0) for manager in managers]
    with at_work(*workers):
        ledger.wait(200)
    assert set(ledger.runs.values()) == {1}
    assert sum(worker.done for worker in workers) == 200


def test_one_busy_key_holds_up_nobody_else(make_manager):
    manager, ledger, gate = make_manager(), Ledger(), threading.Event()

    def resize(task, attempt):
        if task.resource_key:
            assert gate.wait(30)
        ledger.note(task.id)

    manager.register_task_handler(Resize, resize)
    for number in range(3):
        manager.create_task(Resize(number=number, shelf="a"))
    for number in range(3, 20):
        manager.create_task(Resize(number=number))
    with at_work(Worker(manager, concurrency=2)):
        ledger.wait(17)
        assert not {"0", "1", "2"} & set(ledger.runs)
        gate.set()
        ledger.wait(20)
    assert set(ledger.runs.values()) == {1}


def test_stop_hands_back_what_does_not_end_in_time(make_manager):
    manager, started, gate = make_manager(), threading.Event(), threading.Event()
    written = []

    def resize(task, attempt):
        started.set()
        assert gate.wait(30)
        written.append(attempt.number)

    manager.register_task_handler(Resize, resize)
    manager.create_task(Resize(number=1))
    worker = Worker(manager)
    thread = threading.Thread(target=worker.run)
    thread.start()
    assert started.wait(30)
    assert not worker.stop(timeout=0.05)
    task = manager.get_task(Resize, "1")
    assert (task.is_queued, task.lock.attempts) == (True, 0)
    gate.set()
    thread.join(30)
    assert manager.get_task(Resize, "1").is_queued
    assert Worker(manager).drain() == 1
    assert written == [1, 1]


def test_max_tasks_ends_the_run(make_manager):
    manager, ledger = make_manager(), Ledger()
    manager.register_task_handler(Resize, lambda task, attempt: ledger.note(task.id))
    manager.create_tasks([Resize(number=number) for number in range(10)])
    worker = Worker(manager, max_tasks=4, concurrency=3)
    worker.run()
    assert (worker.done, len(ledger.runs)) == (4, 4)


def test_a_worker_needs_something_to_run(make_manager):
    manager = make_manager()
    with pytest.raises(UsageError, match="nothing to run"):
        Worker(manager)
    manager.register_task_handler(Pushed, lambda task, attempt: None)
    with pytest.raises(UsageError, match="pull=True"):
        Worker(manager, kinds=[Pushed])
    with pytest.raises(UnknownKindError, match="resize"):
        Worker(manager, kinds=[Resize])


def test_a_batch_of_a_key_is_pulled_together(make_manager):
    manager, calls = make_manager(), []

    def resize(tasks, attempts):
        calls.append([task.id for task in tasks])
        return PerTask({task.id: {"n": task.data.number} for task in tasks})

    manager.register_resource_key_handler(Resize, resize)
    for number in range(4):
        manager.create_task(Resize(number=number, shelf="a"))
    assert Worker(manager).drain() == 1
    assert calls == [["0", "1", "2", "3"]]
    assert manager.result(Resize, "2") == {"n": 2}


class Mail(TaskData, kind="mail", pull=True):
    number: int

    def task_id(self) -> str:
        return str(self.number)


def test_a_batch_handler_says_what_it_has_finished(make_manager):
    manager, calls = make_manager(), []

    def mail(tasks, attempts):
        calls.append(sorted(task.id for task in tasks))
        return PerTask.finished(tasks[:2], again=0.2)

    manager.register_batch_handler(Mail, mail, size=3)
    manager.create_tasks([Mail(number=number) for number in range(3)])
    worker = Worker(manager)
    assert worker.drain() == 1
    assert calls == [["0", "1", "2"]]
    assert manager.count(Mail)[TaskStatus.COMPLETED] == 2
    [left] = [task for number in range(3) if (task := manager.get_task(Mail, str(number))).is_queued]
    assert left.lock.attempts == 0
    with at_work(worker):
        deadline = threading.Event()
        while manager.count(Mail)[TaskStatus.COMPLETED] < 3:
            assert not deadline.wait(0.05)
    assert calls[1:] == [[left.id]]
