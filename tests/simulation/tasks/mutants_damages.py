"""
Mistakes about resource keys and generators whose records people damage.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

_KEY = "    record = runtime.store.read_all([path])[path]\n"
TASK_DAMAGES_MUTANTS = (
    Mutant(
        "a resource key that can't be read counts as free",
        "effects/keys.py",
        _KEY,
        "    try:\n"
        f"    {_KEY}"
        "    except DamagedError:\n"
        "        document, read = runtime.store.documents([path])[path]\n"
        "        assert document is not None\n"
        "        record = Snapshot(path, document.update_time, document, None, read)\n",
        "tasks",
    ),
    Mutant(
        "a resource key counts as free whose holder can't be read",
        "effects/keys.py",
        "        return record, Snapshot(path, None, None, _MAY_RUN.but(token=lock.token), read)\n",
        "        return record, None\n",
        "tasks",
    ),
    Mutant(
        "an occurrence that can't be read counts as ended",
        "tasks/generator.py",
        "            damage.attend(self._runtime, error)\n            return True\n",
        "            damage.attend(self._runtime, error)\n            return False\n",
        "tasks",
    ),
    Mutant(
        "a newer payload has only the attempts that are left of an older one",
        "rules/writes.py",
        "    elif superseded(lock):\n",
        "    elif False:\n",
        test="tests/unit/rules/test_task_rules.py::test_newest_payload_has_all_of_its_attempts_though_the_lease_was_given_back",
    ),
    Mutant(
        "a reset believes a token that is below that of its sequence",
        "rules/repair.py",
        '    if token < found.get("scheduled_token", 0):\n',
        "    if False:\n",
        test="tests/unit/rules/test_repair.py::test_what_can_not_be_read_is_beyond_all_that_was",
    ),
    Mutant(
        "a sweep does not see the key of a damaged task that waits",
        "store/queries.py",
        "        keys = dict.fromkeys(parked_key(place) for place in places)\n",
        '        locks = [document.fields["lock"].map_value.fields for document in found]\n'
        '        keys = dict.fromkeys(lock["key"].string_value or None for lock in locks)\n',
        also=(
            "store/queries.py",
            "        query.select.fields.add(field_path=_PARKED)\n",
            (
                "        query.select.fields.add(field_path=_PARKED)\n"
                '        query.select.fields.add(field_path="lock.key")\n'
            ),
        ),
        test="tests/integration/effects/test_freed_keys.py::test_damaged_waiter_of_a_deleted_key_is_told_of",
    ),
    Mutant(
        "a place in the queue of a key that was written by hand hides those behind it",
        "store/queries.py",
        "        floor = places[-1] + _NEXT if last is None else parked_prefix(env, last) + AFTER\n",
        '        floor = places[-1].rsplit("/", 2)[0] + AFTER\n',
        test="tests/integration/effects/test_freed_keys.py::test_places_that_a_person_wrote_hide_no_key",
    ),
    Mutant(
        "a key that was written by hand counts",
        "rules/document_paths.py",
        "    return key if _escaped(key) == parts[0] else None\n",
        "    return key\n",
        test="tests/unit/rules/test_document_paths.py::test_place_that_was_written_by_hand_has_no_key",
    ),
)
