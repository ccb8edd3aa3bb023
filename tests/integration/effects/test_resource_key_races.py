"""
Resource keys where two look at them at once: the moments between reading a key and writing it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from gcp_oncetask import Attempt, Status
from gcp_oncetask.effects.keys import Gate
from gcp_oncetask.rules import writes
from gcp_oncetask.rules.decisions import Claimant, Policy
from gcp_oncetask.rules.document_paths import TaskName
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.tasks import OnceTask, TaskData, TaskStatus
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.tasks import serve


class Order(TaskData, kind="race-order", on_conflict="replace"):
    name: str
    at: datetime | None = None
    revision: int = 0

    def task_id(self) -> str:
        return self.name

    def resource_key(self) -> str:
        return "K"

    def scheduled_at(self) -> datetime | None:
        return self.at


def test_key_found_free_of_a_postponed_waiter_is_not_taken_after_its_claim(
    oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A handed-over key is given up because its waiter was postponed; just then the waiter's time comes, and it claims.
    """
    manager, cloud = serve(oncetask_cloud), oncetask_cloud
    store = manager.locker._runtime.store
    real: Any = store.commit_both
    held: list[Any] = []
    late: list[Any] = []

    @manager.handler(Order)
    def run(task: OnceTask[Order], attempt: Attempt) -> None:
        if task.id == "first" and attempt.number == 1:
            manager.create_task(Order(name="second"))
            manager.create_task(Order(name="third"))
            cloud.local.tasks.run_due()
            assert manager.get_task(Order, "second").lock.parked
            assert manager.get_task(Order, "third").lock.parked
        if task.id == "second" and held:
            # What was decided before this claim is committed now.
            late.append(real(held.pop()))

    def between(request: Any) -> Any:
        monkeypatch.setattr(store, "commit_both", real)
        held.append(request)
        cloud.advance(seconds=31)
        return late[0]

    manager.create_task(Order(name="first"))
    [deliver, *_] = cloud.local.tasks.take_due()
    deliver()
    # The key is the second one's now. Before it is delivered, it is postponed.
    monkeypatch.setattr(store, "commit_both", between)
    later = cloud.clock_now() + timedelta(seconds=30)
    manager.create_task(Order(name="second", at=later, revision=1))

    assert late == [None], "the key was handed to the third task while the second one ran"
    cloud.run_until_idle()
    cloud.advance(minutes=5)
    cloud.sweep()
    cloud.run_until_idle()
    assert {task.status(cloud.clock_now()) for task in manager.get_tasks_by_resource_key(Order, "K")} == {
        TaskStatus.COMPLETED
    }


def test_claim_whose_key_can_not_be_read_again_says_that_it_never_started(oncetask_cloud: OncetaskCloud) -> None:
    """
    The claim's answer is lost, and then its key can't be read: the claim is not used, and whoever judges it is told so.
    """
    manager, cloud = serve(oncetask_cloud), oncetask_cloud
    ran: list[int] = []

    @manager.handler(Order, lease_duration=60.0)
    def run(task: OnceTask[Order], attempt: Attempt) -> None:
        ran.append(attempt.number)

    manager.create_task(Order(name="first"))
    cloud.faults.fail("Commit", when="after", times=1)
    cloud.faults.fail("BatchGetDocuments", skip=1, times=3)
    cloud.run_until_idle()
    cloud.faults.clear()
    assert ran == []
    cloud.advance(seconds=90)
    cloud.sweep()
    cloud.advance(seconds=5)
    assert ran == [2], "it is run again once its lease is over, not only after its timeout, as if nothing were known"


def test_claim_of_a_task_that_was_made_again_changes_its_key(oncetask_cloud: OncetaskCloud) -> None:
    """
    The answer of a claim is lost, the task is deleted and made again, and the claim is tried again. The deletion has found the
    key free before that, and must not free it afterwards.
    """
    manager = serve(oncetask_cloud)
    runtime, path = manager.locker._runtime, TaskName("DEFAULT", "race-order", "first").path
    claimant = Claimant("nonce-of-one-claim", "trace", "instance")

    def claim() -> Any:
        manager.create_task(Order(name="first"))
        gate = Gate(runtime, path, "K")

        def decide(seen: Snapshot) -> Any:
            assert seen.lock is not None
            at = runtime.decision_context(seen)
            return gate.admit(seen, writes.granted(seen.lock, Policy(), claimant, at), at)

        changed = runtime.store.change(path, decide, along=gate)
        assert (changed.snapshot.lock.status, changed.snapshot.lock.token) == (Status.LEASED, 1)
        return gate.version

    first = claim()
    manager.locker.client.document(path).delete()

    assert claim() != first
