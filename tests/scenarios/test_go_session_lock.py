"""
go-session-lock: workers that share open tasks by sessions. One test per row of its behaviour.
"""

from __future__ import annotations

import itertools
import threading
from datetime import timedelta
from typing import Any

import grpc
import pytest

from gcp_oncetask import Config, ConfigError, Locker, UnknownKindError
from gcp_oncetask.store.queries import due_for_workers
from gcp_oncetask.tasks import PerTask, TaskData, TaskManager, TaskStatus
from gcp_oncetask.tasks.handlers import pull
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker
from gcp_oncetask.worker.membership import Membership
from tests.scenarios import row
from tests.support.orders import Killed
from tests.support.patience import patient
from tests.support.workers import Ledger, at_work

SHARDS = "shards of the queue are shared, not tasks: no row that all workers lock; in numbers of tasks by chance, not exactly"
NO_ERROR = "no error to handle: it takes nothing more, and its next heartbeat begins another session"


class Job(TaskData, kind="job", pull=True):
    number: int

    def task_id(self) -> str:
        return str(self.number)


class World:
    """
    Managers, each as in a process of its own, sessions of a minute, and what they run.
    """

    def __init__(self, cloud: OncetaskCloud) -> None:
        self.cloud = cloud
        self.ledger = Ledger()
        self.manager = self.process()

    def process(self, handler: Any = None, **options: Any) -> TaskManager:
        """
        Another process.
        """
        manager = TaskManager(Locker(config=Config()))
        self.cloud.use(manager.locker)
        manager.register_task_handler(Job, handler or (lambda task, attempt: self.ledger.note(task.id)), **options)
        return manager

    def worker(self, handler: Any = None, **options: Any) -> Worker:
        """
        A worker of a process of its own that polls.
        """
        return Worker(self.process(handler), listen=False, **options)

    def create(self, count: int) -> set[str]:
        """
        Open tasks.
        """
        assert self.manager.create_tasks(Job(number=number) for number in range(count)).created == count
        return {str(number) for number in range(count)}

    def session(self) -> Session:
        """
        A session that has begun.
        """
        return Session(self.process())


class Session:
    """
    What a worker does when it asks for work: beat, and look into its shards.
    """

    def __init__(self, manager: TaskManager) -> None:
        self.manager = manager
        self.membership = Membership(manager.locker._runtime, ("job",), 60.0)
        self.membership.beat()

    def ask(self, cap: int = 100) -> list[str]:
        """
        The ids of what it would run.
        """
        self.membership.beat()
        return self.look(cap)

    def look(self, cap: int = 100) -> list[str]:
        """
        The same without a heartbeat.
        """
        runtime = self.manager.locker._runtime
        if not self.membership.alive():
            return []
        shards = self.membership.shards["job"]
        found = due_for_workers(runtime.store, runtime.config.env, "job", shards, cap) if shards else []
        return sorted(snapshot.path.rsplit(":", 1)[1] for snapshot in found)

    @property
    def size(self) -> int:
        """
        How many shards it has.
        """
        return len(self.membership.shards.get("job", ()))


@pytest.fixture
def world(oncetask_cloud: OncetaskCloud) -> World:
    """
    On the test's cloud.
    """
    return World(oncetask_cloud)


@row("SL-01", "3 and 2 tasks, disjoint, union = all", SHARDS)
def test_sl_01_two_sessions_share_five_tasks(world: World) -> None:
    """
    Four shards each; disjoint, and together all.
    """
    everything = world.create(5)
    one, two = world.session(), world.session()
    first, second = one.ask(), two.ask()
    assert (one.size, two.size) == (4, 4)
    assert not set(first) & set(second)
    assert {*first, *second} == everything


@row("SL-02", "the same 3")
def test_sl_02_session_asks_again(world: World) -> None:
    """
    The same as before, as long as nothing has moved.
    """
    world.create(20)
    one, two = world.session(), world.session()
    two.ask()
    assert one.ask() == one.ask() != []


@row("SL-03", "nothing (no theft from live owners)")
def test_sl_03_session_joins_while_all_tasks_are_held(world: World) -> None:
    """
    While a batch holds all of them, the newcomer finds nothing, though it has its share of the shards.
    """
    world.create(5)
    manager = TaskManager(Locker(config=Config()))
    world.cloud.use(manager.locker)
    found: list[Any] = []

    def batch(tasks: list[Any], attempts: list[Any]) -> None:
        newcomer = world.session()
        found.append((len(tasks), newcomer.size, newcomer.ask()))

    manager.register_batch_handler(Job, batch)
    assert Worker(manager).drain() == 1
    assert found == [(5, 8, [])]


@row("SL-04", "1's tasks are adopted, shares respected")
def test_sl_04_tasks_of_a_dead_session_are_adopted(world: World) -> None:
    """
    Within its ttl of a minute the shards of the dead one are the others', four each.
    """
    everything = world.create(5)
    _dead, two, three = world.session(), world.session(), world.session()
    for _ in range(3):
        two.ask()
        three.ask()
        world.cloud.advance(seconds=20)
    adopted = (two.ask(), three.ask())
    assert set(itertools.chain(*adopted)) == everything
    assert (two.size, three.size) == (4, 4)


@row("SL-05", "error SL001, nothing adopted", NO_ERROR)
def test_sl_05_expired_session_asks(world: World) -> None:
    """
    It finds nothing, whatever its shards were; then it is another session.
    """
    world.create(5)
    one = world.session()
    before = one.membership.id
    world.cloud.advance(seconds=60)
    assert one.look() == []
    assert len(one.ask()) == 5
    assert one.membership.id != before


@row("SL-06", "3's tasks available at once, without waiting 2 min", "the others are told by their listeners")
def test_sl_06_session_ends_politely(world: World) -> None:
    """
    No time passes.
    """
    everything = world.create(20)
    two, three = world.session(), world.session()
    assert set(two.ask()) != everything
    three.membership.end()
    assert set(two.ask()) == everything


@row("SL-07", "empty, no error")
def test_sl_07_nothing_is_open(world: World) -> None:
    """
    Nothing.
    """
    assert world.session().ask() == []


@row("SL-08", "1 task")
def test_sl_08_cap(world: World) -> None:
    """
    As many as there is room for.
    """
    world.create(20)
    assert len(world.session().ask(cap=1)) == 1
    worker = world.worker(concurrency=1, max_tasks=1)
    worker._membership = Membership(worker._runtime, worker.kinds, 60.0)
    worker._membership.beat()
    assert len(worker._due("job", worker._free("job"))) == 1


@row("SL-09", "shares ceil(7/3)=3: 3, 3, 1", SHARDS)
def test_sl_09_seven_tasks_three_sessions(world: World) -> None:
    """
    3, 3 and 2 of the 8 shards, which differ by one at most.
    """
    everything = world.create(7)
    sessions = [world.session() for _ in range(3)]
    found = [session.ask() for session in sessions]
    assert sorted(session.size for session in sessions) == [2, 3, 3]
    assert sorted(itertools.chain(*found)) == sorted(everything)


@row("SL-10", "expiry = now + 2 min", "session_ttl=, a minute by default; a third of it between two heartbeats")
def test_sl_10_heartbeat(world: World) -> None:
    """
    The server's time of the heartbeat and the ttl are stored.
    """
    one = world.session()
    world.cloud.advance(seconds=20)
    one.membership.beat()
    [stored] = world.manager.locker.client.collection("onceSessions").stream()
    fields = stored.to_dict()
    assert fields["ttlSeconds"] == 60
    assert world.cloud.clock_now() - fields["beatAt"] < timedelta(seconds=1)
    assert one.membership.due_in() == 20


@row("SL-11", "serialised; no task in both answers", "not serialised: both may see it for a heartbeat; one claim wins")
def test_sl_11_two_sessions_ask_at_the_same_time(world: World) -> None:
    """
    Two that both believe they have all shards run each task once.
    """
    world.create(20)
    runtime = world.manager.locker._runtime
    seen = due_for_workers(runtime.store, runtime.config.env, "job", range(8), 100)
    ended = []
    for snapshot in [each for each in seen for _ in range(2)]:
        process = world.process()
        ended.append(pull(process._executor, process._registry, snapshot).outcome)
    assert sorted(map(str, ended)) == ["completed"] * 20 + ["duplicate"] * 20
    assert set(world.ledger.runs.values()) == {1}


@row("SL-12", "those 2 finished, third stays with this session and is offered again", "with whoever has its shard then")
def test_sl_12_tasker_finishes_two_of_three(world: World) -> None:
    """
    No hot loop: after the time that the handler says, and no attempt is burned.
    """
    world.create(3)
    manager, calls = TaskManager(Locker(config=Config())), []
    world.cloud.use(manager.locker)

    def batch(tasks: list[Any], attempts: list[Any]) -> PerTask:
        calls.append(len(tasks))
        return PerTask.finished(tasks[:2], again=30)

    manager.register_batch_handler(Job, batch)
    world.cloud.work(Worker(manager))
    world.cloud.run_until_idle()
    assert manager.count(Job)[TaskStatus.COMPLETED] == 2
    world.cloud.advance(seconds=29)
    assert calls == [3]
    world.cloud.advance(seconds=2)
    assert calls == [3, 1]
    assert manager.count(Job)[TaskStatus.COMPLETED] == 3


@row(
    "SL-13", "nothing is finished, error reported, next tick retries all", "by the retry policy, which counts attempts"
)
def test_sl_13_tasker_fails(world: World) -> None:
    """
    Each of the batch has a failed attempt and is tried again after a second.
    """
    world.create(3)
    manager, calls, told = TaskManager(Locker(config=Config())), [], []
    world.cloud.use(manager.locker)
    manager.on_error = lambda task, error: told.append(str(error))

    def batch(tasks: list[Any], attempts: list[Any]) -> None:
        calls.append({attempt.number for attempt in attempts})
        if calls == [{1}]:
            raise ValueError("the service is away")

    manager.register_batch_handler(Job, batch)
    world.cloud.work(Worker(manager))
    world.cloud.run_until_idle()
    assert manager.count(Job)[TaskStatus.COMPLETED] == 0
    world.cloud.advance(seconds=2)
    assert manager.count(Job)[TaskStatus.COMPLETED] == 3
    assert set().union(*calls[1:]) == {2}
    assert set(told) == {"the service is away"}


@row("SL-14", "tasker not called, error reported, loop goes on")
def test_sl_14_looking_for_work_fails(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """
    It is asked again at the next poll.
    """
    world.create(1)
    world.cloud.faults.fail("RunQuery", skip=1, times=1, code=grpc.StatusCode.INTERNAL)
    with at_work(world.worker()):
        world.ledger.until(lambda: "looking for job tasks failed" in caplog.text)
        assert not world.ledger.runs
        world.ledger.until(lambda: ran(world))


def ran(world: World) -> bool:
    """
    Let a second pass, and see whether anything was run.
    """
    world.cloud.clock.advance(1)
    return bool(world.ledger.runs)


@row("SL-15", "new session started, loop goes on with it")
def test_sl_15_session_expired_in_the_loop(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """
    The process slept for longer than its ttl.
    """
    worker = world.worker()
    with at_work(worker):
        world.ledger.until(lambda: len(worker.shards.get("job", ())) == 8)
        before = worker._membership.id  # type: ignore[union-attr]  # it runs
        world.cloud.clock.advance(90)
        world.ledger.until(lambda: "another one begins" in caplog.text)
        world.create(1)
        world.ledger.until(lambda: ran(world))
        assert worker._membership.id != before  # type: ignore[union-attr]  # as above


@row("SL-16", "error reported, loop goes on")
def test_sl_16_new_session_can_not_start(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """
    It tries again, with pauses, and takes nothing meanwhile.
    """
    world.create(1)

    def failures() -> int:
        world.cloud.clock.advance(0.1)
        return caplog.text.count("a heartbeat of worker session")

    world.cloud.faults.fail("Commit", times=None)
    with at_work(world.worker()):
        world.ledger.until(lambda: failures() == 3)
        assert not world.ledger.runs
        world.cloud.faults.clear()
        world.ledger.until(lambda: failures() == 3 and bool(world.ledger.runs))


@row(
    "SL-17",
    "2 min later its tasks are done by others",
    "its lease is judged by the logs; without a trace, by the timeout",
)
def test_sl_17_runner_is_killed(world: World) -> None:
    """
    The lease ends, the platform's log says that the process was killed: another one takes it over.
    """
    world.create(1)

    def die(task: Any, attempt: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        world.worker(die).drain()
    other = world.worker()
    assert other.drain() == 0
    world.cloud.write_system("Container terminated on signal 9.")
    world.cloud.advance(minutes=13)
    assert other.drain() == 1
    assert world.ledger.runs == {"0": 1}


@row("SL-18", "current batch finishes, session ended, no further batch")
def test_sl_18_graceful_stop(world: World) -> None:
    """
    What runs is finished, what waits is left to others.
    """
    world.create(2)
    running, gate = threading.Event(), threading.Event()

    def slow(task: Any, attempt: Any) -> None:
        running.set()
        assert gate.wait(patient(30))

    worker = world.worker(slow, concurrency=1)
    thread = threading.Thread(target=worker.run)
    thread.start()
    assert running.wait(patient(30))
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    other = world.session()
    world.ledger.until(lambda: len(other.ask()) == 1 and other.size == 8)
    assert thread.is_alive()
    gate.set()
    for each in (stopper, thread):
        each.join(patient(30))
        assert not each.is_alive()
    assert worker.done == 1
    assert world.manager.count(Job)[TaskStatus.COMPLETED] == 1


@row("SL-19", "session kept alive by the 30 s bump; nobody adopts its tasks", "its lease is renewed while it runs")
def test_sl_19_long_run(world: World) -> None:
    """
    Ten minutes with a lease of one: nobody else gets it.
    """
    world.create(1)
    other, offered = world.session(), []

    def long(task: Any, attempt: Any) -> None:
        for _ in range(30):
            world.cloud.clock.advance(20)
            world.ledger.until(lambda: attempt.held_for() > 30)
            offered.extend(other.ask())
        world.ledger.note(task.id)

    worker = Worker(world.process(long, lease_duration=60, lease_timeout=1200))
    assert worker.drain() == 1
    assert (offered, world.ledger.runs) == ([], {"0": 1})


@row("SL-20", "new DB used", "asked when the worker starts: to move, start another worker")
def test_sl_20_another_database(world: World) -> None:
    """
    Each worker works on the database of its own client.
    """
    elsewhere = TaskManager(Locker(config=Config(database="other")))
    world.cloud.use(elsewhere.locker)
    elsewhere.create_task(Job(number=7))
    world.create(1)
    worker = world.worker(client_factory=lambda: world.cloud.local.firestore_client("other"), max_tasks=1)
    with at_work(worker):
        world.ledger.wait(1)
    assert world.ledger.runs == {"7": 1}


@row("SL-21", "Run returns the error")
def test_sl_21_no_database_at_the_start(world: World) -> None:
    """
    What the factory raises comes out of ``run()``; the worker is not running.
    """

    def nowhere() -> Any:
        raise ConfigError("there is no database today")

    worker = world.worker(client_factory=nowhere)
    for _ in range(2):
        with pytest.raises(ConfigError, match="no database today"):
            worker.run()
    assert worker.stop()


@row("SL-22", "works silently")
def test_sl_22_nothing_is_configured(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """
    No logger, tracer or metrics are asked for; not one warning.
    """
    world.create(3)
    with at_work(world.worker()):
        world.ledger.wait(3)
    assert [record.message for record in caplog.records if record.levelname != "INFO"] == []


@row("SL-23", "rounds repeat at once until nothing is left")
def test_sl_23_backlog_larger_than_the_cap(world: World) -> None:
    """
    Two places, twenty tasks, and no time passes.
    """
    world.create(20)
    begun = world.cloud.clock_now()
    with at_work(world.worker(concurrency=2)):
        world.ledger.wait(20)
    assert world.cloud.clock_now() - begun < timedelta(seconds=1)


@row(
    "SL-24",
    "first is stopped, error returned",
    "no groups: one worker runs several kinds, and is refused before it starts",
)
def test_sl_24_one_of_two_can_not_start(world: World) -> None:
    """
    Nothing has begun: no session, no task taken.
    """
    world.create(1)
    with pytest.raises(UnknownKindError, match="unheard-of"):
        Worker(world.manager, kinds=[Job, "unheard-of"])
    assert list(world.manager.locker.client.collection("onceSessions").stream()) == []
    assert not world.ledger.runs
