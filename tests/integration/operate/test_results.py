"""
The result that a person gives for a step is one that its handler may return.
"""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, Field

from gcp_oncetask import Continue, UsageError
from gcp_oncetask.tasks import TaskData, TaskManager
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import Killed
from tests.support.tasks import Service


class Receipt(BaseModel):
    charge: str
    amount: int = Field(gt=0)


class Payment(TaskData, kind="payment"):
    order: str

    def task_id(self) -> str:
        return self.order


def charge(task: Any, attempt: Any) -> Receipt | Continue:
    raise Killed


def anything(task: Any, attempt: Any) -> Any:
    raise Killed


def unannotated(task, attempt):  # type: ignore[no-untyped-def]
    raise Killed


def nothing(task: Any, attempt: Any) -> None:
    raise Killed


def quarantined(cloud: OncetaskCloud, handler: Any) -> TaskManager:
    """
    A manager with a payment about which a person must decide.
    """
    manager = Service(cloud).manager
    manager.register_task_handler(Payment, handler, on_unknown="quarantine")
    manager.create_task(Payment(order="7"))
    cloud.run_until_idle()
    cloud.advance(minutes=13)
    cloud.sweep()
    return manager


def test_op_14_result_that_the_handler_would_not_return_changes_nothing(oncetask_cloud: OncetaskCloud) -> None:
    """
    The field is named, its value is not; a right one is taken, and a record without a result too.
    """
    manager = quarantined(oncetask_cloud, charge)
    [row] = manager.find().items
    for wrong, field in (
        ({"charge": "ch_1"}, "amount"),
        ({"charge": "ch_secret", "amount": -4}, "amount"),
        ("ch_1", "result"),
    ):
        for how, more in (("happened", {"end": True}), ("complete", {})):
            with pytest.raises(UsageError, match=rf"{field}.*Nothing was written") as told:
                manager.resolve_task(Payment, "7", how, result=wrong, **more)  # type: ignore[arg-type]
            assert "ch_secret" not in str(told.value)
            assert "-4" not in str(told.value)
    assert manager.find().items[0].version == row.version
    manager.resolve_task(Payment, "7", "happened", result={"charge": "ch_1", "amount": 4}, end=True)
    task = manager.get_task(Payment, "7")
    assert task is not None
    assert task.result == {"charge": "ch_1", "amount": 4}


@pytest.mark.parametrize("handler", [anything, unannotated, nothing])
def test_handler_that_does_not_say_its_result_takes_any(oncetask_cloud: OncetaskCloud, handler: Any) -> None:
    manager = quarantined(oncetask_cloud, handler)
    manager.resolve_task(Payment, "7", "complete", result={"any": ["thing"]})
    assert manager.find().items == ()
