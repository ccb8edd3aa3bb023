"""
The user's own transactions, with the library's fence.

The client's ``@transactional`` is not used: it retries nothing but ABORTED at commit, hides errors of begin, and repeats its
commit by itself when the answer was lost. Here the library makes each remote call itself, and finds out whether a commit
whose answer was lost was applied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from google.api_core.exceptions import Aborted
from google.cloud import firestore
from google.cloud.firestore_v1.types import write as _write

from gcp_oncetask import rules
from gcp_oncetask.errors import ContentionError, StoreError, UsageError
from gcp_oncetask.rules.decisions import Put, Settlement
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.statuses import FailureClass
from gcp_oncetask.store.failures import WireError
from gcp_oncetask.store.side_writes import Freed, Hold
from gcp_oncetask.store.sizes import check_room, needs_room
from gcp_oncetask.store.snapshot import NO_CHANGES, Changes, Snapshot, Update, snapshot_of
from gcp_oncetask.store.store import Store

_WRAP: Final = _write.Write.wrap
_UNWRAP: Final = _write.Write.pb


class OwnTransaction(firestore.Transaction):
    """
    A real ``firestore.Transaction`` whose begin, commit and rollback are single calls with a deadline.
    """

    oncetask_attempt: object | None = None
    """The attempt whose lease fences the transaction; ``attempt.in_transaction`` checks it."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.wire.client, max_attempts=1)
        self._wire = store.wire

    def _begin(self, retry_id: bytes | None = None) -> None:
        self._clean_up()
        self._id = self._wire.begin(retry_id)  # type: ignore[assignment]  # typed None by the client

    def _commit(self) -> list[Any]:
        request = self._wire.request()
        request.transaction = self._id
        request.writes.extend(_UNWRAP(write) for write in self._write_pbs)
        response = self._wire.commit(request)
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
    The last write of a transaction, to the attempt's document; with *room*, one that schedules must leave room for the
    records of its run. *along* are plain writes of documents that go with the record.
    """

    put: Put
    changes: Changes = NO_CHANGES
    room: bool = False
    along: Sequence[Any] = ()


@dataclass(slots=True)
class Open:
    """
    A transaction of an attempt, while user code runs in it.

    Attributes:
        transaction: The client's transaction.
        snapshot: The attempt's document as the transaction has read it.
        ending: The write of its commit to that document; None: the attempt was not settled in the transaction.
        how: The settlement of *ending*.
        kept: The write to that document by a commit after which the attempt goes on; None: it only signs the record.
        after: Called after its commit.
    """

    transaction: firestore.Transaction
    snapshot: Snapshot
    ending: Ending | None = None
    how: Settlement | None = None
    kept: Ending | None = None
    after: list[Callable[[], object]] = field(default_factory=list)

    @property
    def writes_others(self) -> bool:
        """
        Tell whether user code has added writes to the transaction: those are of other documents than the attempt's own.
        """
        return len(self.transaction) > 0


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
    Let *transaction* write the decision *put*. The write needs no precondition, because the transaction has read the
    document.

    Raises:
        UsageError: The decision schedules, and the document has no room for the records of its run.
    """
    # A schedule from outside a handler gives back no resource key, because the record was not leased.
    more = store.consequences(snapshot, put.lock)
    assert more.key is None
    write = store.wire.write(snapshot.path)
    update = Update(write, snapshot, put.lock, changes.with_(more.fields), precondition=False)
    if needs_room(snapshot.lock, put.lock):
        _check_room(store, transaction, snapshot, update)
    transaction._add_write_pbs([_WRAP(update.message)])  # noqa: SLF001 - with transforms


def _check_room(store: Store, transaction: firestore.Transaction, snapshot: Snapshot, update: Update) -> None:
    check_room(snapshot, [*_own(store, transaction, snapshot), update.message])


def _own(store: Store, transaction: firestore.Transaction, snapshot: Snapshot) -> Iterator[Any]:
    """
    Yield the writes of *transaction* so far to the document of *snapshot*.
    """
    name = store.wire.name(snapshot.path)
    for wrapped in transaction._write_pbs:  # noqa: SLF001 - has no public spelling
        write = _UNWRAP(wrapped)
        if name in (write.update.name, write.delete, write.transform.document):
            yield write


def begin(store: Store, path: str, failed: bytes | None = None) -> tuple[OwnTransaction, Snapshot]:
    """
    Begin a transaction and read the document at *path* in it, so that its commit fails if the document changes.

    Args:
        store: The store.
        path: Document of the attempt.
        failed: Id of the transaction that this one repeats.

    Raises:
        ContentionError: The transaction was aborted.
        StoreError: Firestore was unreachable or refused.
    """
    transaction = OwnTransaction(store)
    try:
        transaction._begin(failed)  # noqa: SLF001 - ours
    except WireError as error:
        raise _translated(error, "beginning a transaction") from error
    try:
        return transaction, read_in(store, transaction, path)
    except BaseException:
        roll_back(transaction)
        raise


def commit(
    store: Store, transaction: OwnTransaction, snapshot: Snapshot, ending: Ending, hold: Hold | None
) -> tuple[Snapshot, Freed | None]:
    """
    Commit *transaction* with the write *ending* of the attempt's document; ``settled_by`` in it recognises the commit.

    Args:
        store: The store.
        transaction: The transaction, which has read the attempt's document.
        snapshot: The attempt's document as the transaction has read it.
        ending: The write of that document.
        hold: The resource key of the attempt as it was read just now; None: the attempt needs none. Other documents are
            written only while the key is as it was read.

    Returns:
        The document after the commit, and the resource key that was given back and for which tasks wait.

    Raises:
        ContentionError: Other writers have changed documents that were read; nothing was written.
        StoreError: Firestore was unreachable or refused; ``unknown`` if the commit may still be applied.
        UsageError: *ending* schedules, and the document has no room for the records of its run; the transaction was rolled
            back.
    """
    more = store.consequences(snapshot, ending.put.lock)
    write = store.wire.write(snapshot.path)
    update = Update(write, snapshot, ending.put.lock, ending.changes.with_(more.fields), precondition=False)
    if ending.room and needs_room(snapshot.lock, ending.put.lock):
        try:
            _check_room(store, transaction, snapshot, update)
        except UsageError:
            roll_back(transaction)
            raise
    untouched = not any(_own(store, transaction, snapshot))
    keyed = store.key_writes(more, hold, ending.put.lock)
    alone = len(transaction) == 0
    if hold is not None and not (keyed or alone or hold.lost):
        keyed = (hold.check(store.wire.name(hold.path)),)
    # The write of the task's own document comes last; its consequences come before it.
    transaction._add_write_pbs([_WRAP(write) for write in (*ending.along, *keyed, update.message)])  # noqa: SLF001 - with transforms
    try:
        results = transaction._commit()  # noqa: SLF001 - ours
    except WireError as error:
        applied = _after_error(store, transaction, snapshot, ending.put, error)
        if applied is None:
            raise _translated(error, f"the transaction on {snapshot.path}") from error
        return applied, more.freed(None)
    done = update.applied(results[-1])
    freed = more.freed(results[-2] if keyed else None)
    # If the user's own writes have changed this document, too, its contents are not known.
    return done if untouched else replace(done, whole=False), freed


def _after_error(
    store: Store, transaction: OwnTransaction, before: Snapshot, put: Put, error: WireError
) -> Snapshot | None:
    """
    Return the document if the commit of *put* was applied in spite of *error*; None if it surely was not, and can't be any
    more. The transaction has read the document as it was *before*.

    Raises:
        StoreError: It may have been applied, or may still be.
    """
    in_doubt = error.failure is FailureClass.AMBIGUOUS and transaction.in_progress
    if not in_doubt:
        roll_back(transaction)
        return None
    # A transaction that is rolled back can't be applied later; if it was applied, the document has its nonce.
    rolled_back = roll_back(transaction)
    try:
        found = store.get(before.path)
    except StoreError as unreadable:
        raise error.translated(f"the transaction on {before.path}", unknown=True) from unreadable
    if rules.was_applied(put.lock, before.lock, found.lock, alive=False):
        return found
    # Each commit signs the record, so a record with the old signature has not seen this one. Below a new signature it may
    # have been.
    signed = found.lock is None or before.lock is None or _signs(found.lock) != _signs(before.lock)
    if signed or not rolled_back:
        raise error.translated(f"the transaction on {before.path}", unknown=True) from error
    return None


def _signs(lock: Lock) -> tuple[str | None, str | None]:
    return lock.settled_by, lock.journaled_by


def contended(error: BaseException) -> bool:
    """
    Tell whether *error*, raised by the user's own reads in a transaction, means contention.
    """
    return isinstance(error, Aborted)


def roll_back(transaction: OwnTransaction) -> bool:
    """
    Roll *transaction* back; return whether the server has confirmed it.
    """
    try:
        transaction._rollback()  # noqa: SLF001
    except WireError:
        return False
    return True


def _translated(error: WireError, what: str) -> Exception:
    if error.failure in (FailureClass.CONTENTION, FailureClass.MOVED):
        return ContentionError(f"{what} met contention: {error.message}. Nothing was written.")
    return error.translated(what, unknown=False)
