"""
Runs of an hourly, minutely or secondly rule: steps of elapsed time, chosen by what the local clock shows at them.

When clocks go back such a rule keeps its pace through both passes, and when they go forward it misses nothing that exists.
dateutil counts these on the local clock, which repeats an instant in spring and loses an hour in autumn.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

from gcp_oncetask.tasks.recurrence.rule import Rule
from gcp_oncetask.tasks.recurrence.zones import Candidate, at_instant, wall_time

MAX_STEPS: Final = 15_000
"""Periods without a run (or days without a matching date) in a row after which the rule counts as exhausted."""

_UNITS: Final = {"HOURLY": timedelta(hours=1), "MINUTELY": timedelta(minutes=1), "SECONDLY": timedelta(seconds=1)}
_MINUTE: Final = timedelta(minutes=1)
_SECOND: Final = timedelta(seconds=1)
_END: Final = datetime(9990, 1, 1, tzinfo=UTC)


def walk(rule: Rule, start: Candidate, zone: tzinfo, floor: datetime) -> Iterator[Candidate]:
    """
    The runs of *rule* from the instant *floor* on, in order; COUNT and EXDATE not looked at.

    Args:
        rule: Its frequency is HOURLY or shorter.
        start: DTSTART.
        zone: Of the local clock.
        floor: Aware UTC, not before the start.
    """
    unit, origin = _UNITS[rule.freq], _origin(rule, start, zone)
    stride = unit * rule.interval
    number = max(0, (floor - origin - unit) // stride)
    # Within a period its minutes and seconds are looked at one by one, where they are chosen.
    looks = (60 if rule.freq == "HOURLY" and rule.byminute else 1) * (
        60 if rule.bysecond and rule.freq != "SECONDLY" else 1
    )
    idle = 0
    while idle < MAX_STEPS:
        if (_END - origin) // stride < number:
            return
        period = origin + stride * number
        if rule.until is not None and period > rule.until:
            return
        jump = None if rule.plain else _jump(rule, zone, period, unit)
        if jump is not None:
            number = max(number + 1, (jump - origin - unit) // stride + 1)
            idle += 1
            continue
        idle += 1 + looks // 10
        for slot in _chosen(rule, wall_time(start.instant, zone), zone, period, floor):
            if rule.until is not None and slot > rule.until:
                return
            if slot >= floor:
                idle = 0
                yield at_instant(slot, zone)
        number += 1


def last_of(rule: Rule, start: Candidate, count: int) -> datetime:
    """
    The last of *count* runs of a rule that has one per interval.
    """
    return start.instant + _UNITS[rule.freq] * rule.interval * (count - 1)


def _origin(rule: Rule, start: Candidate, zone: tzinfo) -> datetime:
    wall = wall_time(start.instant, zone)
    if rule.freq == "HOURLY":
        return start.instant - timedelta(minutes=wall.minute, seconds=wall.second)
    return start.instant - timedelta(seconds=wall.second) if rule.freq == "MINUTELY" else start.instant


def _chosen(rule: Rule, start: datetime, zone: tzinfo, period: datetime, floor: datetime) -> Iterable[datetime]:
    """
    The runs in one period, perhaps some before *floor*.
    """
    if not rule.bysetpos:
        return _slots(rule, start, zone, period, floor)
    found = list(_slots(rule, start, zone, period, period))
    places = {at - 1 if at > 0 else len(found) + at for at in rule.bysetpos}
    return [slot for at, slot in enumerate(found) if at in places]


def _slots(rule: Rule, start: datetime, zone: tzinfo, period: datetime, floor: datetime) -> Iterator[datetime]:
    minutes = seconds = range(1)
    if rule.freq == "HOURLY":
        minutes = range(60) if rule.byminute else range(start.minute, start.minute + 1)
    if rule.freq != "SECONDLY":
        seconds = range(60) if rule.bysecond else range(start.second, start.second + 1)
    for minute in minutes:
        begin = period + _MINUTE * minute
        if begin + _MINUTE <= floor:
            continue
        wall = wall_time(begin, zone)
        # Offsets with odd seconds are history (Monrovia until 1972); there a minute begins within this one.
        if rule.byminute and wall.second == 0 and wall.minute not in rule.byminute:
            continue
        for slot in (begin + _SECOND * second for second in seconds):
            if rule.plain or _fits(rule, wall_time(slot, zone)):
                yield slot


def _fits(rule: Rule, wall: datetime) -> bool:
    return (
        (not rule.byhour or wall.hour in rule.byhour)
        and (not rule.byminute or wall.minute in rule.byminute)
        and (not rule.bysecond or wall.second in rule.bysecond)
        and _on(rule, wall.date())
    )


def _on(rule: Rule, day: date) -> bool:
    if rule.bymonth and day.month not in rule.bymonth:
        return False
    if rule.bymonthday:
        length = monthrange(day.year, day.month)[1]
        if day.day not in rule.bymonthday and day.day - length - 1 not in rule.bymonthday:
            return False
    if rule.byyearday:
        length = date(day.year, 12, 31).timetuple().tm_yday
        number = day.timetuple().tm_yday
        if number not in rule.byyearday and number - length - 1 not in rule.byyearday:
            return False
    return not rule.byday or any(day.weekday() == weekday for _, weekday in rule.byday)


def _jump(rule: Rule, zone: tzinfo, period: datetime, unit: timedelta) -> datetime | None:
    """
    If nothing in the period can be a run: an instant that the next run is not before. None: look into the period.
    """
    wall, last = wall_time(period, zone), wall_time(period + unit - _SECOND, zone)
    target = _next_wall(rule, wall, last)
    if target is None:
        return None
    # In a gap the times behind the target come sooner than the local clock says; in a fold it shows those before it once more.
    readings = (target.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return min(*readings, period + (target - wall))


def _next_wall(rule: Rule, wall: datetime, last: datetime) -> datetime | None:
    if not _on(rule, wall.date()) and not _on(rule, last.date()):
        return _next_day(rule, wall.date())
    if rule.byhour and wall.hour not in rule.byhour and last.hour not in rule.byhour:
        later = [hour for hour in rule.byhour if hour > wall.hour]
        midnight = wall.replace(hour=0, minute=0, second=0)
        return midnight.replace(hour=later[0]) if later else midnight + timedelta(days=1)
    if rule.freq == "HOURLY":
        return None
    if rule.byminute and wall.minute not in rule.byminute and last.minute not in rule.byminute:
        later = [minute for minute in rule.byminute if minute > wall.minute]
        hour = wall.replace(minute=0, second=0)
        return hour.replace(minute=later[0]) if later else hour + timedelta(hours=1)
    if rule.freq == "SECONDLY" and rule.bysecond and wall.second not in rule.bysecond:
        later = [second for second in rule.bysecond if second > wall.second]
        minute = wall.replace(second=0)
        return minute.replace(second=later[0]) if later else minute + _MINUTE
    return None


def _next_day(rule: Rule, day: date) -> datetime:
    for _ in range(MAX_STEPS):
        if day.year >= _END.year:
            break
        if rule.bymonth and day.month not in rule.bymonth:
            day = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
        else:
            day += timedelta(days=1)
        if _on(rule, day):
            return datetime.combine(day, time.min)
    return datetime(_END.year, 1, 2)  # noqa: DTZ001 - local; there is none
