"""
Each commit against the table of ``docs/reference/rules.md``: the reason for which a person is needed before it, and after it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from gcp_oncetask import rules
from gcp_oncetask.rules import attention, owing, writes
from gcp_oncetask.rules.attention import Reason
from gcp_oncetask.rules.decisions import CallRefused, Claimant, Fence, Policy, Put, Settlement, SettlementKind, Target
from gcp_oncetask.rules.evidence import Finding
from gcp_oncetask.rules.record import NO_RESULT, Event, Lock, PendingAlert, Status
from tests.support.rules import table
from tests.unit.rules.test_rules import NOW, leased, moment

AT = moment()
LATE = moment(NOW + timedelta(hours=1), NOW + timedelta(hours=1))
FENCE = Fence(5, 7, "h")
TARGET = Target("https://x", "q")
POLICY = Policy(lease=60, timeout=630, run_limit=600, max_attempts=3)


def waits(reason: Reason | None) -> Lock:
    """
    A record that waits for its claim, with the attention that a sweep has written.
    """
    lock = writes.with_due(leased(status=Status.SCHEDULED, url="https://x", queue="q", attempts=0), AT)
    return lock if reason is None else lock.but(attention=attention.attention(lock, AT, reason))


def ended(status: Status, **changes: object) -> Lock:
    """
    A record that has ended, or is quarantined.
    """
    return writes.with_due(leased(status=status, url="https://x", queue="q", attempts=1, **changes), AT)


RECORDS = {
    "runs": leased(url="https://x", queue="q", attempts=1),
    "runs, and is to be quarantined": leased(url="https://x", queue="q", attempts=1, on_unknown="quarantine"),
    "waits": waits(None),
    "stuck": waits(Reason.STUCK),
    "undispatched": waits(Reason.UNDISPATCHED),
    "failed": ended(Status.FAILED),
    "quarantined": ended(Status.QUARANTINED),
    "result-lost": ended(Status.COMPLETED, result_lost=leased().note("too large")),
    "dismissed": rules.dismiss(ended(Status.FAILED), AT).lock,  # type: ignore[union-attr]  # it is not refused
}


def settled(kind: SettlementKind) -> Callable[[Lock], object]:
    """
    The commit of a holder that ends its attempt.
    """
    how = Settlement(kind=kind, nonce="s", next_nonce="t", target=TARGET, message="no")
    return lambda lock: rules.settle(lock, FENCE, how, AT)


def judged(finding: Finding) -> Callable[[Lock], object]:
    """
    The commit of a sweep that has judged the holder of an expired lease.
    """
    return lambda lock: rules.take_over(
        lock, FENCE, finding=finding, reason="", evidence=(), settlement=None, at=LATE, grant_to=None
    )


def told(lock: Lock) -> object:
    """
    The commit that an alert was sent.
    """
    owed = PendingAlert("1", Event.FAILURE, NOW, NOW, 5, 1, "no")
    return owing.sent(lock.but(owed=(owed,)), ["1"], AT)


COMMITS: dict[str, Callable[[Lock], object]] = {
    "claim": lambda lock: writes.granted(lock, POLICY, Claimant("n"), AT),
    "complete": settled(SettlementKind.COMPLETE),
    "continue": settled(SettlementKind.CONTINUE),
    "retry": settled(SettlementKind.RETRY),
    "fail": settled(SettlementKind.FAIL),
    "takeover": judged(Finding.DIED),
    "takeover without evidence": judged(Finding.UNKNOWN),
    "last attempt used up": lambda lock: judged(Finding.DIED)(lock.but(attempts=9, max_attempts=9)),
    "sweep: too long in no queue": lambda lock: rules.redispatch(lock, LATE),
    "sweep: no queue takes it": lambda lock: rules.undispatched(lock, LATE),
    "sweep: alert sent": told,
    "newer payload": lambda lock: rules.replace(lock, TARGET, "n", AT),
    "cancel": lambda lock: rules.cancel(lock, AT),
    "reset": lambda lock: rules.reset(lock, "n", AT),
    "resolve run": lambda lock: rules.resolve(lock, "run", "n", AT),
    "resolve happened": lambda lock: rules.happened(lock, TARGET, "n", AT, result=NO_RESULT),
    "resolve happened, end": lambda lock: rules.happened(lock, None, "n", AT, result=NO_RESULT),
    "resolve complete": lambda lock: rules.resolve(lock, "complete", "n", AT),
    "resolve fail": lambda lock: rules.resolve(lock, "fail", "n", AT),
    "dismiss": lambda lock: rules.dismiss(lock, AT),
    "ack": lambda lock: rules.acknowledge(lock, "ann", NOW + timedelta(hours=4), AT),
}
ROWS = table("lock.attention")


def outcome(commit: str, record: str) -> str:
    """
    The reason after a commit, as the table says it.
    """
    decided = COMMITS[commit](RECORDS[record])
    if decided is None:
        return "no commit"
    if isinstance(decided, CallRefused):
        return "refused"
    assert isinstance(decided, Put), decided
    assert (decided.lock.attention is None) is (attention.said(decided.lock.attention) is None)
    return str(attention.said(decided.lock.attention) or "none")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['commit']}-{row['record']}")
def test_commit_sets_and_clears_the_reason_as_the_table_says(row: dict[str, str]) -> None:
    assert outcome(row["commit"], row["record"]) == row["reason after it"]


def test_every_commit_and_record_is_in_the_table() -> None:
    assert {row["commit"] for row in ROWS} == set(COMMITS)
    assert {row["record"] for row in ROWS} == set(RECORDS)


def test_time_since_which_a_person_is_needed_outlasts_a_change_of_reason() -> None:
    """
    A quarantined record that its late holder fails has needed a person since the quarantine.
    """
    quarantined = RECORDS["quarantined"]
    put = rules.settle(quarantined, FENCE, Settlement(kind=SettlementKind.FAIL, nonce="s", message="no"), LATE)
    assert isinstance(put, Put)
    assert attention.since(put.lock.attention) == attention.since(quarantined.attention)
    assert "/failed/" in str(put.lock.attention)
