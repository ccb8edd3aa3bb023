"""
Mistakes in the rules, each with the test that catches it, writes.py.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

RULES_WRITES = (
    Mutant(
        "the tokens of a new document begin in seconds",
        "rules/writes.py",
        "    return round((instant - _EPOCH).total_seconds() * 1000)\n",
        "    return round((instant - _EPOCH).total_seconds())\n",
        test="tests/unit/rules/test_named_rules.py::test_token_of_a_document_made_anew_is_beyond_its_predecessors",
    ),
    Mutant(
        "two documents that are made in one millisecond have the same idempotency keys",
        "rules/writes.py",
        "    return epoch_milliseconds(at.now) * 1000 + crc32(nonce.encode()) % 1000\n",
        "    return epoch_milliseconds(at.now) * 1000\n",
        test="tests/unit/rules/test_idempotency_keys.py::test_documents_made_in_one_millisecond_have_keys_of_their_own",
    ),
    Mutant(
        "an unclaimed task is dispatched at the same pace for ever",
        "rules/writes.py",
        "min(at.grace * 2 ** min(max(lock.dispatches, 1) - 1, 16), MAX_GRACE)\n",
        "at.grace\n",
        test="tests/unit/rules/test_attention.py::test_one_that_waits_for_too_long_is_looked_at_in_time",
    ),
    Mutant(
        "a task that waits is due at once",
        "rules/writes.py",
        "            start = at.now if lock.wait_until is None else max(at.now, lock.wait_until)\n",
        "            start = at.now\n",
        test="tests/unit/rules/test_task_rules.py::test_when_somebody_must_look",
    ),
    Mutant(
        "a leased document is due at the end of its run limit",
        "rules/writes.py",
        "            times.append(expiry(lock, leased_at, granted_at) + timedelta(seconds=1))\n",
        "            times.append(granted_at + timedelta(seconds=lock.run_limit_seconds))\n",
        test="tests/unit/rules/test_task_rules.py::test_when_somebody_must_look",
    ),
    Mutant(
        "a quarantined attempt is never looked up again",
        "rules/writes.py",
        "            times.append(at.now + timedelta(minutes=5))\n",
        "            pass\n",
        test="tests/unit/rules/test_writes.py::test_quarantined_attempt_is_looked_up_in_the_logs_for_an_hour",
    ),
    Mutant(
        "an alert that is owed waits for the next look",
        "rules/writes.py",
        "    times = [when, *(owed.until for owed in lock.owed)]\n    return lock.but(due",
        "    times = [when]\n    return lock.but(due",
        test="tests/unit/rules/test_writes.py::test_alert_is_owed_once_under_each_id",
    ),
    Mutant(
        "attempts used up are granted once more",
        "rules/writes.py",
        "    if lock.attempts - lock.progress_at >= policy.max_attempts or",
        "    if lock.attempts - lock.progress_at > policy.max_attempts or",
        test="tests/unit/rules/test_task_rules.py::test_who_rides_along",
    ),
    Mutant(
        "a cancellation handler has the attempts of its task",
        "rules/writes.py",
        "            lock = lock.but(cancelling=True, attempts=0, progress_at=0)\n",
        "            lock = lock.but(cancelling=True)\n",
        test="tests/unit/rules/test_task_rules.py::test_a_cancellation_handler_has_attempts_of_its_own_after_a_takeover",
    ),
    Mutant(
        "a batch takes a task before its time",
        "rules/writes.py",
        "    if lock.status is not Status.SCHEDULED or early or lock",
        "    if lock.status is not Status.SCHEDULED or lock",
        test="tests/unit/rules/test_task_rules.py::test_who_rides_along",
    ),
    Mutant(
        "a batch takes a cancelled task",
        "rules/writes.py",
        "or early or lock.cancel_requested_at is not None:\n",
        "or early:\n",
        test="tests/unit/rules/test_writes.py::test_batch_takes_what_waits_and_was_not_cancelled",
    ),
    Mutant(
        "a retry of a superseded payload runs the older one",
        "rules/writes.py",
        "    if superseded(lock) and not lock.cancelling:\n        return following(lock, at)\n",
        "",
        test="tests/unit/rules/test_task_rules.py::test_takeover_of_a_superseded_run_goes_on_with_the_newest",
    ),
    Mutant(
        "a cancelled chain with a cancellation handler ends at once",
        "rules/writes.py",
        "    if not lock.cleanup and not lock.durable:\n        return ended(lock, Status.CANCELLED",
        "    if True:\n        return ended(lock, Status.CANCELLED",
        test="tests/unit/rules/test_attention.py::test_commit_that_makes_it_claimable_says_since_when_and_looks_do_not",
    ),
    Mutant(
        "a newer payload runs at once and not at its time",
        "rules/writes.py",
        "lock.params, lock.headers, lock.wait_until, traceparent",
        "lock.params, lock.headers, None, traceparent",
        test="tests/unit/rules/test_task_rules.py::test_takeover_of_a_superseded_run_goes_on_with_the_newest",
    ),
    Mutant(
        "a chain that is given up owes no alert",
        "rules/writes.py",
        "    owing = owe(lock, Event.FAILURE, reason, evidence, at)\n    if lock.cancelling:\n",
        "    owing = lock\n    if lock.cancelling:\n",
        test="tests/unit/rules/test_task_rules.py::test_cancelled_while_it_ran",
    ),
    Mutant(
        "any number of errors is kept",
        "rules/writes.py",
        "    return lock.but(errors=(*lock.errors, failure)[-MAX_ERRORS:])\n",
        "    return lock.but(errors=(*lock.errors, failure))\n",
        test="tests/unit/rules/test_writes.py::test_error_of_each_failure_is_kept",
    ),
    Mutant(
        "an error of any length is kept",
        "rules/writes.py",
        "storable_text(message)[:MAX_MESSAGE])\n    return lock.but(errors",
        "storable_text(message))\n    return lock.but(errors",
        test="tests/unit/rules/test_writes.py::test_error_of_each_failure_is_kept",
    ),
    Mutant(
        "an alert is owed that the policy has turned off",
        "rules/writes.py",
        "    if event not in lock.alert_on:\n        return lock\n",
        "",
        test="tests/unit/rules/test_rules.py::test_alerts_that_are_switched_off_are_not_owed",
    ),
    Mutant(
        "an alert of a lost result replaces that of a failure",
        "rules/writes.py",
        "    return owe_named(lock, RESULT_LOST, f",
        '    return owe_named(lock, "failure", f',
        test="tests/unit/rules/test_writes.py::test_alert_is_owed_once_under_each_id",
    ),
    Mutant(
        "an alert that is owed twice is sent twice",
        "rules/writes.py",
        "(old for old in lock.owed if old.id != owed.id)",
        "(old for old in lock.owed)",
        test="tests/unit/rules/test_writes.py::test_alert_is_owed_once_under_each_id",
    ),
    Mutant(
        "a renewed lease expires as if it had not been renewed",
        "rules/writes.py",
        "    return expiry(lock, lock.leased_at, lock.granted_at)\n",
        "    return expiry(lock, lock.granted_at, lock.granted_at)\n",
        test="tests/unit/rules/test_writes.py::test_renewed_lease_expires_a_lease_after_its_renewal",
    ),
    Mutant(
        "an alert with a name is owed though failures owe none",
        "rules/writes.py",
        "reason, (), at) if event in lock.alert_on else lock\n",
        "reason, (), at)\n",
        test="tests/unit/rules/test_writes.py::test_alert_is_owed_once_under_each_id",
    ),
)
