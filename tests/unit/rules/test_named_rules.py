"""
The rules of named locks and of functions that run once, against the tables of ``docs/reference/rules.md``.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from gcp_oncetask import rules
from gcp_oncetask.rules import named
from gcp_oncetask.rules.decisions import (
    CallRefused,
    Claimant,
    Fence,
    Lost,
    NeedTime,
    Policy,
    Put,
    Settlement,
    SettlementKind,
)
from gcp_oncetask.rules.record import SERVER_TIME, Lock, Result, Status
from gcp_oncetask.rules.refusals import Refusal
from tests.unit.rules.test_rules import NOW, SECOND, STATUSES, combinations, first_match, leased, moment, table

POLICY = Policy(lease=60, timeout=60, run_limit=named.UNLIMITED)
TIMES = {
    "before its end": NOW + 60 * SECOND - timedelta(microseconds=1),
    "exactly at its end": NOW + 60 * SECOND,
    "after its end": NOW + 61 * SECOND,
    "unknown": None,
}
FENCE = Fence(5, 7, "h")
MILLISECONDS = round(NOW.timestamp() * 1000)
NEXT = MILLISECONDS + 1
"""The token after that of a grant at NOW."""
END = NOW + 60 * SECOND
"""End of the lease of ``leased()``."""


def record(case: dict[str, str], holder: str = "h") -> Lock | None:
    """
    The record of *case*: granted at NOW with token 7 for 60 s.
    """
    return None if case["record"] == "none" else leased(status=Status(case["record"]), holder=holder)


def said(decision: object, nonce: str) -> str:
    """
    The decision, in the words of the tables.
    """
    match decision:
        case NeedTime():
            return "read again with the server's time"
        case CallRefused():
            return decision.refusal.value
        case Put(lock=lock) if lock.token == 7:
            assert (lock.leased_at, lock.granted_at, lock.attempts) == (SERVER_TIME, NOW, 1)
            return "ours already: the lease begins anew"
        case Put(lock=lock):
            assert (lock.status, lock.holder, lock.due) == (Status.LEASED, nonce, None)
            assert (lock.granted_at, lock.leased_at, lock.lease_seconds) == (SERVER_TIME, SERVER_TIME, 60)
            return "granted, next token" if lock.token == NEXT else "granted, token of the server's time"
    raise AssertionError(decision)


def test_acquire_decides_as_the_table_says() -> None:
    """
    Each combination of record, holder and time is decided by its row.
    """
    rows, used = table("named.acquire"), set()
    for case in combinations(record=STATUSES, holder=("ours", "other"), time=tuple(TIMES)):
        nonce = "h" if case["holder"] == "ours" else "n"
        decision = named.acquire(record(case), POLICY, Claimant(nonce), moment(TIMES[case["time"]], NOW))
        row = first_match(rows, case)
        used.add(row)
        assert said(decision, nonce) == rows[row]["decision"], case
    assert set(range(len(rows))) == used


def test_begin_decides_as_the_table_says() -> None:
    """
    Each combination of record, payload and time is decided by its row.
    """
    rows, used = table("named.begin"), set()
    for case in combinations(record=STATUSES, payload=("same", "other"), time=tuple(TIMES)):
        at = moment(TIMES[case["time"]], NOW)
        same = case["payload"] == "same"
        decision = named.begin(record(case), same=same, policy=POLICY, claimant=Claimant("n"), at=at)
        row = first_match(rows, case)
        used.add(row)
        assert said(decision, "n") == rows[row]["decision"], case
    assert set(range(len(rows))) == used


@pytest.mark.parametrize("status", [Status(name) for name in STATUSES[1:]])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"token": 8, "holder": "x"},
        {"sequence": 6, "token": 9, "scheduled_token": 8, "granted_at": END},
        {"holder": "x"},
        {"token": 8},
    ],
)
def test_every_write_of_a_holder_needs_the_fence(status: Status, changes: dict[str, object]) -> None:
    """
    Refresh, release and give-up are refused exactly where ``fenced`` says lost.
    """
    lock = leased(status=status, **changes)
    lost = rules.fenced(lock, FENCE)

    for decision in (
        named.refresh(lock, FENCE),
        named.free(lock, FENCE, "r", mine=leased()),
        named.give_up(lock, FENCE, "why", "r", moment()),
    ):
        assert isinstance(decision, Put if lost is None else Lost), (status, changes)
    assert isinstance(named.free(None, FENCE, "r", mine=leased()), Lost)
    assert isinstance(named.refresh(None, FENCE), Lost)


def test_release_leaves_the_next_sequence_and_the_token_that_was_freed() -> None:
    """
    Status scheduled, sequence + 1, token unchanged: the next grant's token is greater.
    """
    put = named.free(leased(), FENCE, "r", mine=leased())
    assert isinstance(put, Put)
    lock = put.lock
    assert (lock.status, lock.sequence, lock.token, lock.scheduled_token) == (Status.SCHEDULED, 6, 7, 7)
    assert (lock.settled_by, lock.attempts, lock.due) == ("r", 0, None)

    again = named.acquire(lock, POLICY, Claimant("n"), moment(None))
    assert isinstance(again, Put)
    assert (again.lock.token, again.lock.sequence) == (NEXT, 6)


def released(before: Lock, token: int, times: int) -> Lock:
    """
    The record after *times* later holdings, the first freed with *token*.
    """
    lock = before.but(token=token, holder="x")
    for _ in range(times):
        held = lock.but(status=Status.LEASED)
        freed = named.free(held, Fence(lock.sequence, lock.token, "x"), "y", mine=held)
        assert isinstance(freed, Put)
        granted = named.acquire(freed.lock, POLICY, Claimant("x"), moment())
        assert isinstance(granted, Put)
        lock = granted.lock
    return lock


def test_release_whose_answer_was_lost_is_recognised() -> None:
    """
    As ours by its nonce; after one later holding by the token that it freed; later only while our lease can't have ended.
    """
    before = leased()
    put = named.free(before, FENCE, "r", mine=leased())
    assert isinstance(put, Put)
    mine = named.acquire(put.lock, POLICY, Claimant("x"), moment())
    assert isinstance(mine, Put)

    def applied(found: Lock, *, alive: bool = False) -> bool:
        return rules.was_applied(put.lock, before, found, alive=alive)

    assert applied(put.lock)
    assert applied(mine.lock)
    assert not applied(before)
    # Taken over from us, and then freed by them: ours was not applied.
    assert not applied(released(before, 8, 1))
    two_later = named.free(mine.lock, Fence(6, NEXT, "x"), "y", mine=leased())
    assert isinstance(two_later, Put)
    assert applied(two_later.lock, alive=True)
    assert not applied(two_later.lock.but(scheduled_token=8))


def test_release_that_is_repeated_finds_what_it_did() -> None:
    """
    A second call knows nothing of the first one's commit but what the record tells: the token that was freed.
    """
    put = named.free(leased(), FENCE, "r", mine=leased())
    assert isinstance(put, Put)
    again = named.acquire(put.lock, POLICY, Claimant("x"), moment())
    assert isinstance(again, Put)

    for lock in (put.lock, again.lock.but(granted_at=END)):
        assert isinstance(named.free(lock, FENCE, "s", mine=leased()), CallRefused)
    assert isinstance(named.free(released(leased(granted_at=END), 8, 1), FENCE, "s", mine=leased()), Lost)


@pytest.mark.parametrize(
    ("granted_at", "known"),
    [(END - timedelta(microseconds=1), CallRefused), (END, Lost), (END + SECOND, Lost)],
)
def test_release_is_recognised_after_holders_that_came_before_its_leases_end(granted_at: datetime, known: type) -> None:
    """
    A grant before that end is no takeover, whatever the first holder's own clock says. A later grant may be one.
    """
    later = leased(sequence=8, token=NEXT, scheduled_token=8, granted_at=granted_at)

    for lock in (later, later.but(status=Status.SCHEDULED)):
        assert isinstance(named.free(lock, FENCE, "s", mine=leased()), known)


def test_lease_without_ttl_has_no_end() -> None:
    """
    It is busy for a century, and says that it ends by its release alone.
    """
    policy = Policy(lease=named.UNLIMITED, timeout=named.UNLIMITED, run_limit=named.UNLIMITED)
    put = named.acquire(None, policy, Claimant("n"), moment())
    assert isinstance(put, Put)
    lock = put.lock.but(granted_at=NOW, leased_at=NOW)

    refused = named.acquire(lock, policy, Claimant("m"), moment(NOW + timedelta(days=36_000)))
    assert isinstance(refused, CallRefused)
    assert (refused.refusal, refused.until, named.ends_at(lock)) == (Refusal.HELD, None, None)


def test_token_of_a_document_made_anew_is_beyond_its_predecessors() -> None:
    """
    The first token is the server's epoch milliseconds: a second later it is 1,000 greater.
    """
    tokens = []
    for at in (NOW, NOW + SECOND):
        put = named.acquire(None, POLICY, Claimant("n"), moment(at))
        assert isinstance(put, Put)
        tokens.append(put.lock.token)

    assert tokens == [MILLISECONDS, MILLISECONDS + 1000]


def test_next_token_is_beyond_the_one_before_and_the_time_of_its_grant() -> None:
    """
    Where others were granted tokens for a document that was deleted, those are behind the time of this document's grant.
    """
    for token, granted_at, next_token in (
        (MILLISECONDS - 900_000, NOW, NEXT),
        (MILLISECONDS, NOW, NEXT),
        (MILLISECONDS + 5, NOW, MILLISECONDS + 6),
        (7, None, 8),
    ):
        lock = leased(status=Status.SCHEDULED, token=token, granted_at=granted_at)
        put = named.acquire(lock, POLICY, Claimant("n"), moment())
        assert isinstance(put, Put)
        assert put.lock.token == next_token


@pytest.mark.parametrize("late", [0, 1000, 1001, 900_000])
def test_create_that_comes_late_is_granted_the_next_token_first(late: int) -> None:
    """
    More than a second after its token was made; the same for a lock and for a run.
    """
    made = named.acquire(None, POLICY, Claimant("n"), moment())
    begun = named.begin(None, same=True, policy=POLICY, claimant=Claimant("n"), at=moment())
    again = []
    for put in (made, begun):
        assert isinstance(put, Put)
        at = NOW + timedelta(milliseconds=late)
        lock = put.lock.but(granted_at=at, leased_at=at)
        assert named.came_late(lock) is (late > 1000)
        if late > 1000:
            again += [named.acquire(lock, POLICY, Claimant("n"), moment(None))]
            again += [named.begin(lock, same=True, policy=POLICY, claimant=Claimant("n"), at=moment(None))]
    for put in again:
        assert isinstance(put, Put)
        assert (put.lock.token, put.lock.holder, put.lock.attempts) == (MILLISECONDS + late + 1, "n", 2)
        # Its number would be that of a document deleted meanwhile, and so its idempotency key.
        assert put.lock.keyed == MILLISECONDS + late
        assert not named.came_late(put.lock.but(granted_at=NOW + timedelta(days=1)))


def test_abandoned_acquire_is_freed_only_if_it_was_granted() -> None:
    """
    The holder's nonce tells.
    """
    freed = named.abandon(leased(), "h", "r")
    assert isinstance(freed, Put)
    assert freed.lock.status is Status.SCHEDULED
    for lock in (None, leased(holder="x"), leased(status=Status.SCHEDULED)):
        assert isinstance(named.abandon(lock, "h", "r"), CallRefused)


def test_run_that_raised_or_died_is_noted_and_completed_in_the_end() -> None:
    """
    Both failures stay in ``errors`` beside the result.
    """
    gave_up = named.give_up(leased(), FENCE, "ValueError: no", "r", moment())
    assert isinstance(gave_up, Put)
    second = named.begin(gave_up.lock, same=True, policy=POLICY, claimant=Claimant("n"), at=moment(None))
    assert isinstance(second, Put)
    died = second.lock.but(granted_at=NOW, leased_at=NOW)
    third = named.begin(died, same=True, policy=POLICY, claimant=Claimant("m"), at=moment(NOW + 60 * SECOND))
    assert isinstance(third, Put)
    how = Settlement(kind=SettlementKind.COMPLETE, nonce="s", result=Result({"paid": 1}))
    done = rules.settle(third.lock, Fence(5, NEXT + 1, "m"), how, moment())

    assert isinstance(done, Put)
    assert [error.message for error in done.lock.errors] == ["ValueError: no", "lease expired"]
    assert (done.lock.status, done.lock.result, done.lock.due) == (Status.COMPLETED, {"paid": 1}, None)


def test_number_is_kept_for_the_life_of_a_document() -> None:
    """
    By holdings, releases and takeovers; a document that is made again, and a grant that came late, have another one.
    """
    made = named.acquire(None, POLICY, Claimant("n"), moment())
    assert isinstance(made, Put)
    lock = made.lock.but(granted_at=NOW, leased_at=NOW)
    freed = named.free(lock, Fence(1, lock.token, "n"), "r", mine=lock)
    assert isinstance(freed, Put)
    taken = named.acquire(lock, POLICY, Claimant("m"), moment(NOW + 61 * SECOND))
    made_again = named.acquire(None, POLICY, Claimant("n"), moment(NOW + SECOND))
    late = named.acquire(lock.but(granted_at=NOW + 9 * SECOND), POLICY, Claimant("n"), moment(NOW))
    assert isinstance(taken, Put)
    assert isinstance(made_again, Put)
    assert isinstance(late, Put)

    assert [lock.keyed, freed.lock.keyed, taken.lock.keyed] == [MILLISECONDS] * 3
    assert [made_again.lock.keyed, late.lock.keyed] == [MILLISECONDS + 1000, MILLISECONDS + 9000]


def test_holder_of_a_deleted_document_has_not_released_the_one_made_again() -> None:
    """
    Even if its own lease has no end, and later holders have released theirs.
    """
    again = leased(sequence=9, token=NEXT, keyed=2, status=Status.SCHEDULED)

    assert isinstance(named.free(again, FENCE, "r", mine=leased(keyed=1)), Lost)
    assert isinstance(named.free(again, FENCE, "r", mine=leased(keyed=2)), CallRefused)
    before = leased(keyed=1, scheduled_by=None)
    meant = before.but(settled_by="r")
    assert not rules.was_applied(meant, before, again, alive=True)
    assert rules.was_applied(meant, before, again.but(keyed=1), alive=True)
