"""
Mistakes in the acts that a person can choose, each with the test that catches it.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

_TESTS = "tests/unit/rules/test_choices.py::"

RULES_CHOICES = (
    Mutant(
        "a handler that could not go on tells no reason",
        "rules/choices.py",
        "    return mine[-1].message if mine else None\n",
        "    return None\n",
        test=f"{_TESTS}test_question_of_a_handler_that_could_not_go_on_has_its_reason",
    ),
    Mutant(
        "a step that was never attempted may be held done",
        "rules/choices.py",
        "if lock.status is Status.FAILED and lock.attempts else []",
        "if lock.status is Status.FAILED else []",
        test=f"{_TESTS}test_acts_that_fit_a_state",
    ),
    Mutant(
        "an act is offered that the sort of record does not have",
        "rules/choices.py",
        "    return tuple(act for act in _suited(lock) if sort in verbs.VERBS[verb_of(act)])\n",
        "    return tuple(_suited(lock))\n",
        test=f"{_TESTS}test_acts_that_fit_a_sort_are_its_verbs",
    ),
    Mutant(
        "each act is a verb of its own",
        "rules/choices.py",
        '    return "resolve" if act in RESOLUTIONS or act in ANSWERS else act\n',
        "    return act\n",
        test=f"{_TESTS}test_prepared_commands_parse_and_are_for_this_state",
    ),
    Mutant(
        "the effect of a reset promises the same key for work that is done",
        "rules/choices.py",
        '    key = _NEW_KEY if act == "reset" and',
        '    key = _SAME_KEY if act == "reset" and',
        test=f"{_TESTS}test_effect_of_an_act_is_of_this_record",
    ),
    Mutant(
        "the consequence names no state",
        "rules/choices.py",
        '    return f"{state} {effect(lock, act, next=next, end=end, run=run, fresh=fresh)}"\n',
        "    return effect(lock, act, next=next, end=end, run=run, fresh=fresh)\n",
        test=f"{_TESTS}test_effect_of_an_act_is_of_this_record",
    ),
    Mutant(
        "a question is asked of each record",
        "rules/choices.py",
        "    if lock.status is not Status.QUARANTINED:\n        return None\n",
        "",
        test=f"{_TESTS}test_question_is_asked_of_a_quarantined_step_alone",
    ),
    Mutant(
        "the key in a mail is that of a payload that did not run",
        "rules/choices.py",
        "lock.keyed, lock.granted)\n    return LastAttempt(",
        "lock.keyed, lock.wanted)\n    return LastAttempt(",
        test=f"{_TESTS}test_last_attempt_has_the_key_of_its_payload",
    ),
    Mutant(
        "a prepared command acts on any state",
        "rules/choices.py",
        '    return Prepared(act, (*words, "--if-version", mark(lock)), ',
        "    return Prepared(act, words, ",
        test=f"{_TESTS}test_prepared_commands_parse_and_are_for_this_state",
    ),
    Mutant(
        "a mail offers to run a completed step again",
        "rules/choices.py",
        ' and (act != "reset" or lock.status is not Status.COMPLETED))',
        ")",
        test=f"{_TESTS}test_prepared_commands_parse_and_are_for_this_state",
    ),
    Mutant(
        "a prepared promise is made on any state",
        "rules/choices.py",
        "*(() if lock is None else",
        "*(() if True else",
        test=f"{_TESTS}test_promise_is_for_this_state",
    ),
    Mutant(
        "a record that alone tells of a run is deleted unasked",
        "rules/choices.py",
        "    if not begun:\n        return None\n",
        "    if begun is not None:\n        return None\n",
        test=f"{_TESTS}test_record_that_alone_tells_of_a_run_is_kept",
    ),
    Mutant(
        "the mark of a state forgets the acts of people",
        "rules/admin.py",
        "    parts += [(instant(act.at), act.verb, act.by) for act in last]\n",
        "    assert len(last) < 2\n",
        test=f"{_TESTS}test_mark_stays_until_something_happens_that_a_person_must_know",
    ),
    Mutant(
        "the mark of a state changes with each attempt",
        "rules/admin.py",
        "    if lock.status not in (Status.SCHEDULED, Status.LEASED):\n        parts",
        "    if lock.status is not None:\n        parts",
        test=f"{_TESTS}test_mark_of_a_record_that_goes_on_stays_with_its_attempts",
    ),
)
