"""
Cloud Logging: the only importer of its client. Reading what became of holders, within a budget, and writing an end line.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from gcp_oncetask import forks
from gcp_oncetask.clock import Clock, Mark, elapsed
from gcp_oncetask.delivery import instant
from gcp_oncetask.errors import RequestLogError
from gcp_oncetask.evidence import CRASH_TEXTS, EVENTS, WORKER_TEXTS, Holder, Line
from gcp_oncetask.statuses import Fate, Service, fate_of

MAX_FILTER: Final = 20_000
_PAGE: Final = 1000
_MOST_PAGES: Final = 5
_LEAD: Final = timedelta(minutes=1)
"""How much older than the grant a line may be, by clocks that disagree."""
_REQUEST_LEAD: Final = timedelta(minutes=6)
"""A request's entry is dated at its beginning; a container may take minutes to start before it gets the lease."""
_FRESH: Final = 10.0
"""Seconds that an answer is good for."""
_INFO: Final = 200
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


class Remembered(list[Line]):
    """
    Lines that the log has shown before: what is not among them was not there then.

    Args:
        found: The lines.
        age: Seconds since the log was asked.
    """

    def __init__(self, found: Iterable[Line], age: float) -> None:
        super().__init__(found)
        self.age = age


class RequestLog(Protocol):
    """
    Where evidence about holders is found and left.
    """

    def lines(self, holders: Sequence[Holder]) -> list[Line]:
        """
        Log lines about *holders*, with one query; as ``Remembered`` if they are those of an earlier one.

        Raises:
            RequestLogError: The log was unreachable or refused, or its budget is used up: nothing is known.
        """

    def write(self, payload: dict[str, Any], *, insert_id: str, at: datetime) -> None:
        """
        Write a structured line and wait until it is accepted; the same *insert_id* and *at* count once.

        Raises:
            RequestLogError: It was not accepted.
        """


def filter_for(project: str, holders: Sequence[Holder]) -> str:
    """
    The filter that finds own lines, request logs and crash lines of *holders*, with an explicit bound in time.
    """
    granted = min(holder.granted_at for holder in holders)
    logs = f"projects/{project}/logs/run.googleapis.com%2F"
    # The user's own lines within an attempt name the holder too; there may be thousands of them.
    own = f"jsonPayload.oncetask.event={_either(EVENTS)} AND timestamp>={_instant(granted - _LEAD)}"
    wanted = [f"(jsonPayload.oncetask.holder={_either(holder.nonce for holder in holders)} AND {own})"]
    traces = [f"projects/{project}/traces/{holder.trace}" for holder in holders if holder.trace]
    if traces:
        wanted.append(f"(logName={_quoted(logs + 'requests')} AND trace={_either(traces)})")
    names = _either([f"{logs}varlog%2Fsystem", f"{logs}stderr"])
    texts = _either([*CRASH_TEXTS, *WORKER_TEXTS])
    wanted.append(f"(logName={names} AND textPayload:{texts} AND timestamp>={_instant(granted - _LEAD)})")
    return f"timestamp>={_instant(granted - _REQUEST_LEAD)} AND ({' OR '.join(wanted)})"


def _either(texts: Iterable[str]) -> str:
    return f"({' OR '.join(_quoted(text) for text in texts)})"


def _instant(at: datetime) -> str:
    return _quoted(instant(at))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@dataclass(slots=True)
class _Process:
    """
    What one process has opened and asked; a child of a fork begins anew, with a mutex that nobody holds.
    """

    generation: int
    mutex: threading.Lock = field(default_factory=threading.Lock)
    client: Any = None
    asked: Mark | None = None
    calls: deque[Mark] = field(default_factory=deque)
    known: tuple[Mark, frozenset[Holder], list[Line]] | None = None


class CloudRequestLog:
    """
    Cloud Logging, asked rarely.

    ``entries.list`` allows 60 calls a minute for the whole project, so a process asks at most once per *interval*, and
    makes at most *per_minute* calls a minute, further pages included; what it has just learnt of the same holders is
    answered from memory. Nothing is opened before the first use.

    Args:
        project: Finds the project id.
        emulator: host:port of a local server, or None.
        clock: For the budget.
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
                    return Remembered(found, age)
            if process.asked is not None and elapsed(process.asked, now) < self._interval:
                raise _over_budget(f"it was asked less than {self._interval:g} s ago")
            process.asked = now
        found = []
        project = self._project()
        for batch in batches(project, holders):
            found.extend(self._list(process, project, filter_for(project, batch)))
        with process.mutex:
            process.known = (now, wanted, found)
        return list(found)

    def _list(self, process: _Process, project: str, wanted: str) -> list[Line]:
        found: list[Line] = []
        token = ""
        for _ in range(_MOST_PAGES):
            self._spend(process)
            request = {
                "resource_names": [f"projects/{project}"],
                "filter": wanted,
                "order_by": "timestamp asc",
                "page_size": _PAGE,
                "page_token": token,
            }
            with _saying("could not be read"):
                client = self._open(process)
                pager = client.list_log_entries(request=request, retry=None, timeout=self._timeout)
                page = next(pager.pages)
                found.extend(line_of(type(entry).pb(entry)) for entry in page.entries)
                token = page.next_page_token
            if not token:
                return found
        # Judging by a part of the lines could take a finished attempt for a dead one.
        raise RequestLogError(
            f"Cloud Logging has more than {_MOST_PAGES * _PAGE} lines that could matter; none was used."
        )

    def _spend(self, process: _Process) -> None:
        """
        Count one call against the minute's budget.
        """
        with process.mutex:
            now = self._clock.mark()
            while process.calls and elapsed(process.calls[0], now) >= 60:
                process.calls.popleft()
            if len(process.calls) >= self._per_minute:
                raise _over_budget(f"{self._per_minute} calls were made within a minute")
            process.calls.append(now)

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
    except Exception as error:  # credentials, channel, service, an odd entry: whatever it is, nothing is known
        code = getattr(error, "grpc_status_code", None)
        final = code is not None and fate_of(Service.LOGGING, code.name) is Fate.REFUSED
        raise RequestLogError(f"Cloud Logging {what}: {error}", final=final) from error


def _over_budget(why: str) -> RequestLogError:
    return RequestLogError(f"The budget for reading Cloud Logging is used up: {why}. Ask again later.", budget=True)


def batches(project: str, holders: Sequence[Holder]) -> list[Sequence[Holder]]:
    """
    *holders* in as few parts as keep each filter within the service's limit.
    """
    if len(holders) == 1 or len(filter_for(project, holders)) <= MAX_FILTER:
        return [holders]
    half = len(holders) // 2
    return [*batches(project, holders[:half]), *batches(project, holders[half:])]


def line_of(entry: Any) -> Line:
    """
    A plain ``LogEntry`` as a line.
    """
    from google.protobuf.json_format import MessageToDict

    payload = MessageToDict(entry.json_payload) if entry.HasField("json_payload") else {}
    http = entry.http_request if entry.HasField("http_request") else None
    name = entry.log_name.rsplit("/", 1)[-1].removeprefix("run.googleapis.com%2F")
    return Line(
        at=entry.timestamp.ToDatetime(tzinfo=UTC),
        log="system" if name == "varlog%2Fsystem" else name,
        severity=_SEVERITIES.get(entry.severity, "DEFAULT"),
        text=entry.text_payload or str(payload.get("message", "")),
        payload=payload,
        trace=entry.trace.rsplit("/", 1)[-1] or None,
        instance=entry.labels.get("instanceId") or None,
        status=None if http is None else http.status or None,
        url=None if http is None else http.request_url or None,
        latency=None if http is None else http.latency.seconds + http.latency.nanos / 1e9,
        insert_id=entry.insert_id,
    )
