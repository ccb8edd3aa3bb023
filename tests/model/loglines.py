"""
Lines of the log in the model.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from gcp_oncetask.rules.evidence import Line
from tests.model.documents import instant


class LogLine(NamedTuple):
    """
    One line about an attempt.

    Attributes:
        event: ``started``, ``returned``, ``never-started``, or ``crash``, which is the platform's.
        nonce: Nonce of the attempt.
        document: Path of its document.
        sequence: The sequence that it ran.
        token: Its token.
        tick: Time at which it was written.
        visible: Time from which it can be read.
        settlement: What the attempt was about to commit, as JSON.
    """

    event: str
    nonce: str
    document: str
    sequence: int
    token: int
    tick: int
    visible: int
    settlement: str = ""


@cache
def line_of(line: LogLine) -> Line:
    """
    Return the line as ``rules.evidence`` judges it.
    """
    crash = line.event == "crash"
    own: dict[str, Any] = {
        "event": line.event,
        "holder": line.nonce,
        "document": line.document,
        "sequence": str(line.sequence),
        "token": str(line.token),
        "pid": "1",
        "parent": "1",
        "outcome": "unused",
        "settlement": line.settlement,
    }
    return Line(
        at=instant(line.tick),
        log="system" if crash else "stdout",
        severity="INFO",
        text="Container terminated on signal 9." if crash else "",
        payload={} if crash else {"oncetask": own},
        trace=None,
        resource="cloud_run_revision/app/1",
        # Each attempt runs on an instance of its own, so a crash is the end of one attempt.
        instance=f"instance of {line.nonce}",
        status=None,
        url=None,
        latency=None,
        insert_id=f"{line.event} {line.nonce}",
    )
