"""
Each commit of a sequence with a journal against the tables of ``docs/reference/rules.md``: runs whose results are not known,
and the count of attempts.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from gcp_oncetask import rules
from gcp_oncetask.rules import attention, journal, writes
from gcp_oncetask.rules.attention import Reason
from gcp_oncetask.rules.decisions import CallRefused, Claimant, Fence, Policy, Put, Settlement, SettlementKind, Target
from gcp_oncetask.rules.evidence import Finding
from gcp_oncetask.rules.journal import EntrySort, JournalEntry, JournalWrite
from gcp_oncetask.rules.record import NO_RESULT, Event, HandlerWait, Lock, Status, WaitFor
from tests.support.rules import table
from tests.unit.rules.test_durable_tables import durable, opened
from tests.unit.rules.test_rules import NOW, SECOND, moment

AT = moment()
LATE = moment(NOW + timedelta(hours=1), NOW + timedelta(hours=1))
FENCE = Fence(5, 7, "h")
TARGET = Target("https://x", "q")
POLICY = Policy(lease=60, timeout=630, run_limit=600, max_attempts=3)
WAIT = HandlerWait("w", WaitFor.SLEEP, 2, NOW, NOW + timedelta(days=1))
Commit = Callable[[Lock], Any]


def settled(kind: SettlementKind, **more: Any) -> Commit:
    """
    The commit of a holder that ends its attempt.
    """
    how = Settlement(kind=kind, nonce="s", next_nonce="t", target=TARGET, message="no", wait=WAIT, **more)
    return lambda lock: rules.settle(lock, FENCE, how, AT)


def journaled(write: JournalWrite) -> Commit:
    return lambda lock: rules.journaled(lock, FENCE, write, "n")


def taken_over(lock: Lock) -> Any:
    """
    The grant to a delivery that takes over the lease of a process that has died.
    """
    return rules.take_over(
        lock,
        FENCE,
        finding=Finding.DIED,
        reason="it died",
        evidence=(),
        settlement=None,
        at=LATE,
        grant_to=(Policy(lease=60, timeout=630, run_limit=600, max_attempts=11), Claimant("n")),
    )


def grant(lock: Lock) -> Any:
    return writes.granted(lock.but(status=Status.SCHEDULED), POLICY, Claimant("n"), AT)


def waiting(then: Commit) -> Commit:
    return lambda lock: then(lock.but(status=Status.SCHEDULED, wait=WAIT))


def set_aside(then: Commit) -> Commit:
    return lambda lock: then(writes.asked(lock, AT).lock)


OPENS: dict[str, Commit] = {
    "complete": settled(SettlementKind.COMPLETE),
    "continue": settled(SettlementKind.CONTINUE),
    "fail": settled(SettlementKind.FAIL),
    "retry, attempts left": settled(SettlementKind.RETRY),
    "retry, attempts used up": lambda lock: settled(SettlementKind.RETRY)(lock.but(attempts=9)),
    "snooze": settled(SettlementKind.SNOOZE),
    "suspend": settled(SettlementKind.SUSPEND),
    "release": settled(SettlementKind.RELEASE),
    "question": settled(SettlementKind.ASK),
    "grant, attempts left": grant,
    "grant, attempts used up": lambda lock: grant(lock.but(attempts=9)),
    "takeover, attempts left": taken_over,
    "takeover, attempts used up": lambda lock: taken_over(lock.but(attempts=11)),
    "write that is refused for good": lambda lock: rules.cut_off(lock, "too large", 0, "n", "h", AT),
    "cancel while it waits": waiting(lambda lock: rules.cancel(lock, AT)),
    "cancel while it runs": lambda lock: rules.cancel(lock, AT),
    "complete of a cancelled one": lambda lock: settled(SettlementKind.COMPLETE)(
        lock.but(cancel_requested_at=NOW, cancelling=True)
    ),
    "newer payload while it waits": waiting(lambda lock: rules.replace(lock, TARGET, "n", AT)),
    "newer payload while it runs": lambda lock: rules.replace(lock, TARGET, "n", AT),
    "complete with a newer payload": lambda lock: settled(SettlementKind.COMPLETE)(lock.but(wanted=1)),
    "complete from outside": waiting(lambda lock: rules.finish(lock, 5, NO_RESULT, "n", AT)),
    "resolve run": set_aside(lambda lock: rules.resolve(lock, "run", "n", AT)),
    "resolve complete": set_aside(lambda lock: rules.resolve(lock, "complete", "n", AT)),
    "resolve fail": set_aside(lambda lock: rules.resolve(lock, "fail", "n", AT)),
    "resolve happened": set_aside(lambda lock: rules.happened(lock, TARGET, "n", AT, result=NO_RESULT)),
    "reset of a quarantined one": set_aside(lambda lock: rules.reset(lock, "n", AT)),
}


@pytest.mark.parametrize("row", table("lock.open"), ids=lambda row: row["commit"])
def test_run_whose_result_is_not_known_keeps_its_record_from_ending_as_the_table_says(row: dict[str, str]) -> None:
    lock = durable(open=(opened(timedelta(hours=2)),), alert_on=(Event.FAILURE, Event.QUARANTINE))
    decided = OPENS[row["commit"]](lock)
    if isinstance(decided, CallRefused):
        assert row["record after it"] == "refused"
        assert "'charge'" in decided.reason
        return
    assert isinstance(decided, Put), decided
    after = decided.lock
    assert str(after.status) == row["record after it"]
    assert [intent.name for intent in after.open] == ["charge"]
    if after.status is not Status.QUARANTINED:
        assert attention.said(after.attention) is None
        return
    assert (after.holder, attention.said(after.attention), decided.dispatch) == (None, Reason.QUARANTINED, False)
    assert after.journal == lock.journal
    assert {owed.event for owed in after.owed} == {Event.QUARANTINE}, "a person is asked, and is told of no failure"
    late = rules.settle(after, FENCE, Settlement(kind=SettlementKind.COMPLETE, nonce="x"), LATE)
    assert not isinstance(late, Put), "the holder before can't settle it"


def test_every_commit_is_in_the_table_of_open_runs() -> None:
    assert {row["commit"] for row in table("lock.open")} == set(OPENS)


NEW = JournalEntry("b", EntrySort.RUN, 2, 7, NOW)
PROGRESS = {"the fourth": 4, "the sixth": 6}
ENDS: dict[str, Commit] = {
    "commit with a new entry": journaled(JournalWrite((NEW,), progress=True)),
    "commit of an intent": journaled(JournalWrite((NEW,), opened=opened(SECOND, name="b"))),
    "retry": settled(SettlementKind.RETRY),
    "death, and takeover": taken_over,
    "suspend": settled(SettlementKind.SUSPEND),
    "suspend with a new event": settled(SettlementKind.SUSPEND, journal=JournalWrite((NEW,), progress=True)),
    "snooze": settled(SettlementKind.SNOOZE),
    "release": settled(SettlementKind.RELEASE),
    "cancellation, told": lambda lock: journaled(JournalWrite(told=True))(lock.but(cancel_requested_at=NOW)),
    "next sequence": settled(SettlementKind.CONTINUE),
    "reset": lambda lock: rules.reset(lock.but(status=Status.FAILED), "n", AT),
}


@pytest.mark.parametrize("row", table("lock.progress_at"), ids=lambda row: f"{row['end']}-{row['progress in']}")
def test_attempts_are_counted_as_the_table_says(row: dict[str, str]) -> None:
    lock = durable(attempts=6, progress_at=PROGRESS[row["progress in"]], max_attempts=11)
    decided = ENDS[row["end"]](lock)
    assert isinstance(decided, Put), decided
    after = decided.lock
    assert (after.attempts, after.tries) == (int(row["attempts after it"]), int(row["counted since progress"]))


def test_every_end_is_in_the_table_of_attempts() -> None:
    assert {row["end"] for row in table("lock.progress_at")} == set(ENDS)


def test_death_after_each_new_entry_is_no_limit() -> None:
    """
    A handler of ten runs whose process dies after each of them is granted ten times, with three attempts.
    """
    lock = durable(status=Status.SCHEDULED, attempts=0)
    for number in range(10):
        put = writes.granted(lock, POLICY, Claimant("n"), AT)
        assert put.outcome is None, number
        lock = journal.applied(put.lock, JournalWrite((NEW,), progress=True), "n").but(status=Status.SCHEDULED)
