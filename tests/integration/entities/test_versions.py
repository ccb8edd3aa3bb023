"""
Entities in a rolling deployment: two versions of a model at once, and deliveries at the route of another model.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from google.cloud.firestore import DELETE_FIELD, transactional

from gcp_oncetask import Attempt, Config, Continue, LockedModel, Locker, Snooze, Status
from gcp_oncetask.checks.fingerprints import fingerprint
from gcp_oncetask.flask import locked_handler
from gcp_oncetask.store.registry import DECLARED
from gcp_oncetask.testing.cloud import ACCOUNT, OncetaskCloud

URL = "https://parcels.test"
READ = {"X-CloudTasks-TaskRetryCount": "3", "X-CloudTasks-QueueName": "q"}


class Old(LockedModel, collection="crates", extra="forbid"):
    weight: int = 1


class New(LockedModel, collection="crates", extra="forbid"):
    weight: int = 1
    fragile: bool = True


class Invoice(LockedModel, collection="buyers/{customer}/invoices"):
    customer: str
    amount: int = 0


class Instance:
    """
    An instance of one version, and what its handlers did.
    """

    def __init__(self, cloud: OncetaskCloud, model: type[LockedModel]) -> None:
        self.cloud, self.model = cloud, model
        # What is read and written is a delivery's own, and not the alert's window.
        self.locker = Locker(config=Config(base_url=URL, alert_window=0.0))
        self.app = Flask("crates")
        cloud.use(self.locker)
        self.ran: list[Any] = []
        self.act: Any = lambda entity, attempt: None

        @self.app.post("/parcel")
        @locked_handler(self.locker, model)
        def view(entity: Any, attempt: Attempt) -> Any:
            self.ran.append(entity)
            return self.act(entity, attempt)

        @self.app.post("/invoice")
        @locked_handler(self.locker, Invoice)
        def invoice(entity: Invoice, attempt: Attempt) -> None:
            self.ran.append(entity)

    def post(self, route: str = "/parcel", headers: dict[str, str] = READ) -> Any:
        """
        Deliver, here, what was queued last.
        """
        body = bytes(self.cloud.local.tasks.tasks()[-1].http_request.body)
        token = self.cloud.local.oidc.token("https://oncetask.test", ACCOUNT)
        return self.app.test_client().post(route, data=body, headers=headers | {"Authorization": f"Bearer {token}"})

    def outcome(self) -> str:
        """
        What is answered to it.
        """
        return str(self.post().json["outcome"])

    @property
    def lock(self) -> Any:
        """
        The record of the parcel.
        """
        return self.locker.show("crates/1")

    @property
    def written_by(self) -> str | None:
        """
        The fingerprint of its fields, as far as it counts.
        """
        return self.lock.written_by(str(self.lock.sequence))


@pytest.fixture
def old(oncetask_cloud: OncetaskCloud) -> Instance:
    """
    An instance of the old version.
    """
    return Instance(oncetask_cloud, Old)


@pytest.fixture
def new(oncetask_cloud: OncetaskCloud) -> Instance:
    """
    An instance of the new version.
    """
    return Instance(oncetask_cloud, New)


def test_twenty_deliveries_to_both_versions_run_the_step_once(old: Instance, new: Instance) -> None:
    """
    What the old version can't read it leaves alone: it writes nothing.
    """
    new.locker.schedule(New(id="1"), "/parcel")
    before, writes = new.lock, new.cloud.local.firestore.writes
    contents = {"X-CloudTasks-TaskRetryCount": "0", "X-CloudTasks-QueueName": "q"}
    assert [old.post(headers=headers).json["outcome"] for headers in (contents, READ)] == ["unhandled"] * 2
    assert (new.lock, new.cloud.local.firestore.writes) == (before, writes)
    found = [instance.outcome() for instance in (old, new) * 9]
    assert found == ["unhandled", "completed"] + ["duplicate"] * 16
    assert (old.ran, len(new.ran), new.lock.attempts) == ([], 1, 1)


def test_whatever_saves_fields_stores_their_fingerprint(old: Instance, new: Instance) -> None:
    """
    Scheduling, a next step, a snooze, a checkpoint, the end, outside and inside of a handler and within transactions; and a
    reset, which runs the same fields again.
    """
    two, one = fingerprint(New), fingerprint(Old)
    old.locker.schedule(Old(id="1"), "/parcel")
    assert old.written_by == one
    assert one != two

    def checkpoint(entity: Any, attempt: Attempt) -> Any:
        entity.fragile = False
        new.locker.save(entity)
        assert new.written_by == two
        return Snooze(0)

    new.act = checkpoint
    assert new.outcome() == "snoozed"
    assert new.written_by == two
    assert old.outcome() == "unhandled"
    new.act = lambda entity, attempt: Continue()
    assert new.outcome() == "continued"
    assert (new.lock.sequence, new.written_by) == (2, two)
    new.act = lambda entity, attempt: new.locker.schedule(entity)
    new.outcome()
    assert (new.lock.sequence, new.written_by) == (3, two)

    def together(entity: Any, attempt: Attempt) -> None:
        with attempt.transaction() as transaction:
            new.locker.schedule(entity, transaction=transaction)

    new.act = together
    new.outcome()
    assert (new.lock.sequence, new.written_by) == (4, two)
    new.act = lambda entity, attempt: None
    new.outcome()
    assert (new.lock.status, new.written_by) == (Status.COMPLETED, two)
    new.locker.reset(New, "1")
    assert (new.lock.sequence, new.written_by) == (5, two)
    assert old.outcome() == "unhandled"
    new.locker.client.document("crates/1").update({"lock.fingerprint": DELETE_FIELD})
    new.locker.complete(new.locker.get(New, "1"))
    assert (new.lock.status, new.written_by) == (Status.COMPLETED, two)
    join = transactional(lambda transaction: new.locker.schedule(entity, "/parcel", transaction=transaction))
    entity = new.locker.get(New, "1")
    new.locker.client.document("crates/1").update({"lock.fingerprint": DELETE_FIELD})
    join(new.locker.client.transaction())
    assert (new.lock.sequence, new.written_by) == (6, two)


@pytest.mark.parametrize("how", ["the same", "absent", "of an earlier sequence"])
def test_fields_that_do_not_fit_are_a_failed_attempt_as_ever(old: Instance, new: Instance, how: str) -> None:
    """
    Where those of this sequence are not known to be those of another version: an older release schedules without fingerprints,
    and leaves the one that is there.
    """
    new.locker.schedule(New(id="1"), "/parcel")
    document = new.locker.client.document("crates/1")
    instance = new if how == "the same" else old
    match how:
        case "the same":
            document.update({"surprise": 1})
        case "absent":
            document.update({"lock.fingerprint": DELETE_FIELD})
        case _:
            document.update({"lock.fingerprint.dataHash": "0"})
    assert instance.outcome() == "failed-attempt"
    assert (instance.lock.attempts, instance.ran) == (1, [])
    assert "does not fit" in instance.lock.errors[0].message


def test_after_seven_days_a_person_decides(old: Instance, new: Instance) -> None:
    """
    From when the step was ready, where that is known; else it stays.
    """
    new.locker.schedule(New(id="1"), "/parcel")
    new.cloud.clock.advance(8 * 86_400)
    new.locker.client.document("crates/1").update({"lock.readyAt": DELETE_FIELD})
    assert old.outcome() == "unhandled"
    since = {"sequence": 1, "token": 0, "at": new.cloud.clock_now() - timedelta(days=7)}
    new.locker.client.document("crates/1").update({"lock.readyAt": since})
    assert old.outcome() == "quarantined"
    assert (new.lock.status, len(new.cloud.alerts.sent)) == (Status.QUARANTINED, 1)
    new.locker.resolve(New, "1", "run")
    assert new.outcome() == "completed"


# --- the wrong route ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entity", "route", "said"),
    [
        (
            Invoice(id="7", customer="ann"),
            "/parcel",
            (
                "buyers/ann/invoices/7 is a document of Invoice ('buyers/{customer}/invoices'), and this route is that "
                "of New ('crates')"
            ),
        ),
        (
            New(id="1"),
            "/invoice",
            (
                "crates/1 is a document of New ('crates'), and this route is that of Invoice "
                "('buyers/{customer}/invoices')"
            ),
        ),
    ],
)
def test_delivery_at_the_route_of_another_model_is_refused_before_the_claim(
    new: Instance, entity: LockedModel, route: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Nothing is read or written, a person is told; at its own route it runs.
    """
    monkeypatch.setitem(DECLARED, "crates", New)
    own = "/invoice" if route == "/parcel" else "/parcel"
    new.locker.schedule(entity, own)
    firestore = new.cloud.local.firestore
    before = firestore.reads, firestore.writes
    answer = new.post(route)
    assert (answer.json["outcome"], answer.status_code) == ("rejected", 200)
    assert answer.json["reason"] == said
    assert (firestore.reads, firestore.writes) == before
    [alert] = new.cloud.alerts.sent
    assert said in alert.reason
    assert new.post(own).json["outcome"] == "completed"


def test_delivery_of_no_known_model_is_refused_too(new: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(DECLARED, "crates")
    new.locker.schedule(New(id="1"), "/parcel")
    reason = new.post("/invoice").json["reason"]
    assert reason.startswith("crates/1 is a document of no model that is known here, and this route is that of Invoice")
