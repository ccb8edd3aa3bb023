"""
The words that wait, and those that name time and chance.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from gcp_oncetask.checks import tagged, values
from gcp_oncetask.checks.tagged import NotTaggableError, Tagged
from gcp_oncetask.clock import Duration
from gcp_oncetask.errors import EventTimeoutError, UsageError
from gcp_oncetask.execution.journal_ends import until_of
from gcp_oncetask.execution.journaling import Journal, checked_name
from gcp_oncetask.rules import journal as journals
from gcp_oncetask.rules import waits
from gcp_oncetask.rules.journal import EntrySort, EntryState, JournalEntry
from gcp_oncetask.rules.record import WaitFor

LONGEST_PROGRESS: Final = 1000
"""Most characters of a word about progress, as JSON."""
LONGEST_WAIT: Final = timedelta(days=366)
"""Longest wait of one word."""


def sleep(journal: Journal, name: str, delay: Duration | None, until: datetime | None, was: str | None = None) -> None:
    """
    See ``Attempt.sleep``.
    """
    wanted = _end(journal, delay, until)
    entry = journal.enter(name, EntrySort.SLEEP, suspends=True, was=was)
    if entry is not None:
        return
    end = wanted()
    left = (end - journal.now()).total_seconds()
    if left > 0 and not journal.pause(left):
        raise journal.suspend(journal.wait_for(name, WaitFor.SLEEP, end))
    journal.later(journal.entry(name, EntrySort.SLEEP))


def _end(journal: Journal, delay: Duration | None, until: datetime | None) -> Callable[[], datetime]:
    """
    Return a function that computes the end of a sleep: only a new one counts from now.
    """
    if (delay is None) is (until is None):
        raise UsageError("sleep() needs either a delay or until=.")
    if until is not None:
        moment = until
        if not isinstance(moment, datetime) or moment.tzinfo is None:
            raise UsageError(f"until is {moment!r:.80}; it must be a datetime with a time zone.")
        return lambda: min(moment, until_of(journal, LONGEST_WAIT))
    length = values.length(delay, "delay", most=LONGEST_WAIT.total_seconds())
    return lambda: until_of(journal, length)


def wait_event(
    journal: Journal,
    name: str,
    wanted: Any,
    timeout: Duration | None,
    event: str | None,
    was: str | None = None,
) -> Any:
    """
    See ``Attempt.wait_event``.
    """
    models: Mapping[str, Any]
    if isinstance(wanted, Mapping):
        if event is not None or not wanted:
            raise UsageError("wait_event() takes either models by the names of events, or one model and event=.")
        models = {checked_name(each): model for each, model in wanted.items()}
    else:
        models = {checked_name(name if event is None else event): wanted}
    for sent, model in models.items():
        tagged.check_type(model, f"The model of the event {sent!r}")
    length = None if timeout is None else values.length(timeout, "timeout", most=LONGEST_WAIT.total_seconds())
    entry = journal.enter(name, EntrySort.EVENT, suspends=True, was=was)
    if entry is None:
        entry = _taken(journal, name, models)
    if entry is None:
        until = None if length is None else until_of(journal, length)
        raise journal.suspend(journal.wait_for(name, WaitFor.EVENT, until, events=tuple(models)))
    if entry.state is EntryState.TIMED_OUT:
        raise EventTimeoutError(f"No event has come for {name!r} before its time-out.", name=name)
    sent = (entry.more or {}).get("event", "")
    return _read(name, entry.value, models.get(sent, next(iter(models.values()))))


def _taken(journal: Journal, name: str, models: Mapping[str, Any]) -> JournalEntry | None:
    """
    Take the oldest event of the mailbox that has one of the names.
    """
    ended = journal.lock.wait
    taken = {*journal.taken, None if ended is None else ended.event}
    for event in waits.events(journal.lock):
        if event.name in models and event.wait in (None, name) and event.id not in taken:
            entry = journals.of_event(event, name, journal.next_ordinal(), journal.attempt.granted.token)
            journal.later(entry, event.id)
            return entry
    return None


def _read(name: str, data: Any, model: Any) -> Any:
    try:
        return tagged.validated(model, data)
    except ValueError as error:
        raise UsageError(f"The event that {name!r} has taken does not fit: {error}") from None


def value(journal: Journal, name: str, draw: Callable[[], Any]) -> Any:
    """
    Return the value that *draw* has returned first under this name.
    """
    entry = journal.enter(name, EntrySort.VALUE)
    if entry is None:
        watch = journal.attempt.runtime.watch
        drawn = draw() if watch is None else watch.drawn(journal, name, draw)
        entry = journal.entry(name, EntrySort.VALUE, value=tagged.keep(drawn).data)
        journal.later(entry)
    return tagged.read(Tagged(entry.value))


def result_of(journal: Journal, name: str, model: Any) -> Any:
    """
    See ``Attempt.result_of``.
    """
    if model is not None:
        tagged.check_type(model, "model")
    entry = journal.kept.get(checked_name(name))
    if entry is None or entry.state is not EntryState.DONE:
        return None
    if entry.sort is EntrySort.EVENT:
        return entry.value if model is None else _read(name, entry.value, model)
    if entry.model and model is None:
        return entry.value
    try:
        return tagged.read(Tagged(entry.value, entry.model), model)
    except NotTaggableError as trouble:
        raise UsageError(f"The answer of {name!r} in the journal can't be read: {trouble}.") from None


def uuid_of(journal: Journal) -> UUID:
    """
    Return a random UUID, of version 4.
    """
    clock = journal.attempt.runtime.clock
    return UUID(hex=(clock.nonce() + clock.nonce())[:32], version=4)


def say(journal: Journal, value: Any) -> None:
    """
    See ``Attempt.progress``.
    """
    try:
        text = json.dumps(value, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"progress() takes JSON data: {error}.") from None
    if len(text) > LONGEST_PROGRESS:
        raise UsageError(f"progress() takes {LONGEST_PROGRESS:,} characters of JSON at most; these are {len(text):,}.")
    journal.check()
    journal.said = text
