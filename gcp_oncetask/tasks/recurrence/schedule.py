"""
A recurrence prepared for computing: its rules merged, its exceptions applied, its end known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from functools import cached_property
from heapq import merge

from gcp_oncetask.tasks.recurrence.calendar import MAX_YEARS, Calendar
from gcp_oncetask.tasks.recurrence.days import END_YEAR
from gcp_oncetask.tasks.recurrence.elapsed import MAX_STEPS, Elapsed
from gcp_oncetask.tasks.recurrence.rule import Rule
from gcp_oncetask.tasks.recurrence.zones import Candidate, Fit

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Schedule:
    """
    The recurrence set of RFC 5545: the rules' runs and the extra ones, less the excluded ones.

    Attributes:
        start: DTSTART.
        extra: Single runs besides those of the rules, ordered by instant.
        excluded: Instants of excluded runs, aware UTC.
    """

    start: Candidate
    zone: tzinfo
    rules: tuple[Rule, ...]
    extra: tuple[Candidate, ...]
    excluded: frozenset[datetime]

    @cached_property
    def finders(self) -> dict[Rule, Calendar | Elapsed]:
        """
        The object that finds the runs of each rule. Several rules share the limits of steps and years after which a rule
        without runs counts as exhausted.
        """
        steps, years = MAX_STEPS // len(self.rules), MAX_YEARS // len(self.rules)
        return {
            rule: Elapsed(rule, self.start, self.zone, steps)
            if rule.elapsed
            else Calendar(rule, self.start, self.zone, years)
            for rule in self.rules
        }

    @cached_property
    def last(self) -> dict[Rule, datetime]:
        """
        The last run of each rule that has a COUNT. It is found by counting once; for a plain rule it is computed.
        """
        return {rule: self.finders[rule].last_of(rule.count) for rule in self.rules if rule.count is not None}

    def _rule(self, rule: Rule, floor: datetime, ceiling: datetime | None, *, skipped: bool) -> Iterator[Candidate]:
        if floor.year >= END_YEAR:
            return
        runs = self.finders[rule].walk(max(floor, self.start.instant), ceiling, skipped=skipped)
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

    def candidates(
        self, floor: datetime, ceiling: datetime | None = None, *, skipped: bool = True
    ) -> Iterator[Candidate]:
        """
        Yield all candidates at or after *floor* and before *ceiling*, in order, one per instant, excluded ones included.

        Args:
            floor: Aware UTC.
            ceiling: Aware UTC; None: without end.
            skipped: Whether to yield also runs that a gap leaves out, a limited number of each gap.
        """
        extra = (
            found for found in self.extra if found.instant >= floor and (ceiling is None or found.instant < ceiling)
        )
        seen: datetime | None = None
        walks = (self._rule(rule, floor, ceiling, skipped=skipped) for rule in self.rules)
        for found in merge(*walks, extra, key=lambda one: one.instant):
            if found.fit is Fit.SKIPPED:
                yield found
            elif found.instant != seen:
                seen = found.instant
                yield found

    def runs(self, floor: datetime, ceiling: datetime | None = None) -> Iterator[datetime]:
        """
        Yield the runs at or after *floor* and before *ceiling*, aware UTC, in order.
        """
        for found in self.candidates(floor, ceiling, skipped=False):
            if found.instant not in self.excluded:
                yield found.instant

    def first(self, floor: datetime, ceiling: datetime | None = None) -> datetime | None:
        """
        Return the first run at or after *floor* and before *ceiling*; None if there is none.
        """
        return next(self.runs(floor, ceiling), None)

    def latest(self, low: datetime, high: datetime, step: timedelta = _SECOND) -> datetime | None:
        """
        Return the last run in [low, high), or None. It is found by halving, so that the cost grows with the logarithm of
        the number of runs.

        Args:
            low: Inclusive, aware UTC.
            high: Exclusive, aware UTC.
            step: Length of the first search back from *high*; the distance of two runs is best.
        """
        found = self.first(low, high)
        if found is None:
            return None
        while high - step > found:
            near = self.first(high - step, high)
            if near is not None:
                found = near
                break
            step *= 4
        end = high
        while (after := self.first(found + _SECOND, end)) is not None:
            found = after
            middle = found + (end - found) // 2
            later = self.first(middle, end)
            if later is not None:
                found = max(found, later)
            else:
                end = middle
        return found
