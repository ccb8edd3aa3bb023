"""
``attempt.map``: a run for each item, in threads of the request.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from contextvars import ContextVar
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from gcp_oncetask import FixedDelay, ItemFailure, NoRetry, RunFailedError, Status
from gcp_oncetask.logs import CloudFormatter, current
from gcp_oncetask.worker import Worker
from tests.support.durable import SECOND, Calls, play
from tests.support.orders import Killed
from tests.support.tasks import Pull, Service

REGION: ContextVar[str] = ContextVar("region", default="-")


class Counted:
    """
    A function that counts its calls by item, from any thread, and raises at some of them.
    """

    def __init__(self, *fails: int, times: int = 1_000_000) -> None:
        self.calls: Counter[int] = Counter()
        self.fails = dict.fromkeys(fails, times)
        self.guard = threading.Lock()

    def __call__(self, item: int) -> int:
        with self.guard:
            self.calls[item] += 1
            if self.fails.get(item, 0) >= self.calls[item]:
                raise ValueError(f"no {item}")
        return item * 2


def test_results_are_at_their_places_and_are_kept(service: Service) -> None:
    counted, seen = Counted(), []

    def act(task: Any, attempt: Any) -> list[int]:
        seen.append(attempt.map("double", counted, range(100), concurrency=8))
        if len(seen) == 1:
            raise ValueError("again")
        return attempt.map("again", counted, (5, 7))  # type: ignore[no-any-return]

    play(service, act)
    assert seen == [[n * 2 for n in range(100)]] * 2
    assert counted.calls == Counter(range(100)) + Counter([5, 7])
    assert service.lock("a").result == [10, 14]


@pytest.mark.parametrize("concurrency", [1, 8])
def test_du_66_a_killed_map_repeats_the_items_under_way_alone(service: Service, concurrency: int) -> None:
    counted, kill = Counted(), [True]

    def fn(item: int) -> int:
        if sum(counted.calls.values()) >= 500 and kill:
            kill.clear()
            raise Killed
        return counted(item)

    play(service, lambda task, attempt: attempt.map("double", fn, range(1000), concurrency=concurrency))
    lock = service.lock("a")
    assert (lock.status, lock.result) == (Status.COMPLETED, [n * 2 for n in range(1000)])
    assert min(counted.calls.values()) == 1
    assert sum(counted.calls.values()) <= 1000 + concurrency + 2 * 50
    assert len(service.ran) == 2


def test_du_66_a_duplicate_delivery_changes_nothing(service: Service) -> None:
    counted = Counted()
    service.handle(retry=SECOND).create("a")
    service.act = lambda task, attempt: attempt.map("double", counted, range(20))
    body = service.body("a")
    assert service.post_all([body, body], 2).count("completed") == 1
    service.settle()
    assert (counted.calls, service.lock("a").result) == (Counter(range(20)), [n * 2 for n in range(20)])


def test_du_66_in_pull_mode(service: Service) -> None:
    counted, kill = Counted(), [True]

    def fn(item: int) -> int:
        if item == 30 and kill:
            kill.clear()
            raise Killed
        return counted(item)

    service.handle(Pull, retry=SECOND).create("a", model=Pull)
    service.act = lambda task, attempt: attempt.map("double", fn, range(60), concurrency=4)
    with pytest.raises(Killed):
        Worker(service.manager, kinds=["pulled"]).drain()
    service.cloud.advance(minutes=30)
    Worker(service.manager, kinds=["pulled"]).drain()
    lock = service.lock("a", Pull)
    assert (lock.status, lock.result) == (Status.COMPLETED, [n * 2 for n in range(60)])
    assert sum(counted.calls.values()) <= 60 + 4 + 50


def test_du_67_no_items_need_no_commit_and_no_thread(service: Service) -> None:
    commits: list[int] = []
    threads: list[set[threading.Thread]] = []

    def act(task: Any, attempt: Any) -> Any:
        commits.append(service.firestore().get("Commit", 0))
        threads.append(set(threading.enumerate()))
        found = attempt.map("none", Calls(), [])
        commits.append(service.firestore().get("Commit", 0))
        threads.append(set(threading.enumerate()))
        return found

    play(service, act)
    assert (service.lock("a").result, commits[0], threads[0]) == ([], commits[1], threads[1])


@pytest.mark.parametrize("concurrency", [0, -1, True, 1.5])
def test_du_67_no_concurrency_is_a_mistake(service: Service, concurrency: Any) -> None:
    counted = Counted()
    play(service, lambda task, attempt: attempt.map("double", counted, [1], concurrency=concurrency), retry=NoRetry())
    assert (service.lock("a").status, counted.calls) == (Status.FAILED, Counter())
    assert "concurrency" in service.lock("a").errors[-1].message


def test_du_67_more_threads_than_items(service: Service) -> None:
    play(service, lambda task, attempt: attempt.map("double", Counted(), [1, 2], concurrency=500))
    assert service.lock("a").result == [2, 4]


def test_du_68_items_under_way_end_and_are_kept(service: Service) -> None:
    """
    Item 3 raises while two others are under way: those end and are kept, none begins, and the next attempt calls the rest.
    """
    counted, both, failed = Counted(3, times=1), threading.Barrier(3), threading.Event()
    first: list[int] = []

    def fn(item: int) -> int:
        if len(service.ran) == 1:
            first.append(item)
            if item in (3, 4, 5):
                both.wait(10)
            if item in (4, 5):
                assert failed.wait(10)
        try:
            return counted(item)
        finally:
            if item == 3:
                failed.set()

    kept: list[Any] = []

    def act(task: Any, attempt: Any) -> Any:
        try:
            return attempt.map("double", fn, range(20), concurrency=3)
        finally:
            kept.append(len(service.lock("a").journal))

    play(service, act)
    lock = service.lock("a")
    assert (lock.status, lock.result) == (Status.COMPLETED, [n * 2 for n in range(20)])
    assert (sorted(first), counted.calls) == ([0, 1, 2, 3, 4, 5], Counter(range(20)) + Counter([3]))
    assert kept[0] == 5 + 1
    assert "no 3" in lock.errors[-1].message


def test_du_69_failures_that_are_tolerated_stay_the_same(service: Service) -> None:
    """
    Two of ten items fail for good, and end in another order each time: their places and errors are the same in each replay.
    """
    counted, random, seen = Counted(2, 7), Random(1), []

    def fn(item: int) -> int:
        threading.Event().wait(random.random() / 500)
        return counted(item)

    def act(task: Any, attempt: Any) -> None:
        runs = attempt.options(retry=FixedDelay(delay=timedelta(seconds=1), max_attempts=3))
        seen.append(runs.map("double", fn, range(10), concurrency=4, tolerate=2))
        if len(seen) < 101:
            raise ValueError("again")

    play(service, act, retry=FixedDelay(delay=timedelta(seconds=1), max_attempts=200))
    assert (service.lock("a").status, len(seen)) == (Status.COMPLETED, 101)
    assert all(found == seen[0] for found in seen)
    assert seen[0][7] == ItemFailure(7, "ValueError: no 7", "ValueError", 3)
    assert [type(found) for found in seen[0]].count(ItemFailure) == 2
    assert (counted.calls[2], counted.calls[7], counted.calls[3]) == (3, 3, 1)


def test_du_69_one_failure_too_many_is_final(service: Service) -> None:
    counted, refund, errors = Counted(2, 7), Calls(), []

    def act(task: Any, attempt: Any) -> str:
        try:
            attempt.options(retry=NoRetry()).map("double", counted, range(10), concurrency=2, tolerate=1)
        except RunFailedError as error:
            errors.append((str(error), error.name, error.kind, error.tries))
            attempt.run("refund", refund)
        if len(errors) < 3:
            raise ValueError("again")
        return "refunded"

    play(service, act)
    assert (service.lock("a").result, len(refund.seen), counted.calls[7]) == ("refunded", 1, 1)
    assert errors[0] == errors[1] == errors[2]
    assert "'double' has failed: 2 of its items failed for good, and 1 may" in errors[0][0]
    assert "'double[2]' has failed for good" in errors[0][0]


def test_tolerance_without_retries_is_a_mistake(service: Service) -> None:
    counted = Counted()
    play(service, lambda task, attempt: attempt.map("double", counted, [1], tolerate=1), retry=NoRetry())
    assert counted.calls == Counter()
    assert "options(retry=...)" in service.lock("a").errors[-1].message


def test_a_late_next_try_of_an_item_holds_no_other_up(service: Service) -> None:
    """
    The item fails, and is tried again in an hour: the others are done before, the request ends, and no attempt is burned.
    """
    counted = Counted(0, times=1)
    service.handle(retry=NoRetry()).create("a")
    retry = FixedDelay(delay=timedelta(hours=1), max_attempts=3)
    service.act = lambda task, attempt: attempt.options(retry=retry).map("double", counted, range(30))
    service.settle(10)
    lock = service.lock("a")
    assert (lock.status, counted.calls, lock.attempts) == (Status.SCHEDULED, Counter(range(30)), 0)
    assert lock.wait is not None
    service.settle(120)
    lock = service.lock("a")
    assert (lock.status, lock.result, len(service.ran)) == (Status.COMPLETED, [n * 2 for n in range(30)], 2)
    assert counted.calls == Counter(range(30)) + Counter([0])


LISTS = [[1, 2, 3, 4], [1, 2], [1, 2, 9], [3, 2, 1]]


@pytest.mark.parametrize("other", LISTS, ids=str)
def test_du_70_another_list_sets_the_task_aside(service: Service, other: list[int]) -> None:
    counted = Counted(3, times=1)
    play(service, lambda task, attempt: attempt.map("double", counted, [1, 2, 3] if len(service.ran) == 1 else other))
    lock = service.lock("a")
    assert (lock.status, counted.calls) == (Status.QUARANTINED, Counter([1, 2, 3]))
    assert f"a list of {len(other)} items" in lock.errors[-1].message
    assert "of 3" in lock.errors[-1].message


def test_du_70_items_are_compared_by_their_key(service: Service) -> None:
    class Row:
        def __init__(self, id_: int) -> None:
            self.id = id_

    def act(task: Any, attempt: Any) -> Any:
        ids = [1, 2] if len(service.ran) < 3 else [1, 3]
        found = attempt.map("ids", lambda row: row.id, [Row(n) for n in ids], key=lambda row: row.id)
        assert found == [1, 2]
        raise ValueError("again")

    play(service, act)
    lock = service.lock("a")
    assert (lock.status, len(service.ran)) == (Status.QUARANTINED, 3)
    assert "another one of 2" in lock.errors[-1].message


def test_du_71_a_map_goes_on_past_the_limit_of_its_request(service: Service) -> None:
    counted = Counted()
    guard = threading.Lock()

    def slow(item: int) -> int:
        with guard:
            service.cloud.clock.advance(50)
        return counted(item)

    service.handle(retry=NoRetry()).create("a")
    service.act = lambda task, attempt: attempt.map("double", slow, range(60), concurrency=2)
    service.settle(120)
    lock = service.lock("a")
    assert (lock.status, lock.result, lock.errors) == (Status.COMPLETED, [n * 2 for n in range(60)], ())
    assert counted.calls == Counter(range(60))
    assert len(service.ran) > 3


def test_du_72_a_map_that_does_not_fit_is_refused_before_the_first_call(service: Service) -> None:
    counted = Counted()
    play(service, lambda task, attempt: attempt.map("double", counted, range(5000)))
    lock = service.lock("a")
    assert (lock.status, counted.calls, lock.attempts) == (Status.FAILED, Counter(), 1)
    assert "may have 5,000" in lock.errors[-1].message


def test_du_72_results_that_do_not_fit_end_the_task(service: Service) -> None:
    counted = Counted()

    def large(item: int) -> str:
        counted(item)
        return "x" * 60_000

    play(service, lambda task, attempt: attempt.map("large", large, range(100), concurrency=4))
    lock = service.lock("a")
    assert (lock.status, lock.attempts) == (Status.FAILED, 1)
    assert 60 <= sum(counted.calls.values()) <= 75
    assert "items left, which were not called" in lock.errors[-1].message


def test_du_73_threads_see_the_context_of_the_handler(service: Service) -> None:
    seen: list[Any] = []
    logger = logging.getLogger("shop")

    def fn(item: int) -> None:
        context = current.get()
        assert context is not None
        seen.append((context.task, context.trace, REGION.get()))
        logger.info("item")
        REGION.set("changed")

    def act(task: Any, attempt: Any) -> None:
        REGION.set("eu")
        attempt.map("look", fn, range(4), concurrency=4)
        context = current.get()
        assert context is not None
        seen.append((context.task, context.trace, REGION.get()))

    play(service, act)
    assert seen[-1][0] == "a"
    assert {(task, trace) for task, trace, _ in seen} == {seen[-1][:2]}
    assert seen[-1][2] == "eu"


def test_du_73_log_records_name_run_and_item(service: Service) -> None:
    lines: list[dict[str, Any]] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(CloudFormatter("p").format(record))["oncetask"])

    logger = logging.getLogger("shop.lines")
    logger.setLevel(logging.INFO)
    handler = Kept()
    logger.addHandler(handler)

    def act(task: Any, attempt: Any) -> None:
        attempt.run("charge", logger.info, "charging")
        attempt.map("pack", lambda item: logger.info("packing"), "abc", concurrency=3)
        logger.info("after")

    try:
        play(service, act)
    finally:
        logger.removeHandler(handler)
    assert [(line.get("run"), line.get("index")) for line in (lines[0], lines[-1])] == [("charge", None), (None, None)]
    assert {(line["run"], line["index"], line["task"]) for line in lines[1:-1]} == {("pack", n, "a") for n in "012"}


def test_a_word_that_waits_in_a_thread_of_a_map_is_a_mistake(service: Service) -> None:
    play(service, lambda task, attempt: attempt.map("m", lambda item: attempt.sleep("s", 600), [1, 2]))
    lock = service.lock("a")
    assert (lock.status, lock.attempts) == (Status.FAILED, 1)
    assert "'s' is said inside the run 'm[" in lock.errors[-1].message


def test_a_cancelled_map_begins_no_item(service: Service) -> None:
    counted = Counted()

    def fn(item: int) -> int:
        if item == 5:
            service.manager.cancel_task(service.get("a").data.__class__, "a")
            service.attempts[-1].renew()
        return counted(item)

    play(service, lambda task, attempt: attempt.map("double", fn, range(20), concurrency=1))
    assert (service.lock("a").status, counted.calls) == (Status.CANCELLED, Counter(range(6)))


def test_items_that_are_begun_once_are_verified(service: Service) -> None:
    counted, asked = Counted(), []

    def fn(item: int) -> int:
        found = counted(item)
        if item == 3 and counted.calls[3] == 1:
            raise Killed
        return found

    def verify(key: str) -> int:
        asked.append(key)
        return 6

    runs = {"once": True, "verify": verify}
    play(service, lambda task, attempt: attempt.options(**runs).map("pay", fn, range(6), concurrency=1))
    lock = service.lock("a")
    assert (lock.status, lock.result) == (Status.COMPLETED, [n * 2 for n in range(6)])
    assert (counted.calls, len(asked), lock.open) == (Counter(range(6)), 1, ())


def test_du_98_a_full_journal_stays_linear(service: Service) -> None:
    """
    4,998 items and the map's own entry: the results are committed in groups, and the open part stays small.
    """
    play(service, lambda task, attempt: len(attempt.map("double", Counted(), range(4998), concurrency=4)))
    lock = service.lock("a")
    assert (lock.status, lock.result) == (Status.COMPLETED, 4998)
    assert service.firestore()["Commit"] < 1500
    assert sum(map(len, lock.journal)) <= 16_384 + 65_536
