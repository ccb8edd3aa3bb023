"""
Named locks and ``@once`` keys by their names, for a person on call: list them, free a lock, let a key be run again.

Shape:
    reads and writes the documents of ``locks.lock`` and ``locks.runs``. A list queries a range of ``name``, which is indexed
    in ``onceLocks``; other collections are asked only if they are named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from gcp_oncetask import rules
from gcp_oncetask.checks import values
from gcp_oncetask.errors import DamagedError
from gcp_oncetask.locks.arguments import document_id, readable
from gcp_oncetask.locks.holding import expiring
from gcp_oncetask.observe.log_context import LogContext, context_at
from gcp_oncetask.rules import named
from gcp_oncetask.rules.decisions import CallRefused, Put
from gcp_oncetask.rules.document_paths import DATA_HASH, LOCKS
from gcp_oncetask.rules.record import Lock, Person, Status
from gcp_oncetask.rules.verbs import Record, Sort, record_of
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store import names
from gcp_oncetask.store.codec import decode, get_timestamp
from gcp_oncetask.store.snapshot import NO_CHANGES, Changes, Snapshot, snapshot_of

PAGE: Final = 300
"""Most documents that a query reads."""
_KEPT: Final = timedelta(days=7).total_seconds()
"""Seconds for which the document of a freed lock is kept, as after a release."""
_FORGOTTEN: Final = (DATA_HASH, "expireAt", "retentionSeconds", "doneAt")
"""Fields about the run that is forgotten. Without the hash, the next call may have another payload."""


@dataclass(frozen=True, slots=True)
class NamedRecord:
    """
    A named lock or an ``@once`` key, as it was read.

    Attributes:
        record: Its path, sort, name and key.
        lock: Its record without result; None: it can't be decoded.
        written: Server time of the last write.
        read: Server time of the read.
    """

    record: Record
    lock: Lock | None
    written: datetime
    read: datetime

    @property
    def state(self) -> str:
        """
        The state in a word: ``held``, ``expired`` or ``free`` of a lock; ``running``, ``late``, ``completed`` or ``raised``
        of a key; ``damaged`` of both.
        """
        if self.lock is None:
            return "damaged"
        of_lock = self.record.sort is Sort.NAMED_LOCK
        if self.lock.status is Status.LEASED:
            end = named.ends_at(self.lock)
            if end is not None and end <= self.read:
                return "expired" if of_lock else "late"
            return "held" if of_lock else "running"
        if of_lock:
            return "free"
        return "completed" if self.lock.status is Status.COMPLETED else "raised"


def lock_path(env: str, name: str, collection: str = LOCKS) -> str:
    """
    Return the path of the document of the named lock *name*.

    Raises:
        UsageError: The name can't be one, or *collection* is the path of no collection.
    """
    values.collection(collection, "collection")
    return f"{collection}/{document_id(env, 'lock', values.name(name, 'name'))}"


def once_path(env: str, name: str, key: str | None, collection: str = LOCKS) -> str:
    """
    Return the path of the document of the function *name* for *key*; None: the function runs once ever.

    Raises:
        UsageError: As ``lock_path``.
    """
    values.collection(collection, "collection")
    parts = [values.name(name, "name")] if key is None else [values.name(name, "name"), values.name(key, "key")]
    return f"{collection}/{document_id(env, 'once', *parts)}"


def find(
    runtime: Runtime,
    sort: Sort,
    prefix: str = "",
    *,
    exact: bool = False,
    collection: str = LOCKS,
    page: int = PAGE,
) -> Iterator[NamedRecord]:
    """
    Yield the named locks or the ``@once`` keys of this environment whose name begins with *prefix*, in the order of name and
    id. Each document with such a name costs one read, in all environments.

    Args:
        runtime: Shared parts.
        sort: ``NAMED_LOCK`` or ``ONCE_KEY``.
        prefix: Beginning of the names.
        exact: Whether names must be equal to *prefix*.
        collection: Path of the collection.
        page: Documents per query.

    Raises:
        UsageError: *collection* is the path of no collection.
        StoreError: Firestore was unreachable or refused, or the index of ``name`` is missing.
    """
    values.collection(collection, "collection")
    for document, read in names.named(
        runtime.store, readable(prefix) if exact else prefix, exact=exact, collection=collection, page=page
    ):
        path = runtime.wire.path(document.name)
        if path.rpartition("/")[2].split(":", 2)[1:2] != [runtime.config.env]:
            continue
        try:
            lock = snapshot_of(path, document, read).lock
            if lock is None:
                continue
        except DamagedError:
            lock = None
        record = record_of(path, lock, _texts(document.fields))
        if record.sort is sort:
            yield NamedRecord(record, lock, get_timestamp(document.update_time), read or runtime.store.estimate())


def look(runtime: Runtime, path: str) -> NamedRecord | None:
    """
    Return the named lock or ``@once`` key at *path*; None: there is none.

    Raises:
        StoreError: Firestore was unreachable or refused.
        DamagedError: Its record can't be decoded.
    """
    seen = runtime.store.read(path)
    if seen.lock is None:
        return None
    record = record_of(path, seen.lock, _texts(seen.fields))
    return NamedRecord(record, seen.lock, get_timestamp(seen.version), seen.read or runtime.store.estimate())


def _texts(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: decode(fields[name]) for name in ("name", "key") if name in fields}


def free(runtime: Runtime, found: NamedRecord, *, by: Person, note: str | None = None) -> CallRefused | None:
    """
    Free the named lock that a person has *found* held, in one conditional commit. Those who wait for it are woken as by a
    release; the late holder's ``refresh`` and ``release`` are refused.

    Args:
        runtime: Shared parts.
        found: The lock as the person has seen it.
        by: The person, for the record and the log.
        note: The person's own words, for the record.

    Returns:
        None: it is free. CallRefused: it was freed before, or another holder has it now; nothing was written.

    Raises:
        StoreError, ContentionError: Firestore was unreachable or refused.
    """
    told = f"freed by {by.said}; token {_token(found)} is out of date"
    changes = Changes(expiring(runtime, _KEPT), None)
    act = ("release", by, note)
    return _by_hand(
        runtime,
        found,
        named.free_by_hand,
        act,
        changes,
        lambda about: runtime.events.freed_by_hand(about, told, by.said),
    )


def forget(runtime: Runtime, found: NamedRecord, *, by: Person, note: str | None = None) -> CallRefused | None:
    """
    Let the function run again for the key that a person has *found* completed, in one conditional commit. The stored result
    is deleted, and the next run has another idempotency key; its payload may be another one.

    Args:
        runtime: Shared parts.
        found: The key as the person has seen it.
        by: The person, for the record and the log.
        note: The person's own words, for the record.

    Returns:
        None: the next call runs it. CallRefused: it runs, has run again or has not completed; nothing was written.

    Raises:
        StoreError, ContentionError: Firestore was unreachable or refused.
    """
    told = f"forgotten by {by.said}: the next call runs it again"
    changes = Changes(dict.fromkeys(_FORGOTTEN), None)
    act = ("forget", by, note)
    return _by_hand(
        runtime, found, named.forget, act, changes, lambda about: runtime.events.forgotten(about, told, by.said)
    )


def _by_hand(
    runtime: Runtime,
    found: NamedRecord,
    rule: Callable[..., Put | CallRefused],
    act: tuple[str, Person, str | None],
    changes: Changes,
    tell: Callable[[LogContext], None],
) -> CallRefused | None:
    nonce, token = runtime.clock.nonce(), _token(found)

    def decide(seen: Snapshot) -> Put | CallRefused:
        at = runtime.decision_context(seen)
        put = rule(seen.lock, token, nonce, at)
        if isinstance(put, CallRefused) or seen.lock is None:
            return put
        verb, by, note = act
        return rules.acted(put, rules.act_of(verb, by, seen.lock, note, at.now))

    changed = runtime.store.change(
        found.record.path, decide, changes=lambda seen: NO_CHANGES if seen.lock is None else changes
    )
    if isinstance(changed.decision, CallRefused):
        return changed.decision
    tell(context_at(found.record.path, runtime.config.env, changed.snapshot.lock))
    return None


def _token(found: NamedRecord) -> int:
    return 0 if found.lock is None else found.lock.token
