"""
What once-tasks cost on the wire, counted.
"""

from __future__ import annotations

from typing import Any

import pytest

from gcp_oncetask import FixedDelay
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.tasks import DAILY, Other, Repeat, Service, Work


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud) -> Service:
    """
    A deployment that handles three kinds.
    """
    from datetime import timedelta

    service = Service(oncetask_cloud).handle(retry=FixedDelay(delay=timedelta(seconds=5))).handle(Repeat)
    service.start_counting()
    return service


def calls(service: Service) -> tuple[dict[str, int], dict[str, int]]:
    """
    Calls of Firestore and of Cloud Tasks since this was asked last.
    """
    found = service.firestore(), dict(service.cloud.local.tasks.counts)
    service.start_counting()
    return found


def test_create_costs_one_commit_and_one_task(service: Service) -> None:
    service.create("a", key="K")
    assert calls(service) == ({"Commit": 1}, {"CreateTask": 1})
    assert service.cloud.local.firestore.reads == 0


def test_run_costs_two_commits_and_no_read(service: Service) -> None:
    service.create("a")
    service.start_counting()
    service.cloud.run_until_idle()
    firestore = service.cloud.local.firestore
    assert (firestore.reads, firestore.writes) == (0, 2)
    assert calls(service) == ({"Commit": 2}, {})


def test_run_with_a_resource_key_costs_three_calls(service: Service) -> None:
    """
    The first of its key, and one that finds the key's document: one read of the key, two commits.
    """
    for name in "ab":
        service.create(name, key="K")
        service.start_counting()
        service.cloud.run_until_idle()
        assert calls(service) == ({"BatchGetDocuments": 1, "Commit": 2}, {})


def test_end_and_hand_over_cost_two_reads_and_three_commits(service: Service) -> None:
    """
    The one that waits has written the key's document: the end is refused once, reads both, and hands over.
    """
    service.handle(Other).create("a", key="K")
    service.create("b", key="K", model=Other)
    first = service.body("a")

    def act(task: Any, attempt: Any) -> None:
        service.act = lambda task, attempt: None
        assert service.post(service.body("b", Other)).json["outcome"] == "parked"
        service.start_counting()

    service.act = act
    service.post(first)
    assert calls(service) == ({"Commit": 3, "BatchGetDocuments": 1, "RunQuery": 1}, {"CreateTask": 1})


def test_failed_attempt_costs_a_commit_and_a_task(service: Service) -> None:
    def act(task: Any, attempt: Any) -> None:
        service.start_counting()
        raise ValueError("no")

    service.act = act
    service.create("a")
    service.cloud.run_until_idle()
    assert calls(service) == ({"Commit": 1}, {"CreateTask": 1})


def test_occurrence_costs_five_calls_its_run_included(service: Service) -> None:
    service.manager.create_task(Repeat(rule=DAILY))
    service.cloud.advance(hours=1)
    for _ in range(3):
        service.start_counting()
        service.cloud.advance(days=1)
        firestore, tasks = calls(service)
        assert (firestore, tasks) == ({"Commit": 3}, {"CreateTask": 2})
    assert len(service.ran) == 4


def test_thousand_tasks_cost_at_most_sixty_commits(service: Service) -> None:
    payloads = [Work(name=str(number)) for number in range(1000)]
    assert service.manager.create_tasks(payloads).created == 1000
    assert calls(service) == ({"BatchWrite": 20}, {"CreateTask": 1000})


def test_duplicate_of_a_finished_task_costs_one_read(service: Service) -> None:
    service.create("a")
    service.cloud.run_until_idle()
    service.start_counting()
    assert service.cloud.duplicate_last() == 200
    firestore = service.cloud.local.firestore
    assert (firestore.reads, firestore.writes) == (1, 0)
