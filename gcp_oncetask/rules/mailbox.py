"""
Events that are sent to durable handlers. Pure.
"""

from __future__ import annotations

from datetime import datetime

from gcp_oncetask.rules import journal, waits, writes
from gcp_oncetask.rules.decisions import CallRefused, DecisionContext, Put
from gcp_oncetask.rules.journal import EntryState
from gcp_oncetask.rules.record import Lock, Status, Woken
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.waits import MAX_EVENTS, MAX_MAILBOX, SentEvent


def send(lock: Lock, event: SentEvent, nonce: str, at: DecisionContext) -> Put | CallRefused:
    """
    Store *event* for the handler of *lock*; if the sequence waits for it, it is dispatched at once.

    Returns:
        Put; or CallRefused: FOREIGN, DUPLICATE (an event with this id was stored before), ENDED (also if the one wait for
        which the event counts is over), or FULL.
    """
    if lock.env != at.env:
        return CallRefused(Refusal.FOREIGN, f"it belongs to environment {lock.env!r}, not {at.env!r}")
    if waits.is_known(lock, event.id):
        return CallRefused(Refusal.DUPLICATE, f"the event {event.id!r} was stored before")
    if lock.finished:
        return CallRefused(Refusal.ENDED, f"sequence {lock.sequence} is {lock.status}")
    if event.wait is not None and is_over(lock, event.wait):
        return CallRefused(Refusal.ENDED, f"its wait {event.wait!r} is over")
    stored = event.to_bytes()
    if len(lock.mailbox) >= MAX_EVENTS or sum(map(len, lock.mailbox)) + len(stored) > MAX_MAILBOX:
        return CallRefused(
            Refusal.FULL,
            f"its mailbox has {len(lock.mailbox)} events that no wait has taken, and may have {MAX_EVENTS} and "
            f"{MAX_MAILBOX:,} bytes",
        )
    waited = waits.waits(lock, at.now)
    known = waits.remembered(lock, event.id, at.now).but(mailbox=(*lock.mailbox, stored), journaled_by=nonce)
    known = journal.needing(known)
    ended = waits.woken(known, at.now)
    if not waited or ended is None or ended.ended is not Woken.EVENT:
        return Put(known)
    again = writes.with_due(known, at, wait_until=None, ready_at=None, dispatches=lock.dispatches + 1)
    return Put(again, dispatch=True)


def is_late(lock: Lock, event: SentEvent) -> bool:
    """
    Tell whether the wait for *event* has timed out before it came.
    """
    wait = lock.wait
    return (
        lock.status in (Status.LEASED, Status.SCHEDULED)
        and wait is not None
        and wait.ended is Woken.TIME
        and event.name in wait.events
    )


def is_over(lock: Lock, wait: str) -> bool:
    """
    Tell whether the *wait* of this name is over, or has its event, as far as the record itself shows; sealed parts of the
    journal are not seen.
    """
    now = lock.wait
    if now is not None and now.name == wait:
        return now.ended is not None or waits.first_for(lock, now) is not None
    return any(entry.name == wait and is_answered(entry) for entry in journal.open_entries(lock))


def doubt(lock: Lock, event: SentEvent, asked: datetime) -> str | None:
    """
    Return the reason for which the handler may not take *event*, which counts for one wait and was asked for at *asked*; None:
    none is known. ``send`` has stored the event, so the wait is not over.
    """
    if lock.wait is not None and lock.wait.name == event.wait:
        return None
    cancelled = lock.cancel_requested_at
    if cancelled is not None and asked <= cancelled:
        return f"The task was cancelled at {told_time(cancelled)}"
    if any(each.name == event.name and each.wait in (None, event.wait) for each in waits.events(lock)):
        return "Another answer came before this one"
    return None


def told_time(at: datetime) -> str:
    """
    Return an instant for people, in UTC.
    """
    return f"{at:%Y-%m-%d %H:%M} UTC"


def is_answered(entry: journal.JournalEntry | None) -> bool:
    """
    Tell whether *entry*, of a wait, is its end: an event has come, or the time is over.
    """
    return entry is not None and entry.state in (EntryState.DONE, EntryState.TIMED_OUT)
