"""
Logs in Cloud Logging's JSON form, the current attempt in each of them, and the trail that an attempt leaves as evidence.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, TextIO

from gcp_oncetask import forks
from gcp_oncetask.checks.told import Harmless, text_of
from gcp_oncetask.checks.values import printable
from gcp_oncetask.clock import Clock
from gcp_oncetask.rules.documents import task_name
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.timestamps import instant_of

_LOGGER: Final = logging.getLogger("gcp_oncetask")
for _each in (_LOGGER, logging.getLogger("gcp_oncetask.alerts")):
    _each.addFilter(Harmless())
_TRACE: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")
_MAX_DEPTH: Final = 8
_STANDARD: Final = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    "message",
    "asctime",
    "taskName",
}


@dataclass(slots=True)
class LogContext:
    """
    The attempt that a line belongs to. Never changed.

    Attributes:
        document: Path of the document.
        sequence: Sequence, 1-based, never repeated.
        attempt: Attempt of that sequence, 1-based; 0 before one is granted.
        token: Fencing token.
        holder: Nonce of the attempt.
        env: Environment.
        trace: Trace id of its request, 32 hexadecimal digits.
        task: Id of the once-task; None: it is none, or a batch of several.
        kind: Its kind.
        key: The resource key that it holds.
        step: Step of its chain, 1-based; 0: not known; None: it is no chain but, say, a named lock.
        said: What ``str()`` says, as JSON text.
        members: All of it as JSON text, without braces: the begin of the JSON field ``oncetask``.
    """

    document: str
    sequence: int
    attempt: int
    token: int
    holder: str
    env: str
    trace: str | None = None
    task: str | None = None
    kind: str | None = None
    key: str | None = None
    step: int | None = None
    said: str = field(init=False, repr=False, compare=False)
    members: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Of every attempt, so put together by hand; else it is as ``fields``.
        document = _quoted(self.document)
        self.said = f'{document[:-1]}{self._place()}"'
        step = f'"step":"{self.step}",' if self.step else ""
        self.members = (
            f'"document":{document},"sequence":"{self.sequence}",{step}"attempt":"{self.attempt}",'
            f'"token":"{self.token}","holder":{_quoted(self.holder)},"env":{_quoted(self.env)}'
        )
        if self.kind is not None:
            self.members += "".join([f',"{name}":{_quoted(value)}' for name, value in self._task().items()])

    def __str__(self) -> str:
        """
        How every line for people names it: ``orders/42 (sequence 5, step 2, attempt 1)``.
        """
        return self.document + self._place()

    def _place(self) -> str:
        if self.step is None:
            return ""
        step = f", step {self.step}" if self.step else ""
        tried = f", attempt {self.attempt}" if self.attempt else ""
        return f" (sequence {self.sequence}{step}{tried})"

    def without(self, text: Any) -> str:
        """
        *text* without the document in front of it, as errors have it: for a line that says it already.
        """
        return str(text).removeprefix(f"{self.document}: ")

    def log(self, level: int, message: str, *args: Any, exc_info: Any = None) -> None:
        """
        Log a line for people that begins with what it is about, and carries it among its fields.

        Args:
            level: Of ``logging``.
            message: What happened, for ``%``.
            *args: What goes into it.
            exc_info: As ``logging`` takes it.
        """
        if _LOGGER.isEnabledFor(level):
            shown = [self.without(text_of(each)) if isinstance(each, BaseException) else each for each in args]
            fields = {"oncetask": Ours(self.fields)}
            _LOGGER.log(level, "%s: " + message, str(self), *shown, exc_info=exc_info, extra=fields, stacklevel=2)  # noqa: G003 - a constant

    @property
    def fields(self) -> dict[str, str]:
        """
        As the JSON field ``oncetask``: ids and counters are texts, since Cloud Logging would make floats of them.
        """
        return {
            "document": self.document,
            "sequence": str(self.sequence),
            **({"step": str(self.step)} if self.step else {}),
            "attempt": str(self.attempt),
            "token": str(self.token),
            "holder": self.holder,
            "env": self.env,
            **({} if self.kind is None else self._task()),
        }

    def _task(self) -> dict[str, str]:
        more = {"task": self.task, "kind": self.kind, "resourceKey": self.key}
        return {name: value for name, value in more.items() if value is not None}


class Ours(dict[str, Any]):
    """
    What the library itself says in the field ``oncetask``: the formatter believes it, and nobody else's.
    """


About = LogContext | Callable[[], LogContext] | None
"""What a line is about, or how to find that out if the line is written."""


def context_at(
    document: str, env: str, lock: Lock | None, sequence: int | None = None, attempt: int | None = None
) -> LogContext:
    """
    What a line names that is about a stored document.

    Args:
        document: Its path.
        env: Environment.
        lock: Its lock; None: it has none, or it is not known.
        sequence: The sequence that the line is about; None: the present one.
        attempt: The attempt that it is about; None: the last one of that sequence, if that is the present one.
    """
    present = 0 if lock is None else lock.sequence
    sequence = present if sequence is None else sequence
    own = lock if sequence == present else None
    task = task_name(document)
    return LogContext(
        document=document,
        sequence=sequence,
        attempt=attempt if attempt is not None else 0 if own is None else own.attempts,
        token=0 if lock is None else lock.token,
        holder="" if own is None else own.holder or "",
        env=env,
        task=None if task is None else task.id,
        kind=None if task is None else task.kind,
        key=None if lock is None else lock.key,
        step=_step(lock, sequence),
    )


def _step(lock: Lock | None, sequence: int) -> int | None:
    if not sequence:
        return None
    return 0 if lock is None else lock.step_of(sequence)


current: ContextVar[LogContext | None] = ContextVar("oncetask_attempt", default=None)
"""The attempt that is running in this context."""


class CloudFormatter(logging.Formatter):
    """
    One JSON line per record, with Cloud Logging's special fields and the current attempt.

    ``extra`` adds fields and replaces none of these; an ``oncetask`` of its own stands in ``oncetask.given``, so that no data
    that a program logs looks like a line of the trail.

    Args:
        project: Project id, or how to find it; traces need it.
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
    # Cloud Logging knows few names; a level of somebody's own counts as the next one below.
    return next((name for least, name in _SEVERITIES if level >= least), "DEBUG")


def _plain(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a log line is never worth an error
        return f"<{type(value).__name__}>"


_LINES: Final = json.JSONEncoder(default=_plain, separators=(",", ":"), allow_nan=False)
_quoted: Final[Callable[[str], str]] = _LINES.encode


def _encoded(value: Any) -> str:
    try:
        return _LINES.encode(value)
    except (TypeError, ValueError, RecursionError):
        return _LINES.encode(_tame(value, 0))


def _tame(value: Any, depth: int) -> Any:
    # What JSON has no word for (odd keys, circles, infinities) becomes text.
    if isinstance(value, dict) and depth < _MAX_DEPTH:
        return {_plain(key): _tame(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple) and depth < _MAX_DEPTH:
        return [_tame(item, depth + 1) for item in value]
    if isinstance(value, dict | list | tuple):
        return "..."
    if value is None or isinstance(value, str | bool | int):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else _plain(value)


class ContextFilter(logging.Filter):
    """
    Adds the current attempt to each record, for people who keep a format of their own: ``oncetask_document``,
    ``oncetask_sequence``, ``oncetask_step``, ``oncetask_attempt``, ``oncetask_token``, ``oncetask_holder``, ``oncetask_env``,
    ``oncetask_trace``, ``oncetask_task``, ``oncetask_kind``, ``oncetask_key``; empty outside an attempt.
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
        ):
            value = None if context is None else getattr(context, name)
            value = printable(value) if isinstance(value, str) else value
            setattr(record, f"oncetask_{name}", "" if value is None else value)
        return True


def trace_of(header: Callable[[str], str | None]) -> str | None:
    """
    The trace id of a request, whose headers are read by name: that by which Cloud Run's request log goes; None if there is none.
    """
    own = (header("X-Cloud-Trace-Context") or "").split("/", 1)[0].strip().lower()
    if _TRACE.fullmatch(own):
        return own
    parts = (header("traceparent") or "").strip().lower().split("-")
    return parts[1] if len(parts) >= 4 and parts[0] != "ff" and _TRACE.fullmatch(parts[1]) else None


class Trail:
    """
    The lines by which recovery learns what became of an attempt, written past the user's logging set-up.

    Args:
        project: Finds the project id, for the trace.
        stream: Where; None: standard output as it is when a line is written.
        clock: Wall time.
    """

    def __init__(self, project: Callable[[], str | None], stream: TextIO | None, clock: Clock) -> None:
        self._project = project
        self._stream = stream
        self._clock = clock
        self._complained = False

    def write(self, event: str, context: LogContext, message: str, *, outcome: str = "", settlement: str = "") -> None:
        """
        Write one line. A stream that can't be written to is complained of once.

        Args:
            event: Its name.
            context: The attempt.
            message: In our own plain words: nothing in it is quoted.
            outcome: How the attempt ends, a name; empty: it does not yet.
            settlement: What its end writes, as JSON text; empty: it is not told.

        Shape:
            stdout: {severity, message, time, logging.googleapis.com/trace, oncetask: {event, document, sequence, step,
            attempt, token, holder, env, pid, parent, outcome, settlement}}
        """
        trace = ""
        if context.trace and (project := self._project()):
            trace = f',"logging.googleapis.com/trace":{_quoted(f"projects/{project}/traces/{context.trace}")}'
        more = f',"outcome":"{outcome}"' if outcome else ""
        if settlement:
            more += f',"settlement":{_quoted(settlement)}'
        # Put together from parts: what the three lines of an attempt have in common is encoded once.
        line = (
            f'{{"severity":"INFO","time":"{instant_of(self._clock.mark().wall)}",'
            f'"message":{context.said[:-1]}: {message}"{trace},'
            f'"oncetask":{{"event":"{event}",{context.members},"pid":"{forks.pid}","parent":"{forks.parent}"{more}}}}}\n'
        )
        stream = self._stream or sys.stdout
        try:
            # One write per line: lines of several threads do not mix.
            stream.write(line)
            stream.flush()
        except (OSError, ValueError, AttributeError) as error:
            # AttributeError: a process without standard output has None there.
            if not self._complained:
                self._complained = True
                _LOGGER.warning(
                    "Evidence can't be written to %r (%s); if this process dies, its attempts are only taken over "
                    "after their time-outs. Keep standard output open.",
                    stream,
                    error,
                )


def payload(event: str, context: LogContext, message: str, outcome: str, settlement: str) -> dict[str, Any]:
    """
    What a line of the trail says, to be written by another way.
    """
    own = {"event": event, **context.fields, "pid": str(forks.pid), "parent": str(forks.parent), "outcome": outcome}
    if settlement:
        own["settlement"] = settlement
    return {"message": f"{context}: {message}", "oncetask": own}


def log_decision(
    logger: logging.Logger, level: int, event: str, context: LogContext | None, message: str, **fields: Any
) -> None:
    """
    Log a decision with its event name, attempt and facts as structured fields.

    The source location is that of the caller's caller: the engine's method passes decisions on.
    """
    own = Ours({"event": event, **(context.fields if context is not None else {})})
    own.update(
        {key: value if value is None or isinstance(value, bool) else _plain(value) for key, value in fields.items()}
    )
    logger.log(level, "%s", message, extra={"oncetask": own}, stacklevel=3)
