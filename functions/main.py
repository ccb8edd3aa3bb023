"""
Cloud Functions: the sweeper, the outbox trigger, and a task queue that serves the handlers. This file only connects; all
decisions are the library's.

Configured like the library, by the environment: ``functions/.env``, which firebase-tools reads when it deploys.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from firebase_functions import firestore_fn, scheduler_fn, tasks_fn
from firebase_functions.options import RetryConfig
from firebase_functions.params import StringParam

if TYPE_CHECKING:
    from firebase_functions.core import Change
    from flask import Request

    from gcp_oncetask import Locker
    from gcp_oncetask.config import Config
    from gcp_oncetask.execution.endpoint import Answer, IncomingRequest
    from gcp_oncetask.tasks import TaskManager

# The library is imported in the functions, so that an instance loads only the parts that it needs.

DATABASE: Any = StringParam("ONCETASK_DATABASE", default="(default)")


def config() -> Config:
    """
    Return the settings; an error names all settings that are missing or wrong for this instance's function.

    Under ``firebase emulators`` the tasks are made on ``gcp-emulator`` (GCP_EMULATOR_TASKS_HOST, else its fixed port): the
    tasks emulator of firebase-tools has its own REST interface, without schedule times.
    """
    from gcp_oncetask.runtime import requirements

    environ = dict(os.environ)
    if environ.get("FUNCTIONS_EMULATOR") == "true":
        environ["CLOUD_TASKS_EMULATOR_HOST"] = environ.get("GCP_EMULATOR_TASKS_HOST", "127.0.0.1:9499")
    needs = {"deliver": requirements.SERVE, "dispatch": requirements.DISPATCH}
    return requirements.checked(
        None, needs.get(environ.get("FUNCTION_TARGET", ""), requirements.STORE), environ=environ
    )


@cache
def locker() -> Locker:
    """
    Return the locker of this instance.
    """
    from gcp_oncetask import Locker

    return Locker(config=config())


@cache
def manager() -> TaskManager:
    """
    Return the once-tasks of this instance. Register their handlers here.
    """
    from gcp_oncetask.tasks import TaskManager

    return TaskManager(locker())


@cache
def routes() -> dict[str, Callable[[IncomingRequest], Answer]]:
    """
    Return the handlers of ``deliver``, by the path below the function's URL. It has those of once-tasks; add your entities'
    handlers, such as ``"/tasks/order": entity_handler(locker(), Order)(fulfil)``, from ``gcp_oncetask.entities.handler``.
    """
    return {"/": manager().serve, "/oncetask/deliver": manager().serve}


@scheduler_fn.on_schedule(schedule="every 1 minutes", timeout_sec=300, max_instances=1)
def sweep(_: scheduler_fn.ScheduledEvent) -> None:
    """
    Dispatch again, judge expired leases, send owed alerts.
    """
    from gcp_oncetask.sweeper import sweep

    print(f"swept: {sweep(locker())}")


# The trigger fires for every top-level collection. Tasks are created only for collections that are registered or in
# ONCETASK_COLLECTIONS. Name one ("orders/{id}") to be called for its documents only; a subcollection
# ("customers/{customer}/orders/{id}") needs a trigger of its own.
@firestore_fn.on_document_written(document="{collection}/{id}", database=DATABASE)
def dispatch(event: firestore_fn.Event[Change[Any]]) -> None:
    """
    Dispatch the tasks that were committed and not dispatched.
    """
    before, after = (each.to_dict() if each is not None else None for each in (event.data.before, event.data.after))
    if after is None or "lock" not in after:
        return
    from gcp_oncetask.outbox import dispatch_written

    dispatch_written(locker(), event.document, before, after)


def deliver(request: Request) -> tuple[dict[str, Any], int]:
    """
    Serve a delivery of the task queue by the handler of its path.
    """
    from gcp_oncetask.flask import request_of

    route = routes().get(request.path.rstrip("/") or "/")
    if route is None:
        return {"error": f"nothing is served at {request.path}"}, 404
    return route(request_of(request))


# The decorator declares the queue. It is not called, because it takes only bodies of the form {"data": ...} and has its own
# statuses. A delivery is plain JSON, and the library chooses the status of the answer.
_declared: Any = tasks_fn.on_task_dispatched(
    # The library's attempt limit decides; the queue only transports.
    retry_config=RetryConfig(
        max_attempts=-1, max_retry_seconds=0, min_backoff_seconds=1, max_backoff_seconds=60, max_doublings=6
    ),
    timeout_sec=300,
)(deliver)  # type: ignore[arg-type]  # only declared by it, never called
deliver.__dict__.update({name: value for name, value in vars(_declared).items() if name != "__wrapped__"})

if "FUNCTION_TARGET" in os.environ:
    # A starting instance checks its settings now, not with its first request. When firebase-tools asks this file for its
    # functions, there are no settings yet.
    config()
