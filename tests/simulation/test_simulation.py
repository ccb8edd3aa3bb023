"""
The promise, in thousands of histories of crashes, lost answers, zombies and wrong clocks.
"""

from __future__ import annotations

import pytest

from tests.simulation.runner import planned, play, report, run_many

HISTORIES = 2000
TASK_HISTORIES = 800


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


@pytest.mark.timeout(600)
def test_promise_holds_in_eight_hundred_histories_of_once_tasks() -> None:
    """
    With resource keys, batches, cancellations, newer payloads and generators; and all of that has really happened.
    """
    summary = run_many(range(TASK_HISTORIES), jobs=2, kind="tasks")

    if summary.failed:
        pytest.fail(report(summary.failed[0], "tasks"))
    assert summary.counts["histories"] == TASK_HISTORIES
    assert summary.missing == []


@pytest.mark.parametrize("kind", ["chains", "tasks"])
def test_same_seed_is_the_same_history(kind: str) -> None:
    """
    A failing seed replays exactly: the same story, line by line.
    """
    first, second = (play(planned(11, kind)) for _ in range(2))

    assert len(first.story) > 20
    assert first.story == second.story
