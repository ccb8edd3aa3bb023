"""
Lengths of time, as people type them.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from gcp_oncetask.checks.lengths import length


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15min", 900), ("90m", 5400), ("12h", 43_200), (" 2 d ", 172_800), ("3650d", 3650 * 86_400)],
)
def test_lengths_are_read(text: str, seconds: int) -> None:
    assert length(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "90", "0s", "-1h", "1w", "1.5h", "3651d", "\u0669\u0660s", "1234567s", "1h30m"])
def test_other_texts_are_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no length of time; write a number and a unit, like 90s"):
        length(text)
