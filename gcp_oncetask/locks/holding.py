"""
One granted lease, of a named lock or of a function that runs once: the time for which its holder may rely on it, and its
fenced writes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from gcp_oncetask.checks import values
from gcp_oncetask.clock import Duration, Mark, elapsed
from gcp_oncetask.errors import LeaseLostError, UsageError
from gcp_oncetask.execution.held_lease import HeldLease
from gcp_oncetask.observe.log_context import LogContext
from gcp_oncetask.rules import named
from gcp_oncetask.rules.decisions import CallRefused, DecisionContext, Fence, Lost, NeedTime, Policy, Put
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import encode, get_timestamp
from gcp_oncetask.store.flow import Changed
from gcp_oncetask.store.snapshot import Changes, Snapshot

Rule = Callable[[Lock | None, Fence, DecisionContext], Put | CallRefused | Lost]


def checked_lease(runtime: Runtime, what: str, length: Duration) -> float:
    """
    Check the length of a lease and return it in seconds.

    Raises:
        UsageError: *length* is no length of time, or the margin would leave nothing of it to the holder.
    """
    lease, margin = values.seconds(length, what), runtime.config.margin
    if lease <= 2 * margin:
        raise UsageError(
            f"{what} is {lease:g} s; it must be more than twice the margin ({margin:g} s, ONCETASK_MARGIN_SECONDS), "
            "which its holder keeps between its own deadline and the lease's end."
        )
    return lease


def expiring(runtime: Runtime, after: float | None) -> dict[str, Any]:
    """
    Return the field ``expireAt``, by which a TTL policy deletes the document *after* so many seconds; None: never.
    """
    at = None if after is None else encode(runtime.store.estimate() + timedelta(seconds=after))
    return {"expireAt": at}


def claim(
    runtime: Runtime,
    path: str,
    decide: Callable[[Snapshot], Put | CallRefused | NeedTime],
    *,
    start: Snapshot,
    changes: Callable[[Snapshot], Changes],
) -> Changed[Put | CallRefused | NeedTime]:
    """
    Commit the claim that *decide* decides. If its create was applied so late that its token may be behind other tokens,
    commit it again, with the next token.

    Raises:
        OncetaskError: As ``Store.change``.
    """
    changed = runtime.store.change(path, decide, start=start, changes=changes)
    while isinstance(changed.decision, Put) and changed.snapshot.lock and named.came_late(changed.snapshot.lock):
        changed = runtime.store.change(path, decide, start=changed.snapshot, changes=changes)
    return changed


class Holding(HeldLease):
    """
    The lease of a named lock, or of a function that runs once.

    Args:
        runtime: Shared parts.
        snapshot: The document as it was granted.
        holder: Nonce of the holder.
        policy: Lease and run limit, seconds.
        mark: Instant before the granting commit was sent; the holder's time counts from it.
        retention: Seconds for which the document is kept after its lease; None: for ever.

    Attributes:
        ending: A release was sent, so the lease is not to be believed any more.
    """

    def __init__(
        self, runtime: Runtime, snapshot: Snapshot, holder: str, *, policy: Policy, mark: Mark, retention: float | None
    ) -> None:
        lock = snapshot.lock
        assert lock is not None
        context = LogContext(
            document=snapshot.path,
            sequence=lock.sequence,
            attempt=lock.attempts,
            token=lock.token,
            holder=holder,
            env=lock.env,
        )
        super().__init__(runtime, snapshot, context, policy=policy, mark=mark)
        self.ending = False
        self._retention = retention
        self._before: Lock | None = lock

    def held_for(self) -> float:
        """
        Return the seconds for which the holder may still rely on the lease, infinite if it has no end; 0 or less: not any
        more.
        """
        if self.lost.is_set() or self.ending:
            return 0.0
        return self.left()

    def long_enough(self) -> bool:
        """
        Tell whether enough of the lease is left to begin. If more than half of it has passed, it is refreshed first, again
        and again if the answers are slow.

        Returns:
            False if the lease is lost already, or its run limit is over.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        while elapsed(self.leased_mark, self.runtime.clock.mark()) > self.policy.lease / 2:
            try:
                self.renew()
            except LeaseLostError:
                return False
        return self.alive()

    def _renew(self) -> None:
        self._change(lambda lock, fence, _: named.refresh(lock, fence), self.retiring())

    def _goes_on(self) -> bool:
        return not self.ending and not self.lost.is_set()

    def end(self, rule: Rule, fields: Callable[[], dict[str, Any]]) -> Snapshot:
        """
        Commit the end that *rule* decides, together with *fields*, and return the document after it. If the rule refuses,
        the lease had ended already. In any case the lease is not renewed any more, so it runs out if this fails.

        Raises:
            LeaseLostError: The lease is lost; nothing was written.
            StoreError: Firestore was unreachable or refused; ``unknown`` tells whether the commit may still be applied.
        """
        with self.mutex:
            self.ending = True
            self._change(rule, fields())
            return self.snapshot

    def expired_before(self, ended: Snapshot) -> bool:
        """
        Tell whether the lease had run out, by the server's clock, when the commit that led to *ended* was applied.
        """
        before, after = self._before, ended.lock
        if before is None or after is None or after.holder != self.fence.holder or after.status is Status.LEASED:
            # Others have been there since: the end was applied before they could, and when is not known.
            return False
        end = named.ends_at(before)
        return end is not None and get_timestamp(ended.version) >= end

    def retiring(self) -> dict[str, Any]:
        """
        Return the fields that set the TTL of a document whose lease begins now.
        """
        if self._retention is None or self.policy.lease >= named.UNLIMITED:
            return {}
        return expiring(self.runtime, self.policy.lease + self._retention)

    def _change(self, rule: Rule, fields: dict[str, Any]) -> None:
        runtime = self.runtime
        if self.lost.is_set():
            raise self._lost(Lost("it was lost before", finished=False))

        def decide(seen: Snapshot) -> Put | CallRefused | Lost:
            self._before = seen.lock
            return rule(seen.lock, self.fence, runtime.decision_context(seen))

        changed = runtime.store.change(
            self.snapshot.path, decide, start=self.snapshot, changes=Changes(fields, None), own=True
        )
        if isinstance(changed.decision, Lost):
            runtime.events.lease_lost(changed.decision, self.lost)
            self.lost.set()
            raise self._lost(changed.decision)
        self.snapshot = changed.snapshot

    def _lost(self, lost: Lost) -> LeaseLostError:
        context = self.context
        return LeaseLostError(
            f"{context.document}: {lost.reason}. Its lease ran out and it was taken over, or its document was deleted; "
            "nothing was written.",
            document=context.document,
            token=context.token,
            taken_over=True,
        )
