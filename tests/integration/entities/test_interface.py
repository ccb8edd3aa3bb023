"""
The rest of the public interface: verdicts, delays, results, people's commands, models, the command line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from flask import Flask, Response
from google.cloud.firestore import GeoPoint
from pydantic import BaseModel, ConfigDict, Field

from gcp_oncetask import (
    AlreadyFinishedError,
    AlreadyScheduledError,
    AlreadySettledError,
    Attempt,
    ConflictError,
    Continue,
    ExponentialBackoff,
    Fail,
    LockBusyError,
    LockedModel,
    Locker,
    NotFinishedError,
    ResultNotStoredError,
    Retry,
    Snooze,
    Status,
    TaskFailedError,
    TaskNotFoundError,
    UsageError,
)
from gcp_oncetask.flask import locked_handler
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import URL, Order, Shop, make_shop


class Receipt(BaseModel):
    total: int


def test_returned_model_is_the_result(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A handler that returns completes the chain; result() gives what it returned, typed, and says when there is none.
    """
    shop.on_charge = lambda order, attempt: Receipt(total=5)
    with pytest.raises(TaskNotFoundError):
        shop.locker.result(Order, "42")
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    with pytest.raises(NotFinishedError):
        shop.locker.result(Order, "42")
    oncetask_cloud.run_until_idle()

    assert shop.locker.result(Order, "42") == {"total": 5}
    assert Receipt(total=5) == shop.locker.result(Order, "42", as_=Receipt)


@pytest.mark.parametrize("raised", [True, False])
def test_verdicts_are_raised_or_returned(oncetask_cloud: OncetaskCloud, shop: Shop, raised: bool) -> None:
    """
    Snooze burns no attempt, Retry comes after its delay, Continue is the next step with params, Fail is final.
    """
    script: list[Any] = [
        Snooze(timedelta(minutes=3)),
        Retry("not yet", after=120),
        Continue(params={"cursor": 7}, delay=60),
        Fail("never"),
    ]
    seen: list[tuple[int, int, Any, datetime]] = []

    def step(order: Order, attempt: Attempt) -> Any:
        seen.append((attempt.sequence, attempt.number, attempt.params, oncetask_cloud.clock_now()))
        verdict = script[len(seen) - 1]
        if raised:
            raise verdict
        return verdict

    shop.on_charge = shop.on_receipt = step
    start = oncetask_cloud.clock_now()
    shop.locker.schedule(Order(id="42"), "/tasks/order", delay=30, params=[1, "a"])
    oncetask_cloud.advance(minutes=20)

    assert [s[:3] for s in seen] == [(1, 1, [1, "a"]), (1, 1, [1, "a"]), (1, 2, [1, "a"]), (2, 1, {"cursor": 7})]
    waited = [(at - start).total_seconds() for *_, at in seen]
    assert [round(w) for w in waited] == [30, 210, 330, 390]
    assert all(w >= want for w, want in zip(waited, (30, 210, 330, 390), strict=True))
    with pytest.raises(TaskFailedError, match="never"):
        shop.locker.result(Order, "42")


def test_retry_policy_makes_its_own_deliveries(oncetask_cloud: OncetaskCloud, open_shop: Callable[..., Shop]) -> None:
    """
    With a policy a failed attempt is acknowledged, and the next one comes after the policy's delay, as often as it says.
    """
    shop = open_shop(retry=ExponentialBackoff(max_attempts=3, initial=timedelta(seconds=10), jitter=0))
    shop.on_charge = lambda order, attempt: 1 / 0
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.advance(minutes=5)

    lock = shop.locker.show("orders/42")
    assert (lock.status, lock.attempts, [d.status for d in oncetask_cloud.deliveries]) == (
        Status.FAILED,
        3,
        [200, 200, 200],
    )
    gaps = [(b.at - a.at).total_seconds() for a, b in zip(lock.errors, lock.errors[1:], strict=False)]
    assert [round(gap) for gap in gaps] == [10, 20]


@pytest.mark.parametrize("value", [object(), {1: object()}, "x" * 100_000, Response("hello")])
def test_result_that_cannot_be_kept_is_lost_and_the_step_done(
    oncetask_cloud: OncetaskCloud, shop: Shop, value: Any
) -> None:
    """
    What can't be stored, is too large, or is a Flask response: the step has run and is completed, and it is said that its
    result is lost.
    """
    shop.on_charge = lambda order, attempt: value
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()

    lock = shop.locker.show("orders/42")
    assert (lock.status, lock.attempts, lock.result, lock.errors) == (Status.COMPLETED, 1, None, ())
    with pytest.raises(ResultNotStoredError, match="could not be stored: "):
        shop.locker.result(Order, "42")
    [alert] = oncetask_cloud.alerts.sent
    assert (alert.event, alert.status, alert.result_lost, len(alert.commands)) == ("failure", "completed", True, 2)
    assert [" show " in alert.commands[0], " dismiss " in alert.commands[1]] == [True, True]


def test_second_settling_is_refused_and_changes_nothing(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    schedule() and complete() commit at the call; a second one raises, and what is raised later is logged and alerted.
    """

    def charge(order: Order, attempt: Attempt) -> None:
        shop.locker.schedule(order)
        with pytest.raises(AlreadySettledError):
            shop.locker.complete(order)
        raise RuntimeError("afterwards")

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()

    assert [d.status for d in oncetask_cloud.deliveries] == [200, 200]
    assert Status.COMPLETED is shop.locker.show("orders/42").status
    assert ["afterwards" in a.reason for a in oncetask_cloud.alerts.sent] == [True]


def test_changed_fields_are_saved_and_others_left_alone(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    save() writes what was changed since loading, and nothing else; a clash is ConflictError; a missing one is told.
    """
    shop.locker.schedule(Order(id="42", amount=1), "/tasks/order")
    one, two = shop.locker.get(Order, "42"), shop.locker.get(Order, "42")
    assert one is not None
    assert two is not None
    one.note = "one"
    two.email = "two"
    shop.locker.save(one)
    shop.locker.save(two)
    stored = shop.locker.get(Order, "42")
    assert stored is not None
    assert (stored.note, stored.email) == ("one", "two")
    two.note = "two"
    with pytest.raises(ConflictError, match="note"):
        shop.locker.save(two)
    with pytest.raises(TaskNotFoundError):
        shop.locker.save(Order(id="43"))


def test_entity_of_a_deleted_document_is_refused(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    Its changed fields alone would be no entity; and a document that was made again meanwhile is another one.
    """
    shop.locker.schedule(Order(id="42", email="one"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    known = shop.locker.get(Order, "42")
    assert known is not None
    shop.locker.client.document("orders/42").delete()

    with pytest.raises(TaskNotFoundError, match="it was deleted since it was loaded"):
        shop.locker.schedule(known, "/tasks/order")

    assert not shop.locker.client.document("orders/42").get().exists
    oncetask_cloud.advance(seconds=1)
    shop.locker.schedule(Order(id="42", email="two"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    with pytest.raises(AlreadyScheduledError, match="deleted and made again"):
        shop.locker.schedule(known, "/tasks/order")


def test_complete_from_outside_ends_a_waiting_chain(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A loaded entity whose step waits can be completed; its delivery is then a duplicate.
    """
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    order = shop.locker.get(Order, "42")
    assert order is not None
    shop.locker.complete(order, result="by hand")
    oncetask_cloud.run_until_idle()

    assert (shop.charges, shop.locker.result(Order, "42")) == ([], "by hand")
    with pytest.raises(AlreadyFinishedError):
        shop.locker.complete(order)


def test_complete_from_outside_respects_a_holder(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    While somebody runs it, it can't be completed from outside.
    """
    errors: list[Exception] = []

    def charge(order: Order, attempt: Attempt) -> None:
        other = shop.locker.get(Order, "42")
        assert other is not None
        try:
            shop.locker.complete(other)
        except LockBusyError as error:
            errors.append(error)

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    assert len(errors) == 1


def test_cancel_before_and_while_running(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A waiting chain is cancelled at once, a running one at its next settling; completed never becomes cancelled.
    """
    shop.locker.schedule(Order(id="1"), "/tasks/order")
    assert shop.locker.cancel(Order, "1")
    assert not shop.locker.cancel(Order, "1")

    def charge(order: Order, attempt: Attempt) -> None:
        assert shop.locker.cancel(Order, order.id)
        attempt.renew()
        assert attempt.cancelled
        shop.locker.schedule(order)

    shop.on_charge = charge
    shop.locker.schedule(Order(id="2"), "/tasks/order")
    oncetask_cloud.run_until_idle()

    assert [shop.locker.show(f"orders/{n}").status for n in (1, 2)] == [Status.CANCELLED, Status.CANCELLED]
    assert [id_ for id_, _ in shop.charges] == ["2"]
    shop.on_charge = lambda order, attempt: None
    shop.locker.reset(Order, "2")
    oncetask_cloud.run_until_idle()
    assert not shop.locker.cancel(Order, "2")
    with pytest.raises(AlreadyScheduledError):
        shop.locker.resolve(Order, "2", "run")
    with pytest.raises(UsageError, match="'run', 'happened', 'complete' or 'fail'"):
        shop.locker.resolve(Order, "2", "perhaps")


class Colour(Enum):
    RED = "red"


class Parcel(LockedModel, collection="customers/{customer_id}/parcels"):
    model_config = ConfigDict(populate_by_name=True)

    customer_id: str
    weight: float = 0
    colour: Colour = Colour.RED
    sent: date | None = None
    price: Decimal = Decimal("1.10")
    tags: list[str] = Field(default_factory=list)
    where: dict[str, Any] = Field(default_factory=dict)
    label: str = Field(default="", alias="labelText")


def test_scheduled_entity_saves_what_changed_since(oncetask_cloud: OncetaskCloud) -> None:
    """
    What schedule() wrote is what save() compares with, changes in place included; others' changes clash as ever.
    """
    from gcp_oncetask import Config

    locker = Locker(config=Config(base_url=URL))
    oncetask_cloud.use(locker)
    parcel = Parcel(id="p1", customer_id="c1", weight=1, sent=date(2026, 1, 2), tags=["a"])
    locker.schedule(parcel, f"{URL}/parcels/big")
    reference = locker.client.document("customers/c1/parcels/p1")
    reference.update({"weight": 5.0, "colour": "blue"})
    parcel.tags.append("b")
    parcel.label = "L"
    locker.save(parcel)

    stored = reference.get().to_dict()
    assert stored is not None
    assert tuple(stored[name] for name in ("weight", "colour", "tags", "labelText", "sent")) == (
        5.0,
        "blue",
        ["a", "b"],
        "L",
        "2026-01-02",
    )
    parcel.weight = 7
    with pytest.raises(ConflictError, match="weight"):
        locker.save(parcel)


def test_models_in_subcollections_keep_their_values(oncetask_cloud: OncetaskCloud) -> None:
    """
    A collection may hold fields; values of many types survive the way through Firestore and the delivery, unchanged ones
    are not written, and unknown stored fields stay.
    """
    locker = Locker()
    app = Flask(__name__)
    oncetask_cloud.use(locker)
    oncetask_cloud.mount(URL, app)
    seen: list[Parcel] = []

    @app.post("/parcels/<kind>")
    @locked_handler(locker, Parcel)
    def handle(parcel: Parcel, attempt: Attempt, kind: str) -> str:
        seen.append(parcel.model_copy(deep=True))
        parcel.weight += 1
        return kind

    made = Parcel(
        id="p 1",
        customer_id="c1",
        weight=2,
        sent=date(2026, 1, 2),
        tags=["a"],
        where={"x": None, "y": [1, {"z": b"b"}]},
        label="L",
    )
    locker.client.document("customers/c1/parcels/p 1").set({"other": GeoPoint(1, 2), "weight": 1})
    locker.schedule(made, "/parcels/big", headers={"X-Colour": "blue"})
    oncetask_cloud.run_until_idle()

    [parcel] = seen
    assert made.model_dump() == parcel.model_dump()
    stored = locker.client.document("customers/c1/parcels/p 1").get().to_dict()
    assert stored is not None
    assert (3.0, GeoPoint(1, 2), "L", "big") == (
        stored["weight"],
        stored["other"],
        stored["labelText"],
        stored["lock"]["result"],
    )
    assert not {"id", "customer_id", "label"} & set(stored)
    loaded = locker.get(Parcel, "p 1", customer_id="c1")
    assert loaded is not None
    assert "lock" not in loaded.model_dump()
    with pytest.raises(UsageError, match="needs customer_id="):
        locker.get(Parcel, "p 1")


def test_contents_switched_off_cost_one_read(oncetask_cloud: OncetaskCloud) -> None:
    """
    Without contents in the delivery, or with too large ones, each claim reads once; nothing else changes.
    """
    from gcp_oncetask import Config

    for config, note in ((Config(inline_limit=0), ""), (Config(), "x" * 20_000)):
        shop = make_shop(config)
        oncetask_cloud.use(shop.locker)
        oncetask_cloud.mount(URL, shop.app)
        shop.locker._runtime.store.estimate()
        shop.locker._runtime.register("orders", URL)
        firestore = oncetask_cloud.local.firestore
        firestore.reset_counts()
        shop.locker.schedule(Order(id=f"o{len(note)}", note=note), "/tasks/order")
        oncetask_cloud.run_until_idle()

        assert dict(firestore.counts) == {"Commit": 5, "GetDocument": 2}
        assert (firestore.reads, firestore.writes) == (2, 5)


def test_delay_past_the_horizon_is_relayed(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A task due in a hundred days runs in a hundred days, though Cloud Tasks looks only thirty ahead.
    """
    at = oncetask_cloud.clock_now() + timedelta(days=100)
    shop.locker.schedule(Order(id="42"), "/tasks/order", at=at)
    oncetask_cloud.advance(days=99)
    assert shop.charges == []

    oncetask_cloud.advance(days=2)
    assert Status.COMPLETED is shop.locker.show("orders/42").status


def test_two_lockers_do_not_meet(oncetask_cloud: OncetaskCloud) -> None:
    """
    Two lockers of two environments in one process keep to their own documents.
    """
    from gcp_oncetask import Config

    shops = [make_shop(Config(env=env, base_url=f"https://{n}.test")) for n, env in enumerate(("one", "two"))]
    for number, shop in enumerate(shops):
        oncetask_cloud.use(shop.locker)
        oncetask_cloud.mount(f"https://{number}.test", shop.app)
        shop.locker.schedule(Order(id=f"o{number}"), f"https://{number}.test/tasks/order")
    oncetask_cloud.run_until_idle()

    assert [[id_ for id_, _ in shop.charges] for shop in shops] == [["o0"], ["o1"]]


def cli(cloud: OncetaskCloud, *arguments: str) -> subprocess.CompletedProcess[str]:
    """
    Run the command line against *cloud*.
    """
    settings = {
        **{k: v for k, v in os.environ.items() if not k.startswith("ONCE")},
        "FIRESTORE_EMULATOR_HOST": cloud.local.firestore.address,
        "CLOUD_TASKS_EMULATOR_HOST": cloud.local.tasks.address,
        "CLOUD_LOGGING_EMULATOR_HOST": cloud.local.logging.address,
        "GOOGLE_CLOUD_PROJECT": cloud.local.project,
        "ONCETASK_LOCATION": cloud.local.location,
        "ONCETASK_AUDIENCE": "https://oncetask.test",
        "ONCETASK_SERVICE_ACCOUNT": "oncetask@demo-local.iam.gserviceaccount.com",
    }
    command = [sys.executable, "-m", "gcp_oncetask", *arguments]
    return subprocess.run(command, env=settings, capture_output=True, text=True, check=False)


def test_command_line_shows_cancels_resets_and_sweeps(cloud_on_ports: OncetaskCloud, shop: Shop) -> None:
    """
    What the alert prints works: show, cancel, reset, sweep; refusals exit 1 with a sentence, wrong use 2.
    """
    shop.locker.schedule(Order(id="42"), "/tasks/order", params={"secret": 1})
    shown = cli(cloud_on_ports, "show", "orders/42")
    assert (shown.returncode, "status:      scheduled" in shown.stdout) == (0, True), shown.stderr
    assert "secret" not in shown.stdout
    assert json.loads(cli(cloud_on_ports, "show", "orders/42", "--json").stdout)["params"] == {"secret": 1}

    assert "cancelled, cancellation recorded" in cli(cloud_on_ports, "cancel", "orders/42").stdout
    assert "scheduled as sequence 2, dispatched" in cli(cloud_on_ports, "reset", "orders/42").stdout
    cloud_on_ports.run_until_idle()
    assert [id_ for id_, _ in shop.charges] == ["42"]
    swept = cli(cloud_on_ports, "sweep", "--collection", "orders")
    assert (swept.returncode, swept.stdout.startswith("0 looked")) == (0, True), swept.stderr

    gone = cli(cloud_on_ports, "show", "orders/nobody")
    assert gone.returncode == 1
    assert gone.stderr.startswith("gcp_oncetask: orders/nobody does not exist or was never scheduled.")
    assert cli(cloud_on_ports, "resolve", "orders/42", "run").returncode == 1
    assert cli(cloud_on_ports, "sweep").stdout.endswith("(in onceLocks, onceTasks, orders)\n")
    assert "not the path of a document" in cli(cloud_on_ports, "show", "orders").stderr


def test_sweep_route_needs_identity_and_says_what_it_did(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    The blueprint's route sweeps for a verified caller, and for nobody else.
    """
    from gcp_oncetask.testing.cloud import ACCOUNT

    client = shop.app.test_client()
    assert client.post("/oncetask/sweep").status_code == 401
    token = oncetask_cloud.local.oidc.token("https://oncetask.test", ACCOUNT)
    answer = client.post("/oncetask/sweep", headers={"Authorization": f"Bearer {token}"})

    assert (answer.status_code, answer.json["looked"]) == (200, 0)


def test_attempt_tells_its_deadline(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    deadline is the earliest of run limit, dispatch deadline and request time-out; remaining() shrinks with time.
    """
    found: list[float] = []

    def charge(order: Order, attempt: Attempt) -> None:
        found.append(attempt.remaining())
        assert attempt.delivery is not None
        assert attempt.delivery.queue == "default"
        assert round((attempt.deadline - oncetask_cloud.clock_now()).total_seconds()) == 300
        oncetask_cloud.advance(seconds=20)
        found.append(attempt.remaining())

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()

    assert [round(f) for f in found] == [300, 280]
