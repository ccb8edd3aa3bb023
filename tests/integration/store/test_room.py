"""
A schedule leaves room in its document for what the run records, or is refused; whichever way it is made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from google.cloud.firestore import transactional

from gcp_oncetask import Attempt, Continue, FixedDelay, Status, UsageError
from gcp_oncetask.store.sizes import DOCUMENT, HEAD_ROOM, ROOM, size_of
from gcp_oncetask.tasks import Recurrence, TaskData
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker
from tests.support.orders import Order, Shop
from tests.support.tasks import DAILY, Latest, Repeat, Service, Work

REFUSED = r"would have [\d,]+ bytes with this schedule, and may have [\d,]+: .* Keep large contents elsewhere"
AGAIN = FixedDelay(delay=1, max_attempts=2)


class Big(TaskData, kind="big-generator", on_conflict="replace"):
    name: str = "g"
    note: str = ""
    numbers: list[int] | None = None
    every: int = 1

    def task_id(self) -> str:
        return self.name

    def recurrence(self) -> Recurrence:
        return Recurrence(f"FREQ=DAILY;INTERVAL={self.every}", DAILY["dtstart"])


class World:
    """
    A shop for entities, and a service for once-tasks.
    """

    def __init__(self, cloud: OncetaskCloud, shop: Shop) -> None:
        self.cloud, self.shop, self.locker = cloud, shop, shop.locker
        self.service = Service(cloud, inline_limit=0)
        for model in (Work, Latest, Repeat, Big):
            self.service.handle(model, retry=AGAIN)

    def stored(self) -> dict[str, int]:
        """
        Sizes of the documents there are, as Firestore counts them.
        """
        local = self.cloud.local
        return {path: size_of(path, made.fields) for path, made in local.firestore.documents(local.project).items()}

    def loaded(self, **fields: Any) -> Order:
        """
        A completed order, loaded, with other fields.
        """
        self.locker.client.document("orders/1").delete()
        self.locker.schedule(Order(id="1"), "/tasks/order")
        self.locker.complete(self.locker.get(Order, "1"))
        order: Order = self.locker.get(Order, "1")
        for name, value in fields.items():
            setattr(order, name, value)
        return order

    def bare(self) -> Any:
        """
        A document without a lock.
        """
        reference = self.locker.client.document("orders/bare")
        reference.set({"other": ""})
        return reference

    def in_transaction(self, do: Callable[[Any], object]) -> None:
        """
        Do it in a transaction of the caller's own.
        """
        transactional(do)(self.locker.client.transaction())


@pytest.fixture
def world(oncetask_cloud: OncetaskCloud, open_shop: Callable[..., Shop]) -> World:
    return World(oncetask_cloud, open_shop(retry=AGAIN))


def text(size: int) -> str:
    return "x" * size


Call = Callable[[World, int], object]
WAYS: dict[str, Call] = {
    "schedule fields": lambda w, n: w.locker.schedule(Order(id="1", note=text(n)), "/tasks/order"),
    "schedule params": lambda w, n: w.locker.schedule(
        Order(id="1", note=text(n - 50_000)), "/tasks/order", params={"p": text(50_000)}
    ),
    "schedule a loaded one": lambda w, n: w.locker.schedule(w.loaded(note=text(n)), "/tasks/order"),
    "schedule in a transaction": lambda w, n: w.in_transaction(
        lambda txn: w.locker.schedule(Order(id="1", note=text(n)), "/tasks/order", transaction=txn)
    ),
    "schedule beside a write of a transaction": lambda w, n: w.in_transaction(
        lambda txn: (
            txn.update(w.bare(), {"other": text(n // 2)}),
            w.locker.schedule(Order(id="bare", note=text(n // 2)), "/tasks/order", transaction=txn),
        )
    ),
    "create_task": lambda w, n: w.service.manager.create_task(Work(name="1", note=text(n))),
    "create a generator": lambda w, n: w.service.manager.create_task(Big(note=text(n))),
    "create_task in a transaction": lambda w, n: w.in_transaction(
        lambda txn: w.service.manager.create_task(Work(name="1", note=text(n)), transaction=txn)
    ),
    "create_tasks": lambda w, n: w.service.manager.create_tasks([Work(name="2"), Work(name="1", note=text(n))]),
    "create_tasks of numbers": lambda w, n: w.service.manager.create_tasks(
        [Work(name="2"), Big(note=text(n - 200_000), numbers=[0] * 25_000)]
    ),
    "replace beside what another writes": lambda w, n: (
        w.service.manager.create_task(Latest(name="1", note="a")),
        w.locker.client.document(w.service.path("1", Latest)).update({"other": text(300_000)}),
        w.service.manager.create_task(Latest(name="1", note=text(n - 300_000))),
    ),
    "replace": lambda w, n: (
        w.service.manager.create_task(Latest(name="1", note="a")),
        w.service.manager.create_task(Latest(name="1", note=text(n))),
    ),
    "redeclare": lambda w, n: (
        w.service.manager.create_task(Big(every=2)),
        w.service.manager.create_task(Big(note=text(n))),
    ),
    "add_task": lambda w, n: w.service.manager.add_task("room-queue", "key", text(n)),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_schedule_leaves_room(world: World, way: str) -> None:
    """
    What would leave less than 128 KiB is refused with a sentence that says what to do, and nothing of it is written; what is
    taken leaves as much.
    """
    with pytest.raises(UsageError, match=f"{REFUSED}|has [0-9]+ bytes; at most 900000 are stored"):
        WAYS[way](world, ROOM)
    assert max(world.stored().values(), default=0) < (303_000 if "beside what" in way else 3000)
    assert not any(path.startswith("onceTasks") for path in world.stored()) or way.startswith("re")
    WAYS[way](world, 890_000)
    assert 880_000 < max(world.stored().values()) <= ROOM
    assert ROOM == DOCUMENT - HEAD_ROOM == 917_504


def email(world: World, txn: Any) -> Any:
    """
    Write another field of the document that is nearly full.
    """
    txn.update(world.locker.client.document("orders/1"), {"email": text(450_000)})


INSIDE: dict[str, Callable[[World, Order, Attempt], Any]] = {
    "schedule": lambda w, o, a: w.locker.schedule(o),
    "returned": lambda w, o, a: Continue(),
    "params": lambda w, o, a: Continue(params={"p": text(50_000)}),
    "transaction": lambda w, o, a: a.run_transaction(lambda txn: w.locker.schedule(o, transaction=txn) and None),
    "after a transaction": lambda w, o, a: (
        a.run_transaction(functools.partial(email, w)),
        w.locker.schedule(o),
    )[0],
    "beside a write": lambda w, o, a: a.run_transaction(
        lambda txn: (
            email(w, txn),
            w.locker.schedule(o, transaction=txn),
        )[0]
    ),
}


@pytest.mark.parametrize("way", INSIDE)
def test_step_that_would_leave_no_room_is_a_failed_attempt(world: World, way: str) -> None:
    """
    Whether the handler asks for the next step or returns it: counted, with the sentence, told at the end, not tried for ever.
    """

    def charge(order: Order, attempt: Attempt) -> Any:
        order.note = text(500_000 if "write" in way or "after" in way else ROOM - 10_000 if way == "params" else ROOM)
        return INSIDE[way](world, order, attempt)

    world.shop.on_charge = charge
    world.locker.schedule(Order(id="1"), "/tasks/order")
    world.cloud.advance(hours=1)
    lock = world.locker.show("orders/1")
    assert (lock.status, lock.sequence, lock.attempts) == (Status.FAILED, 1, 2)
    assert all("bytes with this schedule, and may have 917,504" in error.message for error in lock.errors)
    assert [alert.event for alert in world.cloud.alerts.sent] == ["failure"]


def test_next_step_goes_on_as_long_as_there_is_room(world: World) -> None:
    """
    A write of another document in a transaction costs no read; a document that is nearly full goes on.
    """
    other = world.locker.client.document("others/1")
    calls: dict[str, int] = {}

    def charge(order: Order, attempt: Attempt) -> Any:
        attempt.run_transaction(lambda txn: txn.set(other, {"x": 1}))
        order.note = text(900_000)
        world.cloud.local.firestore.reset_counts()
        world.locker.schedule(order)
        calls.update(world.cloud.local.firestore.counts)

    world.shop.on_charge = charge
    world.locker.schedule(Order(id="1"), "/tasks/order")
    world.cloud.run_until_idle()
    assert calls == {"Commit": 1}
    assert world.locker.show("orders/1").status is Status.COMPLETED


def test_generator_leaves_room_in_its_occurrences(world: World) -> None:
    """
    They are larger than it by an id, a key and some times: the largest that is taken makes occurrences that run.
    """
    world.service.manager.create_task(Big(name="g" * 1000, note=text(897_000)))
    world.cloud.run_until_idle()
    assert len(world.service.ran) == 1
    assert 898_000 < max(world.stored().values()) <= ROOM


def test_pulled_tasks_have_room_too(oncetask_cloud: OncetaskCloud) -> None:
    """
    A worker's step that asks for more than there is is a failed attempt as well.
    """

    class Pulled(Work, kind="room-pulled", pull=True):
        pass

    service = Service(oncetask_cloud)
    service.handle(Pulled, retry=AGAIN)
    oncetask_cloud.work(Worker(service.manager, listen=False))
    service.act = lambda task, attempt: Continue(params={"p": text(ROOM)})
    service.create("a", model=Pulled)
    oncetask_cloud.advance(minutes=5)
    lock = service.lock("a", Pulled)
    assert (lock.status, lock.attempts) == (Status.FAILED, 2)
