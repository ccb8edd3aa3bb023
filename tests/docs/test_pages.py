"""
Each code block of each page is tried, or says why not.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gcp_emulator.cloud import LocalCloud
from gcp_emulator.ports import free_port
from tests.support.commands import Stream, running
from tests.support.pages import PAGES, Block, check, commands, name_of, parse, place, shows
from tests.support.patience import patient
from tests.support.readme import ROOT

BLOCKS = {page: parse(page.read_text()) for page in PAGES}
PROGRAMS = {page: [one for one in blocks if one.program] for page, blocks in BLOCKS.items()}
TESTS = [
    pytest.param(page, test, id=f"{name_of(page)}-{test}")
    for page, blocks in PROGRAMS.items()
    if blocks
    for test in re.findall(r"^def (test_\w+)", "".join(one.text for one in blocks), re.MULTILINE) or [""]
]
SESSIONS = [page for page, blocks in BLOCKS.items() if any(one.language == "console" for one in blocks)]
OURS = re.compile(r"ONCE_?TASK_|GOOGLE_|PYTHON|PYTEST|COV_|.*_EMULATOR_HOST|(FLASK_RUN_)?PORT$|MAKE")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_block_is_tried_or_says_why_not(page: Path) -> None:
    """
    A block without a comment is Python or a session; a comment is one of those that are known; a fence is not indented.
    """
    wrong = [f"line {one.line}: {one.language} {one.how}" for one in BLOCKS[page] if not tried(one)]

    assert wrong == []
    assert len(re.findall(r"^\s*```\w", page.read_text(), re.MULTILINE)) == len(BLOCKS[page])


def tried(block: Block) -> bool:
    if block.how:
        asked = block.asked
        return asked is not None and not (asked["until"] and len(commands(block)) != 1)
    return block.program or block.session


@pytest.mark.parametrize(("page", "test"), TESTS)
def test_python_of_a_page_runs_as_one_program(
    page: Path,
    test: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """
    In the order of the page, without settings, in an empty folder. Each test in it passes, with the fixtures that it names; the
    program and the test print what the page shows.
    """
    source = "".join(one.text for one in PROGRAMS[page])
    [wanted] = re.findall(rf"^def {test}\((.*?)\)", source, re.MULTILINE) if test else [""]
    fixtures = {name: request.getfixturevalue(name) for name in re.findall(r"(\w+):", wanted)}
    for name in [name for name in os.environ if OURS.match(name) and not name.startswith("PYTEST")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in PROGRAMS[page]:
        # The page's own words, and not the future features of this module: models must find the types of their fields.
        code = compile("\n" * (block.line - 1) + block.text, name_of(page), "exec", dont_inherit=True)
        exec(code, names)
    check_output(BLOCKS[page], "", capsys.readouterr().out)
    if test:
        run = names[test]
        assert callable(run)
        run(**fixtures)
        check_output(BLOCKS[page], test, capsys.readouterr().out)


def check_output(blocks: list[Block], test: str, printed: str) -> None:
    """
    The outputs that stand below Python, or that name *test*.
    """
    above = ""
    for block in blocks:
        asked = block.asked
        if block.how.startswith("output") and asked is not None and above == "python" and (asked["test"] or "") == test:
            assert shows(block.text.splitlines(), printed.splitlines()), f"line {block.line}, printed:\n{printed}"
        else:
            above = block.language


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    """
    The variables of a user who has the environment activated and nothing configured.
    """
    kept = {name: value for name, value in os.environ.items() if not OURS.match(name)}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "120",
        "HOME": str(tmp_path),
    }


@pytest.fixture
def cloud(surroundings: dict[str, str]) -> Iterator[LocalCloud]:
    """
    A local Google Cloud that the commands of a page find.
    """
    with LocalCloud() as made:
        surroundings.update(made.environment())
        surroundings.update(ONCETASK_BASE_URL="http://127.0.0.1:8080", ONCETASK_VERIFY="off")
        yield made


@pytest.mark.parametrize("page", SESSIONS, ids=name_of)
def test_sessions_of_a_page_run_and_print_what_it_shows(
    page: Path, tmp_path: Path, surroundings: dict[str, str], request: pytest.FixtureRequest
) -> None:
    """
    In the order of the page, in a folder that has the files of the page. Targets of make are looked up, since this test is run by
    one; the project's own programs run in the project. Servers get a free port in place of 8080.
    """
    text = page.read_text()
    if re.search(r"^\$ curl ", text, re.MULTILINE) and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    if "<!-- local cloud -->" in text:
        request.getfixturevalue("cloud")
    folder = tmp_path / "work"
    folder.mkdir()
    port = str(free_port())
    surroundings["PORT"] = port
    if "ONCETASK_BASE_URL" in surroundings:
        surroundings["ONCETASK_BASE_URL"] = f"http://127.0.0.1:{port}"
    servers: list[tuple[Stream, Stream]] = []
    with ExitStack() as stack:
        for block in BLOCKS[page]:
            asked = block.asked
            if asked is not None and asked["file"]:
                place(block, folder)
            elif asked is not None and asked["until"]:
                [(command, _)] = commands(block)
                server = stack.enter_context(running(command.replace("8080", port), folder, surroundings))
                servers.append(server)
                until(server, [asked["until"]])
            elif asked is not None and asked["server"]:
                until(servers[-1], block.text.splitlines())
            elif block.session:
                for command, expected in commands(block):
                    run(command.replace("127.0.0.1:8080", f"127.0.0.1:{port}"), expected, folder, surroundings)


def until(server: tuple[Stream, Stream], expected: list[str]) -> None:
    """
    Wait until one of the two streams has the lines among its own.
    """
    deadline = time.monotonic() + patient(60)
    while not any(shows([f"...{line}..." for line in expected], list(stream.lines), among=True) for stream in server):
        assert time.monotonic() < deadline, "\n".join([*expected, "is not in", *server[0].lines, *server[1].lines])
        threading.Event().wait(0.05)


def run(command: str, expected: list[str], folder: Path, environ: dict[str, str]) -> None:
    """
    Run a command, and compare its output with the expected one; without one it only has to succeed.
    """
    where = ROOT if re.match(r"make |git |python -m (examples|tests|benchmarks)\b", command) else folder
    command = re.sub(r"^make ", "make -n ", command)
    process = subprocess.Popen(
        command,
        shell=True,
        cwd=where,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=patient(60))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    check(command, expected, process.returncode, printed.splitlines())


def test_shown_output_is_compared() -> None:
    """
    Three dots stand for text or lines; nothing else may differ.
    """
    assert shows(["a ... c", "...", "z"], ["a b c", "1", "2", "z"])
    assert shows(["b"], ["a", "b", "c"], among=True)
    assert not shows(["a"], ["a", "b"])
    assert not shows(["b", "a"], ["a", "b"], among=True)
