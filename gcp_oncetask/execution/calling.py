"""
The call of user code: the handler with the middleware around it. An error that it raises is returned as a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from gcp_oncetask.errors import UsageError
from gcp_oncetask.execution.attempt import Attempt, Middleware
from gcp_oncetask.execution.executor import Executor
from gcp_oncetask.execution.handler_spec import HandlerSpec
from gcp_oncetask.execution.results import CancelledByRequest, HandlerResult, Suspended
from gcp_oncetask.execution.running import RunningAttempt

R = TypeVar("R")


class Raised(NamedTuple):
    """
    An error that user code has raised.
    """

    error: BaseException


def call_handler(
    executor: Executor, spec: HandlerSpec, attempt: RunningAttempt, seen: Attempt, arguments: Mapping[str, Any]
) -> Any:
    """
    Load the subject of *attempt*, and call the handler with it.

    Args:
        executor: Holds the middleware.
        spec: The handler.
        attempt: The attempt.
        seen: The attempt as user code sees it.
        arguments: Route variables for the handler.

    Returns:
        The result or verdict that the handler has returned or raised; ``Raised`` for any other error, also one that ends the
        process.
    """
    try:
        attempt.subject = spec.subject.load(executor.runtime, attempt)
        middleware = executor.middleware + spec.middleware
        if not middleware:
            return spec.run(attempt.subject, seen, **arguments)
        return call_through(middleware, seen, partial(spec.run, attempt.subject, seen, **arguments))
    except HandlerResult as verdict:
        return verdict
    except (Exception, SystemExit, KeyboardInterrupt, Suspended, CancelledByRequest) as error:  # noqa: BLE001 - each error of user code is a value from here on
        return Raised(error)


def call_through(middleware: Sequence[Middleware], attempt: Attempt, call: Callable[[], Any]) -> Any:
    """
    Call *call* with *middleware* around it, the first one outermost.
    """
    for around in reversed(middleware):
        call = partial(around, attempt, _once(around, call))
    return call()


def _once(around: Middleware, call: Callable[[], R]) -> Callable[[], R]:
    """
    Return a function that calls *call* and refuses to be called twice: a handler runs once in an attempt.
    """
    called = False

    def call_next() -> R:
        nonlocal called
        if called:
            name = getattr(around, "__qualname__", type(around).__qualname__)
            raise UsageError(f"The middleware {name} called call_next() twice; an attempt runs its handler once.")
        called = True
        return call()

    return call_next
