"""
The outbox trigger's rule at work: what was committed and not dispatched is dispatched once, under its own name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gcp_oncetask import Config, ConfigError, Locker, StoreError, sweep
from gcp_oncetask.outbox import dispatch_written
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import Order, Shop

Fields = dict[str, Any] | None


def written(shop: Shop, id_: str = "1") -> Fields:
    """
    What an event says is stored.
    """
    return shop.locker.client.document(f"orders/{id_}").get().to_dict()


def names(cloud: OncetaskCloud) -> list[str]:
    """
    The queued tasks.
    """
    return [task.name for task in cloud.local.tasks.tasks()]


def counted(cloud: OncetaskCloud) -> dict[str, int]:
    """
    Remote calls so far.
    """
    firestore: Any = cloud.local.firestore
    return {**firestore.counts, **cloud.local.tasks.counts}


def undispatched(cloud: OncetaskCloud, shop: Shop, **options: Any) -> Fields:
    """
    An order whose schedule was committed, and whose Cloud Task was not made.
    """
    cloud.faults.fail("CreateTask", times=2)
    made = shop.locker.schedule(Order(id="1", amount=5), "/tasks/order", **options)
    assert not made.dispatched
    assert names(cloud) == []
    return written(shop)


def test_what_was_not_dispatched_is(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    After a crash between commit and CreateTask the trigger makes the task, and the order is fulfilled once.
    """
    after = undispatched(oncetask_cloud, shop)

    calls = counted(oncetask_cloud)
    assert dispatch_written(shop.locker, "orders/1", None, after)
    assert counted(oncetask_cloud) == {**calls, "CreateTask": calls["CreateTask"] + 1}
    assert len(names(oncetask_cloud)) == 1
    oncetask_cloud.run_until_idle()
    lock = shop.locker.show("orders/1")
    assert (len(shop.charges), lock.status, lock.sequence) == (1, "completed", 2)


def test_second_event_finds_that_it_exists(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    Writer and trigger, and the same event again, make one task: the name is the writer's.
    """
    made = shop.locker.schedule(Order(id="1"), "/tasks/order")
    after = written(shop)
    assert dispatch_written(shop.locker, "orders/1", None, after)
    assert dispatch_written(shop.locker, "orders/1", None, after)

    assert names(oncetask_cloud) == [made.task_name]


def test_late_event_of_finished_work_makes_nothing(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    While the name is taken it is refused as existing; from the due time on the event is the sweeper's business.
    """
    shop.locker.schedule(Order(id="1"), "/tasks/order")
    after = written(shop)
    oncetask_cloud.run_until_idle()
    assert dispatch_written(shop.locker, "orders/1", None, after)
    assert names(oncetask_cloud) == []
    oncetask_cloud.advance(days=2)
    shop.locker.get(Order, "1")

    assert not dispatch_written(shop.locker, "orders/1", None, after)
    assert names(oncetask_cloud) == []


def test_swept_document_is_not_dispatched_under_its_old_name(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    The event comes after the sweeper's: one task, the sweeper's; the sweeper's own write owes none either.
    """
    first = undispatched(oncetask_cloud, shop)
    oncetask_cloud.advance(minutes=2)
    assert swept_and_dispatched(shop) == 1
    [swept] = names(oncetask_cloud)

    assert not dispatch_written(shop.locker, "orders/1", None, first)
    assert dispatch_written(shop.locker, "orders/1", first, written(shop))
    assert names(oncetask_cloud) == [swept]


def swept_and_dispatched(shop: Shop) -> int:
    """
    Documents that a sweep dispatched.
    """
    return sweep(shop.locker, collections=("orders",)).dispatched


def test_next_step_is_dispatched_too(oncetask_cloud: OncetaskCloud, open_shop: Callable[..., Shop]) -> None:
    """
    The write that ends step 1 owes step 2.
    """
    shop = open_shop()
    shop.locker.schedule(Order(id="1"), "/tasks/order")
    seen: list[Fields] = []

    def at_charge(order: Order, attempt: Any) -> None:
        seen.append(written(shop))
        oncetask_cloud.faults.fail("CreateTask", times=2)
        shop.locker.schedule(order, "/tasks/order")
        seen.append(written(shop))

    shop.on_charge = at_charge
    oncetask_cloud.run_until_idle()
    assert names(oncetask_cloud) == []
    assert dispatch_written(shop.locker, "orders/1", *seen)
    oncetask_cloud.run_until_idle()
    assert shop.locker.show("orders/1").status == "completed"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda f: None, id="deleted"),
        pytest.param(lambda f: {k: v for k, v in f.items() if k != "lock"}, id="no-lock"),
        pytest.param(lambda f: {**f, "lock": True}, id="another-lock-field"),
        pytest.param(lambda f: {**f, "lock": {**f["lock"], "sequence": "one"}}, id="damaged-lock"),
        pytest.param(lambda f: {**f, "lock": {**f["lock"], "status": "leased"}}, id="leased"),
        pytest.param(lambda f: {**f, "lock": {**f["lock"], "status": "completed"}}, id="completed"),
        pytest.param(lambda f: {**f, "lock": {**f["lock"], "env": "OTHER"}}, id="other-environment"),
        pytest.param(
            lambda f: {**f, "lock": {**f["lock"], "due": f["lock"]["due"].replace("/push/", "/pull.x/")}}, id="pulled"
        ),
    ],
)
def test_other_writes_owe_nothing(
    oncetask_cloud: OncetaskCloud, shop: Shop, change: Callable[[dict[str, Any]], Fields]
) -> None:
    """
    Neither a task nor a remote call.
    """
    before = undispatched(oncetask_cloud, shop)
    assert before is not None
    calls = counted(oncetask_cloud)

    assert not dispatch_written(shop.locker, "orders/1", None, change(before))
    assert counted(oncetask_cloud) == calls
    assert names(oncetask_cloud) == []


def test_users_own_write_owes_nothing(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A changed user field leaves the schedule as it was: no remote call.
    """
    before = undispatched(oncetask_cloud, shop)
    assert before is not None
    calls = counted(oncetask_cloud)

    assert not dispatch_written(shop.locker, "orders/1", before, {**before, "amount": 6})
    assert counted(oncetask_cloud) == calls
    assert names(oncetask_cloud) == []


def test_waiting_task_waits(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    What is scheduled for later is made now, to be delivered then.
    """
    after = undispatched(oncetask_cloud, shop, delay=timedelta(hours=1))

    assert dispatch_written(shop.locker, "orders/1", None, after)
    oncetask_cloud.run_until_idle()
    assert shop.charges == []
    oncetask_cloud.advance(hours=1)
    assert len(shop.charges) == 1


def test_refusing_queue_is_left_to_the_sweeper(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    False, no exception: a Cloud Function that fails would be reported, not repeated.
    """
    after = undispatched(oncetask_cloud, shop)
    oncetask_cloud.faults.fail("CreateTask", times=2)

    assert not dispatch_written(shop.locker, "orders/1", None, after)
    oncetask_cloud.advance(minutes=2)
    assert swept_and_dispatched(shop) == 1


def test_answer_of_create_task_is_lost(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    It was made; making it again finds that.
    """
    after = undispatched(oncetask_cloud, shop)
    oncetask_cloud.faults.fail("CreateTask", when="after", times=1)

    assert dispatch_written(shop.locker, "orders/1", None, after)
    assert len(names(oncetask_cloud)) == 1


def test_firestore_that_does_not_tell_the_time_is_an_error(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A fresh process can't say whether the sweeper has come first.
    """
    after = undispatched(oncetask_cloud, shop)
    fresh = Locker(config=Config())
    oncetask_cloud.use(fresh)
    oncetask_cloud.faults.fail("Commit", times=None)

    with pytest.raises(StoreError):
        dispatch_written(fresh, "orders/1", None, after)
    assert names(oncetask_cloud) == []


def test_unconfigured_account_is_an_error(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A trigger that may call nobody says so, with what to set.
    """
    after = undispatched(oncetask_cloud, shop)
    shop.locker._runtime.config = replace(shop.locker.config, service_account=None)

    with pytest.raises(ConfigError, match="ONCETASK_SERVICE_ACCOUNT"):
        dispatch_written(shop.locker, "orders/1", None, after)
