"""
The promise, in thousands of histories of crashes, lost answers, zombies and wrong clocks.
"""

from __future__ import annotations

import gc
import math
import os
import re
from collections import Counter
from dataclasses import dataclass

import pytest

from gcp_oncetask.rules import writes
from gcp_oncetask.store import registry
from tests.simulation.chains.history import Job
from tests.simulation.chains.plan import Plan, plan_of
from tests.simulation.exercised import EXERCISED, RARE
from tests.simulation.runner import KINDS, Summary, planned, play, report, run_some, shrunk
from tests.simulation.tally import Tally
from tests.simulation.world import World

MANY = sum(sort.many for sort in KINDS.values())
WANTED = int(os.environ.get("SIMULATED_HISTORIES", MANY))
"""How many histories ``make test-all`` plays beside those of ``make test``."""


@dataclass(frozen=True)
class Part:
    """
    The histories of one test.

    Attributes:
        kind: Of the histories.
        seeds: Of all histories that are looked at together.
        first: Seed of the first one that this test plays.
    """

    kind: str
    seeds: range
    first: int

    def __str__(self) -> str:
        return f"{self.kind}-{self.first}"

    @property
    def own(self) -> range:
        """
        Seeds of the histories that this test plays.
        """
        return range(self.first, min(self.first + KINDS[self.kind].together, self.seeds.stop))

    @property
    def all(self) -> list[str]:
        """
        Names of all tests that are looked at together.
        """
        return [str(part) for part in parts(self.kind, self.seeds)]


def few() -> list[Part]:
    """
    What ``make test`` plays: so little each that the processes of a parallel run are busy to the end.
    """
    return [part for kind, sort in KINDS.items() for part in parts(kind, range(sort.few))]


def many() -> list[Part]:
    """
    What ``make test-all`` plays beside that: other histories.
    """
    wanted = {kind: math.ceil(sort.many * WANTED / MANY) for kind, sort in KINDS.items()}
    return [part for kind, sort in KINDS.items() for part in parts(kind, range(sort.few, sort.few + wanted[kind]))]


def parts(kind: str, seeds: range) -> list[Part]:
    """
    *seeds* in parts.
    """
    return [Part(kind, seeds, first) for first in seeds[:: KINDS[kind].together]]


@pytest.fixture
def tally(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tally:
    """
    The tally of this session.
    """
    folder = tmp_path_factory.getbasetemp()
    beside_others = hasattr(request.config, "workerinput")
    return Tally((folder.parent if beside_others else folder) / "histories")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", few(), ids=str)
def test_promise_holds_in_all_histories(part: Part, tally: Tally) -> None:
    """
    After every commit and at the end of every history; and what the histories are for has really happened in them. Chains;
    once-tasks with resource keys, batches, cancellations, newer payloads and generators; locks and runs with zombies of all
    ages, retired and deleted documents, wrong clocks and lost answers; workers that come, stop, die and sleep, whose shards
    are shared evenly at rest.
    """
    counts = held(part, tally)

    if counts is not None:
        assert set(Summary(counts, kind=part.kind).missing) <= RARE[part.kind]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", many(), ids=str)
def test_promise_holds_in_many_histories(part: Part, tally: Tally) -> None:
    """
    The same in so many histories that everything has happened in them.
    """
    counts = held(part, tally)

    if counts is not None and WANTED >= MANY:
        assert Summary(counts, kind=part.kind).missing == []


def held(part: Part, tally: Tally) -> Counter[str] | None:
    """
    Play *part*; returns what all parts together have met, if this was the last one of them.
    """
    summary = run_some(part.own, part.kind)
    if summary.failed:
        pytest.fail(report(summary.failed[0], part.kind))
    tally.add(str(part), summary.counts)
    counts = tally.total(part.all)
    assert counts is None or counts["histories"] == len(part.seeds)
    return counts


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_is_the_same_history(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A failing seed replays exactly: the same story, line by line, whatever models other tests of the process have declared.
    """
    monkeypatch.setattr(registry, "DECLARED", {"jobs": Job})
    first = play(planned(11, kind))
    monkeypatch.setattr(registry, "DECLARED", {f"others{number}": Job for number in range(9)})
    second = play(planned(11, kind))

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
    assert any("CHECKER" in line and re.search("owes nobody an alert|owes alerts of", line) for line in lines)
    assert all(re.fullmatch(r" *\d+\.\d{3} s  \S.{9,}", line) for line in lines[2 : lines.index("", 2)])
    # What it says to keep is the very history.
    assert eval(lines[-1].partition("chains/found.py: ")[2], {"Plan": Plan}) == small  # our own words


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
