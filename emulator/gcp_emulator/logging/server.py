"""
``google.logging.v2`` in memory: ``LoggingServiceV2``, and the services of configuration, which refuse.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import threading
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import empty_pb2
from google.rpc import error_details_pb2, status_pb2

from gcp_emulator.clock import Clock, SystemClock, new_id
from gcp_emulator.faults import Faults
from gcp_emulator.logging import messages
from gcp_emulator.logging.configuration import refusing, resources
from gcp_emulator.logging.lexer import FilterError
from gcp_emulator.logging.matching import compiled
from gcp_emulator.logging.store import Position, Store, Stored
from gcp_emulator.logging.tail import TailTalk
from gcp_emulator.port import Port
from gcp_emulator.rpc import Method, Mouth, RpcError, Service

PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000
MAX_ENTRY_BYTES = 256 * 1024
MAX_LABELS = 64
MAX_INSERT_ID = 512
RETENTION_SECONDS = 30 * 86_400
FUTURE_SECONDS = 86_400
_PARENT = re.compile(r"(?:projects|folders|organizations|billingAccounts)/[^/]+")
_LOG_NAME = re.compile(r"((?:projects|folders|organizations|billingAccounts)/[^/]+)/logs/([A-Za-z0-9_.%-]+)")
_ORDERS = {"": False, "timestamp": False, "timestamp asc": False, "timestamp desc": True}


class LoggingServer:
    """
    Log entries on a port, or called directly.

    Attributes:
        delay: Seconds between the writing of an entry and the moment it can be listed.
        limit_per_minute: ListLogEntries calls per parent and minute before RESOURCE_EXHAUSTED; None for no limit.
            The service allows 60.
        service: The RPCs of log entries.
        services: All that the port serves.
        address: ``127.0.0.1:port`` once started.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        faults: Faults | None = None,
        *,
        delay: float = 0.0,
        limit_per_minute: int | None = None,
    ) -> None:
        self.delay = delay
        self.limit_per_minute = limit_per_minute
        self.address = ""
        self._clock = clock or SystemClock()
        self._faults = faults or Faults()
        self._store = Store()
        self._lock = threading.Lock()
        self._late = (0.0, 0.0)
        self._listed: dict[str, deque[int]] = {}
        self._written = 0
        self._origin = new_id()[:8]
        self._port: Port | None = None
        self.service = Service("google.logging.v2.LoggingServiceV2", self._methods(), self._faults, self._clock)
        self.services = [self.service, *refusing(self._faults, self._clock)]

    def _methods(self) -> dict[str, Method]:
        return {
            "WriteLogEntries": Method(
                self._write_log_entries, messages.WriteLogEntriesRequest, messages.WriteLogEntriesResponse
            ),
            "ListLogEntries": Method(
                self._list_log_entries, messages.ListLogEntriesRequest, messages.ListLogEntriesResponse
            ),
            "ListLogs": Method(self._list_logs, messages.ListLogsRequest, messages.ListLogsResponse),
            "DeleteLog": Method(self._delete_log, messages.DeleteLogRequest, empty_pb2.Empty),
            "ListMonitoredResourceDescriptors": Method(
                self._list_resources,
                messages.ListMonitoredResourceDescriptorsRequest,
                messages.ListMonitoredResourceDescriptorsResponse,
            ),
            "TailLogEntries": Method(
                self._tail, messages.TailLogEntriesRequest, messages.TailLogEntriesResponse, bidi=True
            ),
        }

    @property
    def counts(self) -> Counter[str]:
        """
        Calls received, by RPC.
        """
        return self.service.counts

    @property
    def entries(self) -> list[Any]:
        """
        Every stored ``LogEntry``, listable already or not, by project and time. Not copies: don't change them.
        """
        return self._store.everything()

    def start(self, port: int = 0) -> str:
        """
        Serve on *port* (0: a free one); returns the address.
        """
        self._port = Port(self.services)
        self.address = self._port.start(port)
        return self.address

    def stop(self) -> None:
        """
        Leave the port; entries are kept.
        """
        if self._port is not None:
            self._port.stop()
            self._port = None

    def late(self, rate: float, seconds: float) -> None:
        """
        Let a share of the entries written from now on become listable *seconds* later than the others.

        Args:
            rate: Between 0 and 1; drawn from the faults' seed and counted there as ``late-log``.
            seconds: Added to ``delay``.
        """
        with self._lock:
            self._late = (rate, seconds)

    def write(self, entry: Any, *, delay: float | None = None) -> None:
        """
        Write one ``LogEntry`` as WriteLogEntries would.

        Args:
            entry: A plain message with log name and resource; not kept, a copy is.
            delay: Seconds until it can be listed, instead of ``delay``.

        Raises:
            RpcError: INVALID_ARGUMENT: the entry is not acceptable.
        """
        copy = messages.LogEntry()
        copy.CopyFrom(entry)
        self._check(copy)
        self._add(copy, delay)

    def matching(self, filter: str = "") -> list[Any]:  # noqa: A002 - the service's word
        """
        Every listable ``LogEntry`` that matches, of all projects, oldest first in each.

        Raises:
            FilterError: The filter is not understood.
        """
        now = self._clock.micros()
        wanted = compiled(filter)
        found = self._store.between(None, wanted.since, wanted.until)
        return [one.entry for one in found if one.visible <= now and wanted.matches(one.entry)]

    def wait_for(self, filter: str, count: int = 1, timeout: float = 10.0) -> list[Any]:  # noqa: A002 - the service's word
        """
        Wait until *count* stored entries match, listable or not.

        Raises:
            TimeoutError: Fewer matched within *timeout* real seconds.
        """
        wanted = compiled(filter)

        def found_now() -> list[Any]:
            return [
                one.entry for one in self._store.between(None, wanted.since, wanted.until) if wanted.matches(one.entry)
            ]

        with self._store.changed:
            self._store.changed.wait_for(lambda: len(found_now()) >= count, timeout)
            found = found_now()
        if len(found) < count:
            raise TimeoutError(f"{len(found)} of {count} log entries matched within {timeout} s: {filter}")
        return found

    def _write_log_entries(self, request: Any) -> Any:
        good: list[Any] = []
        errors: dict[int, RpcError] = {}
        for number, given in enumerate(request.entries):
            entry = messages.LogEntry()
            entry.CopyFrom(given)
            entry.log_name = entry.log_name or request.log_name
            if not entry.HasField("resource") and request.HasField("resource"):
                entry.resource.CopyFrom(request.resource)
            for key, value in request.labels.items():
                if key not in given.labels:
                    entry.labels[key] = value
            try:
                self._check(entry)
            except RpcError as error:
                errors[number] = error
            else:
                good.append(entry)
        if errors and not request.partial_success:
            raise _partial(errors, len(request.entries), written=0)
        if not request.dry_run:
            for entry in good:
                self._add(entry, None)
        if errors:
            raise _partial(errors, len(request.entries), written=len(good))
        return messages.WriteLogEntriesResponse()

    def _check(self, entry: Any) -> None:
        if _LOG_NAME.fullmatch(entry.log_name) is None:
            raise _invalid(
                f"Log name '{entry.log_name}' is not of the form projects/PROJECT/logs/LOG, "
                "with the log's id URL-encoded.",
            )
        if not entry.resource.type:
            raise _invalid("A log entry needs a monitored resource; set resource.type, for example to 'global'.")
        if len(entry.labels) > MAX_LABELS:
            raise _invalid(f"A log entry has at most {MAX_LABELS} labels; this one has {len(entry.labels)}.")
        if len(entry.insert_id) > MAX_INSERT_ID:
            raise _invalid(f"An insert id has at most {MAX_INSERT_ID} characters.")
        if (size := entry.ByteSize()) > MAX_ENTRY_BYTES:
            raise _invalid(f"Log entry with size {size} bytes exceeds maximum size of {MAX_ENTRY_BYTES} bytes.")

    def _add(self, entry: Any, delay: float | None) -> None:
        now = self._clock.micros()
        with self._lock:
            self._written += 1
            number = self._written
            rate, seconds = self._late
        held = self.delay if delay is None else delay
        if self._faults.strikes("late-log", rate):
            held += seconds
        messages.set_nanos(entry.receive_timestamp, now * 1000)
        if not entry.HasField("timestamp"):
            entry.timestamp.CopyFrom(entry.receive_timestamp)
        # Counting up keeps entries of the same microsecond in the order of their writing.
        entry.insert_id = entry.insert_id or f"{number:010x}{self._origin}"
        age = now - messages.nanos(entry.timestamp) // 1000
        if -FUTURE_SECONDS * 1_000_000 <= age <= RETENTION_SECONDS * 1_000_000:
            self._store.add(entry, now + round(held * 1_000_000))

    def _list_log_entries(self, request: Any) -> Any:
        parents = _parents(request.resource_names)
        now = self._clock.micros()
        self._spend(parents, now)
        descending = _ORDERS.get(request.order_by.strip())
        if descending is None:
            raise _invalid(f"Invalid order_by '{request.order_by}'; 'timestamp asc' or 'timestamp desc'.")
        size = _page_size(request.page_size)
        try:
            wanted = compiled(request.filter)
        except FilterError as error:
            raise _invalid(str(error)) from None
        after = _position(request) if request.page_token else None
        found = [one for parent in parents for one in self._store.between(parent, wanted.since, wanted.until)]
        if len(parents) > 1:
            found.sort()
        response = messages.ListLogEntriesResponse()
        last: Stored | None = None
        for one in _from(found, after, descending=descending):
            if one.visible > now or not wanted.matches(one.entry):
                continue
            if last is not None and len(response.entries) == size:
                response.next_page_token = _token(request, last.position)
                break
            response.entries.append(one.entry)
            last = one
        return response

    def _spend(self, parents: list[str], now: int) -> None:
        """
        Count a read against the minute's quota of every parent.
        """
        if self.limit_per_minute is None:
            return
        with self._lock:
            calls = [self._listed.setdefault(parent, deque()) for parent in parents]
            for parent, times in zip(parents, calls, strict=True):
                while times and times[0] <= now - 60_000_000:
                    times.popleft()
                if len(times) >= self.limit_per_minute:
                    raise _exhausted(parent, self.limit_per_minute)
            for times in calls:
                times.append(now)

    def _list_logs(self, request: Any) -> Any:
        parents = _parents([*request.resource_names, *([request.parent] if request.parent else [])])
        after = _name_of(request.page_token)
        names = [name for name in self._store.log_names(parents, self._clock.micros()) if name > after]
        response = messages.ListLogsResponse(log_names=names[: _page_size(request.page_size)])
        if len(names) > len(response.log_names):
            response.next_page_token = base64.urlsafe_b64encode(response.log_names[-1].encode()).decode()
        return response

    def _list_resources(self, request: Any) -> Any:
        names = [one.type for one in resources()]
        after = _name_of(request.page_token)
        if after and after not in names:
            raise _invalid("page_token is not one that this service gave out.")
        first = names.index(after) + 1 if after else 0
        last = first + _page_size(request.page_size)
        response = messages.ListMonitoredResourceDescriptorsResponse(resource_descriptors=resources()[first:last])
        if last < len(names):
            response.next_page_token = base64.urlsafe_b64encode(names[last - 1].encode()).decode()
        return response

    def _tail(self, mouth: Mouth) -> TailTalk:
        return TailTalk(self._store, self._clock, _parents, mouth)

    def _delete_log(self, request: Any) -> Any:
        if _LOG_NAME.fullmatch(request.log_name) is None:
            raise _invalid(f"Log name '{request.log_name}' is not of the form projects/PROJECT/logs/LOG.")
        if not self._store.delete_log(request.log_name):
            raise RpcError(grpc.StatusCode.NOT_FOUND, f"Log {request.log_name} does not exist.")
        return empty_pb2.Empty()


def _invalid(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.INVALID_ARGUMENT, message)


def _partial(errors: dict[int, RpcError], given: int, *, written: int) -> RpcError:
    details = messages.WriteLogEntriesPartialErrors()
    for number, error in errors.items():
        status = status_pb2.Status(code=error.code.value[0], message=error.message)
        details.log_entry_errors[number].CopyFrom(status)
    number, first = next(iter(errors.items()))
    return RpcError(
        grpc.StatusCode.INVALID_ARGUMENT,
        f"{len(errors)} of {given} log entries are refused, {written} were written. Entry {number}: {first.message}",
        [details],
    )


def _exhausted(parent: str, limit: int) -> RpcError:
    metric, name = "logging.googleapis.com/read_requests", "ReadRequestsPerMinutePerProject"
    return RpcError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "Quota exceeded for quota metric 'Read requests' and limit 'Read requests per minute' of service "
        f"'logging.googleapis.com' for consumer '{parent}'.",
        [
            error_details_pb2.ErrorInfo(
                reason="RATE_LIMIT_EXCEEDED",
                domain="googleapis.com",
                metadata={
                    "service": "logging.googleapis.com",
                    "quota_metric": metric,
                    "quota_limit": name,
                    "quota_limit_value": str(limit),
                    "consumer": parent,
                },
            )
        ],
    )


def _parents(names: Any) -> list[str]:
    if not names:
        raise _invalid("resource_names is empty; name at least one resource, such as projects/PROJECT.")
    for name in names:
        if _PARENT.fullmatch(name) is None:
            if _PARENT.match(name) and "/buckets/" in name:
                raise RpcError(
                    grpc.StatusCode.UNIMPLEMENTED,
                    "This local server has no log bucket or view: name the project alone, such as projects/PROJECT.",
                )
            raise _invalid(f"Resource name '{name}' is not of the form projects/PROJECT.")
    return sorted(set(names))


def _page_size(size: int) -> int:
    if size < 0 or size > MAX_PAGE_SIZE:
        raise _invalid(f"page_size is {size}; it may be from 1 to {MAX_PAGE_SIZE}.")
    return size or PAGE_SIZE


def _name_of(token: str) -> str:
    try:
        return base64.b64decode(token, b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise _invalid("page_token is not one that this service gave out.") from None


def _from(found: list[Stored], after: Position | None, *, descending: bool) -> Iterator[Stored]:
    for one in reversed(found) if descending else found:
        if after is None or (one.position < after if descending else one.position > after):
            yield one


def _digest(request: Any) -> str:
    asked = json.dumps([list(request.resource_names), request.filter, request.order_by])
    return hashlib.sha256(asked.encode()).hexdigest()[:16]


def _token(request: Any, position: Position) -> str:
    return base64.urlsafe_b64encode(json.dumps([_digest(request), *position]).encode()).decode()


def _position(request: Any) -> Position:
    try:
        digest, nanos, insert_id, number = json.loads(base64.urlsafe_b64decode(request.page_token))
    except (binascii.Error, ValueError, TypeError):
        raise _invalid("page_token is not one that this service gave out.") from None
    if digest != _digest(request):
        raise _invalid("page_token does not match the request: keep resource_names, filter and order_by the same.")
    return int(nanos), str(insert_id), int(number)
