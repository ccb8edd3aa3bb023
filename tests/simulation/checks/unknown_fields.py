"""
A field that only the later deployment knows: processes of the other one leave it as it is, and no step of the later one is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gcp_oncetask.rules.record import Lock
from tests.simulation.world import Process, World

FIELD = "extra"


class UnknownFields:
    """
    Watches the field in the documents of one world.
    """

    def __init__(self, broken: Callable[[str, str], None]) -> None:
        self._broken = broken
        self._values: dict[str, int | None] = {}

    def changed(
        self, world: World, process: Process | None, path: str, before: Lock | None, fields: Mapping[str, Any]
    ) -> None:
        """
        A commit of *process* has changed the document at *path*.
        """
        known, value = self._values.get(path), fields.get(FIELD)
        self._values[path] = value
        if process is None or before is None or value == known:
            return
        # A takeover may save the fields of a holder as that one has logged them.
        knows = process.name in world.later or before.instance in world.later
        if not knows or value != (known or 0) + 1:
            self._broken(
                path, f"its field {FIELD!r} went from {known} to {value} by {process.name}, which knows it: {knows}"
            )
        world.counts["steps that saved a field of the later deployment"] += 1
