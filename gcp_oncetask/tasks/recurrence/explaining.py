"""
Describe the next runs of a recurrence in words, with notes where the clocks change.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from gcp_oncetask.errors import RecurrenceError
from gcp_oncetask.tasks.recurrence.value import Recurrence
from gcp_oncetask.tasks.recurrence.zones import Candidate, Fit, require_aware

MAX_IDLE: Final = 1_000
"""The list ends after so many lines without a run."""


def explain(recurrence: Recurrence, n: int = 10, after: datetime | None = None) -> list[str]:
    """
    Describe the next *n* runs, one line each, with lines between them for the runs that do not take place.

    Args:
        recurrence: The recurrence.
        n: Number of runs; lines for skipped and excluded ones come in addition.
        after: Runs strictly after this instant; None begins with the first.

    Returns:
        Lines like ``2026-03-28 02:30:00 CET (2026-03-28T01:30:00Z)``; a recurrence that ends says so in the last one. Runs
        that one change of the clocks leaves out have at most ten lines. After ``MAX_IDLE`` lines that are no runs, the list
        ends.

    Raises:
        RecurrenceError: The instant is naive, or *n* is less than 1.
    """
    if n < 1:
        raise RecurrenceError(f"n is {n}; it is a number of runs, 1 at least.", field="n")
    if after is not None:
        after = require_aware(after, "after")
    floor = after or recurrence.first()
    assert floor is not None
    lines: list[str] = []
    runs = 0
    for found in recurrence.schedule.candidates(floor):
        if runs == n:
            return lines
        if len(lines) - runs >= MAX_IDLE:
            return [*lines, f"and so on: of the runs so far, {MAX_IDLE} did not take place"]
        if found.fit is Fit.SKIPPED:
            lines.append(f"{found.wall}: {found.wall:%H:%M} does not exist on this day (clocks go forward): no run")
        elif after is not None and found.instant <= after:
            continue
        elif found.instant in recurrence.schedule.excluded:
            lines.append(f"{_line(recurrence, found)}: excluded by EXDATE: no run")
        else:
            runs += 1
            lines.append(_line(recurrence, found) + _decision(recurrence, found))
    return lines if runs == n else [*lines, "then it ends" if runs else "it has ended"]


def _line(recurrence: Recurrence, found: Candidate) -> str:
    return f"{recurrence.local(found.instant):%Y-%m-%d %H:%M:%S %Z} ({found.instant:%Y-%m-%dT%H:%M:%SZ})"


def _decision(recurrence: Recurrence, found: Candidate) -> str:
    there = recurrence.local(found.instant)
    match found.fit:
        case Fit.MOVED:
            return f": {found.wall:%H:%M} does not exist on this day (clocks go forward): runs at {there:%H:%M %Z}"
        case Fit.FIRST:
            return f": {found.wall:%H:%M} happens twice (clocks go back): the first, {there:%Z}"
        case Fit.SECOND:
            return f": {found.wall:%H:%M} happens twice (clocks go back): the second, {there:%Z}"
        case _:
            return ""
