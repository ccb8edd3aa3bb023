"""
Commits whose answers are lost, leases that are taken over, clocks that are wrong, threads, and documents that are full.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.cloud.firestore import DELETE_FIELD

from gcp_oncetask import CancelledByRequest, FixedDelay, LeaseLostError, NotDone, Status
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker
from tests.support.durable import SECOND, Calls, play
from tests.support.orders import Killed, Order, make_shop
from tests.support.tasks import Pull, Service, Work


def failing(service: Service, *, when: str, value: Any = "paid", delay: float = 0.0) -> Calls:
    """
    A function whose result's commit fails: its answer is lost, or it comes late.
    """

    def act(*args: Any) -> Any:
        service.cloud.faults.fail("Commit", when=when, delay=delay)  # type: ignore[arg-type]
        return value

    return Calls(act)


@pytest.mark.parametrize("once", [False, True])
def test_du_03_a_result_whose_commit_lost_its_answer_counts(service: Service, once: bool) -> None:
    pay = failing(service, when="after")
    play(service, lambda task, attempt: attempt.options(once=once).run("charge", pay) + attempt.run("b", lambda: "!"))
    lock = service.lock("a")
    assert (len(pay.seen), lock.result, len(service.ran), lock.attempts) == (1, "paid!", 1, 1)


@pytest.mark.parametrize("once", [False, True])
def test_du_04_a_commit_that_comes_late_changes_nothing(service: Service, once: bool) -> None:
    pay = failing(service, when="late", delay=3)
    play(service, lambda task, attempt: attempt.options(once=once).run("charge", pay) + attempt.run("b", lambda: "!"))
    lock = service.lock("a")
    assert (len(pay.seen), lock.result, len(service.ran), lock.open) == (1, "paid!", 1, ())
    assert len(lock.journal) == 2


def test_du_39_an_intent_whose_commit_lost_its_answer_counts(service: Service) -> None:
    pay = Calls("paid")

    def act(task: Any, attempt: Any) -> Any:
        service.cloud.faults.fail("Commit", when="after")
        return attempt.options(once=True).run("charge", pay)

    play(service, act)
    assert (len(pay.seen), service.lock("a").result, len(service.ran)) == (1, "paid", 1)


def test_du_29_39_nothing_is_called_before_its_intent_is_committed(service: Service) -> None:
    pay, down = Calls("paid"), [True]

    def act(task: Any, attempt: Any) -> Any:
        if down.pop() if down else False:
            service.cloud.faults.fail("Commit", times=None)
            try:
                attempt.options(once=True).run("charge", pay)
            finally:
                service.cloud.faults.clear()
                assert pay.seen == []
        return attempt.options(once=True).run("charge", pay)

    play(service, act)
    assert (len(pay.seen), service.lock("a").result) == (1, "paid")


@pytest.mark.parametrize("swallows", [False, True])
def test_du_16_17_a_run_that_outlives_its_lease_keeps_nothing(service: Service, swallows: bool) -> None:
    later, told = Calls(), []

    def slow() -> int:
        if len(service.ran) > 1:
            return 2
        # The run limit passes, and the sweep lets another attempt take over.
        service.cloud.clock.advance(3600)
        service.cloud.sweep()
        service.cloud.run_until_idle()
        return 1

    def act(task: Any, attempt: Any) -> Any:
        first = len(service.ran) == 1
        try:
            value = attempt.run("slow", slow)
        except LeaseLostError:
            told.append("slow")
            if not swallows:
                raise
            value = 0
        if first:
            try:
                attempt.run("later", later)
            except LeaseLostError:
                told.append("later")
                raise
        return value

    play(service, act)
    lock = service.lock("a")
    assert (lock.status, lock.result, later.seen) == (Status.COMPLETED, 2, [])
    assert told == (["slow", "later"] if swallows else ["slow"])


def test_du_27_each_entry_is_written_once_by_one_grant(service: Service) -> None:
    entered, go = threading.Event(), threading.Event()

    def slow() -> str:
        entered.set()
        assert go.wait(30)
        return "done"

    service.handle(retry=SECOND).create("a")
    service.act = lambda task, attempt: attempt.run("slow", slow)
    body = service.body("a")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(service.post, body)
        assert entered.wait(30)
        assert service.post(body).json["outcome"] == "busy"
        service.cloud.sweep()
        go.set()
        assert first.result().json["outcome"] == "completed"
    assert service.post(body).json["outcome"] == "duplicate"
    assert (len(service.ran), len(service.lock("a").journal)) == (1, 1)


@pytest.mark.parametrize("minutes", [-10, 10])
def test_du_49_a_sleep_counts_by_the_servers_clock(oncetask_cloud: OncetaskCloud, minutes: int) -> None:
    service = Service(oncetask_cloud)
    clock = service.manager.locker._runtime.clock
    right = clock.now
    wrong = [timedelta()]
    clock.now = lambda: right() + wrong[0]  # type: ignore[method-assign]

    def act(task: Any, attempt: Any) -> str:
        # Identity tokens are checked by the same clock, so it is wrong in the handler alone.
        wrong[0] = timedelta(minutes=minutes)
        try:
            attempt.sleep("s", 60)
        finally:
            wrong[0] = timedelta()
        return "up"

    service.handle(retry=SECOND).create("a")
    service.act = act
    service.cloud.run_until_idle()
    service.cloud.advance(seconds=50)
    assert len(service.ran) == 1
    service.cloud.advance(seconds=30)
    assert (len(service.ran), service.lock("a").result) == (2, "up")


@pytest.mark.parametrize("when", ["before", "after", "late"])
def test_a_suspension_whose_commit_fails_once_is_one_suspension(service: Service, when: Any) -> None:
    def act(task: Any, attempt: Any) -> str:
        if len(service.ran) == 1:
            service.cloud.faults.fail("Commit", when=when, delay=2)
        attempt.sleep("s", timedelta(hours=1))
        return "up"

    service.handle(retry=SECOND).create("a")
    service.act = act
    service.cloud.run_until_idle()
    lock = service.lock("a")
    assert (lock.status, lock.attempts, lock.wait is not None) == (Status.SCHEDULED, 0, True)
    service.cloud.advance(hours=2)
    assert (len(service.ran), service.lock("a").result) == (2, "up")


@pytest.mark.parametrize("contents", [True, False], ids=["logged", "not-logged"])
@pytest.mark.parametrize("event", [True, False], ids=["event", "sleep"])
def test_du_111_a_suspension_that_was_not_recorded(oncetask_cloud: OncetaskCloud, contents: bool, event: bool) -> None:
    service = Service(oncetask_cloud, log_contents=contents)
    first, drawn = Calls(1), []

    def act(task: Any, attempt: Any) -> str:
        attempt.run("first", first)
        drawn.append(attempt.random("r"))
        if len(service.ran) == 1:
            service.cloud.faults.fail("Commit", times=None)
            service.cloud.faults.fail("GetDocument", times=None)
        if event:
            attempt.wait_event("e", dict, timeout=timedelta(hours=5))
        attempt.sleep("s", timedelta(hours=5))
        return "up"

    service.handle(retry=SECOND, on_unknown="quarantine").create("a")
    service.act = act
    service.cloud.run_until_idle()
    service.cloud.faults.clear()
    service.settle(60)
    lock = service.lock("a")
    assert len(first.seen) == 1
    if contents:
        assert (lock.status, lock.wait is not None, len(service.ran)) == (Status.SCHEDULED, True, 1)
        if event:
            service.manager.send(type(service.get("a").data), "a", "e", {})
            service.cloud.run_until_idle()
        service.settle(60 * 12)
        assert (service.lock("a").result, len(set(drawn))) == ("up", 1)
    else:
        # A person is told, or the handler ran again from its journal; no run did.
        assert (lock.status is Status.QUARANTINED) or lock.wait is not None


def test_du_96_nothing_is_called_if_the_document_has_no_room(service: Service) -> None:
    calls = Calls()
    service.handle(retry=SECOND).create("a")
    document = service.manager.locker.client.document(service.path("a"))
    document.update({"large": "x" * 1_000_000})
    service.act = lambda task, attempt: attempt.run("a", calls)
    service.settle(10)
    lock = service.lock("a")
    assert (lock.status, calls.seen, lock.attempts) == (Status.FAILED, [], 1)
    assert "bytes left" in lock.errors[-1].message


def test_du_96_a_large_document_has_room_for_its_journal(service: Service) -> None:
    service.handle(retry=SECOND).create("a", note="x" * 850_000)
    service.act = lambda task, attempt: [attempt.run(f"r{n}", lambda: "y" * 60_000) and n for n in range(5)]
    service.settle(4)
    lock = service.lock("a")
    assert (lock.status, lock.result, len(lock.chunks)) == (Status.COMPLETED, list(range(5)), 5)


def test_du_103_a_suspension_saves_no_fields_of_the_entity(oncetask_cloud: OncetaskCloud) -> None:
    shop = make_shop(retry=SECOND)
    oncetask_cloud.use(shop.locker)
    oncetask_cloud.mount("https://orders.test", shop.app)
    notes = []

    def act(order: Order, attempt: Any) -> Any:
        order.amount += 1
        attempt.sleep("s", timedelta(hours=1))
        order.note = "slept"
        shop.locker.complete(order)

    shop.on_charge = act
    shop.locker.schedule(Order(id="o1", amount=10), "https://orders.test/tasks/order")
    oncetask_cloud.run_until_idle()
    found = shop.locker.client.document("orders/o1").get().to_dict() or {}
    notes.append((found["amount"], found["note"]))
    oncetask_cloud.advance(hours=2)
    found = shop.locker.client.document("orders/o1").get().to_dict() or {}
    assert (notes, found["amount"], found["note"], len(shop.seen)) == ([(10, "")], 11, "slept", 2)


def test_du_05_06_an_entity_that_the_queue_retries(oncetask_cloud: OncetaskCloud) -> None:
    shop = make_shop(max_attempts=3)
    oncetask_cloud.use(shop.locker)
    oncetask_cloud.mount("https://orders.test", shop.app)
    one, two = Calls(1), Calls(ValueError("first"), 2)

    def act(order: Order, attempt: Any) -> Any:
        attempt.run("a", one)
        if order.note == "bad":
            attempt.run("c", lambda: {1, print})
        attempt.run("b", two)
        shop.locker.complete(order)

    shop.on_charge = act
    shop.locker.schedule(Order(id="o1"), "https://orders.test/tasks/order")
    oncetask_cloud.advance(hours=1)
    lock = shop.locker.show("orders/o1")
    assert (len(one.seen), len(two.seen), lock.status, len(lock.errors)) == (1, 2, Status.COMPLETED, 1)
    shop.locker.schedule(Order(id="o2", note="bad"), "https://orders.test/tasks/order")
    oncetask_cloud.advance(hours=1)
    lock = shop.locker.show("orders/o2")
    assert (len(one.seen), lock.status, lock.attempts) == (2, Status.FAILED, 1)


def test_du_05_06_43_in_pull_mode(oncetask_cloud: OncetaskCloud) -> None:
    service = Service(oncetask_cloud)
    one, two = Calls(1, 1), Calls(ValueError("first"), 2)

    def act(task: Any, attempt: Any) -> Any:
        attempt.run("a", one)
        attempt.sleep("s", timedelta(hours=1))
        if task.id == "bad":
            attempt.run("c", lambda: {1, print})
        return attempt.run("b", two)

    service.handle(Pull, retry=SECOND).create("a", "bad", model=Pull)
    service.act = act
    oncetask_cloud.work(Worker(service.manager, listen=False))
    oncetask_cloud.run_until_idle()
    assert (len(one.seen), service.lock("a", Pull).status) == (2, Status.SCHEDULED)
    for _ in range(6):
        oncetask_cloud.advance(minutes=20)
    assert (len(one.seen), len(two.seen)) == (2, 2)
    assert (service.lock("a", Pull).result, service.lock("bad", Pull).status) == (2, Status.FAILED)


def test_an_event_wakes_a_task_that_is_pulled(oncetask_cloud: OncetaskCloud) -> None:
    service = Service(oncetask_cloud)
    service.handle(Pull, retry=SECOND).create("a", model=Pull)
    service.act = lambda task, attempt: attempt.wait_event("e", dict, timeout=timedelta(days=7))
    oncetask_cloud.work(Worker(service.manager, listen=False))
    oncetask_cloud.run_until_idle()
    assert len(service.ran) == 1
    service.manager.send(Pull, "a", "e", {"x": 1})
    oncetask_cloud.run_until_idle()
    assert (service.lock("a", Pull).result, len(service.ran)) == ({"x": 1}, 2)


def test_du_44_a_wake_up_that_was_not_created_is_made_by_the_sweep(service: Service) -> None:
    def act(task: Any, attempt: Any) -> str:
        if len(service.ran) == 1:
            service.cloud.faults.fail("CreateTask", times=None)
        attempt.sleep("s", timedelta(minutes=10))
        return "up"

    service.handle(retry=SECOND).create("a")
    service.act = act
    service.cloud.run_until_idle()
    service.cloud.faults.clear()
    service.settle(60)
    assert (len(service.ran), service.lock("a").result) == (2, "up")


def test_du_48_a_sleep_of_90_days_ends_once(service: Service) -> None:
    service.handle(retry=SECOND).create("a")
    service.act = lambda task, attempt: attempt.sleep("s", timedelta(days=90)) or "up"
    service.cloud.run_until_idle()
    for _ in range(89):
        service.cloud.advance(days=1)
    assert len(service.ran) == 1
    service.cloud.advance(days=1, hours=1)
    assert (len(service.ran), service.lock("a").result) == (2, "up")


def test_du_50_a_timer_that_is_still_queued_changes_nothing(service: Service) -> None:
    service.handle(retry=SECOND).create("a")
    service.act = lambda task, attempt: attempt.wait_event("e", dict, timeout=timedelta(days=1)) and "came"
    service.cloud.run_until_idle()
    service.manager.send(type(service.get("a").data), "a", "e", {"x": 1})
    service.cloud.run_until_idle()
    lock = service.lock("a")
    assert (lock.status, len(service.bodies())) == (Status.COMPLETED, 1)
    service.cloud.advance(days=2)
    assert (service.lock("a"), service.bodies(), len(service.ran)) == (lock, [], 2)


def test_an_old_delivery_after_an_event_does_not_run(service: Service) -> None:
    service.handle(retry=SECOND).create("a")
    service.act = lambda task, attempt: attempt.wait_event("e", dict, timeout=timedelta(days=1)) and "came"
    first = service.body("a")
    service.cloud.run_until_idle()
    timer = service.body("a")
    service.manager.send(type(service.get("a").data), "a", "e", {"x": 1})
    assert [service.post(body).json["outcome"] for body in (first, timer)] == ["duplicate", "duplicate"]
    assert len(service.ran) == 1
    service.cloud.run_until_idle()
    assert service.lock("a").result == "came"


def test_du_90_the_next_attempt_begins_after_the_unwinding(service: Service) -> None:
    order = []

    def act(task: Any, attempt: Any) -> str:
        order.append("begin")
        try:
            attempt.wait_event("e", dict, timeout=timedelta(days=1))
        finally:
            if len(service.ran) == 1:
                service.manager.send(type(task.data), "a", "e", {})
                service.cloud.clock.advance(5)
            order.append("end")
        return "up"

    service.handle(retry=SECOND).create("a")
    service.act = act
    service.cloud.run_until_idle()
    assert (order, service.lock("a").result) == (["begin", "end"] * 2, "up")


def test_du_106_runs_of_the_users_threads_are_kept_under_their_names(service: Service) -> None:
    called = []

    def slow(number: int) -> int:
        called.append(number)
        return number * 10

    def act(task: Any, attempt: Any) -> list[int]:
        with ThreadPoolExecutor(5) as pool:
            found = list(pool.map(lambda n: attempt.run(f"r{n}", slow, n), range(5)))
        if len(service.ran) == 1:
            raise Killed
        return found

    play(service, act)
    assert (sorted(called), service.lock("a").result) == (list(range(5)), [0, 10, 20, 30, 40])
    assert len(set(service.lock("a").journal)) == 5


def test_du_107_no_word_waits_while_a_run_is_under_way(service: Service) -> None:
    entered, go = threading.Event(), threading.Event()

    def slow() -> str:
        entered.set()
        assert go.wait(30)
        return "kept"

    def act(task: Any, attempt: Any) -> None:
        thread = threading.Thread(target=attempt.run, args=("slow", slow))
        thread.start()
        assert entered.wait(30)
        threading.Timer(0.05, go.set).start()
        attempt.sleep("s", timedelta(days=1))

    play(service, act)
    lock = service.lock("a")
    assert (lock.status, lock.attempts) == (Status.FAILED, 1)
    assert "while another thread of the handler is in a run" in lock.errors[-1].message
    assert b"kept" in b"".join(lock.journal)


def test_du_109_a_wiped_lock_is_told_and_nothing_runs(service: Service) -> None:
    before = Calls()

    def act(task: Any, attempt: Any) -> None:
        attempt.run("before", before)
        attempt.sleep("s", timedelta(hours=1))

    service.handle(retry=SECOND).create("a")
    service.act = act
    service.cloud.run_until_idle()
    service.manager.locker.client.document(service.path("a")).update({"lock": DELETE_FIELD})
    service.cloud.advance(hours=2)
    assert (len(before.seen), len(service.ran)) == (1, 1)
    assert "its field 'lock' was removed" in service.cloud.alerts.sent[-1].reason
    assert len(service.cloud.alerts.sent) == 1


@pytest.mark.parametrize("known", ["nothing", "time", "once", "on_cancel"])
def test_du_75_a_cancelled_task_is_delivered_if_its_record_knows_that_its_handler_is_durable(
    service: Service, known: str
) -> None:
    """
    The process dies in the first run, whose effect it may have had, and the task is cancelled before the next attempt. Where
    the record knows nothing but a dead attempt, it may be that of any handler, which is not called again after a cancellation.
    """
    told: list[str] = []

    def act(task: Any, attempt: Any) -> None:
        try:
            if known == "time":
                attempt.now("begun")
            runs = attempt.options(once=True, verify=lambda key: "paid") if known == "once" else attempt
            runs.run("pay", pay)
            attempt.run("ship", Calls())
        except CancelledByRequest:
            told.append("handler")

    def pay() -> None:
        assert service.manager.cancel_task(Work, "a")
        raise Killed

    on_cancel = (lambda task, attempt: told.append("on_cancel")) if known == "on_cancel" else None
    service.handle(retry=SECOND, on_cancel=on_cancel)
    service.act = act
    service.create("a")
    service.settle(60)
    assert service.lock("a").status is Status.CANCELLED
    assert (len(service.ran), told) == {
        "nothing": (1, []),
        "time": (2, ["handler"]),
        "once": (2, ["handler"]),
        "on_cancel": (1, ["on_cancel"]),
    }[known]


def test_du_93_a_record_of_a_newer_release_is_left_alone(service: Service) -> None:
    service.handle(retry=SECOND).create("a")
    service.act = lambda task, attempt: attempt.sleep("s", timedelta(hours=1)) or "up"
    service.cloud.run_until_idle()
    document = service.manager.locker.client.document(service.path("a"))
    document.update({"lock.needs": ["journal-2", "wait"]})
    service.cloud.advance(hours=2)
    service.cloud.sweep()
    assert len(service.ran) == 1
    document.update({"lock.needs": ["wait"]})
    service.settle(90)
    assert (len(service.ran), service.lock("a").result, service.lock("a").attempts) == (2, "up", 1)


def test_a_suspended_task_gives_its_resource_key_back_and_takes_it_anew(service: Service) -> None:
    seen = []

    def act(task: Any, attempt: Any) -> str:
        seen.append((task.id, service.key("K")["lock"]["holder"] == service.path(task.id)))
        if task.id == "a":
            attempt.sleep("s", timedelta(hours=1))
        return "done"

    service.handle(retry=SECOND).create("a", "b", key="K")
    service.act = act
    service.settle(20)
    assert service.lock("b").status is Status.COMPLETED
    assert service.lock("a").status is Status.SCHEDULED
    service.cloud.advance(hours=2)
    assert service.lock("a").result == "done"
    assert [name for name, _ in seen] == ["a", "b", "a"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_a_process_that_ends_inside_a_once_run_leaves_its_question(service: Service, error: BaseException) -> None:
    pay, verify = Calls(error), Calls("receipt")

    def act(task: Any, attempt: Any) -> Any:
        try:
            return attempt.options(once=True, verify=verify).run("charge", pay)
        except (SystemExit, KeyboardInterrupt):
            raise Killed from None

    play(service, act)
    assert (len(pay.seen), len(verify.seen), service.lock("a").result) == (1, 1, "receipt")


def test_a_middleware_that_swallows_a_suspension_changes_nothing(oncetask_cloud: OncetaskCloud, caplog: Any) -> None:
    def swallow(attempt: Any, call_next: Any) -> Any:
        try:
            return call_next()
        except BaseException:
            return "swallowed"

    service = Service(oncetask_cloud, middleware=(swallow,))
    service.handle(retry=SECOND).create("a")
    service.act = lambda task, attempt: attempt.sleep("s", timedelta(hours=1)) or "up"
    with caplog.at_level(logging.ERROR):
        service.cloud.run_until_idle()
    assert "/swallowed/" in (service.lock("a").attention or "")
    service.cloud.advance(hours=2)
    assert service.lock("a").result == "up"


def test_a_suspension_inside_a_transaction_is_refused(service: Service) -> None:
    def act(task: Any, attempt: Any) -> None:
        with attempt.transaction() as txn:
            txn.set(service.manager.locker.client.document("notes/n"), {"x": 1})
            attempt.sleep("s", timedelta(hours=1))

    play(service, act)
    lock = service.lock("a")
    assert (lock.status, lock.attempts) == (Status.FAILED, 1)
    assert "inside a transaction" in lock.errors[-1].message
    assert not service.manager.locker.client.document("notes/n").get().exists


def test_a_cancellation_while_the_suspension_commits(service: Service) -> None:
    seen = []

    def act(task: Any, attempt: Any) -> None:
        if len(service.ran) == 1:
            service.manager.cancel_task(type(task.data), "a")
        try:
            attempt.wait_event("e", dict, timeout=None)
        except BaseException as error:
            seen.append(type(error).__name__)
            raise

    play(service, act)
    assert (service.lock("a").status, seen[-1]) == (Status.CANCELLED, "CancelledByRequest")


def test_a_cancellation_while_a_run_waits_for_its_next_try(service: Service) -> None:
    pay, refund = Calls(*[ValueError("no")] * 9), Calls()

    def act(task: Any, attempt: Any) -> None:
        try:
            attempt.options(retry=FixedDelay(delay=3600)).run("charge", pay)
        except BaseException as error:
            if type(error).__name__ == "CancelledByRequest":
                attempt.run("refund", refund)
            raise

    service.handle(retry=SECOND).create("a")
    service.act = act
    service.cloud.run_until_idle()
    assert service.manager.cancel_task(type(service.get("a").data), "a")
    service.settle(10)
    assert (service.lock("a").status, len(pay.seen), len(refund.seen)) == (Status.CANCELLED, 1, 1)


def test_du_86_a_cancellation_handler_reads_the_journal(service: Service) -> None:
    seen, refund = [], Calls(Killed(), "back")

    def undo(task: Any, attempt: Any) -> None:
        seen.append((attempt.result_of("charge"), attempt.result_of("ship")))
        attempt.run("refund", refund, attempt.result_of("charge"))
        if len(seen) == 2:
            raise Killed

    def act(task: Any, attempt: Any) -> None:
        attempt.run("charge", lambda: ("receipt", 7))
        attempt.sleep("s", timedelta(days=1))

    service.handle(retry=SECOND, on_cancel=undo, cancel_retry=SECOND).create("a")
    service.act = act
    service.cloud.run_until_idle()
    assert service.manager.cancel_task(type(service.get("a").data), "a")
    service.settle(60)
    assert (service.lock("a").status, len(service.ran)) == (Status.CANCELLED, 1)
    assert (set(seen), len(refund.seen), refund.seen[-1]) == ({(("receipt", 7), None)}, 2, (("receipt", 7),))


def test_the_leader_of_a_batch_has_a_journal_and_its_riders_have_none(service: Service) -> None:
    told, calls = [], Calls("kept")

    def act(tasks: Any, attempts: Any) -> Any:
        lead = [attempt for attempt in attempts if attempt._running.leader is None]
        ride = [attempt for attempt in attempts if attempt._running.leader is not None]
        value = lead[0].run("a", calls)
        for attempt in ride:
            with pytest.raises(Exception, match="leader"):
                attempt.run("b", calls)
            told.append("refused")
        if len(service.batches) == 1:
            raise ValueError("again")
        return value

    service.handle_keys(retry=SECOND).create("a", "b", "c", key="K")
    service.act = act
    service.settle(60)
    assert {service.lock(name).status for name in "abc"} == {Status.COMPLETED}
    assert (len(calls.seen) <= 3, len(service.batches[0]), "refused" in told) == (True, 3, True)


def test_a_run_of_a_batch_that_waits_lets_all_run_again(service: Service) -> None:
    calls = Calls(NotDone("later"), "kept")
    retry = FixedDelay(delay=600)

    def act(tasks: Any, attempts: Any) -> Any:
        lead = [attempt for attempt in attempts if attempt._running.leader is None]
        return lead[0].options(retry=retry).run("a", calls)

    service.handle_keys(retry=SECOND).create("a", "b", key="K")
    service.act = act
    service.settle(60)
    assert {service.lock(name).status for name in "ab"} == {Status.COMPLETED}
    assert all(service.lock(name).errors == () for name in "ab")


def test_firestore_that_refuses_a_suspension_for_good_is_a_failed_attempt(service: Service) -> None:
    def act(task: Any, attempt: Any) -> str:
        if len(service.ran) == 1:
            service.cloud.faults.fail("Commit", code=grpc.StatusCode.INVALID_ARGUMENT, message="too large for words")
        attempt.sleep("s", timedelta(hours=1))
        return "up"

    service.handle(retry=SECOND).create("a")
    service.act = act
    service.settle(90)
    lock = service.lock("a")
    assert (lock.result, len(lock.errors)) == ("up", 1)
