"""
A recurrence made ready to compute with: its rules merged, its exceptions applied, its end known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from functools import cached_property
from heapq import merge
from itertools import islice

from gcp_oncetask.tasks.recurrence import calendar, elapsed
from gcp_oncetask.tasks.recurrence.rule import Rule
from gcp_oncetask.tasks.recurrence.zones import Candidate, Fit

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Schedule:
    """
    The recurrence set of RFC 5545: the rules' runs and the extra ones, less the excluded ones.

    Attributes:
        start: DTSTART.
        extra: Single runs beside the rules', by instant.
        excluded: Instants, aware UTC.
    """

    start: Candidate
    zone: tzinfo
    rules: tuple[Rule, ...]
    extra: tuple[Candidate, ...]
    excluded: frozenset[datetime]

    @cached_property
    def last(self) -> dict[Rule, datetime]:
        """
        The last run of each rule that has a COUNT, found by counting once (or at once, where nothing is chosen).
        """
        return {rule: self._last(rule, rule.count) for rule in self.rules if rule.count is not None}

    def _last(self, rule: Rule, count: int) -> datetime:
        if rule.elapsed and rule.plain:
            return elapsed.last_of(rule, self.start, count)
        runs = (found for found in self._walk(rule, self.start.instant) if found.fit is not Fit.SKIPPED)
        last = self.start.instant
        for found in islice(runs, count):
            last = found.instant
        return last

    def _walk(self, rule: Rule, floor: datetime) -> Iterator[Candidate]:
        walk = elapsed.walk if rule.elapsed else calendar.walk
        return walk(rule, self.start, self.zone, max(floor, self.start.instant))

    def _rule(self, rule: Rule, floor: datetime) -> Iterator[Candidate]:
        runs = self._walk(rule, floor)
        if rule.count is None:
            yield from runs
        elif floor <= self.start.instant:
            left = rule.count
            while left and (found := next(runs, None)) is not None:
                left -= found.fit is not Fit.SKIPPED
                yield found
        else:
            for found in runs:
                if found.instant >= self.last[rule] + (_SECOND if found.fit is not Fit.SKIPPED else timedelta(0)):
                    return
                yield found

    def candidates(self, floor: datetime) -> Iterator[Candidate]:
        """
        Everything at or after *floor*, in order: skipped and excluded ones included, one per instant otherwise.
        """
        extra = (found for found in self.extra if found.instant >= floor)
        seen: datetime | None = None
        for found in merge(*(self._rule(rule, floor) for rule in self.rules), extra, key=lambda one: one.instant):
            if found.fit is Fit.SKIPPED:
                yield found
            elif found.instant != seen:
                seen = found.instant
                yield found

    def runs(self, floor: datetime) -> Iterator[datetime]:
        """
        The runs at or after *floor*, aware UTC, in order.
        """
        for found in self.candidates(floor):
            if found.fit is not Fit.SKIPPED and found.instant not in self.excluded:
                yield found.instant

    def first(self, floor: datetime) -> datetime | None:
        """
        The first run at or after *floor*.
        """
        return next(self.runs(floor), None)

    def latest(self, low: datetime, high: datetime, step: timedelta = _SECOND) -> datetime | None:
        """
        The last run in [low, high), found by halving: its cost grows with the logarithm of the runs between.

        Args:
            low: Inclusive, aware UTC.
            high: Exclusive, aware UTC.
            step: How far back from *high* to look first; the distance of two runs is best.
        """
        found = self.first(low)
        if found is None or found >= high:
            return None
        while high - step > found:
            near = self.first(high - step)
            if near is not None and near < high:
                found = near
                break
            step *= 4
        end = high
        while (after := self.first(found + _SECOND)) is not None and after < end:
            found = after
            middle = found + (end - found) // 2
            later = self.first(middle)
            if later is not None and later < end:
                found = max(found, later)
            else:
                end = middle
        return found
