"""
The times of a sequence whose wait has ended, and answers of persons after a request to cancel or to replace it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from gcp_oncetask import Snooze, Status
from tests.support.tasks import Service


class Approval(BaseModel):
    """
    An event.
    """

    by: str


def test_time_to_wait_after_an_event_is_kept(service: Service) -> None:
    """
    A handler that snoozes for 40 days after its event runs after 40 days, although Cloud Tasks delivers after 30 days at the
    latest: the event does not skip the time.
    """
    ran: list[Any] = []

    def act(task: Any, attempt: Any) -> None:
        attempt.wait_event("approval", Approval, timeout=None)
        ran.append(service.cloud.clock_now())
        if len(ran) == 1:
            raise Snooze(timedelta(days=40))

    service.handle().create("a")
    service.act = act
    service.cloud.run_until_idle()
    service.manager.send(service.get("a").data.__class__, "a", "approval", Approval(by="ann"))
    for _ in range(45):
        service.cloud.advance(days=1)
        service.cloud.sweep()
    assert service.lock("a").status is Status.COMPLETED
    assert len(ran) == 2
    assert ran[1] - ran[0] >= timedelta(days=40)
