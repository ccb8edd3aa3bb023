"""
The demo, small: its exit status is its verdict.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.patience import patient

ROOT = Path(__file__).parent.parent


def demo(*arguments: str) -> tuple[int, str]:
    """
    Run it; returns its exit status and all that it said.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.orders.demo", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=patient(150))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=patient(30))
        pytest.fail(f"the demo did not end:\n{said}")
    return process.returncode, said


@pytest.mark.timeout(200)
def test_orders_are_charged_once_through_kills_and_duplicates() -> None:
    """
    Sixty orders, three killed workers: every order completed with exactly one distinct charge, and the demo says so.
    """
    status, said = demo("--orders", "60", "--kills", "3", "--deadline", "120")

    assert status == 0, said
    facts = dict(re.findall(r"^  ([a-z][^\n]*?) +(\d+)\b.*$", said, re.MULTILINE))
    assert (facts["orders"], facts["orders completed"]) == ("60", "60"), said
    assert facts["orders without exactly one distinct charge"] == "0", said
    assert int(facts["worker processes killed (SIGKILL)"]) >= 3, said


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_demo_without_kills_proves_nothing_and_says_so() -> None:
    """
    A run in which nobody was killed is no proof: exit status 1, with the reason.
    """
    status, said = demo("--orders", "30", "--kills", "0", "--deadline", "120")

    assert status == 1, said
    assert "kill" in said.splitlines()[-1], said
