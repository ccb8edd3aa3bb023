"""
The plain protobuf messages of Cloud Logging; the only importer of its client library.
"""

from __future__ import annotations

from typing import Any

from google.cloud.logging_v2 import types
from google.logging.type import http_request_pb2, log_severity_pb2

LogEntry: Any = types.LogEntry.pb()
WriteLogEntriesRequest: Any = types.WriteLogEntriesRequest.pb()
WriteLogEntriesResponse: Any = types.WriteLogEntriesResponse.pb()
WriteLogEntriesPartialErrors: Any = types.WriteLogEntriesPartialErrors.pb()
ListLogEntriesRequest: Any = types.ListLogEntriesRequest.pb()
ListLogEntriesResponse: Any = types.ListLogEntriesResponse.pb()
ListLogsRequest: Any = types.ListLogsRequest.pb()
ListLogsResponse: Any = types.ListLogsResponse.pb()
TailLogEntriesRequest: Any = types.TailLogEntriesRequest.pb()
TailLogEntriesResponse: Any = types.TailLogEntriesResponse.pb()
ListMonitoredResourceDescriptorsRequest: Any = types.ListMonitoredResourceDescriptorsRequest.pb()
ListMonitoredResourceDescriptorsResponse: Any = types.ListMonitoredResourceDescriptorsResponse.pb()
DeleteLogRequest: Any = types.DeleteLogRequest.pb()
HttpRequest: Any = http_request_pb2.HttpRequest

SEVERITIES: dict[str, int] = dict(log_severity_pb2.LogSeverity.items())


def nanos(stamp: Any) -> int:
    """
    Nanoseconds of a ``Timestamp`` or ``Duration``.
    """
    return int(stamp.seconds) * 1_000_000_000 + int(stamp.nanos)


def set_nanos(stamp: Any, value: int) -> None:
    """
    Store *value* nanoseconds in a ``Timestamp`` or ``Duration``.
    """
    stamp.seconds, stamp.nanos = divmod(value, 1_000_000_000)
