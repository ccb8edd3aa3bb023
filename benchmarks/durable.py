"""
``python -m benchmarks.durable``: a durable handler of ten runs, beside a chain of ten steps and beside ten documents that the
handler looks for and writes itself; and the cost of an entry of a journal of 500 and of 5,000 entries, new and replayed.

The embedded Firestore runs in a process of its own; commits are counted in this process, on a clock that nothing waits for.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from flask import Flask

from benchmarks import kept
from benchmarks.__main__ import fresh_firestore
from benchmarks.growth import _manager
from benchmarks.kept import Ratio
from gcp_oncetask import Attempt, Config, Continue, Locker, Retry
from gcp_oncetask.flask import blueprint
from gcp_oncetask.tasks import OnceTask, TaskData, TaskManager
from gcp_oncetask.testing.cloud import OncetaskCloud

RUNS = 10
ENTRIES = (500, 5_000)
LINEAR = 1.25
"""The cost of an entry is linear if the greatest one is not more than so many times the least one."""


class Journaled(TaskData, kind="bench-durable"):
    number: int

    def task_id(self) -> str:
        return str(self.number)


Handler = Callable[[TaskManager, OnceTask[Any], Attempt], Any]


def runs(manager: TaskManager, task: OnceTask[Any], attempt: Attempt) -> None:
    """
    Ten runs in one delivery.
    """
    for number in range(RUNS):
        attempt.run(f"run-{number}", int, number)


def chain(manager: TaskManager, task: OnceTask[Any], attempt: Attempt) -> Any:
    """
    Ten steps, each one a delivery of its own.
    """
    return Continue() if attempt.step < RUNS else None


def by_hand(manager: TaskManager, task: OnceTask[Any], attempt: Attempt) -> None:
    """
    Ten documents, each looked for before it is made.
    """
    for number in range(RUNS):
        done = manager.locker.client.document(f"done/{task.id}-{number}")
        if not done.get().exists:
            done.create({"result": number})


WAYS: dict[str, Handler] = {"runs": runs, "chain": chain, "by hand": by_hand}


def main() -> int:
    """
    Measure and print.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.durable", description=__doc__)
    parser.add_argument("--tasks", type=int, default=40, help="tasks of each way (default: %(default)s)")
    parser.add_argument("--entries", type=int, nargs=2, default=ENTRIES, help="of a journal (default: 500 5000)")
    kept.add_options(parser)
    chosen = parser.parse_args()
    tasks = chosen.tasks * (4 if chosen.full else 1)
    report: dict[str, Any] = {}
    print(f"{f'{RUNS} steps':>10}{'CPU ms':>10}{'ms':>10}{'commits':>10}{'calls':>10}", flush=True)
    for name, handler in WAYS.items():
        with fresh_firestore("embedded"):
            cpu, passed = _timed(handler, tasks)
        calls = _counted(handler)
        report[name] = {"CPU ms": cpu, "ms": passed, "commits": calls["Commit"], "calls": sum(calls.values())}
        row = report[name]
        print(f"{name:>10}{cpu:>10.2f}{passed:>10.2f}{row['commits']:>10}{row['calls']:>10}", flush=True)
    print(f"\n{'entries':>10}{'new, CPU us each':>20}{'replayed, CPU us each':>24}", flush=True)
    new, replayed = [], []
    for size in chosen.entries:
        with fresh_firestore("embedded"):
            made, again = _journal(size)
        new.append(made)
        replayed.append(again)
        print(f"{size:>10}{made:>20.0f}{again:>24.1f}", flush=True)
    report["entries"] = {"sizes": list(chosen.entries), "new": new, "replayed": replayed}
    ratios = {
        f"{what} of {RUNS} runs, to {other}": Ratio(report["runs"][what] / report[other][what], limit)
        for what, other, limit in (
            ("CPU ms", "chain", 0.7),
            ("commits", "chain", 0.65),
            ("CPU ms", "by hand", 1.0),
        )
    }
    ratios["a new entry, the larger journal to the smaller"] = Ratio(new[1] / new[0], LINEAR)
    ratios["a replayed entry, the larger journal to the smaller"] = Ratio(replayed[1] / replayed[0], LINEAR)
    return kept.finish("benchmarks.durable", ratios, chosen, report)


class Served:
    """
    A service in this process to which deliveries are posted by hand.
    """

    def __init__(self, act: Handler) -> None:
        self.manager, self._dropped = _manager()
        self.manager.register_task_handler(Journaled, lambda task, attempt: act(self.manager, task, attempt))
        app = Flask("durable")
        app.register_blueprint(blueprint(self.manager))
        self._client = app.test_client()
        [self._url] = [rule.rule for rule in app.url_map.iter_rules() if "POST" in (rule.methods or ())][:1]
        self._url = self._url.replace("<kind>", "bench-durable")

    def create(self, number: int) -> None:
        self.manager.create_task(Journaled(number=number))

    def deliver(self) -> str:
        """
        Deliver the newest push; return its outcome.
        """
        answer = self._client.post(self._url, data=self._dropped.body, headers={"X-CloudTasks-TaskRetryCount": "0"})
        return str((answer.json or {}).get("outcome"))


def _timed(handler: Handler, tasks: int) -> tuple[float, float]:
    """
    Return CPU and time of a task with ten steps, in milliseconds.
    """
    served, numbers = Served(handler), iter(range(10**9))

    def play() -> None:
        for _ in range(tasks):
            served.create(next(numbers))
            while (outcome := served.deliver()) == "continued":
                pass
            assert outcome == "completed", outcome

    def once() -> tuple[float, float]:
        cpu, passed = time.process_time(), time.perf_counter()
        play()
        ended = time.process_time(), time.perf_counter()
        return (ended[0] - cpu) * 1000 / tasks, (ended[1] - passed) * 1000 / tasks

    once()
    rounds = [once() for _ in range(3)]
    return statistics.median(each[0] for each in rounds), statistics.median(each[1] for each in rounds)


def _counted(handler: Handler) -> dict[str, int]:
    """
    Return the calls of a task with ten steps.
    """
    cloud = OncetaskCloud()
    try:
        manager = TaskManager(Locker(config=Config(base_url="https://bench.test")))
        app = Flask("counted")
        app.register_blueprint(blueprint(manager))
        cloud.use(manager.locker)
        cloud.mount("https://bench.test", app)
        manager.register_task_handler(Journaled, lambda task, attempt: handler(manager, task, attempt))
        for number in range(2):
            cloud.reset_cost()
            manager.create_task(Journaled(number=number))
            cloud.run_until_idle()
        return dict(cloud.cost.calls)
    finally:
        cloud.stop()


def _journal(size: int) -> tuple[float, float]:
    """
    Return the CPU of a new entry and of a replayed one, in microseconds, in a journal of *size* entries.
    """
    costs: list[float] = []

    def act(manager: TaskManager, task: OnceTask[Any], attempt: Attempt) -> None:
        begun = time.process_time()
        for number in range(size):
            attempt.run(f"entry-{number}", int, number)
        costs.append((time.process_time() - begun) * 1_000_000 / size)
        if len(costs) < 4:
            raise Retry(after=0)

    served = Served(act)
    served.create(0)
    while served.deliver() == "retrying":
        print(f"{size} entries, attempt {len(costs)} ...", file=sys.stderr, flush=True)
    assert len(costs) == 4, costs
    return costs[0], statistics.median(costs[1:])


if __name__ == "__main__":
    sys.exit(main())
