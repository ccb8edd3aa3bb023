"""
Cloud Logging: the only importer of its client. Reading what became of holders, within a budget, and writing an end line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from gcp_oncetask import forks
from gcp_oncetask.clock import Clock, Mark, elapsed
from gcp_oncetask.errors import RequestLogError
from gcp_oncetask.evidence import Holder, Line

MAX_FILTER: Final = 20_000
_PAGE: Final = 1000
_MOST_PAGES: Final = 5
_LEAD: Final = timedelta(minutes=61)
"""A request may have begun this long before its grant: the longest request of the platform, and a minute."""


class RequestLog(Protocol):
    """
    Where evidence about holders is found and left.
    """

    def lines(self, holders: Sequence[Holder]) -> list[Line]:
        """
        Log lines about *holders*, with one query.

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
    since = min(holder.granted_at for holder in holders) - _LEAD
    nonces = " OR ".join(_quoted(holder.nonce) for holder in holders)
    wanted = [f"jsonPayload.oncetask.holder=({nonces})"]
    traces = [f"projects/{project}/traces/{holder.trace}" for holder in holders if holder.trace]
    logs = f"projects/{project}/logs/run.googleapis.com%2F"
    if traces:
        either = " OR ".join(_quoted(trace) for trace in traces)
        wanted.append(f'(logName="{logs}requests" AND trace=({either}))')
    texts = " OR ".join(
        _quoted(t) for t in ("Container called exit", "Container terminated", "emory limit", "much memory")
    )
    wanted.append(f'(logName="{logs}varlog%2Fsystem" AND textPayload:({texts}))')
    workers = " OR ".join(_quoted(t) for t in ("Worker (pid:", "WORKER TIMEOUT"))
    wanted.append(f'(logName="{logs}stderr" AND textPayload:({workers}))')
    return f'timestamp>="{since.astimezone(UTC).isoformat()}" AND ({" OR ".join(wanted)})'


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class CloudRequestLog:
    """
    Cloud Logging, asked rarely.

    ``entries.list`` allows 60 requests a minute for the whole project, so a process asks at most once per *interval* and
    *per_minute* times a minute; what it learnt of the same holders meanwhile is answered from memory.

    Args:
        project: Finds the project id.
        emulator: host:port of a local server, or None.
        clock: For the budget.
        interval: Seconds between two queries.
        per_minute: Queries per minute.
        timeout: Deadline of one call, in seconds.
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
    ) -> None:
        self._project = project
        self._emulator = emulator
        self._clock = clock
        self._interval = interval
        self._per_minute = per_minute
        self._timeout = timeout
        self._client: tuple[int, Any] | None = None
        self._asked: list[Mark] = []
        self._known: tuple[frozenset[str], list[Line]] = (frozenset(), [])

    def lines(self, holders: Sequence[Holder]) -> list[Line]:
        if not holders:
            return []
        names = frozenset(holder.nonce for holder in holders)
        if not self._may_ask():
            if names <= self._known[0]:
                return self._known[1]
            raise RequestLogError(
                "Cloud Logging was asked moments ago; its budget is kept for the sweeper.", budget=True
            )
        found: list[Line] = []
        for batch in _batches(self._project(), holders):
            found.extend(self._list(filter_for(self._project(), batch)))
        self._known = (names, found)
        return found

    def _may_ask(self) -> bool:
        now = self._clock.mark()
        self._asked = [mark for mark in self._asked if elapsed(mark, now) < 60]
        if self._asked and elapsed(self._asked[-1], now) < self._interval:
            return False
        if len(self._asked) >= self._per_minute:
            return False
        self._asked.append(now)
        return True

    def _list(self, filter_: str) -> list[Line]:
        from google.api_core.exceptions import GoogleAPICallError, RetryError
        from google.cloud.logging_v2.types import ListLogEntriesRequest

        request = ListLogEntriesRequest(
            resource_names=[f"projects/{self._project()}"], filter=filter_, order_by="timestamp desc", page_size=_PAGE
        )
        found: list[Line] = []
        try:
            pager = self._open().list_log_entries(request=request, retry=None, timeout=self._timeout)
            for number, page in enumerate(pager.pages):
                found.extend(line_of(type(entry).pb(entry)) for entry in page.entries)
                if number + 1 >= _MOST_PAGES:
                    break
        except (GoogleAPICallError, RetryError) as error:
            raise RequestLogError(f"Cloud Logging could not be read: {error}.") from error
        return found

    def write(self, payload: dict[str, Any], *, insert_id: str, at: datetime) -> None:
        from google.api_core.exceptions import GoogleAPICallError, RetryError
        from google.cloud.logging_v2.types import LogEntry

        entry = LogEntry(
            log_name=f"projects/{self._project()}/logs/oncetask",
            resource={"type": "global", "labels": {"project_id": self._project()}},
            json_payload=payload,
            insert_id=insert_id,
            timestamp=at,
        )
        try:
            self._open().write_log_entries(entries=[entry], retry=None, timeout=self._timeout)
        except (GoogleAPICallError, RetryError) as error:
            raise RequestLogError(f"Cloud Logging did not take the end line: {error}.") from error

    def _open(self) -> Any:
        if self._client is not None and self._client[0] == forks.generation():
            return self._client[1]
        from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
        from google.cloud.logging_v2.services.logging_service_v2.transports import LoggingServiceV2GrpcTransport

        if self._emulator is None:
            client = LoggingServiceV2Client()
        else:
            import grpc

            channel = grpc.insecure_channel(self._emulator)
            client = LoggingServiceV2Client(transport=LoggingServiceV2GrpcTransport(channel=channel))
        self._client = (forks.generation(), client)
        return client


def _batches(project: str, holders: Sequence[Holder]) -> list[Sequence[Holder]]:
    if len(holders) == 1 or len(filter_for(project, holders)) <= MAX_FILTER:
        return [holders]
    half = len(holders) // 2
    return [*_batches(project, holders[:half]), *_batches(project, holders[half:])]


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
        log={"varlog%2Fsystem": "system"}.get(name, name),
        severity=_severity(entry.severity),
        text=entry.text_payload or str(payload.get("message", "")),
        payload=payload,
        trace=entry.trace.rsplit("/", 1)[-1] or None,
        instance=entry.labels.get("instanceId") or None,
        status=None if http is None else http.status,
        url=None if http is None else http.request_url,
        latency=None if http is None else http.latency.seconds + http.latency.nanos / 1e9,
        insert_id=entry.insert_id,
    )


def _severity(number: int) -> str:
    names = {0: "DEFAULT", 100: "DEBUG", 200: "INFO", 300: "NOTICE", 400: "WARNING", 500: "ERROR", 600: "CRITICAL"}
    return names.get(number, "CRITICAL")
