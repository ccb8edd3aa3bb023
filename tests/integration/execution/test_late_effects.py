"""
Commits that land long after they were given up, and changes that slip in between a settling's second look and its commit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from gcp_oncetask import Attempt, Locker, Status
from gcp_oncetask.rules.statuses import FailureClass
from gcp_oncetask.store.failures import WireError
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import Order, Shop


class Outage:
    """
    Between the shop and Firestore: while it is down the first commit is held back, and nothing else gets through.
    """

    def __init__(self, shop: Shop) -> None:
        self.down = False
        self._held: Callable[[], Any] | None = None
        wire: Any = shop.locker._runtime.wire
        self._real = wire._unary
        wire._unary = self._call

    def _call(self, call: Any, calls: Any, request: Any, timeout: float | None) -> Any:
        if not self.down:
            return self._real(call, calls, request, timeout)
        if self._held is None and call is calls.commit:
            self._held = lambda: self._real(call, calls, request, timeout)
        raise WireError(FailureClass.AMBIGUOUS, grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def lands(self) -> grpc.StatusCode:
        """
        What was held back reaches Firestore now; returns what Firestore says to it.
        """
        assert self._held is not None, "nothing was held back"
        held, self._held = self._held, None
        try:
            held()
        except WireError as error:
            return error.code
        return grpc.StatusCode.OK


@pytest.fixture
def outage(shop: Shop) -> Outage:
    """
    The shop's line to Firestore.
    """
    shop.locker.schedule(Order(id="42", amount=1999), "/tasks/order")
    return Outage(shop)


def claim_is_abandoned(cloud: OncetaskCloud, outage: Outage) -> None:
    """
    A delivery claims while Firestore does not answer, and gives up.
    """
    outage.down = True
    cloud.run_until_idle()
    outage.down = False
    assert [record.status for record in cloud.deliveries] == [500]


def finish(cloud: OncetaskCloud) -> None:
    """
    Let time pass and sweep until nothing can be left to do.
    """
    for _ in range(4):
        cloud.advance(minutes=6)
        cloud.sweep()


def test_abandoned_claim_that_lands_late_is_recovered(
    oncetask_cloud: OncetaskCloud, shop: Shop, outage: Outage
) -> None:
    """
    A lease whose claimant has long answered 500 is taken over at its end: the log says that it never started.
    """
    claim_is_abandoned(oncetask_cloud, outage)
    assert outage.lands() is grpc.StatusCode.OK
    assert shop.locker.show("orders/42").status is Status.LEASED

    finish(oncetask_cloud)
    lock = shop.locker.show("orders/42")
    assert (lock.status, len(shop.charges), len(shop.receipts)) == (Status.COMPLETED, 1, 1)
    assert [attempt.token for attempt in shop.seen] == [2, 3]
    assert oncetask_cloud.alerts.sent == []


def test_abandoned_claim_without_evidence_waits_for_its_timeout(
    oncetask_cloud: OncetaskCloud, shop: Shop, outage: Outage
) -> None:
    """
    Where its line is lost as well, nothing is known of the holder: left alone until the timeout, then taken over.
    """
    claim_is_abandoned(oncetask_cloud, outage)
    assert outage.lands() is grpc.StatusCode.OK
    oncetask_cloud.forget_logs()

    oncetask_cloud.advance(minutes=9)
    assert shop.charges == []
    finish(oncetask_cloud)
    assert (shop.locker.show("orders/42").status, len(shop.charges)) == (Status.COMPLETED, 1)
    assert [str(alert.event) for alert in oncetask_cloud.alerts.sent] == ["takeover"]


def test_abandoned_claim_that_lands_after_the_end_changes_nothing(
    oncetask_cloud: OncetaskCloud, shop: Shop, outage: Outage
) -> None:
    """
    What the precondition was made for: the document has moved, so the late claim is refused and the chain stays done.
    """
    claim_is_abandoned(oncetask_cloud, outage)
    finish(oncetask_cloud)
    before = shop.locker.show("orders/42")
    assert before.status is Status.COMPLETED

    assert outage.lands() is grpc.StatusCode.FAILED_PRECONDITION
    assert shop.locker.show("orders/42") == before
    assert len(shop.charges) == 1


def test_abandoned_claim_that_lands_while_another_attempt_runs_changes_nothing(
    oncetask_cloud: OncetaskCloud, shop: Shop, outage: Outage
) -> None:
    """
    The attempt that was granted meanwhile keeps its lease.
    """
    said: list[grpc.StatusCode] = []

    def charge(order: Order, _: Attempt) -> None:
        said.append(outage.lands())
        shop.locker.schedule(order, "/tasks/order")

    shop.on_charge = charge
    claim_is_abandoned(oncetask_cloud, outage)
    finish(oncetask_cloud)

    assert said == [grpc.StatusCode.FAILED_PRECONDITION]
    assert [attempt.token for attempt in shop.seen] == [1, 2]
    assert shop.locker.show("orders/42").status is Status.COMPLETED


# --- between the second look and the settling commit ------------------------------------------------------------------


class SecondLook:
    """
    Runs *meddle* once, right after the settling has read the document again and before it commits.
    """

    def __init__(self, shop: Shop, meddle: Callable[[], Any]) -> None:
        self.looks = 0
        self._meddle = meddle
        wire: Any = shop.locker._runtime.wire
        self._real = wire.get
        wire.get = self._get

    def _get(self, path: str, **options: Any) -> Any:
        found = self._real(path, **options)
        self.looks += 1
        if self.looks == 1:
            self._meddle()
        return found


def meddled(
    cloud: OncetaskCloud,
    shop: Shop,
    meddle: Callable[[], Any],
    end: Callable[[Order], Any],
    first: dict[str, Any] | None = None,
) -> SecondLook:
    """
    Run the first step: somebody writes *first*, the handler ends by *end*, and *meddle* slips in before its second try.
    """
    watch: list[SecondLook] = []

    def charge(order: Order, _: Attempt) -> None:
        shop.on_charge = None
        shop.locker.client.document("orders/42").update(first or {"note": "by hand"})
        watch.append(SecondLook(shop, meddle))
        end(order)

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42", amount=1999), "/tasks/order")
    cloud.run_until_idle()
    [look] = watch
    return look


@pytest.fixture
def other(oncetask_cloud: OncetaskCloud, shop: Shop) -> Locker:
    """
    Another process on the same documents.
    """
    made = Locker(config=shop.locker.config)
    oncetask_cloud.use(made)
    return made


def test_cancellation_after_the_second_look_ends_the_chain(
    oncetask_cloud: OncetaskCloud, shop: Shop, other: Locker
) -> None:
    """
    The next step is decided again on what is there then: a chain cancelled in that instant ends, and its step is recorded.
    """
    scheduled = []
    look = meddled(
        oncetask_cloud,
        shop,
        lambda: other.cancel(Order, "42"),
        lambda order: scheduled.append(shop.locker.schedule(order, "/tasks/order")),
    )

    lock = shop.locker.show("orders/42")
    assert (lock.status, lock.sequence, lock.due) == (Status.CANCELLED, 1, None)
    assert scheduled[0].cancelled
    assert (len(shop.charges), shop.receipts, look.looks) == (1, [], 3)


def test_cancellation_after_the_second_look_loses_against_complete(
    oncetask_cloud: OncetaskCloud, shop: Shop, other: Locker
) -> None:
    """
    What is done is done: a chain that completes never becomes cancelled.
    """
    meddled(oncetask_cloud, shop, lambda: other.cancel(Order, "42"), shop.locker.complete)

    lock = shop.locker.show("orders/42")
    assert (lock.status, lock.cancel_requested_at) == (Status.COMPLETED, None)


def test_write_to_another_field_after_the_second_look_is_kept(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A user's own write never fails a settling that does not touch the field, however late it comes.
    """
    document = shop.locker.client.document("orders/42")

    def end(order: Order) -> None:
        order.amount = 7
        shop.locker.schedule(order, "/tasks/order")

    meddled(oncetask_cloud, shop, lambda: document.update({"email": "late@example.com"}), end)

    stored = document.get().to_dict()
    assert (stored["amount"], stored["email"], stored["note"]) == (7, "late@example.com", "by hand")
    assert shop.locker.show("orders/42").status is Status.COMPLETED


def test_write_to_the_same_field_after_the_second_look_is_not_overwritten(
    oncetask_cloud: OncetaskCloud, shop: Shop
) -> None:
    """
    A field that both changed fails the attempt by name; the next attempt starts from what the other one wrote.
    """
    document = shop.locker.client.document("orders/42")

    def end(order: Order) -> None:
        order.amount = 7
        shop.locker.schedule(order, "/tasks/order")

    meddled(oncetask_cloud, shop, lambda: document.update({"amount": 5}), end)
    oncetask_cloud.advance(minutes=10)

    assert document.get().get("amount") == 5
    assert (shop.locker.show("orders/42").status, len(shop.charges)) == (Status.COMPLETED, 2)
    assert [attempt.number for attempt in shop.seen if attempt.step == 1] == [1, 2]
