"""
The RPCs that write: each waits until no other transaction has read the documents to be changed, and commits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import grpc

from gcp_emulator.clock import Clock
from gcp_emulator.firestore import documents
from gcp_emulator.firestore import messages as m
from gcp_emulator.firestore.database import CONTENTION, Database
from gcp_emulator.firestore.paths import invalid
from gcp_emulator.firestore.write_streams import fill
from gcp_emulator.rpc import RpcError
from gcp_emulator.waiting import Hold, Steps, WaitingRoom

Conflicts = Literal["optimistic", "pessimistic", "emulator"]
LOCK_TIMEOUT: dict[str, int] = {"pessimistic": 20_000_000, "emulator": 2_000_000}
"""
Microseconds that a commit waits for the readers of the documents it changes.
"""
REQUEST_BYTES = 10 * 1024 * 1024


class Committer:
    """
    Commits of one server.

    Args:
        database: Returns the database of a name; the lock is held.
        room: The lock of the server, where the end of a transaction is told by the database's name and the id.
        clock: The clock of the server.
        conflicts: The mode of the locks, as for ``FirestoreServer``.

    Attributes:
        writes: Writes applied so far.
    """

    def __init__(
        self, database: Callable[[str], Database], room: WaitingRoom, clock: Clock, conflicts: Conflicts
    ) -> None:
        self._database = database
        self._room = room
        self._clock = clock
        self._conflicts = conflicts
        self.writes = 0

    def commit(self, request: m.AnyRequest) -> Steps:
        """
        Commit.
        """
        arrived = self._clock.micros()
        if (size := request.ByteSize()) > REQUEST_BYTES:
            raise invalid(f"Request payload size exceeds the limit: {REQUEST_BYTES} bytes ({size} were sent).")
        response = m.CommitResponse()
        committed = yield from self.committed(request.database, request.writes, request.transaction, arrived)
        fill(response, committed)
        return response

    def create(self, request: m.AnyRequest) -> Steps:
        """
        CreateDocument.
        """
        arrived = self._clock.micros()
        write, mask = documents.creation(request), documents.mask_of(request)
        committed = yield from self.committed(documents.parent_database(request.parent), [write], b"", arrived)
        return documents.shown(committed, mask)

    def update(self, request: m.AnyRequest) -> Steps:
        """
        UpdateDocument.
        """
        arrived = self._clock.micros()
        name, mask = documents.document_database(request.document.name), documents.mask_of(request)
        committed = yield from self.committed(name, [documents.replacement(request)], b"", arrived)
        return documents.shown(committed, mask)

    def delete(self, request: m.AnyRequest) -> Steps:
        """
        DeleteDocument.
        """
        arrived = self._clock.micros()
        name = documents.document_database(request.name)
        yield from self.committed(name, [documents.deletion(request)], b"", arrived)
        return m.Empty()

    def batch_write(self, request: m.AnyRequest) -> Steps:
        """
        BatchWrite.
        """
        arrived = self._clock.micros()
        with self._room.lock:
            database = self._database(request.database)
            for write in request.writes:
                # One that is wrong in itself is no failure of its own: the request is refused.
                database.check_write(write, arrived)
        response = yield from documents.batch_write(
            request, lambda writes: self.committed(request.database, writes, b"", arrived)
        )
        return response

    def committed(self, name: str, writes: Sequence[m.AnyWrite], key: bytes, arrived: int) -> Steps:
        """
        Wait until no other transaction has read the documents to be changed, and commit; returns a ``Committed``.

        Args:
            name: Name of the database.
            writes: In order.
            key: Id of the transaction, or empty.
            arrived: Time at which the request arrived, microseconds.
        """
        database = None
        try:
            while True:
                with self._room.lock:
                    database = self._database(name)
                    database.waits.pop(key, None)
                    hold = self._readers(database, writes, key, arrived)
                    if hold is None:
                        committed = database.commit(writes, key, arrived)
                        self.writes += len(writes)
                        return committed
                yield hold
        finally:
            if key and database is not None:
                with self._room.lock:
                    database.waits.pop(key, None)

    def _readers(self, database: Database, writes: Sequence[m.AnyWrite], key: bytes, arrived: int) -> Hold | None:
        """
        The wait for other transactions that have read the documents to be changed; None if there are none. The lock is held.
        """
        holders = database.holders(writes, key)
        if not holders:
            return None
        limit = arrived + LOCK_TIMEOUT[self._conflicts]
        deadlocked = self._conflicts == "pessimistic" and bool(key) and database.deadlocked(key, holders)
        if self._clock.micros() >= limit or deadlocked:
            database.abort(key)
            sentence = CONTENTION if self._conflicts == "pessimistic" else "Transaction lock timeout."
            raise RpcError(grpc.StatusCode.ABORTED, sentence)
        if key:
            database.waits[key] = holders
        return self._room.hold(min(limit, database.last(holders) + 1), [(database.name, holder) for holder in holders])
