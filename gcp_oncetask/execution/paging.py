"""
``attempt.pages``: a loop over more rows than one request can handle.

The entry of the journal has the cursor of the present page. The commit that moves the cursor drops the entries of the page
before it, those of all words that were said in the loop, so that a million rows fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from gcp_oncetask.checks import tagged
from gcp_oncetask.checks.tagged import NotTaggableError, Tagged
from gcp_oncetask.clock import elapsed
from gcp_oncetask.errors import UsageError
from gcp_oncetask.execution.journal_commits import IN_PLACE
from gcp_oncetask.execution.journaling import Journal
from gcp_oncetask.rules import journal as journals
from gcp_oncetask.rules.journal import EntrySort, EntryState, JournalEntry

T = TypeVar("T")
C = TypeVar("C")

_MOVED: Final = 8
"""Entries that one commit moves."""


def pages(journal: Journal, name: str, fetch: Callable[[C | None], tuple[Iterable[T], C | None]]) -> Iterator[T]:
    """
    See ``Attempt.pages``.
    """
    entry = journal.enter(name, EntrySort.PAGES, suspends=True)
    if entry is not None and entry.state is EntryState.DONE:
        return iter(())
    journal.flush()
    if entry is None:
        journal.room(name)
        entry = journal.entry(name, EntrySort.PAGES, state=EntryState.UNDER_WAY)
        # The entries of the first page come after it.
        journal.later(entry)
    return _Loop(journal, entry).rows(fetch)


class _Loop:
    """
    A loop over pages, from the one of *entry* on.
    """

    def __init__(self, journal: Journal, entry: JournalEntry) -> None:
        self._journal: Final = journal
        self._entry = entry
        self._longest = IN_PLACE
        self._former: list[str] = []

    def rows(self, fetch: Callable[[Any], tuple[Iterable[T], Any]]) -> Iterator[T]:
        journal, clock = self._journal, self._journal.attempt.runtime.clock
        names: list[str] = []
        journal.pages.append(names)
        try:
            while True:
                begun = clock.mark()
                items, cursor = self._fetched(fetch)
                yield from items
                self._longest = max(self._longest, elapsed(begun, clock.mark()))
                self._turn(cursor, names)
                # A name may be said again on the page after the next one. That it is said on two pages that follow each
                # other is a mistake: its idempotency key would be the same.
                journal.forget(self._former)
                self._former = [*names]
                names.clear()
                if cursor is None:
                    return
                if journal.attempt.remaining() < self._longest:
                    raise journal.suspend(None)
        finally:
            # Lists compare by their names, so that the loop is found by its own list alone.
            journal.pages[:] = [each for each in journal.pages if each is not names]

    def _fetched(self, fetch: Callable[[Any], tuple[Iterable[T], Any]]) -> tuple[Iterable[T], Any]:
        journal, name = self._journal, self._entry.name
        journal.check()
        journal.tell()
        cursor = tagged.read(Tagged(self._entry.value))
        with journal.calling(name):
            found = fetch(cursor)
        if not isinstance(found, tuple) or len(found) != 2:
            raise journal.fail(
                UsageError(f"fetch of the pages {name!r} must return a pair: the items, and the next cursor or None.")
            )
        return found

    def _turn(self, cursor: Any, names: Sequence[str]) -> None:
        """
        Move the cursor, and drop the entries of the page that is over: those of *names*.
        """
        journal, entry = self._journal, self._entry
        journal.check()
        more = dict(entry.more or {})
        more = {"pages": more.get("pages", 0) + 1, "over": journal.last_ordinal}
        self._keep_others(journal.last_ordinal, set(names))
        state = EntryState.DONE if cursor is None else EntryState.UNDER_WAY
        try:
            value = journal.keep(entry.name, cursor, None, given=False).data
        except NotTaggableError as trouble:
            raise journal.fail(
                UsageError(f"The cursor of the pages {entry.name!r} can't be kept: {trouble}.")
            ) from None
        entry = self._entry = journal.entry(entry.name, EntrySort.PAGES, entry, state=state, value=value, more=more)
        journal.commit([entry], dropped=journals.dropped_by(entry))

    def _keep_others(self, last: int, names: set[str]) -> None:
        """
        Move the entries up to the place *last* that do not belong to *names* to places behind it. Words were said outside of
        the loop after its first page if an earlier version of the code has another order, or after an exception.
        """
        journal = self._journal
        others = [
            entry
            for entry in journal.kept.values()
            if self._entry.ordinal < entry.ordinal <= last
            and names.isdisjoint((entry.name, entry.name.partition("[")[0]))
        ]
        others.sort(key=lambda entry: entry.ordinal)
        # A commit of them fits into one sealed part.
        for start in range(0, len(others), _MOVED):
            group = others[start : start + _MOVED]
            journal.commit([each._replace(ordinal=journal.next_ordinal()) for each in group], progress=False)
