"""
The words by which user code ends its attempt.
"""

from __future__ import annotations

from typing import Any

from gcp_oncetask.clock import Duration


class Verdict(Exception):  # noqa: N818 - a word of user code, not an error
    """
    How a handler wants its attempt to end; raised or returned.
    """


class Retry(Verdict):
    """
    The attempt failed; try again after *after* (seconds or a timedelta; None: by the policy, or the queue).
    """

    def __init__(self, reason: str = "", *, after: Duration | None = None) -> None:
        super().__init__(reason or "the handler asked for a retry")
        self.after = after


class Snooze(Verdict):
    """
    Not now: run the same step again after *delay* (seconds or a timedelta); no attempt is burned.
    """

    def __init__(self, delay: Duration) -> None:
        super().__init__("snoozed")
        self.delay = delay


class Fail(Verdict):
    """
    The task has failed for good; no other attempt follows.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class Continue(Verdict):
    """
    The step is done; the next one follows, at the same URL unless told otherwise; a once-task's with the payload *data*.
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
        self.url = url
        self.data = data
        self.delay = delay
        self.params = params
        self.queue = queue
