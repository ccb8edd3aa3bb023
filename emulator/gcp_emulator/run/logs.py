"""
The log entries that Cloud Run writes: one per line of output, per request, and per event of the platform.

Shape:
    projects/P/logs/run.googleapis.com%2F{stdout,stderr,requests,varlog%2Fsystem}; resource ``cloud_run_revision``
    with project_id, service_name, revision_name, configuration_name, location; ``labels.instanceId``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from google.protobuf import json_format

from gcp_emulator.clock import Clock
from gcp_emulator.logging import LoggingServer
from gcp_emulator.logging.matching import instant
from gcp_emulator.logging.messages import SEVERITIES, LogEntry, set_nanos
from gcp_emulator.rpc import RpcError

LogName = Literal["stdout", "stderr", "requests", "varlog%2Fsystem"]

MAX_TEXT = 200_000
_PREFIX = "logging.googleapis.com/"
_MESSAGES = {
    "httpRequest": "http_request",
    f"{_PREFIX}operation": "operation",
    f"{_PREFIX}sourceLocation": "source_location",
}
_TEXTS = {f"{_PREFIX}trace": "trace", f"{_PREFIX}spanId": "span_id", f"{_PREFIX}insertId": "insert_id"}


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """
    One request as the request log shows it.

    Attributes:
        started: Time at which it arrived, microseconds since the epoch; the entry's timestamp.
        ended: Time at which its answer was complete.
        note: The platform's sentence where the platform answered in the container's place.
    """

    method: str
    url: str
    status: int
    started: int
    ended: int
    request_size: int
    response_size: int
    user_agent: str
    remote_ip: str
    referer: str
    trace: str
    span_id: str
    instance_id: str
    note: str = ""


class RunLogs:
    """
    Writes the entries of one revision.
    """

    def __init__(
        self,
        logging: LoggingServer,
        clock: Clock,
        *,
        project: str,
        region: str,
        service: str,
        revision: str,
        delay: float | None,
    ) -> None:
        self.project = project
        self._logging = logging
        self._clock = clock
        self._delay = delay
        self._labels = {
            "project_id": project,
            "service_name": service,
            "revision_name": revision,
            "configuration_name": service,
            "location": region,
        }

    def line(self, log: LogName, text: str, instance_id: str) -> None:
        """
        One line of output: a JSON object becomes a structured entry, anything else text.
        """
        entry = self._entry(log, instance_id)
        payload = _object(text)
        if payload is None:
            entry.text_payload = text[:MAX_TEXT]
        else:
            _structured(entry, payload)
        try:
            self._logging.write(entry, delay=self._delay)
        except RpcError:
            # The entry is too large or has too many labels: keep the text.
            plain = self._entry(log, instance_id)
            plain.text_payload = text[:MAX_TEXT]
            self._logging.write(plain, delay=self._delay)

    def request(self, record: RequestRecord) -> None:
        """
        The entry of a request that has ended.
        """
        entry = self._entry("requests", record.instance_id)
        set_nanos(entry.timestamp, record.started * 1000)
        http = entry.http_request
        http.request_method = record.method
        http.request_url = record.url
        http.status = record.status
        http.request_size = record.request_size
        http.response_size = record.response_size
        http.user_agent = record.user_agent
        http.remote_ip = record.remote_ip
        http.referer = record.referer
        http.protocol = "HTTP/1.1"
        set_nanos(http.latency, (record.ended - record.started) * 1000)
        entry.severity = SEVERITIES["ERROR" if record.status >= 500 else "WARNING" if record.status >= 400 else "INFO"]
        entry.trace = f"projects/{self.project}/traces/{record.trace}"
        entry.span_id = record.span_id
        entry.trace_sampled = True
        if record.note:
            entry.text_payload = record.note
        self._logging.write(entry, delay=self._delay)

    def system(
        self, text: str, instance_id: str, *, severity: str = "WARNING", trace: str = "", span_id: str = ""
    ) -> None:
        """
        Write a line of the platform about an instance, or about the request of *trace*.
        """
        entry = self._entry("varlog%2Fsystem", instance_id)
        entry.text_payload = text
        entry.severity = SEVERITIES[severity]
        if trace:
            entry.trace = f"projects/{self.project}/traces/{trace}"
            entry.span_id = span_id
        self._logging.write(entry, delay=self._delay)

    def _entry(self, log: LogName, instance_id: str) -> Any:
        entry = LogEntry(log_name=f"projects/{self.project}/logs/run.googleapis.com%2F{log}")
        entry.resource.type = "cloud_run_revision"
        entry.resource.labels.update(self._labels)
        if instance_id:
            entry.labels["instanceId"] = instance_id
        set_nanos(entry.timestamp, self._clock.micros() * 1000)
        return entry


def _object(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _structured(entry: Any, payload: dict[str, Any]) -> None:
    """
    Move the special fields of a JSON line to their places; the rest is the payload.

    Source:
        The documentation of structured logging, section on special fields. A special field of the wrong type stays
        in the payload.
    """
    rest = {key: value for key, value in payload.items() if not _special(entry, key, value)}
    try:
        entry.json_payload.update(rest)
    except (ValueError, OverflowError):
        entry.json_payload.update({"message": json.dumps(rest, default=str)})


def _special(entry: Any, key: str, value: Any) -> bool:
    if key == "severity":
        return _severity(entry, value)
    if key in ("time", "timestamp"):
        return _time(entry, value)
    if key in _TEXTS and isinstance(value, str):
        setattr(entry, _TEXTS[key], value)
        return True
    if key == f"{_PREFIX}labels" and isinstance(value, dict):
        entry.labels.update({str(name): str(text) for name, text in value.items()})
        return True
    if key == f"{_PREFIX}trace_sampled" and isinstance(value, bool):
        entry.trace_sampled = value
        return True
    if key in _MESSAGES and isinstance(value, dict):
        try:
            json_format.ParseDict(value, getattr(entry, _MESSAGES[key]), ignore_unknown_fields=True)
        except json_format.ParseError:
            entry.ClearField(_MESSAGES[key])
            return False
        return True
    return False


def _severity(entry: Any, value: Any) -> bool:
    if isinstance(value, str) and value.upper() in SEVERITIES:
        entry.severity = SEVERITIES[value.upper()]
        return True
    if isinstance(value, int) and value in SEVERITIES.values():
        entry.severity = value
        return True
    return False


def _time(entry: Any, value: Any) -> bool:
    """
    RFC 3339 text, or an object of seconds and nanos.
    """
    try:
        if isinstance(value, str):
            set_nanos(entry.timestamp, instant(value))
            return True
        if isinstance(value, dict):
            set_nanos(entry.timestamp, int(value["seconds"]) * 1_000_000_000 + int(value["nanos"]))
            return True
    except (ValueError, KeyError, TypeError):
        return False
    return False
