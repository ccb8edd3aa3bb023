"""
Read the text of a recurrence rule strictly: a wrong rule is refused here, and never later.

Source:
    RFC 5545 section 3.3.10, with its table of the parts that each frequency allows. Differences: a second of 60 is refused,
    because no clock here has leap seconds. Several rules may stand on lines of their own, which the RFC allows but advises
    against, because cron's "day of month or day of week" needs two. UNTIL is always in UTC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gcp_oncetask.checks.values import shown
from gcp_oncetask.errors import RecurrenceError
from gcp_oncetask.tasks.recurrence.texts import within

FREQUENCIES: Final = ("SECONDLY", "MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY")
WEEKDAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
MAX_INTERVAL: Final = 100_000_000
MAX_COUNT: Final = 10_000
"""
The largest COUNT, or sum of several, if the last run is found by counting. A plain secondly, minutely or hourly rule has no
such limit.
"""
MAX_RULES: Final = 10
"""Most different rules of one text."""

# Part: (smallest number, largest number, True if negative numbers count from the end).
_NUMBERS: Final = {
    "BYSECOND": (0, 59, False),
    "BYMINUTE": (0, 59, False),
    "BYHOUR": (0, 23, False),
    "BYMONTHDAY": (1, 31, True),
    "BYYEARDAY": (1, 366, True),
    "BYWEEKNO": (1, 53, True),
    "BYMONTH": (1, 12, False),
    "BYSETPOS": (1, 366, True),
}
_PARTS: Final = ("FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", *_NUMBERS)
_UNTIL: Final = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
_DAY: Final = re.compile(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    A rule. Lists are sorted and without repetition; a list is empty if the rule has no such part.

    Attributes:
        freq: One of ``FREQUENCIES``.
        until: Latest instant of a run, inclusive, aware UTC.
        wkst: First day of the week, 0 is Monday.
        byday: Pairs (n, weekday): the n-th such weekday of the period; if n is 0, each of them.
    """

    freq: str
    interval: int = 1
    count: int | None = None
    until: datetime | None = None
    wkst: int = 0
    bysecond: tuple[int, ...] = ()
    byminute: tuple[int, ...] = ()
    byhour: tuple[int, ...] = ()
    byday: tuple[tuple[int, int], ...] = ()
    bymonthday: tuple[int, ...] = ()
    byyearday: tuple[int, ...] = ()
    byweekno: tuple[int, ...] = ()
    bymonth: tuple[int, ...] = ()
    bysetpos: tuple[int, ...] = ()

    @property
    def elapsed(self) -> bool:
        """
        True if the rule counts elapsed time (hours, minutes, seconds) and not days of the calendar.
        """
        return FREQUENCIES.index(self.freq) < FREQUENCIES.index("DAILY")

    @property
    def plain(self) -> bool:
        """
        True if the rule has no part that limits or multiplies its runs: it has one run per interval.
        """
        return not (
            self.bysecond
            or self.byminute
            or self.byhour
            or self.byday
            or self.bymonthday
            or self.byyearday
            or self.byweekno
            or self.bymonth
            or self.bysetpos
        )


def parse(text: str) -> tuple[Rule, ...]:
    """
    Read the different rules in *text*, one on each line, each with or without ``RRULE:`` before it.

    Raises:
        RecurrenceError: A line is no rule, or RFC 5545 forbids the rule.
    """
    if not isinstance(text, str) or not text.strip():
        raise _bad(
            "rrule is empty; give a rule of RFC 5545, like FREQ=DAILY;BYHOUR=9 (dtstart alone is no recurrence)."
        )
    lines = within(text, "rrule").strip().splitlines()
    rules = tuple(dict.fromkeys(_rule(line.strip()) for line in dict.fromkeys(lines)))
    if len(rules) > MAX_RULES:
        raise _bad(f"rrule holds {len(rules)} different rules; it takes at most {MAX_RULES}.")
    counted = sum(rule.count for rule in rules if rule.count is not None and not (rule.elapsed and rule.plain))
    if counted > MAX_COUNT:
        raise _bad(f"COUNT in rrule adds up to {counted}, more than {MAX_COUNT}; end such rules with UNTIL.")
    return rules


def _rule(line: str) -> Rule:
    upper = line.upper()
    if upper.startswith(("DTSTART", "EXDATE", "RDATE", "EXRULE")):
        name = shown(re.split("[:;=]", upper, maxsplit=1)[0], quoted=False)
        raise _bad(
            f"rrule holds a line {name}; it takes rules only: give dtstart=, exdates=, rdates= and tz= for the rest."
        )
    parts: dict[str, str] = {}
    for part in upper.removeprefix("RRULE:").removesuffix(";").split(";"):
        name, equals, value = part.partition("=")
        if name == "DTSTART":
            raise _bad("rrule has a part DTSTART; give the start as dtstart=.")
        if name not in _PARTS:
            raise _bad(f"rrule has a part {shown(name)}; the parts of a rule are {', '.join(_PARTS)}.")
        if not equals or not value:
            raise _bad(f"{name} in rrule has no value.")
        if name in parts:
            raise _bad(f"rrule has {name} twice; a part may stand there once.")
        parts[name] = value
    if parts.get("FREQ") not in FREQUENCIES:
        raise _bad(f"rrule {shown(line)} needs FREQ= with one of {', '.join(FREQUENCIES)}.")
    rule = Rule(
        freq=parts["FREQ"],
        interval=_number("INTERVAL", parts.get("INTERVAL", "1"), 1, MAX_INTERVAL),
        count=_number("COUNT", parts["COUNT"], 1, 10**9) if "COUNT" in parts else None,
        until=_until(parts["UNTIL"]) if "UNTIL" in parts else None,
        wkst=_weekday(parts.get("WKST", "MO")),
        byday=_days(parts["BYDAY"]) if "BYDAY" in parts else (),
        **{name.lower(): _numbers(name, parts[name]) for name in _NUMBERS if name in parts},
    )
    _check(rule)
    return rule


def _check(rule: Rule) -> None:
    if rule.count is not None and rule.until is not None:
        raise _bad("rrule has both COUNT and UNTIL; a rule ends by one of them.")
    if rule.count is not None and rule.count > MAX_COUNT and not (rule.elapsed and rule.plain):
        raise _bad(f"COUNT={rule.count} in rrule is more than {MAX_COUNT}; end such a rule with UNTIL.")
    for part, present, frequencies in (
        ("BYWEEKNO", rule.byweekno, ("YEARLY",)),
        ("BYYEARDAY", rule.byyearday, ("SECONDLY", "MINUTELY", "HOURLY", "YEARLY")),
        ("BYMONTHDAY", rule.bymonthday, tuple(f for f in FREQUENCIES if f != "WEEKLY")),
    ):
        if present and rule.freq not in frequencies:
            raise _bad(f"{part} in rrule can't stand beside FREQ={rule.freq}; it goes with {', '.join(frequencies)}.")
    if any(n for n, _ in rule.byday) and (rule.freq not in ("MONTHLY", "YEARLY") or rule.byweekno):
        raise _bad("BYDAY in rrule counts weekdays (like 2MO), which needs FREQ=MONTHLY or YEARLY, and no BYWEEKNO.")
    if rule.bysetpos and Rule(freq=rule.freq, bysetpos=rule.bysetpos) == _only(rule):
        raise _bad("BYSETPOS in rrule chooses among the runs that another BY part makes; there is none.")


def _only(rule: Rule) -> Rule:
    kept = {name: getattr(rule, name) for name in Rule.__dataclass_fields__ if name.startswith("by")}
    return Rule(freq=rule.freq, **kept)


def _number(name: str, text: str, low: int, high: int) -> int:
    if re.fullmatch(r"\d{1,12}", text, re.ASCII) and low <= int(text) <= high:
        return int(text)
    raise _bad(f"{name}={shown(text, quoted=False)} in rrule must be a whole number from {low} to {high}.")


def _numbers(name: str, text: str) -> tuple[int, ...]:
    low, high, signed = _NUMBERS[name]
    found = set()
    for item in text.split(","):
        if not re.fullmatch(r"[+-]?\d{1,3}", item, re.ASCII):
            raise _bad(f"{name} in rrule has {shown(item)}; it is a list of whole numbers, like {low},{high}.")
        number = int(item)
        if not low <= (abs(number) if signed else number) <= high:
            either = f", or from -{high} to -{low} counted from the end" if signed else ""
            raise _bad(f"{name} in rrule has {item}; it takes {low} to {high}{either}.")
        found.add(number)
    return tuple(sorted(found))


def _days(text: str) -> tuple[tuple[int, int], ...]:
    found = set()
    for item in text.split(","):
        match = _DAY.fullmatch(item)
        if not match or (match[1] and not 1 <= abs(int(match[1])) <= 53):
            raise _bad(
                f"BYDAY in rrule has {shown(item)}; it is a list of {', '.join(WEEKDAYS)}, with a number before like -1FR."
            )
        found.add((int(match[1] or 0), WEEKDAYS.index(match[2])))
    return tuple(sorted(found))


def _weekday(text: str) -> int:
    if text not in WEEKDAYS:
        raise _bad(f"WKST={shown(text, quoted=False)} in rrule must be one of {', '.join(WEEKDAYS)}.")
    return WEEKDAYS.index(text)


def _until(text: str) -> datetime:
    try:
        if not _UNTIL.fullmatch(text):
            raise ValueError
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise _bad(
            f"UNTIL={shown(text, quoted=False)} in rrule must be an instant in UTC, like 20261231T225959Z: the rule has a time "
            "zone or is in UTC."
        ) from None


def _bad(sentence: str) -> RecurrenceError:
    return RecurrenceError(sentence, field="rrule")
