"""
A granted lease in the process that holds it: the time for which the process may rely on it, and its renewal.
"""

from __future__ import annotations

import math
import threading
from typing import Final

from gcp_oncetask.clock import Mark, elapsed
from gcp_oncetask.observe.log_context import LogContext
from gcp_oncetask.rules.decisions import Fence, Policy
from gcp_oncetask.rules.delivery import idempotency_key
from gcp_oncetask.rules.named import UNLIMITED
from gcp_oncetask.rules.task_headers import TaskHeaders
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.snapshot import Snapshot


class HeldLease:
    """
    A granted lease.

    Args:
        runtime: Shared parts.
        snapshot: The document as the grant has left it.
        context: The holder as log lines name it.
        policy: Length of the lease and run limit, in seconds.
        mark: Time before the granting commit was sent; the lease and the run limit count from it.

    Attributes:
        granted: The lock as the grant has left it.
        snapshot: The document as this process knows it.
        granted_mark: Time from which the run limit counts.
        leased_mark: Time from which the present lease counts.
        fence: The fence that every commit under the lease checks.
        delivery: Headers of the Cloud Task that led to the lease; None: there is none.
        cancelled: Whether a cancellation has been seen.
        mutex: Held during a commit under the lease.
    """

    delivery: TaskHeaders | None = None

    def __init__(
        self, runtime: Runtime, snapshot: Snapshot, context: LogContext, *, policy: Policy, mark: Mark
    ) -> None:
        lock = snapshot.lock
        assert lock is not None
        self.runtime: Final = runtime
        self.context: Final = context
        self.policy: Final = policy
        self.granted: Final = lock
        self.cancelled = lock.cancel_requested_at is not None
        self.snapshot = snapshot
        self.granted_mark: Final = mark
        self.leased_mark = mark
        self.fence: Final = Fence(lock.sequence, lock.token, context.holder)
        self.mutex: Final = threading.RLock()

    @property
    def lost(self) -> threading.Event:
        """
        Event that is set as soon as this process knows that the lease is lost.
        """
        # Most leases need no event, so it is made on first use. Two threads that ask at the same time get the same
        # event.
        made: threading.Event = self.__dict__.setdefault("_lost_event", threading.Event())
        return made

    @property
    def key(self) -> str:
        """
        Idempotency key, the same for every attempt of this sequence.
        """
        lock = self.granted
        return idempotency_key(lock.env, self.context.document, lock.keyed, lock.granted)

    def left(self) -> float:
        """
        Return the seconds until the lease or the run limit ends for its holder, a margin before it ends for others;
        infinity if the lease has no end.
        """
        policy = self.policy
        if policy.lease >= UNLIMITED:
            return math.inf
        now = self.runtime.clock.mark()
        left = min(policy.lease - elapsed(self.leased_mark, now), policy.run_limit - elapsed(self.granted_mark, now))
        return left - self.runtime.config.margin

    def held_for(self) -> float:
        """
        Return the seconds for which this process may still rely on its lease; 0 or less after the end of that time.
        """
        return self.left()

    def remaining(self) -> float:
        """
        Return the seconds until the run limit; 0 once it has passed or the lease is lost.
        """
        return self.until(self.policy.run_limit - self.runtime.config.margin)

    def until(self, limit: float) -> float:
        """
        Return the seconds until *limit* seconds after the grant; 0 once that time has passed or the lease is lost.
        """
        if self.lost.is_set():
            return 0.0
        return max(0.0, limit - elapsed(self.granted_mark, self.runtime.clock.mark()))

    def alive(self) -> bool:
        """
        Tell whether this process surely holds the lease: no other attempt can have taken it over.
        """
        return self.left() > 0

    def renew(self) -> None:
        """
        Renew the lease, so that its full length counts from now.

        Raises:
            LeaseLostError: The holder does not hold its lease any more.
            StoreError: Firestore was unreachable or refused; the lease goes on until its end.
        """
        with self.mutex:
            mark = self.runtime.clock.mark()
            self._renew()
            self.leased_mark = mark

    def renew_if_idle(self) -> bool:
        """
        Renew the lease unless a commit is under way; return False if one is.
        """
        if not self.mutex.acquire(blocking=False):
            return False
        try:
            if self._goes_on():
                self.renew()
            return True
        finally:
            self.mutex.release()

    def _renew(self) -> None:
        """
        Commit the renewal.
        """
        raise NotImplementedError

    def _goes_on(self) -> bool:
        """
        Tell whether the lease is still in use, so that it must be renewed.
        """
        raise NotImplementedError
