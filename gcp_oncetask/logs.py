"""
Log formats for people and for Cloud Logging: JSON lines, with the current attempt in each line.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, Final

from gcp_oncetask.checks.values import printable
from gcp_oncetask.observe.log_context import LINES, Ours, current, plain, replays
from gcp_oncetask.rules.timestamps import instant_of

__all__ = ["CloudFormatter", "ContextFilter", "ReplayFilter"]

_MAX_DEPTH: Final = 8
_STANDARD: Final = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    "message",
    "asctime",
    "taskName",
}


class CloudFormatter(logging.Formatter):
    """
    One JSON line per record, with Cloud Logging's special fields and the current attempt.

    ``extra`` adds fields and replaces none of these. A field ``oncetask`` in it is moved to ``oncetask.given``, so that no
    program's data looks like a line of the evidence trail.

    Args:
        project: Project id, or a function that returns it; needed for traces.
    """

    def __init__(self, project: str | Callable[[], str | None] | None = None) -> None:
        super().__init__()
        self._project = project

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            key: value for key, value in record.__dict__.items() if key not in _STANDARD and not key.startswith("_")
        }
        context = current.get()
        given = line.pop("oncetask", None)
        own: dict[str, Any] = {} if context is None else dict(context.fields)
        own.update(given if isinstance(given, Ours) else {} if given is None else {"given": given})
        if own:
            line["oncetask"] = own
        line["severity"] = _severity(record.levelno)
        line["message"] = self._message(record)
        line["time"] = instant_of(record.created)
        line["logger"] = record.name
        line["logging.googleapis.com/sourceLocation"] = {
            "file": record.pathname,
            "line": str(record.lineno),
            "function": record.funcName,
        }
        if context is not None and context.trace:
            project = self._known_project()
            if project:
                line["logging.googleapis.com/trace"] = f"projects/{project}/traces/{context.trace}"
        return _encoded(line)

    def _message(self, record: logging.LogRecord) -> str:
        # The traceback belongs to the message: Error Reporting looks for it there.
        parts = [record.getMessage()]
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            parts.append(record.exc_text)
        if record.stack_info:
            parts.append(self.formatStack(record.stack_info))
        return "\n".join(parts)

    def _known_project(self) -> str | None:
        try:
            return self._project() if callable(self._project) else self._project
        except Exception:  # noqa: BLE001 - a line without its trace is better than none
            return None


_SEVERITIES: Final = (
    (logging.CRITICAL, "CRITICAL"),
    (logging.ERROR, "ERROR"),
    (logging.WARNING, "WARNING"),
    (logging.INFO, "INFO"),
)


def _severity(level: int) -> str:
    # Cloud Logging knows few names; a custom level counts as the next one below.
    return next((name for least, name in _SEVERITIES if level >= least), "DEBUG")


def _encoded(value: Any) -> str:
    try:
        return LINES.encode(value)
    except (TypeError, ValueError, RecursionError):
        return LINES.encode(_tame(value, 0))


def _tame(value: Any, depth: int) -> Any:
    # Values that JSON can't express (odd keys, circles, infinities) become text.
    if isinstance(value, dict) and depth < _MAX_DEPTH:
        return {plain(key): _tame(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple) and depth < _MAX_DEPTH:
        return [_tame(item, depth + 1) for item in value]
    if isinstance(value, dict | list | tuple):
        return "..."
    if value is None or isinstance(value, str | bool | int):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else plain(value)


class ContextFilter(logging.Filter):
    """
    Log filter: adds the current attempt to each record, for users who keep their own log format. The attributes are
    ``oncetask_document``, ``oncetask_sequence``, ``oncetask_step``, ``oncetask_attempt``, ``oncetask_token``,
    ``oncetask_holder``, ``oncetask_env``, ``oncetask_trace``, ``oncetask_task``, ``oncetask_kind``, ``oncetask_key``,
    ``oncetask_run``, ``oncetask_index``; empty outside an attempt.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        context = current.get()
        for name in (
            "document",
            "sequence",
            "step",
            "attempt",
            "token",
            "holder",
            "env",
            "trace",
            "task",
            "kind",
            "key",
            "run",
            "index",
        ):
            value = None if context is None else getattr(context, name)
            value = printable(value) if isinstance(value, str) else value
            setattr(record, f"oncetask_{name}", "" if value is None else value)
        return True


class ReplayFilter(logging.Filter):
    """
    Log filter: drops the records of a durable handler that an earlier attempt has logged, while ``attempt.replaying`` is true.
    Records of the library itself, and those of at least *keep*, pass.

    Args:
        keep: Level from which records pass always.
    """

    def __init__(self, keep: int = logging.WARNING) -> None:
        super().__init__()
        self._keep = keep

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= self._keep or record.name.partition(".")[0] == "gcp_oncetask":
            return True
        replaying = replays.get()
        return replaying is None or not replaying()
