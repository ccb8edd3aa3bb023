"""
``--watch``: show a list again and again. After a failed read, the last rows stay, with their age.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from typing import Final

from gcp_oncetask.checks import values
from gcp_oncetask.cli import tables
from gcp_oncetask.cli.stopping import stoppable
from gcp_oncetask.cli.tables import ShownTimes, span
from gcp_oncetask.clock import at_least
from gcp_oncetask.errors import OncetaskError, UsageError
from gcp_oncetask.runtime.runtime import Runtime

_EVERY: Final = timedelta(seconds=5)
_FAILURES: Final = 3
"""Failed reads in a row after which the list ends."""
_CLEAR: Final = "\x1b[H\x1b[2J"


def watch(
    runtime: Runtime, read: Callable[[], tuple[list[str], datetime]], every: timedelta | None, zone: tzinfo | None
) -> int:
    """
    Print the lines of *read* again and again, until Ctrl-C. On a terminal, each view replaces the one before.

    Args:
        runtime: Shared parts.
        read: Returns the lines, and the server's time of the read.
        every: Time between two reads, 2 to 60 seconds; None: 5 seconds.
        zone: Zone of the times.

    Returns:
        Exit code: 0 a person has stopped it, or the reader has closed the pipe; 1 three reads in a row have failed. The first
        failure is told.

    Raises:
        UsageError: The search is refused, or *every* is out of its range.
        OncetaskError: The first read has failed.
    """
    pause = values.seconds(_EVERY if every is None else every, "--every", least=2, most=60)
    clock = runtime.clock
    with stoppable() as stop:
        lines, at = read()
        last, failures = clock.mark(), 0
        while True:
            if not failures:
                head = f"Read at {ShownTimes(at, zone).clock(at)}, every {pause:g} s. Ctrl-C ends it."
                if not tables.out([f"{_CLEAR if sys.stdout.isatty() else ''}{head}", *lines]):
                    return 0
            if clock.wait(stop, pause):
                return 0
            try:
                lines, at = read()
            except UsageError:
                raise
            except OncetaskError as error:
                failures += 1
                if failures == 1:
                    tables.aside(f"The list can't be read: {error}")
                age = timedelta(seconds=at_least(last, clock.mark()))
                end = "" if failures < _FAILURES else f" The list ends after {failures} failed reads."
                tables.aside(f"The rows above are {span(age)} old.{end}")
                if end:
                    return 1
            else:
                last, failures = clock.mark(), 0
