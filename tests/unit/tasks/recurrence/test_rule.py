"""
What is refused as a recurrence, and with which words; what is stored of one.
"""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gcp_oncetask.errors import RecurrenceError, UsageError
from gcp_oncetask.tasks.recurrence import Recurrence, advance, cron, every, explain, occurrence_id

START = "20260101T090000Z"
NAIVE = datetime(2026, 1, 1)

# Arguments of a Recurrence, the field that is named, and a part of the sentence.
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"rrule": ""}, "rrule", "like FREQ=DAILY"),
    ({"rrule": "  \n"}, "rrule", "rrule is empty"),
    ({"rrule": None}, "rrule", "rrule is empty"),
    ({"rrule": "every day"}, "rrule", "the parts of a rule are FREQ"),
    ({"rrule": "INTERVAL=2"}, "rrule", "needs FREQ="),
    ({"rrule": "FREQ=FORTNIGHTLY"}, "rrule", "WEEKLY, MONTHLY, YEARLY"),
    ({"rrule": "FREQ=DAILY;FREQ=WEEKLY"}, "rrule", "FREQ twice"),
    ({"rrule": "FREQ=DAILY;BYHOUR"}, "rrule", "BYHOUR in rrule has no value"),
    ({"rrule": "FREQ=DAILY;BYHOUR="}, "rrule", "BYHOUR in rrule has no value"),
    ({"rrule": "FREQ=DAILY;INTERVAL=0"}, "rrule", "INTERVAL=0 in rrule must be a whole number from 1"),
    ({"rrule": "FREQ=DAILY;INTERVAL=-1"}, "rrule", "INTERVAL=-1"),
    ({"rrule": "FREQ=DAILY;INTERVAL=1.5"}, "rrule", "INTERVAL=1.5"),
    ({"rrule": "FREQ=DAILY;COUNT=0"}, "rrule", "COUNT=0"),
    ({"rrule": "FREQ=DAILY;COUNT=10001"}, "rrule", "end such a rule with UNTIL"),
    ({"rrule": "FREQ=DAILY;COUNT=3;UNTIL=20270101T000000Z"}, "rrule", "both COUNT and UNTIL"),
    ({"rrule": "FREQ=DAILY;UNTIL=20270101"}, "rrule", "an instant in UTC, like 20261231T225959Z"),
    ({"rrule": "FREQ=DAILY;UNTIL=20270101T000000"}, "rrule", "an instant in UTC"),
    ({"rrule": "FREQ=DAILY;UNTIL=20271301T000000Z"}, "rrule", "UNTIL=20271301T000000Z"),
    ({"rrule": "FREQ=DAILY;BYHOUR=24"}, "rrule", "BYHOUR in rrule has 24; it takes 0 to 23"),
    ({"rrule": "FREQ=DAILY;BYSECOND=60"}, "rrule", "BYSECOND in rrule has 60"),
    ({"rrule": "FREQ=DAILY;BYMINUTE=-1"}, "rrule", "BYMINUTE in rrule has -1; it takes 0 to 59"),
    ({"rrule": "FREQ=MONTHLY;BYMONTHDAY=0"}, "rrule", "it takes 1 to 31, or from -31 to -1"),
    ({"rrule": "FREQ=MONTHLY;BYMONTHDAY=1,x"}, "rrule", "has 'X'; it is a list of whole numbers"),
    ({"rrule": "FREQ=WEEKLY;BYDAY=MON"}, "rrule", "has 'MON'; it is a list of MO"),
    ({"rrule": "FREQ=MONTHLY;BYDAY=54MO"}, "rrule", "has '54MO'"),
    ({"rrule": "FREQ=WEEKLY;BYDAY=1MO"}, "rrule", "needs FREQ=MONTHLY or YEARLY"),
    ({"rrule": "FREQ=WEEKLY;BYMONTHDAY=1"}, "rrule", "BYMONTHDAY in rrule can't stand beside FREQ=WEEKLY"),
    ({"rrule": "FREQ=MONTHLY;BYYEARDAY=1"}, "rrule", "BYYEARDAY in rrule can't stand beside FREQ=MONTHLY"),
    ({"rrule": "FREQ=DAILY;BYWEEKNO=1"}, "rrule", "it goes with YEARLY"),
    ({"rrule": "FREQ=MONTHLY;BYSETPOS=1"}, "rrule", "there is none"),
    ({"rrule": "FREQ=WEEKLY;WKST=XX"}, "rrule", "WKST=XX"),
    ({"rrule": "FREQ=YEARLY;RSCALE=CHINESE"}, "rrule", "'RSCALE'"),
    ({"rrule": "DTSTART:20260101T090000Z\nRRULE:FREQ=DAILY"}, "rrule", "give dtstart=, exdates=, rdates= and tz="),
    ({"rrule": "FREQ=DAILY;DTSTART=20260101T090000Z"}, "rrule", "give the start as dtstart="),
    # It can be read, and never fires.
    ({"rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"}, "rrule", "never fires"),
    ({"rrule": "FREQ=DAILY;BYMONTH=4;BYMONTHDAY=31"}, "rrule", "never fires"),
    ({"rrule": "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30"}, "rrule", "never fires"),
    ({"rrule": "FREQ=SECONDLY;INTERVAL=2;BYSECOND=1"}, "rrule", "never fires"),
    ({"rrule": "FREQ=YEARLY;INTERVAL=4;BYMONTH=2;BYMONTHDAY=29"}, "rrule", "never fires"),
    ({"rrule": "FREQ=HOURLY;INTERVAL=24;BYHOUR=5"}, "rrule", "never fires"),
    ({"rrule": "FREQ=DAILY;INTERVAL=7;BYDAY=MO"}, "rrule", "never fires"),
    ({"rrule": "FREQ=MINUTELY;BYSETPOS=2;BYSECOND=0"}, "rrule", "never fires"),
    ({"rrule": "FREQ=DAILY;UNTIL=20251231T000000Z"}, "rrule", "it ends before it starts"),
    ({"rrule": "FREQ=DAILY;COUNT=1", "exdates": [START]}, "rrule", "exdates leave nothing"),
    (
        {"rrule": "FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU;BYHOUR=2", "dtstart": "20260101T003000", "tz": "Europe/Berlin"},
        "rrule",
        "never fires",
    ),
    ({"dtstart": ""}, "dtstart", "a rule needs a DTSTART"),
    ({"dtstart": None}, "dtstart", "a rule needs a DTSTART"),
    ({"dtstart": "tomorrow at nine"}, "dtstart", "a date with a time"),
    ({"dtstart": "20260101"}, "dtstart", "a date with a time"),
    ({"dtstart": "2026-02-30T09:00:00Z"}, "dtstart", "a date with a time"),
    ({"dtstart": "20260101T090000"}, "dtstart", "without a zone; give tz="),
    ({"dtstart": NAIVE}, "dtstart", "without a zone; give tz="),
    ({"dtstart": "0001-01-01T00:00:00", "tz": "Asia/Tokyo"}, "dtstart", "beyond the calendar"),
    ({"exdates": ["20260102"]}, "exdates", "exdates is '20260102'"),
    ({"exdates": "20260102T090000Z"}, "exdates", "is a list"),
    ({"exdates": None}, "exdates", "is a list"),
    ({"exdates": [20260102]}, "exdates", "exdates is '20260102'"),
    ({"dtstart": 20260102}, "dtstart", "a date with a time"),
    ({"rdates": ["soon"]}, "rdates", "rdates is 'soon'"),
    ({"rdates": NAIVE}, "rdates", "is a list"),
    ({"tz": "Europe/Berln"}, "tz", "Did you mean Europe/Berlin?"),
    ({"tz": "../../etc/passwd"}, "tz", "no zone of the IANA database"),
    ({"tz": ""}, "tz", "no zone of the IANA database"),
    ({"tz": "Europe"}, "tz", "no zone of the IANA database"),
    ({"misfire": "never"}, "misfire", "'skip', 'latest' or 'all'"),
    ({"misfire_limit": 0}, "misfire_limit", "from 1 to 500"),
    ({"misfire_limit": 501}, "misfire_limit", "from 1 to 500"),
    ({"misfire_limit": True}, "misfire_limit", "from 1 to 500"),
    ({"overlap": "forbid"}, "overlap", "'allow', 'skip' or 'queue'"),
]


@pytest.mark.parametrize(("arguments", "field", "words"), REFUSED)
def test_bad_recurrence_is_refused_naming_field_and_cure(arguments: dict[str, Any], field: str, words: str) -> None:
    """
    Whatever is wrong is a ValueError of the library when the recurrence is made, not when it runs.
    """
    with pytest.raises(RecurrenceError) as caught:
        Recurrence(**({"rrule": "FREQ=DAILY", "dtstart": START} | arguments))

    assert caught.value.field == field
    assert words in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, UsageError)


def test_two_errors_name_the_rule_first() -> None:
    """
    Neither a rule nor a start: the rule is named, since nothing can be said without it.
    """
    with pytest.raises(RecurrenceError, match="rrule is empty"):
        Recurrence("", "")


@pytest.mark.parametrize(
    "call",
    [
        lambda r: r.first(NAIVE),
        lambda r: r.next_after(NAIVE),
        lambda r: r.local(NAIVE),
        lambda r: advance(r, NAIVE, datetime(2026, 1, 1, tzinfo=UTC)),
        lambda r: advance(r, datetime(2026, 1, 1, tzinfo=UTC), NAIVE),
        lambda r: explain(r, 1, NAIVE),
        lambda r: occurrence_id("a", NAIVE),
    ],
)
def test_naive_instants_are_refused(call: Any) -> None:
    """
    A time without a zone is never guessed at.
    """
    with pytest.raises(RecurrenceError, match="has no time zone; give an aware datetime"):
        call(Recurrence("FREQ=DAILY", START))


def test_given_texts_are_stored_verbatim() -> None:
    """
    Rule, start, exclusions and additions come back as they were written, through JSON too.
    """
    made = Recurrence(
        "rrule:freq=weekly;byday=mo",
        "2026-01-05T09:00:00",
        exdates=["20260112T090000", "20260119T080000Z"],
        rdates=("2026-01-06T09:00:00+01:00",),
        tz="Europe/Berlin",
        misfire="all",
        misfire_limit=7,
        overlap="queue",
    )
    data = json.loads(json.dumps(made.to_data()))

    assert data == {
        "rrule": "rrule:freq=weekly;byday=mo",
        "dtstart": "2026-01-05T09:00:00",
        "exdates": ["20260112T090000", "20260119T080000Z"],
        "rdates": ["2026-01-06T09:00:00+01:00"],
        "tz": "Europe/Berlin",
        "misfire": "all",
        "misfireLimit": 7,
        "overlap": "queue",
        "sinceCreation": False,
    }
    assert Recurrence.from_data(data) == made
    assert hash(Recurrence.from_data(data)) == hash(made)
    assert pickle.loads(pickle.dumps(made)) == made


def test_ancestor_data_without_the_newer_fields_is_read() -> None:
    """
    Three fields suffice; the rest has its defaults, and a field of a later version does no harm.
    """
    data = {"rrule": "FREQ=DAILY", "dtstart": "2026-01-01T09:00:00Z", "exdates": [], "colour": "red"}

    assert Recurrence.from_data(data) == Recurrence("FREQ=DAILY", "2026-01-01T09:00:00Z")
    with pytest.raises(RecurrenceError, match="rrule is empty"):
        Recurrence.from_data({"dtstart": START})
    with pytest.raises(RecurrenceError, match="dtstart is missing"):
        Recurrence.from_data({"rrule": "FREQ=DAILY"})


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("dtstart", "tz", "stored_tz", "first"),
    [
        (datetime(2026, 1, 1, 9, tzinfo=UTC), None, None, "2026-01-01T09:00:00+00:00"),
        (datetime(2026, 1, 1, 9, tzinfo=BERLIN), None, "Europe/Berlin", "2026-01-01T08:00:00+00:00"),
        (datetime(2026, 1, 1, 9), "Europe/Berlin", "Europe/Berlin", "2026-01-01T08:00:00+00:00"),
        (datetime(2026, 1, 1, 9), BERLIN, "Europe/Berlin", "2026-01-01T08:00:00+00:00"),
        (datetime(2026, 1, 1, 9, tzinfo=timezone(timedelta(hours=2))), None, None, "2026-01-01T07:00:00+00:00"),
        (datetime(2026, 1, 1, 9, 0, 0, 999_999, tzinfo=UTC), None, None, "2026-01-01T09:00:00+00:00"),
        ("2026-01-01T09:00:00.5Z", "Europe/Berlin", "Europe/Berlin", "2026-01-01T09:00:00+00:00"),
        ("20260101T090000", "Europe/Berlin", "Europe/Berlin", "2026-01-01T08:00:00+00:00"),
    ],
)
def test_start_is_taken_as_text_or_datetime(dtstart: Any, tz: Any, stored_tz: str | None, first: str) -> None:
    """
    A datetime brings its own zone; a local one needs tz; fractions of a second are cut off; all survive storing.
    """
    made = Recurrence("FREQ=DAILY", dtstart, tz=tz)

    assert made.tz == stored_tz
    assert made.first() == datetime.fromisoformat(first)
    assert Recurrence.from_data(made.to_data()).first() == made.first()


@pytest.mark.parametrize(
    ("expression", "rrule"),
    [
        ("*/5 * * * *", "FREQ=HOURLY;BYMINUTE=0,5,10,15,20,25,30,35,40,45,50,55;BYSECOND=0"),
        ("30 2 * * *", "FREQ=DAILY;BYHOUR=2;BYMINUTE=30;BYSECOND=0"),
        ("0 9-17/4 * * mon-fri", "FREQ=DAILY;BYHOUR=9,13,17;BYMINUTE=0;BYSECOND=0;BYDAY=MO,TU,WE,TH,FR"),
        ("0 0 1 jan,JUL *", "FREQ=DAILY;BYHOUR=0;BYMINUTE=0;BYSECOND=0;BYMONTH=1,7;BYMONTHDAY=1"),
        ("5/20 * * * 0,7", "FREQ=HOURLY;BYMINUTE=5,25,45;BYSECOND=0;BYDAY=SU"),
        ("@hourly", "FREQ=HOURLY;BYMINUTE=0;BYSECOND=0"),
        ("@weekly", "FREQ=DAILY;BYHOUR=0;BYMINUTE=0;BYSECOND=0;BYDAY=SU"),
        (
            "0 0 13 * 5",
            "FREQ=DAILY;BYHOUR=0;BYMINUTE=0;BYSECOND=0;BYMONTHDAY=13\nFREQ=DAILY;BYHOUR=0;BYMINUTE=0;BYSECOND=0;BYDAY=FR",
        ),
        (
            "0 0 */10 * 5",
            "FREQ=DAILY;BYHOUR=0;BYMINUTE=0;BYSECOND=0;BYMONTHDAY=1,11,21,31;BYDAY=FR",
        ),
    ],
)
def test_cron_line_becomes_a_rule(expression: str, rrule: str) -> None:
    """
    cron() is another way to write the same type; either of two day fields will do, as in cron.
    """
    assert cron(expression, tz="Europe/Berlin") == Recurrence(
        rrule, "2001-01-01T00:00:00", tz="Europe/Berlin", since_creation=True
    )


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 5-3 * * *",
        "*/0 * * * *",
        "1,,2 * * * *",
        "* * L * *",
        "x * * * *",
    ],
)
def test_bad_cron_line_is_refused(expression: str) -> None:
    """
    Too few or many fields, numbers out of range, backward ranges, and extensions of other crons.
    """
    with pytest.raises(RecurrenceError, match="The cron line"):
        cron(expression)
    with pytest.raises(RecurrenceError, match="never fires"):
        cron("0 0 31 2 *")


@pytest.mark.parametrize(
    ("interval", "rrule"),
    [
        (timedelta(seconds=1), "FREQ=SECONDLY;INTERVAL=1"),
        (timedelta(seconds=90), "FREQ=SECONDLY;INTERVAL=90"),
        (timedelta(minutes=5), "FREQ=MINUTELY;INTERVAL=5"),
        (timedelta(days=1), "FREQ=HOURLY;INTERVAL=24"),
    ],
)
def test_every_becomes_a_rule(interval: timedelta, rrule: str) -> None:
    """
    every() counts elapsed time, from a Monday in UTC or from the start given.
    """
    assert every(interval) == Recurrence(rrule, "2001-01-01T00:00:00Z", since_creation=True)
    start = datetime(2026, 1, 1, 9, tzinfo=UTC)
    assert every(interval, start=start) == Recurrence(rrule, start)


@pytest.mark.parametrize(
    "interval", [timedelta(0), timedelta(seconds=-5), timedelta(milliseconds=1500), timedelta(days=5000)]
)
def test_every_refuses_other_than_whole_seconds(interval: timedelta) -> None:
    """
    Zero, negative, fractional and absurd intervals.
    """
    with pytest.raises(RecurrenceError, match="must be whole seconds, from 1 to"):
        every(interval)


def test_new_generator_waits_for_its_start_or_for_the_next_time() -> None:
    """
    A DTSTART in the past is run; a cron line has no past: its first run is the next one after the creation.
    """
    now = datetime(2026, 1, 1, 9, 0, 2, tzinfo=UTC)

    assert Recurrence("FREQ=DAILY", "2026-01-01T09:00:00Z").first_due(now) == datetime(2026, 1, 1, 9, tzinfo=UTC)
    assert cron("0 9 * * *").first_due(now) == datetime(2026, 1, 2, 9, tzinfo=UTC)
    assert every(timedelta(hours=1)).first_due(now) == datetime(2026, 1, 1, 10, tzinfo=UTC)
