"""
The cost of a recurrence: whatever the text says, each answer takes less than 0.2 seconds of CPU.
"""

from __future__ import annotations

import operator
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gcp_oncetask.errors import RecurrenceError
from gcp_oncetask.tasks.recurrence import Recurrence, advance, cron, explain
from gcp_oncetask.tasks.recurrence.rule import WEEKDAYS

MORE = int(os.environ.get("RECURRENCE_EXAMPLES", "1"))
LIMIT = 0.2
"""Seconds of CPU for one answer, on a core by itself."""
NOW = datetime(2040, 5, 5, 12, tzinfo=UTC)
END = datetime.max.replace(tzinfo=UTC)
BERLIN: dict[str, Any] = {"dtstart": "2026-01-01T09:00:00", "tz": "Europe/Berlin"}
EVERY_SECOND = ";".join(
    f"{name}={','.join(map(str, range(count)))}" for name, count in (("BYHOUR", 24), ("BYMINUTE", 60), ("BYSECOND", 60))
)


QUESTIONS: dict[str, Callable[[Recurrence], Any]] = {
    "the next run": lambda one: one.next_after(NOW),
    "the next run in 9000": lambda one: one.next_after(datetime(9000, 1, 1, tzinfo=UTC)),
    "the run after the last instant": lambda one: one.next_after(END),
    "the first one due": lambda one: one.first_due(NOW),
    "ten runs in a row": lambda one: list(islice(one.runs(NOW), 10)),
    "an explanation": lambda one: explain(one, 10, NOW),
    "an advance": lambda one: advance(one, NOW - timedelta(days=30), NOW),
}


def answer(call: Callable[[], Any], what: str) -> Any:
    """
    What *call* returns, or the RecurrenceError that it raises; measured, and once more if it took too long: others may be busy.
    """
    spent: list[float] = []
    while len(spent) < 3:
        begin = time.process_time()
        try:
            found = call()
        except RecurrenceError as error:
            found = error
        spent.append(time.process_time() - begin)
        if spent[-1] < LIMIT:
            return found
    # A core that shares its units with a busy one takes up to twice as long.
    assert min(spent) < 2 * LIMIT, f"{what} took {min(spent):.2f} s of CPU"
    return found


def ask_everything(make: Callable[[], Recurrence], text: str) -> Recurrence | RecurrenceError:
    """
    Make a recurrence, and ask each question that a generator or a person asks of one that was just read.
    """
    shown = f"{text[:200]!r} ({len(text)} characters)"
    made: Any = answer(make, f"making {shown}")
    if isinstance(made, RecurrenceError):
        assert made.field in ("rrule", "cron", "tz", "dtstart"), made
        assert len(str(made)) < 600
        assert str(made).endswith((".", "?", "]"))
        return made
    assert isinstance(made, Recurrence)
    data = made.to_data()
    for asked, question in QUESTIONS.items():
        one = Recurrence.from_data(data)
        found = answer(partial(question, one), f"{asked} of {shown}")
        assert not isinstance(found, RecurrenceError)
    return made


def ten(rule: Callable[[int], str]) -> str:
    """
    Ten rules of one text.
    """
    return "\n".join(rule(n) for n in range(10))


def up_to(low: int, high: int) -> str:
    """
    A list of numbers.
    """
    return ",".join(map(str, range(low, high + 1)))


NEVER = [
    "FREQ=DAILY;BYSETPOS=2;BYMONTH=1",
    "FREQ=WEEKLY;BYDAY=MO;BYSETPOS=2",
    "FREQ=WEEKLY;BYDAY=MO,TU;BYSETPOS=3,-3",
    ten(lambda n: f"FREQ=MONTHLY;BYDAY=MO;BYSETPOS={6 + n}"),
    ten(lambda n: f"FREQ=YEARLY;BYDAY=MO;BYSETPOS={60 + n}"),
    ten(lambda n: f"FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30,31;BYSETPOS={1 + n}"),
    ten(lambda n: f"FREQ=DAILY;INTERVAL={7 * (n + 1)};BYDAY=MO"),
    ten(lambda n: f"FREQ=YEARLY;INTERVAL={n + 1};BYMONTH=2;BYMONTHDAY=30"),
    "FREQ=YEARLY;BYWEEKNO=53;BYMONTH=6",
    "FREQ=HOURLY;BYYEARDAY=3,4,5,6,7,8,9,10,11,12;BYMONTH=5",
    "FREQ=HOURLY;INTERVAL=24;BYHOUR=5;BYYEARDAY=3,4,5,6,7,8,9,10,11,12",
    ten(lambda n: f"FREQ=SECONDLY;INTERVAL={2 * (n + 1)};BYSECOND=1"),
    ten(lambda n: f"FREQ=SECONDLY;INTERVAL=336;BYDAY=MO;BYHOUR={n};BYMINUTE=0;BYSECOND={up_to(1, 47)}"),
    "FREQ=MINUTELY;BYSETPOS=2;BYSECOND=0",
    # In Berlin these are times that do not exist.
    f"FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU;BYHOUR=2;BYMINUTE={up_to(0, 59)};BYSECOND={up_to(0, 59)}",
    ten(lambda n: f"FREQ=DAILY;INTERVAL=7;BYMONTH=3;BYMONTHDAY={up_to(25, 31)};BYDAY=SU;BYHOUR=2;BYMINUTE={n}"),
    f"FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU;BYHOUR=2;BYMINUTE={up_to(0, 59)};BYSECOND={up_to(0, 59)};BYSETPOS={up_to(1, 366)}",
]
RARE = [
    "FREQ=WEEKLY;INTERVAL=773;BYMONTH=5;BYDAY=MO,TU;BYSETPOS=2",
    "FREQ=SECONDLY;INTERVAL=86399;BYHOUR=8;BYMINUTE=0;BYSECOND=0",
    ten(lambda n: f"FREQ=MINUTELY;INTERVAL=1439;BYHOUR=5;BYMINUTE={n}"),
    ten(lambda n: f"FREQ=DAILY;INTERVAL=773;BYMONTH=1;BYMONTHDAY={5 + n}"),
    ten(lambda n: f"FREQ=HOURLY;INTERVAL=25;BYDAY=MO;BYMONTH=2;BYMONTHDAY=29;BYHOUR={n}"),
    ten(lambda n: f"FREQ=HOURLY;INTERVAL={99_999_990 + n};BYMONTH=1"),
    ten(lambda n: f"FREQ=DAILY;INTERVAL={n + 1};{EVERY_SECOND}"),
    ten(lambda n: f"FREQ=HOURLY;INTERVAL={n + 1};{EVERY_SECOND}"),
    f"FREQ=MINUTELY;BYSECOND={up_to(0, 59)};BYSETPOS=5,-5;COUNT=10000",
    "FREQ=HOURLY;BYHOUR=5;COUNT=10000",
    "FREQ=YEARLY;COUNT=10000",
    "FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=-1;COUNT=10000",
    ten(lambda n: f"FREQ=DAILY;COUNT=1000;BYHOUR={n}"),
    "FREQ=HOURLY;COUNT=1000000000",
    "FREQ=DAILY;BYHOUR=" + ",".join(["7"] * 4500),
    "\n".join(["FREQ=DAILY"] * 900),
]


@pytest.mark.parametrize("rule", NEVER)
def test_rule_that_never_matches_is_refused_at_once(rule: str) -> None:
    """
    Parts that exclude each other, positions beyond each set, intervals that step over what is chosen, times in gaps alone.
    """
    refused = ask_everything(lambda: Recurrence(rule, **BERLIN), rule)

    assert isinstance(refused, RecurrenceError)
    assert "never fires" in str(refused)


@pytest.mark.parametrize("rule", RARE)
def test_rule_with_rare_or_very_many_runs_answers_at_once(rule: str) -> None:
    """
    Runs decades apart, 86,400 a day, and counts that must be counted.
    """
    assert isinstance(ask_everything(lambda: Recurrence(rule, **BERLIN), rule), Recurrence)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("FREQ=DAILY;BYHOUR=" + "1," * 5000, "has 10018 characters; it takes at most 10000"),
        ("\n".join(f"FREQ=DAILY;BYHOUR={n}" for n in range(11)), "11 different rules; it takes at most 10"),
        ("FREQ=DAILY;COUNT=6000\nFREQ=WEEKLY;COUNT=6000", "adds up to 12000, more than 10000"),
        ("FREQ=DAILY;INTERVAL=" + "9" * 5000, "from 1 to 100000000"),
        ("FREQ=DAILY;BYHOUR=" + "9" * 5000, "(5000 characters); it is a list"),
        ("FREQ=DAILY;BYHOUR=\u0663", "it is a list of whole numbers"),
        ("FREQ=MONTHLY;BYDAY=\u0661MO", "it is a list of MO"),
        ("FREQ=DAILY;UNTIL=\u0662\u0660260101T000000Z", "an instant in UTC"),
        ("X" * 9000, "(9000 characters); the parts of a rule are"),
        ("FREQ=" + "DAILY" * 1000, "needs FREQ="),
        (";" * 9000, "the parts of a rule are"),
        ("FREQ=DAILY;BYHOUR=" + "," * 9000, "has ''; it is a list"),
    ],
)
def test_absurd_rule_is_refused_in_a_short_sentence(rule: str, words: str) -> None:
    """
    A value of thousands of characters is shown by its beginning.
    """
    refused = ask_everything(lambda: Recurrence(rule, **BERLIN), rule)

    assert isinstance(refused, RecurrenceError)
    assert words in str(refused)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("*/90 * * * *", "has '*/90' as minute; it takes 0 to 59"),
        ("*/90 * * * *", "A step is a number from 1 to 60."),
        ("* */25 * * *", "has '*/25' as hour"),
        ("0 0 */32 * *", "has '*/32' as day of month; it takes 1 to 31"),
        ("0 0 1 */13 *", "has '*/13' as month; it takes 1 to 12, JAN to DEC"),
        ("0 0 * * */8", "A step is a number from 1 to 7."),
        ("*/0 * * * *", "A step is a number from 1 to 60."),
        (f"*/{'9' * 5000} * * * *", "as minute; it takes 0 to 59"),
        (f"{'1' * 5000} * * * *", "(5000 characters) as minute; it takes 0 to 59"),
        (f"{'0' * 5000}60 * * * *", "as minute; it takes 0 to 59"),
        (f"* {'1,' * 2000}24 * * *", "has '24' as hour; it takes 0 to 23"),
        ("60 * * * *", "has '60' as minute"),
        ("\u0663 * * * *", "as minute; it takes 0 to 59"),
        ("*-5 * * * *", "has '*-5' as minute"),
        ("5-3 * * * *", "A range ends after it begins: write two, with a comma."),
        ("0 0 * * SAT-MON", "A range ends after it begins: write two, with a comma."),
        ("0 0 * * 5-0", "has '5-0' as day of week; it takes 0 to 7 (0 and 7 are Sunday), SUN to SAT"),
        ("0 0 * * FREITAG", "has 'FREITAG' as day of week"),
        ("0 0 * MAI *", "has 'MAI' as month"),
        ("1,,2 * * * *", "has '' as minute"),
        ("0 0 0 * *", "has '0' as day of month; it takes 1 to 31"),
        ("@reboot", "is none of @yearly"),
        ("* " * 4000, "has 4000 fields; it needs five"),
        ("*" * 9000 + " * * * *", "as minute"),
        ("* * * * " + "MON-FRI," * 1300, "it takes at most 10000"),
        ("0 0 31 2 *", "never fires"),
        ("0 0 30,31 FEB *", "never fires"),
    ],
)
def test_bad_cron_field_is_named_with_its_range(line: str, words: str) -> None:
    """
    One sentence: which field, what stands there (shortened), and what it takes.
    """
    refused = ask_everything(lambda: cron(line), line)

    assert isinstance(refused, RecurrenceError)
    assert refused.field == "cron"
    assert words in str(refused)


@pytest.mark.parametrize(
    ("weekdays", "same"),
    [
        ("FRI-SUN", "5,6,0"),
        ("fri-sun", "5-7"),
        ("SUN-TUE", "0-2"),
        ("SUN-SUN", "0"),
        ("SUN", "7"),
        ("MON-SUN/2", "1,3,5,7"),
    ],
)
def test_range_of_weekdays_may_end_with_sunday(weekdays: str, same: str) -> None:
    """
    As the end of a range SUN is the seventh day, as its beginning the first.
    """
    assert cron(f"0 0 * * {weekdays}") == cron(f"0 0 * * {same}")


def test_step_as_large_as_its_field_is_taken() -> None:
    """
    ``*/60`` is written by many for once an hour.
    """
    assert cron("*/60 * * * *") == cron("0 * * * *")
    assert cron("0 */24 * * *") == cron("0 0 * * *")


def test_many_runs_that_a_gap_leaves_out_are_told_of_in_few_lines() -> None:
    """
    3,600 in one night: ten lines, and the next run after them. Years of them end with a line that says so.
    """
    seconds = f"BYHOUR=2;BYMINUTE={up_to(0, 59)};BYSECOND={up_to(0, 59)}"
    night = Recurrence(f"FREQ=DAILY;{seconds}", **BERLIN)
    lines = explain(night, 1, datetime(2026, 3, 28, 3, tzinfo=UTC))
    years = Recurrence(f"FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU;{seconds}", **BERLIN, rdates=["99000101T000000"])
    told = explain(years, 2, NOW)

    assert [line.endswith("no run") for line in lines] == [True] * 10 + [False]
    assert lines[-1].startswith("2026-03-30 02:00:00")
    assert len(told) <= 1002
    assert told[-1].startswith(("and so on", "then it ends", "9900-01-01"))


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    """
    Lists of a BY part, short and long, now and then out of range.
    """
    within = st.integers(low, high).map(str)
    texts = (
        within
        | st.integers(-high, high).map(str)
        | st.sampled_from(["", "x", "+1", str(10**30), "\u0663", str(high + 1)])
    )
    return st.one_of(
        st.lists(within, min_size=1, max_size=4),
        st.lists(within, min_size=30, max_size=120),
        st.lists(texts, min_size=1, max_size=3),
        st.just([str(n) for n in range(low, high + 1)]),
    ).map(",".join)


VALUES: dict[str, st.SearchStrategy[str]] = {
    "INTERVAL": st.sampled_from(
        ["1", "2", "7", "24", "25", "59", "366", "773", "1439", "86399", "86400", "99999999", "0", "9" * 400]
    ),
    "COUNT": st.sampled_from(["1", "17", "1000", "10000", "999999999"]),
    "UNTIL": st.sampled_from(["20260301T000000Z", "20990301T000000Z", "99991231T235959Z", "00010101T000000Z", "2026"]),
    "BYSETPOS": numbers(1, 366),
    "BYSECOND": numbers(0, 59),
    "BYMINUTE": numbers(0, 59),
    "BYHOUR": numbers(0, 23),
    "BYMONTHDAY": numbers(1, 31),
    "BYYEARDAY": numbers(1, 366),
    "BYWEEKNO": numbers(1, 53),
    "BYMONTH": numbers(1, 12),
    "BYDAY": st.lists(
        st.builds(operator.add, st.sampled_from(["", "", "1", "-1", "5", "53"]), st.sampled_from(WEEKDAYS)),
        min_size=1, max_size=4,
    ).map(",".join),
    "WKST": st.sampled_from(["MO", "SU", "XX"]),
}  # fmt: skip


@st.composite
def rules(draw: Any) -> str:
    """
    Texts of up to ten rules, valid and not, with extreme numbers.
    """
    lines = []
    for _ in range(draw(st.sampled_from([1, 1, 1, 1, 2, 10]))):
        freq = draw(st.sampled_from(["SECONDLY", "MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"]))
        names = draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=5, unique=True))
        lines.append(";".join([f"FREQ={freq}", *(f"{name}={draw(VALUES[name])}" for name in names)]))
    return "\n".join(lines * draw(st.sampled_from([1, 1, 1, 3])))[:10_050]


@settings(
    max_examples=100 * MORE,
    deadline=None,
    derandomize=MORE == 1,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(rules(), st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Casablanca"]))
def test_any_rule_answers_within_its_limit(rule: str, zone: str) -> None:
    """
    A recurrence that answers everything, or an error that names the field.
    """
    ask_everything(lambda: Recurrence(rule, "2026-01-01T09:00:00", tz=zone), rule)


WORDS = st.sampled_from(
    [
        "*",
        "0",
        "1",
        "59",
        "60",
        "7",
        "MON",
        "sun",
        "FEB",
        "*/7",
        "1-5",
        "5-1",
        "FRI-SUN",
        "*/90",
        "1" * 5000,
        "",
        "L",
        "2#1",
        "\u0663",
        "?",
    ]
)
FIELDS = st.one_of(
    st.just("*"),
    st.just("*"),
    st.lists(WORDS, min_size=1, max_size=3).map(",".join),
    st.lists(st.integers(0, 59).map(str), min_size=1, max_size=800).map(",".join),
    st.integers(0, 40).map("*/{}".format),
    st.integers(0, 31).map(str),
    st.text(max_size=20),
)  # fmt: skip


@settings(
    max_examples=100 * MORE,
    deadline=None,
    derandomize=MORE == 1,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    st.lists(FIELDS, min_size=5, max_size=5) | st.lists(FIELDS, max_size=7),
    st.sampled_from(["UTC", "Europe/Berlin", "x" * 300]),
)
def test_any_cron_line_answers_within_its_limit(fields: list[str], zone: str) -> None:
    """
    Likewise.
    """
    line = " ".join(fields)
    ask_everything(lambda: cron(line, tz=zone), line)
