"""
The tool that makes small changes finds those that tests overlook.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.argued import page
from tests.mutation.operators import changes

ROOT = Path(__file__).parents[2]
SOURCE = '''
def least(numbers, limit=3):
    """
    A docstring stays.
    """
    assert numbers, "so does an assertion"
    if limit < 1 and not numbers:
        raise ValueError("and the text of an error")
    match limit:
        case 3 if numbers:
            return min(numbers)
        case _:
            return sum(numbers, start=1) + 2
'''


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "source.py"
    file.write_text(SOURCE)
    return file


def test_changes_of_a_function(source: Path) -> None:
    """
    Conditions, bounds, numbers, arguments, results, cases; each one compiles.
    """
    found = {(change.before, change.after) for change in changes(source)}

    assert {
        ("limit < 1", "limit <= 1"),
        ("limit < 1", "limit >= 1"),
        ("limit < 1 and (not numbers)", "limit < 1 or not numbers"),
        ("limit < 1 and (not numbers)", "limit < 1"),
        ("not numbers", "numbers"),
        ("1", "2"),
        ("min(numbers)", "max(numbers)"),
        ("sum(numbers, start=1)", "sum(numbers)"),
        ("sum(numbers, start=1) + 2", "sum(numbers, start=1) - 2"),
        ("return min(numbers)", "return None"),
    } <= found
    assert not [before for before, _ in found if "docstring" in before or "assertion" in before]
    for change in changes(source):
        change.code()


def test_change_keeps_its_id_when_the_function_moves(source: Path) -> None:
    """
    A state file stays good for all functions that were not changed.
    """
    before = {change.id: (change.before, change.after) for change in changes(source)}
    source.write_text(f"import os\n\n\n{SOURCE}")

    assert {change.id: (change.before, change.after) for change in changes(source)} == before
    source.write_text(SOURCE.replace("+ 2", "+ 3"))
    assert not before.keys() & {change.id for change in changes(source)}


@pytest.mark.timeout(300)
def test_run_names_survivors_and_goes_on(tmp_path: Path) -> None:
    """
    A test of a part of a file: what it overlooks is named and fails the run, and is not tried again.
    """
    state = tmp_path / "state.jsonl"
    tests = tmp_path / "test_part.py"
    tests.write_text(
        "from gcp_oncetask.rules.task_headers import count\n\n\n"
        "def test_part():\n    assert count('7') == 7\n    assert count('x') is None\n"
    )
    command = [sys.executable, "-m", "tests.mutation", "--path", "gcp_oncetask/rules/task_headers.py"]
    command += ["--tests", str(tests), "--state", str(state)]

    first, second = (subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False) for _ in range(2))

    lines = [json.loads(line) for line in state.read_text().splitlines()]
    results = {line["change"]: line["result"] for line in lines}
    assert (first.returncode, second.returncode) == (1, 1), first.stderr + second.stderr
    assert f"{len(lines)} changes, 0 of them tried before" in first.stdout
    assert f"{len(lines)} changes, {len(lines)} of them tried before" in second.stdout
    assert first.stdout.splitlines()[1:] == second.stdout.splitlines()[1:]
    caught = results["rules/task_headers.py count: len(text) < 10 => len(text) >= 10"]
    assert caught.endswith("test_part.py::test_part")
    assert "SURVIVED: rules/task_headers.py count: len(text) < 10 => len(text) <= 10" in first.stdout


def test_page_lists_the_argued_changes() -> None:
    """
    To write it anew: ``(ROOT / "docs/explanation/survivors.md").write_text(page())``.
    """
    assert (ROOT / "docs" / "explanation" / "survivors.md").read_text() == page()
