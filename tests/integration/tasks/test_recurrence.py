"""
Recurring tasks: outages, overlaps, pauses, lost deliveries, times beyond Cloud Tasks' horizon.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gcp_oncetask import Snooze, Status, TaskNotFoundError, UsageError
from gcp_oncetask.tasks import Recurrence, TaskData, every
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.tasks import DAILY, Repeat, Service, Work


class Mixed(TaskData, kind="mixed-recurrence"):
    name: str
    again: bool = False

    def task_id(self) -> str:
        return self.name

    def recurrence(self) -> Recurrence | None:
        return every(timedelta(days=1)) if self.again else None


HOURLY = {"rrule": "FREQ=HOURLY", "dtstart": "2026-01-01T00:00:00Z"}


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud) -> Service:
    """
    A deployment that handles recurring tasks.
    """
    return Service(oncetask_cloud).handle(Repeat)


def days(service: Service) -> list[str]:
    """
    Day and hour of the occurrences that ran.
    """
    return [id_.split("_occ_2026-01-")[1][:5] for id_ in service.ran]


def sleep(service: Service, **length: float) -> None:
    """
    Let time pass in which nothing is delivered.
    """
    service.cloud.clock.advance(timedelta(**length).total_seconds())


@pytest.mark.parametrize(
    ("misfire", "expected"),
    [
        ("skip", ["01T00", "05T00", "06T00"]),
        ("latest", ["01T00", "04T00", "05T00", "06T00"]),
        ("all", ["01T00", "02T00", "03T00", "04T00", "05T00", "06T00"]),
    ],
)
def test_misfire_policy_after_an_outage(service: Service, misfire: str, expected: list[str]) -> None:
    service.manager.create_task(Repeat(rule=DAILY, misfire=misfire))
    service.cloud.run_until_idle()
    sleep(service, days=3, hours=1)
    service.settle(4)
    service.cloud.advance(days=2)
    assert days(service) == expected


@pytest.mark.parametrize(("overlap", "expected"), [("allow", ["00", "01", "00", "02"]), ("skip", ["00", "00", "02"])])
def test_overlap_with_a_run_that_has_not_ended(service: Service, overlap: str, expected: list[str]) -> None:
    service.manager.create_task(Repeat(rule=HOURLY, overlap=overlap))
    service.act = lambda task, attempt: Snooze(90 * 60) if len(service.ran) == 1 else None
    service.cloud.advance(hours=2, minutes=10)
    assert [hour[3:] for hour in days(service)] == expected


@pytest.mark.parametrize(("overlap", "expected"), [("allow", ["00", "01", "02"]), ("skip", ["00", "02"])])
def test_quarantined_run_has_not_ended(oncetask_cloud: OncetaskCloud, overlap: str, expected: list[str]) -> None:
    """
    Its holder still runs: none is made beside it until it has settled.
    """
    service = Service(oncetask_cloud).handle(Repeat, lease_duration=60.0, on_unknown="quarantine", renew=False)

    def act(task: Any, attempt: Any) -> None:
        service.act = lambda task, attempt: None
        sleep(service, minutes=20)
        oncetask_cloud.forget_logs()
        assert oncetask_cloud.sweep().quarantined == 1
        sleep(service, minutes=45)
        service.deliver("r", Repeat)

    service.act = act
    service.manager.create_task(Repeat(rule=HOURLY, overlap=overlap))
    oncetask_cloud.run_until_idle()
    oncetask_cloud.advance(hours=1)
    assert [hour[3:] for hour in days(service)] == expected


def test_overlapping_run_is_queued(service: Service) -> None:
    """
    The second run falls due while the first one runs: it starts afterwards.
    """
    service.manager.create_task(Repeat(rule=HOURLY, overlap="queue"))
    said: list[str] = []

    def act(task: Any, attempt: Any) -> None:
        service.act = lambda task, attempt: None
        for _ in range(7):
            sleep(service, minutes=1)
            attempt.renew()
        said.append(service.deliver("r", Repeat).json["outcome"])
        said.append(service.deliver("r_occ_2026-01-01T01:00:00Z", Repeat).json["outcome"])

    service.act = act
    service.deliver("r", Repeat)
    sleep(service, minutes=55)
    assert service.deliver("r_occ_2026-01-01T00:00:00Z", Repeat).json["outcome"] == "completed"
    assert said == ["continued", "parked"]
    service.cloud.run_until_idle()
    assert [hour[3:] for hour in days(service)] == ["00", "01"]


def test_skipping_overlaps_starts_one_of_those_missed(service: Service) -> None:
    service.manager.create_task(Repeat(rule=DAILY, misfire="all", overlap="skip"))
    sleep(service, days=3, hours=1)
    service.cloud.run_until_idle()
    assert days(service) == ["04T00"]


def test_pause_and_resume(service: Service) -> None:
    service.manager.create_task(Repeat(rule=DAILY))
    service.cloud.run_until_idle()
    assert [service.manager.pause(Repeat, "r") for _ in range(2)] == [True, False]
    assert service.lock("r", Repeat).due is None
    service.cloud.advance(days=3, hours=1)
    service.cloud.sweep()
    service.cloud.run_until_idle()
    assert days(service) == ["01T00"]
    assert [service.manager.resume(Repeat, "r") for _ in range(2)] == [True, False]
    service.cloud.advance(days=1)
    assert days(service) == ["01T00", "04T00", "05T00"]


def test_only_what_recurs_is_paused(service: Service) -> None:
    service.create("a")
    with pytest.raises(UsageError, match="does not recur"):
        service.manager.pause(Work, "a")
    with pytest.raises(TaskNotFoundError):
        service.manager.resume(Repeat, "nobody")


def test_crash_between_commit_and_dispatch_is_swept_up(service: Service) -> None:
    service.manager.create_task(Repeat(rule=DAILY))
    service.cloud.faults.fail("CreateTask", times=4)
    service.cloud.run_until_idle()
    assert (service.ran, service.bodies()) == ([], [])
    service.cloud.faults.clear()
    service.settle(4)
    assert days(service) == ["01T00"]
    sleep(service, days=1)
    service.settle(4)
    assert days(service) == ["01T00", "02T00"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_step_whose_answer_is_lost_makes_each_occurrence_once(service: Service, when: Any) -> None:
    service.manager.create_task(Repeat(rule=DAILY))
    service.cloud.faults.fail("Commit", when=when)
    service.cloud.advance(days=1, hours=1)
    assert days(service) == ["01T00", "02T00"]
    assert [delivery.status for delivery in service.cloud.deliveries] == [200] * 4


def test_duplicate_delivery_of_a_generator_makes_nothing(service: Service) -> None:
    service.manager.create_task(Repeat(rule=DAILY))
    body = service.body("r", Repeat)
    answers = [service.post(body).json["outcome"] for _ in range(2)]
    assert answers == ["continued", "duplicate"]
    service.cloud.run_until_idle()
    assert days(service) == ["01T00"]


def test_occurrence_that_fails_does_not_stop_the_generator(service: Service) -> None:
    def act(task: Any, attempt: Any) -> None:
        raise ValueError("no")

    service.act = act
    service.manager.create_task(Repeat(rule=DAILY))
    service.cloud.advance(days=1, hours=1)
    assert [service.lock(id_, Repeat).status for id_ in dict.fromkeys(service.ran)] == [Status.FAILED] * 2
    assert service.lock("r", Repeat).status is Status.SCHEDULED


@pytest.mark.parametrize("ahead", [29, 31, 75, 400])
def test_times_beyond_the_horizon_are_relayed(service: Service, ahead: int) -> None:
    at = service.cloud.clock_now() + timedelta(days=ahead)
    service.handle().create("a", at=at)
    service.cloud.advance(days=ahead - 1)
    assert service.ran == []
    service.cloud.advance(days=1)
    assert service.ran == ["a"]
    assert len(service.cloud.deliveries) == ahead // 29 + 1 - (ahead % 29 == 0)
    assert {delivery.status for delivery in service.cloud.deliveries} == {200}


def test_yearly_rule_recurs_by_relay(service: Service) -> None:
    service.manager.create_task(Repeat(rule={"rrule": "FREQ=YEARLY", "dtstart": "2026-01-01T00:00:00Z"}))
    for _ in range(25):
        service.cloud.advance(days=30)
        service.cloud.sweep()
    assert [id_[-20:-16] for id_ in service.ran] == ["2026", "2027", "2028"]


def test_a_due_generator_does_not_ride_in_a_batch(service: Service) -> None:
    """
    Its delivery was lost, and a task of its kind is run in a batch of all that is due: the generator is left to the sweeper.
    """
    batches: list[list[str]] = []
    manager, cloud = service.manager, service.cloud
    manager.register_batch_handler(Mixed, lambda tasks, attempts: batches.append([task.id for task in tasks]))
    manager.create_task(Mixed(name="daily", again=True))
    for task in cloud.local.tasks.tasks():
        cloud.drop(task.name)
    cloud.advance(days=1, minutes=1)
    manager.create_task(Mixed(name="plain"))
    cloud.run_until_idle()
    assert batches == [["plain"]]
    assert service.lock("daily", Mixed).attempts == 0
    service.settle(4)
    assert [ids for ids in batches if "daily_occ" in ids[0]] != []
    assert service.status("daily", Mixed) == "waiting"
