"""
Write the ``lock.attention`` of records that a release without it has changed: after an upgrade, so that lists find them.

Once-tasks are found by ``state``: those that have failed or are quarantined. Entities have no index by status, so all of their
documents are read. Safe to repeat, and to run while others work: each write is a conditional commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from gcp_oncetask.checks import values
from gcp_oncetask.errors import DamagedError
from gcp_oncetask.finding import searching
from gcp_oncetask.finding.criteria import Criteria, Index
from gcp_oncetask.rules import attention, features
from gcp_oncetask.rules.attention import Reason
from gcp_oncetask.rules.document_paths import TASKS
from gcp_oncetask.rules.record import Status
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.by_instant import Seen
from gcp_oncetask.store.queries import Area, areas_of, count_all
from gcp_oncetask.store.snapshot import snapshot_of

_STATES: Final = (Status.FAILED, Status.QUARANTINED)
_PAGE: Final = 300


class Examined(NamedTuple):
    """
    A document that was read.

    Attributes:
        path: Path of the document.
        wrong: Whether its ``attention`` contradicts its status.
        reason: Reason for which it needs a person; None: it needs none, or can't be decoded.
    """

    path: str
    wrong: bool = False
    reason: Reason | None = None


def areas(runtime: Runtime, collection: str | None) -> list[Area]:
    """
    Return the collections to be examined: *collection*, or all that this environment uses.

    Raises:
        UsageError: *collection* is no path of a collection.
    """
    if collection is not None:
        values.collection(collection, "--collection")
    return areas_of(searching.collections_of(runtime, Criteria(collection=collection)))


def price(runtime: Runtime, area: Area) -> int | None:
    """
    Return the number of documents that ``examine`` reads in a collection of entities; None: not known beforehand.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    return None if str(area) == TASKS or area.parent else count_all(runtime.store, area)


def examine(runtime: Runtime, area: Area, *, write: bool) -> Iterator[Examined]:
    """
    Read the documents of *area* that may need a person; with *write*, mend those whose ``attention`` is wrong.

    Raises:
        StoreError: Firestore was unreachable or refused. The documents before are done; a second run goes on.
    """
    for seen in _seen(runtime, area):
        path = seen.place.path
        try:
            snapshot = snapshot_of(path, seen.document, seen.read)
        except DamagedError:
            # A sweep finds it, and tells a person.
            yield Examined(path)
            continue
        lock = snapshot.lock
        if lock is None or lock.env != runtime.config.env or features.unknown(lock):
            yield Examined(path)
            continue
        wrong = attention.mended(lock, runtime.decision_context(snapshot)) is not None
        if wrong and write:
            wrong = searching.mend(runtime, snapshot)
        yield Examined(path, wrong, attention.reason_of(lock))


def _seen(runtime: Runtime, area: Area) -> Iterator[Seen]:
    if str(area) != TASKS:
        yield from searching.scanned(runtime, area, None)
        return
    for status in _STATES:
        yield from searching.all_of(runtime, Criteria(status=status), {area: Index.STATE}, _PAGE, None)
