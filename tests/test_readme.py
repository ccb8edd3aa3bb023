"""
The README is true: its code blocks run, its tables are those of the code.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gcp_oncetask.config import FIELDS
from gcp_oncetask.execution.endpoint import OUTCOME_STATUS
from gcp_oncetask.rules.outcome import Outcome
from tests.support.readme import PROGRAMS, README, blocks, programs

ROOT = Path(__file__).parents[1]
PYTHON = blocks(README, "python")
CONSOLE = [line for code in blocks(README, "console") for line in code.splitlines()]


@pytest.mark.parametrize(
    ("test", "said", "times"),
    [
        ("test_charged_once", "charge 1999 with key otk_", 1),
        ("test_booked_once", "booking 5", 1),
        ("test_card_charged_once", "", 1),
        ("test_report_runs_every_working_night", "report of ann for 2026-01-0", 5),
        ("test_resized_once", "resizing cat.png", 1),
        ("test_newest_wins", "", 1),
    ],
)
def test_python_blocks_run_in_order_as_one_program(
    oncetask_cloud: object,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    test: str,
    said: str,
    times: int,
) -> None:
    """
    The applications of the README work as printed, and their tests pass.
    """
    for name in [name for name in os.environ if name.startswith("ONCE")]:
        monkeypatch.delenv(name)
    names: dict[str, object] = {"__name__": "readme"}
    for code in PYTHON:
        exec(compile(code, "README.md", "exec"), names)  # the README's own words
    run = names[test]
    assert callable(run)
    run(oncetask_cloud)

    assert capsys.readouterr().out.count(said) == times or not said


def test_every_test_of_the_readme_is_run() -> None:
    """
    No test stands in the README that is not run here.
    """
    marks: list[pytest.Mark] = test_python_blocks_run_in_order_as_one_program.pytestmark  # type: ignore[attr-defined]  # pytest's own
    printed = {name for code in PYTHON for name in re.findall(r"^def (test_\w+)", code, re.MULTILINE)}

    assert printed == {row[0] for row in marks[0].args[1]}


def test_transaction_block_ships_once(oncetask_cloud: object) -> None:
    """
    The transaction of the README takes one from the stock and completes the order, together.
    """
    from gcp_oncetask.testing.cloud import OncetaskCloud

    assert isinstance(oncetask_cloud, OncetaskCloud)
    names: dict[str, object] = {"__name__": "readme"}
    for code in PYTHON:
        exec(
            compile(
                code.replace('print("receipt to", order.email)', "return ship(order, attempt)"), "README.md", "exec"
            ),
            names,
        )
    locker, app, order_type = names["locker"], names["app"], names["Order"]
    oncetask_cloud.use(locker)  # type: ignore[arg-type]  # names out of exec have no types
    oncetask_cloud.mount("https://orders.test", app)
    locker.client.document("stock/blue").set({"left": 3})  # type: ignore[attr-defined]  # as above
    locker.schedule(order_type(id="1", amount=1, email="x"), "/tasks/order")  # type: ignore[attr-defined,operator]  # as above
    oncetask_cloud.run_until_idle()
    oncetask_cloud.duplicate_last()

    assert locker.client.document("stock/blue").get().get("left") == 2  # type: ignore[attr-defined]  # as above
    assert locker.get(order_type, "1").lock.status == "completed"  # type: ignore[attr-defined]  # as above


def test_lock_block_holds_and_books_once(oncetask_cloud: object, capsys: pytest.CaptureFixture[str]) -> None:
    """
    The named lock, the locked function and the function that runs once of the README work as printed.
    """
    names: dict[str, object] = {"__name__": "readme"}
    for code in PYTHON:
        exec(compile(code, "README.md", "exec"), names)  # the README's own words
    test = names["test_booked_once"]
    assert callable(test)
    test(oncetask_cloud)

    said = capsys.readouterr().out
    assert said.count("booking 5") == 1
    assert said.count("with token") == 3
    assert "importing 7" in said


def test_worker_and_queue_blocks_run_each_request_once(
    oncetask_cloud: object, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The worker and the queue of the README work as printed.
    """
    names: dict[str, object] = {"__name__": "readme"}
    for code in PYTHON:
        exec(compile(code, "README.md", "exec"), names)  # the README's own words
    for name in ("test_resized_once", "test_newest_wins"):
        test = names[name]
        assert callable(test)
        test(oncetask_cloud)

    said = capsys.readouterr().out
    assert said.count("resizing cat.png") == 1
    assert re.findall("^tell the CRM: .*", said, re.MULTILINE) == ["tell the CRM: customer-7 {'stage': 'shipped'}"]


@pytest.mark.parametrize("line", CONSOLE)
def test_console_lines_run(line: str) -> None:
    """
    Each command of the README runs; make's targets are looked up, since this very test is run by one.
    """
    command = line.replace("make ", "make -n ") if line.startswith("make ") else line
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, shell=True, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, check=False
    )

    assert done.returncode == 0, done.stderr.decode()


def test_both_type_checkers_read_what_users_write() -> None:
    """
    ``make check`` shows the README's Python, the examples and tests/typing to mypy and to pyright, which passes over folders
    whose names begin with a dot; each line stands at its number in the page.
    """
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    written = {str(PROGRAMS.relative_to(ROOT)), "examples", "functions/main.py", "tests/typing"}
    [code] = [code for path, code in programs().items() if path.name == "readme.py"]
    lines = README.splitlines()

    assert written == set(tools["basedpyright"]["include"])
    assert written < set(tools["mypy"]["files"])
    assert not any(part.startswith(".") for path in written for part in Path(path).parts)
    assert {path.name for path in programs()} >= {"readme.py", "emulator_readme.py"}
    assert all(line in ("", lines[number]) for number, line in enumerate(code.splitlines()))
    assert sum(bool(line) for line in code.splitlines()) == sum(
        bool(line) for part in PYTHON for line in part.splitlines()
    )


def test_configuration_table_is_the_code() -> None:
    """
    The README's configuration table lists every setting with its default; `python -m tests.test_readme` writes it.
    """
    assert configuration_table() in README


def test_every_outcome_has_a_status() -> None:
    """
    OUTCOME_STATUS has exactly the outcomes as keys, and neither 429 nor 503, which would slow the whole queue.
    """
    assert set(Outcome) == set(OUTCOME_STATUS)
    assert not {429, 503} & set(OUTCOME_STATUS.values())


def test_bad_input_table_has_the_codes_statuses() -> None:
    """
    Where the bad-input table names an outcome, its status is that of the code.
    """
    rows = re.findall(r"^\| [^|]+ \| `([a-z-]+)`[^|]*\| (\d+)", README, re.MULTILINE)

    assert len(rows) >= 8
    for outcome, status in rows:
        assert OUTCOME_STATUS[Outcome(outcome)] == int(status), outcome


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
    text = re.sub(
        r"<!-- configuration -->.*<!-- /configuration -->",
        lambda _: f"<!-- configuration -->\n{configuration_table()}\n<!-- /configuration -->",
        README,
        flags=re.DOTALL,
    )
    (ROOT / "README.md").write_text(text)


def test_table_of_costs_is_what_is_counted() -> None:
    """
    In a process of its own: a sweep queries the collections of all models that its process knows.
    """
    command = [sys.executable, "-m", "tests.support.costs"]
    counted = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert counted in README
