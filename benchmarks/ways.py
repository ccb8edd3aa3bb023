"""
``python -m benchmarks.ways``: count the steps of the data through the library; nothing is timed.

For each flow, warm, on the local cloud in this process: how many of the library's files and functions take part, how many
of its own calls are made, how often control goes from one file to another, how deep the frames are, and how often a call
climbs from a lower storey of ``pyproject.toml`` to a higher one (a callback). Calls of other packages are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

from flask import Flask

import gcp_oncetask
from gcp_oncetask import Attempt, Config, LockedModel, Locker
from gcp_oncetask.flask import blueprint, locked_handler
from gcp_oncetask.tasks import TaskData, TaskManager
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker

LIBRARY = Path(gcp_oncetask.__file__).parent
URL = "https://ways.test"
WARM = 3
T = TypeVar("T")


class Order(LockedModel, collection="ways"):
    note: str = ""


class Plain(TaskData, kind="ways-plain"):
    name: str
    key: str | None = None

    def task_id(self) -> str:
        return self.name

    def resource_key(self) -> str | None:
        return self.key


class Pulled(Plain, kind="ways-pulled", pull=True):
    pass


@dataclass
class Way:
    """
    The counts of one flow.
    """

    files: set[str] = field(default_factory=set)
    functions: set[tuple[str, int]] = field(default_factory=set)
    calls: int = 0
    changes: int = 0
    deepest: int = 0
    climbs: int = 0

    def row(self) -> dict[str, int]:
        return {
            "files": len(self.files),
            "functions": len(self.functions),
            "calls": self.calls,
            "changes of file": self.changes,
            "deepest frame": self.deepest,
            "climbs": self.climbs,
        }


def storeys() -> dict[str, int]:
    """
    Return the number of the storey of each part of the library, from the ground up.
    """
    contracts = tomllib.loads((LIBRARY.parent / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [each["layers"] for each in contracts if each["name"] == "Imports point down"]
    return {
        part: n
        for n, layer in enumerate(reversed(layers))
        for part in layer.replace(":", "|").replace(" ", "").split("|")
    }


class Counter:
    """
    Counts the library's own calls while it is open, on this thread.
    """

    def __init__(self) -> None:
        self.way = Way()
        self._stack: list[str] = []
        self._storeys = storeys()

    def __enter__(self) -> Way:
        sys.setprofile(self._see)
        return self.way

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event not in ("call", "return") or not code.co_filename.startswith(str(LIBRARY)):
            return
        place = code.co_filename.removeprefix(f"{LIBRARY}/")
        if place.startswith("testing/"):
            return
        if event == "return":
            if self._stack:
                self._stack.pop()
                self.way.changes += bool(self._stack) and self._stack[-1] != place
            return
        before = self._stack[-1] if self._stack else None
        self._stack.append(place)
        way = self.way
        way.files.add(place)
        way.functions.add((place, code.co_firstlineno))
        way.calls += 1
        way.deepest = max(way.deepest, len(self._stack))
        if before is not None and before != place:
            way.changes += 1
            way.climbs += self._storey(place) > self._storey(before)

    def _storey(self, place: str) -> int:
        return self._storeys.get(place.partition("/")[0].removesuffix(".py"), 0)


class World(Generic[T]):
    """
    A service on the local cloud.

    Args:
        cloud: The local cloud.
        counter: Makes a context that counts one flow while it is open.
    """

    def __init__(self, cloud: OncetaskCloud, counter: Callable[[], AbstractContextManager[T]]) -> None:
        self.cloud = cloud
        self.counter = counter
        self.locker = Locker(config=Config(base_url=URL, request_timeout=60))
        cloud.use(self.locker)
        self.manager = TaskManager(self.locker)
        self.app = Flask("ways")
        self.app.register_blueprint(blueprint(self.manager))

        @self.app.post("/order")
        @locked_handler(self.locker, Order)
        def order(order: Order, attempt: Attempt) -> None:
            self.die()

        cloud.mount(URL, self.app)
        self.dies = False
        for model in (Plain, Pulled):
            self.manager.register_task_handler(model, lambda task, attempt: None)
        self.worker = Worker(self.manager, listen=False)
        self.number = 0

    def die(self) -> None:
        if self.dies:
            raise KeyboardInterrupt

    def name(self) -> str:
        self.number += 1
        return f"{self.number}"


def schedule(world: World[T]) -> T:
    order = Order(id=world.name())
    with world.counter() as way:
        world.locker.schedule(order, "/order")
    world.cloud.run_until_idle()
    return way


def push_entity(world: World[T]) -> T:
    world.locker.schedule(Order(id=world.name()), "/order")
    with world.counter() as way:
        world.cloud.run_until_idle()
    return way


def create_task(world: World[T]) -> T:
    data = Plain(name=world.name())
    with world.counter() as way:
        world.manager.create_task(data)
    world.cloud.run_until_idle()
    return way


def push_task(world: World[T], key: str | None = None) -> T:
    world.manager.create_task(Plain(name=world.name(), key=key))
    with world.counter() as way:
        world.cloud.run_until_idle()
    return way


def push_task_with_key(world: World[T]) -> T:
    return push_task(world, "K")


def pull(world: World[T]) -> T:
    world.manager.create_task(Pulled(name=world.name()))
    with world.counter() as way:
        assert world.worker.drain() == 1
    return way


def sweep(world: World[T]) -> T:
    """
    Sweep one expired lease, whose holder's instance is gone.
    """
    reference = world.locker.client.document(f"ways/{world.name()}")
    order = Order(id=reference.id)
    world.cloud.local.tasks_client().pause_queue(name=world.cloud.local.queue)
    world.locker.schedule(order, "/order")
    then = world.locker._runtime.store.estimate() - timedelta(hours=1)
    held = {
        "status": "leased",
        "holder": "0" * 24,
        "token": 1,
        "attempts": 1,
        "maxAttempts": 3,
        "grantedAt": then,
        "leasedAt": then,
    }
    due = f"DEFAULT/push/000/{then:%Y-%m-%dT%H:%M:%S.%fZ}"
    reference.update({f"lock.{name}": value for name, value in held.items()} | {"lock.due": due})
    with world.counter() as way:
        assert world.cloud.sweep().taken_over == 1
    world.cloud.local.tasks_client().resume_queue(name=world.cloud.local.queue)
    world.cloud.run_until_idle()
    return way


FLOWS: dict[str, Callable[[World[Any]], Any]] = {
    "locker.schedule()": schedule,
    "push, entity": push_entity,
    "manager.create_task()": create_task,
    "push, once-task": push_task,
    "push, once-task with a resource key": push_task_with_key,
    "pull": pull,
    "sweep of one expired lease": sweep,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ways", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args()
    cloud = OncetaskCloud()
    try:
        world = World(cloud, Counter)
        rows = {}
        for name, flow in FLOWS.items():
            for _ in range(WARM):
                flow(world)
            rows[name] = flow(world).row()
    finally:
        cloud.stop()
    if chosen.json:
        print(json.dumps(rows, indent=2))
        return 0
    heads = list(next(iter(rows.values())))
    print("| flow | " + " | ".join(heads) + " |\n|---" * 1 + "|---" * len(heads) + "|")
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(str(row[head]) for head in heads) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
