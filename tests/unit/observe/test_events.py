"""
Each event of the protocol goes to the trail or to the observers, once.
"""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gcp_oncetask.clock import SystemClock
from gcp_oncetask.observe.events import Events
from gcp_oncetask.observe.log_context import LogContext
from gcp_oncetask.observe.observers import Log, Message, Observer, destination, producing
from gcp_oncetask.observe.trail import Trail
from gcp_oncetask.rules.decisions import Lost
from gcp_oncetask.rules.evidence import Finding, Verdict
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.store.snapshot import Snapshot

CONTEXT = LogContext("orders/42", 5, 1, 9, "cafe01", "E", step=2)
SNAPSHOT = Snapshot("orders/42", None, None, None)
VERDICT = Verdict(Finding.DIED, "it was killed", None, ())


class RunOfOrder:
    """
    An attempt, as events know it.
    """

    context = CONTEXT
    granted = Lock(env="E", sequence=5, status=Status.LEASED)
    snapshot = SNAPSHOT
    delivery = None


RUN = RunOfOrder()


class Recorder(Observer):
    """
    Writes down each call that it gets.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []


def noting(name: str) -> Callable[..., None]:
    """
    A method of the recorder.
    """

    def note(self: Recorder, *args: Any, **kwargs: Any) -> None:
        self.seen.append(f"told {args[0].event}" if name == "told" else name)

    return note


for _name in [name for name in vars(Observer) if not name.startswith("_")]:
    setattr(Recorder, _name, noting(_name))


EVENTS: dict[str, tuple[Callable[[Events], object], list[str], list[str]]] = {
    # method: how it is called; what the trail gets; what an observer gets.
    "scheduling": (lambda e: e.scheduling(lambda: None), [], ["scheduling"]),
    # The next two reach the observer that has set producing; none has.
    "traceparent": (lambda e: e.traceparent(), [], []),
    "scheduled": (lambda e: e.scheduled(SNAPSHOT), [], []),
    "requested": (lambda e: e.requested("task.kept", CONTEXT, "kept"), [], ["told task.kept"]),
    "undispatched": (lambda e: e.undispatched(CONTEXT, "no"), [], ["told task.undispatched"]),
    "redispatched": (lambda e: e.redispatched(CONTEXT, "again"), [], ["told task.redispatched"]),
    "left": (lambda e: e.left(CONTEXT, "left"), [], ["told task.left"]),
    "granted": (lambda e: e.granted(RUN, SNAPSHOT, current=True), ["started"], ["granted"]),
    "calling": (lambda e: e.calling(RUN, "run", "charge"), [], ["calling"]),
    "event_sent": (lambda e: e.event_sent(CONTEXT, "stored"), [], ["told event.sent"]),
    "never_started": (lambda e: e.never_started(CONTEXT, "short"), ["never-started"], []),
    "returned": (lambda e: e.returned(CONTEXT, "complete", "{}"), ["returned"], []),
    "evidence_unwritten": (lambda e: e.evidence_unwritten(CONTEXT, "no"), [], ["told evidence.unwritten"]),
    "settled": (lambda e: e.settled(CONTEXT, Outcome.COMPLETED), ["settled"], []),
    "raised": (lambda e: e.raised(RUN, ValueError()), [], ["raised"]),
    "lease_lost": (lambda e: e.lease_lost(Lost("late", finished=False), threading.Event()), [], ["lease_lost"]),
    "ended": (lambda e: e.ended(RUN, Outcome.COMPLETED, "done"), [], ["ended"]),
    "delivered": (
        lambda e: e.delivered(Outcome.COMPLETED, CONTEXT, "done", to="queue"),
        [],
        ["delivered", "told delivery.completed"],
    ),
    "taken_over": (lambda e: e.taken_over(CONTEXT, VERDICT, None), [], ["taken_over", "told lease.taken_over"]),
    "key_contested": (lambda e: e.key_contested(CONTEXT, VERDICT, None), [], ["told key.contested"]),
    "lock_taken": (lambda e: e.lock_taken(CONTEXT, "late"), [], ["told lease.taken_over"]),
    "freed_by_hand": (lambda e: e.freed_by_hand(CONTEXT, "freed", "ann"), [], ["told lock.freed"]),
    "forgotten": (lambda e: e.forgotten(CONTEXT, "forgotten", "ann"), [], ["told once.forgotten"]),
    "key_handed_over": (lambda e: e.key_handed_over(CONTEXT, "yours"), [], ["told key.handed_over"]),
    "damaged": (lambda e: e.damaged(CONTEXT, "odd"), [], ["told lock.damaged"]),
    "repaired": (lambda e: e.repaired(CONTEXT, "made anew"), [], ["told lock.repaired"]),
    "refused_for_good": (lambda e: e.refused_for_good(CONTEXT, "no", Outcome.FAILED), [], ["told task.refused"]),
    "person_needed": (lambda e: e.person_needed(SNAPSHOT, "rejected", "odd"), [], ["person_needed"]),
}


def reporter(*observers: Observer) -> tuple[Events, io.StringIO]:
    """
    Events with these observers, and what their trail writes.
    """
    written = io.StringIO()
    return Events(Trail(lambda: None, written, SystemClock()), *observers), written


def test_table_has_every_event() -> None:
    assert set(EVENTS) == {name for name in vars(Events) if not name.startswith("_")} - {"add"}


@pytest.mark.parametrize("name", EVENTS)
def test_event_reaches_the_trail_and_every_observer_once(name: str) -> None:
    tell, trail, seen = EVENTS[name]
    first, second = Recorder(), Recorder()
    events, written = reporter(first)
    events.add(second)

    tell(events)

    assert [json.loads(line)["oncetask"]["event"] for line in written.getvalue().splitlines()] == trail
    assert (first.seen, second.seen) == (seen, seen)


def test_trail_is_written_without_any_observer() -> None:
    events, written = reporter()
    for tell, *_ in EVENTS.values():
        tell(events)
    names = [json.loads(line)["oncetask"]["event"] for line in written.getvalue().splitlines()]
    assert names == ["started", "never-started", "returned", "settled"]


def test_observer_sees_nothing_it_has_no_method_for() -> None:
    events, _ = reporter(Observer())
    for tell, *_ in EVENTS.values():
        tell(events)


def test_holder_that_knows_it_is_lost_is_counted_no_more() -> None:
    seen, told = Recorder(), threading.Event()
    events, _ = reporter(seen)
    told.set()
    events.lease_lost(Lost("late", finished=False), told)
    assert seen.seen == []


def test_line_names_its_document_its_event_and_where_it_was_told(caplog: pytest.LogCaptureFixture) -> None:
    events, _ = reporter(Log(logging.INFO))
    with caplog.at_level(logging.INFO, "gcp_oncetask"):
        events.delivered(Outcome.BUSY, CONTEXT, "orders/42: somebody runs it", to="q", queue="q")
        events.damaged(lambda: CONTEXT, "odd")
    [delivered, damaged] = caplog.records
    assert delivered.getMessage() == "orders/42 (sequence 5, step 2, attempt 1): somebody runs it"
    assert (delivered.levelno, damaged.levelno) == (logging.INFO, logging.ERROR)
    assert delivered.oncetask["event"] == "delivery.busy"  # type: ignore[attr-defined]
    assert delivered.oncetask["queue"] == "q"  # type: ignore[attr-defined]
    assert delivered.funcName == "test_line_names_its_document_its_event_and_where_it_was_told"


def test_line_that_is_not_logged_is_not_made() -> None:
    def about() -> LogContext:
        raise AssertionError

    events, _ = reporter(Log(logging.DEBUG))
    logging.getLogger("gcp_oncetask").setLevel(logging.INFO)
    try:
        events.redispatched(about, "again")
    finally:
        logging.getLogger("gcp_oncetask").setLevel(logging.NOTSET)


def test_what_is_scheduled_is_asked_for_only_by_observers_that_want_to_know() -> None:
    asked: list[Message | None] = []
    message = Message("schedule", "queue")

    class Made:
        stored: Snapshot | None = None

        def traceparent(self) -> str | None:
            return "00-1-2-01"

        def scheduled(self, stored: Snapshot) -> None:
            self.stored = stored

    class Wants(Observer):
        made = Made()

        @contextmanager
        def scheduling(self, message: Callable[[], Message | None]) -> Iterator[None]:
            asked.append(message())
            outer = producing.set(self.made)
            yield
            producing.reset(outer)

    for observers, found, trace in (([Observer()], [], None), ([Wants(), Observer()], [message], "00-1-2-01")):
        asked.clear()
        events, _ = reporter(*observers)
        with events.scheduling(lambda: message):
            assert events.traceparent() == trace
            events.scheduled(SNAPSHOT)
        assert asked == found
        assert events.traceparent() is None
    assert Wants.made.stored is SNAPSHOT


@pytest.mark.parametrize(
    ("queue", "kind", "to"),
    [("projects/p/locations/l/queues/q", "k", "q"), ("q", None, "q"), (None, "k", "k"), (None, None, "")],
)
def test_destination_is_a_queue_or_a_kind(queue: str | None, kind: str | None, to: str) -> None:
    assert destination(queue, kind) == to
