"""
Recurrences against slow references: every minute or second of a local clock looked at, and dateutil from DTSTART on.
"""

from __future__ import annotations

import datetime as dt
import os
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, takewhile
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import rrulestr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gcp_oncetask.errors import RecurrenceError
from gcp_oncetask.tasks.recurrence import Recurrence

MORE = int(os.environ.get("RECURRENCE_EXAMPLES", "1"))
"""So many times the examples, and each time others: ``make fuzz``."""
DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
# Zone and the instant of a change of its clocks (UTC has none).
CHANGES = [
    ("UTC", "2026-03-29T01:00:00"),
    ("Europe/Berlin", "2026-03-29T01:00:00"),
    ("Europe/Berlin", "2026-10-25T01:00:00"),
    ("America/New_York", "2025-03-09T07:00:00"),
    ("America/New_York", "2025-11-02T06:00:00"),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00"),
    ("Africa/Casablanca", "2026-02-15T02:00:00"),
    ("Africa/Casablanca", "2026-03-22T02:00:00"),
    ("Pacific/Apia", "2011-12-30T10:00:00"),
    ("America/Sao_Paulo", "2018-11-04T03:00:00"),
    ("America/Sao_Paulo", "2018-02-18T02:00:00"),
    ("America/St_Johns", "2011-03-13T03:31:00"),
]
MINUTES = (timedelta(minutes=1), timedelta(days=2), timedelta(days=9))
SECONDS = (timedelta(seconds=1), timedelta(hours=1), timedelta(hours=2))


@cache
def timeline(zone: str, change: str, scale: tuple[timedelta, timedelta, timedelta]) -> list[tuple[datetime, datetime]]:
    """
    Each minute (or second) around a change of clocks: instant and local time, which carries its fold.
    """
    step, before, after = scale
    at = datetime.fromisoformat(change).replace(tzinfo=UTC)
    count = (before + after) // step
    instants = [at - before + step * n for n in range(count)]
    return [(instant, instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None)) for instant in instants]


def parts_of(rule: str) -> dict[str, str]:
    return dict(part.split("=") for part in rule.split(";"))


def numbers(parts: dict[str, str], name: str) -> set[int]:
    return {int(text) for text in parts[name].split(",")} if name in parts else set()


def reference(rule: str, start: int, line: list[tuple[datetime, datetime]]) -> list[datetime]:
    """
    The runs of *rule* from the point *start* of *line* on, by looking at each point.
    """
    parts = parts_of(rule)
    freq, interval = parts["FREQ"], int(parts.get("INTERVAL", 1))
    began, local = line[start]
    elapsed = {"HOURLY": 3600, "MINUTELY": 60, "SECONDLY": 1}.get(freq)
    chosen = {name: numbers(parts, name) for name in ("BYMONTH", "BYMONTHDAY", "BYHOUR", "BYMINUTE", "BYSECOND")}
    weekdays = set(parts["BYDAY"].split(",")) if "BYDAY" in parts else set()
    if elapsed is None:
        chosen["BYHOUR"] = chosen["BYHOUR"] or {local.hour}
        if freq == "WEEKLY":
            weekdays = weekdays or {DAYS[local.weekday()]}
        if freq == "MONTHLY" and not weekdays:
            chosen["BYMONTHDAY"] = chosen["BYMONTHDAY"] or {local.day}
    lead = {"HOURLY": local.minute * 60 + local.second, "MINUTELY": local.second}.get(freq, 0)
    found = []
    for instant, wall in line[start:]:
        if elapsed is None:
            if wall.fold or not (
                wall.minute in chosen["BYMINUTE"] if chosen["BYMINUTE"] else wall.minute == local.minute
            ):
                continue
            if not (wall.second in chosen["BYSECOND"] if chosen["BYSECOND"] else wall.second == local.second):
                continue
            monday = (wall.date() - timedelta(days=wall.weekday())) - (local.date() - timedelta(days=local.weekday()))
            period = {
                "DAILY": (wall.date() - local.date()).days,
                "WEEKLY": monday.days // 7,
                "MONTHLY": (wall.year - local.year) * 12 + wall.month - local.month,
            }[freq]
        else:
            period, rest = divmod(int((instant - began).total_seconds()) + lead, elapsed)
            # What the rule doesn't say comes from DTSTART, in elapsed time.
            if not chosen["BYMINUTE"] and freq == "HOURLY" and rest // 60 != local.minute:
                continue
            if not chosen["BYSECOND"] and freq != "SECONDLY" and rest % 60 != local.second:
                continue
            if chosen["BYMINUTE"] and wall.minute not in chosen["BYMINUTE"]:
                continue
            if chosen["BYSECOND"] and wall.second not in chosen["BYSECOND"]:
                continue
        if (
            period % interval == 0
            and (not chosen["BYHOUR"] or wall.hour in chosen["BYHOUR"])
            and (not chosen["BYMONTH"] or wall.month in chosen["BYMONTH"])
            and (not chosen["BYMONTHDAY"] or wall.day in chosen["BYMONTHDAY"])
            and (not weekdays or DAYS[wall.weekday()] in weekdays)
        ):
            found.append(instant)
    return found


def some(low: int, high: int, most: int = 4) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(low, high), min_size=1, max_size=most, unique=True)


@st.composite
def rules(draw: Any, frequencies: tuple[str, ...]) -> str:
    """
    Rules without ordinals and positions; hours are drawn near those at which clocks change.
    """
    freq = draw(st.sampled_from(frequencies))
    parts = [f"FREQ={freq}", f"INTERVAL={draw(st.sampled_from([1, 1, 1, 2, 3, 7, 25, 90]))}"]
    lists = {
        "BYHOUR": st.one_of(some(0, 4), some(0, 23)),
        "BYMINUTE": some(0, 59),
        "BYSECOND": some(0, 59),
        "BYMONTH": some(1, 12, 8),
        "BYMONTHDAY": some(1, 31, 12),
        "BYDAY": st.lists(st.sampled_from(DAYS), min_size=1, max_size=5, unique=True),
    }
    left_out = {"WEEKLY": {"BYMONTHDAY"}}.get(freq, set()) | ({"BYSECOND"} if "SECONDLY" not in frequencies else set())
    for name, values in lists.items():
        if name not in left_out and draw(st.integers(0, 2)) == 0:
            parts.append(f"{name}={','.join(str(value) for value in draw(values))}")
    return ";".join(parts)


def agrees(
    rule: str, change: tuple[str, str], scale: tuple[timedelta, timedelta, timedelta], start: int, asked: int
) -> None:
    line = timeline(*change, scale)
    # A DTSTART in the second pass is a run by itself, though its rule's runs are all in first passes.
    second = line[start][0].astimezone(ZoneInfo(change[0])).fold == 1
    assume(not second or rule.startswith(("FREQ=HOURLY", "FREQ=MINUTELY", "FREQ=SECONDLY")))
    expected = reference(rule, start, line)
    try:
        made = Recurrence(rule, line[start][0], tz=change[0])
    except RecurrenceError:
        assert expected == []
        return
    horizon = line[-1][0]
    found: list[datetime] = []
    for run in made.runs():
        if run > horizon or len(found) == 300:
            break
        found.append(run)
    assert found == expected[:300], rule
    at = line[asked][0]
    after, latest = made.next_after(at), made.schedule.latest(line[start][0], at)
    upcoming = expected[bisect_right(expected, at) :]
    assert (after if after and after <= horizon else None) == (upcoming[0] if upcoming else None)
    past = expected[: bisect_left(expected, at)]
    assert latest == (past[-1] if past else None)


@settings(max_examples=200 * MORE, deadline=None, derandomize=MORE == 1, database=None)
@given(
    st.sampled_from(CHANGES),
    rules(("DAILY", "WEEKLY", "MONTHLY", "HOURLY", "MINUTELY")),
    st.integers(0, 4000),
    st.integers(0, 15_000),
)
def test_runs_are_those_a_look_at_each_minute_finds(change: tuple[str, str], rule: str, start: int, asked: int) -> None:
    """
    From two days before a change of clocks to nine after it; runs in a row, the next one and the last one at any minute.
    """
    agrees(rule, change, MINUTES, start, asked)


@settings(max_examples=40 * MORE, deadline=None, derandomize=MORE == 1, database=None)
@given(
    st.sampled_from(CHANGES),
    rules(("SECONDLY", "MINUTELY", "HOURLY", "DAILY")),
    st.integers(0, 5000),
    st.integers(0, 10_000),
)
def test_runs_are_those_a_look_at_each_second_finds(change: tuple[str, str], rule: str, start: int, asked: int) -> None:
    """
    The same for rules of seconds, one hour before to two hours after the change.
    """
    agrees(rule, change, SECONDS, start, asked)


@st.composite
def calendar_rules(draw: Any) -> str:
    """
    Rules with ordinals, positions, days and weeks of the year, counts and ends; some of them never match.
    """
    freq = draw(st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY"]))
    parts = [f"FREQ={freq}", f"INTERVAL={draw(st.one_of(st.integers(1, 5), st.sampled_from([7, 12, 30, 365, 1000])))}"]
    signed = st.lists(st.integers(1, 31) | st.integers(-31, -1), min_size=1, max_size=3, unique=True)
    days = st.lists(st.integers(1, 366) | st.integers(-366, -1), min_size=1, max_size=9, unique=True)
    weeks = st.lists(st.integers(1, 53) | st.integers(-53, -1), min_size=1, max_size=3, unique=True)
    with_weeks = freq == "YEARLY" and draw(st.integers(0, 3)) == 0
    day = st.sampled_from(DAYS)
    if freq in ("YEARLY", "MONTHLY") and not with_weeks and draw(st.booleans()):
        day = st.builds(lambda n, name: f"{n}{name}", st.sampled_from([1, 2, 4, -1, -3]), day)
    options = {
        "BYMONTH": (some(1, 12), True),
        "BYMONTHDAY": (signed, freq != "WEEKLY"),
        "BYYEARDAY": (days, freq == "YEARLY"),
        "BYWEEKNO": (weeks, with_weeks),
        "BYDAY": (st.lists(day, min_size=1, max_size=3, unique=True), True),
        "BYHOUR": (some(0, 23, 3), True),
        "BYMINUTE": (some(0, 59, 3), draw(st.booleans())),
        "BYSETPOS": (
            st.lists(st.sampled_from([1, 2, 3, 8, 40, -1, -2, -9]), min_size=1, max_size=2, unique=True),
            True,
        ),
    }
    for name, (values, allowed) in options.items():
        if allowed and draw(st.booleans()) and (name != "BYSETPOS" or len(parts) > 2):
            parts.append(f"{name}={','.join(str(value) for value in draw(values))}")
    if draw(st.booleans()):
        parts.append(f"WKST={draw(st.sampled_from(DAYS))}")
    if draw(st.integers(0, 3)) == 0:
        parts.append(f"COUNT={draw(st.integers(1, 60))}")
    return ";".join(parts)


# dateutil notices the end of a rule at its next run, and goes on to year 9999 for one that has none.
SHORT = SimpleNamespace(**{**vars(dt), "MAXYEAR": 2010})
HORIZON = timedelta(days=365 * 8)


def counted(rule: str, start: datetime) -> list[datetime]:
    """
    The runs of eight years by dateutil, which looks at each period from DTSTART on.

    By RFC 5545 a week of the year has the weekday of DTSTART where no day is chosen (dateutil takes all seven), and positions
    count in the whole of the first week (dateutil begins with DTSTART).
    """
    parts, begin = parts_of(rule), start
    count = int(parts.pop("COUNT", 100_000))
    weekly = parts["FREQ"] == "WEEKLY" and "BYSETPOS" in parts
    if weekly or ("BYWEEKNO" in parts and not {"BYMONTHDAY", "BYYEARDAY"} & set(parts)):
        parts.setdefault("BYDAY", DAYS[start.weekday()])
    if weekly:
        begin -= timedelta(days=(start.weekday() - DAYS.index(parts.get("WKST", "MO"))) % 7)
    bounded = ";".join(f"{name}={value}" for name, value in parts.items())
    horizon = start + HORIZON - timedelta(seconds=1)
    with patch("dateutil.rrule.datetime", SHORT):
        runs = rrulestr(f"{bounded};UNTIL={horizon:%Y%m%dT%H%M%SZ}", dtstart=begin)
        return list(islice((run for run in runs if run >= start), count))


@settings(max_examples=200 * MORE, deadline=None, derandomize=MORE == 1, database=None)
@given(calendar_rules(), st.datetimes(datetime(1999, 1, 1), datetime(2001, 1, 1)), st.integers(0, 365 * 6))
def test_jumping_ahead_finds_what_counting_from_the_start_finds(rule: str, start: datetime, days: int) -> None:
    """
    In UTC, dateutil from DTSTART on is right: the same runs, whether asked from the start or from years later.
    """
    start = start.replace(microsecond=0, tzinfo=UTC)
    expected = counted(rule, start)
    try:
        made = Recurrence(rule, start)
    except RecurrenceError:
        assert expected == []
        return
    at = start + timedelta(days=days)
    later = [run for run in expected if run > at]
    found = [run for run in islice(made.runs(), len(expected[:40]) + 1) if run < start + HORIZON]

    assert found[: len(expected[:40])] == expected[:40]
    assert len(expected) > 40 or found == expected
    upcoming = made.next_after(at)
    assert (upcoming if upcoming and upcoming < start + HORIZON else None) == (later[0] if later else None), rule
    assert list(islice(made.runs(at + timedelta(seconds=1)), len(later[:5]))) == later[:5]
    assert made.schedule.latest(start, at) == max((run for run in expected if run < at), default=None)


@pytest.mark.parametrize("first", DAYS)
def test_weeks_of_the_year_are_dateutils(first: str) -> None:
    """
    At both ends of the year, whichever day a week begins with, in each sort of year.
    """
    start, end = datetime(1995, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)
    for week in (1, 2, 52, 53, -1, -52, -53):
        rule = f"FREQ=YEARLY;BYWEEKNO={week};BYDAY={','.join(DAYS)};WKST={first}"
        expected = list(rrulestr(f"{rule};UNTIL={end:%Y%m%dT%H%M%SZ}", dtstart=start))
        found = takewhile(lambda run: run <= end, Recurrence(rule, start).runs())
        assert list(found) == expected, rule
