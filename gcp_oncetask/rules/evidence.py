"""
Judge the holder of an expired lease by log lines. Pure. A missing line means "unknown", never "not done".

The same logs have lines of user code, so a line counts by its origin. The holder's own lines are recognised by log and
nonce; the platform's by log, resource and instance, if the whole text has the platform's form; the web server's in the same
way, with the pids of the holder and of its parent.

A line may become visible as late as a log grace after it was written, and lines come in any order. So a verdict that rests
on a missing line is given only a log grace after the last instant at which the holder could have written that line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

from gcp_oncetask.rules.delivery import path_digest
from gcp_oncetask.rules.timestamps import instant

MAX_EVIDENCE: Final = 5
MAX_LINE: Final = 300
EVENTS: Final = ("started", "returned", "settled", "never-started")
"""Events of an attempt's own lines on which a verdict may rest."""
UNUSED: Final = "unused"
"""
Outcome of a claim that was never used. Older releases name no outcome, and also write "never-started" for attempts whose
last commit was lost.
"""
RUN_TYPES: Final = ("cloud_run_revision", "cloud_run_worker_pool", "cloud_run_job")
"""Types of resources for which the platform logs instances and their ends."""
OWN_LOGS: Final = ("stdout", "oncetask")
"""Logs that have the lines of an attempt: written by its process, or through the API."""
CRASH_TEXTS: Final = (
    "Container called exit(",
    "Container terminated on signal ",
    "Memory limit of ",
    "While handling this request, the container instance was found to be using too much memory",
    "Uncaught signal: ",
)
"""Beginnings of the platform's lines about the end of an instance or a process."""
_CRASH: Final = re.compile(
    r"Container called exit\(\d+\)\.|Container terminated on signal \d+\.|"
    r"Memory limit of [\d.]+ ?\w+ exceeded with [\d.]+ ?\w+ used\..*|"
    r"While handling this request, the container instance was found to be using too much memory and was terminated\..*|"
    r"Uncaught signal: \d+, pid=(\d+), .*",
    re.ASCII,
)
WORKER_LINES: Final = "^.[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8} .[0-9]{4}. .[0-9]+. .[A-Z]+. (WORKER TIMEOUT|Worker) "
"""Beginning of gunicorn's lines that may tell of the end of a worker; an RE2 expression without a backslash."""
_WORKER: Final = re.compile(
    r"\[(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4})\] \[(?P<by>\d+)\] \[[A-Z]+\] "
    r"(?:WORKER TIMEOUT \(pid:(\d+)\)|Worker \(pid:(\d+)\) exited with code \d+\.?|"
    r"Worker \(pid:(\d+)\) was sent (?:SIG\w+|signal \d+)!(?: Perhaps out of memory\?)?|"
    r"Worker with pid (\d+) was terminated due to signal \d+)",
    re.ASCII,
)
_STAMPED: Final = timedelta(seconds=60)
"""
A line of gunicorn has the time at which it was written. If that is earlier than the log entry by more than this, the line
is a quotation in user code.
"""
_SLACK: Final = timedelta(seconds=5)
"""The platform's clock may be this far behind the server's."""
_STILL_RUNNING: Final = frozenset({None, 0, 499, 504})
"""Statuses of a request that was given up from outside: its code is not notified and goes on."""
_TURNED_AWAY: Final = frozenset({401, 403})
"""Statuses of refused callers; a holder's request never has one."""
_NEVER_STARTED: Final = "Its claim was never used: no code of the task was run."
_RUNNING_SINCE: Final = "It renewed its lease after that: its code may still be running."


@dataclass(frozen=True, slots=True)
class Line:
    """
    A log entry, reduced to the fields on which a verdict may rest.

    Attributes:
        at: Its timestamp; for a request log entry, the time at which the request began.
        log: ``stdout``, ``stderr``, ``requests``, ``system`` are the platform's logs, ``oncetask`` is the library's; else
            ``other ...``.
        severity: Name of the severity.
        text: Text payload, or the message.
        payload: JSON payload.
        trace: Trace id.
        resource: Resource of the entry, if its type is one of ``RUN_TYPES``: type, name and revision; else empty.
        instance: The platform's label of the instance.
        status: HTTP status (request log).
        url: URL with query (request log).
        latency: Seconds the request took (request log).
        insert_id: Id by which a line that was written twice is recognised.
        received: Time at which Cloud Logging got it, by the server's clock; None: not known.
    """

    at: datetime
    log: str
    severity: str
    text: str
    payload: dict[str, Any]
    trace: str | None
    resource: str
    instance: str | None
    status: int | None
    url: str | None
    latency: float | None
    insert_id: str
    received: datetime | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """
    The holder of an expired lease.

    Attributes:
        document: Path of its document.
        sequence: The sequence that it ran.
        token: Its fencing token.
        nonce: Nonce by which its lines are recognised.
        trace: Trace id of its request; None: it had none.
        granted_at: Time of the grant, by the server's clock.
        renewed_at: Time of the last renewal, at which the holder was alive; None: as ``granted_at``.
        expired_at: End of the lease; None: as ``granted_at``.
    """

    document: str
    sequence: int
    token: int
    nonce: str
    trace: str | None
    granted_at: datetime
    renewed_at: datetime | None = None
    expired_at: datetime | None = None

    @property
    def alive_at(self) -> datetime:
        """
        Last instant at which the holder is known to have been alive.
        """
        return max(self.granted_at, self.renewed_at or self.granted_at)

    @property
    def lease_end(self) -> datetime:
        """
        End of its lease; the holder writes no end line after that. Later if the lease was renewed beyond the run limit.
        """
        return max(self.alive_at, self.expired_at or self.granted_at)


class LineOrigin(NamedTuple):
    """
    The place where a holder runs, by its own lines.

    Attributes:
        resource: Resource, as in ``Line.resource``.
        instance: The platform's label of the instance.
        pid: Id of its process.
        parent: Id of its parent process, the web server's main process; None: an older release has not logged it.
    """

    resource: str
    instance: str
    pid: int
    parent: int | None


class Finding(StrEnum):
    """
    The end of an attempt, as far as the logs show it."""

    RECORDED = "recorded"
    """The attempt had finished, and logged all that it was about to write."""
    FINISHED = "finished"
    """The attempt had finished, but the logs do not have all that it was about to write."""
    DIED = "died"
    """The process or request ended before the attempt did."""
    NEVER_STARTED = "never-started"
    """The lease was never used."""
    UNKNOWN = "unknown"
    """Nothing is known."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    A finding, with its evidence.

    Attributes:
        finding: The finding.
        reason: The same in a sentence, for a person.
        settlement: The settlement that the holder was about to commit; None: not known.
        evidence: The lines on which it rests, limited in number and length.
    """

    finding: Finding
    reason: str
    settlement: dict[str, Any] | None
    evidence: tuple[str, ...]


def judge(holder: Holder, lines: Sequence[Line], *, now: datetime, log_grace: timedelta) -> Verdict:
    """
    Judge *holder* by *lines* (those of others may be among them).

    Args:
        holder: The holder of the expired lease.
        lines: The lines that the logs have shown so far, in any order.
        now: Server time at which the logs were asked.
        log_grace: Longest time until a line becomes visible.

    Returns:
        The verdict by the first that applies: its own end line, its own line that it never started, a crash of its process,
        the end of its request, nothing. A verdict that rests on a missing line is "unknown" until that line would be
        visible.
    """
    by_event = _own(holder, lines)
    returned = by_event["returned"]
    settlement = _settlement(returned[-1].payload["oncetask"].get("settlement")) if returned else None
    if settlement is not None:
        return _recorded(returned[-1], settlement, by_event["settled"])
    found = _found(holder, by_event, lines)
    if found.over is None or now >= found.over + log_grace:
        return Verdict(found.finding, found.reason, None, found.evidence)
    reason = f"{found.reason} Lines of its own may still come, until {instant(found.over + log_grace)}."
    return Verdict(Finding.UNKNOWN, reason, None, found.evidence)


def has_ended(holder: Holder, lines: Sequence[Line]) -> bool:
    """
    Tell whether the holder's own *lines* show its end, so that the platform's lines make no difference.
    """
    by_event = _own(holder, lines)
    return bool(by_event["returned"] or by_event["settled"] or (by_event["never-started"] and not by_event["started"]))


def origin(holder: Holder, lines: Sequence[Line]) -> LineOrigin | None:
    """
    Return the place where the holder runs, by its own *lines*; None if they don't show it, or if one of them is a copy from
    another place.
    """
    found = {
        (line.resource, line.instance, _number(own.get("pid")), _number(own.get("parent")))
        for line in _own(holder, lines)["started"]
        if (own := line.payload["oncetask"])
    }
    resource, instance, pid, parent = found.pop() if len(found) == 1 else ("", None, None, None)
    return LineOrigin(resource, instance, pid, parent) if resource and instance and pid is not None else None


def _own(holder: Holder, lines: Sequence[Line]) -> dict[str, list[Line]]:
    own = sorted((line for line in lines if _is_own(holder, line)), key=lambda line: line.at)
    return {event: [line for line in own if _event(line) == event] for event in EVENTS}


class _Facts(NamedTuple):
    """
    The verdict by the present lines, if no other line comes.

    Attributes:
        finding: The finding.
        reason: The same in a sentence.
        evidence: The lines on which it rests.
        over: The holder has written no line of its own after this instant; None: such lines do not matter.
    """

    finding: Finding
    reason: str
    evidence: tuple[str, ...]
    over: datetime | None = None


def _found(holder: Holder, by_event: Mapping[str, Sequence[Line]], lines: Sequence[Line]) -> _Facts:
    started, unused = by_event["started"], by_event["never-started"]
    # 1. Its own lines. The settlement may be in another end line, because an attempt may announce two.
    ends = [*by_event["returned"][-1:], *by_event["settled"][-1:]]
    if ends:
        reason = "It had finished, but what it was about to write is not in its log."
        return _Facts(Finding.FINISHED, reason, _shown(ends), holder.lease_end)
    if unused and not started:
        over = None
        if all(line.payload["oncetask"].get("outcome") != UNUSED for line in unused):
            # Its time is from the clock of its process, which may be wrong.
            over = min(max(unused[-1].at, holder.granted_at), holder.lease_end)
        return _Facts(Finding.NEVER_STARTED, _NEVER_STARTED, _shown(unused), over)
    # 2. Its process, then its request.
    place = origin(holder, started)
    crash = None if place is None else _crash(holder, place, started, lines)
    if crash is not None:
        evidence = _shown([*started, crash])
        over = _over(holder, crash.at, surely=True)
        return _Facts(Finding.DIED, f"Its process ended: {crash.text[:200]}", evidence, over)
    requests = [line for line in lines if _is_request(holder, place, line)]
    if requests:
        return _by_request(holder, requests, started)
    # 3. Nothing.
    if started:
        return _Facts(Finding.UNKNOWN, "It has started; nothing is known of its end.", _shown(started))
    return _Facts(Finding.UNKNOWN, "The logs know nothing of it (yet).", ())


def _recorded(returned: Line, settlement: dict[str, Any], settled: Sequence[Line]) -> Verdict:
    # An attempt may announce an end whose commit fails, and then another one; the last one counts.
    outcome = returned.payload["oncetask"].get("outcome", "no outcome named")
    reason = f"It had finished ({outcome}); what it was about to write is in its log."
    return Verdict(Finding.RECORDED, reason, settlement, _shown([returned, *settled[-1:]]))


def _settlement(text: Any) -> dict[str, Any] | None:
    # Only a text counts, because Cloud Logging makes floats of the numbers in a map.
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _by_request(holder: Holder, requests: Sequence[Line], started: Sequence[Line]) -> _Facts:
    evidence = _shown([*started, *requests])
    statuses = {line.status for line in requests}
    cut = statuses & _STILL_RUNNING
    if cut:
        said = ", ".join(sorted(f"HTTP {status}" if status else "no status" for status in cut))
        reason = f"Its request was cut off ({said}); its code may still be running."
        return _Facts(Finding.UNKNOWN, reason, evidence)
    end = max(_end(line) for line in requests)
    # The status of an answer only shows that the request is over; a 2xx never means that the task succeeded.
    reason = f"Its request ended with HTTP {max(status for status in statuses if status)}, and no end line of its own."
    if end + _SLACK < holder.alive_at:
        return _Facts(Finding.UNKNOWN, f"{reason} {_RUNNING_SINCE}", evidence)
    named = any(_names(line.url) for line in requests)
    return _Facts(Finding.DIED, reason, evidence, _over(holder, end, surely=named))


def _over(holder: Holder, at: datetime, *, surely: bool) -> datetime:
    """
    Return the instant by which the holder has surely written all of its lines, if a process or request ended *at* an
    instant. *surely* tells that it was the holder's; else it may have been.
    """
    return at if surely and at >= holder.alive_at else max(at, holder.lease_end)


def _crash(holder: Holder, place: LineOrigin, started: Sequence[Line], lines: Sequence[Line]) -> Line | None:
    """
    Return the first line that tells of the end of the holder's process, or None. Lines from before its start or before the
    last renewal do not count, because an instance, and a pid on it, may be used again.
    """
    since = max(*(line.at for line in started), holder.alive_at - _SLACK)
    for line in sorted(lines, key=lambda line: line.at):
        # The text of a JSON line comes from the program.
        if line.at >= since and not line.payload and (line.resource, line.instance) == place[:2]:
            text = line.text.rstrip()
            if line.log == "system" and _tells_of_crash(place, text):
                return line
            if line.log == "stderr" and _tells_of_worker(place, text, line.at):
                return line
    return None


def _tells_of_crash(place: LineOrigin, text: str) -> bool:
    said = _CRASH.fullmatch(text)
    return said is not None and said[1] in (None, str(place.pid))


def _tells_of_worker(place: LineOrigin, text: str, at: datetime) -> bool:
    """
    Tell whether a line of the web server's main process says that the worker has ended. A worker writes texts of user code
    in the same form, but under its own pid.
    """
    said = _WORKER.fullmatch(text)
    if said is None or str(place.pid) not in said.groups()[2:]:
        return False
    by = int(said["by"])
    if by == place.pid or by != (by if place.parent is None else place.parent):
        return False
    try:
        return abs(datetime.strptime(said["at"], "%Y-%m-%d %H:%M:%S %z") - at) <= _STAMPED
    except (ValueError, OverflowError):
        return False


def _is_request(holder: Holder, place: LineOrigin | None, line: Line) -> bool:
    """
    Tell whether *line* is the request log's entry of the request that got the lease.

    A trace may be shared by the request that scheduled the task, by requests of its code and by copies of the delivery. The
    right one was running when the lease was granted, and ran on the holder's instance. Where that is unknown, the entry may
    be that of a service that passes deliveries on, and that has answered while the holder still runs.
    """
    if line.log != "requests" or not holder.trace or line.trace != holder.trace:
        return False
    if not line.resource or not line.instance or line.status in _TURNED_AWAY:
        return False
    if place is None or (line.resource, line.instance) != place[:2]:
        return False
    return line.at <= holder.granted_at <= _end(line) + _SLACK and _may_be_for(holder, line.url)


def _may_be_for(holder: Holder, url: str | None) -> bool:
    """
    Return False if *url* names another delivery. True proves nothing, because refused copies have the same URL.
    """
    named = _named(url)
    document = named.get("oncetask_document", [holder.document])[0]
    sequence = named.get("oncetask_sequence", [str(holder.sequence)])[0]
    return document in (holder.document, path_digest(holder.document)) and sequence == str(holder.sequence)


def _names(url: str | None) -> bool:
    return "oncetask_document" in _named(url)


def _named(url: str | None) -> dict[str, list[str]]:
    return parse_qs((url or "").partition("?")[2])


def _end(line: Line) -> datetime:
    return line.at + timedelta(seconds=line.latency or 0)


def _is_own(holder: Holder, line: Line) -> bool:
    own = line.payload.get("oncetask") if line.log in OWN_LOGS else None
    if not isinstance(own, dict) or not holder.nonce or own.get("holder") != holder.nonce:
        return False
    if own.get("document") != holder.document or _number(own.get("sequence")) != holder.sequence:
        return False
    # An attempt that never learnt the result of its claim does not know the granted token; its nonce belongs to that claim
    # alone.
    return _number(own.get("token")) == holder.token or own.get("event") == "never-started"


def _number(value: Any) -> int | None:
    """
    Return a logged counter, or None. It is logged as text, because a number comes back from Cloud Logging as a float.
    """
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _event(line: Line) -> str:
    return str(line.payload["oncetask"].get("event", ""))


def _shown(lines: Sequence[Line]) -> tuple[str, ...]:
    shown = []
    for line in lines[:MAX_EVIDENCE]:
        status = "" if line.status is None else f" HTTP {line.status}"
        shown.append(" ".join(f"{line.at.isoformat()} {line.log}{status} {line.text}".split())[:MAX_LINE])
    return tuple(shown)
