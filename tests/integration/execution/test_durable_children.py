"""
Children of durable handlers: made once, and waited for without a process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gcp_oncetask import Status, UsageError
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker
from tests.support.children import Crash, Family, Held, three, upper
from tests.support.orders import Killed, Order, make_shop
from tests.support.tasks import Other, Pull, Service


@pytest.fixture
def clouds() -> Iterator[Callable[[], OncetaskCloud]]:
    """
    Makes clouds; each ends when the next one is made.
    """
    made: list[OncetaskCloud] = []

    def make() -> OncetaskCloud:
        while made:
            made.pop().stop()
        made.append(OncetaskCloud())
        return made[-1]

    yield make
    while made:
        made.pop().stop()


def test_a_parent_gets_the_results_of_its_children_in_order(service: Service) -> None:
    family = Family(service, three, upper).start()
    lock = service.lock("a")
    assert (lock.status, lock.result, lock.children, lock.orphans) == (Status.COMPLETED, ["X", "Y", "Z"], (), ())
    # The parent's two attempts, and one of each child.
    assert len(service.ran) == 5
    assert [each["parent"].split("/")[1] for each in family.children()] == ["ended"] * 3
    assert {each["parentPath"] for each in family.children()} == {service.path("a")}


def test_one_child(service: Service) -> None:
    Family(service, lambda task, attempt: attempt.run_task("one", Other(name="x")), upper).start()
    assert service.lock("a").result == "X"


def test_no_children(service: Service) -> None:
    Family(service, lambda task, attempt: attempt.run_tasks("none", []), upper).start()
    assert (service.lock("a").result, len(service.ran)) == ([], 1)


def test_a_waiting_parent_is_a_duplicate_and_keeps_a_due(service: Service) -> None:
    held = Held()
    family = Family(service, three, held).start()
    lock = service.lock("a")
    assert lock.wait is not None
    assert (lock.status, lock.due is not None, lock.attempts) == (Status.SCHEDULED, True, 0)
    service.cloud.duplicate_last()
    service.settle(60)
    assert (service.ran.count("a"), len(family.children())) == (1, 3)
    held.free = True
    service.settle(10)
    assert (service.ran.count("a"), service.lock("a").result) == (2, ["X", "Y", "Z"])


def test_du_74_a_parent_that_dies_makes_no_child_twice(service: Service) -> None:
    deaths = [Killed()]

    def act(task: Any, attempt: Any) -> Any:
        try:
            return three(task, attempt)
        finally:
            if deaths:
                raise deaths.pop()

    family = Family(service, act, upper).start(settle=60)
    assert (service.lock("a").result, len(family.children())) == (["X", "Y", "Z"], 3)
    assert sorted(service.ran.count(each["id"]) for each in family.children()) == [1, 1, 1]


def test_du_75_the_missing_children_are_made_by_the_next_attempt(service: Service) -> None:
    names = [f"{n:03}" for n in range(120)]
    crash = Crash(service)

    def act(task: Any, attempt: Any) -> Any:
        # The entry, the first 50 and their deliveries are made; the process dies at the commit of the next 50.
        crash.arm("Commit", skip=2)
        return len(attempt.run_tasks("label", [Other(name=name) for name in names]))

    family = Family(service, act, upper).handle()
    service.create("a")
    service.cloud.run_until_idle()
    assert len(family.children()) == 50
    service.settle(60)
    assert (service.lock("a").result, len(family.children())) == (120, 120)
    assert {service.ran.count(each["id"]) for each in family.children()} == {1}


def test_du_76_78_a_crash_at_any_call_loses_no_parent(clouds: Callable[[], OncetaskCloud]) -> None:
    calls = _story(clouds(), None, "")
    assert len(calls) > 15
    for number in range(len(calls)):
        for when in ("before", "after"):
            _story(clouds(), number, when)


def _story(cloud: OncetaskCloud, number: int | None, when: str) -> list[str]:
    service = Service(cloud)
    crash = Crash(service)
    crash.at = lambda name, count: when if count == number else None
    family = Family(service, three, upper).handle()
    service.create("a")
    cloud.run_until_idle()
    for _ in range(40):
        if service.lock("a").status is Status.COMPLETED and service.lock("a").due is None:
            break
        service.settle(4)
    lock, told = service.lock("a"), (number, when, crash.calls)
    assert (lock.status, lock.result) == (Status.COMPLETED, ["X", "Y", "Z"]), told
    assert len(family.children()) == 3, told
    assert (lock.children, lock.orphans) == ((), ()), told
    return crash.calls


def test_du_76_children_that_end_before_their_parent_waits_wake_it(service: Service) -> None:
    def act(task: Any, attempt: Any) -> Any:
        try:
            return three(task, attempt)
        finally:
            for body in service.bodies():
                if b":other:" in body:
                    service.post(body)

    family = Family(service, act, upper).handle()
    service.create("a")
    service.deliver("a")
    assert [each["parent"].split("/")[1] for each in family.children()] == ["ended"] * 3
    assert service.lock("a").dispatches == 2
    service.cloud.run_until_idle()
    assert service.lock("a").result == ["X", "Y", "Z"]


def test_du_76_a_delivery_that_was_not_made_is_made_by_the_sweeper(service: Service) -> None:
    Family(service, three, upper).handle()
    service.create("a")
    service.deliver("a")
    bodies = [body for body in service.bodies() if b":other:" in body]
    service.post_all(bodies[:2])
    service.cloud.local.faults.fail("CreateTask", times=20)
    service.post_all(bodies[2:])
    assert service.lock("a").dispatches == 2
    service.cloud.local.faults.clear()
    service.settle(10)
    assert service.lock("a").result == ["X", "Y", "Z"]


def test_du_77_children_that_end_together_wake_their_parent_once(service: Service) -> None:
    family = Family(service, three, upper).handle()
    service.create("a")
    service.deliver("a")
    bodies = [body for body in service.bodies() if b"other" in body]
    assert service.post_all(bodies) == ["completed"] * 3
    assert service.lock("a").dispatches == 2
    service.cloud.run_until_idle()
    assert (service.lock("a").result, service.ran.count("a")) == (["X", "Y", "Z"], 2)
    assert len(family.children()) == 3


def test_du_78_the_sweeper_wakes_a_parent_that_was_not_told(service: Service) -> None:
    Family(service, three, upper).handle()
    runtime = service.manager.locker._runtime
    told, runtime.after_kin = runtime.after_kin, None
    service.create("a")
    service.deliver("a")
    service.cloud.run_until_idle()
    assert service.lock("a").status is Status.SCHEDULED
    runtime.after_kin = told
    service.cloud.advance(minutes=6)
    service.cloud.sweep()
    service.cloud.run_until_idle()
    assert service.lock("a").result == ["X", "Y", "Z"]


def test_du_79_the_calls_of_a_parent_grow_with_its_children(clouds: Callable[[], OncetaskCloud]) -> None:
    def cost(count: int) -> dict[str, int]:
        service = Service(clouds())
        Family(
            service,
            lambda task, attempt: len(attempt.run_tasks("c", [Other(name=f"{n:04}") for n in range(count)])),
            upper,
        ).handle()
        service.create("a")
        service.start_counting()
        service.cloud.run_until_idle()
        assert service.lock("a").result == count
        return service.firestore()

    few, many = cost(20), cost(200)
    for name in ("RunAggregationQuery", "Commit", "BatchGetDocuments", "GetDocument"):
        assert many.get(name, 0) <= 10 * few.get(name, 0) + 2, (name, few, many)
    assert many["RunAggregationQuery"] <= 202


def test_du_83_a_child_with_its_parents_key_does_not_deadlock(service: Service) -> None:
    def act(task: Any, attempt: Any) -> Any:
        return attempt.run_task("one", Other(name="x", key="printer"))

    Family(service, act, upper).handle()
    service.create("a", key="printer")
    service.cloud.run_until_idle()
    service.settle(6)
    assert service.lock("a").result == "X"


def test_du_84_another_document_is_not_taken_for_a_child(service: Service) -> None:
    def act(task: Any, attempt: Any) -> Any:
        return attempt.run_task("one", Other(name="x"))

    family = Family(service, act, Held()).handle()
    crash = Crash(service)
    crash.arm("Commit", skip=2)
    service.create("a")
    service.cloud.run_until_idle()
    [nonce] = service.lock("a").children
    path = service.path(f"{nonce}-0", Other)
    service.manager.locker.client.document(path).set({"mine": 1})
    service.settle(20)
    lock = service.lock("a")
    assert lock.status is Status.QUARANTINED
    assert "has the id of a child" in lock.errors[-1].message
    assert family.children() == []


def test_another_list_is_a_mismatch(service: Service) -> None:
    names = ["xy", "xz"]

    def act(task: Any, attempt: Any) -> Any:
        return attempt.run_tasks("label", [Other(name=name) for name in names.pop(0)])

    Family(service, act, upper).start(settle=4)
    assert service.lock("a").status is Status.QUARANTINED
    assert "another list of tasks" in service.lock("a").errors[-1].message


def test_children_that_workers_pull(service: Service) -> None:
    def act(task: Any, attempt: Any) -> Any:
        return attempt.run_tasks("label", [Pull(name=name) for name in "xyz"])

    family = Family(service, act, upper).start(child=Pull)
    assert len(family.children()) == 3
    service.cloud.work(Worker(service.manager))
    service.cloud.run_until_idle()
    assert service.lock("a").result == ["X", "Y", "Z"]


def test_a_parent_that_workers_pull(service: Service) -> None:
    family = Family(service, upper, upper)
    family.acts["pulled"] = three
    family.handle(Pull)
    worker = Worker(service.manager)
    service.create("a", model=Pull)
    for _ in range(6):
        service.cloud.work(worker)
        service.cloud.run_until_idle()
        service.cloud.advance(minutes=2)
    assert service.lock("a", Pull).result == ["X", "Y", "Z"]


def test_results_that_fill_several_entries(service: Service) -> None:
    def act(task: Any, attempt: Any) -> Any:
        found = attempt.run_tasks("label", [Other(name=name) for name in "uvwxyz"])
        attempt.sleep("s", 60)
        return [len(each) for each in found]

    Family(service, act, lambda task, attempt: task.data.name * 30_000).start(settle=6)
    assert service.lock("a").result == [30_000] * 6


def test_without_a_manager_the_error_says_what_to_do(oncetask_cloud: OncetaskCloud) -> None:
    shop = make_shop()
    oncetask_cloud.use(shop.locker)
    oncetask_cloud.mount("https://orders.test", shop.app)
    told: list[str] = []

    def at_charge(order: Any, attempt: Any) -> None:
        try:
            attempt.run_task("one", Other(name="x"))
        except UsageError as error:
            told.append(str(error))

    shop.on_charge = at_charge
    shop.locker.schedule(Order(id="1", amount=1, email="x"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    assert told
    assert "TaskManager(locker)" in told[0]
