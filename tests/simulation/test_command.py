"""
``python -m tests.simulation`` as a process among others, and the texts of its mutants.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.simulation.mutant import Mutant
from tests.simulation.mutants import ALL

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
        assert command.stderr.readline() == "100 of 100000 histories\n"
        pool = psutil.Process(command.pid).children(recursive=True)

        command.send_signal(sent)
        command.communicate()

    _, alive = psutil.wait_procs(pool, timeout=120)
    assert len(pool) >= 2
    assert alive == []


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.mistake)
def test_mistake_can_be_made(mutant: Mutant) -> None:
    """
    The text that a mutant replaces occurs once: it is noticed in every run when the library has moved on.
    """
    for file, old, _ in mutant.edits:
        assert (ROOT / "gcp_oncetask" / file).read_text().count(old) == 1
