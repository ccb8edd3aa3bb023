"""
Reminders of the records that still need a person: the time of the next mail about an environment. Pure.

One mail names all of them. It is due an hour, six hours and a day after a record began to need a person, and when a promise of
a person about a record ends; then once a day. Each hour of the clock (UTC) is a slot with one mail at most: the Message-ID is
made of environment and slot, so that many sweeps send one mail.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from gcp_oncetask.rules.attention import Reason
from gcp_oncetask.rules.record import Event, Lock

SLOT: Final = timedelta(hours=1)
"""Length of a slot."""
FIRST: Final = (timedelta(hours=1), timedelta(hours=6), timedelta(days=1))
"""Times after which a record is told of first."""
AGAIN: Final = timedelta(days=1)
"""Time after which a record is told of again."""


class Unattended(NamedTuple):
    """
    A record that needs a person.

    Attributes:
        since: Time since which it needs one.
        promised: End of the last promise to attend to it, passed or not; None: there was none.
    """

    since: datetime
    promised: datetime | None = None


class LastReminder(NamedTuple):
    """
    The last mail.

    Attributes:
        slot: Its slot: the beginning of an hour.
        at: Time at which it was decided; records were told of as they were then.
    """

    slot: datetime
    at: datetime


def slot_of(now: datetime) -> datetime:
    """
    Return the slot of *now*, the beginning of its hour in UTC.
    """
    return now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def is_named(record: Unattended, now: datetime) -> bool:
    """
    Tell whether a mail names the record: no promise to attend to it holds now.
    """
    return record.promised is None or record.promised <= now


def is_wanted(lock: Lock | None, reason: Reason) -> bool:
    """
    Tell whether a person wants mails about a record that needs one for *reason*; a kind or model can switch them off
    (``alert_on``). None: the lock can't be decoded.
    """
    event = Event.QUARANTINE if reason is Reason.QUARANTINED else Event.FAILURE
    return lock is None or event in lock.alert_on


def is_reminder_due(records: Iterable[Unattended], last: LastReminder | None, now: datetime) -> bool:
    """
    Tell whether a mail is due.

    Args:
        records: The records that need a person.
        last: The last mail; None: there was none.
        now: The server's time.
    """
    if last is not None and slot_of(now) <= last.slot:
        return False
    named = [record for record in records if is_named(record, now)]
    told = None if last is None else last.at
    if any(when <= now and (told is None or when > told) for record in named for when in _moments(record)):
        return True
    daily = last is not None and slot_of(now) - last.slot >= AGAIN
    return daily and any(record.since + AGAIN <= now for record in named)


def next_look(records: Sequence[Unattended], last: LastReminder | None, now: datetime) -> datetime:
    """
    Return a time before which no mail is due: the next hour at the latest, because a record that needs a person from now on
    is told of after that.

    Args:
        records: The records that need a person.
        last: The last mail, also one that is sent now; None: there was none.
        now: The server's time.
    """
    end = slot_of(now) + SLOT
    if last is not None and last.slot >= slot_of(now):
        return end
    return min([end, *(when for record in records for when in _moments(record) if when > now)])


def _moments(record: Unattended) -> list[datetime]:
    """
    Return the times from which the record must be told of, but for the daily ones.
    """
    return [*(record.since + after for after in FIRST), *([] if record.promised is None else [record.promised])]
