"""
Spans for OpenTelemetry, and the observer that makes spans and metrics. Without its API nothing is done.

A schedule is a PRODUCER span. Its context is stored in the record as ``traceparent``, so that it survives retries, new
dispatches and takeovers. Each attempt is a CONSUMER span that links to it. If the request in which the attempt runs has
a span, the attempt's span is its child. Each call of a function by a word of a durable handler is an INTERNAL span, a child
of the attempt's; an answer of the journal has none. This module imports nothing before the application has imported the
API, which it needs to set a provider. Without a provider each hook costs a look into ``sys.modules``, and the record holds
nothing more. An error in here is logged once and changes no outcome.

Source:
    The semantic conventions for messaging spans (status: development): spans are named ``{operation} {destination}``,
    have links in place of parents, and have ``error.type`` if they failed;
    opentelemetry.io/docs/specs/semconv/messaging.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gcp_oncetask.checks.told import harmless, said_by
from gcp_oncetask.errors import OncetaskError
from gcp_oncetask.observe.instruments import (
    SCOPE,
    SYSTEM,
    add_to,
    count_call,
    count_ended,
    instruments,
    measure_start,
    never_raising,
)
from gcp_oncetask.observe.observers import Message, ObservedAttempt, Observer, destination, producing
from gcp_oncetask.rules.decisions import Lost
from gcp_oncetask.rules.delivery import cloud_task_id
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.store.snapshot import Snapshot

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_NOT_FAILED: Final = frozenset(
    {Outcome.COMPLETED, Outcome.CONTINUED, Outcome.SNOOZED, Outcome.SUSPENDED, Outcome.CANCELLED, Outcome.SHORT_LEASE}
)


@dataclass(slots=True)
class Consuming:
    """
    The span of an attempt.

    Attributes:
        span: The span.
        token: Token that restores the context that was current before; None: the span was not made current.
        failed: Whether an exception was recorded.
    """

    span: Span
    token: Any = None
    failed: bool = False


_tracers: tuple[Any, Any] = (None, None)


def _tracer() -> Tracer | None:
    """
    Return the tracer of the application's provider; None if it has set none.
    """
    global _tracers  # noqa: PLW0603 - a process has one provider
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    # Until there is a provider, get_tracer_provider() reads the environment each time; its first look is enough.
    if _tracers[0] is not None and getattr(api, "_TRACER_PROVIDER", api) is None:
        return None
    try:
        provider = api.get_tracer_provider()
        if provider is not _tracers[0]:
            none = isinstance(provider, api.ProxyTracerProvider)
            _tracers = provider, None if none else provider.get_tracer(SCOPE)
    except Exception:  # noqa: BLE001 - the API is half imported by another thread, or its set-up is wrong
        return None
    made: Tracer | None = _tracers[1]
    return made


# --- producing --------------------------------------------------------------------------------------------------------


class _ProducerSpan(NamedTuple):
    span: Span
    message: Message

    @never_raising
    def traceparent(self) -> str | None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(self.span))
        return carrier.get("traceparent")

    @never_raising
    def scheduled(self, stored: Snapshot) -> None:
        lock = stored.lock
        if lock is not None and self.message.size is None and self.message.document in (None, stored.path):
            self.span.set_attributes(
                {
                    "messaging.message.id": cloud_task_id(stored.path, lock),
                    "oncetask.document": stored.path,
                    "oncetask.sequence": lock.sequence,
                }
            )


@contextmanager
def _producer(tracer: Tracer, message: Callable[[], Message | None]) -> Iterator[None]:
    """
    Make a PRODUCER span for the tasks that are scheduled in the context; none if *message* returns None.
    """
    found = _produce(tracer, message)
    if found is None:
        yield
        return
    made, token = found
    outer = producing.set(made)
    try:
        yield
    except BaseException as error:
        _produced(made, token, error)
        raise
    else:
        _produced(made, token, None)
    finally:
        producing.reset(outer)


@never_raising
def _produce(tracer: Tracer, message: Callable[[], Message | None]) -> tuple[_ProducerSpan, Any] | None:
    from opentelemetry import context, trace

    try:
        found = message()
    except (OncetaskError, AttributeError, TypeError, ValueError):
        # The arguments are invalid. The scheduling call itself raises a better error.
        return None
    if found is None:
        return None
    attributes = _attributes(found.operation, "send", found.destination, found.document, found.kind)
    if found.size is not None:
        attributes["messaging.batch.message_count"] = found.size
    name = f"{found.operation} {found.destination}".rstrip()
    span = tracer.start_span(name, kind=trace.SpanKind.PRODUCER, attributes=attributes)
    return _ProducerSpan(span, found), context.attach(trace.set_span_in_context(span))


@never_raising
def _produced(made: _ProducerSpan, token: Any, error: BaseException | None) -> None:
    _let_go(token)
    if error is not None:
        _fail(made.span, error)
    made.span.end()


def _attributes(operation: str, type_: str, to: str, document: str | None, kind: str | None) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": type_,
    }
    more = {"messaging.destination.name": to or None, "oncetask.document": document, "oncetask.kind": kind}
    return attributes | {name: value for name, value in more.items() if value is not None}


# --- consuming --------------------------------------------------------------------------------------------------------


@never_raising
def _begin(tracer: Tracer, attempt: ObservedAttempt, *, current: bool) -> Consuming:
    from opentelemetry import context, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    lock, about, headers = attempt.granted, attempt.context, attempt.delivery
    links = []
    if lock.traceparent is not None:
        found = TraceContextTextMapPropagator().extract({"traceparent": lock.traceparent}, context.Context())
        links = [trace.Link(trace.get_current_span(found).get_span_context())]
    to = destination(lock.queue, about.kind)
    attributes = _attributes("process", "process", to, about.document, about.kind)
    named = headers.task if headers is not None else ""
    attributes |= {
        "messaging.message.id": named or cloud_task_id(about.document, lock),
        "oncetask.sequence": lock.sequence,
        "oncetask.attempt": lock.attempts,
        "oncetask.token": lock.token,
    }
    span = tracer.start_span(f"process {to}", kind=trace.SpanKind.CONSUMER, attributes=attributes, links=links)
    return Consuming(span, context.attach(trace.set_span_in_context(span)) if current else None)


@never_raising
def _end(consuming: Consuming, outcome: Outcome | None, reason: str, error: BaseException | None) -> None:
    from opentelemetry.trace import Status, StatusCode

    if consuming.token is not None:
        _let_go(consuming.token)
    span = consuming.span
    if outcome is not None:
        span.set_attribute("oncetask.outcome", str(outcome))
    if error is not None:
        _fail(span, error)
    elif outcome is not None and outcome not in _NOT_FAILED:
        span.set_status(Status(StatusCode.ERROR, reason))
        if not consuming.failed:
            span.set_attribute("error.type", str(outcome))
    span.end()


def _let_go(token: Any) -> None:
    from opentelemetry import context

    context.detach(token)


def _fail(span: Span, error: BaseException) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.record_exception(harmless(error))
    span.set_attribute("error.type", type(error).__qualname__)
    span.set_status(Status(StatusCode.ERROR, said_by(error)))


_fail_of: Final = never_raising(_fail)


# --- words of durable handlers ----------------------------------------------------------------------------------------


@contextmanager
def _calling(
    tracer: Tracer | None, attempt: ObservedAttempt, parent: Span | None, operation: str, name: str
) -> Iterator[None]:
    """
    Make a span of the call of a function of the word *name*, and count the call.
    """
    begun = None if tracer is None else _call(tracer, attempt, parent, operation, name)
    try:
        yield
    except BaseException as error:
        _called(begun, attempt, operation, error)
        raise
    else:
        _called(begun, attempt, operation, None)


@never_raising
def _call(tracer: Tracer, attempt: ObservedAttempt, parent: Span | None, operation: str, name: str) -> tuple[Span, Any]:
    from opentelemetry import context, trace

    within = context.get_current()
    if parent is not None:
        here = trace.get_current_span(within).get_span_context()
        if here.trace_id != parent.get_span_context().trace_id:
            # A thread of map() or of the user has no context of its own.
            within = trace.set_span_in_context(parent)
    about = attempt.context
    attributes: dict[str, Any] = {
        "oncetask.document": about.document,
        "oncetask.sequence": attempt.granted.sequence,
        "oncetask.attempt": attempt.granted.attempts,
        "oncetask.operation": operation,
        "oncetask.run": name,
    }
    if about.kind is not None:
        attributes["oncetask.kind"] = about.kind
    span = tracer.start_span(f"{operation} {name.partition('[')[0]}", within, attributes=attributes)
    return span, context.attach(trace.set_span_in_context(span, within))


@never_raising
def _called(
    begun: tuple[Span, Any] | None, attempt: ObservedAttempt, operation: str, error: BaseException | None
) -> None:
    state = "done" if error is None else "failed"
    made = instruments()
    if made is not None:
        count_call(made, destination(attempt.granted.queue, attempt.context.kind), operation, state)
    if begun is None:
        return
    span, token = begun
    _let_go(token)
    span.set_attribute("oncetask.state", state)
    if error is not None:
        _fail(span, error)
    span.end()


# --- the observer -----------------------------------------------------------------------------------------------------


class Telemetry(Observer):
    """
    Sends spans and metrics to the application's providers, if it has set any.
    """

    def __init__(self) -> None:
        # The spans of attempts that run.
        self._spans: dict[ObservedAttempt, Consuming] = {}

    def scheduling(self, message: Callable[[], Message | None]) -> AbstractContextManager[object] | None:
        tracer = _tracer()
        return None if tracer is None else _producer(tracer, message)

    def granted(self, attempt: ObservedAttempt, before: Snapshot | None, *, current: bool) -> None:
        made = instruments()
        if made is not None and before is not None and before.lock is not None:
            measure_start(made, before, before.lock, attempt.granted)
        tracer = _tracer()
        begun = None if tracer is None else _begin(tracer, attempt, current=current)
        if begun is not None:
            self._spans[attempt] = begun

    def calling(self, attempt: ObservedAttempt, operation: str, name: str) -> AbstractContextManager[object] | None:
        tracer = _tracer()
        if tracer is None and "opentelemetry.metrics" not in sys.modules:
            return None
        consuming = self._spans.get(attempt)
        return _calling(tracer, attempt, None if consuming is None else consuming.span, operation, name)

    def raised(self, attempt: ObservedAttempt, error: BaseException) -> None:
        made = producing.get()
        if isinstance(made, _ProducerSpan) and made.message.document == attempt.context.document:
            _fail_of(made.span, error)
        consuming = self._spans.get(attempt)
        if consuming is not None:
            consuming.failed = True
            _fail_of(consuming.span, error)

    def ended(
        self, attempt: ObservedAttempt, outcome: Outcome | None, reason: str, error: BaseException | None
    ) -> None:
        consuming = self._spans.pop(attempt, None)
        if consuming is not None:
            _end(consuming, outcome, reason, error)

    def delivered(self, outcome: Outcome, to: str) -> None:
        made = instruments()
        if made is not None:
            count_ended(made, outcome, to)

    def taken_over(self, finding: str, outcome: Outcome | None) -> None:
        made = instruments()
        if made is not None:
            add_to(made.takeovers, {"oncetask.verdict": finding, "oncetask.outcome": str(outcome or "granted")})

    def lease_lost(self, lost: Lost) -> None:
        made = instruments()
        if made is not None:
            add_to(made.lost, {"oncetask.finished": lost.finished})
