"""
Acts of people: the records that they leave, and the list of those that need a person.
"""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest

from gcp_oncetask import rules
from gcp_oncetask.rules import attention, writes
from gcp_oncetask.rules.attention import Reason
from gcp_oncetask.rules.decisions import CallRefused, Fence, Put, Settlement, SettlementKind, Target
from gcp_oncetask.rules.evidence import Finding
from gcp_oncetask.rules.record import NO_RESULT, Acknowledgement, Lock, Person, Result, Status
from gcp_oncetask.rules.refusals import Refusal
from tests.unit.rules.test_rules import NOW, leased, moment

AT = moment()
NEXT = Target("https://x/next", "projects/p/locations/l/queues/q", {"a": 1})
SINCE = "2026-01-01T11:00:00.000000Z"


def of(decision: Put | CallRefused | None) -> Lock:
    """
    The record that is written.
    """
    assert isinstance(decision, Put)
    return decision.lock


def ended(status: Status, **changes: Any) -> Lock:
    """
    A record with the attention of its status.
    """
    return writes.with_due(leased(status=status, url="https://x", queue="q", attempts=1, **changes), AT)


def reason(lock: Lock) -> Reason | None:
    """
    The stored reason.
    """
    return attention.said(lock.attention)


def test_step_that_happened_is_followed_by_the_next_one() -> None:
    """
    As if the handler had returned ``Continue``: a new key, the result, no person needed; signed, so that a retry knows it.
    """
    before = ended(Status.QUARANTINED, keyed=90)
    put = rules.happened(before, NEXT, "n", AT, result=Result({"charged": 7}))
    after = of(put)

    assert isinstance(put, Put)
    assert put.dispatch
    assert (after.status, after.sequence, after.step) == (Status.SCHEDULED, before.sequence + 1, before.step + 1)
    assert (after.params, after.url, after.result) == ({"a": 1}, "https://x/next", {"charged": 7})
    assert after.keyed > before.keyed
    assert (after.attention, after.scheduled_by, after.settled_by) == (None, "n", "n")
    assert rules.was_applied(after, before, after, alive=False)


def test_step_that_happened_can_be_the_last_one() -> None:
    after = of(rules.happened(ended(Status.QUARANTINED), None, "n", AT, result=Result({"charged": 7})))
    assert (after.status, after.returned.data(), after.attention) == (Status.COMPLETED, {"charged": 7}, None)


def test_failed_step_without_an_attempt_has_not_happened() -> None:
    never = ended(Status.FAILED).but(attempts=0)
    refused = rules.happened(never, NEXT, "n", AT, result=NO_RESULT)
    assert isinstance(refused, CallRefused)
    assert refused.refusal is Refusal.NOT_QUARANTINED
    assert of(rules.happened(never.but(attempts=1), NEXT, "n", AT, result=NO_RESULT)).sequence == never.sequence + 1


def test_step_that_a_person_fails_needs_no_person() -> None:
    failed = of(rules.resolve(ended(Status.QUARANTINED), "fail", "n", AT))
    assert (failed.status, reason(failed), failed.owed) == (Status.FAILED, Reason.DISMISSED, ())


def test_dismissed_record_stays_dismissed_until_it_runs_again() -> None:
    """
    Later commits keep it so, such as that of a sent alert; its next failure asks for a person again.
    """
    dismissed = of(rules.dismiss(ended(Status.FAILED), AT))
    assert reason(dismissed) is Reason.DISMISSED
    assert reason(writes.with_due(dismissed, AT)) is Reason.DISMISSED
    again = of(rules.reset(dismissed, "n", AT))
    assert again.attention is None
    assert reason(writes.with_due(again, AT, status=Status.FAILED)) is Reason.FAILED
    twice = rules.dismiss(dismissed, AT)
    assert isinstance(twice, CallRefused)
    assert twice.refusal is Refusal.NOT_NEEDED


@pytest.mark.parametrize(
    ("status", "text", "mended"),
    [
        (Status.COMPLETED, f"E/failed/000/{SINCE}", None),
        (Status.LEASED, f"E/stuck/000/{SINCE}", None),
        (Status.SCHEDULED, f"E/quarantined/000/{SINCE}", None),
        (Status.QUARANTINED, f"E/failed/000/{SINCE}", f"E/quarantined/000/{SINCE}"),
        (Status.FAILED, "by hand", "E/failed/000/2026-01-01T12:00:00.000000Z"),
        (Status.COMPLETED, "by hand", None),
    ],
)
def test_text_that_contradicts_the_status_is_mended(status: Status, text: str, mended: str | None) -> None:
    """
    A process of an older release changes the status alone. The time since which a person is needed stays.
    """
    lock = leased(status=status, attention=text)
    found = of(attention.mended(lock, replace_now()))
    assert found.attention == mended
    assert attention.mended(found, replace_now()) is None


@pytest.mark.parametrize("text", [None, "", "E/stuck", "E/stuck/000/x", "E/odd/000/" + SINCE, "E/stuck/0/" + SINCE])
def test_text_of_another_form_has_no_reason(text: str | None) -> None:
    """
    A person has written it, or a newer release.
    """
    assert attention.said(text) is None
    assert attention.said(f"E/stuck/000/{SINCE}") is Reason.STUCK


def replace_now() -> Any:
    """
    The moment of the mending.
    """
    return AT._replace(now=NOW)


@pytest.mark.parametrize(
    ("sequence", "token", "hours", "counts"), [(5, 7, 1, True), (4, 7, 1, False), (5, 6, 1, False), (5, 7, 0, False)]
)
def test_promise_counts_for_its_grant_and_time(sequence: int, token: int, hours: int, counts: bool) -> None:
    until = NOW + timedelta(hours=hours)
    lock = ended(Status.QUARANTINED).but(acknowledged=Acknowledgement(sequence, token, "ann", until))
    assert attention.acknowledged_until(lock, NOW) == (until if counts else None)


def test_promise_changes_nothing_else() -> None:
    before = ended(Status.QUARANTINED)
    after = of(rules.acknowledge(before, "ann", NOW + timedelta(hours=4), AT))
    assert after.but(acknowledged=None) == before
    past = rules.acknowledge(before, "ann", NOW, AT)
    assert isinstance(past, CallRefused)
    assert past.refusal is Refusal.ENDED


def test_record_keeps_the_last_ten_acts() -> None:
    lock = ended(Status.FAILED)
    for number in range(12):
        act = rules.act_of("reset", Person("ann", True, "ann b."), lock, f"note {number}" + "x" * 600, NOW)
        lock = of(rules.acted(Put(lock), act))
    assert [(act.note or "").rstrip("x") for act in lock.acts] == [f"note {number}" for number in range(2, 12)]
    last = lock.acts[-1]
    assert len(lock.acts) == 10
    assert replace(last, note=None) == replace(
        last, at=NOW, verb="reset", by="ann", proven=True, claimed="ann b.", status="failed", sequence=5, note=None
    )
    assert len(last.note or "") == writes.MAX_MESSAGE


def test_act_on_another_version_is_refused_and_says_who_acted() -> None:
    lock = of(rules.acted(Put(ended(Status.FAILED)), rules.act_of("run", Person("ann", False), leased(), None, NOW)))
    assert rules.moved(lock, None, "1.2") is None
    assert rules.moved(lock, "1.2", "1.2") is None
    refused = rules.moved(lock, "1.1", "1.2")
    assert refused is not None
    assert refused.refusal is Refusal.MOVED
    assert "ann chose run at 2026-01-01T12:00:00.000000Z" in refused.reason


def settlements(before: Lock) -> list[Lock]:
    """
    The records that a holder's commit would have written: the next step, and the end.
    """
    fence, target = Fence(before.sequence, before.token, "h"), Target(url="https://x", queue="q")
    kinds = (SettlementKind.CONTINUE, SettlementKind.COMPLETE)
    how = [Settlement(kind=kind, nonce="s", next_nonce="t", target=target) for kind in kinds]
    return [of(rules.settle(before, fence, each, AT)) for each in how]


@pytest.mark.parametrize("how", ["run", "happened", "repaired"])
def test_sequence_of_a_person_is_not_the_late_holders_own_next_one(how: str) -> None:
    """
    A holder whose commit had no answer finds the next sequence. A person has scheduled it, so the commit was not applied, even
    if a later attempt has ended it meanwhile.
    """
    before = leased(keyed=5)
    quarantined = before.but(status=Status.QUARANTINED)
    if how == "run":
        moved = of(rules.resolve(quarantined, "run", "p", AT))
    elif how == "happened":
        moved = of(rules.happened(quarantined, Target(url="https://x", queue="q"), "p", AT, result=NO_RESULT))
    else:
        late = moment(NOW + timedelta(days=1))
        read = {each.name: getattr(before, each.name) for each in fields(before) if each.name != "retry"}
        moved = of(rules.repair(read, {"retry"}, rules.Wishes(), "p", late))
    assert (moved.sequence, moved.status) == (6, Status.SCHEDULED)
    done = moved.but(status=Status.COMPLETED, token=8, holder="next", settled_by="next's")
    for meant in settlements(before):
        for found in (moved, done):
            for alive in (True, False):
                assert not rules.was_applied(meant, before, found, alive=alive)


@pytest.mark.parametrize("how", ["newer payload", "used up", "resolved"])
def test_sequence_after_a_takeover_is_not_the_late_holders_own_next_one(how: str) -> None:
    """
    The step of a late holder may end without a later grant: a takeover hands on to a newer payload, or fails the step; or a
    person ends it once it is quarantined. Then the next sequence is scheduled with the token of the late holder.
    """
    before, late = leased(keyed=5), moment(NOW + timedelta(days=1))
    taken = before.but(wanted=1) if how == "newer payload" else before.but(attempts=before.max_attempts)
    found = rules.take_over(
        taken,
        Fence(5, 7, "h"),
        finding=Finding.DIED,
        reason="r",
        evidence=(),
        settlement=None,
        at=late,
        grant_to=None,
    )
    assert isinstance(found, Put)
    moved = found.lock
    if how == "resolved":
        moved = of(rules.resolve(before.but(status=Status.QUARANTINED), "complete", "p", late))
    if how != "newer payload":
        moved = of(rules.replace(moved, Target(url="https://x", queue="q"), "u", late))
    assert (moved.sequence, moved.status, moved.scheduled_token) == (6, Status.SCHEDULED, before.token)
    done = moved.but(status=Status.COMPLETED, token=8, holder="next", settled_by="next's")
    continued, ended = settlements(before)
    for alive in (True, False):
        assert not rules.was_applied(continued, before, moved, alive=alive)
        assert not rules.was_applied(continued, before, done, alive=alive)
        assert not rules.was_applied(ended, before, moved, alive=alive)
