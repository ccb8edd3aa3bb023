"""
Middleware: functions of the application that run around each handler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from gcp_oncetask import (
    Attempt,
    Config,
    LeaseLostError,
    LockedModel,
    Locker,
    Retry,
    Snooze,
    Status,
    UsageError,
    once,
)
from gcp_oncetask.flask import blueprint, locked_handler
from gcp_oncetask.tasks import OnceTask, TaskData, TaskManager, current_attempt
from gcp_oncetask.testing import OncetaskCloud
from gcp_oncetask.worker import Worker

BASE = "https://middleware.test"
Around = Callable[[Attempt, Callable[[], Any]], Any]


class Parcel(LockedModel, collection="parcels"):
    weight: int = 1


class Pack(TaskData, kind="mw-pack"):
    name: str

    def task_id(self) -> str:
        return self.name


class Lift(Pack, kind="mw-lift", pull=True):
    pass


class Sort(Pack, kind="mw-sort"):
    def resource_key(self) -> str:
        return "belt"


class Depot:
    """
    A service with a handler of each sort, whose middleware is given.
    """

    def __init__(self, cloud: OncetaskCloud, *middleware: Around) -> None:
        self.cloud, self.seen = cloud, list[str]()
        self.fails: list[Exception] = []
        self.locker = Locker(config=Config(base_url=BASE, request_timeout=60), middleware=middleware)
        cloud.use(self.locker)
        self.errors: list[str] = []
        self.manager = TaskManager(
            self.locker, on_error=lambda task, error: self.errors.append(f"{task.id}: {error!r}")
        )
        app = Flask("middleware")

        @app.post("/parcel")
        @locked_handler(self.locker, Parcel)
        def parcel(entity: Parcel, attempt: Attempt) -> str:
            return self._handle(f"parcel {entity.weight}")

        for model in (Pack, Lift):
            self.manager.register_task_handler(model, lambda task, attempt: self._handle(task.data.name))
        self.manager.register_resource_key_handler(Sort, self._sort)
        app.register_blueprint(blueprint(self.manager))
        cloud.mount(BASE, app)

    def _handle(self, what: str) -> str:
        self.seen.append(what)
        if self.fails:
            raise self.fails.pop(0)
        return f"done with {what}"

    def _sort(self, tasks: list[OnceTask[Sort]], attempts: list[Attempt]) -> str:
        return self._handle(" and ".join(sorted(task.id for task in tasks)))

    def result(self, model: type[TaskData], id_: str) -> Any:
        return self.manager.result(model, id_)


def noting(seen: list[str], name: str) -> Around:
    """
    Middleware that notes when it is entered and left.
    """

    def around(attempt: Attempt, call_next: Callable[[], Any]) -> Any:
        seen.append(f"{name} {attempt.number}")
        value = call_next()
        seen.append(f"{name} out: {value}")
        return value

    return around


def test_first_middleware_is_the_outermost(oncetask_cloud: OncetaskCloud) -> None:
    seen: list[str] = []
    depot = Depot(oncetask_cloud, noting(seen, "outer"), noting(seen, "inner"))
    depot.manager.create_task(Pack(name="a"))
    oncetask_cloud.run_until_idle()
    assert seen == ["outer 1", "inner 1", "inner out: done with a", "outer out: done with a"]
    assert depot.result(Pack, "a") == "done with a"


def test_each_way_to_run_goes_through_it_once(oncetask_cloud: OncetaskCloud) -> None:
    """
    Pushed entities and once-tasks, pulled ones, a batch (once, by the task that has the key), a function that runs once.
    """
    seen: list[str] = []
    depot = Depot(oncetask_cloud, noting(seen, "around"))

    depot.locker.schedule(Parcel(id="p", weight=3), "/parcel")
    oncetask_cloud.run_until_idle()
    depot.manager.create_task(Pack(name="a"))
    oncetask_cloud.run_until_idle()
    depot.manager.create_task(Lift(name="b"))
    Worker(depot.manager, kinds=[Lift]).drain()
    depot.manager.create_tasks([Sort(name="x"), Sort(name="y")])
    oncetask_cloud.run_until_idle()

    @once(depot.locker, key=lambda: "k")
    def greet() -> str:
        return depot._handle("once")

    assert (greet(), greet()) == ("done with once", "done with once")

    done = ["parcel 3", "a", "b", "x and y", "once"]
    assert depot.seen == done
    assert seen == [line for what in done for line in ("around 1", f"around out: done with {what}")]


def test_attempt_of_the_context_and_of_the_middleware_are_one(oncetask_cloud: OncetaskCloud) -> None:
    keys: list[tuple[str, str]] = []

    def around(attempt: Attempt, call_next: Callable[[], Any]) -> Any:
        keys.append((attempt.key, current_attempt().key))
        return call_next()

    depot = Depot(oncetask_cloud, around)
    depot.manager.create_task(Pack(name="a"))
    oncetask_cloud.run_until_idle()
    [(own, current)] = keys
    assert own == current


@pytest.mark.parametrize(
    ("value", "status", "result"),
    [("instead", Status.COMPLETED, "instead"), (None, Status.COMPLETED, None), (Snooze(3600), Status.SCHEDULED, None)],
)
def test_result_of_the_outermost_middleware_counts(
    oncetask_cloud: OncetaskCloud, value: Any, status: Status, result: Any
) -> None:
    depot = Depot(oncetask_cloud, lambda attempt, call_next: (call_next(), value)[1])
    depot.manager.create_task(Pack(name="a"))
    oncetask_cloud.run_until_idle()
    task = depot.manager.get_task(Pack, "a")
    assert task is not None
    assert (task.lock.status, task.lock.result, depot.seen) == (status, result, ["a"])


def test_handler_is_left_out_where_call_next_is_not_called(oncetask_cloud: OncetaskCloud) -> None:
    depot = Depot(oncetask_cloud, lambda attempt, call_next: "left out")
    depot.manager.create_task(Pack(name="a"))
    oncetask_cloud.run_until_idle()
    assert (depot.seen, depot.result(Pack, "a")) == ([], "left out")


def test_error_of_middleware_is_a_failed_attempt(oncetask_cloud: OncetaskCloud) -> None:
    fails = [ValueError("no session")]

    def around(attempt: Attempt, call_next: Callable[[], Any]) -> Any:
        if fails:
            raise fails.pop()
        return call_next()

    depot = Depot(oncetask_cloud, around)
    depot.manager.create_task(Pack(name="a"))
    oncetask_cloud.advance(minutes=1)
    task = depot.manager.get_task(Pack, "a")
    assert task is not None
    assert (task.lock.status, task.lock.attempts, depot.seen) == (Status.COMPLETED, 2, ["a"])
    assert [failure.message for failure in task.lock.errors] == ["ValueError: no session"]


def test_middleware_sees_errors_and_verdicts_of_the_handler(oncetask_cloud: OncetaskCloud) -> None:
    caught: list[str] = []

    def around(attempt: Attempt, call_next: Callable[[], Any]) -> Any:
        try:
            return call_next()
        except Exception as error:
            caught.append(type(error).__name__)
            raise

    depot = Depot(oncetask_cloud, around)
    depot.fails += [ValueError("first"), Retry("second", after=1)]
    depot.manager.create_task(Pack(name="a"))
    oncetask_cloud.advance(minutes=1)
    assert caught == ["ValueError", "Retry"]
    assert [error.split(":")[0] for error in depot.errors] == ["a", "a"]
    assert depot.result(Pack, "a") == "done with a"


def test_handler_is_called_once_in_an_attempt(oncetask_cloud: OncetaskCloud) -> None:
    depot = Depot(oncetask_cloud, lambda attempt, call_next: (call_next(), call_next()))
    depot.manager.create_task(Pack(name="a"))
    oncetask_cloud.advance(minutes=1)
    task = depot.manager.get_task(Pack, "a")
    assert task is not None
    assert len(depot.seen) == task.lock.attempts == 3
    assert "called call_next() twice" in task.lock.errors[-1].message


def test_lease_that_is_lost_ends_the_attempt_through_the_middleware(oncetask_cloud: OncetaskCloud) -> None:
    seen: list[str] = []

    def around(attempt: Attempt, call_next: Callable[[], Any]) -> Any:
        depot.locker.client.document("parcels/p").delete()
        try:
            return attempt.renew()
        except LeaseLostError:
            seen.append("lost")
            raise

    depot = Depot(oncetask_cloud, around)
    depot.locker.schedule(Parcel(id="p"), "/parcel")
    oncetask_cloud.run_until_idle()
    assert (seen[0], depot.seen) == ("lost", [])


def test_function_that_runs_once_has_a_token_and_no_transaction(oncetask_cloud: OncetaskCloud) -> None:
    seen: list[tuple[int, int, int, bool]] = []

    def around(attempt: Attempt, call_next: Callable[[], Any]) -> Any:
        seen.append((attempt.step, attempt.sequence, attempt.number, attempt.remaining() > attempt.held_for() > 0))
        attempt.renew()
        with pytest.raises(UsageError, match="has no transaction of its attempt"):
            attempt.run_transaction(lambda txn: None)
        return f"{call_next()}!"

    depot = Depot(oncetask_cloud, around)

    @once(depot.locker, ttl=30, run_limit=300)
    def greet() -> str:
        return "hello"

    assert [greet(), greet()] == ["hello!", "hello!"]
    assert seen == [(1, 1, 1, True)]


async def later(attempt: Attempt, call_next: Callable[[], Any]) -> Any:
    return call_next()


@pytest.mark.parametrize(
    ("given", "said"), [(later, "is async"), ("name", "can't be called"), (None, "can't be called")]
)
def test_middleware_that_can_not_run_is_refused(given: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Locker(config=Config(base_url=BASE), middleware=[given])
