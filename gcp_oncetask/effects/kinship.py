"""
The parent and the children of a task, for people.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from gcp_oncetask.rules import family
from gcp_oncetask.rules.document_paths import is_task
from gcp_oncetask.rules.journal import EntrySort, JournalEntry
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import decode
from gcp_oncetask.store.queries import first_in_range
from gcp_oncetask.store.snapshot import Snapshot

SHOWN: Final = 20
"""Children that are told, open ones first."""


class Kinship(NamedTuple):
    """
    The parent and the children of a task.

    Attributes:
        parent: Path of its parent; None: it is no child.
        children: Path and status of its first children; those that need a person come first, then other open ones.
    """

    parent: str | None
    children: tuple[tuple[str, Status], ...]

    def rows(self) -> list[tuple[str, str]]:
        """
        Return labels and texts for people.
        """
        parent = [] if self.parent is None else [("child of", self.parent)]
        return parent + [("child", f"{path}: {status}") for path, status in self.children]


def kinship_of(runtime: Runtime, snapshot: Snapshot) -> Kinship:
    """
    Return the parent and the children of the task in *snapshot*, by two queries for each of its groups of children that the
    record itself names, the last ``SHOWN``.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    fields, lock = snapshot.fields, snapshot.lock
    parent = (
        str(decode(fields[family.PARENT_PATH])) if family.PARENT_PATH in fields and is_task(snapshot.path) else None
    )
    found: list[Snapshot] = []
    for nonce in _nonces(lock)[-SHOWN:]:
        group = family.group_of(snapshot.path, nonce)
        found += _page(runtime, f"{group}/{family.OPEN}", f"{group}/{family.OPEN}")
        # In the order of texts, those that are open come last.
        found += _page(runtime, f"{group}/", f"{group}/{family.FAILED}")
    rows = [(each.path, each.lock) for each in found if each.lock is not None]
    rows.sort(key=lambda row: (row[1].status is not Status.QUARANTINED, row[1].finished))
    return Kinship(parent, tuple((path, lock.status) for path, lock in rows[:SHOWN]))


def _page(runtime: Runtime, floor: str, ceiling: str) -> list[Snapshot]:
    return first_in_range(runtime.store, family.PARENT, floor, ceiling, limit=SHOWN, aside=_passed_over)


def _passed_over(_error: object, _document: object) -> None:
    """
    Leave a damaged child out; the sweep tells of it.
    """


def _nonces(lock: Lock | None) -> list[str]:
    if lock is None:
        return []
    entries = [JournalEntry.of(stored) for stored in lock.journal]
    made = [str(e.more["nonce"]) for e in entries if e.sort is EntrySort.TASKS and e.more and "nonce" in e.more]
    return list(dict.fromkeys([*family.groups(lock.children), *family.groups(lock.orphans), *made]))
