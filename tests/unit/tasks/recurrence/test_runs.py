"""
Which runs a recurrence has: the calendar, and what clocks do to it. Tables; each time is checked against the zone's history.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from gcp_oncetask.tasks.recurrence import Recurrence, cron, every


def runs(recurrence: Recurrence, n: int, since: str | None = None) -> list[str]:
    """
    *n* runs as the local clock shows them, with the offset.
    """
    at = None if since is None else datetime.fromisoformat(since)
    return [recurrence.local(run).isoformat() for run in islice(recurrence.runs(at), n)]


def chained(recurrence: Recurrence, n: int) -> list[str]:
    """
    The same, asking ``next_after`` anew each time, as a generator does.
    """
    found, at = [], recurrence.first()
    while at is not None and len(found) < n:
        found.append(recurrence.local(at).isoformat())
        at = recurrence.next_after(at)
    return found


# Rule, start, zone, further arguments, the first runs; one more than asked for would follow unless the last is "end".
CLOCKS: list[tuple[str, str, str, str, dict[str, Any], list[str]]] = [
    (
        "gap: a daily run at a time that does not exist is left out",
        "FREQ=DAILY", "20260328T023000", "Europe/Berlin", {},
        ["2026-03-28T02:30:00+01:00", "2026-03-30T02:30:00+02:00", "2026-03-31T02:30:00+02:00"],
    ),
    (
        "gap: it is not counted either",
        "FREQ=DAILY;COUNT=3", "20260328T023000", "Europe/Berlin", {},
        ["2026-03-28T02:30:00+01:00", "2026-03-30T02:30:00+02:00", "2026-03-31T02:30:00+02:00", "end"],
    ),
    (
        "gap: the first moment after it exists",
        "FREQ=DAILY", "20260328T030000", "Europe/Berlin", {},
        ["2026-03-28T03:00:00+01:00", "2026-03-29T03:00:00+02:00"],
    ),
    (
        "gap: the last moment before it exists",
        "FREQ=DAILY", "20260328T015959", "Europe/Berlin", {},
        ["2026-03-28T01:59:59+01:00", "2026-03-29T01:59:59+01:00"],
    ),
    (
        "gap: DTSTART in it means the offset before, the rule goes on at the time as written",
        "FREQ=DAILY", "20260329T023000", "Europe/Berlin", {},
        ["2026-03-29T03:30:00+02:00", "2026-03-30T02:30:00+02:00"],
    ),
    (
        "gap: RDATE in it means the offset before",
        "FREQ=DAILY;COUNT=1", "20260328T090000", "Europe/Berlin", {"rdates": ["20260329T023000"]},
        ["2026-03-28T09:00:00+01:00", "2026-03-29T03:30:00+02:00", "end"],
    ),
    (
        "gap: EXDATE in it means the offset before",
        "FREQ=DAILY", "20260328T033000", "Europe/Berlin", {"exdates": ["20260329T023000"]},
        ["2026-03-28T03:30:00+01:00", "2026-03-30T03:30:00+02:00"],
    ),
    (
        "fold: a daily run takes place once, the first time",
        "FREQ=DAILY", "20261024T023000", "Europe/Berlin", {},
        ["2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
    ),
    (
        "fold: several times of one day stay in order",
        "FREQ=DAILY;BYHOUR=1,2,3;BYMINUTE=0,30", "20261025T010000", "Europe/Berlin", {},
        [
            "2026-10-25T01:00:00+02:00", "2026-10-25T01:30:00+02:00", "2026-10-25T02:00:00+02:00",
            "2026-10-25T02:30:00+02:00", "2026-10-25T03:00:00+01:00", "2026-10-25T03:30:00+01:00",
        ],
    ),
    (
        "fold: DTSTART written with its offset may be the second pass",
        "FREQ=DAILY", "2026-10-25T02:30:00+01:00", "Europe/Berlin", {},
        ["2026-10-25T02:30:00+01:00", "2026-10-26T02:30:00+01:00"],
    ),
    (
        "fold: EXDATE in UTC names one pass of an hourly rule",
        "FREQ=HOURLY", "20261025T013000", "Europe/Berlin", {"exdates": ["20261025T013000Z"]},
        ["2026-10-25T01:30:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-25T03:30:00+01:00"],
    ),
    (
        "fold: local EXDATE means the first pass",
        "FREQ=HOURLY", "20261025T013000", "Europe/Berlin", {"exdates": ["20261025T023000"]},
        ["2026-10-25T01:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-25T03:30:00+01:00"],
    ),
    (
        "hourly keeps its pace through both passes of the fold",
        "FREQ=HOURLY", "20251102T003000", "America/New_York", {},
        ["2025-11-02T00:30:00-04:00", "2025-11-02T01:30:00-04:00", "2025-11-02T01:30:00-05:00", "2025-11-02T02:30:00-05:00"],
    ),
    (
        "hourly has no instant twice in spring",
        "FREQ=HOURLY", "20250309T003000", "America/New_York", {},
        ["2025-03-09T00:30:00-05:00", "2025-03-09T01:30:00-05:00", "2025-03-09T03:30:00-04:00", "2025-03-09T04:30:00-04:00"],
    ),
    (
        "hourly with chosen hours follows the local clock",
        "FREQ=HOURLY;BYHOUR=1,2,3", "20250309T013000", "America/New_York", {},
        ["2025-03-09T01:30:00-05:00", "2025-03-09T03:30:00-04:00", "2025-03-10T01:30:00-04:00"],
    ),
    (
        "minutely through the fold: every half hour, six times from one to three",
        "FREQ=MINUTELY;INTERVAL=30;BYHOUR=1,2", "20261025T010000", "Europe/Berlin", {},
        [
            "2026-10-25T01:00:00+02:00", "2026-10-25T01:30:00+02:00", "2026-10-25T02:00:00+02:00",
            "2026-10-25T02:30:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T02:30:00+01:00", "2026-10-26T01:00:00+01:00",
        ],
    ),
    (
        "a chosen minute of a chosen hour comes in both passes of the fold",
        "FREQ=MINUTELY;BYHOUR=2;BYMINUTE=10", "20261025T020000", "Europe/Berlin", {},
        ["2026-10-25T02:10:00+02:00", "2026-10-25T02:10:00+01:00", "2026-10-26T02:10:00+01:00"],
    ),
    (
        "a chosen hour right after the gap is not missed",
        "FREQ=HOURLY;BYHOUR=3", "20260328T233000", "Europe/Berlin", {},
        ["2026-03-29T03:30:00+02:00", "2026-03-30T03:30:00+02:00"],
    ),
    (
        "half an hour's fold: whole hours stay whole hours",
        "FREQ=HOURLY;BYHOUR=5;BYMINUTE=0", "20260404T000000", "Australia/Lord_Howe", {},
        ["2026-04-04T05:00:00+11:00", "2026-04-05T05:00:00+10:30", "2026-04-06T05:00:00+10:30"],
    ),
    (
        "two hours are two hours, so the local hour shifts with the clock",
        "FREQ=HOURLY;INTERVAL=2", "20260329T010000", "Europe/Berlin", {},
        ["2026-03-29T01:00:00+01:00", "2026-03-29T04:00:00+02:00", "2026-03-29T06:00:00+02:00"],
    ),
    (
        "half an hour's gap: only times in it are left out",
        "FREQ=DAILY;BYHOUR=2;BYMINUTE=15,45", "20261003T021500", "Australia/Lord_Howe", {},
        [
            "2026-10-03T02:15:00+10:30", "2026-10-03T02:45:00+10:30", "2026-10-04T02:45:00+11:00", "2026-10-05T02:15:00+11:00",
        ],
    ),
    (
        "half an hour's fold: only times in it are doubled, and the first counts",
        "FREQ=DAILY;BYHOUR=1;BYMINUTE=15,45", "20260405T011500", "Australia/Lord_Howe", {},
        ["2026-04-05T01:15:00+11:00", "2026-04-05T01:45:00+11:00", "2026-04-06T01:15:00+10:30"],
    ),
    (
        "half an hour's fold: minutes of the hour, by the local clock",
        "FREQ=HOURLY;BYMINUTE=0,40", "20260405T010000", "Australia/Lord_Howe", {},
        [
            "2026-04-05T01:00:00+11:00", "2026-04-05T01:40:00+11:00", "2026-04-05T01:40:00+10:30", "2026-04-05T02:00:00+10:30",
        ],
    ),
    (
        "Morocco puts its clocks back for Ramadan, and forward after it",
        "FREQ=DAILY", "20260321T023000", "Africa/Casablanca", {},
        ["2026-03-21T02:30:00+00:00", "2026-03-23T02:30:00+01:00"],
    ),
    (
        "Samoa had no 30 December 2011: a daily rule skips the day and does not count it",
        "FREQ=DAILY;COUNT=3", "20111229T120000", "Pacific/Apia", {},
        ["2011-12-29T12:00:00-10:00", "2011-12-31T12:00:00+14:00", "2012-01-01T12:00:00+14:00", "end"],
    ),
    (
        "Samoa: the next Friday is a week later",
        "FREQ=WEEKLY", "20111223T120000", "Pacific/Apia", {},
        ["2011-12-23T12:00:00-10:00", "2012-01-06T12:00:00+14:00"],
    ),
    (
        "Samoa: hours go on through the missing day",
        "FREQ=HOURLY;INTERVAL=12", "20111229T120000", "Pacific/Apia", {},
        ["2011-12-29T12:00:00-10:00", "2011-12-31T00:00:00+14:00", "2011-12-31T12:00:00+14:00"],
    ),
    (
        "Brazil's midnight did not exist: the day has no midnight run",
        "FREQ=DAILY", "20181103T000000", "America/Sao_Paulo", {},
        ["2018-11-03T00:00:00-03:00", "2018-11-05T00:00:00-02:00"],
    ),
    (
        "Brazil's last hour came twice",
        "FREQ=DAILY", "20180216T233000", "America/Sao_Paulo", {},
        ["2018-02-16T23:30:00-02:00", "2018-02-17T23:30:00-02:00", "2018-02-18T23:30:00-03:00"],
    ),
    (
        "Brazil: a day chosen by date begins an hour late, at one",
        "FREQ=HOURLY;BYMONTHDAY=4;BYMONTH=11", "20181101T000000", "America/Sao_Paulo", {},
        ["2018-11-04T01:00:00-02:00", "2018-11-04T02:00:00-02:00"],
    ),
    (
        "UNTIL is an instant, and inclusive",
        "FREQ=DAILY;UNTIL=20260330T070000Z", "20260328T090000", "Europe/Berlin", {},
        ["2026-03-28T09:00:00+01:00", "2026-03-29T09:00:00+02:00", "2026-03-30T09:00:00+02:00", "end"],
    ),
    (
        "UNTIL one second earlier ends it earlier",
        "FREQ=DAILY;UNTIL=20260330T065959Z", "20260328T090000", "Europe/Berlin", {},
        ["2026-03-28T09:00:00+01:00", "2026-03-29T09:00:00+02:00", "end"],
    ),
    (
        "Monrovia ran 44 minutes and 30 seconds late until 1972",
        "FREQ=HOURLY;BYMINUTE=0;BYSECOND=0", "19720106T220000", "Africa/Monrovia", {},
        [
            "1972-01-06T22:00:00-00:44:30", "1972-01-06T23:00:00-00:44:30", "1972-01-07T01:00:00+00:00",
            "1972-01-07T02:00:00+00:00",
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "start", "zone", "more", "expected"), [row[1:] for row in CLOCKS], ids=[row[0] for row in CLOCKS]
)
def test_runs_where_clocks_change(rule: str, start: str, zone: str, more: dict[str, Any], expected: list[str]) -> None:
    """
    One row per decision; in one pass, and asked one by one.
    """
    recurrence = Recurrence(rule, start, tz=zone, **more)
    wanted = [time for time in expected if time != "end"]
    asked = len(wanted) + (expected[-1] == "end")

    assert runs(recurrence, asked) == wanted
    assert chained(recurrence, asked) == wanted


CALENDAR: list[tuple[str, str, str, dict[str, Any], str]] = [
    ("the last workday", "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", "20260101", {}, "0130 0227 0331 0430"),
    (
        "second and second to last workday",
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=2,-2",
        "20260101",
        {},
        "0102 0129 0203 0226",
    ),
    ("a position beyond the set", "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=5", "20260101", {}, "0330 0629 0831 1130"),
    ("positions count in the whole week", "FREQ=WEEKLY;BYDAY=MO,WE,FR;BYSETPOS=1", "20260107", {}, "0112 0119 0126"),
    ("the 31st", "FREQ=MONTHLY", "20260131", {}, "0131 0331 0531 0731 0831 1031 1231"),
    ("the last day", "FREQ=MONTHLY;BYMONTHDAY=-1", "20260131", {}, "0131 0228 0331 0430"),
    ("the first Monday", "FREQ=MONTHLY;BYDAY=1MO", "20260101", {}, "0105 0202 0302 0406"),
    ("Friday the 13th", "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", "20260101", {}, "0213 0313 1113"),
    (
        "every other week, Monday first",
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=SU,TU;WKST=MO",
        "20260106",
        {},
        "0106 0111 0120 0125",
    ),
    (
        "every other week, Sunday first",
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=SU,TU;WKST=SU",
        "20260106",
        {},
        "0106 0118 0120 0201",
    ),
    ("DTSTART off the rule is no run", "FREQ=WEEKLY;BYDAY=MO;COUNT=2", "20260101", {}, "0105 0112 end"),
    ("every third day", "FREQ=DAILY;INTERVAL=3", "20260130", {}, "0130 0202 0205"),
    ("the 100th day", "FREQ=YEARLY;BYYEARDAY=100,-1", "20260101", {}, "0410 1231"),
    ("the 20th week's weekday of DTSTART", "FREQ=YEARLY;BYWEEKNO=20", "20260101", {}, "0514"),
    ("the last Friday of November", "FREQ=YEARLY;BYMONTH=11;BYDAY=-1FR", "20260101", {}, "1127"),
    ("the 20th Monday", "FREQ=YEARLY;BYDAY=20MO", "20260101", {}, "0518"),
    ("excluded DTSTART", "FREQ=DAILY", "20260101", {"exdates": ["20260101T090000Z"]}, "0102 0103"),
    (
        "COUNT counts what is excluded",
        "FREQ=DAILY;COUNT=3",
        "20260101",
        {"exdates": ["20260102T090000Z"]},
        "0101 0103 end",
    ),
    (
        "an exclusion off the rule does nothing",
        "FREQ=DAILY;COUNT=2",
        "20260101",
        {"exdates": ["20260102T090001Z"]},
        "0101 0102 end",
    ),
    (
        "an addition on the rule is one run",
        "FREQ=DAILY;COUNT=2",
        "20260101",
        {"rdates": ["20260102T090000Z"]},
        "0101 0102 end",
    ),
    (
        "an addition before, one after",
        "FREQ=DAILY;COUNT=1",
        "20260105",
        {"rdates": ["20260107T010000Z", "20260103T010000Z"]},
        "0103 0105 0107 end",
    ),
    (
        "an addition that is excluded",
        "FREQ=DAILY;COUNT=1",
        "20260105",
        {"rdates": ["20260107T010000Z"], "exdates": ["20260107T010000Z"]},
        "0105 end",
    ),
    (
        "two rules, a common run once",
        "FREQ=DAILY;BYMONTHDAY=13\nRRULE:FREQ=WEEKLY;BYDAY=FR",
        "20260201",
        {},
        "0206 0213 0220 0227 0306 0313",
    ),
    (
        "two rules, each with its count",
        "FREQ=DAILY;COUNT=2\nFREQ=MONTHLY;COUNT=2",
        "20260130",
        {},
        "0130 0131 0330 end",
    ),
    ("each day of a month", "FREQ=DAILY;BYMONTH=3", "20260101", {}, "0301 0302 0303"),
    ("every other day of a month", "FREQ=DAILY;INTERVAL=2;BYMONTH=3", "20260101", {}, "0302 0304"),
    ("a filter of daily ones", "FREQ=DAILY;BYMONTH=3;BYDAY=TU", "20260101", {}, "0303 0310 0317"),
    ("hours on chosen days of the year", "FREQ=HOURLY;INTERVAL=24;BYYEARDAY=-1,60", "20260101", {}, "0301 1231"),
    (
        "the last minute of the hour that matches",
        "FREQ=HOURLY;BYMINUTE=0,20;BYSETPOS=-1;BYHOUR=9;BYMONTHDAY=2",
        "20260101",
        {},
        "0102 0202",
    ),
]


@pytest.mark.parametrize(
    ("rule", "day", "more", "expected"), [row[1:] for row in CALENDAR], ids=[row[0] for row in CALENDAR]
)
def test_runs_by_the_calendar(rule: str, day: str, more: dict[str, Any], expected: str) -> None:
    """
    Dates in 2026 of runs from nine o'clock in UTC on.
    """
    recurrence = Recurrence(rule, f"{day}T090000Z", **more)
    asked = expected.split()

    assert expected == " ".join(
        [datetime.fromisoformat(run).strftime("%m%d") for run in runs(recurrence, len(asked))]
        + (["end"] if asked[-1] == "end" else [])
    )


def test_leap_days_come_where_there_are_any() -> None:
    """
    29 February, from far away too; and not in 2100.
    """
    leap = Recurrence("FREQ=YEARLY", "20240229T090000Z")
    daily = Recurrence("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29", "20240229T090000Z")

    assert runs(leap, 3) == ["2024-02-29T09:00:00+00:00", "2028-02-29T09:00:00+00:00", "2032-02-29T09:00:00+00:00"]
    assert runs(leap, 2, "2096-01-01T00:00:00Z") == ["2096-02-29T09:00:00+00:00", "2104-02-29T09:00:00+00:00"]
    assert runs(daily, 2, "2096-01-01T00:00:00Z") == runs(leap, 2, "2096-01-01T00:00:00Z")


def test_first_includes_and_next_after_excludes_the_reference() -> None:
    """
    The ancestor's cases: daily from 1 January; its first day excluded; three runs and a later reference.
    """
    day = [datetime(2026, 1, n, 9, tzinfo=UTC) for n in range(1, 12)]
    daily = Recurrence("FREQ=DAILY", day[0])
    late = Recurrence("FREQ=DAILY", day[0], exdates=[day[0]])
    three = Recurrence("FREQ=DAILY;COUNT=3", day[0])

    assert (daily.first(day[0]), daily.next_after(day[0]), daily.next_after(day[4])) == (day[0], day[1], day[5])
    assert (late.first(day[0]), late.first()) == (day[1], day[1])
    assert (three.first(day[9]), three.next_after(day[2]), three.next_after(day[1])) == (None, None, day[2])
    assert daily.first(day[0] - timedelta(days=900)) == day[0]
    assert daily.first(day[0] + timedelta(microseconds=1)) == day[1]


def test_per_second_rule_runs_each_second_and_ends_at_its_count() -> None:
    """
    Twenty runs from DTSTART; the ancestor's example.
    """
    recurrence = Recurrence("FREQ=SECONDLY;COUNT=20", "20260101T090000Z")
    found = list(recurrence.runs())

    assert found == [datetime(2026, 1, 1, 9, 0, second, tzinfo=UTC) for second in range(20)]
    assert recurrence.next_after(found[-2]) == found[-1]
    assert recurrence.next_after(found[-1]) is None


@pytest.mark.parametrize(
    ("rule", "count"),
    [("FREQ=DAILY", 40), ("FREQ=HOURLY;BYHOUR=9,10", 40), ("FREQ=MINUTELY;INTERVAL=7", 40), ("FREQ=WEEKLY", 9)],
)
def test_count_ends_alike_from_the_start_and_from_the_middle(rule: str, count: int) -> None:
    """
    Counted from DTSTART on, wherever one begins to ask.
    """
    endless = Recurrence(rule, "20260310T023000", tz="Europe/Berlin")
    ending = Recurrence(f"{rule};COUNT={count}", "20260310T023000", tz="Europe/Berlin")
    expected = list(islice(endless.runs(), count))

    assert list(ending.runs()) == expected
    assert list(Recurrence.from_data(ending.to_data()).runs(expected[count // 2])) == expected[count // 2 :]


def test_cron_with_every_hour_runs_through_the_fold_and_chosen_hours_once() -> None:
    """
    ``*/30 * * * *`` does not pause for an hour in autumn; ``30 2 * * *`` runs once there, and not in the gap.
    """
    often, nightly = cron("*/30 * * * *", tz="Europe/Berlin"), cron("30 2 * * *", tz="Europe/Berlin")
    hour = runs(often, 5, "2026-10-25T00:00:00Z")

    assert [text[11:] for text in hour] == [
        "02:00:00+02:00",
        "02:30:00+02:00",
        "02:00:00+01:00",
        "02:30:00+01:00",
        "03:00:00+01:00",
    ]
    assert runs(nightly, 2, "2026-10-25T00:00:00Z") == ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]
    assert runs(nightly, 1, "2026-03-29T00:00:00Z") == ["2026-03-30T02:30:00+02:00"]
    assert len(runs(every(timedelta(minutes=30)), 3, "2026-10-25T00:00:00Z")) == 3
    assert runs(cron("0 0 13 * 5"), 3, "2026-02-10T00:00:00Z") == [
        f"2026-02-{day}T00:00:00+00:00" for day in (13, 20, 27)
    ]


def test_recurrence_at_the_end_of_the_calendar_ends() -> None:
    """
    The last years of datetime are no error, only the end.
    """
    for rule in (
        "FREQ=YEARLY",
        "FREQ=DAILY",
        "FREQ=SECONDLY",
        "FREQ=HOURLY;INTERVAL=100000000",
        "FREQ=WEEKLY;INTERVAL=100000000",
    ):
        recurrence = Recurrence(rule, "20260101T090000Z")
        assert recurrence.next_after(datetime.max.replace(tzinfo=UTC)) is None
        assert recurrence.first(datetime(9998, 1, 1, tzinfo=UTC)) is None
    assert Recurrence("FREQ=YEARLY", "00010101T090000Z").first(datetime.min.replace(tzinfo=UTC)) == datetime(
        1, 1, 1, 9, tzinfo=UTC
    )


def test_the_first_minute_behind_a_gap_is_a_run() -> None:
    """
    In St. John's clocks went from 00:01 to 01:01: a jump to one o'clock must not pass by 01:01.
    """
    made = Recurrence("FREQ=MINUTELY;BYHOUR=1;BYMINUTE=1", "2011-03-12T00:00:00", tz="America/St_Johns")

    assert [f"{run:%m-%d %H:%M}" for run in islice(made.runs(), 3)] == ["03-12 04:31", "03-13 03:31", "03-14 03:31"]
