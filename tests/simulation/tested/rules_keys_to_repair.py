"""
Mistakes in the rules, each with the test that catches it, from keys.py to repair.py.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

RULES_KEYS_TO_REPAIR = (
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
        "a key that nobody has used is held",
        "rules/keys.py",
        '"status": Status.COMPLETED})',
        '"status": Status.LEASED})',
        test="tests/unit/rules/test_writes.py::test_record_of_a_key",
    ),
    Mutant(
        "each claim leaves the key's document as it was",
        "rules/keys.py",
        "token=token, scheduled_by=nonce)",
        "token=token)",
        test="tests/unit/rules/test_writes.py::test_record_of_a_key",
    ),
    Mutant(
        "a free key for which tasks wait is looked at late",
        "rules/keys.py",
        "    wait = HELD_RECHECK if key.status is Status.LEASED else timedelta(seconds=at.grace)\n",
        "    wait = HELD_RECHECK\n",
        test="tests/unit/rules/test_writes.py::test_record_of_a_key",
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
        "the late holder takes a person's decision for its own release",
        "rules/named.py",
        (
            "        keyed=_another_number(lock, at),\n        scheduled_token=lock.token,\n"
            "        settled_by=nonce,\n        attempts=0,\n    )"
        ),
        "        scheduled_token=lock.token,\n        settled_by=nonce,\n        attempts=0,\n    )",
        test="tests/unit/rules/test_by_hand.py::test_late_holder_is_refused_however_many_have_held_the_lock_since",
    ),
    Mutant(
        "a key is forgotten that has run again since the person looked",
        "rules/named.py",
        '    if lock.token != token:\n        return CallRefused(Refusal.MOVED, f"it has run again',
        '    if False:\n        return CallRefused(Refusal.MOVED, f"it has run again',
        test="tests/unit/rules/test_by_hand.py::test_rule_decides_as_its_table_says",
    ),
    Mutant(
        "a caller is not told until when a lock is held",
        "rules/named.py",
        'with token {lock.token}", until)',
        'with token {lock.token}")',
        test="tests/unit/rules/test_admin.py::test_caller_learns_until_when_a_lock_is_held",
    ),
    Mutant(
        "the tokens of a lock go back when a create comes late",
        "rules/named.py",
        "        token=max(lock.token, before) + 1,\n",
        "        token=lock.token + 1,\n",
        test="tests/integration/locks/test_lock.py::test_late_create_does_not_take_the_tokens_back",
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
    Mutant(
        "an alert that a process sends counts as undecided",
        "rules/owing.py",
        "    return owed.tries == 0 and owed.digest is None\n",
        "    return owed.digest is None\n",
        test="tests/unit/rules/test_rules.py::test_alerts_are_told_as_the_table_says",
    ),
    Mutant(
        "an alert that was assigned is assigned again",
        "rules/owing.py",
        "if o.id in turns and is_decided(o) else o",
        "if o.id in turns else o",
        test="tests/unit/rules/test_rules.py::test_alerts_are_told_as_the_table_says",
    ),
    Mutant(
        "the sender of an alert is trusted for no time",
        "rules/owing.py",
        "    return replace(owed, until=at.now + timedelta(seconds=at.alert_retry), tries=1)\n",
        "    return replace(owed, until=at.now, tries=1)\n",
        test="tests/unit/rules/test_rules.py::test_alerts_are_told_as_the_table_says",
    ),
    Mutant(
        "an alert is sent before its sender is overdue",
        "rules/owing.py",
        "if o.until <= read and o.id in seen",
        "if o.id in seen",
        test="tests/unit/rules/test_rules.py::test_alerts_are_told_as_the_table_says",
    ),
    Mutant(
        "a sender takes all alerts of a document",
        "rules/owing.py",
        "_lent(o, at, digest) if o.id in mine else o for",
        "_lent(o, at, digest) for",
        test="tests/unit/rules/test_writes.py::test_sender_touches_its_own_alerts",
    ),
    Mutant(
        "a sender whose mails fail tries at the same pace for ever",
        "rules/owing.py",
        "    wait = min(at.alert_retry * 2 ** min(owed.tries, 10), MAX_GRACE)\n",
        "    wait = at.alert_retry\n",
        test="tests/unit/rules/test_rules.py::test_alerts_are_told_as_the_table_says",
    ),
    Mutant(
        "a digest that is put off puts off all alerts",
        "rules/owing.py",
        "    owed = tuple(replace(o, until=until) if o.id in ids else o for o in lock.owed)\n",
        "    owed = tuple(replace(o, until=until) for o in lock.owed)\n",
        test="tests/unit/rules/test_writes.py::test_sender_touches_its_own_alerts",
    ),
    Mutant(
        "all alerts of a document count as sent with one",
        "rules/owing.py",
        "    owed = tuple(o for o in lock.owed if o.id not in ids)\n",
        "    owed = ()\n",
        test="tests/unit/rules/test_writes.py::test_sender_touches_its_own_alerts",
    ),
    Mutant(
        "a result that is stored as text is not read",
        "rules/record.py",
        "        return self.value if self.text is None else json.loads(self.text)\n",
        "        return self.value\n",
        test="tests/unit/rules/test_writes.py::test_notes_count_for_their_own_grant",
    ),
    Mutant(
        "steps count all sequences of a document",
        "rules/record.py",
        "        return self.sequence - self.base\n",
        "        return self.sequence\n",
        test="tests/unit/rules/test_rules.py::test_reset_keeps_key_step_and_token",
    ),
    Mutant(
        "the steps of an earlier chain count",
        "rules/record.py",
        "        return sequence - self.base if self.base < sequence <= self.sequence else 0\n",
        "        return sequence - self.base if sequence <= self.sequence else 0\n",
        test="tests/unit/rules/test_writes.py::test_steps_count_within_the_chain",
    ),
    Mutant(
        "a newer payload does not count while an older one runs",
        "rules/record.py",
        "    return lock is not None and lock.wanted > lock.granted\n",
        "    return False\n",
        test="tests/unit/rules/test_task_rules.py::test_takeover_of_a_superseded_run_goes_on_with_the_newest",
    ),
    Mutant(
        "the time since an earlier grant counts for a later one",
        "rules/record.py",
        "        return since.at if since is not None and mine else None\n",
        "        return since.at if since is not None else None\n",
        test="tests/unit/rules/test_attention.py::test_time_of_another_sequence_or_grant_is_as_if_absent",
    ),
    Mutant(
        "a lost result of an earlier run is told of a later one",
        "rules/record.py",
        "note is not None and (note.sequence, note.token) == (self.sequence, self.token) else None",
        "note is not None else None",
        test="tests/unit/rules/test_writes.py::test_notes_count_for_their_own_grant",
    ),
    Mutant(
        "the model of another payload counts",
        "rules/record.py",
        "if found is not None and found.data_hash == data_hash else None",
        "if found is not None else None",
        test="tests/unit/rules/test_writes.py::test_notes_count_for_their_own_grant",
    ),
    Mutant(
        "a note counts for no sequence",
        "rules/record.py",
        "Note(self.sequence, self.token, text)",
        "Note(0, self.token, text)",
        test="tests/unit/rules/test_writes.py::test_notes_count_for_their_own_grant",
    ),
    Mutant(
        "a failed task has not ended",
        "rules/record.py",
        "        return self.status in TERMINAL\n",
        "        return self.status is Status.COMPLETED\n",
        test="tests/unit/rules/test_task_rules.py::test_generator_is_ready",
    ),
    Mutant(
        "a changed record has no change",
        "rules/record.py",
        "        lock.__dict__.update(self.__dict__, **changes)\n",
        "        lock.__dict__.update(self.__dict__)\n",
        test="tests/unit/rules/test_writes.py::test_error_of_each_failure_is_kept",
    ),
    Mutant(
        "the defaults of a record replace its values",
        "rules/record.py",
        "        lock.__dict__.update(values)\n",
        "        lock.__dict__.update(values | DEFAULTS)\n",
        test="tests/unit/rules/test_writes.py::test_record_of_a_key",
    ),
    Mutant(
        "a lost result is returned as if there were none",
        "rules/record.py",
        ("        return Result(self.result, self.read(self.result_json), self.read(self.result_lost))\n"),
        "        return Result(self.result, self.read(self.result_json))\n",
        test="tests/unit/rules/test_writes.py::test_notes_count_for_their_own_grant",
    ),
    Mutant(
        "a lease that another attempt holds is cut off",
        "rules/refused.py",
        "        if at.read < writes.expires_at(lock):\n            return Refused",
        "        if False:\n            return Refused",
        test="tests/unit/rules/test_rules.py::test_refused_record_is_decided_as_the_table_says",
    ),
    Mutant(
        "a record that is cut off keeps all it has",
        "rules/refused.py",
        "    dropped = [name for names in _CUTS[: cut + 1] for name in names]\n",
        "    dropped = []\n",
        test="tests/unit/rules/test_rules.py::test_refused_record_loses_more_each_time",
    ),
    Mutant(
        "a cancelled chain that is cut off counts as failed",
        "rules/refused.py",
        "    cancelled = lock.cancel_requested_at is not None\n",
        "    cancelled = False\n",
        test="tests/unit/rules/test_rules.py::test_refused_record_is_decided_as_the_table_says",
    ),
    Mutant(
        "a chain that is cut off owes no alert",
        "rules/refused.py",
        (
            "        ended = writes.owe(writes.noted(ended, said, at), Event.FAILURE, said, (), "
            "at).but(settled_by=nonce)\n"
        ),
        "        ended = writes.noted(ended, said, at).but(settled_by=nonce)\n",
        test="tests/unit/rules/test_rules.py::test_refused_record_loses_more_each_time",
    ),
    Mutant(
        "the token of a repaired record goes back",
        "rules/repair.py",
        '    token = found.get("token", beyond if "token" in lost else 0)\n',
        '    token = found.get("token", 0)\n',
        test="tests/unit/rules/test_repair.py::test_what_can_not_be_read_is_beyond_all_that_was",
    ),
    Mutant(
        "a repaired record has the idempotency key of its first sequence",
        "rules/repair.py",
        "    if not keyed:\n        keyed = beyond\n",
        "    if not keyed:\n        keyed = 1\n",
        test="tests/unit/rules/test_repair.py::test_what_can_not_be_read_is_beyond_all_that_was",
    ),
    Mutant(
        "a record of another environment is repaired",
        "rules/repair.py",
        '    if found.get("env", at.env) != at.env:\n',
        "    if False:\n",
        test="tests/unit/rules/test_repair.py::test_what_only_a_person_knows_is_asked_for",
    ),
    Mutant(
        "a record is repaired while its lease may be held",
        "rules/repair.py",
        "    if until is not None and at.read is not None and at.read < until:\n",
        "    if False:\n",
        test="tests/unit/rules/test_repair.py::test_what_only_a_person_knows_is_asked_for",
    ),
    Mutant(
        "a record is repaired while its lease may be held, if one end of it can't be read",
        "rules/repair.py",
        '    if "granted_at" in found and',
        '    if ends and "granted_at" in found and',
        test="tests/unit/store/test_damaged.py::test_what_may_be_held_is_left",
    ),
    Mutant(
        "a record is repaired without its resource key",
        "rules/repair.py",
        '    if "key" in lost:\n',
        "    if False:\n",
        test="tests/unit/rules/test_repair.py::test_what_only_a_person_knows_is_asked_for",
    ),
    Mutant(
        "a record gets a new idempotency key though no person has said so",
        "rules/repair.py",
        "    if not wishes.new_key and (not",
        "    if False and (not",
        test="tests/unit/rules/test_repair.py::test_what_only_a_person_knows_is_asked_for",
    ),
    Mutant(
        "a repaired record begins at step 1",
        "rules/repair.py",
        ("    return sequence - base if sequence is not None and base is not None and base < sequence else None\n"),
        "    return 1\n",
        test="tests/unit/rules/test_repair.py::test_what_can_not_be_read_is_beyond_all_that_was",
    ),
    Mutant(
        "a damaged record's lease counts from its grant alone",
        "rules/repair.py",
        '        ends.append(found["leased_at"] + timedelta(0, lease.lease_seconds))\n',
        '        ends.append(found["granted_at"] + timedelta(0, lease.lease_seconds))\n',
        test="tests/unit/rules/test_repair.py::test_what_only_a_person_knows_is_asked_for",
    ),
)
