"""
The README's first screen is true: its commands install, run and show what it says, in a fresh environment.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest

from gcp_emulator.ports import free_port
from tests.support.commands import running
from tests.support.wheels import build

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
[SCREEN] = re.findall(r"^## The first task\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", SCREEN, re.DOTALL)
[APP] = [text for language, text in BLOCKS if language == "python"]
[SHOWN] = [text for language, text in BLOCKS if language == "text"]
INSTALL, RUN, REQUEST = (text.strip() for language, text in BLOCKS if language == "shell")
PACKAGES = Path(distribution("flask").locate_file(""))  # type: ignore[arg-type]  # a path, as everywhere


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Both distributions, built.
    """
    return build(tmp_path_factory.mktemp("wheels"))


def lend_packages(environment: Path) -> None:
    """
    Let *environment* see this one's packages but the project's own, so that pip has nothing to download.
    """
    lent = environment / "lent"
    lent.mkdir()
    for each in PACKAGES.iterdir():
        if not re.match(r"_?gcp_(oncetask|emulator)|__pycache__", each.name) and each.suffix != ".pth":
            (lent / each.name).symlink_to(each)
    [packages] = environment.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text(f"{lent}\n")
    for name in ("pip", "gunicorn"):
        [entry] = distribution(name).entry_points.select(group="console_scripts", name=name)
        script = environment / "bin" / name
        script.write_text(
            f"#!{environment}/bin/python\nimport sys\nfrom {entry.module} import {entry.attr}\nsys.exit({entry.attr}())\n"
        )
        script.chmod(0o755)


def surroundings(environment: Path, **extra: str) -> dict[str, str]:
    """
    The variables of a user who has *environment* activated and nothing configured.
    """
    own = re.compile(r"ONCE_?TASK_|GOOGLE_|PYTHON|PYTEST|VIRTUAL_ENV|COV_|.*_EMULATOR_HOST|(FLASK_RUN_)?PORT$")
    kept = {name: value for name, value in os.environ.items() if not own.match(name)}
    # Unbuffered, as on a terminal.
    return {**kept, "PATH": f"{environment / 'bin'}:/usr/local/bin:/usr/bin:/bin", "PYTHONUNBUFFERED": "1", **extra}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("downloads", [False, pytest.param(True, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_first_screen_installs_runs_and_shows_what_it_says(tmp_path: Path, wheels: Path, downloads: bool) -> None:
    """
    The commands of the first screen, in a new environment and an empty folder: both wheels are installed with what they
    declare, the delivery comes twice, and the task is shown once. Only the port is another one, as PORT says.
    """
    environment, folder = tmp_path / "environment", tmp_path / "mine"
    venv.create(environment, with_pip=downloads, symlinks=True)
    folder.mkdir()
    if downloads:
        found = f"{wheels} {os.environ.get('PIP_FIND_LINKS', '')}"
        pip = surroundings(environment, PIP_FIND_LINKS=found)
    else:
        lend_packages(environment)
        pip = surroundings(environment, PIP_FIND_LINKS=str(wheels), PIP_NO_INDEX="1")
    subprocess.run(INSTALL, shell=True, cwd=folder, env=pip, check=True, stdout=subprocess.DEVNULL)
    where = "import gcp_emulator, gcp_oncetask; print(gcp_emulator.__file__, gcp_oncetask.__file__)"
    placed = subprocess.check_output([environment / "bin" / "python", "-c", where], cwd=folder, env=pip, text=True)
    assert all(f"{environment}/lib" in path for path in placed.split())

    (folder / "app.py").write_text(APP)
    port = str(free_port())
    # The access log tells the test that the second copies have come, too.
    environ = surroundings(environment, PORT=port, GUNICORN_CMD_ARGS="--access-logfile -")
    with running(RUN, folder, environ) as (output, errors):
        errors.wait(lambda lines: any("Listening at" in line for line in lines))
        assert "8080" in REQUEST
        request = REQUEST.replace("8080", port)
        answer = subprocess.run(
            request, shell=True, cwd=folder, env=environ, check=True, capture_output=True, text=True
        )
        assert json.loads(answer.stdout) == {"sequence": 1}
        output.wait(lambda lines: sum('"POST /tasks/order' in line for line in lines) >= 2)

    said = [line for line in output.lines if not line.startswith("{") and "HTTP/1.1" not in line]
    expected = [re.escape(line).replace(r"\.\.\.", r"\w+") for line in SHOWN.splitlines()]
    assert len(said) == len(expected), said
    assert all(re.fullmatch(pattern, line) for pattern, line in zip(expected, said, strict=True)), said


def test_first_screen_is_the_first_and_holds_every_shell_block() -> None:
    """
    It begins within ten lines, is over within eighty, and no other chapter has commands that would need a test like this one.
    """
    before, _, after = README.partition(SCREEN)

    assert before.count("\n") <= 10
    assert (before + SCREEN).count("\n") <= 80
    assert "```shell" not in before + after
