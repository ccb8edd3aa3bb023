"""
Once-tasks of every sort, and a service that handles them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask

from gcp_oncetask import Attempt, Config, Locker, Middleware
from gcp_oncetask.flask import blueprint
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.tasks import OnceTask, Recurrence, TaskData, TaskManager
from gcp_oncetask.testing.cloud import ACCOUNT, OncetaskCloud
from tests.support.orders import Killed, Mortal

URL = "https://tasks.test"
DAILY = {"rrule": "FREQ=DAILY", "dtstart": "2026-01-01T00:00:00Z"}


class Work(TaskData, kind="work"):
    name: str
    note: str = ""
    key: str | None = None
    at: datetime | None = None

    def task_id(self) -> str:
        return self.name

    def resource_key(self) -> str | None:
        return self.key

    def scheduled_at(self) -> datetime | None:
        return self.at


class Other(Work, kind="other"):
    pass


class Pull(Work, kind="pulled", pull=True):
    pass


class Hashed(TaskData, kind="hashed"):
    number: int


class Strict(Work, kind="strict", on_conflict="raise"):
    pass


class Latest(Work, kind="latest", on_conflict="replace"):
    pass


class Fleeting(Work, kind="fleeting", retention=timedelta(days=30)):
    pass


class Grave(Work, kind="grave", retention=timedelta(days=30), tombstone=True):
    pass


class Repeat(TaskData, kind="repeat"):
    name: str = "r"
    rule: dict[str, Any] | None = None
    key: str | None = None
    at: datetime | None = None
    overlap: str = "allow"
    misfire: str = "latest"

    def task_id(self) -> str:
        return self.name

    def resource_key(self) -> str | None:
        return self.key

    def scheduled_at(self) -> datetime | None:
        return self.at

    def recurrence(self) -> Recurrence | None:
        return None if self.rule is None else Recurrence(**self.rule, overlap=self.overlap, misfire=self.misfire)


def serve(cloud: OncetaskCloud) -> TaskManager:
    """
    A manager without handlers, and its app on the cloud.
    """
    manager = TaskManager(Locker(config=Config(base_url=URL)))
    app = Flask("tasks")
    app.register_blueprint(blueprint(manager))
    cloud.use(manager.locker)
    cloud.mount(URL, app)
    return manager


class Service:
    """
    A deployment: manager, app, and what its handlers did.

    Attributes:
        ran: Ids in the order in which handlers saw them.
        attempts: The attempts, likewise.
        tasks: The tasks, likewise.
        batches: Ids of each call of a batch handler.
        act: What handlers do; called as ``act(task, attempt)``.
    """

    def __init__(
        self, cloud: OncetaskCloud, *, url: str = URL, middleware: Sequence[Middleware] = (), **config: Any
    ) -> None:
        self.cloud = cloud
        self.manager = TaskManager(Locker(config=Config(base_url=url, **config), middleware=middleware))
        self.app = Flask("tasks")
        self.app.wsgi_app = Mortal(self.app.wsgi_app)  # type: ignore[method-assign]
        self.app.register_blueprint(blueprint(self.manager))
        cloud.use(self.manager.locker)
        cloud.mount(url, self.app)
        # Its process has created tasks before: what is counted and made to fail is the task's own.
        self.manager.locker._runtime.register(None, url)
        self.ran: list[str] = []
        self.attempts: list[Attempt] = []
        self.tasks: list[OnceTask[Any]] = []
        self.batches: list[list[str]] = []
        self.act: Callable[[Any, Attempt], Any] = lambda task, attempt: None

    def have_commands(self, monkeypatch: pytest.MonkeyPatch) -> Service:
        """
        Let commands in this process have the locker.
        """
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", self.cloud.local.project)
        monkeypatch.setenv("ONCETASK_SERVICE_ACCOUNT", ACCOUNT)
        monkeypatch.setattr("gcp_oncetask.cli.Locker", lambda config: self.manager.locker)
        return self

    def handle(self, model: type[TaskData] = Work, **options: Any) -> Service:
        """
        Handle a kind with ``act``.
        """

        def run(task: OnceTask[Any], attempt: Attempt) -> Any:
            self.ran.append(task.id)
            self.attempts.append(attempt)
            self.tasks.append(task)
            return self.act(task, attempt)

        self.manager.register_task_handler(model, run, **options)
        return self

    def handle_keys(self, model: type[TaskData] = Work, **options: Any) -> Service:
        """
        Handle all due tasks of a resource key at once, with ``act(tasks, attempts)``.
        """

        def run(tasks: list[OnceTask[Any]], attempts: list[Attempt]) -> Any:
            self.batches.append([task.id for task in tasks])
            self.ran += self.batches[-1]
            self.attempts += attempts
            return self.act(tasks, attempts)

        self.manager.register_resource_key_handler(model, run, **options)
        return self

    def create(self, *names: str, model: type[Work] = Work, **fields: Any) -> None:
        """
        Create a task of each name.
        """
        for name in names:
            assert self.manager.create_task(model(name=name, **fields))

    def get(self, name: str, model: type[TaskData] = Work) -> OnceTask[Any]:
        """
        The task, which must exist.
        """
        task = self.manager.get_task(model, name)
        assert task is not None
        return task

    def lock(self, name: str, model: type[TaskData] = Work) -> Lock:
        """
        Its record.
        """
        return self.manager.locker.show(self.path(name, model))

    def path(self, name: str, model: type[TaskData] = Work) -> str:
        """
        Its document.
        """
        return self.manager._name_of(model, name).path

    def stored(self, name: str, model: type[TaskData] = Work) -> dict[str, Any]:
        """
        Its document as stored.
        """
        found = self.manager.locker.client.document(self.path(name, model)).get().to_dict()
        assert found is not None
        return found

    def status(self, name: str, model: type[TaskData] = Work) -> str:
        """
        Its derived status now.
        """
        return str(self.get(name, model).status(self.cloud.clock_now()))

    def bodies(self) -> list[bytes]:
        """
        Bodies of the tasks in the queue, in the order of their creation.
        """
        return [bytes(task.http_request.body) for task in self.cloud.local.tasks.tasks()]

    def body(self, name: str, model: type[TaskData] = Work) -> bytes:
        """
        The queued delivery of a task.
        """
        [body] = [body for body in self.bodies() if json.loads(body)["document"] == self.path(name, model)]
        return body

    def post(self, body: bytes, **headers: str) -> Any:
        """
        Deliver *body*, by the right caller.
        """
        token = self.cloud.local.oidc.token("https://oncetask.test", ACCOUNT)
        headers["Authorization"] = f"Bearer {token}"
        return self.app.test_client().post("/oncetask/deliver", data=body, headers=headers)

    def deliver(self, name: str, model: type[TaskData] = Work) -> Any:
        """
        Deliver the queued task of *name*, and take it off the queue.
        """
        body = self.body(name, model)
        for task in self.cloud.local.tasks.tasks():
            if bytes(task.http_request.body) == body:
                self.cloud.drop(task.name)
        return self.post(body)

    def post_all(self, bodies: list[bytes], at_once: int | None = None) -> list[str]:
        """
        Deliver *bodies*, so many at once (None: all); returns the outcomes. Time passes meanwhile, so that pauses end.
        """
        with ThreadPoolExecutor(at_once or len(bodies)) as pool:
            answers = [pool.submit(self.post, body) for body in bodies]
            while wait(answers, timeout=0.002).not_done:
                self.cloud.clock.advance(0.01)
        return [answer.result().json["outcome"] for answer in answers]

    def die_once(self) -> None:
        """
        Let the next handler die with its process; those after it do nothing.
        """

        def die(task: Any, attempt: Any) -> None:
            self.act = lambda task, attempt: None
            raise Killed

        self.act = die

    def settle(self, minutes: int = 30) -> None:
        """
        Let time pass and sweep until nothing can be left to do.
        """
        for _ in range(minutes // 2):
            self.cloud.advance(minutes=2)
            self.cloud.sweep()
            self.cloud.run_until_idle()

    def key(self, key: str) -> dict[str, Any]:
        """
        The resource key's document as stored.
        """
        from gcp_oncetask.rules.document_paths import key_path

        found = self.manager.locker.client.document(key_path(self.manager.locker.config.env, key)).get().to_dict()
        assert found is not None
        return found

    def firestore(self) -> dict[str, int]:
        """
        RPCs by name since the last ``reset_counts``.
        """
        return dict(self.cloud.local.firestore.counts)

    def start_counting(self) -> None:
        """
        Count RPCs from here on; the server's time is known already.
        """
        self.manager.locker._runtime.store.estimate()
        self.cloud.local.firestore.reset_counts()
        self.cloud.local.tasks.counts.clear()


@contextmanager
def lines(logger: logging.Logger) -> Iterator[list[dict[str, Any]]]:
    """
    What is logged meanwhile, as Cloud Logging would get it.
    """
    from gcp_oncetask.logs import CloudFormatter, ContextFilter

    found: list[dict[str, Any]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(json.loads(self.format(record)))

    handler = Keep()
    handler.setFormatter(CloudFormatter())
    handler.addFilter(ContextFilter())
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
