"""
The table of the words of durable handlers, in the page about cost, counted on the local cloud:
``python -m tests.support.durable_costs`` prints it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from gcp_oncetask.rules.record import Status
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.testing.costs import MILLION, Cost
from tests.support.tasks import Other, Service, Work

HEAD = """\
| in a once-task, for each | reads | writes | operations of Cloud Tasks | calls | USD per million |
|---|---|---|---|---|---|
"""
Word = Callable[[Any], Any]
HOUR = timedelta(hours=1)


def _first(attempt: Any) -> None:
    attempt.random("chance")
    attempt.run("a", int)


def _waits(attempt: Any) -> None:
    attempt.wait_event("approval", dict, timeout=None)


def _waits_a_day(attempt: Any) -> None:
    attempt.wait_event("approval", dict, timeout=timedelta(days=1))


EVENTS = (_waits, _waits_a_day)


def _many(attempt: Any) -> None:
    for number in range(10):
        attempt.run(f"r{number}", lambda: "x" * 2_000)
    attempt.sleep("s", HOUR)


def _few(attempt: Any) -> None:
    for number in range(10):
        attempt.run(f"r{number}", int)
    attempt.sleep("s", HOUR)


def _takes(attempt: Any) -> None:
    attempt.run_transaction(lambda txn: 9, name="take")


def _pages(count: int) -> Word:
    def fetch(cursor: int | None) -> tuple[list[int], int | None]:
        number = cursor or 1
        return [number], number + 1 if number < count else None

    return lambda attempt: list(attempt.pages("p", fetch))


def _polls(rounds: int) -> Word:
    return lambda attempt: attempt.poll(
        "p", lambda state: (state or 0) + 1, until=lambda state: state >= rounds, every=600, timeout=None
    )


def _children(count: int) -> Word:
    return lambda attempt: attempt.run_tasks("c", [Other(name=f"{attempt.key}-{number}") for number in range(count)])


WORDS: dict[str, tuple[Word, Word | None]] = {
    "run": (lambda attempt: attempt.run("a", int), None),
    "run with `once=True`": (lambda attempt: attempt.options(once=True).run("a", int), None),
    "run, the first after a time or chance": (_first, None),
    "time or chance alone": (lambda attempt: attempt.random("chance"), None),
    "sleep of up to 5 seconds": (lambda attempt: attempt.sleep("s", 0.001), None),
    "sleep, its wake-up included": (lambda attempt: attempt.sleep("s", HOUR), None),
    "wait for an event, its `send` and wake-up included": (_waits, None),
    "the same with a time-out": (_waits_a_day, None),
    "map over one item": (lambda attempt: attempt.map("m", str, [1]), None),
    "page of `pages`": (_pages(3), _pages(2)),
    "poll whose first answer is the wanted one": (_polls(1), None),
    "further round of poll, its wake-up included": (_polls(3), _polls(2)),
    "`run_tasks` with one child, the child and the wake-up included": (_children(1), None),
    "further child of `run_tasks`": (_children(11), _children(10)),
    "`run_transaction` with a name, without its own reads and writes": (_takes, None),
    "sealed part of the journal, read when the handler comes back": (_many, _few),
}


def _used(word: Word) -> Cost:
    """
    The cost of a once-task whose handler says *word*, the second one of its process.
    """
    cloud = OncetaskCloud()
    try:
        service = Service(cloud).handle().handle(Other)
        service.act = lambda task, attempt: None if isinstance(task.data, Other) else word(attempt)
        for name in ("first", "second"):
            cloud.reset_cost()
            service.create(name)
            cloud.run_until_idle()
            if word in EVENTS:
                service.manager.send(Work, name, "approval", {})
            cloud.advance(days=2)
            # A handler that fails would be counted too.
            assert service.lock(name).status is Status.COMPLETED
        return cloud.cost
    finally:
        cloud.stop()


def table() -> str:
    """
    The table as it stands in the page: the cost of a once-task with the word, without the cost of the task.
    """
    rows = []
    for name, (word, without) in WORDS.items():
        cost = _used(word) - _used(without or (lambda attempt: None))
        calls = ", ".join(f"{count} {call}" for call, count in sorted(cost.calls.items())) or "none"
        cells = (name, cost.reads, cost.writes, cost.cloud_tasks, calls, f"{cost.price * MILLION:.2f}")
        rows.append(f"| {' | '.join(map(str, cells))} |\n")
    return HEAD + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(table())
