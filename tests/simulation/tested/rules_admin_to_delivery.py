"""
Mistakes in the rules, each with the test that catches it, from admin.py to delivery.py.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

RULES_ADMIN_TO_DELIVERY = (
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
        "    if lock.erased:\n",
        "    if False:\n",
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
        "    kept = lock.keyed if lock.status is not Status.COMPLETED else again.keyed\n",
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
        "a snooze counts as an attempt",
        "rules/attempts.py",
        "    return writes.again(lock.but(attempts=max(0, lock.attempts - 1)), wait",
        "    return writes.again(lock, wait",
        test="tests/unit/rules/test_rules.py::test_settling_counts_attempts",
    ),
    Mutant(
        "a lease that is given back counts as an attempt",
        "rules/attempts.py",
        "status=Status.SCHEDULED, attempts=max(0, lock.attempts - 1))",
        "status=Status.SCHEDULED)",
        test="tests/unit/rules/test_rules.py::test_settling_counts_attempts",
    ),
    Mutant(
        "one attempt more than the most is made",
        "rules/attempts.py",
        "    if lock.attempts >= lock.max_attempts:\n",
        "    if lock.attempts > lock.max_attempts:\n",
        test="tests/unit/rules/test_task_rules.py::test_cancelled_while_it_ran",
    ),
    Mutant(
        "a settling that another process may have moved counts as its own",
        "rules/attempts.py",
        ("    return alive or (found.sequence == before.sequence + 1 and found.scheduled_token == before.token)\n"),
        "    return True\n",
        test="tests/unit/rules/test_named_rules.py::test_release_whose_answer_was_lost_is_recognised",
    ),
    Mutant(
        "the fence counts a quarantined holder as lost",
        "rules/attempts.py",
        "    if lock.status in (Status.LEASED, Status.QUARANTINED) and lock.token",
        "    if lock.status is Status.LEASED and lock.token",
        test="tests/unit/rules/test_rules.py::test_fence_holds_as_the_table_says",
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
        "the time since when a person is needed moves on",
        "rules/attention.py",
        '    since = instant(at.now) if lock.attention is None else lock.attention.rsplit("/", 1)[-1]\n',
        "    since = instant(at.now)\n",
        test="tests/unit/rules/test_attention.py::test_graver_reason_stays_and_the_time_too",
    ),
    Mutant(
        "a logged settlement that is read forgets its fingerprint",
        "rules/decisions.py",
        ('            fingerprint=None if data.get("fingerprint") is None else Fingerprint(*data["fingerprint"]),\n'),
        "",
        test="tests/unit/rules/test_task_rules.py::test_settlement_in_the_log_has_its_fingerprint",
    ),
    Mutant(
        "a URL may be longer than Cloud Tasks takes",
        "rules/delivery.py",
        '    if _url_length(made) > _LONGEST_URL:\n        made = f"{target}{mark}{numbers}"\n',
        "",
        test="tests/unit/rules/test_delivery.py::test_urls_end_where_a_delivery_could_not_be_named",
    ),
    Mutant(
        "the query of a URL is lost",
        "rules/delivery.py",
        '    mark = "?" if "?" not in target else',
        '    mark = "?" if True else',
        test="tests/unit/rules/test_delivery.py::test_urls_of_deliveries_end_at_2083_characters",
    ),
    Mutant(
        "the digest of a path could be a path",
        "rules/delivery.py",
        '    return f"sha256:{hashlib',
        '    return f"sha256/{hashlib',
        test="tests/unit/rules/test_evidence.py::test_judge_finds",
    ),
    Mutant(
        "a URL that is too long is taken",
        "rules/delivery.py",
        "        if length <= LONGEST_TARGET\n",
        "        if True\n",
        test="tests/unit/rules/test_delivery.py::test_urls_end_where_a_delivery_could_not_be_named",
    ),
)
