"""
The user's own transactions, with our fence in them.

The client's ``@transactional`` is not used: it retries nothing but ABORTED at commit, hides errors of begin, and its
commit is repeated by itself when the answer was lost. Here each remote call is ours, and a lost answer is settled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from google.cloud import firestore
from google.cloud.firestore_v1.types import write as _write

from gcp_oncetask.clock import Clock, elapsed, pause
from gcp_oncetask.decision import Put
from gcp_oncetask.errors import ContentionError, StoreError
from gcp_oncetask.store.store import NO_CHANGES, Changes, Snapshot, Store, after, make_write, snapshot_of
from gcp_oncetask.store.wire import Fate, WireError

T = TypeVar("T")

_WRAP: Final = _write.Write.wrap
_UNWRAP: Final = _write.Write.pb


class OwnTransaction(firestore.Transaction):
    """
    A real ``firestore.Transaction`` whose begin, commit and rollback are single calls with a deadline.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store.wire.client, max_attempts=1)
        self._wire = store.wire

    def _begin(self, retry_id: bytes | None = None) -> None:
        self._clean_up()
        self._id = self._wire.begin(retry_id)  # type: ignore[assignment]  # typed None by the client

    def _commit(self) -> list[Any]:
        response = self._wire.commit([_UNWRAP(w) for w in self._write_pbs], transaction=self._id)
        self._clean_up()
        self.write_results = list(response.write_results)
        return self.write_results

    def _rollback(self) -> None:
        if not self.in_progress:
            return
        try:
            self._wire.rollback(self.id)
        finally:
            self._clean_up()


@dataclass(slots=True)
class Ending:
    """
    What the last write of a transaction says about the attempt's lock.
    """

    put: Put
    changes: Changes = NO_CHANGES


def read_in(store: Store, transaction: firestore.Transaction, path: str) -> Snapshot:
    """
    Read a document in *transaction*, so that its commit fails if the document changes.

    Raises:
        ContentionError: The transaction was aborted.
        StoreError: Firestore was unreachable or refused.
    """
    if transaction.id is None:
        raise StoreError("The transaction has not begun: call this inside @firestore.transactional.", unknown=False)
    try:
        document, read = store.wire.batch_get([path], transaction=transaction.id)[path]
    except WireError as error:
        raise _translated(error, f"reading {path}") from error
    return snapshot_of(path, document, read)


def add_write(store: Store, transaction: firestore.Transaction, snapshot: Snapshot, put: Put, changes: Changes) -> None:
    """
    Let *transaction* write the decision *put*, without a precondition of its own: it has read the document.
    """
    write, _ = make_write(store.wire.name(snapshot.path), snapshot, put.lock, changes, precondition=False)
    transaction._add_write_pbs([_WRAP(write)])  # noqa: SLF001 - the only way to add a write with transforms


def run(
    store: Store,
    clock: Clock,
    path: str,
    body: Callable[[OwnTransaction, Snapshot], T],
    ending: Callable[[Snapshot], Ending],
    *,
    nonce: str,
    repeat: bool,
    patience: float,
) -> tuple[T, Snapshot]:
    """
    Run *body* in a transaction that has read the lock at *path* and ends by writing it.

    Args:
        store: Where.
        clock: For pauses.
        path: Document of the attempt.
        body: Given the transaction and the lock as read in it; raises to give up (it is rolled back).
        ending: Called after the body: the lock as it shall be, with ``settled_by`` = *nonce*, and the fields to save.
        nonce: Recognises the commit.
        repeat: Whether the body may be run again after contention.
        patience: Total seconds.

    Returns:
        What the body returned, and the document after the commit.

    Raises:
        ContentionError: Others kept changing what was read.
        StoreError: Firestore was unreachable or refused; ``unknown`` if the commit may still be applied.
    """
    begun = clock.mark()
    failed: bytes | None = None
    tries = 0
    while True:
        transaction = OwnTransaction(store)
        try:
            transaction._begin(failed)  # noqa: SLF001 - ours
            failed = transaction.id
            snapshot = read_in(store, transaction, path)
            value = body(transaction, snapshot)
            end = ending(snapshot)
            write, stamped = make_write(store.wire.name(path), snapshot, end.put.lock, end.changes, precondition=False)
            transaction._add_write_pbs([_WRAP(write)])  # noqa: SLF001
            results = transaction._commit()  # noqa: SLF001
            return value, after(snapshot, results[-1], end.put.lock, end.changes, stamped)
        except WireError as error:
            applied = _after_error(store, transaction, path, nonce, error)
            if applied is not None:
                return value, applied
            caught: Exception = _translated(error, f"the transaction on {path}")
        except ContentionError as error:
            _roll_back(transaction)
            caught = error
        except BaseException:
            _roll_back(transaction)
            raise
        tries += 1
        if not isinstance(caught, ContentionError) or not repeat or elapsed(begun, clock.mark()) >= patience:
            raise caught
        pause(clock, min(0.02 * 2**tries, 1.0) * (0.5 + clock.random() / 2))


def _after_error(store: Store, transaction: OwnTransaction, path: str, nonce: str, error: WireError) -> Snapshot | None:
    """
    The document if the commit was applied after all; None if it surely was not, and can't be any more.
    """
    in_doubt = error.fate is Fate.AMBIGUOUS and transaction.in_progress
    if not in_doubt:
        _roll_back(transaction)
        return None
    # A transaction that is rolled back can't be applied later; one that was applied shows our nonce.
    rolled_back = _roll_back(transaction)
    try:
        found = store.get(path)
    except StoreError as unreadable:
        raise error.translated(f"the transaction on {path}", unknown=True) from unreadable
    if found.lock is not None and found.lock.settled_by == nonce:
        return found
    if not rolled_back:
        raise error.translated(f"the transaction on {path}", unknown=True) from error
    return None


def _roll_back(transaction: OwnTransaction) -> bool:
    try:
        transaction._rollback()  # noqa: SLF001
    except WireError:
        return False
    return True


def _translated(error: WireError, what: str) -> Exception:
    if error.fate in (Fate.CONTENTION, Fate.MOVED):
        return ContentionError(f"{what} met contention: {error.message}. Nothing was written.")
    return error.translated(what, unknown=False)
