"""
The life of a journal: its sealed parts end with the record that lists them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gcp_oncetask import Continue, Fail, Snooze, Status
from gcp_oncetask.store.journals import read
from tests.support.durable import SECOND, play
from tests.support.tasks import Fleeting, Grave, Latest, Service, Work

TEXT = "x" * 6_000


def parts(service: Service) -> list[dict[str, Any]]:
    """
    The sealed parts of all journals, as stored.
    """
    found = service.manager.locker.client.collection("onceJournals").stream()
    return [dict(each.to_dict() or {}) for each in found]


def handled(service: Service, model: type[Work], act: Any) -> Any:
    """
    Let *act* handle the task ``a`` for an hour, with sweeps; return its record.
    """
    service.handle(model, retry=SECOND).create("a", model=model)
    service.act = act
    service.settle(60)
    return service.lock("a", model)


def long(last: Any) -> Any:
    """
    A handler with a journal of two sealed parts, that ends with *last*.
    """

    def act(task: Any, attempt: Any) -> Any:
        for number in range(7):
            attempt.run(f"step-{number}", lambda: TEXT)
        return last(attempt) if callable(last) else last

    return act


def test_du_99_parts_expire_with_their_task(service: Service) -> None:
    lock, stored = handled(service, Fleeting, long("done")), service.stored("a", Fleeting)
    assert (lock.status, len(lock.chunks)) == (Status.COMPLETED, 2)
    assert [(each["expireAt"], each["owner"]) for each in parts(service)] == [
        (stored["expireAt"], service.path("a", Fleeting))
    ] * 2
    assert service.manager.reset_task(Fleeting, "a")
    assert service.lock("a", Fleeting).chunks == ()
    assert parts(service) == []


def test_du_99_a_task_that_is_kept_keeps_its_parts(service: Service) -> None:
    play(service, long("done"))
    assert ["expireAt" in each for each in parts(service)] == [False, False]


def test_du_99_reset_of_a_failed_task_clears_the_expiry(service: Service) -> None:
    handled(service, Fleeting, long(Fail("no")))
    service.settle(5)
    assert all("expireAt" in each for each in parts(service))
    assert service.manager.reset_task(Fleeting, "a")
    assert ["expireAt" in each for each in parts(service)] == [False, False]
    assert (
        len(read(service.manager.locker._runtime.store, service.path("a", Fleeting), service.lock("a", Fleeting))) == 7
    )


def test_du_99_deletion_deletes_the_parts(service: Service) -> None:
    play(service, long("done"))
    assert service.manager.delete_task(Work, "a")
    assert parts(service) == []


def test_du_99_a_part_that_is_missing_holds_up_no_end(service: Service) -> None:
    def forget(attempt: Any) -> str:
        for each in service.manager.locker.client.collection("onceJournals").stream():
            each.reference.delete()
        return "done"

    assert handled(service, Fleeting, long(forget)).status is Status.COMPLETED
    assert all(set(each) == {"expireAt"} for each in parts(service))
    assert service.manager.delete_task(Fleeting, "a")
    assert parts(service) == []


def test_du_99_a_tombstone_keeps_no_journal(service: Service) -> None:
    assert len(handled(service, Grave, long("done")).chunks) == 2
    service.cloud.advance(days=31)
    service.cloud.sweep()
    lock = service.lock("a", Grave)
    assert (lock.erased, lock.journal, lock.chunks, lock.mailbox) == (True, (), (), ())
    assert parts(service) == []


def test_du_102_the_next_step_has_an_empty_journal(service: Service) -> None:
    """
    A delivery of the step before, which comes late, changes nothing.
    """

    def act(task: Any, attempt: Any) -> Any:
        if attempt.step == 1:
            return long(Continue())(task, attempt)
        return attempt.run("step-0", lambda: "anew")

    service.handle().create("a")
    body = service.body("a")
    service.act = act
    service.settle(5)
    lock = service.lock("a")
    assert (lock.status, lock.result, lock.chunks, parts(service)) == (Status.COMPLETED, "anew", (), [])
    assert service.post(body).status_code == 200
    assert service.lock("a") == lock


@pytest.mark.parametrize(
    ("raised", "kept"), [(Snooze(5), True), (ValueError("again"), True), (Continue(), False)], ids=str
)
def test_du_112_an_end_between_words(service: Service, raised: Any, kept: bool) -> None:
    calls: list[str] = []

    def act(task: Any, attempt: Any) -> Any:
        attempt.run("first", lambda: calls.append("first"))
        if len(service.ran) == 1:
            raise raised
        return attempt.run("second", lambda: "end")

    play(service, act)
    lock = service.lock("a")
    assert (lock.status, lock.result, len(calls)) == (Status.COMPLETED, "end", 1 if kept else 2)


def test_du_101_a_newer_payload_begins_with_an_empty_journal(service: Service) -> None:
    lock = handled(service, Latest, long(lambda attempt: attempt.sleep("nap", timedelta(days=1))))
    assert (len(lock.chunks), lock.status) == (2, Status.SCHEDULED)
    service.manager.create_task(Latest(name="a", note="newer"))
    after = service.lock("a", Latest)
    assert (after.sequence, after.chunks, after.journal, parts(service)) == (lock.sequence + 1, (), (), [])
