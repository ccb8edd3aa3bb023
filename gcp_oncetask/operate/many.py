"""
One act on all records that fit a filter, as they were at a cut-off time.

Safe to repeat: with the same cut-off time, an act takes no record that needs a person only since then, or that has been changed
since then, so a second run goes on where the first one has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from typing import Final, NamedTuple

from gcp_oncetask.clock import elapsed, pause
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import OncetaskError, StoreError, UsageError
from gcp_oncetask.finding import searching
from gcp_oncetask.finding.criteria import Criteria
from gcp_oncetask.finding.searching import FoundRecord
from gcp_oncetask.operate.acts import Decision, perform
from gcp_oncetask.rules.record import Person
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.store.snapshot import time_of

VERBS: Final = ("reset", "cancel", "run", "complete", "fail", "dismiss", "delete")
"""The acts on many records."""
TYPED: Final = 100
"""Acts on more records than this ask for the number."""
COUNTED: Final = 1000
"""A question counts no further."""
_PAGE: Final = 200
_MOST_FAILURES: Final = 3
"""Failures of Firestore, one after the other, after which a run ends."""

DONE: Final = "done"
SKIPPED: Final = "skipped"
REFUSED: Final = "refused"


class ActReport(NamedTuple):
    """
    The outcome of an act on one record.

    Attributes:
        path: Path of the record.
        outcome: ``done``; ``skipped``: it has changed since it was found; ``refused``.
        said: The sentence about it.
    """

    path: str
    outcome: str
    said: str

    @property
    def done(self) -> bool:
        """
        True if the act was done.
        """
        return self.outcome == DONE


def fitting(locker: Locker, wanted: Criteria, cut: datetime, *, paths: Collection[str] = ()) -> Iterator[FoundRecord]:
    """
    Yield the records that fit, in the order of a search.

    Args:
        locker: The locker.
        wanted: The criteria.
        cut: The cut-off time: a record counts if it has needed a person since before *cut*; one that needs none, if its
            document was not changed after *cut*.
        paths: If there are any, only records at these paths.

    Raises:
        UsageError: No index serves the search.
        StoreError: Firestore was unreachable or refused.
    """
    after: str | None = None
    while True:
        page = searching.find(runtime_of(locker), wanted, limit=_PAGE, after=after)
        for each in page.items:
            since = each.since if each.reason is not None and each.since is not None else time_of(each.version)
            if since <= cut and (not paths or each.path in paths):
                yield each
        if (after := page.next) is None:
            return


def count(found: Iterable[FoundRecord]) -> tuple[Counter[tuple[str, str]], list[FoundRecord]]:
    """
    Count the first ``COUNTED`` records by kind or collection, and by reason or status; return the first five too.
    """
    counts: Counter[tuple[str, str]] = Counter()
    first: list[FoundRecord] = []
    for number, each in enumerate(found, 1):
        counts[each.kind or each.path.rpartition("/")[0], str(each.reason or each.status)] += 1
        if number <= 5:
            first.append(each)
        if number == COUNTED:
            break
    return counts, first


def perform_all(
    locker: Locker,
    found: Iterable[FoundRecord],
    decision: Decision,
    by: Person,
    *,
    rate: float | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[ActReport]:
    """
    Carry out *decision* on each of *found*, and report it. A record that has changed since it was found is skipped.

    Args:
        locker: The locker.
        found: The records.
        decision: The decision; ``happened`` is refused, because the result and the next step differ by record.
        by: The person.
        rate: Most acts per second; None: no limit.
        stopped: Asked after each record whether to end.

    Raises:
        UsageError: The act is not one of ``VERBS``.
        StoreError: Firestore was unreachable or refused while the records were looked for, or three times running.
    """
    if decision.verb not in VERBS:
        raise UsageError(f"There is no act {decision.verb!r:.40} on many records; the acts are {', '.join(VERBS)}.")
    clock = runtime_of(locker).clock
    failures = 0
    for each in found:
        began = clock.mark()
        try:
            done = perform(locker, each.path, decision, by, each.version)
            yield ActReport(each.path, DONE, done.text)
            failures = 0
        except OncetaskError as error:
            skipped = error.facts.get("refusal") == Refusal.MOVED
            yield ActReport(each.path, SKIPPED if skipped else REFUSED, str(error))
            failures = failures + 1 if isinstance(error, StoreError) else 0
            if failures == _MOST_FAILURES:
                raise
        if stopped():
            return
        if rate is not None:
            pause(clock, max(0.0, 1 / rate - elapsed(began, clock.mark())))
