"""
Changes of a chain by a person, and what a person is told of a record.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from gcp_oncetask import rules
from gcp_oncetask.rules import named, verbs
from gcp_oncetask.rules.decisions import (
    CallRefused,
    Claimant,
    DecisionContext,
    Fence,
    Policy,
    Put,
    Refused,
    Settlement,
    SettlementKind,
    Target,
)
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.document_paths import digest_path
from gcp_oncetask.rules.evidence import Finding
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Lock, Result, Status
from gcp_oncetask.rules.refusals import Refusal

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT = DecisionContext(T0, T0, "E/push/007", "E")
LONG_AGO = T0 - timedelta(minutes=5)


def record(status: Status, **values: Any) -> Lock:
    given = {
        "sequence": 3,
        "token": 5,
        "holder": "h",
        "granted_at": LONG_AGO,
        "leased_at": LONG_AGO,
        "scheduled_by": "n",
    }
    return Lock.of({"env": "E", "status": status, "url": "https://x/y", "queue": "q", "attempts": 1} | given | values)


def put(decision: object) -> Put:
    assert isinstance(decision, Put)
    return decision


def test_payloads_asked_for_before_a_cancellation_are_cancelled_with_it() -> None:
    """
    No further run follows for them.
    """
    waits = record(Status.SCHEDULED, wanted=2, granted=1)

    assert put(rules.cancel(waits, AT)).lock.status is Status.CANCELLED


def test_generator_that_is_declared_anew() -> None:
    """
    A paused one takes its new time, and is not dispatched; one without a run left ends.
    """
    waits, later = record(Status.SCHEDULED, wait_until=T0), Target("https://x/y", "q", wait_until=T0 + timedelta(1))

    assert put(rules.redeclare(waits, later, "n", AT)).dispatch
    paused = put(rules.redeclare(waits.but(paused=True), later, "n", AT))
    assert (paused.dispatch, paused.lock.wait_until) == (False, later.wait_until)
    moved = put(rules.redeclare(waits, later, "n", AT)).lock
    assert (moved.wanted, moved.granted, moved.wanted_by, moved.ready_since) == (1, 1, "n", later.wait_until)
    same = put(rules.redeclare(moved, later, "m", AT)).lock
    assert (same.wanted, same.ready_since, same.dispatches) == (2, later.wait_until, moved.dispatches)
    again = put(rules.redeclare(record(Status.COMPLETED, paused=True), later, "n", AT))
    assert (again.dispatch, again.lock.paused, again.lock.sequence) == (True, False, 4)
    over = put(rules.redeclare(waits, Target("https://x/y", "q"), "n", AT))
    assert (over.lock.status, over.outcome) == (Status.COMPLETED, Outcome.COMPLETED)


def test_person_completes_with_a_result() -> None:
    """
    It is that of the run.
    """
    done = put(rules.resolve(record(Status.QUARANTINED), "complete", "s", AT, result=Result({"a": 1})))

    assert (done.lock.status, done.lock.result) == (Status.COMPLETED, {"a": 1})


def test_delivery_of_another_environment_is_foreign() -> None:
    """
    Also if its document is one's own.
    """
    delivery = Delivery("F", "orders/1", 3, 1, "n")
    decision = rules.claim(record(Status.SCHEDULED), delivery, Policy(), Claimant("h"), AT)

    assert isinstance(decision, Refused)
    assert decision.outcome is Outcome.FOREIGN


def test_recovered_failure_is_dispatched() -> None:
    """
    The queue was not told of it. What a quarantined holder had logged is written, too.
    """
    how = Settlement(SettlementKind.RETRY, "s", message="m", by_queue=True)

    for status in (Status.LEASED, Status.QUARANTINED):
        recovered = put(
            rules.take_over(
                record(status, max_attempts=3),
                Fence(3, 5, "h"),
                finding=Finding.RECORDED,
                reason="r",
                evidence=(),
                settlement=how,
                at=AT,
                grant_to=None,
            )
        )
        assert (recovered.outcome, recovered.dispatch) == (Outcome.RECOVERED, True)
        assert (recovered.lock.status, recovered.lock.settled_by) == (Status.SCHEDULED, "s")


def test_digest_has_no_verb_but_show() -> None:
    """
    Its documents have them.
    """
    lock = record(Status.COMPLETED)
    digest = verbs.record_of(digest_path("E", "1"), lock, {})

    assert verbs.refusal_of("show", digest, lock) is None
    for verb in verbs.VERBS.keys() - {"show"}:
        refused = verbs.refusal_of(verb, digest, lock)
        assert refused is not None
        assert "digest of alerts" in refused.reason


def test_record_in_words() -> None:
    """
    Names and keys are told, where they are stored.
    """
    lock = record(Status.LEASED, lease_seconds=600.0)
    said = {
        "onceLocks/00:E:once:1": "the key '7' of the @once function charge",
        "onceLocks/00:E:lock:1": "the named lock 'charge'",
        "onceLocks/00:E:key:1": "the resource key '7'",
        "orders/1": "a chain",
    }

    for path, words in said.items():
        assert verbs.record_of(path, lock.but(scheduled_by=None), {"name": "charge", "key": "7"}).said == words


def test_caller_learns_until_when_a_lock_is_held() -> None:
    """
    Unless only its release ends it.
    """
    held = record(Status.LEASED, lease_seconds=600.0)
    policy = Policy(lease=60.0)

    busy = named.acquire(held, policy, Claimant("other"), AT)
    endless = named.acquire(held.but(lease_seconds=named.UNLIMITED), policy, Claimant("other"), AT)

    assert isinstance(busy, CallRefused)
    assert isinstance(endless, CallRefused)
    assert (busy.refusal, busy.until) == (Refusal.HELD, LONG_AGO + timedelta(minutes=10))
    assert endless.until is None
