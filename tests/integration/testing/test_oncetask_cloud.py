"""
The pytest fixture ``oncetask_cloud``, as an application's tests meet it.
"""

from __future__ import annotations

import socket
import threading
from typing import Any, NoReturn

import pytest

from gcp_emulator.clock import VirtualClock
from gcp_oncetask import Attempt, Config, Status
from gcp_oncetask.clock import Wakeup, pause
from gcp_oncetask.errors import IdentityError
from gcp_oncetask.testing.cloud import ACCOUNT, OncetaskCloud, TestClock
from tests.support.orders import URL, Order, Shop, make_shop
from tests.support.patience import patient


def test_opens_no_socket(oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A chain with its verified deliveries, a sweep and a duplicate: all of it in process.
    """

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    shop = make_shop()
    oncetask_cloud.use(shop.locker)
    oncetask_cloud.mount(URL, shop.app)
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    assert oncetask_cloud.run_until_idle() == 2
    assert oncetask_cloud.duplicate_last() == 200
    oncetask_cloud.sweep()
    assert [d.status for d in oncetask_cloud.deliveries] == [200, 200, 200]
    assert oncetask_cloud.local.oidc.fetches == 1


def test_locker_gets_back_what_it_had() -> None:
    """
    A module-level locker is used by one test after the other, and is its own again afterwards.
    """
    shop = make_shop()
    before = dict(shop.locker._runtime.__dict__)
    for _ in range(2):
        cloud = OncetaskCloud()
        cloud.use(shop.locker)
        cloud.mount(URL, shop.app)
        assert shop.locker._runtime.clock is not before["clock"]
        assert shop.locker.get(Order, "42") is None
        shop.locker.schedule(Order(id="42"), "/tasks/order")
        cloud.run_until_idle()
        cloud.stop()
        assert shop.locker._runtime.__dict__ == before
    assert len(shop.charges) == 2


def test_time_passes_inside_a_handler(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    Advancing the clock in a handler delivers nothing there: the handler goes on first.
    """
    seen: list[str] = []

    def charge(order: Order, attempt: Attempt) -> None:
        seen.append(f"{order.id} begins")
        if order.id == "1":
            before = oncetask_cloud.clock_now()
            assert oncetask_cloud.advance(seconds=30) == 0
            assert (oncetask_cloud.clock_now() - before).total_seconds() == 30
        seen.append(f"{order.id} ends")

    shop.on_charge = charge
    shop.locker.schedule(Order(id="1"), "/tasks/order")
    shop.locker.schedule(Order(id="2"), "/tasks/order", delay=10)
    assert oncetask_cloud.run_until_idle() == 2
    assert seen == ["1 begins", "1 ends", "2 begins", "2 ends"]
    assert shop.locker.show("orders/2").status is Status.COMPLETED


def test_certificates_that_fail_are_an_outage(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    What goes wrong with the issuer of identity tokens goes wrong in process as well; the task comes again.
    """
    oncetask_cloud.faults.fail("FetchCerts", times=2)
    token = oncetask_cloud.local.oidc.token("https://oncetask.test", ACCOUNT)
    with pytest.raises(IdentityError, match="500"):
        shop.locker._runtime.verifier().check(f"Bearer {token}")
    oncetask_cloud.advance(seconds=10)
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    assert [d.status for d in oncetask_cloud.deliveries] == [500]
    oncetask_cloud.advance(minutes=1)
    assert shop.locker.show("orders/42").status is Status.COMPLETED


def test_pause_on_another_thread_takes_virtual_time() -> None:
    """
    A renewal that is tried again while the test's own thread waits for its end: nobody else would move the clock. What
    waits for an event moves nothing.
    """
    virtual = VirtualClock()
    clock, before = TestClock(virtual), virtual.micros()
    pausing = threading.Thread(target=pause, args=(clock, 30.0), daemon=True)
    pausing.start()
    pausing.join(patient(30))
    assert not pausing.is_alive()
    assert virtual.micros() - before == 30_000_000

    event = Wakeup()
    waiting = threading.Thread(target=clock.wait, args=(event, 30.0), daemon=True)
    waiting.start()
    waiting.join(0.1)
    assert (waiting.is_alive(), virtual.micros() - before) == (True, 30_000_000)
    event.set()
    waiting.join(patient(30))
    assert not waiting.is_alive()


def test_time_out_counts_from_the_last_look_at_the_clock() -> None:
    """
    A thread reckons how long to wait, and the test moves the clock before it begins to: it does not wait for more.
    """
    clock = TestClock(VirtualClock())
    looked, moved = threading.Event(), threading.Event()

    def wait() -> None:
        clock.mark()
        looked.set()
        moved.wait(patient(30))
        assert not clock.wait(Wakeup(), 3)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    assert looked.wait(patient(30))
    clock.virtual.advance(4)
    moved.set()
    thread.join(patient(30))
    assert not thread.is_alive()


def test_environment_of_gcp_emulator_changes_nothing(oncetask_cloud: OncetaskCloud) -> None:
    """
    A locker configured for a server before the local cloud of another process is delivered to the mounted application.
    """
    server = "http://127.0.0.1:8080"
    shop = make_shop(Config(base_url=server, audience=(server,), tasks_emulator="127.0.0.1:1"))
    oncetask_cloud.use(shop.locker)
    oncetask_cloud.mount(URL, shop.app)
    shop.locker.schedule(Order(id="1"), "/tasks/order")
    oncetask_cloud.run_until_idle()

    assert shop.locker.show("orders/1").status is Status.COMPLETED
