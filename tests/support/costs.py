"""
The table of the page about cost, counted on the local cloud: ``python -m tests.support.costs`` prints it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from gcp_emulator.firestore.indexes import IndexCheck
from gcp_oncetask import Config, FixedDelay, Locker, Retry
from gcp_oncetask.decorators import once
from gcp_oncetask.store.indexes import definition
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.testing.costs import MILLION
from gcp_oncetask.worker import Worker
from tests.support.orders import Order, make_shop
from tests.support.tasks import DAILY, Pull, Repeat, Service

HEAD = """\
| for each | reads | writes | operations of Cloud Tasks | calls | index entries | USD per million |
|---|---|---|---|---|---|---|
"""


class Bench:
    """
    Work on a cloud, and its use of the cloud.

    Args:
        cloud: The cloud.
    """

    def __init__(self, cloud: OncetaskCloud) -> None:
        self.cloud = cloud
        self._indexes = IndexCheck.from_json(json.dumps(definition(["orders"])))
        self.begin()

    def begin(self) -> None:
        """
        Count from here on.
        """
        self.cloud.reset_cost()
        self._before, self._most = self._entries(), 0

    def look(self) -> None:
        """
        Note how many index entries there are more than at the beginning.
        """
        self._most = max(self._most, self._entries() - self._before)

    def row(self, name: str) -> str:
        """
        The row of what was used since the beginning.
        """
        cost = self.cloud.cost
        calls = ", ".join(f"{count} {call}" for call, count in sorted(cost.calls.items()))
        cells = (name, cost.reads, cost.writes, cost.cloud_tasks, calls, self._most, f"{cost.price * MILLION:.2f}")
        return f"| {' | '.join(map(str, cells))} |\n"

    def _entries(self) -> int:
        local = self.cloud.local
        return sum(self._indexes.entries(each)[0] for each in local.firestore.documents(local.project).values())


Doing = Callable[[str], None]
"""Do the work once, under an id."""


def _task(bench: Bench, *, key: str | None = None, fails: bool = False) -> Doing:
    service = Service(bench.cloud).handle(retry=FixedDelay(delay=timedelta(seconds=5)))

    def act(task: Any, attempt: Any) -> None:
        bench.look()
        if fails and attempt.number == 1:
            raise Retry("no")

    def do(name: str) -> None:
        service.act = act
        service.create(name, key=key and f"{key} {name}")
        bench.look()
        bench.cloud.advance(seconds=10)

    return do


def _pulled(bench: Bench) -> Doing:
    service = Service(bench.cloud).handle(Pull)
    service.act = lambda task, attempt: bench.look()
    bench.cloud.work(Worker(service.manager, listen=False))

    def do(name: str) -> None:
        service.create(name, model=Pull)
        bench.look()
        bench.cloud.run_until_idle()

    return do


def _entity(bench: Bench, steps: int) -> Doing:
    shop = make_shop()
    bench.cloud.use(shop.locker)
    bench.cloud.mount("https://shop.test", shop.app)

    def charge(order: Order, attempt: Any) -> None:
        bench.look()
        if steps == 1:
            shop.locker.complete(order)
        else:
            shop.locker.schedule(order, "/tasks/order")

    def do(name: str) -> None:
        shop.locker.schedule(Order(id=name), "/tasks/order")
        bench.look()
        bench.cloud.run_until_idle()

    shop.on_charge = charge
    return do


def _after_a_task(bench: Bench, act: Callable[[], object]) -> Doing:
    create = _task(bench)

    def do(name: str) -> None:
        create(name)
        bench.begin()
        act()

    return do


def _occurrence(bench: Bench) -> Doing:
    service = Service(bench.cloud).handle(Repeat)
    service.manager.create_task(Repeat(rule=DAILY))
    bench.cloud.advance(hours=1)
    service.act = lambda task, attempt: bench.look()

    def do(name: str) -> None:
        bench.cloud.advance(days=1)

    return do


def _lock(bench: Bench) -> Doing:
    locker = Locker(config=Config())
    bench.cloud.use(locker)

    def do(name: str) -> None:
        with locker.lock(name):
            bench.look()

    return do


def _once(bench: Bench) -> Doing:
    locker = Locker(config=Config())
    bench.cloud.use(locker)

    @once(locker)
    def look(name: str) -> None:
        bench.look()

    return look


WORK: dict[str, Callable[[Bench], Doing]] = {
    "entity, one step": lambda bench: _entity(bench, 1),
    "entity, two steps": lambda bench: _entity(bench, 2),
    "once-task": _task,
    "once-task with a resource key that is free": lambda bench: _task(bench, key="K"),
    "once-task whose first attempt fails": lambda bench: _task(bench, fails=True),
    "once-task that a worker pulls, with the worker's queries": _pulled,
    "occurrence of a task that recurs": _occurrence,
    "duplicate of a delivery": lambda bench: _after_a_task(bench, bench.cloud.duplicate_last),
    "named lock, acquired and released": _lock,
    "function that runs once": _once,
    "sweep that finds nothing": lambda bench: _after_a_task(bench, bench.cloud.sweep),
}


def table() -> str:
    """
    The table as it stands in the page. Each row is of the second time: a process asks once for the server's time, and
    registers its collections.
    """
    rows = []
    for name, prepared in WORK.items():
        cloud = OncetaskCloud()
        try:
            bench = Bench(cloud)
            do = prepared(bench)
            do("first")
            bench.begin()
            do("second")
            rows.append(bench.row(name))
        finally:
            cloud.stop()
    return HEAD + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(table())
