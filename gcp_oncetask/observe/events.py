"""
The events of the protocol, and the one reporter that reports each event once.

The evidence trail is always written, and first, because recovery depends on it. Then the observers see the event: the
log, OpenTelemetry, and added observers, such as the one that sends alerts.

Source:
    Hooks of stamina and httpx: each moment has a name, and the observers don't know each other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from threading import Event
from typing import Any, Final

from gcp_oncetask.observe.log_context import About, LogContext
from gcp_oncetask.observe.observers import Message, ObservedAttempt, Observer, Told, producing
from gcp_oncetask.observe.trail import Trail
from gcp_oncetask.rules.decisions import Lost, Put
from gcp_oncetask.rules.evidence import UNUSED, Verdict
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import SERVER_TIME
from gcp_oncetask.store.snapshot import Snapshot

_NOTHING: Final = nullcontext()
_SEEN: Final = tuple(name for name in vars(Observer) if not name.startswith("_"))


class Events:
    """
    The reporter of one deployment.

    Args:
        trail: The evidence trail.
        observers: Observers that see each event, in this order.
    """

    def __init__(self, trail: Trail, *observers: Observer) -> None:
        self.trail: Trail = trail
        self._seeing: Final[dict[str, list[Observer]]] = {name: [] for name in _SEEN}
        for each in observers:
            self.add(each)

    def add(self, observer: Observer) -> None:
        """
        Let *observer* see the events from now on.
        """
        for name, seeing in self._seeing.items():
            # Most observers are about few events; the others cost nothing.
            if getattr(type(observer), name) is not getattr(Observer, name):
                seeing.append(observer)

    def _tell(self, event: str, about: About, message: str, level: int | None = None, **facts: Any) -> None:
        told = Told(event, about, message, level, facts)
        for each in self._seeing["told"]:
            each.told(told)

    # --- scheduling ---

    def scheduling(self, message: Callable[[], Message | None]) -> AbstractContextManager[object]:
        """
        Return a context in which the tasks of *message* are scheduled. An observer calls *message* if it needs them;
        None: there are none.
        """
        for each in self._seeing["scheduling"]:
            during = each.scheduling(message)
            if during is not None:
                return during
        return _NOTHING

    def traceparent(self) -> str | None:
        """
        Return the W3C trace context that is stored with the tasks that are being scheduled; None: there is none.
        """
        made = producing.get()
        return None if made is None else made.traceparent()

    def scheduled(self, stored: Snapshot) -> None:
        """
        Report that a sequence was scheduled; *stored* is its document.
        """
        made = producing.get()
        if made is not None:
            made.scheduled(stored)

    def requested(self, event: str, about: About, message: str) -> None:
        """
        Report that a program has created, replaced or ended a once-task, or that a call has left it as it is.
        """
        self._tell(event, about, message)

    # --- Cloud Tasks ---

    def undispatched(self, about: About, message: str, level: int | None = None) -> None:
        """
        Report that the Cloud Task of a sequence could not be created.
        """
        self._tell("task.undispatched", about, message, level)

    def redispatched(self, about: About, message: str) -> None:
        """
        Report that the sweep has created the Cloud Task of a sequence again.
        """
        self._tell("task.redispatched", about, message)

    def left(self, about: About, message: str, level: int | None = None) -> None:
        """
        Report that the Cloud Task of a sequence is left to a process that may create it.
        """
        self._tell("task.left", about, message, level)

    # --- an attempt ---

    def granted(self, attempt: ObservedAttempt, before: Snapshot | None, *, current: bool, note: str = "") -> None:
        """
        Report that an attempt begins.

        Args:
            attempt: The attempt.
            before: Its document before the claim; None: its lease was taken over.
            current: Whether it is the only attempt of this thread.
            note: Text that is added to the line of the trail.
        """
        at = attempt.granted.granted_at
        known = None if at == SERVER_TIME else at
        self.trail.write("started", attempt.context, f"started{note}", granted_at=known)
        for each in self._seeing["granted"]:
            each.granted(attempt, before, current=current)

    def calling(self, attempt: ObservedAttempt, operation: str, name: str) -> AbstractContextManager[object]:
        """
        Return a context in which a function of the word *name* of a durable handler is called. *operation* is ``run``, or
        ``verify`` for the function that finds out whether a run has happened.
        """
        for each in self._seeing["calling"]:
            during = each.calling(attempt, operation, name)
            if during is not None:
                return during
        return _NOTHING

    def event_sent(self, about: About, message: str) -> None:
        """
        Report that an event for a durable handler was stored.
        """
        self._tell("event.sent", about, message)

    def never_started(self, context: LogContext, message: str) -> None:
        """
        Report that a lease was granted, or may have been granted, to an attempt that never begins.
        """
        self.trail.write("never-started", context, message, outcome=UNUSED)

    def returned(self, context: LogContext, outcome: str, settlement: str) -> None:
        """
        Report that user code has ended. *settlement* is the content of the settling commit as JSON text, or empty.
        """
        self.trail.write("returned", context, f"returned: {outcome}", outcome=outcome, settlement=settlement)

    def evidence_unwritten(self, context: LogContext, message: str) -> None:
        """
        Report that the commit of a settlement failed and its evidence could not be written to Cloud Logging either.
        """
        self._tell("evidence.unwritten", context, message)

    def settled(self, context: LogContext, outcome: Outcome | None) -> None:
        """
        Report that the settling commit of an attempt is applied.
        """
        self.trail.write("settled", context, f"settled: {outcome}", outcome=str(outcome))

    def raised(self, attempt: ObservedAttempt, error: BaseException) -> None:
        """
        Report that the handler of an attempt has raised *error*, or that the library has raised it in the attempt.
        """
        for each in self._seeing["raised"]:
            each.raised(attempt, error)

    def lease_lost(self, lost: Lost, told: Event) -> None:
        """
        Report that a holder learns that its lease is lost, unless *told* is set, because it has learnt that before.
        """
        if not told.is_set():
            for each in self._seeing["lease_lost"]:
                each.lease_lost(lost)

    def ended(
        self, attempt: ObservedAttempt, outcome: Outcome | None, reason: str, error: BaseException | None = None
    ) -> None:
        """
        Report that an attempt has ended; *outcome* is None if it is not known.
        """
        for each in self._seeing["ended"]:
            each.ended(attempt, outcome, reason, error)

    # --- deliveries ---

    def delivered(
        self, outcome: Outcome, about: About, reason: str, *, to: str, level: int | None = None, **facts: Any
    ) -> None:
        """
        Report the end of a delivery, or of a task that a worker has found or a batch has taken along.

        Args:
            outcome: Outcome of the delivery.
            about: The document and attempt of the delivery.
            reason: The reason of the outcome, as a sentence.
            to: Destination of the delivery; see ``destination``.
            level: Level of the log line; None: the level of ordinary decisions.
            **facts: More fields of that line.
        """
        for each in self._seeing["delivered"]:
            each.delivered(outcome, to)
        self._tell(f"delivery.{outcome}", about, reason, level, **facts)

    # --- leases and keys ---

    def taken_over(self, about: About, verdict: Verdict, outcome: Outcome | None) -> None:
        """
        Report that an expired lease was taken over by the *verdict* on its holder. *outcome* is None if the lease was
        granted again.
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
        Report that the holder of a resource key that others need was judged. *decision* is the takeover of its lease;
        None if there was none.
        """
        if decision is not None:
            self._take_over(verdict, decision.outcome)
        message = f"it has the resource key that others need: {verdict.finding}: {verdict.reason}"
        self._tell("key.contested", about, message, verdict=str(verdict.finding))

    def _take_over(self, verdict: Verdict, outcome: Outcome | None) -> None:
        for each in self._seeing["taken_over"]:
            each.taken_over(str(verdict.finding), outcome)

    def lock_taken(self, about: About, message: str) -> None:
        """
        Report that a named lock was granted whose last holder has not given it back.
        """
        self._tell("lease.taken_over", about, message, logging.WARNING)

    def freed_by_hand(self, about: About, message: str, by: str) -> None:
        """
        Report that a person has freed a named lock. *by* is the person.
        """
        self._tell("lock.freed", about, message, logging.INFO, by=by)

    def forgotten(self, about: About, message: str, by: str) -> None:
        """
        Report that a person has let a function run again for its key. *by* is the person.
        """
        self._tell("once.forgotten", about, message, logging.INFO, by=by)

    def key_handed_over(self, about: About, message: str) -> None:
        """
        Report that a resource key was given to a task that waited for it.
        """
        self._tell("key.handed_over", about, message)

    # --- records ---

    def damaged(self, about: About, message: str) -> None:
        """
        Report that a lock record can't be decoded.
        """
        self._tell("lock.damaged", about, message, logging.ERROR)

    def repaired(self, about: About, message: str) -> None:
        """
        Report that a person has had a damaged record written anew.
        """
        self._tell("lock.repaired", about, message, logging.WARNING)

    def refused_for_good(self, about: About, message: str, outcome: Outcome) -> None:
        """
        Report that Firestore has refused to write a record for good, and that the task was ended.
        """
        self._tell("task.refused", about, message, logging.ERROR, outcome=str(outcome))

    def person_needed(self, snapshot: Snapshot, name: str, reason: str) -> None:
        """
        Report that a person must be told of the document in *snapshot* at once, because its record can't store that.

        Args:
            snapshot: The document.
            name: Name of the event among those of the document.
            reason: The reason, as a sentence.
        """
        for each in self._seeing["person_needed"]:
            each.person_needed(snapshot, name, reason)
