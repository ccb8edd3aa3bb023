"""
The words by which user code ends its attempt.
"""

from __future__ import annotations

from typing import Any

from gcp_oncetask.checks import urls, values
from gcp_oncetask.checks.values import Duration


class HandlerResult(Exception):  # noqa: N818 - a word of user code, not an error
    """
    How a handler wants its attempt to end; raised or returned.
    """


class Retry(HandlerResult):
    """
    The attempt failed; try again after *after* (seconds or a timedelta; None: by the policy, or the queue).

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
    Not now: run the same step again after *delay* (seconds or a timedelta); no attempt is burned.

    Raises:
        UsageError: *delay* is negative, not finite, or longer than a century.
    """

    def __init__(self, delay: Duration) -> None:
        super().__init__("snoozed")
        values.seconds(delay, "delay")
        self.delay = delay


class Fail(HandlerResult):
    """
    The task has failed for good; no other attempt follows.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class Continue(HandlerResult):
    """
    The step is done; the next one follows, at the same URL unless told otherwise; a once-task's with the payload *data*.

    Raises:
        UsageError: The URL, the delay or the queue can't be.
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
