"""
The words of a durable handler that neither call nor wait. They return values, and facts of the journal.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from gcp_oncetask.errors import UsageError
from gcp_oncetask.execution import suspending
from gcp_oncetask.execution.held_lease import HeldLease
from gcp_oncetask.execution.journaling import journal_of
from gcp_oncetask.execution.running import RunningAttempt


class ValueWords:
    """
    The words that return at once.
    """

    def __init__(self, running: HeldLease) -> None:
        self._running = running

    def key_of(self, name: str) -> str:
        """
        Return the idempotency key of the run *name*; it is as stable as ``key``.
        """
        return journal_of(running_of(self)).key_of(name)

    def now(self, name: str) -> datetime:
        """
        Return the time at which this word was first reached, by the wall clock in UTC.
        """
        running = running_of(self)
        found: datetime = suspending.value(journal_of(running), name, running.runtime.clock.now)
        return found

    def random(self, name: str) -> float:
        """
        Return a random number in [0, 1), the same in every attempt.
        """
        running = running_of(self)
        found: float = suspending.value(journal_of(running), name, running.runtime.clock.random)
        return found

    def uuid(self, name: str) -> UUID:
        """
        Return a random UUID, the same in every attempt.
        """
        journal = journal_of(running_of(self))
        found: UUID = suspending.value(journal, name, lambda: suspending.uuid_of(journal))
        return found

    def result_of(self, name: str, model: Any = None) -> Any:
        """
        Return the answer of the word *name* in the journal; None if there is none. It says no word itself, so the handler of
        cancelled tasks reads by it how far the task has come.

        Args:
            name: Name of a run, an event, a time or another value.
            model: Model or type by which the answer is read; None: as it was kept.

        Raises:
            UsageError: The model can't read the answer.
        """
        return suspending.result_of(journal_of(running_of(self)), name, model)

    @property
    def replaying(self) -> bool:
        """
        True while every word so far had its answer in the journal, so that the code between them has run before.
        """
        return journal_of(running_of(self)).replaying

    def progress(self, value: Any) -> None:
        """
        Leave a word about the progress, JSON data of at most 1,000 characters, for ``get_task``, the console and the command
        line. It is written with the next commit.

        Raises:
            UsageError: The value is no JSON data, or too long.
        """
        suspending.say(journal_of(running_of(self)), value)


def running_of(attempt: ValueWords) -> RunningAttempt:
    """
    Return the library's own object of *attempt*.

    Raises:
        UsageError: The attempt belongs to a function that runs once.
    """
    found = attempt._running  # noqa: SLF001 - hidden from users only
    if not isinstance(found, RunningAttempt):
        raise UsageError("A function that runs once has no transaction of its attempt; open one of your own.")
    return found
