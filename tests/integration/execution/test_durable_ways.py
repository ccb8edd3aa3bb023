"""
Durable programs, each delivered in every way, and each with processes that die before and after every remote call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import pytest

from gcp_emulator.clock import rng
from gcp_emulator.faults import DeliveryFaults
from gcp_oncetask import NOT_DONE, CancelledByRequest, EventTimeoutError, FixedDelay, Status
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker
from tests.support.deaths import DeadlyCloud, Death, DeathWatch
from tests.support.orders import Order, allow, make_shop
from tests.support.tasks import Other, Pull, Service, Work

LONG = FixedDelay(delay=timedelta(minutes=10), max_attempts=4)
SHORT = FixedDelay(delay=timedelta(seconds=1), max_attempts=40)
ORDERS = "https://orders.test"
WHEN = ("before", "after")


class World:
    """
    A deployment with one durable task, and its effects outside.

    Attributes:
        effects: Calls by name.
        outside: Results of effects that have happened, which ``verify`` finds.
    """

    def __init__(self, cloud: OncetaskCloud) -> None:
        self.cloud = cloud
        self.effects: Counter[str] = Counter()
        self.outside: dict[str, Any] = {}
        self.service = Service(cloud)
        self.client = self.service.manager.locker.client
        self.model: Any = Work
        self.broken = True

    def call(self, name: str, value: Any = None) -> Any:
        self.effects[name] += 1
        self.outside[name] = value
        return value

    def find(self, name: str) -> Any:
        return lambda key: self.outside.get(name, NOT_DONE)

    def start(self, act: Callable[[World, Any], Any], model: Any = Work) -> None:
        self.model = model
        self.service.act = lambda task, attempt: (
            self.call(task.data.name, task.data.name.upper()) if isinstance(task.data, Other) else act(self, attempt)
        )
        self.service.handle(model, retry=SHORT).handle(Other, retry=SHORT)
        if model is Pull:
            self.cloud.work(Worker(self.service.manager, listen=False))
        self.service.create("a", model=model)

    def send(self, name: str) -> None:
        self.service.manager.send(self.model, "a", name, {"by": "ann"}, id=name)

    def cancel(self) -> None:
        assert self.service.manager.cancel_task(self.model, "a")

    def reset(self) -> None:
        self.broken = False
        self.service.manager.reset_task(self.model, "a")

    def lock(self) -> Any:
        return self.service.lock("a", self.model)


class OfEntity(World):
    """
    The same for an entity, whose deliveries the queue repeats.
    """

    def start(self, act: Callable[[World, Any], Any], model: Any = Work) -> None:
        shop = make_shop(max_attempts=40)
        self.shop = shop
        self.cloud.use(shop.locker)
        allow(shop.locker, f"{ORDERS}=https://oncetask.test")
        self.cloud.mount(ORDERS, shop.app)

        def charge(order: Order, attempt: Any) -> None:
            self.said = act(self, attempt)
            shop.locker.complete(order)

        self.said: Any = None
        shop.on_charge = charge
        shop.locker.schedule(Order(id="a"), f"{ORDERS}/tasks/order")

    def send(self, name: str) -> None:
        self.shop.locker.send(Order, "a", name, {"by": "ann"}, id=name)

    def cancel(self) -> None:
        assert self.shop.locker.cancel(Order, "a")

    def reset(self) -> None:
        self.broken = False
        self.shop.locker.reset(Order, "a")

    def lock(self) -> Any:
        return self.shop.locker.show("orders/a")


# --- the programs ---


def runs(world: World, attempt: Any) -> Any:
    one = attempt.run("a", world.call, "a", 1)
    return one + attempt.run("b", world.call, "b", 2)


def charges(world: World, attempt: Any) -> Any:
    pay = attempt.options(once=True, verify=world.find("pay")).run("pay", world.call, "pay", "paid")
    return pay + attempt.run("mail", world.call, "mail", "!")


def retries(world: World, attempt: Any) -> Any:
    def fn() -> str:
        if world.call("a", "done") and world.effects["a"] < 3:
            raise ValueError("not yet")
        return "done"

    return attempt.options(retry=LONG).run("a", fn)


def sleeps(world: World, attempt: Any) -> Any:
    at = attempt.run("a", world.call, "a", "up")
    attempt.sleep("s", timedelta(hours=1))
    return at + attempt.run("b", world.call, "b", "!")


def waits(world: World, attempt: Any) -> Any:
    attempt.run("a", world.call, "a", 1)
    try:
        said = attempt.wait_event("approval", dict, timeout=timedelta(hours=6))["by"]
    except EventTimeoutError:
        said = "nobody"
    return attempt.run("b", world.call, "b", said)


def maps(world: World, attempt: Any) -> Any:
    return attempt.map("m", lambda item: world.call(f"m{item}", item * 2), [1, 2, 3], concurrency=1)


def maps_widely(world: World, attempt: Any) -> Any:
    return attempt.map("m", lambda item: world.call(f"m{item}", item * 2), [1, 2, 3], concurrency=3)


def children(world: World, attempt: Any) -> Any:
    found = attempt.run_tasks("c", [Other(name=name) for name in "xy"])
    return attempt.run("join", world.call, "join", "".join(found))


def pages(world: World, attempt: Any) -> Any:
    def fetch(cursor: int | None) -> tuple[list[int], int | None]:
        after = cursor or 0
        return [after, after + 1], after + 2 if after < 4 else None

    for row in attempt.pages("rows", fetch):
        world.call(f"row-{row}")
    return attempt.run("sum", world.call, "sum", 6)


def polls(world: World, attempt: Any) -> Any:
    state = attempt.poll(
        "export", lambda state: (state or 0) + 1, until=lambda state: state >= 3, every=600, timeout=None
    )
    return attempt.run("b", world.call, "b", state)


def counts(world: World, attempt: Any) -> Any:
    stock = world.client.document("stock/blue")

    def take(txn: Any) -> int:
        [found] = txn.get(stock)
        left = (found.to_dict() or {"left": 10})["left"] - 1
        txn.set(stock, {"left": left})
        return int(left)

    return [attempt.run_transaction(take, name="one"), attempt.run("b", world.call, "b", 2)]


def compensates(world: World, attempt: Any) -> Any:
    try:
        attempt.run("a", world.call, "a", 1)
        attempt.sleep("s", timedelta(days=2))
    except CancelledByRequest:
        attempt.run("undo", world.call, "undo", "undone")
        raise
    return "never"


def breaks(world: World, attempt: Any) -> Any:
    one = attempt.run("a", world.call, "a", 1)
    if world.broken:
        attempt.options(retry=FixedDelay(delay=timedelta(seconds=1), max_attempts=1)).run("b", fail)
    return one + attempt.run("c", world.call, "c", 2)


def fail() -> None:
    raise ValueError("broken")


class Program(NamedTuple):
    """
    Attributes:
        act: The handler.
        result: Its result.
        after: Done to the world once its first deliveries are over.
        early: Done to the world before its first delivery.
        effects: Calls of each effect that no process death multiplies, undisturbed.
        status: The last one.
        entity: Whether an entity can run it.
        once: Effects that happen once, also if a process dies.
    """

    act: Callable[[World, Any], Any]
    result: Any
    effects: dict[str, int]
    after: Callable[[World], None] = lambda world: None
    early: Callable[[World], None] = lambda world: None
    status: Status = Status.COMPLETED
    entity: bool = True
    once: tuple[str, ...] = ()


def late(world: World) -> None:
    world.send("approval")


def cancelled(world: World) -> None:
    # Only a task with a journal is delivered once more, so a dead first attempt must have been repeated.
    world.service.settle(60)
    world.cancel()


def repaired(world: World) -> None:
    world.service.settle(240)
    assert world.lock().status is Status.FAILED
    world.reset()


PROGRAMS = {
    "run": Program(runs, 3, {"a": 1, "b": 1}),
    "once": Program(charges, "paid!", {"pay": 1, "mail": 1}, once=("pay",)),
    "retry": Program(retries, "done", {"a": 3}),
    "sleep": Program(sleeps, "up!", {"a": 1, "b": 1}),
    "event-early": Program(waits, "ann", {"a": 1, "b": 1}, early=late),
    "event-late": Program(waits, "ann", {"a": 1, "b": 1}, after=late),
    "time-out": Program(waits, "nobody", {"a": 1, "b": 1}),
    "map": Program(maps, [2, 4, 6], {"m1": 1, "m2": 1, "m3": 1}),
    "map-wide": Program(maps_widely, [2, 4, 6], {"m1": 1, "m2": 1, "m3": 1}),
    "children": Program(children, "XY", {"x": 1, "y": 1, "join": 1}, entity=False),
    "pages": Program(pages, 6, {**{f"row-{n}": 1 for n in range(6)}, "sum": 1}),
    "poll": Program(polls, 3, {"b": 1}),
    "transaction": Program(counts, [9, 2], {"b": 1}),
    "cancel": Program(compensates, None, {"a": 1, "undo": 1}, after=cancelled, status=Status.CANCELLED, entity=False),
    "reset": Program(breaks, 3, {"a": 1, "c": 1}, after=repaired, entity=False),
}


def play(world: World, program: Program, model: Any = Work, disturb: Callable[[], None] = lambda: None) -> None:
    """
    Play *program* until nothing can be left to do.
    """
    world.start(program.act, model)
    program.early(world)
    disturb()
    world.cloud.run_until_idle()
    world.service.settle(4)
    program.after(world)
    for _ in range(3):
        world.service.settle(240)
        if world.lock().finished:
            break


def whole(world: World, program: Program) -> None:
    """
    The task has ended as it must, nothing is left open, and each thing that Firestore must do once was done once.
    """
    lock = world.lock()
    result = world.said if isinstance(world, OfEntity) and lock.status is Status.COMPLETED else lock.result
    assert (lock.status, result, lock.open, lock.wait) == (program.status, program.result, (), None)
    if program.act is counts:
        assert world.client.document("stock/blue").get().get("left") == 9


def doubled(world: World) -> None:
    world.cloud.faults.deliveries = DeliveryFaults(duplicate=1)


def unanswered(world: World) -> None:
    world.cloud.faults.deliveries = DeliveryFaults(lose_answer=0.5)


def uncreated(world: World) -> None:
    world.cloud.faults.fail("CreateTask", times=None, probability=0.5)


def unheard(world: World) -> None:
    world.cloud.faults.fail("Commit", when="after", times=None, probability=0.3)


WAYS: dict[str, Callable[[World], None]] = {
    "push": lambda world: None,
    "duplicates": doubled,
    "by-reference": lambda world: None,
    "lost-answers": unanswered,
    "uncreated": uncreated,
    "commits-unheard": unheard,
    "pull": lambda world: None,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_does_the_same_in_each_way(oncetask_cloud: OncetaskCloud, name: str, way: str) -> None:
    program, world = PROGRAMS[name], World(oncetask_cloud)
    if way == "by-reference":
        world.service = Service(oncetask_cloud, inline_limit=0)
    play(world, program, Pull if way == "pull" else Work, lambda: WAYS[way](world))
    whole(world, program)
    assert world.effects == program.effects


@pytest.mark.parametrize("way", ["push", "duplicates", "lost-answers"])
@pytest.mark.parametrize("name", [name for name, program in PROGRAMS.items() if program.entity])
def test_an_entity_does_the_same(oncetask_cloud: OncetaskCloud, name: str, way: str) -> None:
    program, world = PROGRAMS[name], OfEntity(oncetask_cloud)
    play(world, program, Work, lambda: WAYS[way](world))
    whole(world, program)
    assert world.effects == program.effects


def played(name: str, *deaths: Death) -> int:
    """
    Play the program *name*, with *deaths*; the number of its remote calls.
    """
    program, watch = PROGRAMS[name], DeathWatch(*deaths)
    cloud = DeadlyCloud(watch)
    try:
        world = World(cloud)
        play(world, program)
        whole(world, program)
    finally:
        cloud.stop()
    more = {each: count - program.effects[each] for each, count in world.effects.items()}
    assert world.effects.keys() == program.effects.keys()
    # A death repeats at most what it found under way: one run, the rows of one page, a group of a map. Right after a commit
    # nothing is under way, but for the other threads of a map.
    most = {"pages": 2, "map": 3, "map-wide": 3}.get(name, 1)
    repeated = sum(0 if death.when == "after" and not name.startswith("map") else most for death in deaths)
    assert all(count >= 0 for count in more.values()), (deaths, more)
    assert sum(more.values()) <= repeated, (deaths, more)
    assert all(not more[each] for each in program.once), (deaths, more)
    return len(watch.remote)


NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name == "reset" else []) for name in PROGRAMS]


@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.slow), "after"])
@pytest.mark.parametrize("name", NAMES)
def test_a_process_that_dies_at_any_remote_call_changes_nothing(name: str, when: str) -> None:
    """
    A death after a call leaves its effect behind, of which no process has heard.
    """
    calls = played(name)
    assert calls >= 3
    for number in range(1, calls + 1):
        played(name, Death(when, number))


def pairs(name: str, count: int) -> list[tuple[Death, Death]]:
    """
    *count* pairs of deaths, the same ones in each run of the tests.
    """
    calls, chance = played(name), rng(len(name))
    # The second one may strike what the first one has made necessary.
    return [
        (Death(chance.choice(WHEN), first), Death(chance.choice(WHEN), first + chance.randint(1, calls)))
        for first in (chance.randint(1, calls) for _ in range(count))
    ]


@pytest.mark.parametrize("count", [2, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_two_processes_that_die_change_nothing(name: str, count: int) -> None:
    for deaths in pairs(name, count):
        played(name, *deaths)
