"""
resque-lock-timeout: jobs that are unique while queued (loners), which are once-tasks with ``unique=``. One test per row.
"""

from __future__ import annotations

from typing import Any

import pytest

from gcp_oncetask import Config, Locker
from gcp_oncetask.tasks import TaskData, TaskManager, TaskStatus
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker
from tests.scenarios import row

REFUSED: list[Any] = []
LEASE = "its lease, which is renewed while it runs, is no time-out of the job"


class Loner(TaskData, kind="rl-loner", pull=True, unique="queued_or_running", on_refused=REFUSED.append):
    name: str
    note: str = ""

    def task_id(self) -> str:
        return self.name


class Queued(TaskData, kind="rl-queued", pull=True, unique="queued"):
    name: str

    def task_id(self) -> str:
        return self.name


class Ordinary(TaskData, kind="rl-ordinary", pull=True):
    name: str


class World:
    """
    A manager and a worker; *during* is what a loner does while it runs.
    """

    def __init__(self, cloud: OncetaskCloud) -> None:
        self.cloud = cloud
        self.manager = TaskManager(Locker(config=Config()))
        cloud.use(self.manager.locker)
        self.successes = 0
        self.during: Any = lambda: None
        REFUSED.clear()

    def work(self, **options: Any) -> World:
        """
        Register the handlers, with these options, and a worker.
        """
        for model in (Loner, Queued, Ordinary):
            self.manager.register_task_handler(model, self.run, **options)
        self.cloud.work(Worker(self.manager))
        return self

    def run(self, task: Any, attempt: Any) -> None:
        """
        The job.
        """
        self.during()
        self.successes += 1

    def enqueue(self, model: Any = Loner) -> Any:
        """
        Another request of the same job.
        """
        return self.manager.create_task(model(name="a"))

    def queued(self, model: Any = Loner) -> int:
        """
        How many wait.
        """
        return self.manager.get_pending_count(model)


@pytest.fixture
def world(oncetask_cloud: OncetaskCloud) -> World:
    """
    On the test's cloud.
    """
    return World(oncetask_cloud)


@row("RL-16", "second refused, queue length 1")
def test_rl_16_loner_is_enqueued_twice(world: World) -> None:
    """
    The hook is told of the second.
    """
    world.work()
    assert world.enqueue()
    second = world.enqueue()
    assert (bool(second), second.refused, world.queued()) == (False, True, 1)
    assert [data.name for data in REFUSED] == ["a"]


@row("RL-17", "second refused")
def test_rl_17_loner_with_a_timeout_is_enqueued_twice(world: World) -> None:
    """
    A short lease changes nothing.
    """
    world.work(lease_duration=3)
    world.enqueue()
    assert world.enqueue().refused
    assert world.queued() == 1


@row("RL-18", "locked? no, enqueued? yes, loner_locked? yes")
def test_rl_18_loner_is_queued(world: World) -> None:
    """
    Queued, not running, and another one is refused.
    """
    world.work()
    world.enqueue()
    task = world.manager.get_task(Loner, "a")
    assert task is not None
    assert (task.is_running, task.is_queued, world.enqueue().refused) == (False, True, True)


@row("RL-19", "all three no", "enqueued? is said of every task that waits; another id is another task")
def test_rl_19_ordinary_job_is_queued(world: World) -> None:
    """
    Nothing stands in the way of another one.
    """
    world.work()
    first, second = (world.manager.create_task(Ordinary(name=name)) for name in "ab")
    task = world.manager.get_task(Ordinary, first.id)
    assert task is not None
    assert (task.is_running, second.created, second.refused) == (False, True, False)


@row("RL-20", "refused, enqueue-refused hook once, queue empty, 1 success in the end")
def test_rl_20_loner_is_running(world: World) -> None:
    """
    As the ancestor.
    """
    seen: list[Any] = []
    world.work().during = lambda: seen.append((world.enqueue().refused, world.queued()))
    world.enqueue()
    world.cloud.run_until_idle()
    assert (seen, len(REFUSED), world.queued(), world.successes) == ([(True, 0)], 1, 0, 1)


@row("RL-21", "same", LEASE)
def test_rl_21_loner_with_a_timeout_is_running(world: World) -> None:
    """
    With a short lease.
    """
    seen: list[Any] = []
    world.work(lease_duration=3).during = lambda: seen.append(world.enqueue().refused)
    world.enqueue()
    world.cloud.run_until_idle()
    assert (seen, len(REFUSED), world.queued(), world.successes) == ([True], 1, 0, 1)


@row("RL-22", "accepted")
def test_rl_22_earlier_run_took_longer_than_its_timeout(world: World) -> None:
    """
    It is over: the next one is accepted, and runs.
    """
    world.work(lease_duration=3).during = lambda: world.cloud.advance(seconds=6)
    world.enqueue()
    world.cloud.run_until_idle()
    assert world.successes == 1
    assert not world.enqueue().refused
    world.cloud.run_until_idle()
    assert world.successes == 2


@row("RL-23", "accepted")
def test_rl_23_loner_was_run_to_its_end(world: World) -> None:
    """
    As often as one likes; also after one that failed.
    """
    world.work()
    for _ in range(3):
        assert not world.enqueue().refused
        world.cloud.run_until_idle()
    assert (world.successes, REFUSED) == (3, [])


@row(
    "RL-32",
    "accepted (two copies queued)",
    "refused for as long as it is queued: there is no time-out of the queue to run out",
)
def test_rl_32_loner_is_queued_for_long(world: World) -> None:
    """
    A year later.
    """
    world.work(lease_duration=3)
    world.enqueue()
    world.cloud.clock.advance(365 * 86_400)
    assert world.enqueue().refused
    world.cloud.run_until_idle()
    assert world.successes == 1


@row("RL-34", "enqueue key removed once the run lock was decided")
def test_rl_34_loner_starts(world: World) -> None:
    """
    Unique while queued only: as soon as it runs the next one is accepted, and runs after it.
    """
    seen: list[Any] = []

    def during() -> None:
        if not seen:
            seen.extend(world.enqueue(Queued).refused for _ in range(2))

    world.work().during = during
    world.enqueue(Queued)
    world.cloud.run_until_idle()
    assert seen[0] is False
    assert world.successes == 2
    task = world.manager.get_task(Queued, "a")
    assert task is not None
    assert task.status(world.cloud.clock_now()) is TaskStatus.COMPLETED
