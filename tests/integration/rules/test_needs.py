"""
Records that need a newer release: left alone by everything but their own holder.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from flask import Flask

from gcp_oncetask import Attempt, OncetaskError, Retry, UnknownFeatureError, once, sweep
from gcp_oncetask.cli import main
from gcp_oncetask.rules import features
from gcp_oncetask.rules.document_paths import key_path
from gcp_oncetask.rules.record import Status
from gcp_oncetask.rules.verbs import VERBS
from gcp_oncetask.testing.cloud import ACCOUNT, OncetaskCloud
from gcp_oncetask.worker import Worker
from tests.support.records import Daily, Parcel, Pulled, Records
from tests.support.tasks import Latest, Other, Service, Work

NEEDS = {"lock.needs": ["test-feature"]}


@pytest.fixture
def records(oncetask_cloud: OncetaskCloud) -> Records:
    """
    A record of every sort, each written by a newer release.
    """
    made = Records(oncetask_cloud)
    # The process that ran the batch is dead.
    made.locker._executor.renewals.stop()
    for path in (*(path for path, _ in made.paths.values()), made.service.path("leader", Other)):
        made.locker.client.document(path).update(NEEDS)
    return made


def stored(records: Records) -> dict[str, Any]:
    """
    What is stored of each record.
    """
    return {path: records.locker.client.document(path).get().to_dict() for path, _ in records.paths.values()}


def acts(records: Records) -> list[Callable[[], Any]]:
    """
    Whatever this release may do to those records, but for the verbs by path.
    """
    locker, manager = records.locker, records.service.manager

    @once(locker, key=lambda how: how, name="book")
    def book(how: str) -> str:
        raise AssertionError(how)

    return [
        lambda: locker.schedule(Parcel(id="1"), "https://nobody.test"),
        lambda: locker.schedule(locker.get(Parcel, "1"), "https://nobody.test"),
        lambda: locker.complete(locker.get(Parcel, "1")),
        lambda: manager.create_task(Latest(name="latest", note="newer")),
        lambda: manager.create_tasks([Latest(name="latest", note="newer")]).errors[0].with_traceback(None),
        lambda: manager.pause(Daily, "d"),
        lambda: manager.delete_task(Work, "a"),
        lambda: manager.cancel_task(Latest, "latest"),
        lambda: locker.lock("a/b \n", ttl=600).acquire(blocking=False),
        lambda: locker.lock("released").acquire(blocking=False),
        lambda: book("done"),
        lambda: book("raised"),
        lambda: book("running"),
    ]


def test_nothing_but_the_holder_touches_what_a_newer_release_wrote(
    records: Records, oncetask_cloud: OncetaskCloud, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Every verb of people, every call of an application, deliveries, workers and sweeps over months: all is as it was.
    """
    locker = records.locker
    oncetask_cloud.mount("https://nobody.test", Flask("nobody"))
    before = stored(records)
    for path, sort in records.paths.values():
        for verb, call in (
            ("cancel", locker.cancel_path),
            ("reset", locker.reset_path),
            ("resolve", lambda path: locker.resolve_path(path, "run")),
        ):
            if sort in VERBS[verb]:
                with pytest.raises(UnknownFeatureError, match="needs test-feature, which this release does not know"):
                    call(path)
    for act in acts(records):
        found = []
        with suppress(OncetaskError):
            found.append(act())
        assert not found or isinstance(found[0], OncetaskError), found
    records.service.manager.register_task_handler(Pulled, lambda task, attempt: None)
    ran = len(records.service.ran)
    for _ in range(4):
        oncetask_cloud.advance(days=40)
        oncetask_cloud.sweep()
        Worker(records.service.manager, listen=False).drain()
    assert len(records.service.ran) == ran
    assert stored(records) == before


@pytest.mark.parametrize("again", [False, True])
def test_own_holder_renews_and_settles_what_became_newer(oncetask_cloud: OncetaskCloud, again: bool) -> None:
    """
    A newer release writes into a record while this one runs it: the lease is this one's, to its end; the next attempt is not.
    """
    service = Service(oncetask_cloud).handle()

    def act(task: Any, attempt: Attempt) -> None:
        service.manager.locker.client.document(service.path("a")).update(NEEDS)
        attempt.renew()
        if again:
            raise Retry("not yet", after=1)

    service.act = act
    service.create("a")
    oncetask_cloud.advance(days=1)
    lock = service.lock("a")
    assert (len(service.ran), lock.status) == (1, Status.SCHEDULED if again else Status.COMPLETED)
    assert lock.needs == ("test-feature",)


def test_sweep_tells_once_per_feature_and_exits_with_1(
    cloud_on_ports: OncetaskCloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Three records of two features; those do not count against the limit, so that what is behind them is dealt with.
    """
    service = Service(cloud_on_ports)
    for name, feature in (("a", "test-feature"), ("b", "test-feature"), ("c", "other-feature"), ("d", None)):
        service.create(name)
        if feature is not None:
            service.manager.locker.client.document(service.path(name)).update({"lock.needs": [feature]})
    cloud_on_ports.clock.advance(3600)
    swept = sweep(service.manager.locker, limit=1)
    assert (swept.newer, swept.looked, swept.needs) == (3, 1, ["test-feature", "other-feature"])
    assert sum("which this release does not know" in line for line in caplog.messages) == 2
    for name, value in (
        ("FIRESTORE_EMULATOR_HOST", cloud_on_ports.local.firestore.address),
        ("CLOUD_TASKS_EMULATOR_HOST", cloud_on_ports.local.tasks.address),
        ("GOOGLE_CLOUD_PROJECT", cloud_on_ports.local.project),
        ("ONCETASK_SERVICE_ACCOUNT", ACCOUNT),
    ):
        monkeypatch.setenv(name, value)
    assert main(["sweep"]) == 1


def test_feature_that_is_known_is_no_hindrance(oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The newer release itself.
    """
    service = Service(oncetask_cloud).handle()
    service.create("a")
    service.manager.locker.client.document(service.path("a")).update(NEEDS)
    oncetask_cloud.advance(hours=3)
    assert service.ran == []
    monkeypatch.setattr(features, "KNOWN", frozenset({"test-feature"}))
    oncetask_cloud.advance(hours=3)
    oncetask_cloud.sweep()
    oncetask_cloud.run_until_idle()
    assert service.ran == ["a"]


def test_key_goes_past_those_that_need_a_newer_release(
    oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Three wait for one key, the first of them written by a newer release: the others get it; the key stays due until that one has
    had it, from a newer release.
    """
    service = Service(oncetask_cloud).handle()

    def act(task: Any, attempt: Attempt) -> None:
        if task.id == "first":
            service.create("newer", "a", "b", key="K")
            oncetask_cloud.run_until_idle()
            service.manager.locker.client.document(service.path("newer")).update(NEEDS)

    service.act = act
    service.create("first", key="K")
    oncetask_cloud.run_until_idle()
    oncetask_cloud.advance(hours=1)
    assert service.ran == ["first", "a", "b"]
    assert service.manager.locker.show(key_path("DEFAULT", "K")).due is not None
    monkeypatch.setattr(features, "KNOWN", frozenset({"test-feature"}))
    oncetask_cloud.clock.advance(3600)
    oncetask_cloud.sweep()
    oncetask_cloud.run_until_idle()
    assert service.ran == ["first", "a", "b", "newer"]


@pytest.mark.parametrize("change", [{"lock.status": "suspended"}, {"lock.retry": {"kind": "moon"}}, {"lock.holder": 7}])
def test_record_of_a_form_that_only_a_newer_release_knows_is_not_held_to_be_damaged(
    oncetask_cloud: OncetaskCloud, change: dict[str, Any]
) -> None:
    """
    What it needs is read before anything else of it.
    """
    service = Service(oncetask_cloud).handle()
    service.create("a")
    document = service.manager.locker.client.document(service.path("a"))
    document.update({**NEEDS, **change})
    before = document.get().to_dict()
    oncetask_cloud.advance(days=1)
    swept = oncetask_cloud.sweep()
    assert (swept.newer, swept.damaged, service.ran, oncetask_cloud.alerts.sent) == (1, 0, [], [])
    with pytest.raises(UnknownFeatureError):
        service.manager.locker.reset_path(service.path("a"))
    assert document.get().to_dict() == before
