"""
Since when a record can be claimed, when that is too long, and what it needs a person for.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from gcp_oncetask import rules
from gcp_oncetask.rules import admin, attention, features, keys, owing, writes
from gcp_oncetask.rules.attention import Reason
from gcp_oncetask.rules.decisions import (
    Claimant,
    DecisionContext,
    Fence,
    Policy,
    Put,
    Settlement,
    SettlementKind,
    Target,
)
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.evidence import Finding
from gcp_oncetask.rules.record import Lock, Result, Since, Status
from gcp_oncetask.rules.timestamps import parse_instant
from tests.support.rules import combinations, first_match, table

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = T0 + timedelta(hours=1)
TARGET = Target("https://x/y", "q")
POLICY = Policy(max_attempts=3, cleanup=True)


def at(seconds: float) -> DecisionContext:
    now = T0 + timedelta(seconds=seconds)
    return DecisionContext(now=now, read=now, place="E/push/007", env="E")


def made(put: object) -> Lock:
    assert isinstance(put, Put)
    return put.lock


def scheduled(wait: datetime | None = None) -> Lock:
    return made(rules.schedule(None, None, TARGET._replace(wait_until=wait), "n", at(0)))


def granted(lock: Lock, seconds: float = 10) -> Lock:
    now = at(seconds)
    delivery = Delivery("E", "orders/1", lock.sequence, 1, "n", lock.token)
    taken = made(rules.claim(lock, delivery, POLICY, Claimant("h"), now))
    return taken.but(granted_at=now.now, leased_at=now.now)


def settled(kind: SettlementKind, wait: datetime | None = None, *, by_queue: bool = False) -> Lock:
    lock = granted(scheduled())
    how = Settlement(kind, "s", "next", TARGET, wait_until=wait, message="m", by_queue=by_queue)
    return made(rules.settle(lock, fence(lock), how, at(20)))


def fence(lock: Lock) -> Fence:
    return Fence(lock.sequence, lock.token, lock.holder or "")


def taken_over() -> Lock:
    lock = granted(scheduled())
    return made(
        rules.take_over(
            lock, fence(lock), finding=Finding.DIED, reason="r", evidence=(), settlement=None, at=at(700), grant_to=None
        )
    )


CLAIMABLE: dict[str, tuple[Callable[[], Lock], float]] = {
    "scheduled": (scheduled, 0),
    "scheduled for later": (lambda: scheduled(LATER), 3600),
    "continued": (lambda: settled(SettlementKind.CONTINUE), 20),
    "retried at once": (lambda: settled(SettlementKind.RETRY), 20),
    "retried later": (lambda: settled(SettlementKind.RETRY, LATER), 3600),
    "retried by the queue": (lambda: settled(SettlementKind.RETRY, by_queue=True), 20),
    "snoozed": (lambda: settled(SettlementKind.SNOOZE, LATER), 3600),
    "released": (lambda: settled(SettlementKind.RELEASE), 20),
    "taken over": (taken_over, 700),
    "cancelled while it waits": (lambda: made(admin.cancel(scheduled(LATER).but(cleanup=True), at(30))), 30),
    "replaced, sooner": (lambda: made(admin.replace(scheduled(LATER), TARGET, "n2", at(40))), 40),
    "replaced, at the same time": (lambda: made(admin.replace(scheduled(), TARGET, "n2", at(40))), 0),
    "reset": (lambda: made(admin.reset(settled(SettlementKind.FAIL), "n2", at(50))), 50),
    "given its key": (lambda: made(keys.unpark(made(keys.park(scheduled(), "place", at(5))), at(60))), 60),
    "resumed": (lambda: made(admin.resume(made(admin.pause(scheduled(), at(5))), at(70))), 70),
}


@pytest.mark.parametrize("name", CLAIMABLE)
def test_commit_that_makes_it_claimable_says_since_when_and_looks_do_not(name: str) -> None:
    make, since = CLAIMABLE[name]
    lock = make()
    assert (lock.status, lock.ready_since) == (Status.SCHEDULED, T0 + timedelta(seconds=since))
    for look in (rules.still_queued, rules.redispatch, rules.postpone):
        assert look(lock, at(9000)).lock.ready_since == lock.ready_since


@pytest.mark.parametrize(
    "lock", [made(keys.park(scheduled(), "place", at(5))), granted(scheduled()), settled(SettlementKind.FAIL)]
)
def test_what_waits_for_nobody_s_claim_is_never_stuck(lock: Lock) -> None:
    assert attention.age(lock, at(10**6)) == timedelta(0)


@pytest.mark.parametrize(
    "since", [None, Since(1, 1, T0), Since(2, 0, T0), Since(0, 0, T0)], ids=["absent", "token", "sequence", "both"]
)
def test_time_of_another_sequence_or_grant_is_as_if_absent(since: Since | None) -> None:
    """
    An older process schedules and grants without clearing it; the next look says since when.
    """
    lock = scheduled().but(ready_at=since)
    assert lock.ready_since is None
    assert not attention.is_stuck(lock, at(10**6))
    assert rules.still_queued(lock, at(900)).lock.ready_since == at(900).now


def waiting_case(case: dict[str, str]) -> str:
    """
    What a look makes of a task that waits.
    """
    now = at(901 if case["waits"] == "for long" else 900)
    refused = "3 deliveries" if case["last answer"] == "409" else None

    def look(lock: Lock, when: DecisionContext) -> Lock:
        match case["Cloud Task"]:
            case "queued":
                return rules.still_queued(lock, when, refused).lock
            case "gone":
                return rules.redispatch(lock, when).lock
            case _:
                put = rules.undispatched(lock, when)
                return lock if put is None else put.lock

    found = look(scheduled(), now)
    if found.attention is None:
        assert found.owed == ()
        return "its queue's alarm, if any" if case["Cloud Task"] == "queued" else "none"
    # No later look tells once more.
    assert look(found.but(owed=()), at(5000)).owed == ()
    assert look(found, at(5000)).owed == found.owed
    return found.attention.split("/")[1] + (", told" if found.owed else "")


def test_task_that_waits_needs_a_person_as_the_table_says() -> None:
    rows = table("rules.attention")
    used = set()
    for case in combinations(
        **{"Cloud Task": ("queued", "gone", "refused for good"), "last answer": ("409", "other")},
        waits=("for long", "not"),
    ):
        row = first_match(rows, case)
        used.add(row)
        assert rows[row]["decision"] == waiting_case(case), case
    assert set(range(len(rows))) == used


def test_features_keep_a_process_away_as_the_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "KNOWN", frozenset({"known"}))
    needs = {"absent": (), "known here": ("known",), "one not known here": ("known", "new")}
    found = {case: features.unknown(scheduled().but(needs=needs[case])) for case in needs}
    decided = {"none": (), "that one": ("new",)}
    assert found == {row["`lock.needs`"]: decided[row["decision"]] for row in table("rules.features")}


def test_form_is_that_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Of a record before and after a commit, and of a new record.
    """
    monkeypatch.setattr(features, "WRITTEN", {"new": ("url", "queue")})
    rows = table("rules.features.in_written_form")
    used = set()
    for case in combinations(
        record=("none", *Status),
        **{
            "holder and sequence": ("the same", "another holder", "another sequence"),
            "attributes": ("absent", "there"),
        },
    ):
        target = {"url": TARGET.url, "queue": TARGET.queue} if case["attributes"] == "there" else {}
        before = (
            Lock(env="E", sequence=2, status=Status(case["record"]), holder="a", **target)
            if (case["record"] != "none")
            else None
        )
        changed = {"the same": {}, "another holder": {"holder": "b"}, "another sequence": {"sequence": 3}}
        after = Lock(env="E", sequence=2, status=Status.SCHEDULED, holder="a", needs=("other",), **target)
        found = features.in_written_form(after.but(**changed[case["holder and sequence"]]), before)
        row = first_match(rows, case)
        used.add(row)
        assert found.needs == {"its old form": ("other",), "the new form": ("other", "new")}[rows[row]["decision"]], (
            case
        )
        assert features.in_written_form(found, before) is found
    assert used == set(range(len(rows)))


def test_record_that_is_not_changed_keeps_its_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An entity whose fields alone are saved; and all records, where no form is new.
    """
    lock = scheduled()
    assert lock.url is not None
    assert features.in_written_form(lock.but(), lock).needs == ()
    monkeypatch.setattr(features, "WRITTEN", {"new": ("url",)})
    assert features.in_written_form(lock, lock) is lock
    assert features.in_written_form(lock.but(), lock).needs == ("new",)


@pytest.mark.parametrize(
    ("seconds", "wanted"), [(0, 60), (60, 60), (120, 60), (240, 120), (3600, 1800), (7200, 3600), (10**6, 3600)]
)
def test_next_look_comes_after_half_of_its_age_and_within_an_hour(seconds: float, wanted: float) -> None:
    due = rules.still_queued(scheduled(), at(seconds)).lock.due
    assert due is not None
    assert parse_instant(due.rsplit("/", 1)[-1]) == at(seconds + wanted).now


def test_one_that_waits_for_too_long_is_looked_at_in_time() -> None:
    """
    However long the pause between two dispatches has become.
    """
    lock = scheduled().but(dispatches=9)
    due = writes.with_due(lock, at(500)).due
    assert due is not None
    assert parse_instant(due.rsplit("/", 1)[-1]) == at(901).now


def test_one_that_is_still_queued_is_looked_at_as_soon_as_it_waits_for_too_long() -> None:
    """
    Half of its age later a person would be told much too late.
    """
    due = rules.still_queued(scheduled(), at(700)).lock.due
    assert due is not None
    assert parse_instant(due.rsplit("/", 1)[-1]) == at(901).now


@pytest.mark.parametrize(
    "move",
    [
        lambda lock: made(keys.park(lock, "place", at(1000))),
        lambda lock: made(admin.pause(lock, at(1000))),
        lambda lock: made(admin.replace(lock, TARGET._replace(wait_until=LATER), "r", at(1000))),
        lambda lock: made(admin.redeclare(lock, TARGET._replace(wait_until=LATER), "r", at(1000))),
    ],
)
def test_one_that_does_not_stand_still_any_more_needs_nobody(move: Callable[[Lock], Lock]) -> None:
    """
    What waits for its key, for a resumption or for a later time can't be claimed; if it stands still again, that is told again.
    """
    stuck = rules.redispatch(scheduled(), at(901)).lock
    assert stuck.attention is not None

    assert move(stuck).attention is None


def test_generator_that_has_ended_is_not_paused() -> None:
    """
    Else a person could resume it, and it would be delivered once more.
    """
    paused = made(admin.pause(scheduled(LATER), at(1)))
    for ended in (made(admin.redeclare(paused, TARGET, "r", at(2))), made(admin.cancel(paused, at(2)))):
        assert ended.finished
        assert not ended.paused
        assert not isinstance(admin.resume(ended, at(3)), Put)


def test_stuck_is_told_once_with_its_place_in_the_index() -> None:
    first = rules.redispatch(scheduled(), at(899)).lock
    assert (first.attention, first.owed) == (None, ())
    second = rules.redispatch(first, at(901)).lock
    assert second.attention == "E/stuck/007/2026-01-01T12:15:01.000000Z"
    assert [owed.id for owed in second.owed] == ["1-0-stuck"]
    third = rules.redispatch(second.but(owed=()), at(5000)).lock
    assert (third.attention, third.owed) == (second.attention, ())
    assert granted(third, 5001).attention is None


def test_graver_reason_stays_and_the_time_too() -> None:
    lock = made(rules.undispatched(scheduled(), at(61)))
    assert lock.attention == "E/undispatched/007/2026-01-01T12:01:01.000000Z"
    assert rules.undispatched(lock, at(100)) is None
    stuck = rules.redispatch(lock, at(901)).lock
    assert stuck.attention == "E/stuck/007/2026-01-01T12:01:01.000000Z"
    assert rules.undispatched(stuck, at(1000)) is None


@pytest.mark.parametrize(
    ("lock", "reason"),
    [
        (settled(SettlementKind.FAIL), Reason.FAILED),
        (settled(SettlementKind.CONTINUE), None),
        (made(rules.complete(granted(scheduled()), Result(lost="too large"), at(20))), Reason.RESULT_LOST),
        (made(rules.complete(granted(scheduled()), Result({"a": 1}), at(20))), None),
        (made(admin.cancel(scheduled(), at(20))), None),
        (made(admin.reset(settled(SettlementKind.FAIL), "n", at(30))), None),
    ],
)
def test_commit_that_causes_it_sets_it_and_the_one_that_ends_it_clears_it(lock: Lock, reason: Reason | None) -> None:
    assert (None if lock.attention is None else lock.attention.split("/")[1]) == reason


def test_alert_that_was_sent_does_not_put_off_the_next_look() -> None:
    """
    The sweep that sends an owed alert does nothing else with the task, so the task is due again after the grace.
    """
    stuck = rules.redispatch(scheduled().but(dispatches=5), at(901)).lock
    put = owing.sent(stuck, [owed.id for owed in stuck.owed], at(1000))

    assert put is not None
    assert (put.lock.owed, put.lock.dispatches) == ((), 6)
    assert put.lock.due is not None
    assert parse_instant(put.lock.due.rsplit("/", 1)[-1]) == at(1060).now
    waits = writes.with_due(scheduled().but(ready_at=None, wait_until=at(5000).now, owed=stuck.owed), at(900))
    later = owing.sent(waits, [owed.id for owed in stuck.owed], at(1000))
    assert later is not None
    assert later.lock.due is not None
    assert parse_instant(later.lock.due.rsplit("/", 1)[-1]) > at(5000).now


@pytest.mark.parametrize(
    ("dispatches", "seconds", "may"),
    [
        (1, 179, False),
        (1, 180, True),
        (2, 3779, False),
        (2, 3780, True),
        (5, 4 * 3600, False),
        (5, 4 * 3600 + 180, True),
    ],
)
def test_new_name_comes_from_the_third_look_on_once_an_hour(dispatches: int, seconds: float, may: bool) -> None:
    assert attention.may_rename(scheduled().but(dispatches=dispatches), at(seconds)) is may
