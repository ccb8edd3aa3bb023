"""
Runs with ``once=True``: an intent first, then a verification, or a person's answer.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from gcp_oncetask import NOT_DONE, FixedDelay, NotDone, RunFailedError, Status
from tests.support.durable import SECOND, Calls, play
from tests.support.orders import Killed
from tests.support.tasks import Latest, Service


def once(pay: Any, verify: Any = None, **options: Any) -> Any:
    return lambda task, attempt: attempt.options(once=True, verify=verify, **options).run("charge", pay)


def test_du_30_what_did_not_happen_is_called_again(service: Service) -> None:
    pay, verify = Calls(Killed(), "paid"), Calls(NOT_DONE)
    play(service, once(pay, verify))
    lock = service.lock("a")
    assert (len(pay.seen), len(verify.seen), lock.status, lock.result) == (2, 1, Status.COMPLETED, "paid")
    assert lock.open == ()


def test_du_31_what_has_happened_is_not_called_again(service: Service) -> None:
    pay, verify = Calls(Killed()), Calls("receipt 7")
    play(service, once(pay, verify))
    lock = service.lock("a")
    assert (len(pay.seen), len(verify.seen), lock.status, lock.result) == (1, 1, Status.COMPLETED, "receipt 7")


def test_du_32_without_a_verification_a_person_is_asked(service: Service) -> None:
    pay = Calls(Killed())
    play(service, once(pay))
    lock = service.lock("a")
    assert (len(pay.seen), lock.status, [intent.name for intent in lock.open]) == (1, Status.QUARANTINED, ["charge"])
    assert lock.holder is None
    assert "'charge' was begun once" in service.cloud.alerts.sent[-1].reason
    service.settle(60)
    assert (len(pay.seen), service.lock("a").status) == (1, Status.QUARANTINED)


def test_du_36_a_verification_that_never_answers_ends_with_a_person(service: Service) -> None:
    pay, verify = Calls(Killed()), Calls(*[ValueError("down")] * 30)
    play(service, once(pay, verify))
    service.settle(200)
    lock = service.lock("a")
    assert (len(pay.seen), lock.status) == (1, Status.QUARANTINED)
    assert len(verify.seen) >= 2


def test_du_37_an_exception_that_is_not_certain_is_verified(service: Service) -> None:
    pay, verify = Calls(TimeoutError("no answer")), Calls("receipt")
    play(service, once(pay, verify))
    assert (len(pay.seen), len(verify.seen), service.lock("a").result) == (1, 1, "receipt")


def test_du_37_a_handler_that_swallows_it_ends_all_the_same(service: Service) -> None:
    pay, verify = Calls(TimeoutError("no answer")), Calls("receipt")

    def act(task: Any, attempt: Any) -> Any:
        try:
            return once(pay, verify)(task, attempt)
        except TimeoutError:
            return "swallowed"

    play(service, act)
    assert (len(pay.seen), len(verify.seen), service.lock("a").result) == (1, 1, "receipt")


@pytest.mark.parametrize("certain", [NotDone("declined"), ConnectionError("refused")], ids=["NotDone", "not_done"])
def test_du_38_what_surely_did_not_happen_is_an_ordinary_failure(service: Service, certain: Exception) -> None:
    pay = Calls(certain, "paid")
    play(service, once(pay, not_done=ConnectionError))
    lock = service.lock("a")
    assert (len(pay.seen), lock.status, lock.result, len(lock.errors)) == (2, Status.COMPLETED, "paid", 1)


def test_withdrawn_intents_are_tried_again_by_the_policy_of_the_run(service: Service) -> None:
    pay, told = Calls(*[NotDone(f"no {n}") for n in range(9)]), []

    def act(task: Any, attempt: Any) -> Any:
        try:
            return once(pay, retry=FixedDelay(delay=600))(task, attempt)
        except RunFailedError as error:
            told.append(error.tries)
            return "gave up"

    play(service, act)
    lock = service.lock("a")
    assert (len(pay.seen), lock.status, lock.result, lock.attempts) == (3, Status.COMPLETED, "gave up", 1)
    assert len(told) == 1


def test_the_key_of_a_run_is_that_of_each_attempt(service: Service) -> None:
    keys = []

    def act(task: Any, attempt: Any) -> Any:
        keys.append(attempt.key_of("charge"))
        return once(Calls(Killed()) if len(keys) == 1 else Calls("paid"), Calls(NOT_DONE))(task, attempt)

    play(service, act)
    assert (len(set(keys)), len(keys) > 1, service.lock("a").status) == (1, True, Status.COMPLETED)


def test_a_cancellation_that_takes_a_newer_payload_does_not_change_the_key_of_an_open_run(service: Service) -> None:
    called, verify = [], Calls("receipt")

    def pay(key: str) -> None:
        called.append(key)
        service.manager.create_task(Latest(name="a", note="newer"))
        assert service.manager.cancel_task(Latest, "a")
        raise Killed

    def act(task: Any, attempt: Any) -> Any:
        return attempt.options(once=True, verify=verify).run("charge", pay, attempt.key_of("charge"))

    service.handle(Latest, retry=SECOND).create("a", model=Latest)
    service.act = act
    service.settle(60)
    assert (verify.seen, len(called)) == ([(called[0],)], 1)


def test_a_base_exception_of_a_once_run_that_is_swallowed_ends_the_attempt(service: Service) -> None:
    pay, after = Calls(Killed()), Calls()

    def act(task: Any, attempt: Any) -> None:
        with contextlib.suppress(BaseException):
            attempt.options(once=True).run("pay", pay)
        attempt.run("after", after)

    play(service, act)
    assert (len(pay.seen), len(after.seen), service.lock("a").status) == (1, 0, Status.QUARANTINED)


@pytest.mark.parametrize(("fn", "args"), [(None, ()), (lambda: 1, (5,))], ids=["no function", "arguments"])
def test_a_once_run_that_can_not_be_called_leaves_no_question(service: Service, fn: Any, args: Any) -> None:
    play(service, lambda task, attempt: attempt.options(once=True).run("pay", fn, *args))
    lock = service.lock("a")
    assert (lock.status, lock.open) == (Status.FAILED, ())
    assert "Nothing was called" in lock.errors[-1].message
