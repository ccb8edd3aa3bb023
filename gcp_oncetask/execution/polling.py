"""
``attempt.poll``: a function that is called in rounds, without a process between them, until its answer is the wanted one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from gcp_oncetask.checks import tagged, values
from gcp_oncetask.checks.tagged import NotTaggableError
from gcp_oncetask.clock import Duration
from gcp_oncetask.errors import EventTimeoutError, UsageError
from gcp_oncetask.execution.journal_ends import until_of
from gcp_oncetask.execution.journaling import Journal
from gcp_oncetask.execution.suspending import LONGEST_WAIT
from gcp_oncetask.rules.journal import Dropped, EntrySort, EntryState, JournalEntry
from gcp_oncetask.rules.record import WaitFor
from gcp_oncetask.rules.timestamps import instant, parse_instant

S = TypeVar("S")


def poll(
    journal: Journal,
    name: str,
    fn: Callable[[S | None], S],
    until: Callable[[S], bool],
    every: Duration,
    timeout: Duration | None,
) -> S:
    """
    See ``Attempt.poll``.
    """
    pause = values.length(every, "every", most=LONGEST_WAIT.total_seconds())
    length = None if timeout is None else values.length(timeout, "timeout", most=LONGEST_WAIT.total_seconds())
    entry = journal.enter(name, EntrySort.POLL, suspends=True)
    if entry is None:
        journal.room(name)
        end = None if length is None else instant(until_of(journal, length))
        entry = journal.entry(name, EntrySort.POLL, state=EntryState.UNDER_WAY, more={"rounds": 0, "until": end})
    as_ = tagged.returned_by(fn)
    found: S = _Rounds(journal, entry, pause, as_).answer(fn, until)
    return found


class _Rounds:
    """
    The rounds of one word ``poll``.
    """

    def __init__(self, journal: Journal, entry: JournalEntry, pause: timedelta, as_: Any) -> None:
        self._journal, self._entry, self._pause, self._as = journal, entry, pause, as_

    def answer(self, fn: Callable[[Any], Any], until: Callable[[Any], bool]) -> Any:
        journal = self._journal
        while True:
            match self._entry.state:
                case EntryState.DONE:
                    return journal.answer(self._entry, self._as)
                case EntryState.TIMED_OUT:
                    raise EventTimeoutError(
                        f"The poll {self._entry.name!r} has not ended before its time-out.", name=self._entry.name
                    )
            journal.tell()
            self._wait()
            self._round(fn, until)

    @property
    def _more(self) -> dict[str, Any]:
        return self._entry.more or {}

    def _wait(self) -> None:
        """
        Wait for the next round, in the request or after it.
        """
        journal, entry = self._journal, self._entry
        following = self._more.get("next")
        if following is None:
            return
        until = parse_instant(following)
        left = (until - journal.now()).total_seconds()
        if left > 0 and not journal.pause(left):
            raise journal.suspend(journal.wait_for(entry.name, WaitFor.POLL, until, entry))

    def _round(self, fn: Callable[[Any], Any], until: Callable[[Any], bool]) -> None:
        journal, entry, more = self._journal, self._entry, self._more
        journal.hand_over()
        journal.flush()
        before = journal.answer(entry, self._as) if more["rounds"] else None
        journal.check_held()
        with journal.under_way(), journal.calling(entry.name):
            state = fn(before)
        try:
            kept = journal.keep(entry.name, state, self._as, given=False)
        except NotTaggableError as trouble:
            raise journal.fail(UsageError(f"The state of the poll {entry.name!r} can't be kept: {trouble}.")) from None
        more = {"rounds": more["rounds"] + 1, "until": more["until"]}
        made = journal.entry(
            entry.name, EntrySort.POLL, entry, state=EntryState.UNDER_WAY, value=kept.data, model=kept.model, more=more
        )
        with journal.calling(entry.name):
            done = until(journal.answer(made, self._as))
        end = None if more["until"] is None else parse_instant(more["until"])
        if done:
            self._commit(made._replace(state=EntryState.DONE))
        elif end is not None and journal.now() >= end:
            self._commit(made._replace(state=EntryState.TIMED_OUT))
        else:
            self._go_on(made, self._following(end))

    def _following(self, end: datetime | None) -> datetime:
        """
        Return the time of the next round; the last one is at the time-out.
        """
        following = until_of(self._journal, self._pause)
        return following if end is None else min(following, end)

    def _go_on(self, made: JournalEntry, following: datetime) -> None:
        journal = self._journal
        made = made._replace(more={**(made.more or {}), "next": instant(following)})
        if journal.is_short((following - journal.now()).total_seconds()):
            self._commit(made)
            return
        # The round rides on the commit that ends the request.
        wait = journal.wait_for(made.name, WaitFor.POLL, following, made)
        raise journal.suspend(wait, [made], progress=True)

    def _commit(self, made: JournalEntry) -> None:
        # A large state fills a sealed part by itself; the former one is over.
        self._journal.commit([made], dropped=Dropped(made.ordinal, made.ordinal))
        self._entry = made
