"""
The acts that a person can choose: which fit, what each does, and the commands of a mail.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gcp_oncetask import rules
from gcp_oncetask.cli import _parser
from gcp_oncetask.rules import choices
from gcp_oncetask.rules.attention import Reason
from gcp_oncetask.rules.decisions import Put
from gcp_oncetask.rules.delivery import idempotency_key
from gcp_oncetask.rules.journal import EntrySort, EntryState, JournalEntry, run_key
from gcp_oncetask.rules.record import Act, Event, Failure, Intent, Lock, Note, PendingAlert, Status
from gcp_oncetask.rules.verbs import VERBS, Sort
from tests.unit.rules.test_people import AT, ended
from tests.unit.rules.test_rules import NOW, leased

PATH = "orders/42"
ACT = Act(NOW, "ack", "ann", True, None, "failed", 3)


def acts(lock: Lock, sort: Sort = Sort.CHAIN) -> tuple[str, ...]:
    return choices.fitting(sort, lock)


@pytest.mark.parametrize(
    ("lock", "fit"),
    [
        (leased(), ("cancel",)),
        (leased(status=Status.SCHEDULED), ("cancel",)),
        (ended(Status.QUARANTINED), ("run", "happened", "complete", "fail", "ack")),
        (ended(Status.FAILED), ("happened", "reset", "dismiss", "ack")),
        (ended(Status.FAILED).but(attempts=0), ("reset", "dismiss", "ack")),
        (ended(Status.COMPLETED), ("reset",)),
        (ended(Status.CANCELLED), ("reset",)),
    ],
)
def test_acts_that_fit_a_state(lock: Lock, fit: tuple[str, ...]) -> None:
    assert acts(lock) == fit


def test_acts_that_fit_a_dismissed_one() -> None:
    """
    It needs nothing more: it is neither dismissed again nor promised.
    """
    put = rules.dismiss(ended(Status.FAILED), AT)
    assert isinstance(put, Put)
    assert acts(put.lock) == ("happened", "reset")


def test_acts_that_fit_a_lost_result() -> None:
    lock = ended(Status.COMPLETED)
    lost = lock.but(result_lost=Note(lock.sequence, lock.token, "too large"))
    assert acts(lost) == ("reset", "dismiss", "ack")


def test_acts_that_fit_a_sort_are_its_verbs() -> None:
    """
    A recurring task is paused, or resumed while it is; once-tasks can be deleted; locks have none of this.
    """
    waits = leased(status=Status.SCHEDULED)
    assert acts(waits, Sort.RECURRING) == ("cancel", "pause")
    assert acts(waits.but(paused=True), Sort.RECURRING) == ("cancel", "resume")
    assert acts(ended(Status.COMPLETED), Sort.ONCE_TASK) == ("reset", "delete")
    for sort in (Sort.NAMED_LOCK, Sort.ONCE_KEY, Sort.RESOURCE_KEY):
        assert acts(ended(Status.FAILED), sort) == ()
    for act in ("run", "happened", "complete", "fail"):
        assert choices.verb_of(act) == "resolve"
    assert [choices.verb_of(verb) for verb in VERBS] == list(VERBS)


@pytest.mark.parametrize(
    ("act", "status", "more", "words"),
    [
        ("run", Status.QUARANTINED, {}, "sequence 4, with the same idempotency key"),
        ("reset", Status.FAILED, {}, "sequence 4, with the same idempotency key"),
        ("reset", Status.COMPLETED, {}, "sequence 4, with a new idempotency key"),
        ("happened", Status.QUARANTINED, {"end": True}, "the chain ends as completed"),
        ("happened", Status.QUARANTINED, {"next": "."}, "sequence 4 at the same target"),
        ("happened", Status.QUARANTINED, {"next": "/x"}, "sequence 4 at /x"),
        ("cancel", Status.SCHEDULED, {}, "that runs first"),
        ("cancel", Status.LEASED, {}, "when its present attempt settles"),
        ("delete", Status.LEASED, {}, "the handler that runs now"),
        ("delete", Status.FAILED, {}, "with its payload"),
    ],
)
def test_effect_of_an_act_is_of_this_record(act: str, status: Status, more: dict[str, Any], words: str) -> None:
    lock = leased(status=status, sequence=3)
    said = choices.effect(lock, act, **more)
    assert words in said
    assert choices.consequence(PATH, lock, act, **more) == f"{PATH} is {status}, at step 3 (sequence 3). {said}"


@pytest.mark.parametrize(
    ("act", "status"), [("run", Status.FAILED), ("complete", Status.SCHEDULED), ("dismiss", Status.COMPLETED)]
)
def test_decision_that_does_not_fit_promises_nothing(act: str, status: Status) -> None:
    """
    The rules refuse it afterwards.
    """
    lock = ended(status) if status is not Status.SCHEDULED else leased(status=status)
    assert choices.effect(lock, act) == f"Nothing changes, because {act!r} does not fit this state."


def test_question_is_asked_of_a_quarantined_step_alone() -> None:
    lock = ended(Status.QUARANTINED)
    asked = choices.question("orders/1", lock)
    assert asked is not None
    assert f"Did step {lock.step} happen?" in asked
    assert [choices.question("orders/1", leased(status=each)) for each in Status if each is not Status.QUARANTINED] == [
        None
    ] * 5


def test_question_of_an_open_run_has_the_key_of_its_call() -> None:
    """
    The journal has it; where its part is sealed, the key is made anew.
    """
    entry = JournalEntry("a", EntrySort.RUN, 1, 5, NOW, EntryState.OPEN, more={"key": "k-of-the-call"})
    runs = (Intent("a", 5, NOW, NOW), Intent("b", 5, NOW, NOW))
    asked = choices.question(PATH, ended(Status.QUARANTINED, open=runs, journal=(entry.to_bytes(),)))

    assert asked is not None
    assert "the run 'a', key k-of-the-call, and 'b', key otk_" in asked


def test_question_of_a_handler_that_could_not_go_on_has_its_reason() -> None:
    reason = "'first' is a sleep in the journal, and a run in the handler."
    halted = ended(Status.QUARANTINED, holder=None, journal=(b"x",))
    halted = halted.but(errors=(Failure(NOW, 1, halted.sequence, reason),))
    asked = choices.question("orders/1", halted)
    assert asked is not None
    assert reason in asked
    assert "Did step" not in asked
    # One whose holder was judged, and one whose error is of an earlier sequence, ask as ever.
    for other in (
        halted.but(holder="h"),
        halted.but(journal=()),
        halted.but(errors=(Failure(NOW, 1, halted.sequence - 1, reason),)),
    ):
        assert "Did step" in (choices.question("orders/1", other) or "")


def test_last_attempt_has_the_key_of_its_payload() -> None:
    """
    The key of a newest-wins task is that of the payload that ran, not of a newer one; the lease is the renewed one.
    """
    lock = ended(Status.QUARANTINED, keyed=90, granted=2, wanted=5)
    last = choices.last_attempt(PATH, lock)
    assert last is not None
    assert last.key == idempotency_key(lock.env, PATH, 90, 2)
    assert (last.holder, last.granted_at) == (lock.holder, lock.granted_at)
    assert last.lease_ends == rules.expires_at(lock)
    assert choices.last_attempt(PATH, lock.but(attempts=0)) is None
    assert choices.last_attempt(PATH, lock.but(holder=None)) is None


def test_prepared_commands_parse_and_are_for_this_state() -> None:
    """
    Four of a quarantined step. Each has the version, and the sentence that ``consequence`` has.
    """
    lock = ended(Status.QUARANTINED)
    found = choices.prepared(PATH, Sort.CHAIN, lock)
    assert [one.act for one in found] == ["run", "happened", "complete", "fail"]
    for one in found:
        chosen = _parser().parse_args(one.arguments)
        assert (chosen.document, chosen.how, chosen.if_version) == (PATH, one.act, rules.mark(lock))
        assert chosen.end is (one.act == "happened")
        assert one.effect.startswith(choices.effect(lock, one.act, end=one.act == "happened"))
    failed = choices.prepared(PATH, Sort.ONCE_TASK, ended(Status.FAILED))
    assert [one.act for one in failed] == ["reset", "happened", "dismiss"]
    assert [_parser().parse_args(one.arguments).document for one in failed] == [PATH] * 3
    assert choices.prepared(PATH, Sort.CHAIN, ended(Status.COMPLETED)) == ()
    assert [one.arguments[0] for one in choices.prepared(PATH, Sort.CHAIN, leased())] == ["cancel"]


def test_promise_is_for_this_state() -> None:
    lock = ended(Status.FAILED)
    chosen = _parser().parse_args(choices.promise(PATH, lock))
    assert (chosen.document, chosen.until, chosen.if_version) == (PATH, timedelta(hours=4), rules.mark(lock))
    assert choices.promise(PATH, None) == ("ack", PATH, "--for", "4h")


# --- the mark ---------------------------------------------------------------------------------------------------------

OWED = PendingAlert("i", Event.FAILURE, NOW, NOW, 1, 1, "why")
QUIET: dict[str, Any] = {
    "owed": (OWED,),
    "due": "E/push/000/2026-01-01T00:00:00.000000Z",
    "dispatches": 9,
    "leased_at": NOW + timedelta(seconds=9),
    "attention": f"E/{Reason.STUCK}/000/2026-01-01T00:00:00.000000Z",
    "ready_at": None,
}
LOUD: dict[str, Any] = {
    "sequence": 9,
    "keyed": 9,
    "scheduled_by": "other",
    "wanted": 9,
    "wanted_by": "other",
    "cancel_requested_at": NOW,
    "paused": True,
    "acts": (ACT,),
}
ENDED: dict[str, Any] = {"status": Status.COMPLETED, "token": 99, "settled_by": "other"}


@pytest.mark.parametrize("status", [Status.FAILED, Status.QUARANTINED])
def test_mark_stays_until_something_happens_that_a_person_must_know(status: Status) -> None:
    """
    An alert that was sent and a look of the sweeper leave it; a later act, also one of the same verb, does not.
    """
    lock = ended(status)
    assert {rules.mark(lock.but(**{name: value})) for name, value in QUIET.items()} == {rules.mark(lock)}
    changed = [rules.mark(lock.but(**{name: value})) for name, value in {**LOUD, **ENDED}.items()]
    assert len({*changed, rules.mark(lock)}) == len(changed) + 1
    again = Act(
        NOW + timedelta(seconds=1), *(getattr(ACT, name) for name in ("verb", "by", "proven", "claimed")), "", 3
    )
    assert rules.mark(lock.but(acts=(ACT,))) != rules.mark(lock.but(acts=(ACT, again)))


def test_mark_of_a_record_that_goes_on_stays_with_its_attempts() -> None:
    """
    The mail of a takeover can be acted on while later attempts come and go.
    """
    lock = leased()
    for changes in ({"status": Status.SCHEDULED}, {"token": 99}, {"settled_by": "other"}, {"holder": "other"}):
        assert rules.mark(lock.but(**changes)) == rules.mark(lock)
    assert len({rules.mark(lock.but(**{name: value})) for name, value in LOUD.items()} - {rules.mark(lock)}) == len(
        LOUD
    )
    assert rules.mark(lock.but(status=Status.FAILED)) != rules.mark(lock)


def test_act_is_refused_on_another_mark() -> None:
    lock = ended(Status.FAILED)
    assert rules.moved(lock, rules.mark(lock), "1.2") is None
    assert rules.moved(lock, "1.2", "1.2") is None
    refused = rules.moved(lock.but(acts=(ACT,)), rules.mark(lock), "1.2")
    assert refused is not None
    assert "ann chose ack" in refused.reason


def test_record_that_alone_tells_of_a_run_is_kept() -> None:
    """
    The refusal names the run, its key if that is known, and the command that is next.
    """
    runs = (Intent("charge", 1, NOW, NOW),)
    asked, running = ended(Status.QUARANTINED, open=runs), leased(open=runs)
    for lock, then in ((asked, f"resolve {PATH} --run charge"), (running, f"effects {PATH}"), (None, "resolve")):
        refused = choices.kept_for_runs(PATH, lock, runs)
        assert refused is not None
        assert (then in refused.reason, "'charge'" in refused.reason, "--open-runs" in refused.reason) == (
            True,
            True,
            True,
        )
        key = "" if lock is None else run_key(idempotency_key(lock.env, PATH, lock.keyed, lock.granted), "charge")
        assert (f"(key {key})" in refused.reason) is (lock is not None)
    assert choices.kept_for_runs(PATH, ended(Status.QUARANTINED), ()) is None
    assert "the only record" in choices.effect(asked, "delete")
