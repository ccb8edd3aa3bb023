"""
When a reminder is due: a day in minutes, for one record and for several.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

import pytest

from gcp_oncetask.rules import reminders
from gcp_oncetask.rules.attention import ASKING, Reason
from gcp_oncetask.rules.record import Event
from gcp_oncetask.rules.reminders import LastReminder, Unattended
from tests.unit.rules.test_rules import leased

DAY = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def at(text: str, day: int = 0) -> datetime:
    """
    A time of the first day, or of a later one.
    """
    hour, minute, *second = (float(part) for part in text.split(":"))
    return DAY + timedelta(days=day, hours=hour, minutes=minute, seconds=second[0] if second else 0)


def mailed(
    records: Sequence[Unattended], days: int = 4, *, every: timedelta = MINUTE, start: datetime = DAY
) -> list[datetime]:
    """
    The times of the mails, if a sweep comes each minute and looks at the time of the rule. A record is there from its time on.
    """
    last: LastReminder | None = None
    look, found, now = start, [], start
    while now < start + timedelta(days=days):
        seen = [record for record in records if record.since <= now]
        if now >= look:
            if reminders.is_reminder_due(seen, last, now):
                last = LastReminder(reminders.slot_of(now), now)
                found.append(now)
            look = reminders.next_look(seen, last, now)
            assert look > now
        else:
            # The rule promises that no mail is due before it.
            assert not reminders.is_reminder_due(seen, last, now), (now, look)
        now += every
    return found


@pytest.mark.parametrize("minute", ["03:00", "03:17", "03:59"])
def test_one_record_is_told_of_after_an_hour_six_a_day_and_daily(minute: str) -> None:
    """
    From the second day on at the beginning of the same hour.
    """
    since = at(minute)
    hour = reminders.slot_of(since)
    expected = [since + each for each in reminders.FIRST] + [hour + timedelta(days=day) for day in (2, 3)]
    assert mailed([Unattended(since)]) == expected


def test_mail_is_late_where_sweeps_are_late() -> None:
    """
    By no more than a sweep; a mail that is late does not move the next ones but for the daily one.
    """
    told = mailed([Unattended(at("03:00"))], every=timedelta(minutes=50), days=2)
    assert [each - at("03:00") for each in told] == [
        timedelta(hours=1, minutes=10),
        timedelta(hours=6, minutes=10),
        timedelta(days=1, minutes=30),
    ]


def test_many_records_are_one_mail_an_hour_at_most() -> None:
    """
    A record comes every five minutes for two hours. Each is told of within two hours, and once a day all by one mail.
    """
    records = [Unattended(at("03:00") + number * 5 * MINUTE) for number in range(25)]
    told = mailed(records)
    assert told[:3] == [at("04:00"), at("05:00"), at("06:00")]
    assert len({reminders.slot_of(each) for each in told}) == len(told)
    assert len([each for each in told if each < at("03:00", 1)]) <= 6
    assert [each for each in told if each >= at("07:00", 1)] == [at("05:00", 2), at("05:00", 3)]


def test_old_records_that_come_all_at_once_are_told_of_at_once() -> None:
    """
    As after an upgrade, when those that failed long ago are found.
    """
    now = at("12:00")
    assert reminders.is_reminder_due([Unattended(now - timedelta(days=90))], None, now)
    assert not reminders.is_reminder_due([Unattended(now - 59 * MINUTE)], None, now)
    assert reminders.is_reminder_due([Unattended(now - 60 * MINUTE)], None, now)
    assert not reminders.is_reminder_due([], None, now)


def test_promised_record_is_left_out_until_the_promise_ends() -> None:
    """
    It is told of when the promise ends, and then as before; other records are told of meanwhile.
    """
    since, until = at("03:00"), at("08:10")
    one = Unattended(since, until)
    told = mailed([one], days=2)
    assert told == [until, at("09:00"), at("03:00", 1)]
    assert not reminders.is_named(one, until - MINUTE)
    assert reminders.is_named(one, until)
    assert reminders.is_named(Unattended(since), since)
    other = Unattended(at("04:30"))
    assert mailed([one, other], days=1) == [at("05:30"), at("08:10"), at("09:00"), at("10:30")]


def test_promise_of_an_old_record_ends_with_a_mail() -> None:
    last = LastReminder(at("03:00"), at("03:00"))
    old = Unattended(DAY - timedelta(days=9), at("05:30"))
    assert not reminders.is_reminder_due([old], last, at("05:29"))
    assert reminders.is_reminder_due([old], last, at("05:30"))
    assert reminders.next_look([old], last, at("05:00")) == at("05:30")


def test_slot_has_one_mail() -> None:
    """
    Also where the clock goes back.
    """
    record = Unattended(DAY - timedelta(days=9))
    last = LastReminder(at("03:00", 1), at("03:10", 1))
    newer = Unattended(at("02:20", 1))
    assert not reminders.is_reminder_due([record, newer], last, at("03:59:59", 1))
    assert reminders.is_reminder_due([record, newer], last, at("04:00", 1))
    assert not reminders.is_reminder_due([record, newer], last, at("01:00", 1))
    assert reminders.next_look([record, newer], last, at("03:15", 1)) == at("04:00", 1)


def test_slot_is_an_hour_of_utc() -> None:
    there = timezone(timedelta(hours=5, minutes=30))
    assert reminders.slot_of(datetime(2026, 3, 1, 8, 45, 1, 2, there)) == at("03:00")


def test_mails_are_wanted_as_the_policy_says() -> None:
    """
    A quarantine and a failure are switched off apart; a record that can't be decoded is always told of.
    """
    for reason in ASKING:
        event = Event.QUARANTINE if reason is Reason.QUARANTINED else Event.FAILURE
        assert reminders.is_wanted(leased(alert_on=(event,)), reason)
        assert not reminders.is_wanted(leased(alert_on=tuple(each for each in Event if each is not event)), reason)
        assert reminders.is_wanted(None, reason)
