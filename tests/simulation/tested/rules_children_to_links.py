"""
Mistakes in the rules of children, links, cut journals and ledgers, each with the test that catches it.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

_RULES = "tests/unit/rules/"
_CHILDREN = "test_family.py::"
_LINKS = "test_link_tokens.py::"
_LEDGER = "test_ledger.py::"
_DROPPED = "test_dropped.py::"
_JOURNAL = "test_journal_rules.py::"


def _mutant(file: str, mistake: str, old: str, new: str, test: str) -> Mutant:
    return Mutant(mistake, f"rules/{file}.py", old, new, test=f"{_RULES}{test}")


RULES_CHILDREN_TO_LINKS = (
    _mutant(
        "family",
        "the groups of one parent are one",
        'f"{path}\\n{nonce}".encode()',
        "path.encode()",
        f"{_CHILDREN}test_a_group_is_of_one_parent_and_one_nonce",
    ),
    _mutant(
        "family",
        "a child that has failed has ended well",
        "    return ENDED if lock.status is Status.COMPLETED else FAILED\n",
        "    return ENDED\n",
        f"{_CHILDREN}test_state_of_a_child_is_what_its_parent_asks_for",
    ),
    _mutant(
        "family",
        "a child is always open",
        '    return f"{group}/{state_of_child(lock)}"\n',
        '    return f"{group}/{OPEN}"\n',
        f"{_CHILDREN}test_state_of_a_child_is_what_its_parent_asks_for",
    ),
    _mutant(
        "family",
        "children are asked for every five minutes",
        "        pause = min(pause * 2, _LONGEST)\n",
        "        pause = min(pause, _LONGEST)\n",
        f"{_CHILDREN}test_children_are_asked_for_after_longer_and_longer_times",
    ),
    _mutant(
        "family",
        "children that have ended are waited for",
        "wait.sort is WaitFor.CHILDREN and wait.ended is None\n",
        "wait.sort is WaitFor.CHILDREN\n",
        f"{_CHILDREN}test_parent_awaits_children_that_have_not_ended",
    ),
    _mutant(
        "family",
        "a second cancellation of children replaces the first",
        "orphans=tuple(dict.fromkeys((*lock.orphans, *groups(lock.children)))))",
        "orphans=groups(lock.children))",
        f"{_CHILDREN}test_groups_are_kept_while_they_are_under_way_and_owed_when_cancelled",
    ),
    _mutant(
        "family",
        "a child that was never granted has begun",
        "    return lock.token > 0\n",
        "    return lock.token >= 0\n",
        f"{_CHILDREN}test_a_child_that_was_granted_once_has_begun",
    ),
    _mutant(
        "family",
        "a parent that has ended needs the outcomes of its children",
        "    if lock is None or lock.finished:\n        return True\n",
        "    if lock is None:\n        return True\n",
        f"{_CHILDREN}test_outcomes_are_needed_while_the_parent_has_their_group",
    ),
    _mutant(
        "family",
        "the expiry of a child is put off",
        "    return sooner if sooner < expires else None\n",
        "    return sooner\n",
        f"{_CHILDREN}test_the_expiry_of_a_child_only_comes_forward",
    ),
    _mutant(
        "family",
        "the mark of children that are over is a group",
        "mark.removesuffix(NOT_BEGUN) for mark in marks if mark != RELEASED))",
        "mark.removesuffix(NOT_BEGUN) for mark in marks))",
        f"{_CHILDREN}test_groups_are_the_nonces_without_their_marks",
    ),
    _mutant(
        "family",
        "a parent that has failed cancels children that have begun",
        'owed = tuple(f"{nonce}{NOT_BEGUN}" for',
        'owed = tuple(f"{nonce}" for',
        f"{_CHILDREN}test_an_end_owes_the_children_what_fits_it",
    ),
    _mutant(
        "family",
        "a group of children that is over stays",
        "    gone = set(over)\n",
        "    gone = set[str]()\n",
        f"{_CHILDREN}test_groups_are_kept_while_they_are_under_way_and_owed_when_cancelled",
    ),
    _mutant(
        "parents",
        "the end of any children ends the wait",
        '    if family.group_of(path, wait.nonce or "") != group:\n',
        "    if False:\n",
        f"{_CHILDREN}test_end_of_the_children_ends_the_wait_for_their_group",
    ),
    _mutant(
        "parents",
        "one cancellation of children counts for all",
        "    left = tuple(nonce for nonce in lock.orphans if nonce not in done)\n",
        "    left = ()\n",
        f"{_CHILDREN}test_cancellation_of_children_is_owed_until_it_is_done",
    ),
    _mutant(
        "retention",
        "a task that owes the cancellation of its children expires",
        " or bool(lock.orphans)\n",
        "\n",
        f"{_CHILDREN}test_task_that_owes_the_cancellation_of_its_children_stays",
    ),
    _mutant(
        "link_tokens",
        "the key is in the link",
        "    return hashlib.sha256(_DOMAIN + key.encode()).hexdigest()[:16]\n",
        "    return key\n",
        f"{_LINKS}test_key_is_not_in_its_digest",
    ),
    _mutant(
        "link_tokens",
        "a link is not in the alphabet of addresses",
        '    return f"{body}.{_signature(body, key)}"\n',
        '    return f"{body}.{_signature(body, key)}ü"\n',
        f"{_LINKS}test_link_is_read_with_each_key_that_may_have_signed_it",
    ),
    _mutant(
        "link_tokens",
        "a link that no key has signed is read",
        "    if not any(good):\n",
        "    if False:\n",
        f"{_LINKS}test_link_that_was_changed_is_refused",
    ),
    _mutant(
        "link_tokens",
        "each link of a question has an event of its own",
        '        asked = f"{self.key}\\n',
        '        asked = f"{self.label}{self.key}\\n',
        f"{_LINKS}test_links_of_one_question_have_one_event",
    ),
    _mutant(
        "link_tokens",
        "an answer has no label",
        " if self.label is None else self.label\n",
        "\n",
        f"{_LINKS}test_answer_is_its_label_or_its_payload",
    ),
    _mutant(
        "ledger",
        "an open effect has an end",
        "        ended = None if self.ended is None else instant(self.ended)\n",
        "        ended = instant(self.ended or self.begun)\n",
        f"{_LEDGER}test_effects_are_the_runs_with_a_key_in_the_order_of_the_journal",
    ),
    _mutant(
        "ledger",
        "entries are in the order of their names",
        "    return sorted(entries.values(), key=lambda entry: entry.ordinal)\n",
        "    return sorted(entries.values(), key=lambda entry: entry.name)\n",
        f"{_LEDGER}test_effects_are_the_runs_with_a_key_in_the_order_of_the_journal",
    ),
    _mutant(
        "ledger",
        "each run is an effect outside",
        'if entry.sort is EntrySort.RUN and "key" in (entry.more or {})\n',
        "if entry.sort is EntrySort.RUN\n",
        f"{_LEDGER}test_effects_are_the_runs_with_a_key_in_the_order_of_the_journal",
    ),
    _mutant(
        "ledger",
        "tries that failed are not told",
        '    tries = len((entry.more or {}).get("tries", ()))\n',
        "    tries = 0\n",
        f"{_LEDGER}test_entry_is_told_as_a_sentence_and_as_data",
    ),
    _mutant(
        "ledger",
        "an entry has no time as data",
        ', "at": instant(entry.at)}',
        "}",
        f"{_LEDGER}test_entry_is_told_as_a_sentence_and_as_data",
    ),
    _mutant(
        "ledger",
        "a task that has ended waits",
        "    if wait is None or lock.status not in (Status.SCHEDULED, Status.LEASED):\n",
        "    if wait is None:\n",
        f"{_LEDGER}test_wait_events_and_entries_are_rows",
    ),
    _mutant(
        "ledger",
        "an event that no wait has taken has no id",
        "instant(event.at)}, id {event.id}",
        "instant(event.at)}",
        f"{_LEDGER}test_wait_events_and_entries_are_rows",
    ),
    _mutant(
        "ledger",
        "sealed parts are not told",
        "    if lock.chunks:\n",
        "    if False:\n",
        f"{_LEDGER}test_wait_events_and_entries_are_rows",
    ),
    _mutant(
        "ledger",
        "the entries of the record are none",
        "    return last(JournalEntry.of(stored) for stored in lock.journal)\n",
        "    return last(())\n",
        f"{_LEDGER}test_wait_events_and_entries_are_rows",
    ),
    _mutant(
        "ledger",
        "the first entries are shown",
        "key=lambda entry: entry.ordinal)[-SHOWN:]",
        "key=lambda entry: entry.ordinal)[:SHOWN]",
        f"{_LEDGER}test_the_last_entries_are_shown",
    ),
    _mutant(
        "cutting",
        "a cut keeps the entry at which it begins",
        "    kept += [_opened(entry).to_bytes() for entry in perhaps]\n",
        "    kept += [entry.to_bytes() for entry in perhaps]\n",
        f"{_LEDGER}test_cut_forgets_the_later_entries_and_verifies_what_has_perhaps_happened",
    ),
    _mutant(
        "journal",
        "no entry is over with a page",
        "        return self.first < ordinal <= self.last\n",
        "        return False\n",
        f"{_DROPPED}test_entries_of_the_open_part_go",
    ),
    _mutant(
        "journal",
        "a sealed part that is over in part goes",
        "        return self.first <= chunk.first and chunk.last <= max(self.first, self.last)\n",
        "        return self.first <= chunk.first\n",
        f"{_DROPPED}test_a_sealed_part_goes_if_all_of_it_is_over",
    ),
    _mutant(
        "journal",
        "pages have nothing that is over",
        "    return None if last is None else Dropped(entry.ordinal, int(last))\n",
        "    return None\n",
        f"{_DROPPED}test_a_journal_is_read_without_that_which_is_over",
    ),
    _mutant(
        "journal",
        "a journal is read with that which is over",
        " if not any(each.has(entry.ordinal) for each in over)}\n",
        "}\n",
        f"{_DROPPED}test_a_journal_is_read_without_that_which_is_over",
    ),
    _mutant(
        "journal",
        "no sealed part is left out",
        "    return tuple(chunk for chunk in before.chunks if chunk.id not in kept)\n",
        "    return ()\n",
        f"{_DROPPED}test_a_sealed_part_goes_if_all_of_it_is_over",
    ),
    _mutant(
        "journal",
        "times that were kept bring the handler forward",
        "    return any(entry.sort is not EntrySort.VALUE for entry in entries)\n",
        "    return any(True for _ in entries)\n",
        f"{_JOURNAL}test_wait_brings_the_handler_forward_and_a_time_does_not",
    ),
    _mutant(
        "journal",
        "all runs of a sequence have one key",
        'f"{key}\\n{name}".encode()',
        "key.encode()",
        f"{_JOURNAL}test_each_run_of_a_sequence_has_a_key_of_its_own",
    ),
    _mutant(
        "journal",
        "an entry keeps no key",
        "    return None if key is None else str(key)\n",
        "    return None\n",
        f"{_JOURNAL}test_each_run_of_a_sequence_has_a_key_of_its_own",
    ),
    _mutant(
        "mailbox",
        "a wait whose end is in the journal goes on",
        "    return any(entry.name == wait and is_answered(entry) for entry in journal.open_entries(lock))\n",
        "    return False\n",
        f"{_JOURNAL}test_wait_is_over_once_a_grant_or_the_journal_says_so",
    ),
    _mutant(
        "mailbox",
        "a wait that has timed out is not over",
        "entry.state in (EntryState.DONE, EntryState.TIMED_OUT)",
        "entry.state is EntryState.DONE",
        f"{_JOURNAL}test_wait_is_over_once_a_grant_or_the_journal_says_so",
    ),
    _mutant(
        "mailbox",
        "a wait with an event that it has not taken goes on",
        "now.ended is not None or waits.first_for(lock, now) is not None",
        "now.ended is not None",
        f"{_JOURNAL}test_wait_with_an_event_that_it_has_not_taken_is_over",
    ),
    _mutant(
        "mailbox",
        "a person is thanked for an answer after the cancellation",
        "    if cancelled is not None and asked <= cancelled:\n",
        "    if cancelled is not None and asked > cancelled:\n",
        f"{_JOURNAL}test_answer_may_not_be_taken_after_a_cancellation_or_another_event",
    ),
    _mutant(
        "mailbox",
        "a page tells no time zone",
        '    return f"{at:%Y-%m-%d %H:%M} UTC"\n',
        '    return f"{at:%Y-%m-%d %H:%M}"\n',
        f"{_JOURNAL}test_answer_may_not_be_taken_after_a_cancellation_or_another_event",
    ),
)
