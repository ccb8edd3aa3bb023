"""
The criteria of a search, and the index that serves it. Pure.

Entities have two indexes, ``lock.attention`` and ``lock.due``; once-tasks also have ``state`` and ``resource``. A search that
none of them serves is refused, with the line that would make an index of the user's own; a scan reads all documents instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from gcp_oncetask.checks import values, words
from gcp_oncetask.errors import UsageError
from gcp_oncetask.rules.attention import ASKING, Reason
from gcp_oncetask.rules.document_paths import TASKS
from gcp_oncetask.rules.record import Status

_BY_STATUS: Final = {
    Status.FAILED: (Reason.FAILED, Reason.DISMISSED),
    Status.QUARANTINED: (Reason.QUARANTINED,),
}
_DUE: Final = frozenset({Status.SCHEDULED, Status.LEASED})


class Index(StrEnum):
    """
    The ways to find records.
    """

    ATTENTION = "lock.attention"
    DUE = "lock.due"
    STATE = "state"
    RESOURCE = "resource"
    SCAN = "a scan of all documents"


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """
    The criteria of a search. Without *status*, *reason* and *key*, it is for all records that need a person.

    Attributes:
        status: Status of the records.
        reason: Reason for which they need a person.
        kind: Kind of the once-tasks.
        collection: Collection or template, such as ``orders``.
        key: Resource key of the once-tasks; with *kind*.
        older_than: Least age: time since a person is needed, else since the record may run.
        newer_than: Greatest age.
        dismissed: Whether records that a person has dismissed are found, and only those.
        scan: Whether all documents may be read if no index serves the search.
    """

    status: Status | None = None
    reason: Reason | None = None
    kind: str | None = None
    collection: str | None = None
    key: str | None = None
    older_than: timedelta | None = None
    newer_than: timedelta | None = None
    dismissed: bool = False
    scan: bool = False

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """
        Reasons of the entries of ``lock.attention`` in which the records are.
        """
        if self.dismissed:
            return (Reason.DISMISSED,)
        if self.reason is not None:
            return (self.reason,)
        return ASKING if self.status is None else _BY_STATUS.get(self.status, ())


def criteria(**given: Any) -> Criteria:
    """
    Return criteria of values that user code gives; those that are None do not count.

    Raises:
        UsageError: A value is invalid, or two contradict each other.
    """
    known = {name: value for name, value in given.items() if value is not None}
    for name, allowed in (("status", Status), ("reason", Reason)):
        if name in known:
            words.check(name, known[name], tuple(str(each) for each in allowed))
            known[name] = allowed(known[name])
    for name in ("older_than", "newer_than"):
        if name in known:
            known[name] = timedelta(seconds=values.seconds(known[name], name))
    for name in ("kind", "key"):
        if name in known:
            values.name(known[name], name)
    if "collection" in known:
        values.collection(known["collection"], "collection")
    made = Criteria(**known)
    if made.kind is not None and made.collection not in (None, TASKS):
        raise UsageError(
            f"kind is of once-tasks, which are in {TASKS}, not in {made.collection}; leave one of both out."
        )
    if made.key is not None and made.kind is None:
        raise UsageError("key is the resource key of once-tasks of one kind; say which kind.")
    if made.dismissed and (made.status or made.reason) not in (None, Reason.DISMISSED):
        raise UsageError("dismissed records are found without a status or a reason.")
    return replace(made, dismissed=made.dismissed or made.reason is Reason.DISMISSED)


def index_for(wanted: Criteria, *, tasks: bool) -> Index | None:
    """
    Return the index that serves a search in one collection; None: none does.

    Args:
        wanted: The criteria.
        tasks: Whether the collection is that of the once-tasks.
    """
    if wanted.key is not None or wanted.kind is not None:
        if not tasks:
            return None
        if wanted.key is not None:
            return Index.RESOURCE
    if wanted.status is None or wanted.reason is not None or wanted.dismissed:
        return Index.ATTENTION
    if tasks and wanted.kind is not None:
        return Index.STATE
    if wanted.reasons:
        return Index.ATTENTION
    if tasks:
        return Index.STATE
    if wanted.status in _DUE:
        return Index.DUE
    return Index.SCAN if wanted.scan else None


def refused(wanted: Criteria, collections: tuple[str, ...], line: str) -> UsageError:
    """
    Return the error of a search that no index serves.

    Args:
        wanted: The criteria.
        collections: The collections of entities that it is about.
        line: The entry of ``firestore.indexes.json`` that would serve a query of the user's own.
    """
    where = ", ".join(collections)
    return UsageError(
        f"No index serves a search for documents of {where} that are {wanted.status}: an index entry for each of them would "
        "be written with each commit. To read all of them, at one document read each, add --scan (scan=True). To query them "
        f'often, with your own Firestore client, add to "fieldOverrides" of firestore.indexes.json: {line}'
    )
