"""
A time of expiry that a person has written on a document that lives, or owes an alert, holds only until the task has ended and
everybody is told: then the library writes its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gcp_oncetask.rules.record import Lock
from tests.simulation.world import Process


@dataclass
class WrongTtl:
    """
    Watches the documents of one world whose time of expiry a person has written.

    Attributes:
        broken: Told of violations: a document and a sentence.
        now: Those documents.
    """

    broken: Callable[[str, str], None]
    now: set[str] = field(default_factory=set)

    def hides(
        self, process: Process | None, path: str, lock: Lock, fields: Mapping[str, Any], known: Mapping[str, Any]
    ) -> bool:
        """
        Whether the time of expiry in *fields*, which were *known* before, is still that of a person.
        """
        expires, changed = fields.get("expireAt"), fields.get("expireAt") != known.get("expireAt")
        if process is None:
            if changed:
                self.now.add(path)
            return path in self.now
        if path not in self.now:
            return False
        if changed:
            self.now.discard(path)
            return not lock.finished
        if lock.finished and not lock.owed and "retentionSeconds" in fields:
            self.broken(path, f"it has ended, and still expires when a person has said: {expires}")
        return True
