"""
The facts of an event of the protocol, the interface of observers that see it, and the observer that logs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

from gcp_oncetask.observe.log_context import LOGGER, About, LogContext, log_decision
from gcp_oncetask.rules.decisions import Lost
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.task_headers import TaskHeaders
from gcp_oncetask.store.snapshot import Snapshot


class Message(NamedTuple):
    """
    Tasks that are about to be scheduled.

    Attributes:
        operation: Name of the call.
        destination: Destination of the tasks; see ``destination``.
        document: The document; None: it is not known yet.
        kind: Kind of the once-task; None: there is none.
        size: Number of tasks; None: this is one task.
    """

    operation: str
    destination: str
    document: str | None = None
    kind: str | None = None
    size: int | None = None


def destination(queue: str | None, kind: str | None) -> str:
    """
    Return the destination of a task: the id of its queue, or its kind if workers pull it.
    """
    return queue.rpartition("/")[2] if queue else kind or ""


class ObservedAttempt(Protocol):
    """
    The attempt of an event, as observers see it.
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
    An event in the form of a log line.

    Attributes:
        event: Name of the event.
        about: The document and attempt that it is about.
        message: The event as a sentence.
        level: Level of ``logging``; None: the level of ordinary decisions.
        facts: More fields.
    """

    event: str
    about: About
    message: str
    level: int | None
    facts: dict[str, Any]


class Producing(Protocol):
    """
    Tasks that are being scheduled, for the observer that has set ``producing`` meanwhile.
    """

    def traceparent(self) -> str | None:
        """
        Return the W3C trace context of the tasks; None if it is not known.
        """

    def scheduled(self, stored: Snapshot) -> None:
        """
        Take the event that a sequence was scheduled; *stored* is its document.
        """


producing: ContextVar[Producing | None] = ContextVar("oncetask_producing", default=None)
"""The tasks that are scheduled in this context, if an observer wants to know; it is set in the context of ``scheduling``."""


class Observer:
    """
    Sees events. A subclass overrides the methods of the events that it needs. No method raises or changes an outcome.
    """

    def told(self, told: Told) -> None:
        """
        Take an event that is reported to people.
        """

    def scheduling(self, message: Callable[[], Message | None]) -> AbstractContextManager[object] | None:
        """
        Take the event that the tasks of *message* are about to be scheduled. Return a context to enter meanwhile; None:
        it needs none. At most one observer returns a context.
        """

    def granted(self, attempt: ObservedAttempt, before: Snapshot | None, *, current: bool) -> None:
        """
        Take the event that an attempt begins. *before* is its document before the claim, None if its lease was taken
        over. *current* tells whether it is the only attempt of this thread.
        """

    def calling(self, attempt: ObservedAttempt, operation: str, name: str) -> AbstractContextManager[object] | None:
        """
        Take the event that a function of the word *name* of a durable handler is about to be called; *operation* is ``run``
        or ``verify``. Return a context to enter meanwhile; None: it needs none. At most one observer returns a context.
        """

    def raised(self, attempt: ObservedAttempt, error: BaseException) -> None:
        """
        Take the event that the handler of an attempt has raised *error*, or that the library has raised it in the attempt.
        """

    def ended(
        self, attempt: ObservedAttempt, outcome: Outcome | None, reason: str, error: BaseException | None
    ) -> None:
        """
        Take the event that an attempt has ended; *outcome* is None if it is not known.
        """

    def delivered(self, outcome: Outcome, to: str) -> None:
        """
        Take the event that a delivery for the destination *to* has ended.
        """

    def taken_over(self, finding: str, outcome: Outcome | None) -> None:
        """
        Take the event that an expired lease was taken over; *outcome* is None if the lease was granted again.
        """

    def lease_lost(self, lost: Lost) -> None:
        """
        Take the event that a holder has learnt that its lease is lost.
        """

    def person_needed(self, snapshot: Snapshot, name: str, reason: str) -> None:
        """
        Take the event that a person must be told of a document at once, because its record can't store that.
        """


class Log(Observer):
    """
    Logs each event.

    Args:
        level: Level of ordinary decisions.
    """

    def __init__(self, level: int) -> None:
        self._level = level

    def told(self, told: Told) -> None:
        level = self._level if told.level is None else told.level
        if LOGGER.isEnabledFor(level):
            context = told.about() if callable(told.about) else told.about
            text = told.message if context is None else f"{context}: {context.without(told.message)}"
            log_decision(LOGGER, level, told.event, context, text, **told.facts)
