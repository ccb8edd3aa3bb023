"""
Runs of a daily, weekly, monthly or yearly rule: dates of the calendar at times of the local clock.

On a day without a change of the clock, runs are computed by additions; on other days each time is checked. So an old rule
costs no more than a new one. The search for a rule that never matches ends after one cycle of the calendar.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice
from typing import Final, overload

from gcp_oncetask.tasks.recurrence.days import CYCLE, END_YEAR, positions
from gcp_oncetask.tasks.recurrence.periods import Periods
from gcp_oncetask.tasks.recurrence.rule import Rule
from gcp_oncetask.tasks.recurrence.zones import LOOK_AHEAD, Candidate, Fit, place, wall_time

MAX_SHOWN: Final = 10
"""At most so many of the runs that one change of the clock leaves out are reported."""

MAX_YEARS: Final = 10_000
"""A rule counts as exhausted after so many years without a run, or after 400 times its interval if that is less."""

_DAY: Final = timedelta(days=1)


class Calendar:
    """
    Finds the runs of one rule.

    Args:
        rule: Its frequency is DAILY or longer.
        start: DTSTART. If the rule matches it, it is a run as it was given, also in a gap or fold.
        zone: Zone of the local times.
        years: The limit in place of ``MAX_YEARS``; no more than that.
    """

    def __init__(self, rule: Rule, start: Candidate, zone: tzinfo, years: int = MAX_YEARS) -> None:
        self._rule, self._start, self._zone = rule, start, zone
        self._periods = Periods(rule, start.wall, years)
        self._times: Sequence[int] = _Times(rule, start.wall)
        self._steady: tuple[int, timedelta | None] = (-LOOK_AHEAD, None)
        self._positions: tuple[int, ...] = rule.bysetpos
        if rule.freq == "DAILY" and rule.bysetpos:
            # The set of a daily rule is the same every day.
            places = positions(rule.bysetpos, len(self._times))
            self._times, self._positions = [self._times[at] for at in places], ()

    def walk(self, floor: datetime, ceiling: datetime | None = None, *, skipped: bool = False) -> Iterator[Candidate]:
        """
        Yield the runs from the instant *floor* on and before *ceiling*, in order. COUNT and EXDATE are ignored.

        Args:
            floor: Aware UTC, not before the start.
            ceiling: Aware UTC; None: without end.
            skipped: Whether to yield also the runs that a gap leaves out.
        """
        rule, start = self._rule, self._start
        first = wall_time(floor, self._zone)
        if floor <= start.instant:
            first = min(first, start.wall)
        if max(first, start.wall).year >= END_YEAR:
            return
        ends = [end for end in (rule.until, ceiling) if end is not None]
        last_day = min((end.toordinal() for end in ends), default=END_YEAR * 366) + 1
        barren, last = 0, floor
        for day, times in self._dates(first.toordinal()):
            if day > last_day or barren > CYCLE:
                return
            barren += 1
            for found in self._runs(day, times, first):
                if rule.until is not None and found.instant > rule.until:
                    return
                if found.fit is Fit.SKIPPED:
                    if skipped:
                        yield Candidate(found.wall, last, Fit.SKIPPED)
                    continue
                barren = 0
                if ceiling is not None and found.instant >= ceiling:
                    return
                if found.instant >= floor:
                    last = found.instant
                    yield found

    def last_of(self, count: int) -> datetime:
        """
        Return the last of *count* runs from DTSTART on, or the last of all if there are fewer.
        """
        last, first = self._start.instant, self._start.wall
        for day, times in self._dates(first.toordinal()):
            offset = self._offset(day)
            if offset is None or day == first.toordinal() or len(times) > count:
                runs = (found.instant for found in self._runs(day, times, first) if found.fit is not Fit.SKIPPED)
                for instant in islice((run for run in runs if run >= self._start.instant), count):
                    last, count = instant, count - 1
            else:
                last = (datetime.fromordinal(day) + timedelta(seconds=times[-1]) - offset).replace(tzinfo=UTC)
                count -= len(times)
            if not count:
                break
        return last

    def _dates(self, first: int) -> Iterator[tuple[int, Sequence[int]]]:
        """
        Yield the chosen dates from *first* on, as ordinals, each with its times as seconds of the day.
        """
        if not self._times:
            return
        if not self._positions:
            for day in self._periods.dates(first):
                yield day, self._times
            return
        for day, places in self._periods.placed(first, len(self._times), self._positions):
            yield day, [self._times[place] for place in places]

    def _runs(self, day: int, times: Sequence[int], first: datetime) -> Iterator[Candidate]:
        """
        Yield the runs of one day that are not before the local time *first*, and up to ``MAX_SHOWN`` of those that a gap
        leaves out.
        """
        midnight = datetime.fromordinal(day)
        at = bisect_left(times, _seconds(first)) if day == first.toordinal() else 0
        before = self._offset(day)
        if before is not None:
            for index in range(at, len(times)):
                wall = midnight + timedelta(seconds=times[index])
                yield Candidate(wall, (wall - before).replace(tzinfo=UTC), Fit.ONCE)
            return
        while at < len(times):
            wall = midnight + timedelta(seconds=times[at])
            found = self._start if wall == self._start.wall else place(wall, self._zone)
            at += 1
            if found.fit is not Fit.MOVED or wall == self._start.wall:
                yield found
                continue
            behind = bisect_left(times, self._behind(midnight, times[at - 1]))
            for index in range(at - 1, min(at - 1 + MAX_SHOWN, behind)):
                yield Candidate(midnight + timedelta(seconds=times[index]), found.instant, Fit.SKIPPED)
            at = max(at, behind)

    def _offset(self, day: int) -> timedelta | None:
        """
        Return the offset from UTC of a whole day; None if the clock changes on it.
        """
        begin, offset = self._steady
        if not begin <= day < begin + LOOK_AHEAD:
            midnight = datetime.fromordinal(day).replace(tzinfo=self._zone)
            offset = midnight.utcoffset()
            if offset != (midnight + timedelta(days=LOOK_AHEAD)).utcoffset():
                return offset if offset == (midnight + _DAY).utcoffset() else None
            self._steady = day, offset
        return offset

    def _behind(self, midnight: datetime, second: int) -> int:
        """
        Return the first second of the day after the gap in which *second* is.
        """
        low, high = second, second + 2 * 86_400
        while high - low > 1:
            middle = (low + high) // 2
            inside = place(midnight + timedelta(seconds=middle), self._zone).fit is Fit.MOVED
            low, high = (middle, high) if inside else (low, middle)
        return high


class _Times(Sequence[int]):
    """
    The times of a day as seconds since midnight, in order. They may be 86,400, so each is computed only when it is asked
    for.
    """

    def __init__(self, rule: Rule, start: datetime) -> None:
        self._hours = rule.byhour or (start.hour,)
        self._minutes = rule.byminute or (start.minute,)
        self._seconds = rule.bysecond or (start.second,)

    def __len__(self) -> int:
        return len(self._hours) * len(self._minutes) * len(self._seconds)

    @overload
    def __getitem__(self, at: int) -> int: ...

    @overload
    def __getitem__(self, at: slice) -> list[int]: ...

    def __getitem__(self, at: int | slice) -> int | list[int]:
        if isinstance(at, slice):
            return [self[index] for index in range(len(self))[at]]
        rest, second = divmod(at, len(self._seconds))
        hour, minute = divmod(rest, len(self._minutes))
        return self._hours[hour] * 3600 + self._minutes[minute] * 60 + self._seconds[second]


def _seconds(wall: datetime) -> int:
    # A fraction counts as the next second, because times are whole seconds.
    return wall.hour * 3600 + wall.minute * 60 + wall.second + (wall.microsecond > 0)
