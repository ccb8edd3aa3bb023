"""
Parents and children on the command line.
"""

from __future__ import annotations

from typing import Any

from gcp_oncetask import Status
from tests.integration.cli.conftest import Run
from tests.support.children import Family, three, upper
from tests.support.durable import SECOND
from tests.support.orders import Killed
from tests.support.tasks import Other, Service


def told(run: Run, verb: str, path: str) -> str:
    """
    Return the output of a command about the document at *path*.
    """
    code, lines, _ = run(verb, path)
    assert code == 0
    return "\n".join(lines)


def test_du_80_a_quarantined_child_holds_its_parent_and_both_are_told(service: Service, run: Run) -> None:
    def child(task: Any, attempt: Any) -> Any:
        if task.data.name == "y":
            raise Killed
        return upper(task, attempt)

    family = Family(service, three, child)
    service.handle(retry=SECOND).handle(Other, retry=SECOND, on_unknown="quarantine")
    service.create("a")
    service.cloud.run_until_idle()
    service.cloud.advance(hours=2)
    service.settle(4)
    [held] = [each for each in family.children() if each["lock"]["status"] == "quarantined"]
    path = service.path(held["id"], Other)
    assert service.lock("a").status is Status.SCHEDULED
    assert f"{path}: quarantined" in told(run, "show", service.path("a"))
    assert f"child of: {service.path('a')}" in " ".join(told(run, "show", path).split())
    [alert] = [each for each in service.cloud.alerts.sent if each.document == path]
    assert alert.kin == (f"child of {service.path('a')}",)


def test_op_20_timelines_name_parent_and_children(service: Service, run: Run) -> None:
    family = Family(service, three, upper).start()
    said = told(run, "timeline", service.path("a"))
    paths = [service.path(each["id"], Other) for each in family.children()]
    assert [f"child: {path}: completed" in said for path in paths] == [True] * 3
    assert f"child of: {service.path('a')}" in told(run, "timeline", paths[0])
