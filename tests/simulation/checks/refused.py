"""
Documents that stand still because an API refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from gcp_oncetask import Status
from gcp_oncetask.rules.record import Lock
from tests.simulation.hub import SECOND, Hub

if TYPE_CHECKING:
    from tests.simulation.troubles.refusals import Refusal

TOLD_WITHIN = 900.0
"""Virtual seconds within which a person is told that something stands still because an API refuses."""


class Stood(NamedTuple):
    """
    A document that stands still, and for how long.
    """

    path: str
    seconds: float


class Refused:
    """
    Looks how long each document has not changed though it could.

    Args:
        hub: The world's time.
        fetches: Tells whether a worker takes tasks.
    """

    def __init__(self, hub: Hub, fetches: Callable[[], bool]) -> None:
        self._hub = hub
        self._fetches = fetches
        self._since: dict[str, tuple[object, int]] = {}

    def longest(self, locks: dict[str, Lock], refusal: Refusal) -> Stood | None:
        """
        Return the document among *locks* that has stood for longest because of *refusal*; None if none stands.
        """
        found: list[Stood] = []
        for path, lock in locks.items():
            known = (lock.status, lock.sequence, lock.token)
            if not self._could_go_on(lock, path, refusal):
                self._since.pop(path, None)
                continue
            before, since = self._since.get(path, (None, 0))
            if before != known:
                since = self._hub.now
            self._since[path] = (known, since)
            found.append(Stood(path, (self._hub.now - since) / SECOND))
        return max(found, key=lambda stood: stood.seconds, default=None)

    def _could_go_on(self, lock: Lock, path: str, refusal: Refusal) -> bool:
        if refusal.document and not refusal.document.endswith(path):
            return False
        if lock.url is None and refusal.service == ".CloudTasks":
            # Workers pull it.
            return False
        if lock.url is None and not self._fetches():
            # It stands still for want of a worker. No call about it is refused, and the alarm of its lane tells of it.
            return False
        waits = lock.wait_until is not None and lock.wait_until > self._hub.time()
        return lock.status is Status.SCHEDULED and lock.parked is None and not lock.paused and not waits
