"""
The table of the words of durable handlers, in the page about cost, counted on the local cloud:
``python -m tests.support.durable_costs`` prints it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.testing.costs import MILLION, Cost
from tests.support.tasks import Service, Work

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


WORDS: dict[str, tuple[Word, Word | None]] = {
    "run": (lambda attempt: attempt.run("a", int), None),
    "run with `once=True`": (lambda attempt: attempt.options(once=True).run("a", int), None),
    "run, the first after a time or chance": (_first, None),
    "time or chance alone": (lambda attempt: attempt.random("chance"), None),
    "sleep of up to 5 seconds": (lambda attempt: attempt.sleep("s", 0.001), None),
    "sleep, its wake-up included": (lambda attempt: attempt.sleep("s", HOUR), None),
    "wait for an event, its `send` and wake-up included": (_waits, None),
    "the same with a time-out": (_waits_a_day, None),
    "sealed part of the journal, read when the handler comes back": (_many, _few),
}


def _used(word: Word) -> Cost:
    """
    The cost of a once-task whose handler says *word*, the second one of its process.
    """
    cloud = OncetaskCloud()
    try:
        service = Service(cloud).handle()
        service.act = lambda task, attempt: word(attempt)
        for name in ("first", "second"):
            cloud.reset_cost()
            service.create(name)
            cloud.run_until_idle()
            if word in EVENTS:
                service.manager.send(Work, name, "approval", {})
            cloud.advance(days=2)
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
