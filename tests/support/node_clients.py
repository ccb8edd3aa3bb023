"""
Google's Node and Web clients of Firestore, pinned: found, or installed into the project's cache, which git ignores.

``python -m tests.support.node_clients`` installs them where npm is.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

PACKAGES = {"@google-cloud/firestore": "8.7.1", "firebase": "13.2.0"}
FOLDER = Path(__file__).parents[2] / ".cache" / "node-clients"


def missing() -> str | None:
    """
    What programs with these clients lack here; None if they can be run.
    """
    if shutil.which("node") is None:
        return "node is not installed"
    if not all((FOLDER / "node_modules" / name).exists() for name in PACKAGES):
        return "the Node clients are not installed; `make node-clients` does that"
    return None


def install() -> str:
    """
    Install them if they are missing and npm is there; returns what was done, in a sentence.
    """
    npm = shutil.which("npm")
    if npm is None:
        return "the Node clients are not installed: that needs npm"
    if missing() is None:
        return "the Node clients are there"
    FOLDER.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--prefix", str(FOLDER), "--no-save", "--no-fund", "--no-audit", "--ignore-scripts"]
    wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
    done = subprocess.run([*command, "--loglevel=error", *wanted], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"the Node clients were not installed: {(done.stderr.strip().splitlines() or ['npm failed'])[-1]}"
    return "the Node clients were installed"


if __name__ == "__main__":
    print(install())
