"""
The stored form of a durable handler's record, read without the library's rules: its journal, its mailbox, and whether its parts
agree.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from gcp_oncetask.rules.record import Lock, Status

_OPEN = "open"


def told(lock: Lock) -> tuple[Any, ...]:
    """
    What the handler has been brought forward by: its answers, without its intents and failed tries.
    """
    rows = [json.loads(row) for row in lock.journal]
    kept = tuple(
        (row["n"], (row.get("x") or {}).get("pages"), (row.get("x") or {}).get("rounds"))
        for row in rows
        if row.get("e", "done") in ("done", "failed", "timed-out", "rejected") or row["s"] in ("pages", "poll")
    )
    return kept, len(lock.chunks), lock.wait is not None and lock.wait.ended is not None


def rows(lock: Lock, read: Callable[[str], Any]) -> list[dict[str, Any]]:
    """
    The entries of the whole journal; *read* returns a document.
    """
    found: list[bytes] = []
    for chunk in lock.chunks:
        document = read(f"onceJournals/{chunk.id}")
        found += [] if document is None else [v.bytes_value for v in document.fields["entries"].array_value.values]
    return [json.loads(row) for row in (*found, *lock.journal)]


def events(lock: Lock) -> list[str]:
    """
    The ids of the events in the mailbox.
    """
    return [json.loads(row)["i"] for row in lock.mailbox]


def is_open(lock: Lock | None, name: str) -> bool:
    """
    Whether the record says that the run *name* was begun once.
    """
    return lock is not None and any(intent.name == name for intent in lock.open)


def trouble_of(lock: Lock, now: datetime) -> str | None:
    """
    What does not agree in the record at *now*; None if all does.
    """
    has = {"journal": lock.journal or lock.chunks, "mailbox": lock.mailbox, "wait": lock.wait}
    for need, there in has.items():
        if (need in lock.needs) is not bool(there):
            return f"its needs are {lock.needs}, and its {need} is {'there' if there else 'not there'}"
    found = [json.loads(row) for row in lock.journal]
    names = [row["n"] for row in found]
    if len(set(names)) != len(names) or len({row["o"] for row in found}) != len(found):
        return f"its journal has a name or an ordinal twice: {names}"
    if lock.progress_at > lock.attempts:
        return f"it was brought forward by attempt {lock.progress_at}, and has {lock.attempts}"
    if not lock.chunks and {row["n"] for row in found if row.get("e") == _OPEN} != {i.name for i in lock.open}:
        return f"its open runs are {[i.name for i in lock.open]}, and its journal has {names}"
    return _wait_of(lock, now)


def _wait_of(lock: Lock, now: datetime) -> str | None:
    wait = lock.wait
    if lock.finished and (wait is not None or lock.open):
        return f"it has ended, and has a wait or an open run: {lock.status}"
    if wait is None or lock.status is not Status.SCHEDULED or wait.ended is not None:
        return None
    if wait.until is None and lock.wait_until is not None and lock.cancel_requested_at is None:
        return f"it waits for {wait.name!r} without a time-out, until {lock.wait_until}"
    waiting = {json.loads(row)["n"] for row in lock.mailbox} & set(wait.events)
    if waiting and lock.wait_until is not None and lock.wait_until > now + timedelta(seconds=1):
        return f"its event is there, and it waits on until {lock.wait_until}"
    return None
