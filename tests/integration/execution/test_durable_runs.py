"""
``attempt.run``: results that are kept, failures that are retried, and processes that die.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel

from gcp_oncetask import FixedDelay, NoRetry, RunFailedError, Status
from tests.support.durable import SECOND, Calls, play
from tests.support.orders import Killed
from tests.support.tasks import Service


def test_du_01_a_kept_result_is_not_computed_again(service: Service) -> None:
    calls, first = Calls(7), [True]

    def act(task: Any, attempt: Any) -> Any:
        value = attempt.run("a", calls, 1)
        if first.pop() if first else False:
            raise Killed
        return value

    play(service, act)
    assert (calls.seen, service.manager.result(service.get("a").data.__class__, "a")) == ([(1,)], 7)
    assert [attempt.number for attempt in service.attempts] == [1, 2]


def test_du_02_a_result_that_was_not_committed_is_computed_again_under_the_same_key(service: Service) -> None:
    keys: list[str] = []

    def act(task: Any, attempt: Any) -> Any:
        def pay() -> int:
            keys.append(attempt.key_of("a"))
            if len(keys) == 1:
                raise Killed
            return 1

        return attempt.run("a", pay)

    play(service, act)
    assert (len(keys), len(set(keys)), service.lock("a").status) == (2, 1, Status.COMPLETED)


def test_du_05_only_the_run_that_failed_is_called_again(service: Service) -> None:
    one, two = Calls(1), Calls(ValueError("first"), ValueError("second"), 2)
    play(service, lambda task, attempt: [attempt.run("a", one), attempt.run("b", two)], retry=FixedDelay(delay=60))
    lock = service.lock("a")
    assert (len(one.seen), len(two.seen), lock.status, lock.result) == (1, 3, Status.COMPLETED, [1, 2])
    assert ["first" in lock.errors[0].message, "second" in lock.errors[1].message] == [True, True]


class Receipt(BaseModel):
    """
    A typed result.
    """

    amount: int
    at: datetime


VALUES = [
    (1, (2, "x")),
    {1: "one", (2, 3): [None]},
    datetime(2026, 11, 1, 2, 30, tzinfo=UTC),
    [[1, [2]], []],
    None,
    0,
    "",
    {"$": "odd"},
    b"\x00\xff",
    float("inf"),
    timedelta(days=2, microseconds=1),
]


class Signed(Receipt):
    """
    A subclass.
    """

    by: str


class Bill(BaseModel):
    """
    The fields of a receipt, under another name.
    """

    amount: int
    at: datetime


class Exact(BaseModel, strict=True):
    """
    A model that takes a text for a datetime only from JSON.
    """

    at: datetime
    sizes: tuple[int, ...]


AT = datetime(2026, 11, 1, 2, 30, tzinfo=UTC)


def signed() -> Receipt:
    return Signed(amount=1, at=AT, by="ann")


def bill() -> Receipt | Bill:
    return Bill(amount=1, at=AT)


def huge() -> int:
    return 10**5_000


@pytest.mark.parametrize("fn", [signed, bill, huge])
@pytest.mark.parametrize("once", [False, True])
def test_du_06_an_answer_that_would_change_its_type_or_length_is_refused_once(
    service: Service, fn: Callable[[], Any], once: bool
) -> None:
    calls = Calls(*[fn] * 9)

    def act(task: Any, attempt: Any) -> Any:
        return attempt.options(once=once, result=typing.get_type_hints(fn)["return"]).run("a", calls)

    play(service, act)
    lock = service.lock("a")
    assert (len(calls.seen), lock.status, len(lock.errors)) == (1, Status.FAILED, 1)
    assert "can't be kept" in lock.errors[0].message


@pytest.mark.parametrize("fn", [partial(Receipt, amount=1, at=AT), partial(Exact, at=AT, sizes=(1, 2))])
def test_du_07_a_class_as_the_function_and_a_strict_model_are_read_again(
    service: Service, fn: Callable[[], Any]
) -> None:
    seen: list[Any] = []

    def act(task: Any, attempt: Any) -> None:
        seen.append(attempt.run("a", fn))
        if len(seen) == 1:
            raise ValueError("again")

    play(service, act)
    assert seen == [fn(), fn()]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_du_07_the_first_answer_equals_the_replayed_one(service: Service, value: Any) -> None:
    seen: list[Any] = []

    def act(task: Any, attempt: Any) -> None:
        seen.append(attempt.run("a", lambda: value))
        if len(seen) == 1:
            raise ValueError("again")

    play(service, act)
    assert seen == [value, value]
    assert [type(each) for each in seen] == [type(value)] * 2


def test_du_08_an_answer_that_the_handler_changes_is_kept_as_it_was(service: Service) -> None:
    seen: list[Any] = []

    def act(task: Any, attempt: Any) -> None:
        found = attempt.run("a", lambda: {"items": [1]})
        seen.append([*found["items"]])
        found["items"].append(2)
        attempt.run("b", lambda: None)
        if len(seen) == 1:
            raise ValueError("again")

    play(service, act)
    assert seen == [[1], [1]]


def receipt() -> Receipt:
    return Receipt(amount=3, at=datetime(2026, 1, 1, tzinfo=UTC))


def test_a_model_is_read_by_the_annotation(service: Service) -> None:
    seen: list[Any] = []

    def act(task: Any, attempt: Any) -> None:
        seen.append(attempt.run("a", receipt))
        if len(seen) == 1:
            raise ValueError("again")

    play(service, act)
    assert seen == [receipt(), receipt()]


@pytest.mark.parametrize("value", [{1, 2}, open, "x" * 70_000], ids=["set", "function", "large"])
def test_du_06_a_result_that_cannot_be_kept_ends_the_task(service: Service, value: Any) -> None:
    calls = Calls(lambda: value)
    play(service, lambda task, attempt: attempt.run("a", calls))
    lock = service.lock("a")
    assert (len(calls.seen), lock.status, lock.attempts) == (1, Status.FAILED, 1)
    assert "'a' was done, and its result can't be kept" in lock.errors[-1].message
    assert len(service.cloud.alerts.sent) == 1


def test_du_09_a_name_used_twice_ends_the_task_at_once(service: Service) -> None:
    calls = Calls(1, 2)
    play(service, lambda task, attempt: [attempt.run("poll", calls) for _ in range(2)])
    lock = service.lock("a")
    assert (len(calls.seen), lock.status, lock.attempts) == (1, Status.FAILED, 1)
    assert 'f"poll-{i}"' in lock.errors[-1].message


def test_du_19_a_process_that_dies_after_each_new_entry_ends(service: Service) -> None:
    done: list[int] = []

    def act(task: Any, attempt: Any) -> str:
        for number in range(10):
            new = len(done) == number
            attempt.run(f"run-{number}", lambda number=number: done.append(number))
            if new:
                raise Killed
        return "ended"

    play(service, act)
    service.settle(300)
    lock = service.lock("a")
    assert (done, lock.status, len(service.ran)) == (list(range(10)), Status.COMPLETED, 11)


def test_du_18_a_run_that_kills_its_process_is_bounded(service: Service) -> None:
    calls = Calls(*[Killed() for _ in range(20)])

    def act(task: Any, attempt: Any) -> None:
        attempt.run("before", lambda: 1)
        attempt.run("kills", calls)

    play(service, act)
    service.settle(300)
    lock = service.lock("a")
    # The first attempt brought the journal forward, so it does not count.
    assert (lock.status, len(calls.seen)) == (Status.FAILED, 4)
    assert len(lock.journal) == 1


def test_du_21_a_run_that_failed_for_good_fails_the_same_in_each_attempt(service: Service) -> None:
    calls, refund, errors = Calls(*[ValueError(f"no {n}") for n in range(9)]), Calls(), []

    def act(task: Any, attempt: Any) -> str:
        try:
            attempt.options(retry=FixedDelay(delay=1)).run("a", calls)
        except RunFailedError as error:
            errors.append((str(error), error.kind, error.tries))
            attempt.run("refund", refund)
        if len(errors) == 1:
            raise Killed
        return "refunded"

    play(service, act)
    assert (len(calls.seen), len(refund.seen), service.lock("a").result) == (3, 1, "refunded")
    assert errors[0] == errors[1]
    assert [each["error"] for each in errors[0][2]] == [f"ValueError: no {n}" for n in range(3)]


def test_du_22_a_long_delay_of_a_run_ends_the_request_and_burns_no_attempt(service: Service) -> None:
    calls = Calls(ValueError("later"), "ok")
    retry = FixedDelay(delay=600)
    service.handle(retry=SECOND).create("a")
    service.act = lambda task, attempt: attempt.options(retry=retry).run("a", calls)
    service.cloud.advance(minutes=9)
    lock = service.lock("a")
    assert (len(calls.seen), lock.status, lock.attempts) == (1, Status.SCHEDULED, 0)
    assert lock.wait is not None
    service.cloud.advance(minutes=2)
    lock = service.lock("a")
    assert (len(calls.seen), lock.status, lock.attempts, lock.result) == (2, Status.COMPLETED, 1, "ok")


def test_du_95_a_large_journal_is_sealed_and_replayed_equal(service: Service) -> None:
    seen: list[list[str]] = []

    def act(task: Any, attempt: Any) -> None:
        seen.append([attempt.run(f"run-{n}", lambda n=n: f"{n}" * 3000) for n in range(30)])
        if len(seen) == 1:
            raise ValueError("again")

    play(service, act)
    lock = service.lock("a")
    assert (lock.status, seen[0]) == (Status.COMPLETED, seen[1])
    assert len(lock.chunks) > 5
    assert sum(map(len, lock.journal)) <= 16_384


def test_a_handler_goes_on_past_the_limit_of_its_request(service: Service) -> None:
    done: list[int] = []

    def slow(number: int) -> int:
        done.append(number)
        service.cloud.clock.advance(100)
        return number

    def act(task: Any, attempt: Any) -> int:
        return sum(attempt.run(f"run-{n}", slow, n) for n in range(30))

    service.handle(retry=NoRetry()).create("a")
    service.act = act
    service.settle(90)
    lock = service.lock("a")
    assert (lock.status, lock.result, done) == (Status.COMPLETED, sum(range(30)), list(range(30)))
    assert len(service.ran) > 3
    assert lock.errors == ()
