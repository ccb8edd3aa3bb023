"""
Workers that pull, on the real clock: threads, a listener, sessions that share.
"""

from __future__ import annotations

import itertools
import threading
import zlib
from contextvars import ContextVar

import pytest
from google.cloud.firestore import Client

from gcp_oncetask import NoRetry, UnknownKindError, UsageError
from gcp_oncetask.tasks import PerTask, TaskData, TaskStatus
from gcp_oncetask.worker import Worker
from tests.support.patience import patient
from tests.support.workers import Ledger, at_work, expire


class Resize(TaskData, kind="resize", pull=True):
    number: int
    shelf: str = ""

    def task_id(self) -> str:
        return str(self.number)

    def resource_key(self) -> str | None:
        return self.shelf or None


class Pushed(TaskData, kind="pushed"):
    number: int


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
            assert gate.wait(patient(30))
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


@pytest.mark.parametrize("listen", [True, False])
def test_a_handler_that_hangs_holds_up_nobody_after_its_lease_is_over(make_manager, listen):
    manager, ledger, gate = make_manager(margin=1), Ledger(), threading.Event()

    def resize(task, attempt):
        ledger.note(task.id)
        if task.id == "0":
            assert gate.wait(patient(60))

    manager.register_task_handler(Resize, resize, lease_duration=2.5, renew=False)
    manager.create_task(Resize(number=0))
    with at_work(Worker(manager, concurrency=1, session_ttl=3.0, poll_interval=0.2, listen=listen)):
        ledger.wait(1)
        manager.create_task(Resize(number=1))
        ledger.wait(2)
        gate.set()
    assert manager.count(Resize)[TaskStatus.COMPLETED] >= 1


def test_stop_hands_back_what_does_not_end_in_time(make_manager):
    manager, started, gate = make_manager(), threading.Event(), threading.Event()
    written = []

    def resize(task, attempt):
        started.set()
        assert gate.wait(patient(30))
        written.append(attempt.number)

    manager.register_task_handler(Resize, resize)
    manager.create_task(Resize(number=1))
    worker = Worker(manager)
    thread = threading.Thread(target=worker.run)
    thread.start()
    assert started.wait(patient(30))
    assert not worker.stop(timeout=0.05)
    task = manager.get_task(Resize, "1")
    assert (task.is_queued, task.lock.attempts) == (True, 0)
    gate.set()
    thread.join(patient(30))
    assert manager.get_task(Resize, "1").is_queued
    assert Worker(manager).drain() == 1
    assert written == [1, 1]


def test_stop_hands_back_a_whole_batch(make_manager):
    """
    Its key goes to others: none of the batch may believe in it any longer.
    """
    manager, started, gate = make_manager(), threading.Event(), threading.Event()
    believed = []

    def resize(tasks, attempts):
        started.set()
        assert gate.wait(patient(30))
        believed.extend(attempt._running.settled is None for attempt in attempts)

    manager.register_resource_key_handler(Resize, resize)
    for number in range(3):
        manager.create_task(Resize(number=number, shelf="a"))
    worker = Worker(manager, concurrency=1)
    thread = threading.Thread(target=worker.run)
    thread.start()
    assert started.wait(patient(30))
    assert not worker.stop(timeout=0.05)
    tasks = [manager.get_task(Resize, f"{number}") for number in range(3)]
    assert [(task.is_queued, task.lock.attempts) for task in tasks] == [(True, 0)] * 3
    gate.set()
    thread.join(patient(30))
    assert len(believed) > 1
    assert not any(believed)


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


class Slow(TaskData, kind="slow", pull=True):
    number: int

    def task_id(self) -> str:
        return str(self.number)


def test_a_slow_kind_leaves_a_place_for_the_others(make_manager):
    """
    Three places, two kinds: the slow one never takes the last place, however much of it there is.
    """
    manager, ledger, gate = make_manager(), Ledger(), threading.Event()
    together = threading.Semaphore(0)

    def slow(task, attempt):
        together.release()
        assert gate.wait(patient(30))

    manager.register_task_handler(Slow, slow)
    manager.register_task_handler(Resize, lambda task, attempt: ledger.note(task.id))
    manager.create_tasks([Slow(number=number) for number in range(10)])
    with at_work(Worker(manager, concurrency=3)):
        assert all(together.acquire(timeout=30) for _ in range(2))
        manager.create_tasks([Resize(number=number) for number in range(10)])
        ledger.wait(10)
        assert manager.count(Slow)[TaskStatus.LEASED] == 2
        gate.set()


def test_each_kind_has_its_own_concurrency(make_manager):
    """
    A mapping: at most 1 and 3 at once, and no fewer where there is enough to do.
    """
    manager = make_manager()
    news, inside, most = threading.Condition(), {"slow": 0, "resize": 0}, {"slow": 0, "resize": 0}

    def run(task, attempt):
        with news:
            inside[task.kind] += 1
            most[task.kind] = max(most[task.kind], inside[task.kind])
            news.notify_all()
            news.wait_for(lambda: most == {"slow": 1, "resize": 3}, 30)
            inside[task.kind] -= 1

    for model in (Slow, Resize):
        manager.register_task_handler(model, run)
        manager.create_tasks([model(number=number) for number in range(8)])
    Worker(manager, concurrency={"resize": 3}, max_tasks=16).run()
    assert most == {"slow": 1, "resize": 3}
    with pytest.raises(UsageError, match="concurrency names 'other'"):
        Worker(manager, concurrency={"other": 1})
    with pytest.raises(UsageError, match="at least 1"):
        Worker(manager, concurrency=0)


def test_a_poison_task_holds_up_nobody(make_manager):
    """
    One task whose handler asks the process to end, one whose payload fits no model: the others run, they end as failed.
    """
    manager, ledger = make_manager(), Ledger()

    def resize(task, attempt):
        if task.id == "0":
            raise SystemExit(3)
        ledger.note(task.id)

    manager.register_task_handler(Resize, resize, retry=NoRetry())
    for number in range(12):
        manager.create_task(Resize(number=number))
    manager.locker.client.document(manager._name_of(Resize, "1").path).update({"data": {"number": "many"}})
    with at_work(Worker(manager, concurrency=1)):
        ledger.wait(10)
        ledger.until(lambda: manager.count(Resize)[TaskStatus.FAILED] == 2)
    assert set(ledger.runs) == {str(number) for number in range(2, 12)}
    assert set(ledger.runs.values()) == {1}


def test_what_can_not_be_claimed_holds_up_nobody(make_manager):
    """
    As many tasks of dead holders, of which nothing is known, as there are places: they are left alone, the others run.
    """
    manager, ledger = make_manager(), Ledger()
    manager.register_task_handler(Resize, lambda task, attempt: ledger.note(task.id), lease_duration=3)
    manager.create_tasks([Resize(number=number) for number in range(40)])
    held = [manager._name_of(Resize, str(number)).path for number in range(4)]
    for path in held:
        expire(manager, path)
    with at_work(Worker(manager, concurrency=2)):
        ledger.wait(36)
    assert set(ledger.runs.values()) == {1}
    assert not set(ledger.runs) & {"0", "1", "2", "3"}


def test_no_shard_starves_while_another_is_never_empty(make_manager):
    """
    One place, and a backlog that never ends in the first shard: the others have their turn.
    """
    manager, ledger, never = make_manager(), Ledger(), itertools.count(1000)
    shards = manager.locker.config.pull_shards

    def shard(number):
        return zlib.crc32(manager._name_of(Resize, str(number)).path.encode()) % shards

    busy = (number for number in never if shard(number) == 0)

    def resize(task, attempt):
        if shard(task.data.number) == 0:
            manager.create_task(Resize(number=next(busy)))
        else:
            ledger.note(task.id)

    manager.register_task_handler(Resize, resize)
    for _ in range(3):
        manager.create_task(Resize(number=next(busy)))
    others = [Resize(number=number) for number in range(60) if shard(number) != 0][:14]
    manager.create_tasks(others)
    with at_work(Worker(manager, concurrency=1)):
        ledger.wait(len(others), timeout=20)


def test_tasks_of_one_key_follow_each_other_without_waiting_for_the_poll(make_manager):
    """
    Without a listener, a task that gives a key back makes the worker look for the one that got it.
    """
    manager, ledger, gate = make_manager(), Ledger(), threading.Event()

    def resize(task, attempt):
        assert gate.wait(patient(30))
        ledger.note(task.id)

    manager.register_task_handler(Resize, resize)
    for number in range(6):
        manager.create_task(Resize(number=number, shelf="a"))

    def waiting():
        tasks = manager.get_tasks_by_resource_key(Resize, "a")
        return sum(task.lock.parked is not None for task in tasks)

    with at_work(Worker(manager, listen=False, poll_interval=3600)):
        ledger.until(lambda: waiting() == 5)
        gate.set()
        ledger.wait(6)
    assert set(ledger.runs.values()) == {1}


def test_a_worker_that_is_stopped_before_it_runs_does_not_run(make_manager):
    manager = make_manager()
    manager.register_task_handler(Resize, lambda task, attempt: None)
    manager.create_task(Resize(number=1))
    worker = Worker(manager)
    assert worker.stop()
    worker.run()
    assert manager.get_task(Resize, "1").is_queued


def test_push_and_pull_are_mixed_per_kind(make_manager):
    """
    A worker runs the pull kinds only; the pushed kind of the same manager is left to its deliveries.
    """
    manager, ledger = make_manager(), Ledger()
    for model in (Resize, Pushed):
        manager.register_task_handler(model, lambda task, attempt: ledger.note(task.kind))
    manager.create_task(Resize(number=1))
    assert Worker(manager).kinds == ("resize",)
    assert Worker(manager).drain() == 1
    assert ledger.runs == {"resize": 1}


def test_the_workers_own_client(make_manager, loopback):
    """
    The factory is asked once, when the worker starts; its client is the one that works.
    """
    manager, made = make_manager(), []
    manager.register_task_handler(Resize, lambda task, attempt: None)
    manager.create_task(Resize(number=1))

    def factory():
        made.append(Client(project=loopback.project))
        return made[-1]

    worker = Worker(manager, client_factory=factory, max_tasks=1)
    assert made == []
    worker.run()
    assert len(made) == 1
    assert manager.locker.client is made[0]
    assert manager.get_task(Resize, "1").lock.status == "completed"


def test_the_workers_own_context_reaches_its_handlers(make_manager):
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    manager, ledger, seen = make_manager(), Ledger(), []

    def resize(task, attempt):
        seen.append(tenant.get())
        tenant.set("somebody else")
        ledger.note(task.id)

    manager.register_task_handler(Resize, resize)
    manager.create_tasks([Resize(number=number) for number in range(3)])

    def run():
        tenant.set("acme")
        worker.run()

    worker = Worker(manager, max_tasks=3)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(patient(30))
    assert not thread.is_alive()
    assert seen == ["acme"] * 3
