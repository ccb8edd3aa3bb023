"""
What the local Cloud Logging does with each RPC and each field of ``LoggingServiceV2``.
"""

from __future__ import annotations

from google.cloud.logging_v2 import types
from google.logging.type import http_request_pb2

from tests.emulator.conformance import Row, Service, Verdict, fields_of, requests_of

_SERVER = "test_logging_server.py::test_"
_TAIL = "test_logging_tail.py::test_"
_FIELDS = f"{_SERVER}every_field_of_an_entry_is_kept_and_found"
_PAYLOADS = f"{_SERVER}every_payload_is_kept_and_found"
_MERGED = f"{_SERVER}write_merges_defaults_of_the_request"
_PARTIAL = f"{_SERVER}write_refuses_all_or_with_partial_success_some"
_PAGES = f"{_SERVER}list_pages_both_ways"
_LANGUAGE = f"{_SERVER}functions_that_are_lacking_are_refused_through_the_client"

ASKED = {
    **requests_of(types, file=types.LogEntry.pb().DESCRIPTOR.file.name.replace("log_entry", "logging")),
    **fields_of(
        types.LogEntry,
        types.LogEntryOperation,
        types.LogEntrySourceLocation,
        types.LogSplit,
        types.WriteLogEntriesResponse,
        types.WriteLogEntriesPartialErrors,
        types.ListLogEntriesResponse,
        types.ListLogsResponse,
        types.ListMonitoredResourceDescriptorsResponse,
        types.TailLogEntriesResponse,
    ),
    "HttpRequest": [each.name for each in http_request_pb2.HttpRequest.DESCRIPTOR.fields],
}


def _rows(name: str, test: str, *fields: str, verdict: Verdict = "supported", why: str = "") -> list[Row]:
    """
    Rows that one test shows: of fields, of which an empty one is the RPC or message itself.
    """
    return [Row(name, field, verdict, why, test) for field in fields]


_FILTER = "`cast`, `regexp_extract`, `source`, `!=` with a list and doubled backslashes are refused; all else is there."
ROWS = [
    *_rows("WriteLogEntries", _MERGED, "", "log_name", "labels", "entries"),
    *_rows(
        "WriteLogEntries",
        f"{_SERVER}any_kind_of_resource_is_taken",
        "resource",
        verdict="differs",
        why="Any type and any labels are taken.",
    ),
    *_rows("WriteLogEntries", _PARTIAL, "partial_success"),
    *_rows("WriteLogEntries", f"{_SERVER}write_dry_run_checks_and_stores_nothing", "dry_run"),
    *_rows("WriteLogEntriesResponse", _MERGED, ""),
    *_rows("WriteLogEntriesPartialErrors", _PARTIAL, "", "log_entry_errors"),
    *_rows("ListLogEntries", _PAGES, "", "order_by", "page_size", "page_token"),
    *_rows(
        "ListLogEntries",
        f"{_SERVER}buckets_and_views_can_not_be_listed",
        "resource_names",
        verdict="differs",
        why="Projects, folders, organizations and billing accounts by their names; a bucket or view is refused.",
    ),
    *_rows("ListLogEntries", _LANGUAGE, "filter", verdict="differs", why=_FILTER),
    *_rows("ListLogEntriesResponse", _PAGES, "", "entries", "next_page_token"),
    *_rows("ListLogs", f"{_SERVER}logs_are_listed_in_pages", "", "parent", "page_size", "page_token"),
    *_rows("ListLogs", f"{_SERVER}logs_of_several_resources_are_listed", "resource_names"),
    *_rows("ListLogsResponse", f"{_SERVER}logs_are_listed_in_pages", "", "log_names", "next_page_token"),
    *_rows(
        "DeleteLog",
        f"{_SERVER}deletion_of_a_log_takes_effect_at_once",
        "",
        verdict="differs",
        why="It takes effect at once; the service keeps entries for a while, and may miss new ones.",
    ),
    *_rows("DeleteLog", f"{_SERVER}logs_are_listed_and_deleted", "log_name"),
    *_rows(
        "ListMonitoredResourceDescriptors",
        f"{_SERVER}monitored_resources_are_listed",
        "",
        verdict="differs",
        why="Eleven kinds of resources are listed, without descriptions; the service has hundreds.",
    ),
    *_rows("ListMonitoredResourceDescriptors", f"{_SERVER}monitored_resources_are_listed", "page_size", "page_token"),
    *_rows(
        "ListMonitoredResourceDescriptorsResponse",
        f"{_SERVER}monitored_resources_are_listed",
        "",
        "resource_descriptors",
        "next_page_token",
    ),
    *_rows("TailLogEntries", f"{_TAIL}tail_shows_new_entries_that_match", "", "resource_names"),
    *_rows(
        "TailLogEntries", f"{_TAIL}tail_changes_its_filter", "filter", verdict="differs", why="As in ListLogEntries."
    ),
    *_rows("TailLogEntries", f"{_TAIL}tail_holds_entries_back_and_puts_them_in_order", "buffer_window"),
    *_rows("TailLogEntriesResponse", f"{_TAIL}tail_shows_new_entries_that_match", "", "entries"),
    *_rows(
        "TailLogEntriesResponse",
        f"{_TAIL}tail_shows_new_entries_that_match",
        "suppression_info",
        verdict="differs",
        why="It is never sent, because no entry is suppressed.",
    ),
    *_rows(
        "LogEntry", _FIELDS, "", "log_name", "resource", "timestamp", "severity", "insert_id", "http_request", "labels"
    ),
    *_rows("LogEntry", _FIELDS, "operation", "trace", "span_id", "trace_sampled", "source_location"),
    *_rows(
        "LogEntry",
        _FIELDS,
        "split",
        verdict="differs",
        why="It is kept as the caller sets it; no entry is split.",
    ),
    *_rows("LogEntry", _PAYLOADS, "text_payload", "json_payload"),
    *_rows(
        "LogEntry",
        _PAYLOADS,
        "proto_payload",
        verdict="differs",
        why="It is kept; a filter sees the fields of types that are known here, such as AuditLog, else only `@type`.",
    ),
    *_rows("LogEntry", f"{_SERVER}receive_timestamp_is_the_server_s", "receive_timestamp"),
    *(
        row
        for name in ("LogEntryOperation", "LogEntrySourceLocation", "LogSplit", "HttpRequest")
        for row in _rows(name, _FIELDS, "", *ASKED[name])
    ),
]
SERVICE = Service(
    title="Cloud Logging",
    name="google.logging.v2.LoggingServiceV2",
    rows=ROWS,
    asked=ASKED,
    about="Entries are kept in memory, at most 500,000 of a project; quotas are enforced only if a test asks for it.",
    clients=frozenset({"client"}),
)
