"""
Compute the dates of a calendar rule in the periods that its interval chooses, such as every third week or every fourth
year.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from functools import cached_property
from itertools import groupby

from gcp_oncetask.tasks.recurrence.days import CYCLE, END_YEAR, Days, Year, positions
from gcp_oncetask.tasks.recurrence.rule import Rule


class Periods:
    """
    Counts the periods of one rule: days, weeks, months or years.

    Args:
        rule: Its frequency is DAILY or longer.
        start: DTSTART.
        years: After so many years without a date the rule counts as exhausted, or after its interval times a cycle of the
            calendar if that is less: then everything repeats.
    """

    def __init__(self, rule: Rule, start: datetime, years: int) -> None:
        self._rule, self._interval = rule, rule.interval
        self._days = Days(rule, start)
        self._patience = min(CYCLE * rule.interval, years)
        self._day = start.toordinal()
        self._week = self._day - (start.weekday() - rule.wkst) % 7
        self._month = start.year * 12 + start.month - 1
        self._year = start.year

    def dates(self, first: int) -> Iterator[int]:
        """
        Yield the dates from *first* on, as ordinals.
        """
        year, step = date.fromordinal(first).year, 1
        if self._rule.freq == "YEARLY":
            step = self._interval
            year += (self._year - year) % step
        end = year + self._patience
        while year <= end and year < END_YEAR:
            found = self._days.of(year)
            for day in self._in(year, found) if found.days else ():
                if found.begin + day >= first:
                    end = year + self._patience
                    yield found.begin + day
            year += step

    def _in(self, year: int, found: Year) -> Iterable[int]:
        step = self._interval
        if step == 1 or self._rule.freq == "YEARLY":
            return found.days
        if self._rule.freq == "MONTHLY":
            months = range((self._month - year * 12) % step, 12, step)
            return (day for m in months for day in found.between(found.months[m], found.months[m + 1]))
        if self._rule.freq == "DAILY":
            steps = range((self._day - found.begin) % step, found.length, step)
            if len(steps) < len(found.days):
                return (day for day in steps if day in found.chosen)
            return (day for day in found.days if (found.begin + day - self._day) % step == 0)
        weeks = range((self._week - found.begin + 6) % (7 * step) - 6, found.length, 7 * step)
        return (day for week in weeks for day in found.between(week, week + 7))

    def placed(self, first: int, count: int, chosen: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
        """
        Yield the dates from *first* on in which BYSETPOS chooses times, each with the places of these times among the times
        of a day.

        Args:
            first: The first date, as an ordinal.
            count: Number of times of each day.
            chosen: The numbers of BYSETPOS.
        """
        if min(map(abs, chosen)) > self._most * count:
            return
        end = date.fromordinal(first).year + self._patience
        for year, days in self._sets(first):
            if year > end or year >= END_YEAR:
                return
            for at, places in groupby(positions(chosen, len(days) * count), lambda place: place // count):
                end = year + self._patience
                if days[at] >= first:
                    yield days[at], [place % count for place in places]

    @cached_property
    def _most(self) -> int:
        """
        Most dates of one period.
        """
        if self._rule.freq == "WEEKLY":
            return len({day for _, day in self._rule.byday} or {0})
        years = self._days.sorts()
        if self._rule.freq == "YEARLY":
            return max(len(year.days) for year in years)
        return max(len(year.between(*year.months[m : m + 2])) for year in years for m in range(12))

    def _sets(self, first: int) -> Iterator[tuple[int, Sequence[int]]]:
        """
        Yield the year and the dates of each period, beginning with the period of *first*.
        """
        begin = date.fromordinal(first)
        match self._rule.freq:
            case "YEARLY":
                year = begin.year + (self._year - begin.year) % self._interval
                while year < END_YEAR:
                    found = self._days.of(year)
                    yield year, [found.begin + day for day in found.days]
                    year += self._interval
            case "MONTHLY":
                month = begin.year * 12 + begin.month - 1
                month += (self._month - month) % self._interval
                while month < END_YEAR * 12:
                    found = self._days.of(month // 12)
                    days = found.between(*found.months[month % 12 : month % 12 + 2])
                    yield month // 12, [found.begin + day for day in days]
                    month += self._interval
            case _:
                yield from self._weeks(first)

    def _weeks(self, first: int) -> Iterator[tuple[int, Sequence[int]]]:
        end = date(END_YEAR, 1, 1).toordinal()
        week = first - (first - self._week) % 7
        week += (self._week - week) % (7 * self._interval)
        while week < end:
            year = date.fromordinal(max(week, 1)).year
            found, upcoming = self._days.of(year), self._days.of(year + 1)
            while (at := week - found.begin) < found.length:
                days = [found.begin + day for day in found.between(at, at + 7)]
                if at + 7 > found.length:
                    days += [upcoming.begin + day for day in upcoming.between(0, at + 7 - found.length)]
                yield year, days
                week += 7 * self._interval
