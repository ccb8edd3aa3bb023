"""
resque-lock-timeout: named locks, and jobs that exclude each other. One test per row of its behaviour; the rows about jobs
that are unique while queued (loners) are in a module of their own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest

from gcp_oncetask import Config, LeaseLostError, LockBusyError, Locker, NamedLock, Status, UsageError, locked
from gcp_oncetask.rules import expires_at
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.scenarios import row
from tests.support.patience import patient

RAISES = "LockBusyError; the ancestor drops the job without a word, which on_busy='skip' does here"


class World:
    """
    A locker, and jobs that count.
    """

    def __init__(self, cloud: OncetaskCloud) -> None:
        self.cloud = cloud
        self.locker = Locker(config=Config())
        cloud.use(self.locker)
        self.successes = 0
        self.busy: list[LockBusyError] = []
        self.lost: list[bool] = []

    def job(self, during: Callable[[], Any] = lambda: None, **options: Any) -> Callable[..., Any]:
        """
        A locked job, all of whose runs share one lock; *during* is what it does.
        """
        options.setdefault("key", "job")
        options.setdefault("on_lost", lambda lost, *_: self.lost.append(lost.taken_over))

        def run(*_: Any) -> str:
            during()
            self.successes += 1
            return "ran"

        return locked(self.locker, **options)(run)

    def lock(self, name: str = "job", **options: Any) -> NamedLock:
        """
        A lock of another holder.
        """
        return self.locker.lock(name, **options)

    def expiry(self, lock: NamedLock) -> datetime:
        """
        Stored end of its lease.
        """
        return expires_at(self.locker.show(lock.document))

    def three_at_once(self, **options: Any) -> list[Any]:
        """
        Three workers run equal jobs at once; the one that runs is slow: it ends when the others have been refused.
        """
        answers: list[Any] = []
        refused = threading.Semaphore(0)
        slow = self.job(lambda: [refused.acquire(timeout=20) for _ in range(2)], on_busy="skip", **options)

        def work(_: int) -> None:
            answers.append(slow())
            if answers[-1] is None:
                refused.release()

        with ThreadPoolExecutor(3) as workers:
            list(workers.map(work, range(3)))
        return answers


@pytest.fixture
def world(oncetask_cloud: OncetaskCloud) -> World:
    """
    On the test's cloud.
    """
    return World(oncetask_cloud)


@row("RL-01", "held")
def test_rl_01_acquire_a_free_lock(world: World) -> None:
    """
    It is held afterwards, as everybody sees.
    """
    assert world.lock().acquire()
    assert world.lock().locked()


@row("RL-02", "free")
def test_rl_02_release_a_held_lock(world: World) -> None:
    """
    It is free afterwards.
    """
    lock = world.lock()
    lock.acquire()
    lock.release()
    assert not world.lock().locked()


@row("RL-03", "refused, busy hook called once", "waits unless told not to: acquire(blocking=False)")
def test_rl_03_acquire_a_held_lock(world: World) -> None:
    """
    Refused, and the busy callback is called once.
    """
    world.lock().acquire()
    assert not world.lock().acquire(blocking=False)
    world.job(on_busy=world.busy.append)()
    assert [error.name for error in world.busy] == ["job"]
    assert world.successes == 0


@row("RL-04", "exactly one success")
def test_rl_04_three_workers_without_expiry(world: World) -> None:
    """
    One runs, two are refused.
    """
    assert sorted(world.three_at_once(), key=str) == [None, None, "ran"]
    assert world.successes == 1


@row("RL-05", "lock free afterwards")
def test_rl_05_job_succeeds(world: World) -> None:
    """
    Held while it runs, free afterwards.
    """
    seen: list[bool] = []
    world.job(lambda: seen.append(world.lock().locked()))()
    assert (seen, world.lock().locked()) == ([True], False)


def fail() -> None:
    """
    A job's own error.
    """
    raise ValueError("mine")


@row("RL-06", "not a success, lock free afterwards")
def test_rl_06_job_raises(world: World) -> None:
    """
    Its exception reaches the caller, and the lock is free.
    """
    with pytest.raises(ValueError, match="mine"):
        world.job(fail)()
    assert (world.successes, world.lock().locked()) == (0, False)


CHILD = """
from gcp_oncetask import Config, Locker
lock = Locker(config=Config(project="demo-local")).lock("job", keep_alive=60)
lock.acquire()
print("held", flush=True)
input()
"""


@row("RL-07", "lock free", "free when its ttl has ended: no parent is needed that reports the death")
def test_rl_07_job_is_killed(world: World) -> None:
    """
    A process that holds a lock is killed with SIGKILL: busy until its ttl, then free.
    """
    # Another process can't come in by the channel of this one.
    address = world.cloud.local.firestore.start()
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        env={**os.environ, "FIRESTORE_EMULATOR_HOST": address},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        child.send_signal(signal.SIGKILL)
        child.wait(patient(30))
    world.cloud.local.firestore.stop()
    assert not world.lock(ttl=60).acquire(blocking=False)
    world.cloud.advance(seconds=60)
    assert world.lock(ttl=60).acquire(blocking=False)


@row("RL-08", "stored expiry between now + 58 s and now + 60 s", "exactly 60 s after the server's time of the commit")
def test_rl_08_acquire_with_a_timeout(world: World) -> None:
    """
    The stored lease ends a minute from now.
    """
    lock = world.lock(ttl=60)
    lock.acquire()
    assert abs((world.expiry(lock) - world.cloud.clock_now()).total_seconds() - 60) < 0.1


@row("RL-09", "refused")
def test_rl_09_acquire_a_lock_held_with_a_timeout(world: World) -> None:
    """
    Refused while it lasts.
    """
    world.lock(ttl=60).acquire()
    world.cloud.advance(seconds=59)
    assert not world.lock(ttl=60).acquire(blocking=False)


@row("RL-10", "granted, new expiry about now + 60 s")
def test_rl_10_acquire_a_lock_that_expired_40_seconds_ago(world: World) -> None:
    """
    Granted, by the server's clock.
    """
    world.lock(ttl=60).acquire()
    world.cloud.advance(seconds=100)
    lock = world.lock(ttl=60)
    assert lock.acquire(blocking=False)
    assert abs((world.expiry(lock) - world.cloud.clock_now()).total_seconds() - 60) < 0.1


@row("RL-11", "exactly one success")
def test_rl_11_three_workers_with_a_timeout(world: World) -> None:
    """
    One runs, two are refused.
    """
    assert sorted(world.three_at_once(ttl=60), key=str) == [None, None, "ran"]
    assert world.successes == 1


@row(
    "RL-12",
    "success counted, 'expired before release' hook called, lock not deleted by this job",
    "the same if somebody has taken it; if nobody has, the job frees it: its release is fenced",
)
@pytest.mark.parametrize("taken", [True, False])
def test_rl_12_job_outlasts_its_timeout(world: World, taken: bool) -> None:
    """
    The callback is called once, the result counts; another holder's lock is left alone.
    """

    def slow() -> None:
        world.cloud.advance(seconds=20)
        if taken:
            world.lock(ttl=60).acquire()

    assert world.job(slow, ttl=10)() == "ran"
    assert (world.successes, world.lost) == (1, [taken])
    assert world.lock().locked() is taken


@row(
    "RL-13",
    "key only in the separate store, gone afterwards",
    "free afterwards; TTL deletes it, so tokens never go back",
)
def test_rl_13_separate_store_and_fixed_key(world: World) -> None:
    """
    The lock is in the collection that was asked for, and in no other; another database is another locker's client.
    """
    client = world.locker.client

    def names() -> tuple[list[Any], list[Any]]:
        def held(collection: str) -> list[Any]:
            found = [each.to_dict() or {} for each in client.collection(collection).stream()]
            return [each["name"] for each in found if each["lock"]["status"] == Status.LEASED]

        return held("customers/7/locks"), held("onceLocks")

    seen: list[Any] = []
    world.job(lambda: seen.append(names()), collection="customers/7/locks", ttl=60)()
    assert [*seen, names()] == [(["job"], []), ([], [])]


@row("RL-14", "expiries >= now + 1 h, >= now + 12 h")
def test_rl_14_timeout_follows_from_the_arguments(world: World) -> None:
    """
    One hour for each that is asked for.
    """
    ends: list[float] = []

    @locked(world.locker, key=lambda hours: f"job-{hours}", ttl=lambda hours: timedelta(hours=hours))
    def job(hours: int) -> None:
        left = world.expiry(world.lock(f"job-{hours}")) - world.cloud.clock_now()
        ends.append(left.total_seconds())

    job(1)
    job(12)
    assert [round(end, 1) for end in ends] == [3600, 12 * 3600]


@row("RL-15", "expiry at least 1 s later than before")
def test_rl_15_refresh(world: World) -> None:
    """
    Two seconds later the expiry is two seconds later.
    """
    lock = world.lock(ttl=60)
    lock.acquire()
    before = world.expiry(lock)
    world.cloud.advance(seconds=2)
    lock.refresh()
    assert world.expiry(lock) >= before + timedelta(seconds=2)


@row("RL-24", "recorded as failure (error not swallowed)")
def test_rl_24_job_raises_after_its_lock_expired(world: World) -> None:
    """
    Its exception reaches the caller, and the callback is called.
    """

    def late() -> None:
        world.cloud.advance(seconds=20)
        fail()

    with pytest.raises(ValueError, match="mine"):
        world.job(late, ttl=10)()
    assert world.lost == [False]


@row("RL-25", "both run")
def test_rl_25_different_arguments(world: World) -> None:
    """
    Also where the ancestor's joined identifiers are the same: ("a-b", "c") and ("a", "b-c").
    """
    ran: list[tuple[str, str]] = []

    @locked(world.locker)
    def job(one: str, two: str) -> None:
        ran.append((one, two))
        if len(ran) == 1:
            job("a", "b-c")

    job("a-b", "c")
    assert ran == [("a-b", "c"), ("a", "b-c")]


@row("RL-26", "only one of the class at a time")
def test_rl_26_identifier_is_nothing(world: World) -> None:
    """
    A key function that returns None: one lock for the function, whatever the arguments.
    """

    @locked(world.locker, key=lambda n: None, on_busy="skip")
    def job(n: int) -> Any:
        return "ran", None if n == 2 else job(2)

    assert job(1) == ("ran", None)
    assert job(2) == ("ran", None)


@row("RL-27", "that key is the lock")
def test_rl_27_whole_key_is_overridden(world: World) -> None:
    """
    A text is the whole name of the lock: other functions and plain locks meet it.
    """
    with world.lock("everything"):
        for key in ("everything", lambda *_: "everything"):
            with pytest.raises(LockBusyError):
                world.job(key=key)(1)
    world.job(key="everything")(1)


@row("RL-28", "counts as failed job, so that a retry plugin can act")
def test_rl_28_busy_hook_raises(world: World) -> None:
    """
    What it raises reaches the caller.
    """

    def busy(error: LockBusyError, *_: Any) -> None:
        raise KeyError("again later") from error

    world.lock().acquire()
    with pytest.raises(KeyError, match="again later"):
        world.job(on_busy=busy)()


@row("RL-29", "silently consumed, never runs", RAISES)
def test_rl_29_default_busy_hook(world: World) -> None:
    """
    The default is an error; what the ancestor does is there by name.
    """
    world.lock().acquire()
    with pytest.raises(LockBusyError):
        world.job()()
    assert world.job(on_busy="skip")() is None
    assert world.successes == 0


@row("RL-30", "lock for ever", "the same without a ttl, until its document is deleted; keep_alive= is for this")
def test_rl_30_crash_without_expiry(world: World) -> None:
    """
    A year later still held; a person may delete the document.
    """
    lock = world.lock()
    lock.acquire()
    world.cloud.advance(days=365)
    assert not world.lock().acquire(blocking=False)
    world.locker.client.document(lock.document).delete()
    assert world.lock().acquire(blocking=False)
    with pytest.raises(LeaseLostError):
        lock.release()


@row("RL-31", "exactly one is granted")
def test_rl_31_waiters_see_the_same_expired_lock(world: World) -> None:
    """
    Eight at the same instant: one is granted, for its commit is conditional on the version that was seen.
    """
    world.lock(ttl=60).acquire()
    world.cloud.advance(seconds=61)
    locks = [world.lock(ttl=60) for _ in range(8)]
    seen = threading.Barrier(8)
    store = world.locker._runtime.store
    real = store.read

    def read(path: str) -> Any:
        snapshot = real(path)
        if not seen.broken and threading.current_thread() not in once:
            once.append(threading.current_thread())
            seen.wait(patient(30))
        return snapshot

    once: list[threading.Thread] = []
    store.read = read  # type: ignore[method-assign]  # all eight read before the first one commits
    with ThreadPoolExecutor(8) as waiters:
        granted = list(waiters.map(lambda lock: lock.acquire(blocking=False), locks))
    assert len(once) == 8
    assert granted.count(True) == 1


@row("RL-33", "lock without expiry", "0 as there; a negative one is a UsageError, for it is a mistake")
def test_rl_33_timeout_of_nothing(world: World) -> None:
    """
    Held until it is released.
    """
    lock = world.lock(ttl=0)
    lock.acquire()
    world.cloud.advance(days=365)
    assert lock.held
    assert not world.lock().acquire(blocking=False)
    with pytest.raises(UsageError, match="ttl is -1 s"):
        world.lock(ttl=-1)
