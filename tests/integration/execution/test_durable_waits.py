"""
Sleeps, events and cancellations: the request ends, and the handler comes back.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from gcp_oncetask import (
    AlreadyFinishedError,
    CancelledByRequest,
    EventTimeoutError,
    FixedDelay,
    MailboxFullError,
    Status,
    TaskNotFoundError,
)
from tests.support.durable import Calls, play
from tests.support.orders import Killed
from tests.support.tasks import Service, Work


class Approval(BaseModel):
    """
    A payload.
    """

    by: str


def start(service: Service, act: Any, **options: Any) -> Service:
    service.handle(**options).create("a")
    service.act = act
    service.cloud.run_until_idle()
    return service


def test_du_42_43_a_sleep_ends_at_its_time(service: Service) -> None:
    before = Calls(1)

    def act(task: Any, attempt: Any) -> str:
        attempt.run("before", before)
        attempt.sleep("cooling-off", timedelta(days=3))
        return "up"

    start(service, act)
    lock = service.lock("a")
    assert (lock.status, lock.attempts, lock.wait is not None) == (Status.SCHEDULED, 0, True)
    service.cloud.advance(days=2, hours=23)
    assert len(service.ran) == 1
    service.cloud.advance(hours=2)
    service.cloud.duplicate_last()
    assert (len(service.ran), service.lock("a").status, service.lock("a").result) == (2, Status.COMPLETED, "up")
    assert len(before.seen) == 1


def test_du_45_a_sleep_under_way_keeps_its_time(service: Service) -> None:
    days = [3]
    start(service, lambda task, attempt: attempt.sleep("s", timedelta(days=days[0])))
    days[0] = 7
    service.cloud.advance(days=3, hours=1)
    assert service.lock("a").status is Status.COMPLETED


def test_du_47_short_sleeps_end_in_the_request(service: Service) -> None:
    start(service, lambda task, attempt: [attempt.sleep("a", 2), attempt.sleep("b", 0)] and "done")
    service.cloud.advance(seconds=3)
    assert (len(service.ran), service.lock("a").result) == (1, "done")


def test_du_51_an_event_that_came_before_is_taken_in_the_request(service: Service) -> None:
    service.create("a")
    service.manager.send(Work, "a", "approval", Approval(by="ann"))
    service.handle()
    service.act = lambda task, attempt: attempt.wait_event("approval", Approval, timeout=60).by
    service.cloud.run_until_idle()
    assert (len(service.ran), service.lock("a").result, service.lock("a").mailbox) == (1, "ann", ())


def waits(task: Any, attempt: Any) -> str:
    return attempt.wait_event("approval", Approval, timeout=timedelta(days=7)).by


def test_du_52_an_event_wakes_its_handler(service: Service) -> None:
    start(service, waits)
    sent = service.manager.send(Work, "a", "approval", Approval(by="ann"))
    assert (sent.stored, sent.woke, sent.dispatched) == (True, True, True)
    service.cloud.run_until_idle()
    assert (len(service.ran), service.lock("a").result) == (2, "ann")
    service.cloud.advance(days=8)
    assert (len(service.ran), service.lock("a").status) == (2, Status.COMPLETED)


def test_du_54_a_sender_that_dies_before_the_dispatch_loses_nothing(service: Service) -> None:
    start(service, waits)
    sent = service.manager.send(Work, "a", "approval", Approval(by="ann"))
    assert sent.dispatched
    for task in [*service.cloud.local.tasks.pending()] if hasattr(service.cloud.local.tasks, "pending") else []:
        service.cloud.drop(task.name)
    service.settle(10)
    assert service.lock("a").result == "ann"


def test_du_55_an_id_counts_once(service: Service) -> None:
    def act(task: Any, attempt: Any) -> list[str]:
        return [attempt.wait_event(f"e-{n}", Approval, event="e", timeout=None).by for n in range(2)]

    start(service, act)
    for by in ("ann", "bob"):
        service.manager.send(Work, "a", "e", Approval(by=by), id="same")
        service.cloud.run_until_idle()
    assert not service.manager.send(Work, "a", "e", Approval(by="eve"), id="same")
    assert service.lock("a").status is Status.SCHEDULED
    service.manager.send(Work, "a", "e", Approval(by="eve"), id="other")
    service.cloud.run_until_idle()
    assert service.lock("a").result == ["ann", "eve"]
    # DU-113: known ids are looked up before the end is.
    assert not service.manager.send(Work, "a", "e", Approval(by="eve"), id="same")


def test_du_57_a_wait_times_out_the_same_in_each_attempt(service: Service) -> None:
    told: list[str] = []

    def act(task: Any, attempt: Any) -> str:
        try:
            return attempt.wait_event("approval", Approval, timeout=timedelta(hours=1)).by
        except EventTimeoutError as error:
            told.append(error.name)
            if len(told) == 1:
                raise ValueError("again") from None
            return "nobody"

    start(service, act)
    service.cloud.advance(hours=2)
    service.settle(10)
    assert (told, service.lock("a").result) == (["approval"] * 2, "nobody")


def test_du_60_an_event_for_nobody_is_refused(service: Service) -> None:
    start(service, lambda task, attempt: None)
    with pytest.raises(AlreadyFinishedError):
        service.manager.send(Work, "a", "e")
    with pytest.raises(TaskNotFoundError):
        service.manager.send(Work, "b", "e")


def test_du_62_a_full_mailbox_is_the_senders_trouble(service: Service) -> None:
    service.create("a")
    for _ in range(100):
        service.manager.send(Work, "a", "e", {"x": 1})
    with pytest.raises(MailboxFullError):
        service.manager.send(Work, "a", "e", {"x": 1})
    start_at = service.handle()
    start_at.cloud.run_until_idle()
    assert service.lock("a").status is Status.COMPLETED


def test_du_53_an_event_that_meets_the_suspension_wakes(service: Service) -> None:
    def act(task: Any, attempt: Any) -> str:
        if attempt.number == 1 and len(service.ran) == 1:
            service.manager.send(Work, "a", "approval", Approval(by="ann"))
        return attempt.wait_event("approval", Approval, timeout=timedelta(days=7)).by

    start(service, act)
    assert service.lock("a").result == "ann"


@pytest.mark.parametrize(("delay", "once"), [(0.01, True), (3600, False), (3600, True)])
def test_du_85_a_run_tells_a_cancellation_before_its_next_try(service: Service, delay: float, once: bool) -> None:
    calls: list[int] = []

    def fn() -> None:
        calls.append(len(calls))
        if len(calls) == 1:
            assert service.manager.cancel_task(Work, "a")
        raise ConnectionError

    def act(task: Any, attempt: Any) -> Any:
        retry = FixedDelay(delay=timedelta(seconds=delay), max_attempts=5)
        attempt.options(retry=retry, once=once, not_done=(ConnectionError,) if once else ()).run("charge", fn)

    play(service, act)
    assert (service.lock("a").status, calls) == (Status.CANCELLED, [0])


def test_du_85_a_waiting_handler_is_told_of_its_cancellation(service: Service) -> None:
    refund = Calls("back")

    def act(task: Any, attempt: Any) -> str:
        attempt.run("charge", lambda: 1)
        try:
            return attempt.wait_event("approval", Approval, timeout=timedelta(days=7)).by
        except CancelledByRequest:
            attempt.run("refund", refund)
            if len(service.ran) == 2:
                raise Killed from None
            raise

    start(service, act)
    assert service.manager.cancel_task(Work, "a")
    service.settle(60)
    assert (service.lock("a").status, len(refund.seen)) == (Status.CANCELLED, 1)


def test_du_85_a_running_handler_is_told_at_its_next_word(service: Service) -> None:
    ship = Calls()

    def act(task: Any, attempt: Any) -> str:
        attempt.run("charge", lambda: service.manager.cancel_task(Work, "a"))
        attempt.run("ship", ship)
        return "shipped"

    start(service, act)
    service.settle(10)
    assert (service.lock("a").status, ship.seen) == (Status.CANCELLED, [])


def test_du_87_a_suspension_is_no_exception(service: Service) -> None:
    def act(task: Any, attempt: Any) -> str:
        try:
            attempt.sleep("s", timedelta(days=1))
        except Exception:
            return "caught"
        return "slept"

    start(service, act)
    service.cloud.advance(days=2)
    assert service.lock("a").result == "slept"


def test_du_88_a_swallowed_suspension_stands_and_is_told(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    later = Calls()

    def act(task: Any, attempt: Any) -> str:
        try:
            attempt.sleep("s", timedelta(days=1))
        except BaseException:
            return "swallowed"
        attempt.run("later", later)
        return "slept"

    with caplog.at_level(logging.ERROR):
        start(service, act)
    lock = service.lock("a")
    assert (lock.status, "went on after Suspended" in caplog.text) == (Status.SCHEDULED, True)
    assert "/swallowed/" in (lock.attention or "")
    service.cloud.advance(days=2)
    assert service.lock("a").result == "slept"


def test_du_110_waiting_costs_nothing(service: Service) -> None:
    service.handle()
    service.act = lambda task, attempt: attempt.wait_event("e", dict, timeout=None)
    for number in range(20):
        service.create(f"t{number}")
    service.cloud.run_until_idle()
    service.cloud.reset_cost()
    service.cloud.advance(hours=1)
    assert not service.cloud.cost.calls


def test_du_14_a_random_number_is_committed_before_a_run_is_called(service: Service) -> None:
    keys: list[Any] = []

    def act(task: Any, attempt: Any) -> None:
        key = (attempt.uuid("id"), attempt.random("r"), attempt.now("n"))

        def pay() -> None:
            keys.append(key)
            if len(keys) == 1:
                raise Killed

        attempt.run("charge", pay)

    play(service, act)
    assert (len(keys), keys[0]) == (2, keys[1])


def test_a_waiting_task_counts_as_waiting(service: Service) -> None:
    start(service, lambda task, attempt: attempt.wait_event("e", dict, timeout=None))
    assert service.status("a") == "waiting"
    assert (service.manager.count(Work)["waiting"], service.manager.get_pending_count(Work)) == (1, 0)
    service.manager.send(Work, "a", "e", {})
    assert (service.status("a"), service.manager.get_pending_count(Work)) == ("pending", 1)
    service.cloud.run_until_idle()
    assert service.manager.count(Work)["completed"] == 1
