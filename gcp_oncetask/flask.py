"""
The adapter for Flask: converts its requests and responses; the endpoint does the rest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, Unpack

from flask import Blueprint, Request, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import RequestEntityTooLarge

from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.entities.handler import EntityHandlerOptions, entity_handler
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.entities.models import LockedModel
from gcp_oncetask.execution import endpoint
from gcp_oncetask.execution.attempt import Attempt
from gcp_oncetask.rules.delivery import MAX_BODY

if TYPE_CHECKING:
    from gcp_oncetask.tasks.manager import TaskManager

__all__ = ["blueprint", "locked_handler", "request_of"]

M = TypeVar("M", bound=LockedModel)
P = ParamSpec("P")


def locked_handler(
    locker: Locker, model: type[M], **options: Unpack[EntityHandlerOptions]
) -> Callable[[Callable[Concatenate[M, Attempt, P], Any]], Callable[P, ResponseReturnValue]]:
    """
    Make a Flask view of ``fn(entity, attempt, **route_variables)`` that runs once per sequence. *model* is the model of the
    entity; *options* are those of ``entity_handler``.

    The function settles by returning. None, JSON data or a pydantic model completes the chain with that result; a
    ``Retry``, ``Snooze``, ``Fail`` or ``Continue`` (raised or returned) ends the attempt as its name says. Any other
    exception is a failed attempt.

    Raises:
        ConfigError, UsageError: As ``entity_handler``.
    """
    made = entity_handler(locker, model, **options)

    def decorate(fn: Callable[Concatenate[M, Attempt, P], Any]) -> Callable[P, ResponseReturnValue]:
        handler = made(fn)

        @functools.wraps(fn)
        def view(*_: P.args, **arguments: P.kwargs) -> ResponseReturnValue:
            return handler(request_of(request), arguments)

        del view.__wrapped__  # Flask names the endpoint after the function; its signature is not that of a view.
        return view

    return decorate


def blueprint(serves: Locker | TaskManager, *, url_prefix: str = "/oncetask") -> Blueprint:
    """
    Make a blueprint with ``POST /oncetask/sweep`` for Cloud Scheduler, the page ``/oncetask/link`` for people (``Attempt.link``),
    and for a manager ``POST /oncetask/deliver`` for Cloud Tasks. The two services call as ``ONCETASK_CALLERS`` say.

    Raises:
        ConfigError: This is a web server, and settings are missing; the message names all of them.
    """
    from gcp_oncetask.entities.link_pages import LinkPages
    from gcp_oncetask.sweeper import serve_sweep

    locker = serves if isinstance(serves, Locker) else serves.locker
    endpoint.check_settings(runtime_of(locker))
    made = Blueprint("oncetask", __name__, url_prefix=url_prefix)

    def post(rule: str, name: str, serve: Callable[[endpoint.IncomingRequest], endpoint.Answer]) -> None:
        made.add_url_rule(rule, name, lambda: serve(request_of(request)), methods=["POST"])

    if not isinstance(serves, Locker):
        post("/deliver", "deliver_route", serves.serve)
    post("/sweep", "sweep_route", functools.partial(serve_sweep, locker))
    page = LinkPages(locker).serve
    made.add_url_rule("/link", "link_page", lambda: page(request.method, request_of(request)), methods=["GET", "POST"])
    return made


def request_of(given: Request) -> endpoint.IncomingRequest:
    """
    Convert a request of Flask to one of the endpoint.
    """
    return endpoint.IncomingRequest(given.headers.get, given.query_string.decode("latin-1"), lambda: _body(given))


def _body(given: Request) -> bytes:
    given.max_content_length = MAX_BODY
    try:
        # Not from the stream: a hook of the app may have read it, and then only Flask has the bytes.
        return given.get_data()
    except RequestEntityTooLarge:
        return b" " * (MAX_BODY + 1)  # one byte more than a delivery can have is enough to refuse it
