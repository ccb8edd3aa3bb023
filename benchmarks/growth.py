"""
``python -m benchmarks.growth``: the cost of a pushed and of a pulled task beside 1,000, 10,000 and 100,000 others that are
stored; and the cost of handing over a resource key for which 1,000 tasks wait. Costs should be flat.

The client's cost of a task is counted in instructions of Python's byte code, which do not depend on the machine. The CPU beside
it has no target: it differs as much from run to run as from size to size.

The other tasks are written to Firestore directly, as copies of one that was created. The embedded Firestore runs in a process
of its own; the costs of the hand-overs are counted in this process, on a clock that nothing waits for.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from flask import Flask

from benchmarks import kept
from benchmarks.__main__ import fresh_firestore
from benchmarks.instructions import Instructions
from benchmarks.kept import Ratio
from benchmarks.variants import Nowhere
from gcp_oncetask import Attempt, Config, Locker
from gcp_oncetask.flask import blueprint
from gcp_oncetask.tasks import OnceTask, TaskData, TaskManager
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker

SIZES = (1_000, 10_000, 100_000)
WAITERS = 1_000
FLAT = 1.10
"""A cost is flat if the greatest one is not more than so many times the least one."""
_TOGETHER = 500
_FAR = datetime(2099, 1, 1, tzinfo=UTC)


class Parcel(TaskData, kind="growth-parcel", pull=True):
    number: int
    at: datetime | None = None

    def task_id(self) -> str:
        return str(self.number)

    def scheduled_at(self) -> datetime | None:
        return self.at


class Letter(Parcel, kind="growth-letter"):
    pass


class Turn(TaskData, kind="growth-turn"):
    number: int

    def task_id(self) -> str:
        return str(self.number)

    def resource_key(self) -> str:
        return "the-only-one"


class Cost(NamedTuple):
    """
    The cost of a task for the client.

    Attributes:
        cpu_ms: CPU milliseconds.
        instructions: Instructions of Python's byte code on the calling thread.
    """

    cpu_ms: float
    instructions: float


class _Dropped:
    """
    Replaces Cloud Tasks: keeps the newest push.
    """

    def __init__(self) -> None:
        self.body = b""

    def create(self, push: Any) -> bool:
        self.body = push.body
        return True


def main() -> int:
    """
    Measure and print.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="stored tasks (default: 1000 10000 100000)")
    parser.add_argument("--tasks", type=int, default=150, help="tasks measured beside them (default: %(default)s)")
    parser.add_argument("--waiters", type=int, default=WAITERS, help="of one resource key (default: %(default)s)")
    kept.add_options(parser)
    chosen = parser.parse_args()
    tasks = chosen.tasks * (4 if chosen.full else 1)
    ratios: dict[str, Ratio] = {}
    report: dict[str, Any] = {}
    print(f"{'stored':>8}{'':>8}{'CPU ms':>10}{'instructions':>14}", flush=True)
    costs: dict[str, list[Cost]] = {"pushed": [], "pulled": []}
    for size in chosen.sizes:
        for name, measured in (("pushed", _pushed), ("pulled", _pulled)):
            with fresh_firestore("embedded"):
                costs[name].append(cost := measured(size, tasks))
            print(f"{size:>8}{name:>8}{cost.cpu_ms:>10.3f}{cost.instructions:>14,.0f}", flush=True)
    for name, found in costs.items():
        report[name] = {size: cost._asdict() for size, cost in zip(chosen.sizes, found, strict=True)}
        for what, values, limit in (
            ("instructions", [cost.instructions for cost in found], FLAT),
            ("CPU", [cost.cpu_ms for cost in found], None),
        ):
            ratios[f"a task {name}, {what}, dearest to cheapest"] = Ratio(max(values) / min(values), limit)
    first, last = _handed_over(chosen.waiters)
    for name in first:
        print(f"hand-over of a key, {name}: {first[name]:.2f} with all waiting, {last[name]:.2f} with few")
        ratios[f"hand-over, {name}: with all waiting, to with few"] = Ratio(first[name] / max(last[name], 1e-9), FLAT)
    return kept.finish("benchmarks.growth", ratios, chosen, report)


def _manager() -> tuple[TaskManager, _Dropped]:
    environment = {**os.environ, "GOOGLE_CLOUD_PROJECT": "bench", "ONCETASK_BASE_URL": "https://bench.test"}
    environment |= {"ONCETASK_LOCATION": "l", "ONCETASK_VERIFY": "off"}
    locker, dropped = Locker(config=Config.from_env(environment)), _Dropped()
    locker._runtime.tasks = dropped  # type: ignore[assignment]
    locker._runtime.trail_to(Nowhere())
    return TaskManager(locker), dropped


def _stored(manager: TaskManager, model: type[Parcel], size: int) -> None:
    """
    Store *size* tasks that are due in the far future, as copies of one that was created.
    """
    print(f"storing {size} tasks ...", file=sys.stderr, flush=True)
    manager.create_task(model(number=-1, at=_FAR))
    runtime = manager.locker._runtime
    original = manager.get_task(model, "-1")
    path = original.path
    document = runtime.store.document(path)
    for start in range(0, size, _TOGETHER):
        writes = []
        for number in range(start, min(start + _TOGETHER, size)):
            write = runtime.wire.write(f"{path.removesuffix('-1')}far-{number}")
            write.update.fields.MergeFrom(document.fields)
            writes.append(write)
        assert all(status.code == 0 for _, status in runtime.wire.batch_write(writes))


def _cpu(work: Callable[[], Any], tasks: int) -> float:
    before = time.process_time()
    work()
    return (time.process_time() - before) * 1000 / tasks


def _cost(work: Callable[[], Any], tasks: int) -> Cost:
    _cpu(work, tasks)
    cpu_ms = statistics.median(_cpu(work, tasks) for _ in range(3))
    with Instructions() as counted:
        work()
    return Cost(cpu_ms, counted.all / tasks)


def _pushed(size: int, tasks: int) -> Cost:
    manager, dropped = _manager()
    manager.register_task_handler(Letter, _nothing)
    app = Flask("growth")
    app.register_blueprint(blueprint(manager))
    client = app.test_client()
    rules = [rule.rule for rule in app.url_map.iter_rules() if "POST" in (rule.methods or ())]
    url = rules[0].replace("<kind>", "growth-letter")
    _stored(manager, Letter, size)
    numbers = iter(range(10**9))

    def push() -> None:
        for _ in range(tasks):
            manager.create_task(Letter(number=next(numbers)))
            answer = client.post(url, data=dropped.body, headers={"X-CloudTasks-TaskRetryCount": "0"})
            assert (answer.json or {}).get("outcome") == "completed", answer.data

    return _cost(push, tasks)


def _pulled(size: int, tasks: int) -> Cost:
    manager, _ = _manager()
    manager.register_task_handler(Parcel, _nothing)
    _stored(manager, Parcel, size)
    numbers = iter(range(10**9))

    def pull() -> None:
        manager.create_tasks(Parcel(number=next(numbers)) for _ in range(tasks))
        assert Worker(manager, concurrency=1).drain() == tasks

    return _cost(pull, tasks)


def _nothing(task: OnceTask[Any], attempt: Attempt) -> None:
    return None


def _handed_over(waiters: int) -> tuple[dict[str, float], dict[str, float]]:
    """
    Return the costs of one hand-over while almost all of the tasks wait, and while few do.
    """
    print(f"{waiters} tasks wait for one key ...", file=sys.stderr, flush=True)
    cloud = OncetaskCloud()
    try:
        manager = TaskManager(Locker(config=Config(base_url="https://growth.test")))
        app = Flask("growth")
        app.register_blueprint(blueprint(manager))
        cloud.use(manager.locker)
        cloud.mount("https://growth.test", app)
        costs: list[tuple[float, Any]] = []

        def turn(task: OnceTask[Turn], attempt: Attempt) -> None:
            if not costs:
                # All others come while this one has the key.
                for number in range(1, waiters + 1):
                    manager.create_task(Turn(number=number))
                cloud.local.tasks.run_due()
            costs.append((time.process_time(), cloud.cost))

        manager.register_task_handler(Turn, turn)
        manager.create_task(Turn(number=0))
        cloud.run_until_idle()
        assert len(costs) == waiters + 1, len(costs)
        some = max(1, waiters // 10)
        return _between(costs[1], costs[1 + some], some), _between(costs[-2 - some], costs[-2], some)
    finally:
        cloud.stop()


def _between(start: tuple[float, Any], end: tuple[float, Any], turns: int) -> dict[str, float]:
    cost = end[1] - start[1]
    return {
        "documents read": cost.reads / turns,
        "documents written": cost.writes / turns,
        "calls": sum(cost.calls.values()) / turns,
        "CPU ms": (end[0] - start[0]) * 1000 / turns,
    }


if __name__ == "__main__":
    sys.exit(main())
