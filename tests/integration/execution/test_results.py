"""
Work that is done is not repeated because of its answer: whatever a handler returns, and whatever Firestore says to it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from pydantic import BaseModel, field_serializer

from gcp_oncetask import (
    Attempt,
    Config,
    Continue,
    Fail,
    FixedDelay,
    Locker,
    ResultNotStoredError,
    Retry,
    Snooze,
    Status,
    StoreError,
    UsageError,
    locked,
    once,
    sweep,
)
from gcp_oncetask.flask import locked_handler
from gcp_oncetask.locks.arguments import document_id
from gcp_oncetask.tasks import PerTask
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import Killed, Order, Shop
from tests.support.tasks import Service, Work

AGAIN = FixedDelay(delay=timedelta(seconds=1), max_attempts=3)
ONLY_JSON = [{"rows": [[1, 2], [3, 4]]}, {"": 1}, {"__sum__": 3}, 2**70, "\ud800"]


class Odd(BaseModel):
    """
    A model whose serializer, which is code of the user's, fails.
    """

    amount: int = 1

    @field_serializer("amount")
    def _amount(self, amount: int) -> int:
        raise ZeroDivisionError(f"no {amount}")


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ONLY_JSON)
def test_what_only_json_can_say_is_a_result_like_any_other(
    oncetask_cloud: OncetaskCloud, shop: Shop, service: Service, value: Any
) -> None:
    """
    An entity, a once-task, one that settles by itself, one of a batch, and a function that runs once: each runs once.
    """
    ran: list[str] = []
    shop.on_charge = lambda order, attempt: ran.append("entity") or value
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    service.handle(retry=AGAIN).create("a", "b")
    service.act = lambda task, attempt: ran.append(task.id) or value
    oncetask_cloud.advance(minutes=10)
    assert sorted(ran) == ["a", "b", "entity"]
    assert shop.locker.result(Order, "42") == value
    assert [service.manager.result(Work, name) for name in "ab"] == [value, value]
    assert service.get("a").result == value

    calls: list[int] = []
    run = once(shop.locker, name="f")(lambda: calls.append(1) or value)
    assert (run(), run(), calls) == (value, value, [1])
    assert oncetask_cloud.alerts.sent == []


def test_batch_has_results_of_each_kind(service: Service) -> None:
    """
    One that is stored, one as text, one that is lost: the three tasks are completed, and have run once.
    """
    service.handle_keys(retry=AGAIN)
    service.act = lambda tasks, attempts: PerTask({"a": {"x": 1}, "b": [[1]], "c": object()})
    service.create("a", "b", "c", key="k")
    service.cloud.advance(minutes=5)
    assert sorted(service.ran) == ["a", "b", "c"]
    assert (service.manager.result(Work, "a"), service.manager.result(Work, "b")) == ({"x": 1}, [[1]])
    with pytest.raises(ResultNotStoredError):
        service.manager.result(Work, "c")
    assert [alert.document for alert in service.cloud.alerts.sent] == [service.path("c")]


def test_complete_in_a_handler_and_beside_one(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    In a handler the step is done; beside one nothing is, so what can't be stored is refused and nothing written.
    """
    shop.on_charge = lambda order, attempt: shop.locker.complete(order, result=object())
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    shop.locker.schedule(Order(id="43"), "/tasks/order", delay=3600)
    oncetask_cloud.run_until_idle()
    with pytest.raises(ResultNotStoredError):
        shop.locker.result(Order, "42")
    order = shop.locker.get(Order, "43")
    with pytest.raises(UsageError, match=r"^result can't be stored: "):
        shop.locker.complete(order, result=object())
    assert shop.locker.show("orders/43").status is Status.SCHEDULED
    shop.locker.complete(order, result=[[1]])
    assert shop.locker.result(Order, "43") == [[1]]


def test_an_older_process_sees_the_value_or_nothing(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    It knows neither field; what it leaves of them when it goes on does not count for later runs.
    """
    shop.on_charge = lambda order, attempt: [[1]]
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    reference = shop.locker.client.document("orders/42")
    stored = reference.get().to_dict()["lock"]
    assert "result" not in stored
    assert stored["resultJson"] == {"sequence": 1, "token": 1, "text": "[[1]]"}
    # As it would schedule and complete the next sequence.
    reference.update({"lock.sequence": 2, "lock.token": 2, "lock.result": 5})
    assert shop.locker.result(Order, "42") == 5


def test_next_run_begins_without_what_the_last_one_returned(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    Reset and run again: the second result is read, the first one's fields are gone.
    """
    values: list[Any] = [object(), [[2]], {"n": 3}]
    shop.on_charge = lambda order, attempt: values.pop(0)
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    assert shop.locker.show("orders/42").returned.lost
    for expected in ([[2]], {"n": 3}):
        shop.locker.reset(Order, "42")
        oncetask_cloud.run_until_idle()
        assert shop.locker.result(Order, "42") == expected
    stored = shop.locker.client.document("orders/42").get().to_dict()["lock"]
    assert not {"resultJson", "resultLost"} & set(stored)


def test_parameters_of_a_next_step_that_cannot_be_stored_fail_the_step(service: Service) -> None:
    """
    A counted failure, with the name of what can't be stored.
    """
    service.handle(retry=AGAIN).create("a")
    service.act = lambda task, attempt: Continue("/oncetask/deliver", params={"rows": [[1]]})
    service.cloud.advance(minutes=5)
    lock = service.lock("a")
    assert (lock.status, lock.attempts) == (Status.FAILED, 3)
    assert "params can't be stored: rows[0] is a list in a list" in lock.errors[0].message


# --- Firestore refuses for good ---------------------------------------------------------------------------------------


def refuse(cloud: OncetaskCloud, times: int, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT) -> None:
    """
    Let Firestore refuse the next commits.
    """
    cloud.faults.fail("Commit", times=times, code=code, message="too large for words")


def test_settling_that_is_refused_for_good_goes_without_its_result(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    The run is done, so it is completed; the record says with Firestore's own words that the result is lost.
    """
    shop.on_charge = lambda order, attempt: refuse(oncetask_cloud, 1) or {"n": 1}
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.advance(hours=1)
    lock = shop.locker.show("orders/42")
    assert (lock.status, lock.attempts, lock.token) == (Status.COMPLETED, 1, 1)
    assert "too large for words" in (lock.returned.lost or "")
    assert [alert.result_lost for alert in oncetask_cloud.alerts.sent] == [True]


@pytest.mark.parametrize("value", [{"n": 1}, None, Continue("/tasks/order")])
def test_what_can_not_be_settled_at_all_is_a_counted_failure(
    oncetask_cloud: OncetaskCloud, open_shop: Callable[..., Shop], value: Any
) -> None:
    """
    With Firestore's own words, by the retry policy, and told at the end: no takeover is spoken of.
    """
    shop = open_shop(retry=AGAIN)
    rungs = 2 if value == {"n": 1} else 1

    def charge(order: Order, attempt: Attempt) -> Any:
        refuse(oncetask_cloud, rungs)
        return value

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.advance(hours=1)
    lock = shop.locker.show("orders/42")
    assert (lock.status, lock.attempts) == (Status.FAILED, 3)
    assert all("INVALID_ARGUMENT: too large for words" in error.message for error in lock.errors)
    assert [alert.event for alert in oncetask_cloud.alerts.sent] == ["failure"]


def test_handler_that_catches_a_refusal_and_fails_is_heard(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    It asked for the completion, was refused for good, and says what to do instead.
    """

    def charge(order: Order, attempt: Attempt) -> Any:
        refuse(oncetask_cloud, 1)
        try:
            shop.locker.complete(order)
        except StoreError as error:
            return Fail(f"it can't be: {error.code.name}, final: {error.final}")

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    lock = shop.locker.show("orders/42")
    assert (lock.status, [error.message for error in lock.errors]) == (
        Status.FAILED,
        ["it can't be: INVALID_ARGUMENT, final: True"],
    )


@pytest.mark.parametrize(
    ("refused", "status", "lost"),
    [(1, Status.COMPLETED, True), (2, Status.SCHEDULED, False), (3, Status.SCHEDULED, False)],
)
def test_recovery_gives_a_refused_settlement_up(
    oncetask_cloud: OncetaskCloud, open_shop: Callable[..., Shop], refused: int, status: Status, lost: bool
) -> None:
    """
    The holder died with its settlement in the log, which Firestore refuses for good: after at most three tries the lease is
    over, and a person is told.
    """
    shop = open_shop(renew=False)  # a renewal on another thread would take one of the refusals
    shop.locker._runtime.config = replace_contents(shop.locker.config)

    def charge(order: Order, attempt: Attempt) -> Any:
        # The commit that follows is lost with the process: its line is in the log.
        oncetask_cloud.faults.fail("Commit", times=None, code=grpc.StatusCode.UNAVAILABLE)
        return {"n": 1}

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    for task in oncetask_cloud.local.tasks.tasks():
        oncetask_cloud.drop(task.name)
    oncetask_cloud.faults.clear()
    shop.on_charge = lambda order, attempt: "again"
    oncetask_cloud.clock.advance(3600)
    refuse(oncetask_cloud, refused)
    sweep(shop.locker)
    lock = shop.locker.show("orders/42")
    assert (lock.status, lock.returned.lost is not None) == (status, lost)
    assert oncetask_cloud.alerts.sent
    if status is Status.SCHEDULED:
        assert "too large for words" in lock.errors[-1].message


def replace_contents(config: Config) -> Config:
    """
    *config* with settlements in the log.
    """
    from dataclasses import replace

    return replace(config, log_contents=True)


def test_once_is_recorded_though_firestore_refuses_its_result(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    It has run: it is never run again, and a person is told.
    """
    calls: list[int] = []

    @once(shop.locker, name="f")
    def run() -> str:
        calls.append(1)
        refuse(oncetask_cloud, 1)
        return "ok"

    assert run() == "ok"
    with pytest.raises(ResultNotStoredError, match="too large for words"):
        run()
    assert calls == [1]
    [alert] = oncetask_cloud.alerts.sent
    assert (alert.document, alert.result_lost) == (f"onceLocks/{document_id('DEFAULT', 'once', 'f', '{}')}", True)


def test_result_stays_where_its_caller_is_refused(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A role that is missing says nothing about the result: the attempt stays unsettled with it, and the caller is told.
    """
    shop.on_charge = lambda order, attempt: refuse(oncetask_cloud, 1, grpc.StatusCode.PERMISSION_DENIED) or {"n": 1}
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    lock = shop.locker.show("orders/42")
    assert (lock.status, lock.returned.lost) == (Status.LEASED, None)

    @once(shop.locker, name="f")
    def run() -> str:
        refuse(oncetask_cloud, 1, grpc.StatusCode.PERMISSION_DENIED)
        return "ok"

    with pytest.raises(StoreError, match="PERMISSION_DENIED"):
        run()
    assert not [alert for alert in oncetask_cloud.alerts.sent if alert.result_lost]


# --- code of the user's while settling --------------------------------------------------------------------------------


class Silent(Exception):  # noqa: N818 - an exception of a user's
    """
    An exception that can't say what it is.
    """

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Moody:
    """
    A retry policy that fails.
    """

    max_attempts = 3

    def should_retry(self, attempt: int, error: BaseException | None) -> bool:
        raise KeyError("mood")

    def next_delay(self, attempt: int, error: BaseException | None, chance: float) -> timedelta:
        raise KeyError("mood")


async def later() -> int:
    return 1


def raising(error: Exception) -> Callable[..., Any]:
    def act(task: Any, attempt: Attempt) -> Any:
        raise error

    return act


FAILING: dict[str, tuple[Callable[..., Any], str]] = {
    "an exception without words": (raising(Silent()), "Silent: (its text could not be made: RuntimeError)"),
    "half a surrogate pair": (raising(ValueError("a\ud800b")), "ValueError: a?b"),
    "a reason that is no UTF-8": (lambda task, attempt: Retry("\ud800"), "?"),
    "a final reason that is no UTF-8": (lambda task, attempt: Fail("\ud800"), "?"),
    "a delay that is none": (lambda task, attempt: Retry("x", after="soon"), "after is 'soon'"),
    "a snooze that is none": (lambda task, attempt: Snooze("soon"), "delay is 'soon'"),
    "parameters whose serializer fails": (
        lambda task, attempt: Continue(params=Odd()),
        "`_amount`: ZeroDivisionError)",
    ),
    "a coroutine": (lambda task, attempt: later(), "returned coroutine, of which nothing has run"),
}


@pytest.mark.parametrize("name", FAILING)
@pytest.mark.filterwarnings("ignore:coroutine 'later' was never awaited")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_whatever_user_code_raises_is_a_failed_attempt_with_its_text(
    service: Service, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """
    Whatever of it runs while the attempt is settled; no delivery is answered by an unhandled 500.
    """
    # What the log would say is no UTF-8, which pytest's own processes can't tell each other.
    caplog.set_level(logging.CRITICAL, "gcp_oncetask")
    act, text = FAILING[name]
    service.handle(retry=AGAIN).create("a")
    service.act = act
    service.cloud.advance(minutes=5)
    lock = service.lock("a")
    assert lock.status is Status.FAILED
    assert text in lock.errors[0].message
    assert {delivery.status for delivery in service.cloud.deliveries} == {200}


def test_retry_policy_that_fails_is_a_retry(service: Service) -> None:
    """
    The attempt has failed and is counted; the limit of attempts holds.
    """
    service.handle(retry=Moody()).create("a")
    service.act = raising(ValueError("mine"))
    service.cloud.advance(minutes=5)
    lock = service.lock("a")
    assert (lock.status, lock.attempts, lock.errors[0].message) == (Status.FAILED, 3, "ValueError: mine")


def test_field_whose_serializer_fails_is_a_failed_attempt(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A field of the entity that a handler has changed into what can't be written.
    """

    def charge(order: Order, attempt: Attempt) -> None:
        object.__setattr__(order, "note", Odd())

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    lock = shop.locker.show("orders/42")
    assert (lock.status, lock.attempts) == (Status.SCHEDULED, 1)
    assert lock.errors


def generator(*_: Any) -> Iterator[int]:
    yield 1


async def stream(*_: Any) -> AsyncIterator[int]:
    yield 1


async def coroutine(*_: Any) -> int:
    return 1


class Called:
    """
    An object that is called.
    """

    async def __call__(self, *_: Any) -> int:
        return 1


NOT_PLAIN = [generator, stream, coroutine, functools.partial(generator, 1), Called()]


@pytest.mark.parametrize("fn", NOT_PLAIN)
def test_functions_that_run_nothing_when_called_are_refused_where_they_are_given(service: Service, fn: Any) -> None:
    """
    Generators as well as coroutines, by every way to hand over a function.
    """
    manager, locker = service.manager, service.manager.locker
    ways: list[Callable[[], Any]] = [
        lambda: locked_handler(locker, Order)(fn),
        lambda: manager.handler(Work)(fn),
        lambda: manager.register_task_handler(Work, fn),
        lambda: manager.register_task_handler(Work, lambda task, attempt: None, on_cancel=fn),
        lambda: manager.register_batch_handler(Work, fn),
        lambda: manager.register_resource_key_handler(Work, fn),
        lambda: once(locker, name="f")(fn),
        lambda: locked(locker, name="f")(fn),
    ]
    for way in ways:
        with pytest.raises(UsageError, match="a call of it runs nothing"):
            way()


def test_killed_is_still_a_death(service: Service) -> None:
    """
    What ends the process is no failure of the attempt's code.
    """
    service.handle(retry=AGAIN).create("a")
    service.act = lambda task, attempt: (_ for _ in ()).throw(Killed)
    service.cloud.run_until_idle()
    assert service.lock("a").status is Status.LEASED


def test_locker_is_not_needed_for_what_is_checked(oncetask_cloud: OncetaskCloud) -> None:
    """
    What can't be sent is refused before anything is written.
    """
    locker = Locker(config=Config(base_url="https://app.test"))
    oncetask_cloud.use(locker)
    for params in ([[1]], object(), {"": 1}, 2**70, "x" * 70_000):
        with pytest.raises(UsageError, match=r"^params can't be stored: "):
            locker.schedule(Order(id="42"), "/tasks/order", params=params)
    assert locker.get(Order, "42") is None
