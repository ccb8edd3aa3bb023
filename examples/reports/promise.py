"""
Compute the runs that each night owes from the time zones alone, without the library.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from examples.reports.app import NightlyReport

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2027, 1, 1, tzinfo=UTC)
FIRST_NIGHT = date(2026, 1, 2)
OUTAGE = (datetime(2026, 7, 6, 12, tzinfo=UTC), datetime(2026, 7, 10, 18, tzinfo=UTC))


class Owed(StrEnum):
    """
    The runs that a night owes.
    """

    ON_TIME = "one run, on time"
    CAUGHT_UP = "one run, after the outage"
    LEFT_OUT = "no run: left out after the outage"
    GAP = "no run: the time does not exist"


@dataclass(frozen=True)
class Night:
    """
    One night of a customer.

    Attributes:
        day: The local date.
        instant: Instant of the run, aware UTC; if the local time does not exist, the end of the gap's hour.
        owed: The runs that the night owes.
        fold: Whether its local time exists twice; the first one counts.
    """

    day: date
    instant: datetime
    owed: Owed
    fold: bool


def nights(report: NightlyReport, end: datetime = END) -> list[Night]:
    """
    Return the nights of a customer in the year, before *end*.
    """
    zone, at = ZoneInfo(report.zone), time.fromisoformat(report.time)
    days = [FIRST_NIGHT + timedelta(days=number) for number in range((end.date() - FIRST_NIGHT).days + 1)]
    found = [_night(datetime.combine(day, at), zone) for day in days]
    caught_up = _caught_up(report, [night.instant for night in found if _in_outage(night)])
    return [_after_outage(night, caught_up) for night in found if night.instant < end]


def _night(wall: datetime, zone: ZoneInfo) -> Night:
    first, second = wall.replace(tzinfo=zone), wall.replace(tzinfo=zone, fold=1)
    instant = first.astimezone(UTC)
    exists = instant.astimezone(zone).replace(tzinfo=None, fold=0) == wall
    twice = exists and first.utcoffset() != second.utcoffset()
    return Night(wall.date(), instant, Owed.ON_TIME if exists else Owed.GAP, twice)


def _in_outage(night: Night) -> bool:
    return night.owed is Owed.ON_TIME and OUTAGE[0] <= night.instant < OUTAGE[1]


def _caught_up(report: NightlyReport, missed: list[datetime]) -> list[datetime]:
    match report.after_outage:
        case "latest":
            return missed[-1:]
        case "all":
            return missed[-report.limit :]
        case "skip":
            return []


def _after_outage(night: Night, caught_up: list[datetime]) -> Night:
    if not _in_outage(night):
        return night
    owed = Owed.CAUGHT_UP if night.instant in caught_up else Owed.LEFT_OUT
    return Night(night.day, night.instant, owed, night.fold)
