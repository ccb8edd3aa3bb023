"""
Mistakes in the time of reminders, each with the test that catches it.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

_TESTS = "tests/unit/rules/test_reminders.py::"

RULES_REMINDERS = (
    Mutant(
        "a slot is an hour of the local time",
        "rules/reminders.py",
        "    return now.astimezone(UTC).replace(",
        "    return now.replace(",
        test=f"{_TESTS}test_slot_is_an_hour_of_utc",
    ),
    Mutant(
        "a reminder names records that a person has promised to attend to",
        "rules/reminders.py",
        "    return record.promised is None or record.promised <= now\n",
        "    return True\n",
        test=f"{_TESTS}test_promised_record_is_left_out_until_the_promise_ends",
    ),
    Mutant(
        "a record with a promise is never told of again",
        "rules/reminders.py",
        "    return record.promised is None or record.promised <= now\n",
        "    return record.promised is None\n",
        test=f"{_TESTS}test_promised_record_is_left_out_until_the_promise_ends",
    ),
    Mutant(
        "the end of a promise is no reason for a mail",
        "rules/reminders.py",
        "*([] if record.promised is None else [record.promised])]",
        "]",
        test=f"{_TESTS}test_promise_of_an_old_record_ends_with_a_mail",
    ),
    Mutant(
        "a person is reminded of records about which mails are switched off",
        "rules/reminders.py",
        "    return lock is None or event in lock.alert_on\n",
        "    return lock is None or bool(lock.alert_on)\n",
        test=f"{_TESTS}test_mails_are_wanted_as_the_policy_says",
    ),
    Mutant(
        "a slot has several reminders",
        "rules/reminders.py",
        "    if last is not None and slot_of(now) <= last.slot:\n        return False\n",
        "",
        test=f"{_TESTS}test_slot_has_one_mail",
    ),
    Mutant(
        "a record is told of by each slot",
        "rules/reminders.py",
        "(told is None or when > told)",
        "(told is None or when is not None)",
        test=f"{_TESTS}test_one_record_is_told_of_after_an_hour_six_a_day_and_daily",
    ),
    Mutant(
        "a record is told of no more after a day",
        "rules/reminders.py",
        "    return daily and any(record.since + AGAIN <= now for record in named)\n",
        "    return False\n",
        test=f"{_TESTS}test_one_record_is_told_of_after_an_hour_six_a_day_and_daily",
    ),
    Mutant(
        "the next look comes after the next reminder",
        "rules/reminders.py",
        "    end = slot_of(now) + SLOT\n",
        "    end = slot_of(now) + 2 * SLOT\n",
        test=f"{_TESTS}test_many_records_are_one_mail_an_hour_at_most",
    ),
    Mutant(
        "a record is looked at only at the beginning of an hour",
        "rules/reminders.py",
        "    return min([end, *(when for record in records for when in _moments(record) if when > now)])\n",
        "    return end\n",
        test=f"{_TESTS}test_one_record_is_told_of_after_an_hour_six_a_day_and_daily",
    ),
)
