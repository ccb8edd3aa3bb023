"""
The verdicts by which user code ends its attempt.
"""

from __future__ import annotations

from typing import Any, Final

from gcp_oncetask.checks import urls, values
from gcp_oncetask.checks.values import Duration


class HandlerResult(Exception):  # noqa: N818 - a verdict of user code, not an error
    """
    A verdict of a handler on its attempt; it may be raised or returned.
    """


class Retry(HandlerResult):
    """
    The verdict that the attempt failed and another one follows after *after*: seconds or a timedelta; None: the retry
    policy or the queue decides.

    Raises:
        UsageError: *after* is negative, not finite, or longer than a century.
    """

    def __init__(self, reason: str = "", *, after: Duration | None = None) -> None:
        super().__init__(reason or "the handler asked for a retry")
        if after is not None:
            values.seconds(after, "after")
        self.after = after


class Snooze(HandlerResult):
    """
    The verdict that the same step runs again after *delay*, seconds or a timedelta. No attempt is burned.

    Raises:
        UsageError: *delay* is negative, not finite, or longer than a century.
    """

    def __init__(self, delay: Duration) -> None:
        super().__init__("snoozed")
        values.seconds(delay, "delay")
        self.delay = delay


class Fail(HandlerResult):
    """
    The verdict that the task has failed for good; no other attempt follows.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class Continue(HandlerResult):
    """
    The verdict that the step is done and the next one follows, at the same URL unless *url* is given. The next step of
    a once-task has the payload *data*.

    Raises:
        UsageError: The URL, the delay or the queue is invalid.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        data: Any = None,
        delay: Duration | None = None,
        params: Any = None,
        queue: str | None = None,
    ) -> None:
        super().__init__("continued")
        if url is not None:
            urls.target(url, "url")
        if delay is not None:
            values.seconds(delay, "delay")
        if queue is not None:
            values.queue(queue, "queue")
        self.url = url
        self.data = data
        self.delay = delay
        self.params = params
        self.queue = queue


class Suspended(BaseException):
    """
    Ends the request of a durable handler that waits; the handler runs again when its wait has ended. It is no ``Exception``,
    so that an ``except Exception`` does not hold it up. Each later word of the attempt raises it again.
    """


class CancelledByRequest(BaseException):
    """
    Tells a durable handler that its cancellation was requested: the next new word raises it, once. The words after it work,
    so that an ``except CancelledByRequest`` may compensate. The task ends cancelled, however the handler ends.
    """


class NotDone(Exception):  # noqa: N818 - a verdict of a run
    """
    The verdict of a run with ``once=True`` that the outside effect surely did not happen.
    """


class _NotDoneAnswer:
    """
    The type of ``NOT_DONE``.
    """

    def __repr__(self) -> str:
        return "NOT_DONE"


NOT_DONE: Final = _NotDoneAnswer()
"""Answer of ``verify``: the outside effect surely did not happen."""
