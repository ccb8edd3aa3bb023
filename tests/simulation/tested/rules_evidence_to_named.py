"""
Mistakes in the rules, each with the test that catches it, from evidence.py to named.py.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

RULES_EVIDENCE_TO_NAMED = (
    Mutant(
        "a holder counts as dead at its grant though it renewed its lease",
        "rules/evidence.py",
        "        return max(self.granted_at, self.renewed_at or self.granted_at)\n",
        "        return self.granted_at\n",
        test="tests/unit/rules/test_evidence_times.py::test_end_of_another_request_or_process_proves_nothing",
    ),
    Mutant(
        "an end line is waited for from the last renewal",
        "rules/evidence.py",
        "        return max(self.alive_at, self.expired_at or self.granted_at)\n",
        "        return self.alive_at\n",
        test="tests/unit/rules/test_evidence_times.py::test_request_that_names_no_delivery_counts_from_the_end_of_the_lease",
    ),
    Mutant(
        "a line that it never started ends a holder that has started",
        "rules/evidence.py",
        'or (by_event["never-started"] and not by_event["started"]))',
        'or by_event["never-started"])',
        test="tests/unit/rules/test_evidence.py::test_what_the_platform_says_is_wanted_where_the_holder_is_silent",
    ),
    Mutant(
        "copies of a start line from two places count",
        "rules/evidence.py",
        ('    resource, instance, pid, parent = found.pop() if len(found) == 1 else ("", None, None, None)\n'),
        '    resource, instance, pid, parent = found.pop() if found else ("", None, None, None)\n',
        test="tests/unit/rules/test_evidence.py::test_start_that_is_told_from_two_places_leads_to_no_instance",
    ),
    Mutant(
        "of two announced ends the first one counts",
        "rules/evidence.py",
        "    settlement = _settlement(returned[-1].payload",
        "    settlement = _settlement(returned[0].payload",
        test="tests/unit/rules/test_evidence.py::test_judge_takes_the_last_announced_end",
    ),
    Mutant(
        "a settlement that is no JSON object counts",
        "rules/evidence.py",
        "    return value if isinstance(value, dict) else None\n",
        "    return value\n",
        test="tests/unit/rules/test_evidence.py::test_judge_finds",
    ),
    Mutant(
        "a request that was cut off counts as the end of its code",
        "rules/evidence.py",
        "    cut = statuses & _STILL_RUNNING\n",
        "    cut = set()\n",
        test="tests/unit/rules/test_evidence.py::test_judge_finds",
    ),
    Mutant(
        "a request that ended before the last renewal is the end",
        "rules/evidence.py",
        "    if end + _SLACK < holder.alive_at:\n",
        "    if False:\n",
        test="tests/unit/rules/test_evidence_times.py::test_end_of_another_request_or_process_proves_nothing",
    ),
    Mutant(
        "a line of its own is not waited for after its request",
        "rules/evidence.py",
        "    return at if surely and at >= holder.alive_at else max(at, holder.lease_end)\n",
        "    return at\n",
        test="tests/unit/rules/test_evidence_times.py::test_request_that_names_no_delivery_counts_from_the_end_of_the_lease",
    ),
    Mutant(
        "a line with another holder's nonce counts as its own",
        "rules/evidence.py",
        'or own.get("holder") != holder.nonce:\n',
        "or False:\n",
        test="tests/unit/rules/test_evidence.py::test_judge_finds",
    ),
    Mutant(
        "a line about another sequence counts as its own",
        "rules/evidence.py",
        'or _number(own.get("sequence")) != holder.sequence:\n',
        "or False:\n",
        test="tests/unit/rules/test_evidence.py::test_judge_finds",
    ),
    Mutant(
        "a request of another delivery is taken for its own",
        "rules/evidence.py",
        (
            "    return document in (holder.document, path_digest(holder.document)) and sequence == "
            "str(holder.sequence)\n"
        ),
        "    return True\n",
        test="tests/unit/rules/test_evidence.py::test_judge_finds",
    ),
    Mutant(
        "a refused caller's request counts as the holder's",
        "rules/evidence.py",
        "or line.status in _TURNED_AWAY:\n",
        "or False:\n",
        test="tests/unit/rules/test_evidence.py::test_words_of_users_are_no_evidence",
    ),
    Mutant(
        "a mail shows all lines of the logs",
        "rules/evidence.py",
        "    for line in lines[:MAX_EVIDENCE]:\n",
        "    for line in lines:\n",
        test="tests/unit/rules/test_evidence.py::test_verdict_bounds_its_evidence",
    ),
    Mutant(
        "a crash of another process of the instance counts",
        "rules/evidence.py",
        "    return said is not None and said[1] in (None, str(place.pid))\n",
        "    return said is not None\n",
        test="tests/unit/rules/test_evidence.py::test_judge_finds",
    ),
    Mutant(
        "a crash of before the start counts",
        "rules/evidence.py",
        "        if line.at >= since and not line.payload",
        "        if not line.payload",
        test="tests/unit/rules/test_evidence_times.py::test_end_of_another_request_or_process_proves_nothing",
    ),
    Mutant(
        "a request on another instance counts",
        "rules/evidence.py",
        ("    if place is not None and (line.resource, line.instance) != place[:2]:\n        return False\n"),
        "",
        test="tests/unit/rules/test_evidence.py::test_judge_finds",
    ),
    Mutant(
        "a holder that renewed is taken over",
        "rules/expiry.py",
        ('    if at.read < expires_at(lock):\n        return Refused(Outcome.BUSY, "the lease was renewed"'),
        '    if False:\n        return Refused(Outcome.BUSY, "the lease was renewed"',
        test="tests/unit/rules/test_rules.py::test_take_over_decides_as_the_table_says",
    ),
    Mutant(
        "a tombstone keeps its result",
        "rules/expiry.py",
        "erased=True, result=None,",
        "erased=True,",
        test="tests/unit/rules/test_task_rules.py::test_tombstone",
    ),
    Mutant(
        "a refused task owes no alert",
        "rules/expiry.py",
        "    if refused is not None and attention.is_stuck(known, at):\n",
        "    if False:\n",
        test="tests/unit/rules/test_attention.py::test_task_that_waits_needs_a_person_as_the_table_says",
    ),
    Mutant(
        "a standstill is recorded again at each look",
        "rules/expiry.py",
        "    return None if marked.attention == lock.attention else Put(",
        "    return Put(",
        test="tests/unit/rules/test_attention.py::test_graver_reason_stays_and_the_time_too",
    ),
    Mutant(
        "a trigger dispatches the second name again",
        "rules/expiry.py",
        "    return lock.scheduled_by, lock.sequence, lock.dispatches\n",
        "    return lock.scheduled_by, lock.sequence, 0\n",
        test="tests/unit/rules/test_rules.py::test_each_part_of_the_name_makes_it_new",
    ),
    Mutant(
        "a task that is not due yet counts as overdue",
        "rules/expiry.py",
        '    return lock.due is not None and lock.due.rsplit("/", 1)[-1] <= instant(now)\n',
        "    return lock.due is not None\n",
        test="tests/unit/rules/test_rules.py::test_written_documents_owe_a_task_as_the_table_says",
    ),
    Mutant(
        "a record that needs a newer release is touched",
        "rules/features.py",
        "    return () if lock is None or not lock.needs else of(lock.needs)\n",
        "    return ()\n",
        test="tests/unit/rules/test_attention.py::test_features_keep_a_process_away_as_the_table_says",
    ),
    Mutant(
        "all features count as known",
        "rules/features.py",
        "    return tuple(need for need in needs if need not in KNOWN)\n",
        "    return ()\n",
        test="tests/unit/rules/test_attention.py::test_features_keep_a_process_away_as_the_table_says",
    ),
    Mutant(
        "groups of two kinds have one mark",
        "rules/floods.py",
        'sha256("\\n".join(self).encode(',
        'sha256("\\n".join(self[:1]).encode(',
        test="tests/unit/rules/test_floods.py::test_event_kind_name_and_words_do",
    ),
    Mutant(
        "each document has a cause of its own",
        "rules/floods.py",
        "    text = f\"{'-'.join(parts)}: {_masked(reason, ids)}\"[:_LONGEST_CAUSE]\n",
        "    text = f\"{'-'.join(parts)}: {reason}\"[:_LONGEST_CAUSE]\n",
        test="tests/unit/rules/test_floods.py::test_what_differs_between_documents_makes_no_other_reason",
    ),
    Mutant(
        "each parent document has a kind of its own",
        "rules/floods.py",
        '    return "/".join("*" if place % 2 else part for place, part in enumerate(parts))\n',
        '    return "/".join(parts)\n',
        test="tests/unit/rules/test_floods.py::test_kind",
    ),
    Mutant(
        "the id of a once-task is part of the cause",
        "rules/floods.py",
        "| ({name.id} if name is not None else set())\n",
        "| set()\n",
        test="tests/unit/rules/test_floods.py::test_what_differs_between_documents_makes_no_other_reason",
    ),
    Mutant(
        "windows never end",
        "rules/floods.py",
        "    open_ = {name: window for name, window in windows.items() if now < window.until}\n",
        "    open_ = dict(windows)\n",
        test="tests/unit/rules/test_rules.py::test_alerts_leave_as_the_table_says",
    ),
    Mutant(
        "any number of causes has a window",
        "rules/floods.py",
        "    if cause not in open_ and len(open_) >= MOST_CAUSES:\n",
        "    if False:\n",
        test="tests/unit/rules/test_rules.py::test_alerts_leave_as_the_table_says",
    ),
    Mutant(
        "the alert that opened a window waits for it",
        "rules/floods.py",
        (
            "    if window is not None:\n"
            "        return Turn(cause, None if window.first == id_ else window.until, None)\n"
        ),
        "    if window is not None:\n        return Turn(cause, window.until, None)\n",
        test="tests/unit/rules/test_rules.py::test_alerts_leave_as_the_table_says",
    ),
    Mutant(
        "a parked task is forgotten",
        "rules/keys.py",
        "    return Put(with_due(lock, at, parked=place), Outcome.PARKED)\n",
        "    return Put(lock, Outcome.PARKED)\n",
        test="tests/unit/rules/test_task_rules.py::test_parking_and_handing_over",
    ),
    Mutant(
        "a task that was handed its key is not dispatched",
        "rules/keys.py",
        (
            "    ready = with_due(lock, at, parked=None, ready_at=None, dispatches=lock.dispatches + 1)\n"
            "    return Put(ready, dispatch=True)\n"
        ),
        (
            "    ready = with_due(lock, at, parked=None, ready_at=None, dispatches=lock.dispatches + 1)\n"
            "    return Put(ready)\n"
        ),
        test="tests/unit/rules/test_task_rules.py::test_parking_and_handing_over",
    ),
    Mutant(
        "a payload that nobody can read needs a person at once",
        "rules/leaving.py",
        "    if since is None or at.now < since + LEFT:\n",
        "    if False:\n",
        test="tests/unit/rules/test_task_rules.py::test_payloads_of_another_version",
    ),
    Mutant(
        "a payload that nobody can read is left for ever",
        "rules/leaving.py",
        "    if since is None or at.now < since + LEFT:\n",
        "    if True:\n",
        test="tests/unit/rules/test_task_rules.py::test_no_log_is_asked_about_what_was_put_away",
    ),
    Mutant(
        "a payload that nobody can read is set aside without an alert",
        "rules/leaving.py",
        '    owing = writes.owe(lock, Event.QUARANTINE, f"for',
        '    owing = lock.but() or (lock, Event.QUARANTINE, f"for',
        test="tests/unit/rules/test_task_rules.py::test_payloads_of_another_version",
    ),
    Mutant(
        "a lock without an end ends after a century",
        "rules/named.py",
        "    return None if lock.lease_seconds >= UNLIMITED else expires_at(lock)\n",
        "    return expires_at(lock)\n",
        test="tests/unit/rules/test_verbs.py::test_a_named_lock_tells_until_when_it_is_held",
    ),
    Mutant(
        "an acquire of unknown fate frees the lock of another",
        "rules/named.py",
        "    if lock is None or lock.status is not Status.LEASED or lock.holder != holder:\n",
        "    if lock is None or lock.status is not Status.LEASED:\n",
        test="tests/unit/rules/test_named_rules.py::test_abandoned_acquire_is_freed_only_if_it_was_granted",
    ),
    Mutant(
        "the tokens of a lock go back when a create comes late",
        "rules/named.py",
        "        token=max(lock.token, before) + 1,\n",
        "        token=lock.token + 1,\n",
        test="tests/unit/rules/test_named_rules.py::test_release_leaves_the_next_sequence_and_the_token_that_was_freed",
    ),
    Mutant(
        "a holder whose first grant came late begins with its old token",
        "rules/named.py",
        (
            "            return _granted(lock, policy, claimant) if came_late(lock) else "
            "Put(lock.but(leased_at=SERVER_TIME))\n"
        ),
        "            return Put(lock.but(leased_at=SERVER_TIME))\n",
        test="tests/unit/rules/test_named_rules.py::test_create_that_comes_late_is_granted_the_next_token_first",
    ),
    Mutant(
        "a first grant never counts as late",
        "rules/named.py",
        "writes.epoch_milliseconds(lock.granted_at) > lock.token + _PROMPT\n",
        "False\n",
        test="tests/unit/rules/test_named_rules.py::test_create_that_comes_late_is_granted_the_next_token_first",
    ),
)
