"""
The evidence trail: the lines that each attempt writes to standard output, from which recovery learns how it ended.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any, TextIO

from gcp_oncetask import forks
from gcp_oncetask.clock import Clock
from gcp_oncetask.observe.log_context import LOGGER, LogContext, quoted
from gcp_oncetask.rules.timestamps import instant


class Trail:
    """
    Writes the lines from which recovery learns how an attempt ended. They do not depend on the user's logging set-up.

    Args:
        project: Returns the project id, for the trace.
        stream: Stream for the lines; None: the standard output at the time of each line.
        clock: Tells the wall time.
    """

    def __init__(self, project: Callable[[], str | None], stream: TextIO | None, clock: Clock) -> None:
        self._project = project
        self._stream = stream
        self._clock = clock
        self._complained = False

    def write(
        self,
        event: str,
        context: LogContext,
        message: str,
        *,
        outcome: str = "",
        settlement: str = "",
        granted_at: datetime | None = None,
    ) -> None:
        """
        Write one line. If the stream can't be written to, log a warning once.

        Args:
            event: Name of the event.
            context: The attempt.
            message: Plain text of the library's own, which needs no escapes in JSON.
            outcome: Name of the attempt's outcome; empty: it has not ended yet.
            settlement: The settlement of the attempt, as JSON text; empty: it is left out.
            granted_at: Time of the grant, by the server's clock, with which the clock of this process can be compared;
                None: it is left out.

        Shape:
            stdout: {severity, message, time, logging.googleapis.com/trace, oncetask: {event, document, sequence, step,
            attempt, token, holder, env, pid, parent, outcome, settlement, grantedAt}}
        """
        trace = ""
        if context.trace and (project := self._project()):
            trace = f',"logging.googleapis.com/trace":{quoted(f"projects/{project}/traces/{context.trace}")}'
        more = f',"outcome":"{outcome}"' if outcome else ""
        if settlement:
            more += f',"settlement":{quoted(settlement)}'
        if granted_at is not None:
            more += f',"grantedAt":"{instant(granted_at)}"'
        # The line is put together from parts, so that the parts common to the three lines of an attempt are encoded
        # only once.
        line = (
            f'{{"severity":"INFO","time":"{instant(self._clock.now())}",'
            f'"message":{context.said}: {message}"{trace},'
            f'"oncetask":{{"event":"{event}",{context.members},"pid":"{forks.pid}","parent":"{forks.parent}"{more}}}}}\n'
        )
        stream = self._stream or sys.stdout
        try:
            # Each line is one write, so that lines of several threads do not mix.
            stream.write(line)
            stream.flush()
        except (OSError, ValueError, AttributeError) as error:
            # AttributeError: sys.stdout is None in a process without standard output.
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
        Return the fields of a line of the trail, which are written in another way.
        """
        own = {"event": event, **context.fields, "pid": str(forks.pid), "parent": str(forks.parent), "outcome": outcome}
        if settlement:
            own["settlement"] = settlement
        return {"message": f"{context}: {message}", "oncetask": own}
