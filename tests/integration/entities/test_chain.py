"""
One chain, end to end: schedule, deliver, run, settle; and what it costs on the wire.
"""

from __future__ import annotations

import pytest

from gcp_oncetask import AlreadyFinishedError, AlreadyScheduledError, Status
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import Order, Shop


def test_chain_runs_each_step_once_in_order(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A two-step chain charges once, mails once, and ends completed.
    """
    made = shop.locker.schedule(Order(id="42", amount=1999, email="ann@example.com"), "/tasks/order")
    oncetask_cloud.run_until_idle()

    order = shop.locker.get(Order, "42")
    assert (made.sequence, made.dispatched) == (1, True)
    assert [id_ for id_, _ in shop.charges] == ["42"]
    assert shop.receipts == ["42"]
    assert order is not None
    assert order.lock is not None
    assert (order.lock.status, order.lock.sequence, order.amount) == (Status.COMPLETED, 2, 1999)
    assert order.lock.due is None
    assert [d.status for d in oncetask_cloud.deliveries] == [200, 200]


def test_chain_costs_2n_plus_1_commits_and_nothing_else(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    An N-step chain is 2N + 1 Commits, as many writes, no read, no streamed call, N CreateTasks.
    """
    shop.locker._runtime.store.estimate()
    firestore = oncetask_cloud.local.firestore
    firestore.reset_counts()
    oncetask_cloud.local.tasks.counts.clear()
    shop.locker.schedule(Order(id="42", amount=1999), "/tasks/order")
    oncetask_cloud.run_until_idle()

    assert dict(firestore.counts) == {"Commit": 5}
    assert (firestore.reads, firestore.writes) == (0, 5)
    assert dict(oncetask_cloud.local.tasks.counts) == {"CreateTask": 2}


def test_late_duplicate_is_acknowledged_and_costs_one_read(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A duplicate of finished work is answered 200, runs nothing, writes nothing and reads once; also a month later.
    """
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    firestore = oncetask_cloud.local.firestore
    for _ in range(2):
        firestore.reset_counts()

        assert oncetask_cloud.duplicate_last() == 200
        assert (firestore.reads, firestore.writes) == (1, 0)
        oncetask_cloud.advance(days=30)
    assert len(shop.charges) == 1
    assert len(shop.receipts) == 1


def test_schedule_twice_is_refused_and_touches_nothing(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    An entity made in Python can't disturb a running or finished chain.
    """
    shop.locker.schedule(Order(id="42", amount=1), "/tasks/order")
    with pytest.raises(AlreadyScheduledError):
        shop.locker.schedule(Order(id="42", amount=2), "/tasks/order")
    oncetask_cloud.run_until_idle()
    with pytest.raises(AlreadyFinishedError):
        shop.locker.schedule(Order(id="42", amount=3), "/tasks/order")

    order = shop.locker.get(Order, "42")
    assert order is not None
    assert order.amount == 1


def test_loaded_entity_moves_a_completed_chain_on(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A completed chain that was loaded starts a new one: sequence goes on, step begins at 1, the key differs.
    """
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    order = shop.locker.get(Order, "42")
    assert order is not None
    shop.locker.schedule(order, "/tasks/order")
    oncetask_cloud.run_until_idle()

    assert [(a.sequence, a.step) for a in shop.seen] == [(1, 1), (2, 2), (3, 1), (4, 2)]
    assert len({key for _, key in shop.charges}) == 2


def test_stale_entity_is_refused(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    An entity loaded before somebody else moved the chain on can't move it again.
    """
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    one, other = shop.locker.get(Order, "42"), shop.locker.get(Order, "42")
    assert one is not None
    assert other is not None
    shop.locker.schedule(one, "/tasks/order")
    oncetask_cloud.run_until_idle()

    with pytest.raises(AlreadyScheduledError, match="moved on from sequence 2 to 4"):
        shop.locker.schedule(other, "/tasks/order")
