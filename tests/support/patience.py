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
    How many processes share a core, now or in the last minute; at least 1.
    """
    try:
        last_minute, _, _, running, _ = Path("/proc/loadavg").read_text().split()
    except OSError:
        return 1.0
    return max(1.0, max(float(last_minute), float(running.split("/")[0])) / len(os.sched_getaffinity(0)))
