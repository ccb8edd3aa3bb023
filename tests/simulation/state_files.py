"""
Files that keep what was found, for runs that were stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def fingerprint(folders: Sequence[str]) -> str:
    """
    The SHA-256 of the sources in *folders*.
    """
    found = hashlib.sha256()
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            found.update(f"{file.relative_to(ROOT)}\0".encode())
            found.update(file.read_bytes())
    return found.hexdigest()


def write_whole(file: Path, text: str) -> None:
    """
    Write *file*; a process that is killed leaves the file of before.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.unfinished")
    unfinished.write_text(text)
    unfinished.replace(file)
