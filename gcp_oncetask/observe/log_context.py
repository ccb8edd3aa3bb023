"""
The attempt that a log line is about, with the field names that all lines of the library share.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from json.encoder import encode_basestring_ascii
from typing import Any, Final

from gcp_oncetask.checks.told import Harmless, text_of
from gcp_oncetask.rules.document_paths import parse_task_path
from gcp_oncetask.rules.record import Lock

LOGGER: Final = logging.getLogger("gcp_oncetask")
for _each in (LOGGER, logging.getLogger("gcp_oncetask.alerts")):
    _each.addFilter(Harmless())
_TRACE: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")


def plain(value: Any) -> str:
    """
    Return *value* as text; the name of its type if that fails.
    """
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a log line is never worth an error
        return f"<{type(value).__name__}>"


LINES: Final = json.JSONEncoder(default=plain, separators=(",", ":"), allow_nan=False)
"""Encodes log lines."""
quoted: Final[Callable[[str], str]] = encode_basestring_ascii
"""Returns the JSON form of a text."""


@dataclass(slots=True)
class LogContext:
    """
    The attempt that a log line belongs to. It is never changed.

    Attributes:
        document: Path of the document.
        sequence: Sequence, 1-based, never repeated.
        attempt: Number of the attempt within the sequence, 1-based; 0 before the first grant.
        token: Fencing token.
        holder: Nonce of the attempt.
        env: Environment.
        trace: Trace id of its request, 32 hexadecimal digits.
        task: Id of the once-task; None: there is none, or it is a batch of several.
        kind: Kind of the once-task; None: there is none.
        key: The resource key of the task; None: it has none.
        step: Step within its chain, 1-based; 0: it is not known; None: the document is no chain, but a named lock for
            instance.
        run: Name of the run or map whose function is called; None: none is.
        index: Place of the item within its map, from 0; None: no item is.
        place: The text of ``str()`` after the document.
        said: The text of ``str()``, as JSON text without the last quotation mark.
        members: All fields as JSON text without braces, the begin of the JSON field ``oncetask``.
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
    run: str | None = None
    index: int | None = None
    place: str = field(init=False, repr=False, compare=False)
    said: str = field(init=False, repr=False, compare=False)
    members: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Every attempt needs this, so for speed it is put together by hand. It equals ``fields``.
        document = quoted(self.document)
        named, step = (f", step {self.step}", f'"step":"{self.step}",') if self.step else ("", "")
        tried = f", attempt {self.attempt}" if self.attempt else ""
        self.place = "" if self.step is None else f" (sequence {self.sequence}{named}{tried})"
        self.said = document[:-1] + self.place
        self.members = (
            f'"document":{document},"sequence":"{self.sequence}",{step}"attempt":"{self.attempt}",'
            f'"token":"{self.token}","holder":{quoted(self.holder)},"env":{quoted(self.env)}'
        )
        if self.kind is not None:
            self.members += "".join([f',"{name}":{quoted(value)}' for name, value in self._task().items()])
        if self.run is not None:
            self.members += "".join([f',"{name}":{quoted(value)}' for name, value in self._run().items()])

    def __str__(self) -> str:
        """
        Return the name of the attempt in lines for people: ``orders/42 (sequence 5, step 2, attempt 1)``.
        """
        return self.document + self.place

    def without(self, text: Any) -> str:
        """
        Return *text* without the document with which messages of errors begin, for a line that begins with it already.
        """
        return str(text).removeprefix(f"{self.document}: ")

    def log(self, level: int, message: str, *args: Any, exc_info: Any = None) -> None:
        """
        Log a line for people. It begins with the name of the attempt, and its fields hold the attempt, too.

        Args:
            level: Level of ``logging``.
            message: Message with placeholders for ``%``.
            *args: Values of the placeholders.
            exc_info: Error to log, as for ``logging``.
        """
        if LOGGER.isEnabledFor(level):
            shown = [self.without(text_of(each)) if isinstance(each, BaseException) else each for each in args]
            fields = {"oncetask": Ours(self.fields)}
            LOGGER.log(level, "%s: " + message, str(self), *shown, exc_info=exc_info, extra=fields, stacklevel=2)  # noqa: G003 - a constant

    @property
    def fields(self) -> dict[str, str]:
        """
        Members of the JSON field ``oncetask``. Ids and counters are texts, because Cloud Logging would turn numbers
        into floats.
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
            **({} if self.run is None else self._run()),
        }

    def calling(self, run: str) -> LogContext:
        """
        Return the context of lines of the function of *run*, which may be an item of a map, such as ``pack[3]``.
        """
        name, _, index = run.partition("[")
        return replace(self, run=name, index=int(index[:-1]) if index else None)

    def _run(self) -> dict[str, str]:
        more = {"run": self.run, "index": None if self.index is None else str(self.index)}
        return {name: value for name, value in more.items() if value is not None}

    def _task(self) -> dict[str, str]:
        more = {"task": self.task, "kind": self.kind, "resourceKey": self.key}
        return {name: value for name, value in more.items() if value is not None}


class Ours(dict[str, Any]):
    """
    The library's own value of the field ``oncetask``. The formatter trusts only values of this class.
    """


About = LogContext | Callable[[], LogContext] | None
"""The attempt that a line is about, or a function that returns it if the line is written."""


def context_at(
    document: str, env: str, lock: Lock | None, sequence: int | None = None, attempt: int | None = None
) -> LogContext:
    """
    Return the context of a log line about a stored document.

    Args:
        document: Path of the document.
        env: Environment.
        lock: Lock of the document; None: it has none, or it is not known.
        sequence: The sequence that the line is about; None: the present one.
        attempt: The attempt that the line is about; None: the last attempt, if the sequence is the present one.
    """
    present = 0 if lock is None else lock.sequence
    sequence = present if sequence is None else sequence
    own = lock if sequence == present else None
    task = parse_task_path(document)
    return LogContext(
        document=document,
        sequence=sequence,
        attempt=attempt if attempt is not None else 0 if own is None else own.attempts,
        token=0 if lock is None else lock.token,
        holder="" if own is None else own.holder or "",
        env=env,
        trace=None if own is None else own.trace,
        task=None if task is None else task.id,
        kind=None if task is None else task.kind,
        key=None if lock is None else lock.key,
        step=None if not sequence else 0 if lock is None else lock.step_of(sequence),
    )


replays: ContextVar[Callable[[], bool] | None] = ContextVar("oncetask_replays", default=None)
"""Tells whether the current attempt says again the words of an earlier one; None: there was none."""
current: ContextVar[LogContext | None] = ContextVar("oncetask_attempt", default=None)
"""The attempt that runs in this context."""


def trace_of(header: Callable[[str], str | None]) -> str | None:
    """
    Return the trace id that Cloud Run's request log uses for a request; None if there is none. *header* returns a
    header by its name.
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

    The source location of the line is the code that reports the event. Between it and the logger are log_decision, the
    observer and two methods of the reporter.
    """
    own = Ours({"event": event, **(context.fields if context is not None else {})})
    own.update(
        {key: value if value is None or isinstance(value, bool) else plain(value) for key, value in fields.items()}
    )
    logger.log(level, "%s", message, extra={"oncetask": own}, stacklevel=5)
