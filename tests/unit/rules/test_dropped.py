"""
Entries that are over with a page, in the open part of the journal and in sealed ones.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gcp_oncetask.rules import journal
from gcp_oncetask.rules.journal import Dropped, EntrySort, EntryState, JournalEntry, JournalWrite
from gcp_oncetask.rules.record import Chunk, Lock, Status

AT = datetime(2026, 1, 1, tzinfo=UTC)


def entry(ordinal: int, name: str | None = None, size: int = 0) -> JournalEntry:
    return JournalEntry(name or f"run-{ordinal}", EntrySort.RUN, ordinal, 1, AT, value="x" * size)


def pages(over: int | None) -> JournalEntry:
    more = None if over is None else {"over": over}
    return JournalEntry("pages", EntrySort.PAGES, 2, 1, AT, EntryState.UNDER_WAY, more=more)


def lock(*entries: JournalEntry, chunks: tuple[Chunk, ...] = ()) -> Lock:
    stored = tuple(each.to_bytes() for each in entries)
    return Lock(env="p", sequence=1, status=Status.LEASED, journal=stored, chunks=chunks)


CHUNKS = {
    "before": (Chunk("c", 1, 1, 10), True),
    "before and within": (Chunk("c", 1, 4, 10), True),
    "former state of the pages": (Chunk("c", 2, 2, 10), False),
    "within": (Chunk("c", 2, 5, 10), False),
    "beyond": (Chunk("c", 4, 6, 10), True),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_a_sealed_part_goes_if_all_of_it_is_over(name: str) -> None:
    chunk, stays = CHUNKS[name]
    before = lock(chunks=(chunk,))
    write = JournalWrite((pages(5),), dropped=Dropped(2, 5))
    after = journal.applied(before, write, "n", seals="s")
    assert after.chunks == ((chunk,) if stays else ())
    assert journal.left_out(before, after) == (() if stays else (chunk,))
    assert journal.sealed(before, after, write) is None


def test_entries_of_the_open_part_go() -> None:
    before = lock(entry(1), pages(None), entry(3), entry(5))
    write = JournalWrite((entry(6), pages(5)), dropped=Dropped(2, 5))
    after = journal.applied(before, write, "n", seals="s")
    assert [each.name for each in journal.open_entries(after)] == ["run-1", "pages", "run-6"]


def test_a_part_that_is_sealed_by_the_same_commit_has_what_stays() -> None:
    before = lock(entry(1, size=20_000), entry(3), chunks=(Chunk("old", 2, 4, 10),))
    write = JournalWrite((pages(5),), dropped=Dropped(2, 5))
    after = journal.applied(before, write, "n", seals="new")
    found = journal.sealed(before, after, write)
    assert found is not None
    assert (found[0].id, [JournalEntry.of(row).name for row in found[1]]) == ("new", ["run-1", "pages"])
    assert [chunk.id for chunk in after.chunks] == ["new"]


def test_a_journal_is_read_without_that_which_is_over() -> None:
    rows = [each.to_bytes() for each in (entry(1), entry(3), pages(None), pages(5), entry(5, "last"), entry(6))]
    assert list(journal.latest(rows)) == ["run-1", "pages", "run-6"]


def test_a_write_survives_its_log_line() -> None:
    write = JournalWrite((pages(5),), dropped=Dropped(2, 5))
    assert JournalWrite.from_data(write.to_data()) == write
