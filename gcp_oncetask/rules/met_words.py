"""
The decision about a word of a handler that the journal knows, or does not know yet. Pure.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from gcp_oncetask.rules.journal import EntrySort, EntryState, JournalEntry
from gcp_oncetask.rules.record import Intent
from gcp_oncetask.rules.timestamps import parse_instant


class Meant(StrEnum):
    """
    The ways in which a word goes on.
    """

    CALL = "call"
    """The function is called, or the wait begins: the journal has no answer."""
    ANSWER = "answer"
    """The answer of the journal is returned."""
    RAISE = "raise"
    """The failure or the time-out in the journal is raised."""
    FAIL = "fail"
    """The task ends as failed: the run was done, and its result could not be kept."""
    WAIT = "wait"
    """The request ends until a time."""
    VERIFY = "verify"
    """The function is asked by which the user finds out whether the run has happened."""
    ASK = "ask"
    """The task is set aside until a person has said whether the run has happened."""
    OTHER_SORT = "other-sort"
    """The task is set aside: the name has another sort in the journal."""
    OTHER_ARGUMENTS = "other-arguments"
    """The task is set aside: the run was called with other arguments before."""


class Met(NamedTuple):
    """
    The decision about a word.

    Attributes:
        meant: The way in which the word goes on.
        until: End of the wait (``WAIT``).
        warns: Whether a warning tells that the arguments are others than those of the journal.
    """

    meant: Meant
    until: datetime | None = None
    warns: bool = False


def fits(entry: JournalEntry | None, sort: EntrySort) -> Met | None:
    """
    Return the decision about a word of *sort* whose name has *entry* in the journal, so far as that is known without its
    arguments; None: the entry is that word's.
    """
    if entry is None:
        return Met(Meant.CALL)
    return None if entry.sort is sort else Met(Meant.OTHER_SORT)


def meet(
    entry: JournalEntry | None,
    sort: EntrySort,
    *,
    args: str | None,
    strict: bool,
    verifiable: bool,
    intent: Intent | None,
    now: datetime,
) -> Met:
    """
    Decide how a word goes on.

    Args:
        entry: The entry of its name; None: there is none.
        sort: Its sort.
        args: Digest of its arguments; None: they have no canonical form.
        strict: Whether other arguments than those of the entry are refused.
        verifiable: Whether the user has given a function that finds out whether the run has happened.
        intent: The open intent of its name; None: there is none.
        now: Estimate of the server's clock.
    """
    early = fits(entry, sort)
    if early is not None:
        return early
    assert entry is not None
    differs = args is not None and entry.args is not None and args != entry.args
    if differs and (strict or entry.state is EntryState.OPEN):
        return Met(Meant.OTHER_ARGUMENTS)
    return _known(entry, intent if verifiable else None, now)._replace(warns=differs)


def _known(entry: JournalEntry, intent: Intent | None, now: datetime) -> Met:
    match entry.state:
        case EntryState.DONE:
            return Met(Meant.ANSWER)
        case EntryState.FAILED | EntryState.TIMED_OUT:
            return Met(Meant.RAISE)
        case EntryState.REJECTED:
            return Met(Meant.FAIL)
        case EntryState.OPEN if intent is None:
            return Met(Meant.ASK)
        case EntryState.OPEN:
            assert intent is not None
            # The attempt that has begun the run may still be calling.
            return Met(Meant.WAIT, intent.over) if now < intent.over else Met(Meant.VERIFY)
    next_try = (entry.more or {}).get("next")
    until = None if next_try is None else parse_instant(next_try)
    return Met(Meant.WAIT, until) if until is not None and now < until else Met(Meant.CALL)


def verified(intent: Intent, *, happened: bool, after: timedelta, now: datetime) -> Met:
    """
    Decide about a run that was begun once, and of which the user's function says whether it has *happened*. That it has not
    counts from *after* the intent on: a remote search may lag behind its own writes.
    """
    if happened:
        return Met(Meant.ANSWER)
    counts = intent.begun + after
    return Met(Meant.WAIT, counts) if now < counts else Met(Meant.CALL)
