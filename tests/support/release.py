"""
All checks of a release that need no account: ``python -m tests.support.release`` builds both distributions into ``dist/``, looks
at them as an index does, and installs the wheels into a fresh environment.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

from tests.support.readme import ROOT

PACKAGES = {".": "gcp_oncetask", "emulator": "gcp_emulator"}
"""Folder of a distribution -> its package."""
_BESIDE = {"CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "SECURITY.md", ".gitignore", "pyproject.toml"}
"""Files beside the package in a source distribution."""
_IMPORTS = """
import importlib, pkgutil, sys
for package in sys.argv[1:]:
    place = importlib.import_module(package)
    for module in pkgutil.walk_packages(place.__path__, package + "."):
        # The plugins are for mypy and pytest, which are not installed here.
        if not module.name.endswith(("__main__", ".mypy", ".plugin", ".pytest_plugin")):
            importlib.import_module(module.name)
"""


def version() -> str:
    """
    The version of both distributions.

    Raises:
        SystemExit: They differ, or the changelog has no section for it.
    """
    found = {
        folder: str(tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]["version"])
        for folder in PACKAGES
    }
    if len(set(found.values())) > 1:
        raise SystemExit(f"The two distributions have different versions: {found}.")
    wanted = found["."]
    if wanted not in sections((ROOT / "CHANGELOG.md").read_text()):
        raise SystemExit(f"CHANGELOG.md has no section [{wanted}].")
    return wanted


def sections(changelog: str) -> list[str]:
    """
    The names of the changelog's sections, the newest first.
    """
    return re.findall(r"^## \[([^\]]+)\]", changelog, re.MULTILINE)


def run(*command: str | Path) -> None:
    """
    Run a command; end with its code if it fails.
    """
    done = subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")


def build(folder: Path) -> None:
    """
    Build both source distributions, and the wheels from these, into the empty *folder*.
    """
    for place in PACKAGES:
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT / place)


def check(folder: Path) -> None:
    """
    Check the four files as an index does, and that each source distribution has its own files alone.
    """
    built = sorted(folder.iterdir())
    wheels = [path for path in built if path.suffix == ".whl"]
    if len(built) != 4 or len(wheels) != 2:
        raise SystemExit(f"Two wheels and two source distributions were to be built: {[path.name for path in built]}.")
    run(sys.executable, "-m", "twine", "check", "--strict", *built)
    run(sys.executable, "-m", "check_wheel_contents", *wheels)
    for source in set(built) - set(wheels):
        package = "gcp_emulator" if "emulator" in source.name else "gcp_oncetask"
        with tarfile.open(source) as opened:
            below = {name.split("/")[1] for name in opened.getnames() if "/" in name}
        wrong = below - {package, *_BESIDE}
        if wrong or package not in below:
            raise SystemExit(f"{source.name} is to hold {package} and its texts; it has {sorted(below)}.")


def install(folder: Path) -> None:
    """
    Install the wheels into a fresh environment, import all of their modules, and ask both commands for their version.
    """
    with tempfile.TemporaryDirectory() as made:
        run(sys.executable, "-m", "venv", made)
        bin_ = Path(made) / "bin"
        run(bin_ / "pip", "install", "--quiet", "--disable-pip-version-check", *folder.glob("*.whl"))
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        for command in (
            [bin_ / "python", "-c", _IMPORTS, *PACKAGES.values()],
            [bin_ / "python", "-m", "gcp_oncetask", "--version"],
            [bin_ / "gcp-emulator", "--version"],
        ):
            # In another folder: the project's own packages must not be found.
            done = subprocess.run(command, cwd=made, env=environ, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")


def main() -> None:
    """
    All of it; ``dist/`` has the four files at the end.
    """
    wanted = version()
    folder = ROOT / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    build(folder)
    check(folder)
    install(folder)
    print("\n".join([f"{wanted} is ready:", *(f"  dist/{path.name}" for path in sorted(folder.iterdir()))]))


if __name__ == "__main__":
    main()
