"""
A virtual environment with the declared minimum of each dependency: ``python tests/support/lowest.py .venv-lowest``.

The two ``pyproject.toml`` are the only list of them: each ``name>=1.2`` becomes the constraint ``name==1.2``. Only the standard
library is needed.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = (
    "greenlet",
    "gunicorn",
    "hypothesis",
    "opentelemetry-sdk",
    "psutil",
    "pyjwt[crypto]",
    "pytest",
    "pytest-instafail",
    "pytest-timeout",
    "pytest-xdist",
)
OURS = "gcp-oncetask-emulator"
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[\w+\])?>=(?P<lowest>[\w.]+)(,<\d+(\.\d+)*)?")


def requirements(root: Path = ROOT) -> list[str]:
    """
    What both distributions and their extras require, each once.
    """
    found: set[str] = set()
    for folder in (root, root / "emulator"):
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        found.update(project["dependencies"], *project.get("optional-dependencies", {}).values())
    return sorted(found - {OURS})


def constraints(required: list[str]) -> list[str]:
    """
    The lower bound of each as the only version allowed.

    Raises:
        SystemExit: A requirement has no lower bound, or two that differ.
    """
    lowest: dict[str, str] = {}
    for requirement in required:
        match = _REQUIREMENT.fullmatch(requirement)
        if match is None:
            sys.exit(f"{requirement!r} has no lower bound: write name>=1.2 or name>=1.2,<2")
        if lowest.setdefault(match["name"], match["lowest"]) != match["lowest"]:
            sys.exit(f"{match['name']} has two lower bounds: {lowest[match['name']]} and {match['lowest']}")
    return [f"{name}=={version}" for name, version in lowest.items()]


def install(folder: Path) -> None:
    """
    Make the environment in *folder*, anew.

    Raises:
        SystemExit: The minimums cannot be installed together, or one of them was withdrawn from the index.
    """
    if importlib.util.find_spec("ensurepip") is None:
        sys.exit(
            f"{sys.executable} has no venv module. On Debian: apt-get install python3-venv; or: make LOWEST_PYTHON=..."
        )
    venv.create(folder, clear=True, symlinks=True, with_pip=True)
    listed = folder / "constraints.txt"
    listed.write_text("\n".join(constraints(requirements())) + "\n")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
    what = ["-e", str(ROOT / "emulator"), "-e", f"{ROOT}[emulator,otel]", *TOOLS]
    done = subprocess.run([*pip, "--constraint", str(listed), *what], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        # Which of them exclude each other, pip says in its standard output.
        said = [
            line
            for line in done.stdout.splitlines()
            if "conflict" in line or "depends on" in line or "constraint" in line
        ]
        sys.exit("\n".join([*said, done.stderr, "The declared minimums cannot be installed together."]))
    if "yanked" in done.stderr:
        sys.exit(f"{done.stderr}\nA declared minimum was withdrawn from the index: raise it.")


if __name__ == "__main__":
    install(Path(sys.argv[1]))
