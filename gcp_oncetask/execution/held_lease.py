"""
A granted lease, as the process that holds it knows it: for how long it may be believed, and its renewal.
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
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.task_headers import TaskHeaders
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.snapshot import Snapshot


class HeldLease:
    """
    One granted lease.

    Args:
        runtime: Shared parts.
        snapshot: The document as it was granted.
        context: The lease, for log lines.
        policy: Lease and run limit, seconds.
        mark: Before the granting commit was sent: the lease and the run limit count from then on.

    Attributes:
        granted: The lock as it was granted.
        snapshot: The document as this process last knew it.
        granted_mark: From when the run limit counts.
        leased_mark: From when the present lease counts.
        fence: Every commit under the lease asks for it.
        delivery: Headers of the Cloud Task that led to it; None: there is none.
        cancelled: Whether a cancellation has been seen.
        mutex: Held during a commit under the lease.
    """

    def __init__(
        self, runtime: Runtime, snapshot: Snapshot, context: LogContext, *, policy: Policy, mark: Mark
    ) -> None:
        lock = snapshot.lock
        assert lock is not None
        self.runtime: Final = runtime
        self.context: Final = context
        self.policy: Final = policy
        self.granted: Final = lock
        self.snapshot = snapshot
        self.granted_mark: Final = mark
        self.leased_mark = mark
        self.fence: Final = Fence(lock.sequence, lock.token, context.holder)
        self.mutex: Final = threading.RLock()
        self.delivery: TaskHeaders | None = None
        self.cancelled = False

    @property
    def lost(self) -> threading.Event:
        """
        Set as soon as the lease is known to be somebody else's.
        """
        # Most leases are never asked for it. Of two threads that ask first, both get the one that is kept.
        made: threading.Event = self.__dict__.setdefault("_lost_event", threading.Event())
        return made

    @property
    def key(self) -> str:
        """
        Idempotency key, the same for every attempt of this sequence.
        """
        lock = self.granted
        return idempotency_key(lock.env, self.context.document, lock.keyed, lock.granted)

    @property
    def lock(self) -> Lock:
        """
        The lock as this process last knew it.
        """
        lock = self.snapshot.lock
        assert lock is not None
        return lock

    def left(self) -> float:
        """
        Seconds until lease or run limit end for its holder, who leaves a margin to others; infinite without an end.
        """
        policy = self.policy
        if policy.lease >= UNLIMITED:
            return math.inf
        now = self.runtime.clock.mark()
        left = min(policy.lease - elapsed(self.leased_mark, now), policy.run_limit - elapsed(self.granted_mark, now))
        return left - self.runtime.config.margin

    def held_for(self) -> float:
        """
        Seconds for which this process may still believe that it holds the lease; 0 or less: no longer.
        """
        return self.left()

    def remaining(self) -> float:
        """
        Seconds until the run limit; 0 once that has passed or the lease is lost.
        """
        return self.until(self.policy.run_limit - self.runtime.config.margin)

    def until(self, limit: float) -> float:
        """
        Seconds until *limit* seconds from the grant; 0 once that has passed or the lease is lost.
        """
        if self.lost.is_set():
            return 0.0
        return max(0.0, limit - elapsed(self.granted_mark, self.runtime.clock.mark()))

    def alive(self) -> bool:
        """
        Whether the lease surely goes on: nobody can have taken it over.
        """
        return self.left() > 0

    def nonce(self) -> str:
        """
        A fresh nonce.
        """
        return self.runtime.clock.nonce()

    def renew(self) -> None:
        """
        Start the lease's length anew.

        Raises:
            LeaseLostError: The lease is somebody else's.
            StoreError: Firestore was unreachable or refused; the lease goes on until its end.
        """
        with self.mutex:
            mark = self.runtime.clock.mark()
            self._renew()
            self.leased_mark = mark

    def renew_if_idle(self) -> bool:
        """
        Renew unless a commit is under way; returns whether it was tried.
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
        Whether there is something to renew.
        """
        raise NotImplementedError
