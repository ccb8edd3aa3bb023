"""
Runs of an hourly, minutely or secondly rule: steps of elapsed time, of which those are chosen at which the local clock
shows a matching time.

When clocks go back, such a rule keeps its pace through both passes; when they go forward, it misses no existing time.

A day is one number with a bit for each of its seconds. One number has the seconds that the local clock chooses, another one
those that the steps reach; the runs are the bits that both have. So a day costs the same for every rule, and only days with
a chosen date are computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final, NamedTuple

from gcp_oncetask.tasks.recurrence.days import END_YEAR, Days, positions
from gcp_oncetask.tasks.recurrence.rule import Rule
from gcp_oncetask.tasks.recurrence.zones import LOOK_AHEAD, Candidate, at_instant, wall_time

MAX_STEPS: Final = 15_000
"""A rule counts as exhausted after so many chosen days (or steps, if they are longer than a day) without a run."""
MISSED: Final = 7
"""A period in which BYSETPOS chooses no run counts as so many days, because it costs more."""

_UNITS: Final = {"HOURLY": 3600, "MINUTELY": 60, "SECONDLY": 1}
_DAY: Final = 86_400
_FEW: Final = 5_000
_SECOND: Final = timedelta(seconds=1)
_END: Final = datetime(END_YEAR, 1, 1, tzinfo=UTC)


class _Steady(NamedTuple):
    """
    A span of time without a change of the clock.

    Attributes:
        begin: Its first second.
        end: The second after it.
        day: The local date at its beginning, as an ordinal.
        time: The local time at its beginning, in seconds since midnight.
    """

    begin: int
    end: int
    day: int
    time: int


class Elapsed:
    """
    Finds the runs of one rule. Instants are whole seconds since DTSTART.

    Args:
        rule: Its frequency is HOURLY or shorter.
        start: DTSTART.
        zone: Zone of the local clock.
        steps: The limit in place of ``MAX_STEPS``; no more than that.
    """

    def __init__(self, rule: Rule, start: Candidate, zone: tzinfo, steps: int = MAX_STEPS) -> None:
        self._rule, self._zone, self._steps = rule, zone, steps
        self._base = start.instant
        wall = wall_time(start.instant, zone)
        self._days = Days(rule, wall)
        self._unit = _UNITS[rule.freq]
        self._stride = self._unit * rule.interval
        self._lead = (wall.minute * 60 + wall.second) % self._unit
        self._end = (_END - self._base) // _SECOND
        if rule.plain:
            return
        minutes = range(60) if rule.byminute or rule.freq != "HOURLY" else (wall.minute,)
        seconds = range(60) if rule.bysecond or rule.freq == "SECONDLY" else (wall.second,)
        self._slots = _bits(minutes, 60, _bits(seconds)) & ((1 << self._unit) - 1)
        self._grid = _repeated(self._slots, self._stride, self._unit + _DAY)
        hour = _bits(rule.byminute or range(60), 60, _bits(rule.bysecond or range(60)))
        self._chosen = _bits(rule.byhour or range(24), 3600, hour)
        # If the rule chooses few times of the day, a set tells at once whether the steps of a day can reach one.
        times, slots = self._chosen.bit_count(), self._slots.bit_count()
        self._reach: frozenset[int] | None = None
        if times * slots <= _FEW:
            within = list(_each(self._slots))
            self._reach = frozenset((slot - time) % self._stride for time in _each(self._chosen) for slot in within)
        self._most = (len(rule.byminute) or 1 if rule.freq == "HOURLY" else 1) * (
            len(rule.bysecond) or 1 if rule.freq != "SECONDLY" else 1
        )

    def walk(self, floor: datetime, ceiling: datetime | None = None, *, skipped: bool = False) -> Iterator[Candidate]:
        """
        Yield the runs from the instant *floor* on and before *ceiling*, in order. COUNT and EXDATE are ignored.

        Args:
            floor: Aware UTC, not before the start.
            ceiling: Aware UTC; None: without end.
            skipped: As in ``Calendar.walk``; a gap leaves out none of these runs.
        """
        end = self._end
        if ceiling is not None:
            end = min(end, -((self._base - ceiling) // _SECOND))
        if self._rule.until is not None:
            end = min(end, (self._rule.until - self._base) // _SECOND + 1)
        for second in self._from(-((self._base - floor) // _SECOND), end):
            yield at_instant(self._base + timedelta(seconds=second), self._zone)

    def last_of(self, count: int) -> datetime:
        """
        Return the last of *count* runs from DTSTART on, or the last of all if there are fewer.
        """
        last = 0
        if self._rule.plain:
            last = min(self._stride * (count - 1), self._end)
        elif self._rule.bysetpos:
            for number, second in enumerate(self._from(0, self._end), 1):
                last = second
                if number == count:
                    break
        else:
            for begin, _, bits in self._pieces(0, self._end):
                there = bits.bit_count()
                last, count = begin + _nth(bits, min(count, there)), count - there
                if count <= 0:
                    break
        return self._base + timedelta(seconds=last)

    def _from(self, floor: int, end: int) -> Iterator[int]:
        if self._rule.plain:
            first = max(0, -(-floor // self._stride)) * self._stride
            return iter(range(first, end, self._stride))
        if self._rule.bysetpos:
            return self._placed(floor, end)
        return (begin + bit for begin, _, bits in self._pieces(floor, end) for bit in _each(bits))

    def _placed(self, floor: int, end: int) -> Iterator[int]:
        """
        Yield the runs that BYSETPOS chooses among those of each period.
        """
        if min(map(abs, self._rule.bysetpos)) > self._most:
            return
        at, missed = floor - (floor + self._lead) % self._stride, 0
        for begin, stop, bits in self._pieces(at, end):
            # *left* has the remaining bits of the piece, which begin at *low*.
            low, left = begin, bits
            while left and missed * MISSED < self._steps:
                if low < at:
                    low, left = at, left >> (at - low)
                    continue
                hit = low + _nth(left, 1)
                period = hit - (hit + self._lead) % self._stride
                at = period + self._unit
                if low <= period and at <= stop:
                    there = (left >> (period - low)) & ((1 << self._unit) - 1)
                else:
                    there = sum(part << (first - period) for first, _, part in self._pieces(period, at))
                places = positions(self._rule.bysetpos, there.bit_count())
                missed = 0 if places else missed + 1
                seconds = (period + _nth(there, place + 1) for place in places)
                yield from (second for second in seconds if floor <= second < end)

    def _pieces(self, second: int, end: int) -> Iterator[tuple[int, int, int]]:
        """
        Yield stretches of one date without a change of the clock, from *second* on and before *end*: the begin and the end
        of each, and its runs as bits. Stretches without runs are left out.
        """
        idle, steady = 0, _Steady(second, second, 0, 0)
        year = self._days.of(self._local(second).year)
        while second < end and idle < self._steps:
            over = (second + self._lead) % self._stride
            if over >= self._unit:
                second += self._stride - over
                continue
            if second >= steady.end:
                steady = self._steady(second)
            days, time = divmod(steady.time + second - steady.begin, _DAY)
            day = steady.day + days
            if not 0 <= day - year.begin < year.length:
                year = self._days.of(date.fromordinal(day).year)
            if day - year.begin not in year.chosen:
                upcoming = self._days.after(day)
                if upcoming is None:
                    return
                counted = second + (upcoming - day) * _DAY - time
                second = counted if counted < steady.end else self._midnight(upcoming, second, counted)
                idle += 1
                continue
            stop = min(second + _DAY - time, steady.end)
            bits = 0
            if self._reach is None or (over - time) % self._stride in self._reach:
                bits = (self._chosen >> time) & (self._grid >> over)
                if min(stop, end) - second < _DAY - time:
                    bits &= (1 << (min(stop, end) - second)) - 1
            idle = 0 if bits else idle + 1
            if bits:
                yield second, min(stop, end), bits
            second = stop

    def _local(self, second: int) -> datetime:
        return (self._base + timedelta(seconds=second)).astimezone(self._zone)

    def _steady(self, second: int) -> _Steady:
        """
        Return the span from *second* on without a change of the clock, or the first part of it.
        """
        wall = self._local(second)
        low, high = second, second + LOOK_AHEAD * _DAY
        if self._local(high).utcoffset() != wall.utcoffset():
            while high - low > 1:
                middle = (low + high) // 2
                same = self._local(middle).utcoffset() == wall.utcoffset()
                low, high = (middle, high) if same else (low, middle)
        return _Steady(second, high, wall.toordinal(), wall.hour * 3600 + wall.minute * 60 + wall.second)

    def _midnight(self, day: int, second: int, counted: int) -> int:
        """
        Return an instant after *second* and not after the beginning of the date *day*. *counted* is its midnight if the
        clock does not change.
        """
        midnight = datetime.fromordinal(day).replace(tzinfo=self._zone)
        # A gap before the midnight makes it come sooner than *counted*; a fold makes it come later, or twice.
        readings = [(midnight.replace(fold=fold).astimezone(UTC) - self._base) // _SECOND for fold in (0, 1)]
        return max(second + 1, min(counted, *readings))


def _bits(numbers: Iterable[int], width: int = 1, pattern: int = 1) -> int:
    """
    Return a number with *pattern* at each of *numbers* times *width*.
    """
    found = 0
    for number in numbers:
        found |= pattern << (number * width)
    return found


def _repeated(pattern: int, distance: int, length: int) -> int:
    """
    Return *pattern*, repeated at a *distance*, over at least *length* bits.
    """
    while distance < length:
        pattern |= pattern << distance
        distance *= 2
    return pattern


def _nth(bits: int, n: int) -> int:
    """
    Return the place of the n-th set bit, counted from 0.
    """
    if n == 1:
        return (bits & -bits).bit_length() - 1
    low, high = 0, bits.bit_length()
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if (bits & ((1 << middle) - 1)).bit_count() >= n else (middle, high)
    return low


def _each(bits: int) -> Iterator[int]:
    """
    Yield the places of the set bits.
    """
    at = -1
    while bits:
        step = (bits & -bits).bit_length()
        bits >>= step
        at += step
        yield at
