"""
Mistakes in the rules, each with the test that catches it, from retention.py to verbs.py.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

RULES_RETENTION_TO_VERBS = (
    Mutant(
        "a document expires at once when its retention was over before",
        "rules/retention.py",
        "    return max(ended + timedelta(seconds=retention), now + AHEAD)\n",
        "    return ended + timedelta(seconds=retention)\n",
        test="tests/unit/rules/test_task_rules.py::test_retention_is_counted_from_the_end_and_an_hour_ahead",
    ),
    Mutant(
        "a task that Firestore may delete is run again",
        "rules/retention.py",
        "    if (at.read or at.now) < expires:\n        return None\n",
        "    if True:\n        return None\n",
        test="tests/unit/rules/test_refusals.py::test_refusals_of_other_rules",
    ),
    Mutant(
        "a call that may come too late is judged by the local clock",
        "rules/retention.py",
        "    if at.read is None and at.now < expires:\n        return NeedTime()\n",
        "    if at.read is None and at.now < expires:\n        return None\n",
        test="tests/unit/rules/test_task_rules.py::test_who_comes_too_late_is_as_the_table_says",
    ),
    Mutant(
        "a shrinking delay is taken",
        "rules/retry_policy.py",
        '            values.number(self.multiplier, "multiplier", least=1, most=_MOST_GROWTH)\n',
        "            pass\n",
        test="tests/unit/rules/test_retry_policy.py::test_impossible_policies_are_refused",
    ),
    Mutant(
        "one execution more than the most is made",
        "rules/retry_policy.py",
        (
            "    def should_retry(self, attempt: int, error: BaseException | None) -> bool:\n"
            "        return attempt < self.max_attempts\n\n"
            "    def next_delay(self, attempt: int, error: BaseException | None, chance: float) -> "
            "timedelta:\n        # 2.0"
        ),
        (
            "    def should_retry(self, attempt: int, error: BaseException | None) -> bool:\n"
            "        return attempt <= self.max_attempts\n\n"
            "    def next_delay(self, attempt: int, error: BaseException | None, chance: float) -> "
            "timedelta:\n        # 2.0"
        ),
        test="tests/unit/rules/test_retry_policy.py::test_attempts_end_at_the_most",
    ),
    Mutant(
        "a delay grows beyond its maximum",
        "rules/retry_policy.py",
        "timedelta(seconds=min(grown, longest) *",
        "timedelta(seconds=grown *",
        test="tests/unit/rules/test_retry_policy.py::test_backoff_grows_to_its_maximum_and_chance_shortens_it",
    ),
    Mutant(
        "a stored policy loses its jitter",
        "rules/retry_policy.py",
        '                "jitter": policy.jitter,\n',
        '                "jitter": 0.0,\n',
        test="tests/unit/rules/test_retry_policy.py::test_backoff_grows_to_its_maximum_and_chance_shortens_it",
    ),
    Mutant(
        "any number of attempts is taken",
        "rules/retry_policy.py",
        '        values.whole(policy.max_attempts, "max_attempts")\n',
        "        pass\n",
        test="tests/unit/rules/test_retry_policy.py::test_impossible_policies_are_refused",
    ),
    Mutant(
        "a damaged policy is taken as stored",
        "rules/retry_policy.py",
        ("        if isinstance(number, bool) or not isinstance(number, int | float) or not number >= 0:\n"),
        "        if False:\n",
        test="tests/unit/rules/test_retry_policy.py::test_damaged_data_is_refused",
    ),
    Mutant(
        "the fixed delay of a stored policy is forgotten",
        "rules/retry_policy.py",
        '    return min(float(data.get("delay", 0.0)), values.LONGEST)\n',
        "    return 0.0\n",
        test="tests/unit/rules/test_retry_policy.py::test_fixed_delay_and_none",
    ),
    Mutant(
        "NoRetry is tried again",
        "rules/retry_policy.py",
        ("    def should_retry(self, attempt: int, error: BaseException | None) -> bool:\n        return False\n"),
        ("    def should_retry(self, attempt: int, error: BaseException | None) -> bool:\n        return True\n"),
        test="tests/unit/rules/test_retry_policy.py::test_attempts_end_at_the_most",
    ),
    Mutant(
        "a fixed delay is none",
        "rules/retry_policy.py",
        '        return values.length(self.delay, "delay")\n',
        "        return timedelta(0)\n",
        test="tests/unit/rules/test_retry_policy.py::test_fixed_delay_and_none",
    ),
    Mutant(
        "NoRetry waits",
        "rules/retry_policy.py",
        (
            "        return False\n\n"
            "    def next_delay(self, attempt: int, error: BaseException | None, chance: float) -> "
            "timedelta:\n        return timedelta(0)\n"
        ),
        (
            "        return False\n\n"
            "    def next_delay(self, attempt: int, error: BaseException | None, chance: float) -> "
            "timedelta:\n        return timedelta(1)\n"
        ),
        test="tests/unit/rules/test_retry_policy.py::test_fixed_delay_and_none",
    ),
    Mutant(
        "a fixed delay is followed by one execution more",
        "rules/retry_policy.py",
        (
            "        return attempt < self.max_attempts\n\n"
            "    def next_delay(self, attempt: int, error: BaseException | None, chance: float) -> "
            "timedelta:\n        return values"
        ),
        (
            "        return attempt <= self.max_attempts\n\n"
            "    def next_delay(self, attempt: int, error: BaseException | None, chance: float) -> "
            "timedelta:\n        return values"
        ),
        test="tests/unit/rules/test_retry_policy.py::test_attempts_end_at_the_most",
    ),
    Mutant(
        "a document that is too large is tried again and again",
        "rules/statuses.py",
        '        if status == "RESOURCE_EXHAUSTED" and "larger than max" in message:\n',
        "        if False:\n",
        test="tests/unit/rules/test_statuses.py::test_status_that_firestore_uses_for_two_things_is_told_by_its_sentence",
    ),
    Mutant(
        "a database that is missing counts as a document that moved",
        "rules/statuses.py",
        '        if status == "NOT_FOUND" and "database" in message and "not exist" in message:\n',
        "        if False:\n",
        test="tests/unit/rules/test_statuses.py::test_status_that_firestore_uses_for_two_things_is_told_by_its_sentence",
    ),
    Mutant(
        "every final refusal is blamed on the data",
        "rules/statuses.py",
        "    return status in _OF_CONTENTS\n",
        "    return True\n",
        test="tests/unit/rules/test_statuses.py::test_final_status_says_whose_fault_it_is",
    ),
    Mutant(
        "a damaged count fails the delivery",
        "rules/task_headers.py",
        "if text and text.isascii() and text.isdigit() and len(text) < 10 else None",
        "if text else None",
        test="tests/unit/rules/test_task_headers.py::test_invalid_headers_count_as_missing",
    ),
    Mutant(
        "a damaged time fails the delivery",
        "rules/task_headers.py",
        "    except (ValueError, OverflowError, OSError):\n",
        "    except OSError:\n",
        test="tests/unit/rules/test_task_headers.py::test_invalid_headers_count_as_missing",
    ),
    Mutant(
        "the retries before a delivery are not read",
        "rules/task_headers.py",
        'retry_count=count(header("X-CloudTasks-TaskRetryCount")) or 0,\n',
        "retry_count=0,\n",
        test="tests/unit/rules/test_task_headers.py::test_headers_are_read",
    ),
    Mutant(
        "instants have texts of different widths",
        "rules/timestamps.py",
        '{passed.microseconds:06d}Z"',
        '{passed.microseconds}Z"',
        test="tests/unit/rules/test_attention.py::test_graver_reason_stays_and_the_time_too",
    ),
    Mutant(
        "instants of the wall clock lose their micros",
        "rules/timestamps.py",
        '    return f"{_second(seconds)}.{micros:06d}Z"\n',
        '    return f"{_second(seconds)}.{0:06d}Z"\n',
        test="tests/unit/rules/test_task_headers.py::test_instants_come_back_and_sort",
    ),
    Mutant(
        "an instant is read in local time",
        "rules/timestamps.py",
        "    return datetime.strptime(text, _INSTANT).replace(tzinfo=UTC)\n",
        "    return datetime.strptime(text, _INSTANT).astimezone(UTC) + timedelta(hours=1)\n",
        test="tests/unit/rules/test_attention.py::test_next_look_comes_after_half_of_its_age_and_within_an_hour",
    ),
    Mutant(
        "a generator counts as a task that runs",
        "rules/verbs.py",
        'Sort.RECURRING if "recurrence" in fields else Sort.ONCE_TASK',
        "Sort.ONCE_TASK",
        test="tests/unit/rules/test_verbs.py::test_a_document_is_recognised",
    ),
    Mutant(
        "a chain whose id looks like a lock's counts as a lock",
        "rules/verbs.py",
        "    if found is None or (collection != LOCKS and chain):\n",
        "    if found is None:\n",
        test="tests/unit/rules/test_verbs.py::test_a_document_is_recognised",
    ),
    Mutant(
        "any verb is taken for any record",
        "rules/verbs.py",
        "    if record.sort in VERBS[verb]:\n",
        "    if True:\n",
        test="tests/unit/rules/test_verbs.py::test_a_named_lock_tells_until_when_it_is_held",
    ),
    Mutant(
        "a digest of alerts is reset",
        "rules/verbs.py",
        '    if is_digest(record.path) and verb != "show":\n',
        "    if False:\n",
        test="tests/unit/rules/test_admin.py::test_digest_has_no_verb_but_show",
    ),
    Mutant(
        "a person is told the key of a run as its name",
        "rules/verbs.py",
        '                return f"the key {self.key!r} of the @once function',
        '                return f"the key {self.name!r} of the @once function',
        test="tests/unit/rules/test_admin.py::test_record_in_words",
    ),
)
