"""
One line for each failed delivery, so that a developer sees them; of a burst only some.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from gcp_emulator.clock import Clock
from gcp_emulator.tasks import DispatchRecord

_WINDOW = 1_000_000


class FailureLines:
    """
    Says what failed, and when the queue tries again: at most *most* lines a second, then how many were left out.
    """

    def __init__(self, say: Callable[[str], object], clock: Clock, most: int = 5) -> None:
        self._say = say
        self._clock = clock
        self._most = most
        self._lock = threading.Lock()
        self._since = 0
        self._said = 0
        self._left = 0
        self._timer: threading.Timer | None = None

    def __call__(self, record: DispatchRecord, next_due: int | None) -> None:
        """
        Tell of a failed attempt.

        Args:
            record: The dispatch.
            next_due: When the next attempt is due, in micros since the epoch; None: there will be none.
        """
        now = self._clock.micros()
        with self._lock:
            if now - self._since >= _WINDOW:
                self._tell_left()
                self._since, self._said = now, 0
            if self._said >= self._most:
                self._left += 1
                if self._timer is None:
                    self._timer = threading.Timer((self._since + _WINDOW - now) / 1_000_000, self.flush)
                    self._timer.daemon = True
                    self._timer.start()
                return
            self._said += 1
            self._say(line(record, next_due))

    def flush(self) -> None:
        """
        Tell how many lines were left out, if any were.
        """
        with self._lock:
            self._tell_left()

    def _tell_left(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._left:
            self._say(f"{'failed':<10} {self._left} more {'delivery' if self._left == 1 else 'deliveries'}")
            self._left = 0


def line(record: DispatchRecord, next_due: int | None) -> str:
    """
    The line about a failed attempt.
    """
    queue = record.queue.rpartition("/")[2]
    task = record.task.rpartition("/")[2]
    if record.status is not None:
        why = f"HTTP {record.status} from {record.url}"
    else:
        why = record.body.decode(errors="replace").rstrip(".") or "no answer"
    if next_due is None:
        then = "there will be no other attempt"
    else:
        then = f"again in {max(0, next_due - record.finished) / 1_000_000:.4g} s"
    text = f"{'failed':<10} {queue}/{task}: {why}; attempt {record.retry_count + 1}, {then}"
    return "".join(each if each.isprintable() else "?" for each in text)
