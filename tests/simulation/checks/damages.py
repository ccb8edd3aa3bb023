"""
A damaged record is told to a person, and the library writes nothing to it but its due time and its attention, until a person has
repaired it; then it goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gcp_oncetask import DamagedError
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.store.lock_codec import decode_lock
from tests.simulation.world import Process

_OURS = ("due", "attention")
"""Attributes that the library may write."""


@dataclass
class Damages:
    """
    Watches the damaged records of one world.

    Attributes:
        broken: Told of violations: a document and a sentence.
        now: Of each damaged document its lock as a person has left it.
        struck: How often each document was damaged.
        anew: Documents whose reset a person has asked of a process, with the name of the process.
        repaired: Documents whose attention is still that of their damage.
    """

    broken: Callable[[str, str], None]
    now: dict[str, Any] = field(default_factory=dict)
    struck: Counter[str] = field(default_factory=Counter)
    anew: set[tuple[str, str]] = field(default_factory=set)
    repaired: set[str] = field(default_factory=set)
    _made: set[str] = field(default_factory=set)

    def asked(self, process: Process, path: str) -> None:
        """
        A person asks *process* to reset the record at *path*. The call may take effect late.
        """
        self.anew.add((path, process.name))

    def hides(self, process: Process | None, path: str, document: Any) -> bool:
        """
        Whether the record at *path*, which *process* has just written, is damaged still; *document* is None if it is gone.
        """
        if path not in self.now:
            return False
        if document is None:
            del self.now[path]
            return False
        stored = document.fields["lock"].map_value.fields
        try:
            decode_lock(document, path)
        except DamagedError:
            if process is not None and _others(stored) != _others(self.now[path]):
                self.broken(path, f"{process.name} changed a damaged record")
            self.now[path] = stored
            return True
        if process is not None:
            if (path, process.name) in self.anew:
                self._made.add(path)
            else:
                self.broken(path, f"{process.name} repaired a damaged record by itself")
        del self.now[path]
        self.repaired.add(path)
        return False

    def is_made_anew(self, path: str, before: Lock | None, lock: Lock) -> bool:
        """
        Whether the change to *lock* is the reset of a damaged record. It begins a sequence of the same step.
        """
        if path not in self._made:
            return False
        self._made.discard(path)
        if before is None:
            return False
        if lock.sequence < before.sequence or lock.token < before.token:
            self.broken(path, f"its reset went from sequence {before.sequence} to {lock.sequence}, token {lock.token}")
        if lock.step != before.step:
            self.broken(path, f"its reset went from step {before.step} to {lock.step}")
        return True

    def is_noted(self, path: str, lock: Lock) -> bool:
        """
        Whether the attention of *lock* is still that of its damage.
        """
        if lock.attention is None:
            self.repaired.discard(path)
        return path in self.repaired


def _others(stored: Any) -> dict[str, Any]:
    return {name: value for name, value in stored.items() if name not in _OURS}
