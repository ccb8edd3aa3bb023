"""
Named locks and ``@once`` keys by name, in Firestore: what is found, and what becomes of late holders and of those who wait.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest
from google.cloud.firestore import DELETE_FIELD, Client

from gcp_oncetask import LeaseLostError, Locker, TaskConflictError, once
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.locks import by_name
from gcp_oncetask.rules.record import Person
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.verbs import Sort
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.integration.locks.test_lock import opened, until
from tests.support.patience import patient

ANN = Person("ann", proven=False)


@pytest.fixture
def locker(oncetask_cloud: OncetaskCloud) -> Locker:
    return opened(oncetask_cloud)


def found(locker: Locker, sort: Sort = Sort.NAMED_LOCK, prefix: str = "", **more: Any) -> list[str]:
    return [f"{each.record.name}" for each in by_name.find(runtime_of(locker), sort, prefix, **more)]


def test_names_are_found_by_their_beginning_in_order_page_by_page(
    oncetask_cloud: OncetaskCloud, locker: Locker
) -> None:
    """
    Of this environment alone, whatever characters they have; locks are no keys, and keys are no locks.
    """
    names = ["", *"0/a:%é漢\U0001f600"]
    other = opened(oncetask_cloud, env="OTHER")
    for name in names:
        assert locker.lock(f"graph{name}").acquire()
        assert other.lock(f"graph{name}").acquire()
        assert once(locker, key="k", name=f"graph{name}")(lambda: 1)() == 1
    assert locker.lock("grap").acquire()
    ordered = sorted((f"graph{name}" for name in names), key=lambda text: text.encode())

    for page in (1, 2, 3, 100):
        assert found(locker, prefix="graph", page=page) == ordered
    assert found(locker) == ["grap", *ordered]
    assert found(locker, Sort.ONCE_KEY, "graph") == ordered
    assert found(locker, prefix="graph", exact=True) == ["graph"]
    assert found(locker, prefix="graph\U0001f601") == []


@pytest.mark.parametrize("page", [1, 3, 7, 300])
def test_keys_of_one_function_are_each_found_once(locker: Locker, page: int) -> None:
    """
    They have the same name, so pages go on by id.
    """

    @once(locker, key=str, name="book")
    def book(n: int) -> int:
        return n

    for n in range(8):
        book(n)
    keys = by_name.find(runtime_of(locker), Sort.ONCE_KEY, "book", exact=True, page=page)

    assert sorted(str(each.record.key) for each in keys) == list("01234567")


def test_a_list_reads_no_more_than_its_bound_and_no_contents(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    Ten rows of thirty cost ten reads, and results stay in Firestore.
    """

    @once(locker, key=str, name="book")
    def book(n: int) -> str:
        return "x" * 1000

    for n in range(30):
        book(n)
    firestore = oncetask_cloud.local.firestore
    firestore.reset_counts()
    rows = by_name.find(runtime_of(locker), Sort.ONCE_KEY, "book", exact=True, page=10)
    first = [next(rows) for _ in range(10)]

    assert firestore.reads == 10
    assert all(each.lock is not None and each.lock.result is None for each in first)
    assert {each.state for each in first} == {"completed"}


def test_locks_of_another_collection_are_found_there(locker: Locker) -> None:
    assert locker.lock("x", collection="customers/7/locks").acquire()

    assert found(locker) == []
    assert found(locker, collection="customers/7/locks") == ["x"]


def test_damaged_one_is_listed_as_damaged(locker: Locker) -> None:
    lock = locker.lock("graph")
    assert lock.acquire()
    locker.client.document(lock.document).update({"lock.leasedAt": "noon"})
    [one] = by_name.find(runtime_of(locker), Sort.NAMED_LOCK)

    assert (one.state, one.lock, one.record.name) == ("damaged", None, "graph")


def looked(locker: Locker, path: str) -> by_name.NamedRecord:
    seen = by_name.look(runtime_of(locker), path)
    assert seen is not None
    return seen


@pytest.mark.parametrize("ttl", [None, 3600.0])
def test_freed_lock_wakes_a_waiter_and_the_late_holder_is_refused(
    oncetask_cloud: OncetaskCloud,
    locker: Locker,
    ttl: float | None,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """
    Virtual time stands still, so no poll is due: the person's act alone lets the waiter in, with a greater token. Refresh and
    release of the late holder raise.
    """
    firestore = oncetask_cloud.local.firestore
    # A listener needs a port.
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore.start())
    request.addfinalizer(firestore.stop)
    late = locker.lock("graph", ttl=ttl)
    assert late.acquire()
    other = opened(oncetask_cloud)
    other._runtime.use_client(Client(project=oncetask_cloud.local.project))
    waiter = other.lock("graph", ttl=ttl)
    thread = threading.Thread(target=waiter.acquire, daemon=True)
    thread.start()

    def listens() -> bool:
        oncetask_cloud.clock.advance(0.01)
        return firestore.counts["Listen"] > 0

    until(listens, "no listener was started")
    assert by_name.free(runtime_of(locker), looked(locker, late.document), by=ANN) is None
    thread.join(patient(30))

    assert not thread.is_alive()
    assert waiter.token > late.token
    for call in (late.refresh, late.release):
        with pytest.raises(LeaseLostError):
            call()
        assert late.locked()
    waiter.refresh()
    waiter.release()
    until(lambda: not [t for t in threading.enumerate() if "BidirectionalStream" in t.name], "the listener stayed")


def test_release_of_the_late_holder_is_refused_also_before_the_next_acquire(locker: Locker) -> None:
    late = locker.lock("graph")
    assert late.acquire()
    assert by_name.free(runtime_of(locker), looked(locker, late.document), by=ANN) is None
    with pytest.raises(LeaseLostError):
        late.release()
    again = locker.lock("graph")
    assert again.acquire(blocking=False)


def test_later_holder_keeps_the_lock(locker: Locker) -> None:
    """
    The person has seen the holder before it; so has the one who was slower than another person.
    """
    first = locker.lock("graph")
    assert first.acquire()
    seen = looked(locker, first.document)
    first.release()
    refused = by_name.free(runtime_of(locker), seen, by=ANN)
    assert refused is not None
    assert refused.refusal is Refusal.NOT_HELD
    second = locker.lock("graph")
    assert second.acquire()
    refused = by_name.free(runtime_of(locker), seen, by=ANN)
    assert refused is not None
    assert refused.refusal is Refusal.MOVED
    second.refresh()


def test_op_17_answer_that_was_lost_is_no_second_decision(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    The commit is applied, its answer is lost: the command ends as if the answer had come.
    """
    lock = locker.lock("graph")
    assert lock.acquire()
    seen = looked(locker, lock.document)
    before = locker.show(lock.document)
    oncetask_cloud.faults.fail("Commit", when="after")
    assert by_name.free(runtime_of(locker), seen, by=ANN) is None

    assert locker.show(lock.document).sequence == before.sequence + 1


def test_forgotten_key_runs_once_more_with_another_payload_and_key(locker: Locker) -> None:
    """
    Its document is as that of a first run: no TTL of the last result ends it.
    """
    keys: list[int] = []
    path = by_name.once_path("DEFAULT", "book", "k")

    @once(locker, key=lambda how: "k", name="book", retention=3600)
    def book(how: str) -> str:
        keys.append(locker.show(path).keyed)
        return how

    assert [book("a"), book("a")] == ["a", "a"]
    with pytest.raises(TaskConflictError):
        book("b")
    token = locker.show(path).token
    assert by_name.forget(runtime_of(locker), looked(locker, path), by=ANN) is None
    stored = locker.client.document(path).get().to_dict()
    assert stored is not None
    assert stored.keys() == {"env", "key", "lock", "name", "schema"}
    assert [book("b"), book("b")] == ["b", "b"]
    with pytest.raises(TaskConflictError):
        book("a")

    assert len(set(keys)) == 2
    assert locker.show(path).token > token
    stored = locker.client.document(path).get().to_dict()
    assert stored is not None
    assert {"dataHash", "expireAt"} <= stored.keys()


def test_key_without_its_payload_is_no_forgotten_one(locker: Locker) -> None:
    """
    If the hash was removed by hand, the stored result is not another payload's.
    """

    @once(locker, key="k", name="book")
    def book(how: str) -> str:
        return how

    book("a")
    path = by_name.once_path("DEFAULT", "book", "k")
    locker.client.document(path).update({"dataHash": DELETE_FIELD})
    with pytest.raises(TaskConflictError):
        book("a")


def test_acts_are_logged_with_the_person(locker: Locker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "gcp_oncetask")
    lock = locker.lock("graph")
    assert lock.acquire()
    assert by_name.free(runtime_of(locker), looked(locker, lock.document), by=ANN) is None
    [line] = [each for each in caplog.records if "freed by" in each.getMessage()]

    assert "freed by ann (unproven)" in line.getMessage()


def test_record_of_a_lock_or_key_keeps_the_acts_of_people(locker: Locker) -> None:
    """
    Also after the next holder, and the next run.
    """
    runtime = runtime_of(locker)
    lock = locker.lock("graph")
    assert lock.acquire()
    assert by_name.free(runtime, looked(locker, lock.document), by=ANN, note="its machine is gone") is None
    assert locker.lock("graph").acquire()

    @once(locker, key="k", name="book")
    def book() -> str:
        return "done"

    book()
    path = by_name.once_path("DEFAULT", "book", "k")
    assert by_name.forget(runtime, looked(locker, path), by=Person("ops", proven=True, claimed="ann")) is None
    book()
    kept = [
        [(act.verb, act.by, act.claimed, act.status, act.note) for act in locker.show(each).acts]
        for each in (lock.document, path)
    ]
    assert kept == [
        [("release", "ann", None, "leased", "its machine is gone")],
        [("forget", "ops", "ann", "completed", None)],
    ]
