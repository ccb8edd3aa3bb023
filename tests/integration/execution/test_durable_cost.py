"""
What durable handlers cost on the wire, counted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.testing.costs import Cost
from gcp_oncetask.worker import Worker
from tests.integration.execution.test_calls import Counter
from tests.support.durable import Calls
from tests.support.tasks import Pull, Service, Work

Word = Callable[[Any], Any]
HOUR = timedelta(hours=1)


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud) -> Service:
    """
    A deployment that handles two kinds, one of them pulled.
    """
    return Service(oncetask_cloud).handle().handle(Pull)


def word_costs(service: Service, word: Word, model: type[Work] = Work) -> Cost:
    """
    The cost of a word, without those of the handler around it.
    """
    found: list[Cost] = []

    def act(task: Any, attempt: Any) -> None:
        attempt.run("before", lambda: None)
        service.cloud.reset_cost()
        word(attempt)
        found.append(service.cloud.cost)

    service.act = act
    service.create("w", model=model)
    service.cloud.run_until_idle()
    [cost] = found
    return cost


def used(cost: Cost) -> tuple[int, dict[str, int]]:
    """
    Documents read, and the calls.
    """
    return cost.reads, dict(cost.calls)


def drawn(attempt: Any, count: int) -> None:
    for number in range(count):
        attempt.random(f"r{number}")
        attempt.now(f"n{number}")
        attempt.uuid(f"u{number}")


WORDS: dict[str, tuple[Word, int]] = {
    "a run": (lambda attempt: attempt.run("a", Calls()), 1),
    "a run with once=True": (lambda attempt: attempt.options(once=True).run("a", Calls()), 2),
    "times and chance alone": (lambda attempt: drawn(attempt, 3), 0),
    "a run after times and chance": (lambda attempt: (drawn(attempt, 3), attempt.run("a", Calls())), 2),
    "once=True after times and chance": (
        lambda attempt: (drawn(attempt, 3), attempt.options(once=True).run("a", Calls())),
        2,
    ),
    "a second run after times and chance": (
        lambda attempt: (drawn(attempt, 3), attempt.run("a", Calls()), attempt.run("b", Calls())),
        3,
    ),
    "a map over one item": (lambda attempt: attempt.map("m", Calls(), [1]), 1),
    "two pages": (lambda attempt: list(attempt.pages("p", lambda cursor: ([1], None if cursor else 2))), 2),
    "a poll whose first answer is the wanted one": (
        lambda attempt: attempt.poll("p", Calls(), until=lambda said: said == "done", every=600, timeout=None),
        1,
    ),
    "progress alone": (lambda attempt: attempt.progress({"done": 3}), 0),
    "a short sleep": (lambda attempt: attempt.sleep("s", 0), 0),
}


@pytest.mark.parametrize("model", [Work, Pull])
@pytest.mark.parametrize("name", WORDS)
def test_word_costs_its_commits_and_no_read(service: Service, name: str, model: type[Work]) -> None:
    word, commits = WORDS[name]
    if model is Pull:
        service.cloud.work(Worker(service.manager, listen=False))
    assert used(word_costs(service, word, model)) == (0, {"Commit": commits} if commits else {})


def test_answer_of_the_journal_costs_nothing(service: Service) -> None:
    first = [True]
    costs: list[Cost] = []

    def act(task: Any, attempt: Any) -> None:
        service.cloud.reset_cost()
        for number in range(10):
            attempt.run(f"r{number}", Calls())
        costs.append(service.cloud.cost)
        if first:
            first.pop()
            raise ValueError("again")

    service.act = act
    service.create("a")
    service.settle()
    assert [used(cost) for cost in costs] == [(0, {"Commit": 10}), (0, {})]


def attempts_of(
    service: Service, act: Callable[[Any, Any], Any], then: Callable[[], object], **fields: Any
) -> list[Cost]:
    """
    The costs of the first attempt from its first word to its end; of *then*; and of the second attempt.
    """
    costs: list[Cost] = []

    def handler(task: Any, attempt: Any) -> None:
        if attempt.number == 1 and not costs:
            service.cloud.reset_cost()
        act(task, attempt)

    service.act = handler
    service.create("a", **fields)
    service.cloud.run_until_idle()
    costs.append(service.cloud.cost)
    service.cloud.reset_cost()
    then()
    costs.append(service.cloud.cost)
    service.cloud.reset_cost()
    service.cloud.advance(hours=2)
    costs.append(service.cloud.cost)
    return costs


def test_suspension_is_the_commit_that_ends_the_request(service: Service) -> None:
    """
    A sleep: one commit and one Cloud Task. Coming back: a claim and an end, and no read.
    """
    slept, _, back = attempts_of(service, lambda task, attempt: attempt.sleep("s", HOUR), lambda: None)
    assert used(slept) == (0, {"Commit": 1, "CreateTask": 1})
    assert used(back) == (0, {"Commit": 2})
    assert service.lock("a").attempts == 1


def test_coming_back_with_a_document_that_does_not_travel_costs_one_read(service: Service) -> None:
    slept, _, back = attempts_of(
        service,
        lambda task, attempt: attempt.sleep("s", HOUR),
        lambda: None,
        note="x" * int(service.manager.locker.config.inline_limit),
    )
    assert used(slept) == (0, {"Commit": 1, "CreateTask": 1})
    assert used(back) == (1, {"BatchGetDocuments": 1, "Commit": 2})


def test_sealed_parts_cost_one_call_more(service: Service) -> None:
    """
    Two sealed parts of a journal are read by one call.
    """

    def act(task: Any, attempt: Any) -> None:
        for number in range(5):
            attempt.run(f"r{number}", lambda: "x" * 9_000)
        attempt.sleep("s", HOUR)

    _, _, back = attempts_of(service, act, lambda: None)
    assert len(service.lock("a").chunks) == 2
    assert used(back) == (2, {"BatchGetDocuments": 1, "Commit": 2})


def waited(timeout: timedelta | None) -> Callable[[Any, Any], Any]:
    return lambda task, attempt: attempt.wait_event("approval", dict, timeout=timeout)


def test_send_costs_a_read_a_commit_and_the_task_that_wakes(service: Service) -> None:
    waits, sent, back = attempts_of(
        service, waited(None), lambda: service.manager.send(Work, "a", "approval", {"by": "ann"})
    )
    assert used(waits) == (0, {"Commit": 1})
    assert used(sent) == (1, {"Commit": 1, "GetDocument": 1, "CreateTask": 1})
    assert used(back) == (0, {"Commit": 2})


def test_send_to_a_handler_that_does_not_wait_makes_no_task(service: Service) -> None:
    _, sent, _ = attempts_of(service, waited(None), lambda: service.manager.send(Work, "a", "another", {"by": "ann"}))
    assert used(sent) == (1, {"Commit": 1, "GetDocument": 1})


def test_wait_with_a_time_out_makes_two_tasks(service: Service) -> None:
    """
    One for its time-out, one for its event. The first is a duplicate later, which costs one read.
    """
    waits, sent, back = attempts_of(
        service, waited(HOUR), lambda: service.manager.send(Work, "a", "approval", {"by": "ann"})
    )
    assert used(waits) == (0, {"Commit": 1, "CreateTask": 1})
    assert used(sent) == (1, {"Commit": 1, "GetDocument": 1, "CreateTask": 1})
    assert used(back) == (1, {"Commit": 3, "GetDocument": 1})


def test_du_110_thousands_that_wait_cost_no_call(service: Service) -> None:
    """
    1,000 tasks sleep and 1,000 wait for an event: in an hour only the sweeps call, and as often as with one ordinary task
    that waits for its time.
    """

    def act(task: Any, attempt: Any) -> None:
        if task.id.startswith("s"):
            attempt.sleep("s", timedelta(days=2))
        attempt.wait_event("approval", dict, timeout=None)

    service.act = act
    service.create("plain", at=service.cloud.clock_now() + timedelta(days=2))
    service.cloud.sweep()
    service.cloud.advance(hours=1)
    service.cloud.reset_cost()
    service.cloud.sweep()
    one = service.cloud.cost
    for letter in "sw":
        payloads = [Work(name=f"{letter}{number}") for number in range(1000)]
        assert service.manager.create_tasks(payloads).created == 1000
    service.cloud.run_until_idle()
    assert len(service.ran) == 2000
    service.cloud.reset_cost()
    service.cloud.advance(hours=1)
    assert used(service.cloud.cost) == (0, {})
    service.cloud.sweep()
    assert used(service.cloud.cost) == used(one)
    assert [service.lock(name).due is not None for name in ("s0", "s999", "w0", "w999")] == [True] * 4


def test_handler_without_a_durable_word_costs_what_it_did(service: Service) -> None:
    service.act = lambda task, attempt: None
    service.create("a")
    service.cloud.reset_cost()
    service.cloud.run_until_idle()
    assert used(service.cloud.cost) == (0, {"Commit": 2})
    stored = service.stored("a")["lock"]
    assert not {"journal", "chunks", "journaledBy", "open", "wait", "mailbox", "progressAt", "needs"} & set(stored)


def python_calls(service: Service, size: int) -> tuple[float, float]:
    """
    The library's Python calls for each entry of a journal of *size* entries: of a new one, and of a replayed one.
    """
    counters: list[Counter] = []

    def act(task: Any, attempt: Any) -> None:
        counters.append(Counter())
        before = sys.getprofile()
        sys.setprofile(counters[-1])
        try:
            for number in range(size):
                attempt.run(f"r{number}", lambda: "x" * 200)
        finally:
            sys.setprofile(before)
        if len(counters) == 1:
            raise ValueError("again")

    service.act = act
    service.create(f"j{size}")
    service.settle(4)
    made, replayed = counters
    return made.calls / size, replayed.calls / size


def test_du_98_entry_costs_the_same_in_a_small_and_in_a_large_journal(service: Service) -> None:
    """
    Eight times as many entries, of which most are sealed, cost eight times as many Python calls, both when they are made and
    when they are replayed: each is decoded once.
    """
    python_calls(service, 20)
    small, large = python_calls(service, 100), python_calls(service, 800)
    assert len(service.lock("j800").chunks) >= 8
    assert large[0] <= small[0] * 1.1
    assert large[1] <= small[1] * 1.05
