"""
Expired leases: judged by the logs, taken over, settled from the evidence, quarantined; alerts that are owed until sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from gcp_oncetask import Attempt, LeaseLostError, Locker, Status, sweep
from gcp_oncetask.rules.record import Event, Lock
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import Killed, Order, Shop


def lock_of(locker: Locker, id_: str = "42") -> Lock:
    """
    The stored lock.
    """
    return locker.show(f"orders/{id_}")


def die_while_charging(shop: Shop, times: int = 1) -> None:
    """
    Let the process die while the first *times* attempts run; then the handler goes on as usual.
    """
    left = [times]

    def charge(order: Order, attempt: Attempt) -> Any:
        if left[0] > 0:
            left[0] -= 1
            raise Killed
        shop.locker.schedule(order, "/tasks/order")
        return None

    shop.on_charge = charge


def start_and_die(cloud: OncetaskCloud, shop: Shop) -> None:
    """
    Schedule an order whose first attempt dies.
    """
    shop.locker.schedule(Order(id="42", amount=1), "/tasks/order")
    cloud.run_until_idle()
    assert lock_of(shop.locker).status is Status.LEASED


def test_dead_holder_without_evidence_is_left_alone_until_the_timeout(
    oncetask_cloud: OncetaskCloud, shop: Shop
) -> None:
    """
    No evidence is "unknown", never "not done": busy within the lease, unknown after it, taken over after the timeout.
    """
    die_while_charging(shop)
    start_and_die(oncetask_cloud, shop)
    oncetask_cloud.advance(minutes=12)
    assert len(shop.charges) == 1
    assert {200, 409, 503} >= {d.status for d in oncetask_cloud.deliveries}

    oncetask_cloud.advance(minutes=1)
    oncetask_cloud.sweep()
    oncetask_cloud.advance(minutes=2)

    assert len(shop.charges) == 2
    assert len({key for _, key in shop.charges}) == 1
    assert Status.COMPLETED is lock_of(shop.locker).status
    assert [alert.event for alert in oncetask_cloud.alerts.sent] == [Event.TAKEOVER]


def test_crash_line_of_its_instance_lets_the_holder_be_taken_over_after_the_log_grace(
    oncetask_cloud: OncetaskCloud, shop: Shop
) -> None:
    """
    A crash of the holder's instance is evidence: taken over once its end line has had its time, long before the timeout.
    """
    die_while_charging(shop)
    start_and_die(oncetask_cloud, shop)
    oncetask_cloud.advance(seconds=1)
    oncetask_cloud.write_system("Container terminated on signal 9.")
    oncetask_cloud.advance(seconds=62)
    assert (oncetask_cloud.sweep().unknown, len(shop.charges)) == (1, 1)
    oncetask_cloud.advance(seconds=60)
    oncetask_cloud.sweep()
    oncetask_cloud.run_until_idle()

    assert len(shop.charges) == 2
    [alert] = oncetask_cloud.alerts.sent
    assert Event.TAKEOVER is alert.event
    assert any("signal 9" in line for line in alert.evidence)
    assert alert.document == "orders/42"
    assert any("python -m gcp_oncetask show orders/42" in command for command in alert.commands)


def test_settlement_in_the_log_is_committed_without_running_again(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    The holder had finished and could not commit: recovery commits exactly what it had said, and runs nothing again.
    """

    def charge(order: Order, attempt: Attempt) -> Any:
        oncetask_cloud.faults.fail("Commit", times=None)
        oncetask_cloud.faults.fail("GetDocument", times=None)
        shop.locker.schedule(order, "/tasks/order")
        return None

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42", amount=1), "/tasks/order")
    oncetask_cloud.run_until_idle()
    oncetask_cloud.faults.clear()
    assert Status.LEASED is lock_of(shop.locker).status

    oncetask_cloud.advance(seconds=65)
    oncetask_cloud.sweep()
    oncetask_cloud.advance(minutes=3)

    assert len(shop.charges) == 1
    assert shop.receipts == ["42"]
    assert (lock_of(shop.locker).status, lock_of(shop.locker).sequence) == (Status.COMPLETED, 2)
    assert [alert.reason for alert in oncetask_cloud.alerts.sent] == [
        "It had finished (continue); what it was about to write is in its log."
    ]


def test_quarantine_waits_for_a_person(oncetask_cloud: OncetaskCloud, open_shop: Callable[..., Shop]) -> None:
    """
    A kind that asks for a person is quarantined at the timeout, alerted, refused to deliveries, and run when resolved.
    """
    shop = open_shop(on_unknown="quarantine")
    die_while_charging(shop)
    start_and_die(oncetask_cloud, shop)
    oncetask_cloud.advance(minutes=13)
    oncetask_cloud.sweep()
    oncetask_cloud.advance(minutes=30)
    assert Status.QUARANTINED is lock_of(shop.locker).status
    assert [alert.event for alert in oncetask_cloud.alerts.sent] == [Event.QUARANTINE]
    assert len(shop.charges) == 1
    shop.locker.resolve(Order, "42", "run")
    oncetask_cloud.run_until_idle()

    assert len([c for c in shop.charges if c[0] == "42"]) == 2
    assert len({key for id_, key in shop.charges if id_ == "42"}) == 1
    assert Status.COMPLETED is lock_of(shop.locker).status


def test_poison_task_ends_failed_with_an_alert(oncetask_cloud: OncetaskCloud, open_shop: Callable[..., Shop]) -> None:
    """
    A task that kills its process every time is run as often as allowed, ends failed and alerts; reset keeps its key.
    """
    shop = open_shop(max_attempts=3)
    die_while_charging(shop, times=3)
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    for _ in range(6):
        oncetask_cloud.advance(minutes=13)
        oncetask_cloud.sweep()

    lock = lock_of(shop.locker)
    assert (lock.status, lock.attempts, len(shop.charges)) == (Status.FAILED, 3, 3)
    assert [a.event for a in oncetask_cloud.alerts.sent] == [Event.TAKEOVER, Event.TAKEOVER, Event.FAILURE]
    assert lock.due is None

    shop.locker.reset(Order, "42")
    oncetask_cloud.run_until_idle()
    assert Status.COMPLETED is lock_of(shop.locker).status
    assert len({key for _, key in shop.charges}) == 1


def test_dead_mail_server_delays_an_alert_and_changes_no_outcome(
    oncetask_cloud: OncetaskCloud, open_shop: Callable[..., Shop]
) -> None:
    """
    The alert stays owed in the document while the channel is down, and is sent once when it is up.
    """
    shop = open_shop(max_attempts=1)
    shop.on_charge = lambda order, attempt: 1 / 0
    oncetask_cloud.alerts.down = True
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    assert [d.status for d in oncetask_cloud.deliveries] == [200]
    assert Status.FAILED is lock_of(shop.locker).status
    oncetask_cloud.advance(minutes=5)
    assert oncetask_cloud.sweep().alerted == 0

    oncetask_cloud.alerts.down = False
    oncetask_cloud.advance(minutes=20)
    assert oncetask_cloud.sweep().alerted == 1
    oncetask_cloud.advance(hours=2)
    oncetask_cloud.sweep()

    [alert] = oncetask_cloud.alerts.sent
    assert Event.FAILURE is alert.event
    assert "ZeroDivisionError" in alert.errors[-1].message
    assert (lock_of(shop.locker).owed, lock_of(shop.locker).due) == ((), None)


def test_zombie_changes_nothing_and_is_told(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A holder that sleeps past lease and timeout and is taken over can write nothing, and learns LeaseLostError.
    """
    told: list[LeaseLostError] = []

    def charge(order: Order, attempt: Attempt) -> Any:
        if attempt.number > 1:
            shop.locker.schedule(order, "/tasks/order")
            return None
        shop.locker._executor.renewals.remove(attempt._running)
        oncetask_cloud.advance(minutes=13)
        oncetask_cloud.sweep()
        oncetask_cloud.local.tasks.run_due()
        order.note = "written by a zombie"
        try:
            shop.locker.schedule(order, "/tasks/order")
        except LeaseLostError as error:
            told.append(error)
            raise
        return None

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    oncetask_cloud.advance(minutes=2)

    order = shop.locker.get(Order, "42")
    assert order is not None
    assert len(told) == 1
    assert order.note == ""
    assert shop.receipts == ["42"]
    assert Status.COMPLETED is lock_of(shop.locker).status


def test_lost_enqueue_is_dispatched_by_the_sweeper(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A CreateTask that fails leaves a document that the sweeper delivers, and schedule() says so.
    """
    oncetask_cloud.faults.fail("CreateTask", times=2)
    made = shop.locker.schedule(Order(id="42"), "/tasks/order")
    assert not made.dispatched
    oncetask_cloud.run_until_idle()
    assert shop.charges == []
    oncetask_cloud.advance(minutes=2)

    assert oncetask_cloud.sweep().dispatched == 1
    oncetask_cloud.run_until_idle()
    assert Status.COMPLETED is lock_of(shop.locker).status


def test_lost_answer_of_create_task_makes_no_second_task(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    CreateTask applied, answer lost: the same name is created again and exists, which is as good.
    """
    oncetask_cloud.faults.fail("CreateTask", when="after", code=grpc.StatusCode.DEADLINE_EXCEEDED)

    assert shop.locker.schedule(Order(id="42"), "/tasks/order").dispatched
    assert len(oncetask_cloud.local.tasks.tasks()) == 1


def test_paused_queue_is_not_flooded(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A queue that is paused for a day, swept every minute, still holds one task; it runs once when resumed.
    """
    client = oncetask_cloud.local.tasks_client()
    queue = oncetask_cloud.local.queue
    client.pause_queue(name=queue)
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    for _ in range(24 * 12):
        oncetask_cloud.advance(minutes=5)
        oncetask_cloud.sweep()
    assert len(oncetask_cloud.local.tasks.tasks()) == 1
    assert oncetask_cloud.local.tasks.counts["CreateTask"] == 1

    client.resume_queue(name=queue)
    oncetask_cloud.run_until_idle()
    assert len(shop.charges) == 1
    assert Status.COMPLETED is lock_of(shop.locker).status


def test_poisoned_document_holds_up_nothing(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A document with a damaged lock at the head of the sweep is set aside with an alert; those behind it are served.
    """
    oncetask_cloud.faults.fail("CreateTask", times=4)
    shop.locker.schedule(Order(id="a"), "/tasks/order")
    shop.locker.schedule(Order(id="b"), "/tasks/order")
    shop.locker.client.document("orders/a").update({"lock.sequence": "three", "lock.due": "DEFAULT/push/000/2020"})
    oncetask_cloud.advance(minutes=2)
    swept = oncetask_cloud.sweep()
    assert (swept.damaged, swept.dispatched) == (1, 1)
    oncetask_cloud.run_until_idle()

    assert Status.COMPLETED is lock_of(shop.locker, "b").status
    [alert] = oncetask_cloud.alerts.sent
    assert (alert.document, "sequence" in alert.reason) == ("orders/a", True)
    assert oncetask_cloud.sweep().looked == 0


def test_sweep_costs_what_is_overdue(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A sweep over a collection in which nothing is due reads one index entry's worth, however many documents there are.
    """
    for number in range(30):
        shop.locker.schedule(Order(id=str(number)), "/tasks/order")
    oncetask_cloud.run_until_idle()
    assert [(d.status, d.body) for d in oncetask_cloud.deliveries if d.status != 200] == []
    firestore = oncetask_cloud.local.firestore
    firestore.reset_counts()

    # By name: other tests of this process have registered models of their own.
    assert sweep(shop.locker, collections=("orders",)).looked == 0
    assert firestore.reads <= 1
    assert dict(firestore.counts) == {"RunQuery": 1}
