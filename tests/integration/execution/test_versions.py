"""
A rolling deployment: two versions of a program at once, of which one can't read what the other has written.
"""

from __future__ import annotations

import itertools
from datetime import timedelta
from enum import Enum
from typing import Any

import pytest
from google.cloud.firestore import DELETE_FIELD, transactional
from pydantic import Field

from gcp_oncetask import Attempt, Continue, FixedDelay, Status
from gcp_oncetask.checks.fingerprints import fingerprint
from gcp_oncetask.rules.record import Event
from gcp_oncetask.tasks import Recurrence, TaskData, cron
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker
from tests.support.tasks import URL, Service

SECOND = FixedDelay(delay=timedelta(seconds=1))
READ = {"X-CloudTasks-TaskRetryCount": "3", "X-CloudTasks-QueueName": "q"}
"""Headers of a redelivery: the document is read."""
FIRST = READ | {"X-CloudTasks-TaskRetryCount": "0"}
"""Headers of a first delivery: the document is that which came with it."""


class Base(TaskData):
    """
    What all versions of a kind have.
    """

    name: str
    key: str | None = None

    def task_id(self) -> str:
        return self.name

    def resource_key(self) -> str | None:
        return self.key


class Old(Base, kind="work"):
    note: str = ""


class New(Base, kind="work"):
    note: str = ""
    tip: int = 5


class Needed(Base, kind="work"):
    note: str = ""
    tip: int


class Renamed(Base, kind="work"):
    remark: str = ""


class Retyped(Base, kind="work"):
    note: int = 1


class Bounded(Base, kind="work"):
    note: str = Field("", max_length=3)


class Longer(Base, kind="work"):
    note: str = Field("long", max_length=4)


class Colour(Enum):
    RED = "red"


class MoreColours(Enum):
    RED = "red"
    BLUE = "blue"


class Coloured(Base, kind="work"):
    colours: tuple[Colour, ...] = (Colour.RED,)


class Painted(Base, kind="work"):
    colours: tuple[MoreColours, ...] = (MoreColours.BLUE,)


CHANGES = {
    "a field more": (Old, New),
    "a field less": (Needed, Old),
    "a field renamed": (Old, Renamed),
    "another type": (Retyped, Old),
    "a wider bound": (Bounded, Longer),
    "one more value": (Coloured, Painted),
}
"""The version that can't read what the other one writes, and that other one."""


class Fleet:
    """
    Instances of two versions behind one URL; deliveries go to each in turn, the first one first.
    """

    def __init__(self, cloud: OncetaskCloud, old: type[TaskData], new: type[TaskData]) -> None:
        self.cloud = cloud
        self.models = old, new
        self.old, self.new = Service(cloud), Service(cloud)
        turns = itertools.cycle((self.old.app, self.new.app))
        cloud.mount(URL, lambda environ, start: next(turns).wsgi_app(environ, start))

    def handle(self) -> Fleet:
        """
        Both handle their version of the kind.
        """
        for service, model in zip((self.old, self.new), self.models, strict=True):
            service.handle(model, retry=SECOND)
        return self

    def body(self, name: str = "a") -> bytes:
        """
        The delivery made last of a task.
        """
        path = self.new.path(name, self.models[1]).encode()
        return [body for body in self.new.bodies() if b'"%s"' % path in body][-1]

    def lock(self, name: str = "a") -> Any:
        """
        The record of a task.
        """
        return self.new.lock(name, self.models[1])

    def written_by(self, name: str = "a") -> str | None:
        """
        The fingerprint of its payload, as far as it counts.
        """
        return self.lock(name).written_by(self.new.stored(name, self.models[1])["dataHash"])

    def document(self, name: str = "a") -> Any:
        """
        Its document, for what others write.
        """
        return self.new.manager.locker.client.document(self.new.path(name, self.models[1]))


@pytest.fixture
def fleet(oncetask_cloud: OncetaskCloud) -> Fleet:
    """
    An old and a new instance.
    """
    return Fleet(oncetask_cloud, Old, New).handle()


def outcome(service: Service, body: bytes, headers: dict[str, str] = FIRST) -> str:
    """
    What *service* answers to a delivery.
    """
    return str(service.post(body, **headers).json["outcome"])


# --- one delivery -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("headers", [FIRST, READ])
def test_twenty_deliveries_to_both_versions_run_the_task_once(
    oncetask_cloud: OncetaskCloud, change: str, headers: dict[str, str]
) -> None:
    """
    With the contents that came with the delivery, and with what is read: the one that can't read it burns nothing, and writes
    nothing.
    """
    fleet = Fleet(oncetask_cloud, *CHANGES[change]).handle()
    fleet.new.manager.create_task(fleet.models[1](name="a"))
    body, before, writes = fleet.body(), fleet.lock(), oncetask_cloud.local.firestore.writes
    assert [outcome(fleet.old, body, headers) for _ in range(5)] == ["unhandled"] * 5
    assert (fleet.lock(), oncetask_cloud.local.firestore.writes) == (before, writes)
    found = [outcome(service, body, READ) for service in (fleet.old, fleet.new) * 8]
    assert found == ["unhandled", "completed"] + ["duplicate"] * 14
    assert (fleet.old.ran, fleet.new.ran, fleet.lock().attempts) == ([], ["a"], 1)
    assert oncetask_cloud.alerts.sent == []


def test_queue_delivers_it_again_until_the_new_version_gets_it(fleet: Fleet) -> None:
    """
    With its back-off, through failures of the handler: each attempt is one of the new version.
    """
    fleet.new.act = lambda task, attempt: 1 / (attempt.number - 1)
    fleet.new.manager.create_task(New(name="a"))
    fleet.cloud.advance(minutes=5)
    assert [each.status for each in fleet.cloud.deliveries] == [409, 200, 409, 200]
    assert (fleet.old.ran, fleet.new.ran, fleet.lock().status) == ([], ["a", "a"], Status.COMPLETED)
    assert [each.message for each in fleet.lock().errors] == ["ZeroDivisionError: division by zero"]


def test_what_both_versions_can_read_is_run_by_either(fleet: Fleet) -> None:
    fleet.old.manager.create_task(Old(name="a"))
    assert outcome(fleet.new, fleet.body()) == "completed"
    assert fleet.new.tasks[0].data == New(name="a", tip=5)


class Leaving(Base, kind="work"):
    note: str = ""
    tip: int = Field(0, exclude=True)


def test_field_is_given_up_in_two_deployments(oncetask_cloud: OncetaskCloud) -> None:
    """
    A version that reads it and stores it no more comes in between: each version reads the payloads of its neighbours.
    """
    fleet = Fleet(oncetask_cloud, New, Leaving).handle()
    fleet.old.manager.create_task(New(name="a", tip=7))
    assert outcome(fleet.new, fleet.body()) == "completed"
    assert fleet.new.tasks[0].data == Leaving(name="a", tip=7)
    fleet.new.manager.create_task(Leaving(name="b"))
    assert "tip" not in fleet.new.stored("b", Leaving)["data"]
    assert outcome(fleet.old, fleet.body("b")) == "completed"
    fleet = Fleet(oncetask_cloud, Leaving, Old).handle()
    fleet.old.manager.create_task(Leaving(name="c"))
    assert outcome(fleet.new, fleet.body("c")) == "completed"


def test_person_is_told_of_it_as_of_an_unknown_kind(fleet: Fleet) -> None:
    """
    By the sweep; why it can't be read is in the log.
    """
    fleet.old.cloud.mount(URL, fleet.old.app)
    fleet.new.manager.create_task(New(name="a"))
    for _ in range(10):
        fleet.cloud.advance(minutes=5)
        fleet.cloud.sweep()
    [alert] = fleet.cloud.alerts.sent
    assert "the last one answered HTTP 409" in alert.reason


def test_generator_is_left_to_the_version_whose_kind_recurs(oncetask_cloud: OncetaskCloud) -> None:
    """
    Its fields are the same; the other version would run it as a task, and end it.
    """

    class Nightly(Base, kind="work"):
        note: str = ""

        def recurrence(self) -> Recurrence | None:
            return cron("0 0 * * *", tz="UTC")

    fleet = Fleet(oncetask_cloud, Old, Nightly).handle()
    fleet.new.manager.create_task(Nightly(name="a"))
    body = fleet.body()
    oncetask_cloud.clock.advance(86_400)
    assert [outcome(service, body) for service in (fleet.old, fleet.new)] == ["unhandled", "continued"]


# --- which fingerprint counts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["the same", "absent", "of another payload"])
def test_payload_that_does_not_fit_is_a_failed_attempt_as_ever(fleet: Fleet, how: str) -> None:
    """
    Where the present payload is not known to be that of another version. An older release stores payloads without fingerprints,
    and leaves the one that is there.
    """
    fleet.new.manager.create_task(New(name="a"))
    service = fleet.new if how == "the same" else fleet.old
    match how:
        case "the same":
            fleet.document().update({"data": {"surprise": 1}})
        case "absent":
            fleet.document().update({"lock.fingerprint": DELETE_FIELD})
        case _:
            fleet.document().update({"data": {"surprise": 1}, "dataHash": "0" * 64})
    assert outcome(service, fleet.body(), READ) == "retrying"
    lock = fleet.lock()
    assert (lock.attempts, service.ran) == (1, [])
    assert "does not fit" in lock.errors[0].message


class OldLatest(Old, kind="latest", on_conflict="replace"):
    pass


class NewLatest(New, kind="latest", on_conflict="replace"):
    def recurrence(self) -> Recurrence | None:
        return cron("0 0 * * *", tz="UTC") if self.tip == 0 else None


@pytest.fixture
def latest(oncetask_cloud: OncetaskCloud) -> Fleet:
    """
    Versions of a kind whose newest payload counts.
    """
    return Fleet(oncetask_cloud, OldLatest, NewLatest).handle()


OLD, NEW = fingerprint(OldLatest), fingerprint(NewLatest)


def test_whatever_creates_a_payload_stores_its_fingerprint(latest: Fleet) -> None:
    """
    One by one, many at once, within a transaction, as the occurrence of a generator.
    """
    manager = latest.new.manager
    manager.create_task(NewLatest(name="one"))
    manager.create_tasks([NewLatest(name="bulk")])
    client = manager.locker.client
    join = transactional(lambda transaction: manager.create_task(NewLatest(name="joined"), transaction=transaction))
    join(client.transaction())
    manager.create_task(NewLatest(name="often", tip=0))
    latest.cloud.clock.advance(86_400)
    assert outcome(latest.new, latest.body("often")) == "continued"
    path = latest.new.stored("often", NewLatest)["lastOccurrence"]
    found = client.document(path).get().to_dict()
    assert found["lock"]["fingerprint"] == {"dataHash": found["dataHash"], "model": NEW}
    assert {latest.written_by(name) for name in ("one", "bulk", "joined", "often")} == {NEW}


def test_whatever_replaces_a_payload_stores_its_fingerprint(latest: Fleet) -> None:
    """
    While the task waits, while it runs, when it has ended; a generator that is declared again. Each time the fingerprint is that
    of the payload that is there.
    """
    new, old = latest.new.manager, latest.old.manager
    new.create_task(NewLatest(name="a"))
    old.create_task(OldLatest(name="a", note="it waits"))
    assert latest.written_by() == OLD
    new.create_task(NewLatest(name="a", note="it waits"))
    assert latest.written_by() == NEW

    def meanwhile(task: Any, attempt: Attempt) -> Any:
        latest.new.act = lambda task, attempt: None
        old.create_task(OldLatest(name="a", note="it runs"))
        assert latest.written_by() == OLD
        return Continue(data=NewLatest(name="a", note="too late"))

    latest.new.act = meanwhile
    assert outcome(latest.new, latest.body()) == "continued"
    assert (latest.written_by(), latest.new.stored("a", NewLatest)["data"]["note"]) == (OLD, "it runs")
    assert outcome(latest.new, latest.body(), READ) == "completed"
    new.create_task(NewLatest(name="a", note="it has ended"))
    assert latest.written_by() == NEW
    new.create_task(NewLatest(name="often", tip=0))
    latest.document("often").update({"lock.fingerprint": DELETE_FIELD})
    new.create_task(NewLatest(name="often", tip=0, note="again"))
    assert latest.written_by("often") == NEW


def test_next_step_stores_the_fingerprint_of_its_payload(fleet: Fleet) -> None:
    """
    A step without a payload of its own keeps the one that is there.
    """
    fleet.old.manager.create_task(Old(name="a"))
    ends = iter([Continue(), Continue(data=New(name="a", tip=1)), Continue(data={"name": "a", "tip": 2}), None])
    fleet.new.act = lambda task, attempt: next(ends)
    written = []
    for _ in range(4):
        written.append(fleet.written_by())
        outcome(fleet.new, fleet.body(), READ)
    assert written == [fingerprint(Old), fingerprint(Old), fingerprint(New), fingerprint(New)]


def test_recovery_stores_the_fingerprint_with_a_logged_payload(oncetask_cloud: OncetaskCloud) -> None:
    """
    The commit of a next step is lost, and the sweeper writes what the log says of it.
    """
    fleet = Fleet(oncetask_cloud, Old, New)
    fleet.new = Service(oncetask_cloud, log_contents=True).handle(New, retry=SECOND)
    fleet.old.manager.create_task(Old(name="a"))

    def step(task: Any, attempt: Attempt) -> Any:
        oncetask_cloud.faults.fail("Commit", times=None)
        return Continue(data=New(name="a", tip=1))

    fleet.new.act = step
    assert outcome(fleet.new, fleet.body()) == "unavailable"
    oncetask_cloud.faults.clear()
    assert fleet.written_by() == fingerprint(Old)
    oncetask_cloud.clock.advance(1000)
    oncetask_cloud.sweep()
    assert (fleet.lock().sequence, fleet.written_by()) == (2, fingerprint(New))


# --- after the claim --------------------------------------------------------------------------------------------------


def test_payload_that_comes_between_claim_and_handler_is_given_back(latest: Fleet) -> None:
    """
    The answer to the claim is lost, and meanwhile the new version stores a newer payload: the old one has the lease, can't read
    it, and gives it back.
    """
    latest.old.manager.create_task(OldLatest(name="a"))
    store = latest.old.manager.locker._runtime.store
    get = store.get

    def get_late(path: str) -> Any:
        store.get = get
        latest.new.manager.create_task(NewLatest(name="a"))
        return get(path)

    latest.cloud.faults.fail("Commit", when="after")
    store.get = get_late
    assert outcome(latest.old, latest.body()) == "unhandled"
    lock = latest.lock()
    assert (lock.status, lock.attempts, lock.token, latest.old.ran) == (Status.SCHEDULED, 0, 1, [])
    assert outcome(latest.new, latest.body(), READ) == "completed"
    assert latest.new.ran == ["a"]


def test_expired_lease_of_what_it_cannot_read_is_released_and_not_taken(fleet: Fleet) -> None:
    """
    The new version's process died: the old one judges it, and dispatches the task again.
    """
    fleet.new.manager.create_task(New(name="a"))
    fleet.new.die_once()
    body = fleet.body()
    fleet.new.post(body, **FIRST)
    fleet.cloud.clock.advance(1000)
    assert outcome(fleet.old, body, READ) == "retrying"
    lock = fleet.lock()
    assert (lock.status, lock.token, fleet.old.ran) == (Status.SCHEDULED, 1, [])
    fleet.cloud.clock.advance(5)
    assert outcome(fleet.new, fleet.body(), READ) == "completed"


# --- after seven days -------------------------------------------------------------------------------------------------


def test_after_seven_days_a_person_decides(fleet: Fleet) -> None:
    """
    Told once; no former holder can settle it, no sweep asks the logs about one, and a word of a person runs it again.
    """
    fleet.new.manager.create_task(New(name="a"))
    body = fleet.body()
    fleet.cloud.clock.advance(7 * 86_400 - 10)
    assert outcome(fleet.old, body, READ) == "unhandled"
    fleet.cloud.clock.advance(11)
    fleet.cloud.faults.fail("Commit", when="after")
    assert outcome(fleet.old, body, READ) == "quarantined"
    assert outcome(fleet.new, body, READ) == "duplicate"
    [alert] = fleet.cloud.alerts.sent
    assert (alert.event, "for 7 days no version could read it" in alert.reason) == (
        Event.QUARANTINE,
        True,
    )
    lock = fleet.lock()
    assert (lock.status, lock.attempts, lock.due) == (Status.QUARANTINED, 0, None)
    for _ in range(3):
        fleet.cloud.clock.advance(3600)
        assert fleet.cloud.sweep().looked == 0
    fleet.new.manager.locker.resolve_path(fleet.new.path("a", New), "run")
    assert outcome(fleet.new, fleet.body(), READ) == "completed"
    assert len(fleet.cloud.alerts.sent) == 1


def test_seven_days_count_from_when_the_payload_was_ready(fleet: Fleet) -> None:
    """
    ``readyAt`` where it counts; a task that was not to run before is not late.
    """
    fleet.new.manager.create_task(New(name="a"))
    body = fleet.body()
    fleet.cloud.clock.advance(10 * 86_400)
    now = fleet.cloud.clock_now()
    fleet.document().update({"lock.readyAt": {"sequence": 1, "token": 0, "at": now - timedelta(days=1)}})
    assert outcome(fleet.old, body, READ) == "unhandled"
    fleet.document().update({"lock.readyAt": DELETE_FIELD, "lock.waitUntil": now - timedelta(days=2)})
    assert outcome(fleet.old, body, READ) == "unhandled"
    fleet.document().update({"lock.readyAt": {"sequence": 1, "token": 9, "at": now}, "lock.waitUntil": DELETE_FIELD})
    assert outcome(fleet.old, body, READ) == "quarantined"


# --- batches and workers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unread", ["b", "a"])
def test_batch_goes_without_what_it_cannot_read(fleet: Fleet, oncetask_cloud: OncetaskCloud, unread: str) -> None:
    """
    One that rides along, and one that is first: neither fails the others nor holds up the key.
    """
    fleet = Fleet(oncetask_cloud, Old, New)
    fleet.old.handle_keys(Old)
    fleet.new.handle_keys(New)
    for name in "abc":
        model, service = (New, fleet.new) if name == unread else (Old, fleet.old)
        service.manager.create_task(model(name=name, key="K"))
    first = "a" if unread != "a" else "b"
    found = {name: outcome(fleet.old, fleet.body(name), READ) for name in sorted("abc", key=lambda name: name != first)}
    others = sorted(set("abc") - {unread})
    assert fleet.old.batches == [others]
    assert found == {name: "unhandled" if name == unread else found[name] for name in "abc"}
    assert {fleet.lock(name).status for name in others} == {Status.COMPLETED}
    assert (fleet.lock(unread).attempts, fleet.lock(unread).token) == (0, 0)
    assert outcome(fleet.new, fleet.body(unread), READ) == "completed"


def test_rider_whose_validator_fails_fails_alone(oncetask_cloud: OncetaskCloud) -> None:
    """
    Whatever it raises: the others are run.
    """
    service = Service(oncetask_cloud)

    class Touchy(Base, kind="work"):
        def model_post_init(self, _: Any) -> None:
            if self.name == "b" and armed:
                raise KeyError("b")

    armed: list[int] = []
    service.handle_keys(Touchy)
    for name in "abc":
        service.manager.create_task(Touchy(name=name, key="K"))
    armed.append(1)
    body = next(body for body in service.bodies() if b":a" in body)
    service.post(body)
    assert service.batches == [["a", "c"]]
    armed.clear()
    assert "KeyError" in service.lock("b", Touchy).errors[0].message


class OldPulled(Old, kind="pulled", pull=True):
    pass


class NewPulled(New, kind="pulled", pull=True):
    pass


def test_workers_leave_it_to_those_of_the_new_version(oncetask_cloud: OncetaskCloud) -> None:
    """
    However many there are, in whatever shard: the others are run, and each of them is looked at once.
    """
    fleet = Fleet(oncetask_cloud, OldPulled, NewPulled).handle()
    fleet.new.manager.create_tasks([NewPulled(name=f"new-{number}") for number in range(20)])
    fleet.old.manager.create_tasks([OldPulled(name=f"old-{number}") for number in range(20)])
    worker = Worker(fleet.old.manager, concurrency=2, listen=False)
    assert worker.drain() == 20
    assert set(fleet.old.ran) == {f"old-{number}" for number in range(20)}
    assert worker.done == 20
    assert {fleet.lock(f"new-{number}").token for number in range(20)} == {0}
    assert Worker(fleet.new.manager, listen=False).drain() == 20


def test_worker_looks_at_it_less_and_less_often(oncetask_cloud: OncetaskCloud) -> None:
    """
    After 5 s, then 10 s, 20 s and so on, up to 5 minutes.
    """
    fleet = Fleet(oncetask_cloud, OldPulled, NewPulled).handle()
    fleet.new.manager.create_task(NewPulled(name="a"))
    worker = Worker(fleet.old.manager, listen=False)
    worker._looking._alive = lambda: True
    looked = []
    for second in range(0, 1000, 5):
        for snapshot in worker._looking.due("pulled", range(64), 1):
            looked.append(second)
            worker._run_one("pulled", snapshot)
        fleet.cloud.clock.advance(5)
    assert looked == [0, 5, 15, 35, 75, 155, 315, 615, 915]
    assert (worker.done, fleet.lock().token) == (0, 0)


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_fingerprints_cost_no_call_and_are_made_once(oncetask_cloud: OncetaskCloud) -> None:
    """
    Of a thousand tasks that are created and of those that run: no description of the model is made for each, and no payload is
    validated that bears the fingerprint of this version.
    """

    class Counted(Base, kind="counted"):
        def model_post_init(self, _: Any) -> None:
            validated.append(self.name)

    validated: list[str] = []
    service = Service(oncetask_cloud).handle(Counted)
    service.start_counting()
    before = fingerprint.cache_info()
    service.manager.create_tasks([Counted(name=str(number)) for number in range(100)])
    validated.clear()
    service.cloud.run_until_idle()
    after = fingerprint.cache_info()
    assert after.misses - before.misses == 1
    assert sorted(validated) == sorted(str(number) for number in range(100))
    assert service.firestore() == {"BatchWrite": 2, "Commit": 200}
