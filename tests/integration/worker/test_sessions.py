"""
Sessions of workers and their listeners: who has which shards when others come, go, or lose Firestore; and what idling costs.
"""

from __future__ import annotations

import itertools
import threading
import time
import zlib
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.cloud.firestore import DELETE_FIELD, DocumentReference, FieldFilter
from pydantic import PrivateAttr

from gcp_oncetask import Config, Locker, UsageError
from gcp_oncetask.tasks import TaskData, TaskManager, TaskStatus
from gcp_oncetask.worker import Worker, listening
from gcp_oncetask.worker.membership import SETTLING, Membership
from tests.support.patience import patient
from tests.support.workers import Ledger, at_work


class Item(TaskData, kind="item", pull=True):
    number: int

    _at = PrivateAttr(default=None)

    def task_id(self) -> str:
        return str(self.number)

    def scheduled_at(self):
        return self._at

    @classmethod
    def due(cls, number, at):
        made = cls(number=number)
        made._at = at
        return made


class Other(TaskData, kind="other", pull=True):
    number: int


class Third(TaskData, kind="third", pull=True):
    number: int


@pytest.fixture
def worker_of(make_manager):
    """
    Makes a worker whose manager notes in a ledger what it runs.
    """

    def make(ledger: Ledger, **options):
        manager = make_manager()
        manager.register_task_handler(Item, lambda task, attempt: ledger.note(task.id))
        return Worker(manager, **options)

    return make


def sizes(*workers):
    return sorted(len(worker.shards.get("item", ())) for worker in workers)


# --- on the virtual clock ---------------------------------------------------------------------------------------------


@pytest.fixture
def join(oncetask_cloud):
    """
    Makes the membership of a session of 60 seconds, in a process of its own as it were, and beats once.
    """

    def make(*kinds: str, ttl: float = 60.0) -> Membership:
        locker = Locker(config=Config())
        oncetask_cloud.use(locker)
        membership = Membership(locker._runtime, kinds or ("item",), ttl)
        assert membership.due_in() == 0
        assert membership.beat()
        return membership

    return make


def test_a_new_workers_share_within_one_heartbeat(oncetask_cloud, join):
    """
    It has its share at once; the others give theirs up with their next heartbeats, 20 seconds later at most, and look at it
    for one more, in case that somebody has not heard of everybody.
    """
    first = join()
    assert (len(first.shards["item"]), first.due_in()) == (8, SETTLING)
    oncetask_cloud.advance(seconds=SETTLING)
    assert not first.beat()
    assert first.due_in() == 20
    second = join()
    assert (len(first.shards["item"]), len(second.shards["item"])) == (8, 4)
    oncetask_cloud.advance(seconds=20)
    assert first.due_in() == 0
    first.beat()
    assert sorted(first.shards["item"] + second.shards["item"]) == list(range(8))
    assert (first.sessions, len(first.shards["item"])) == (2, 4)
    assert first.watched["item"] == tuple(range(8))
    oncetask_cloud.advance(seconds=20)
    assert first.beat()
    assert first.watched == first.shards


def test_no_shard_is_unwatched_while_workers_hear_of_each_other(join):
    """
    Some have heard of three newcomers and some have not: their shares alone would leave shards to nobody.
    """

    def watched() -> set[int]:
        return {shard for member in members for shard in member.watched["item"]}

    members = [join() for _ in range(5)]
    for member in members:
        member.beat()
    members += [join() for _ in range(3)]
    for member in members:
        member.beat()
        assert watched() == set(range(8))
    for member in members:
        member.beat()
    assert sorted(shard for member in members for shard in member.shards["item"]) == list(range(8))


def test_shares_differ_by_one_at_most_at_rest(join):
    """
    However many workers and kinds, after one more heartbeat of each: all shards are given out, once each.
    """
    members = []
    for _ in range(11):
        members.append(join("item", "other"))
        for member in members:
            member.beat()
        for kind in ("item", "other"):
            owned = [len(member.shards[kind]) for member in members]
            assert max(owned) - min(owned) <= 1
            assert sorted(itertools.chain(*(member.shards[kind] for member in members))) == list(range(8))


def test_a_dead_workers_shards_move_within_its_ttl(oncetask_cloud, join):
    """
    The next heartbeat of a survivor is not after the instant at which the dead one's session ends.
    """
    dead = join()
    oncetask_cloud.advance(seconds=15)
    survivor = join()
    for _ in range(3):
        oncetask_cloud.advance(seconds=survivor.due_in())
        assert survivor.due_in() == 0
        survivor.beat()
        assert len(survivor.shards["item"]) == 4
    # 56 seconds after the last heartbeat of the dead one.
    assert survivor.due_in() == 4
    assert dead.alive()
    oncetask_cloud.advance(seconds=4)
    assert not dead.alive()
    assert survivor.beat()
    assert len(survivor.shards["item"]) == 8


def test_a_session_that_ended_is_not_read_again(oncetask_cloud, join):
    """
    Heartbeats read the sessions that may be alive, not those that were: neither those that left, nor, after a while, the dead.
    """
    survivor = join()
    for _ in range(5):
        join().end()
        join(ttl=6.0)
    oncetask_cloud.advance(seconds=20)
    firestore = oncetask_cloud.local.firestore
    firestore.reset_counts()
    survivor.beat()
    assert dict(firestore.counts) == {"Commit": 1, "RunQuery": 1}
    assert (firestore.reads, firestore.writes) == (1, 1)
    assert len(survivor.shards["item"]) == 8


def document_of(member: Membership) -> DocumentReference:
    """
    The document of its session.
    """
    sessions = member._runtime.wire.client.collection("onceSessions")
    [found] = sessions.where(filter=FieldFilter("id", "==", member.id)).stream()
    return found.reference


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((field, value) for field in ("id", "kinds", "beatAt", "ttlSeconds") for value in (DELETE_FIELD, None, {})),
        ("id", 7),
        ("kinds", "item"),
        ("beatAt", "noon"),
        ("beatAt", datetime(2100, 1, 1, tzinfo=UTC)),
        ("ttlSeconds", "long"),
        ("ttlSeconds", -60),
        ("ttlSeconds", float("nan")),
        ("ttlSeconds", 1e300),
    ],
)
def test_a_damaged_session_hurts_no_other_worker(oncetask_cloud, join, caplog, field, value):
    """
    It does not count until its own worker writes it anew; if that is dead, its shards move.
    """
    damaged, other = join(), join()
    document = document_of(damaged)
    document.update({field: value})
    other.beat()
    assert len(other.shards["item"]) == 8
    assert f"onceSessions/{document.id} is damaged" in caplog.text
    damaged.beat()
    other.beat()
    assert [len(one.shards["item"]) for one in (damaged, other)] == [4, 4]


def test_a_deleted_session_goes_on(oncetask_cloud, join):
    """
    Its worker writes it with its next heartbeat, under its id, and keeps its shards.
    """
    deleted, other = join(), join()
    before = deleted.id
    document_of(deleted).delete()
    other.beat()
    assert len(other.shards["item"]) == 8
    deleted.beat()
    other.beat()
    assert (deleted.id, deleted.failing, len(deleted.shards["item"]), len(other.shards["item"])) == (
        before,
        False,
        4,
        4,
    )


def test_heartbeats_that_fail_are_tried_again_with_pauses_and_the_session_dies(oncetask_cloud, join):
    """
    0.5, 1, 2 ... seconds, never more than the ordinary interval; after the ttl nothing is taken, and a new session begins.
    """
    member = join()
    before = member.id
    oncetask_cloud.advance(seconds=20)
    oncetask_cloud.faults.fail("Commit", times=None)
    pauses = []
    while member.alive():
        assert not member.beat()
        pauses.append(member.due_in())
        oncetask_cloud.advance(seconds=pauses[-1])
    assert pauses == [0.5, 1, 2, 4, 8, 16, 20]
    assert (member.failing, member.id, len(member.shards["item"])) == (True, before, 8)
    member.beat()
    assert (member.id != before, member.shards, member.alive()) == (True, {}, False)
    oncetask_cloud.faults.clear()
    assert member.beat()
    assert (member.alive(), member.failing, len(member.shards["item"])) == (True, False, 8)


@pytest.mark.parametrize("kinds", [1, 3])
def test_polling_costs_one_read_per_poll_and_kind(oncetask_cloud, kinds):
    """
    1000 seconds without a listener, and nothing to do: a query per kind each 10 seconds, and the heartbeats: a commit and a query
    each 20 seconds.
    """
    manager = TaskManager(Locker(config=Config()))
    oncetask_cloud.use(manager.locker)
    for model in (Item, Other, Third)[:kinds]:
        manager.register_task_handler(model, lambda task, attempt: None)
    worker = Worker(manager, listen=False, poll_interval=timedelta(seconds=10))
    firestore, clock = oncetask_cloud.local.firestore, manager.locker._runtime.clock
    wait, end = clock.wait, oncetask_cloud.clock.micros() + 1_000_000_000
    manager.locker._runtime.store.estimate()
    firestore.reset_counts()

    def waiting(event, timeout):
        if oncetask_cloud.clock.micros() >= end:
            worker._stopping.set()
            return True
        return wait(event, timeout)

    clock.wait = waiting
    worker.run()
    polls, beats = 101, 51
    assert dict(firestore.counts) == {"RunQuery": polls * kinds + beats, "Commit": beats + 1}
    assert firestore.reads == polls * kinds + beats


# --- on the real one --------------------------------------------------------------------------------------------------


def test_idling_with_a_listener_reads_nothing(loopback, worker_of):
    """
    Not a call between two heartbeats (which are a commit, and one read for each worker); then it is woken.
    """
    ledger = Ledger()
    worker = worker_of(ledger, session_ttl=600)
    with at_work(worker):
        worker.manager.create_task(Item(number=1))
        ledger.wait(1)
        ledger.until(lambda: worker.manager.count(Item)[TaskStatus.COMPLETED] == 1 and worker._listening.healthy)

        def quiet() -> bool:
            loopback.firestore.reset_counts()
            threading.Event().wait(1.0)
            return (dict(loopback.firestore.counts), loopback.firestore.reads) == ({}, 0)

        # What its start brings with it ends when it ends.
        ledger.until(quiet)
        worker.manager.create_task(Item(number=2))
        ledger.wait(2)


def test_a_task_costs_one_write_to_claim_and_one_to_settle(loopback, worker_of):
    """
    40 tasks, one shared query: 80 writes, and those of the session; a read for each task, by the query. 40 threads share
    the calls that write.
    """
    ledger = Ledger()
    worker = worker_of(ledger, concurrency=40, max_tasks=40, listen=False)
    worker.manager.create_tasks([Item(number=number) for number in range(40)])
    loopback.firestore.reset_counts()
    worker.run()
    assert len(ledger.runs) == 40
    heartbeat, leaving = 1, 1
    assert loopback.firestore.writes == 2 * 40 + heartbeat + leaving
    assert loopback.firestore.reads == 40 + 1
    counts = dict(loopback.firestore.counts)
    assert counts.pop("RunQuery") == 1 + heartbeat
    assert counts.keys() <= {"Commit", "BatchWrite"}
    assert sum(counts.values()) <= 2 * 40 + heartbeat + leaving


def test_a_broken_listener_is_opened_anew_and_polling_goes_on_meanwhile(loopback, worker_of, monkeypatch, caplog):
    """
    Refused twice when it is opened, and cut off later on: what is created meanwhile is found by polling.
    """
    monkeypatch.setattr(listening, "FIRST_PAUSE", 0.4)
    ledger = Ledger()
    worker = worker_of(ledger, session_ttl=600, poll_interval=0.05)
    loopback.faults.fail("Listen", times=2)
    opened = time.monotonic()
    with at_work(worker):
        worker.manager.create_task(Item(number=1))
        ledger.wait(1)
        ledger.until(lambda: worker._listening.healthy)
        # Two pauses: at least half of 0.4 and of 0.8 seconds.
        assert time.monotonic() - opened > 0.6
        assert caplog.text.count("listening for tasks ended") == 2
        worker._poll = 3600
        cut = worker._listening.listener
        loopback.faults.fail("Listen", times=None)
        cut._close()
        ledger.until(lambda: caplog.text.count("listening for tasks ended") >= 4)
        worker._poll = 0.05
        worker._wake.set()
        worker.manager.create_task(Item(number=2))
        ledger.wait(2)
        loopback.faults.clear()
        ledger.until(lambda: worker._listening.healthy)
        worker._poll = 3600
        worker.manager.create_task(Item(number=3))
        ledger.wait(3)
    assert set(ledger.runs.values()) == {1}


def test_a_question_that_failed_is_asked_again(loopback, worker_of, monkeypatch):
    """
    The listener has shown the task, and the query fails: nobody shows it again, so the worker comes back to it by itself.
    """
    monkeypatch.setattr("gcp_oncetask.worker.fetcher.LEFT_ALONE", 0.2)
    ledger = Ledger()
    worker = worker_of(ledger, session_ttl=600, poll_interval=3600)
    with at_work(worker):
        ledger.until(lambda: worker._listening is not None and worker._listening.healthy)
        loopback.faults.fail("RunQuery", times=1, code=grpc.StatusCode.PERMISSION_DENIED)
        worker.manager.create_task(Item(number=1))
        ledger.wait(1)
    assert loopback.faults.injected["RunQuery before"] == 1


@pytest.mark.parametrize("listen", [True, False])
def test_a_worker_that_is_not_told_the_time_goes_on(loopback, worker_of, monkeypatch, caplog, listen):
    """
    It has to ask for the time, and Firestore refuses for a while, since a role is missing.
    """
    monkeypatch.setattr("gcp_oncetask.worker.fetcher.LEFT_ALONE", 0.2)
    ledger = Ledger()
    worker = worker_of(ledger, session_ttl=600, poll_interval=0.2, listen=listen)
    with at_work(worker):
        worker.manager.create_task(Item(number=1))
        ledger.wait(1)
        with monkeypatch.context() as unknown:
            unknown.setattr(worker._runtime.store.wire, "estimate", lambda: None)
            loopback.faults.fail("Commit", times=None, code=grpc.StatusCode.PERMISSION_DENIED)

            def asked_in_vain() -> bool:
                # A round of queries that was under way counts as done when it ends, so one request may be lost.
                worker._polled = None
                worker._wake.set()
                return "looking for due tasks failed" in caplog.text

            ledger.until(asked_in_vain)
        loopback.faults.clear()
        worker.manager.create_task(Item(number=2))
        ledger.wait(2)
    assert set(ledger.runs.values()) == {1}


def test_what_comes_due_while_the_worker_asks_is_not_forgotten(loopback, worker_of):
    """
    The answer to a question is slow, and while it is under way another task comes due, which the answer can't hold.
    """
    ledger = Ledger()
    worker = worker_of(ledger, session_ttl=600, poll_interval=3600)
    with at_work(worker):
        ledger.until(lambda: worker._listening is not None and worker._listening.healthy)
        now = worker._runtime.store.estimate()
        first, other = in_two_shards(worker.manager)
        worker.manager.create_task(Item.due(other, now + timedelta(seconds=1.5)))
        loopback.faults.fail("RunQuery", code=None, delay=1.5, times=1)
        worker.manager.create_task(Item.due(first, now + timedelta(seconds=1)))
        ledger.wait(2, 20)


def in_two_shards(manager):
    """
    Two numbers whose shards differ, so that what becomes of the one does not make the worker look for the other.
    """
    shards = {}
    for number in range(20):
        path = manager._name_of(Item, str(number)).path
        shards.setdefault(zlib.crc32(path.encode()) % manager.locker.config.pull_shards, number)
    return list(shards.values())[:2]


@pytest.mark.parametrize("listen", [True, False])
def test_firestore_away_for_longer_than_the_ttl(loopback, worker_of, caplog, listen):
    """
    The session dies, nothing is taken, and nobody spins; when Firestore is back another one begins, and runs what was created.
    """
    ledger = Ledger()
    worker = worker_of(ledger, session_ttl=1.5, poll_interval=0.2, listen=listen)
    manager, wait = worker.manager, worker._runtime.clock.wait
    waits = []

    def waiting(event, timeout):
        if threading.current_thread().name == "the worker":
            waits.append(timeout)
        return wait(event, timeout)

    manager.locker._runtime.clock.wait = waiting
    thread = threading.Thread(target=worker.run, name="the worker", daemon=True)
    thread.start()
    ledger.until(lambda: bool(worker.shards) and (not listen or worker._listening.healthy))
    before = worker._membership.id
    manager.create_task(Item.due(0, worker._runtime.store.estimate() + timedelta(seconds=1.6)))
    loopback.faults.fail("*", times=None)
    if listen:
        worker._listening.listener._close()
    ledger.until(lambda: "has died of missing heartbeats" in caplog.text)
    assert worker.shards == {}
    waits.clear()
    begun = time.monotonic()
    threading.Event().wait(1.0)
    assert len(waits) < 20 * (time.monotonic() - begun)
    assert not ledger.runs
    loopback.faults.clear()
    manager.create_task(Item(number=1))
    ledger.wait(2)
    ledger.until(lambda: not listen or worker._listening.healthy)
    assert worker._membership.id != before
    assert worker.stop()
    thread.join(patient(30))


def test_stopped_worker_is_followed_at_once_and_a_new_one_shares(worker_of):
    """
    Sessions of ten minutes: two workers share; one is stopped, and the other has all of it before any heartbeat is due.
    """
    ledger = Ledger()
    stopped, left = (worker_of(ledger, session_ttl=600) for _ in range(2))
    with at_work(stopped):
        ledger.until(lambda: sizes(stopped) == [8])
        thread = threading.Thread(target=left.run, daemon=True)
        thread.start()
        ledger.until(lambda: sizes(left) == [4] and left._listening.healthy)
    ledger.until(lambda: sizes(left) == [8])
    assert left.stop()
    thread.join(patient(30))
    with pytest.raises(UsageError, match="more than 0"):
        worker_of(ledger, session_ttl=0)


def test_32_claimers_drain_the_queue_and_run_each_task_once(loopback, make_manager):
    """
    Eight workers of four places each: 800 tasks, each once, nobody idle, 2 commits and at most 1 query a task.
    """
    ledger, count = Ledger(), 800
    managers = [make_manager() for _ in range(8)]
    for manager in managers:
        manager.register_task_handler(Item, lambda task, attempt: ledger.note(task.id))
    workers = [Worker(manager, concurrency=4, session_ttl=60) for manager in managers]
    with at_work(*workers):
        # While shards move, two workers look at one, and each lost claim is a commit.
        ledger.until(lambda: sizes(*workers) == [1] * 8)
        loopback.firestore.reset_counts()
        managers[0].create_tasks([Item(number=number) for number in range(count)])
        ledger.wait(count)
    counts = loopback.firestore.counts
    assert set(ledger.runs.values()) == {1}
    assert sum(worker.done for worker in workers) == count
    assert all(worker.done for worker in workers)
    print(dict(counts), [worker.done for worker in workers])
    # A claim that came too late is a commit and a read more; how many there are is the machine's business.
    assert counts["Commit"] - counts["GetDocument"] < 2.1 * count
    assert counts["RunQuery"] < 1.1 * count
