"""
Firestore effects that happen exactly once: the attempt's own transactions, and the caller's.
"""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.cloud import firestore

from gcp_oncetask import AlreadySettledError, Attempt, ContentionError, LeaseLostError, Status, StoreError, UsageError
from gcp_oncetask.store import transaction as transactions
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import Order, Shop


def stock(shop: Shop) -> Any:
    """
    The stock's document.
    """
    return shop.locker.client.document("stock/blue")


def left(shop: Shop) -> int:
    """
    What is left in stock.
    """
    return int(stock(shop).get().get("left"))


def take_one(shop: Shop, txn: firestore.Transaction) -> None:
    """
    Take one from the stock, in *txn*.
    """
    [found] = txn.get(stock(shop))
    txn.update(stock(shop), {"left": found.get("left") - 1})


def start(cloud: OncetaskCloud, shop: Shop) -> None:
    """
    Three in stock, one order scheduled and delivered.
    """
    stock(shop).set({"left": 3})
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    cloud.run_until_idle()


@pytest.mark.parametrize("block", [False, True])
def test_effects_commit_together_with_the_next_step(oncetask_cloud: OncetaskCloud, shop: Shop, block: bool) -> None:
    """
    What a handler writes through its transaction commits with schedule(); the next step is dispatched after it.
    """

    def charge(order: Order, attempt: Attempt) -> None:
        order.note = "taken"

        def body(txn: firestore.Transaction) -> None:
            take_one(shop, txn)
            shop.locker.schedule(order, transaction=txn)

        if block:
            with attempt.transaction() as txn:
                body(txn)
        else:
            attempt.run_transaction(body)

    shop.on_charge = charge
    start(oncetask_cloud, shop)
    oncetask_cloud.duplicate_last()

    order = shop.locker.get(Order, "42")
    assert order is not None
    assert order.lock is not None
    assert (left(shop), order.note, order.lock.status) == (2, "taken", Status.COMPLETED)
    assert shop.receipts == ["42"]


def test_raise_inside_commits_nothing(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A body that raises leaves neither its writes nor the settling behind; the attempt has failed and is retried.
    """

    def charge(order: Order, attempt: Attempt) -> None:
        with attempt.transaction() as txn:
            take_one(shop, txn)
            shop.locker.complete(order, transaction=txn)
            if attempt.number == 1:
                raise RuntimeError("no")

    shop.on_charge = charge
    start(oncetask_cloud, shop)
    assert (left(shop), shop.locker.show("orders/42").status) == (3, Status.SCHEDULED)

    oncetask_cloud.advance(seconds=5)
    assert (left(shop), shop.locker.show("orders/42").status) == (2, Status.COMPLETED)


def test_transaction_without_settling_is_a_checkpoint(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    Leaving without schedule() or complete() commits the writes fenced, and the attempt goes on.
    """

    def charge(order: Order, attempt: Attempt) -> None:
        attempt.run_transaction(lambda txn: take_one(shop, txn))
        assert Status.LEASED is shop.locker.show("orders/42").status
        attempt.run_transaction(lambda txn: take_one(shop, txn))
        shop.locker.schedule(order)

    shop.on_charge = charge
    start(oncetask_cloud, shop)

    assert (left(shop), shop.locker.show("orders/42").status) == (1, Status.COMPLETED)


def test_lost_lease_writes_nothing(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A holder that was taken over gets LeaseLostError from its transaction, and nothing is written.
    """
    told: list[Exception] = []

    def charge(order: Order, attempt: Attempt) -> None:
        if attempt.number == 1:
            shop.locker._executor.renewals.remove(attempt._running)
            oncetask_cloud.advance(minutes=13)
            oncetask_cloud.sweep()
            oncetask_cloud.local.tasks.run_due()
        try:
            attempt.run_transaction(lambda txn: take_one(shop, txn))
        except LeaseLostError as error:
            told.append(error)
            raise
        shop.locker.schedule(order)

    shop.on_charge = charge
    start(oncetask_cloud, shop)
    oncetask_cloud.advance(minutes=1)

    assert (len(told), left(shop)) == (1, 2)
    assert Status.COMPLETED is shop.locker.show("orders/42").status


def test_contention_repeats_the_function(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    run_transaction() repeats its function when somebody else changed what it read; the effect is there once.
    """
    tries: list[int] = []

    def charge(order: Order, attempt: Attempt) -> None:
        def body(txn: firestore.Transaction) -> None:
            take_one(shop, txn)
            tries.append(1)
            if len(tries) < 3:
                stock(shop).update({"left": firestore.Increment(10)})
            shop.locker.schedule(order, transaction=txn)

        attempt.run_transaction(body)

    shop.on_charge = charge
    start(oncetask_cloud, shop)

    assert (len(tries), left(shop)) == (3, 22)
    assert Status.COMPLETED is shop.locker.show("orders/42").status


def test_contention_of_a_block_fails_the_attempt_only(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A with block runs once: contention is ContentionError, nothing is written, and the attempt is retried.
    """
    errors: list[Exception] = []

    def charge(order: Order, attempt: Attempt) -> None:
        try:
            with attempt.transaction() as txn:
                take_one(shop, txn)
                if attempt.number == 1:
                    stock(shop).update({"left": firestore.Increment(10)})
                shop.locker.schedule(order, transaction=txn)
        except ContentionError as error:
            errors.append(error)
            raise

    shop.on_charge = charge
    start(oncetask_cloud, shop)
    assert (len(errors), left(shop)) == (1, 13)

    oncetask_cloud.advance(seconds=5)
    assert (left(shop), shop.locker.show("orders/42").status) == (12, Status.COMPLETED)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
def test_lost_answer_of_the_commit_takes_effect_once(
    oncetask_cloud: OncetaskCloud, shop: Shop, when: Any, code: grpc.StatusCode
) -> None:
    """
    Whether the failed commit was applied or not, the effect is there exactly once in the end.
    """

    def charge(order: Order, attempt: Attempt) -> None:
        def body(txn: firestore.Transaction) -> None:
            take_one(shop, txn)
            shop.locker.schedule(order, transaction=txn)

        if attempt.number == 1:
            oncetask_cloud.faults.fail("Commit", when=when, code=code)
        attempt.run_transaction(body)

    shop.on_charge = charge
    start(oncetask_cloud, shop)
    oncetask_cloud.advance(seconds=10)

    assert (left(shop), shop.locker.show("orders/42").status) == (2, Status.COMPLETED)
    assert shop.receipts == ["42"]


def test_commit_below_a_record_that_has_moved_on_is_in_doubt(
    oncetask_cloud: OncetaskCloud, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The commit was applied, its answer was lost, and another attempt has signed the record before it is read: the transaction does
    not count as one that was not applied.
    """
    told: list[Any] = []

    def charge(order: Order, attempt: Attempt) -> None:
        def roll_back(transaction: transactions.OwnTransaction) -> bool:
            done = real(transaction)
            signed = dict.fromkeys(("lock.settledBy", "lock.scheduledBy"), "another")
            shop.locker.client.document("orders/42").update({**signed, "lock.scheduledToken": 2, "lock.token": 2})
            return done

        if told:
            return
        real = transactions.roll_back
        with monkeypatch.context() as patch:
            patch.setattr(transactions, "roll_back", roll_back)
            oncetask_cloud.faults.fail("Commit", when="after")
            with pytest.raises(StoreError) as raised:
                attempt.run_transaction(lambda txn: shop.locker.schedule(order, transaction=txn))
        told.append(raised.value.facts.get("unknown"))

    shop.on_charge = charge
    start(oncetask_cloud, shop)

    assert told == [True]


def test_two_entities_move_together(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A child is completed and its parent scheduled in one transaction, all or nothing.
    """

    def charge(order: Order, attempt: Attempt) -> None:
        if order.id == "parent":
            return

        def body(txn: firestore.Transaction) -> None:
            shop.locker.complete(order, transaction=txn)
            shop.locker.schedule(Order(id="parent", note="from child"), "/tasks/order", transaction=txn)
            if attempt.number == 1:
                raise RuntimeError("no")

        attempt.run_transaction(body)

    shop.on_charge = charge
    shop.locker.schedule(Order(id="child"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    assert shop.locker.get(Order, "parent") is None
    assert Status.SCHEDULED is shop.locker.show("orders/child").status

    oncetask_cloud.advance(seconds=5)
    parent = shop.locker.get(Order, "parent")
    assert parent is not None
    assert parent.lock is not None
    assert (parent.note, parent.lock.status) == ("from child", Status.COMPLETED)
    assert Status.COMPLETED is shop.locker.show("orders/child").status


def test_schedule_joins_the_callers_transaction(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    Outside a handler the schedule commits with the caller's writes; dispatch() afterwards makes the task.
    """
    stock(shop).set({"left": 3})

    @firestore.transactional
    def order(txn: firestore.Transaction, fail: bool) -> Any:
        take_one(shop, txn)
        made = shop.locker.schedule(Order(id="42"), "/tasks/order", transaction=txn)
        if fail:
            raise RuntimeError("no")
        return made

    with pytest.raises(RuntimeError):
        order(shop.locker.client.transaction(), fail=True)
    assert (left(shop), shop.locker.get(Order, "42")) == (3, None)

    made = order(shop.locker.client.transaction(), fail=False)
    assert not made.dispatched
    assert made.dispatch()
    oncetask_cloud.run_until_idle()
    assert (left(shop), shop.locker.show("orders/42").status) == (2, Status.COMPLETED)


def test_forgotten_dispatch_is_the_sweepers(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A transaction whose caller died before dispatch() is dispatched by the sweeper.
    """

    @firestore.transactional
    def order(txn: firestore.Transaction) -> None:
        shop.locker.schedule(Order(id="42"), "/tasks/order", transaction=txn)

    order(shop.locker.client.transaction())
    oncetask_cloud.advance(minutes=2)
    assert oncetask_cloud.sweep().dispatched == 1
    oncetask_cloud.run_until_idle()
    assert Status.COMPLETED is shop.locker.show("orders/42").status


def test_wrong_use_is_refused(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A forgotten transaction=, a second settling and a transaction after the settling are refused in words.
    """
    errors: list[str] = []

    def charge(order: Order, attempt: Attempt) -> None:
        with attempt.transaction() as txn:
            with pytest.raises(UsageError, match="transaction=txn"):
                shop.locker.complete(order)
            shop.locker.schedule(order, transaction=txn)
            with pytest.raises(AlreadySettledError):
                shop.locker.complete(order, transaction=txn)
        with pytest.raises(AlreadySettledError), attempt.transaction():
            pass
        errors.append("all refused")

    shop.on_charge = charge
    start(oncetask_cloud, shop)

    assert errors == ["all refused"]
    assert Status.COMPLETED is shop.locker.show("orders/42").status
