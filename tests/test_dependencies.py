"""
What the two distributions need: all that they import is declared, each with a lower bound, and nothing in it warns.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support import lowest

ROOT = Path(__file__).parents[1]
# pydantic demands one exact release of its core; the plugins are loaded by pytest and mypy; a distribution may import
# itself; aiohttp takes addresses of yarl.
COME_ALONG = {"mypy": "", "pydantic-core": "pydantic", "pytest": "", "yarl": "aiohttp"}
IMPORTS_ALL = """
import importlib, pkgutil, sys, warnings
warnings.simplefilter("error")
warnings.filterwarnings("default", "You are using a (non-supported )?Python version", FutureWarning, "google[.]")
for package in sys.argv[1:]:
    importlib.import_module(package)
    for module in pkgutil.walk_packages(sys.modules[package].__path__, package + "."):
        if not module.name.endswith(("__main__", ".mypy")):
            importlib.import_module(module.name)
            print(module.name)
"""


def test_every_module_is_imported_without_a_warning() -> None:
    """
    All modules of both packages, in one process in which warnings are errors.
    """
    command = [sys.executable, "-c", IMPORTS_ALL, "gcp_oncetask", "gcp_emulator"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert {"gcp_oncetask.flask", "gcp_oncetask.observe.telemetry", "gcp_emulator.mail"} <= set(done.stdout.split())


@functools.cache
def owners() -> dict[Path, str]:
    """
    The distribution of each installed module, by its file.
    """
    return {
        Path(str(distribution.locate_file(file))): canonical(distribution.metadata["Name"])
        for distribution in importlib.metadata.distributions()
        for file in distribution.files or ()
        if file.suffix in {".py", ".so"}
    }


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(package: Path) -> set[str]:
    """
    The modules of others that the modules of a package import, at their top or within.
    """
    found: set[str] = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.update({f"{node.module}.{alias.name}" for alias in node.names} | {node.module})
    return {
        name for name in found if name.split(".")[0] not in {*sys.stdlib_module_names, "gcp_oncetask", "gcp_emulator"}
    }


def file_of(module: str) -> Path | None:
    """
    The file of a module; None for a namespace, or a name within a module.
    """
    try:
        spec = importlib.util.find_spec(module)
    except (ModuleNotFoundError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


@pytest.mark.parametrize(("folder", "package"), [(".", "gcp_oncetask"), ("emulator", "gcp_emulator")])
def test_what_is_imported_is_declared(folder: str, package: str) -> None:
    """
    Nothing is imported that comes only because something else happens to need it.
    """
    project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    extras = [
        line for extra, lines in project.get("optional-dependencies", {}).items() if extra != "dev" for line in lines
    ]
    declared = {canonical(re.split(r"[\[><=]", line)[0]) for line in [*project["dependencies"], *extras]}
    owner = owners()
    files = {module: file_of(module) for module in imported(ROOT / folder / package)}
    needed = {owner[file] for file in files.values() if file in owner}

    assert len(needed) > 8
    assert {name for name in needed if COME_ALONG.get(name, name) not in {"", *declared}} == set()


def test_lower_bounds_are_read_from_both_projects() -> None:
    """
    Each requirement is a constraint to its lower bound; one without a bound, or with two, is told.
    """
    pinned = lowest.constraints(lowest.requirements())

    assert {"flask==3.1", "aiosmtpd==1.4.6", "pytest==8.3", "opentelemetry-api==1.30"} <= set(pinned)
    with pytest.raises(SystemExit, match="'tzdata' has no lower bound"):
        lowest.constraints(["tzdata"])
    with pytest.raises(SystemExit, match=r"urllib3 has two lower bounds: 2 and 2\.1"):
        lowest.constraints(["urllib3>=2", "urllib3>=2.1,<3"])
