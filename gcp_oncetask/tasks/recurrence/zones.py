"""
Times as people write them, and the instants they mean: time zones, gaps and folds.

Source:
    RFC 5545 section 3.3.5: a single time that does not exist is meant with the offset before the gap, one that exists twice
    means the first. Section 3.3.10: a run of a *rule* at a time that does not exist is left out and not counted.
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
"""No zone of the database has ever changed its clocks and changed them back within so many days (Freetown took four, in 1939)."""


class Fit(Enum):
    """
    How a wall-clock time falls on the time line.
    """

    ONCE = "once"
    SKIPPED = "skipped"
    """It does not exist, and a rule made it: no run."""
    MOVED = "moved"
    """It does not exist, and was given as such: it runs later by the length of the gap."""
    FIRST = "first"
    """It happens twice; this is the first."""
    SECOND = "second"
    """It happens twice; this is the second."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """
    A run that a recurrence may have.

    Attributes:
        wall: Local time by the rule, without zone.
        instant: When that is, aware UTC; for a skipped one, its place in the order of the runs.
        fit: How the one became the other.
    """

    wall: datetime
    instant: datetime
    fit: Fit


def zone_named(name: str) -> tzinfo:
    """
    The IANA zone *name*.

    Raises:
        RecurrenceError: There is no such zone.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        # A name of a hundred characters is like none.
        raise RecurrenceError(
            f"tz is {shown(name)}, which is no zone of the IANA database; use a name like Europe/Berlin."
            f"{words.hint(str(name)[:100], _zones())}",
            field="tz",
        ) from None


@cache
def _zones() -> tuple[str, ...]:
    """
    The names of all zones: a walk through the zone data, which takes a while.
    """
    return tuple(sorted(available_timezones()))


def wall_time(instant: datetime, zone: tzinfo) -> datetime:
    """
    The local time of *instant*, without zone.
    """
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def place(wall: datetime, zone: tzinfo) -> Candidate:
    """
    The instant that the local time *wall* means, as a single time of RFC 5545: MOVED in a gap, FIRST in a fold.
    """
    there = wall.replace(tzinfo=zone, fold=0)
    instant = there.astimezone(UTC)
    if wall_time(instant, zone) != wall:
        return Candidate(wall, instant, Fit.MOVED)
    twice = there.utcoffset() != there.replace(fold=1).utcoffset()
    return Candidate(wall, instant, Fit.FIRST if twice else Fit.ONCE)


def at_instant(instant: datetime, zone: tzinfo) -> Candidate:
    """
    *instant* as a candidate: it exists, once or as one of two.
    """
    there = instant.astimezone(zone)
    wall = there.replace(tzinfo=None, fold=0)
    if there.fold:
        return Candidate(wall, instant, Fit.SECOND)
    twice = there.utcoffset() != there.replace(fold=1).utcoffset()
    return Candidate(wall, instant, Fit.FIRST if twice else Fit.ONCE)


def read_time(text: str, field: str) -> datetime:
    """
    A time as RFC 5545 (``20260131T090000``, ``...Z``) or ISO 8601 (``2026-01-31T09:00:00+01:00``) writes it, to the second.

    Returns:
        Aware if it had ``Z`` or an offset, else naive; fractions of a second are cut off.

    Raises:
        RecurrenceError: It can't be read, or is a date without a time.
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
    *time* as text: a text stays as it is, a datetime becomes ISO 8601.
    """
    return time.isoformat() if isinstance(time, datetime) else time


def offset_of(time: datetime) -> tzinfo:
    """
    UTC, or the fixed offset that *time* was written with.
    """
    offset = time.utcoffset() or timedelta(0)
    return timezone(offset) if offset else UTC


def require_aware(time: datetime, name: str) -> datetime:
    """
    *time* in UTC.

    Raises:
        RecurrenceError: It is no datetime, naive, or beyond the calendar in UTC.
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
