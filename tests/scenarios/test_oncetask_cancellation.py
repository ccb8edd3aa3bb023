"""
oncetask: cancellation, reset, deletion and environments. One test per row of its behaviour.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gcp_oncetask import FixedDelay, NoRetry, Status, TaskConflictError
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.scenarios import row
from tests.support.tasks import Other, Repeat, Service, Work

APART = "the same id in another environment is another task: nothing is there to act on; by path the error names both"
RULE = {"rrule": "FREQ=DAILY;COUNT=2", "dtstart": "2026-01-02T00:00:00Z"}


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud) -> Service:
    """
    A deployment.
    """
    return Service(oncetask_cloud)


@pytest.fixture
def staging(service: Service) -> Service:
    """
    Another environment in the same database.
    """
    return Service(service.cloud, url="https://staging.test", env="STAGING")


class Cleanup:
    """
    A cancellation handler that fails so often.
    """

    def __init__(self, failures: int = 0) -> None:
        self.ran: list[tuple[str, int, bool]] = []
        self._failures = failures

    def __call__(self, task: Any, attempt: Any) -> None:
        self.ran.append((task.id, attempt.number, attempt.cancelled))
        if len(self.ran) <= self._failures:
            raise ValueError("not yet")


@row("OT-094", "pending task, cancel by id: flag and time set")
def test_ot_094_cancel_by_id(service: Service) -> None:
    service.create("a")
    assert service.manager.cancel_task(Work, "a")
    asked = service.lock("a").cancel_requested_at
    assert asked is not None
    assert abs(asked - service.cloud.clock_now()) < timedelta(seconds=1)
    assert service.status("a") == "cancellationPending"


@row("OT-095", "3 tasks, cancel by ids: 3; all flagged")
def test_ot_095_cancel_by_ids(service: Service) -> None:
    service.create(*"abc")
    assert service.manager.cancel_tasks_by_ids(Work, "abc") == 3
    assert {service.status(name) for name in "abc"} == {"cancellationPending"}


@row("OT-096", "4 with key, 2 without, cancel by type+key: 4; flagged, immediate; the 2 untouched")
def test_ot_096_cancel_by_resource_key(service: Service) -> None:
    later = service.cloud.clock_now() + timedelta(days=1)
    service.create(*"abcd", key="K", at=later)
    service.create("e", at=later)
    service.create("f", key="K", model=Other, at=later)
    assert service.manager.cancel_tasks_by_resource_key(Work, "K") == 4
    assert [(service.status(name), service.lock(name).wait_until) for name in "abcd"] == [
        ("cancellationPending", None)
    ] * 4
    assert (service.status("e"), service.status("f", Other)) == ("waiting", "waiting")


@row("OT-097", "cancelled task, cancel again: 0, no error")
def test_ot_097_cancel_again(service: Service) -> None:
    service.create("a")
    assert [service.manager.cancel_tasks_by_ids(Work, ["a"]) for _ in range(2)] == [1, 0]
    service.handle().cloud.run_until_idle()
    assert service.manager.cancel_tasks_by_ids(Work, ["a"]) == 0


@row("OT-098", "done task, cancel: 0, no error")
def test_ot_098_cancel_a_done_task(service: Service) -> None:
    service.handle().create("a")
    service.cloud.run_until_idle()
    assert service.manager.cancel_tasks_by_ids(Work, ["a"]) == 0
    assert service.status("a") == "completed"


@row("OT-099", "cancelled before any worker: cancellation handler once, sees the flag; normal handler never; cancelled")
def test_ot_099_cancellation_handler(service: Service) -> None:
    cleanup = Cleanup()
    service.create("a")
    service.manager.cancel_task(Work, "a")
    service.handle(on_cancel=cleanup)
    service.settle()
    assert (cleanup.ran, service.ran, service.lock("a").status) == ([("a", 1, True)], [], Status.CANCELLED)
    assert service.get("a").done_at is not None


@row("OT-100", "cancellation handler fails twice, own fixed policy of 5: 3 runs, done, cancelled")
def test_ot_100_cancellation_handler_fails(service: Service) -> None:
    cleanup = Cleanup(2)
    service.handle(
        retry=NoRetry(), on_cancel=cleanup, cancel_retry=FixedDelay(delay=timedelta(seconds=1), max_attempts=5)
    ).create("a")
    service.manager.cancel_task(Work, "a")
    service.cloud.advance(minutes=1)
    assert [number for _, number, _ in cleanup.ran] == [1, 2, 3]
    assert (service.lock("a").status, service.ran) == (Status.CANCELLED, [])


@row("OT-101", "no cancellation handler: no-op success, done")
def test_ot_101_without_a_cancellation_handler(service: Service) -> None:
    service.handle().create("a")
    service.manager.cancel_task(Work, "a")
    service.cloud.run_until_idle()
    assert (service.ran, service.lock("a").status, service.lock("a").errors) == ([], Status.CANCELLED, ())


def refused_elsewhere(service: Service, staging: Service, act: Any) -> None:
    """
    What the other environment tries on our task by its path is refused, and changes nothing.
    """
    before = service.stored("a")
    with pytest.raises(TaskConflictError, match=r"environment 'DEFAULT', not 'STAGING'"):
        act(service.path("a"))
    assert service.stored("a") == before


@row("OT-102", "cancel task of another env: 0 + error naming the environment; doc unchanged", APART)
def test_ot_102_cancel_elsewhere(service: Service, staging: Service) -> None:
    service.create("a")
    assert staging.manager.cancel_tasks_by_ids(Work, ["a"]) == 0
    refused_elsewhere(service, staging, staging.manager.locker.cancel_path)


@row("OT-103", "scheduled next week, cancel: processed now, not next week")
def test_ot_103_cancel_what_waits(service: Service) -> None:
    cleanup = Cleanup()
    service.handle(on_cancel=cleanup).create("a", at=service.cloud.clock_now() + timedelta(days=7))
    service.manager.cancel_task(Work, "a")
    service.cloud.run_until_idle()
    assert (len(cleanup.ran), service.lock("a").status) == (1, Status.CANCELLED)
    service.cloud.advance(days=8)
    assert (len(cleanup.ran), service.ran) == (1, [])


@row("OT-104", "cancelled task, group handler registered: goes alone through the cancellation handler")
def test_ot_104_cancelled_task_of_a_batch(service: Service) -> None:
    cleanup = Cleanup()
    service.create(*"abc", key="K")
    service.manager.cancel_task(Work, "b")
    service.handle_keys(on_cancel=cleanup)
    service.cloud.run_until_idle()
    assert (cleanup.ran, service.batches) == ([("b", 1, True)], [["a", "c"]])
    assert [service.status(name) for name in "abc"] == ["completed", "cancelled", "completed"]


@row("OT-105", "same id twice in one cancel call: 1 cancelled (the ancestor crashes)")
def test_ot_105_cancel_duplicates(service: Service) -> None:
    service.create("a")
    assert service.manager.cancel_tasks_by_ids(Work, ["a", "a", "nobody"]) == 1


# --- reset ------------------------------------------------------------------------------------------------------------


def fail(service: Service, name: str) -> None:
    """
    Create a task that fails.
    """
    service.act = lambda task, attempt: (_ for _ in ()).throw(ValueError("no"))
    service.create(name)
    service.cloud.run_until_idle()
    service.act = lambda task, attempt: {"ran": True}
    assert service.lock(name).status is Status.FAILED


@row(
    "OT-121", "one completed, one failed, one pending, reset all 3: 2; those are cleared, immediate; pending untouched"
)
def test_ot_121_reset(service: Service) -> None:
    service.handle(retry=NoRetry())
    fail(service, "failed")
    service.create("done")
    service.cloud.run_until_idle()
    service.create("pending")
    before = service.stored("pending")

    assert service.manager.reset_tasks_by_ids(Work, ["done", "failed", "pending", "done", "nobody"]) == 2
    for name in ("done", "failed"):
        lock, task = service.lock(name), service.get(name)
        assert (lock.status, lock.attempts, lock.errors, lock.result) == (Status.SCHEDULED, 0, (), None)
        assert (lock.wait_until, lock.cancel_requested_at, task.done_at) == (None, None, None)
    assert service.stored("pending") == before


@row("OT-122", "completed task, handler alive, reset: runs again; attempts 1")
def test_ot_122_reset_runs_again(service: Service) -> None:
    service.handle().create("a")
    service.cloud.run_until_idle()
    assert service.manager.reset_task(Work, "a")
    service.cloud.run_until_idle()
    assert (service.ran, service.lock("a").attempts, service.status("a")) == (["a", "a"], 1, "completed")


@row("OT-123", "reset task of another env: 0 + error", APART)
def test_ot_123_reset_elsewhere(service: Service, staging: Service) -> None:
    service.handle().create("a")
    service.cloud.run_until_idle()
    assert staging.manager.reset_tasks_by_ids(Work, ["a"]) == 0
    refused_elsewhere(service, staging, staging.manager.locker.reset_path)


@row("OT-124", "completed, failed, cancelled eligible for reset: yes; pending, leased: no")
@pytest.mark.parametrize(
    ("state", "eligible"),
    [("completed", True), ("failed", True), ("cancelled", True), ("pending", False), ("leased", False)],
)
def test_ot_124_who_can_be_reset(service: Service, state: str, eligible: bool) -> None:
    service.handle(retry=NoRetry())
    said: list[bool] = []
    match state:
        case "failed":
            fail(service, "a")
        case "leased":
            service.act = lambda task, attempt: said.append(service.manager.reset_task(Work, "a"))
    if state != "failed":
        service.create("a")
    if state == "cancelled":
        service.manager.cancel_task(Work, "a")
    if state in ("completed", "cancelled", "leased"):
        service.cloud.run_until_idle()
    assert (said or [service.manager.reset_task(Work, "a")]) == [eligible]


@row("OT-125", "reset task: id, type, env, createdAt, key, parent link kept")
def test_ot_125_reset_keeps_the_identity(service: Service) -> None:
    service.handle(Repeat)
    service.manager.create_task(Repeat(rule=RULE, key="K"))
    service.cloud.advance(days=1, hours=1)
    [id_] = service.ran
    kept = ("id", "kind", "env", "createdAt", "resourceKey", "parentRecurrenceId", "occurrenceAt", "data")
    before = service.stored(id_, Repeat)
    assert service.manager.reset_task(Repeat, id_)
    assert [service.stored(id_, Repeat)[name] for name in kept] == [before[name] for name in kept]


@row("OT-126", "reset twice: second is a no-op")
def test_ot_126_reset_twice(service: Service) -> None:
    service.handle().create("a")
    service.cloud.run_until_idle()
    assert [service.manager.reset_task(Work, "a") for _ in range(2)] == [True, False]
    service.cloud.run_until_idle()
    assert service.ran == ["a", "a"]


@row("OT-127", "delete existing / missing: gone / no error")
def test_ot_127_delete(service: Service) -> None:
    service.create("a")
    assert [service.manager.delete_task(Work, "a") for _ in range(2)] == [True, False]
    assert service.manager.get_task(Work, "a") is None


@row("OT-128", "3 existing + 1 missing, bulk delete: 3, no error")
def test_ot_128_bulk_delete(service: Service) -> None:
    service.create(*"abc")
    assert service.manager.delete_tasks_by_ids(Work, ["a", "b", "c", "d", "a"]) == 3
    assert service.manager.get_tasks_by_ids(Work, "abcd") == []


@row("OT-129", "delete other env's: 0 + error; doc still there", f"0, no error: {APART}")
def test_ot_129_delete_elsewhere(service: Service, staging: Service) -> None:
    service.create("a")
    assert (staging.manager.delete_tasks_by_ids(Work, ["a"]), staging.manager.clear(Work)) == (0, 0)
    assert service.status("a") == "pending"


@row("OT-130", "own and other env task, get by ids / by key / pending count: only own")
@pytest.mark.parametrize("how", ["ids", "key", "count"])
def test_ot_130_reads_only_its_own(service: Service, staging: Service, how: str) -> None:
    service.create("a", "b", key="K", note="ours")
    staging.create("a", key="K", note="theirs")
    match how:
        case "ids":
            assert [task.data.note for task in staging.manager.get_tasks_by_ids(Work, "ab")] == ["theirs"]
        case "key":
            assert [task.data.note for task in staging.manager.get_tasks_by_resource_key(Work, "K")] == ["theirs"]
        case "count":
            counts = service.manager.get_pending_count(Work), staging.manager.get_pending_count(Work)
            assert counts == (2, 1)


@row("OT-131", "due task of the type in another env, worker runs: never executed, no lease, not done")
def test_ot_131_never_runs_anothers(service: Service, staging: Service) -> None:
    service.create("a")
    before = service.stored("a")
    staging.handle()
    assert staging.post(service.body("a")).json["outcome"] == "foreign"
    staging.cloud.sweep()
    assert (staging.ran, service.stored("a")) == ([], before)


@row(
    "OT-132",
    "exhausted generator, reset: spawns again from now",
    "it goes on with the runs that its rule still has: an exhausted one ends again, a cancelled one recurs again",
)
def test_ot_132_reset_a_generator(service: Service) -> None:
    service.handle(Repeat)
    for name, rule in (("short", RULE), ("long", RULE | {"rrule": "FREQ=DAILY"})):
        service.manager.create_task(Repeat(name=name, rule=rule))
    service.manager.cancel_task(Repeat, "long")
    service.cloud.advance(days=3)
    assert [service.lock(name, Repeat).status for name in ("short", "long")] == [Status.COMPLETED, Status.CANCELLED]
    service.ran.clear()

    assert service.manager.reset_tasks_by_ids(Repeat, ["short", "long"]) == 2
    service.cloud.advance(days=2)
    assert service.ran == ["long_occ_2026-01-05T00:00:00Z", "long_occ_2026-01-06T00:00:00Z"]
    assert [service.lock(name, Repeat).status for name in ("short", "long")] == [Status.COMPLETED, Status.SCHEDULED]


@row("OT-133", "deleted while leased, handler ends: no doc resurrected")
def test_ot_133_deleted_while_it_runs(service: Service) -> None:
    service.handle().create("a")
    service.act = lambda task, attempt: service.manager.delete_task(Work, "a")
    assert service.post(service.body("a")).json["outcome"] == "lost-to-later"
    assert service.manager.get_task(Work, "a") is None
    service.settle()
    assert service.ran == ["a"]
