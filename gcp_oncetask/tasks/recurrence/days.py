"""
Compute the dates that the parts of a rule choose, one year at a time, as sets of days.

The calendar has 28 sorts of year (by its first weekday, and by whether it and the year before are leap years), and repeats
every 400 years. So 28 short computations give all dates of any rule.
"""

from __future__ import annotations

from bisect import bisect_left
from calendar import isleap
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from gcp_oncetask.tasks.recurrence.rule import Rule

END_YEAR: Final = 9990
"""The search for runs ends at this year, because datetime ends at 9999, and zones need a margin."""
CYCLE: Final = 400
"""Years after which the calendar repeats, weekdays included."""

_LENGTHS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class Year(NamedTuple):
    """
    One year of a rule.

    Attributes:
        begin: Proleptic ordinal of 1 January.
        length: Number of its days, 365 or 366.
        months: First day of each month and of the next year, counted from 0.
        days: The chosen days, counted from 0, ascending.
        chosen: The same as a set.
    """

    begin: int
    length: int
    months: tuple[int, ...]
    days: tuple[int, ...]
    chosen: frozenset[int]

    def between(self, low: int, high: int) -> tuple[int, ...]:
        """
        Return the chosen days from *low* on and before *high*.
        """
        return self.days[bisect_left(self.days, low) : bisect_left(self.days, high)]


class Days:
    """
    Computes the dates of one rule, without its frequency's periods and its interval.

    Args:
        rule: The rule.
        start: DTSTART. Its month, day or weekday counts where the rule has none.
    """

    def __init__(self, rule: Rule, start: datetime) -> None:
        self._rule = rule
        self._month, self._monthday, self._weekday = _of_start(rule, start)
        self._last: tuple[int, Year] | None = None
        self._known: dict[tuple[int, bool, bool], tuple[tuple[int, ...], tuple[int, ...], frozenset[int]]] = {}

    def of(self, year: int) -> Year:
        """
        Return the chosen dates of *year*.
        """
        if self._last is not None and self._last[0] == year:
            return self._last[1]
        first = date(year, 1, 1)
        begin, leap = first.toordinal(), isleap(year)
        sort = (begin % 7, leap, isleap(year - 1) if self._rule.byweekno else False)
        if sort not in self._known:
            months = _months(leap)
            chosen = frozenset(self._choose(year, months, first.weekday()))
            self._known[sort] = months, tuple(sorted(chosen)), chosen
        self._last = year, Year(begin, 365 + leap, *self._known[sort])
        return self._last[1]

    def sorts(self) -> Iterator[Year]:
        """
        Yield one year of each sort.
        """
        found = {}
        for number in range(2000, 2000 + CYCLE):
            year = self.of(number)
            found[year.begin % 7, year.length, isleap(number - 1)] = year
        return iter(found.values())

    def after(self, day: int) -> int | None:
        """
        Return the first chosen date after *day*, both as ordinals; None if there is none.
        """
        first = date.fromordinal(day + 1).year
        for year in range(first, min(first + CYCLE + 1, END_YEAR)):
            found = self.of(year)
            at = bisect_left(found.days, day + 1 - found.begin)
            if at < len(found.days):
                return found.begin + found.days[at]
        return None

    def _choose(self, year: int, months: tuple[int, ...], weekday: int) -> set[int]:
        rule, length = self._rule, months[-1]
        days = set(range(length))
        if self._month:
            days &= _union(range(months[m - 1], months[m]) for m in self._month)
        if self._monthday:
            starts = list(pairwise(months))
            days &= {
                day
                for n in self._monthday
                for begin, end in starts
                if begin <= (day := begin + n - 1 if n > 0 else end + n) < end
            }
        if rule.byyearday:
            days &= {n - 1 if n > 0 else length + n for n in rule.byyearday}
        if rule.byweekno:
            days &= _weeks(rule, year, weekday, length)
        plain = {day for n, day in self._weekday if not n}
        if plain:
            days &= _union(range((day - weekday) % 7, length, 7) for day in plain)
        numbered = [(n, day) for n, day in self._weekday if n]
        if numbered:
            days &= self._numbered(numbered, months, weekday)
        return days

    def _numbered(self, numbered: list[tuple[int, int]], months: tuple[int, ...], weekday: int) -> set[int]:
        """
        Return the n-th weekdays of each month, or of the year.
        """
        spans = list(pairwise(months))
        if self._rule.freq == "YEARLY":
            spans = [spans[m - 1] for m in self._rule.bymonth] or [(0, months[-1])]
        found = set()
        for begin, end in spans:
            for n, day in numbered:
                there = range(begin + (day - weekday - begin) % 7, end, 7)
                if -len(there) <= (at := n - 1 if n > 0 else n) < len(there):
                    found.add(there[at])
        return found


def _of_start(rule: Rule, start: datetime) -> tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...]]:
    """
    Return the months, days of the month and weekdays that the rule chooses, or that it takes from DTSTART.
    """
    given = rule.bymonth, rule.bymonthday, rule.byday
    if rule.elapsed or rule.byday or rule.bymonthday or rule.byyearday:
        return given
    if rule.byweekno or rule.freq == "WEEKLY":
        return rule.bymonth, (), ((0, start.weekday()),)
    if rule.freq == "MONTHLY":
        return rule.bymonth, (start.day,), ()
    if rule.freq == "YEARLY":
        return rule.bymonth or (start.month,), (start.day,), ()
    return given


def _months(leap: bool) -> tuple[int, ...]:
    lengths = (31, 28 + leap, *_LENGTHS[2:])
    return tuple(accumulate(lengths, initial=0))


def _union(parts: Iterable[Iterable[int]]) -> set[int]:
    return set().union(*parts)


def _weeks(rule: Rule, year: int, weekday: int, length: int) -> set[int]:
    """
    Return the days of *year* in the chosen weeks. A week belongs to the year that has four or more of its days.
    """
    begin, count = _first_week(weekday, rule.wkst, length)
    found: set[int] = set()
    for n in rule.byweekno:
        week = n if n > 0 else count + 1 + n
        if 1 <= week <= count:
            found.update(range(begin + 7 * (week - 1), begin + 7 * week))
    if 1 in rule.byweekno:
        # The last days of a year may be in the first week of the next year.
        found.update(range(begin + 7 * count, length))
    if begin > 0:
        before = 365 + isleap(year - 1)
        first, last = _first_week((weekday - before) % 7, rule.wkst, before)
        if first >= 0:
            # dateutil uses the number of weeks of this year here. That is kept, so that stored rules keep their runs.
            last = 52 + ((length - begin) % 7 >= 4)
        if {-1, last} & set(rule.byweekno):
            found.update(range(begin))
    return {day for day in found if 0 <= day < length}


def _first_week(weekday: int, wkst: int, length: int) -> tuple[int, int]:
    """
    Return the first day of a year's first week, from three days before 1 January to three days after it, and the number of
    weeks.
    """
    begin = (wkst - weekday) % 7
    if begin >= 4:
        begin -= 7
    return begin, (length - begin) // 7 + ((length - begin) % 7 >= 4)


def positions(chosen: Sequence[int], length: int) -> list[int]:
    """
    Return the places that the numbers of BYSETPOS *chosen* mean in a set of *length* runs, counted from 0 and ascending.
    """
    return sorted({at - 1 if at > 0 else length + at for at in chosen if abs(at) <= length})
