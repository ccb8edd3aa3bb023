"""
Runs of a daily, weekly, monthly or yearly rule: dates of the calendar at times of the local clock.

dateutil finds the dates. It is asked about naive local dates only, from the beginning of a period near the one that is
wanted: so its ideas about time zones don't matter, and a rule that began long ago costs no more than a new one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Any, Final, Literal

from dateutil import rrule

from gcp_oncetask.tasks.recurrence.rule import Rule
from gcp_oncetask.tasks.recurrence.zones import Candidate, Fit, place, wall_time

# How many periods are looked at before a rule counts as exhausted, and the length of one in days. 29 February on a given
# weekday comes every 40 years at worst; the calendar repeats after 400.
_SEARCH: Final = {"DAILY": 15_000, "WEEKLY": 15_000 * 7, "MONTHLY": 4_800 * 31, "YEARLY": 400 * 366}
_FREQUENCY: Final[dict[str, Literal[0, 1, 2, 3]]] = {
    "DAILY": rrule.DAILY,
    "WEEKLY": rrule.WEEKLY,
    "MONTHLY": rrule.MONTHLY,
    "YEARLY": rrule.YEARLY,
}
_END: Final = datetime(9990, 1, 1)  # noqa: DTZ001 - local, like all dates here


def walk(rule: Rule, start: Candidate, zone: tzinfo, floor: datetime) -> Iterator[Candidate]:
    """
    The runs of *rule* from the instant *floor* on, in order, skipped ones included; COUNT and EXDATE not looked at.

    Args:
        rule: Its frequency is DAILY or longer.
        start: DTSTART, which is run as it was given although a gap or fold is there.
        zone: Of the local times.
        floor: Aware UTC, not before the start.
    """
    first = wall_time(floor, zone)
    if floor <= start.instant:
        first = min(first, start.wall)
    last = floor
    for wall in _walls(rule, start.wall, first):
        found = start if wall == start.wall else place(wall, zone)
        if rule.until is not None and found.instant > rule.until:
            return
        if found.fit is Fit.MOVED and wall != start.wall:
            yield Candidate(wall, last, Fit.SKIPPED)
        elif found.instant >= floor:
            last = found.instant
            yield found


def _walls(rule: Rule, start: datetime, first: datetime) -> Iterator[datetime]:
    anchor = _anchor(rule, start, first)
    if anchor is None:
        return
    hours, minutes = rule.byhour or (start.hour,), rule.byminute or (start.minute,)
    seconds = rule.bysecond or (start.second,)
    if rule.bysetpos:
        # Positions count in the whole set of a period, times included: dateutil must know them.
        for found in _dates(rule, start, anchor, byhour=hours, byminute=minutes, bysecond=seconds):
            if found >= first:
                yield found
        return
    for found in _dates(rule, start, anchor, byhour=0, byminute=0, bysecond=0):
        if found.date() >= first.date():
            floor = first.time() if found.date() == first.date() else time.min
            yield from _times(found.date(), floor, hours, minutes, seconds)


def _times(
    day: date, floor: time, hours: tuple[int, ...], minutes: tuple[int, ...], seconds: tuple[int, ...]
) -> Iterator[datetime]:
    for hour in hours:
        if hour < floor.hour:
            continue
        for minute in minutes:
            if (hour, minute) < (floor.hour, floor.minute):
                continue
            for second in seconds:
                if (hour, minute, second) >= (floor.hour, floor.minute, floor.second):
                    yield datetime(day.year, day.month, day.day, hour, minute, second)  # noqa: DTZ001 - local


def _dates(rule: Rule, start: datetime, anchor: datetime, **times: Any) -> Iterator[datetime]:
    parts = _explicit(rule, start)
    frequency, interval, days = _FREQUENCY[rule.freq], rule.interval, _SEARCH[rule.freq] * rule.interval
    by_year = rule.freq == "DAILY" and not rule.bysetpos and any(parts.values())
    if by_year:
        # The same dates, found faster: a year at a time, of which every n-th day counts.
        frequency, interval, days = rrule.YEARLY, 1, _SEARCH["YEARLY"]
        if not (parts["bymonthday"] or parts["byday"]):
            parts["bymonthday"] = range(1, 32)
    end = _END if days >= (_END - anchor).days else anchor + timedelta(days=days)
    if rule.until is not None:
        # A day's margin for the zone; the instant decides.
        end = min(end, rule.until.replace(tzinfo=None) + timedelta(days=1))
    weekdays = [rrule.weekday(day, n or None) for n, day in parts.pop("byday")]
    found = iter(
        rrule.rrule(
            frequency,
            dtstart=anchor.replace(month=1, day=1) if by_year else anchor,
            interval=interval,
            wkst=rule.wkst,
            until=end,
            bysetpos=rule.bysetpos or None,
            byweekday=weekdays or None,
            **{name: numbers or None for name, numbers in parts.items()},
            **times,
        )
    )
    if by_year and rule.interval > 1:
        return (day for day in found if (day.date() - start.date()).days % rule.interval == 0)
    return found


def _explicit(rule: Rule, start: datetime) -> dict[str, Any]:
    """
    The parts that choose dates, those included that the rule leaves to DTSTART.
    """
    parts = {
        "bymonth": rule.bymonth,
        "bymonthday": rule.bymonthday,
        "byyearday": rule.byyearday,
        "byweekno": rule.byweekno,
        "byday": rule.byday,
    }
    if rule.byday or rule.bymonthday or rule.byyearday:
        return parts
    if rule.byweekno or rule.freq == "WEEKLY":
        return parts | {"byday": ((0, start.weekday()),)}
    if rule.freq == "MONTHLY":
        return parts | {"bymonthday": (start.day,)}
    if rule.freq == "YEARLY":
        return parts | {"bymonth": rule.bymonth or (start.month,), "bymonthday": (start.day,)}
    return parts


def _anchor(rule: Rule, start: datetime, first: datetime) -> datetime | None:
    """
    The beginning of the last period of the rule that is not after *first*; None if that is beyond all calendars.
    """
    begin = datetime(start.year, start.month, start.day)  # noqa: DTZ001 - local
    if first >= _END or begin >= _END:
        return None
    if rule.freq == "YEARLY":
        return datetime(start.year + _whole(first.year - start.year, rule.interval), 1, 1)  # noqa: DTZ001 - local
    if rule.freq == "MONTHLY":
        months = start.year * 12 + start.month - 1
        months += _whole(first.year * 12 + first.month - 1 - months, rule.interval)
        return datetime(months // 12, months % 12 + 1, 1)  # noqa: DTZ001 - local
    length = 7 if rule.freq == "WEEKLY" else 1
    if rule.freq == "WEEKLY":
        begin -= timedelta(days=(begin.weekday() - rule.wkst) % 7)
    return begin + timedelta(days=_whole((first - begin).days, rule.interval * length))


def _whole(distance: int, step: int) -> int:
    return max(0, distance // step * step)
