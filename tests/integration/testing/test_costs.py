"""
The cost that a user's test sees, and its budget.
"""

from __future__ import annotations

import pytest

from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.testing.costs import Cost
from tests.support.tasks import Service


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud) -> Service:
    """
    A deployment that knows the server's time and its collections.
    """
    service = Service(oncetask_cloud).handle()
    service.create("first")
    oncetask_cloud.run_until_idle()
    oncetask_cloud.reset_cost()
    return service


def test_cost_of_a_task_is_what_google_bills(oncetask_cloud: OncetaskCloud, service: Service) -> None:
    """
    Create, claim and end are a write each; Cloud Tasks bills the create and the delivery.
    """
    service.create("a")
    oncetask_cloud.run_until_idle()

    cost = oncetask_cloud.cost
    assert cost == Cost(reads=0, writes=3, cloud_tasks=2, calls={"Commit": 3, "CreateTask": 1})
    assert cost.price == pytest.approx(3 * 0.90e-6 + 2 * 0.40e-6)
    assert str(cost) == (
        "0 reads, 3 writes, 2 operations of Cloud Tasks (3 Commit, 1 CreateTask): $3.50 per million times"
    )
    oncetask_cloud.assert_cost(reads=0, writes=3, cloud_tasks=2)
    oncetask_cloud.assert_cost(reads=5)

    # The claim is refused, because the task has moved on; then its document is read.
    assert oncetask_cloud.duplicate_last() == 200
    assert oncetask_cloud.cost - cost == Cost(reads=1, cloud_tasks=1, calls={"Commit": 1, "GetDocument": 1})


def test_cost_counts_from_the_beginning_or_from_the_last_reset(oncetask_cloud: OncetaskCloud) -> None:
    assert oncetask_cloud.cost == Cost()
    service = Service(oncetask_cloud).handle()
    service.create("a")
    assert oncetask_cloud.cost.writes > 0
    oncetask_cloud.reset_cost()
    assert oncetask_cloud.cost == Cost()
    assert str(Cost()).endswith("(no call): $0.00 per million times")


def test_a_test_that_costs_too_much_fails_with_each_number(oncetask_cloud: OncetaskCloud, service: Service) -> None:
    service.create("a")
    with pytest.raises(AssertionError) as raised:
        oncetask_cloud.assert_cost(reads=0, writes=0, cloud_tasks=0)
    told = str(raised.value)
    assert "1 writes, at most 0 are allowed; 1 cloud_tasks, at most 0 are allowed." in told
    assert told.endswith(
        "It has used 0 reads, 1 writes, 1 operations of Cloud Tasks (1 Commit, 1 CreateTask): $1.30 per million times."
    )
