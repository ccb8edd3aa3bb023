"""
The instruments of the application's meter for OpenTelemetry, and the metrics that are counted with them.

Shape of the metrics:
    oncetask.deliveries: counter of ended deliveries, including tasks of workers, by ``oncetask.outcome``.
    oncetask.duplicates: counter of deliveries whose sequence was finished or replaced by a later one.
    oncetask.takeovers: counter of expired leases that were taken over, by ``oncetask.verdict`` and ``oncetask.outcome``.
    oncetask.leases.lost: counter of holders that were refused because their lease was lost, each counted once.
    oncetask.runs: counter of calls of functions of durable handlers, by ``oncetask.state``.
    oncetask.start.latency: histogram, seconds from the due time of a task to its grant, both by the server's clock.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, NamedTuple, ParamSpec, TypeVar

from gcp_oncetask.observe.observers import destination
from gcp_oncetask.rules.document_paths import parse_task_path
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import SERVER_TIME, Lock
from gcp_oncetask.store.codec import get_timestamp
from gcp_oncetask.store.snapshot import Snapshot

if TYPE_CHECKING:
    from opentelemetry.metrics import Counter, Histogram

P = ParamSpec("P")
R = TypeVar("R")
SYSTEM: Final = "gcp_oncetask"
SCOPE: Final = "gcp_oncetask"
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
_UNKNOWN_CALLER: Final = frozenset({Outcome.UNAUTHORISED, Outcome.FORBIDDEN})

_complained = False


def never_raising(fn: Callable[P, R]) -> Callable[P, R | None]:
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


class Instruments(NamedTuple):
    """
    The counters and histograms of this library.
    """

    deliveries: Counter
    duplicates: Counter
    takeovers: Counter
    lost: Counter
    runs: Counter
    latency: Histogram


_meters: tuple[Any, Any] = (None, None)


def instruments() -> Instruments | None:
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
            meter = provider.get_meter(SCOPE)
            made = Instruments(
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
    found: Instruments = _meters[1]
    return found


@never_raising
def count_ended(made: Instruments, outcome: Outcome, to: str) -> None:
    """
    Count the end of a delivery for the destination *to*.
    """
    attributes = {"messaging.system": SYSTEM}
    if to and outcome not in _UNKNOWN_CALLER:
        # An unknown caller may send any destination, and each one would become a series of its own.
        attributes["messaging.destination.name"] = to
    if outcome is Outcome.DUPLICATE:
        made.duplicates.add(1, attributes)
    made.deliveries.add(1, {**attributes, "oncetask.outcome": str(outcome)})


@never_raising
def add_to(counter: Counter, attributes: dict[str, Any]) -> None:
    """
    Add one to *counter*.
    """
    counter.add(1, attributes)


@never_raising
def measure_start(made: Instruments, before: Snapshot, lock: Lock, granted: Lock) -> None:
    """
    Measure the time from when a task was due to its grant. *before* is the document with the record *lock*, before the claim.
    """
    due = lock.wait_until or (None if before.version is None else get_timestamp(before.version))
    if due is None or granted.granted_at in (None, SERVER_TIME):
        return
    assert granted.granted_at is not None
    name = parse_task_path(before.path)
    to = destination(granted.queue, None if name is None else name.kind)
    passed = max(0.0, (granted.granted_at - due).total_seconds())
    made.latency.record(passed, {"messaging.system": SYSTEM, "messaging.destination.name": to})


def count_call(made: Instruments, to: str, operation: str, state: str) -> None:
    """
    Count the call of a function by a word of a durable handler.
    """
    counted = {"messaging.system": SYSTEM, "oncetask.operation": operation, "oncetask.state": state}
    made.runs.add(1, counted | ({"messaging.destination.name": to} if to else {}))
