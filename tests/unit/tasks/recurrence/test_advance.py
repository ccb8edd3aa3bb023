"""
What a generator does when it is due, what that costs, and how runs are explained.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

import pytest

from gcp_oncetask.cli import main
from gcp_oncetask.errors import RecurrenceError
from gcp_oncetask.tasks.recurrence import (
    MISFIRE_GRACE,
    Advance,
    Recurrence,
    advance,
    cron,
    every,
    explain,
    occurrence_id,
)

DUE = datetime(2026, 1, 1, 9, tzinfo=UTC)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def daily(**more: Any) -> Recurrence:
    return Recurrence("FREQ=DAILY", DUE - 10 * DAY, **more)


@pytest.mark.parametrize("misfire", ["skip", "latest", "all"])
@pytest.mark.parametrize("late", [timedelta(0), SECOND, MISFIRE_GRACE])
def test_run_on_time_is_spawned_under_every_policy(misfire: Any, late: timedelta) -> None:
    """
    The ordinary case: one run is due, it is started, and the next one is tomorrow.
    """
    assert advance(daily(misfire=misfire), DUE, DUE + late) == Advance((DUE,), DUE + DAY, dropped=False)


# Policy, lateness, days of the runs spawned (0 is the one that was waited for), day of the next one, whether any was left out.
MISSED: list[tuple[dict[str, Any], timedelta, list[int], int, bool]] = [
    ({"misfire": "skip"}, MISFIRE_GRACE + SECOND, [], 1, True),
    ({"misfire": "latest"}, MISFIRE_GRACE + SECOND, [0], 1, False),
    ({"misfire": "all"}, MISFIRE_GRACE + SECOND, [0], 1, False),
    ({"misfire": "skip"}, 2 * DAY + timedelta(hours=3), [], 3, True),
    ({}, 2 * DAY + timedelta(hours=3), [2], 3, True),
    ({"misfire": "all"}, 2 * DAY + timedelta(hours=3), [0, 1, 2], 3, False),
    ({"misfire": "all", "misfire_limit": 3}, 2 * DAY + timedelta(hours=3), [0, 1, 2], 3, False),
    ({"misfire": "all", "misfire_limit": 2}, 2 * DAY + timedelta(hours=3), [1, 2], 3, True),
    # Exactly at the time of a run it has fallen due, and the next one is strictly later.
    ({"misfire": "skip"}, 2 * DAY, [2], 3, True),
    ({"misfire": "latest"}, 2 * DAY, [2], 3, True),
    ({"misfire": "latest"}, 2 * DAY - timedelta(microseconds=1), [1], 2, True),
    ({"misfire": "all"}, 2 * DAY, [0, 1, 2], 3, False),
    # An excluded day is no missed run.
    ({"misfire": "all", "exdates": [DUE + DAY]}, 2 * DAY, [0, 2], 3, False),
    ({"misfire": "latest", "exdates": [DUE + 2 * DAY]}, 2 * DAY, [1], 3, True),
]  # fmt: skip


@pytest.mark.parametrize(("policy", "late", "spawned", "following", "dropped"), MISSED)
def test_missed_runs_are_handled_as_the_policy_says(
    policy: dict[str, Any], late: timedelta, spawned: list[int], following: int, dropped: bool
) -> None:
    """
    After an outage: none, the newest, or the newest few; then the next time that is still to come.
    """
    assert advance(daily(**policy), DUE, DUE + late) == Advance(
        tuple(DUE + day * DAY for day in spawned), DUE + following * DAY, dropped=dropped
    )


def test_generator_ends_with_its_rule() -> None:
    """
    After the last run there is no next one: in time, late, and under a policy that leaves the last one out.
    """
    made = Recurrence("FREQ=DAILY;COUNT=3", DUE)
    skipping = Recurrence("FREQ=DAILY;UNTIL=20260103T090000Z", DUE, misfire="skip")

    assert advance(made, DUE + 2 * DAY, DUE + 2 * DAY) == Advance((DUE + 2 * DAY,), None, dropped=False)
    assert advance(made, DUE, DUE + 99 * DAY) == Advance((DUE + 2 * DAY,), None, dropped=True)
    assert advance(skipping, DUE, DUE + 99 * DAY) == Advance((), None, dropped=True)


def test_generator_that_is_early_spawns_nothing_and_goes_on_waiting() -> None:
    """
    A delivery before its time, or a second one after the generator moved on.
    """
    assert advance(daily(), DUE, DUE - SECOND) == Advance((), DUE, dropped=False)


def test_deciding_again_after_a_crash_gives_the_same_ids() -> None:
    """
    Spawned and died before moving on: the same occurrence, whatever zone the clock of the second process is in.
    """
    berlin = Recurrence("FREQ=DAILY", "20251201T100000", tz="Europe/Berlin")
    first = advance(berlin, DUE, DUE + SECOND).spawn
    again = advance(Recurrence.from_data(berlin.to_data()), DUE.astimezone(berlin.zone), DUE + timedelta(hours=5)).spawn

    assert [occurrence_id("report", run) for run in first] == ["report_occ_2026-01-01T09:00:00Z"]
    assert [occurrence_id("report", run.astimezone(berlin.zone)) for run in again] == [
        "report_occ_2026-01-01T09:00:00Z"
    ]


def test_generator_stepped_through_a_year_spawns_each_run_once() -> None:
    """
    Advanced whenever it is due, in the time zone with both changes of clocks, it spawns exactly the runs of the rule.
    """
    recurrence = Recurrence("FREQ=DAILY;BYHOUR=2,14;BYMINUTE=30", "20260101T023000", tz="Europe/Berlin", misfire="all")
    due, spawned = recurrence.first(), []
    while due is not None and due < datetime(2027, 1, 1, tzinfo=UTC):
        step = advance(recurrence, due, due + timedelta(seconds=3))
        spawned += step.spawn
        due = step.next
    expected = list(takewhile(lambda run: run < datetime(2027, 1, 1, tzinfo=UTC), recurrence.runs()))

    assert len(expected) == 365 * 2 - 1
    assert spawned == expected


def lines(work: Callable[[], Any]) -> int:
    """
    Lines of Python that *work* executes, in libraries too: its cost, the same on every machine.
    """
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


ALL = ",".join(map(str, range(60)))
ENDLESS = [
    "FREQ=SECONDLY",
    "FREQ=SECONDLY;COUNT=1000000000",
    "FREQ=SECONDLY;INTERVAL=7;BYHOUR=9;BYMINUTE=0;BYSECOND=0",
    "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=29;BYHOUR=3;BYMINUTE=4;BYSECOND=5",
    "FREQ=MINUTELY;INTERVAL=5",
    f"FREQ=HOURLY;BYMINUTE={ALL};BYSECOND={ALL}",
    f"FREQ=DAILY;BYMINUTE={ALL};BYSECOND={ALL}",
    "FREQ=DAILY",
    "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29",
    "FREQ=WEEKLY;BYDAY=MO,FR",
    "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
    "FREQ=MONTHLY;BYMONTHDAY=31",
    "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29",
]


@pytest.mark.parametrize("rule", ENDLESS)
def test_making_and_advancing_cost_little_however_long_the_rule_runs(rule: str) -> None:
    """
    Counted in lines of Python (a million take about a tenth of a second): making one, its next run after 25 years, and an
    advance after a month's outage, which for a per-second rule left out 2,592,000 runs.
    """
    now = datetime(2026, 3, 1, 9, 0, 0, tzinfo=UTC)

    def made(**more: Any) -> Recurrence:
        return Recurrence(rule, "20010101T090000", tz="Europe/Berlin", **more)

    recurrence = made()
    young = Recurrence(rule, "20251201T090000", tz="Europe/Berlin")
    fresh, late = lines(lambda: young.next_after(now)), lines(lambda: recurrence.next_after(now))

    assert lines(made) < 12_000
    assert late < 12_000
    assert late < 1.5 * fresh + 500
    assert lines(lambda: advance(recurrence, now - 30 * DAY, now)) < 60_000
    assert lines(lambda: advance(made(misfire="skip"), now - 30 * DAY, now)) < 60_000
    assert lines(lambda: advance(made(misfire="all", misfire_limit=10), now - 30 * DAY, now)) < 250_000


def test_outage_of_a_per_second_rule_costs_what_a_short_one_does() -> None:
    """
    A month or a year of missed seconds: the newest is found by halving.
    """
    recurrence, now = Recurrence("FREQ=SECONDLY", "20010101T000000Z"), DUE + 0.5 * SECOND
    hour, year = (lines(lambda at=now - gone: advance(recurrence, at, now)) for gone in (timedelta(hours=1), 365 * DAY))

    assert advance(recurrence, now - 365 * DAY, now) == Advance((DUE,), DUE + SECOND, dropped=True)
    assert year <= hour + 200


def test_explain_says_what_happens_where_clocks_change() -> None:
    """
    Skipped, moved, first, second, excluded, ended.
    """
    assert explain(Recurrence("FREQ=DAILY", "20260328T023000", tz="Europe/Berlin", exdates=["20260331T023000"]), 3) == [
        "2026-03-28 02:30:00 CET (2026-03-28T01:30:00Z)",
        "2026-03-29 02:30:00: 02:30 does not exist on this day (clocks go forward): no run",
        "2026-03-30 02:30:00 CEST (2026-03-30T00:30:00Z)",
        "2026-03-31 02:30:00 CEST (2026-03-31T00:30:00Z): excluded by EXDATE: no run",
        "2026-04-01 02:30:00 CEST (2026-04-01T00:30:00Z)",
    ]
    moved, end = explain(Recurrence("FREQ=DAILY;COUNT=1", "20260329T023000", tz="Europe/Berlin"), 3)
    assert moved.startswith("2026-03-29 03:30:00 CEST (2026-03-29T01:30:00Z): 02:30 does not exist on this day")
    assert moved.endswith("(clocks go forward): runs at 03:30 CEST")
    assert end == "then it ends"
    assert explain(Recurrence("FREQ=HOURLY;COUNT=3", "20261025T023000", tz="Europe/Berlin"), 3) == [
        "2026-10-25 02:30:00 CEST (2026-10-25T00:30:00Z): 02:30 happens twice (clocks go back): the first, CEST",
        "2026-10-25 02:30:00 CET (2026-10-25T01:30:00Z): 02:30 happens twice (clocks go back): the second, CET",
        "2026-10-25 03:30:00 CET (2026-10-25T02:30:00Z)",
    ]
    assert explain(Recurrence("FREQ=DAILY;COUNT=2", DUE), 5, DUE) == [
        "2026-01-02 09:00:00 UTC (2026-01-02T09:00:00Z)",
        "then it ends",
    ]
    assert explain(Recurrence("FREQ=DAILY;COUNT=2", DUE), 5, DUE + DAY) == ["it has ended"]
    with pytest.raises(RecurrenceError, match="1 at least"):
        explain(daily(), 0)


def test_explain_ends_with_the_rule_although_a_gap_follows() -> None:
    """
    A run that the rule would no longer have is not spoken of.
    """
    for end in ("COUNT=1", "UNTIL=20260328T120000Z"):
        made = Recurrence(f"FREQ=DAILY;{end}", "20260328T023000", tz="Europe/Berlin")
        assert explain(made, 9) == ["2026-03-28 02:30:00 CET (2026-03-28T01:30:00Z)", "then it ends"]
        assert explain(made, 9, DUE) == ["2026-03-28 02:30:00 CET (2026-03-28T01:30:00Z)", "then it ends"]
        assert explain(made, 9, datetime(2026, 3, 28, 2, tzinfo=UTC)) == ["it has ended"]
    two = Recurrence("FREQ=DAILY;COUNT=2", "20260327T023000", tz="Europe/Berlin")
    assert explain(two, 9, datetime(2026, 3, 27, 12, tzinfo=UTC)) == [
        "2026-03-28 02:30:00 CET (2026-03-28T01:30:00Z)",
        "then it ends",
    ]


def test_command_explains_without_any_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    """
    The twin on the command line: a rule or a cron line, runs after now or after a given time, errors with exit code 2.
    """
    rule = [
        "explain",
        "FREQ=DAILY",
        "--dtstart",
        "20260328T023000",
        "--tz",
        "Europe/Berlin",
        "--exdate",
        "20260330T023000",
    ]

    assert main([*rule, "--after", "20260328T000000Z", "-n", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "2026-03-28 02:30:00 CET (2026-03-28T01:30:00Z)",
        "2026-03-29 02:30:00: 02:30 does not exist on this day (clocks go forward): no run",
        "2026-03-30 02:30:00 CEST (2026-03-30T00:30:00Z): excluded by EXDATE: no run",
        "2026-03-31 02:30:00 CEST (2026-03-31T00:30:00Z)",
    ]
    assert main(["explain", "*/20 9 * * *", "--tz", "America/New_York", "-n", "4"]) == 0
    assert capsys.readouterr().out.count("09:") >= 4
    assert main(rule[:4]) == 2
    assert "give tz=" in capsys.readouterr().err
    assert main(["explain", "FREQ=DAILY"]) == 2
    assert "dtstart is missing" in capsys.readouterr().err
    assert main(["explain", "0 9 * * *", "--dtstart", "20260328T023000Z"]) == 2
    assert "A cron line has no --dtstart" in capsys.readouterr().err


def test_cron_and_every_advance_like_rules() -> None:
    """
    They are the same type: one function advances them.
    """
    assert advance(cron("0 9 * * *"), DUE, DUE + SECOND) == Advance((DUE,), DUE + DAY, dropped=False)
    assert advance(every(timedelta(minutes=5)), DUE, DUE + SECOND).next == DUE + timedelta(minutes=5)
