"""
The headers that Cloud Tasks adds to a delivery.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple


class TaskHeaders(NamedTuple):
    """
    What Cloud Tasks says about a delivery: information, never identity.

    Attributes:
        queue: Id of the queue.
        task: Id of the task.
        retry_count: Tries before this one, whatever became of them.
        execution_count: Answers before this one, 5xx not counted.
        eta: When it was to be delivered.
        previous_response: HTTP status of the try before; 504 after a deadline.
    """

    queue: str = ""
    task: str = ""
    retry_count: int = 0
    execution_count: int = 0
    eta: datetime | None = None
    previous_response: int | None = None

    @classmethod
    def of(cls, header: Callable[[str], str | None]) -> TaskHeaders:
        """
        Read a request's headers by name, tolerantly: what is missing or odd is left at its default.
        """
        eta = header("X-CloudTasks-TaskETA")
        return cls(
            queue=header("X-CloudTasks-QueueName") or "",
            task=header("X-CloudTasks-TaskName") or "",
            retry_count=count(header("X-CloudTasks-TaskRetryCount")) or 0,
            execution_count=count(header("X-CloudTasks-TaskExecutionCount")) or 0,
            eta=_eta(eta) if eta else None,
            previous_response=count(header("X-CloudTasks-TaskPreviousResponse")) or None,
        )


def count(text: str | None) -> int | None:
    """
    The count that *text* is, in ASCII digits, below a thousand million; None: it is none.
    """
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None


def _eta(text: str) -> datetime | None:
    try:
        return datetime.fromtimestamp(float(text), UTC)
    except (ValueError, OverflowError, OSError):
        return None
