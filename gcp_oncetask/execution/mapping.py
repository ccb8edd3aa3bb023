"""
``attempt.map``: a run for each item of a list, in threads of the request.

The thread of the handler commits the results in groups: all that have come while the commit before was under way. The
function is called in other threads, which never wait for a commit, unless too many results wait for one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from gcp_oncetask.checks import tagged
from gcp_oncetask.checks.told import said_by
from gcp_oncetask.errors import JournalFullError, JournalMismatchError, RunFailedError, UsageError
from gcp_oncetask.execution.durable_runs import Run, RunOptions, digest_of, failed
from gcp_oncetask.execution.journaling import Journal
from gcp_oncetask.rules import journal as journals
from gcp_oncetask.rules.journal import MAX_ENTRY, MAX_JOURNAL, EntrySort, EntryState, JournalEntry
from gcp_oncetask.rules.record import WaitFor
from gcp_oncetask.rules.timestamps import parse_instant

CONCURRENCY: Final = 8
"""Default number of items that are under way at once."""
UNCOMMITTED: Final = 50
"""With so many results that wait for a commit, no item begins."""
_GROUP: Final = 262_144
"""Bytes of results after which a commit takes no more of them."""
_OVER: Final = (EntryState.DONE, EntryState.FAILED)


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """
    Takes the place of a result in the list that ``attempt.map(..., tolerate=)`` returns: the retries of the item are used up.

    Attributes:
        index: Place of the item in the list, 0-based.
        error: The last error as a text.
        kind: Class of that error, as a text.
        tries: Number of tries.
    """

    index: int
    error: str
    kind: str
    tries: int


class _Later(BaseException):
    """
    The next try of an item is so late that its thread does not wait for it.
    """

    def __init__(self, until: datetime) -> None:
        super().__init__()
        self.until = until


class _Item(Run):
    """
    The run of one item. Entries that need no commit of their own wait for one of the map.
    """

    def __init__(
        self, journal: Journal, name: str, fn: Callable[..., Any], item: Any, chosen: RunOptions, as_: Any
    ) -> None:
        # The digest of the map's own entry stands for those of the items.
        self._journal, self._name, self._fn = journal, name, fn
        self._args, self._kwargs, self._options = (item,), {}, chosen
        self._as, self._digest = as_, None
        self.made: JournalEntry | None = None
        self.state: EntryState | None = None
        self.forward = False

    def known(self, entry: JournalEntry) -> None:
        """
        Find out the fate of a run that an earlier attempt has begun once; it may end the request.
        """
        self._known(entry)

    def call(self, entry: JournalEntry | None) -> None:
        """
        Call the function, and make the entry of its result.

        Raises:
            RunFailedError: Its retries are used up; the entry says so.
            _Later: Its next try is later; the entry says so.
            Exception: The function has raised it.
        """
        self._call(entry)

    def _tell(self) -> None:
        """
        The map tells it, on the handler's own thread.
        """

    def _commit(self, made: JournalEntry, *, closed: str | None, progress: bool = True) -> None:
        self.state = made.state
        if closed is not None:
            super()._commit(made, closed=closed, progress=progress)
            return
        self.made, self.forward = made, progress

    def _later(self, made: JournalEntry, until: datetime) -> BaseException:
        self.made = made
        return _Later(until)


class _Made(NamedTuple):
    """
    The entry of an item, which waits for a commit; *forward* tells whether it brings the handler forward.
    """

    entry: JournalEntry
    forward: bool
    size: int


class Mapping:
    """
    One word ``map``.

    Args:
        journal: The journal.
        name: Its name.
        fn: Called with each item.
        items: The items.
        chosen: Options of the runs.
        key: Text or number by which an item is recognised; None: the item itself.
        concurrency: Number of items that may be under way at once.
        tolerate: Number of items that may fail for good.

    Raises:
        UsageError: An argument is invalid.
    """

    def __init__(
        self,
        journal: Journal,
        name: str,
        fn: Callable[..., Any],
        items: Iterable[Any],
        chosen: RunOptions,
        *,
        key: Callable[[Any], Any] | None,
        concurrency: int,
        tolerate: int,
    ) -> None:
        _check(concurrency, "concurrency", 1)
        _check(tolerate, "tolerate", 0)
        if tolerate and chosen.retry is None:
            raise UsageError(
                "tolerate= counts items whose retries are used up: attempt.options(retry=...).map(...). NoRetry() is one try."
            )
        self._journal, self._name, self._fn, self._options = journal, name, fn, chosen
        self._items: Final[Sequence[Any]] = list(items)
        self._concurrency, self._tolerate = concurrency, tolerate
        self._digest = self._digest_of(key)
        self._as = chosen.result if chosen.result is not None else tagged.returned_by(fn)
        self._changed: Final = threading.Condition()
        self._ready: list[_Made] = []
        self._todo: list[int] = []
        self._later: dict[int, datetime] = {}
        self._failed: list[int] = []
        self._error: BaseException | None = None
        self._active = self._committing = self._budget = self._left = 0
        self._full = self._handed = False

    def _digest_of(self, key: Callable[[Any], Any] | None) -> str | None:
        digest = digest_of([item if key is None else key(item) for item in self._items], {})
        if digest is None and key is not None:
            raise UsageError(f"The key= of the map {self._name!r} must return JSON data, such as a text or a number.")
        return digest

    def answer(self) -> list[Any]:
        """
        Return the results, in the order of the items.

        Raises:
            RunFailedError: More items have failed for good than are tolerated, now or in an earlier attempt.
            JournalMismatchError: An earlier attempt had another list.
            Exception: The function has raised it; the results of the other items are kept.
        """
        journal = self._journal
        entry = journal.enter(self._name, EntrySort.MAP, suspends=True, was=self._options.was)
        if entry is not None:
            self._compare(entry)
        elif not self._items:
            return []
        names = self._names = [f"{self._name if entry is None else entry.name}[{n}]" for n in range(len(self._items))]
        journal.meet(names)
        if entry is None or entry.state is EntryState.UNDER_WAY:
            entry = self._map(entry)
        if entry.state is EntryState.FAILED:
            raise self._failure(entry)
        return [self._result(index, journal.kept[name]) for index, name in enumerate(names)]

    def _compare(self, entry: JournalEntry) -> None:
        count = int((entry.more or {})["count"])
        differs = entry.args is not None and self._digest is not None and entry.args != self._digest
        if count == len(self._items) and not differs:
            return
        raise self._journal.ask(
            JournalMismatchError(
                f"The map {self._name!r} has a list of {len(self._items):,} items, and began with "
                f"{'another one' if count == len(self._items) else 'one'} of {count:,}. Make the list in a run, so that each "
                "attempt has the same; nothing was called.",
                name=self._name,
            )
        )

    def _result(self, index: int, entry: JournalEntry) -> Any:
        if entry.state is not EntryState.FAILED:
            return self._journal.answer(entry, self._as)
        more = entry.more or {}
        tries = more.get("tries", [])
        return ItemFailure(index, tries[-1]["error"] if tries else "", more.get("kind", ""), len(tries))

    def _failure(self, entry: JournalEntry) -> RunFailedError:
        more = entry.more or {}
        number, tolerated = len(more["failed"]), more["tolerate"]
        first = failed(self._journal.kept[f"{entry.name}[{more['failed'][0]}]"])
        return RunFailedError(
            f"The map {entry.name!r} has failed: {number} of its items failed for good, and {tolerated} may. {first}",
            name=entry.name,
            kind=first.kind,
            tries=first.tries,
        )

    # --- the items that are not done ---

    def _map(self, entry: JournalEntry | None) -> JournalEntry:
        """
        Call the function for the items that have no result, and return the map's last entry.
        """
        journal = self._journal
        more = {"count": len(self._items)}
        entry = entry or journal.entry(
            self._name, EntrySort.MAP, state=EntryState.UNDER_WAY, args=self._digest, more=more
        )
        self._sort()
        if self._todo and self._bearable:
            journal.tell()
            journal.room(self._name, sum(name not in journal.kept for name in self._names) + 1)
            journal.flush()
            with journal.under_way():
                self._call_all(entry)
        self._raise()
        if self._bearable and self._todo:
            raise journal.suspend(None)
        if self._bearable and self._later:
            until = min(self._later.values())
            raise journal.suspend(journal.wait_for(entry.name, WaitFor.RETRY, until, entry))
        end = journal.kept.get(entry.name)
        if end is None or end.state is EntryState.UNDER_WAY:
            end = self._end(entry)
            journal.commit([end])
        return end

    @property
    def _bearable(self) -> bool:
        return len(self._failed) <= self._tolerate

    def _sort(self) -> None:
        """
        Sort the items by their entries; one that was begun once is verified here, where the request may end.
        """
        journal = self._journal
        for index, name in enumerate(self._names):
            entry = journal.kept.get(name)
            if entry is not None and entry.state in (EntryState.OPEN, EntryState.REJECTED):
                self._item(index).known(entry)
                entry = journal.kept[name]
            until = None if entry is None else (entry.more or {}).get("next")
            if entry is not None and entry.state is EntryState.FAILED:
                self._failed.append(index)
            elif entry is not None and entry.state is EntryState.DONE:
                continue
            elif until is not None and journal.now() < parse_instant(until):
                self._later[index] = parse_instant(until)
            else:
                self._todo.append(index)
        self._todo.reverse()
        self._left = len(self._todo) + len(self._later)

    def _item(self, index: int) -> _Item:
        return _Item(self._journal, self._names[index], self._fn, self._items[index], self._options, self._as)

    def _call_all(self, entry: JournalEntry) -> None:
        """
        Call the function in threads, and commit the results as they come.
        """
        journal = self._journal
        if self._options.once and entry.name not in journal.kept:
            # The commits of such runs are their own.
            journal.commit([entry], progress=False)
        threads = self._active = min(self._concurrency, len(self._todo))
        self._budget = MAX_JOURNAL - journals.size(journal.lock)
        with ThreadPoolExecutor(threads, thread_name_prefix="oncetask-map") as pool:
            for _ in range(threads):
                # Each thread has a context of its own: a copy of the handler's, for logs and traces.
                pool.submit(copy_context().run, self._work)
            while (group := self._take()) is not None:
                try:
                    self._commit(group, entry)
                except BaseException as error:  # noqa: BLE001 - raised below, once the threads have ended
                    with self._changed:
                        self._error = error
                        self._ready.clear()
                        self._changed.notify_all()
                    break

    def _take(self) -> list[_Made] | None:
        """
        Wait for results, and return those that are there; None: there will be none.
        """
        with self._changed:
            while not self._ready and self._active:
                self._changed.wait()
            if isinstance(self._error, BaseException) and not isinstance(self._error, Exception):
                # The process is about to end.
                return None
            size = number = 0
            for made in self._ready:
                size += made.size
                number += 1
                if size > _GROUP:
                    break
            group, self._ready = self._ready[:number], self._ready[number:]
            self._committing = number
            return group or None

    def _commit(self, group: list[_Made], entry: JournalEntry) -> None:
        """
        Commit a group; the first one with the map's own entry, the last one with its end.
        """
        journal = self._journal
        entries = [made.entry for made in group]
        with self._changed:
            self._left -= sum(made.entry.state in _OVER for made in group)
            complete = not self._left and self._bearable
        if complete or entry.name not in journal.kept:
            entries.append(self._end(entry) if complete else entry)
        journal.commit(entries, progress=any(made.forward for made in group))
        with self._changed:
            self._committing = 0
            self._budget = MAX_JOURNAL - journals.size(journal.lock) - sum(made.size for made in self._ready)
            self._changed.notify_all()

    def _end(self, entry: JournalEntry) -> JournalEntry:
        """
        Return the last state of the map's own entry. Which items have failed is kept in it.
        """
        state = EntryState.DONE if self._bearable else EntryState.FAILED
        more = {"count": len(self._items), "failed": sorted(self._failed), "tolerate": self._tolerate}
        return self._journal.entry(entry.name, EntrySort.MAP, entry, state=state, args=entry.args, more=more)

    def _raise(self) -> None:
        """
        Raise the error that has stopped the map, if there is one.
        """
        journal = self._journal
        if self._error is not None:
            raise self._error
        if self._full and self._todo:
            raise journal.fail(
                JournalFullError(
                    f"The journal has {journals.size(journal.lock):,} bytes, and may have {MAX_JOURNAL:,}; the map "
                    f"{self._name!r} has {len(self._todo):,} items left, which were not called. Return less from each.",
                    name=self._name,
                )
            )
        if self._todo and self._bearable:
            journal.check()
            journal.tell()

    # --- the threads ---

    def _work(self) -> None:
        """
        Call the function for one item after the other, as long as one may begin.
        """
        try:
            while (index := self._next()) is not None:
                self._call(index)
        except BaseException as error:  # noqa: BLE001 - the thread of the handler raises it
            with self._changed:
                self._error = self._error or error
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify_all()

    def _next(self) -> int | None:
        with self._changed:
            while self._todo and self._may_begin() and len(self._ready) + self._committing >= UNCOMMITTED:
                self._changed.wait()
            return self._todo.pop() if self._todo and self._may_begin() else None

    def _may_begin(self) -> bool:
        journal, attempt = self._journal, self._journal.attempt
        if self._error is not None or not self._bearable or attempt.stop is not None or self._handed:
            return False
        if attempt.lost.is_set() or attempt.held_for() <= 0 or (attempt.cancelled and not attempt.told):
            return False
        self._full = self._full or self._budget < MAX_ENTRY
        self._handed = journal.short and (journal.forward or bool(self._ready) or bool(self._committing))
        return not (self._full or self._handed)

    def _call(self, index: int) -> None:
        item = self._item(index)
        error: BaseException | None = None
        later: datetime | None = None
        try:
            item.call(self._journal.kept.get(self._names[index]))
        except _Later as found:
            later = found.until
        except RunFailedError as found:
            # One that the function itself has raised is an error as any other.
            error = None if item.state is EntryState.FAILED else found
        except BaseException as found:  # noqa: BLE001 - the thread of the handler raises it
            error = found
        with self._changed:
            if item.made is not None:
                made = _Made(item.made, item.forward, len(item.made.to_bytes()))
                self._budget -= made.size
                self._ready.append(made)
            elif item.state in _OVER:
                self._left -= 1
            if later is not None:
                self._later[index] = later
            if item.state is EntryState.FAILED:
                self._failed.append(index)
            if error is not None and self._error is not None:
                self._journal.attempt.context.log(
                    logging.ERROR, "the item %s of a map failed, too: %s", self._names[index], said_by(error)
                )
            self._error = self._error or error
            self._changed.notify_all()


def _check(value: object, name: str, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UsageError(f"{name} is {value!r:.80}; it must be a whole number of at least {least}.")
