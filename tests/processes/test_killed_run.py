"""
A test run that is interrupted or killed leaves no process behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.patience import patient

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        (signal.SIGKILL, 2),
        pytest.param(signal.SIGINT, 2, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, 0, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_ends_early_leaves_no_process(tmp_path: Path, number: signal.Signals, workers: int) -> None:
    """
    Neither its own workers nor what a test has started in a session of its own.
    """
    fifo = tmp_path / "left"
    os.mkfifo(fifo)
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(workers), "-p", "no:cacheprovider"]
    run = subprocess.Popen(
        [*command, "tests/support/left_behind.py"],
        cwd=ROOT,
        env={**os.environ, "LEFT_BEHIND": str(fifo)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with fifo.open() as told:
        left = psutil.Process(int(told.readline()))
    family = [left, *psutil.Process(run.pid).children(recursive=True)]
    assert left.is_running()
    if number == signal.SIGINT:
        os.killpg(run.pid, number)
    else:
        run.kill()
    run.wait(patient(60))
    _, alive = psutil.wait_procs(family, patient(60))
    assert not alive
