"""
Ctrl-C: a command that does many things ends after the present one.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gcp_oncetask.clock import Wakeup

INTERRUPTED = 130
"""Exit code of a command that a person has stopped."""


class Interrupt(Wakeup):
    """
    An event that a signal handler sets.
    """

    def __init__(self) -> None:
        super().__init__()
        self.came = False

    def is_set(self) -> bool:
        return self.came or super().is_set()


@contextmanager
def stoppable() -> Iterator[Wakeup]:
    """
    Yield an event that Ctrl-C sets meanwhile. A second Ctrl-C interrupts at once.
    """
    stop = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def on_signal(_number: int, _frame: Any) -> None:
        signal.signal(signal.SIGINT, before)
        stop.came = True
        # The signal may have interrupted this thread while it held the lock of the event, so another thread wakes it.
        threading.Thread(target=stop.set, daemon=True).start()

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
