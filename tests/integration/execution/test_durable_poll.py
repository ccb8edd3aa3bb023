"""
``attempt.poll``: rounds until an outside system is ready.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from gcp_oncetask import EventTimeoutError, FixedDelay, NoRetry, Status
from gcp_oncetask.worker import Worker
from tests.support.durable import SECOND, Calls, play
from tests.support.orders import Killed
from tests.support.tasks import Pull, Service, Work


def count(state: int | None) -> int:
    """
    The number of rounds so far.
    """
    return (state or 0) + 1


def at_three(state: int) -> bool:
    """
    Whether three rounds are over.
    """
    return state >= 3


def test_rounds_until_the_state_is_the_wanted_one(service: Service) -> None:
    calls = Calls(*[count] * 3)
    service.handle(retry=NoRetry()).create("a")
    service.act = lambda task, attempt: attempt.poll(
        "export", calls, until=at_three, every=timedelta(minutes=10), timeout=None
    )
    service.cloud.advance(minutes=5)
    service.start_counting()
    service.cloud.advance(minutes=4)
    lock = service.lock("a")
    # Between two rounds nothing is called, and there is one entry.
    assert service.firestore().get("Commit", 0) == 0
    assert (calls.seen, lock.status, len(lock.journal), lock.attempts) == ([(None,)], Status.SCHEDULED, 1, 0)
    service.cloud.advance(minutes=20)
    lock = service.lock("a")
    assert (calls.seen, lock.status, lock.result) == ([(None,), (1,), (2,)], Status.COMPLETED, 3)
    assert (len(lock.journal), len(service.ran)) == (1, 3)


def test_the_answer_is_kept(service: Service) -> None:
    calls, seen = Calls(*[count] * 3), []

    def act(task: Any, attempt: Any) -> None:
        seen.append(attempt.poll("export", calls, until=at_three, every=1, timeout=60))
        if len(seen) == 1:
            raise ValueError("again")

    play(service, act)
    assert (seen, len(calls.seen), service.lock("a").status) == ([3, 3], 3, Status.COMPLETED)


def test_short_pauses_are_waited_in_the_request(service: Service) -> None:
    play(service, lambda task, attempt: attempt.poll("export", count, until=at_three, every=2, timeout=60))
    assert (service.lock("a").result, len(service.ran)) == (3, 1)


def test_a_poll_ends_with_its_time_out(service: Service) -> None:
    """
    The last round is at the time-out; the error is the same in every attempt.
    """
    errors, times = [], []

    def fn(state: int | None) -> int:
        times.append(service.cloud.clock_now())
        return count(state)

    def act(task: Any, attempt: Any) -> str:
        try:
            attempt.poll("export", fn, until=lambda state: False, every=600, timeout=1500)
        except EventTimeoutError as error:
            errors.append((str(error), error.name))
            if len(errors) == 1:
                raise Killed from None
        return "given up"

    play(service, act)
    assert (service.lock("a").result, errors[0]) == ("given up", errors[1])
    assert [round((time - times[0]).total_seconds(), -1) for time in times] == [0, 600, 1200, 1500]


def test_a_round_that_raises_is_repeated_with_the_last_state(service: Service) -> None:
    calls = Calls(count, ValueError("no"), count, count)
    play(service, lambda task, attempt: attempt.poll("export", calls, until=at_three, every=60, timeout=None))
    assert calls.seen == [(None,), (1,), (1,), (2,)]
    assert service.lock("a").result == 3


def test_each_round_brings_the_handler_forward(service: Service) -> None:
    """
    Each round fails once, and an attempt may fail twice: the failures of former rounds do not count.
    """
    calls = Calls(*[ValueError("no"), count] * 6)
    play(
        service,
        lambda task, attempt: attempt.poll("export", calls, until=lambda n: n == 6, every=60, timeout=None),
        retry=FixedDelay(delay=1, max_attempts=2),
    )
    assert (service.lock("a").result, len(calls.seen)) == (6, 12)


def test_many_rounds_burn_no_attempt_and_do_not_fill_the_journal(service: Service) -> None:
    class State(BaseModel):
        rounds: int
        text: str

    def fn(state: State | None) -> State:
        return State(rounds=count(state and state.rounds), text="x" * 30_000)

    def act(task: Any, attempt: Any) -> int:
        quick = attempt.poll("quick", fn, until=lambda state: state.rounds == 200, every=0, timeout=None)
        slow = attempt.poll("slow", fn, until=lambda state: state.rounds == 30, every=60, timeout=None)
        return int(quick.rounds + slow.rounds)

    # Its annotations are names of this function, which a reader of annotations can't see.
    fn.__annotations__["return"] = State
    fn.__annotations__["state"] = Any
    play(service, act, retry=NoRetry())
    lock = service.lock("a")
    assert (lock.status, lock.result, lock.errors) == (Status.COMPLETED, 230, ())
    assert len(lock.chunks) <= 2


def test_a_poll_in_pull_mode(service: Service) -> None:
    service.handle(Pull, retry=NoRetry()).create("a", model=Pull)
    service.act = lambda task, attempt: attempt.poll("export", count, until=at_three, every=600, timeout=None)
    for _ in range(6):
        Worker(service.manager, kinds=["pulled"]).drain()
        service.cloud.advance(minutes=6)
    assert (service.lock("a", Pull).status, service.lock("a", Pull).result) == (Status.COMPLETED, 3)
    assert len(service.ran) == 3


def test_a_duplicate_delivery_of_a_round_changes_nothing(service: Service) -> None:
    calls = Calls(*[count] * 3)
    service.handle(retry=SECOND).create("a")
    service.act = lambda task, attempt: attempt.poll("export", calls, until=at_three, every=600, timeout=None)
    for _ in range(2):
        body = service.body("a")
        service.cloud.advance(minutes=10, seconds=30)
        service.post(body)
    service.settle(10)
    assert (len(calls.seen), service.lock("a").result) == (3, 3)


def test_a_poll_that_is_cancelled_calls_nothing_more(service: Service) -> None:
    calls = Calls(*[count] * 3)
    service.handle().create("a")
    service.act = lambda task, attempt: attempt.poll("export", calls, until=at_three, every=6000, timeout=None)
    service.cloud.advance(minutes=5)
    service.manager.cancel_task(Work, "a")
    service.settle(10)
    assert (len(calls.seen), service.lock("a").status) == (1, Status.CANCELLED)


def test_a_state_that_cannot_be_kept_is_a_mistake(service: Service) -> None:
    play(service, lambda task, attempt: attempt.poll("export", lambda s: {1}, until=bool, every=1, timeout=None))
    assert (service.lock("a").status, service.lock("a").attempts) == (Status.FAILED, 1)
    assert "The state of the poll 'export' can't be kept" in service.lock("a").errors[-1].message
