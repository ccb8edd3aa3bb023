"""
The sealed parts of journals, documents of the library's own.

Shape:
    onceJournals/{2 hex}:{env}:{nonce}: ``env``, ``owner`` (path of the record), ``sequence``, ``entries`` (a list of JSON
    texts as bytes), and ``expireAt`` once its owner has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gcp_oncetask.errors import DamagedError
from gcp_oncetask.rules import journal
from gcp_oncetask.rules.decisions import Put
from gcp_oncetask.rules.journal import JournalWrite
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.store.chunk_life import path_of
from gcp_oncetask.store.codec import encode
from gcp_oncetask.store.flow import Along
from gcp_oncetask.store.snapshot import Snapshot, WriteType
from gcp_oncetask.store.store import Store
from gcp_oncetask.store.wire import Wire

ENTRIES: Final = "entries"


class Sealing:
    """
    Writes the chunk that a commit of the journal seals, in the same commit (``flow.Along``).

    Args:
        wire: Makes names.
        path: Document of the record.
        write: The write of the journal.
        also: Other documents that the commit writes; None: none.

    Attributes:
        seen: The document on which the rule has decided last.
    """

    seen: Snapshot | None = None

    def __init__(self, wire: Wire, path: str, write: JournalWrite, also: Along | None = None) -> None:
        self._wire, self._path, self._write, self._also = wire, path, write, also
        self._own = 0

    def writes(self, put: Put) -> Sequence[Any]:
        own = self._sealed(put)
        self._own = len(own)
        return own if self._also is None else (*own, *self._also.writes(put))

    def _sealed(self, put: Put) -> Sequence[Any]:
        before = None if self.seen is None else self.seen.lock
        assert before is not None
        found = journal.sealed(before, put.lock, self._write)
        if found is None:
            return ()
        chunk, entries = found
        # The id is made of the commit's nonce, so the commit may be sent again.
        made = WriteType()
        made.update.name = self._wire.name(path_of(chunk))
        fields = {"env": put.lock.env, "owner": self._path, "sequence": put.lock.sequence, ENTRIES: list(entries)}
        for name, value in fields.items():
            made.update.fields[name].CopyFrom(encode(value))
        return (made,)

    def done(self, results: Sequence[Any] | None) -> None:
        if self._also is not None:
            self._also.done(None if results is None else results[self._own :])

    def again(self) -> None:
        if self._also is not None:
            self._also.again()


def read(store: Store, path: str, lock: Lock) -> tuple[bytes, ...]:
    """
    Return the entries of the journal of *lock*, the record at *path*, oldest first. Sealed parts are read by one call.

    Raises:
        DamagedError: A sealed part is missing or can't be read; a journal is never taken for shorter than it is.
        StoreError: Firestore was unreachable or refused.
    """
    if not lock.chunks:
        return lock.journal
    found = store.documents([path_of(chunk) for chunk in lock.chunks])
    rows: list[bytes] = []
    for chunk in lock.chunks:
        document = found[path_of(chunk)][0]
        values = (
            () if document is None or ENTRIES not in document.fields else document.fields[ENTRIES].array_value.values
        )
        entries = [value.bytes_value for value in values]
        if sum(map(len, entries)) != chunk.size:
            raise DamagedError(
                f"{path}: the part {path_of(chunk)} of its journal is {'missing' if document is None else 'damaged'}.",
                document=path,
                field="chunks",
                trouble=f"{path_of(chunk)} has {sum(map(len, entries)):,} bytes of {chunk.size:,}",
                env=lock.env,
                unknown=False,
            )
        rows += entries
    return (*rows, *lock.journal)


def tail(store: Store, path: str, lock: Lock, most: int) -> tuple[bytes, ...] | None:
    """
    Return at least *most* of the last entries, if there are so many, oldest first. Only as many sealed parts are read as have
    them. None: a part can't be read.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    wanted, parts = most - len(lock.journal), len(lock.chunks)
    while wanted > 0 and parts:
        parts -= 1
        wanted -= lock.chunks[parts].last - lock.chunks[parts].first + 1
    try:
        return read(store, path, lock.but(chunks=lock.chunks[parts:]))
    except DamagedError:
        return None
