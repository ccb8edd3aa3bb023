"""
Resource keys: one task at a time per key, across kinds; waiters in order; no hand-over is lost, whoever dies.
"""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.cloud.firestore import DELETE_FIELD

from gcp_oncetask import FixedDelay, Snooze, Status
from gcp_oncetask.rules.document_paths import key_path
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import Killed
from tests.support.tasks import Other, Service, Work

SECOND = FixedDelay(delay=timedelta(seconds=1))


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud) -> Service:
    """
    A deployment that handles two kinds.
    """
    return Service(oncetask_cloud).handle(lease_duration=60, retry=SECOND).handle(Other, retry=SECOND)


def while_it_runs(service: Service, act: Any) -> None:
    """
    Let the first handler do *act*, and those after it nothing.
    """

    def first(task: Any, attempt: Any) -> Any:
        service.act = lambda task, attempt: None
        return act(task, attempt)

    service.act = first


def park(service: Service, *names: str, model: type[Work] = Work) -> None:
    """
    Deliver tasks whose key is held.
    """
    for name in names:
        answer = service.deliver(name, model)
        assert (answer.status_code, answer.json["outcome"]) == (200, "parked")
        assert (service.lock(name, model).due, service.lock(name, model).attempts) == (None, 0)


def test_key_is_held_across_kinds(service: Service) -> None:
    service.create("a", key="K")
    service.create("b", key="K", model=Other)
    service.create("c", key="L", model=Other)

    def act(task: Any, attempt: Any) -> None:
        park(service, "b", model=Other)
        assert service.post(service.body("c", Other)).json["outcome"] == "completed"
        assert service.key("K")["lock"]["holder"] == service.path("a")

    while_it_runs(service, act)
    service.deliver("a")
    service.cloud.run_until_idle()
    assert service.ran == ["a", "c", "b"]
    assert "holder" not in service.key("K")["lock"]


def test_waiters_follow_in_due_order_across_kinds(service: Service) -> None:
    now = service.cloud.clock_now()
    service.create("holder", key="K")
    due = {"third": 3, "first": 1, "fourth": 4, "second": 2}
    for name, seconds in due.items():
        model = Other if seconds % 2 else Work
        service.create(name, key="K", at=now + timedelta(seconds=seconds), model=model)
    body = service.body("holder")
    service.cloud.clock.advance(5)

    def act(task: Any, attempt: Any) -> None:
        for name, seconds in due.items():
            park(service, name, model=Other if seconds % 2 else Work)

    while_it_runs(service, act)
    service.post(body)
    service.cloud.run_until_idle()
    assert service.ran == ["holder", "first", "second", "third", "fourth"]


def test_many_at_once_never_meet_and_all_run(service: Service) -> None:
    names = [f"t{number}" for number in range(8)]
    alone, met = threading.Lock(), []

    def act(task: Any, attempt: Any) -> None:
        if not alone.acquire(blocking=False):
            met.append(task.id)
            return
        threading.Event().wait(0.01)
        alone.release()

    service.act = act
    service.create(*names, key="K")
    service.post_all([service.body(name) for name in names])
    service.settle(20)
    assert (met, sorted(service.ran)) == ([], names)


def test_key_is_free_while_its_task_waits_for_a_retry(service: Service) -> None:
    service.create("a", "b", key="K")

    def act(task: Any, attempt: Any) -> None:
        raise ValueError("no")

    while_it_runs(service, act)
    service.cloud.advance(seconds=5)
    assert service.ran == ["a", "b", "a"]


def test_holder_that_is_deleted_frees_the_key(service: Service) -> None:
    service.create("a", "b", key="K")

    def act(task: Any, attempt: Any) -> None:
        park(service, "b")
        service.manager.delete_task(Work, "a")

    while_it_runs(service, act)
    service.deliver("a")
    service.cloud.run_until_idle()
    assert service.ran == ["a", "b"]


def test_holder_that_is_deleted_behind_our_back_frees_the_key(service: Service) -> None:
    """
    Deleted by the console: nobody hands over, the sweeper does.
    """
    service.create("a", "b", key="K")

    def act(task: Any, attempt: Any) -> None:
        park(service, "b")
        service.manager.locker.client.document(service.path("a")).delete()

    while_it_runs(service, act)
    service.deliver("a")
    service.cloud.run_until_idle()
    assert service.ran == ["a"]
    service.settle(10)
    assert service.ran == ["a", "b"]


def test_contender_has_the_expired_holder_judged(service: Service) -> None:
    """
    No sweeper runs: whoever wants the key asks the logs, releases it and wakes those that wait.
    """
    service.create("a", "b", key="K")
    service.create("c", key="K", at=service.cloud.clock_now() + timedelta(seconds=130))

    def act(task: Any, attempt: Any) -> None:
        park(service, "b")
        raise Killed

    while_it_runs(service, act)
    first = service.body("a")
    assert service.post(first).status_code == 503
    service.cloud.write_system("Container called exit(137).")
    for task in service.cloud.local.tasks.tasks():
        if bytes(task.http_request.body) == first:
            service.cloud.drop(task.name)
    service.cloud.advance(seconds=129)
    assert service.ran == ["a"]
    service.cloud.advance(seconds=30)
    assert sorted(service.ran[1:]) == ["a", "b", "c"]
    assert service.ran[1] == "b"
    assert service.lock("a").errors[0].message.startswith("lease expired: ")


@pytest.mark.parametrize("evidence", [True, False])
def test_sweepers_takeover_gives_the_key_back(service: Service, evidence: bool) -> None:
    """
    By evidence after the lease and the log grace; without any, at the timeout.
    """
    service.create("a", "b", key="K")

    def act(task: Any, attempt: Any) -> None:
        park(service, "b")
        raise Killed

    while_it_runs(service, act)
    service.deliver("a")
    for task in service.cloud.local.tasks.tasks():
        service.cloud.drop(task.name)
    if evidence:
        service.cloud.write_system("Container called exit(137).")
    else:
        service.cloud.forget_logs()
    service.cloud.clock.advance(122)
    assert service.cloud.sweep().taken_over == int(evidence)
    service.cloud.clock.advance(630)
    service.cloud.sweep()
    service.settle(4)
    assert (service.ran[:2], sorted(service.ran)) == (["a", "b"], ["a", "a", "b"])


def test_quarantined_holder_frees_the_key(oncetask_cloud: OncetaskCloud) -> None:
    service = Service(oncetask_cloud).handle(lease_duration=60, on_unknown="quarantine")
    service.create("a", "b", key="K")

    def act(task: Any, attempt: Any) -> None:
        park(service, "b")
        raise Killed

    while_it_runs(service, act)
    service.deliver("a")
    service.cloud.forget_logs()
    service.settle(20)
    assert (service.lock("a").status, service.ran) == (Status.QUARANTINED, ["a", "b"])


# --- hand-overs -------------------------------------------------------------------------------------------------------


def test_sweeper_hands_over_when_the_process_dies_in_between(service: Service) -> None:
    """
    The release is committed, the hand-over is not.
    """
    service.create("a", "b", key="K")

    def act(task: Any, attempt: Any) -> None:
        park(service, "b")
        # The end is refused once, since the other one has written the key's document.
        service.cloud.faults.fail("Commit", skip=2, code=grpc.StatusCode.PERMISSION_DENIED)

    while_it_runs(service, act)
    assert service.deliver("a").json["outcome"] == "completed"
    service.cloud.run_until_idle()
    assert (service.ran, service.lock("b").parked is not None) == (["a"], True)
    service.cloud.advance(minutes=5, seconds=1)
    assert service.cloud.sweep().handed_over == 1
    service.cloud.run_until_idle()
    assert service.ran == ["a", "b"]
    assert "due" not in service.key("K")["lock"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_hand_over_whose_answer_is_lost(service: Service, when: Any) -> None:
    service.create("a", "b", key="K")

    def act(task: Any, attempt: Any) -> None:
        park(service, "b")
        service.cloud.faults.fail("Commit", when=when, skip=2)

    while_it_runs(service, act)
    service.deliver("a")
    service.settle(10)
    assert service.ran == ["a", "b"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_release_whose_answer_is_lost_hands_over(service: Service, when: Any) -> None:
    service.create("a", "b", key="K")

    def act(task: Any, attempt: Any) -> None:
        park(service, "b")
        service.cloud.faults.fail("Commit", when=when, skip=1)

    while_it_runs(service, act)
    assert service.deliver("a").json["outcome"] == "completed"
    service.cloud.run_until_idle()
    assert service.ran == ["a", "b"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_claim_whose_answer_is_lost_holds_the_key_once(service: Service, when: Any) -> None:
    service.create("a", "b", key="K")
    service.start_counting()
    service.cloud.faults.fail("Commit", when=when)
    service.cloud.run_until_idle()
    assert service.ran == ["a", "b"]
    assert "holder" not in service.key("K")["lock"]


def test_release_inside_the_attempts_transaction_hands_over(service: Service) -> None:
    """
    User code that only checkpoints keeps the key until the end.
    """
    service.create("a", "b", key="K")

    def act(task: Any, attempt: Any) -> None:
        park(service, "b")
        with attempt.transaction() as txn:
            txn.set(service.manager.locker.client.document("notes/1"), {"by": task.id})
        assert service.key("K")["lock"]["holder"] == service.path("a")

    while_it_runs(service, act)
    service.deliver("a")
    service.cloud.run_until_idle()
    assert service.ran == ["a", "b"]


def test_key_whose_document_is_deleted_is_made_anew(service: Service) -> None:
    service.create("a", "b", key="K")

    def act(task: Any, attempt: Any) -> None:
        service.manager.locker.client.document(key_path("DEFAULT", "K")).delete()

    while_it_runs(service, act)
    service.cloud.run_until_idle()
    assert service.ran == ["a", "b"]
    assert service.key("K")["key"] == "K"


def test_damage_of_a_key_without_a_due_time_is_told_while_a_task_waits(
    oncetask_cloud: OncetaskCloud, service: Service
) -> None:
    """
    A person deletes the key's document while a task waits for it, and damages the next one: no due time leads to it. Once it
    is repaired, the task runs.
    """
    service.create("a", "b", key="K")
    document = service.manager.locker.client.document(key_path("DEFAULT", "K"))

    def act(task: Any, attempt: Any) -> None:
        park(service, "b")
        lock = service.key("K")["lock"] | {"status": "completed", "fingerprint": "f"}
        document.set({"env": "DEFAULT", "key": "K", "lock": {name: lock[name] for name in lock if name != "due"}})

    while_it_runs(service, act)
    service.deliver("a")
    for _ in range(3):
        oncetask_cloud.advance(minutes=2)
        oncetask_cloud.sweep()
    [alert] = [each for each in oncetask_cloud.alerts.sent if each.document == document.path]
    assert alert.damaged
    assert service.ran == ["a"]
    document.update({"lock.fingerprint": DELETE_FIELD})
    oncetask_cloud.advance(hours=2)
    oncetask_cloud.sweep()
    oncetask_cloud.run_until_idle()
    assert service.ran == ["a", "b"]


# --- cancellation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cleans", [True, False])
@pytest.mark.parametrize("when", ["parked", "handed over"])
def test_cancelled_waiter_passes_the_key_on(oncetask_cloud: OncetaskCloud, cleans: bool, when: str) -> None:
    service = Service(oncetask_cloud)
    cleaned: list[str] = []
    on_cancel = (lambda task, attempt: cleaned.append(task.id)) if cleans else None
    service.handle(on_cancel=on_cancel).create("a", "b", "c", key="K")
    waiting = service.body("a")

    def act(task: Any, attempt: Any) -> None:
        park(service, "b", "c")
        if when == "parked":
            assert service.manager.cancel_task(Work, "b")

    while_it_runs(service, act)
    service.post(waiting)
    if when == "handed over":
        assert service.lock("b").parked is None
        assert service.manager.cancel_task(Work, "b")
    service.settle(4)
    assert (service.ran, cleaned) == (["a", "c"], ["b"] if cleans else [])
    assert [service.lock(name).status for name in "abc"] == [Status.COMPLETED, Status.CANCELLED, Status.COMPLETED]


def test_waiter_that_is_deleted_after_the_hand_over_passes_the_key_on(service: Service) -> None:
    service.create("a", "b", "c", key="K")
    first = service.body("a")
    while_it_runs(service, lambda task, attempt: park(service, "b", "c"))
    service.post(first)
    service.manager.delete_task(Work, "b")
    service.cloud.run_until_idle()
    assert service.ran == ["a", "c"]


def test_waiter_whose_delivery_is_lost_after_the_hand_over(service: Service) -> None:
    service.create("a", "b", "c", key="K")
    first = service.body("a")
    while_it_runs(service, lambda task, attempt: park(service, "b", "c"))
    service.post(first)
    for task in service.cloud.local.tasks.tasks():
        service.cloud.drop(task.name)
    service.settle(6)
    assert service.ran == ["a", "b", "c"]


def test_waiter_that_ends_at_once_when_it_is_cancelled_passes_the_key_on(service: Service) -> None:
    """
    One that has run before and has no cancellation handler gets no other delivery that could.
    """
    service.create("b", key="K")
    while_it_runs(service, lambda task, attempt: Snooze(30))
    service.cloud.run_until_idle()
    service.cloud.clock.advance(31)
    service.create("a", "c", key="K")

    def act(task: Any, attempt: Any) -> None:
        park(service, "b", "c")

    while_it_runs(service, act)
    service.deliver("a")
    assert service.lock("b").parked is None
    assert service.manager.cancel_task(Work, "b")
    assert service.lock("b").status is Status.CANCELLED
    service.cloud.run_until_idle()
    assert service.ran == ["b", "a", "c"]


def test_free_key_goes_to_those_that_wait_first(service: Service) -> None:
    """
    The holder vanished; whoever comes next queues up behind those that waited, and wakes them.
    """
    service.create("a", "b", "c", key="K")

    def act(task: Any, attempt: Any) -> None:
        park(service, "b")
        service.manager.locker.client.document(service.path("a")).delete()

    while_it_runs(service, act)
    service.deliver("a")
    assert service.deliver("c").json["outcome"] == "parked"
    service.cloud.run_until_idle()
    assert service.ran == ["a", "b", "c"]
