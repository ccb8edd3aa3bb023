"""
Transactions: a snapshot to read from, and the reads to check before a commit.

Optimistic: a transaction reads as of its first read (a read-only one as of its begin). If a document or query result that
it has read has changed when it commits, it is aborted. With locks: it reads the stored documents, and others wait before
they change documents that it has read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gcp_emulator.firestore.execution import run
from gcp_emulator.firestore.query import Query
from gcp_emulator.firestore.store import Store
from gcp_emulator.firestore.writes import Stored

IDLE_MICROS = 60 * 1_000_000
LIFE_MICROS = 270 * 1_000_000

Print = tuple[tuple[str, int], ...] | int
"""
The result of a query in short: names and versions, or a number.
"""


@dataclass(slots=True)
class Transaction:
    """
    One open transaction.

    Attributes:
        read_only: Whether it may not write.
        begun: Microseconds.
        used: When it was last used, microseconds.
        snapshot: The time it reads at, microseconds; None before the first read.
        before: Documents that other commits have changed since the snapshot, as they were then.
    """

    read_only: bool
    begun: int
    used: int
    snapshot: int | None = None
    before: dict[str, Stored | None] = field(default_factory=dict)
    _documents: set[str] = field(default_factory=set)
    _queries: list[tuple[Query, Print, bool]] = field(default_factory=list)

    def is_over(self, now: int) -> bool:
        """
        Tell whether the transaction has been idle or alive for too long.
        """
        return now > self.last

    @property
    def last(self) -> int:
        """
        The last time at which the transaction is open unless it is used again, microseconds.
        """
        return min(self.used + IDLE_MICROS, self.begun + LIFE_MICROS)

    def remember(self, path: str, before: Stored | None) -> None:
        """
        Keep the document that another commit is about to change.
        """
        if self.snapshot is not None:
            self.before.setdefault(path, before)

    def get(self, store: Store, path: str) -> Stored | None:
        """
        The document as of the snapshot.
        """
        if not self.read_only:
            self._documents.add(path)
        return self.before[path] if path in self.before else store.get(path)

    def view(self, store: Store, query: Query) -> Store:
        """
        Return a store with the collections of *query* as of the snapshot.
        """
        scope = query.scope
        changed = {path: stored for path, stored in self.before.items() if scope.holds(path.rpartition("/")[0])}
        if not changed:
            return store
        view = Store()
        for stored in store.within(scope):
            if stored.path not in changed:
                view.put(stored.path, stored)
        for path, before in changed.items():
            if before is not None:
                view.put(path, before)
        return view

    def saw(self, query: Query, shown: Print, *, counted: bool) -> None:
        """
        Remember the result of a query.
        """
        if not self.read_only:
            self._queries.append((query, shown, counted))

    def holds(self, path: str) -> bool:
        """
        Tell whether the transaction has read the document at *path*, or run a query over its collection.
        """
        if path in self._documents:
            return True
        parent = path.rpartition("/")[0]
        return any(query.scope.holds(parent) for query, _, _ in self._queries)

    def conflicts(self, store: Store) -> bool:
        """
        Tell whether a document or query result that was read has changed.
        """
        if not self.before:
            return False
        if not self._documents.isdisjoint(self.before):
            return True
        return any(shown(store, query, counted=counted) != saw for query, saw, counted in self._queries)


def shown(store: Store, query: Query, *, counted: bool) -> Print:
    """
    Return the result of *query* on *store*, in short.
    """
    return print_of(run(store, query).documents, counted=counted)


def print_of(documents: list[Stored], *, counted: bool) -> Print:
    """
    Return the short form in which results are remembered.
    """
    return len(documents) if counted else tuple((stored.path, stored.version) for stored in documents)
