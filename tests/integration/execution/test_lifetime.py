"""
An attempt that is over is freed at once, with its entity or task: no cycle of references keeps it for the garbage collector.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from gcp_oncetask import Attempt, Config, LockedModel, Locker
from gcp_oncetask.flask import blueprint, locked_handler
from gcp_oncetask.tasks import OnceTask, TaskData, TaskManager
from gcp_oncetask.testing import OncetaskCloud
from gcp_oncetask.worker import Worker

BASE = "https://lifetime.test"


class Crate(LockedModel, collection="crates"):
    weight: int = 1


class Load(TaskData, kind="lt-load"):
    name: str

    def task_id(self) -> str:
        return self.name


class Fetch(Load, kind="lt-fetch", pull=True):
    pass


class Yard:
    """
    A service with a handler of each sort, which notes its attempts without keeping them.
    """

    def __init__(self, cloud: OncetaskCloud) -> None:
        self.attempts: list[weakref.ref[Any]] = []
        self.locker = Locker(config=Config(base_url=BASE))
        self.manager = TaskManager(self.locker)
        cloud.use(self.locker)
        app = Flask(__name__)
        app.register_blueprint(blueprint(self.manager))

        @app.post("/crate")
        @locked_handler(self.locker, Crate)
        def crate(crate: Crate, attempt: Attempt) -> None:
            self.note(attempt)

        def run(task: OnceTask[Load], attempt: Attempt) -> None:
            self.note(attempt)

        for kind in (Load, Fetch):
            self.manager.register_task_handler(kind, run)
        cloud.mount(BASE, app)

    def note(self, attempt: Attempt) -> None:
        self.attempts.append(weakref.ref(attempt._running))


@pytest.fixture
def no_collector() -> Iterator[None]:
    """
    Python without its garbage collector.
    """
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("sort", ["entity", "pushed task", "pulled task"])
def test_attempt_is_freed_when_it_is_over(oncetask_cloud: OncetaskCloud, sort: str) -> None:
    yard = Yard(oncetask_cloud)
    if sort == "entity":
        yard.locker.schedule(Crate(id="1"), "/crate")
    else:
        yard.manager.create_task((Load if sort == "pushed task" else Fetch)(name="1"))
    oncetask_cloud.run_until_idle()
    Worker(yard.manager, listen=False).drain()

    assert [attempt() for attempt in yard.attempts] == [None]
