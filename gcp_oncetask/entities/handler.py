"""
Handlers of entities, for the adapters of frameworks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from gcp_oncetask.checks.callables import plain
from gcp_oncetask.clock import Duration
from gcp_oncetask.entities import models
from gcp_oncetask.entities.chains import executor_of, runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.entities.models import LockedModel
from gcp_oncetask.entities.subject import Entities
from gcp_oncetask.errors import UsageError
from gcp_oncetask.execution import endpoint
from gcp_oncetask.execution.ended import Ended, delivered
from gcp_oncetask.execution.handler_spec import AlertOn, HandlerSpec, LeaseOptions, OnUnknown, policy_of
from gcp_oncetask.execution.pipeline import execute, parse
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.retry_policy import RetryPolicy
from gcp_oncetask.rules.task_headers import TaskHeaders

NO_ARGUMENTS: Final[Mapping[str, Any]] = {}


class EntityHandlerOptions(LeaseOptions, total=False):
    """
    Options of a handler; see ``entity_handler``.
    """

    retry: RetryPolicy | None
    max_attempts: int


def entity_handler(
    locker: Locker,
    model: type[LockedModel],
    *,
    retry: RetryPolicy | None = None,
    max_attempts: int = 11,
    lease_duration: Duration = 60.0,
    lease_timeout: Duration = 630.0,
    run_limit: Duration | None = None,
    renew: bool = True,
    on_unknown: OnUnknown = "takeover",
    alert_on: Sequence[AlertOn] = ("takeover", "failure", "quarantine"),
) -> Callable[[Callable[..., Any]], EntityHandler]:
    """
    Return a decorator that turns ``fn(entity, attempt, **arguments)`` into a handler of deliveries; each sequence
    completes once.

    Args:
        locker: The locker.
        model: Model of the entity.
        retry: Retry policy for failed attempts; None: the queue retries, up to ``max_attempts`` executions.
        max_attempts: Most executions per sequence, the first included; 11 executions are 10 retries.
        lease_duration: Time after the grant or a renewal in which the lease is not taken over; seconds or a timedelta.
        lease_timeout: Time after the grant after which an expired lease is taken over even if the logs show nothing
            about its holder; no earlier than the log grace after the run limit and after the end of the last lease.
        run_limit: Time after the grant after which the lease is no longer renewed; None: the lease timeout.
        renew: Whether the lease is renewed while the handler runs.
        on_unknown: The decision at the timeout if nothing is known about the holder: takeover, or quarantine until a
            person resolves it.
        alert_on: Events of which a person is alerted: takeover, failure, quarantine.

    Raises:
        ConfigError: The durations contradict each other, or this process is a web server and settings are missing; the
            message names all of them.
        UsageError: The function is a coroutine, or the model has no collection.
    """
    endpoint.check_settings(runtime_of(locker))
    policy = policy_of(
        locker.config,
        retry=retry,
        max_attempts=max_attempts,
        lease_duration=lease_duration,
        lease_timeout=lease_timeout,
        run_limit=run_limit,
        on_unknown=on_unknown,
        alert_on=alert_on,
    )
    if not model.__collection__:
        raise UsageError(
            f'{model.__name__} has no collection; declare it: class {model.__name__}(LockedModel, collection="...").'
        )

    def decorate(fn: Callable[..., Any]) -> EntityHandler:
        run = plain(fn, "handlers are plain functions for now", given=("entity", "attempt"))
        return EntityHandler(locker, model, HandlerSpec(Entities(model), run, policy, retry, renew))

    return decorate


class EntityHandler:
    """
    Serves the deliveries of a model's entities. It is called with a request and returns the answer.
    """

    def __init__(self, locker: Locker, model: type[LockedModel], spec: HandlerSpec) -> None:
        self._executor = executor_of(locker)
        self._model = model
        self._spec = spec

    def __call__(
        self, request: endpoint.IncomingRequest, arguments: Mapping[str, Any] = NO_ARGUMENTS
    ) -> endpoint.Answer:
        """
        Serve a delivery; *arguments* are the variables of the route, which the handler gets.
        """
        return endpoint.serve(self._executor.runtime, request, partial(self._deliver, arguments))

    def _deliver(self, arguments: Mapping[str, Any], body: bytes, headers: TaskHeaders, trace: str | None) -> Ended:
        found = parse(self._executor.runtime, body)
        if isinstance(found, Ended):
            return found
        elsewhere = models.misrouted(self._model, found.document)
        if elsewhere is not None:
            return Ended(Outcome.REJECTED, elsewhere, delivered(found))
        return execute(self._executor, self._spec, found, headers, trace, arguments)
