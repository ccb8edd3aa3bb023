"""
Virtual time: deliveries, what workers pull, and what both make on the way, happen in the order of their times.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from gcp_oncetask import Attempt, FixedDelay, Retry, Snooze
from gcp_oncetask.tasks import OnceTask
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker
from tests.support.orders import Killed
from tests.support.tasks import DAILY, Repeat, Service, Work

Act = Callable[[OnceTask[Any], Attempt], Any]


class Pulled(Work, kind="pulled", pull=True):
    pass


class Dug(Work, kind="dug", pull=True):
    pass


class Daily(Repeat, kind="daily", pull=True):
    pass


class World(Service):
    """
    A service of which some kinds are pushed and some are pulled.

    Attributes:
        seen: Names of what ran, with the seconds since the beginning.
    """

    def __init__(self, cloud: OncetaskCloud) -> None:
        super().__init__(cloud)
        self.start = cloud.clock_now()
        self.seen: list[tuple[str, float]] = []
        self.acts: dict[str, Act] = {}
        self.act = self._note
        for model in (Work, Pulled, Dug, Daily):
            self.handle(model, retry=FixedDelay(delay=10, max_attempts=3), lease_duration=60)
        cloud.work(Worker(self.manager, listen=False))

    def _note(self, task: OnceTask[Any], attempt: Attempt) -> Any:
        self.seen.append((task.id, self.passed()))
        act = self.acts.get(task.id)
        return None if act is None else act(task, attempt)

    def passed(self) -> float:
        """
        Seconds since the beginning.
        """
        # Firestore gives each of several commits of one instant a time of its own, some microseconds later.
        return round((self.cloud.clock_now() - self.start).total_seconds(), 3)

    def at(self, seconds: float) -> datetime:
        """
        So many seconds after the beginning.
        """
        return self.start + timedelta(seconds=seconds)

    def make(self, model: type[Work], name: str, at: float, act: Act | None = None, key: str | None = None) -> None:
        """
        Create a task that is due at *at* seconds and then does *act*.
        """
        if act is not None:
            self.acts[name] = act
        self.create(name, model=model, at=self.at(at), key=key)


@pytest.fixture
def world(oncetask_cloud: OncetaskCloud) -> World:
    return World(oncetask_cloud)


def test_pushed_and_pulled_tasks_that_make_each_other_run_in_the_order_of_their_times(world: World) -> None:
    """
    One call of advance(): each task makes the next, of the other sort and at another time; none is left out or late.
    """
    kinds = [Pulled, Work, Dug, Pulled, Work, Work, Dug]

    def makes(place: int) -> Act:
        def act(task: OnceTask[Any], attempt: Attempt) -> None:
            if place < len(kinds):
                world.make(kinds[place], f"made-{place}", (place + 1) * 10.5, makes(place + 1))

        return act

    world.make(Work, "first", 5, makes(0))
    for model, name, at in ((Pulled, "between", 20.0), (Work, "beside", 40.0), (Pulled, "beyond", 3600.0)):
        world.make(model, name, at)
    ran = world.cloud.advance(minutes=2)
    made = [(f"made-{place}", (place + 1) * 10.5) for place in range(len(kinds))]
    expected = sorted([("first", 5.0), ("between", 20.0), ("beside", 40.0), *made], key=lambda one: one[1])
    assert (world.seen, ran, world.passed()) == (expected, len(expected), 120.0)
    assert world.cloud.advance(hours=1) == 1
    assert world.seen[-1] == ("beyond", 3600.0)


def test_any_forest_of_tasks_runs_in_the_order_of_its_times(world: World) -> None:
    """
    Tasks of three kinds, each of which makes up to two more at random times, at once among them.
    """
    chance = random.Random(7)
    expected: list[tuple[str, float]] = []

    def grow(name: str, at: float, depth: int) -> None:
        expected.append((name, at))
        children = [(f"{name}{n}", at + chance.choice([0, 0.25, 7, 60, 3600])) for n in range(2 if depth else 0)]

        def act(task: OnceTask[Any], attempt: Attempt) -> None:
            for child, due in children:
                world.make(models[child], child, due)

        models[name] = chance.choice([Work, Pulled, Dug])
        world.acts[name] = act
        for child, due in children:
            grow(child, due, depth - 1)

    models: dict[str, type[Work]] = {}
    for name in "abc":
        grow(name, chance.choice([1, 30, 100]), 3)
        world.make(models[name], name, dict(expected)[name], world.acts[name])
    assert world.cloud.advance(days=1) == len(expected) == 45
    assert sorted(world.seen) == sorted(expected)
    assert [at for _, at in world.seen] == sorted(at for _, at in expected)


def test_what_follows_a_run_comes_when_it_is_due(world: World) -> None:
    """
    Of pulled tasks, within one call: a retry, a snooze, the next one of a resource key, and a lease whose holder died.
    """

    def once(value: Any) -> Act:
        return lambda task, attempt: value if world.ran.count(task.id) == 1 else None

    def die(task: OnceTask[Any], attempt: Attempt) -> None:
        if attempt.number == 1:
            raise Killed

    world.make(Pulled, "retried", 1, once(Retry("no", after=5)))
    world.make(Pulled, "snoozed", 2, once(Snooze(30)))
    world.make(Pulled, "failing", 3, once(Retry("no")))
    world.make(Pulled, "holds", 4, lambda task, attempt: Snooze(20) if world.ran.count("holds") == 1 else None, "k")
    world.make(Pulled, "waits", 4.5, key="k")
    world.make(Work, "pushed", 33)
    world.make(Dug, "dies", 40, die)
    with pytest.raises(Killed):
        world.cloud.advance(minutes=30)
    assert world.seen[:-1] == [
        ("retried", 1.0),
        ("snoozed", 2.0),
        ("failing", 3.0),
        ("holds", 4.0),
        ("waits", 4.5),
        ("retried", 6.0),
        ("failing", 13.0),
        ("holds", 24.0),
        ("snoozed", 32.0),
        ("pushed", 33.0),
    ]
    world.make(Work, "later", 200)
    world.cloud.write_system("Container terminated on signal 9.")
    world.cloud.advance(minutes=30)
    assert [name for name, _ in world.seen[10:]] == ["dies", "dies", "later"]
    # Its lease of 60 s is over, and so is the time that its last log line has to arrive.
    assert 101 <= world.seen[11][1] < 200


def test_occurrences_of_a_pulled_generator_run_at_their_times(world: World) -> None:
    """
    A week in one call, with a delivery each noon between them.
    """
    world.manager.create_task(Daily(rule=DAILY))
    for day in range(7):
        world.make(Work, f"noon-{day}", day * 86_400 + 43_200)
    world.cloud.advance(days=6, hours=23)
    assert [at for name, at in world.seen if name.startswith("noon")] == [43_200 + 86_400 * day for day in range(7)]
    assert [at for name, at in world.seen if not name.startswith("noon")] == [86_400.0 * day for day in range(7)]
    assert [at for _, at in world.seen] == sorted(at for _, at in world.seen)


def test_what_came_due_while_a_handler_took_its_time_keeps_its_order(world: World) -> None:
    """
    Pulled and pushed tasks that fell due meanwhile run late, but the one before the other as they were due.
    """
    world.make(Pulled, "slow", 1, lambda task, attempt: world.cloud.advance(seconds=50))
    for place in range(6):
        world.make((Work, Dug, Pulled)[place % 3], f"late-{place}", 10 + place)
    world.cloud.advance(seconds=30)
    assert world.seen == [("slow", 1.0), *((f"late-{place}", 51.0) for place in range(6))]


def test_task_that_can_not_be_run_keeps_nobody_waiting(world: World) -> None:
    """
    It needs a newer release: it is looked at again, more and more rarely, and all others run when they are due.
    """
    for place in range(3):
        world.make(Pulled, f"newer-{place}", 1)
        world.manager.locker.client.document(world.path(f"newer-{place}", Pulled)).update({"lock.needs": ["tomorrow"]})
    world.make(Pulled, "pulled", 2)
    world.make(Work, "pushed", 3)
    world.make(Dug, "dug", 86_400)
    assert world.cloud.advance(days=30) == 3
    assert world.seen == [("pulled", 2.0), ("pushed", 3.0), ("dug", 86_400.0)]
    assert world.cloud.run_until_idle() == 0
    world.manager.locker.client.document(world.path("newer-1", Pulled)).update({"lock.needs": []})
    assert world.cloud.run_until_idle() == 1


def test_two_workers_of_a_kind_run_each_task_once(world: World) -> None:
    """
    The second one sees what the first one has run; nothing is counted twice.
    """
    world.cloud.work(Worker(world.manager, listen=False))
    for place in range(3):
        world.make(Pulled, f"one-{place}", place)
    assert world.cloud.advance(seconds=10) == 3
    assert world.seen == [(f"one-{place}", float(place)) for place in range(3)]


def test_worker_runs_at_once_what_another_process_has_just_made(world: World) -> None:
    """
    Its own estimate of Firestore's clock is a little behind that of the one that made it.
    """
    other = Service(world.cloud, url="https://other.test")
    for place in range(3):
        other.create(*(f"{letter}-{place}" for letter in "abcde"), model=Pulled, at=world.at(3600))
        other.create(f"now-{place}", model=Pulled)
        assert world.cloud.run_until_idle() == 1
    assert [name for name, _ in world.seen] == ["now-0", "now-1", "now-2"]
