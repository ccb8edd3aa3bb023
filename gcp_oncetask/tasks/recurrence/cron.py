"""
cron lines and plain intervals, as recurrences: translated to RFC 5545, so that there is one set of rules.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final, Unpack

from gcp_oncetask import words
from gcp_oncetask.errors import RecurrenceError
from gcp_oncetask.tasks.recurrence.rule import MAX_INTERVAL, WEEKDAYS
from gcp_oncetask.tasks.recurrence.value import Recurrence, RecurrenceOptions

EPOCH: Final = "2001-01-01T00:00:00"
"""What cron and ``every`` count from unless told: a Monday, after the last zone with odd seconds."""

_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_SUNDAY_FIRST: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIELDS: Final = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))
_MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def cron(expression: str, *, tz: str = "UTC", **options: Unpack[RecurrenceOptions]) -> Recurrence:
    """
    A cron line, from the task's creation on.

    Five fields (minute, hour, day of month, month, day of week; numbers, names of months and days, ``*``, ``,``, ``-``,
    ``/``) or ``@yearly``, ``@monthly``, ``@weekly``, ``@daily``, ``@hourly``. If both day fields are restricted, a day that
    matches either will do, as in cron.

    Where clocks change: with every hour (``*``), the runs follow elapsed time and come in both passes of a fold. With
    chosen hours they are times of the local clock, as RFC 5545 has them: once in a fold (the first), none in a gap.

    Args:
        expression: The line.
        tz: IANA name.
        options: ``exdates``, ``rdates``, ``misfire``, ``misfire_limit``, ``overlap`` of ``Recurrence``.

    Raises:
        RecurrenceError: The line can't be read, or never fires.
    """
    texts = _MACROS.get(expression.strip().lower(), expression).upper().split()
    if len(texts) != len(_FIELDS):
        names = ", ".join(name for name, _, _ in _FIELDS)
        near = words.hint(expression.strip().lower(), _MACROS) if expression.strip().startswith("@") else ""
        raise RecurrenceError(
            f"The cron line {expression!r} has {len(texts)} fields; it needs five: {names}.{near}", field="cron"
        )
    minutes, hours, days, months, weekdays = (
        _field(text, *spec, expression) for text, spec in zip(texts, _FIELDS, strict=True)
    )
    every_hour = len(hours) == 24
    parts = ["FREQ=HOURLY" if every_hour else "FREQ=DAILY"]
    if not every_hour:
        parts.append(_part("BYHOUR", hours))
    parts += [_part("BYMINUTE", minutes), "BYSECOND=0"]
    if len(months) < 12:
        parts.append(_part("BYMONTH", months))
    chosen = []
    # As in Vixie cron, a field that begins with * (like */2) restricts nothing in the "either day" sense.
    if len(days) < 31:
        chosen.append(_part("BYMONTHDAY", days))
    weekday_names = sorted({(day - 1) % 7 for day in weekdays})
    if len(weekday_names) < 7:
        chosen.append("BYDAY=" + ",".join(WEEKDAYS[day] for day in weekday_names))
    both = any(texts[at].startswith("*") for at in (2, 4))
    rules = [[*parts, *chosen]] if both or len(chosen) < 2 else [[*parts, one] for one in chosen]
    return Recurrence("\n".join(";".join(rule) for rule in rules), EPOCH, tz=tz, since_creation=True, **options)


def every(interval: timedelta, *, start: datetime | None = None, **options: Unpack[RecurrenceOptions]) -> Recurrence:
    """
    One run per *interval* of elapsed time, whatever the clocks do.

    Args:
        interval: Whole seconds, one at least.
        start: First run, aware. None: from the task's creation on, at whole multiples of the interval since Monday,
            1 January 2001 in UTC (so that ``every(timedelta(hours=1))`` runs on the hour).
        options: ``exdates``, ``rdates``, ``misfire``, ``misfire_limit``, ``overlap`` of ``Recurrence``.

    Raises:
        RecurrenceError: The interval is none, or the start is naive.
    """
    seconds, rest = divmod(interval, timedelta(seconds=1))
    if rest or not 1 <= seconds <= MAX_INTERVAL:
        raise RecurrenceError(
            f"interval is {interval}; it must be whole seconds, from 1 to {MAX_INTERVAL}.", field="interval"
        )
    rule = f"FREQ=SECONDLY;INTERVAL={seconds}"
    for unit, length in (("MINUTELY", 60), ("HOURLY", 3600)):
        if seconds % length == 0:
            rule = f"FREQ={unit};INTERVAL={seconds // length}"
    return Recurrence(rule, EPOCH + "Z" if start is None else start, since_creation=start is None, **options)


def _part(name: str, numbers: list[int]) -> str:
    return f"{name}={','.join(map(str, numbers))}"


def _field(text: str, name: str, low: int, high: int, expression: str) -> list[int]:
    found: set[int] = set()
    for item in text.split(","):
        match = re.fullmatch(r"(\*|(\w+)(?:-(\w+))?)(?:/(\d{1,4}))?", item, re.ASCII)
        step = int(match[4] or 1) if match else 0
        first = low if match is None or match[1] == "*" else _number(match[2], name)
        last = high if match is None or match[1] == "*" or (match[4] and not match[3]) else first
        if match is not None and match[3]:
            last = _number(match[3], name)
        if not step or first is None or last is None or not low <= first <= last <= high:
            raise RecurrenceError(
                f"The cron line {expression!r} has {item!r} as {name}; it takes {low} to {high}, *, lists (1,2), ranges (1-5) "
                "and steps (*/5).",
                field="cron",
            )
        found.update(range(first, last + 1, step))
    return sorted(found)


def _number(text: str, name: str) -> int | None:
    if text.isdecimal():
        return int(text)
    if name == "month" and text in _MONTHS:
        return _MONTHS.index(text) + 1
    if name == "day of week" and text in _SUNDAY_FIRST:
        return _SUNDAY_FIRST.index(text)
    return None
