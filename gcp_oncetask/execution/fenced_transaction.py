"""
Firestore transactions of an attempt. They commit only while the attempt holds its lease and its resource key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from gcp_oncetask import rules
from gcp_oncetask.clock import elapsed, pause
from gcp_oncetask.effects import keys
from gcp_oncetask.errors import AlreadySettledError, ContentionError, UsageError
from gcp_oncetask.execution.running import RunningAttempt
from gcp_oncetask.rules import keys as key_rules
from gcp_oncetask.rules.decisions import Settlement, SettlementKind
from gcp_oncetask.store import transaction as transactions
from gcp_oncetask.store.client import Transaction
from gcp_oncetask.store.flow import Changed
from gcp_oncetask.store.snapshot import NO_CHANGES, Snapshot

T = TypeVar("T")


def run_transaction(
    attempt: RunningAttempt, fn: Callable[[Transaction], T], keep: Callable[[transactions.Open, T], None] | None = None
) -> T:
    """
    See ``Attempt.run_transaction``. *keep* is called with the value of *fn*, right before each commit.
    """
    runtime = attempt.runtime
    begun = runtime.clock.mark()
    failed: bytes | None = None
    tries = 0
    with attempt.mutex:
        while True:
            try:
                with transaction(attempt, failed) as txn:
                    failed = txn.id
                    value = fn(txn)
                    if keep is not None and attempt.open is not None:
                        keep(attempt.open, value)
                return value
            except ContentionError:
                tries += 1
                if elapsed(begun, runtime.clock.mark()) >= runtime.config.patience:
                    raise
            pause(runtime.clock, min(0.02 * 2**tries, 1.0) * (0.5 + runtime.clock.random() / 2))


@contextmanager
def transaction(attempt: RunningAttempt, failed: bytes | None = None) -> Iterator[transactions.OwnTransaction]:
    """
    See ``Attempt.transaction``; *failed* is the id of the transaction that this one repeats.
    """
    path = attempt.snapshot.path
    with attempt.mutex, attempt.runtime.store.transaction(path):
        if attempt.settled is not None:
            raise AlreadySettledError("The attempt is settled; it can't begin a transaction.")
        if attempt.open is not None:
            raise UsageError("A transaction of this attempt is open already; Firestore has no nested ones.")
        store = attempt.runtime.store
        txn, snapshot = transactions.begin(store, path, failed)
        try:
            lost = rules.writable(snapshot.lock, attempt.fence)
            if lost is not None:
                attempt.took(Changed(lost, snapshot))
            opened = attempt.open = transactions.Open(txn, snapshot)
            txn.oncetask_attempt = attempt
            yield txn
            _keep_key(attempt, opened)
        except BaseException as error:
            transactions.roll_back(txn)
            if transactions.contended(error):
                raise ContentionError(f"The transaction met contention: {error}. Nothing was written.") from error
            raise
        finally:
            attempt.open = None
        ending = opened.ending or opened.kept or _checkpoint(attempt, snapshot)
        if opened.how is not None:
            attempt.announce(opened.how, NO_CHANGES, alone=False)
        attempt.snapshot, freed = transactions.commit(store, txn, snapshot, ending, attempt.hold)
        if opened.ending is not None:
            attempt.note_settled(opened.ending.put)
            if freed is not None:
                keys.hand_over(attempt.runtime, freed)
        for call in opened.after:
            call()


def _keep_key(attempt: RunningAttempt, opened: transactions.Open) -> None:
    """
    Read the resource key right before the commit, which checks the version of the key's document. The transaction does
    not read it, because each task that begins to wait for the key would then abort the transaction.
    """
    hold = attempt.hold
    if hold is None or not (opened.writes_others or opened.ending is not None):
        return
    hold.learn(attempt.runtime.store.read(hold.path))
    lost = key_rules.writable(attempt.granted.key, lost=hold.lost)
    if lost is not None and opened.writes_others:
        attempt.took(Changed(lost, opened.snapshot))


def _checkpoint(attempt: RunningAttempt, snapshot: Snapshot) -> transactions.Ending:
    mark = Settlement(kind=SettlementKind.CHECKPOINT, nonce=attempt.runtime.clock.nonce())
    decision: object = rules.settle(snapshot.lock, attempt.fence, mark, attempt.runtime.decision_context(snapshot))
    return transactions.Ending(attempt.took(Changed(decision, snapshot)))


def after_commit(attempt: RunningAttempt, call: Callable[[], object], txn: Transaction) -> bool:
    """
    Call *call* after *txn* is committed, if it is the open transaction of this attempt; return False if it is not.
    """
    opened = attempt.open
    if opened is None or opened.transaction is not txn:
        return False
    opened.after.append(call)
    return True


def fencing(txn: Transaction) -> RunningAttempt | None:
    """
    Return the attempt whose lease fences *txn*; None if it is a transaction of the caller's own.
    """
    found = getattr(txn, "oncetask_attempt", None)
    return found if isinstance(found, RunningAttempt) else None
