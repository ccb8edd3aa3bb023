"""
One document of the Go library oncetask, as a once-task. Pure.

Source:
    The type ``OnceTask`` of the Go library and the table of its ``GetStatus``: ``doneAt`` counts before ``isCancelled``, then
    come lease and time. All its times are RFC 3339 texts in whole seconds, and the year 1 means "at once".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gcp_oncetask.checks.values import shown, storable_text
from gcp_oncetask.errors import RecurrenceError
from gcp_oncetask.rules.record import Failure, Status
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.rules.writes import MAX_ERRORS, MAX_MESSAGE
from gcp_oncetask.tasks.earlier import EarlierTask
from gcp_oncetask.tasks.recurrence import Recurrence

_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})")
_SECOND: Final = timedelta(seconds=1)
"""A time in whole seconds is up to so much earlier than the one that was meant."""
_EXACT: Final = 2**53
"""Whole numbers below it are exact as floats."""


class UntakenError(Exception):
    """
    A document that can't be taken; the message is the reason.
    """


@dataclass(frozen=True, slots=True)
class OldTask:
    """
    A task of the Go library.

    Attributes:
        kind: Its type.
        data: Its payload, as JSON data.
        past: Its state.
        leased_until: End of its lease; None: it has none.
    """

    kind: str
    data: dict[str, Any]
    past: EarlierTask
    leased_until: datetime | None = None

    def leased(self, now: datetime) -> bool:
        """
        Tell whether a worker of the Go library may have the task at *now*.
        """
        return self.leased_until is not None and now < self.leased_until + _SECOND

    @property
    def said(self) -> str:
        """
        The state in words, such as ``completed`` or ``waiting until 2026-01-31T08:00:00.000000Z``.
        """
        past = self.past
        if past.ended:
            return str(past.status)
        if past.cancelling:
            return "to be cancelled"
        when = "due" if past.wait_until is None else f"waiting until {instant(past.wait_until)}"
        return when if past.recurrence is None else f"recurring, {when}"

    @property
    def occurrence(self) -> str | None:
        """
        Id of the occurrence that the generator makes next; None: the task is none, or has ended.
        """
        past = self.past
        if past.recurrence is None or past.ended or past.wait_until is None:
            return None
        return f"{past.id}_occ_{past.wait_until:%Y-%m-%dT%H:%M:%SZ}"


def env_of(fields: Mapping[str, Any]) -> str | None:
    """
    Return the environment of a document of the Go library; None: the document is none.
    """
    env = fields.get("env")
    return env if isinstance(env, str) and isinstance(fields.get("type"), str) and "lock" not in fields else None


def translate(id_: str, fields: Mapping[str, Any]) -> OldTask:
    """
    Translate a document of the Go library.

    Args:
        id_: Id of the document, percent signs and all.
        fields: Its fields, as Python values.

    Raises:
        UntakenError: The document can't be taken.
    """
    if fields.get("id") != id_:
        raise UntakenError(f"its field id is {shown(fields.get('id'))}")
    kind = _text(fields, "type")
    if not kind:
        raise UntakenError("its field type is empty")
    wait, done = _time(fields, "waitUntil"), _time(fields, "doneAt")
    recurrence = _recurrence(fields.get("recurrence"))
    attempts, errors = _attempts(fields)
    cancelled = _flag(fields, "isCancelled")
    status = _status(done, attempts, len(errors), cancelled=cancelled)
    if cancelled and recurrence is not None:
        # The Go library ends a cancelled generator without its cancellation handler.
        status = Status.CANCELLED
    if recurrence is not None and status is Status.SCHEDULED and wait is not None and recurrence.first(wait) != wait:
        raise UntakenError(f"its recurrence has no run at its waitUntil, {instant(wait)}")
    parent = _text(fields, "parentRecurrenceId") or None
    past = EarlierTask(
        id=id_,
        resource_key=_text(fields, "resourceKey") or None,
        wait_until=wait,
        recurrence=recurrence,
        status=status,
        cancelling=cancelled and status is Status.SCHEDULED,
        # A generator has no attempts here, and the cancellation handler has its own.
        attempts=0 if recurrence is not None or (cancelled and done is None) else attempts,
        errors=() if recurrence is not None else _failures(errors),
        result=fields.get("result"),
        created_at=_time(fields, "createdAt"),
        done_at=done or (_time(fields, "cancelledAt") if status is Status.CANCELLED else None),
        parent_id=parent,
        occurrence_at=_time(fields, "occurrenceTimestamp") if parent is not None else None,
    )
    data = fields.get("data")
    if data is not None and not isinstance(data, dict):
        raise UntakenError("its field data is no map")
    return OldTask(kind, _json(data or {}, "data"), past, None if done is not None else _time(fields, "leasedUntil"))


def _status(done: datetime | None, attempts: int, failed: int, *, cancelled: bool) -> Status:
    if done is None:
        return Status.SCHEDULED
    if cancelled:
        return Status.CANCELLED
    return Status.COMPLETED if attempts > failed else Status.FAILED


def _recurrence(stored: Any) -> Recurrence | None:
    if stored is None:
        return None
    if not isinstance(stored, dict):
        raise UntakenError("its field recurrence is no map")
    try:
        return Recurrence(stored.get("rrule") or "", stored.get("dtstart") or "", stored.get("exdates") or ())
    except RecurrenceError as error:
        raise UntakenError(f"its recurrence can't be read: {error}") from None


def _attempts(fields: Mapping[str, Any]) -> tuple[int, list[Any]]:
    attempts, errors = fields.get("attempts", 0), fields.get("errors") or []
    if type(attempts) is not int or attempts < 0:
        raise UntakenError(f"its field attempts is {shown(attempts)}")
    if not isinstance(errors, list) or not all(isinstance(each, dict) for each in errors):
        raise UntakenError("its field errors is no list of maps")
    return attempts, errors


def _failures(errors: list[Any]) -> tuple[Failure, ...]:
    found = []
    for number, each in list(enumerate(errors, 1))[-MAX_ERRORS:]:
        at = _time(each, "at")
        if at is None:
            raise UntakenError(f"its errors[{number - 1}] has no time")
        found.append(Failure(at, number, 1, storable_text(_text(each, "error"))[:MAX_MESSAGE]))
    return tuple(found)


# --- fields -----------------------------------------------------------------------------------------------------------


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise UntakenError(f"its field {name} is {shown(value)}, which is no text")
    return value or ""


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise UntakenError(f"its field {name} is {shown(value)}, neither true nor false")
    return value


def _time(fields: Mapping[str, Any], name: str) -> datetime | None:
    """
    Return the time in a field; None if it is empty, or in the year 1.
    """
    text = _text(fields, name)
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text) if _TIME.fullmatch(text) else None
        if found is not None and found.year > 1:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        found = None
    if found is None:
        raise UntakenError(f"its field {name} is {shown(text)}, which is no time")
    return None


def _json(value: Any, at: str) -> Any:
    """
    Return *value* as the JSON data that Go has made it of. Firestore has all numbers of it as floats.
    """
    match value:
        case dict():
            return {name: _json(item, f"{at}.{name}") for name, item in value.items()}
        case list():
            return [_json(item, f"{at}[{number}]") for number, item in enumerate(value)]
        case float() if value.is_integer() and abs(value) < _EXACT:
            return int(value)
        case None | str() | bool() | int():
            return value
        case float() if value - value == 0:
            return value
        case _:
            raise UntakenError(f"its {at} is a {type(value).__name__}, which JSON does not have")
