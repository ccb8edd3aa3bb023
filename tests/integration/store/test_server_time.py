"""
The estimate of the server's time: never ahead of it, and not behind it by more than some seconds.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gcp_emulator.clock import VirtualClock, datetime_of
from gcp_oncetask.clock import DRIFT, Mark
from gcp_oncetask.store.codec import encode, get_timestamp
from gcp_oncetask.testing.cloud import OncetaskCloud, TestClock
from tests.support.orders import Order, Shop

HOUR = 3600.0
ROUNDED = timedelta(microseconds=-2)
"""Marks are floats, so that an estimate may be rounded up."""


class DriftingClock(TestClock):
    """
    The test's clock on a machine that runs wrong from now on.
    """

    def __init__(self, clock: VirtualClock, rate: float) -> None:
        super().__init__(clock)
        self._start = super().mark()
        self._rate = rate

    def mark(self) -> Mark:
        start, now = self._start.wall, super().mark().wall
        return Mark(*(start + (now - start) * self._rate,) * 3)


def commits(cloud: OncetaskCloud) -> int:
    """
    Commits so far.
    """
    firestore: Any = cloud.local.firestore
    return int(firestore.counts["Commit"])


@pytest.mark.parametrize("rate", [1 - DRIFT, 1 + DRIFT])
def test_a_clock_that_drifts_makes_no_time_that_has_not_come(
    oncetask_cloud: OncetaskCloud, shop: Shop, rate: float
) -> None:
    """
    By the end of the hour for which an answer counts the estimate is some seconds behind, and not ahead, on any clock.
    """
    store = shop.locker._runtime.store
    store.wire._clock = DriftingClock(oncetask_cloud.clock, rate)
    store.estimate()
    before = commits(oncetask_cloud)
    oncetask_cloud.clock.advance(HOUR - 5)
    behind = datetime_of(oncetask_cloud.clock.micros()) - store.estimate()

    assert commits(oncetask_cloud) == before
    assert ROUNDED <= behind <= timedelta(seconds=4)


def test_after_an_hour_of_silence_the_server_is_asked_again(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A process that was idle for days does not schedule a minute ahead by a clock that is minutes wrong: one empty Commit.
    """
    shop.locker._runtime.store.wire._clock = DriftingClock(oncetask_cloud.clock, 1 + DRIFT)
    shop.locker.schedule(Order(id="1"), "/tasks/order")
    before = commits(oncetask_cloud)
    oncetask_cloud.clock.advance(10 * 24 * HOUR)
    now = oncetask_cloud.clock.micros()
    shop.locker.schedule(Order(id="2"), "/tasks/order", delay=60)
    order = shop.locker.get(Order, "2")
    assert order is not None

    assert commits(oncetask_cloud) == before + 2
    assert abs(order.lock.wait_until - datetime_of(now) - timedelta(seconds=60)) < timedelta(milliseconds=10)


def test_answer_to_a_batch_of_writes_tells_the_time(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    By its writes that changed something. One that changed nothing has the time of an earlier write, and tells nothing.
    """
    runtime = shop.locker._runtime
    shop.locker.schedule(Order(id="1"), "/tasks/order")
    runtime.wire._clock = DriftingClock(oncetask_cloud.clock, 1 + DRIFT)
    wire, stored = runtime.wire, runtime.store.get("orders/1")
    assert stored.lock is not None
    version, due = stored.version, stored.lock.due

    def touch(due: Any) -> Any:
        return runtime.store.raw_write("orders/1", version, {"lock.due": encode(due)})

    oncetask_cloud.clock.advance(10 * HOUR)
    assert wire.estimate() is None
    [(result, status)] = wire.batch_write([touch(due)])
    assert (status.code, result.update_time) == (0, version)
    assert wire.estimate() is None

    [(result, status)] = wire.batch_write([touch("DEFAULT/push/later")])
    assert status.code == 0
    assert wire.estimate() == get_timestamp(result.update_time)
    oncetask_cloud.clock.advance(20)
    known = wire.estimate()
    [(_, status)] = wire.batch_write([touch("DEFAULT/push/later")])
    assert status.code != 0
    assert wire.estimate() == known
