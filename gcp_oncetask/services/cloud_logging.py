"""
Cloud Logging: read the log lines that tell how attempts ended, within a budget, and write an end line. The only importer of
its client.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Protocol

from gcp_oncetask import forks
from gcp_oncetask.clock import Clock, Mark, elapsed
from gcp_oncetask.errors import RequestLogError
from gcp_oncetask.observe.log_filters import batches, own_filter, platform_filter
from gcp_oncetask.rules.evidence import RUN_TYPES, Holder, Line, has_ended, origin
from gcp_oncetask.rules.statuses import FailureClass, Service, failure_class

_PAGE: Final = 1000
_MOST_PAGES: Final = 5
_FRESH: Final = 10.0
"""An answer is used again for so many seconds."""
_INFO: Final = 200
_RUN: Final = "run.googleapis.com%2F"
_LOGS: Final = {
    "oncetask": "oncetask",
    "stdout": "stdout",
    f"{_RUN}stdout": "stdout",
    f"{_RUN}stderr": "stderr",
    f"{_RUN}requests": "requests",
    f"{_RUN}varlog%2Fsystem": "system",
}
"""The library's name of each log that it reads, by the log's id. Outside Cloud Run, collectors use the id ``stdout``."""
_NAMES: Final = ("service_name", "worker_pool_name", "job_name")
_SEVERITIES: Final = {
    0: "DEFAULT",
    100: "DEBUG",
    _INFO: "INFO",
    300: "NOTICE",
    400: "WARNING",
    500: "ERROR",
    600: "CRITICAL",
    700: "ALERT",
    800: "EMERGENCY",
}


class Findings(list[Line]):
    """
    Lines found in the log.

    Args:
        lines: The lines.
        age: Seconds since the log was asked; lines that became visible later are missing.
        trouble: The error that kept the platform's lines from being read, so that only the holders' own lines are here;
            None if both were read.
    """

    def __init__(self, lines: Iterable[Line], age: float = 0.0, trouble: RequestLogError | None = None) -> None:
        super().__init__(lines)
        self.age = age
        self.trouble = trouble


class RequestLog(Protocol):
    """
    A log in which evidence about holders is read and written.
    """

    def lines(self, holders: Sequence[Holder]) -> list[Line]:
        """
        Return the log lines about *holders*: all of their own lines, or none. The list is a ``Findings`` if it is from an
        earlier query, or if the platform's lines could not be read.

        Raises:
            RequestLogError: The log was unreachable or refused, or its budget is used up; nothing is known about the
                holders.
        """

    def write(self, payload: dict[str, Any], *, insert_id: str, at: datetime) -> None:
        """
        Write a structured line and wait until it is accepted; the same *insert_id* and *at* count once.

        Raises:
            RequestLogError: The line was not accepted.
        """


@dataclass(slots=True)
class _Process:
    """
    The client, queries and mutex of one process; the child of a fork begins with new ones.
    """

    generation: int
    mutex: threading.Lock = field(default_factory=threading.Lock)
    client: Any = None
    asked: Mark | None = None
    calls: deque[Mark] = field(default_factory=deque)
    known: tuple[Mark, frozenset[Holder], Findings] | None = None


class CloudRequestLog:
    """
    Cloud Logging, asked rarely.

    ``entries.list`` allows 60 calls a minute for the whole project. So a process queries at most once per *interval*, with
    one call, or with two where the holders' own lines don't tell how they ended. It makes at most *per_minute* calls a
    minute, further pages included. Recent answers about the same holders are repeated from memory. The client is made at
    the first use.

    Args:
        project: Finds the project id.
        emulator: host:port of a local server, or None.
        clock: Measures the budget.
        interval: Seconds between two queries.
        per_minute: Calls per minute.
        timeout: Deadline of one call, in seconds.
        client: A ``LoggingServiceV2Client``; None makes one.
    """

    def __init__(
        self,
        *,
        project: Callable[[], str],
        emulator: str | None,
        clock: Clock,
        interval: float = 10.0,
        per_minute: int = 30,
        timeout: float = 10.0,
        client: Any | None = None,
    ) -> None:
        self._given = client
        self._project = project
        self._emulator = emulator
        self._clock = clock
        self._interval = interval
        self._per_minute = per_minute
        self._timeout = timeout
        self._process = _Process(forks.generation)

    def lines(self, holders: Sequence[Holder]) -> list[Line]:
        if not holders:
            return []
        process = self._here()
        wanted = frozenset(holders)
        now = self._clock.mark()
        with process.mutex:
            if process.known is not None:
                learnt, about, found = process.known
                age = elapsed(learnt, now)
                if wanted <= about and age < min(self._interval, _FRESH):
                    return Findings(found, age, found.trouble)
            if process.asked is not None and elapsed(process.asked, now) < self._interval:
                raise _over_budget(f"it was asked less than {self._interval:g} s ago")
            process.asked = now
        found = self._ask(process, holders)
        with process.mutex:
            process.known = (now, wanted, found)
        return Findings(found, trouble=found.trouble)

    def _ask(self, process: _Process, holders: Sequence[Holder]) -> Findings:
        """
        Ask for the holders' own lines first, so that no other lines can hide them; then for the platform's lines about
        holders that wrote no end line.
        """
        project = self._project()
        found = Findings([])
        for part in batches(partial(own_filter, project), holders):
            found.extend(self._list(process, project, own_filter(project, part)))
        silent = [(holder, origin(holder, found)) for holder in holders if not has_ended(holder, found)]
        asked = [(holder, place) for holder, place in silent if holder.trace or place is not None]
        try:
            said: list[Line] = []
            for those in batches(partial(platform_filter, project), asked) if asked else ():
                said.extend(self._list(process, project, platform_filter(project, those)))
            found.extend(said)
        except RequestLogError as error:
            found.trouble = error
        return found

    def _list(self, process: _Process, project: str, wanted: str) -> list[Line]:
        found: list[Line] = []
        token = ""
        for _ in range(_MOST_PAGES):
            self._spend(process)
            lines, token = self._page(process, project, wanted, token)
            found.extend(lines)
            if not token:
                return found
        # With a part of the lines only, a finished attempt could be taken for a dead one.
        raise RequestLogError(
            f"Cloud Logging has more than {_MOST_PAGES * _PAGE} lines that could matter; none was used."
        )

    def page(self, wanted: str, token: str = "") -> tuple[list[Line], str]:
        """
        Return up to 1,000 of the newest lines that fit the filter *wanted*, and the token of the next page, empty if there
        is none. The call does not count against the budget of ``lines``.

        Raises:
            RequestLogError: The log was unreachable or refused.
        """
        return self._page(self._here(), self._project(), wanted, token, "timestamp desc")

    def _page(
        self, process: _Process, project: str, wanted: str, token: str, order: str = "timestamp asc"
    ) -> tuple[list[Line], str]:
        request = {
            "resource_names": [f"projects/{project}"],
            "filter": wanted,
            "order_by": order,
            "page_size": _PAGE,
            "page_token": token,
        }
        with _saying("could not be read"):
            client = self._open(process)
            pager = client.list_log_entries(request=request, retry=None, timeout=self._timeout)
            page = next(pager.pages)
            return [line_of(type(entry).pb(entry)) for entry in page.entries], page.next_page_token

    def _spend(self, process: _Process) -> None:
        """
        Count one call against the minute's budget.
        """
        with process.mutex:
            spend(process.calls, self._clock.mark(), self._per_minute)

    def write(self, payload: dict[str, Any], *, insert_id: str, at: datetime) -> None:
        project = self._project()
        with _saying("did not take the line"):
            from google.cloud.logging_v2.types import LogEntry

            entry = LogEntry(
                log_name=f"projects/{project}/logs/oncetask",
                resource={"type": "global", "labels": {"project_id": project}},
                json_payload=json.loads(json.dumps(payload, default=str)),
                severity=_INFO,
                insert_id=insert_id,
                timestamp=at,
            )
            self._open(self._here()).write_log_entries(entries=[entry], retry=None, timeout=self._timeout)

    def _here(self) -> _Process:
        if self._process.generation != forks.generation:
            self._process = _Process(forks.generation)
        return self._process

    def _open(self, process: _Process) -> Any:
        with process.mutex:
            if process.client is None:
                given = self._given if process.generation == 0 else None
                process.client = given or _client(self._emulator)
            return process.client


def _client(emulator: str | None) -> Any:
    from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
    from google.cloud.logging_v2.services.logging_service_v2.transports import LoggingServiceV2GrpcTransport

    if emulator is None:
        return LoggingServiceV2Client()
    import grpc

    return LoggingServiceV2Client(transport=LoggingServiceV2GrpcTransport(channel=grpc.insecure_channel(emulator)))


@contextmanager
def _saying(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # credentials, channel, service or an odd entry failed: nothing is known
        code = getattr(error, "grpc_status_code", None)
        final = code is not None and failure_class(Service.LOGGING, code.name) is FailureClass.REFUSED
        raise RequestLogError(f"Cloud Logging {what}: {error}", final=final) from error


def spend(calls: deque[Mark], now: Mark, per_minute: int) -> None:
    """
    Add the call of *now* to the *calls* of the last minute.

    Raises:
        RequestLogError: There were *per_minute* of them.
    """
    while calls and elapsed(calls[0], now) >= 60:
        calls.popleft()
    if len(calls) >= per_minute:
        raise _over_budget(f"{per_minute} calls were made within a minute")
    calls.append(now)


def _over_budget(why: str) -> RequestLogError:
    return RequestLogError(f"The budget for reading Cloud Logging is used up: {why}. Ask again later.", budget=True)


def line_of(entry: Any) -> Line:
    """
    Convert a plain ``LogEntry`` to a line.
    """
    from google.protobuf.json_format import MessageToDict

    payload = MessageToDict(entry.json_payload) if entry.HasField("json_payload") else {}
    http = entry.http_request if entry.HasField("http_request") else None
    name = entry.log_name.partition("/logs/")[2]
    kind, labels = entry.resource.type, entry.resource.labels
    named = next((labels[label] for label in _NAMES if label in labels), "")
    return Line(
        at=entry.timestamp.ToDatetime(tzinfo=UTC),
        log=_LOGS.get(name, f"other {name}"),
        severity=_SEVERITIES.get(entry.severity, "DEFAULT"),
        text=entry.text_payload or str(payload.get("message", "")),
        payload=payload,
        trace=entry.trace.rsplit("/", 1)[-1] or None,
        resource=f"{kind} {named} {labels.get('revision_name', '')}" if kind in RUN_TYPES else "",
        instance=entry.labels.get("instanceId") or None,
        status=None if http is None else http.status or None,
        url=None if http is None else http.request_url or None,
        latency=None if http is None else http.latency.seconds + http.latency.nanos / 1e9,
        insert_id=entry.insert_id,
        received=entry.receive_timestamp.ToDatetime(tzinfo=UTC) if entry.HasField("receive_timestamp") else None,
    )


def exported_line(entry: dict[str, Any]) -> Line:
    """
    Convert an entry in its JSON form, as ``gcloud logging read --format=json`` prints it, to a line.

    Raises:
        ValueError: It is no log entry.
    """
    from google.cloud.logging_v2.types import LogEntry
    from google.protobuf.json_format import ParseDict, ParseError

    # The type of a protoPayload is not known here, and no line of the library has one.
    plain = {name: value for name, value in entry.items() if name != "protoPayload"}
    try:
        return line_of(ParseDict(plain, LogEntry.pb()(), ignore_unknown_fields=True))
    except ParseError as error:
        raise ValueError(str(error)) from None
