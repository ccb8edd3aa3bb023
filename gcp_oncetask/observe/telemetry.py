"""
Spans and metrics for OpenTelemetry. No other module imports its API, and without it this one does nothing.

A schedule is a PRODUCER span. Its context is stored in the record as ``traceparent``, so that it survives retries, new
dispatches and takeovers. Each attempt is a CONSUMER span that links to it. If the request in which the attempt runs has
a span, the attempt's span is its child. Each call of a function by a word of a durable handler is an INTERNAL span, a child
of the attempt's; an answer of the journal has none. This module imports nothing before the application has imported the
API, which it needs to set a provider. Without a provider each hook costs a look into ``sys.modules``, and the record holds
nothing more. An error in here is logged once and changes no outcome.

Shape of the metrics:
    oncetask.deliveries: counter of ended deliveries, including tasks of workers, by ``oncetask.outcome``.
    oncetask.duplicates: counter of deliveries whose sequence was finished or replaced by a later one.
    oncetask.takeovers: counter of expired leases that were taken over, by ``oncetask.verdict`` and ``oncetask.outcome``.
    oncetask.leases.lost: counter of holders that were refused because their lease was lost, each counted once.
    oncetask.runs: counter of calls of functions of durable handlers, by ``oncetask.state``.
    oncetask.start.latency: histogram, seconds from the due time of a task to its grant, both by the server's clock.

Source:
    The semantic conventions for messaging spans (status: development): spans are named ``{operation} {destination}``,
    have links in place of parents, and have ``error.type`` if they failed;
    opentelemetry.io/docs/specs/semconv/messaging.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, NamedTuple, ParamSpec, TypeVar

from gcp_oncetask.checks.told import harmless, said_by
from gcp_oncetask.errors import OncetaskError
from gcp_oncetask.observe.observers import Message, ObservedAttempt, Observer, destination
from gcp_oncetask.rules.decisions import Lost
from gcp_oncetask.rules.delivery import Delivery, cloud_task_id
from gcp_oncetask.rules.document_paths import parse_task_path
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import SERVER_TIME, Lock
from gcp_oncetask.store.codec import get_timestamp
from gcp_oncetask.store.snapshot import Snapshot

if TYPE_CHECKING:
    from opentelemetry.metrics import Counter, Histogram
    from opentelemetry.trace import Span, Tracer

P = ParamSpec("P")
R = TypeVar("R")
SYSTEM: Final = "gcp_oncetask"
_SCOPE: Final = "gcp_oncetask"
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
_NOT_FAILED: Final = frozenset(
    {Outcome.COMPLETED, Outcome.CONTINUED, Outcome.SNOOZED, Outcome.SUSPENDED, Outcome.CANCELLED, Outcome.SHORT_LEASE}
)
_UNKNOWN_CALLER: Final = frozenset({Outcome.UNAUTHORISED, Outcome.FORBIDDEN})


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


# --- never in the way -------------------------------------------------------------------------------------------------

_complained = False


def _harmless(fn: Callable[P, R]) -> Callable[P, R | None]:
    """
    Return *fn* guarded: if it raises, because an SDK or an exporter fails, the error is logged once and the result is
    None.
    """

    @wraps(fn)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R | None:
        global _complained  # noqa: PLW0603 - logged once in a process
        try:
            return fn(*args, **kwargs)
        except Exception:
            # Tasks must not depend on their observer.
            if not _complained:
                _complained = True
                logging.getLogger("gcp_oncetask").warning(
                    "OpenTelemetry failed; tasks go on without it. Look at the provider's processors and exporters.",
                    exc_info=True,
                )
            return None

    return guarded


_tracers: tuple[Any, Any] = (None, None)


def _tracer() -> Tracer | None:
    """
    Return the tracer of the application's provider; None if it has set none.
    """
    global _tracers  # noqa: PLW0603 - a process has one provider
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    try:
        provider = api.get_tracer_provider()
        if isinstance(provider, api.ProxyTracerProvider):
            return None
        if provider is not _tracers[0]:
            _tracers = provider, provider.get_tracer(_SCOPE)
    except Exception:  # noqa: BLE001 - the API is half imported by another thread, or its set-up is wrong
        return None
    made: Tracer = _tracers[1]
    return made


class _Instruments(NamedTuple):
    deliveries: Counter
    duplicates: Counter
    takeovers: Counter
    lost: Counter
    runs: Counter
    latency: Histogram


_meters: tuple[Any, Any] = (None, None)


def _instruments() -> _Instruments | None:
    """
    Return the instruments of the application's provider; None if the application has not imported the API.
    """
    global _meters  # noqa: PLW0603 - a process has one provider
    api = sys.modules.get("opentelemetry.metrics")
    if api is None:
        return None
    try:
        provider = api.get_meter_provider()
        if provider is not _meters[0]:
            meter = provider.get_meter(_SCOPE)
            made = _Instruments(
                meter.create_counter("oncetask.deliveries", "{delivery}", "Ended deliveries"),
                meter.create_counter("oncetask.duplicates", "{delivery}", "Duplicate deliveries that were blocked"),
                meter.create_counter("oncetask.takeovers", "{lease}", "Expired leases that were taken over"),
                meter.create_counter("oncetask.leases.lost", "{lease}", "Holders that were refused as too late"),
                meter.create_counter("oncetask.runs", "{call}", "Calls of functions of durable handlers"),
                meter.create_histogram(
                    "oncetask.start.latency",
                    "s",
                    "From when a task was due to its start",
                    explicit_bucket_boundaries_advisory=_BUCKETS,
                ),
            )
            _meters = provider, made
    except Exception:  # noqa: BLE001 - the API is half imported by another thread, or its set-up is wrong
        return None
    found: _Instruments = _meters[1]
    return found


# --- producing --------------------------------------------------------------------------------------------------------


class _Producing(NamedTuple):
    span: Span
    message: Message


_producing: ContextVar[_Producing | None] = ContextVar("oncetask_producing", default=None)


@contextmanager
def _producer(tracer: Tracer, message: Callable[[], Message | None]) -> Iterator[None]:
    """
    Make a PRODUCER span for the tasks that are scheduled in the context; none if *message* returns None.
    """
    found = _produce(tracer, message)
    if found is None:
        yield
        return
    producing, token = found
    outer = _producing.set(producing)
    try:
        yield
    except BaseException as error:
        _produced(producing, token, error)
        raise
    else:
        _produced(producing, token, None)
    finally:
        _producing.reset(outer)


@_harmless
def _produce(tracer: Tracer, message: Callable[[], Message | None]) -> tuple[_Producing, Any] | None:
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
    return _Producing(span, found), context.attach(trace.set_span_in_context(span))


@_harmless
def _produced(producing: _Producing, token: Any, error: BaseException | None) -> None:
    _let_go(token)
    if error is not None:
        _fail(producing.span, error)
    producing.span.end()


def _attributes(operation: str, type_: str, to: str, document: str | None, kind: str | None) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": type_,
    }
    more = {"messaging.destination.name": to or None, "oncetask.document": document, "oncetask.kind": kind}
    return attributes | {name: value for name, value in more.items() if value is not None}


@_harmless
def _traceparent(span: Span) -> str | None:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(span))
    return carrier.get("traceparent")


@_harmless
def _scheduled(producing: _Producing, path: str, lock: Lock) -> None:
    if producing.message.size is None and producing.message.document in (None, path):
        producing.span.set_attributes(
            {
                "messaging.message.id": cloud_task_id(Delivery.present(path, lock)),
                "oncetask.document": path,
                "oncetask.sequence": lock.sequence,
            }
        )


# --- consuming --------------------------------------------------------------------------------------------------------


@_harmless
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
        "messaging.message.id": named or cloud_task_id(Delivery.present(about.document, lock)),
        "oncetask.sequence": lock.sequence,
        "oncetask.attempt": lock.attempts,
        "oncetask.token": lock.token,
    }
    span = tracer.start_span(f"process {to}", kind=trace.SpanKind.CONSUMER, attributes=attributes, links=links)
    return Consuming(span, context.attach(trace.set_span_in_context(span)) if current else None)


@_harmless
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


_fail_of: Final = _harmless(_fail)


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


@_harmless
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


@_harmless
def _called(
    begun: tuple[Span, Any] | None, attempt: ObservedAttempt, operation: str, error: BaseException | None
) -> None:
    state = "done" if error is None else "failed"
    made = _instruments()
    if made is not None:
        to = destination(attempt.granted.queue, attempt.context.kind)
        counted = {"messaging.system": SYSTEM, "oncetask.operation": operation, "oncetask.state": state}
        made.runs.add(1, counted | ({"messaging.destination.name": to} if to else {}))
    if begun is None:
        return
    span, token = begun
    _let_go(token)
    span.set_attribute("oncetask.state", state)
    if error is not None:
        _fail(span, error)
    span.end()


# --- counting ---------------------------------------------------------------------------------------------------------


@_harmless
def _count_ended(made: _Instruments, outcome: Outcome, to: str) -> None:
    attributes = {"messaging.system": SYSTEM}
    if to and outcome not in _UNKNOWN_CALLER:
        # An unknown caller may send any destination, and each one would become a series of its own.
        attributes["messaging.destination.name"] = to
    if outcome is Outcome.DUPLICATE:
        made.duplicates.add(1, attributes)
    made.deliveries.add(1, {**attributes, "oncetask.outcome": str(outcome)})


@_harmless
def _add(counter: Counter, attributes: dict[str, Any]) -> None:
    counter.add(1, attributes)


@_harmless
def _measure(made: _Instruments, before: Snapshot, lock: Lock, granted: Lock) -> None:
    due = lock.wait_until or (None if before.version is None else get_timestamp(before.version))
    if due is None or granted.granted_at in (None, SERVER_TIME):
        return
    assert granted.granted_at is not None
    name = parse_task_path(before.path)
    to = destination(granted.queue, None if name is None else name.kind)
    passed = max(0.0, (granted.granted_at - due).total_seconds())
    made.latency.record(passed, {"messaging.system": SYSTEM, "messaging.destination.name": to})


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

    def traceparent(self) -> str | None:
        producing = _producing.get()
        return None if producing is None else _traceparent(producing.span)

    def scheduled(self, stored: Snapshot) -> None:
        producing = _producing.get()
        if producing is not None and stored.lock is not None:
            _scheduled(producing, stored.path, stored.lock)

    def granted(self, attempt: ObservedAttempt, before: Snapshot | None, *, current: bool) -> None:
        made = _instruments()
        if made is not None and before is not None and before.lock is not None:
            _measure(made, before, before.lock, attempt.granted)
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
        producing = _producing.get()
        if producing is not None and producing.message.document == attempt.context.document:
            _fail_of(producing.span, error)
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
        made = _instruments()
        if made is not None:
            _count_ended(made, outcome, to)

    def taken_over(self, finding: str, outcome: Outcome | None) -> None:
        made = _instruments()
        if made is not None:
            _add(made.takeovers, {"oncetask.verdict": finding, "oncetask.outcome": str(outcome or "granted")})

    def lease_lost(self, lost: Lost) -> None:
        made = _instruments()
        if made is not None:
            _add(made.lost, {"oncetask.finished": lost.finished})
