"""
The promise, in thousands of histories of crashes, lost answers, zombies and wrong clocks.
"""

from __future__ import annotations

import pytest

from tests.simulation.history import play
from tests.simulation.plan import plan_of
from tests.simulation.runner import report, run_many

HISTORIES = 2000


@pytest.mark.timeout(600)
def test_promise_holds_in_two_thousand_histories() -> None:
    """
    After every commit and at the end of every history; and what the histories are for has really happened in them.
    """
    summary = run_many(range(HISTORIES), jobs=2)

    if summary.failed:
        pytest.fail(report(summary.failed[0]))
    assert summary.counts["histories"] == HISTORIES
    assert summary.missing == []


def test_same_seed_is_the_same_history() -> None:
    """
    A failing seed replays exactly: the same story, line by line.
    """
    first, second = (play(plan_of(11)) for _ in range(2))

    assert len(first.story) > 20
    assert first.story == second.story
