"""
Mistakes in the rules, each with the test that catches it, from attempts.py to decisions.py.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

RULES_ATTEMPTS_TO_DECISIONS = (
    Mutant(
        "a chain of another environment is scheduled",
        "rules/attempts.py",
        "    if lock.env != at.env:\n        return CallRefused",
        "    if False:\n        return CallRefused",
        test="tests/unit/rules/test_refusals.py::test_calls_are_decided_as_the_table_says",
    ),
    Mutant(
        "a chain is scheduled by an old entity",
        "rules/attempts.py",
        "    if loaded != lock.sequence:\n",
        "    if False:\n",
        test="tests/unit/rules/test_refusals.py::test_calls_are_decided_as_the_table_says",
    ),
    Mutant(
        "an ended chain is scheduled by an entity made in Python",
        "rules/attempts.py",
        "    if loaded is None:\n",
        "    if False:\n",
        test="tests/unit/rules/test_refusals.py::test_calls_are_decided_as_the_table_says",
    ),
    Mutant(
        "a failed chain is scheduled without a reset",
        "rules/attempts.py",
        "    if lock.status is not Status.COMPLETED:\n",
        "    if False:\n",
        test="tests/unit/rules/test_refusals.py::test_calls_are_decided_as_the_table_says",
    ),
    Mutant(
        "a quarantined chain is scheduled",
        "rules/attempts.py",
        "    if lock.status is Status.QUARANTINED:\n        return CallRefused",
        "    if False:\n        return CallRefused",
        test="tests/unit/rules/test_refusals.py::test_calls_are_decided_as_the_table_says",
    ),
    Mutant(
        "a running chain is scheduled",
        "rules/attempts.py",
        "    if lock.status in (Status.SCHEDULED, Status.LEASED):\n",
        "    if False:\n",
        test="tests/unit/rules/test_refusals.py::test_calls_are_decided_as_the_table_says",
    ),
    Mutant(
        "a lease without the server's time counts as expired",
        "rules/attempts.py",
        (
            "        if at.read is None:\n            return NeedTime()\n"
            "        if at.read < expires_at(lock):\n            return Refused"
        ),
        (
            "        if at.read is None:\n            return Expired(lock)\n"
            "        if at.read < expires_at(lock):\n            return Refused"
        ),
        test="tests/unit/rules/test_rules.py::test_claim_decides_as_the_table_says",
    ),
    Mutant(
        "a live lease counts as expired",
        "rules/attempts.py",
        "        if at.read < expires_at(lock):\n            return Refused",
        "        if False:\n            return Refused",
        test="tests/unit/rules/test_rules.py::test_claim_decides_as_the_table_says",
    ),
    Mutant(
        "a lease is valid at its very end",
        "rules/attempts.py",
        "        if at.read < expires_at(lock):\n            return Refused",
        "        if at.read <= expires_at(lock):\n            return Refused",
        test="tests/unit/rules/test_rules.py::test_claim_decides_as_the_table_says",
    ),
    Mutant(
        "a delivery of another environment is run",
        "rules/attempts.py",
        "    if lock.env != at.env or delivery.env != at.env:\n",
        "    if lock.env != at.env:\n",
        test="tests/unit/rules/test_admin.py::test_delivery_of_another_environment_is_foreign",
    ),
    Mutant(
        "a delivery of a later sequence is run",
        "rules/attempts.py",
        "    if delivery.sequence > lock.sequence:\n",
        "    if False:\n",
        test="tests/unit/rules/test_task_rules.py::test_generator_is_ready",
    ),
    Mutant(
        "a delivery of an earlier sequence is run",
        "rules/attempts.py",
        "    if delivery.sequence < lock.sequence:\n",
        "    if False:\n",
        test="tests/unit/rules/test_task_rules.py::test_generator_is_ready",
    ),
    Mutant(
        "a paused generator makes occurrences",
        "rules/attempts.py",
        "    if lock.paused:\n",
        "    if False:\n",
        test="tests/unit/rules/test_task_rules.py::test_generator_is_ready",
    ),
    Mutant(
        "a generator whose schedule is over waits for ever",
        "rules/attempts.py",
        "    if upcoming is None:\n",
        "    if False:\n",
        test="tests/unit/rules/test_task_rules.py::test_generator_recurs_until_it_ends",
    ),
    Mutant(
        "an occurrence's attempt counts as the newest after a cancellation",
        "rules/attempts.py",
        ("    return superseded(lock) or (lock is not None and how.wanted is not None and lock.wanted > how.wanted)\n"),
        "    return superseded(lock)\n",
        test="tests/unit/rules/test_writes.py::test_payload_that_was_wanted_after_the_grant_is_newer",
    ),
    Mutant(
        "a lost result owes no alert",
        "rules/attempts.py",
        "    told = lock if result.lost is None else writes.owe_result_lost(lock, result.lost, at)\n",
        "    told = lock\n",
        test="tests/integration/rules/test_retention.py::test_swept_resource_keys_and_once_keys_do_not_meet",
    ),
    Mutant(
        "a completed chain stays marked as cancelled",
        "rules/attempts.py",
        "        result_lost=lock.note(result.lost),\n        cancel_requested_at=None,\n",
        "        result_lost=lock.note(result.lost),\n",
        test="tests/unit/rules/test_writes.py::test_cancellation_that_came_too_late_is_forgotten",
    ),
    Mutant(
        "a chain whose cancellation handler ran counts as completed",
        "rules/attempts.py",
        "    if lock.cancelling:\n        return writes.ended(lock, Status.CANCELLED",
        "    if False:\n        return writes.ended(lock, Status.CANCELLED",
        test="tests/unit/rules/test_writes.py::test_cancellation_that_came_too_late_is_forgotten",
    ),
    Mutant(
        "a snooze counts as an attempt",
        "rules/attempts.py",
        "    return writes.again(writes.given_back(lock), wait",
        "    return writes.again(lock, wait",
        test="tests/unit/rules/test_rules.py::test_settling_counts_attempts",
    ),
    Mutant(
        "a lease that is given back counts as an attempt",
        "rules/attempts.py",
        "        writes.given_back(lock), at, status=Status.SCHEDULED, releases=",
        "        lock, at, status=Status.SCHEDULED, releases=",
        test="tests/unit/rules/test_rules.py::test_settling_counts_attempts",
    ),
    Mutant(
        "one attempt more than the most is made",
        "rules/attempts.py",
        "    if writes.used_up(lock, lock.max_attempts):\n",
        "    if writes.used_up(lock, lock.max_attempts + 1):\n",
        test="tests/unit/rules/test_task_rules.py::test_cancelled_while_it_ran",
    ),
    Mutant(
        "a cancelled task is left to the queue's retries",
        "rules/attempts.py",
        "    if writes.stopped(noted):\n        return writes.cancelled(noted, at)\n",
        "",
        test="tests/unit/rules/test_writes.py::test_cancelled_attempt_that_fails_is_not_tried_again",
    ),
    Mutant(
        "the error of a final failure is not kept",
        "rules/attempts.py",
        "    return writes.given_up(writes.noted(lock, message, at), at, message)\n",
        "    return writes.given_up(lock, at, message)\n",
        test="tests/unit/rules/test_writes.py::test_error_of_each_failure_is_kept",
    ),
    Mutant(
        "a quarantined attempt renews its lease",
        "rules/attempts.py",
        (
            "    if lock.status is Status.QUARANTINED:\n"
            '        return Lost("the attempt is quarantined; it may settle, not'
        ),
        '    if False:\n        return Lost("the attempt is quarantined; it may settle, not',
        test="tests/unit/rules/test_writes.py::test_only_the_holder_renews",
    ),
    Mutant(
        "a renewal by a holder that was taken over counts",
        "rules/attempts.py",
        (
            "    lost = fenced(lock, fence)\n    if lost is not None:\n        return lost\n"
            "    assert lock is not None\n    if lock.status is Status.QUARANTINED:\n"
            '        return Lost("the attempt is quarantined; it may settle, not'
        ),
        (
            "    assert lock is not None\n    if lock.status is Status.QUARANTINED:\n"
            '        return Lost("the attempt is quarantined; it may settle, not'
        ),
        test="tests/unit/rules/test_writes.py::test_only_the_holder_renews",
    ),
    Mutant(
        "a settling that another process may have moved counts as its own",
        "rules/attempts.py",
        ("    return alive or (found.sequence == before.sequence + 1 and found.scheduled_token == before.token)\n"),
        "    return True\n",
        test="tests/unit/rules/test_named_rules.py::test_release_whose_answer_was_lost_is_recognised",
    ),
    Mutant(
        "a sequence after a takeover counts as a late holder's own next one",
        "rules/attempts.py",
        "    return meant.sequence == found.sequence or (found.status is Status.SCHEDULED and found.token == before.token)\n",
        "    return False\n",
        test=("tests/unit/rules/test_people.py::test_sequence_after_a_takeover_is_not_the_late_holders_own_next_one"),
    ),
    Mutant(
        "a sequence that a person has scheduled counts as a late holder's own next one",
        "rules/attempts.py",
        "    if not found.scheduled_token:\n",
        "    if False:\n",
        test="tests/unit/rules/test_people.py::test_sequence_of_a_person_is_not_the_late_holders_own_next_one",
    ),
    Mutant(
        "the fence counts a quarantined holder as lost",
        "rules/attempts.py",
        "    if lock.status in (Status.LEASED, Status.QUARANTINED) and lock.token",
        "    if lock.status is Status.LEASED and lock.token",
        test="tests/unit/rules/test_rules.py::test_fence_holds_as_the_table_says",
    ),
    Mutant(
        "a quarantined attempt writes other documents under its key",
        "rules/attempts.py",
        ("    if lost is None and lock is not None and lock.status is Status.QUARANTINED and lock.key is not None:\n"),
        "    if False:\n",
        test="tests/unit/rules/test_writes.py::test_only_the_holder_renews",
    ),
    Mutant(
        "a checkpoint ends the attempt",
        "rules/attempts.py",
        "            return Put(signed)\n",
        "            return complete(signed, how.result, at)\n",
        test="tests/unit/rules/test_writes.py::test_checkpoint_changes_nothing_but_its_nonce",
    ),
    Mutant(
        "a continued chain loses its cancellation",
        "rules/attempts.py",
        "        made = made.but(cancel_requested_at=lock.cancel_requested_at, cancelling=True)\n",
        "        pass\n",
        test="tests/unit/rules/test_writes.py::test_cancellation_that_came_too_late_is_forgotten",
    ),
    Mutant(
        "a paused generator counts as standing still",
        "rules/attention.py",
        "and lock.parked is None and not lock.paused\n",
        "and lock.parked is None\n",
        test="tests/unit/rules/test_writes.py::test_paused_generator_does_not_stand_still",
    ),
    Mutant(
        "a task never counts as standing still",
        "rules/attention.py",
        "    return age(lock, at) > timedelta(seconds=at.stuck)\n",
        "    return False\n",
        test="tests/unit/rules/test_attention.py::test_graver_reason_stays_and_the_time_too",
    ),
    Mutant(
        "a task that stands still is not looked at in time",
        "rules/attention.py",
        "    return alarm if at.now < alarm < when else when\n",
        "    return when\n",
        test="tests/unit/rules/test_attention.py::test_one_that_waits_for_too_long_is_looked_at_in_time",
    ),
    Mutant(
        "a queued task is looked at again at once",
        "rules/attention.py",
        "    return at.now + min(max(timedelta(seconds=at.grace), age(lock, at) / 2), LONGEST_LOOK)\n",
        "    return at.now + min(age(lock, at) / 2, LONGEST_LOOK)\n",
        test="tests/unit/rules/test_attention.py::test_next_look_comes_after_half_of_its_age_and_within_an_hour",
    ),
    Mutant(
        "a task gets a new name at each look at a queue that can't be asked",
        "rules/attention.py",
        "    return age(lock, at) >= first + RENAMED_EVERY * (max(lock.dispatches, 1) - 1)\n",
        "    return age(lock, at) >= first\n",
        test="tests/unit/rules/test_attention.py::test_new_name_comes_from_the_third_look_on_once_an_hour",
    ),
    Mutant(
        "a text of any form has a reason",
        "rules/attention.py",
        "    return _REASONS.get(found[1]) if found is not None else None\n",
        "    return _REASONS.get((text or '//').split('/')[1])\n",
        test="tests/unit/rules/test_people.py::test_text_of_another_form_has_no_reason",
    ),
    Mutant(
        "a text has no time",
        "rules/attention.py",
        "    return found[2] if found is not None else None\n",
        "    return None\n",
        test="tests/unit/rules/test_attention.py::test_graver_reason_stays_and_the_time_too",
    ),
    Mutant(
        "a dismissed record asks for a person at its next commit",
        "rules/attention.py",
        "            return Reason.DISMISSED if said(lock.attention) is Reason.DISMISSED else Reason.FAILED\n",
        "            return Reason.FAILED\n",
        test="tests/unit/rules/test_people.py::test_dismissed_record_stays_dismissed_until_it_runs_again",
    ),
    Mutant(
        "a text that contradicts the status is kept",
        "rules/attention.py",
        "    if reason is said(lock.attention) and (reason is None) is (lock.attention is None):\n",
        "    if reason is said(lock.attention) or reason is None:\n",
        test="tests/unit/rules/test_people.py::test_text_that_contradicts_the_status_is_mended",
    ),
    Mutant(
        "a promise about an earlier grant counts",
        "rules/attention.py",
        "    known = lock.acknowledgement\n",
        "    known = lock.acknowledged\n",
        test="tests/unit/rules/test_people.py::test_promise_counts_for_its_grant_and_time",
    ),
    Mutant(
        "a lost result needs no person",
        "rules/attention.py",
        (
            "        case Status.COMPLETED if lock.read(lock.result_lost) is not None:\n"
            "            return Reason.DISMISSED if said(lock.attention) is Reason.DISMISSED else Reason.RESULT_LOST\n"
        ),
        "",
        test="tests/unit/rules/test_writes.py::test_notes_count_for_their_own_grant",
    ),
    Mutant(
        "the time since when a person is needed moves on",
        "rules/attention.py",
        "{since(lock.attention) or instant(at.now)}",
        "{instant(at.now)}",
        test="tests/unit/rules/test_attention.py::test_graver_reason_stays_and_the_time_too",
    ),
    Mutant(
        "any reason of a task that waits is kept",
        "rules/attention.py",
        "        case Status.SCHEDULED if said(lock.attention) in _WAITING:\n",
        "        case Status.SCHEDULED if lock.attention is not None:\n",
        test="tests/unit/rules/test_writes.py::test_person_is_alerted_once_for_one_that_stands_still",
    ),
    Mutant(
        "a logged settlement forgets its time",
        "rules/decisions.py",
        '                "waitUntil": None if t.wait_until is None else instant(t.wait_until),\n',
        '                "waitUntil": None,\n',
        test="tests/unit/rules/test_writes.py::test_logged_settlement_comes_back_whole",
    ),
    Mutant(
        "a logged settlement that is read forgets its fingerprint",
        "rules/decisions.py",
        ('            fingerprint=None if data.get("fingerprint") is None else Fingerprint(*data["fingerprint"]),\n'),
        "",
        test="tests/unit/rules/test_task_rules.py::test_settlement_in_the_log_has_its_fingerprint",
    ),
    Mutant(
        "a settlement that is refused for good is tried again with its result",
        "rules/decisions.py",
        "            return self._replace(result=Result(lost=refusal))\n",
        "            return self\n",
        test="tests/integration/rules/test_retention.py::test_swept_resource_keys_and_once_keys_do_not_meet",
    ),
)
