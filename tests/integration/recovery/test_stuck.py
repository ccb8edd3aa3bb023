"""
Work that stands still: told by its age, whatever the cause; looked at ever less often, and never in the way of others.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from flask import Flask

from gcp_oncetask import Config, Status, sweep
from gcp_oncetask.rules.record import Event
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker
from tests.support.orders import Order, Shop, allow, make_shop
from tests.support.tasks import URL, Service, Work
from tests.support.workers import expire

NOBODY = "https://nobody.test/tasks"


def fails_before_the_wrapper(cloud: OncetaskCloud, shop: Shop) -> None:
    shop.app.before_request(lambda: 1 / 0)
    shop.locker.schedule(Order(id="42"), "/tasks/order")


def refuses_its_caller(cloud: OncetaskCloud, shop: Shop) -> None:
    other = make_shop(Config(audience=("https://other.test",), base_url="https://other.test"))
    cloud.use(other.locker)
    cloud.mount("https://mine.test", other.app)
    allow(shop.locker, "https://mine.test=https://oncetask.test")
    shop.locker.schedule(Order(id="42"), "https://mine.test/tasks/order")


def is_paused(cloud: OncetaskCloud, shop: Shop) -> None:
    cloud.local.tasks_client().pause_queue(name=cloud.local.queue)
    shop.locker.schedule(Order(id="42"), "/tasks/order")


def is_served_by_nobody(cloud: OncetaskCloud, shop: Shop) -> None:
    allow(shop.locker, "https://nobody.test")
    cloud.mount("https://nobody.test", Flask("nobody"))
    shop.locker.schedule(Order(id="42"), NOBODY)


def loses_its_tasks(cloud: OncetaskCloud, shop: Shop) -> None:
    allow(shop.locker, "https://nobody.test")
    cloud.mount("https://nobody.test", lambda environ, start: (start("200 OK", []), [b""])[1])
    shop.locker.schedule(Order(id="42"), NOBODY)


CAUSES: dict[Callable[[OncetaskCloud, Shop], None], str] = {
    is_served_by_nobody: "HTTP 404",
    fails_before_the_wrapper: "HTTP 500",
    refuses_its_caller: "HTTP 401",
    is_paused: "wait unclaimed",
    loses_its_tasks: "dispatched",
}


@pytest.mark.parametrize("cause", CAUSES)
def test_day_of_standing_still_is_told_once(
    oncetask_cloud: OncetaskCloud, shop: Shop, cause: Callable[[OncetaskCloud, Shop], None]
) -> None:
    """
    A quarter of an hour after it could first have been claimed, and not again in that day.
    """
    cause(oncetask_cloud, shop)
    told = oncetask_cloud.alerts.sent
    for _ in range(14):
        oncetask_cloud.advance(minutes=1)
        oncetask_cloud.sweep()
    assert told == []
    for _ in range(16):
        oncetask_cloud.advance(minutes=1)
        oncetask_cloud.sweep()
    assert [CAUSES[cause] in alert.reason for alert in told] == [True], [alert.reason for alert in told]
    for _ in range(24 * 6):
        oncetask_cloud.advance(minutes=10)
        oncetask_cloud.sweep()
    assert len(told) == 1
    assert shop.locker.show("orders/42").status is Status.SCHEDULED


def test_refusal_of_a_caller_is_logged_with_the_document_that_it_names(
    oncetask_cloud: OncetaskCloud, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """
    As the URL says; one that says nothing, or nonsense, is refused in a line of its own.
    """
    refuses_its_caller(oncetask_cloud, shop)
    oncetask_cloud.run_until_idle()
    assert any(line.startswith("orders/42 (sequence 1): ") for line in caplog.messages), caplog.messages
    client = shop.app.test_client()
    for query in (
        "",
        "?oncetask_document=a//b",
        "?oncetask_document=orders",
        "?oncetask_document=a/b&oncetask_sequence=x",
    ):
        assert client.post(f"/tasks/order{query}").status_code == 401


def paused(cloud: OncetaskCloud, shop: Shop, many: int) -> None:
    """
    A queue that is paused with *many* tasks in it, which are overdue.
    """
    cloud.local.tasks_client().pause_queue(name=cloud.local.queue)
    for number in range(many):
        shop.locker.schedule(Order(id=f"{number:04d}"), "/tasks/order")


def test_paused_queue_keeps_no_sweep_from_what_is_behind(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    300 tasks in a paused queue, and behind them an expired lease of another one: a sweep of 30 documents at most gets there, asks
    the queue 20 times, and writes the rest together.
    """
    paused(oncetask_cloud, shop, 300)
    oncetask_cloud.clock.advance(3600)
    other = oncetask_cloud.local.queue.replace("default", "other")
    oncetask_cloud.local.tasks_client().create_queue(parent=other.rsplit("/queues", 1)[0], queue={"name": other})
    shop.locker.schedule(Order(id="late"), "/tasks/order", queue=other)
    stale = {"lock.due": f"DEFAULT/push/000/{oncetask_cloud.clock_now().strftime('%Y-%m-%dT%H:%M:%S.%fZ')}"}
    shop.locker.client.document("orders/late").update(stale)
    oncetask_cloud.drop(oncetask_cloud.local.tasks.tasks()[-1].name)
    calls, writes = oncetask_cloud.local.tasks.counts, oncetask_cloud.local.firestore.counts
    before = calls["GetTask"], writes["Commit"], writes["BatchWrite"]
    swept = sweep(shop.locker, limit=30)
    after = calls["GetTask"], writes["Commit"], writes["BatchWrite"]
    assert (swept.queued, swept.dispatched) == (300, 1)
    # 20 alone, the dispatch, two of the alarm of the queue, and the time of the next reminder.
    assert [b - a for a, b in zip(before, after, strict=True)] == [21, 20 + 1 + 2 + 1, 2]
    [alert] = oncetask_cloud.alerts.sent
    assert "300 task(s) of the queue" in alert.reason
    assert sweep(shop.locker, limit=30).looked == 0


def test_standstill_is_told_once_by_many_sweepers_and_again_by_none_that_saw_it_end(
    oncetask_cloud: OncetaskCloud, shop: Shop
) -> None:
    """
    The mail server is away at first: the same message goes out later. A queue that stood still again, days later, is told anew.
    """
    paused(oncetask_cloud, shop, 1)
    oncetask_cloud.clock.advance(1800)
    broken = pytest.MonkeyPatch()
    tried: list[str] = []

    def send(alert: Any) -> None:
        tried.append(alert.id)
        raise OSError("no mail server")

    broken.setattr(oncetask_cloud.alerts, "send", send)
    oncetask_cloud.sweep()
    broken.undo()
    for _ in range(240):
        oncetask_cloud.clock.advance(60)
        oncetask_cloud.sweep()
        sweep(shop.locker)
    assert [alert.id for alert in oncetask_cloud.alerts.sent] == tried
    oncetask_cloud.local.tasks_client().resume_queue(name=oncetask_cloud.local.queue)
    oncetask_cloud.run_until_idle()
    assert len(shop.charges) == 1
    oncetask_cloud.advance(days=1)
    oncetask_cloud.local.tasks_client().pause_queue(name=oncetask_cloud.local.queue)
    shop.locker.schedule(Order(id="43"), "/tasks/order")
    for _ in range(4):
        oncetask_cloud.clock.advance(1800)
        oncetask_cloud.sweep()
    assert len({alert.id for alert in oncetask_cloud.alerts.sent}) == len(oncetask_cloud.alerts.sent) == 2


def test_looks_become_rarer_with_age(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    Half of its age, an hour at most; since when it could be claimed stays as it was.
    """
    paused(oncetask_cloud, shop, 1)
    since = shop.locker.show("orders/0000").ready_since
    asked = oncetask_cloud.local.tasks.counts
    for _ in range(24 * 60):
        oncetask_cloud.clock.advance(60)
        oncetask_cloud.sweep()
    assert shop.locker.show("orders/0000").ready_since == since
    assert 30 <= asked["GetTask"] <= 40


# --- the queue can't be asked -----------------------------------------------------------------------------------------


def test_lost_task_is_made_again_where_the_queue_may_not_be_asked(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    The account may not look at tasks: the same one is created again, at the first look.
    """
    oncetask_cloud.faults.fail("GetTask", code=grpc.StatusCode.PERMISSION_DENIED, times=None)
    oncetask_cloud.faults.fail("CreateTask", times=2)
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.advance(minutes=2)
    assert oncetask_cloud.sweep().dispatched == 1
    oncetask_cloud.run_until_idle()
    assert (len(shop.charges), oncetask_cloud.alerts.sent) == (1, [])


def test_queue_that_may_not_be_asked_is_not_flooded(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    One that exists counts as queued; under another name it is made once an hour at most.
    """
    oncetask_cloud.faults.fail("GetTask", code=grpc.StatusCode.PERMISSION_DENIED, times=None)
    paused(oncetask_cloud, shop, 1)
    for _ in range(24 * 12):
        oncetask_cloud.clock.advance(300)
        oncetask_cloud.sweep()
    assert 12 <= len(oncetask_cloud.local.tasks.tasks()) <= 25
    oncetask_cloud.local.tasks_client().resume_queue(name=oncetask_cloud.local.queue)
    oncetask_cloud.run_until_idle()
    assert len(shop.charges) == 1


def test_task_that_ran_into_the_void_gets_a_new_name_though_the_queue_may_not_be_asked(
    oncetask_cloud: OncetaskCloud, shop: Shop
) -> None:
    """
    Its name is taken by one that was delivered and gone: from the third look on it gets another one.
    """
    oncetask_cloud.faults.fail("GetTask", code=grpc.StatusCode.PERMISSION_DENIED, times=None)
    gone: list[Any] = []
    oncetask_cloud.mount("https://nobody.test", lambda environ, start: (gone.append(1), start("200 OK", []), [b""])[2])
    allow(shop.locker, "https://nobody.test")
    shop.locker.schedule(Order(id="42"), NOBODY)
    oncetask_cloud.run_until_idle()
    for _ in range(12):
        oncetask_cloud.advance(minutes=1)
        oncetask_cloud.sweep()
    oncetask_cloud.run_until_idle()
    assert (len(gone), shop.locker.show("orders/42").dispatches) == (2, 2)


def test_queue_that_does_not_exist_is_told_of_and_used_when_it_does(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    The record says that a person is needed, until the task runs.
    """
    missing = oncetask_cloud.local.queue.replace("default", "missing")
    assert not shop.locker.schedule(Order(id="42"), "/tasks/order", queue=missing).dispatched
    for _ in range(60):
        oncetask_cloud.advance(minutes=1)
        oncetask_cloud.sweep()
    told = [alert.reason for alert in oncetask_cloud.alerts.sent]
    assert [reason.startswith("Cloud Tasks: creating a task in") for reason in told] == [True]
    attention = shop.locker.show("orders/42").attention
    assert attention is not None
    assert attention.startswith("DEFAULT/stuck/000/2026-01-01T00:0")
    oncetask_cloud.local.tasks_client().create_queue(parent=missing.rsplit("/queues", 1)[0], queue={"name": missing})
    oncetask_cloud.advance(hours=2)
    oncetask_cloud.sweep()
    oncetask_cloud.run_until_idle()
    lock = shop.locker.show("orders/42")
    assert (len(shop.charges), lock.attention) == (1, None)


# --- refused by the library itself ------------------------------------------------------------------------------------


def look_for_hours(cloud: OncetaskCloud, hours: int = 24) -> None:
    for _ in range(hours * 6):
        cloud.advance(minutes=10)
        cloud.sweep()


def test_task_that_the_library_refuses_has_an_alarm_of_its_own(oncetask_cloud: OncetaskCloud) -> None:
    """
    Nobody here handles its kind: 409. Its record needs a person, who is told once, and its queue has no alarm. A version that
    knows the kind runs it, and nobody is needed any more.
    """
    service = Service(oncetask_cloud)
    service.create("a")
    path = service.path("a")
    look_for_hours(oncetask_cloud)
    [alert] = oncetask_cloud.alerts.sent
    assert (alert.document, alert.event) == (path, Event.FAILURE)
    assert f"it is refused at {URL}" in alert.reason
    assert re.search(r"[1-9]\d* deliveries, the last one answered HTTP 409", alert.reason)
    attention = service.lock("a").attention
    assert attention is not None
    assert attention.startswith("DEFAULT/stuck/000/2026-01-01T00:")
    service.handle(Work)
    oncetask_cloud.advance(hours=2)
    assert (service.lock("a").status, service.lock("a").attention) == (Status.COMPLETED, None)
    assert len(oncetask_cloud.alerts.sent) == 1


def test_what_the_library_refuses_is_left_out_of_the_alarm_of_its_queue(
    oncetask_cloud: OncetaskCloud, shop: Shop
) -> None:
    """
    Of two in one queue, one is refused by the library and one by what stands before it.
    """
    service = Service(oncetask_cloud)
    service.create("a")
    path = service.path("a")
    fails_before_the_wrapper(oncetask_cloud, shop)
    look_for_hours(oncetask_cloud)
    own, queue = sorted(oncetask_cloud.alerts.sent, key=lambda alert: alert.document != path)
    assert own.document == path
    assert queue.reason.startswith("1 task(s) of the queue")
    assert shop.locker.show("orders/42").attention is None


# --- pulled, and fetched by no worker ---------------------------------------------------------------------------------


class Pulled(Work, kind="stuck-pulled", pull=True):
    pass


class Dug(Work, kind="stuck-pulled-2", pull=True):
    pass


def test_pulled_tasks_that_no_worker_fetches_are_told_of_once_a_kind(oncetask_cloud: OncetaskCloud) -> None:
    """
    After ``ONCETASK_STUCK_SECONDS``, and not again; nothing of a kind whose tasks wait for their time. Once a worker has come and
    gone, the next standstill is told anew.
    """
    service = Service(oncetask_cloud)
    service.create(*map(str, range(30)), model=Pulled)
    service.create("later", model=Dug, at=oncetask_cloud.clock_now() + timedelta(days=9))
    for _ in range(14):
        oncetask_cloud.advance(minutes=1)
        oncetask_cloud.sweep()
    assert oncetask_cloud.alerts.sent == []
    look_for_hours(oncetask_cloud)
    [alert] = oncetask_cloud.alerts.sent
    assert alert.reason.startswith("20 or more task(s) of the kind stuck-pulled wait for a worker")
    assert service.lock("0", Pulled).attention is None
    service.handle(Pulled)
    worker = Worker(service.manager, listen=False)
    assert worker.drain() == 30
    oncetask_cloud.advance(days=1)
    service.create("again", model=Pulled)
    look_for_hours(oncetask_cloud)
    assert [each.reason.split(" wait")[0] for each in oncetask_cloud.alerts.sent[1:]] == [
        "1 task(s) of the kind stuck-pulled"
    ]


def test_lease_of_a_worker_that_died_is_told_of_where_none_comes_after_it(oncetask_cloud: OncetaskCloud) -> None:
    service = Service(oncetask_cloud)
    service.create("a", model=Pulled)
    path = service.path("a", Pulled)
    expire(service.manager, path)
    look_for_hours(oncetask_cloud)
    assert [path in alert.reason for alert in oncetask_cloud.alerts.sent] == [True]


def test_sweep_reads_one_document_of_a_kind_that_its_workers_keep_up_with(oncetask_cloud: OncetaskCloud) -> None:
    """
    One query finds the kind, one finds that nothing of it waits too long; with no kind to pull there is neither.
    """
    service = Service(oncetask_cloud)
    counts = oncetask_cloud.local.firestore.counts
    oncetask_cloud.sweep()

    def swept() -> int:
        before = counts["RunQuery"]
        oncetask_cloud.sweep()
        return counts["RunQuery"] - before

    without = swept()
    for model in (Pulled, Dug):
        service.create(*map(str, range(10)), model=model)
    assert swept() - without == 4
    assert oncetask_cloud.alerts.sent == []
