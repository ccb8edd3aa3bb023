"""
The durable handlers that the process tests serve with gunicorn, in an old and in a new version (``HANDLERS``): each effect is
told to the test, and goes on when the test answers.
"""

from __future__ import annotations

import json
import os
import urllib.request
from typing import Any

from flask import Flask

from gcp_oncetask import Attempt, Locker
from gcp_oncetask.flask import blueprint
from gcp_oncetask.tasks import OnceTask, TaskData, TaskManager


class Fulfil(TaskData, kind="fulfil"):
    number: str
    items: tuple[int, ...] = (1, 2, 3)

    def task_id(self) -> str:
        return self.number


class Changed(TaskData, kind="changed"):
    number: str

    def task_id(self) -> str:
        return self.number


def effect(name: str, task: str, value: Any = None) -> Any:
    """
    Tell the test, and return *value* when it answers.
    """
    fact = {"event": name, "task": task, "value": value, "pid": os.getpid(), "version": os.environ["HANDLERS"]}
    with urllib.request.urlopen(os.environ["CONTROL_URL"], data=json.dumps(fact).encode(), timeout=600) as answer:
        answer.read()
    return value


def old(task: OnceTask[Fulfil], attempt: Attempt) -> list[Any]:
    charge = attempt.options(once=True).run("charge", effect, "charge", task.id, "paid")
    packed = attempt.map("pack", lambda item: effect("pack", task.id, item), task.data.items, concurrency=3)
    said = attempt.wait_event("approval", dict, timeout=None)["by"]
    attempt.run("mail", effect, "mail", task.id)
    return [charge, packed, said]


def new(task: OnceTask[Fulfil], attempt: Attempt) -> list[Any]:
    attempt.run("audit", effect, "audit", task.id)
    packed = attempt.map("pack", lambda item: effect("pack", task.id, item), task.data.items, concurrency=2)
    charge = attempt.options(once=True).run("charge", effect, "charge", task.id, "paid")
    said = attempt.wait_event("approval", dict, timeout=None)["by"]
    attempt.run("mail", effect, "mail", task.id)
    return [charge, packed, said]


def run_first(task: OnceTask[Changed], attempt: Attempt) -> None:
    attempt.run("check", effect, "check", task.id)
    attempt.wait_event("approval", dict, timeout=None)
    attempt.run("end", effect, "end", task.id)


def sleep_first(task: OnceTask[Changed], attempt: Attempt) -> None:
    attempt.sleep("check", 1)
    attempt.wait_event("approval", dict, timeout=None)
    attempt.run("end", effect, "end", task.id)


def make_app() -> Flask:
    """
    The app, with the settings and the version of the environment.
    """
    manager = TaskManager(Locker.from_env())
    lease = float(os.environ["TASK_LEASE"])
    fulfil, changed = {"old": (old, run_first), "new": (new, sleep_first)}[os.environ["HANDLERS"]]
    manager.handler(Fulfil, lease_duration=lease, lease_timeout=2 * lease)(fulfil)
    manager.handler(Changed, lease_duration=lease, lease_timeout=2 * lease)(changed)
    app = Flask(__name__)
    app.register_blueprint(blueprint(manager))
    return app
