"""
What a newcomer meets first: the Makefile's targets, and its sentences where the machine lacks something.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """
    The project's set-up files alone, with no virtual environment.
    """
    for name in ("Makefile", "pyproject.toml", "emulator/pyproject.toml"):
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, target)
    return tmp_path


def python_that(folder: Path, *, refuses: str) -> Path:
    """
    A Python that fails where its code mentions *refuses*.
    """
    wrapper = folder / "python"
    wrapper.write_text(f'#!/bin/sh\ncase "$*" in *{refuses}*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    return wrapper


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # The tests run under make themselves; this one is a newcomer's.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("target", ["demo", "test"])
def test_missing_venv_module_gets_a_sentence(fresh: Path, target: str) -> None:
    """
    Debian's Python without python3-venv: the answer names the package, and nothing is left half made.
    """
    done = make(fresh, target, f"PYTHON={python_that(fresh, refuses='ensurepip')}")

    assert done.returncode != 0
    assert "apt-get install python3-venv" in done.stdout + done.stderr
    assert not (fresh / ".venv").exists()


def test_old_python_gets_a_sentence(fresh: Path) -> None:
    """
    A Python before 3.11 is named with its version, and how to choose another one.
    """
    done = make(fresh, "test", f"PYTHON={python_that(fresh, refuses='version_info')}")

    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in said
    assert "make PYTHON=" in said


def test_help_lists_every_target() -> None:
    """
    ``make`` alone says what there is.
    """
    [phony] = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    said = make(ROOT).stdout

    assert sorted(phony.split()) == sorted(line.split()[0] for line in said.splitlines())


def test_every_target_that_the_pages_name_exists() -> None:
    """
    ``make NAME`` in a code span or a code block of the README or the contributors' page is a target.
    """
    text = "".join((ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md"))
    named = set(re.findall(r"(?:^|`|^\$ )make ([a-z-]+)\b", text, re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert {"demo", "test", "test-all"} <= named
    assert named <= targets
