"""
Mistakes in the rules, each with the test that catches it, admin.py.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

RULES_ADMIN = (
    Mutant(
        "a promise may end in the past",
        "rules/admin.py",
        "    if until <= at.now:\n",
        "    if False:\n",
        test="tests/unit/rules/test_people.py::test_promise_changes_nothing_else",
    ),
    Mutant(
        "the words of a person have any length",
        "rules/admin.py",
        "storable_text(note)[: writes.MAX_MESSAGE]",
        "storable_text(note)",
        test="tests/unit/rules/test_people.py::test_record_keeps_the_last_ten_acts",
    ),
    Mutant(
        "a record that a person has failed stays on the list",
        "rules/admin.py",
        "            return Put(_dismissed(put.lock, at), put.outcome) if put.lock.status is Status.FAILED else put\n",
        "            return put\n",
        test="tests/unit/rules/test_people.py::test_step_that_a_person_fails_needs_no_person",
    ),
    Mutant(
        "a quarantined step can be dismissed",
        "rules/admin.py",
        "    if reason in (Reason.FAILED, Reason.RESULT_LOST):\n",
        "    if reason is not None:\n",
        test="tests/unit/rules/test_refusals.py::test_calls_are_decided_as_the_table_says",
    ),
    Mutant(
        "a record keeps every act",
        "rules/admin.py",
        "(*put.lock.acts, act)[-MAX_ACTS:]",
        "(*put.lock.acts, act)",
        test="tests/unit/rules/test_people.py::test_record_keeps_the_last_ten_acts",
    ),
    Mutant(
        "an act on another version is done",
        "rules/admin.py",
        "    if wanted is None or wanted in (version, mark(lock)):\n",
        "    if True:\n",
        test="tests/unit/rules/test_people.py::test_act_on_another_version_is_refused_and_says_who_acted",
    ),
    Mutant(
        "a name that only a person vouches for counts as proven",
        "rules/record.py",
        "        return f\"{self.name}{'' if self.proven else ' (unproven)'}{beside}\"\n",
        '        return f"{self.name}{beside}"\n',
        test="tests/integration/locks/test_by_name.py::test_acts_are_logged_with_the_person",
    ),
    Mutant(
        "the result of a step that happened is lost",
        "rules/admin.py",
        "put.lock.but(result=result.value, result_json=put.lock.note(result.text), scheduled_token=0)",
        "put.lock.but(scheduled_token=0)",
        test="tests/unit/rules/test_people.py::test_step_that_happened_is_followed_by_the_next_one",
    ),
    Mutant(
        "a step that was never attempted has happened",
        "rules/admin.py",
        "(lock.status is not Status.FAILED or not lock.attempts)",
        "lock.status is not Status.FAILED",
        test="tests/unit/rules/test_people.py::test_failed_step_without_an_attempt_has_not_happened",
    ),
    Mutant(
        "a cancellation cancels the payloads that come after it",
        "rules/admin.py",
        "cancel_requested_at=at.now, granted=lock.wanted)",
        "cancel_requested_at=at.now)",
        test="tests/unit/rules/test_admin.py::test_payloads_asked_for_before_a_cancellation_are_cancelled_with_it",
    ),
    Mutant(
        "a cancellation is asked for twice",
        "rules/admin.py",
        "    if lock.cancel_requested_at is not None:\n        return CallRefused(Refusal.CANCELLING",
        "    if False:\n        return CallRefused(Refusal.CANCELLING",
        test="tests/unit/rules/test_refusals.py::test_calls_are_decided_as_the_table_says",
    ),
    Mutant(
        "a task that waits is reset",
        "rules/admin.py",
        "    if not lock.finished and lock.status is not Status.QUARANTINED:\n",
        "    if False:\n",
        test="tests/unit/rules/test_refusals.py::test_calls_are_decided_as_the_table_says",
    ),
    Mutant(
        "an erased task is reset",
        "rules/admin.py",
        '    if lock.erased:\n        return CallRefused(Refusal.ERASED, "its payload was erased; only its outcome is kept")\n'
        "    if lock.scheduled_by is None:\n",
        "    if lock.scheduled_by is None:\n",
        test="tests/unit/rules/test_task_rules.py::test_tombstone",
    ),
    Mutant(
        "a record that was never scheduled is reset",
        "rules/admin.py",
        "    if lock.scheduled_by is None:\n",
        "    if False:\n",
        test="tests/unit/rules/test_refusals.py::test_calls_are_decided_as_the_table_says",
    ),
    Mutant(
        "a failed step that is reset has a new idempotency key",
        "rules/admin.py",
        "    kept = again.keyed if renewed else lock.keyed\n",
        "    kept = again.keyed\n",
        test="tests/unit/rules/test_rules.py::test_reset_keeps_key_step_and_token",
    ),
    Mutant(
        "a newer payload keeps the time of the older one",
        "rules/admin.py",
        "        errors=(),\n        wait_until=target.wait_until,\n",
        "        errors=(),\n",
        test="tests/unit/rules/test_attention.py::test_commit_that_makes_it_claimable_says_since_when_and_looks_do_not",
    ),
    Mutant(
        "a newer payload inherits the attempts of the older one",
        "rules/admin.py",
        "        granted=newer.wanted,\n        attempts=0,\n",
        "        granted=newer.wanted,\n",
        test="tests/unit/rules/test_task_rules.py::test_newer_payload_leads_to_what_the_table_says",
    ),
    Mutant(
        "a newer payload for an ended task is stored, and does not run",
        "rules/admin.py",
        (
            "    newer = lock.but(wanted=lock.wanted + 1, wanted_by=nonce, "
            "traceparent=target.traceparent)\n    if lock.finished:\n"
        ),
        (
            "    newer = lock.but(wanted=lock.wanted + 1, wanted_by=nonce, "
            "traceparent=target.traceparent)\n    if False:\n"
        ),
        test="tests/unit/rules/test_task_rules.py::test_newer_payload_leads_to_what_the_table_says",
    ),
    Mutant(
        "a paused generator that is declared anew is dispatched",
        "rules/admin.py",
        "dispatch=moved and not lock.paused)",
        "dispatch=moved)",
        test="tests/unit/rules/test_admin.py::test_generator_that_is_declared_anew",
    ),
    Mutant(
        "a generator whose new schedule is over recurs on",
        "rules/admin.py",
        "    if upcoming is None:\n        return writes.ended(newer",
        "    if False:\n        return writes.ended(newer",
        test="tests/unit/rules/test_admin.py::test_generator_that_is_declared_anew",
    ),
    Mutant(
        "an ended generator is paused",
        "rules/admin.py",
        '    if lock.finished:\n        return CallRefused(Refusal.ENDED, f"it is {lock.status}; only',
        '    if False:\n        return CallRefused(Refusal.ENDED, f"it is {lock.status}; only',
        test="tests/unit/rules/test_task_rules.py::test_paused_generator_is_not_due",
    ),
    Mutant(
        "a generator is resumed that is not paused",
        "rules/admin.py",
        "    if not lock.paused:\n",
        "    if False:\n",
        test="tests/unit/rules/test_task_rules.py::test_paused_generator_is_not_due",
    ),
    Mutant(
        "a resumed generator is not dispatched",
        "rules/admin.py",
        "    return Put(again, dispatch=True)\n",
        "    return Put(again)\n",
        test="tests/unit/rules/test_task_rules.py::test_paused_generator_is_not_due",
    ),
    Mutant(
        "a step is resolved that is not quarantined",
        "rules/admin.py",
        (
            "    if lock.status is not Status.QUARANTINED:\n        return CallRefused(\n"
            "            Refusal.NOT_QUARANTINED"
        ),
        "    if False:\n        return CallRefused(\n            Refusal.NOT_QUARANTINED",
        test="tests/unit/rules/test_refusals.py::test_calls_are_decided_as_the_table_says",
    ),
    Mutant(
        "a step that is resolved as complete loses its result",
        "rules/admin.py",
        "            return complete(signed, result, at)\n",
        "            return complete(signed, NO_RESULT, at)\n",
        test="tests/unit/rules/test_admin.py::test_person_completes_with_a_result",
    ),
    Mutant(
        "a chain is completed from outside by an old entity",
        "rules/admin.py",
        "    if loaded != lock.sequence:\n",
        "    if False:\n",
        test="tests/unit/rules/test_refusals.py::test_calls_are_decided_as_the_table_says",
    ),
    Mutant(
        "a chain of another environment is completed from outside",
        "rules/admin.py",
        "    if lock.env != at.env:\n",
        "    if False:\n",
        test="tests/unit/rules/test_refusals.py::test_calls_are_decided_as_the_table_says",
    ),
    Mutant(
        "a running chain is completed from outside",
        "rules/admin.py",
        ('    if lock.status is not Status.SCHEDULED:\n        return CallRefused(_occupied(lock), f"sequence'),
        '    if False:\n        return CallRefused(_occupied(lock), f"sequence',
        test="tests/unit/rules/test_refusals.py::test_calls_are_decided_as_the_table_says",
    ),
    Mutant(
        "a running record is said to be quarantined",
        "rules/admin.py",
        "    return Refusal.RUNNING if lock.status is Status.LEASED else Refusal.QUARANTINED\n",
        "    return Refusal.QUARANTINED\n",
        test="tests/unit/rules/test_refusals.py::test_calls_are_decided_as_the_table_says",
    ),
)
