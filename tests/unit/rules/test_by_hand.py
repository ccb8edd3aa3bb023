"""
A person frees a named lock, or lets a function run again for its key: the rules, against the tables of
``docs/reference/rules.md``.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from gcp_oncetask import rules
from gcp_oncetask.rules import named
from gcp_oncetask.rules.decisions import CallRefused, Claimant, Fence, Lost, Policy, Put
from gcp_oncetask.rules.record import Event, Failure, Lock, PendingAlert, Status
from tests.unit.rules.test_rules import NOW, SECOND, STATUSES, combinations, first_match, leased, moment, table

POLICY = Policy(lease=60, timeout=60, run_limit=named.UNLIMITED)
TOKENS = {"as the person has seen it": 7, "another": 6}
MILLISECONDS = round(NOW.timestamp() * 1000)


def record(case: dict[str, str]) -> Lock | None:
    return None if case["record"] == "none" else leased(status=Status(case["record"]))


@pytest.mark.parametrize("name", ["free_by_hand", "forget"])
def test_rule_decides_as_its_table_says(name: str) -> None:
    """
    Each combination of record and token is decided by its row; what is put is scheduled, and nothing is owed.
    """
    rows, used = table(f"named.{name}"), set()
    for case in combinations(record=STATUSES, token=tuple(TOKENS)):
        decision = getattr(named, name)(record(case), TOKENS[case["token"]], "n", moment())
        row = first_match(rows, case)
        used.add(row)
        said = (
            decision.refusal.value if isinstance(decision, CallRefused) else {"forget": "forgotten"}.get(name, "freed")
        )
        assert said == rows[row]["decision"], case
        if isinstance(decision, Put):
            lock = decision.lock
            assert (lock.status, lock.sequence, lock.token, lock.scheduled_token) == (Status.SCHEDULED, 6, 7, 7)
            assert (lock.settled_by, lock.attempts, lock.due, decision.dispatch) == ("n", 0, None, False)
    assert set(range(len(rows))) == used


def freed(before: Lock) -> Lock:
    put = named.free_by_hand(before, before.token, "p", moment())
    assert isinstance(put, Put)
    return put.lock


@pytest.mark.parametrize("length", [60.0, named.UNLIMITED])
@pytest.mark.parametrize("later", [0, 1, 2])
def test_late_holder_is_refused_however_many_have_held_the_lock_since(length: float, later: int) -> None:
    """
    Its refresh and its release are lost, and it does not take the person's decision for a release of its own whose answer was
    lost; neither before the next acquire, nor after it.
    """
    mine = leased(lease_seconds=length, scheduled_by=None, keyed=3)
    lock = freed(mine)
    for _ in range(later):
        granted = named.acquire(lock, POLICY, Claimant("x"), moment())
        assert isinstance(granted, Put)
        assert granted.lock.token > mine.token
        lock = granted.lock.but(granted_at=NOW, leased_at=NOW)
        put = named.free(lock, Fence(lock.sequence, lock.token, "x"), "y", mine=lock)
        assert isinstance(put, Put)
        lock = put.lock
    fence = Fence(5, 7, "h")

    assert isinstance(named.refresh(lock, fence), Lost)
    assert isinstance(named.free(lock, fence, "r", mine=mine), Lost)
    assert not rules.was_applied(mine.but(settled_by="r"), mine, lock, alive=True)


def test_number_of_the_record_is_another_one() -> None:
    """
    Of the server's time, or one more than the last if that is ahead.
    """
    assert freed(leased(keyed=3)).keyed == MILLISECONDS
    assert freed(leased(keyed=MILLISECONDS + 5)).keyed == MILLISECONDS + 6


def test_decision_whose_answer_was_lost_is_recognised() -> None:
    """
    By its nonce, until the lock was freed again.
    """
    before = leased(scheduled_by=None, keyed=3)
    after = freed(before)
    granted = named.acquire(after, POLICY, Claimant("x"), moment())
    assert isinstance(granted, Put)

    assert rules.was_applied(after, before, granted.lock, alive=False)
    assert not rules.was_applied(after, before, before, alive=False)


def test_forgotten_key_runs_as_if_it_had_never_run() -> None:
    """
    Whatever its payload; nothing of the last run is left but the token, which goes up, and an owed alert is gone with it.
    """
    ran = leased(
        status=Status.COMPLETED,
        keyed=3,
        result={"paid": 1},
        errors=(Failure(NOW, 1, 5, "x"),),
        owed=(PendingAlert("i", Event.FAILURE, NOW, NOW, 5, 1, "lost"),),
        due="E/push/000/2026-03-01T12:00:00.000000Z",
        attention="E/result-lost/000/2026-03-01T12:00:00.000000Z",
    )
    put = named.forget(ran, 7, "n", moment())
    assert isinstance(put, Put)
    begun = named.begin(put.lock, same=True, policy=POLICY, claimant=Claimant("c"), at=moment(NOW + SECOND))
    assert isinstance(begun, Put)
    lock = begun.lock

    assert (lock.status, lock.attempts, lock.step, lock.keyed) == (Status.LEASED, 1, 1, MILLISECONDS)
    assert (lock.result, lock.errors, lock.owed, lock.due, lock.attention) == (None, (), (), None, None)
    assert lock.token > ran.token
    late = Fence(5, 7, "h")
    assert isinstance(named.give_up(lock, late, "why", "r", moment()), Lost)


def test_key_that_raised_keeps_its_idempotency_key() -> None:
    """
    It is not forgotten, because its half-done effects are recognised by that key.
    """
    raised = named.give_up(leased(keyed=3), Fence(5, 7, "h"), "boom", "r", moment(NOW + timedelta(1)))
    assert isinstance(raised, Put)

    refused = named.forget(raised.lock, 7, "n", moment())
    assert isinstance(refused, CallRefused)
    assert "with the same attempt.key" in refused.reason
