"""
esync: queues where the newest request per key wins. One test per row of its behaviour.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from gcp_oncetask import Config, Fail, FixedDelay, Locker, Retry, UsageError
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.store.queries import due_for_workers
from gcp_oncetask.tasks import TaskData, TaskManager, TaskStatus, every, queue_kind
from gcp_oncetask.tasks.handlers import pull
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker
from tests.scenarios import row
from tests.support.orders import Killed
from tests.support.patience import patient
from tests.support.workers import Ledger, at_work

NEWEST = "the newest request wins, as its README and its first tests say; its later revision runs all, oldest first"
NAMES = itertools.count()


class World:
    """
    A manager, queues of the test's own, and what was run.
    """

    def __init__(self, cloud: OncetaskCloud) -> None:
        self.cloud = cloud
        self.ran: list[tuple[str, Any]] = []
        self.manager = self.process()

    def process(self, **settings: Any) -> TaskManager:
        """
        A manager as of another process.
        """
        manager = TaskManager(Locker(config=Config(**settings)))
        self.cloud.use(manager.locker)
        return manager

    def queue(self, handler: Callable[[Any], Any] | None = None, **options: Any) -> str:
        """
        A new queue; *handler* is given each task, and what it says is what the run ends with.
        """
        name = f"esync-{next(NAMES)}"

        def run(task: Any, attempt: Any) -> Any:
            self.ran.append((task.id, task.data.data))
            return None if handler is None else handler(task)

        self.manager.register_task_handler(queue_kind(name, pull=True), run, **options)
        return name

    def add(self, name: str, key: str, data: Any = None, **options: Any) -> Any:
        """
        A request.
        """
        return self.manager.add_task(name, key, data, **options)

    def pop(self, limit: int = 1) -> int:
        """
        Run up to *limit* of what is due; returns how many were run.
        """
        before = len(self.ran)
        runtime = self.manager.locker._runtime
        for name in self.manager._registry.kinds():
            for found in due_for_workers(runtime.store, runtime.config.env, name, range(8), limit):
                pull(self.manager._executor, self.manager._registry, found)
        return len(self.ran) - before

    def task(self, name: str, key: str) -> Any:
        """
        As it is stored.
        """
        return self.manager.get_task(queue_kind(name), key)

    def status(self, name: str, key: str) -> TaskStatus:
        """
        What it looks like now.
        """
        found: TaskStatus = self.task(name, key).status(self.cloud.clock_now())
        return found

    def active(self, name: str) -> int:
        """
        How many of a queue have not ended.
        """
        counted = self.manager.count(queue_kind(name))
        ended = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED)
        return sum(counted.values()) - sum(counted[status] for status in ended)


@pytest.fixture
def world(oncetask_cloud: OncetaskCloud) -> World:
    """
    On the test's cloud.
    """
    return World(oncetask_cloud)


@row("ES-01", "length 0; add one -> 1; clear -> 0")
def test_es_01_clear(world: World) -> None:
    """
    Per queue.
    """
    name = world.queue()
    model = queue_kind(name)
    world.manager.clear(model)
    assert world.active(name) == 0
    world.add(name, "a")
    assert world.active(name) == 1
    assert world.manager.clear(model) == 1
    assert world.active(name) == 0


@row("ES-02", "1; total 2")
def test_es_02_count_by_name(world: World) -> None:
    """
    By aggregations, each queue for itself.
    """
    names = [world.queue(), world.queue()]
    for name in names:
        world.add(name, "a")
    assert [world.active(name) for name in names] == [1, 1]


@row("ES-03", "0 (done, failed, cancelled do not count)")
def test_es_03_ended_ones_do_not_count(world: World) -> None:
    """
    Nor does a cancelled one.
    """
    name = world.queue(lambda task: Fail("no") if task.id == "failed" else None)
    for key in ("done", "failed", "cancelled"):
        world.add(name, key)
    world.manager.cancel_task(queue_kind(name), "cancelled")
    world.cloud.work(Worker(world.manager))
    world.cloud.run_until_idle()
    assert world.active(name) == 0
    assert world.manager.get_pending_count(queue_kind(name)) == 0
    assert world.status(name, "cancelled") is TaskStatus.CANCELLED


@row("ES-04", "no error")
def test_es_04_add_with_any_data(world: World) -> None:
    """
    Any JSON.
    """
    name = world.queue()
    for number, data in enumerate(("text", True, None, 5, 2.5, [1, {"a": None}], {"b": [False]})):
        assert world.add(name, str(number), data)
        assert world.task(name, str(number)).data.data == data


@row("ES-05", 'distinct "no tasks" signal')
def test_es_05_empty_queue(world: World) -> None:
    """
    Nothing to run is 0, and there is no next due time.
    """
    world.queue()
    worker = Worker(world.manager)
    assert (worker.drain(), worker.next_due()) == (0, None)


@row("ES-06", "same key, name, data (round trip)")
def test_es_06_round_trip(world: World) -> None:
    """
    As it was added.
    """
    seen: list[Any] = []
    name = world.queue(lambda task: seen.append((task.kind, task.id, task.data.key, task.data.data)))
    world.add(name, "ann", {"stage": "paid", "n": [1, 2]})
    world.pop()
    assert seen == [(name, "ann", "ann", {"stage": "paid", "n": [1, 2]})]


@row("ES-07", "C (newest); after completing C nothing is left")
def test_es_07_newest_of_three_wins(world: World) -> None:
    """
    One run.
    """
    name = world.queue()
    for data in "ABC":
        world.add(name, "k", data)
    assert (world.pop(10), world.pop(10)) == (1, 0)
    assert world.ran == [("k", "C")]


@row("ES-08", "C (the newer request is not swallowed by B's completion)")
def test_es_08_request_while_another_runs(world: World) -> None:
    """
    B runs when C is added; C runs afterwards, once.
    """
    name = world.queue(lambda task: world.add(name, "k", "C") if task.data.data == "B" else None)
    for data in "AB":
        world.add(name, "k", data)
    for _ in range(3):
        world.pop(10)
    assert world.ran == [("k", "B"), ("k", "C")]


@row("ES-09", "A, B, C in order, then none", NEWEST)
def test_es_09_later_revision_runs_all(world: World) -> None:
    """
    Whoever wants every one gives each an id of its own.
    """
    name = world.queue()
    for data in "ABC":
        world.add(name, "k", data)
    world.pop(10)
    assert world.ran == [("k", "C")]
    for data in "ABC":
        world.add(name, f"k/{data}", data)
    world.pop(10)
    assert sorted(world.ran[1:]) == [("k/A", "A"), ("k/B", "B"), ("k/C", "C")]


@row("ES-10", "B", NEWEST)
def test_es_10_later_revision_runs_the_oldest_next(world: World) -> None:
    """
    A runs, B and C are added: C is next, and the last.
    """
    name = world.queue(lambda task: [world.add(name, "k", data) for data in "BC"] if task.data.data == "A" else None)
    world.add(name, "k", "A")
    for _ in range(3):
        world.pop(10)
    assert [data for _, data in world.ran] == ["A", "C"]


@row("ES-11", "none")
def test_es_11_cancelled(world: World) -> None:
    """
    It is not run.
    """
    name = world.queue()
    world.add(name, "k")
    world.manager.cancel_task(queue_kind(name), "k")
    assert world.pop(10) == 0
    assert world.status(name, "k") is TaskStatus.CANCELLED


@row("ES-12", "none")
def test_es_12_failed_for_good(world: World) -> None:
    """
    It is not run again, whatever time passes.
    """
    name = world.queue(lambda task: Fail("gone"))
    world.add(name, "k")
    assert world.pop() == 1
    world.cloud.advance(days=30)
    assert world.pop(10) == 0


@row("ES-13", "in order of addition", "within a shard; over all with ONCETASK_PULL_SHARDS=1 and one place")
def test_es_13_order(world: World) -> None:
    """
    One shard, one place.
    """
    world.manager = world.process(pull_shards=1)
    name = world.queue()
    for key in ("z", "m", "a"):
        world.add(name, key)
        world.cloud.advance(seconds=0.1)
    for _ in range(3):
        world.pop()
    assert [key for key, _ in world.ran] == ["z", "m", "a"]


@row("ES-14", "none")
def test_es_14_retry_is_not_run_at_once(world: World) -> None:
    """
    Not before its time.
    """
    name = world.queue(lambda task: Retry("later", after=timedelta(hours=1)))
    world.add(name, "k")
    assert (world.pop(10), world.pop(10)) == (1, 0)


@row("ES-15", "none (too young)", "no refresh by hand: each retry has its time")
def test_es_15_retry_is_too_young(world: World) -> None:
    """
    A minute early: nothing.
    """
    name = world.queue(lambda task: Retry("later", after=timedelta(hours=1)))
    world.add(name, "k")
    world.pop()
    world.cloud.advance(minutes=59)
    assert world.pop(10) == 0


@row("ES-16", "the same task id again", "each retry has its time")
def test_es_16_retry_is_old_enough(world: World) -> None:
    """
    The same task, with its message kept.
    """
    name = world.queue(lambda task: Retry("later", after=timedelta(hours=1)) if len(world.ran) == 1 else None)
    world.add(name, "k")
    world.pop()
    world.cloud.advance(minutes=61)
    assert world.pop() == 1
    assert world.ran == [("k", None)] * 2
    assert [error.message for error in world.task(name, "k").errors] == ["later"]


@row("ES-17", "Run returns within 2 s")
def test_es_17_stop(world: World) -> None:
    """
    No time passes at all.
    """
    world.queue()
    worker = Worker(world.manager, listen=False)
    with at_work(worker):
        Ledger().until(lambda: worker.shards != {})
        begun = world.cloud.clock_now()
    assert world.cloud.clock_now() == begun


@row("ES-18", "handler retrievable under its name")
def test_es_18_handler_by_name(world: World) -> None:
    """
    As the registry has it.
    """
    name = world.queue()
    handler = world.manager._registry.get(name)
    assert handler is not None
    assert handler.model is queue_kind(name)
    assert name in world.manager._registry.kinds()


class Tick(TaskData, kind="es-tick", pull=True):
    name: str

    def task_id(self) -> str:
        return self.name

    def recurrence(self) -> Any:
        return every(timedelta(seconds=1))


@row("ES-19", "action every 250 ms: 4 runs in 0.75-1.25 s", "whole seconds, one at least; one run across all workers")
def test_es_19_actions_at_intervals(world: World) -> None:
    """
    Every second, by two workers: once each.
    """
    runs = []
    for manager in (world.manager, world.process()):
        manager.register_task_handler(Tick, lambda task, attempt: runs.append(task.id))
        world.cloud.work(Worker(manager))
    world.manager.create_task(Tick(name="t"))
    begun = world.cloud.clock_now()
    while len(runs) < 5:
        world.cloud.advance(seconds=0.25)
    assert timedelta(seconds=3.75) <= world.cloud.clock_now() - begun <= timedelta(seconds=5)
    assert len(set(runs)) == len(runs)


@row("ES-20", "4 good runs in 1.0-1.5 s; loop survives, error handler told", "and the failed run is tried again")
def test_es_20_action_fails_the_first_time(world: World) -> None:
    """
    Nothing is delayed by it.
    """
    told, runs = [], []
    world.manager.on_error = lambda task, error: told.append(str(error))

    def tick(task: Any, attempt: Any) -> None:
        runs.append(task.id)
        if len(runs) == 1:
            raise RuntimeError("panic")

    world.manager.register_task_handler(Tick, tick)
    world.cloud.work(Worker(world.manager))
    world.manager.create_task(Tick(name="t"))
    while len(runs) < 6:
        world.cloud.advance(seconds=0.25)
    assert told == ["panic"]
    assert len(set(runs)) == len(runs) - 1


@row("ES-21", "called within 4 s; shortly after, the queue has nothing to pop")
def test_es_21_worker_runs_what_is_added(world: World) -> None:
    """
    A worker at work; polled at least each second.
    """
    ledger = Ledger()
    name = world.queue(lambda task: ledger.note(task.id))
    with at_work(Worker(world.manager, listen=False, poll_interval=1)):
        world.add(name, "k")
        world.cloud.clock.advance(1)
        ledger.wait(1, timeout=4)
        ledger.until(lambda: world.active(name) == 0)


@row(
    "ES-22",
    "cancelled, error handler told (reason stored)",
    "it stays until a deployment has a handler; an error is logged",
)
def test_es_22_no_handler(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """
    A worker does not look for what it can't run; a task that reaches it anyway is left as it is.
    """
    name = f"esync-{next(NAMES)}"
    queue_kind(name, pull=True)
    world.add(name, "k")
    world.queue()
    assert Worker(world.manager).drain() == 0
    runtime = world.manager.locker._runtime
    [found] = due_for_workers(runtime.store, runtime.config.env, name, range(8), 1)
    assert pull(world.manager._executor, world.manager._registry, found).outcome is Outcome.UNHANDLED
    assert world.status(name, "k") is TaskStatus.PENDING


@row("ES-23", "FAILED, text stored as last message, error handler told")
def test_es_23_permanent_failure(world: World) -> None:
    """
    The text is in the errors.
    """
    told: list[str] = []
    world.manager.on_error = lambda task, error: told.append(str(error))
    name = world.queue(lambda task: Fail("no such customer"))
    world.add(name, "k")
    world.pop()
    assert world.status(name, "k") is TaskStatus.FAILED
    assert world.task(name, "k").errors[-1].message == "no such customer"
    assert told == ["no such customer"]


@row("ES-24", "RETRY, text stored, not popped for 10 min", "for as long as the handler or the kind's policy says")
def test_es_24_retry(world: World) -> None:
    """
    The policy of the queue: ten minutes.
    """
    name = world.queue(lambda task: Retry("closed"), retry=FixedDelay(delay=timedelta(minutes=10), max_attempts=3))
    world.add(name, "k")
    world.pop()
    assert world.status(name, "k") is TaskStatus.WAITING
    assert world.task(name, "k").errors[-1].message == "closed"
    world.cloud.advance(minutes=9, seconds=59)
    assert world.pop(10) == 0
    world.cloud.advance(seconds=2)
    assert world.pop(10) == 1


@row("ES-25", "DONE, text stored")
def test_es_25_success(world: World) -> None:
    """
    As the result.
    """
    name = world.queue(lambda task: "3 rows written")
    world.add(name, "k")
    world.pop()
    assert world.status(name, "k") is TaskStatus.COMPLETED
    assert world.manager.result(queue_kind(name), "k") == "3 rows written"


@row("ES-26", "none; after that time: popped")
def test_es_26_do_after(world: World) -> None:
    """
    By ``delay=``.
    """
    name = world.queue()
    world.add(name, "k", delay=60)
    world.cloud.advance(seconds=59)
    assert world.pop(10) == 0
    world.cloud.advance(seconds=2)
    assert world.pop(10) == 1


@row("ES-27", "popped again after 10 min", "after the lease, if the logs show that it died; else at the timeout")
def test_es_27_worker_died(world: World) -> None:
    """
    Leased for ten minutes, and no trace of its holder: taken over at the timeout of 10.5.
    """

    def die(task: Any) -> None:
        if len(world.ran) == 1:
            raise Killed

    name = world.queue(die)
    world.add(name, "k")
    with pytest.raises(Killed):
        world.pop()
    world.cloud.advance(minutes=9)
    assert world.pop(10) == 0
    world.cloud.write_system("Container terminated on signal 9.")
    world.cloud.advance(minutes=4)
    assert world.pop(10) == 1
    assert world.status(name, "k") is TaskStatus.COMPLETED


@row("ES-28", "the old READY first", "by due time: a retry's is when it is to be tried again; within a shard")
def test_es_28_retry_comes_after_what_waits(world: World) -> None:
    """
    What was due earlier runs first.
    """
    world.manager = world.process(pull_shards=1)
    name = world.queue(lambda task: Retry("later", after=5) if len(world.ran) == 1 else None)
    world.add(name, "retried")
    world.pop()
    world.add(name, "old")
    world.cloud.advance(seconds=10)
    for _ in range(2):
        world.pop()
    assert [key for key, _ in world.ran] == ["retried", "old", "retried"]


class Action(TaskData, kind="es-action", pull=True):
    name: str
    stream: str

    def resource_key(self) -> str:
        return self.stream


@row("ES-29", "serial / parallel", "a stream is a resource key")
def test_es_29_streams(world: World) -> None:
    """
    Two actions of one stream never at once; two of different streams at the same time.
    """
    inside: list[str] = []
    together: set[tuple[str, ...]] = set()
    news = threading.Condition()

    def act(task: Any, attempt: Any) -> None:
        with news:
            inside.append(task.data.stream)
            together.add(tuple(sorted(inside)))
            news.notify_all()
            news.wait_for(lambda: ("x", "y") in together, 10)
            inside.remove(task.data.stream)

    world.manager.register_task_handler(Action, act)
    for name, stream in (("1", "x"), ("2", "x"), ("3", "y"), ("4", "y")):
        world.manager.create_task(Action(name=name, stream=stream))
    with at_work(Worker(world.manager, listen=False)):
        Ledger().until(lambda: world.manager.count(Action)[TaskStatus.COMPLETED] == 4)
    assert ("x", "y") in together
    assert not {("x", "x"), ("y", "y")} & together


@row("ES-30", "coalesced on the key alone, whatever the name", "scoped by name: two queues may use the same key")
def test_es_30_same_key_of_two_names(world: World) -> None:
    """
    Both run.
    """
    names = [world.queue(), world.queue()]
    for name in names:
        world.add(name, "k", name)
    world.pop(10)
    assert sorted(world.ran) == [("k", name) for name in sorted(names)]


@row("ES-31", "no task handed to two of them")
def test_es_31_several_processors(world: World) -> None:
    """
    Four workers, forty keys: each once.
    """
    ledger = Ledger()
    name = world.queue(lambda task: ledger.note(task.id))
    others = [world.process() for _ in range(3)]
    for manager in others:
        manager.register_task_handler(queue_kind(name), lambda task, attempt: ledger.note(task.id))
    for number in range(40):
        world.add(name, str(number))
    with at_work(*(Worker(manager, listen=False) for manager in (world.manager, *others))):
        ledger.wait(40)
    assert set(ledger.runs.values()) == {1}


@row("ES-32", "different tasks")
def test_es_32_two_workers_at_once(world: World) -> None:
    """
    While the one runs a task, the other gets the other one.
    """
    inside: set[int] = set()
    met, ledger = threading.Event(), Ledger()

    def run(which: int, task: Any) -> None:
        inside.add(which)
        if len(inside) == 2:
            met.set()
        assert met.wait(patient(30))
        ledger.note(task.id)

    name = world.queue(lambda task: run(0, task))
    other = world.process()
    other.register_task_handler(queue_kind(name), lambda task, attempt: run(1, task))
    for number in range(20):
        world.add(name, str(number))
    with at_work(*(Worker(manager, listen=False, concurrency=1) for manager in (world.manager, other))):
        ledger.wait(20)
    assert set(ledger.runs.values()) == {1}


@row("ES-33", "new callback gets it")
def test_es_33_error_callback_is_replaced(world: World) -> None:
    """
    At any time.
    """
    told: list[tuple[int, str]] = []
    name = world.queue(lambda task: Fail(f"no {task.id}"))
    for number in range(2):
        world.manager.on_error = lambda task, error, number=number: told.append((number, str(error)))  # type: ignore[misc]
        world.add(name, str(number))
        world.pop()
    assert told == [(0, "no 0"), (1, "no 1")]


@row("ES-34", "error surfaces to the caller (key hashing is the caller's job)", "up to about 1,400 bytes fit")
def test_es_34_long_key(world: World) -> None:
    """
    65 characters run; one that no document can have is refused, and nothing is stored.
    """
    name = world.queue()
    world.add(name, "k" * 65)
    assert world.pop() == 1
    with pytest.raises(UsageError, match="too long"):
        world.add(name, "k" * 1500)
    assert world.active(name) == 0
