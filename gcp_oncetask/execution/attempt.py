"""
One granted lease, as user code holds it, and the words by which user code ends it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from pydantic_core import to_json

from gcp_oncetask import rules
from gcp_oncetask.clock import Mark, elapsed, pause
from gcp_oncetask.effects import keys
from gcp_oncetask.errors import (
    AlreadySettledError,
    ContentionError,
    LeaseLostError,
    RequestLogError,
    StoreError,
    UsageError,
)
from gcp_oncetask.observe.log_context import LogContext
from gcp_oncetask.rules import keys as key_rules
from gcp_oncetask.rules.decisions import Fence, Lost, Policy, Put, Settlement, SettlementKind
from gcp_oncetask.rules.delivery import idempotency_key
from gcp_oncetask.rules.documents import DATA_HASH
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import NO_RESULT, Fingerprint, Lock
from gcp_oncetask.rules.task_headers import TaskHeaders
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store import transaction as transactions
from gcp_oncetask.store.client import Transaction
from gcp_oncetask.store.codec import pack
from gcp_oncetask.store.side_writes import Hold
from gcp_oncetask.store.snapshot import NO_CHANGES, Changes, Snapshot, check_conflicts
from gcp_oncetask.store.store import Changed

T = TypeVar("T")
MAX_SETTLEMENT: Final = 32_768
"""Bytes of a settlement in a log line; larger ones are left out of it."""
_SAVES: Final = frozenset(
    {SettlementKind.COMPLETE, SettlementKind.CONTINUE, SettlementKind.SNOOZE, SettlementKind.CHECKPOINT}
)
"""The settlements that save changed fields."""


running: ContextVar[Attempt | None] = ContextVar("oncetask_running", default=None)
"""The attempt whose handler runs in this context."""


@dataclass(slots=True)
class _Open:
    """
    A transaction of this attempt, while the user's code runs in it.
    """

    transaction: Transaction
    snapshot: Snapshot
    ending: transactions.Ending | None = None
    how: Settlement | None = None
    after: list[Callable[[], Any]] = field(default_factory=list)

    @property
    def writes_others(self) -> bool:
        """
        Whether it writes other documents than the attempt's own.
        """
        return len(self.transaction) > 0


class Attempt:
    """
    One granted lease.

    Attributes:
        step: Step within the chain, 1-based.
        sequence: Sequence of the document, 1-based, never repeated.
        number: Which attempt of this sequence, 1-based.
        token: Fencing token of this lease.
        params: What ``schedule`` was given; JSON.
        delivery: Headers of the Cloud Task, typed; information, never identity.
        granted: The lock as it was granted.
        settled: How the attempt has ended; None: it has not.
        pending: A settling whose commit failed, with the fields it saves: it is tried again when the handler ends.
        context: The attempt, for log lines.
        leader: The attempt in whose batch it rides; None: it has its key itself, or none.
        model: Digest of the model by which it reads and writes the document; None: it has not read it.
        span: Its span; None without telemetry.
        hold: The resource key under which it runs: its own, or that of the attempt with which it rides; None: none.
        collection: Collection or template of its entity; None: it is of a once-task.
    """

    def __init__(
        self,
        runtime: Runtime,
        snapshot: Snapshot,
        *,
        policy: Policy,
        mark: Mark,
        context: LogContext,
        delivery: TaskHeaders | None,
        renewing: bool,
        hold: Hold | None,
    ) -> None:
        lock = snapshot.lock
        assert lock is not None
        assert lock.holder is not None
        self.step = lock.step
        self.sequence = lock.sequence
        self.number = lock.attempts
        self.token = lock.token
        self.params = lock.params
        self.delivery = delivery
        self.granted: Final = lock
        self.settled: Outcome | None = None
        self.pending: tuple[Settlement, Changes] | None = None
        self.context: Final = context
        self.leader: Attempt | None = None
        self.model: str | None = None
        self.span: Any = None
        self.hold: Final = hold
        self.collection: str | None = None
        self._runtime = runtime
        self._policy = policy
        self._renewing = renewing
        self._fence = Fence(lock.sequence, lock.token, lock.holder)
        self._snapshot = snapshot
        self._granted_mark = mark
        self._leased_mark = mark
        self._cancelled = lock.cancel_requested_at is not None
        self._mutex = threading.RLock()
        self._open: _Open | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Attempt:
        """
        A copied entity is still of the same attempt.
        """
        return self

    @property
    def key(self) -> str:
        """
        Idempotency key, the same for every attempt of this sequence: hand it to remote services.
        """
        lock = self.granted
        return idempotency_key(lock.env, self.context.document, lock.keyed, lock.granted)

    @property
    def lost(self) -> threading.Event:
        """
        Set as soon as the lease is known to be somebody else's.
        """
        # Most attempts are never asked for it. Of two threads that ask first, both get the one that is kept.
        made: threading.Event = self.__dict__.setdefault("_lost", threading.Event())
        return made

    # --- time ---

    def held_for(self) -> float:
        """
        Seconds for which this process may still believe that it holds the lease; negative: no longer.
        """
        now = self._runtime.clock.mark()
        policy = self._policy
        left = min(policy.lease - elapsed(self._leased_mark, now), policy.run_limit - elapsed(self._granted_mark, now))
        return left - self._runtime.config.margin

    def remaining(self) -> float:
        """
        Seconds until ``deadline``; 0 once it has passed or the lease is lost.
        """
        if self.lost.is_set():
            return 0.0
        config, policy = self._runtime.config, self._policy
        limits = [policy.run_limit - config.margin, config.dispatch_deadline, config.request_timeout]
        left = min(limits) - elapsed(self._granted_mark, self._runtime.clock.mark())
        return max(0.0, left if self._renewing else min(left, self.held_for()))

    @property
    def deadline(self) -> datetime:
        """
        When the attempt must be over: the earliest of run limit, dispatch deadline and request time-out; wall clock, UTC.
        """
        return self._runtime.clock.now() + timedelta(seconds=self.remaining())

    @property
    def cancelled(self) -> bool:
        """
        Whether a cancellation has been seen; looked at with every renewal and checkpoint.
        """
        return self._cancelled

    def renew(self) -> None:
        """
        Start the lease's length anew; needed only with ``renew=False``, or before a step that must not be interrupted.

        Raises:
            LeaseLostError: It is somebody else's.
            StoreError: Firestore was unreachable; the lease goes on until its end.
        """
        with self._mutex:
            self._renew()

    def renew_if_idle(self) -> bool:
        """
        Renew unless a transaction or a settling is under way; returns whether it was tried.
        """
        if not self._mutex.acquire(blocking=False):
            return False
        try:
            if self.settled is None and self._open is None:
                self._renew()
            return True
        finally:
            self._mutex.release()

    def _renew(self) -> None:
        if self.settled is not None:
            raise AlreadySettledError("The attempt is settled; there is no lease to renew.")
        mark = self._runtime.clock.mark()
        changed = self._runtime.store.change(
            self._snapshot.path,
            lambda seen: rules.renew(seen.lock, self._fence, self._runtime.moment(seen)),
            start=self._snapshot,
            alive=self._alive,
            own=True,
        )
        self._took(changed)
        self._leased_mark = mark

    def _alive(self) -> bool:
        return self.held_for() > 0

    def _took(self, changed: Changed[Any]) -> Put:
        decision = changed.decision
        if isinstance(decision, Lost):
            self._runtime.events.lease_lost(decision, self.lost)
            self.lost.set()
            raise LeaseLostError(
                f"{self.context.document}: {decision.reason}. Stop; nothing more can be written.",
                document=self.context.document,
                sequence=self.sequence,
                token=self.token,
                finished=decision.finished,
                removed=changed.snapshot.exists and changed.snapshot.lock is None,
            )
        assert isinstance(decision, Put)
        self._snapshot = changed.snapshot
        lock = changed.snapshot.lock
        self._cancelled = self._cancelled or (lock is not None and lock.cancel_requested_at is not None)
        return decision

    # --- settling ---

    def settle(self, how: Settlement, changes: Changes = NO_CHANGES, transaction: Transaction | None = None) -> Put:
        """
        End the attempt: ``schedule``, ``complete`` and the end of the handler come here.

        Raises:
            AlreadySettledError: It has ended already.
            LeaseLostError: It is somebody else's.
            ConflictError: A changed field was changed by somebody else.
            UsageError: The next step would leave no room for what its run records.
            StoreError: Firestore was unreachable or refused.
        """
        how = self._signed(how, changes)
        with self._mutex:
            if self.settled is not None or (self._open is not None and self._open.ending is not None):
                raise AlreadySettledError(
                    f"{self.context.document}: sequence {self.sequence} was scheduled on or completed before in this attempt.",
                    document=self.context.document,
                    sequence=self.sequence,
                )
            if self._open is not None:
                return self._settle_in_transaction(how, changes, transaction)
            if transaction is not None:
                raise UsageError("transaction= must be the one of attempt.transaction() or attempt.run_transaction().")
            if self.pending is not None and self.pending[0].kind is how.kind:
                # The same settling again: with its nonces, so that the first try is recognised if it lands after all.
                how = how._replace(nonce=self.pending[0].nonce, next_nonce=self.pending[0].next_nonce)
            settlement = self.announce(how, changes)
            try:
                self._register(how)
                changed = self._commit_or_without_result(how, changes)
            except StoreError as error:
                if not error.final:
                    # It may be tried again as it is. What is refused for good can't: another word is heard.
                    self.pending = how, changes
                    self._write_through(how, settlement)
                raise
            put = self._ended(self._took(changed))
            keys.hand_over(self._runtime, changed.freed)
            return put

    def _signed(self, how: Settlement, changes: Changes) -> Settlement:
        """
        *how*, with the model and the payload of which the fields are that it saves.
        """
        if self.model is None or how.kind not in _SAVES:
            return how
        if self.context.task is None:
            data_hash = str(self.sequence + (how.kind is SettlementKind.CONTINUE))
            return how._replace(fingerprint=Fingerprint(data_hash, self.model))
        payload = changes.values.get(DATA_HASH)
        written = None if payload is None else Fingerprint(payload.string_value, self.model)
        return how._replace(fingerprint=written, wanted=self.granted.wanted)

    def _register(self, how: Settlement) -> None:
        if how.kind is SettlementKind.CONTINUE:
            self._runtime.register(self.collection, None if how.target is None else how.target.url)

    def _settle_in_transaction(self, how: Settlement, changes: Changes, transaction: Transaction | None) -> Put:
        opened = self._open
        assert opened is not None
        if transaction is not opened.transaction:
            raise UsageError("Inside a transaction of the attempt, hand it on: transaction=txn.")
        self._register(how)
        check_conflicts(opened.snapshot, changes)
        decision = rules.settle(opened.snapshot.lock, self._fence, how, self._runtime.moment(opened.snapshot))
        put = self._took(Changed(decision, opened.snapshot))
        room = how.kind is SettlementKind.CONTINUE
        opened.ending, opened.how = transactions.Ending(put, changes, room), how
        return put

    def _ended(self, put: Put) -> Put:
        self.settled = put.outcome
        self._runtime.events.settled(self.context, put.outcome)
        return put

    def checkpoint(self, changes: Changes) -> None:
        """
        Write *changes* under the fence; the attempt goes on.

        Raises:
            As ``settle``.
        """
        with self._mutex:
            if self.settled is not None:
                raise AlreadySettledError("The attempt is settled; nothing more can be saved by it.")
            if self._open is not None:
                raise UsageError("Inside a transaction of the attempt, write through it: txn.update(...).")
            mark = self._signed(Settlement(kind=SettlementKind.CHECKPOINT, nonce=self.nonce()), changes)
            self._took(self._commit(mark, changes))

    def _commit(self, how: Settlement, changes: Changes) -> Changed[Put | Lost]:
        return self._runtime.store.change(
            self._snapshot.path,
            lambda seen: rules.settle(seen.lock, self._fence, how, self._runtime.moment(seen)),
            start=self._snapshot,
            changes=lambda seen: NO_CHANGES if rules.outdated(seen.lock, how) else changes,
            alive=self._alive,
            own=True,
            hold=self.hold,
            room=how.kind is SettlementKind.CONTINUE,
        )

    def _commit_or_without_result(self, how: Settlement, changes: Changes) -> Changed[Put | Lost]:
        try:
            return self._commit(how, changes)
        except StoreError as error:
            less = how.instead(str(error))
            if not error.final or less.kind is not how.kind:
                raise
            # The run is done: it is not repeated for what it returned.
            self.context.log(logging.ERROR, "the result could not be stored: %s", error)
            return self._commit(less, changes)

    def announce(self, how: Settlement, changes: Changes, *, alone: bool = True) -> str:
        """
        Log that user code is over, with all that the settling commit will write if it fits and may be logged: that is
        returned as JSON text, else nothing.
        """
        settlement = ""
        private = (
            bool(changes.values)
            or how.result != NO_RESULT
            or (how.target is not None and how.target.params is not None)
        )
        if alone and (not private or self._runtime.config.log_contents):
            data = how.to_data()
            data["fields"] = {name: pack(value) for name, value in changes.values.items()}
            # As text: in a map Cloud Logging would make floats of the numbers.
            settlement = to_json(data).decode()
            if len(settlement) > MAX_SETTLEMENT:
                settlement = ""
        self._runtime.events.returned(self.context, str(how.kind), settlement)
        return settlement

    def _write_through(self, how: Settlement, settlement: str) -> None:
        # The settling commit failed: leave the evidence by another way as well.
        line = self._runtime.events.trail.payload(
            "returned", self.context, f"returned: {how.kind}", str(how.kind), settlement
        )
        try:
            self._runtime.request_log.write(line, insert_id=self._fence.holder, at=self._runtime.clock.now())
        except RequestLogError as error:
            self._runtime.events.evidence_unwritten(self.context, str(error))

    def nonce(self) -> str:
        """
        A fresh nonce.
        """
        return self._runtime.clock.nonce()

    @property
    def snapshot(self) -> Snapshot:
        """
        The document as this attempt last knew it.
        """
        return self._snapshot

    @property
    def granted_mark(self) -> Mark:
        """
        From when the run limit counts: before the claim was sent.
        """
        return self._granted_mark

    @property
    def lock(self) -> Lock:
        """
        The lock as this attempt last knew it.
        """
        lock = self._snapshot.lock
        assert lock is not None
        return lock

    # --- transactions ---

    def run_transaction(self, fn: Callable[[Transaction], T]) -> T:
        """
        Run ``fn(txn)`` in a Firestore transaction that commits only while the lease is ours; repeated after contention.

        What it writes commits together with ``schedule(..., transaction=txn)`` or ``complete(..., transaction=txn)``, or,
        without either, as a checkpoint: fenced, but the attempt goes on. Under a resource key it is fenced by that as well.

        Raises:
            LeaseLostError: The lease, or the resource key, is somebody else's; nothing was written.
            ContentionError: Others kept changing what was read; nothing was written.
        """
        runtime = self._runtime
        begun = runtime.clock.mark()
        failed: bytes | None = None
        tries = 0
        with self._mutex:
            while True:
                try:
                    with self._transaction(failed) as txn:
                        failed = txn.id
                        value = fn(txn)
                    return value  # noqa: RET504 - the commit is made when the block above ends
                except ContentionError:
                    tries += 1
                    if elapsed(begun, runtime.clock.mark()) >= runtime.config.patience:
                        raise
                pause(runtime.clock, min(0.02 * 2**tries, 1.0) * (0.5 + runtime.clock.random() / 2))

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """
        ``with attempt.transaction() as txn``: as ``run_transaction``, but the body runs once.

        Raises:
            LeaseLostError: The lease, or the resource key, is somebody else's; nothing was written.
            ContentionError: Others changed what was read; nothing was written, and the attempt is retried.
        """
        with self._mutex, self._transaction(None) as txn:
            yield txn

    @contextmanager
    def _transaction(self, failed: bytes | None) -> Iterator[transactions.OwnTransaction]:
        if self.settled is not None:
            raise AlreadySettledError("The attempt is settled; it can't begin a transaction.")
        if self._open is not None:
            raise UsageError("A transaction of this attempt is open already; Firestore has no nested ones.")
        store = self._runtime.store
        txn, snapshot = transactions.begin(store, self._snapshot.path, failed)
        try:
            lost = rules.writable(snapshot.lock, self._fence)
            if lost is not None:
                self._took(Changed(lost, snapshot))
            opened = self._open = _Open(txn, snapshot)
            txn.oncetask_attempt = self
            yield txn
            self._keep_key(opened)
        except BaseException as error:
            transactions.roll_back(txn)
            if transactions.contended(error):
                raise ContentionError(f"The transaction met contention: {error}. Nothing was written.") from error
            raise
        finally:
            self._open = None
        ending = opened.ending or self._checkpoint(snapshot)
        if opened.how is not None:
            self.announce(opened.how, NO_CHANGES, alone=False)
        self._snapshot, freed = transactions.commit(store, txn, snapshot, ending, self.hold)
        if opened.ending is not None:
            self._ended(opened.ending.put)
            keys.hand_over(self._runtime, freed)
        for call in opened.after:
            call()

    def _keep_key(self, opened: _Open) -> None:
        """
        Read the resource key right before the commit, which is made on its version: not in the transaction, since then each
        task that comes to wait for the key would break that off.
        """
        hold = self.hold
        if hold is None or not (opened.writes_others or opened.ending is not None):
            return
        hold.learn(self._runtime.store.read(hold.path))
        lost = key_rules.writable(self.granted.key, lost=hold.lost)
        if lost is not None and opened.writes_others:
            self._took(Changed(lost, opened.snapshot))

    def _checkpoint(self, snapshot: Snapshot) -> transactions.Ending:
        mark = Settlement(kind=SettlementKind.CHECKPOINT, nonce=self.nonce())
        decision = rules.settle(snapshot.lock, self._fence, mark, self._runtime.moment(snapshot))
        return transactions.Ending(self._took(Changed(decision, snapshot)))

    def after_commit(self, call: Callable[[], Any], transaction: Transaction) -> bool:
        """
        Have *call* made once *transaction*, if it is the open one of this attempt, is committed; returns whether it is.
        """
        opened = self._open
        if opened is None or opened.transaction is not transaction:
            return False
        opened.after.append(call)
        return True


def in_transaction(transaction: Transaction) -> Attempt | None:
    """
    The attempt whose lease fences *transaction*; None: it is a transaction of the caller's own.
    """
    found = getattr(transaction, "oncetask_attempt", None)
    return found if isinstance(found, Attempt) else None
