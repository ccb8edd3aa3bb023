"""
Events for durable handlers: their order, their races, and the senders.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from gcp_oncetask import (
    Config,
    EventTimeoutError,
    Locker,
    MailboxFullError,
    NoRetry,
    Status,
    TaskConflictError,
    TaskNotFoundError,
    UsageError,
)
from gcp_oncetask.tasks import TaskManager
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker
from tests.support.durable import SECOND
from tests.support.tasks import DAILY, URL, Pull, Repeat, Service, Work


class Approval(BaseModel):
    """
    A payload.
    """

    by: str


def start(service: Service, act: Callable[[Any, Any], Any], **options: Any) -> Service:
    service.handle(**{"retry": SECOND, **options}).create("a")
    service.act = act
    service.cloud.run_until_idle()
    return service


def send(service: Service, by: str, **options: Any) -> Any:
    return service.manager.send(Work, "a", "approval", Approval(by=by), **options)


def approved(task: Any, attempt: Any) -> str:
    try:
        return attempt.wait_event("approval", Approval, timeout=timedelta(hours=1)).by
    except EventTimeoutError:
        return "nobody"


@pytest.mark.parametrize("early", [True, False])
def test_du_56_events_of_one_name_are_taken_in_the_order_of_their_commits(service: Service, early: bool) -> None:
    def act(task: Any, attempt: Any) -> list[str]:
        return [attempt.wait_event(f"e{n}", Approval, event="approval", timeout=None).by for n in range(2)]

    if early:
        service.create("a")
        send(service, "ann")
        send(service, "bob")
    service.handle()
    service.act = act
    if not early:
        service.create("a")
    service.cloud.run_until_idle()
    if not early:
        send(service, "ann")
        send(service, "bob")
    service.cloud.duplicate_last()
    service.cloud.run_until_idle()
    assert service.lock("a").result == ["ann", "bob"]
    assert service.lock("a").mailbox == ()


def test_du_57_the_sender_of_a_late_event_is_told(service: Service) -> None:
    def act(task: Any, attempt: Any) -> str:
        said = approved(task, attempt)
        attempt.run("late", lambda: told.append(send(service, "ann")))
        attempt.sleep("s", timedelta(hours=1))
        return said

    told: list[Any] = []
    start(service, act)
    service.cloud.advance(hours=3)
    [sent] = told
    assert (sent.stored, sent.woke, service.lock("a").result) == (True, False, "nobody")


def test_du_58_an_event_before_the_time_out_wins_though_its_delivery_comes_later(service: Service) -> None:
    start(service, approved)
    service.cloud.advance(minutes=59, seconds=59)
    sent = send(service, "ann")
    for task in service.cloud.local.tasks.tasks():
        service.cloud.drop(task.name)
    service.cloud.advance(minutes=1)
    service.settle(10)
    assert (sent.stored, sent.woke, service.lock("a").result) == (True, True, "ann")


@pytest.mark.parametrize("seconds", [-1, 0, 1])
def test_du_59_an_event_at_the_instant_of_the_time_out_has_one_outcome(service: Service, seconds: int) -> None:
    said: list[str] = []

    def act(task: Any, attempt: Any) -> str:
        said.append(approved(task, attempt))
        if len(said) == 1:
            raise ValueError("again")
        return said[-1]

    start(service, act)
    until = service.lock("a").wait
    assert until is not None
    assert until.until is not None
    body = service.body("a")
    for task in service.cloud.local.tasks.tasks():
        service.cloud.drop(task.name)
    left = (until.until - service.cloud.clock_now()).total_seconds()
    service.cloud.clock.advance(left + seconds)
    with ThreadPoolExecutor(2) as pool:
        sent = pool.submit(send, service, "ann")
        answer = pool.submit(service.post, body)
        sent.result()
        answer.result()
    service.settle(10)
    assert len(said) == 2
    assert said[0] == said[1] == service.lock("a").result
    assert said[0] in ("ann", "nobody")


def test_du_60_an_event_of_another_environment_is_refused(service: Service, oncetask_cloud: OncetaskCloud) -> None:
    other = TaskManager(Locker(config=Config(base_url=URL, env="OTHER")))
    oncetask_cloud.use(other.locker)
    start(service, approved)
    with pytest.raises(TaskNotFoundError):
        other.send(Work, "a", "approval", Approval(by="ann"))
    from gcp_oncetask.entities.sending import send as raw

    with pytest.raises(TaskConflictError, match="OTHER"):
        raw(other._runtime, service.path("a"), "approval", Approval(by="ann"))
    assert service.lock("a").mailbox == ()


def test_du_61_an_event_that_does_not_fit_ends_no_task_silently(service: Service) -> None:
    start(service, lambda task, attempt: attempt.wait_event("approval", Approval, timeout=None).by)
    service.manager.send(Work, "a", "approval", {"from": "ann"})
    service.settle(20)
    lock = service.lock("a")
    assert lock.status is Status.FAILED
    assert "by" in lock.errors[-1].message
    assert lock.attention is not None


def test_du_62_an_event_of_65_kib_is_refused(service: Service) -> None:
    start(service, approved)
    with pytest.raises(UsageError, match="at most 65536 are kept"):
        send(service, "a" * 65 * 1024)
    stored = 0
    for _ in range(10_000):
        try:
            service.manager.send(Work, "a", "other", {"x": "y" * 1000})
        except MailboxFullError:
            break
        stored += 1
    assert 0 < stored < 100
    assert sum(map(len, service.lock("a").mailbox)) <= 65_536
    service.settle(70)
    assert service.lock("a").result == "nobody"


def test_du_63_an_event_of_a_transaction_is_stored_with_it(service: Service) -> None:
    start(service, approved)
    client = service.manager.locker.client

    def write(fails: bool) -> Any:
        txn = client.transaction()
        sent = []

        def run(txn: Any) -> None:
            sent.append(send(service, "ann", transaction=txn))
            if fails:
                raise ValueError("rolled back")

        from google.cloud import firestore

        firestore.transactional(run)(txn)
        return sent[-1]

    with pytest.raises(ValueError, match="rolled back"):
        write(fails=True)
    assert service.lock("a").mailbox == ()
    write(fails=False)
    # The process is killed before dispatch(): the sweep wakes the handler.
    assert len(service.lock("a").mailbox) == 1
    service.settle(10)
    assert service.lock("a").result == "ann"


@pytest.mark.parametrize("joined", [False, True], ids=["alone", "joined"])
@pytest.mark.parametrize("after", [False, True], ids=["in time", "after"])
def test_du_57_late_says_whether_the_wait_has_timed_out(service: Service, joined: bool, after: bool) -> None:
    from google.cloud import firestore

    told: list[bool] = []

    def late() -> None:
        if not joined:
            told.append(send(service, "ann").late)
            return
        join = firestore.transactional(lambda txn: send(service, "ann", transaction=txn))
        sent = join(service.manager.locker.client.transaction())
        told.append(sent.late)
        assert sent.dispatch()

    def act(task: Any, attempt: Any) -> str:
        said = approved(task, attempt)
        late()
        return said

    start(service, act)
    if after:
        service.cloud.advance(hours=3)
    else:
        late()
        service.act = approved
    service.cloud.run_until_idle()
    assert (told, service.lock("a").result) == ([after], "nobody" if after else "ann")


@pytest.mark.parametrize(("id_", "taken", "stored"), [(None, True, True), ("e1", False, True), ("e1", True, False)])
def test_du_62_a_sender_whose_answer_was_lost_is_told_that_it_has_stored_the_event(
    service: Service, monkeypatch: pytest.MonkeyPatch, id_: str | None, taken: bool, stored: bool
) -> None:
    """
    Before the sender looks again, another commit has overwritten its nonce; perhaps the handler has taken the event, too.
    """
    start(service, lambda task, attempt: attempt.run("kept", lambda said: said, approved(task, attempt)))
    wire = service.manager.locker._runtime.wire
    commit, after = wire.commit, [lambda: service.settle(10) if taken else send(service, "bob")]

    def committed(*args: Any, **more: Any) -> Any:
        try:
            return commit(*args, **more)
        finally:
            if after:
                after.pop()()

    monkeypatch.setattr(wire, "commit", committed)
    service.cloud.faults.fail("Commit", when="after")
    sent = send(service, "ann", id=id_)
    assert (sent.stored, sent.woke) == (stored, stored)
    service.cloud.run_until_idle()
    service.settle(10)
    assert service.lock("a").result == "ann"


def test_du_64_an_event_does_not_disturb_a_long_run(service: Service) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def work() -> str:
        inside.set()
        assert go_on.wait(20)
        return "worked"

    def act(task: Any, attempt: Any) -> list[str]:
        done = attempt.run("work", work)
        return [done, approved(task, attempt)]

    service.handle(retry=SECOND).create("a")
    service.act = act
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(service.deliver, "a")
        assert inside.wait(20)
        assert send(service, "ann").stored
        go_on.set()
        assert running.result().json["outcome"] == "completed"
    lock = service.lock("a")
    assert (lock.result, lock.errors, len(service.ran)) == (["worked", "ann"], (), 1)


@pytest.mark.parametrize("model", [Work, Pull])
def test_du_113_a_known_id_is_a_duplicate_after_the_end_and_after_a_reset(service: Service, model: Any) -> None:
    broken = [True]

    def act(task: Any, attempt: Any) -> str:
        said = approved(task, attempt)
        if broken:
            raise ValueError(said)
        return said

    def again() -> bool:
        return bool(service.manager.send(model, "a", "approval", Approval(by="ann"), id="w1").stored)

    service.handle(model, retry=NoRetry()).create("a", model=model)
    if model is Pull:
        service.cloud.work(Worker(service.manager, listen=False))
    service.act = act
    service.cloud.run_until_idle()
    assert again()
    service.cloud.run_until_idle()
    assert (service.lock("a", model).status, again()) == (Status.FAILED, False)
    broken.clear()
    assert service.manager.reset_task(model, "a")
    assert not again()
    service.cloud.run_until_idle()
    lock = service.lock("a", model)
    assert (lock.result, lock.mailbox, again()) == ("ann", (), False)


# --- an event for a task that does not exist yet ---


def test_du_114_an_event_creates_its_task_once(service: Service) -> None:
    service.handle()
    service.act = approved
    data = Work(name="a", note="from the webhook")
    first = send(service, "ann", create=data, id="w1")
    again = send(service, "ann", create=data, id="w1")
    plain = service.manager.create_task(data)
    assert (first.stored, first.created, first.dispatched) == (True, True, True)
    assert (again.stored, again.created, plain.created) == (False, False, False)
    assert len(service.bodies()) == 1
    service.cloud.run_until_idle()
    service.cloud.duplicate_last()
    assert (service.lock("a").result, service.get("a").data.note) == ("ann", "from the webhook")


def test_du_114_an_event_is_added_to_a_task_that_exists(service: Service) -> None:
    service.create("a", note="first")
    sent = send(service, "ann", create=Work(name="a", note="other"))
    assert (sent.stored, sent.created, service.get("a").data.note) == (True, False, "first")
    service.handle()
    service.act = approved
    service.cloud.run_until_idle()
    assert service.lock("a").result == "ann"


def test_du_114_many_senders_at_once_make_one_task(service: Service) -> None:
    service.handle()
    service.act = approved
    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(send, service, "ann", create=Work(name="a"), id="w1") for _ in range(3)]
        created = pool.submit(service.manager.create_task, Work(name="a"))
        made = [each.result() for each in sent]
        beside = created.result()
    assert sum(each.stored for each in made) == 1
    assert sum(each.created for each in made) + beside.created == 1
    service.cloud.run_until_idle()
    assert (service.lock("a").result, len(service.lock("a").received) // 12) == ("ann", 1)


def test_du_114_a_sender_that_dies_before_the_dispatch_loses_nothing(service: Service) -> None:
    service.handle()
    service.act = approved
    send(service, "ann", create=Work(name="a"))
    for task in service.cloud.local.tasks.tasks():
        service.cloud.drop(task.name)
    service.settle(10)
    assert service.lock("a").result == "ann"


def test_du_114_a_pulled_task_is_created_too(service: Service) -> None:
    sent = service.manager.send(Pull, "a", "approval", Approval(by="ann"), create=Pull(name="a"))
    assert (sent.created, sent.dispatched, service.bodies()) == (True, False, [])
    assert len(service.lock("a", Pull).mailbox) == 1


def test_du_114_the_payload_must_be_of_the_task(service: Service) -> None:
    with pytest.raises(UsageError, match="the event is for"):
        send(service, "ann", create=Work(name="b"))
    with pytest.raises(UsageError, match="recurring"):
        service.manager.send(Repeat, "r", "approval", create=Repeat(rule=DAILY))
    with pytest.raises(TaskNotFoundError):
        send(service, "ann")


def test_du_114_a_new_task_with_an_event_joins_a_transaction(service: Service) -> None:
    from google.cloud import firestore

    service.handle()
    service.act = approved
    sent = []

    @firestore.transactional
    def run(txn: Any) -> None:
        sent[:] = [send(service, "ann", create=Work(name="a"), transaction=txn)]

    run(service.manager.locker.client.transaction())
    assert (sent[0].created, sent[0].dispatch()) == (True, True)
    service.cloud.run_until_idle()
    assert service.lock("a").result == "ann"


class Exact(BaseModel, strict=True):
    """
    A payload that takes a text for a datetime only from JSON.
    """

    at: datetime


def test_an_event_is_read_by_a_strict_model(service: Service) -> None:
    at = datetime(2026, 11, 1, tzinfo=UTC)
    seen: list[Any] = []

    def act(task: Any, attempt: Any) -> None:
        seen.append(attempt.wait_event("approval", Exact, timeout=60))

    start(service, act)
    service.manager.send(Work, "a", "approval", Exact(at=at))
    service.settle(5)
    assert (seen, service.lock("a").status) == ([Exact(at=at)], Status.COMPLETED)
