"""
Deliveries that come at the URL of another route of the app: it serves another collection.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flask import Flask

from gcp_emulator.tasks import Answer
from gcp_oncetask import Attempt, LockedModel
from gcp_oncetask.flask import locked_handler
from gcp_oncetask.rules.delivery import Delivery, delivery_url
from tests.simulation.process import ENV
from tests.simulation.world import ORIGIN, Process

if TYPE_CHECKING:
    from tests.simulation.chains.history import History

_LOST = (500, 503, 504)
"""What the app answers in an outage, and what the proxy before it answers."""


class Aside(LockedModel, collection="asides"):
    """
    An entity of the other route; there is none.
    """


def add_route(history: History, process: Process, app: Flask) -> None:
    """
    Give *app* the other route, if deliveries come there.
    """
    if not history.plan.has("misroutes"):
        return

    @app.post("/aside")
    @locked_handler(process.locker, Aside)
    def aside(entity: Aside, attempt: Attempt) -> Any:
        history.checker.broken(attempt._running.context.document, "the handler of another route runs for it")


def set_up(history: History) -> None:
    """
    Let such deliveries come.
    """
    if history.plan.has("misroutes"):
        history.hub.spawn(history.world.cloud, _course, history)


def _course(history: History) -> None:
    world, draw = history.world, history.draw
    while world.trouble:
        history.hub.sleep(draw.expovariate(1 / 240))
        if world.tasks.dispatches and world.trouble:
            # The last ones are of documents that still have something to do.
            _misroute(history, draw.choice(world.tasks.dispatches[-5:]).dispatch)


def _misroute(history: History, dispatch: Any) -> None:
    world, delivery = history.world, Delivery.from_json(dispatch.body)
    task = f"misrouted-{history.hub.now}"
    # A person is told of it.
    history.watch.outside.add(f"deliveries/{task}")
    url = delivery_url(delivery, f"{ORIGIN}/aside")
    answer = world.deliver_as(task, dispatch, url)
    if answer.status in _LOST:
        return
    world.counts["deliveries at the URL of another route"] += 1
    outcome = _outcome(answer)
    # One of a second environment is refused for that, before its collection is compared.
    if (answer.status, outcome) != (200, "rejected" if delivery.env == ENV else "foreign"):
        history.checker.broken(delivery.document, f"another route answers {answer.status} {outcome} to its delivery")


def _outcome(answer: Answer) -> str:
    return str(json.loads(answer.body)["outcome"])
