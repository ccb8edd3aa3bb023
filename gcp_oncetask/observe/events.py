"""
The events of the protocol: the one reporter through which each of them goes, once.

The evidence trail is written first and always: recovery depends on it. The observers see the event afterwards: the log,
OpenTelemetry, and those that are added, such as the one that sends alerts.

Source:
    Hooks of stamina and httpx: a name for each moment, and observers that don't know one another.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from threading import Event
from typing import Any, Final, NamedTuple, Protocol

from gcp_oncetask.observe.log_context import LOGGER, About, LogContext, log_decision
from gcp_oncetask.observe.trail import Trail
from gcp_oncetask.rules.decisions import Lost, Put
from gcp_oncetask.rules.evidence import UNUSED, Verdict
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.task_headers import TaskHeaders
from gcp_oncetask.store.snapshot import Snapshot

_NOTHING: Final = nullcontext()


class Message(NamedTuple):
    """
    Tasks that are about to be scheduled.

    Attributes:
        operation: Name of the call.
        destination: Where they go, see ``destination``.
        document: The document, if it is known yet.
        kind: Kind of the once-task.
        size: Number of tasks, if this is a batch.
    """

    operation: str
    destination: str
    document: str | None = None
    kind: str | None = None
    size: int | None = None


def destination(queue: str | None, kind: str | None) -> str:
    """
    Where a task goes: the id of its queue, or its kind if workers pull it.
    """
    return queue.rpartition("/")[2] if queue else kind or ""


class ObservedAttempt(Protocol):
    """
    The attempt of an event.
    """

    @property
    def context(self) -> LogContext: ...
    @property
    def granted(self) -> Lock: ...
    @property
    def snapshot(self) -> Snapshot: ...

    delivery: TaskHeaders | None


class Told(NamedTuple):
    """
    An event as a line of a log.

    Attributes:
        event: Its name.
        about: The document and attempt that it is about.
        message: A sentence.
        level: Of ``logging``; None: that of ordinary decisions.
        facts: More fields.
    """

    event: str
    about: About
    message: str
    level: int | None
    facts: dict[str, Any]


class Observer:
    """
    Sees events. A subclass overrides the methods of those that it is about; none raises, and none changes an outcome.
    """

    def told(self, told: Told) -> None:
        """
        An event that people read about.
        """

    def scheduling(self, message: Callable[[], Message | None]) -> AbstractContextManager[object] | None:
        """
        Tasks are about to be scheduled, which *message* tells; returns a context to be entered meanwhile, if it needs one.
        """

    def traceparent(self) -> str | None:
        """
        The W3C trace context of the tasks that are being scheduled, if this observer knows one.
        """

    def scheduled(self, stored: Snapshot) -> None:
        """
        A sequence was scheduled, as it is *stored*.
        """

    def granted(self, attempt: ObservedAttempt, before: Snapshot | None, *, current: bool) -> None:
        """
        An attempt begins; its document was as *before* (None: its lease was taken over). *current*: it runs on this thread alone.
        """

    def raised(self, attempt: ObservedAttempt, error: BaseException) -> None:
        """
        The handler of an attempt has raised, or an error was raised at it.
        """

    def ended(
        self, attempt: ObservedAttempt, outcome: Outcome | None, reason: str, error: BaseException | None
    ) -> None:
        """
        An attempt is over; None: its outcome is not known.
        """

    def delivered(self, outcome: Outcome, to: str) -> None:
        """
        A delivery, of the destination *to*, was dealt with.
        """

    def taken_over(self, finding: str, outcome: Outcome | None) -> None:
        """
        An expired lease was taken over; None: it was granted anew.
        """

    def lease_lost(self, lost: Lost) -> None:
        """
        A holder has learnt that its lease is lost.
        """

    def person_needed(self, snapshot: Snapshot, name: str, reason: str) -> None:
        """
        A person must be told of a document at once; its record can't remember it.
        """


class Log(Observer):
    """
    Logs each event.

    Args:
        level: Of ordinary decisions.
    """

    def __init__(self, level: int) -> None:
        self._level = level

    def told(self, told: Told) -> None:
        level = self._level if told.level is None else told.level
        if LOGGER.isEnabledFor(level):
            context = told.about() if callable(told.about) else told.about
            text = told.message if context is None else f"{context}: {context.without(told.message)}"
            log_decision(LOGGER, level, told.event, context, text, **told.facts)


class Events:
    """
    The reporter of one deployment.

    Args:
        trail: The evidence trail.
        observers: They see each event, in this order.
    """

    def __init__(self, trail: Trail, *observers: Observer) -> None:
        self.trail: Trail = trail
        self._observers: Final = list(observers)

    def add(self, observer: Observer) -> None:
        """
        Let *observer* see the events from now on.
        """
        self._observers.append(observer)

    def _tell(self, event: str, about: About, message: str, level: int | None = None, **facts: Any) -> None:
        told = Told(event, about, message, level, facts)
        for each in self._observers:
            each.told(told)

    # --- scheduling ---

    def scheduling(self, message: Callable[[], Message | None]) -> AbstractContextManager[object]:
        """
        Tasks are scheduled while the context is entered; *message*, which an observer calls if it wants to know, says which
        (None: none).
        """
        entered = [during for each in self._observers if (during := each.scheduling(message)) is not None]
        if not entered:
            return _NOTHING
        during = ExitStack()
        for each in entered:
            during.enter_context(each)
        return during

    def traceparent(self) -> str | None:
        """
        The W3C trace context of the tasks that are being scheduled, to be stored with them; None: there is none.
        """
        return next((found for each in self._observers if (found := each.traceparent()) is not None), None)

    def scheduled(self, stored: Snapshot) -> None:
        """
        A sequence was scheduled; the document is *stored* so.
        """
        for each in self._observers:
            each.scheduled(stored)

    def requested(self, event: str, about: About, message: str) -> None:
        """
        A program asked for a once-task: created, replaced, ended, or left as it is.
        """
        self._tell(event, about, message)

    # --- Cloud Tasks ---

    def undispatched(self, about: About, message: str, level: int | None = None) -> None:
        """
        The Cloud Task of a sequence could not be made.
        """
        self._tell("task.undispatched", about, message, level)

    def redispatched(self, about: About, message: str) -> None:
        """
        The sweep has made the Cloud Task of a sequence again.
        """
        self._tell("task.redispatched", about, message)

    def left(self, about: About, message: str, level: int | None = None) -> None:
        """
        The Cloud Task of a sequence is left to a process that may make it.
        """
        self._tell("task.left", about, message, level)

    # --- an attempt ---

    def granted(self, attempt: ObservedAttempt, before: Snapshot | None, *, current: bool, note: str = "") -> None:
        """
        An attempt begins.

        Args:
            attempt: The attempt.
            before: Its document before the claim; None: its lease was taken over.
            current: It is the only attempt of this thread.
            note: Added to the line of the trail.
        """
        self.trail.write("started", attempt.context, f"started{note}")
        for each in self._observers:
            each.granted(attempt, before, current=current)

    def never_started(self, context: LogContext, message: str) -> None:
        """
        A lease was, or may have been, granted to an attempt that never begins.
        """
        self.trail.write("never-started", context, message, outcome=UNUSED)

    def returned(self, context: LogContext, outcome: str, settlement: str) -> None:
        """
        User code is over; *settlement* is all that the settling commit writes, as JSON text, or empty.
        """
        self.trail.write("returned", context, f"returned: {outcome}", outcome=outcome, settlement=settlement)

    def evidence_unwritten(self, context: LogContext, message: str) -> None:
        """
        The evidence of a settlement whose commit failed could not be written to Cloud Logging either.
        """
        self._tell("evidence.unwritten", context, message)

    def settled(self, context: LogContext, outcome: Outcome | None) -> None:
        """
        The settling commit of an attempt is applied.
        """
        self.trail.write("settled", context, f"settled: {outcome}", outcome=str(outcome))

    def raised(self, attempt: ObservedAttempt, error: BaseException) -> None:
        """
        The handler of an attempt has raised, or an error was raised at it.
        """
        for each in self._observers:
            each.raised(attempt, error)

    def lease_lost(self, lost: Lost, told: Event) -> None:
        """
        A holder learns that its lease is lost; *told* is set if it has learnt that before.
        """
        if not told.is_set():
            for each in self._observers:
                each.lease_lost(lost)

    def ended(
        self, attempt: ObservedAttempt, outcome: Outcome | None, reason: str, error: BaseException | None = None
    ) -> None:
        """
        An attempt is over; None: its outcome is not known.
        """
        for each in self._observers:
            each.ended(attempt, outcome, reason, error)

    # --- deliveries ---

    def delivered(
        self, outcome: Outcome, about: About, reason: str, *, to: str, level: int | None = None, **facts: Any
    ) -> None:
        """
        A delivery, or a task that a worker has found or a batch has taken along, was dealt with.

        Args:
            outcome: How it ended.
            about: The document and attempt that it was about.
            reason: A sentence.
            to: Its destination, see ``destination``.
            level: Of the line in the log; None: that of ordinary decisions.
            **facts: More fields of that line.
        """
        for each in self._observers:
            each.delivered(outcome, to)
        self._tell(f"delivery.{outcome}", about, reason, level, **facts)

    # --- leases and keys ---

    def taken_over(self, about: About, verdict: Verdict, outcome: Outcome | None) -> None:
        """
        An expired lease was taken over by the *verdict* on its holder; None: it was granted anew.
        """
        self._take_over(verdict, outcome)
        self._tell(
            "lease.taken_over",
            about,
            f"{verdict.finding}: {verdict.reason}",
            logging.WARNING,
            verdict=str(verdict.finding),
            outcome=str(outcome or "granted"),
        )

    def key_contested(self, about: About, verdict: Verdict, decision: Put | None) -> None:
        """
        The holder of a resource key that others need was judged; *decision* is the takeover of its lease, if there was one.
        """
        if decision is not None:
            self._take_over(verdict, decision.outcome)
        message = f"it has the resource key that others need: {verdict.finding}: {verdict.reason}"
        self._tell("key.contested", about, message, verdict=str(verdict.finding))

    def _take_over(self, verdict: Verdict, outcome: Outcome | None) -> None:
        for each in self._observers:
            each.taken_over(str(verdict.finding), outcome)

    def lock_taken(self, about: About, message: str) -> None:
        """
        A named lock was granted whose last holder has not given it back.
        """
        self._tell("lease.taken_over", about, message, logging.WARNING)

    def key_handed_over(self, about: About, message: str) -> None:
        """
        A resource key was given to the task that waited for it.
        """
        self._tell("key.handed_over", about, message)

    # --- records ---

    def damaged(self, about: About, message: str) -> None:
        """
        A lock record can't be decoded.
        """
        self._tell("lock.damaged", about, message, logging.ERROR)

    def repaired(self, about: About, message: str) -> None:
        """
        A person has made a damaged record anew.
        """
        self._tell("lock.repaired", about, message, logging.WARNING)

    def refused_for_good(self, about: About, message: str, outcome: Outcome) -> None:
        """
        Firestore refuses for good to write a record, which was ended.
        """
        self._tell("task.refused", about, message, logging.ERROR, outcome=str(outcome))

    def person_needed(self, snapshot: Snapshot, name: str, reason: str) -> None:
        """
        A person must be told of the document in *snapshot* at once: its record can't remember it.

        Args:
            snapshot: The document.
            name: Name of the event among those of the document.
            reason: A sentence.
        """
        for each in self._observers:
            each.person_needed(snapshot, name, reason)
