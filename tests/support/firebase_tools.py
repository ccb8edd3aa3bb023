"""
firebase-tools, pinned: found, or installed into the project's cache, which git ignores.

``python -m tests.support.firebase_tools`` installs it where npm and Java are. 14 is the last version for Java before 21.
"""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

from gcp_emulator.firestore.google import MAIN_CLASS, find

VERSION = "14.27.0"
ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".cache" / f"firebase-tools-{VERSION}"
PROGRAM = FOLDER / "node_modules" / ".bin" / "firebase"
MAKES = "make firebase"


def missing() -> str | None:
    """
    What the Firebase emulators lack here; None if they can be started.
    """
    if shutil.which("node") is None:
        return "node is not installed"
    if find() is None:
        return "Google's Firestore emulator or Java is not installed"
    if not PROGRAM.exists():
        return f"firebase-tools is not installed; `{MAKES}` does that"
    return None


def install() -> str:
    """
    Install it if it is missing and possible; returns what was done, in a sentence.
    """
    if PROGRAM.exists():
        return f"firebase-tools {VERSION} is there"
    npm = shutil.which("npm")
    if npm is None or find() is None:
        return "firebase-tools is not installed: it needs npm, Java and Google's Firestore emulator"
    FOLDER.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--prefix", str(FOLDER), "--no-save", "--no-fund", "--no-audit", "--ignore-scripts"]
    command += ["--loglevel=error", "--fetch-retries=1", f"firebase-tools@{VERSION}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired:
        said = "npm took more than 400 s"
    else:
        if done.returncode == 0:
            return f"firebase-tools {VERSION} was installed"
        said = (done.stderr.strip().splitlines() or ["npm failed"])[-1]
    shutil.rmtree(FOLDER, ignore_errors=True)
    return f"firebase-tools was not installed: {said}"


def startable(folder: Path) -> Path:
    """
    A jar in *folder* that starts Google's emulator: gcloud's own has no main class in its manifest.
    """
    found = find()
    assert found is not None
    text = f"Manifest-Version: 1.0\nMain-Class: {MAIN_CLASS}\n{_folded(f'Class-Path: {found.as_uri()}')}\n\n"
    jar = folder / "firestore.jar"
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", text)
    return jar


def _folded(line: str) -> str:
    # A manifest's lines have 72 bytes at most, continued after a space.
    return "\n ".join([line[:70], *(line[at : at + 69] for at in range(70, len(line), 69))])


if __name__ == "__main__":
    print(install())
