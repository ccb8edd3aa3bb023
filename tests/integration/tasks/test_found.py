"""
Once-tasks: what the simulation has found, each made small.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest

from gcp_oncetask import Attempt, Config, LeaseLostError, Locker, Retry
from gcp_oncetask.effects.dispatch import push_of
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Status
from gcp_oncetask.rules.statuses import FailureClass
from gcp_oncetask.rules.task_headers import TaskHeaders
from gcp_oncetask.store.failures import WireError
from gcp_oncetask.tasks import OnceTask, Recurrence, TaskData, TaskManager, every
from gcp_oncetask.tasks.batch import Batch
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.tasks import URL, serve


class Newest(TaskData, kind="found-newest", on_conflict="replace"):
    revision: int

    def task_id(self) -> str:
        return "one"


class Pile(TaskData, kind="found-pile"):
    name: str

    def task_id(self) -> str:
        return self.name

    def resource_key(self) -> str:
        return "K"


class Hourly(TaskData, kind="found-hourly"):
    def recurrence(self) -> Recurrence:
        return every(timedelta(hours=1))


def test_payload_newer_than_the_cancellation_follows_it(oncetask_cloud: OncetaskCloud) -> None:
    """
    Cancelled while it runs, then replaced: the cancellation handler runs, and then the newest payload.
    """
    manager = serve(oncetask_cloud)
    ran: list[str] = []

    def run(task: OnceTask[Newest], attempt: Attempt) -> None:
        ran.append(f"runs {task.data.revision}")
        if task.data.revision == 0:
            assert manager.cancel_task(Newest, "one")
            assert manager.create_task(Newest(revision=1)).replaced
            raise Retry("it is cancelled", after=1)

    manager.register_task_handler(Newest, run, on_cancel=lambda task, attempt: ran.append("cleans up"))
    manager.create_task(Newest(revision=0))
    oncetask_cloud.advance(minutes=1)
    assert ran == ["runs 0", "cleans up", "runs 1"]


def test_cancellation_between_a_claim_and_its_lost_answer_is_for_the_next_attempt(
    oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The claim is found in a document whose cancellation is asked for by now. The lease was granted for the handler, which is
    told; the cancellation handler runs once, in an attempt of its own.
    """
    manager, other = serve(oncetask_cloud), TaskManager(Locker(config=Config(base_url=URL)))
    oncetask_cloud.use(other.locker)
    wire = manager.locker._runtime.store.wire
    real = wire.commit
    ran: list[str] = []

    def cancelled_meanwhile(request: Any) -> Any:
        monkeypatch.setattr(wire, "commit", real)
        real(request)
        assert other.cancel_task(Newest, "one")
        raise WireError(FailureClass.AMBIGUOUS, grpc.StatusCode.UNAVAILABLE, "the answer was lost")

    def run(task: OnceTask[Newest], attempt: Attempt) -> None:
        ran.append(f"runs, told of it: {attempt.cancelled}")
        raise Retry("it is cancelled", after=1)

    manager.register_task_handler(
        Newest, run, on_cancel=lambda task, attempt: ran.append(f"cleans up {attempt.number}")
    )
    made = manager.create_task(Newest(revision=0))
    path = manager._name_of(Newest, made.id).path
    push = push_of(manager.locker._runtime, manager.locker._runtime.store.get(path))
    monkeypatch.setattr(wire, "commit", cancelled_meanwhile)
    manager._deliver(push.body, TaskHeaders())
    oncetask_cloud.advance(minutes=1)
    assert ran == ["runs, told of it: True", "cleans up 1"]
    assert manager.locker.show(path).status is Status.CANCELLED


def test_generator_that_can_not_be_read_is_unavailable(oncetask_cloud: OncetaskCloud) -> None:
    """
    As every other delivery: answered, not raised into the web server.
    """
    manager = serve(oncetask_cloud)
    runtime = manager.locker._runtime
    manager.register_task_handler(Hourly, lambda task, attempt: None)
    made = manager.create_task(Hourly())
    stored = runtime.store.get(manager._name_of(Hourly, made.id).path)
    oncetask_cloud.faults.fail("BatchGetDocuments", times=None)
    ended = manager._deliver(push_of(runtime, replace(stored, whole=False)).body, TaskHeaders())
    oncetask_cloud.faults.clear()
    assert ended.outcome is Outcome.UNAVAILABLE


def test_batch_that_took_too_long_to_gather_does_not_start(
    oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A process that slept while it gathered: nobody is run on a lease that is over, and no attempt is burned.
    """
    manager = serve(oncetask_cloud)
    ran: list[set[tuple[str, int]]] = []
    real = Batch._gather
    naps = [70.0]

    def slow(self: Batch, *args: Any) -> Any:
        found = real(self, *args)
        if naps:
            oncetask_cloud.advance(seconds=naps.pop())
        return found

    def run(tasks: list[OnceTask[Pile]], attempts: list[Attempt]) -> None:
        ran.append({(task.id, attempt.number) for task, attempt in zip(tasks, attempts, strict=True)})
        assert all(attempt.held_for() > 0 for attempt in attempts)

    monkeypatch.setattr(Batch, "_gather", slow)
    manager.register_resource_key_handler(Pile, run, lease_duration=60.0, renew=False)
    manager.create_tasks([Pile(name="a"), Pile(name="b")], parallel=1)
    oncetask_cloud.run_until_idle()
    oncetask_cloud.advance(minutes=2)
    assert ran == [{("a", 1), ("b", 1)}]


def test_riders_end_no_later_than_the_task_that_has_the_key(
    oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The key is given away when its holder's run limit is over: none of its batch may run longer.
    """
    manager = serve(oncetask_cloud)
    left: list[set[float]] = []
    real = Batch._gather

    def late(self: Batch, *args: Any) -> Any:
        oncetask_cloud.advance(seconds=20)
        return real(self, *args)

    monkeypatch.setattr(Batch, "_gather", late)
    manager.register_resource_key_handler(
        Pile, lambda tasks, attempts: left.append({round(one.remaining()) for one in attempts})
    )
    manager.create_tasks([Pile(name="a"), Pile(name="b")], parallel=1)
    oncetask_cloud.run_until_idle()
    assert [len(one) for one in left] == [1]


def test_quarantined_holder_writes_nothing_under_its_key(oncetask_cloud: OncetaskCloud) -> None:
    """
    Its key is somebody else's by then: its transactions are refused, and it may still settle.
    """
    manager = serve(oncetask_cloud)
    refused: list[str] = []

    def run(task: OnceTask[Pile], attempt: Attempt) -> str:
        oncetask_cloud.advance(seconds=760)
        oncetask_cloud.forget_logs()
        assert oncetask_cloud.sweep().quarantined == 1
        where = manager.locker.client.document("effects/1")
        try:
            attempt.run_transaction(lambda txn: txn.set(where, {"n": 1}))
        except LeaseLostError as error:
            refused.append(str(error))
        assert not where.get().exists
        return "late"

    manager.register_task_handler(Pile, run, lease_duration=60.0, on_unknown="quarantine", renew=False)
    manager.create_task(Pile(name="a"))
    oncetask_cloud.run_until_idle()
    assert len(refused) == 1
    assert manager.locker.show(manager._name_of(Pile, "a").path).status is Status.COMPLETED
