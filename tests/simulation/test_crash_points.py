"""
Crash everywhere by counting: the two-step chain with its Nth remote call failing, for N = 1, 2, 3, ... until it finishes
unhurt; then late duplicates and sweeps; then the promise.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
import pytest

from gcp_oncetask import AlreadyScheduledError, Status, StoreError
from gcp_oncetask.store import registry
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import URL, Killed, Order, Shop, make_shop


@pytest.fixture(autouse=True)
def one_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Sweeps ask for the collection of the shop alone: other tests of this process have models of their own.
    """
    monkeypatch.setattr(registry, "DECLARED", {"orders": Order})


MOST = 40
"""More remote calls than the scenario makes."""


class Cutter:
    """
    Counts the remote calls of a locker, and hurts the Nth.

    Args:
        shop: Whose.
        number: Which call, 1-based.
        hurt: Given the real call and its request; returns the answer or raises.
    """

    def __init__(self, shop: Shop, number: int, hurt: Callable[[Callable[[], Any]], Any]) -> None:
        self.left = number
        self.struck = ""
        self.hurt = hurt
        runtime = shop.locker._runtime
        for owner, name in ((runtime.wire, "_unary"), (runtime.tasks, "_call")):
            real = getattr(owner, name)
            setattr(owner, name, self._wrapped(real))

    def _wrapped(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left != 0:
                return real(*args, **kwargs)
            self.struck = str(args[0])
            return self.hurt(lambda: real(*args, **kwargs))

        return call


def dies_before(call: Callable[[], Any]) -> Any:
    """
    The process dies, and the call is never made.
    """
    raise Killed


def dies_after(call: Callable[[], Any]) -> Any:
    """
    The process dies, and the call was applied.
    """
    call()
    raise Killed


def opened(cloud: OncetaskCloud) -> Shop:
    """
    A shop on *cloud* that has spoken to Firestore before.
    """
    shop = make_shop()
    cloud.use(shop.locker)
    cloud.mount(URL, shop.app)
    shop.locker._runtime.store.estimate()
    return shop


def schedule(shop: Shop) -> None:
    """
    Schedule the order as a careful caller does: again, if the error left it open.
    """
    for _ in range(5):
        try:
            shop.locker.schedule(Order(id="42", amount=1999), "/tasks/order")
        except (Killed, StoreError):
            continue
        except AlreadyScheduledError:
            return
        return


def swept(cloud: OncetaskCloud) -> None:
    """
    Sweep as a scheduler does: one that dies or fails is followed by the next.
    """
    with suppress(Killed, StoreError):
        cloud.sweep()


def survive(cloud: OncetaskCloud, shop: Shop) -> None:
    """
    Let time pass and sweep, then deliver every task again, late, and sweep again.
    """
    cloud.run_until_idle()
    for _ in range(8):
        cloud.advance(minutes=11)
        swept(cloud)
    cloud.run_until_idle()
    for record in list({d.task: d for d in cloud.deliveries}.values()):
        cloud.local.tasks.redeliver(record)
    cloud.advance(minutes=30)
    swept(cloud)


def check_promise(cloud: OncetaskCloud, shop: Shop) -> None:
    """
    Completed, each step settled once, one key per step, tokens strictly increasing, nothing owed, nothing due.
    """
    lock = shop.locker.show("orders/42")
    assert (lock.status, lock.sequence, lock.due, lock.owed) == (Status.COMPLETED, 2, None, ())
    tokens = [attempt.token for attempt in shop.seen]
    assert tokens == sorted(set(tokens)), tokens
    for step in (1, 2):
        attempts = [attempt for attempt in shop.seen if attempt.step == step]
        assert attempts, f"step {step} never ran"
        assert len({attempt.key for attempt in attempts}) == 1
        assert sum(attempt._running.settled is not None for attempt in attempts) <= 1
    ran = len(shop.seen)
    cloud.duplicate_last()
    assert ran == len(shop.seen)


CODES = [
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    # Definite refusals: a service that says so has not applied the call.
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
]


@pytest.mark.parametrize(
    ("when", "code"), [*(("before", code) for code in CODES), *(("after", code) for code in CODES[:3])]
)
def test_nth_call_failing_keeps_the_promise(when: Any, code: grpc.StatusCode) -> None:
    """
    Whichever single call fails, before or after its effect, each step is run once and recorded once.
    """
    for number in range(1, MOST):
        cloud = OncetaskCloud()
        try:
            shop = opened(cloud)
            cloud.faults.fail("*", when=when, code=code, skip=number - 1)
            schedule(shop)
            survive_quickly(cloud)
            struck = sum(cloud.faults.injected.values())
            cloud.faults.clear()
            check_promise(cloud, shop)
            assert len(shop.charges) == 1, (number, shop.charges)
            assert len(shop.receipts) == 1
        finally:
            cloud.stop()
        if not struck:
            assert number > 6
            return
    raise AssertionError("the scenario never finished unhurt")


def survive_quickly(cloud: OncetaskCloud) -> None:
    """
    As ``survive``, in the time that a failing call needs.
    """
    cloud.run_until_idle()
    for _ in range(3):
        cloud.advance(minutes=2)
        swept(cloud)
    cloud.run_until_idle()
    for record in list({d.task: d for d in cloud.deliveries}.values()):
        cloud.local.tasks.redeliver(record)


@pytest.mark.parametrize("hurt", [dies_before, dies_after])
def test_process_dying_at_the_nth_call_keeps_the_promise(hurt: Callable[[Callable[[], Any]], Any]) -> None:
    """
    Wherever the process dies, before or after the call, the chain completes, with one key per step, recorded once.
    """
    for number in range(1, MOST):
        cloud = OncetaskCloud()
        try:
            shop = opened(cloud)
            cutter = Cutter(shop, number, hurt)
            schedule(shop)
            survive(cloud, shop)
            cutter.left = 0
            check_promise(cloud, shop)
            assert len(shop.charges) <= 2
        finally:
            cloud.stop()
        if not cutter.struck:
            assert number > 6
            return
    raise AssertionError("the scenario never finished unhurt")
