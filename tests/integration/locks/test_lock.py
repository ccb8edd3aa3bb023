"""
Named locks, end to end: who holds, what it costs, what becomes of lost answers and late holders.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.cloud.firestore import Client

from gcp_oncetask import Config, LeaseLostError, LockBusyError, Locker, NamedLock, Status, StoreError, UsageError, sweep
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.patience import patient

DAY = timedelta(days=1).total_seconds()


@pytest.fixture
def locker(oncetask_cloud: OncetaskCloud) -> Locker:
    """
    A locker on the test's cloud.
    """
    return opened(oncetask_cloud)


def opened(cloud: OncetaskCloud, **config: Any) -> Locker:
    """
    A locker as another process would have it.
    """
    locker = Locker(config=Config(**config))
    cloud.use(locker)
    return locker


def stored(locker: Locker, lock: NamedLock) -> Lock:
    """
    The record as it is in Firestore.
    """
    return locker.show(lock.document)


def document(locker: Locker, lock: NamedLock) -> dict[str, Any] | None:
    """
    The whole document, by the ordinary client.
    """
    found: dict[str, Any] | None = locker.client.document(lock.document).get().to_dict()
    return found


def until(true: Callable[[], Any], what: str) -> None:
    """
    Let other threads go on until *true*, in real time.
    """
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.01)


# --- who holds --------------------------------------------------------------------------------------------------------


def test_one_holder_at_a_time_and_tokens_go_up(locker: Locker) -> None:
    """
    Held, refused to others, free after the block; each holding has a greater token.
    """
    tokens = []
    for _ in range(3):
        with locker.lock("graph", ttl=10) as lock:
            tokens.append(lock.token)
            assert (lock.held, lock.locked()) == (True, True)
            assert 8 < lock.remaining() <= 9
            assert not locker.lock("graph", ttl=10).acquire(blocking=False)
            assert locker.lock("other", ttl=10).acquire(blocking=False)
        assert (lock.held, lock.remaining(), lock.locked()) == (False, 0, False)
        locker.client.document(locker.lock("other").document).delete()

    assert tokens[0] < tokens[1] < tokens[2]


def test_costs_on_the_wire(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    The first acquire reads and commits; each later one of a free lock, each refresh and each release is one commit.
    """
    firestore = oncetask_cloud.local.firestore
    lock = locker.lock("graph", ttl=10)
    for expected in ({"BatchGetDocuments": 1, "Commit": 1}, {"Commit": 1}, {"Commit": 1}):
        for call, counts in ((lock.acquire, expected), (lock.refresh, {"Commit": 1}), (lock.release, {"Commit": 1})):
            firestore.reset_counts()
            call()
            assert dict(firestore.counts) == counts, call
    firestore.reset_counts()
    locker.lock("graph", ttl=10).acquire()
    assert (firestore.reads, firestore.writes) == (1, 1)

    firestore.reset_counts()
    assert not locker.lock("graph", ttl=10).acquire(blocking=False)
    assert dict(firestore.counts) == {"BatchGetDocuments": 1}

    oncetask_cloud.advance(hours=1.1)
    firestore.reset_counts()
    assert lock.acquire(blocking=False)
    # What was known an hour ago is not trusted, in case this machine slept and its idea of the server's time is old.
    assert dict(firestore.counts) == {"BatchGetDocuments": 1, "Commit": 1}


def test_busy_error_tells_who_and_until_when(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    ``with`` raises after its timeout, with facts; the holder's place is in the message.
    """
    held = locker.lock("graph", ttl=60)
    held.acquire()
    begun = oncetask_cloud.clock_now()
    with (
        pytest.raises(LockBusyError, match=f"{os.getpid()} holds it") as caught,
        locker.lock("graph", ttl=60, timeout=7),
    ):
        raise AssertionError("it was granted twice")

    assert 7 <= (oncetask_cloud.clock_now() - begun).total_seconds() < 7.5
    granted = stored(locker, held).granted_at
    assert granted is not None
    assert (caught.value.name, caught.value.document) == ("graph", held.document)
    assert caught.value.until == granted + timedelta(seconds=60)


def test_expired_lock_is_taken_over_and_its_old_holder_changes_nothing(
    oncetask_cloud: OncetaskCloud, locker: Locker, caplog: pytest.LogCaptureFixture
) -> None:
    """
    By the server's clock, at its end and not before; refresh and release of the old holder leave the record as it is.
    """
    old, new = locker.lock("graph", ttl=10), locker.lock("graph", ttl=10)
    old.acquire()
    oncetask_cloud.advance(seconds=9.9)
    assert (old.held, old.remaining()) == (False, 0)
    assert not new.acquire(blocking=False)
    oncetask_cloud.advance(seconds=0.2)
    with caplog.at_level(logging.WARNING, "gcp_oncetask"):
        assert new.acquire(blocking=False)
    assert "was not given back in time" in caplog.text
    assert new.token > old.token

    before = document(locker, new)
    with pytest.raises(LeaseLostError) as caught:
        old.refresh()
    assert (caught.value.token, caught.value.taken_over) == (old.token, True)
    with pytest.raises(LeaseLostError):
        old.release()
    assert before == document(locker, new)
    assert new.held
    with pytest.raises(UsageError, match="only while this object"):
        old.release()


def test_late_release_after_the_takeover_was_released_too(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    The old holder learns of it also when the lock is free again, and frees nothing.
    """
    old, new = locker.lock("graph", ttl=10), locker.lock("graph", ttl=10)
    old.acquire()
    oncetask_cloud.advance(seconds=11)
    new.acquire()
    new.release()
    before = document(locker, new)

    with pytest.raises(LeaseLostError):
        old.release()
    assert before == document(locker, new)
    assert old.acquire(blocking=False)
    assert old.token > before["lock"]["token"]  # type: ignore[index]  # it is there


def test_expired_but_untaken_lock_is_refreshed_or_freed(
    oncetask_cloud: OncetaskCloud, locker: Locker, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Nobody else had it: refresh makes it good again, release frees it and says that its ttl is too short.
    """
    lock = locker.lock("graph", ttl=10)
    lock.acquire()
    oncetask_cloud.advance(seconds=30)
    assert not lock.held
    lock.refresh()
    assert lock.held

    oncetask_cloud.advance(seconds=30)
    with caplog.at_level(logging.WARNING, "gcp_oncetask"):
        lock.release()
    assert "had run out before the lock 'graph' was released" in caplog.text
    assert stored(locker, lock).status is Status.SCHEDULED


def test_lock_without_ttl_is_held_until_released(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    A month later it is still held, by its holder alone; its release is no news.
    """
    lock = locker.lock("graph")
    lock.acquire()
    oncetask_cloud.advance(days=30)

    assert (lock.held, lock.remaining(), lock.locked()) == (True, math.inf, True)
    busy = locker.lock("graph").take(0)
    assert busy is not None
    assert busy.until is None
    lock.release()
    assert locker.lock("graph").acquire(blocking=False)


def test_holder_is_told_that_its_document_was_deleted(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    Also if it was made again, and others have held and released the lock since; a lease without an end does not hide it.
    """
    lost, other = locker.lock("graph"), opened(oncetask_cloud).lock("graph")
    assert lost.acquire()
    locker.client.document(lost.document).delete()
    oncetask_cloud.advance(seconds=1)
    for _ in range(2):
        assert other.acquire()
        other.release()

    with pytest.raises(LeaseLostError) as caught:
        lost.release()

    assert caught.value.facts["taken_over"]
    assert stored(locker, other).token > caught.value.facts["token"]


def test_keep_alive_outlasts_its_ttl_and_ends_with_its_process(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    Refreshed in the background while it is held; when that stops, the lock is free within the ttl.
    """
    lock = locker.lock("graph", keep_alive=9)
    lock.acquire()
    for _ in range(10):
        before = stored(locker, lock).leased_at
        oncetask_cloud.advance(seconds=4)
        until(lambda was=before: stored(locker, lock).leased_at != was, "it was not refreshed")
    assert lock.held
    assert not locker.lock("graph", ttl=9).acquire(blocking=False)

    locker._executor.renewals.remove(lock._mine(""))
    oncetask_cloud.advance(seconds=9)
    other = locker.lock("graph", ttl=9)
    assert other.acquire(blocking=False)
    with pytest.raises(LeaseLostError):
        lock.release()
    assert other.held


def test_lock_is_not_reentrant(locker: Locker) -> None:
    """
    A second acquire, a release too many, a refresh of nothing: each is a UsageError that touches nothing.
    """
    lock = locker.lock("graph", ttl=10)
    for call in (lock.release, lock.refresh, lambda: lock.token):
        with pytest.raises(UsageError, match="only while this object"):
            call()
    with lock:
        before = document(locker, lock)
        with pytest.raises(UsageError, match="not reentrant"):
            lock.acquire()
        assert before == document(locker, lock)
        lock.release()
    with lock, pytest.raises(UsageError, match="not reentrant"), lock:
        pass


def test_two_threads_do_not_share_a_lock_object(locker: Locker) -> None:
    """
    While one thread waits with it, another one is told to take its own.
    """
    locker.lock("graph").acquire()
    lock = locker.lock("graph", listen=False)
    waiting = threading.Thread(target=lock.acquire, kwargs={"timeout": 1000}, daemon=True)
    waiting.start()
    until(lock._guard.locked, "the thread did not begin")
    with pytest.raises(UsageError, match="Another thread is acquiring"):
        lock.acquire()
    locker._runtime.clock.virtual.advance(2000)  # type: ignore[attr-defined]  # the test's own clock
    waiting.join(patient(30))
    assert not waiting.is_alive()


def test_forked_child_does_not_hold(locker: Locker) -> None:
    """
    The child sees a lock that is not held, can't release it, and leaves its block quietly; the parent holds on.
    """

    def child() -> int:
        with locker.lock("second", ttl=60) as second:
            inner = os.fork()
            if inner:
                return os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
            ok = not second.held and not lock.held and lock.remaining() == 0
            try:
                lock.release()
                ok = False
            except UsageError:
                pass
            try:
                second.__exit__(None, None, None)
            except BaseException:
                ok = False
            os._exit(0 if ok else 1)

    lock = locker.lock("graph", ttl=60)
    lock.acquire()

    assert child() == 0
    assert (lock.held, stored(locker, lock).status) == (True, Status.LEASED)
    assert stored(locker, locker.lock("second")).status is Status.SCHEDULED
    lock.release()


def test_environments_do_not_meet(oncetask_cloud: OncetaskCloud) -> None:
    """
    The same name in two environments is two locks; one environment's name can't spell another's.
    """
    one, two = opened(oncetask_cloud, env="A"), opened(oncetask_cloud, env="B")

    assert one.lock("graph").acquire(blocking=False)
    assert two.lock("graph").acquire(blocking=False)
    assert two.lock("A:lock:graph").acquire(blocking=False)
    assert not one.lock("graph").acquire(blocking=False)


def test_collections_do_not_meet(locker: Locker) -> None:
    """
    A lock of another collection is another lock; what is no collection is refused.
    """
    assert locker.lock("graph").acquire(blocking=False)
    assert locker.lock("graph", collection="customers/7/locks").acquire(blocking=False)
    with pytest.raises(UsageError, match="not the path of a collection"):
        locker.lock("graph", collection="customers/7")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ttl": 2}, "ttl is 2 s; it must be more than twice the margin"),
        ({"ttl": -1}, "ttl is -1 s"),
        ({"keep_alive": timedelta(seconds=1)}, "keep_alive is 1 s"),
        ({"ttl": 10, "keep_alive": 10}, "not both"),
        ({"ttl": math.nan}, "ttl is nan s"),
        ({"timeout": -1}, "timeout is -1 s; it must not be negative"),
        ({"ttl": math.inf}, "ttl is inf s"),
    ],
)
def test_bad_options_are_refused_when_the_lock_is_made(locker: Locker, options: Any, message: str) -> None:
    """
    With a sentence that says what to do.
    """
    with pytest.raises(UsageError, match=message):
        locker.lock("graph", **options)


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_waiting_ends_at_the_end_of_the_lease(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    A waiter is granted an expired lock within a tenth of a second of its end, after a few looks.
    """
    locker.lock("graph", ttl=100).acquire()
    begun = oncetask_cloud.clock_now()
    firestore = oncetask_cloud.local.firestore
    firestore.reset_counts()
    assert locker.lock("graph", ttl=10, listen=False).acquire(timeout=timedelta(hours=1))

    assert 99.9 <= (oncetask_cloud.clock_now() - begun).total_seconds() < 100.1
    assert firestore.reads < 50


def test_waiting_does_not_hammer(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    Ninety minutes without a listener: a look every 2.5 to 5 s, at times that are jittered, one read each, no write.
    """
    locker.lock("graph").acquire()
    firestore = oncetask_cloud.local.firestore
    firestore.reset_counts()
    assert not locker.lock("graph", listen=False).acquire(timeout=5400)

    assert 5400 / 5 <= firestore.reads <= 5400 / 2.5 + 20
    assert (dict(firestore.counts), firestore.writes) == ({"BatchGetDocuments": firestore.reads}, 0)


def test_waiter_is_woken_by_a_listener(
    oncetask_cloud: OncetaskCloud, locker: Locker, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """
    Virtual time stands still, so no poll is due: the release alone lets the waiter in. Refreshes do not wake it.
    """
    firestore = oncetask_cloud.local.firestore
    # A listener needs a port.
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore.start())
    request.addfinalizer(firestore.stop)
    lock = locker.lock("graph", ttl=3600)
    lock.acquire()
    other = opened(oncetask_cloud)
    other._runtime.use_client(Client(project=oncetask_cloud.local.project))
    waiter = other.lock("graph", ttl=3600)
    thread = threading.Thread(target=waiter.acquire, daemon=True)
    thread.start()

    def listens() -> bool:
        oncetask_cloud.clock.advance(0.01)
        return firestore.counts["Listen"] > 0

    until(listens, "no listener was started")
    looks = firestore.counts["BatchGetDocuments"]
    lock.refresh()
    lock.refresh()
    threading.Event().wait(0.2)
    assert firestore.counts["BatchGetDocuments"] <= looks + 1
    lock.release()
    thread.join(patient(30))

    assert not thread.is_alive()
    assert (waiter.held, lock.held) == (True, False)
    until(lambda: not [t for t in threading.enumerate() if "BidirectionalStream" in t.name], "the listener stayed")


def test_waiting_goes_on_without_a_listener(
    oncetask_cloud: OncetaskCloud, locker: Locker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Where listening fails, polling is enough.
    """

    def refuse(*_: Any) -> None:
        raise NotImplementedError("no streams here")

    monkeypatch.setattr("google.cloud.firestore.DocumentReference.on_snapshot", refuse)
    locker.lock("graph", ttl=50).acquire()
    assert locker.lock("graph", ttl=50).acquire(timeout=60)


# --- TTL, deletion, strangers -----------------------------------------------------------------------------------------


def test_unused_lock_is_retired_and_its_tokens_go_on(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    A week after its release TTL may delete it; made anew its token is beyond the old ones. A held one stays.
    """
    firestore = oncetask_cloud.local.firestore
    firestore.set_ttl("onceLocks", "expireAt")
    used, crashed, held = locker.lock("used", ttl=10), locker.lock("crashed", ttl=10), locker.lock("held")
    for lock in (used, crashed, held):
        lock.acquire()
    tokens = [used.token]
    used.release()
    for _ in range(50):
        used.acquire()
        tokens.append(used.token)
        used.release()
    oncetask_cloud.advance(days=6)
    assert document(locker, used) is not None
    oncetask_cloud.advance(days=3)
    assert document(locker, used) is None
    assert document(locker, crashed) is None
    assert document(locker, held) is not None

    used.acquire()
    tokens.append(used.token)
    assert tokens == sorted(set(tokens))
    oncetask_cloud.advance(days=60)
    assert document(locker, held) is not None
    assert held.held


def test_locks_without_ttl_that_were_held_before_keep_no_expiry(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    The expiry that a release left is removed by the next acquire without end, and put back by its release.
    """
    with locker.lock("graph", ttl=10):
        pass
    lock = locker.lock("graph")
    with lock:
        assert "expireAt" not in (document(locker, lock) or {})
    found = document(locker, lock)
    assert found is not None
    assert abs((found["expireAt"] - oncetask_cloud.clock_now()).total_seconds() - 7 * DAY) < 5
    assert (found["name"], found["env"], found["schema"]) == ("graph", "DEFAULT", 1)


@pytest.mark.parametrize("strange", ["deleted", "overwritten"])
def test_person_who_removes_a_held_lock_frees_it(oncetask_cloud: OncetaskCloud, locker: Locker, strange: str) -> None:
    """
    The way out of a lock whose holder died without a ttl: delete its document. A holder that still lives is told.
    """
    lock = locker.lock("graph")
    lock.acquire()
    oncetask_cloud.advance(seconds=1)
    reference = locker.client.document(lock.document)
    reference.delete() if strange == "deleted" else reference.set({"note": "mine"})

    other = locker.lock("graph")
    assert other.acquire(blocking=False)
    assert other.token > lock.token
    with pytest.raises(LeaseLostError):
        lock.release()
    assert other.locked()


def test_person_can_not_cancel_or_reset_a_named_lock(locker: Locker) -> None:
    """
    It has no target: a clear error, and the lock is acquired as before; so is one that an earlier version, which
    did not refuse, has called cancelled.
    """
    with locker.lock("graph", ttl=60) as lock:
        pass
    for call in (locker.cancel_path, locker.reset_path):
        with pytest.raises(UsageError, match=r"named lock 'graph'.*It has no holder"):
            call(lock.document)
    locker.client.document(lock.document).update({"lock.status": "cancelled"})
    assert locker.lock("graph", ttl=60).acquire(blocking=False)


def test_sweeper_has_nothing_to_do_for_named_locks(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    Held, expired or free, a named lock has no due time.
    """
    locker.lock("held", ttl=10).acquire()
    with locker.lock("free", ttl=10):
        pass
    oncetask_cloud.advance(days=1)

    assert sweep(locker, collections=("onceLocks",)).looked == 0


# --- answers that are lost --------------------------------------------------------------------------------------------

LOST = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL]


@pytest.mark.parametrize("code", LOST)
@pytest.mark.parametrize("when", ["before", "after"])
def test_lost_answers_change_nothing(oncetask_cloud: OncetaskCloud, locker: Locker, code: Any, when: Any) -> None:
    """
    Acquire, refresh and release whose commit fails before or after its effect do what they say, once.
    """
    lock = locker.lock("graph", ttl=60)
    for number in range(2):
        for call in (lock.acquire, lock.refresh, lock.release):
            oncetask_cloud.faults.fail("Commit", when=when, code=code)
            call()
            assert sum(oncetask_cloud.faults.injected.values()) == 1
            oncetask_cloud.faults.injected.clear()
        record = stored(locker, lock)
        assert (record.status, record.sequence) == (Status.SCHEDULED, number + 2)
        assert record.attempts == 0
    assert record.token - record.scheduled_token == 0


def unknown(cloud: OncetaskCloud, when: Any) -> None:
    """
    The next commit's answer is lost, and nothing can be written or read afterwards.
    """
    cloud.faults.fail("Commit", when=when, delay=60 if when == "late" else 0)
    cloud.faults.fail("Commit", times=None)
    cloud.faults.fail("GetDocument", times=None)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("then", ["acquire", "release"])
def test_acquire_of_unknown_fate_is_recognised_or_given_back(
    oncetask_cloud: OncetaskCloud, locker: Locker, when: Any, then: str
) -> None:
    """
    StoreError(unknown): the same object's next acquire finds its own grant, its release gives it back.
    """
    lock = locker.lock("graph")
    unknown(oncetask_cloud, when)
    with pytest.raises(StoreError) as caught:
        lock.acquire()
    assert caught.value.unknown
    assert not lock.held
    oncetask_cloud.faults.clear()

    if then == "acquire":
        assert lock.acquire(blocking=False)
        record = stored(locker, lock)
        assert (record.token, record.attempts, record.status) == (lock.token, 1, Status.LEASED)
        lock.release()
    else:
        lock.release()
    assert locker.lock("graph").acquire(blocking=False)


def test_release_after_a_refresh_of_unknown_fate_knows_when_the_lease_ended(
    oncetask_cloud: OncetaskCloud, locker: Locker, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The refresh had landed: a release after the end of the old lease is in time, and is no news.
    """
    lock = locker.lock("graph", ttl=60)
    lock.acquire()
    oncetask_cloud.advance(seconds=20)
    unknown(oncetask_cloud, "after")
    with pytest.raises(StoreError):
        lock.refresh()
    oncetask_cloud.faults.clear()
    oncetask_cloud.advance(seconds=15)
    with caplog.at_level(logging.WARNING, "gcp_oncetask"):
        lock.release()

    assert caplog.text == ""
    assert stored(locker, lock).status is Status.SCHEDULED


def test_acquire_that_is_interrupted_can_be_given_back(locker: Locker, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Control-C after the commit was applied: the lock is not held, and its release frees what was granted.
    """
    real = locker._runtime.wire.commit

    def commit(*args: Any, **kwargs: Any) -> Any:
        real(*args, **kwargs)
        raise KeyboardInterrupt

    lock = locker.lock("graph")
    with monkeypatch.context() as patch:
        patch.setattr(locker._runtime.wire, "commit", commit)
        with pytest.raises(KeyboardInterrupt):
            lock.acquire()
    assert (lock.held, lock.locked()) == (False, True)
    lock.release()
    assert not lock.locked()
    with pytest.raises(UsageError, match="only while this object"):
        lock.release()


@pytest.mark.parametrize("when", ["before", "after"])
def test_release_of_unknown_fate_is_repeated(oncetask_cloud: OncetaskCloud, locker: Locker, when: Any) -> None:
    """
    StoreError(unknown): from then on it is not believed to be held; releasing again is safe, also when others followed.
    """
    lock = locker.lock("graph")
    lock.acquire()
    unknown(oncetask_cloud, when)
    with pytest.raises(StoreError):
        lock.release()
    oncetask_cloud.faults.clear()
    assert not lock.held
    other = locker.lock("graph")
    assert other.acquire(blocking=False) == (when == "after")

    lock.release()
    assert other.held == (when == "after")
    assert other.acquire(blocking=False) if when == "before" else other.locked()


def test_release_that_can_not_ask_for_the_time_ends_the_renewals(
    oncetask_cloud: OncetaskCloud, locker: Locker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The latest answer is so old that the time must be asked for, and Firestore refuses: the release fails, and from then on
    nothing renews the lease, so it runs out.
    """
    lock = locker.lock("graph", keep_alive=60)
    lock.acquire()
    unknown(oncetask_cloud, "before")
    with monkeypatch.context() as patch:
        patch.setattr("gcp_oncetask.store.wire._MOST_BEHIND", -1.0)
        with pytest.raises(StoreError, match="asking for the time"):
            lock.release()
    oncetask_cloud.faults.clear()
    assert not lock.held
    before = document(locker, lock)
    assert lock._mine("").renew_if_idle()
    assert before == document(locker, lock)

    lock.release()
    assert not lock.locked()


def test_lock_whose_renewal_came_late_is_kept(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    Its process stood still beyond the end of the lease, and nobody has taken it meanwhile: the next renewal keeps it.
    """
    lock = locker.lock("graph", keep_alive=60)
    lock.acquire()
    locker._executor.renewals.remove(lock._mine(""))
    oncetask_cloud.clock.advance(70)
    assert not lock.held
    assert lock._mine("").renew_if_idle()
    assert lock.held
    lock.release()


def test_lock_that_is_known_to_be_lost_is_not_believed(locker: Locker) -> None:
    """
    Its lease would go on by the holder's clock, but its document is gone: not held from then on, and free to be acquired.
    """
    lock = locker.lock("graph", ttl=1000)
    lock.acquire()
    locker.client.document(lock.document).delete()
    assert lock.held
    with pytest.raises(LeaseLostError):
        lock.refresh()
    assert (lock.held, lock.remaining()) == (False, 0)
    assert lock.acquire(blocking=False)
    lock.release()


def test_renewal_that_comes_during_the_release_writes_nothing(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    A background refresh that was under way when the release began does not revive the lease.
    """
    lock = locker.lock("graph", keep_alive=60)
    lock.acquire()
    unknown(oncetask_cloud, "before")
    with pytest.raises(StoreError):
        lock.release()
    oncetask_cloud.faults.clear()
    before = document(locker, lock)
    assert lock._mine("").renew_if_idle()
    assert before == document(locker, lock)


@pytest.mark.parametrize("call", ["refresh", "release"])
def test_late_commit_of_an_old_holder_does_not_land(oncetask_cloud: OncetaskCloud, locker: Locker, call: str) -> None:
    """
    A refresh or release that takes effect long after it was given up finds that the document has moved.
    """
    old, new = locker.lock("graph", ttl=10), locker.lock("graph", ttl=100)
    old.acquire()
    unknown(oncetask_cloud, "late")
    with pytest.raises(StoreError):
        getattr(old, call)()
    oncetask_cloud.faults.clear()
    assert new.acquire(blocking=False)
    before = document(locker, new)
    oncetask_cloud.advance(seconds=90)

    assert before == document(locker, new)
    assert not locker.lock("graph").acquire(blocking=False)


def made_late(cloud: OncetaskCloud, locker: Locker) -> tuple[NamedLock, NamedLock, int]:
    """
    A lock whose document an acquire makes long after it was given up: the holder of that acquire, another one, and the token
    that the other one had had before a person deleted the document. The record's token is behind it.
    """
    old, new = locker.lock("graph", ttl=10), locker.lock("graph", ttl=10)
    unknown(cloud, "late")
    with pytest.raises(StoreError):
        old.acquire()
    cloud.faults.clear()
    cloud.advance(seconds=10)
    with new:
        granted = new.token
    locker.client.document(new.document).delete()
    cloud.advance(seconds=50)
    assert document(locker, new)["lock"]["token"] < granted
    return old, new, granted


def test_late_create_does_not_take_the_tokens_back(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    An acquire is given up, others have the lock, a person deletes its document, and the create of the acquire is applied:
    the next token is beyond all that were granted. So is the token of its own object, which finds its grant then.
    """
    old, new, granted = made_late(oncetask_cloud, locker)

    assert old.acquire(blocking=False)
    assert old.token > granted
    oncetask_cloud.advance(seconds=11)
    assert new.acquire(blocking=False)
    assert new.token > old.token


def test_late_create_does_not_take_the_tokens_of_later_holders_back(
    oncetask_cloud: OncetaskCloud, locker: Locker
) -> None:
    """
    The same if the process that sent the create is gone: whoever takes the lock over has a greater token.
    """
    _, new, granted = made_late(oncetask_cloud, locker)
    oncetask_cloud.advance(seconds=11)

    assert new.acquire(blocking=False)
    assert new.token > granted


@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_create_whose_answer_is_slow_is_granted_the_next_token_first(
    oncetask_cloud: OncetaskCloud, locker: Locker, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """
    It was applied more than a second after its token was made. A create that was faster costs no more than before.
    """
    real, sent = locker._runtime.wire.commit, list[Any]()

    def commit(request: Any, *args: Any, **kwargs: Any) -> Any:
        if not sent:
            oncetask_cloud.clock.advance(seconds)
        sent.append(request)
        return real(request, *args, **kwargs)

    monkeypatch.setattr(locker._runtime.wire, "commit", commit)
    lock = locker.lock("graph", ttl=60)
    before = oncetask_cloud.clock.micros() // 1000
    assert lock.acquire(blocking=False)
    assert len(sent) == (2 if seconds > 1 else 1)
    assert (lock.token - before >= 2000) is (seconds > 1)
    assert lock.held
    lock.release()


def test_grant_whose_answer_took_half_the_lease_is_refreshed_first(
    oncetask_cloud: OncetaskCloud, locker: Locker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Nobody begins with what little a slow answer has left.
    """
    real, slow = locker._runtime.wire.commit, [6.0]

    def commit(*args: Any, **kwargs: Any) -> Any:
        answer = real(*args, **kwargs)
        oncetask_cloud.clock.advance(slow.pop() if slow else 0)
        return answer

    monkeypatch.setattr(locker._runtime.wire, "commit", commit)
    lock = locker.lock("graph", ttl=10)
    assert lock.acquire(blocking=False)
    assert lock.remaining() > 8.5

    slow.append(11.0)
    lock.release()
    other = locker.lock("graph", ttl=10)
    slow.append(11.0)
    taken = iter([lambda: None, lambda: lock.acquire(blocking=False)])
    monkeypatch.setattr(oncetask_cloud.clock, "advance", _then(oncetask_cloud.clock.advance, taken))
    assert not other.acquire(blocking=False)
    assert lock.held


def _then(advance: Callable[[float], Any], calls: Any) -> Callable[[float], Any]:
    def both(seconds: float) -> Any:
        answer = advance(seconds)
        if seconds > 10:
            next(calls, lambda: None)()
            next(calls, lambda: None)()
        return answer

    return both


def test_error_of_the_block_is_never_replaced(
    oncetask_cloud: OncetaskCloud, locker: Locker, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A lost lease is raised where the block was well, and logged where it raised something of its own.
    """

    def late(error: Exception | None) -> None:
        with locker.lock("graph", ttl=10):
            oncetask_cloud.advance(seconds=11)
            locker.lock("graph", ttl=10).acquire()
            if error is not None:
                raise error

    with pytest.raises(LeaseLostError):
        late(None)
    oncetask_cloud.advance(seconds=11)
    with pytest.raises(KeyError, match="mine"):
        late(KeyError("mine"))

    assert "the block had raised KeyError, which goes on" in caplog.text
