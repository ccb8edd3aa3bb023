"""
The demo, small: its exit status is its verdict.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
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


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_demo_leaves_a_console_open_with_an_order_to_decide_about() -> None:
    """
    The order that is paid at a bank without keys waits for a person; the bank tells by its key that it was paid; after the
    person's word its receipt is sent, and the bank was asked once. Ctrl-C ends the demo.
    """
    command = [sys.executable, "-m", "examples.orders.demo", "--orders", "20", "--kills", "1", "--console"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    said = ""
    try:
        while "Decide in the console: " not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        [console] = re.findall(r"Decide in the console: (\S+)", said)
        with urllib.request.urlopen(f"{console}list", timeout=30) as page:
            assert "orders/by-bank" in page.read().decode()
        [question] = re.findall(r"curl '(\S+)'", said)
        with urllib.request.urlopen(question, timeout=30) as answer:
            paid = json.load(answer)["charge"]
        assert paid
        [local] = re.findall(r"export (.+)", said)
        [settings] = set(re.findall(r"(\S+=.*) python -m gcp_oncetask resolve orders/by-bank fail", said))
        environment = dict(pair.split("=", 1) for pair in f"{local} {settings}".split())
        verb = ["resolve", "orders/by-bank", "happened", "--result", json.dumps(paid), "--next", "/tasks/receipt"]
        decided = subprocess.run(
            [sys.executable, "-m", "gcp_oncetask", *verb, "--as", "ann"],
            cwd=ROOT,
            env={**os.environ, **environment},
            check=False,
            capture_output=True,
            text=True,
            timeout=patient(60),
        )
        assert decided.returncode == 0, decided.stderr
        assert process.stdout.readline().strip() == "Order by-bank is completed; charges asked of the bank: 1"
        process.send_signal(signal.SIGINT)
        assert process.wait(patient(60)) == 0
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=patient(60))
