"""
``attempt.key`` through deployments and deletions: processes of the last release and of this one over one history.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gcp_oncetask import rules
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
from gcp_oncetask.rules.delivery import Delivery, idempotency_key
from gcp_oncetask.rules.record import Lock, Status

START = datetime(2026, 1, 1, tzinfo=UTC)
TARGET = Target(url="https://app.test/x", queue="q")
PATH = "orders/42"


def as_released(lock: Lock | None, put: Put) -> Lock:
    """
    What the last release writes where this one writes *put*: a new sequence's number was the sequence.
    """
    made = put.lock
    fresh = lock is None or made.sequence > lock.sequence
    kept = lock is not None and fresh and made.keyed == lock.keyed
    return made.but(keyed=made.sequence) if fresh and not kept else made


def released_key(lock: Lock) -> str:
    """
    The key as the last release makes it of a record.
    """
    revised = f"\n{lock.granted}" if lock.granted else ""
    return "otk_" + hashlib.sha256(f"{lock.env}\n{PATH}\n{lock.keyed}{revised}".encode()).hexdigest()[:40]


class History:
    """
    One document, written by processes of both releases, deleted now and then.

    Attributes:
        lock: Its record; None: it is not there.
        sequences: The run that each key belongs to: a key belongs to one.
    """

    def __init__(self) -> None:
        self.lock: Lock | None = None
        self.now = START
        self.run = 0
        self.sequences: dict[str, int] = {}

    def write(self, put: object, *, old: bool) -> None:
        """
        Commit a decision of a process of this release, or as one of the last would have made it.
        """
        self.now += timedelta(milliseconds=1)
        if isinstance(put, Put):
            self.lock = as_released(self.lock, put) if old else put.lock

    def decision_context(self) -> DecisionContext:
        return DecisionContext(now=self.now, read=self.now, place="E/push/000", env="E")

    def schedule(self, *, old: bool) -> None:
        self.run += 1
        loaded = None if self.lock is None else self.lock.sequence
        self.write(rules.schedule(self.lock, loaded, TARGET, f"s{self.run}", self.decision_context()), old=old)

    def attempt(self, kind: SettlementKind, *, old: bool) -> None:
        """
        An attempt of the present sequence, and the key that it has.
        """
        lock = self.lock
        if lock is None or lock.status is not Status.SCHEDULED:
            return
        delivery = Delivery("E", PATH, lock.sequence, lock.dispatches, lock.scheduled_by or "", lock.token)
        claimed = rules.claim(lock, delivery, Policy(), Claimant(f"h{self.now}"), self.decision_context())
        self.write(claimed, old=old)
        held = self.lock
        assert held is not None
        if held.status is not Status.LEASED:
            return
        held = self.lock = held.but(granted_at=self.now, leased_at=self.now)
        key = idempotency_key(held.env, PATH, held.keyed, held.granted)
        assert key == released_key(held)
        assert self.sequences.setdefault(key, self.run) == self.run
        how = Settlement(kind, f"n{self.now}", next_nonce="next", target=TARGET, message="m")
        if kind is SettlementKind.CONTINUE:
            self.run += 1
        self.write(
            rules.settle(held, Fence(held.sequence, held.token, held.holder or ""), how, self.decision_context()),
            old=old,
        )

    def reset(self, *, old: bool) -> None:
        """
        A failed run goes on with its key; a completed one is another run.
        """
        lock = self.lock
        if lock is None or not lock.finished:
            return
        if lock.status is Status.COMPLETED:
            self.run += 1
        self.write(rules.reset(lock, f"r{self.now}", self.decision_context()), old=old)

    def delete(self, *, old: bool) -> None:
        self.lock = None
        self.now += timedelta(seconds=1)


STEPS: dict[str, Callable[[History, bool], None]] = {
    "schedule": lambda history, old: history.schedule(old=old),
    "complete": lambda history, old: history.attempt(SettlementKind.COMPLETE, old=old),
    "continue": lambda history, old: history.attempt(SettlementKind.CONTINUE, old=old),
    "fail": lambda history, old: history.attempt(SettlementKind.FAIL, old=old),
    "retry": lambda history, old: history.attempt(SettlementKind.RETRY, old=old),
    "reset": lambda history, old: history.reset(old=old),
    "delete": lambda history, old: history.delete(old=old),
}


def play(steps: list[tuple[str, bool]]) -> History:
    """
    The history of *steps*: what is done, and whether a process of the last release does it.
    """
    history = History()
    for step, old in steps:
        # A sequence that has not ended can't be scheduled again from outside.
        if step == "schedule" and history.lock is not None and history.lock.status is not Status.COMPLETED:
            continue
        STEPS[step](history, old)
    return history


LIVES = st.lists(st.lists(st.sampled_from(sorted(set(STEPS) - {"delete"})), max_size=8), min_size=2, max_size=4)


@given(LIVES)
def test_a_key_belongs_to_one_run_whatever_is_deleted(lives: list[list[str]]) -> None:
    """
    With processes of this release: attempts and resets of a run share its key, and no other run ever has it.
    """
    play([(step, False) for life in lives for step in ("schedule", *life, "delete")])


@given(st.lists(st.tuples(st.sampled_from(sorted(set(STEPS) - {"delete"})), st.booleans()), max_size=30))
def test_both_releases_compute_one_key_for_one_record(steps: list[tuple[str, bool]]) -> None:
    """
    During a roll-out any of the two writes: both read the same key out of a record, and it belongs to one run.
    """
    play(steps)


def test_second_charge_of_a_document_made_again_has_another_key() -> None:
    """
    Deleted and created again under the same id: a payment service must not swallow the second charge.
    """
    again = [("schedule", False), ("complete", False), ("delete", False)]
    assert len(play(again * 3).sequences) == 3
    # As the last release did it.
    assert play([("schedule", True), ("complete", True)]).sequences.keys() == {idempotency_key("E", PATH, 1)}


def test_documents_made_in_one_millisecond_have_keys_of_their_own() -> None:
    """
    Two calls decide at the same time. A person deletes the document of the first call before the second call makes it again.
    """
    moment, later = History().decision_context(), History()
    later.now += timedelta(milliseconds=1)
    nonces = ("c3240c817a44980f3bc26421", "d654111961c82103aeaedec3")
    made = [rules.schedule(None, None, TARGET, nonce, moment) for nonce in nonces]
    after = rules.schedule(None, None, TARGET, nonces[0], later.decision_context())
    numbers = [put.lock.keyed for put in (*made, after) if isinstance(put, Put)]

    assert len({idempotency_key("E", PATH, number) for number in numbers}) == 3
    assert max(numbers[:2]) < numbers[2] < 2**53


def test_existing_documents_keep_their_keys() -> None:
    """
    A record of the last release goes on counting where it was.
    """
    history = play(
        [("schedule", True), ("continue", True), ("complete", False), ("schedule", False), ("complete", False)]
    )
    assert list(history.sequences) == [idempotency_key("E", PATH, number) for number in (1, 2, 3)]
