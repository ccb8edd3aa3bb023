"""
The attempt that a log line is about, by the names that every line of the library has for it.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from gcp_oncetask.checks.told import Harmless, text_of
from gcp_oncetask.rules.documents import task_name
from gcp_oncetask.rules.record import Lock

LOGGER: Final = logging.getLogger("gcp_oncetask")
for _each in (LOGGER, logging.getLogger("gcp_oncetask.alerts")):
    _each.addFilter(Harmless())
_TRACE: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")


def plain(value: Any) -> str:
    """
    The text of *value*; the name of its type if it has none.
    """
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a log line is never worth an error
        return f"<{type(value).__name__}>"


LINES: Final = json.JSONEncoder(default=plain, separators=(",", ":"), allow_nan=False)
"""Encodes log lines."""
quoted: Final[Callable[[str], str]] = LINES.encode
"""JSON text of a text."""


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
        document = quoted(self.document)
        self.said = f'{document[:-1]}{self._place()}"'
        step = f'"step":"{self.step}",' if self.step else ""
        self.members = (
            f'"document":{document},"sequence":"{self.sequence}",{step}"attempt":"{self.attempt}",'
            f'"token":"{self.token}","holder":{quoted(self.holder)},"env":{quoted(self.env)}'
        )
        if self.kind is not None:
            self.members += "".join([f',"{name}":{quoted(value)}' for name, value in self._task().items()])

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
        if LOGGER.isEnabledFor(level):
            shown = [self.without(text_of(each)) if isinstance(each, BaseException) else each for each in args]
            fields = {"oncetask": Ours(self.fields)}
            LOGGER.log(level, "%s: " + message, str(self), *shown, exc_info=exc_info, extra=fields, stacklevel=2)  # noqa: G003 - a constant

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


def trace_of(header: Callable[[str], str | None]) -> str | None:
    """
    The trace id of a request, whose headers are read by name: that by which Cloud Run's request log goes; None if there is none.
    """
    own = (header("X-Cloud-Trace-Context") or "").split("/", 1)[0].strip().lower()
    if _TRACE.fullmatch(own):
        return own
    parts = (header("traceparent") or "").strip().lower().split("-")
    return parts[1] if len(parts) >= 4 and parts[0] != "ff" and _TRACE.fullmatch(parts[1]) else None


def log_decision(
    logger: logging.Logger, level: int, event: str, context: LogContext | None, message: str, **fields: Any
) -> None:
    """
    Log a decision with its event name, attempt and facts as structured fields.

    The source location is that of the code that tells the event: log_decision, the observer and two methods of the reporter lie
    between.
    """
    own = Ours({"event": event, **(context.fields if context is not None else {})})
    own.update(
        {key: value if value is None or isinstance(value, bool) else plain(value) for key, value in fields.items()}
    )
    logger.log(level, "%s", message, extra={"oncetask": own}, stacklevel=5)
