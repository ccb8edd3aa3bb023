"""
One database: its documents, its time, its transactions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import grpc

from gcp_emulator.clock import Clock
from gcp_emulator.firestore.audience import Audience
from gcp_emulator.firestore.execution import Answer, run
from gcp_emulator.firestore.indexes import IndexCheck
from gcp_emulator.firestore.messages import AnyValue, AnyWrite, Write
from gcp_emulator.firestore.paths import FieldPath, document_segments, invalid
from gcp_emulator.firestore.query import Query
from gcp_emulator.firestore.sorted_keys import TOP
from gcp_emulator.firestore.store import Scope, Store
from gcp_emulator.firestore.transactions import Transaction, print_of
from gcp_emulator.firestore.values import FIRST_TIME, time_key
from gcp_emulator.firestore.writes import Change, Stored
from gcp_emulator.rpc import RpcError

WINDOW = 3600 * 1_000_000
"""
Microseconds for which the past can be read; the service keeps an hour as well.
"""
HISTORY = 20_000
"""
Changes that are kept for that.
"""
CONTENTION = "Too much contention on these documents. Please try again."
CLOSED = "Transaction is invalid or closed."


@dataclass(frozen=True, slots=True)
class Committed:
    """
    Attributes:
        time: Commit time in microseconds.
        results: For each write its document afterwards (None if deleted) and its transforms' results.
    """

    time: int
    results: list[tuple[Stored | None, list[AnyValue]]]


class Database:
    """
    A database. It is not thread-safe: its server holds a lock. *ended* is called when a transaction has ended, with its id.

    Attributes:
        locks: Whether transactions lock the documents they read, instead of being checked when they commit.
        audience: Told after every commit, with the paths of the documents.
        wiped: Time of the last wipe, microseconds.
        waits: Transactions that wait to commit, and those that each waits for.

    Times are microseconds. A commit's time is later than that of every commit and read before it, so a read shows
    exactly the commits up to its own time.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        indexes: IndexCheck,
        *,
        locks: bool = False,
        ended: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self.name = name
        self._indexes = indexes
        self.locks = locks
        self.waits: dict[bytes, set[bytes]] = {}
        self._history: deque[tuple[int, str, Stored | None]] = deque(maxlen=HISTORY)
        self._forgotten = 0
        self.audience = Audience()
        self.wiped = -1
        self._ended = ended
        self.store = Store()
        self._clock = clock
        self._time = 0
        self._begun = 0
        self._transactions: dict[bytes, Transaction] = {}

    def wipe(self) -> None:
        """
        Forget the documents, close the transactions; time goes on.
        """
        gone, self.store = self.store, Store()
        for key in tuple(self._transactions):
            self.abort(key)
        self._history.clear()
        self._forgotten = self.wiped = self._time
        self.audience.tell([stored.path for stored in gone.all()])

    def expire(self, ttl: dict[str, FieldPath], before: int) -> None:
        """
        Delete the documents that have expired by the field of their collection group, at a time up to *before*
        (microseconds).
        """
        end = (time_key(before), TOP)
        for group, field in ttl.items():
            index = self.store.index(Scope(group, group=True), field)
            for _, segments in list(index.between((FIRST_TIME,), end)):
                write = Write()
                setattr(write, "delete", f"{self.name}/documents/{'/'.join(segments)}")  # noqa: B010 - its name there
                self.commit([write], b"", before)

    def begin(self, *, read_only: bool, at: int | None = None) -> bytes:
        """
        Open a transaction, a read-only one perhaps *at* a past time; returns its id.
        """
        now = self._clock.micros()
        self._drop_expired(now)
        transaction = Transaction(read_only, now, now) if at is None else self._past(at)
        if read_only and at is None:
            transaction.snapshot = self._read_time()
        self._begun += 1
        key = self._begun.to_bytes(8, "big")
        self._transactions[key] = transaction
        return key

    def _past(self, at: int) -> Transaction:
        """
        Return a reader of the documents as they were at the time *at*.

        Raises:
            RpcError: INVALID_ARGUMENT: the time is in the future; FAILED_PRECONDITION: the documents of that time are
                forgotten.
        """
        now = self._read_time()
        if at > now:
            raise invalid("read_time is in the future.")
        if at < max(self._forgotten, now - WINDOW):
            raise RpcError(
                grpc.StatusCode.FAILED_PRECONDITION, "read_time is too old: the documents of that time are gone."
            )
        transaction = Transaction(read_only=True, begun=now, used=now, snapshot=at)
        for time, path, before in reversed(self._history):
            if time <= at:
                break
            transaction.before[path] = before
        return transaction

    def rollback(self, key: bytes) -> None:
        """
        Close a transaction; one that is closed already is left alone.
        """
        self.check_known(key)
        self.abort(key)

    def reader(self, key: bytes, at: int | None = None) -> tuple[Transaction | None, int]:
        """
        The open transaction with this id (none for an empty one), and the time that a read happens at; or a reader of
        the time *at*.
        """
        if at is not None:
            return self._past(at), at
        if not key:
            return None, self._read_time()
        transaction = self._open(key)
        if self.locks and not transaction.read_only:
            return transaction, self._read_time()
        if transaction.snapshot is None:
            transaction.snapshot = self._read_time()
        return transaction, transaction.snapshot

    def get(self, path: str, transaction: Transaction | None) -> Stored | None:
        """
        The document at *path*, as *transaction* sees it.
        """
        return self.store.get(path) if transaction is None else transaction.get(self.store, path)

    def run(self, query: Query, transaction: Transaction | None, *, counted: bool = False) -> Answer:
        """
        The results of *query*, as *transaction* sees them.

        Args:
            query: The query.
            transaction: The transaction that asks; None if there is none.
            counted: Whether only the number of results is shown.
        """
        if transaction is None:
            return run(self.store, query)
        answer = run(transaction.view(self.store, query), query)
        transaction.saw(query, print_of(answer.documents, counted=counted), counted=counted)
        return answer

    def holders(self, writes: Sequence[AnyWrite], key: bytes) -> set[bytes]:
        """
        Return the other transactions that have read documents changed by *writes*; none if transactions don't lock.
        """
        if not self.locks or not self._transactions:
            return set()
        self._drop_expired(self._clock.micros())
        prefix = f"{self.name}/documents/"
        paths = {(w.update.name or w.delete or w.transform.document).removeprefix(prefix) for w in writes}
        return {
            other
            for other, transaction in self._transactions.items()
            if other != key and not transaction.read_only and any(transaction.holds(path) for path in paths)
        }

    def deadlocked(self, key: bytes, holders: set[bytes]) -> bool:
        """
        Tell whether one of *holders* waits, itself or through others, for the transaction *key*.
        """
        seen: set[bytes] = set()
        ahead = set(holders)
        while ahead:
            other = ahead.pop()
            if other == key:
                return True
            if other not in seen:
                seen.add(other)
                ahead |= self.waits.get(other, set())
        return False

    def abort(self, key: bytes) -> None:
        """
        Close the transaction *key*, if it is open.
        """
        if self._transactions.pop(key, None) is not None:
            self._ended(key)

    def last(self, keys: Iterable[bytes]) -> int:
        """
        The first time at which one of the open transactions *keys* ends unless it is used again, microseconds.
        """
        return min(self._transactions[key].last for key in keys)

    def commit(self, writes: Sequence[AnyWrite], key: bytes, arrived: int) -> Committed:
        """
        Apply all *writes* or none.

        Args:
            writes: In order; later ones see earlier ones.
            key: Id of a transaction, which is over after this in any case; or empty.
            arrived: Time at which the request arrived.

        Raises:
            RpcError: A write was refused; nothing is changed.
        """
        if key:
            transaction = self._open(key)
            if writes and transaction.read_only:
                raise invalid("Cannot modify entities in a read-only transaction.")
            self.abort(key)
            if transaction.conflicts(self.store):
                raise RpcError(grpc.StatusCode.ABORTED, CONTENTION)
        changes: dict[str, Change] = {}
        applied = []
        for write in writes:
            change = self._change(changes, write)
            applied.append((change, change.apply(write, arrived)))
        for change in changes.values():
            if change.failure is not None:
                raise change.failure
        time = max(self._clock.micros(), self._time + 1)
        finished = {path: change.finish(time) for path, change in changes.items()}
        for path, stored in finished.items():
            if stored is not None and stored is not changes[path].before:
                self._indexes.check_entries(stored.document)
        self._time = time
        self._put(changes, finished, time)
        self.audience.tell(finished)
        return Committed(time, [(finished["/".join(change.segments)], results) for change, results in applied])

    def check_write(self, write: AnyWrite, arrived: int) -> None:
        """
        Refuse a write that is wrong in itself, whether or not its document exists.

        Raises:
            RpcError: INVALID_ARGUMENT.
        """
        self._change({}, write, stored=False).apply(write, arrived)

    def _change(self, changes: dict[str, Change], write: AnyWrite, *, stored: bool = True) -> Change:
        match write.WhichOneof("operation"):
            case "update":
                name = write.update.name
            case "delete":
                name = write.delete
            case "transform":
                name = write.transform.document
            case _:
                raise invalid("empty write operation")
        segments = document_segments(name, self.name)
        path = "/".join(segments)
        change = changes.get(path)
        if change is None:
            change = changes[path] = Change(name, segments, self.store.get(path) if stored else None)
        return change

    def _put(self, changes: dict[str, Change], finished: dict[str, Stored | None], time: int) -> None:
        if self._transactions:
            self._drop_expired(self._clock.micros())
        for path, change in changes.items():
            stored = finished[path]
            if stored is change.before:
                continue
            for transaction in self._transactions.values():
                transaction.remember(path, change.before)
            self.store.put(path, stored)
            if len(self._history) == HISTORY:
                self._forgotten = self._history[0][0]
            self._history.append((time, path, change.before))

    def _open(self, key: bytes) -> Transaction:
        self.check_known(key)
        transaction = self._transactions.get(key)
        now = self._clock.micros()
        if transaction is None or transaction.is_over(now):
            self.abort(key)
            raise invalid(CLOSED)
        transaction.used = now
        return transaction

    def check_known(self, key: bytes) -> None:
        """
        Refuse the id of a transaction that this database never began.
        """
        if len(key) != 8 or not 0 < int.from_bytes(key, "big") <= self._begun:
            raise invalid("Invalid transaction.")

    def _drop_expired(self, now: int) -> None:
        for key in [key for key, transaction in self._transactions.items() if transaction.is_over(now)]:
            self.abort(key)

    def _read_time(self) -> int:
        self._time = max(self._clock.micros(), self._time)
        return self._time
