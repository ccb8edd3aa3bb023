"""
The rules of sequences that wait, in every combination, against the tables of ``docs/reference/rules.md``.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gcp_oncetask import rules
from gcp_oncetask.rules import journal, waits, writes
from gcp_oncetask.rules.decisions import CallRefused, Claimant, NeedTime, Policy, Put, Refused
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.journal import EntrySort, EntryState, JournalEntry
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import HandlerWait, Intent, Lock, Status, WaitFor, Woken
from gcp_oncetask.rules.waits import MAX_EVENTS, MAX_MAILBOX, SentEvent
from tests.support.rules import combinations, first_match, table
from tests.unit.rules.test_rules import NOW, SECOND, leased, moment

POLICY = Policy(lease=60, timeout=630, run_limit=600, max_attempts=3)
AT = moment()
HOUR = timedelta(hours=1)
ENTRY = JournalEntry("charge", EntrySort.RUN, 1, 6, NOW, EntryState.OPEN)
EVENT = SentEvent("e", "approval", NOW)


def durable(**changes: Any) -> Lock:
    """
    A record whose handler has begun to remember.
    """
    return journal.needing(leased(**{"journal": (ENTRY.to_bytes(),), **changes}))


def opened(over: timedelta = -SECOND, *, name: str = "charge") -> Intent:
    """
    An intent of the attempt before, which is over then.
    """
    return Intent(name, 6, NOW - HOUR, NOW + over)


WAITS = {
    "sleep": HandlerWait("w", WaitFor.SLEEP, 2, NOW - HOUR, NOW),
    "event": HandlerWait("w", WaitFor.EVENT, 2, NOW - HOUR, None, ("approval",)),
    "event with a time-out": HandlerWait("w", WaitFor.EVENT, 2, NOW - HOUR, NOW, ("approval",)),
    "next try": HandlerWait("w", WaitFor.RETRY, 2, NOW - HOUR, NOW),
    "verification": HandlerWait("w", WaitFor.VERIFY, 2, NOW - HOUR, NOW),
}
ENDS = {
    "granted, its end as found": (Woken.CHILDREN, None),
    "granted, by a cancellation": (Woken.CANCELLED, None),
    "granted, by the event": (Woken.EVENT, "e"),
    "granted, by its time": (Woken.TIME, None),
}


def claimed(case: dict[str, str]) -> str:
    """
    The decision about a delivery of a sequence that waits.
    """
    # The moment is the end of the wait, or the microsecond before it; the estimate lags behind the server's clock.
    before = NOW - timedelta(microseconds=1)
    at = moment({"to come": before, "come": NOW, "unknown": None}[case["time"]], before)
    wait = WAITS[case["wait"]]
    if case["ended"] == "yes":
        wait = replace(wait, ended=Woken.CHILDREN)
    stays = wait.until is not None or wait.ended is not None
    lock = durable(
        status=Status.SCHEDULED,
        wait=wait,
        wait_until=NOW if stays else None,
        cancel_requested_at=NOW if case["cancelled"] == "yes" else None,
        mailbox=(EVENT.to_bytes(),) if case["event"] == "stored" else (),
        dispatches=2,
    )
    delivery = Delivery(
        env="E", document="orders/1", sequence=5, dispatch=1 + (case["dispatch"] == "present"), scheduled_by="s"
    )
    decision = rules.claim(lock, delivery, POLICY, Claimant("n"), at)
    match decision:
        case Refused():
            return decision.outcome.value
        case NeedTime():
            return "read again with the server's time"
        case Put(outcome=None):
            found = decision.lock.wait
            assert found is not None
            assert decision.lock.wait_until is None or decision.lock.wait_until <= NOW
            assert decision.lock.cancelling is (case["cancelled"] == "yes")
            return next(said for said, end in ENDS.items() if end == (found.ended, found.event))
    raise AssertionError(decision)


def test_delivery_of_a_sequence_that_waits_is_decided_as_the_table_says() -> None:
    """
    Each of the 240 combinations of wait, dispatch, end, cancellation, event and time is decided by its row.
    """
    rows, used = table("lock.wait"), set()
    for case in combinations(
        wait=tuple(WAITS),
        dispatch=("older", "present"),
        ended=("no", "yes"),
        cancelled=("yes", "no"),
        event=("stored", "none"),
        time=("to come", "come", "unknown"),
    ):
        row = first_match(rows, case)
        used.add(row)
        assert rows[row]["decision"] == claimed(case), case
    assert used == set(range(len(rows)))


SUSPENDS: dict[str, HandlerWait | None] = {
    "a fresh delivery": None,
    "an event": WAITS["event"],
    "an event or a time": replace(WAITS["event with a time-out"], until=NOW + HOUR),
    "a time to come": replace(WAITS["sleep"], until=NOW + HOUR),
    "a time that has come": WAITS["sleep"],
}


def suspended(case: dict[str, str]) -> str:
    """
    The decision about an attempt that waits.
    """
    lock = durable(
        cancel_requested_at=None if case["cancelled"] == "no" else NOW,
        cancelling=case["cancelled"] == "told",
        wanted=1 if case["newer payload"] == "yes" else 0,
        mailbox=(EVENT.to_bytes(),) if case["event"] == "stored" else (),
        open=(opened(),) if case["runs begun once"] == "open" else (),
    )
    put = rules.suspend(lock, SUSPENDS[case["waits for"]], AT)
    after = put.lock
    if after.status is Status.QUARANTINED:
        assert (put.dispatch, after.holder) == (False, None)
        return "quarantined"
    if after.sequence > lock.sequence:
        assert (put.dispatch, after.durable) == (True, False)
        return "next sequence"
    assert after.status is Status.SCHEDULED
    assert after.journal == lock.journal
    if put.outcome is Outcome.CANCELLED:
        assert (put.dispatch, after.cancelling, after.wait_until) == (True, True, None)
        return "one more delivery, cancelled"
    assert put.outcome is Outcome.SUSPENDED
    assert after.dispatches == lock.dispatches + put.dispatch
    if not put.dispatch:
        assert after.wait_until is None
        return "waits without a delivery"
    if after.wait_until is not None:
        assert after.wait_until == NOW + HOUR
        return "dispatched for its time"
    return "dispatched at once" + (", woken" if after.wait is not None and after.wait.ended else "")


def test_attempt_that_waits_is_suspended_as_the_table_says() -> None:
    """
    Each of the 120 combinations of cancellation, payload, wait, event and open runs is decided by its row.
    """
    rows, used = table("rules.suspend"), set()
    for case in combinations(
        cancelled=("no", "yes", "told"),
        **{"newer payload": ("no", "yes"), "waits for": tuple(SUSPENDS)},
        event=("stored", "none"),
        **{"runs begun once": ("open", "none")},
    ):
        row = first_match(rows, case)
        used.add(row)
        assert rows[row]["decision"] == suspended(case), case
    assert used == set(range(len(rows)))


MAILBOXES = {
    "has room": (),
    "has 100 events": (b"{}",) * MAX_EVENTS,
    "has too few bytes left": (b"x" * (MAX_MAILBOX - 10),),
}


def sent(case: dict[str, str]) -> str:
    """
    The decision about an event.
    """
    wait = None
    if case["wait"] != "none":
        wait = WAITS["event"]
    if case["wait"] == "for another event":
        wait = replace(WAITS["event"], events=("refusal",))
    if case["wait"] == "for this event, ended":
        wait = replace(WAITS["event"], ended=Woken.TIME)
    lock = durable(
        status=Status(case["record"]),
        env="E" if case["environment"] == "ours" else "OTHER",
        wait=wait,
        mailbox=MAILBOXES[case["mailbox"]],
    )
    if case["id"] == "known":
        lock = waits.remembered(lock, EVENT.id, NOW)
    link = "another" if case["wait"] == "for this event, under another link" else None
    decision = rules.send(lock, EVENT._replace(wait=link), "n", AT)
    if isinstance(decision, CallRefused):
        return str(decision.refusal)
    assert decision.lock.mailbox[-1] == EVENT._replace(wait=link).to_bytes()
    assert waits.is_known(decision.lock, EVENT.id)
    assert decision.lock.dispatches == lock.dispatches + decision.dispatch
    return "stored, dispatched" if decision.dispatch else "stored"


def test_event_is_stored_as_the_table_says() -> None:
    """
    Each of the 360 combinations of environment, id, record, mailbox and wait is decided by its row.
    """
    rows, used = table("mailbox.send"), set()
    for case in combinations(
        environment=("ours", "other"),
        id=("new", "known"),
        record=("scheduled", "leased", "completed", "failed", "cancelled", "quarantined"),
        mailbox=tuple(MAILBOXES),
        wait=(
            "none",
            "for this event",
            "for this event, under another link",
            "for this event, ended",
            "for another event",
        ),
    ):
        row = first_match(rows, case)
        used.add(row)
        assert rows[row]["decision"] == sent(case), case
    assert used == set(range(len(rows)))


def answered(case: dict[str, str]) -> str:
    """
    The decision about a person's answer.
    """
    over = opened(SECOND if case["its attempt"] == "may still run" else -SECOND)
    open_ = (
        *([over] if case["the run"] == "open" else []),
        *([opened(name="b")] if case["other runs"] == "open" else []),
    )
    lock = durable(
        status=Status(case["record"]),
        open=open_,
        mailbox=(EVENT.to_bytes(),),
        cancel_requested_at=NOW if case["since then"] == "cancelled" else None,
        cancelling=case["since then"] == "cancelled",
        wanted=1 if case["since then"] == "a newer payload" else 0,
    )
    state = EntryState.WITHDRAWN if case["answer"] == "not done" else EntryState.DONE
    entry = JournalEntry("charge", EntrySort.RUN, 1, 6, NOW, state)
    decision = rules.answer(lock, "charge", entry, "n", AT)
    if isinstance(decision, CallRefused):
        return f"refused: {decision.refusal}"
    after = decision.lock
    assert not after.durable or entry.to_bytes() in after.journal
    if after.status is Status.QUARANTINED:
        assert [intent.name for intent in after.open] == ["b"]
        return "kept, still quarantined"
    assert (after.status, decision.dispatch, after.sequence) == (Status.SCHEDULED, True, lock.sequence + 1)
    if not after.durable:
        assert (after.keyed, after.mailbox, after.open) == (after.sequence, (), ())
        return "next sequence"
    assert (after.keyed, after.mailbox, after.open) == (lock.keyed, lock.mailbox, ())
    if after.cancel_requested_at is None:
        return "scheduled again, with its journal and key"
    granted = writes.granted(after, POLICY, Claimant("n"), AT)
    assert (granted.outcome, granted.lock.cancelling) == (None, True)
    return "scheduled again, to be cancelled"


def test_answer_of_a_person_is_taken_as_the_table_says() -> None:
    """
    Each of the 288 combinations of record, run, answer, attempt, other runs and later requests is decided by its row.
    """
    rows, used = table("rules.answer"), set()
    for case in combinations(
        record=("scheduled", "leased", "completed", "failed", "cancelled", "quarantined"),
        **{"the run": ("open", "not open")},
        answer=("not done", "its result"),
        **{
            "its attempt": ("may still run", "over"),
            "other runs": ("open", "none"),
            "since then": ("nothing", "cancelled", "a newer payload"),
        },
    ):
        row = first_match(rows, case)
        used.add(row)
        assert rows[row]["decision"] == answered(case), case
    assert used == set(range(len(rows)))


@pytest.mark.parametrize(("since", "extra"), [(2, 0), (2, 5), (2, 27), (2, 28), (2, 40), (3, 0), (3, 27), (9, 0)])
def test_attempts_are_used_up_as_the_table_says(since: int, extra: int) -> None:
    limit, every = POLICY.max_attempts, since + extra
    case = {
        "since progress": "the limit" if since >= limit else "fewer than the limit",
        "all together": "ten times the limit" if every >= limit * 10 else "fewer than ten times the limit",
    }
    rows = table("writes.used_up")
    lock = durable(status=Status.SCHEDULED, attempts=every, progress_at=extra)
    put = writes.granted(lock, POLICY, Claimant("n"), AT)
    decided = "granted" if put.outcome is None else put.outcome.value
    assert rows[first_match(rows, case)]["decision"] == decided
    assert writes.used_up(lock, limit) is (decided == "failed")
