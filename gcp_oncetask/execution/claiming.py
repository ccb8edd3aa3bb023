"""
The claim of a delivery, which leads to a lease, or to the reason why there is none.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, Final

from gcp_oncetask import rules
from gcp_oncetask.clock import elapsed
from gcp_oncetask.effects import keys, owed_alerts
from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.errors import DamagedError
from gcp_oncetask.execution import takeover, unread
from gcp_oncetask.execution.ended import Ended
from gcp_oncetask.execution.executor import Executor
from gcp_oncetask.execution.handler_spec import HandlerSpec
from gcp_oncetask.execution.lifetime import Granted
from gcp_oncetask.execution.running import RunningAttempt
from gcp_oncetask.observe.log_context import LogContext, context_at
from gcp_oncetask.rules.decisions import Claimant, Expired, Fence, NeedTime, Put, Refused, Settlement, SettlementKind
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.document_paths import parse_task_path
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.task_headers import TaskHeaders
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.side_writes import Freed, Hold
from gcp_oncetask.store.snapshot import Snapshot, trusted

_CONTESTS: Final = 5


def as_delivered(delivery: Delivery, headers: TaskHeaders | None) -> Snapshot | None:
    """
    Return the document as it travelled in *delivery*; None: it must be read. A document is used on the first try only,
    because it has most likely changed before a later one. A document with a damaged lock is read, too.

    Raises:
        StoreError: The contents in the delivery can't be decoded.
    """
    first = headers is not None and headers.retry_count == 0
    if not first or delivery.contents is None or delivery.version is None:
        return None
    try:
        return trusted(delivery.document, delivery.version, delivery.contents)
    except DamagedError:
        return None


def postpone(runtime: Runtime, snapshot: Snapshot, refused: Refused) -> Ended:
    """
    Return the end of a *refused* delivery. If it came far too early, another delivery replaces it at the right time.
    """
    early = refused.outcome is Outcome.EARLY and refused.until is not None
    if not early or refused.until is None or refused.until - (snapshot.read or runtime.store.estimate()) <= rules.EARLY:
        return Ended(refused.outcome, refused.reason)
    before = snapshot.lock

    def decide(seen: Snapshot) -> Put | Refused:
        if seen.lock is None or seen.lock != before:
            return Refused(Outcome.EARLY, "it has moved meanwhile")
        return rules.postpone(seen.lock, runtime.decision_context(seen))

    changed = runtime.store.change(snapshot.path, decide, start=snapshot)
    if isinstance(changed.decision, Refused):
        return Ended(Outcome.EARLY, changed.decision.reason)
    if not dispatch(runtime, changed.snapshot):
        return Ended(Outcome.EARLY, "the delivery for the right time could not be made")
    return Ended(Outcome.POSTPONED, "it came too early; another delivery was made")


class Claim:
    """
    One delivery that asks for the lease of its document.

    Attributes:
        claimant: The attempt to which the lease would be granted.
        mark: Time before the claim was sent.
    """

    def __init__(
        self, executor: Executor, spec: HandlerSpec, delivery: Delivery, headers: TaskHeaders | None, trace: str | None
    ) -> None:
        runtime = executor.runtime
        self._executor: Final = executor
        self._runtime: Final = runtime
        self._spec: Final = spec
        self._delivery: Final = delivery
        self._headers: Final = headers
        self.claimant: Final = Claimant(runtime.clock.nonce(), trace, runtime.instance())
        self.mark: Final = runtime.clock.mark()
        # The document on which a rule has decided last.
        self._seen: Snapshot | None = None
        # Nonce of an expired holder of the resource key, about which nothing is known yet.
        self._undecided: str | None = None

    def about(self) -> LogContext:
        """
        Return the document of the delivery, for log lines; the sequence of the delivery may be over.
        """
        seen = self._seen or Snapshot(self._delivery.document, None, None, None)
        return self._runtime.about(seen, self._delivery.sequence)

    def acquire(self, start: Snapshot | None) -> Granted | Ended:
        """
        Ask for the lease. The claim is first decided on *start*; None: on the document in the delivery, or as it is
        read.

        Raises:
            OncetaskError: As ``Store.change``.
        """
        start = start or as_delivered(self._delivery, self._headers)
        for _ in range(_CONTESTS):
            gate = None
            if self._spec.keyed:
                start = start or self._runtime.store.read(self._delivery.document)
                gate = self._gate(start)
            claimed = self._try(start, gate)
            if not isinstance(claimed, keys.Contested):
                return claimed
            self._contest(claimed.holder)
            start = None
        return Ended(Outcome.BUSY, "others kept taking its resource key")

    def _gate(self, start: Snapshot) -> keys.Gate | None:
        key = None if start.lock is None else start.lock.key
        return None if key is None else keys.Gate(self._runtime, start.path, key, undecided=self._undecided)

    def _try(self, start: Snapshot | None, gate: keys.Gate | None) -> Granted | Ended | keys.Contested:
        runtime, delivery = self._runtime, self._delivery

        def decide(seen: Snapshot) -> Put | Refused | Expired | NeedTime | keys.Contested:
            self._seen = seen
            at = runtime.decision_context(seen)
            decision = rules.claim(seen.lock, delivery, self._spec.to_claim(seen.lock).policy, self.claimant, at)
            if not isinstance(decision, Put) or decision.outcome is not None:
                return decision
            reason = self._spec.subject.unread(runtime, seen)
            if reason is not None:
                return unread.judge(self._spec, seen, reason, self.claimant.nonce, at)
            return decision if gate is None else gate.admit(seen, decision, at)

        changed = runtime.store.change(delivery.document, decide, start=start, along=gate, shares=True)
        decision = changed.decision
        if isinstance(decision, keys.Contested):
            return decision
        if isinstance(decision, Expired):
            return self._take_over(changed.snapshot)
        if gate is not None and gate.free:
            keys.hand_over(runtime, Freed(gate.key))
        if isinstance(decision, Refused):
            if decision.outcome is Outcome.UNHANDLED:
                return unread.leave(delivery, decision.reason)
            if decision.outcome is Outcome.GONE and changed.snapshot.exists:
                self._removed(changed.snapshot)
            return postpone(runtime, changed.snapshot, decision)
        assert isinstance(decision, Put)
        before = self._seen
        assert before is not None
        if decision.outcome is not None:
            if decision.outcome is not Outcome.PARKED:
                keys.give_up_reservation(runtime, changed.snapshot)
            if decision.dispatch:
                dispatch(runtime, changed.snapshot)
            return self._closed(before.lock, changed.snapshot, decision.outcome, "")
        return self._granted(before, changed.snapshot, None if gate is None else gate.version)

    def _removed(self, seen: Snapshot) -> None:
        """
        Tell a person of a once-task whose lock was removed while a delivery of it was under way: it is never run as a new one.
        The document of an entity may have been deleted and made anew by its owner, so there a line of the log says so.
        """
        if parse_task_path(self._delivery.document) is None:
            self.about().log(
                logging.WARNING,
                "its document has no field 'lock': it was made anew, or another program has removed the lock (a set() without "
                "merge?). Nothing was run; schedule it again if its work is not done.",
            )
            return
        reason = (
            f"its field 'lock' was removed (a set() without merge?) before sequence {self._delivery.sequence} was delivered; "
            "nothing was run"
        )
        self._runtime.events.person_needed(seen, f"{self._delivery.sequence}-removed", reason)

    def _contest(self, holder: Snapshot) -> None:
        """
        Judge the holder of the resource key, whose lease has expired, before the claim is tried again.
        """
        runtime = self._runtime
        [judged] = takeover.judge_all(runtime, [holder])
        changed = takeover.commit_takeover(runtime, judged, None)
        decision = changed.decision
        put = decision if isinstance(decision, Put) else None
        runtime.events.key_contested(runtime.about(holder), judged.verdict, put)
        if put is not None:
            if put.dispatch:
                dispatch(runtime, changed.snapshot)
            owed_alerts.send_newly_owed(runtime, holder.lock, changed.snapshot, self.mark)
        if isinstance(decision, Refused) and decision.outcome is Outcome.UNKNOWN:
            # Nothing is known of the holder yet, so this task waits for the key as others do.
            self._undecided = judged.fence.holder

    def _take_over(self, snapshot: Snapshot) -> Granted | Ended:
        """
        Judge the holder of the document's expired lease, and take the lease over.
        """
        runtime = self._runtime
        [judged] = takeover.judge_all(runtime, [snapshot])
        lock = takeover.lock_of(snapshot)
        # A rider has no resource key of its own, so it is released and must be claimed again. So is a document that
        # this version of the program can't read.
        alone = lock.rides or self._spec.subject.unread(runtime, snapshot) is not None
        grant_to = None if alone else (self._spec.to_claim(lock).policy, self.claimant)
        changed = takeover.commit_takeover(runtime, judged, grant_to)
        decision = changed.decision
        if isinstance(decision, Refused):
            return Ended(decision.outcome, decision.reason)
        if not isinstance(decision, Put):
            # Another delivery or the sweeper was quicker. The next delivery is decided on the document as it is then.
            return Ended(Outcome.BUSY, "another delivery or the sweeper took it over")
        runtime.events.taken_over(runtime.about(snapshot), judged.verdict, decision.outcome)
        if decision.outcome is None:
            version = None if changed.hold is None else changed.hold.version
            owed = owed_alerts.newly_owed(snapshot.lock, changed.snapshot.lock)
            return self._granted(None, changed.snapshot, version, owed)
        if decision.dispatch:
            dispatch(runtime, changed.snapshot)
        return self._closed(snapshot.lock, changed.snapshot, decision.outcome, judged.verdict.reason)

    def _closed(self, before: Lock | None, snapshot: Snapshot, outcome: Outcome, reason: str) -> Ended:
        """
        Return the end of a delivery that has nothing left to run; send the alerts that the document now owes.
        """
        owed_alerts.send_newly_owed(self._runtime, before, snapshot, self._runtime.clock.mark())
        return Ended(outcome, reason or f"it is {outcome}")

    def _granted(
        self, before: Snapshot | None, snapshot: Snapshot, version: Any | None, owed: tuple[str, ...] = ()
    ) -> Granted | Ended:
        """
        Return the granted lease if enough of it is left, else give it back. *version* is the version of the resource
        key's document after the grant.
        """
        runtime, lock = self._runtime, snapshot.lock
        assert lock is not None
        if lock.holder != self.claimant.nonce:
            return Ended(Outcome.BUSY, "the lease was granted and taken over before the answer came")
        context = context_at(snapshot.path, lock.env, lock)
        spec = self._spec.to_run(lock)
        hold = None if lock.key is None else Hold.of(snapshot.path, lock, version)
        if elapsed(self.mark, runtime.clock.mark()) > spec.policy.lease / 2:
            return self._give_back(snapshot, context, hold)
        attempt = RunningAttempt(runtime, snapshot, context, policy=spec.policy, mark=self.mark)
        attempt.delivery, attempt.hold = self._headers, hold
        return Granted(self._executor, spec, attempt, before, owed)

    def _give_back(self, snapshot: Snapshot, context: LogContext, hold: Hold | None) -> Ended:
        runtime = self._runtime
        fence = Fence(context.sequence, context.token, context.holder)
        how = Settlement(kind=SettlementKind.RELEASE, nonce=runtime.clock.nonce())
        changed = runtime.store.change(
            snapshot.path,
            lambda seen: rules.settle(seen.lock, fence, how, runtime.decision_context(seen)),
            start=snapshot,
            own=True,
            hold=hold,
        )
        if changed.freed is not None:
            keys.hand_over(runtime, changed.freed)
        if isinstance(changed.decision, Put) and changed.decision.dispatch:
            dispatch(runtime, changed.snapshot)
        runtime.events.never_started(context, "the claim took half the lease; it was given back")
        return Ended(Outcome.SHORT_LEASE, "the claim took more than half of the lease; it was given back")

    def unknown(self) -> None:
        """
        Report that the fate of the claim is unknown, and that no attempt will use it.
        """
        nonce, trace, _ = self.claimant
        context = replace(self.about(), attempt=0, token=self._delivery.token + 1, holder=nonce, trace=trace)
        self._runtime.events.never_started(context, "the fate of the claim is unknown; it was not used")
