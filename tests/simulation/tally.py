"""
What the histories of one pytest session have exercised together, whichever processes play them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from tests.simulation.state_files import write_whole


class Tally:
    """
    Counts of parts, each in a file of its own below *folder*, which all processes of the session share.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def add(self, part: str, counts: Counter[str]) -> None:
        """
        Keep the counts of *part*.
        """
        write_whole(self._folder / part, json.dumps(counts))

    def total(self, parts: Collection[str]) -> Counter[str] | None:
        """
        The counts of all *parts*; None while one of them is still to come.
        """
        files = [self._folder / part for part in parts]
        if not all(file.exists() for file in files):
            return None
        counts: Counter[str] = Counter()
        for file in files:
            counts.update(json.loads(file.read_text()))
        return counts
