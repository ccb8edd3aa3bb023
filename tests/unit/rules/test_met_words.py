"""
The decisions about words of durable handlers, in every combination, against the tables of ``docs/reference/rules.md``.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from gcp_oncetask.rules import met_words
from gcp_oncetask.rules.journal import EntrySort, EntryState, JournalEntry
from gcp_oncetask.rules.met_words import Meant, Met
from gcp_oncetask.rules.record import Intent
from gcp_oncetask.rules.timestamps import instant
from tests.support.rules import combinations, first_match, table
from tests.unit.rules.test_rules import NOW, SECOND

SAID = {
    Meant.CALL: "call",
    Meant.ANSWER: "answer",
    Meant.RAISE: "raise",
    Meant.FAIL: "fail",
    Meant.WAIT: "wait",
    Meant.VERIFY: "verify",
    Meant.ASK: "ask: did it happen",
    Meant.OTHER_SORT: "ask: another sort",
    Meant.OTHER_ARGUMENTS: "ask: other arguments",
}
NEXT = {"none": None, "to come": NOW + SECOND, "come": NOW}
OVER = {"may still run": NOW + SECOND, "over": NOW}


def met(case: dict[str, str]) -> Met:
    """
    The decision in *case*.
    """
    entry = None
    if case["entry"] != "none":
        after = NEXT[case["next try"]]
        entry = JournalEntry(
            "a",
            EntrySort.RUN if case["sort"] == "same" else EntrySort.SLEEP,
            1,
            7,
            NOW,
            EntryState(case["entry"]),
            args="one" if case["arguments"] != "not known" else None,
            more=None if after is None else {"next": instant(after)},
        )
    over = OVER.get(case["its attempt"])
    return met_words.meet(
        entry,
        EntrySort.RUN,
        args="two" if case["arguments"] == "others" else "one",
        strict=case["strict"] == "yes",
        verifiable=case["verify"] == "yes",
        intent=None if over is None else Intent("a", 6, NOW - 60 * SECOND, over),
        now=NOW,
    )


def test_word_is_met_as_the_table_says() -> None:
    """
    Each of the 1,728 combinations of entry, sort, arguments, options, intent and next try is decided by its row.
    """
    rows, used = table("met_words.meet"), set()
    for case in combinations(
        entry=("none", *map(str, EntryState)),
        sort=("same", "other"),
        arguments=("same", "others", "not known"),
        strict=("yes", "no"),
        verify=("yes", "no"),
        **{"its attempt": ("not known", *OVER), "next try": tuple(NEXT)},
    ):
        row = first_match(rows, case)
        used.add(row)
        decided = met(case)
        assert rows[row]["decision"] == SAID[decided.meant], case
        asks = decided.meant in (Meant.ASK, Meant.OTHER_SORT, Meant.OTHER_ARGUMENTS)
        if case["entry"] != "none" and not asks:
            assert decided.warns is (case["arguments"] == "others"), case
        if decided.meant is Meant.WAIT:
            ends = OVER[case["its attempt"]] if case["entry"] == "open" else NEXT[case["next try"]]
            assert decided.until == ends, case
    assert used == set(range(len(rows)))


@pytest.mark.parametrize("row", table("met_words.verified"), ids=lambda row: row["time since the intent"])
def test_verification_counts_as_the_table_says(row: dict[str, str]) -> None:
    passed = {
        "shorter than verify_after": 60 * SECOND - timedelta(microseconds=1),
        "exactly verify_after": 60 * SECOND,
        "longer": 61 * SECOND,
    }
    times = passed.values() if row["time since the intent"] == "*" else [passed[row["time since the intent"]]]
    for time in times:
        intent = Intent("a", 6, NOW - time, NOW)
        happened = row["verify says"] == "its result"
        decided = met_words.verified(intent, happened=happened, after=60 * SECOND, now=NOW)
        assert row["decision"] == SAID[decided.meant]
        assert decided.until == (NOW - time + 60 * SECOND if decided.meant is Meant.WAIT else None)


def test_every_way_is_in_the_tables() -> None:
    decided = {row["decision"] for heading in ("met_words.meet", "met_words.verified") for row in table(heading)}
    assert decided == {SAID[each] for each in Meant}
