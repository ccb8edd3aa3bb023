"""
The ends of children and of their parents: failures, cancellations, retention.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gcp_oncetask import CancelledByRequest, ChildFailedError, Fail, Status
from gcp_oncetask.execution.journaling import journal_of
from gcp_oncetask.execution.value_words import running_of
from tests.support.children import Family, Held, fails, three, upper
from tests.support.durable import SECOND
from tests.support.tasks import Fleeting, Latest, Other, Service, Work


def test_du_80_a_failed_child_wakes_its_parent_at_once(service: Service) -> None:
    seen: list[Any] = []
    held = Held()

    def child(task: Any, attempt: Any) -> Any:
        return fails(task, attempt) if task.data.name == "y" else held(task, attempt)

    def act(task: Any, attempt: Any) -> str:
        try:
            three(task, attempt)
        except ChildFailedError as error:
            seen.append((error.name, error.status, "no paper" in str(error)))
            if len(seen) == 1:
                raise ValueError("again") from None
            return "compensated"
        raise AssertionError

    family = Family(service, act, child).start(settle=4)
    assert (seen, service.lock("a").result) == ([("label", "failed", True)] * 2, "compensated")
    held.free = True
    service.settle(6)
    # The other children go on.
    assert [each["parent"].split("/")[1] for each in family.children()] == ["ended", "failed", "ended"]
    assert service.ran.count("a") == 3


def test_du_80_a_tolerated_failure_is_in_its_place(service: Service) -> None:
    def act(task: Any, attempt: Any) -> Any:
        found = attempt.run_tasks("label", [Other(name=name) for name in "xyz"], return_exceptions=True)
        return [each.status if isinstance(each, ChildFailedError) else each for each in found]

    Family(service, act, fails).start(settle=4)
    assert (service.lock("a").result, service.ran.count("a")) == (["X", "failed", "Z"], 2)


@pytest.mark.parametrize(("tolerate", "ends"), [(1, "X failed Z"), (0, "raised")])
def test_so_many_failures_are_tolerated(service: Service, tolerate: int, ends: str) -> None:
    def act(task: Any, attempt: Any) -> Any:
        try:
            found = attempt.run_tasks("label", [Other(name=name) for name in "xyz"], tolerate=tolerate)
        except ChildFailedError:
            return "raised"
        return " ".join(each.status if isinstance(each, ChildFailedError) else each for each in found)

    Family(service, act, fails).start(settle=4)
    assert service.lock("a").result == ends


def test_du_80_a_deleted_child_counts_as_failed(service: Service) -> None:
    def act(task: Any, attempt: Any) -> Any:
        try:
            return attempt.run_task("one", Other(name="x"))
        except ChildFailedError as error:
            return error.status

    family = Family(service, act, Held()).start()
    [child] = family.children()
    assert service.manager.delete_task(Other, child["id"])
    service.cloud.run_until_idle()
    assert service.lock("a").result == "deleted"


def test_du_81_a_cancelled_parent_cancels_its_children_and_theirs(service: Service) -> None:
    def child(task: Any, attempt: Any) -> Any:
        if task.data.name == "x":
            return "ended"
        return attempt.run_task("grandchild", Fleeting(name=f"{task.data.name}-child"))

    family = Family(service, three, child)
    family.acts["fleeting"] = Held()
    service.handle(Fleeting, retry=SECOND)
    family.start()
    assert service.manager.cancel_task(Work, "a")
    service.settle(10)
    assert service.lock("a").status is Status.CANCELLED
    found = {each["data"]["name"]: each["lock"]["status"] for each in family.children()}
    assert found == {
        "x": "completed",
        "y": "cancelled",
        "z": "cancelled",
        "y-child": "cancelled",
        "z-child": "cancelled",
    }
    assert (service.lock("a").children, service.lock("a").orphans, service.lock("a").due) == ((), (), None)


def test_du_81_a_cancellation_that_dies_after_its_commit_is_done_by_the_sweeper(service: Service) -> None:
    family = Family(service, three, Held()).start()
    runtime = service.manager.locker._runtime
    told, runtime.after_kin = runtime.after_kin, None
    assert service.manager.cancel_task(Work, "a")
    assert len(service.lock("a").orphans) == 1
    runtime.after_kin = told
    service.settle(6)
    assert {each["lock"]["status"] for each in family.children()} == {"cancelled"}
    assert (service.lock("a").status, service.lock("a").orphans) == (Status.CANCELLED, ())


def test_du_81_the_handler_of_a_cancelled_parent_is_told_in_its_word(service: Service) -> None:
    told: list[str] = []

    def act(task: Any, attempt: Any) -> Any:
        try:
            return three(task, attempt)
        except CancelledByRequest:
            told.append(attempt.run("undo", lambda: "undone"))
            raise

    family = Family(service, act, Held()).start()
    assert service.manager.cancel_task(Work, "a")
    service.settle(6)
    assert (told, service.lock("a").status) == (["undone"], Status.CANCELLED)
    assert {each["lock"]["status"] for each in family.children()} == {"cancelled"}


def test_du_81_no_child_is_created_after_the_cancellation(service: Service) -> None:
    def act(task: Any, attempt: Any) -> Any:
        def cancel() -> None:
            # The cancellation comes between the entry and the children.
            assert service.manager.cancel_task(Work, "a")

        journal = journal_of(running_of(attempt))
        commit: Any = journal.commit

        def committed(entries: Any, **more: Any) -> None:
            if more.get("also") is not None:
                cancel()
            commit(entries, **more)

        journal.commit = committed  # type: ignore[method-assign]
        return three(task, attempt)

    family = Family(service, act, Held()).start(settle=6)
    assert (service.lock("a").status, family.children()) == (Status.CANCELLED, [])


def test_the_end_of_a_child_wakes_no_wait_for_others(service: Service) -> None:
    first, second = Held(), Held()

    def child(task: Any, attempt: Any) -> Any:
        if task.data.name == "y":
            return fails(task, attempt)
        return (second if task.data.name == "second" else first)(task, attempt)

    def act(task: Any, attempt: Any) -> Any:
        try:
            three(task, attempt)
        except ChildFailedError:
            return attempt.run_task("second", Other(name="second"))

    Family(service, act, child).start(settle=4)
    first.free = True
    service.settle(6)
    lock = service.lock("a")
    assert (lock.status, lock.wait is not None and lock.wait.ended, service.ran.count("a")) == (
        Status.SCHEDULED,
        None,
        2,
    )
    second.free = True
    service.settle(6)
    assert (service.lock("a").result, service.ran.count("a")) == ("SECOND", 3)


def test_du_82_a_child_outlives_its_retention_until_its_parent_ends(service: Service) -> None:
    held = Held()

    def act(task: Any, attempt: Any) -> Any:
        return [attempt.run_task("one", Fleeting(name="x")), attempt.run_task("two", Fleeting(name="y"))]

    family = Family(service, act, lambda task, attempt: held(task, attempt) if task.data.name == "y" else "X")
    family.start(child=Fleeting)
    [child, _] = family.children()
    assert child["expireAt"] - child["doneAt"] == timedelta(days=30 + 366)
    held.free = True
    service.settle(10)
    assert (service.lock("a").status, service.lock("a").children, service.lock("a").orphans) == (
        Status.COMPLETED,
        (),
        (),
    )
    assert [each["expireAt"] - each["doneAt"] for each in family.children()] == [timedelta(days=30)] * 2


def test_du_82_the_debt_of_a_parent_that_died_after_its_end_is_paid_by_the_sweeper(service: Service) -> None:
    family = Family(service, lambda task, attempt: attempt.run_task("one", Fleeting(name="x")), upper)
    family.handle(child=Fleeting)
    runtime = service.manager.locker._runtime
    told = runtime.after_kin
    assert told is not None

    def dies(runtime: Any, snapshot: Any) -> None:
        if snapshot.path != service.path("a"):
            told(runtime, snapshot)

    runtime.after_kin = dies
    service.create("a")
    service.cloud.run_until_idle()
    assert (service.lock("a").status, service.lock("a").orphans) == (Status.COMPLETED, ("*",))
    [child] = family.children()
    assert child["expireAt"] - child["doneAt"] == timedelta(days=30 + 366)
    runtime.after_kin = told
    service.settle(6)
    [child] = family.children()
    assert (child["expireAt"] - child["doneAt"], service.lock("a").orphans) == (timedelta(days=30), ())


def test_du_82_the_last_child_that_finds_its_parent_ended_does_it_itself(service: Service) -> None:
    held = Held()

    def child(task: Any, attempt: Any) -> Any:
        return fails(task, attempt) if task.data.name == "y" else held(task, attempt)

    def act(task: Any, attempt: Any) -> Any:
        try:
            attempt.run_tasks("label", [Fleeting(name=name) for name in "xyz"])
        except ChildFailedError:
            return "without them"

    family = Family(service, act, child).start(child=Fleeting)
    service.settle(4)
    assert service.lock("a").result == "without them"
    held.free = True
    service.settle(10)
    found = family.children()
    assert [each["parent"].split("/")[1] for each in found] == ["ended", "failed", "ended"]
    assert {each["expireAt"] - each["doneAt"] for each in found} == {timedelta(days=30)}


def test_a_replaced_parent_cancels_its_children(service: Service) -> None:
    def act(task: Any, attempt: Any) -> Any:
        return "new" if task.data.note else three(task, attempt)

    family = Family(service, act, Held()).start(parent=Latest)
    service.manager.create_task(Latest(name="a", note="newer"))
    service.settle(6)
    assert service.lock("a", Latest).result == "new"
    assert {each["lock"]["status"] for each in family.children()} == {"cancelled"}


def test_the_children_of_a_failed_parent_that_have_not_begun_are_cancelled_and_its_mail_lists_them(
    service: Service,
) -> None:
    held = Held()

    def child(task: Any, attempt: Any) -> Any:
        return fails(task, attempt) if task.data.name == "y" else held(task, attempt)

    def act(task: Any, attempt: Any) -> Any:
        try:
            three(task, attempt)
        except ChildFailedError as error:
            raise Fail("no label") from error

    family = Family(service, act, child).handle()
    service.create("a")
    service.deliver("a")
    bodies = sorted(
        (body for body in service.bodies() if b":other:" in body), key=lambda body: body.split(b":other:")[1]
    )
    for body in bodies[:2]:
        service.post(body)
    service.deliver("a")
    assert service.lock("a").status is Status.FAILED
    cancelled = [each["data"]["name"] for each in family.children() if "cancelRequestedAt" in each["lock"]]
    assert cancelled == ["z"]
    [alert] = [each for each in service.cloud.alerts.sent if each.document == service.path("a")]
    told = {f"child {service.path(each['id'], Other)}: {each['lock']['status']}" for each in family.children()}
    assert set(alert.kin) == {each for each in told if not each.endswith("failed")}
    held.free = True
    service.settle(8)
    assert sorted(each["lock"]["status"] for each in family.children()) == ["cancelled", "completed", "failed"]


def test_du_81_a_running_child_sees_the_cancellation(service: Service) -> None:
    seen: list[Any] = []

    def child(task: Any, attempt: Any) -> Any:
        assert service.manager.cancel_task(Work, "a")
        attempt.renew()
        seen.append(attempt.cancelled)
        return "too late"

    family = Family(service, lambda task, attempt: attempt.run_task("one", Other(name="x")), child).start()
    service.settle(4)
    assert seen == [True]
    assert [each["lock"]["status"] for each in family.children()] == ["completed"]
    assert service.lock("a").status is Status.CANCELLED
