"""
The records to which decisions lead: what is kept of errors and alerts, when they are due, and what an end leaves.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gcp_oncetask import rules
from gcp_oncetask.rules import attention, expiry, keys, owing, writes
from gcp_oncetask.rules.attention import Reason
from gcp_oncetask.rules.decisions import (
    Claimant,
    DecisionContext,
    Fence,
    Lost,
    Policy,
    Put,
    Settlement,
    SettlementKind,
    SweepAction,
    Target,
)
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import SERVER_TIME, Event, Fingerprint, Lock, Note, PendingAlert, Result, Since, Status
from gcp_oncetask.rules.timestamps import instant

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT = DecisionContext(T0, T0, "E/push/007", "E")
FENCE = Fence(3, 5, "h")
TARGET = Target("https://x/y", "q")


def record(status: Status = Status.LEASED, **values: Any) -> Lock:
    given = {
        "sequence": 3,
        "token": 5,
        "holder": "h",
        "granted_at": T0,
        "leased_at": T0,
        "attempts": 1,
        "dispatches": 1,
    }
    return Lock.of({"env": "E", "status": status, "url": "https://x/y", "queue": "q"} | given | values)


def settled(kind: SettlementKind, lock: Lock | None = None, **values: Any) -> Put:
    how = Settlement(kind, "s", "next", TARGET, message="it broke", **values)
    put = rules.settle(lock or record(), FENCE, how, AT)
    assert isinstance(put, Put)
    return put


def owed(id_: str, **values: Any) -> PendingAlert:
    given = {"event": Event.FAILURE, "at": T0, "until": T0, "sequence": 3, "attempt": 1, "reason": ""}
    return PendingAlert(**{"id": id_} | given | values)


def due(lock: Lock) -> float:
    assert lock.due is not None
    return (datetime.fromisoformat(lock.due.rsplit("/", 1)[-1]) - T0).total_seconds()


# --- settling ---------------------------------------------------------------------------------------------------------


def test_error_of_each_failure_is_kept() -> None:
    """
    At most ten, of bounded length, the newest last; the final one too.
    """
    lock = record()
    for number in range(12):
        lock = writes.noted(lock, f"{number} " + "x" * 600, AT)

    assert [each.message.partition(" ")[0] for each in lock.errors] == [str(number) for number in range(2, 12)]
    assert {len(each.message) for each in lock.errors} == {writes.MAX_MESSAGE}
    for kind in (SettlementKind.FAIL, SettlementKind.RETRY):
        assert [each.message for each in settled(kind).lock.errors] == ["it broke"]


def test_cancellation_that_came_too_late_is_forgotten() -> None:
    """
    A completed chain is not marked as cancelled; one whose cancellation handler ran is cancelled.
    """
    asked = record(cancel_requested_at=T0)

    done = settled(SettlementKind.COMPLETE, asked).lock
    cleaned = settled(SettlementKind.COMPLETE, asked.but(cancelling=True))
    goes_on = settled(SettlementKind.CONTINUE, asked.but(cancelling=True)).lock

    assert (done.status, done.cancel_requested_at) == (Status.COMPLETED, None)
    assert (cleaned.lock.status, cleaned.outcome) == (Status.CANCELLED, Outcome.CANCELLED)
    assert (goes_on.cancelling, goes_on.cancel_requested_at) == (True, T0)


@pytest.mark.parametrize("by_queue", [True, False])
def test_cancelled_attempt_that_fails_is_not_tried_again(by_queue: bool) -> None:
    """
    Neither by the queue nor by a dispatch of its own.
    """
    asked = record(cancel_requested_at=T0, max_attempts=3)

    assert settled(SettlementKind.RETRY, asked, by_queue=by_queue).lock.status is Status.CANCELLED
    assert settled(SettlementKind.RETRY, record(max_attempts=3), by_queue=by_queue).lock.status is Status.SCHEDULED


def test_checkpoint_changes_nothing_but_its_nonce() -> None:
    """
    The attempt goes on.
    """
    put = settled(SettlementKind.CHECKPOINT)

    assert (put.lock, put.outcome) == (record(settled_by="s"), None)


def test_only_the_holder_renews() -> None:
    """
    Not one that was taken over, and not a quarantined one, which may only settle.
    """
    mine = rules.renew(record(), FENCE, AT)

    assert isinstance(mine, Put)
    assert mine.lock.leased_at is SERVER_TIME
    assert isinstance(rules.renew(record(token=6, holder="other"), FENCE, AT), Lost)
    assert isinstance(rules.renew(record(Status.QUARANTINED), FENCE, AT), Lost)
    assert isinstance(rules.writable(record(Status.QUARANTINED, key="k"), FENCE), Lost)
    assert rules.writable(record(Status.QUARANTINED), FENCE) is None


def test_payload_that_was_wanted_after_the_grant_is_newer() -> None:
    """
    Also where a cancellation has marked it as granted meanwhile.
    """
    how = Settlement(SettlementKind.COMPLETE, "s", wanted=1)

    assert rules.outdated(record(wanted=2, granted=1), how)
    assert rules.outdated(record(wanted=2, granted=2), how)
    assert not rules.outdated(record(wanted=1, granted=1), how)
    assert not rules.outdated(None, how)
    written = Fingerprint("hash", "model")
    assert settled(SettlementKind.COMPLETE, fingerprint=written).lock.fingerprint == written
    newer = settled(SettlementKind.COMPLETE, record(wanted=2, granted=1), fingerprint=written, wanted=1)
    assert (newer.lock.fingerprint, newer.lock.sequence) == (None, 4)
    assert writes.following(record(), AT).lock.scheduled_by == "h"


def test_logged_settlement_comes_back_whole() -> None:
    """
    With the time and the headers of the next step.
    """
    target = Target("https://x/z", "r", {"a": 1}, {"h": "v"}, T0, "00-1-2-01")
    how = Settlement(
        SettlementKind.CONTINUE,
        "s",
        "next",
        target,
        wait_until=T0,
        by_queue=True,
        fingerprint=Fingerprint("d", "m"),
        wanted=2,
    )

    assert Settlement.from_data(how.to_data()) == how
    done = Settlement(SettlementKind.COMPLETE, "s", result=Result({"a": 1}, "[1]", "big"))
    assert Settlement.from_data(done.to_data()) == done
    assert done.instead("too big") == done._replace(result=Result(lost="too big"))
    failed = Settlement(SettlementKind.FAIL, "s").instead("too big")
    assert (failed.kind, failed.nonce, "too big" in str(failed.message)) == (SettlementKind.RETRY, "s", True)
    assert Settlement.from_data(Settlement(SettlementKind.FAIL, "s").to_data()) == Settlement(SettlementKind.FAIL, "s")


def test_batch_takes_what_waits_and_was_not_cancelled() -> None:
    """
    Nor what waits for its time.
    """
    waits = record(Status.SCHEDULED, holder=None)
    policy, claimant = Policy(max_attempts=3, cleanup=True), Claimant("rider")

    rider = writes.ridden(waits, policy, claimant, AT)

    assert rider is not None
    assert rider.lock.rides
    for other in (waits.but(cancel_requested_at=T0), waits.but(wait_until=T0 + timedelta(1)), record()):
        assert writes.ridden(other, policy, claimant, AT) is None


def test_commit_in_doubt_is_recognised_by_what_it_alone_wrote() -> None:
    """
    Not by a nonce that was there before, nor by what another person did to a quarantined step.
    """
    before = record()
    put_away = record(Status.QUARANTINED)
    reset = put_away.but(status=Status.SCHEDULED, sequence=4, scheduled_token=5)

    assert rules.was_applied(before.but(settled_by="s"), before, before.but(settled_by="s"), alive=False)
    assert not rules.was_applied(before.but(settled_by="s"), before, before, alive=True)
    assert not rules.was_applied(put_away.but(settled_by="s"), put_away, reset, alive=False)
    assert rules.was_applied(before.but(settled_by="s"), before, reset, alive=False)
    first = rules.schedule(None, None, TARGET, "n", AT)
    assert isinstance(first, Put)
    assert first.dispatch


# --- what is known of a run -------------------------------------------------------------------------------------------


def test_notes_count_for_their_own_grant() -> None:
    """
    A result's text, the reason why it is lost, the time since when it could be claimed, the model of its payload.
    """
    lock = record(
        Status.COMPLETED, result_json=Note(3, 5, "[1]"), result_lost=Note(3, 5, "big"), ready_at=Since(3, 5, T0)
    )
    later = lock.but(token=6)
    written = lock.but(fingerprint=Fingerprint("hash", "model"))

    assert lock.returned == Result(None, "[1]", "big")
    assert (lock.returned.data(), lock.ready_since) == ([1], T0)
    assert (later.returned, later.ready_since) == (Result(), None)
    assert (lock.note("x"), lock.note(None)) == (Note(3, 5, "x"), None)
    assert (written.written_by("hash"), written.written_by("other")) == ("model", None)
    assert attention.reason_of(lock) is Reason.RESULT_LOST
    assert attention.reason_of(later) is None


def test_steps_count_within_the_chain() -> None:
    """
    The sequences of earlier chains, and those to come, are no steps of it.
    """
    lock = record(base=2, sequence=5)

    assert lock.step == 3
    assert [lock.step_of(sequence) for sequence in (1, 2, 3, 5, 6)] == [0, 0, 1, 3, 0]


# --- alerts -----------------------------------------------------------------------------------------------------------


def test_alert_is_owed_once_under_each_id() -> None:
    """
    A newer one of the same grant replaces it; a lost result has an id of its own; each is due at once.
    """
    lock = writes.owe(record(Status.COMPLETED), Event.FAILURE, "first", (), AT)
    lock = writes.owe(lock, Event.FAILURE, "second", (), AT)
    lock = writes.owe_result_lost(lock, "big", AT)

    assert [(each.id, each.reason.partition(":")[0]) for each in lock.owed] == [
        ("3-5-failure", "second"),
        ("3-5-result-lost", "its result could not be stored"),
    ]
    assert due(writes.look_again(lock, AT, T0 + timedelta(hours=1))) == AT.alert_retry
    assert writes.owe_named(record(alert_on=()), "failure", "no", AT).owed == ()
    assert due(writes.look_again(record(), AT, T0 + timedelta(hours=1))) == 3600


def test_sender_touches_its_own_alerts() -> None:
    """
    Those of others stay as they are.
    """
    lock = record(Status.COMPLETED, owed=(owed("a"), owed("b", until=T0 + timedelta(hours=1))))
    after = T0 + timedelta(minutes=5)

    lent = owing.sending(lock, {"a": None}, AT, "digest")
    delayed = owing.put_off(lock, ["a"], after, AT)
    told = owing.sent(lock, ["a"], AT)

    assert owing.assigned(lock, {}, AT) is None
    assert lent is not None and delayed is not None and told is not None  # noqa: PT018
    assert [each.digest for each in lent.lock.owed] == ["digest", None]
    assert [each.until for each in delayed.lock.owed] == [after, T0 + timedelta(hours=1)]
    assert [each.id for each in told.lock.owed] == ["b"]
    assert owing.sent(lock, ["c"], AT) is None


def test_person_is_alerted_once_for_one_that_stands_still() -> None:
    """
    A graver reason stays, and a second one owes no second alert.
    """
    waits = record(Status.SCHEDULED)

    stuck = expiry.needs_person(waits, Reason.STUCK, "stuck", AT)
    graver = expiry.needs_person(
        expiry.needs_person(waits, Reason.UNDISPATCHED, "no queue", AT), Reason.STUCK, "stuck", AT
    )

    assert len(stuck.owed) == 1
    assert expiry.needs_person(stuck, Reason.UNDISPATCHED, "no queue", AT) == stuck
    assert [each.reason for each in graver.owed] == ["no queue"]
    assert attention.reason_of(graver) is Reason.STUCK
    assert attention.reason_of(waits.but(attention="E/failed/007/2026-01-01T12:00:00.000000Z")) is None


# --- the sweeper ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lock", "action"),
    [
        (record(due=f"E/push/007/{instant(T0 + timedelta(seconds=1))}"), SweepAction.LEAVE),
        (record(due=None), SweepAction.LEAVE),
        (record(), SweepAction.PUT),
        (record(leased_at=T0 - timedelta(minutes=1)), SweepAction.JUDGE),
        (record(Status.SCHEDULED), SweepAction.DISPATCH),
        (record(Status.SCHEDULED, owed=(owed("a"),)), SweepAction.ALERT),
        (record(Status.COMPLETED, erase_seconds=60.0), SweepAction.ERASE),
        (record(Status.COMPLETED, erase_seconds=60.0, erased=True), SweepAction.PUT),
        (record(Status.QUARANTINED), SweepAction.JUDGE),
        (
            record(Status.QUARANTINED, erase_seconds=60.0, granted_at=T0 - timedelta(1), leased_at=T0 - timedelta(1)),
            SweepAction.PUT,
        ),
    ],
)
def test_look_at_a_document_that_is_due(lock: Lock, action: SweepAction) -> None:
    """
    Each state leads to one action.
    """
    looked = lock if lock.due is not None or action is SweepAction.LEAVE else lock.but(due=f"E/push/007/{instant(T0)}")

    assert rules.look(looked, AT).action is action


def test_looks_at_what_nobody_has_claimed() -> None:
    """
    Each dispatch has a number of its own, so its Cloud Task has a name of its own.
    """
    waits = record(Status.SCHEDULED)

    assert (rules.redispatch(waits, AT).lock.dispatches, rules.redispatch(waits, AT).dispatch) == (2, True)
    assert (rules.postpone(waits, AT).lock.dispatches, rules.postpone(waits, AT).dispatch) == (2, True)


def test_trigger_leaves_what_needs_a_newer_release() -> None:
    """
    And what waits for workers or has ended.
    """
    waits = record(Status.SCHEDULED, due=f"E/push/007/{instant(T0)}")

    assert rules.newly_scheduled(None, waits, "E")
    for other in (waits.but(needs=("a feature",)), waits.but(url=None), waits.but(status=Status.COMPLETED)):
        assert not rules.newly_scheduled(None, other, "E")


def test_looks_at_an_unknown_holder() -> None:
    """
    Every half minute, and right after its timeout.
    """
    expired = record(leased_at=T0 - timedelta(minutes=1))
    nearly = expired.but(granted_at=T0 - timedelta(seconds=800))

    assert due(rules.later(expired, AT).lock) == 30
    assert due(rules.later(nearly, AT).lock) == 11


def test_quarantined_attempt_is_looked_up_in_the_logs_for_an_hour() -> None:
    """
    Then nothing is due, until a person has decided.
    """
    long_ago = T0 - timedelta(hours=2)

    assert due(writes.with_due(record(Status.QUARANTINED), AT)) == 300
    assert writes.with_due(record(Status.QUARANTINED, granted_at=long_ago, leased_at=long_ago), AT).due is None


def test_renewed_lease_expires_a_lease_after_its_renewal() -> None:
    """
    Its run limit counts from the grant.
    """
    renewed = record(leased_at=T0 + timedelta(minutes=2))

    assert rules.expires_at(renewed) == T0 + timedelta(minutes=3)
    assert rules.expires_at(renewed.but(run_limit_seconds=150.0)) == T0 + timedelta(seconds=150)


def test_paused_generator_does_not_stand_still() -> None:
    """
    Nor what waits for its key.
    """
    old = record(Status.SCHEDULED, ready_at=Since(3, 5, T0 - timedelta(hours=1)))

    assert attention.is_stuck(old, AT)
    assert not attention.is_stuck(old.but(paused=True), AT)
    assert not attention.is_stuck(old.but(parked="E/k/x/x"), AT)


# --- keys -------------------------------------------------------------------------------------------------------------


def test_record_of_a_key() -> None:
    """
    Nobody has one that is new; each claim changes it; it is looked at soon while it is free, and late while it is held.
    """
    new, held = keys.unused("E"), keys.taken(None, "E", "onceTasks/1", 5, "h")

    assert (new.env, new.status, new.holder) == ("E", Status.COMPLETED, None)
    assert (held.status, held.holder, held.token, held.scheduled_by) == (Status.LEASED, "onceTasks/1", 5, "h")
    assert keys.taken(held, "E", "onceTasks/1", 5, "other") != held
    assert due(keys.look_at_key(new, "E/key/007", AT)) == AT.grace
    assert due(keys.look_at_key(held, "E/key/007", AT)) == 300
