"""
How much longer things take on a machine that is busy with something else.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


def patient(seconds: float) -> float:
    """
    *seconds* of a quiet machine, on this one: a limit for what hangs, never a measure of speed.
    """
    return seconds * slowness()


def until(true: Callable[[], Any]) -> None:
    """
    Let other threads go on until *true*, where no event tells of it.

    Raises:
        AssertionError: It did not come true in time.
    """
    for _ in range(round(min(60, patient(10)) * 100)):
        if true():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came true")


def slowness() -> float:
    """
    How many processes share a core, now or in the last minute; from 1 to 20. More of them are threads that a test has left.
    """
    try:
        last_minute, _, _, running, _ = Path("/proc/loadavg").read_text().split()
    except OSError:
        return 1.0
    share = max(float(last_minute), float(running.split("/")[0])) / len(os.sched_getaffinity(0))
    return min(20.0, max(1.0, share))
