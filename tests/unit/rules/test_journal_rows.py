"""
The open part of a journal: one row for each name, in the order in which the names came.
"""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from gcp_oncetask.rules import journal
from gcp_oncetask.rules.journal import EntrySort, EntryState, JournalEntry, JournalWrite
from tests.unit.rules.test_rules import NOW, leased

NAMES = st.text(st.sampled_from(string.ascii_letters + '",:{}\\é\ud800\U0001f600 '), min_size=1, max_size=4)


def entry(name: str, number: int) -> JournalEntry:
    return JournalEntry(name, EntrySort.RUN, number, 7, NOW, EntryState.DONE, value=number)


@given(st.lists(st.lists(NAMES, max_size=3), max_size=8))
def test_later_entry_of_a_name_replaces_the_earlier_one_in_its_place(commits: list[list[str]]) -> None:
    """
    As a dictionary by name would keep them, although no row is parsed.
    """
    lock, kept, number = leased(), {}, 0
    for names in commits:
        entries = []
        for name in names:
            number += 1
            entries.append(entry(name, number))
        lock = journal.applied(lock, JournalWrite(tuple(entries)), "n")
        kept |= {each.name: each for each in entries}
    assert [JournalEntry.of(row) for row in lock.journal] == list(kept.values())


def test_rows_are_not_parsed_by_a_commit() -> None:
    """
    A commit costs no parsing of the entries before it: rows that no parser takes are no trouble.
    """
    lock = leased(journal=(b"not JSON",) * 3)
    after = journal.applied(lock, JournalWrite((entry("a", 1),)), "n")
    assert after.journal == (*lock.journal, entry("a", 1).to_bytes())
