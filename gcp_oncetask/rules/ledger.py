"""
The journal as people read it: its entries as rows, the ledger of effects outside, the wait and the events that no wait has
taken. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from gcp_oncetask.rules import waits
from gcp_oncetask.rules.journal import EntrySort, EntryState, JournalEntry, latest
from gcp_oncetask.rules.record import Lock, Status, WaitFor
from gcp_oncetask.rules.timestamps import instant, parse_instant

SHOWN: Final = 20
"""Entries and events that a screen shows, the last ones."""


class OutsideEffect(NamedTuple):
    """
    A run with ``once=True``: an effect outside of Firestore.

    Attributes:
        name: Name of the run.
        key: Idempotency key by which the remote system knows it.
        state: ``done``; ``open``: its result is not known; ``withdrawn``: it surely did not happen; ``failed``: its retries
            are used up; ``rejected``: it was done, and its result could not be kept.
        begun: Time of the intent (estimate of the server's clock).
        ended: Time at which its fate was known; None: the result is not known.
        token: Fencing token of the attempt that wrote the last entry.
        receipt: Its result as JSON data, or the reason for which that could not be kept; None: there is none.
        known_by: ``call``; ``verify``: a verification has found the result; ``person``: a person has given it.
    """

    name: str
    key: str
    state: str
    begun: datetime
    ended: datetime | None
    token: int
    receipt: Any
    known_by: str

    def as_data(self) -> dict[str, Any]:
        """
        Return the effect as JSON data.
        """
        ended = None if self.ended is None else instant(self.ended)
        return self._asdict() | {"begun": instant(self.begun), "ended": ended}


def in_order(entries: Mapping[str, JournalEntry]) -> list[JournalEntry]:
    """
    Return *entries* in the order of the journal.
    """
    return sorted(entries.values(), key=lambda entry: entry.ordinal)


def effects_of(entries: Mapping[str, JournalEntry]) -> list[OutsideEffect]:
    """
    Return the runs with ``once=True`` among *entries*, in the order of the journal.
    """
    return [
        _effect(entry) for entry in in_order(entries) if entry.sort is EntrySort.RUN and "key" in (entry.more or {})
    ]


def _effect(entry: JournalEntry) -> OutsideEffect:
    more = entry.more or {}
    is_open = entry.state is EntryState.OPEN
    begun = more.get("begun")
    known_by = "person" if more.get("answered") else "verify" if more.get("verified") else "call"
    return OutsideEffect(
        entry.name,
        str(more["key"]),
        str(entry.state),
        entry.at if begun is None else parse_instant(begun),
        None if is_open else entry.at,
        entry.token,
        entry.value,
        known_by,
    )


def entry_line(entry: JournalEntry) -> str:
    """
    Return name, sort and state of *entry* as a sentence.
    """
    tries = len((entry.more or {}).get("tries", ()))
    return f"{entry.sort} {entry.name!r}: {entry.state}{f', {tries} tries failed' if tries else ''}"


def entry_data(entry: JournalEntry) -> dict[str, Any]:
    """
    Return *entry* as JSON data.
    """
    return entry._asdict() | {"sort": str(entry.sort), "state": str(entry.state), "at": instant(entry.at)}


def wait_line(lock: Lock) -> str | None:
    """
    Return the wait of a suspended sequence as a sentence; None: it waits for nothing.
    """
    wait = lock.wait
    if wait is None or lock.status not in (Status.SCHEDULED, Status.LEASED):
        return None
    asked = {
        WaitFor.SLEEP: "a time",
        WaitFor.EVENT: f"the event {' or '.join(map(repr, wait.events))}",
        WaitFor.CHILDREN: "its children",
        WaitFor.RETRY: "its next try",
        WaitFor.VERIFY: "its verification",
        WaitFor.POLL: "its next round",
    }[wait.sort]
    until = "without a time-out" if wait.until is None else f"until {instant(wait.until)}"
    over = "" if wait.ended is None else f"; ended by {wait.ended}"
    return f"{wait.name!r}: {asked}, {until}, since {instant(wait.since)}{over}"


def unread_lines(lock: Lock) -> list[str]:
    """
    Return the events that no wait has taken, each as a sentence without its payload.
    """
    return [f"{event.name!r} of {instant(event.at)}, id {event.id}" for event in waits.events(lock)[-SHOWN:]]


def state_rows(lock: Lock, stored: Sequence[bytes] | None = ()) -> list[tuple[str, str]]:
    """
    Return labels and texts of the wait, the progress, the events and the journal of a record; those that there are.

    Args:
        lock: The record.
        stored: The last entries, those of sealed parts included; empty: those of the record alone; None: a part can't be
            read.
    """
    if not lock.durable and lock.progress is None:
        return []
    rows: list[tuple[str, str]] = []
    if (waited := wait_line(lock)) is not None:
        rows.append(("waits for", waited))
    if lock.progress is not None:
        rows.append(("progress", lock.progress))
    rows += [("unread", text) for text in unread_lines(lock)]
    if lock.chunks:
        sealed = sum(chunk.size for chunk in lock.chunks)
        trouble = ", of which one can't be read" if stored is None else ""
        rows.append(("journal", f"{len(lock.chunks)} sealed parts with {sealed:,} bytes{trouble}; its last entries:"))
    entries = last(latest(stored).values()) if stored else of_record(lock)
    return rows + [("journal", f"{entry_line(entry)}, {instant(entry.at)}") for entry in entries]


def of_record(lock: Lock) -> list[JournalEntry]:
    """
    Return the last entries of the journal that are in the record itself, oldest first.
    """
    return last(JournalEntry.of(stored) for stored in lock.journal)


def last(entries: Iterable[JournalEntry]) -> list[JournalEntry]:
    """
    Return the last ``SHOWN`` of *entries*, in the order of the journal.
    """
    return sorted(entries, key=lambda entry: entry.ordinal)[-SHOWN:]
