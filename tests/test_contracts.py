"""
The contracts about imports deny what they do not list: each breach of a kind is named, in a copy.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "gcp_oncetask"
BREACHES = {
    "newthing.py": "import flask\nimport smtplib\nfrom gcp_oncetask.flask import blueprint\n",
    "runtime/runtime.py": "import google.cloud.tasks_v2\nimport google.cloud.logging_v2\n",
    "execution/settling.py": "import google.cloud.firestore\nimport time\n",
    "tasks/bulk.py": "from gcp_oncetask.tasks.manager import TaskManager\n",
    "tasks/newthing.py": "",
    "rules/newthing.py": "from gcp_oncetask import clock\nimport random\n",
    "store/newthing.py": "",
    "store/wire.py": "import gcp_oncetask.runtime.runtime\n",
}
BROKEN = (
    "gcp_oncetask.newthing",
    "gcp_oncetask.newthing -> flask",
    "gcp_oncetask.newthing -> smtplib",
    "gcp_oncetask.runtime.runtime -> google",
    "gcp_oncetask.execution.settling -> google",
    "gcp_oncetask.tasks.bulk is not allowed to import gcp_oncetask.tasks.manager",
    "gcp_oncetask.tasks.newthing",
    "gcp_oncetask.rules.newthing -> gcp_oncetask.clock",
    "gcp_oncetask.rules.newthing -> random",
    "gcp_oncetask.store.newthing",
    "gcp_oncetask.store.wire -> gcp_oncetask.runtime.runtime",
    "gcp_oncetask.execution.settling -> time",
)
GOOGLE = {
    "google.cloud.tasks": {"services/cloud_tasks.py"},
    "google.cloud.logging": {"services/cloud_logging.py"},
    "google.auth": {"services/identity.py", "services/proxy_identity.py"},
    "google.cloud.firestore": {"store"},
    "google.api_core": {"store"},
    "google.protobuf": {"store", "services/cloud_logging.py"},
}
"""Google's libraries, which are one package to the contracts, and where each may be imported."""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """
    What the linter says of a copy with all breaches in it.
    """
    copy = tmp_path_factory.mktemp("copy")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for package in (LIBRARY, ROOT / "emulator" / "gcp_emulator"):
        shutil.copytree(package, copy / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, breach in BREACHES.items():
        file = copy / LIBRARY.name / name
        file.write_text((file.read_text() if file.exists() else "") + breach)
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    ran = subprocess.run(
        command, cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1, ran.stdout
    return ran.stdout


@pytest.mark.parametrize("breach", BROKEN)
def test_breach_is_named(said: str, breach: str) -> None:
    lines = [line.lstrip("- ") for line in said.splitlines()]
    assert any(line == breach or line.startswith((f"{breach} (", f"{breach}:")) for line in lines), said


def imports() -> Iterator[tuple[str, str]]:
    """
    Each file of the library, with each module that it imports.
    """
    for file in LIBRARY.rglob("*.py"):
        name = file.relative_to(LIBRARY).as_posix()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from ((name, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                yield from ((name, f"{node.module}.{alias.name}") for alias in node.names)


def test_each_library_of_google_has_its_modules() -> None:
    found: dict[str, set[str]] = {library: set() for library in GOOGLE}
    for name, module in imports():
        if module.startswith("google."):
            [library] = [each for each in GOOGLE if module.startswith(each)]
            found[library].add("store" if name.startswith("store/") else name)
    assert found == GOOGLE


# --- the house --------------------------------------------------------------------------------------------------------


def test_page_has_every_storey_from_top_to_bottom() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    [layers] = [each["layers"] for each in settings["contracts"] if each["name"] == "Imports point down"]
    held = [set(re.split(r" [|:] ", layer)) - {"__main__", "mypy"} for layer in layers]
    rows = (
        (ROOT / "docs" / "explanation" / "architecture.md")
        .read_text()
        .split("|---|---|\n")[1]
        .split("\n\n")[0]
        .splitlines()
    )
    told = [set(re.findall(r"`([a-z]+)`", row.split("|")[1])) for row in rows]
    assert told == [each for each in held if each]


def test_adapter_for_flask_is_short() -> None:
    """
    It converts requests and answers; a longer adapter would decide something that every framework needs.
    """
    assert len((LIBRARY / "flask.py").read_text().splitlines()) <= 100


def test_top_level_is_seen_at_a_glance() -> None:
    assert len(list(LIBRARY.glob("*.py"))) <= 12


def test_names_of_classes_and_modules_are_used_once() -> None:
    """
    A module has the name of another one only where it applies the rules that are there.
    """
    classes: dict[str, list[str]] = {}
    modules: dict[str, set[str]] = {}
    for file in LIBRARY.rglob("*.py"):
        place = file.relative_to(LIBRARY)
        if not file.stem.startswith("__"):
            modules.setdefault(file.stem, set()).add(place.parts[0])
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                classes.setdefault(node.name.strip("_"), []).append(str(place))
    assert {name: places for name, places in classes.items() if len(places) > 1} == {}
    assert {name: places for name, places in modules.items() if len(places - {"rules"}) > 1} == {}


@pytest.mark.parametrize("sort", ["unit", "integration"])
def test_tests_stand_where_their_modules_do(sort: str) -> None:
    """
    Each folder of tests has the path of a folder of the library; a test beside the folders has the name of such a module.
    """
    root = ROOT / "tests" / sort
    places = [file.relative_to(root) for file in root.rglob("test_*.py")]
    assert places
    assert {str(place) for place in places if not (LIBRARY / place.parent).is_dir()} == set()
    beside = {place.stem.removeprefix("test_") for place in places if len(place.parts) == 1}
    assert beside <= {file.stem for file in LIBRARY.glob("*.py")}
