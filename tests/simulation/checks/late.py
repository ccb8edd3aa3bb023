"""
A holder whose lease is lost is told at its next call under the lease, and told the right thing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from gcp_oncetask import LeaseLostError, Status
from gcp_oncetask.rules.outcome import Outcome
from tests.simulation.checks.belief import Lease
from tests.simulation.hub import SECOND

if TYPE_CHECKING:
    from tests.simulation.chains.checker import Checker, Running

T = TypeVar("T")
_TOLD = (Outcome.LOST, Outcome.LOST_TO_LATER)
_NOTHING_SAID = (Outcome.UNAVAILABLE, Outcome.DAMAGED, Outcome.REFUSED, Outcome.SETTLED)
"""Outcomes of an attempt whose commit failed for another reason, or was made before."""
_PATIENCE = 120
"""Seconds within which the last commit of most attempts is answered."""


@dataclass
class Late:
    """
    Looks at the calls that are made under leases, and at the ends of attempts.

    Attributes:
        checker: Knows the locks, and notes violations.
        aware: Leases of which a call of the handler was told that they are lost.
    """

    checker: Checker
    aware: set[Lease] = field(default_factory=set)

    def is_lost(self, lease: Lease) -> bool:
        """
        Whether somebody else than its holder has ended the lease, or a person has deleted its document.
        """
        return lease not in self.checker.belief.ended and self._may_be_lost(lease)

    def _may_be_lost(self, lease: Lease) -> bool:
        """
        Whether it may be taken for lost: it is; or its holder has ended it, and others have had the document since, so that
        an end whose answer was lost can't be recognised any more.
        """
        lock = self.checker.locks.get(lease[0])
        if lock is None or (lock.token, lock.holder) != lease[1:]:
            return True
        belief = self.checker.belief
        alone = lease in belief.ended and belief.ended[lease] == lock.settled_by
        by_itself = alone and lease not in belief.ended_late
        return lock.status not in (Status.LEASED, Status.QUARANTINED) and not by_itself

    def _is_further(self, path: str, sequence: int) -> bool:
        """
        Whether no attempt of the sequence is left to be made.
        """
        lock = self.checker.locks.get(path)
        return lock is None or lock.finished or lock.sequence > sequence

    def _is_made_again(self, lease: Lease) -> bool:
        """
        Whether the document was deleted since the grant and made again, which begins with the first sequence. Perhaps it was
        deleted once more since.
        """
        known = self.checker.idempotency
        granted = known.of_grant.get(lease)
        lives = [life for path, life in known.begun if path == lease[0]]
        return lease in self.checker.orphans and (granted is None or max(lives) > granted[1])

    @contextmanager
    def call(self, lease: Lease, sequence: int, what: str) -> Iterator[None]:
        """
        The holder makes a call under the lease; *what* it is.
        """
        lost, further = self.is_lost(lease), self._is_further(lease[0], sequence)
        try:
            yield
        except LeaseLostError as error:
            self.told(lease, error)
            told = error.facts.get("finished")
            right = (further, self._is_further(lease[0], sequence))
            if told is not None and told not in right and not self._is_made_again(lease):
                self.checker.broken(lease[0], f"token {lease[1]} was told that it is lost, and finished: {told}")
            raise
        if lost and lease not in self.checker.belief.ended:
            self.checker.broken(lease[0], f"token {lease[1]} was lost, and its {what} was answered as if it were not")

    def told(self, lease: Lease, error: LeaseLostError) -> None:
        """
        The library says that the lease is lost, by *error*.
        """
        path, token = lease[:2]
        self.aware.add(lease)
        self.checker.world.counts["late holders told"] += 1
        if (error.facts["document"], error.facts["token"]) != (path, token):
            self.checker.broken(path, f"token {token} is lost, and its holder was told of {error.facts}")
        if error.facts.get("taken_over") is False:
            self.checker.broken(path, f"token {token} is lost, and its holder was told that nobody has taken it")
        lock = self.checker.locks.get(path)
        stopped = lock is not None and lock.status is Status.QUARANTINED and lock.token == token
        if not self._may_be_lost(lease) and not stopped and not self.checker.may_be_refused(lease):
            self.checker.broken(path, f"token {token} was told that it is lost, and it is not: {error}")

    def leaves(self, running: Running) -> None:
        """
        A handler is left; its attempt is settled now, unless it was before.
        """
        attempt = running.attempt._running
        lease = running.lease
        if attempt.settled is not None or running.process.dead:
            return
        further = lease not in self.aware and self._is_further(lease[0], attempt.granted.sequence)
        look = self._end_of(running, lease, lost=self.is_lost(lease), further=further)
        self.checker.world.hub.look_at(self.checker.world.hub.now + _PATIENCE * SECOND, look)

    def _end_of(self, running: Running, lease: Lease, *, lost: bool, further: bool) -> Callable[[], None]:
        def look() -> None:
            ended = running.attempt._running.ended
            if ended is None or ended.outcome in _NOTHING_SAID:
                return
            told = ended.outcome in _TOLD
            if lost and not told and lease not in self.checker.belief.ended:
                self.checker.broken(
                    lease[0], f"token {lease[1]} was lost when its handler ended, and it is {ended.outcome}"
                )
            again = self._is_made_again(lease)
            # The end of a batch is that of the first of its tasks that could not be settled.
            about = (ended.reason or "").partition(": ")[0]
            others = "/" in about and about != lease[0]
            # A durable word looks at its process's clock, and does not ask what has become of the lease.
            others = others or "by this process's clock" in (ended.reason or "")
            still = further and self._is_further(lease[0], running.attempt._running.granted.sequence)
            if told and lost and still and not (again or others) and ended.outcome is not Outcome.LOST_TO_LATER:
                self.checker.broken(
                    lease[0], f"token {lease[1]} was lost to a later sequence, and it is {ended.outcome}"
                )

        return look
