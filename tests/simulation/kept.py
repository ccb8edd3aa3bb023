"""
How each mutant was caught, kept in a file, so that a run that was stopped goes on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from tests.simulation.state_files import fingerprint, write_whole

SOURCES = ("gcp_oncetask", "emulator/gcp_emulator", "tests")


class Caught(NamedTuple):
    """
    How a mutant was caught.

    Attributes:
        by: The seed, or the test.
        checks: The checks that its history tripped, the first one first.
    """

    by: str
    checks: Sequence[str] = ()


class Kept:
    """
    What was found with these sources, by name, kept in *file*. What the file tells of other sources is forgotten.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._sources = fingerprint(SOURCES)
        self._guard = Lock()
        self._found: dict[str, Caught] = {}
        if file.exists():
            kept = json.loads(file.read_text())
            if kept["sources"] == self._sources:
                self._found = {name: Caught(by, tuple(checks)) for name, (by, checks) in kept["found"].items()}

    def get(self, name: str) -> Caught | None:
        """
        What was found before; None: nothing.
        """
        return self._found.get(name)

    def add(self, name: str, found: Caught) -> None:
        """
        Keep what was found now; a process that is killed leaves the file of before.
        """
        with self._guard:
            self._found[name] = found
            write_whole(self._file, json.dumps({"sources": self._sources, "found": self._found}, indent=1))
