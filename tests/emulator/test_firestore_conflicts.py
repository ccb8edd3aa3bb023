"""
Transactions that meet, in the three ways that Firestores deal with it.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest
from google.api_core.exceptions import Aborted
from google.cloud import firestore

from gcp_emulator.channel import InProcessChannel, firestore_client
from gcp_emulator.clock import LoneClock
from gcp_emulator.firestore import FirestoreServer
from tests.support.patience import patient


def client_of(conflicts: Any, clock: Any = None) -> firestore.Client:
    return firestore_client(InProcessChannel([FirestoreServer(clock, conflicts=conflicts).service]), "p")


def begun(client: firestore.Client, *paths: str) -> firestore.Transaction:
    """
    A transaction that has read the documents at *paths*.
    """
    transaction = client.transaction(max_attempts=1)
    transaction._begin()
    for path in paths:
        client.document(path).get(transaction=transaction)
    return transaction


class Beside:
    """
    A call on another thread.
    """

    def __init__(self, run: Any) -> None:
        self.error: Exception | None = None
        self._run = run
        self._thread = threading.Thread(target=self._call)
        self._thread.start()

    def _call(self) -> None:
        try:
            self._run()
        except Exception as error:
            self.error = error

    def is_waiting(self) -> bool:
        """Whether it is still under way after a moment."""
        self._thread.join(0.2)
        return self._thread.is_alive()

    def done(self) -> Exception | None:
        """What it raised, once it is over."""
        self._thread.join(patient(30))
        assert not self._thread.is_alive()
        return self.error


@pytest.mark.parametrize("conflicts", ["optimistic", "pessimistic", "emulator"])
def test_increments_of_many_threads_all_count(conflicts):
    """Whatever the mode: nothing is lost and nothing counted twice."""
    client = client_of(conflicts)
    reference = client.document("c/n")
    reference.set({"n": 0})
    done = []

    @firestore.transactional
    def raise_(transaction: firestore.Transaction) -> None:
        found = reference.get(transaction=transaction)
        transaction.update(reference, {"n": found.get("n") + 1})

    def work(place: int) -> None:
        while done.count(place) < 3:
            try:
                raise_(client.transaction(max_attempts=1))
            except (Aborted, ValueError):
                # At once, as the client itself tries again, three of them may keep each other from committing for long.
                threading.Event().wait(0.05 * (place + 1))
            else:
                done.append(place)

    workers = [Beside(partial(work, place)) for place in range(3)]
    assert [worker.done() for worker in workers] == [None, None, None]
    assert reference.get().get("n") == len(done) == 9


def test_writer_waits_for_a_reader_s_end():
    """Pessimistic: a plain write goes through as soon as the transaction that has read the document ends."""
    client = client_of("pessimistic")
    client.document("c/a").set({"n": 1})
    reader = begun(client, "c/a")
    writer = Beside(lambda: client.document("c/a").set({"n": 2}))
    assert writer.is_waiting()
    client.document("c/other").set({"n": 1})
    reader._rollback()
    assert writer.done() is None
    assert client.document("c/a").get().get("n") == 2


def test_phantoms_wait_as_well():
    """A document that a query would have shown is held back until the transaction ends."""
    client = client_of("pessimistic")
    reader = client.transaction(max_attempts=1)
    reader._begin()
    assert list(client.collection("c").stream(transaction=reader)) == []
    writer = Beside(lambda: client.document("c/new").set({"n": 1}))
    assert writer.is_waiting()
    reader.set(client.document("other/x"), {"n": 1})
    reader._commit()
    assert writer.done() is None


def test_one_of_two_that_wait_for_each_other_is_aborted():
    """Pessimistic: no deadlock lasts; the other one commits."""
    client = client_of("pessimistic")
    client.document("c/a").set({"n": 1})
    first, second = begun(client, "c/a"), begun(client, "c/a")
    for transaction in (first, second):
        transaction.update(client.document("c/a"), {"n": 2})
    waiting = Beside(first._commit)
    assert waiting.is_waiting()
    with pytest.raises(Aborted, match="contention"):
        second._commit()
    assert waiting.done() is None


def test_emulator_mode_gives_up_after_two_seconds():
    """As Google's emulator: ABORTED with its sentence, by the clock."""
    clock = LoneClock()
    client = client_of("emulator", clock)
    client.document("c/a").set({"n": 1})
    begun(client, "c/a")
    before = clock.micros()
    with pytest.raises(Aborted, match=r"Transaction lock timeout\."):
        client.document("c/a").set({"n": 2}, retry=None)
    assert clock.micros() - before == 2_000_000


def test_abandoned_reader_is_not_waited_for_for_ever():
    """A transaction that is idle for a minute is over, and so are its locks."""
    clock = LoneClock()
    client = client_of("pessimistic", clock)
    client.document("c/a").set({"n": 1})
    begun(client, "c/a")
    clock.advance(61)
    client.document("c/a").set({"n": 2})
    assert client.document("c/a").get().get("n") == 2


def test_waiting_holds_up_nobody_else():
    """While a commit waits, other documents are read and written at once."""
    client = client_of("pessimistic")
    client.document("c/a").set({"n": 1})
    reader = begun(client, "c/a")
    writer = Beside(lambda: client.document("c/a").set({"n": 2}))
    assert writer.is_waiting()
    for number in range(50):
        client.document("c/b").set({"n": number})
    assert writer.is_waiting()
    reader._rollback()
    assert writer.done() is None


def test_read_only_transactions_lock_nothing():
    """They keep their snapshot, and nobody waits for them."""
    client = client_of("pessimistic")
    client.document("c/a").set({"n": 1})
    reader = client.transaction(read_only=True)
    reader._begin()
    assert client.document("c/a").get(transaction=reader).get("n") == 1
    client.document("c/a").set({"n": 2})
    assert client.document("c/a").get(transaction=reader).get("n") == 1
