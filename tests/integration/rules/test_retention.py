"""
What ends in Firestore's TTL: only what has ended and owes nothing, and what was deleted by it is missed by nobody.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import grpc
import pytest

from gcp_oncetask import AlreadyFinishedError, Fail, Snooze, Status, once
from gcp_oncetask.decorators import document_id
from gcp_oncetask.tasks import Recurrence, TaskData
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.expiry import HOUR, delete_expired, expiries, pass_hours
from tests.support.tasks import URL, Fleeting, Service, Work

DAY = timedelta(days=1)


class Brief(Work, kind="brief", retention=HOUR):
    pass


class Held(Work, kind="held", retention=HOUR):
    pass


class Instant(Work, kind="instant", retention=60):
    pass


class Ticking(TaskData, kind="ticking", retention=HOUR):
    overlap: Any = "skip"
    misfire: Any = "latest"
    count: int = 0

    def task_id(self) -> str:
        return "t"

    def recurrence(self) -> Recurrence:
        rule = "FREQ=DAILY" + (f";COUNT={self.count}" if self.count else "")
        return Recurrence(rule, "2026-01-01T00:00:00Z", overlap=self.overlap, misfire=self.misfire)


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud) -> Service:
    """
    A deployment that handles tasks with a retention. Each alert is a mail.
    """
    return (
        Service(oncetask_cloud, alert_window=0.0)
        .handle(Brief)
        .handle(Fleeting)
        .handle(Instant)
        .handle(Ticking)
        .handle(Held, on_unknown="quarantine")
    )


def fail(task: Any, attempt: Any) -> Any:
    """
    A handler that gives up.
    """
    raise Fail("no")


def lose_the_result(service: Service) -> None:
    """
    The next run completes, and Firestore refuses its result.
    """

    def act(task: Any, attempt: Any) -> str:
        refuse(service.cloud)
        return "lost"

    service.act = act


def refuse(cloud: OncetaskCloud) -> None:
    """
    Let Firestore refuse the next commit for good.
    """
    cloud.faults.fail("Commit", code=grpc.StatusCode.INVALID_ARGUMENT, message="too large for words")


# --- debts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how", ["failed", "completed, its result lost", "completed after a takeover", "resolved as failed"]
)
def test_document_that_owes_an_alert_is_not_deleted(service: Service, how: str) -> None:
    """
    The mail server is down for 30 hours, the retention is one: the alert is sent, and an hour later the document is gone.
    """
    cloud = service.cloud
    model = Held if how == "resolved as failed" else Brief
    match how:
        case "failed":
            service.act = fail
        case "completed, its result lost":
            lose_the_result(service)
        case _:
            service.die_once()
    cloud.alerts.down = True
    service.create("a", model=model)
    pass_hours(cloud, 1)
    if model is Held:
        service.manager.locker.resolve_path(service.path("a", model), "fail")
    gone = pass_hours(cloud, 29)
    assert (gone, cloud.alerts.sent, expiries(cloud)) == ([], [], {})
    assert service.stored("a", model)["doneAt"] < cloud.clock_now() - 28 * HOUR

    cloud.alerts.down = False
    while not cloud.alerts.sent:
        assert expiries(cloud) == {}
        pass_hours(cloud, 1)
    sent_by = cloud.clock_now()
    assert {alert.document for alert in cloud.alerts.sent} == {service.path("a", model)}
    [expires] = expiries(cloud).values()
    assert HOUR / 2 <= expires - sent_by <= HOUR + timedelta(milliseconds=1)
    assert pass_hours(cloud, 2) == [service.path("a", model)]
    assert len(cloud.alerts.sent) == len({alert.id for alert in cloud.alerts.sent})


def test_alert_that_was_sent_and_not_recorded_keeps_the_document(service: Service) -> None:
    """
    The commit that says that it is sent is lost, before or after its effect, or its process dies: what is known decides.
    """
    cloud = service.cloud
    service.act = fail
    service.create("before", "after", model=Brief)
    send = cloud.alerts.send

    def sends(alert: Any) -> None:
        send(alert)
        before = alert.document == service.path("before", Brief)
        cloud.faults.fail("Commit", when="before" if before else "after", times=None)

    cloud.alerts.send = sends  # type: ignore[method-assign]
    for name in ("before", "after"):
        service.deliver(name, Brief)
        cloud.faults.clear()
    cloud.alerts.send = send  # type: ignore[method-assign]
    assert set(expiries(cloud)) == {service.path("after", Brief)}
    assert set(pass_hours(cloud, 4)) == {service.path(name, Brief) for name in ("before", "after")}
    # Told twice rather than never; a mail server knows the second by its id.
    assert [len(cloud.alerts.sent), len({alert.id for alert in cloud.alerts.sent})] == [3, 2]


def test_retention_is_counted_from_the_end_and_an_hour_ahead_at_least(service: Service) -> None:
    """
    However late the alert was sent; and a retention of a minute leaves an hour too.
    """
    cloud = service.cloud
    service.act = fail
    cloud.alerts.down = True
    service.create("a", model=Fleeting)
    pass_hours(cloud, 30)
    cloud.alerts.down = False
    pass_hours(cloud, 2)
    service.act = lambda task, attempt: None
    service.create("b", model=Instant)
    cloud.run_until_idle()
    long, short = service.stored("a", Fleeting), service.stored("b", Instant)
    assert long["expireAt"] - long["doneAt"] == 30 * DAY
    assert short["expireAt"] - short["doneAt"] == HOUR


def test_expiry_that_an_older_release_set_too_early_is_taken_back(service: Service) -> None:
    """
    It let documents expire at their end: the next commit of one that still owes takes that back.
    """
    cloud = service.cloud
    service.act = fail
    cloud.alerts.down = True
    service.create("a", model=Brief)
    cloud.run_until_idle()
    path = service.path("a", Brief)
    document = service.manager.locker.client.document(path)
    document.update({"expireAt": cloud.clock_now() + HOUR})
    assert pass_hours(cloud, 1) == []
    assert "expireAt" not in service.stored("a", Brief)

    document.update({"expireAt": cloud.clock_now() + timedelta(minutes=1)})
    cloud.alerts.down = False
    cloud.advance(minutes=0.5)
    while not cloud.alerts.sent:
        cloud.sweep()
        cloud.clock.advance(60)
    assert service.stored("a", Brief)["expireAt"] > cloud.clock_now() + HOUR / 2


def test_end_sets_the_expiry_anew_whatever_was_there(service: Service) -> None:
    """
    Somebody has written the field while the task waited.
    """
    service.create("a", model=Brief)
    service.manager.locker.client.document(service.path("a", Brief)).update({"expireAt": service.cloud.clock_now()})
    service.cloud.run_until_idle()
    assert service.stored("a", Brief)["expireAt"] - service.stored("a", Brief)["doneAt"] == HOUR


def test_debt_costs_no_call_and_no_write(service: Service) -> None:
    """
    A failing run and the record of its alert: as many commits with as many writes as without a retention.
    """
    service.act = fail
    counted = []
    service.handle(Work)
    for model in (Work, Brief):
        service.create("a", model=model)
        service.start_counting()
        writes = service.cloud.local.firestore.writes  # type: ignore[union-attr]  # it is the embedded one
        service.deliver("a", model)
        counted.append((service.firestore(), service.cloud.local.firestore.writes - writes))  # type: ignore[union-attr]
    assert counted[0] == counted[1]
    assert "expireAt" in service.stored("a", Brief)


# --- too late ---------------------------------------------------------------------------------------------------------


def test_reset_is_refused_from_the_moment_of_expiry(service: Service) -> None:
    """
    By the server's time, and in words that say what to do; a microsecond before, it is done and nothing expires any more.
    """
    cloud, manager = service.cloud, service.manager
    service.create("a", "b", model=Brief)
    cloud.run_until_idle()
    cloud.clock.advance((service.stored("a", Brief)["expireAt"] - cloud.clock_now()).total_seconds() - 0.000_001)
    # It looks into the registry once an hour.
    manager.locker._runtime.register(None, URL)
    service.start_counting()
    assert manager.reset_task(Brief, "a")
    assert service.firestore() == {"BatchGetDocuments": 1, "Commit": 1}
    assert "expireAt" not in service.stored("a", Brief)
    cloud.clock.advance(0.1)
    for call in (
        lambda: manager.reset_task(Brief, "b"),
        lambda: manager.locker.resolve_path(service.path("b", Brief), "run"),
    ):
        with pytest.raises(AlreadyFinishedError, match=r"retention was over at .*; delete it and create it anew"):
            call()
    cloud.run_until_idle()
    assert delete_expired(cloud) == [service.path("b", Brief)]
    assert (service.lock("a", Brief).status, service.ran) == (Status.COMPLETED, ["a", "b", "a"])

    service.create("b", model=Brief)
    cloud.run_until_idle()
    assert service.ran == ["a", "b", "a", "b"]


def test_retention_that_ends_while_a_reset_is_under_way_refuses_it(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It was read in time, and moved before the commit: it is read again with the server's time.
    """
    cloud, store = service.cloud, service.manager.locker._runtime.store
    service.create("a", model=Brief)
    cloud.run_until_idle()
    path, read = service.path("a", Brief), store.read

    def reads(asked: str) -> Any:
        monkeypatch.setattr(store, "read", read)
        found = read(asked)
        service.manager.locker.client.document(path).update({"note": "moved"})
        cloud.clock.advance(3601)
        return found

    monkeypatch.setattr(store, "read", reads)
    with pytest.raises(AlreadyFinishedError, match="retention was over"):
        service.manager.reset_task(Brief, "a")
    assert service.lock("a", Brief).status is Status.COMPLETED


# --- generators -------------------------------------------------------------------------------------------------------


def occurrences(service: Service) -> list[str]:
    """
    Days of the occurrences that are there.
    """
    found = service.cloud.local.firestore.documents(service.cloud.local.project)  # type: ignore[union-attr]
    return sorted(path.partition("_occ_2026-01-")[2][:2] for path in found if "_occ_" in path)


def test_last_occurrence_stays_a_retention_longer_than_its_generator_needs_it(service: Service) -> None:
    """
    Retention an hour, one a day: the last one is there until an hour after the next is made, and the very last one until an
    hour after the generator and it have ended.
    """
    cloud = service.cloud
    service.manager.create_task(Ticking(count=3))
    cloud.run_until_idle()
    seen = []
    for hours in (23, 1, 2, 22, 2):
        pass_hours(cloud, hours)
        seen.append(occurrences(service))
    assert seen == [["01"], ["01", "02"], ["02"], ["02", "03"], []]


def test_skip_never_takes_a_running_occurrence_for_a_deleted_one(service: Service) -> None:
    """
    It runs for almost three days, its alert can't be sent for two more, then it is deleted: none is made beside it, and each
    later one is.
    """
    cloud = service.cloud
    began: list[Any] = []

    def act(task: Any, attempt: Any) -> Any:
        if task.occurrence_at.day != 1:
            return None
        began.append(cloud.clock_now())
        if cloud.clock_now() - began[0] < 3 * DAY - 3 * HOUR:
            return Snooze(2 * HOUR)
        raise Fail("no")

    service.act = act
    cloud.alerts.down = True
    service.manager.create_task(Ticking())
    gone = pass_hours(cloud, 5 * 24)
    assert [path for path in gone if "01-01T" in path] == []
    cloud.alerts.down = False
    gone += pass_hours(cloud, 3 * 24)
    assert list(dict.fromkeys(id_[-12:-10] for id_ in service.ran)) == ["01", "04", "05", "06", "07", "08", "09"]
    assert len([path for path in gone if "01-01T" in path]) == len(cloud.alerts.sent) == 1


@pytest.mark.parametrize("overlap", ["skip", "allow", "queue"])
def test_generator_that_stands_still_for_longer_than_its_occurrences_are_kept_goes_on(
    service: Service, overlap: str
) -> None:
    """
    Paused for a week: its last occurrence has ended and is deleted, and the next one is made once, when it is resumed.
    """
    cloud, manager = service.cloud, service.manager
    manager.create_task(Ticking(overlap=overlap))
    cloud.run_until_idle()
    assert manager.pause(Ticking, "t")
    pass_hours(cloud, 7 * 24)
    assert occurrences(service) == []
    assert manager.resume(Ticking, "t")
    pass_hours(cloud, 1)
    assert [id_[-12:-10] for id_ in service.ran] == ["01", "08"]


def test_last_occurrence_that_is_reset_is_running_again_for_its_generator(service: Service) -> None:
    cloud, manager = service.cloud, service.manager
    manager.create_task(Ticking())
    cloud.run_until_idle()
    pass_hours(cloud, 20)
    service.act = lambda task, attempt: Snooze(HOUR) if cloud.clock_now().day < 3 else None
    assert manager.reset_task(Ticking, service.ran[0])
    pass_hours(cloud, 3 * 24)
    assert list(dict.fromkeys(id_[-12:-10] for id_ in service.ran)) == ["01", "04"]


# --- functions that run once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "e1"])
def test_key_that_owes_an_alert_is_not_deleted(service: Service, key: str | None) -> None:
    """
    Its result is lost, and the mail server is down for 30 hours: the sweeper tells, and an hour later the key may run again.
    """
    cloud, ran = service.cloud, []

    @once(service.manager.locker, name="f", key=lambda: key, retention=HOUR)
    def run() -> str:
        ran.append(1)
        if len(ran) == 1:
            refuse(cloud)
        return "ok"

    names = ("f",) if key is None else ("f", key)
    path = f"onceLocks/{document_id('DEFAULT', 'once', *names)}"
    cloud.alerts.down = True
    run()
    assert (pass_hours(cloud, 30), expiries(cloud)) == ([], {})
    cloud.alerts.down = False
    gone = pass_hours(cloud, 3)
    assert [alert.document for alert in cloud.alerts.sent] == gone == [path]
    assert [run(), run(), len(ran)] == ["ok", "ok", 2]
    assert set(expiries(cloud)) == {path}


def test_swept_resource_keys_and_once_keys_do_not_meet(service: Service) -> None:
    """
    An ``@once`` key that is called as a resource key is: each gets what the sweeper owes it.
    """
    cloud = service.cloud

    @once(service.manager.locker, name="f", key="K")
    def run() -> str:
        refuse(cloud)
        return "ok"

    cloud.alerts.down = True
    run()
    service.create("a", "b", model=Brief, key="K")
    service.die_once()
    cloud.run_until_idle()
    cloud.alerts.down = False
    pass_hours(cloud, 3)
    assert sorted(set(service.ran)) == ["a", "b"]
    assert sorted(alert.result_lost for alert in cloud.alerts.sent) == [False, True]
