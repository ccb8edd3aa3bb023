"""
A deployment with a console, as a person sees it: tasks in many states, and an application on the local cloud.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final

from flask import Flask
from flask.testing import FlaskClient

from gcp_oncetask import Config, Fail, NoRetry
from gcp_oncetask.console import console
from gcp_oncetask.flask import blueprint
from gcp_oncetask.tasks import TaskData, TaskManager
from gcp_oncetask.tasks.recurrence import cron
from tests.support.orders import Killed

BASE: Final = "/oncetask/console"
AUDIENCE: Final = "/projects/123/global/backendServices/456"
ORIGIN: Final = "https://console.test"
SECRET: Final = "a secret of the tests"
OPERATOR: Final = "ann@example.com"
VIEWER: Final = "val@example.com"
HOSTILE: Final = "\"><script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}'&\u202ejavascript:alert(3)"
"""A text that a careless page would run or obey."""
OURS: Final = {"Sec-Fetch-Site": "same-origin"}


class Parcel(TaskData, kind="parcel"):
    number: str
    note: str = ""
    at: datetime | None = None

    def task_id(self) -> str:
        return self.number

    def scheduled_at(self) -> datetime | None:
        return self.at


class Charge(TaskData, kind="charge"):
    order: str

    def task_id(self) -> str:
        return self.order


class Nightly(TaskData, kind="nightly"):
    name: str

    def task_id(self) -> str:
        return self.name

    def recurrence(self) -> Any:
        return cron("30 2 * * *", tz="Europe/Berlin")


def app_of(manager: TaskManager, *, secret: str | None = SECRET, deliveries: bool = True) -> Flask:
    """
    Make the application of a manager: deliveries, if wanted, and the console.
    """
    app = Flask("console")
    app.secret_key = secret
    if deliveries:
        app.register_blueprint(blueprint(manager))
    app.register_blueprint(console(manager))
    return app


def register(manager: TaskManager) -> None:
    """
    Register handlers: a parcel whose number begins with "bad" fails, and a charge kills its process.
    """

    def send(task: Any, attempt: Any) -> Any:
        if task.id.startswith("bad"):
            raise Fail(f"no address for {task.data.note}")
        return {"sent": task.id}

    manager.register_task_handler(Parcel, send, retry=NoRetry())

    def charge(task: Any, attempt: Any) -> Any:
        raise Killed

    manager.register_task_handler(Charge, charge, retry=NoRetry(), on_unknown="quarantine")
    manager.register_task_handler(Nightly, lambda task, attempt: None)


def settings(**changes: Any) -> dict[str, Any]:
    """
    Return the settings of a console behind a load balancer's proxy.
    """
    return {
        "console_audience": AUDIENCE,
        "console_origin": (ORIGIN,),
        "console_operators": (OPERATOR,),
        "console_viewers": (VIEWER, "domain:example.com"),
        **changes,
    }


def config(**options: Any) -> Config:
    """
    Return settings of a deployment whose deliveries are not verified.
    """
    return Config(**{"project": "demo-local", "base_url": "https://tasks.test", "verify": "off", **options})


def token_in(page: str, action: str = "") -> str:
    """
    Return the token of the form on a page whose action ends with *action*.
    """
    for form in re.findall(r"<form.*?</form>", page, re.DOTALL):
        found = re.search(r'name="token" value="([^"]+)"', form)
        if found and re.search(rf'action="[^"]*{action}"', form):
            return found[1]
    raise AssertionError(f"no form {action} with a token in {page}")


class Browser(FlaskClient):
    """
    A client that asks the console's origin.
    """

    def open(self, *args: Any, **options: Any) -> Any:
        return super().open(*args, **{"base_url": ORIGIN, **options})


def get(client: FlaskClient, path: str, **options: Any) -> Any:
    """
    Get a page of the console.
    """
    return client.get(f"{BASE}{path}", **options)
