"""
``attempt.run_transaction(fn, name=)``: writes of the user and the entry of the journal, both or neither.
"""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from gcp_oncetask import ContentionError, NoRetry, Status, StoreError
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.durable import Calls, play
from tests.support.orders import Killed
from tests.support.tasks import Service


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud) -> Service:
    """
    A deployment, and a stock of 100.
    """
    service = Service(oncetask_cloud)
    stock(service).set({"left": 100})
    return service


def stock(service: Service) -> Any:
    """
    The stock's document.
    """
    return service.manager.locker.client.document("stock/blue")


def left(service: Service) -> int:
    """
    What is left in stock.
    """
    return int(stock(service).get().get("left"))


class Take:
    """
    A function that takes one from the stock in a transaction, and counts its calls.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.calls = 0

    def __call__(self, txn: Any) -> int:
        self.calls += 1
        [found] = txn.get(stock(self.service))
        txn.update(stock(self.service), {"left": found.get("left") - 1})
        return int(found.get("left")) - 1


def test_du_28_the_result_is_kept_and_the_effect_is_not_repeated(service: Service) -> None:
    take, seen = Take(service), []

    def act(task: Any, attempt: Any) -> int:
        at = attempt.now("at")
        seen.append((attempt.run_transaction(take, name="book"), at))
        if len(seen) == 1:
            raise Killed
        return attempt.run_transaction(take, name="again")  # type: ignore[no-any-return]

    play(service, act)
    assert (seen[0], take.calls, left(service), service.lock("a").result) == (seen[1], 2, 98, 98)


def test_du_28_killed_before_the_commit_neither_is_there(service: Service) -> None:
    take, kill = Take(service), [True]

    def fn(txn: Any) -> int:
        found = take(txn)
        if kill:
            kill.clear()
            raise Killed
        return found

    play(service, lambda task, attempt: attempt.run_transaction(fn, name="book"))
    assert (take.calls, left(service), service.lock("a").result) == (2, 99, 99)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
def test_du_28_a_lost_answer_of_the_commit_takes_effect_once(
    service: Service, when: Any, code: grpc.StatusCode
) -> None:
    take = Take(service)

    def act(task: Any, attempt: Any) -> Any:
        if attempt.number == 1:
            service.cloud.faults.fail("Commit", when=when, code=code)
        return attempt.run_transaction(take, name="book")

    play(service, act)
    assert (left(service), service.lock("a").status, service.lock("a").result) == (99, Status.COMPLETED, 99)


def test_du_28_an_attempt_with_a_commit_in_doubt_ends(service: Service) -> None:
    """
    Neither the commit's fate nor the record can be read: the attempt says no other word, and the next one finds the entry.
    """
    take, after, errors = Take(service), Calls(), []

    def act(task: Any, attempt: Any) -> Any:
        def fn(txn: Any) -> int:
            found = take(txn)
            for method in ("Rollback", "GetDocument", "BatchGetDocuments"):
                service.cloud.faults.fail(method, times=None)
            service.cloud.faults.fail("Commit", when="after")
            return found

        try:
            found = attempt.run_transaction(fn, name="book")
        except StoreError as error:
            errors.append(error.facts.get("unknown"))
            service.cloud.faults.clear()
            attempt.run("after", after)
            raise
        return found

    play(service, act)
    assert (errors, after.seen, left(service), service.lock("a").result) == ([True], [], 99, 99)


def test_du_28_after_contention_the_transaction_is_repeated(service: Service) -> None:
    take = Take(service)

    def fn(txn: Any) -> int:
        found = take(txn)
        if take.calls == 1:
            raise ContentionError("others were faster")
        return found

    play(service, lambda task, attempt: attempt.run_transaction(fn, name="book"))
    assert (take.calls, left(service), service.lock("a").result, len(service.ran)) == (2, 99, 99, 1)


def test_du_28_a_duplicate_delivery_changes_nothing(service: Service) -> None:
    take = Take(service)
    service.handle().create("a")
    service.act = lambda task, attempt: attempt.run_transaction(take, name="book")
    body = service.body("a")
    service.post_all([body, body], 2)
    service.settle()
    assert (take.calls, left(service)) == (1, 99)


def test_many_transactions_seal_the_journal(service: Service) -> None:
    take, seen = Take(service), []

    def act(task: Any, attempt: Any) -> int:
        def fill(txn: Any) -> str:
            take(txn)
            return "x" * 5_000

        seen.append([len(attempt.run_transaction(fill, name=f"book-{n}")) for n in range(20)])
        if len(seen) == 1:
            raise ValueError("again")
        return sum(seen[-1])

    play(service, act)
    lock = service.lock("a")
    assert (lock.status, lock.result, left(service), seen[0]) == (Status.COMPLETED, 100_000, 80, seen[1])
    assert len(lock.chunks) >= 4


def test_a_result_that_cannot_be_kept_writes_nothing(service: Service) -> None:
    def fn(txn: Any) -> Any:
        txn.update(stock(service), {"left": 0})
        return {1}

    play(service, lambda task, attempt: attempt.run_transaction(fn, name="book"), retry=NoRetry())
    assert (service.lock("a").status, left(service)) == (Status.FAILED, 100)
    assert "Nothing was written" in service.lock("a").errors[-1].message


def test_a_word_inside_of_the_transaction_is_a_mistake(service: Service) -> None:
    def act(task: Any, attempt: Any) -> None:
        def fn(txn: Any) -> None:
            txn.update(stock(service), {"left": 0})
            attempt.run("inside", Calls())

        attempt.run_transaction(fn, name="book")

    play(service, act)
    assert (service.lock("a").status, left(service), service.lock("a").attempts) == (Status.FAILED, 100, 1)
