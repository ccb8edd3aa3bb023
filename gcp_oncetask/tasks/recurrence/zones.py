"""
Convert times as people write them to instants, with time zones, gaps and folds.

Source:
    RFC 5545 section 3.3.5: a single time that does not exist is read with the offset before the gap; a time that exists
    twice means the first one. Section 3.3.10: a run of a *rule* at a time that does not exist is left out and not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from enum import Enum
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from gcp_oncetask.checks import words
from gcp_oncetask.checks.values import shown
from gcp_oncetask.errors import RecurrenceError

LOOK_AHEAD: Final = 3
"""
Days. No zone of the database has ever changed its clock and changed it back within so many days (Freetown took four, in
1939).
"""


class Fit(Enum):
    """
    The number of instants that a wall-clock time means.
    """

    ONCE = "once"
    SKIPPED = "skipped"
    """The time does not exist, and comes from a rule: no run takes place."""
    MOVED = "moved"
    """The time does not exist, and was given as a single time: the run is later by the length of the gap."""
    FIRST = "first"
    """The time exists twice; this is the first instant."""
    SECOND = "second"
    """The time exists twice; this is the second instant."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """
    A run that a recurrence may have.

    Attributes:
        wall: Local time by the rule, without zone.
        instant: The instant of the run, aware UTC; for a skipped run, its place in the order of the runs.
        fit: Relation of the local time to the instant.
    """

    wall: datetime
    instant: datetime
    fit: Fit


def zone_named(name: str) -> tzinfo:
    """
    Return the IANA zone *name*.

    Raises:
        RecurrenceError: There is no such zone.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        # A name of more than a hundred characters resembles no zone's.
        raise RecurrenceError(
            f"tz is {shown(name)}, which is no zone of the IANA database; use a name like Europe/Berlin."
            f"{words.hint(str(name)[:100], _zones())}",
            field="tz",
        ) from None


@cache
def _zones() -> tuple[str, ...]:
    """
    Return the names of all zones. It walks through the zone data, which takes a while.
    """
    return tuple(sorted(available_timezones()))


def wall_time(instant: datetime, zone: tzinfo) -> datetime:
    """
    Return the local time of *instant*, without zone.
    """
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def place(wall: datetime, zone: tzinfo) -> Candidate:
    """
    Return the instant that the local time *wall* means, as a single time of RFC 5545: MOVED in a gap, FIRST in a fold.
    """
    there = wall.replace(tzinfo=zone, fold=0)
    instant = there.astimezone(UTC)
    if wall_time(instant, zone) != wall:
        return Candidate(wall, instant, Fit.MOVED)
    twice = there.utcoffset() != there.replace(fold=1).utcoffset()
    return Candidate(wall, instant, Fit.FIRST if twice else Fit.ONCE)


def at_instant(instant: datetime, zone: tzinfo) -> Candidate:
    """
    Return *instant* as a candidate: ONCE, or FIRST or SECOND of two.
    """
    there = instant.astimezone(zone)
    wall = there.replace(tzinfo=None, fold=0)
    if there.fold:
        return Candidate(wall, instant, Fit.SECOND)
    twice = there.utcoffset() != there.replace(fold=1).utcoffset()
    return Candidate(wall, instant, Fit.FIRST if twice else Fit.ONCE)


def read_time(text: str, field: str) -> datetime:
    """
    Read a time in the form of RFC 5545 (``20260131T090000``, ``...Z``) or ISO 8601 (``2026-01-31T09:00:00+01:00``), to the
    second.

    Returns:
        An aware datetime if *text* has ``Z`` or an offset, else a naive one. Fractions of a second are cut off.

    Raises:
        RecurrenceError: *text* can't be read, or is a date without a time.
    """
    try:
        if "T" not in text.upper() and " " not in text.strip():
            raise ValueError
        return datetime.fromisoformat(text.strip().upper()).replace(microsecond=0)
    except (ValueError, AttributeError):
        raise RecurrenceError(
            f"{field} is {shown(text)}; it must be a date with a time, like 20260131T090000, 2026-01-31T09:00:00 (local, with "
            "tz=) or 20260131T090000Z (UTC).",
            field=field,
        ) from None


def written(time: datetime | str) -> str:
    """
    Return *time* as text: a text stays as it is, a datetime becomes ISO 8601.
    """
    return time.isoformat() if isinstance(time, datetime) else time


def offset_of(time: datetime) -> tzinfo:
    """
    Return the fixed offset with which *time* was written, or UTC.
    """
    offset = time.utcoffset() or timedelta(0)
    return timezone(offset) if offset else UTC


def require_aware(time: datetime, name: str) -> datetime:
    """
    Return *time* in UTC.

    Raises:
        RecurrenceError: *time* is no datetime, naive, or beyond the calendar in UTC.
    """
    if not isinstance(time, datetime) or time.utcoffset() is None:
        raise RecurrenceError(
            f"{name} is {shown(time)}, which has no time zone; give an aware datetime, like datetime.now(UTC).",
            field=name,
        )
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise RecurrenceError(f"{name} is {time.isoformat()}, beyond the calendar in UTC.", field=name) from None
