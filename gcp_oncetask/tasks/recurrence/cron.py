"""
Translate cron lines and plain intervals to recurrences of RFC 5545, so that there is one set of rules.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final, Unpack

from gcp_oncetask.checks import values, words
from gcp_oncetask.checks.values import Duration, shown
from gcp_oncetask.errors import RecurrenceError, UsageError
from gcp_oncetask.tasks.recurrence.rule import MAX_INTERVAL, WEEKDAYS
from gcp_oncetask.tasks.recurrence.texts import within
from gcp_oncetask.tasks.recurrence.value import Recurrence, RecurrenceOptions

EPOCH: Final = "2001-01-01T00:00:00"
"""The start of cron and ``every`` by default: a Monday, later than the last zone offset with odd seconds."""

_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_SUNDAY_FIRST: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIELDS: Final = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))
_ITEM: Final = re.compile(r"(?P<first>\*|\w+(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?", re.ASCII)
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
    Make a recurrence from a cron line; it begins with the task's creation.

    Five fields (minute, hour, day of month, month, day of week; numbers, names of months and days, ``*``, ``,``, ``-``,
    ``/``) or ``@yearly``, ``@monthly``, ``@weekly``, ``@daily``, ``@hourly``. Sunday is 0, 7 or ``SUN``, and a range may
    end with it (``FRI-SUN``). If both day fields are restricted, a day that matches one of them is chosen, as in cron.

    Where clocks change: if every hour is chosen (``*``), the runs follow elapsed time and take place in both passes of a
    fold. If single hours are chosen, the runs are times of the local clock, as in RFC 5545: once in a fold (the first
    pass), none in a gap.

    Args:
        expression: The line.
        tz: IANA name.
        options: ``exdates``, ``rdates``, ``misfire``, ``misfire_limit``, ``overlap`` of ``Recurrence``.

    Raises:
        RecurrenceError: The line can't be read, has more than 10,000 characters, or never fires.
    """
    if not isinstance(expression, str):
        raise RecurrenceError(f"The cron line is {shown(expression)}; it is a text like '30 2 * * *'.", field="cron")
    line = within(expression, "cron").strip()
    if line.startswith("@") and line.lower() not in _MACROS:
        hint = words.hint(line.lower(), _MACROS)
        raise RecurrenceError(f"The cron line {shown(line)} is none of {', '.join(_MACROS)}.{hint}", field="cron")
    texts = _MACROS.get(line.lower(), line).upper().split()
    if len(texts) != len(_FIELDS):
        names = ", ".join(name for name, _, _ in _FIELDS)
        raise RecurrenceError(
            f"The cron line {shown(expression)} has {len(texts)} fields; it needs five: {names}.", field="cron"
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
    # As in Vixie cron, a field that begins with * (like */2) does not count as restricted.
    if len(days) < 31:
        chosen.append(_part("BYMONTHDAY", days))
    weekday_names = sorted({(day - 1) % 7 for day in weekdays})
    if len(weekday_names) < 7:
        chosen.append("BYDAY=" + ",".join(WEEKDAYS[day] for day in weekday_names))
    both = any(texts[at].startswith("*") for at in (2, 4))
    rules = [[*parts, *chosen]] if both or len(chosen) < 2 else [[*parts, one] for one in chosen]
    rule = "\n".join(";".join(rule) for rule in rules)
    try:
        return Recurrence(rule, EPOCH, tz=tz, since_creation=True, **options)
    except RecurrenceError as error:
        if error.field != "rrule":
            raise
        raise RecurrenceError(
            f"The cron line {shown(expression)} never fires: its fields exclude each other, or exdates leave nothing of it.",
            field="cron",
        ) from None


def every(interval: Duration, *, start: datetime | None = None, **options: Unpack[RecurrenceOptions]) -> Recurrence:
    """
    Make a recurrence with one run per *interval* of elapsed time. Changes of the clock do not matter.

    Args:
        interval: A timedelta or a number of seconds; whole seconds, at least one.
        start: First run, aware. None: from the task's creation on, at whole multiples of the interval since Monday,
            1 January 2001 in UTC (so that ``every(timedelta(hours=1))`` runs on the hour).
        options: ``exdates``, ``rdates``, ``misfire``, ``misfire_limit``, ``overlap`` of ``Recurrence``.

    Raises:
        RecurrenceError: The interval is invalid, or the start is naive.
    """
    try:
        seconds, rest = divmod(values.length(interval, "interval"), timedelta(seconds=1))
    except UsageError:
        seconds, rest = 0, timedelta(0)
    if rest or not 1 <= seconds <= MAX_INTERVAL:
        raise RecurrenceError(
            f"interval is {shown(interval)}; it must be whole seconds, from 1 to {MAX_INTERVAL}.",
            field="interval",
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
    for item in dict.fromkeys(text.split(",")):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise _bad(expression, item, name, low, high, "")
        first = _number(match["first"].partition("-")[0], name, low)
        last = _number(match["last"], name, high if match["first"] == "*" or match["step"] else first)
        if match["last"] == "SUN" and first:
            # Here Sunday ends the week.
            last = 7
        step = _number(match["step"], "step", 1)
        if first is None or last is None or not (low <= first <= high and low <= last <= high):
            raise _bad(expression, item, name, low, high, "")
        if first > last:
            raise _bad(expression, item, name, low, high, " A range ends after it begins: write two, with a comma.")
        size = min(high - low + 1, 7 if name == "day of week" else 60)
        if step is None or not 1 <= step <= size:
            raise _bad(expression, item, name, low, high, f" A step is a number from 1 to {size}.")
        found.update(range(first, last + 1, step))
    return sorted(found)


def _bad(expression: str, item: str, name: str, low: int, high: int, more: str) -> RecurrenceError:
    names = {"month": ", JAN to DEC", "day of week": " (0 and 7 are Sunday), SUN to SAT"}.get(name, "")
    return RecurrenceError(
        f"The cron line {shown(expression)} has {shown(item)} as {name}; it takes {low} to {high}{names}, *, lists (1,2), "
        f"ranges (1-5) and steps (*/5).{more}",
        field="cron",
    )


def _number(text: str | None, name: str, otherwise: int | None) -> int | None:
    """
    Return the number that *text* means in a field; *otherwise* if it is missing or ``*``, None if it is no number.
    """
    if text is None or text == "*":
        return otherwise
    if text.isdecimal():
        # Leading zeros are allowed; a number of more than four digits is valid in no field.
        digits = text.lstrip("0") or "0"
        return int(digits) if len(digits) <= 4 else None
    if name == "month" and text in _MONTHS:
        return _MONTHS.index(text) + 1
    if name == "day of week" and text in _SUNDAY_FIRST:
        return _SUNDAY_FIRST.index(text)
    return None
