"""
A quarantined task that has a resource key, and tasks that wait for it.
"""

from __future__ import annotations

from typing import Any

import pytest

from gcp_oncetask import Status
from gcp_oncetask.operate.acts import Decision, perform
from gcp_oncetask.rules.record import Person
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import Killed
from tests.support.tasks import Service

ANN = Person("ann@example.com", proven=True)


@pytest.mark.parametrize("verb", ["fail", "complete"])
def test_op_19_key_of_a_decided_task_is_handed_over(oncetask_cloud: OncetaskCloud, verb: str) -> None:
    """
    The next task runs; no person is needed any more, and no mail tells people what a person did.
    """
    service = Service(oncetask_cloud)

    def act(task: Any, attempt: Any) -> None:
        if task.id == "a":
            raise Killed

    service.act = act
    service.handle(on_unknown="quarantine").create("a", key="K")
    oncetask_cloud.run_until_idle()
    service.create("b", "c", "d", key="K")
    oncetask_cloud.run_until_idle()
    oncetask_cloud.advance(minutes=13)
    oncetask_cloud.sweep()
    locker, path = service.manager.locker, service.path("a")
    [row] = locker.find().items
    assert (row.path, row.reason) == (path, "quarantined")
    assert service.ran == ["a"]
    mails = len(oncetask_cloud.alerts.sent)

    perform(locker, path, Decision(verb), ANN, row.version)
    oncetask_cloud.run_until_idle()
    assert service.ran == ["a", "b", "c", "d"]
    assert {str(service.lock(each).status) for each in "bcd"} == {str(Status.COMPLETED)}
    assert locker.find().items == ()
    for _ in range(3):
        oncetask_cloud.advance(hours=9)
        oncetask_cloud.sweep()
    assert len(oncetask_cloud.alerts.sent) == mails
