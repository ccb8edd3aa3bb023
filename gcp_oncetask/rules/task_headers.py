"""
The headers that Cloud Tasks adds to a delivery.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple


class TaskHeaders(NamedTuple):
    """
    Facts about a delivery from Cloud Tasks' headers: information, never identity.

    Attributes:
        queue: Id of the queue.
        task: Id of the task.
        retry_count: Number of tries before this one, with any result.
        execution_count: Number of answers before this one, 5xx not counted.
        eta: Planned time of the delivery.
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
        Read a request's headers by name. A missing or invalid header gives the default.
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
    Return the count that *text* is, in ASCII digits, below a thousand million; None if it is no count.
    """
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None


def _eta(text: str) -> datetime | None:
    try:
        return datetime.fromtimestamp(float(text), UTC)
    except (ValueError, OverflowError, OSError):
        return None
