"""
One table says of every status of every service whether it is passing, final or ambiguous, and every caller asks it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import grpc
import pytest

from gcp_emulator.testing import InProcessCloud
from gcp_oncetask import Config, Locker
from gcp_oncetask.errors import BackendError, ContentionError, DispatchError
from gcp_oncetask.rules.statuses import STATUSES, FailureClass, Service, failure_class, of_contents
from gcp_oncetask.services.cloud_tasks import CloudTasks, Push
from gcp_oncetask.testing.cloud import OncetaskCloud, TestClock

PACKAGE = Path(__file__).parents[3] / "gcp_oncetask"
FAILURES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
AMBIGUOUS = {"CANCELLED", "UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE"}


def test_every_status_has_a_row() -> None:
    """
    Those of gRPC, and no other one. Those after which nothing is known of the effect are ambiguous everywhere.
    """
    assert set(STATUSES) == {code.name for code in FAILURES}
    assert {name for name, row in STATUSES.items() if FailureClass.AMBIGUOUS in row} == AMBIGUOUS
    assert all(set(row) == {FailureClass.AMBIGUOUS} for name, row in STATUSES.items() if name in AMBIGUOUS)
    assert failure_class(Service.TASKS, "NO_SUCH_STATUS") is FailureClass.REFUSED


@pytest.mark.parametrize(
    ("status", "message", "fate"),
    [
        ("NOT_FOUND", "No document to update: c/a", FailureClass.MOVED),
        ("NOT_FOUND", "The database (default) does not exist for project p", FailureClass.REFUSED),
        ("RESOURCE_EXHAUSTED", "Quota exceeded.", FailureClass.CONTENTION),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (5 vs. 4)", FailureClass.REFUSED),
    ],
)
def test_status_that_firestore_uses_for_two_things_is_told_by_its_sentence(
    status: str, message: str, fate: FailureClass
) -> None:
    """
    A document that is missing and a database that is; a quota and a message that is too large.
    """
    assert failure_class(Service.FIRESTORE, status, message) is fate


def test_final_status_says_whose_fault_it_is() -> None:
    """
    That of what was written, or of who asks: only the first ends a task.
    """
    final = {name for name, row in STATUSES.items() if row[Service.FIRESTORE] is FailureClass.REFUSED} | {
        "RESOURCE_EXHAUSTED"
    }
    assert {name for name in STATUSES if of_contents(name)} == {
        "INVALID_ARGUMENT",
        "OUT_OF_RANGE",
        "RESOURCE_EXHAUSTED",
    } & final


def test_no_other_module_tells_statuses_apart() -> None:
    """
    Only the table and the sentences for people name a status; a module that asks for one of them has its reason here.
    """
    allowed = {
        "rules/statuses.py": STATUSES.keys(),
        # Hints for people; the status of a caller that has waited in vain, and of one that no table has.
        "store/failures.py": {"PERMISSION_DENIED", "UNAUTHENTICATED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN"},
        "store/wire.py": {"NOT_FOUND"},  # no document is an answer
        "services/cloud_tasks.py": {"PERMISSION_DENIED", "UNAVAILABLE", "NOT_FOUND"},  # hints; no task is an answer
    }
    for module in PACKAGE.rglob("*.py"):
        named = set(re.findall(r"grpc\.StatusCode\.([A-Z_]+)", module.read_text()))
        assert named <= set(allowed.get(str(module.relative_to(PACKAGE)), ())), module


@pytest.mark.parametrize("code", FAILURES)
def test_every_caller_says_what_the_table_says(oncetask_cloud: OncetaskCloud, code: grpc.StatusCode) -> None:
    """
    A read of Firestore, a task for Cloud Tasks, a query of Cloud Logging: the error is final where the table says so.
    """
    cloud: InProcessCloud = oncetask_cloud.local
    locker = Locker(config=Config(base_url="https://app.test"))
    oncetask_cloud.use(locker)
    runtime, clock = locker._runtime, TestClock(oncetask_cloud.clock)
    runtime.store.estimate()
    tasks = CloudTasks(cloud.tasks_client(), None, clock, 10.0)
    push = Push(cloud.queue, "t", "https://app.test/x", b"", {}, None, 600.0, None, "")

    def failed(call: Any) -> BackendError | ContentionError | None:
        oncetask_cloud.faults.fail("*", times=None, code=code, message="why")
        try:
            call()
        except (BackendError, ContentionError) as error:
            return error
        finally:
            oncetask_cloud.faults.clear()
        return None

    stored = failed(lambda: runtime.store.read_all(["c/a"]))
    made = failed(lambda: tasks.create(push))
    asked = failed(lambda: runtime.request_log.write({}, insert_id="i", at=clock.now()))
    fates = {service: failure_class(service, code.name) for service in Service}
    assert isinstance(stored, BackendError)
    assert stored.final is (fates[Service.FIRESTORE] is FailureClass.REFUSED)
    assert stored.facts["contents"] is (stored.final and of_contents(code.name))
    if fates[Service.TASKS] is FailureClass.MOVED:
        assert made is None
    else:
        assert isinstance(made, DispatchError)
        assert made.final is (fates[Service.TASKS] is FailureClass.REFUSED)
    assert isinstance(asked, BackendError)
    assert asked.final is (fates[Service.LOGGING] is FailureClass.REFUSED)
