"""
``assert_scheduled``: what it finds, and what it says when it doesn't.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask

from gcp_oncetask import Config, LockedModel, Locker, UsageError
from gcp_oncetask.flask import blueprint
from gcp_oncetask.tasks import TaskData, TaskManager
from gcp_oncetask.testing.cloud import OncetaskCloud

URL = "https://scheduled.test"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Parcel(LockedModel, collection="depots/{depot}/parcels"):
    depot: str
    weight: int = 1


class Reminder(TaskData, kind="reminder"):
    to: str
    days: int = 1

    def task_id(self) -> str:
        return self.to

    def scheduled_at(self) -> datetime | None:
        return NOON if self.days else None


class Receipt(TaskData, kind="receipt"):
    to: str


@pytest.fixture
def manager(oncetask_cloud: OncetaskCloud) -> TaskManager:
    made = TaskManager(Locker(config=Config(base_url=URL)))
    made.register_task_handler(Reminder, lambda task, attempt: None)
    app = Flask("scheduled")
    app.register_blueprint(blueprint(made))
    oncetask_cloud.use(made.locker)
    oncetask_cloud.mount(URL, app)
    return made


def test_chains_are_found_by_url_params_fields_and_time(oncetask_cloud: OncetaskCloud, manager: TaskManager) -> None:
    """
    A chain is found by its model, and by each thing that is said of it; the path of its URL will do.
    """
    manager.locker.schedule(Parcel(id="7", depot="north", weight=3), "/send", params={"by": "air"}, at=NOON)

    find = oncetask_cloud.assert_scheduled
    find(Parcel)
    find(Parcel, "7", url="/send", params={"by": "air"}, payload={"weight": 3}, at=NOON)
    find(Parcel, url=f"{URL}/send")
    find(Parcel, at=NOON.astimezone(tz=None))
    wrong: list[dict[str, Any]] = [
        {"id": "8"},
        {"url": "/sen"},
        {"params": {}},
        {"payload": {"weight": 4}},
        {"payload": {"size": None}},
        {"at": NOON + timedelta(seconds=1)},
    ]
    for expectation in wrong:
        with pytest.raises(AssertionError, match="No Parcel with"):
            find(Parcel, **expectation)


def test_once_tasks_are_found_by_payload_id_and_time(oncetask_cloud: OncetaskCloud, manager: TaskManager) -> None:
    """
    A once-task is found by its kind, id, some fields of its payload and its time; when it has run it is not scheduled.
    """
    manager.create_task(Reminder(to="ann", days=3))

    oncetask_cloud.assert_scheduled(Reminder, "ann", payload={"days": 3}, at=NOON, url="/oncetask/deliver")
    for expectation in ({"id": "bob"}, {"payload": {"days": 4}}, {"at": NOON - timedelta(hours=1)}):
        with pytest.raises(AssertionError, match="No Reminder with"):
            oncetask_cloud.assert_scheduled(Reminder, **expectation)
    with pytest.raises(AssertionError, match=r"No Receipt is scheduled\.\nScheduled:\n  reminder 'ann'"):
        oncetask_cloud.assert_scheduled(Receipt)
    assert oncetask_cloud.run_until_idle() == 0
    oncetask_cloud.advance(days=2)
    with pytest.raises(AssertionError):
        oncetask_cloud.assert_scheduled(Reminder)


def test_message_lists_what_is_scheduled_instead(oncetask_cloud: OncetaskCloud, manager: TaskManager) -> None:
    """
    The message repeats what was wanted, lists everything that is scheduled, and what of that model has ended.
    """
    with pytest.raises(AssertionError) as nothing:
        oncetask_cloud.assert_scheduled(Reminder)
    assert str(nothing.value) == "No Reminder is scheduled.\nScheduled: nothing."

    manager.create_task(Reminder(to="bob", days=0))
    oncetask_cloud.run_until_idle()
    manager.create_task(Reminder(to="ann"))
    manager.locker.schedule(Parcel(id="7", depot="north"), "/send", params={"by": "air"})
    with pytest.raises(AssertionError) as found:
        oncetask_cloud.assert_scheduled(Reminder, payload={"to": "cyd"}, at=NOON)

    deliver = "to https://scheduled.test/oncetask/deliver"
    assert str(found.value).splitlines() == [
        'No Reminder with payload {"to": "cyd"}, at 2026-01-02 12:00:00+00:00 is scheduled.',
        "Scheduled:",
        '  depots/north/parcels/7, at once, to https://scheduled.test/send, params {"by": "air"}, payload {"weight": 1}',
        f'  reminder \'ann\', at 2026-01-02 12:00:00+00:00, {deliver}, payload {{"days": 1, "to": "ann"}}',
        "Not scheduled any more:",
        f'  reminder \'bob\', is completed, {deliver}, payload {{"days": 0, "to": "bob"}}',
    ]


def test_message_stays_short(oncetask_cloud: OncetaskCloud, manager: TaskManager) -> None:
    """
    Of very many the first twenty are listed.
    """
    manager.create_tasks([Reminder(to=f"{number:03}") for number in range(45)])

    with pytest.raises(AssertionError, match=r"  and 25 more$") as found:
        oncetask_cloud.assert_scheduled(Receipt)
    assert len(str(found.value).splitlines()) == 23


@pytest.mark.parametrize(
    "expect",
    [
        lambda cloud: cloud.assert_scheduled(Reminder, at=NOON.replace(tzinfo=None)),
        lambda cloud: cloud.assert_scheduled(TaskData),
    ],
    ids=["naive time", "no kind"],
)
def test_wrong_use_is_said(
    oncetask_cloud: OncetaskCloud, manager: TaskManager, expect: Callable[[OncetaskCloud], None]
) -> None:
    """
    A time without zone and a model without kind are the test's mistake, not a failed expectation.
    """
    manager.create_task(Reminder(to="ann"))

    with pytest.raises(UsageError):
        expect(oncetask_cloud)
