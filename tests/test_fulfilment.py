"""
The fulfilment of ``examples/fulfilment``: each order is charged once, whatever dies.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.fulfilment.approver import Approver
from examples.orders.payments import Payments
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import Killed, Mortal
from tests.support.patience import patient

URL = "https://shop.test"
ROOT = Path(__file__).parent.parent


@pytest.fixture
def payments(monkeypatch: pytest.MonkeyPatch) -> Iterator[Payments]:
    """
    A payment service, and nobody who approves.
    """
    made, person = Payments(), Approver()
    monkeypatch.setenv("PAYMENTS_URL", made.start())
    monkeypatch.setenv("APPROVALS_URL", person.url)
    monkeypatch.setenv("ONCETASK_LINK_KEYS", "a-key-for-tests-alone-0123456789abcdef")
    monkeypatch.setattr(Approver, "decide", lambda self, order, yes, no: self.asked.update({order: None}))
    yield made
    made.stop()
    person.stop()


@pytest.fixture
def shop(oncetask_cloud: OncetaskCloud, payments: Payments) -> Any:
    """
    The application, on the local cloud.
    """
    from examples.fulfilment import app as example

    oncetask_cloud.use(example.manager.locker)
    oncetask_cloud.mount(URL, Mortal(example.app))
    return example


def settle(cloud: OncetaskCloud, days: float = 0.0) -> None:
    """
    Let days pass, and then an hour with sweeps.
    """
    cloud.advance(days=days)
    for _ in range(60):
        cloud.advance(minutes=1)
        cloud.sweep()
        cloud.run_until_idle()


def test_an_order_is_charged_packed_and_labelled(oncetask_cloud: OncetaskCloud, shop: Any, payments: Payments) -> None:
    shop.manager.create_task(shop.Fulfil(order="1", amount=4000, items=["cup", "plate"]))
    settle(oncetask_cloud, 3)
    result = shop.manager.result(shop.Fulfil, "1")
    assert result == {"charge": "ch_1", "labels": ["label of cup-parcel", "label of plate-parcel"]}
    assert {order: len(keys) for order, keys in payments.calls.items()} == {"1": 1}


def test_a_process_that_dies_after_the_charge_charges_once(
    oncetask_cloud: OncetaskCloud, shop: Any, payments: Payments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The payment service is asked whether the card was charged; no second call is made.
    """
    whole = shop.post

    def dies(data: Any, service: str = "PAYMENTS_URL") -> Any:
        whole(data, service)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(shop, "post", dies)
        shop.manager.create_task(shop.Fulfil(order="1", amount=4000, items=["cup"]))
        oncetask_cloud.run_until_idle()
    settle(oncetask_cloud, 3)
    settle(oncetask_cloud, 3)
    assert shop.manager.result(shop.Fulfil, "1")["labels"] == ["label of cup-parcel"]
    assert {order: len(keys) for order, keys in payments.calls.items()} == {"1": 1}


def test_an_order_that_nobody_approves_is_refunded(
    oncetask_cloud: OncetaskCloud, shop: Any, payments: Payments
) -> None:
    shop.manager.create_task(shop.Fulfil(order="1", amount=200_000, items=["cup"]))
    settle(oncetask_cloud, 3)
    assert shop.manager.get_task(shop.Fulfil, "1").lock.wait.name == "approval"
    settle(oncetask_cloud, 7)
    assert shop.manager.result(shop.Fulfil, "1") == {"charge": "ch_1", "refund": "ch_2"}


def test_an_order_is_sent_by_the_link_of_its_approver(
    oncetask_cloud: OncetaskCloud, shop: Any, payments: Payments, monkeypatch: pytest.MonkeyPatch
) -> None:
    links: dict[str, str] = {}
    monkeypatch.setattr(Approver, "decide", lambda self, order, yes, no: links.update(yes=yes, no=no))
    shop.manager.create_task(shop.Fulfil(order="1", amount=200_000, items=["cup"]))
    settle(oncetask_cloud, 3)
    client = shop.app.test_client()
    page = client.get(links["yes"].removeprefix(URL))
    assert ("Shall order 1 be sent?" in page.text, shop.manager.get_task(shop.Fulfil, "1").lock.mailbox) == (True, ())
    assert client.post(links["yes"].removeprefix(URL)).status_code == 200
    settle(oncetask_cloud)
    assert shop.manager.result(shop.Fulfil, "1")["labels"] == ["label of cup-parcel"]


def test_a_label_that_can_not_be_printed_is_a_refund(
    oncetask_cloud: OncetaskCloud, shop: Any, payments: Payments
) -> None:
    shop.manager.create_task(shop.Fulfil(order="1", amount=4000, items=["cup", "broken vase"]))
    settle(oncetask_cloud, 3)
    settle(oncetask_cloud)
    assert shop.manager.result(shop.Fulfil, "1")["refund"] == "ch_2"


def demo(*arguments: str, seconds: float) -> tuple[int, str]:
    """
    Run the demo; return its exit status and all that it said.
    """
    done = subprocess.run(
        [sys.executable, "-m", "examples.fulfilment", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=patient(seconds),
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_demo_charges_each_order_once_under_kills() -> None:
    """
    Eight orders under the faults of the demo, with a killed process.
    """
    status, said = demo("--orders", "8", "--kills", "1", "--deadline", "200", seconds=230)
    assert status == 0, said
    assert "orders 8, charges 8" in said
    assert "processes killed 1" in said
    assert "each order was charged once" in said


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_demo_of_two_hundred_orders() -> None:
    """
    Two hundred orders, with twelve killed processes: exactly one charge for each.
    """
    status, said = demo("--deadline", "500", seconds=600)
    assert status == 0, said
    assert "orders 200, charges 200" in said
