"""
The journal as people read it, and a journal that is cut.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from gcp_oncetask.rules import cutting, ledger
from gcp_oncetask.rules.journal import EntrySort, EntryState, JournalEntry
from gcp_oncetask.rules.record import Chunk, HandlerWait, Lock, Status, WaitFor, Woken
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.rules.waits import SentEvent

T0 = datetime(2026, 1, 1, tzinfo=UTC)
LATER = T0 + timedelta(hours=1)


def entry(name: str, ordinal: int, **values: Any) -> JournalEntry:
    return JournalEntry(name, values.pop("sort", EntrySort.RUN), ordinal, 1, values.pop("at", LATER), **values)


CHARGE = entry("charge", 2, value="r1", more={"key": "k2", "begun": instant(T0), "verified": True})
PACK = entry("pack", 1, more={"tries": ["e"]})
SHIP = entry("ship", 3, state=EntryState.OPEN, more={"key": "k3"})
ENTRIES = {each.name: each for each in (CHARGE, SHIP, PACK)}


def record(*entries: JournalEntry, **values: Any) -> Lock:
    stored = tuple(each.to_bytes() for each in entries)
    return Lock.of({"env": "E", "status": Status.SCHEDULED, "sequence": 1, "journal": stored} | values)


def test_effects_are_the_runs_with_a_key_in_the_order_of_the_journal() -> None:
    assert ledger.in_order(ENTRIES) == [PACK, CHARGE, SHIP]
    charge, ship = ledger.effects_of(ENTRIES)

    assert charge == ledger.OutsideEffect("charge", "k2", "done", T0, LATER, 1, "r1", "verify")
    assert ship == ledger.OutsideEffect("ship", "k3", "open", LATER, None, 1, None, "call")
    assert (charge.as_data()["begun"], charge.as_data()["ended"]) == (instant(T0), instant(LATER))
    assert ship.as_data()["ended"] is None


def test_entry_is_told_as_a_sentence_and_as_data() -> None:
    assert ledger.entry_line(PACK) == "run 'pack': done, 1 tries failed"
    assert ledger.entry_line(SHIP) == "run 'ship': open"
    data = ledger.entry_data(SHIP)
    assert (data["name"], data["sort"], data["state"], data["at"]) == ("ship", "run", "open", instant(LATER))


def test_wait_events_and_entries_are_rows() -> None:
    wait = HandlerWait("approval", WaitFor.EVENT, 4, T0, events=("yes", "no"))
    event = SentEvent("e1", "other", T0, None)
    lock = record(SHIP, PACK, wait=wait, mailbox=(event.to_bytes(),), chunks=(Chunk("c", 1, 1, 1234),), progress="5")

    waited = f"'approval': the event 'yes' or 'no', without a time-out, since {instant(T0)}"
    assert ledger.wait_line(lock) == waited
    assert ledger.wait_line(lock.but(wait=replace(wait, ended=Woken.TIME))) == f"{waited}; ended by {Woken.TIME}"
    assert ledger.wait_line(lock.but(status=Status.COMPLETED)) is None
    assert ledger.unread_lines(lock) == [f"'other' of {instant(T0)}, id e1"]
    assert ledger.of_record(lock) == [PACK, SHIP]
    assert [label for label, _ in ledger.state_rows(lock)] == [
        "waits for",
        "progress",
        "unread",
        "journal",
        "journal",
        "journal",
    ]
    assert ledger.state_rows(record()) == []


def test_the_last_entries_are_shown() -> None:
    many = [entry(f"r{n}", n) for n in range(1, 31)]

    assert [each.ordinal for each in ledger.last(reversed(many))] == list(range(11, 31))


def test_cut_forgets_the_later_entries_and_verifies_what_has_perhaps_happened() -> None:
    rows = [PACK.to_bytes(), CHARGE.to_bytes(), entry("note", 4).to_bytes()]
    first = Chunk("c", 1, 1, len(rows[0]))
    lock = record(chunks=(first,), journal=tuple(rows[1:]))

    cut = cutting.cut_at(lock, rows, "charge", LATER)
    assert cut is not None
    assert (cut.chunks, cut.chunks_before, cut.journal_before) == ((first,), (first,), lock.journal)
    assert [(each.name, each.state) for each in map(JournalEntry.of, cut.journal)] == [("charge", EntryState.OPEN)]
    assert [(each.name, each.begun, each.over) for each in cut.open] == [("charge", T0, LATER)]
    assert cutting.cut_at(lock, rows, "nothing", LATER) is None
