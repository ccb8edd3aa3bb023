"""
Mistakes in the store, each with the test that catches it.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

STORE = (
    Mutant(
        "a key whose commit's answer was lost is not passed on",
        "store/side_writes.py",
        "        if result is None:\n            return Freed(self.key)\n",
        "        if result is None:\n            return None\n",
        test="tests/unit/store/test_flow.py::test_resource_key_is_given_back_with_the_end",
    ),
    Mutant(
        "a key that was read is taken for the attempt's own",
        "store/side_writes.py",
        "        self.lost = not holds(record.lock, self.holder, self.token)\n",
        "        self.lost = False\n",
        test="tests/unit/store/test_flow.py::test_resource_key_is_given_back_with_the_end",
    ),
    Mutant(
        "a transaction under a key does not check it",
        "store/side_writes.py",
        (
            "        write.update_mask.SetInParent()\n"
            "        write.current_document.update_time.CopyFrom(self.version)\n"
        ),
        "        write.update_mask.SetInParent()\n",
        test="tests/integration/effects/test_freed_keys.py::test_key_that_is_freed_while_a_transaction_is_open_refuses_its_commit",
    ),
    Mutant(
        "an end is held up by tasks that come for its key",
        "store/flow.py",
        "    if more.frees and refusals >= _REFUSALS:\n",
        "    if False:\n",
        test="tests/unit/store/test_flow.py::test_resource_key_is_given_back_with_the_end",
    ),
    Mutant(
        "a key that was lost is given back",
        "store/flow.py",
        "    return () if hold.lost else (",
        "    return (",
        test="tests/unit/store/test_flow.py::test_resource_key_is_given_back_with_the_end",
    ),
    Mutant(
        "a record that needs a newer release is changed",
        "store/flow.py",
        "            if not self._own and before is not None and before.needs:\n",
        "            if False:\n",
        test="tests/unit/store/test_flow.py::test_record_that_needs_a_newer_release_is_its_holders_alone",
    ),
    Mutant(
        "a refused write is tried until patience ends",
        "store/flow.py",
        "            elif error.failure is FailureClass.REFUSED:\n",
        "            elif False:\n",
        test="tests/unit/store/test_flow.py::test_errors",
    ),
    Mutant(
        "a change never gives up",
        "store/flow.py",
        "            if elapsed(self._failed, self._clock.mark()) >= self._patience:\n",
        "            if False:\n",
        test="tests/unit/store/test_flow.py::test_errors",
    ),
    Mutant(
        "documents along are not read again after a conflict",
        "store/flow.py",
        (
            "            if self._along is not None:\n                with self._told():\n"
            "                    yield ReadAlong"
        ),
        "            if False:\n                with self._told():\n                    yield ReadAlong",
        test="tests/unit/store/test_flow.py::test_failure_to_look_at_them_again_tells_of_a_lost_answer",
    ),
    Mutant(
        "a chain is scheduled without room for its run",
        "store/flow.py",
        "        if self._room and needs_room(snapshot.lock, put.lock):\n",
        "        if False:\n",
        test="tests/unit/store/test_flow.py::test_room_is_checked_by_what_is_stored",
    ),
    Mutant(
        "a commit in doubt that another writer made impossible stays in doubt",
        "store/flow.py",
        "        if snapshot.version != before.version:\n",
        "        if False:\n",
        test="tests/unit/store/test_flow.py::test_errors",
    ),
    Mutant(
        "a failure after a doubtful commit says that nothing is applied",
        "store/flow.py",
        '            error.facts["unknown"] = self._unsure is not None\n',
        "            pass\n",
        test="tests/unit/store/test_flow.py::test_failure_to_look_at_them_again_tells_of_a_lost_answer",
    ),
    Mutant(
        "the server's times are not known after a commit",
        "store/snapshot.py",
        "        if self.stamped and lock is not None:\n",
        "        if False:\n",
        test="tests/integration/effects/test_floods.py::test_one_that_waits_alone_is_an_ordinary_mail",
    ),
    Mutant(
        "a version loses its nanoseconds",
        "store/snapshot.py",
        '    return f"{stamp.seconds}.{stamp.nanos}"\n',
        '    return f"{stamp.seconds}.0"\n',
        test="tests/integration/effects/test_refused_for_good.py::test_caller_that_is_refused_once_ends_the_record",
    ),
    Mutant(
        "a task without retention expires",
        "store/retiring.py",
        "    if RETENTION not in stored:\n",
        "    if False:\n",
        test="tests/unit/store/test_flow.py::test_resource_key_is_given_back_with_the_end",
    ),
    Mutant(
        "contention counts as an outage",
        "store/failures.py",
        "    if unsure or error.failure is not FailureClass.CONTENTION:\n",
        "    if True:\n",
        test="tests/unit/store/test_flow.py::test_errors",
    ),
    Mutant(
        "a record that needs a newer release is written",
        "store/needs.py",
        "    if unknown:\n        raise",
        "    if False:\n        raise",
        test="tests/unit/store/test_flow.py::test_record_that_needs_a_newer_release_is_its_holders_alone",
    ),
    Mutant(
        "a transaction under a key commits without the key",
        "store/transaction.py",
        "    if hold is not None and not (keyed or alone or hold.lost):\n",
        "    if False:\n",
        test="tests/integration/effects/test_freed_keys.py::test_key_that_is_freed_while_a_transaction_is_open_refuses_its_commit",
    ),
    Mutant(
        "a condition that does not hold is an error",
        "store/store.py",
        ('            if error.failure is FailureClass.REFUSED:\n                raise error.translated("writing"'),
        '            if True:\n                raise error.translated("writing"',
        test="tests/integration/effects/test_resource_key_races.py::test_key_found_free_of_a_postponed_waiter_is_not_taken_after_its_claim",
    ),
    Mutant(
        "a document that is too large is scheduled",
        "store/sizes.py",
        "    if size > most:\n",
        "    if False:\n",
        test="tests/unit/store/test_sizes.py::test_limit_is_to_the_byte_and_names_what_is_known",
    ),
    Mutant(
        "the fields that a write deletes count",
        "store/sizes.py",
        "            target.pop(last, None)\n",
        "            pass\n",
        test="tests/unit/store/test_sizes.py::test_what_a_write_leaves",
    ),
    Mutant(
        "a negative count is read",
        "store/readers.py",
        "    if 0 < number < _MOST:\n",
        "    if number < _MOST:\n",
        test="tests/unit/store/test_damaged.py::test_of_several_damages_the_same_one_is_named_always",
    ),
    Mutant(
        "a text is read where a number should be",
        "store/readers.py",
        (
            "    text: str = value.string_value\n"
            '    return text if text or value.WhichOneof("value_type") == "string_value" else _odd(value)\n'
        ),
        "    text: str = value.string_value\n    return text\n",
        test="tests/unit/store/test_stored_lock.py::test_foreign_record_is_named",
    ),
    Mutant(
        "a lock that is no map counts as none",
        "store/lock_codec.py",
        '        raise _damaged(document, path, {WHOLE: f"it is {shown(value)}, and no map"})\n',
        "        return None\n",
        test="tests/unit/store/test_damaged.py::test_a_lock_that_is_no_map_is_damaged",
    ),
    Mutant(
        "a record without an environment is read",
        "store/lock_codec.py",
        "    if not values.keys() >= _REQUIRED:\n",
        "    if False:\n",
        test="tests/unit/store/test_stored_lock.py::test_record_without_what_it_must_have_is_none_of_ours",
    ),
    Mutant(
        "a field that does not fit the others is read",
        "store/lock_codec.py",
        "    if misfit is not None and not features.unknown(lock):\n",
        "    if False:\n",
        test="tests/unit/store/test_damaged.py::test_a_resource_key_has_no_time_of_its_own",
    ),
    Mutant(
        "an error shows the user's headers",
        "store/readers.py",
        '        raise TypeError("it is no map of texts")\n',
        '        raise TypeError(f"it is {found}")\n',
        test="tests/unit/store/test_damaged.py::test_no_error_shows_what_may_be_secret",
    ),
    Mutant(
        "all fields of a record are written each time",
        "store/lock_codec.py",
        "    for name in compress(new, map(is_not, new.values(), old.values())):\n"
        "        value, known = new[name], old[name]\n"
        "        if known is not None and value == known:\n",
        "    for name in new:\n        value, known = new[name], old[name]\n        if False:\n",
        test="tests/unit/store/test_stored_lock.py::test_write_that_is_stamped_alone_has_a_mask",
    ),
    Mutant(
        "the end of an attempt waits for its resource key until that is repaired",
        "store/flow.py",
        "                if error.document != hold.path or not tried.more.frees:\n",
        "                if True:\n",
        test="tests/integration/effects/test_damaged.py::test_work_is_not_repeated_because_its_key_is_damaged",
    ),
)
