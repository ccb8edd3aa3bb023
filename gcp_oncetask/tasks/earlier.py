"""
A task as another system has left it, and the record with which it begins here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gcp_oncetask import rules
from gcp_oncetask.rules.attention import reason_of
from gcp_oncetask.rules.decisions import DecisionContext, Put
from gcp_oncetask.rules.record import TERMINAL, Failure, Status
from gcp_oncetask.store.json_data import result

if TYPE_CHECKING:
    from gcp_oncetask.tasks.recurrence import Recurrence


@dataclass(frozen=True, slots=True)
class EarlierTask:
    """
    A task as another system has left it.

    Attributes:
        id: Id of the task; the id that its model computes does not count.
        resource_key: Its resource key; None: it needs none. A kind with ``max_running`` has keys of its own instead.
        wait_until: Earliest time of its run, or the time of a generator's next occurrence; None: at once.
        recurrence: The rule of a generator; None: the task is none.
        status: Scheduled, completed, failed or cancelled.
        cancelling: Whether a scheduled task was cancelled and its cancellation handler has not run.
        attempts: Attempts that have begun. They count, so a task that has used one of three has two left.
        errors: Its failed attempts, oldest first.
        result: Result of a completed task, as JSON data.
        created_at: Time of its creation; None: now.
        done_at: Time of its end; None: it has not ended.
        parent_id: Id of the generator of an occurrence; None: the task is none.
        occurrence_at: Nominal time of an occurrence.
    """

    id: str
    resource_key: str | None = None
    wait_until: datetime | None = None
    recurrence: Recurrence | None = None
    status: Status = Status.SCHEDULED
    cancelling: bool = False
    attempts: int = 0
    errors: tuple[Failure, ...] = ()
    result: Any = None
    created_at: datetime | None = None
    done_at: datetime | None = None
    parent_id: str | None = None
    occurrence_at: datetime | None = None

    @property
    def ended(self) -> bool:
        """
        True if the task must not run again.
        """
        return self.status in TERMINAL

    def fields(self) -> dict[str, Any]:
        """
        Return the fields that are stored beside the record, in place of those of a new task.
        """
        known = {
            "createdAt": self.created_at,
            "doneAt": self.done_at,
            "parentRecurrenceId": self.parent_id,
            "occurrenceAt": self.occurrence_at,
        }
        return {name: value for name, value in known.items() if value is not None}

    def record(self, put: Put, nonce: str, at: DecisionContext) -> Put:
        """
        Return the decision to create the task in its present state, in place of *put*, which creates it as a new one.

        A task that has ended owes no alert, and its failure needs no person, because the other system has told people about it.
        """
        fresh = put.lock
        lock = fresh.but(attempts=self.attempts, errors=self.errors)
        if self.cancelling:
            decided = rules.cancel(lock, at)
            assert isinstance(decided, Put)
            return decided
        if not self.ended:
            return put._replace(lock=lock)
        silent = lock.but(alert_on=(), settled_by=nonce, cleanup=False)
        match self.status:
            case Status.COMPLETED:
                ended = rules.complete(silent, result(self.result), at).lock
            case Status.FAILED:
                ended = rules.fail(silent, "it failed", at).lock
            case _:
                cancelled = rules.cancel(silent, at)
                assert isinstance(cancelled, Put)
                ended = cancelled.lock
        if reason_of(ended) is not None:
            dismissed = rules.dismiss(ended, at)
            assert isinstance(dismissed, Put)
            ended = dismissed.lock
        return Put(ended.but(errors=self.errors, alert_on=fresh.alert_on, cleanup=fresh.cleanup))
