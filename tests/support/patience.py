"""
How much longer things take on a machine that is busy with something else.
"""

from __future__ import annotations

import os
from pathlib import Path


def patient(seconds: float) -> float:
    """
    *seconds* of a quiet machine, on this one: a limit for what hangs, never a measure of speed.
    """
    return seconds * slowness()


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
