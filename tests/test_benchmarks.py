"""
The benchmarks of ``make bench`` run, with small numbers. Nothing is measured here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.kept import Ratio, worse
from gcp_emulator.firestore.google import find

ROOT = Path(__file__).parent.parent
FLOWS = ("locker.schedule()", "push, entity", "manager.create_task()", "pull", "sweep of one expired lease")
# The arguments that make each benchmark small, and the words with which the lines of its tables begin.
BENCHMARKS = {
    "benchmarks": (
        "--rounds 1 --threads 1 2 --tasks 2 --out {out}",
        ("1  a:", "2  d:", "1  s:", "own share of a push", "2 threads: client CPU", "written to"),
    ),
    "benchmarks.firestore": (
        "--calls 2 --documents 500 --writes 40",
        (
            "first write",
            "transaction, in process",
            "get, through the port",
            "equality query",
            "MB for 500",
            "rate after 40",
        ),
    ),
    "benchmarks.workers": ("--workers 1 --tasks 8 --many 8", ("1", "each task once: True", "CPU per task")),
    "benchmarks.growth": (
        "--sizes 20 40 --tasks 2 --waiters 4",
        ("20", "40", "a task pushed", "a task pulled", "hand-over of a key, calls"),
    ),
    "benchmarks.durable": (
        "--tasks 2 --entries 20 40",
        ("runs", "chain", "by hand", "20", "40", "CPU ms of 10 runs", "a new entry", "a replayed entry"),
    ),
    "benchmarks.starts": ("--rounds 1 --tasks 110", ("import over", "pytest run with", "memory after 110")),
    "benchmarks.ways": ("", tuple(f"| {flow}" for flow in FLOWS)),
    "benchmarks.instructions": ("--runs 1", tuple(f"| {flow}" for flow in FLOWS)),
    "benchmarks.callgrind": ("--tasks 4", ("a: documented way", "c: gcp-oncetask", "instructions to a:")),
}
MARKS = {
    "benchmarks": (pytest.mark.slow,),
    "benchmarks.firestore": (
        pytest.mark.slow,
        pytest.mark.google,
        pytest.mark.skipif(find() is None, reason="Google's emulator is not installed"),
    ),
    "benchmarks.workers": (pytest.mark.slow,),
    "benchmarks.growth": (pytest.mark.slow,),
    "benchmarks.durable": (pytest.mark.slow,),
    "benchmarks.starts": (pytest.mark.slow,),
    "benchmarks.callgrind": (
        pytest.mark.slow,
        pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed"),
    ),
}


def of_make() -> list[str]:
    """
    Return the modules that ``make bench`` runs.
    """
    [recipe] = re.findall(r"^bench:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return re.findall(r"-m (\S+)", recipe)


def test_each_benchmark_of_make_is_tried() -> None:
    assert of_make() == list(BENCHMARKS)


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, ())) for name in BENCHMARKS])
def test_benchmark_runs(name: str, tmp_path: Path) -> None:
    """
    It ends with status 0 and prints the lines of its tables.
    """
    arguments, heads = BENCHMARKS[name]
    done = subprocess.run(
        [sys.executable, "-m", name, *arguments.format(out=tmp_path / "bench.json").split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    lines = [line.strip() for line in done.stdout.splitlines()]

    assert done.returncode == 0, done.stdout + done.stderr
    assert [head for head in heads if not any(line.startswith(head) for line in lines)] == [], done.stdout


def test_what_got_worse_is_told() -> None:
    """
    By more than a tenth, whatever is better: less or more.
    """
    known = {"cost": 1.0, "slow": 1.0, "rate": 2.0, "fell": 2.0, "gone": 1.0}
    found = worse(
        {
            "cost": Ratio(1.09),
            "slow": Ratio(1.2),
            "rate": Ratio(1.9, more=True),
            "fell": Ratio(1.0, more=True),
            "new": Ratio(9.0),
        },
        known,
    )
    assert found == ["slow is 1.200, and was 1.000 (+20%)", "fell is 1.000, and was 2.000 (-50%)"]
    assert not Ratio(1.2, 1.1).met
    assert Ratio(1.2, 1.1, more=True).met
