"""
Handlers for ``oncetask_cloud.check``: a deployment for each play, and doubles of other systems.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask

from gcp_oncetask import Config, FixedDelay, LockedModel, Locker
from gcp_oncetask.flask import blueprint, locked_handler
from gcp_oncetask.tasks import TaskManager
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.tasks import Work

URL = "https://shop.test"


class Payments:
    """
    A payment service that makes one charge for each key.
    """

    def __init__(self) -> None:
        self.charges: dict[str, int] = {}
        self.mails: list[str] = []

    def charge(self, key: str, amount: int) -> str:
        self.charges.setdefault(key, amount)
        return f"charge of {self.charges[key]}"

    def mail(self, text: str) -> None:
        self.mails.append(text)


class Parcel(LockedModel, collection="parcels"):
    state: str = "new"
    weight: int = 3


Start = Callable[[OncetaskCloud], None]


def once(
    handler: Callable[[Any, Any], Any], then: Callable[[OncetaskCloud, TaskManager], object] | None = None
) -> Start:
    """
    A scenario with one once-task.
    """

    def start(cloud: OncetaskCloud) -> None:
        manager = TaskManager(Locker(config=Config()))
        app = Flask("shop")
        app.register_blueprint(blueprint(manager))
        manager.register_task_handler(Work, handler, retry=FixedDelay(delay=10, max_attempts=5))
        cloud.use(manager.locker)
        cloud.mount(URL, app)
        manager.create_task(Work(name="a"))
        if then is not None:
            cloud.run_until_idle()
            then(cloud, manager)

    return start


def entity(handler: Callable[[Any, Any], Any]) -> Start:
    """
    A scenario with one entity.
    """

    def start(cloud: OncetaskCloud) -> None:
        locker = Locker(config=Config())
        app = Flask("shop")
        app.register_blueprint(blueprint(locker))
        app.post("/parcel")(locked_handler(locker, Parcel, retry=FixedDelay(delay=10, max_attempts=5))(handler))
        cloud.use(locker)
        cloud.mount(URL, app)
        locker.schedule(Parcel(id="p"), "/parcel")

    return start
