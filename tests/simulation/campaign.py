"""
How far a campaign of histories has come, kept in a file, so that it goes on where it was stopped.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.simulation.runner import Summary
from tests.simulation.state_files import fingerprint, write_whole

SOURCES = ("gcp_oncetask", "emulator/gcp_emulator", "tests/simulation", "tests/support")


@dataclass
class Played:
    """
    What was played of one kind.

    Attributes:
        histories: How many, from the first seed on.
        cpu: CPU seconds of all of them.
        failed: Seeds whose histories broke the promise.
        counts: What was exercised, summed.
    """

    histories: int = 0
    cpu: float = 0.0
    failed: list[int] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, part: Summary) -> None:
        """
        Add the histories of *part*.
        """
        self.histories += part.played
        self.cpu += part.cpu
        self.failed.extend(part.failed)
        self.counts = dict(Counter(self.counts) + part.counts)


class Campaign:
    """
    The histories that were played of these sources from the seed *first* on, kept in *file*.

    What the file tells of other sources, or of another first seed, is forgotten: those histories prove nothing about these.
    """

    def __init__(self, file: Path, first: int) -> None:
        self._file = file
        self._named = {"sources": fingerprint(SOURCES), "first": first}
        self.kinds: dict[str, Played] = {}
        self.anew = True
        if file.exists():
            kept = json.loads(file.read_text())
            self.anew = {name: kept.get(name) for name in self._named} != self._named
            if not self.anew:
                self.kinds = {kind: Played(**played) for kind, played in kept["kinds"].items()}

    def of(self, kind: str) -> Played:
        """
        What was played of *kind*.
        """
        return self.kinds.setdefault(kind, Played())

    def keep(self) -> None:
        """
        Write the file; a process that is killed leaves the file of before.
        """
        told = {**self._named, "kinds": {kind: asdict(played) for kind, played in self.kinds.items()}}
        write_whole(self._file, json.dumps(told, indent=1, sort_keys=True))
