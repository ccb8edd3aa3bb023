"""
Journals, waits and mailboxes as pure rules: what each commit writes, what ends a wait, and what a person's answer does.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gcp_oncetask import rules
from gcp_oncetask.rules import attention, expiry, journal, mailbox, waits, writes
from gcp_oncetask.rules.attention import Reason
from gcp_oncetask.rules.decisions import (
    CallRefused,
    Claimant,
    DecisionContext,
    Fence,
    Lost,
    Policy,
    Put,
    Settlement,
    SettlementKind,
    Target,
)
from gcp_oncetask.rules.journal import EntrySort, EntryState, JournalEntry, JournalWrite
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Chunk, Event, HandlerWait, Intent, Lock, Status, WaitFor, Woken
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.waits import SentEvent

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT = DecisionContext(T0, T0, "E/push/007", "E")
FENCE = Fence(3, 5, "h")
SECOND = timedelta(seconds=1)


def entry(name: str = "a", ordinal: int = 1, **values: Any) -> JournalEntry:
    return JournalEntry(name, EntrySort.RUN, ordinal, 5, T0, **values)


def event(id_: str = "e1", name: str = "approval", **values: Any) -> SentEvent:
    return SentEvent(id_, name, T0, **values)


def wait(sort: WaitFor = WaitFor.EVENT, until: datetime | None = None, **values: Any) -> HandlerWait:
    events = ("approval",) if sort is WaitFor.EVENT else ()
    return HandlerWait("w", sort, 2, T0, until, **{"events": events} | values)


def record(status: Status = Status.LEASED, **values: Any) -> Lock:
    given = {
        "sequence": 3,
        "token": 5,
        "holder": "h",
        "granted_at": T0,
        "leased_at": T0,
        "attempts": 1,
        "dispatches": 1,
        "scheduled_by": "n",
    }
    made = Lock.of({"env": "E", "status": status, "url": "https://x/y", "queue": "q"} | given | values)
    return journal.needing(made)


def open_run(name: str = "a", token: int = 5, over: datetime = T0) -> Intent:
    return Intent(name, token, T0, over)


def ended(how: Woken | None, sort: WaitFor = WaitFor.EVENT, **values: Any) -> HandlerWait:
    return wait(sort, T0 + SECOND, ended=how, **values)


def settled(kind: SettlementKind, lock: Lock, **values: Any) -> Put:
    put = rules.settle(lock, FENCE, Settlement(kind, "s", "next", Target("https://x/y", "q"), **values), AT)
    assert isinstance(put, Put)
    return put


# --- entries ---


def test_entry_and_write_are_read_as_they_were_stored() -> None:
    full = entry(state=EntryState.OPEN, value=[1], model=True, args="d", more={"key": "k"})
    write = JournalWrite((full,), ("e1",), open_run(), "b", progress=True, told=True, said="1")

    assert JournalEntry.of(full.to_bytes()) == full
    assert JournalEntry.of(entry().to_bytes()) == entry()
    assert JournalWrite.from_data(write.to_data()) == write
    assert JournalWrite.from_data(JournalWrite().to_data()) == JournalWrite()


def test_later_entry_of_a_name_replaces_the_earlier_one() -> None:
    rows = (entry(value=1).to_bytes(), entry("b", 2).to_bytes(), entry(value=2).to_bytes())

    assert journal.latest(rows)["a"].value == 2
    lock = record(journal=rows[:2], chunks=(Chunk("c", 1, 2, 40),))
    assert [each.value for each in journal.open_entries(lock)] == [1, None]
    assert journal.size(lock) == 40 + len(rows[0]) + len(rows[1])
    merged = journal.merged(lock, JournalWrite((entry(value=2),)))
    assert [JournalEntry.of(row).value for row in merged] == [2, None]


def test_journal_commit_is_fenced_and_signed() -> None:
    put = rules.journaled(record(), FENCE, JournalWrite((entry(),), progress=True), "n1")

    assert isinstance(put, Put)
    assert (put.lock.journaled_by, put.lock.progress_at, put.lock.needs) == ("n1", 1, ("journal",))
    assert isinstance(rules.journaled(record(token=6), FENCE, JournalWrite((entry(),)), "n1"), Lost)


def test_full_open_part_is_sealed_in_the_same_commit() -> None:
    large = JournalWrite(tuple(entry(f"a{n}", n, value="x" * 6000) for n in (1, 2, 3)))
    before = record()
    put = rules.journaled(before, FENCE, large, "n1")

    assert isinstance(put, Put)
    chunk = put.lock.chunks[0]
    assert (put.lock.journal, chunk.id, chunk.first, chunk.last) == ((), journal.chunk_id("E", "n1"), 1, 3)
    assert chunk.id.endswith(":E:n1")
    assert journal.sealed(before, put.lock, large) == (chunk, journal.merged(before, large))
    assert journal.sealed(put.lock, put.lock, large) is None


def test_intent_is_over_at_the_run_limit_and_a_grace_for_the_logs() -> None:
    made = journal.intent("a", record(run_limit_seconds=100), T0 + SECOND, 30.0)

    assert (made.token, made.begun, made.over) == (5, T0 + SECOND, T0 + timedelta(seconds=130))


def test_orderly_end_of_an_attempt_says_that_its_runs_are_over() -> None:
    later = T0 + timedelta(hours=1)
    lock = record(open=(open_run(over=later), open_run("b", 4, later)))

    assert [each.over for each in journal.over(lock, 5, T0).open] == [T0, later]


def test_known_fate_closes_an_open_run() -> None:
    lock = record(open=(open_run(), open_run("b")))

    after = journal.applied(lock, JournalWrite((entry(),), closed="a"), "n1")
    assert [each.name for each in after.open] == ["b"]


def test_cancellation_of_which_the_handler_is_told_has_attempts_of_its_own() -> None:
    after = journal.applied(record(attempts=4, progress_at=2), JournalWrite(told=True), "n1")

    assert (after.cancelling, after.attempts, after.progress_at) == (True, 1, 0)


# --- waits ---


@pytest.mark.parametrize(
    ("values", "at", "how"),
    [
        ({}, T0, None),
        ({}, T0 + SECOND, Woken.TIME),
        ({"mailbox": (event().to_bytes(),)}, T0 + SECOND, Woken.EVENT),
        ({"mailbox": (event(name="other").to_bytes(),)}, T0, None),
        ({"mailbox": (event(wait="w2").to_bytes(),)}, T0, None),
        ({"mailbox": (event(wait="w").to_bytes(),)}, T0, Woken.EVENT),
        ({"mailbox": (event().to_bytes(),), "cancel_requested_at": T0}, T0, Woken.CANCELLED),
        ({"cancel_requested_at": T0, "cancelling": True}, T0, None),
    ],
)
def test_end_of_a_wait(values: dict[str, Any], at: datetime, how: Woken | None) -> None:
    """
    A cancellation comes before an event, and an event before the time-out.
    """
    lock = record(Status.SCHEDULED, wait=wait(until=T0 + SECOND), **values)
    found = waits.woken(lock, at)

    assert (None if found is None else found.ended) is how
    assert waits.waits(lock, at) is (how is None)
    assert not waits.waits(lock.but(status=Status.LEASED), at)


def test_end_of_a_wait_that_a_grant_has_written_stays() -> None:
    lock = record(wait=ended(Woken.TIME), mailbox=(event().to_bytes(),))

    assert waits.woken(lock, T0) is lock.wait


def test_oldest_event_ends_a_wait() -> None:
    lock = record(mailbox=(event("e1").to_bytes(), event("e2").to_bytes()))
    found = waits.first_for(lock, wait())

    assert found is not None
    assert found.id == "e1"
    assert waits.first_for(lock, wait(WaitFor.SLEEP)) is None
    assert [each.id for each in waits.events(waits.without(lock, ("e1",)))] == ["e2"]


def test_event_and_wait_are_read_as_they_were_stored() -> None:
    full = event(data={"a": 1}, wait="w")

    assert SentEvent.of(full.to_bytes()) == full
    assert waits.from_data(waits.to_data(wait(until=T0, nonce="c"))) == wait(until=T0, nonce="c")
    assert waits.from_data(waits.to_data(wait())) == wait()


def test_end_of_a_wait_becomes_an_entry() -> None:
    timed = journal.entry_of(record(wait=ended(Woken.TIME)))
    slept = journal.entry_of(record(wait=ended(Woken.TIME, WaitFor.SLEEP)))
    lock = record(wait=ended(Woken.EVENT, event="e1"), mailbox=(event(data=7).to_bytes(),))
    taken = journal.entry_of(lock)

    assert timed is not None
    assert slept is not None
    assert (timed.state, slept.sort, slept.ordinal) == (EntryState.TIMED_OUT, EntrySort.SLEEP, 2)
    assert taken == journal.of_event(event(data=7), "w", 2, 5)
    assert taken.value == 7
    assert journal.entry_of(record(wait=ended(Woken.CANCELLED))) is None
    after = journal.applied(lock, JournalWrite(), "n1")
    assert (after.wait, after.mailbox, after.needs) == (None, (), ("journal",))


def test_suspension_gives_the_attempt_back_and_is_due_at_its_time() -> None:
    put = settled(
        SettlementKind.SUSPEND, record(attempts=2, progress_at=2), wait=wait(WaitFor.SLEEP, T0 + timedelta(days=3))
    )

    assert (put.lock.status, put.lock.attempts, put.lock.progress_at) == (Status.SCHEDULED, 1, 1)
    assert (put.lock.wait_until, put.lock.dispatches, put.outcome) == (T0 + timedelta(days=3), 2, Outcome.SUSPENDED)


def test_suspension_that_meets_its_event_is_dispatched_at_once() -> None:
    put = settled(SettlementKind.SUSPEND, record(mailbox=(event().to_bytes(),)), wait=wait())

    assert put.dispatch
    assert put.lock.wait is not None
    assert put.lock.wait.ended is Woken.EVENT


def test_wait_without_a_time_out_is_due_for_a_persons_attention() -> None:
    put = settled(SettlementKind.SUSPEND, record(), wait=wait())

    assert not put.dispatch
    assert "2026-01-31" in (put.lock.due or "")
    early = expiry.told_of_wait(put.lock, AT._replace(now=T0 + timedelta(days=29)))
    late = expiry.told_of_wait(put.lock, AT._replace(now=T0 + timedelta(days=30)))
    assert early is put.lock
    assert attention.said(late.attention) is Reason.WAITING


def test_handler_that_swallows_its_suspension_needs_a_person() -> None:
    put = settled(SettlementKind.SUSPEND, record(), wait=wait(WaitFor.SLEEP, T0 + SECOND), swallowed=True)

    assert attention.said(put.lock.attention) is Reason.SWALLOWED
    assert attention.said(writes.swallowed(record(), AT).attention) is Reason.SWALLOWED


def test_suspension_of_a_cancelled_task_says_what_old_releases_must_know() -> None:
    """
    The wait that a cancellation ends is in the record, so the record needs ``wait``.
    """
    put = settled(SettlementKind.SUSPEND, record(cancel_requested_at=T0), wait=wait())

    assert put.lock.cancelling
    assert put.lock.wait is not None
    assert put.lock.wait.ended is Woken.CANCELLED
    assert put.lock.needs == ("wait",)


# --- events ---


def test_event_wakes_the_handler_that_waits_for_it() -> None:
    put = rules.send(record(Status.SCHEDULED, wait=wait()), event(), "n1", AT)

    assert isinstance(put, Put)
    assert (put.dispatch, put.lock.dispatches, put.lock.journaled_by) == (True, 2, "n1")
    assert put.lock.needs == ("mailbox", "wait")


@pytest.mark.parametrize(
    ("values", "refusal"),
    [
        ({"env": "F"}, Refusal.FOREIGN),
        ({"status": Status.COMPLETED}, Refusal.ENDED),
        ({"mailbox": (event("x").to_bytes(),) * 100}, Refusal.FULL),
        ({"mailbox": (event("x", data="y" * 65_500).to_bytes(),)}, Refusal.FULL),
    ],
)
def test_event_that_is_refused(values: dict[str, Any], refusal: Refusal) -> None:
    told = rules.send(record(**values), event(), "n1", AT)

    assert isinstance(told, CallRefused)
    assert told.refusal is refusal


def test_known_event_is_dropped() -> None:
    lock = waits.remembered(record(), "e1", T0)
    told = rules.send(lock, event(), "n1", AT)

    assert isinstance(told, CallRefused)
    assert told.refusal is Refusal.DUPLICATE
    assert (waits.is_known(lock, "e1"), waits.is_known(lock, "e2")) == (True, False)


def test_ids_are_remembered_for_thirty_days_and_a_thousand_at_most() -> None:
    old = waits.remembered(record(), "e1", T0)
    later = waits.remembered(old, "e2", T0 + timedelta(days=31))
    assert (waits.is_known(later, "e1"), waits.is_known(later, "e2")) == (False, True)
    for number in range(1000):
        old = waits.remembered(old, f"n{number}", T0)
    assert (waits.is_known(old, "e1"), waits.is_known(old, "n0")) == (False, True)


def test_event_after_the_time_out_is_late() -> None:
    assert rules.is_late(record(wait=ended(Woken.TIME)), event())
    assert not rules.is_late(record(wait=ended(Woken.EVENT)), event())
    assert not rules.is_late(record(wait=ended(Woken.TIME)), event(name="other"))


# --- attempts ---


def test_attempts_count_since_the_last_progress_and_ten_times_as_many_in_all() -> None:
    assert record(attempts=5, progress_at=3).tries == 2
    assert writes.used_up(record(attempts=5, progress_at=2), 3)
    assert not writes.used_up(record(attempts=5, progress_at=3), 3)
    assert writes.used_up(record(attempts=30, progress_at=30), 3)


def test_attempt_that_does_not_count_is_given_back() -> None:
    back = writes.given_back(record(attempts=2, progress_at=2))
    assert (back.attempts, back.progress_at) == (1, 1)
    assert writes.given_back(record(attempts=0)).attempts == 0


@pytest.mark.parametrize(
    "values", [{"journal": (entry().to_bytes(),)}, {"chunks": (Chunk("c", 1, 1, 9),)}, {"wait": wait()}]
)
def test_handler_that_remembers_is_durable(values: dict[str, Any]) -> None:
    assert record(**values).durable
    assert not record(mailbox=(event().to_bytes(),)).durable


def test_cancelled_durable_task_is_delivered_once_more() -> None:
    lock = record(Status.SCHEDULED, wait=wait())
    put = rules.cancel(lock, AT)
    assert isinstance(put, Put)
    granted = rules.claim(put.lock, _delivery(put.lock), Policy(lease=60.0, timeout=900.0), Claimant("c"), AT)

    assert isinstance(granted, Put)
    assert (granted.outcome, granted.lock.cancelling) == (None, True)


def _delivery(lock: Lock) -> Any:
    from gcp_oncetask.rules.delivery import Delivery

    return Delivery(
        env="E", document="jobs/a", sequence=lock.sequence, dispatch=lock.dispatches, scheduled_by=lock.scheduled_by
    )


# --- questions ---


@pytest.mark.parametrize(
    "kind", [SettlementKind.COMPLETE, SettlementKind.CONTINUE, SettlementKind.FAIL, SettlementKind.RETRY]
)
def test_open_run_keeps_the_task_from_ending(kind: SettlementKind) -> None:
    lock = record(open=(open_run(),), max_attempts=1, alert_on=(Event.QUARANTINE,))
    put = settled(kind, lock)

    assert (put.lock.status, put.lock.holder) == (Status.QUARANTINED, None)
    assert "'a'" in put.lock.owed[-1].reason


def test_question_sets_the_task_aside_without_a_holder() -> None:
    put = writes.asked(record(alert_on=(Event.QUARANTINE,)), AT, "which one?")

    assert (put.outcome, put.lock.owed[0].reason) == (Outcome.QUARANTINED, "which one?")
    aside = writes.set_aside(record(), AT)
    assert (aside.status, aside.holder, aside.due) == (Status.QUARANTINED, None, None)


def test_answer_of_a_person_schedules_the_step_again_with_its_journal_and_key() -> None:
    asked = record(Status.QUARANTINED, open=(open_run(),), keyed=9, journal=(entry(state=EntryState.OPEN).to_bytes(),))
    put = rules.answer(asked, "a", entry(value=7), "n1", AT)

    assert isinstance(put, Put)
    assert (put.lock.status, put.lock.open, put.lock.keyed) == (Status.SCHEDULED, (), 9)
    assert journal.latest(put.lock.journal)["a"].value == 7


def test_answer_waits_for_the_other_questions() -> None:
    asked = record(Status.QUARANTINED, open=(open_run(), open_run("b")))
    put = rules.answer(asked, "a", entry(), "n1", AT)

    assert isinstance(put, Put)
    assert (put.lock.status, [each.name for each in put.lock.open]) == (Status.QUARANTINED, ["b"])


@pytest.mark.parametrize(
    ("lock", "state", "refusal"),
    [
        (record(open=(open_run(),)), EntryState.DONE, Refusal.NOT_QUARANTINED),
        (record(Status.QUARANTINED), EntryState.DONE, Refusal.NOT_QUARANTINED),
        (record(Status.QUARANTINED, open=(open_run(over=T0 + SECOND),)), EntryState.WITHDRAWN, Refusal.RUNNING),
    ],
)
def test_answer_that_is_refused(lock: Lock, state: EntryState, refusal: Refusal) -> None:
    told = rules.answer(lock, "a", entry(state=state), "n1", AT)

    assert isinstance(told, CallRefused)
    assert told.refusal is refusal


# --- new sequences ---


def test_next_sequence_begins_without_a_journal() -> None:
    lock = record(journal=(entry().to_bytes(),), wait=wait(), mailbox=(event().to_bytes(),), progress_at=1)

    anew = journal.begun_anew(lock, mailbox=True)
    assert (anew.durable, len(anew.mailbox), anew.progress_at, anew.needs) == (False, 1, 0, ("mailbox",))
    assert journal.begun_anew(lock, mailbox=False).mailbox == ()


def test_event_that_has_ended_a_wait_is_not_taken_again_by_the_next_step() -> None:
    """
    The handler has taken the event, and goes on to its next step without another commit of the journal.
    """
    lock = record(wait=ended(Woken.EVENT, event="e1"), mailbox=(event().to_bytes(), event("e2").to_bytes()))
    put = settled(SettlementKind.CONTINUE, lock)

    assert [each.id for each in waits.events(put.lock)] == ["e2"]


@pytest.mark.parametrize(("how", "state"), [(Woken.EVENT, EntryState.DONE), (Woken.TIME, EntryState.TIMED_OUT)])
def test_wait_that_has_ended_is_not_forgotten_by_a_failure_and_a_reset(how: Woken, state: EntryState) -> None:
    """
    The handler has got the event or the time-out, and failed before another commit of the journal.
    """
    taken = "e1" if how is Woken.EVENT else None
    lock = record(wait=ended(how, event=taken), mailbox=(event().to_bytes(),) if taken else ())
    failed = settled(SettlementKind.FAIL, lock).lock
    again = rules.reset(failed, "n1", AT)

    assert (failed.wait, failed.mailbox) == (None, ())
    assert isinstance(again, Put)
    assert journal.latest(again.lock.journal)["w"].state is state
    assert again.lock.needs == ("journal",)


def test_wait_that_goes_on_leaves_no_entry() -> None:
    assert journal.left(record(wait=wait())).journal == ()
    assert journal.left(record()).wait is None


def test_event_of_a_failed_task_without_a_journal_is_kept_by_a_reset() -> None:
    put = rules.reset(record(Status.FAILED, mailbox=(event().to_bytes(),)), "n1", AT)

    assert isinstance(put, Put)
    assert [each.id for each in waits.events(put.lock)] == ["e1"]


def test_newer_payload_of_a_quarantined_task_begins_without_the_journal_of_the_older_one() -> None:
    lock = record(Status.QUARANTINED, journal=(entry().to_bytes(),), wanted=2, granted=1)
    put = rules.reset(lock, "n1", AT)

    assert isinstance(put, Put)
    assert not put.lock.durable


# --- names ---


def test_wait_brings_the_handler_forward_and_a_time_does_not() -> None:
    assert not journal.forward([])
    time = entry()._replace(sort=EntrySort.VALUE)
    assert not journal.forward([time])
    assert journal.forward([time, entry("b", 2)._replace(sort=EntrySort.SLEEP)])


def test_each_run_of_a_sequence_has_a_key_of_its_own() -> None:
    keys = [journal.run_key(*each) for each in (("k", "a"), ("k", "b"), ("l", "a"), ("k", "a"))]

    assert keys[0] == keys[3]
    assert len(set(keys)) == 3
    assert journal.key_in(entry(more={"key": "k"})) == "k"
    assert (journal.key_in(None), journal.key_in(entry())) == (None, None)


def test_wait_is_over_once_a_grant_or_the_journal_says_so() -> None:
    assert not mailbox.is_over(record(wait=wait()), wait().name)
    assert mailbox.is_over(record(wait=ended(Woken.EVENT)), wait().name)
    for state in (EntryState.DONE, EntryState.TIMED_OUT):
        assert mailbox.is_over(record(journal=(entry("w", state=state).to_bytes(),)), "w")
    assert not mailbox.is_over(record(journal=(entry("w", state=EntryState.UNDER_WAY).to_bytes(),)), "w")
    assert not mailbox.is_answered(None)


def test_wait_with_an_event_that_it_has_not_taken_is_over() -> None:
    sent = event().to_bytes()
    assert mailbox.is_over(record(wait=wait(), mailbox=(sent,)), "w")
    assert not mailbox.is_over(record(wait=wait(), mailbox=(event(name="other").to_bytes(),)), "w")


def test_answer_may_not_be_taken_after_a_cancellation_or_another_event() -> None:
    """
    The handler has not come to the wait; one that waits takes the answer.
    """
    answer, sent = event("e2", wait="w"), event().to_bytes()
    assert mailbox.doubt(record(), answer, T0) is None
    cancelled = record(cancel_requested_at=T0 + SECOND)
    assert mailbox.doubt(cancelled, answer, T0) == "The task was cancelled at 2026-01-01 12:00 UTC"
    assert mailbox.doubt(cancelled, answer, T0 + 2 * SECOND) is None
    assert mailbox.doubt(record(mailbox=(sent,)), answer, T0) == "Another answer came before this one"
    for other in (event(name="other"), event(wait="v")):
        assert mailbox.doubt(record(mailbox=(other.to_bytes(),)), answer, T0) is None
    assert mailbox.doubt(cancelled.but(wait=wait()), answer, T0) is None
