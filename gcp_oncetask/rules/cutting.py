"""
A journal that is cut at a name, so that its handler runs again from there. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from gcp_oncetask.rules.journal import EntryState, JournalEntry, latest
from gcp_oncetask.rules.record import Chunk, Intent, Lock
from gcp_oncetask.rules.timestamps import parse_instant

MAX_REST: Final = 262_144
"""Most bytes that a cut leaves outside of sealed parts."""
_PERHAPS: Final = (EntryState.DONE, EntryState.REJECTED)


class CutJournal(NamedTuple):
    """
    A shorter journal.

    Attributes:
        journal: The entries that are not sealed: those of parts that were split, too.
        chunks: The sealed parts that stay whole.
        open: The runs with ``once=True`` that are forgotten, and perhaps have happened: they are verified first.
        journal_before: The entries that were not sealed before.
        chunks_before: The sealed parts before.
    """

    journal: tuple[bytes, ...]
    chunks: tuple[Chunk, ...]
    open: tuple[Intent, ...]
    journal_before: tuple[bytes, ...]
    chunks_before: tuple[Chunk, ...]


def cut_at(lock: Lock, rows: Sequence[bytes], name: str, now: datetime) -> CutJournal | None:
    """
    Return the journal of *lock* without the entry *name* and those after it in the order of the journal; None if it has no
    such entry.

    Args:
        lock: The record.
        rows: All entries of its journal, as stored, oldest first.
        name: The first entry to forget.
        now: Estimate of the server's clock.
    """
    entries = latest(rows)
    if name not in entries:
        return None
    place = entries[name].ordinal
    whole: list[Chunk] = []
    rest: list[bytes] = []
    at = 0
    for chunk in lock.chunks:
        begin, size = at, 0
        while size < chunk.size:
            size, at = size + len(rows[at]), at + 1
        if chunk.last < place:
            whole.append(chunk)
        else:
            rest += rows[begin:at]
    # An entry that is not the last one of its name would hide that one, which a sealed part may have.
    kept = [row for row in (*rest, *rows[at:]) if _stays(row, entries, place)]
    perhaps = [entry for entry in entries.values() if entry.ordinal >= place and _has_happened(entry)]
    kept += [_opened(entry).to_bytes() for entry in perhaps]
    intents = tuple(Intent(entry.name, entry.token, _begun(entry), now) for entry in perhaps)
    return CutJournal(tuple(kept), tuple(whole), intents, lock.journal, lock.chunks)


def _stays(row: bytes, entries: dict[str, JournalEntry], place: int) -> bool:
    entry = JournalEntry.of(row)
    return entry.ordinal < place and entries[entry.name] == entry


def _has_happened(entry: JournalEntry) -> bool:
    return "key" in (entry.more or {}) and entry.state in _PERHAPS


def _begun(entry: JournalEntry) -> datetime:
    begun = (entry.more or {}).get("begun")
    return entry.at if begun is None else parse_instant(begun)


def _opened(entry: JournalEntry) -> JournalEntry:
    # The receipt stays for the person who may be asked. The type that reads an answer is not known any more, but for its being.
    more = {"key": (entry.more or {})["key"]} | ({"type": ":"} if entry.model else {})
    return entry._replace(state=EntryState.OPEN, at=_begun(entry), more=more)
