"""
Attempts that count, and those that brought the journal forward: a table.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gcp_oncetask import rules
from gcp_oncetask.rules import writes
from gcp_oncetask.rules.decisions import Claimant, Fence, Put, Refused, Settlement, SettlementKind, Target
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.journal import EntrySort, EntryState, JournalEntry, JournalWrite
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import HandlerWait, Intent, Lock, Status, WaitFor, Woken
from tests.unit.rules.test_rules import NOW, POLICY, leased, moment

FENCE = Fence(sequence=5, token=7, holder="h")
RUN = JournalEntry("a", EntrySort.RUN, 1, 7, NOW)
VALUE = JournalEntry("v", EntrySort.VALUE, 1, 7, NOW)
TRY = JournalEntry("a", EntrySort.RUN, 1, 7, NOW, EntryState.TRYING)


def waiting(sort: WaitFor = WaitFor.SLEEP, ended: Woken | None = None, **more: Any) -> HandlerWait:
    return HandlerWait("w", sort, 2, NOW, NOW + timedelta(hours=1), ended=ended, **more)


def settled(how: SettlementKind, lock: Lock, **more: Any) -> Lock:
    found = rules.settle(lock, FENCE, Settlement(kind=how, nonce="n", **more), moment())
    assert isinstance(found, Put)
    return found.lock


# (attempts, progress) before -> after; the present attempt is the fifth.
ENDS = [
    (SettlementKind.SUSPEND, {"wait": waiting()}, (5, 2), (4, 2)),
    (SettlementKind.SUSPEND, {"wait": waiting()}, (5, 5), (4, 4)),
    (SettlementKind.SUSPEND, {}, (5, 5), (4, 4)),
    (SettlementKind.SUSPEND, {"wait": waiting(), "journal": JournalWrite((TRY,))}, (5, 2), (4, 2)),
    (SettlementKind.SNOOZE, {}, (5, 2), (4, 2)),
    (SettlementKind.SNOOZE, {}, (5, 5), (4, 4)),
    (SettlementKind.RELEASE, {}, (5, 5), (4, 4)),
    (SettlementKind.RETRY, {"message": "no"}, (5, 2), (5, 2)),
    (SettlementKind.RETRY, {"message": "no"}, (5, 5), (5, 5)),
    (SettlementKind.RETRY, {"message": "no", "journal": JournalWrite((VALUE,))}, (5, 3), (5, 3)),
    (SettlementKind.RETRY, {"message": "no", "journal": JournalWrite((RUN,), progress=True)}, (5, 3), (5, 5)),
]


@pytest.mark.parametrize(("how", "more", "before", "after"), ENDS)
def test_an_orderly_end_does_not_count(how: SettlementKind, more: Any, before: Any, after: Any) -> None:
    found = settled(how, leased(attempts=before[0], progress_at=before[1], max_attempts=9), **more)
    assert (found.attempts, found.progress_at) == after


# releases, attempts before -> after
RELEASES = [(0, 1, 0, 1), (4, 1, 0, 5), (5, 1, 1, 5), (5, 2, 2, 5), (9, 3, 3, 9)]


@pytest.mark.parametrize(("releases", "attempts", "left", "then"), RELEASES)
def test_five_releases_do_not_count(releases: int, attempts: int, left: int, then: int) -> None:
    found = settled(SettlementKind.RELEASE, leased(attempts=attempts, releases=releases, max_attempts=9))
    assert (found.status, found.attempts, found.releases) == (Status.SCHEDULED, left, then)


@pytest.mark.parametrize("releases", [0, 5, 100])
def test_a_payload_that_is_given_back_never_counts(releases: int) -> None:
    found = settled(SettlementKind.RELEASE, leased(attempts=3, releases=releases), message="it could not be read")
    assert (found.attempts, found.releases) == (2, releases)


def test_the_next_sequence_has_releases_of_its_own() -> None:
    target = Target("https://a.test/x", "q")
    lock = leased(attempts=3, releases=5)
    found = settled(SettlementKind.CONTINUE, lock, target=target, next_nonce="m")
    assert (found.sequence, found.attempts, found.releases) == (lock.sequence + 1, 0, 0)


# What a commit of the journal holds -> whether it brings the handler forward.
COMMITS: list[tuple[JournalWrite, HandlerWait | None, bool]] = [
    (JournalWrite((RUN,), progress=True), None, True),
    (JournalWrite((VALUE,)), None, False),
    (JournalWrite((RUN,), opened=Intent("a", 7, NOW, NOW)), None, False),
    (JournalWrite(), waiting(WaitFor.SLEEP, Woken.TIME), True),
    (JournalWrite(), waiting(WaitFor.EVENT, Woken.TIME), True),
    (JournalWrite(), waiting(WaitFor.CHILDREN, Woken.CHILDREN), True),
    (JournalWrite(), waiting(WaitFor.RETRY, Woken.TIME), False),
    (JournalWrite(), waiting(WaitFor.VERIFY, Woken.TIME), False),
    (JournalWrite(), waiting(WaitFor.SLEEP, Woken.CANCELLED), False),
]


@pytest.mark.parametrize(("write", "wait", "forward"), COMMITS)
def test_progress_is_a_new_run_an_event_or_a_finished_wait(
    write: JournalWrite, wait: HandlerWait | None, forward: bool
) -> None:
    found = rules.journaled(leased(attempts=5, progress_at=2, wait=wait), FENCE, write, "n")
    assert isinstance(found, Put)
    assert (found.lock.attempts, found.lock.progress_at) == (5, 5 if forward else 2)
    assert found.lock.wait is None


@pytest.mark.parametrize(
    ("attempts", "progress", "over"),
    [(2, 0, False), (3, 0, True), (3, 1, False), (4, 1, True), (29, 29, False), (29, 27, False), (30, 30, True)],
)
def test_both_limits(attempts: int, progress: int, over: bool) -> None:
    lock = leased(status=Status.SCHEDULED, attempts=attempts, progress_at=progress, holder=None)
    assert writes.used_up(lock, POLICY.max_attempts) is over
    delivery = Delivery(env="E", document="d/1", sequence=5, dispatch=1, scheduled_by="s")
    found = rules.claim(lock, delivery, POLICY, Claimant("c"), moment())
    assert isinstance(found, Put)
    assert (found.outcome is Outcome.FAILED) is over


def test_a_wait_that_was_moved_by_a_suspension_counts() -> None:
    lock = leased(attempts=5, progress_at=2, wait=waiting(WaitFor.SLEEP, Woken.TIME), max_attempts=9)
    found = settled(SettlementKind.SUSPEND, lock, wait=waiting(WaitFor.EVENT, events=("e",)), journal=JournalWrite())
    assert (found.attempts, found.progress_at) == (4, 4)


def test_a_telling_of_a_cancellation_begins_the_count_anew() -> None:
    lock = leased(attempts=5, progress_at=2, cancel_requested_at=NOW)
    found = rules.journaled(lock, FENCE, JournalWrite(told=True), "n")
    assert isinstance(found, Put)
    assert (found.lock.attempts, found.lock.progress_at, found.lock.cancelling) == (1, 0, True)


@pytest.mark.parametrize("ended", [None, Woken.EVENT, Woken.CHILDREN])
def test_an_ended_wait_does_not_hasten_a_retry(ended: Woken | None) -> None:
    later = NOW + timedelta(minutes=5)
    wait = None if ended is None else waiting(WaitFor.EVENT, ended)
    lock = leased(status=Status.SCHEDULED, holder=None, wait=wait, wait_until=later, dispatches=3)
    delivery = Delivery(env="E", document="d/1", sequence=5, dispatch=3, scheduled_by="s")
    found = rules.claim(lock, delivery, POLICY, Claimant("c"), moment())
    assert isinstance(found, Refused)
    assert found.outcome is Outcome.EARLY
