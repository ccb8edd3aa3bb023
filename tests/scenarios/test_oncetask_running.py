"""
oncetask: running tasks, one by one and by resource key. One test per row of its behaviour.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from gcp_oncetask import DuplicateKindError, FixedDelay, Status
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.scenarios import row
from tests.support.patience import patient
from tests.support.tasks import Other, Service, Work


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud) -> Service:
    """
    A deployment.
    """
    return Service(oncetask_cloud)


@row("OT-050", "handler registered, create: runs exactly once; done set; no errors")
def test_ot_050_runs_once(service: Service) -> None:
    service.handle().create("a")
    service.cloud.run_until_idle()
    assert service.cloud.duplicate_last() == 200

    task = service.get("a")
    assert (service.ran, task.lock.status, task.errors) == (["a"], Status.COMPLETED, ())
    assert task.done_at is not None


@row("OT-051", "handler returns a map: result stored and readable")
def test_ot_051_result_is_stored(service: Service) -> None:
    service.handle().create("a")
    service.act = lambda task, attempt: {"answer": 42, "of": task.data.name}
    service.cloud.run_until_idle()
    assert service.manager.result(Work, "a") == {"answer": 42, "of": "a"} == service.get("a").result


@row("OT-052", "handler without result: done, ran once")
def test_ot_052_no_result(service: Service) -> None:
    service.handle().create("a")
    service.cloud.run_until_idle()
    assert (service.manager.result(Work, "a"), service.ran, service.status("a")) == (None, ["a"], "completed")


@row("OT-053", "register again: already-exists error")
def test_ot_053_second_handler(service: Service) -> None:
    service.handle()
    with pytest.raises(DuplicateKindError, match="'work' has a handler already"):
        service.handle()


@row("OT-054", "single handler registered, register group handler for the type: already-exists error")
def test_ot_054_second_handler_for_keys(service: Service) -> None:
    service.handle()
    with pytest.raises(DuplicateKindError, match="'work' has a handler already"):
        service.handle_keys()


@row("OT-055", "4 due tasks of one key, group handler: all done, every id delivered exactly once, at most 4 calls")
def test_ot_055_tasks_of_a_key_in_one_call(service: Service) -> None:
    service.create(*"abcd", key="K")
    service.handle_keys()
    service.cloud.run_until_idle()
    assert service.batches == [["a", "b", "c", "d"]]
    assert {service.status(name) for name in "abcd"} == {"completed"}


@row("OT-056", "6 tasks, one key, single handler, concurrency 4, 300 ms each: all done, never 2 at once")
def test_ot_056_one_at_a_time_per_key(service: Service) -> None:
    running, began, others_answered = threading.Semaphore(1), threading.Event(), threading.Event()
    together: list[str] = []

    def act(task: Any, attempt: Any) -> None:
        if not running.acquire(blocking=False):
            together.append(task.id)
        began.set()
        others_answered.wait(patient(30))
        running.release()

    service.handle().create(*"abcdef", key="K")
    service.act = act
    first, *others = [service.body(name) for name in "abcdef"]
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(service.post, first)
        assert began.wait(patient(30))
        answers = service.post_all(others)
        others_answered.set()
        assert held.result().json["outcome"] == "completed"
    assert answers == ["parked"] * 5

    service.cloud.run_until_idle()
    assert (together, sorted(service.ran)) == ([], list("abcdef"))
    assert {service.status(name) for name in "abcdef"} == {"completed"}


@row(
    "OT-057",
    "6 tasks, no key, concurrency 3, 400 ms each: all done, more than 1 and at most 3 at once",
    "pushed: as many at once as there are deliveries; the queue's maxConcurrentDispatches is the limit",
)
def test_ot_057_without_a_key_at_once(service: Service) -> None:
    service.handle().create(*"abcdef")
    three = threading.Barrier(3)
    service.act = lambda task, attempt: three.wait(patient(30)) and None
    answers = service.post_all([service.body(name) for name in "abcdef"], at_once=3)
    assert (answers, sorted(service.ran)) == (["completed"] * 6, list("abcdef"))


@row("OT-058", "3 tasks of a key due at +0.5/+0.9/+1.3 s, all past, group handler: delivered in due order")
def test_ot_058_in_due_order(service: Service) -> None:
    now = service.cloud.clock_now()
    for name, seconds in (("late", 1.3), ("soon", 0.5), ("next", 0.9)):
        service.create(name, key="K", at=now + timedelta(seconds=seconds))
    service.cloud.clock.advance(2)
    service.handle_keys()
    service.cloud.run_until_idle()
    assert service.batches == [["soon", "next", "late"]]


@row("OT-059", "due 1 s ago: runs, done")
def test_ot_059_due_in_the_past(service: Service) -> None:
    service.handle().create("a", at=service.cloud.clock_now() - timedelta(seconds=1))
    service.cloud.run_until_idle()
    assert (service.ran, service.status("a")) == (["a"], "completed")


@row("OT-060", "due in 30 s: not run while waiting")
def test_ot_060_due_in_the_future(service: Service) -> None:
    service.handle().create("a", at=service.cloud.clock_now() + timedelta(seconds=30))
    assert service.post(service.body("a")).json["outcome"] == "early"
    service.cloud.advance(seconds=29)
    assert (service.ran, service.status("a")) == ([], "waiting")
    service.cloud.advance(seconds=1)
    assert service.ran == ["a"]


@row("OT-061", "3 tasks without key, group handler: 3 calls of size 1")
def test_ot_061_without_a_key_alone(service: Service) -> None:
    service.handle_keys().create(*"abc")
    service.cloud.run_until_idle()
    assert service.batches == [["a"], ["b"], ["c"]]


@row(
    "OT-062",
    "lease expired 1 h ago, attempts 1 (crashed worker): runs, done, attempts 2",
    "taken over as soon as the logs show the crash, at the latest at the timeout",
)
def test_ot_062_after_a_crash(service: Service) -> None:
    service.handle().create("a")
    service.die_once()
    service.cloud.run_until_idle()
    assert service.lock("a").status is Status.LEASED
    service.settle(60)
    assert (service.ran, service.lock("a").attempts, service.status("a")) == (["a", "a"], 2, "completed")


@row("OT-063", "group handler fails: every task of the batch gets one error and its own retry time")
def test_ot_063_batch_fails(service: Service) -> None:
    service.create(*"abc", key="K")
    service.handle_keys(retry=FixedDelay(delay=timedelta(seconds=30)))

    def act(tasks: Any, attempts: Any) -> None:
        raise ValueError("no")

    service.act = act
    service.cloud.run_until_idle()
    for name in "abc":
        lock = service.lock(name)
        assert ([error.message for error in lock.errors], lock.attempts) == (["ValueError: no"], 1)
        assert lock.wait_until is not None
        assert (lock.wait_until - service.cloud.clock_now()).total_seconds() == pytest.approx(30, abs=1)
    service.act = lambda tasks, attempts: None
    service.cloud.advance(seconds=31)
    assert {service.status(name) for name in "abc"} == {"completed"}


@row("OT-064", "group handler succeeds: same result stored on every task")
def test_ot_064_result_of_a_batch(service: Service) -> None:
    service.create(*"abc", key="K")
    service.handle_keys()
    service.act = lambda tasks, attempts: {"batch": len(tasks)}
    service.cloud.run_until_idle()
    assert [service.manager.result(Work, name) for name in "abc"] == [{"batch": 3}] * 3


@row(
    "OT-065",
    "one task of the key leased by another worker: group claim claims nothing",
    "they wait for the key, across kinds, and follow when it is given back",
)
def test_ot_065_key_is_held(service: Service) -> None:
    service.handle(Other).handle_keys()
    service.create("held", model=Other, key="K")
    service.create("a", "b", key="K")
    answers: list[str] = []

    def hold(task: Any, attempt: Any) -> None:
        service.act = lambda tasks, attempts: None
        answers.extend(service.post(service.body(name)).json["outcome"] for name in "ab")
        answers.extend(str(service.lock(name).attempts) for name in "ab")

    service.act = hold
    service.post(service.body("held", Other))
    assert answers == ["parked", "parked", "0", "0"]
    service.cloud.run_until_idle()
    assert service.batches == [["a", "b"]]
