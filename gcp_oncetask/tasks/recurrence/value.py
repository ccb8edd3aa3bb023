"""
The recurrence as a producer writes it: the rule, its start, its exceptions, and the policies for missed and overlapping
runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime, tzinfo
from functools import cached_property
from typing import Any, Final, Literal, TypedDict, get_args
from zoneinfo import ZoneInfo

from gcp_oncetask.checks import words
from gcp_oncetask.checks.values import shown
from gcp_oncetask.errors import RecurrenceError
from gcp_oncetask.tasks.recurrence.rule import parse
from gcp_oncetask.tasks.recurrence.schedule import Schedule
from gcp_oncetask.tasks.recurrence.zones import (
    Candidate,
    at_instant,
    offset_of,
    place,
    read_time,
    require_aware,
    written,
    zone_named,
)

Misfire = Literal["skip", "latest", "all"]
Overlap = Literal["allow", "skip", "queue"]


class RecurrenceOptions(TypedDict, total=False):
    """
    Options that ``cron`` and ``every`` hand on to ``Recurrence``.
    """

    exdates: Sequence[str | datetime]
    rdates: Sequence[str | datetime]
    misfire: Misfire
    misfire_limit: int
    overlap: Overlap


MAX_MISFIRE_LIMIT: Final = 500
MAX_EXCEPTIONS: Final = 10_000
_NAMES: Final = ("rrule", "dtstart", "exdates", "rdates", "tz", "misfire", "misfire_limit", "overlap", "since_creation")


@dataclass(frozen=True)
class Recurrence:
    """
    The recurrence of a task, by RFC 5545. Comparable and hashable; its texts are kept as they were given.

    Local times are those of the zone ``tz``. A run of a rule that falls into a gap of the clock (clocks go forward) does
    not take place and is not counted. A run that falls into a fold (clocks go back) takes place once, in the first pass. A
    DTSTART, RDATE or EXDATE in a gap means the time that is later by the length of the gap. Hourly, minutely and secondly
    rules count elapsed time: they run in both passes of a fold. DTSTART is a run only if the rule matches it.

    Attributes:
        rrule: The rule, like ``FREQ=WEEKLY;BYDAY=MO``; each of several rules is on a line of its own. COUNT counts excluded
            runs too.
        dtstart: Start: a local time with ``tz``, or an instant (``...Z``, an offset, an aware datetime). Parts that the
            rule does not have (hour, weekday, ...) are taken from it. Kept as text; fractions of a second are ignored.
        exdates: Times of runs that don't take place, in the same forms; compared by instant.
        rdates: Times of additional runs, in the same forms; they may be before DTSTART.
        tz: IANA name. None: the zone of an aware ``dtstart``, a ``ZoneInfo`` or the fixed offset with which it was written.
        misfire: Policy of a generator for runs that it could not start on time, see ``advance``.
        misfire_limit: With ``misfire="all"``, most runs that are started in one advance; the newest are started.
        overlap: Policy for a run that falls due while an earlier one of this generator has not ended: ``allow`` starts it
            beside the other, ``skip`` leaves it out, ``queue`` starts it afterwards.
        since_creation: True: there are no runs before the generator was created; DTSTART is only the time from which runs
            are counted. ``cron`` sets it, and so does ``every`` without a start; see ``first_due``.

    Raises:
        RecurrenceError: An argument can't be read, contradicts another, or the recurrence never fires; ``field`` names the
            argument.

    Shape:
        ``to_data``: a map {rrule, dtstart, exdates[], rdates[], tz, misfire, misfireLimit, overlap, sinceCreation}.
    """

    rrule: str
    dtstart: str | datetime
    exdates: Sequence[str | datetime] = ()
    rdates: Sequence[str | datetime] = ()
    tz: str | ZoneInfo | None = None
    misfire: Misfire = "latest"
    misfire_limit: int = 100
    overlap: Overlap = "allow"
    since_creation: bool = False

    def __post_init__(self) -> None:
        if self.rrule and not isinstance(self.rrule, str):
            raise RecurrenceError(f"rrule is {shown(self.rrule)}; it must be a text.", field="rrule")
        if not self.rrule:
            parse(self.rrule)
        if not self.dtstart:
            raise RecurrenceError("dtstart is missing; a rule needs a DTSTART to count from.", field="dtstart")
        zone = getattr(self.dtstart, "tzinfo", None)
        if isinstance(self.tz, ZoneInfo):
            object.__setattr__(self, "tz", self.tz.key)
        elif self.tz is None and isinstance(zone, ZoneInfo):
            object.__setattr__(self, "tz", zone.key)
        object.__setattr__(self, "dtstart", written(self.dtstart))
        for name in ("exdates", "rdates"):
            object.__setattr__(self, name, _texts(name, getattr(self, name)))
        words.check("misfire", self.misfire, get_args(Misfire), RecurrenceError, field="misfire")
        words.check("overlap", self.overlap, get_args(Overlap), RecurrenceError, field="overlap")
        if type(self.misfire_limit) is not int or not 1 <= self.misfire_limit <= MAX_MISFIRE_LIMIT:
            raise RecurrenceError(
                f"misfire_limit is {shown(self.misfire_limit, quoted=False)}; "
                f"it is a number of runs from 1 to {MAX_MISFIRE_LIMIT}.",
                field="misfire_limit",
            )
        if self.first() is None:
            raise RecurrenceError(
                f"rrule {shown(self.rrule)} never fires from {shown(self.dtstart, quoted=False)} on: its parts exclude each "
                "other, it ends before it starts, or exdates leave nothing of it.",
                field="rrule",
            )

    @cached_property
    def zone(self) -> tzinfo:
        """
        Zone of the local times, which is ``tz``, else UTC or the offset of ``dtstart``.
        """
        start = read_time(str(self.dtstart), "dtstart")
        if self.tz is not None:
            return zone_named(str(self.tz))
        if start.utcoffset() is None:
            raise RecurrenceError(
                f"dtstart is {shown(self.dtstart)}, a local time without a zone; give tz= (like Europe/Berlin), or Z for UTC.",
                field="dtstart",
            )
        return offset_of(start)

    @cached_property
    def schedule(self) -> Schedule:
        """
        The recurrence, prepared for computing.
        """
        excluded = frozenset(self._time(text, "exdates").instant for text in self.exdates)
        extra = sorted((self._time(text, "rdates") for text in self.rdates), key=lambda one: one.instant)
        return Schedule(
            self._time(self.dtstart, "dtstart"),
            self.zone,
            parse(self.rrule),
            tuple(extra),
            excluded,
        )

    def _time(self, text: str | datetime, field: str) -> Candidate:
        time = read_time(str(text), field)
        try:
            if time.utcoffset() is None:
                return place(time, self.zone)
            return at_instant(time.astimezone(UTC), self.zone)
        except OverflowError:
            raise RecurrenceError(f"{field} is {shown(text)}, beyond the calendar.", field=field) from None

    def first(self, at_or_after: datetime | None = None) -> datetime | None:
        """
        Return the first run, or the first run at or after an instant.

        Returns:
            Its nominal time, aware UTC; None if there is none.

        Raises:
            RecurrenceError: The instant is naive.
        """
        return next(self.runs(at_or_after), None)

    def next_after(self, instant: datetime) -> datetime | None:
        """
        Return the first run strictly after *instant*, as nominal time in aware UTC; None if the recurrence has ended.

        Raises:
            RecurrenceError: The instant is naive.
        """
        for found in self.runs(require_aware(instant, "instant")):
            if found > instant:
                return found
        return None

    def runs(self, at_or_after: datetime | None = None) -> Iterator[datetime]:
        """
        Yield the runs in order, as nominal times in aware UTC; possibly without end.
        """
        if at_or_after is None:
            earliest = [found.instant for found in self.schedule.extra[:1]]
            return self.schedule.runs(min([*earliest, self.schedule.start.instant]))
        return self.schedule.runs(require_aware(at_or_after, "at_or_after"))

    def first_due(self, created_at: datetime) -> datetime | None:
        """
        Return the run for which a new generator waits: its first run, which may be in the past, or with ``since_creation``
        the first at or after *created_at*. None if no run is left.
        """
        return self.first(created_at if self.since_creation else None)

    def local(self, nominal: datetime) -> datetime:
        """
        Return *nominal* in the recurrence's zone.
        """
        return require_aware(nominal, "nominal").astimezone(self.zone)

    def to_data(self) -> dict[str, Any]:
        """
        Return the recurrence as JSON data; equal recurrences give equal data.
        """
        return {_camel(name): _plain(getattr(self, name)) for name in _NAMES}

    @classmethod
    def completed(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """
        Return the stored *data* of a recurrence, valid or not, with defaults for missing attributes.
        """
        defaults = {_camel(one.name): _plain(one.default) for one in fields(cls) if one.default is not MISSING}
        return {name: data.get(name, defaults.get(name)) for name in map(_camel, _NAMES)}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Recurrence:
        """
        Make a recurrence from the data of ``to_data``. Missing attributes have their defaults; unknown ones are ignored.

        Raises:
            RecurrenceError: The data is no recurrence.
        """
        given = {name: data[_camel(name)] for name in _NAMES if _camel(name) in data}
        return cls(**({"rrule": "", "dtstart": ""} | given))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _texts(field: str, times: Sequence[str | datetime]) -> tuple[str, ...]:
    if isinstance(times, str) or not isinstance(times, Sequence) or len(times) > MAX_EXCEPTIONS:
        raise RecurrenceError(f"{field} is a list of at most {MAX_EXCEPTIONS} times.", field=field)
    return tuple(written(time) for time in times)
