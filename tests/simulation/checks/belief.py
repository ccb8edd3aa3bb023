"""
What holders believe of their leases, compared with the leases as stored, by the world's own clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from gcp_emulator.clock import micros_of
from gcp_oncetask import Status
from gcp_oncetask.rules.named import UNLIMITED
from gcp_oncetask.rules.record import Lock
from tests.simulation.hub import SECOND
from tests.simulation.process import Process

if TYPE_CHECKING:
    from tests.simulation.chains.checker import Checker

Lease = tuple[str, int, str | None]
"""Document, token, nonce of the holder."""
_ANSWERED = SECOND
"""Micros after a commit when most holders have its answer."""
_AHEAD = timedelta(microseconds=500)
"""
The server's clock may be ahead of the world's by this: it gives each of the writes of one call, 500 at most, a time of its own,
a microsecond after the one before.
"""


@dataclass(frozen=True)
class Believer:
    """
    A holder that has been told of its lease, and has not ended it.

    Attributes:
        process: Where it runs.
        lease: Which one it was told of.
        left: Seconds for which it believes in it, by what its process says now.
    """

    process: Process
    lease: Lease
    left: float


def end_of(lock: Lock) -> datetime | None:
    """
    When the lease ends by the server's clock; None: only its release ends it.
    """
    assert lock.leased_at is not None
    assert lock.granted_at is not None
    if lock.lease_seconds >= UNLIMITED:
        return None
    ends = lock.leased_at + timedelta(seconds=lock.lease_seconds)
    limited = lock.run_limit_seconds < UNLIMITED
    return min(ends, lock.granted_at + timedelta(seconds=lock.run_limit_seconds)) if limited else ends


@dataclass
class Belief:
    """
    Looks at all believers of a document at each of its commits, when its holder has the answer, at half of the lease, and
    at its end.

    Attributes:
        checker: Knows the believers and the locks, and notes violations.
        ended: Leases that were ended by the process that had them, which may wait for the answer; of each the nonce of the
            settlement.
        ended_late: The leases among *ended* that had run out before that commit. Another delivery in the same process may have
            taken such a lease over.
    """

    checker: Checker
    ended: dict[Lease, str | None] = field(default_factory=dict)
    ended_late: set[Lease] = field(default_factory=set)

    def committed(self, process: Process | None, path: str, before: Lock | None, lock: Lock) -> None:
        """
        A commit, which *process* had sent, has changed the lock.
        """
        moved = before is not None and (lock.status, lock.sequence) != (before.status, before.sequence)
        held = before is not None and before.status is Status.LEASED and lock.token == before.token
        settled = before is not None and lock.settled_by != before.settled_by
        if held and moved and settled and process is not None and process.name == lock.instance:
            lease, end = (path, lock.token, lock.holder), end_of(before) if before is not None else None
            self.ended[lease] = lock.settled_by
            if end is not None and self.checker.world.hub.time() >= end:
                self.ended_late.add(lease)
        self.look(path)
        if lock.status is Status.LEASED and (before is None or lock.leased_at != before.leased_at):
            self._look_later(path, lock)

    def _look_later(self, path: str, lock: Lock) -> None:
        hub, end = self.checker.world.hub, end_of(lock)
        instants = [hub.now + _ANSWERED]
        if end is not None:
            instants += [(hub.now + micros_of(end)) // 2, micros_of(end)]
        for at in instants:
            hub.look_at(at, lambda: self.look(path))

    def look(self, path: str) -> None:
        """
        Each one that believes in its lease has it, and for no longer than the lease lasts.
        """
        lock = self.checker.locks.get(path)
        if lock is None:
            return
        now, end = self.checker.world.hub.time(), end_of(lock) if lock.status is Status.LEASED else None
        for one in self.checker.believers(path):
            self.checker.world.counts["beliefs looked at"] += 1
            if one.left <= 0 or one.lease in self.ended:
                continue
            token = one.lease[1]
            if lock.status is not Status.LEASED or (path, lock.token, lock.holder) != one.lease:
                self.checker.broken(
                    path,
                    f"it is {lock.status} with token {lock.token} while {one.process.name} still believes in {token}",
                )
            elif end is not None and now >= end:
                self.checker.broken(
                    path, f"{one.process.name} believes in token {token} past the end of its lease, {end}"
                )
            elif end is not None and now + timedelta(seconds=min(one.left, 1e9)) > end:
                self.checker.broken(
                    path, f"{one.process.name} believes in token {token} for longer than its lease, until {end}"
                )

    def estimates(self, process: Process) -> None:
        """
        What *process* takes for a time that the server's clock has reached has been reached.
        """
        known = process.locker._runtime.store.wire.estimate()
        if known is not None and known > self.checker.world.hub.time() + _AHEAD:
            self.checker.broken(
                process.name, f"it takes the server's time for {known}, and it is {self.checker.world.hub.time()}"
            )
