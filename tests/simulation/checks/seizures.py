"""
A holder whose document a person has deleted is told so at its next call, and believes in its lease no longer than the lease's
length.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from gcp_oncetask.rules.named import UNLIMITED
from gcp_oncetask.rules.record import Lock
from tests.simulation.hub import SECOND


@dataclass
class Seizures:
    """
    Watches the holdings that a person has ended in one world.

    Attributes:
        broken: Told of violations: a document and a sentence.
        until: Of each one (document, token) the instant until which its holder may believe in it, micros.
    """

    broken: Callable[[str, str], None]
    until: dict[tuple[str, int], float] = field(default_factory=dict)

    def seizes(self, path: str, lock: Lock, now: int) -> None:
        """
        A person is about to delete the document at *path*, which is held.
        """
        length = math.inf if lock.lease_seconds >= UNLIMITED else lock.lease_seconds * SECOND
        self.until[path, lock.token] = now + length

    def has(self, path: str, token: int) -> bool:
        """
        Whether the holding was ended by a person.
        """
        return (path, token) in self.until

    def may_believe(self, path: str, token: int, now: int) -> bool:
        """
        Whether its holder can't know yet that a person has ended it.
        """
        return now < self.until.get((path, token), 0)

    def goes_on(self, path: str, token: int, *, renewed: bool) -> None:
        """
        A call of the holder has told it that it holds the lock still; *renewed*: the call has refreshed the lease, perhaps just
        before the document was deleted.
        """
        if (path, token) in self.until and not renewed:
            self.broken(path, f"token {token} was refreshed, and a person had deleted its document")
