"""
Records as the server has stored them, read without the library's codec; all times are micros since the epoch.
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from gcp_emulator.clock import micros_of
from tests.simulation.hub import SECOND


class Owed(NamedTuple):
    """
    An alert that a record owes.
    """

    id: str
    event: str
    at: int
    until: int
    sequence: int
    attempt: int
    reason: str
    tries: int
    digest: str


class Record(NamedTuple):
    """
    A record; the parts that the checks need. An absent text is empty, an absent time is 0.
    """

    status: str
    sequence: int
    token: int
    holder: str
    settled_by: str
    scheduled_by: str
    attempts: int
    dispatches: int
    url: str
    queue: str
    due: str
    wait_until: int
    granted_at: int
    leased_at: int
    lease: int
    run_limit: int
    parked: bool
    paused: bool
    cancelling: bool
    cancel_asked: bool
    wanted: int
    attention: str
    alert_on: tuple[str, ...]
    owed: tuple[Owed, ...]
    open: bool
    """Whether a run was begun once, and its fate is not known."""
    awaits: str
    """Sort of a wait that has no time-out and has not ended; empty: there is none."""
    awaits_since: int

    @property
    def claimable(self) -> bool:
        """
        Whether a delivery or a worker may claim it, once its time has come.
        """
        return self.status == "scheduled" and not self.parked and not self.paused and not self.awaits

    @property
    def waiting(self) -> bool:
        """
        Whether an event, or the ends of children, must come before a delivery may claim it.
        """
        return self.status == "scheduled" and not self.parked and not self.paused and bool(self.awaits)

    @property
    def ends_at(self) -> int:
        """
        End of its lease.
        """
        return min(self.leased_at + self.lease, self.granted_at + self.run_limit)

    @property
    def due_at(self) -> int:
        """
        Time of its next look; 0: none.
        """
        return instant(self.due.rpartition("/")[2]) if self.due else 0

    @property
    def lane(self) -> str:
        """
        The lane of its next look.
        """
        return self.due.split("/")[1] if self.due else ""


@lru_cache(4096)
def instant(text: str) -> int:
    """
    Micros of a time in RFC 3339.
    """
    return micros_of(datetime.fromisoformat(text))


def _text(fields: Any, name: str) -> str:
    value = fields.get(name)
    return "" if value is None else str(value.string_value)


def _number(fields: Any, name: str, default: int = 0) -> int:
    value = fields.get(name)
    return default if value is None else int(value.integer_value)


def _true(fields: Any, name: str) -> bool:
    value = fields.get(name)
    return value is not None and bool(value.boolean_value)


def time(fields: Any, name: str) -> int:
    """
    The time of a field, as micros; 0: it is absent.
    """
    value = fields.get(name)
    return 0 if value is None else value.timestamp_value.seconds * SECOND + value.timestamp_value.nanos // 1000


def _seconds(fields: Any, name: str, default: float) -> int:
    value = fields.get(name)
    seconds = default if value is None else value.double_value or float(value.integer_value)
    return round(seconds * SECOND)


def _owed(value: Any) -> Owed:
    fields = value.map_value.fields
    return Owed(
        _text(fields, "id"),
        _text(fields, "event"),
        time(fields, "at"),
        time(fields, "until"),
        _number(fields, "sequence"),
        _number(fields, "attempt"),
        _text(fields, "reason"),
        _number(fields, "tries"),
        _text(fields, "digest"),
    )


def record_of(document: Any) -> Record | None:
    """
    The record of a stored *document*; None: it has none.
    """
    lock = document.fields.get("lock")
    if lock is None:
        return None
    fields = lock.map_value.fields
    owed, events = fields.get("owed"), fields.get("alertOn")
    awaits, since = _awaited(fields)
    return Record(
        _text(fields, "status"),
        _number(fields, "sequence"),
        _number(fields, "token"),
        _text(fields, "holder"),
        _text(fields, "settledBy"),
        _text(fields, "scheduledBy"),
        _number(fields, "attempts"),
        _number(fields, "dispatches"),
        _text(fields, "url"),
        _text(fields, "queue"),
        _text(fields, "due"),
        time(fields, "waitUntil"),
        time(fields, "grantedAt"),
        time(fields, "leasedAt"),
        _seconds(fields, "leaseSeconds", 60.0),
        _seconds(fields, "runLimitSeconds", 630.0),
        _text(fields, "parked") != "",
        _true(fields, "paused"),
        _true(fields, "cancelling"),
        time(fields, "cancelRequestedAt") != 0,
        _number(fields, "wanted"),
        _text(fields, "attention"),
        ("takeover", "failure", "quarantine")
        if events is None
        else tuple(one.string_value for one in events.array_value.values),
        () if owed is None else tuple(map(_owed, owed.array_value.values)),
        "open" in fields,
        awaits,
        since,
    )


def _awaited(fields: Any) -> tuple[str, int]:
    wait = fields.get("wait")
    if wait is None or time(fields, "waitUntil") or time(fields, "cancelRequestedAt"):
        return "", 0
    told = wait.map_value.fields
    if "ended" in told or "until" in told:
        return "", 0
    names = {name.string_value for name in told["events"].array_value.values} if "events" in told else set()
    rows = [json.loads(row.bytes_value) for row in fields["mailbox"].array_value.values] if "mailbox" in fields else []
    if any(row["n"] in names and row.get("w") in (None, _text(told, "name")) for row in rows):
        return "", 0
    return _text(told, "sort"), time(told, "since")
