"""
The records of an environment that still need a person.
"""

from __future__ import annotations

from typing import NamedTuple

from gcp_oncetask.finding.criteria import Criteria
from gcp_oncetask.finding.searching import FoundRecord, collections_of, find_each, index_named
from gcp_oncetask.rules import reminders
from gcp_oncetask.rules.attention import Reason
from gcp_oncetask.rules.document_paths import AFTER
from gcp_oncetask.rules.reminders import Unattended
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.by_instant import Span
from gcp_oncetask.store.queries import areas_of, page_of, text_in

_FIELD = "lock.attention"


class InNeed(NamedTuple):
    """
    The records that need a person.

    Attributes:
        rows: Those that a mail names or counts, oldest first.
        all: All of them, as the rule takes them; those with a promise too.
        more: Whether there are more than were read.
    """

    rows: list[FoundRecord]
    all: list[Unattended]
    more: bool

    @property
    def promised(self) -> int:
        """
        Number of records that are left out, because a person has promised to attend to them.
        """
        return len(self.all) - len(self.rows)


def in_need(runtime: Runtime, most: int) -> InNeed:
    """
    Return the records that need a person and about which mails are wanted, the oldest *most* at most. If there are none, it
    makes one query for each collection, or two if a person has dismissed records there.

    Raises:
        StoreError: Firestore was unreachable or refused; if an index is missing, the message has the line that makes it.
    """
    rows: list[FoundRecord] = []
    every: list[Unattended] = []
    now = runtime.store.estimate()
    for number, row in enumerate(find_each(runtime, Criteria()) if _any(runtime) else ()):
        if number == most:
            return InNeed(rows, every, more=True)
        if row.reason is None or not reminders.is_wanted(row.lock, row.reason):
            continue
        promise = None if row.lock is None else row.lock.acknowledgement
        every.append(Unattended(row.since or now, None if promise is None else promise.until))
        if reminders.is_named(every[-1], now):
            rows.append(row)
    return InNeed(rows, every, more=False)


def _any(runtime: Runtime) -> bool:
    """
    Tell whether any record needs a person, and was not dismissed.
    """
    env = runtime.config.env
    floor, ceiling = f"{env}/", f"{env}{AFTER}"
    # In the order of texts, all other reasons but one come after this one.
    dismissed = f"{env}/{Reason.DISMISSED}"
    for area in areas_of(collections_of(runtime, Criteria())):
        with index_named([Span(area, _FIELD, floor)]):
            first, _ = page_of(runtime.store, area.where, _FIELD, floor, ceiling, 1)
            if first and text_in(first[0], _FIELD).startswith(f"{dismissed}/"):
                first, _ = page_of(runtime.store, area.where, _FIELD, f"{dismissed}{AFTER}", ceiling, 1)
        if first:
            return True
    return False
