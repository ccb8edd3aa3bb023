"""
The promise, in thousands of histories of crashes, lost answers, zombies and wrong clocks.
"""

from __future__ import annotations

import gc
import re
from collections import Counter

import pytest

from gcp_oncetask.lease import writes
from tests.simulation.plan import Plan, plan_of
from tests.simulation.runner import EXERCISED, KINDS, Summary, planned, play, report, run_many, shrunk
from tests.simulation.world import World

HISTORIES = {"chains": 2000, "tasks": 800, "locks": 400, "workers": 120}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kind", "histories"), HISTORIES.items(), ids=HISTORIES)
def test_promise_holds_in_all_histories(kind: str, histories: int) -> None:
    """
    After every commit and at the end of every history; and what the histories are for has really happened in them. Chains;
    once-tasks with resource keys, batches, cancellations, newer payloads and generators; locks and runs with zombies of all
    ages, retired and deleted documents, wrong clocks and lost answers; workers that come, stop, die and sleep, whose shards
    are shared evenly at rest.
    """
    summary = run_many(range(histories), jobs=2, kind=kind)

    if summary.failed:
        pytest.fail(report(summary.failed[0], kind))
    assert summary.counts["histories"] == histories
    assert summary.missing == []


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_is_the_same_history(kind: str) -> None:
    """
    A failing seed replays exactly: the same story, line by line.
    """
    first, second = (play(planned(11, kind)) for _ in range(2))

    assert len(first.story) > 20
    assert first.story == second.story


def test_failure_is_told_as_a_short_story_of_a_small_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    With a mistake in the library: the failing history is made smaller, fails still, and is told with who did what, when.
    """
    monkeypatch.setattr(writes, "owe", lambda lock, *_: lock)
    seed = next(seed for seed in range(50) if play(plan_of(seed)).violations)
    drawn = plan_of(seed)

    small = shrunk(drawn)
    told = report(seed)

    assert play(small).violations
    assert len(small.troubles) < len(drawn.troubles)
    assert all(not play(smaller).violations for smaller in small.smaller())
    lines = told.splitlines()
    assert lines[0].startswith(f"seed {seed}: ")
    assert len(lines) <= 60
    assert any("CHECKER" in line and "owes nobody an alert" in line for line in lines)
    assert all(re.fullmatch(r" *\d+\.\d{3} s  \S.{9,}", line) for line in lines[2 : lines.index("", 2)])
    # What it says to keep is the very history.
    assert eval(lines[-1].partition("test_found.py: ")[2], {"Plan": Plan}) == small  # our own words


def test_row_that_stays_zero_is_named() -> None:
    """
    What was never exercised fails the run by its name.
    """
    counts = Counter(dict.fromkeys(EXERCISED, 1))
    assert Summary(counts).missing == []
    counts["zombies refused"] = 0
    assert Summary(counts).missing == ["zombies refused"]


def test_history_leaves_nothing_behind() -> None:
    """
    Killed processes and whatever still waits go with their world, so that a long run needs no more memory than a short one.
    """
    for seed in range(3):
        play(plan_of(seed))
    gc.collect()

    assert [each for each in gc.get_objects() if type(each) is World] == []
