"""
The rules of once-tasks: resource keys, newer payloads, cancellation with cleanup, generators, tombstones, status.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from gcp_oncetask import UsageError, rules
from gcp_oncetask.checks.fingerprints import fingerprint
from gcp_oncetask.execution.handler_spec import unfit
from gcp_oncetask.rules import keys, retention, writes
from gcp_oncetask.rules.decisions import (
    CallRefused,
    Claimant,
    DecisionContext,
    Fence,
    NeedTime,
    Policy,
    Put,
    Refused,
    Settlement,
    SettlementKind,
    SweepAction,
    Target,
)
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.evidence import Finding
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Event, Fingerprint, Lock, Result, Status, superseded
from gcp_oncetask.tasks.task import status_of
from tests.support.rules import combinations, first_match, table
from tests.unit.rules.test_rules import NOW, POLICY, SECOND, STATUSES, leased, moment

FENCE = Fence(5, 7, "h")
TARGET = Target(url="https://x", queue="q")
TIMES = ("before its end", "exactly at its end", "after its end")
READ = {
    "before its end": NOW + 60 * SECOND - timedelta(microseconds=1),
    "exactly at its end": NOW + 60 * SECOND,
    "after its end": NOW + 61 * SECOND,
}


def scheduled(**changes: Any) -> Lock:
    """
    A sequence that waits.
    """
    return leased(status=Status.SCHEDULED, token=6, holder=None, attempts=0, **changes)


def decided(heading: str, column: str, cases: Any, decide: Any) -> None:
    """
    Each case is decided by its row, and each row decides some case.
    """
    rows = table(heading)
    used = set()
    for case in cases:
        row = first_match(rows, case)
        used.add(row)
        assert rows[row][column] == decide(case), case
    assert set(range(len(rows))) == used


def put(decision: Any) -> Put:
    """
    *decision*, which must be a write.
    """
    assert isinstance(decision, Put), decision
    return decision


def settled(lock: Lock, kind: SettlementKind, **how: Any) -> Put:
    """
    *lock* settled by its own attempt.
    """
    how = {"nonce": "s", "next_nonce": "t", "target": TARGET, "message": "m"} | how
    return put(rules.settle(lock, FENCE, Settlement(kind=kind, **how), moment()))


# --- resource keys ----------------------------------------------------------------------------------------------------


KEYS = ("none", "given back", "ours, this token", "ours, another token", "another's")


def key_of(case: dict[str, str]) -> Lock | None:
    """
    The key's record in *case*.
    """
    return {
        "none": None,
        "given back": Lock(env="E", sequence=1, status=Status.COMPLETED, token=7),
        "ours, this token": keys.taken(None, "E", "ours", 3, "n"),
        "ours, another token": keys.taken(None, "E", "ours", 2, "n"),
        "another's": keys.taken(None, "E", "theirs", 7, "n"),
    }[case["key"]]


def standing(case: dict[str, str]) -> str:
    """
    What ``keys.standing`` says in *case*.
    """
    holder = None
    if case["holder"] != "gone":
        token = {"past the token": 8, "at the token": 7, "before the token": 6}[case["holder"]]
        waits = NOW + 60 * SECOND if case["holder's status"] == "scheduled" else None
        parked = "E/K/x" if case["parked"] == "yes" else None
        holder = leased(status=Status(case["holder's status"]), token=token, wait_until=waits, parked=parked)
    return keys.standing(key_of(case), "ours", 3, holder, READ[case["time"]]).name.lower()


def test_standing_of_a_key_is_as_the_table_says() -> None:
    decided(
        "rules.keys.standing",
        "decision",
        combinations(
            key=KEYS,
            holder=("gone", "before the token", "at the token", "past the token"),
            **{"holder's status": STATUSES[1:]},
            time=TIMES,
            parked=("yes", "no"),
        ),
        standing,
    )


def test_key_that_was_handed_over_is_busy_also_without_a_time() -> None:
    key = keys.taken(None, "E", "theirs", 7, "n")
    assert keys.standing(key, "ours", 3, scheduled(), NOW) is keys.KeyStanding.BUSY


def holds(case: dict[str, str]) -> str:
    """
    What ``keys.holds`` says in *case*.
    """
    return "held" if keys.holds(key_of(case), "ours", 3) else "lost"


def test_whose_a_key_is_as_the_table_says() -> None:
    decided("rules.keys.holds", "decision", combinations(key=KEYS), holds)


def test_attempt_without_its_key_may_settle_and_write_nothing_else() -> None:
    assert keys.writable("K", lost=False) is None
    lost = keys.writable("K", lost=True)
    assert lost is not None
    assert not lost.finished


def effect(case: dict[str, str]) -> str:
    """
    What ``keys.effect`` says in *case*.
    """

    def lock(name: str) -> Lock | None:
        status, _, more = name.partition(", ")
        if status == "none":
            return None
        key = "K" if case["needs a key"] == "yes" else None
        token = 8 if more == "next token" else 7
        return leased(status=Status(status), token=token, rides=more == "riding", key=key)

    after = lock(case["after"])
    assert after is not None
    return keys.effect(lock(case["before"]), after).name.lower()


def test_effect_on_a_key_is_as_the_table_says() -> None:
    states = (*STATUSES[1:], "leased, next token", "leased, riding")
    before = tuple(state for state in states if state != "leased, next token")
    decided(
        "rules.keys.effect",
        "effect",
        combinations(**{"needs a key": ("yes", "no")}, before=("none", *before), after=states),
        effect,
    )


def test_parking_and_handing_over() -> None:
    """
    A parked task is not due; one that gets the key is due, by a new delivery.
    """
    parked = put(keys.park(scheduled(due="x"), "E/K/1/1", moment()))
    assert (parked.lock.parked, parked.lock.due, parked.outcome, parked.dispatch) == (
        "E/K/1/1",
        None,
        Outcome.PARKED,
        False,
    )
    given = put(keys.unpark(parked.lock, moment()))
    assert (given.lock.parked, given.lock.dispatches, given.dispatch) == (None, 2, True)
    assert given.lock.due is not None


# --- newer payloads ---------------------------------------------------------------------------------------------------


def replaced(case: dict[str, str]) -> str:
    """
    What ``rules.replace`` does in *case*; checks that it is what it says.
    """
    cancelled = {"cancel_requested_at": NOW, "cancelling": True} if case["cancelled"] == "yes" else {}
    before = leased(status=Status(case["record"]), errors=(), **cancelled)
    wait = None if case["time wanted"] == "the same" else NOW + 60 * SECOND
    made = rules.replace(before, Target(url="https://x", queue="q", wait_until=wait), "n", moment())
    lock = made.lock
    assert lock.wanted == before.wanted + 1
    if lock.status is not Status.SCHEDULED:
        assert (lock.status, superseded(lock), made.dispatch, lock.token) == (before.status, True, False, before.token)
        return "one more run follows"
    assert (lock.attempts, lock.wait_until, lock.cancel_requested_at, lock.cancelling) == (0, wait, None, False)
    assert lock.due is not None
    if lock.sequence > before.sequence:
        assert made.dispatch
        return "runs again"
    assert not superseded(lock)
    return "runs with it, delivered anew" if made.dispatch else "runs with it"


def test_newer_payload_leads_to_what_the_table_says() -> None:
    decided(
        "rules.replace",
        "decision",
        combinations(record=STATUSES[1:], cancelled=("yes", "no"), **{"time wanted": ("the same", "another")}),
        replaced,
    )


@pytest.mark.parametrize(
    "kind",
    [
        SettlementKind.COMPLETE,
        SettlementKind.CONTINUE,
        SettlementKind.RETRY,
        SettlementKind.SNOOZE,
        SettlementKind.FAIL,
    ],
)
@pytest.mark.parametrize("wait", [None, NOW + 3600 * SECOND])
def test_run_of_an_older_payload_is_followed_by_the_newest(kind: SettlementKind, wait: Any) -> None:
    """
    However the attempt ends, the next sequence follows, at the time that the newest payload wants, as if new.
    """
    held = leased(attempts=2)
    for want in (NOW, wait):
        held = rules.replace(held, Target(url="https://x", queue="q", wait_until=want), "n", moment()).lock
    made = settled(held, kind)
    lock = made.lock
    assert (lock.status, lock.sequence, lock.attempts, lock.errors, made.dispatch) == (Status.SCHEDULED, 6, 0, (), True)
    assert lock.wait_until == wait

    granted = put(rules.claim(lock, _delivery(6), POLICY, Claimant("n2"), moment(NOW + 3601 * SECOND))).lock
    assert not superseded(granted)
    assert settled_as(granted, SettlementKind.COMPLETE).status is Status.COMPLETED


def test_newest_payload_has_all_of_its_attempts_though_the_lease_was_given_back() -> None:
    """
    The attempts that an older payload had do not count for it.
    """
    held = rules.replace(leased(attempts=3), TARGET, "n", moment()).lock
    back = settled(held, SettlementKind.RELEASE).lock
    assert (back.status, back.sequence, back.attempts, superseded(back)) == (Status.SCHEDULED, 5, 2, True)

    granted = put(rules.claim(back, _delivery(5), POLICY, Claimant("n2"), moment(NOW + 3601 * SECOND))).lock
    assert (granted.status, granted.attempts, superseded(granted)) == (Status.LEASED, 1, False)


def settled_as(lock: Lock, kind: SettlementKind) -> Lock:
    """
    *lock* settled by whoever holds it.
    """
    fence = Fence(lock.sequence, lock.token, lock.holder or "")
    return put(rules.settle(lock, fence, Settlement(kind=kind, nonce="s", message="m"), moment())).lock


def _delivery(sequence: int) -> Delivery:
    return Delivery(env="E", document="orders/1", sequence=sequence, dispatch=1, scheduled_by="s")


def test_payload_that_came_after_a_cancellation_is_not_cancelled_with_it() -> None:
    """
    Cancelled while it runs, then replaced: the run fails, its cleanup runs, and the newest payload follows.
    """
    held = put(rules.cancel(leased(cleanup=True), moment())).lock
    held = rules.replace(held, TARGET, "n", moment()).lock
    waiting = settled(held, SettlementKind.RETRY).lock
    assert (waiting.cancelling, waiting.sequence) == (True, 5)

    cleaning = put(rules.claim(waiting, _delivery(5), Policy(cleanup=True), Claimant("c"), moment())).lock
    after = settled_as(cleaning, SettlementKind.COMPLETE)
    assert (after.status, after.sequence, after.cancel_requested_at) == (Status.SCHEDULED, 6, None)


def test_takeover_of_a_superseded_run_goes_on_with_the_newest() -> None:
    """
    A delivery that takes over does not grant the old sequence to the newest payload before its time.
    """
    held = rules.replace(leased(), Target(url="https://x", queue="q", wait_until=NOW + 9000 * SECOND), "n", moment())
    later = NOW + 1000 * SECOND
    made = put(
        rules.take_over(
            held.lock,
            FENCE,
            finding=Finding.DIED,
            reason="why",
            evidence=(),
            settlement=None,
            at=moment(later, later),
            grant_to=(POLICY, Claimant("n2")),
        )
    )
    assert (made.lock.status, made.lock.sequence, made.lock.wait_until) == (
        Status.SCHEDULED,
        6,
        NOW + 9000 * SECOND,
    )


# --- cancellation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cleanup", [True, False])
@pytest.mark.parametrize(
    "kind",
    [SettlementKind.RETRY, SettlementKind.FAIL, SettlementKind.SNOOZE, SettlementKind.RELEASE, SettlementKind.CONTINUE],
)
def test_cancelled_while_it_ran(cleanup: bool, kind: SettlementKind) -> None:
    """
    Whatever is no success leads to the cancellation handler, with attempts of its own; without one it is cancelled.
    """
    held = put(rules.cancel(leased(cleanup=cleanup, attempts=3), moment())).lock
    lock = settled(held, kind).lock
    if not cleanup:
        assert (lock.status, lock.due) == (Status.CANCELLED, None)
        return
    assert (lock.status, lock.cancelling, lock.attempts, lock.wait_until) == (Status.SCHEDULED, True, 0, None)
    assert lock.due is not None

    granted = put(rules.claim(lock, _delivery(5), Policy(cleanup=True, max_attempts=2), Claimant("c"), moment())).lock
    assert (granted.attempts, granted.status) == (1, Status.LEASED)
    failed = settled_as(granted, SettlementKind.RETRY)
    assert (failed.status, failed.attempts, failed.cancelling) == (Status.SCHEDULED, 1, True)
    last = put(rules.claim(failed, _delivery(5), Policy(cleanup=True, max_attempts=2), Claimant("c"), moment())).lock
    ended = settled_as(last, SettlementKind.RETRY)
    assert (ended.status, len(ended.owed)) == (Status.CANCELLED, 1)


def test_cancelled_one_whose_holder_died_is_cancelled() -> None:
    """
    Also with its last attempt: it is not failed.
    """
    held = put(rules.cancel(leased(attempts=3), moment())).lock
    later = NOW + 1000 * SECOND
    made = rules.take_over(
        held,
        FENCE,
        finding=Finding.DIED,
        reason="why",
        evidence=(),
        settlement=None,
        at=moment(later, later),
        grant_to=None,
    )
    assert put(made).lock.status is Status.CANCELLED
    assert {owed.event for owed in put(made).lock.owed} == {Event.TAKEOVER}


# --- generators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, None),
        ({"wait_until": NOW}, None),
        ({"wait_until": NOW + SECOND}, Outcome.EARLY),
        ({"paused": True}, Outcome.PARKED),
        ({"status": Status.CANCELLED}, Outcome.DUPLICATE),
        ({"sequence": 6}, Outcome.DUPLICATE),
        ({"sequence": 4}, Outcome.NEWER),
        ({"env": "OTHER"}, Outcome.FOREIGN),
    ],
)
def test_generator_is_ready(changes: dict[str, Any], says: Outcome | None) -> None:
    found = rules.ready(scheduled().but(**changes), _delivery(5), moment())
    assert (found.outcome if isinstance(found, Refused) else found) == says


def test_generator_without_the_servers_time_reads() -> None:
    assert isinstance(rules.ready(scheduled(wait_until=NOW + SECOND), _delivery(5), moment(read=None)), NeedTime)
    gone = rules.ready(None, _delivery(5), moment())
    assert isinstance(gone, Refused)
    assert gone.outcome is Outcome.GONE


def test_generator_recurs_until_it_ends() -> None:
    made = rules.recur(scheduled(base=2), NOW + 60 * SECOND, "n", moment())
    assert (made.lock.sequence, made.lock.base, made.lock.wait_until) == (6, 2, NOW + 60 * SECOND)
    assert (made.lock.settled_by, made.lock.scheduled_by, made.dispatch) == ("n", "n", True)
    last = rules.recur(scheduled(), None, "n", moment())
    assert (last.lock.status, last.lock.due, last.dispatch) == (Status.COMPLETED, None, False)


def test_paused_generator_is_not_due() -> None:
    paused = put(rules.pause(scheduled(due="x", wait_until=NOW), moment()))
    assert (paused.lock.due, paused.dispatch) == (None, False)
    assert isinstance(rules.pause(paused.lock, moment()), CallRefused)
    resumed = put(rules.resume(paused.lock, moment()))
    assert (resumed.lock.paused, resumed.lock.dispatches, resumed.dispatch) == (False, 2, True)
    assert resumed.lock.due is not None
    assert isinstance(rules.resume(resumed.lock, moment()), CallRefused)
    assert isinstance(rules.pause(leased(status=Status.COMPLETED), moment()), CallRefused)


# --- payloads of another version --------------------------------------------------------------------------------------


READY = {
    "unknown": None,
    "for less": NOW - timedelta(days=7) + timedelta(microseconds=1),
    "for seven days": NOW - timedelta(days=7),
    "for longer": NOW - timedelta(days=8),
}


def left(case: dict[str, str]) -> str:
    """
    What becomes of a payload in *case*.
    """

    class Model(BaseModel):
        """
        Of this version.
        """

    def read() -> None:
        if case["payload"] != "fits":
            raise UsageError("it does not fit")

    written = {"ours": fingerprint(Model), "another": "another", "not known": None}[case["written by"]]
    reason = unfit(written, Model, read)
    if reason is None:
        return "granted" if case["payload"] == "fits" else "granted: a failed attempt"
    decision = rules.left(scheduled(), reason, READY[case["ready"]], "n", moment())
    if isinstance(decision, Put):
        lock = decision.lock
        assert (lock.status, lock.holder, lock.token, len(lock.owed)) == (Status.QUARANTINED, None, 6, 1)
    return str(decision.outcome)


def test_payloads_of_another_version() -> None:
    cases = combinations(
        **{"written by": ("ours", "another", "not known")}, payload=("fits", "does not fit"), ready=tuple(READY)
    )
    decided("rules.left", "decision", cases, left)


def test_former_holder_can_not_settle_what_was_put_away() -> None:
    """
    Its lease was released long ago; quarantined here means that nobody has it.
    """
    released = settled(leased(), SettlementKind.RELEASE).lock
    away = put(rules.left(released, "r", NOW - timedelta(days=8), "n", moment())).lock
    assert away.token == FENCE.token
    assert rules.settle(away, FENCE, Settlement(kind=SettlementKind.COMPLETE, nonce="s"), moment()) == rules.fenced(
        away, FENCE
    )


@pytest.mark.parametrize("timeout", [630.0, 30 * 86_400.0])
def test_no_log_is_asked_about_what_was_put_away(timeout: float) -> None:
    """
    As it is about a quarantined attempt until an hour after its timeout: this one may never have been granted.
    """
    waits = scheduled(granted_at=None, timeout_seconds=timeout)
    away = put(rules.left(waits, "r", NOW - timedelta(days=8), "n", moment())).lock
    told = writes.with_due(away.but(owed=()), moment())
    assert told.due is None
    looked = rules.look(told.but(due="E/push/000/1"), moment())
    assert looked.put is not None
    assert looked.put.lock == told


@pytest.mark.parametrize(("written", "kept"), [("5", "6"), ("4", "4"), ("0" * 64, "0" * 64)])
def test_reset_runs_the_same_fields_again(written: str, kept: str) -> None:
    """
    An entity's fingerprint names its sequence, and goes on with them; a payload's stays, and one that did not count never does.
    """
    ended = leased(status=Status.FAILED, scheduled_by="s", fingerprint=Fingerprint(written, "m"))
    again = put(rules.reset(ended, "n", moment())).lock
    assert (again.sequence, again.fingerprint) == (6, Fingerprint(kept, "m"))


def test_settlement_in_the_log_has_its_fingerprint() -> None:
    """
    That of an older release has none.
    """
    how = Settlement(
        kind=SettlementKind.CONTINUE, nonce="s", next_nonce="t", target=TARGET, fingerprint=Fingerprint("d", "m")
    )
    assert Settlement.from_data(how.to_data()) == how
    older = {name: value for name, value in how.to_data().items() if name != "fingerprint"}
    assert Settlement.from_data(older) == how._replace(fingerprint=None)


# --- batches, due times, tombstones -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "rides"),
    [
        ({}, True),
        ({"wait_until": NOW}, True),
        ({"parked": "E/K/1/1"}, True),
        ({"wait_until": NOW + SECOND}, False),
        ({"cancel_requested_at": NOW}, False),
        ({"status": Status.LEASED}, False),
        ({"status": Status.COMPLETED}, False),
        ({"attempts": 3}, False),
    ],
)
def test_who_rides_along(changes: dict[str, Any], rides: bool) -> None:
    found = rules.ridden(scheduled().but(**changes), POLICY, Claimant("n"), moment())
    assert (found is not None) == rides
    if found is not None:
        assert (found.lock.rides, found.lock.status, found.lock.parked) == (True, Status.LEASED, None)
        alone = put(rules.claim(settled_rider(found.lock), _delivery(5), POLICY, Claimant("n"), moment()))
        assert not alone.lock.rides


def settled_rider(lock: Lock) -> Lock:
    """
    A rider that is tried again.
    """
    return settled_as(lock, SettlementKind.RETRY)


@pytest.mark.parametrize(
    ("lock", "due"),
    [
        (scheduled(), 60),
        (scheduled(dispatches=3), 240),
        (scheduled(wait_until=NOW + 600 * SECOND), 660),
        (scheduled(url=None), 0),
        (scheduled(url=None, wait_until=NOW + 600 * SECOND), 600),
        (scheduled(parked="E/K/1/1"), None),
        (scheduled(paused=True), None),
        (leased(), 61),
        (leased(status=Status.COMPLETED), None),
        (leased(status=Status.COMPLETED, erase_seconds=600.0), 600),
        (leased(status=Status.COMPLETED, erase_seconds=600.0, erased=True), None),
    ],
)
def test_when_somebody_must_look(lock: Lock, due: int | None) -> None:
    from gcp_oncetask.rules.timestamps import instant
    from gcp_oncetask.rules.writes import with_due

    expected = None if due is None else f"E/push/000/{instant(NOW + due * SECOND)}"
    assert with_due(lock, moment()).due == expected


def test_tombstone() -> None:
    """
    Erased when its retention is over; its outcome stays, and it can't be reset.
    """
    ended = settled(leased(erase_seconds=600.0), SettlementKind.COMPLETE, result=Result({"secret": 1})).lock
    at = DecisionContext(now=NOW + 601 * SECOND, read=NOW + 601 * SECOND, place="E/push/000", env="E")
    found = rules.look(ended, at)
    assert found.action is SweepAction.ERASE
    assert found.put is not None
    bare = found.put.lock
    assert (bare.erased, bare.result, bare.status, bare.due) == (True, None, Status.COMPLETED, None)
    assert isinstance(rules.reset(bare, "n", at), CallRefused)


# --- retention --------------------------------------------------------------------------------------------------------


def test_what_ttl_may_delete_is_as_the_table_says() -> None:
    def kept(case: dict[str, str]) -> str:
        lock = leased(status=Status(case["record"]))
        if case["owes an alert"] == "yes":
            lock = writes.owe(lock, Event.FAILURE, "why", (), moment())
        return "kept" if retention.kept(lock) else "a retention after its end"

    decided(
        "rules.retention.kept",
        "decision",
        combinations(record=STATUSES[1:], **{"owes an alert": ("yes", "no")}),
        kept,
    )


def test_who_comes_too_late_is_as_the_table_says() -> None:
    expires = NOW + 60 * SECOND
    times = {
        "unknown": (NOW, None),
        "unknown, surely passed": (expires, None),
        "before it": (NOW, READ["before its end"]),
        "exactly then": (NOW, expires),
        "after it": (NOW, READ["after its end"]),
    }

    def too_late(case: dict[str, str]) -> str:
        now, read = times[case["time"]]
        at = DecisionContext(now=now, read=read, place="E/push/000", env="E")
        found = retention.too_late(expires if case["`expireAt`"] == "there" else None, at)
        if isinstance(found, NeedTime):
            return "read again with the server's time"
        assert found is None or "delete it and create it anew" in found.reason
        return "yes" if found is None else "no"

    decided(
        "rules.retention.too_late",
        "decision",
        combinations(**{"`expireAt`": ("none", "there")}, time=tuple(times)),
        too_late,
    )


@pytest.mark.parametrize(
    ("seconds", "late", "expires"),
    [(7200, 0, 7200), (7200, 3600, 7200), (7200, 3601, 7201), (7200, 90_000, 93_600), (60, 0, 3600)],
)
def test_retention_is_counted_from_the_end_and_an_hour_ahead(seconds: float, late: int, expires: int) -> None:
    assert retention.expires_at(NOW, seconds, NOW + late * SECOND) == NOW + expires * SECOND


# --- status -----------------------------------------------------------------------------------------------------------


def test_status_is_as_the_table_says() -> None:
    def status(case: dict[str, str]) -> str:
        lock = leased(
            status=Status(case["record"]),
            wait_until=NOW + 60 * SECOND,
            cancel_requested_at=NOW if case["cancelled"] == "yes" else None,
        )
        return str(status_of(lock, READ[case["time"]]))

    cases = combinations(record=STATUSES[1:], cancelled=("yes", "no"), time=TIMES)
    decided("tasks.task.status_of", "status", cases, status)


def test_a_cancellation_handler_has_attempts_of_its_own_after_a_takeover() -> None:
    """
    The cancelled run died with its last attempt: the grant to the cancellation handler counts from one.
    """
    at = DecisionContext(now=NOW, read=NOW, place="E/push/000", env="E")
    died = Lock(
        env="E", sequence=1, status=Status.SCHEDULED, attempts=3, token=3, cleanup=True, cancel_requested_at=NOW
    )
    put = writes.granted(died, Policy(max_attempts=2, cleanup=True), Claimant("n"), at)
    assert (put.outcome, put.lock.attempts, put.lock.cancelling) == (None, 1, True)
