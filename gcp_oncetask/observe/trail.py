"""
The evidence trail: the lines that an attempt leaves on standard output, by which recovery learns what became of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TextIO

from gcp_oncetask import forks
from gcp_oncetask.clock import Clock
from gcp_oncetask.observe.log_context import LOGGER, LogContext, quoted
from gcp_oncetask.rules.timestamps import instant_of


class Trail:
    """
    The lines by which recovery learns what became of an attempt, written past the user's logging set-up.

    Args:
        project: Finds the project id, for the trace.
        stream: Where; None: standard output as it is when a line is written.
        clock: Wall time.
    """

    def __init__(self, project: Callable[[], str | None], stream: TextIO | None, clock: Clock) -> None:
        self._project = project
        self._stream = stream
        self._clock = clock
        self._complained = False

    def write(self, event: str, context: LogContext, message: str, *, outcome: str = "", settlement: str = "") -> None:
        """
        Write one line. A stream that can't be written to is complained of once.

        Args:
            event: Its name.
            context: The attempt.
            message: In our own plain words: nothing in it is quoted.
            outcome: How the attempt ends, a name; empty: it does not yet.
            settlement: What its end writes, as JSON text; empty: it is not told.

        Shape:
            stdout: {severity, message, time, logging.googleapis.com/trace, oncetask: {event, document, sequence, step,
            attempt, token, holder, env, pid, parent, outcome, settlement}}
        """
        trace = ""
        if context.trace and (project := self._project()):
            trace = f',"logging.googleapis.com/trace":{quoted(f"projects/{project}/traces/{context.trace}")}'
        more = f',"outcome":"{outcome}"' if outcome else ""
        if settlement:
            more += f',"settlement":{quoted(settlement)}'
        # Put together from parts: what the three lines of an attempt have in common is encoded once.
        line = (
            f'{{"severity":"INFO","time":"{instant_of(self._clock.mark().wall)}",'
            f'"message":{context.said[:-1]}: {message}"{trace},'
            f'"oncetask":{{"event":"{event}",{context.members},"pid":"{forks.pid}","parent":"{forks.parent}"{more}}}}}\n'
        )
        stream = self._stream or sys.stdout
        try:
            # One write per line: lines of several threads do not mix.
            stream.write(line)
            stream.flush()
        except (OSError, ValueError, AttributeError) as error:
            # AttributeError: a process without standard output has None there.
            if not self._complained:
                self._complained = True
                LOGGER.warning(
                    "Evidence can't be written to %r (%s); if this process dies, its attempts are only taken over "
                    "after their time-outs. Keep standard output open.",
                    stream,
                    error,
                )

    @staticmethod
    def payload(event: str, context: LogContext, message: str, outcome: str, settlement: str) -> dict[str, Any]:
        """
        What a line of the trail says, to be written by another way.
        """
        own = {"event": event, **context.fields, "pid": str(forks.pid), "parent": str(forks.parent), "outcome": outcome}
        if settlement:
            own["settlement"] = settlement
        return {"message": f"{context}: {message}", "oncetask": own}
