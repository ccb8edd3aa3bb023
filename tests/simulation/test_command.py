"""
``python -m tests.simulation`` as a process among others, and the texts of its mutants.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.simulation.campaign import Campaign, Played
from tests.simulation.mutant import Mutant
from tests.simulation.mutants import ALL
from tests.simulation.runner import Summary, run_some

ROOT = Path(__file__).parent.parent.parent
COMMAND = (sys.executable, "-m", "tests.simulation", "--kind", "chains", "--seeds", "100000", "--jobs", "2")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL], ids=str)
def test_its_processes_end_with_it(sent: signal.Signals) -> None:
    """
    Interrupted or killed alone, it leaves none of its pool behind.
    """
    with subprocess.Popen(COMMAND, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as command:
        assert command.stderr is not None
        assert command.stderr.readline().startswith("100 of 100000 histories, ")
        pool = psutil.Process(command.pid).children(recursive=True)

        command.send_signal(sent)
        command.communicate()

    _, alive = psutil.wait_procs(pool, timeout=120)
    assert len(pool) >= 2
    assert alive == []


@pytest.mark.slow
def test_campaign_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    """
    The second run plays the histories that the first one has not, and both together count what one run of all counts.
    """
    state = tmp_path / "below" / "state.json"

    def play(seeds: int, *more: str) -> str:
        command = [sys.executable, "-m", "tests.simulation", "--kind", "chains", "--jobs", "1", "--seeds", str(seeds)]
        done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stderr + done.stdout

    play(10, "--state", str(state))
    told = play(20, "--state", str(state))
    assert "chains: 10 histories were played before\n10 of 10 histories, " in told
    assert "\nchains: 20 histories, " in told
    kept = json.loads(state.read_text())["kinds"]["chains"]
    assert (kept["histories"], kept["failed"], kept["counts"]["histories"]) == (20, [], 20)
    assert Counter(kept["counts"]) == run_some(range(20), "chains").counts
    assert kept["cpu"] > 0


def test_campaign_of_other_sources_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The same for another first seed. A failing seed is kept.
    """
    state = tmp_path / "state.json"
    campaign = Campaign(state, 7)
    campaign.of("locks").add(Summary(Counter(x=1), [9], kind="locks", played=3, cpu=0.5))
    campaign.keep()

    again = Campaign(state, 7)
    assert (again.anew, again.of("locks")) == (False, Played(3, 0.5, [9], {"x": 1}))
    assert Campaign(state, 8).kinds == {}
    monkeypatch.setattr("tests.simulation.campaign.SOURCES", ("gcp_oncetask/rules",))
    other = Campaign(state, 7)
    assert (other.anew, other.kinds) == (True, {})


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.mistake)
def test_mistake_can_be_made(mutant: Mutant) -> None:
    """
    The text that a mutant replaces occurs once: it is noticed in every run when the library has moved on.
    """
    for file, old, _ in mutant.edits:
        assert (ROOT / "gcp_oncetask" / file).read_text().count(old) == 1
