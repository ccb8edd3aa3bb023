"""
The process of the test of two releases: ``python -m tests.support.release_app``, in the folder of the release's package. The
test tells it what to do by HTTP; its handlers tell the test what they run, and go on when it answers.
"""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path
from typing import Any

from flask import Flask, request
from werkzeug.serving import make_server

import gcp_oncetask
from gcp_oncetask import Attempt, LockedModel, Locker, OncetaskError, sweep
from gcp_oncetask.flask import blueprint, locked_handler
from gcp_oncetask.tasks import OnceTask, TaskData, TaskManager
from gcp_oncetask.worker import Worker

RELEASE = Path.cwd()


class Order(LockedModel, collection="orders"):
    note: str = ""


class Mail(TaskData, kind="mail", on_conflict="replace"):
    name: str
    text: str = ""

    def task_id(self) -> str:
        return self.name


class Parcel(TaskData, kind="parcel", pull=True):
    name: str

    def task_id(self) -> str:
        return self.name


locker = Locker.from_env()
manager = TaskManager(locker)
app = Flask(__name__)
app.register_blueprint(blueprint(manager))


def tell(event: str, **facts: Any) -> None:
    """
    Tell the test, and go on when it answers.
    """
    body = json.dumps({"event": event, "release": RELEASE.name, **facts}).encode()
    with urllib.request.urlopen(os.environ["CONTROL_URL"], data=body, timeout=600) as answer:
        answer.read()


@app.post("/tasks/order")
@locked_handler(locker, Order)
def order_placed(order: Order, attempt: Attempt) -> None:
    tell("ran", what=f"order {order.id}")
    locker.schedule(order, "/tasks/receipt")


@app.post("/tasks/receipt")
@locked_handler(locker, Order)
def receipt_due(order: Order, attempt: Attempt) -> None:
    tell("ran", what=f"receipt {order.id}")
    locker.complete(order)


@manager.handler(Mail)
def mail(task: OnceTask[Mail], attempt: Attempt) -> None:
    tell("ran", what=f"mail {task.id} {task.data.text}".rstrip())


@manager.handler(Parcel)
def parcel(task: OnceTask[Parcel], attempt: Attempt) -> None:
    tell("ran", what=f"parcel {task.id}")


def pull() -> int:
    return Worker(manager, listen=False).drain()


def swept() -> dict[str, Any]:
    found = sweep(locker)
    return {"newer": found.newer, "needs": found.needs, "damaged": found.damaged, "failed": found.failed}


def state(id_: str) -> str:
    found = locker.get(Order, id_)
    assert found is not None
    assert found.lock is not None
    return str(found.lock.status)


CALLS: dict[str, Any] = {
    "order": lambda id_: locker.schedule(Order(id=id_), "/tasks/order").sequence,
    "mail": lambda id_, text="": bool(manager.create_task(Mail(name=id_, text=text))),
    "parcel": lambda id_: bool(manager.create_task(Parcel(name=id_))),
    "cancel": locker.cancel_path,
    "reset": locker.reset_path,
    "pull": pull,
    "sweep": swept,
    "state": state,
}


@app.post("/do/<call>")
def do(call: str) -> Any:
    """
    Make one of the calls; the error's name if it raises one.
    """
    try:
        return {"value": CALLS[call](*(request.json or []))}
    except OncetaskError as error:
        return {"error": type(error).__name__}


def main() -> None:
    """
    Serve until a signal comes.
    """
    assert Path(gcp_oncetask.__file__).is_relative_to(RELEASE), gcp_oncetask.__file__
    server = make_server("127.0.0.1", 0, app, threaded=True)
    tell("ready", port=server.server_port, pid=os.getpid())
    server.serve_forever()


if __name__ == "__main__":
    main()
