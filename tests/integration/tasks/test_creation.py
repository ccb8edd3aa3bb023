"""
Creating once-tasks: conflicts of payloads, lost answers, transactions, many at once; and what ends in retention.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.cloud import firestore

from gcp_oncetask import AlreadyFinishedError, Status, StoreError, TaskConflictError, UsageError
from gcp_oncetask.tasks import TaskData
from tests.support.tasks import Fleeting, Grave, Latest, Other, Service, Strict, Work


@pytest.mark.filterwarnings("ignore:Field name:UserWarning")
@pytest.mark.parametrize("name", ["task_id", "resource_key", "scheduled_at", "recurrence"])
def test_a_field_named_like_a_method_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"field named '{name}'"):
        type("Bad", (TaskData,), {"__annotations__": {name: "str"}, "__module__": __name__}, kind="bad")


def test_same_id_in_two_kinds_and_environments_is_independent(service: Service) -> None:
    staging = Service(service.cloud, url="https://staging.test", env="STAGING")
    service.handle().handle(Other)
    staging.handle()
    service.create("a", note="1")
    service.create("a", note="2", model=Other)
    staging.create("a", note="3")
    service.cloud.run_until_idle()
    assert sorted(task.data.note for task in (*service.tasks, *staging.tasks)) == ["1", "2", "3"]


# --- conflicts --------------------------------------------------------------------------------------------------------


def test_conflict_is_raised_with_the_differences(service: Service) -> None:
    service.create("a", note="first", model=Strict)
    assert not service.manager.create_task(Strict(name="a", note="first"))
    with pytest.raises(TaskConflictError, match=r"another payload \(key; note\)") as caught:
        service.manager.create_task(Strict(name="a", note="second", key="K"))
    assert caught.value.differences == ['key: null -> "K"', 'note: "first" -> "second"']
    assert service.get("a", Strict).data.note == "first"


def test_newest_payload_of_a_waiting_task_runs_alone(service: Service) -> None:
    service.handle(Latest).create("a", note="1", model=Latest)
    made = [service.manager.create_task(Latest(name="a", note=str(number))) for number in (2, 3)]
    assert [(bool(one), one.replaced) for one in made] == [(False, True)] * 2
    service.settle(4)
    assert [task.data.note for task in service.tasks] == ["3"]


def test_newest_payload_moves_a_waiting_task(service: Service) -> None:
    later = service.cloud.clock_now() + timedelta(days=1)
    service.handle(Latest).create("a", note="1", at=later, model=Latest)
    service.manager.create_task(Latest(name="a", note="2"))
    service.cloud.run_until_idle()
    assert [task.data.note for task in service.tasks] == ["2"]
    service.cloud.advance(days=2)
    assert len(service.ran) == 1


@pytest.mark.parametrize("fails", [False, True])
def test_newest_payload_follows_a_run_exactly_once(service: Service, fails: bool) -> None:
    """
    Replaced twice while it runs: one more run, with the newest payload and a key of its own, whatever became of the first.
    """

    def act(task: Any, attempt: Any) -> None:
        service.act = lambda task, attempt: None
        for number in (2, 3):
            assert service.manager.create_task(Latest(name="a", note=str(number))).replaced
        if fails:
            raise ValueError("no")

    service.handle(Latest).create("a", note="1", model=Latest)
    service.act = act
    service.settle(10)
    assert [task.data.note for task in service.tasks] == ["1", "3"]
    assert len({attempt.key for attempt in service.attempts}) == 2
    assert (service.lock("a", Latest).status, service.get("a", Latest).data.note) == (Status.COMPLETED, "3")


def test_newest_payload_that_waits_follows_at_its_time(service: Service) -> None:
    later = service.cloud.clock_now() + timedelta(hours=1)

    def act(task: Any, attempt: Any) -> None:
        service.act = lambda task, attempt: None
        service.manager.create_task(Latest(name="a", note="2", at=later))

    service.handle(Latest).create("a", note="1", model=Latest)
    service.act = act
    service.cloud.advance(minutes=59)
    assert [task.data.note for task in service.tasks] == ["1"]
    service.cloud.advance(minutes=2)
    assert [task.data.note for task in service.tasks] == ["1", "2"]


def test_newest_payload_runs_after_the_end(service: Service) -> None:
    service.handle(Latest).create("a", note="1", model=Latest)
    service.cloud.run_until_idle()
    assert service.manager.create_task(Latest(name="a", note="2")).replaced
    service.cloud.run_until_idle()
    assert [
        (task.data.note, attempt.number) for task, attempt in zip(service.tasks, service.attempts, strict=True)
    ] == [
        ("1", 1),
        ("2", 1),
    ]
    assert len({attempt.key for attempt in service.attempts}) == 2


def test_replacing_the_resource_key_is_refused(service: Service) -> None:
    service.create("a", key="K", model=Latest)
    with pytest.raises(TaskConflictError, match="must stay"):
        service.manager.create_task(Latest(name="a", key="L"))


@pytest.mark.parametrize("model", [Work, Strict, Latest])
def test_bulk_treats_duplicates_as_one_after_the_other(service: Service, model: type[Work]) -> None:
    made = service.manager.create_tasks([model(name="a", note="1"), model(name="a", note="2")])
    assert made.created == 1
    assert [type(error) for error in made.errors] == ([TaskConflictError] if model is Strict else [])
    assert service.get("a", model).data.note == ("2" if model is Latest else "1")


# --- lost answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [Work, Strict, Latest])
def test_create_whose_answer_was_lost_is_recognised(service: Service, model: type[Work]) -> None:
    service.start_counting()
    service.cloud.faults.fail("Commit", when="after")
    made = service.manager.create_task(model(name="a"))
    assert (bool(made), made.dispatched, made.replaced, made.differences) == (True, True, False, ())
    service.handle(model).cloud.run_until_idle()
    assert service.ran == ["a"]


@pytest.mark.parametrize("model", [Work, Latest])
def test_bulk_create_whose_answer_was_lost_is_recognised(service: Service, model: type[Work]) -> None:
    service.start_counting()
    service.cloud.faults.fail("BatchWrite", when="after")
    made = service.manager.create_tasks([model(name=name) for name in "abc"])
    assert (made.created, made.errors) == (3, ())
    assert not any(item.replaced for item in made)  # type: ignore[union-attr]
    service.handle(model).cloud.run_until_idle()
    assert sorted(service.ran) == ["a", "b", "c"]


def test_bulk_create_fails_item_by_item_and_is_safe_to_repeat(service: Service) -> None:
    service.start_counting()
    service.cloud.faults.fail("BatchWrite", times=1)
    service.cloud.faults.fail("Commit", times=1, code=grpc.StatusCode.PERMISSION_DENIED)
    payloads = [Work(name=name) for name in "abc"]
    made = service.manager.create_tasks(payloads)
    assert ([type(item).__name__ for item in made], made.created) == (["StoreError", "Created", "Created"], 2)
    assert (service.manager.create_tasks(payloads).created, len(service.bodies())) == (1, 3)


def test_undispatched_task_is_delivered_by_the_sweeper(service: Service) -> None:
    service.cloud.faults.fail("CreateTask", times=None)
    assert not service.manager.create_task(Work(name="a")).dispatched
    service.cloud.faults.clear()
    service.handle().settle(4)
    assert service.ran == ["a"]


# --- transactions -----------------------------------------------------------------------------------------------------


def test_create_joins_the_callers_transaction(service: Service) -> None:
    service.handle()
    client = service.manager.locker.client
    account = client.document("accounts/1")

    @firestore.transactional
    def order(txn: Any, fails: bool) -> Any:
        made = service.manager.create_task(Work(name="a"), transaction=txn)
        txn.set(account, {"orders": 1})
        if fails:
            raise ValueError("no")
        return made

    with pytest.raises(ValueError, match="no"):
        order(client.transaction(), True)
    assert (service.manager.get_task(Work, "a"), account.get().exists) == (None, False)

    made = order(client.transaction(), False)
    assert (bool(made), made.dispatched, service.bodies()) == (True, False, [])
    assert [made.dispatch(), made.dispatch()] == [True, True]
    service.settle(4)
    assert (service.ran, account.get().to_dict()) == (["a"], {"orders": 1})
    assert not order(client.transaction(), False)


def test_create_in_a_transaction_without_dispatch_is_left_to_the_sweeper(service: Service) -> None:
    client = service.manager.locker.client
    create = firestore.transactional(lambda txn: service.manager.create_task(Work(name="a"), transaction=txn))
    assert create(client.transaction())
    service.handle().settle(4)
    assert service.ran == ["a"]


def test_create_inside_an_attempts_transaction(service: Service) -> None:
    """
    The follow-up is created with the checkpoint or not at all, and dispatched after the commit.
    """
    service.handle().handle(Other)

    def act(task: Any, attempt: Any) -> None:
        if task.kind == "other":
            return
        with attempt.transaction() as txn:
            service.manager.create_task(Other(name=f"after {attempt.number}"), transaction=txn)
            if attempt.number == 1:
                raise ValueError("no")

    service.act = act
    service.create("a")
    service.cloud.advance(seconds=10)
    assert service.ran == ["a", "a", "after 2"]
    assert service.manager.get_task(Other, "after 1") is None


# --- the end ----------------------------------------------------------------------------------------------------------


def test_retention_begins_at_the_end_and_is_cleared_by_a_reset(service: Service) -> None:
    service.handle(Fleeting).create("a", model=Fleeting)
    assert "expireAt" not in service.stored("a", Fleeting)
    service.cloud.run_until_idle()
    kept = service.stored("a", Fleeting)["expireAt"] - service.cloud.clock_now()
    assert abs(kept - timedelta(days=30)) < timedelta(seconds=1)
    assert service.manager.reset_task(Fleeting, "a")
    assert "expireAt" not in service.stored("a", Fleeting)
    service.cloud.run_until_idle()
    assert "expireAt" in service.stored("a", Fleeting)


def test_tombstone_keeps_id_outcome_and_hash(service: Service) -> None:
    service.handle(Grave).create("a", note="secret", model=Grave)
    service.act = lambda task, attempt: {"secret": True}
    service.cloud.run_until_idle()
    digest = service.stored("a", Grave)["dataHash"]
    service.cloud.advance(days=29)
    service.cloud.sweep()
    assert service.get("a", Grave).data.note == "secret"
    service.cloud.advance(days=2)
    service.cloud.sweep()

    stored, task = service.stored("a", Grave), service.get("a", Grave)
    assert ("data" in stored, "expireAt" in stored, stored["dataHash"]) == (False, False, digest)
    assert (task.lock.status, task.result, task.payload, task.lock.due) == (Status.COMPLETED, None, {}, None)
    again = service.manager.create_task(Grave(name="a", note="secret"))
    other = service.manager.create_task(Grave(name="a", note="other"))
    assert (bool(again), again.differences, bool(other)) == (False, (), False)
    assert other.differences == ("data: (erased) -> another payload",)
    with pytest.raises(AlreadyFinishedError, match="erased"):
        service.manager.reset_task(Grave, "a")
    service.settle(4)
    assert service.ran == ["a"]


def test_task_document_that_is_damaged_says_so(service: Service) -> None:
    service.create("a")
    service.manager.locker.client.document(service.path("a")).update({"createdAt": firestore.DELETE_FIELD})
    with pytest.raises(StoreError, match="createdAt is None"):
        service.get("a")
