"""
The tables of the pages are those of the code.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest

from gcp_oncetask.config import FIELDS
from gcp_oncetask.execution.endpoint import OUTCOME_STATUS
from gcp_oncetask.rules.outcome import Outcome
from tests.support.readme import PROGRAMS, README, ROOT, blocks, programs

DOCS = ROOT / "docs"
SETTINGS = DOCS / "reference" / "settings.md"


def test_both_type_checkers_read_what_users_write() -> None:
    """
    ``make check`` shows the Python of the pages, the examples and tests/typing to mypy and to pyright, which passes over folders
    whose names begin with a dot; each line stands at its number in the page.
    """
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    written = {str(PROGRAMS.relative_to(ROOT)), "examples", "functions/main.py", "tests/typing"}
    [code] = [code for path, code in programs().items() if path.name == "readme_app.py"]
    lines = README.splitlines()

    assert written == set(tools["basedpyright"]["include"])
    assert written < set(tools["mypy"]["files"])
    assert not any(part.startswith(".") for path in written for part in path.split("/"))
    assert {path.name for path in programs()} >= {"readme_app.py", "emulator_readme.py", "docs_how_to_chains.py"}
    assert all(line in ("", lines[number]) for number, line in enumerate(code.splitlines()))
    assert sum(bool(line) for line in code.splitlines()) == sum(
        bool(line) for part in blocks(README, "python") for line in part.splitlines()
    )


def test_settings_are_those_of_the_code() -> None:
    """
    The table lists every setting with its default; `python -m tests.docs.test_tables` writes it.
    """
    assert configuration_table() in SETTINGS.read_text()


def test_every_outcome_has_a_status_and_a_row() -> None:
    """
    OUTCOME_STATUS has exactly the outcomes as keys, and neither 429 nor 503, which would slow the whole queue.
    """
    assert set(Outcome) == set(OUTCOME_STATUS)
    assert not {429, 503} & set(OUTCOME_STATUS.values())


def test_bad_input_table_has_the_codes_statuses() -> None:
    """
    Where the bad-input table names an outcome, its status is that of the code.
    """
    page = (DOCS / "reference" / "outcomes.md").read_text()
    rows = re.findall(r"^\| [^|]+ \| `([a-z-]+)`[^|]*\| (\d+)", page, re.MULTILINE)

    assert len(rows) >= 8
    for outcome, status in rows:
        assert OUTCOME_STATUS[Outcome(outcome)] == int(status), outcome


@pytest.mark.parametrize("module", ["costs", "durable_costs"])
def test_table_of_costs_is_what_is_counted(module: str) -> None:
    """
    In a process of its own: a sweep queries the collections of all models that its process knows.
    """
    command = [sys.executable, "-m", f"tests.support.{module}"]
    counted = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert counted in (DOCS / "how-to" / "cost.md").read_text()


def configuration_table() -> str:
    """
    The table, made of the code.
    """
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for env, _, default, meaning in FIELDS:
        shown = "" if default in (None, ()) else f"`{default:g}`" if isinstance(default, float) else f"`{default}`"
        lines.append(f"| `{env}` | {shown} | {meaning} |")
    return "\n".join(lines)


if __name__ == "__main__":
    SETTINGS.write_text(
        re.sub(
            r"<!-- configuration -->.*<!-- /configuration -->",
            lambda _: f"<!-- configuration -->\n{configuration_table()}\n<!-- /configuration -->",
            SETTINGS.read_text(),
            flags=re.DOTALL,
        )
    )
