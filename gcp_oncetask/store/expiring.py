"""
The expiry of children whose parents need their outcomes no more.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from gcp_oncetask.errors import DamagedError
from gcp_oncetask.rules import family
from gcp_oncetask.rules.document_paths import TASKS
from gcp_oncetask.rules.retention import AHEAD
from gcp_oncetask.store.chunk_life import chunk_writes
from gcp_oncetask.store.codec import Document, decode, encode
from gcp_oncetask.store.failures import WireError
from gcp_oncetask.store.queries import page_of
from gcp_oncetask.store.retiring import DONE_AT, EXPIRE_AT, RETENTION
from gcp_oncetask.store.snapshot import NO_CHANGES, Changes, Snapshot, Update, snapshot_of
from gcp_oncetask.store.store import Store

_PAGE: Final = 100


def bring_forward(store: Store, group: str) -> int:
    """
    Bring the expiry of the children of *group* that have ended forward to the end of their own retention; return the number
    of those that were written. A child that changes meanwhile keeps its expiry.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    return sum(_those_of(store, f"{group}/{state}") for state in (family.ENDED, family.FAILED))


def _those_of(store: Store, text: str) -> int:
    written, after = 0, None
    while True:
        found, _ = page_of(store, ("", TASKS, False), family.PARENT, text, text, _PAGE, after)
        written += _page(store, found)
        if len(found) < _PAGE:
            return written
        after = found[-1]


def _page(store: Store, found: list[Document]) -> int:
    alone = []
    applied = 0
    for document in found:
        child = _child(store, document)
        changes = NO_CHANGES if child is None else _sooner(store, child)
        if child is None or child.lock is None or not changes.values:
            continue
        request = store.wire.request(child.path)
        update = Update(request.writes[0], child, child.lock, changes)
        parts = chunk_writes(store.wire.name, child.lock, child.lock, changes.values)
        if not parts:
            alone.append(update.message)
            continue
        # The parts of its journal end with it, in one commit.
        request.writes.extend(parts)
        applied += store.commit_both(request) is not None
    if not alone:
        return applied
    try:
        answers: list[tuple[Any, Any]] = store.wire.batch_write(alone)
    except WireError as error:
        raise error.translated("bringing the expiry of children forward", unknown=True) from error
    return applied + sum(int(status.code) == 0 for _, status in answers)


def _child(store: Store, document: Document) -> Snapshot | None:
    try:
        return snapshot_of(store.wire.path(document.name), document, None)
    except DamagedError:
        return None


def _sooner(store: Store, child: Snapshot) -> Changes:
    fields = child.fields
    if child.lock is None or not child.lock.finished or not {EXPIRE_AT, DONE_AT, RETENTION} <= fields.keys():
        return NO_CHANGES
    expires, done, seconds = (decode(fields[name]) for name in (EXPIRE_AT, DONE_AT, RETENTION))
    if not isinstance(expires, datetime) or not isinstance(done, datetime) or not isinstance(seconds, int | float):
        return NO_CHANGES
    sooner = family.brought_forward(expires, done, float(seconds))
    if sooner is None:
        return NO_CHANGES
    at = max(sooner, store.estimate() + AHEAD)
    return Changes({EXPIRE_AT: encode(at)}) if at + timedelta(minutes=1) < expires else NO_CHANGES
