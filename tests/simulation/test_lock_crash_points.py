"""
Crash everywhere by counting, for named locks and functions that run once: the Nth remote call fails, or the process dies at
it, for N = 1, 2, 3, ... until the scenario finishes unhurt; then another process comes, and the late holder wakes up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from gcp_oncetask import Config, LeaseLostError, LockBusyError, Locker, NamedLock, OncetaskError, Status, once
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.simulation.test_crash_points import CODES, dies_after, dies_before
from tests.support.orders import Killed

MOST = 30
TTL = 60
FAULTS = [*(("before", code) for code in CODES), *(("after", code) for code in CODES[:3])]


class Dying:
    """
    A process whose Nth remote call is its last.
    """

    def __init__(self, locker: Locker, number: int, hurt: Callable[[Callable[[], Any]], Any]) -> None:
        self.left, self.struck = number, False
        wire = locker._runtime.wire
        for name in ("_unary", "_stream"):
            setattr(wire, name, self._wrapped(getattr(wire, name), hurt))

    def _wrapped(self, real: Callable[..., Any], hurt: Callable[[Callable[[], Any]], Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left:
                return real(*args, **kwargs)
            self.struck = True

            def effect() -> Any:
                answer = real(*args, **kwargs)
                return list(answer) if isinstance(answer, Iterator) else answer

            return hurt(effect)

        return call


@dataclass
class World:
    """
    A cloud, and the holdings that there were: (token, whether it was ended well).
    """

    cloud: OncetaskCloud
    tokens: list[int] = field(default_factory=list)
    inside: int = 0

    def locker(self) -> Locker:
        """
        A process that has spoken to Firestore before.
        """
        locker = Locker(config=Config())
        self.cloud.use(locker)
        locker._runtime.store.estimate()
        return locker

    def work(self, lock: NamedLock) -> None:
        """
        Hold it, refresh it, give it back, as a careful caller does: again, if an error left it open.
        """
        carefully(lambda: lock.acquire(timeout=2 * TTL))
        self.tokens.append(lock.token)
        carefully(lock.refresh)
        assert lock.held
        carefully(lock.release)
        assert not lock.held


@dataclass
class Job:
    """
    What runs once: returns how often it ran; raises the first so many times.
    """

    fails: int = 0
    ran: int = 0

    def run(self) -> int:
        """
        Run.
        """
        self.ran += 1
        if self.ran <= self.fails:
            raise ValueError("not yet")
        return self.ran


def carefully(call: Callable[[], Any]) -> None:
    """
    Repeat a call that ends in a service's error; it is safe to.
    """
    for _ in range(5):
        try:
            if call() is False:
                continue
        except OncetaskError:
            continue
        return
    raise AssertionError("five errors in a row")


@contextmanager
def world() -> Iterator[World]:
    """
    A fresh one.
    """
    cloud = OncetaskCloud()

    try:
        yield World(cloud)
    finally:
        cloud.stop()


def record(locker: Locker, lock: NamedLock) -> Lock:
    """
    What is stored.
    """
    return locker.show(lock.document)


@pytest.mark.parametrize(("when", "code"), FAULTS)
@pytest.mark.parametrize("twice", [False, True])
def test_nth_call_of_a_lock_failing_changes_nothing(when: Any, code: grpc.StatusCode, twice: bool) -> None:
    """
    Whichever call fails, once or together with the next one: each holding is granted once, ended once, its token greater.
    """
    for number in range(1, MOST):
        with world() as here:
            locker = here.locker()
            lock = locker.lock("graph", ttl=TTL, listen=False)
            here.cloud.faults.fail("*", when=when, code=code, skip=number - 1, times=2 if twice else 1)
            here.work(lock)
            here.work(lock)
            here.work(here.locker().lock("graph", ttl=TTL))
            struck = sum(here.cloud.faults.injected.values())
            found = record(locker, lock)
            assert len(here.tokens) == 3, number
            assert here.tokens == sorted(set(here.tokens)), number
            assert (found.status, found.sequence, found.token) == (Status.SCHEDULED, 4, here.tokens[-1])
        if not struck:
            assert number > 8
            return
    raise AssertionError("the scenario never finished unhurt")


@pytest.mark.parametrize("hurt", [dies_before, dies_after])
def test_holder_dying_at_the_nth_call_delays_others_by_its_ttl_at_most(hurt: Any) -> None:
    """
    Wherever it dies, another process is granted within the ttl, with a greater token; woken up, the dead one changes nothing.
    """
    for number in range(1, MOST):
        with world() as here:
            locker, other = here.locker(), here.locker()
            lock, theirs = locker.lock("graph", ttl=TTL), other.lock("graph", ttl=10 * TTL, listen=False)
            dying = Dying(locker, number, hurt)
            with suppress(Killed):
                here.work(lock)
            dying.left = 0
            begun = here.cloud.clock_now()
            assert theirs.acquire(timeout=TTL + 1)
            assert (here.cloud.clock_now() - begun).total_seconds() <= TTL + 1
            assert all(theirs.token > token for token in here.tokens)
            before = record(other, theirs)
            for call in (lock.refresh, lock.release):
                with suppress(OncetaskError):
                    call()
            assert before == record(other, theirs)
            assert theirs.held
            theirs.release()
        if not dying.struck:
            assert number > 3
            return
    raise AssertionError("the scenario never finished unhurt")


@pytest.mark.parametrize(("when", "code"), FAULTS)
def test_nth_call_of_a_run_failing_runs_it_once(when: Any, code: grpc.StatusCode) -> None:
    """
    Whichever single call fails, the function runs once, and every call returns its result.
    """
    for number in range(1, MOST):
        with world() as here:
            job = Job()
            run = once(here.locker(), name="charge", key="e1", ttl=TTL)(job.run)
            here.cloud.faults.fail("*", when=when, code=code, skip=number - 1)
            results = [run(), run(), run()]
            struck = sum(here.cloud.faults.injected.values())
            assert (results, job.ran) == ([1, 1, 1], 1), number
        if not struck:
            assert number > 4
            return
    raise AssertionError("the scenario never finished unhurt")


@pytest.mark.parametrize("hurt", [dies_before, dies_after])
@pytest.mark.parametrize("raises", [False, True])
def test_run_dying_at_the_nth_call_is_done_by_the_next(hurt: Any, raises: bool) -> None:
    """
    Wherever the process dies, a later call completes it, within the ttl; once its result is stored it never runs again.
    """
    for number in range(1, MOST):
        with world() as here:
            locker, other = here.locker(), here.locker()
            job = Job(fails=int(raises))
            dying = Dying(locker, number, hurt)
            with suppress(Killed, ValueError):
                once(locker, name="charge", key="e1", ttl=TTL)(job.run)()
            run = once(other, name="charge", key="e1", ttl=TTL)(job.run)
            result = 0
            while not result:
                try:
                    result = run()
                except LockBusyError:
                    here.cloud.advance(seconds=TTL)
                except ValueError:
                    assert job.ran == 1
            dying.left = 0
            assert job.ran <= 2
            assert [run(), once(locker, name="charge", key="e1", ttl=TTL)(job.run)()] == [result, result]
            assert result == job.ran
        if not dying.struck:
            assert job.ran == (2 if raises else 1)
            assert number > 2
            return
    raise AssertionError("the scenario never finished unhurt")


def test_zombie_of_every_age_changes_nothing() -> None:
    """
    A holder that sleeps past its ttl and wakes while others acquire, hold, release and retire the lock is always told.
    """
    with world() as here:
        locker, other = here.locker(), here.locker()
        here.cloud.local.firestore.set_ttl("onceLocks", "expireAt")
        reference = other.client.document(locker.lock("graph").document)
        for age in range(6):
            zombie, lock = locker.lock("graph", ttl=TTL, listen=False), other.lock("graph", ttl=TTL, listen=False)
            assert zombie.acquire(timeout=2 * TTL)
            here.cloud.advance(seconds=TTL)
            for stage in range(age + 1):
                if stage % 2 == 0:
                    assert lock.acquire(blocking=False)
                else:
                    lock.release()
            if age == 5:
                here.cloud.advance(days=10)
                assert not reference.get().exists
            before = reference.get().to_dict()
            for call in (zombie.refresh, zombie.release):
                with pytest.raises(LeaseLostError):
                    call()
            assert before == reference.get().to_dict()
            here.cloud.advance(seconds=TTL)


def slow(here: World, seconds: float, calls: int) -> Callable[[Callable[[], Any]], Any]:
    """
    What stops the process for so long after each of its next *calls*.
    """
    left = [calls]

    def hurt(effect: Callable[[], Any]) -> Any:
        answer = effect()
        if left[0]:
            left[0] -= 1
            here.cloud.advance(seconds=seconds)
        return answer

    return hurt


def test_lock_whose_answers_keep_coming_late_is_held_once_it_is_acquired() -> None:
    """
    The grant's answer comes after the lease's end, and so does that of the refresh: what ``acquire`` returns is held.
    """
    with world() as here:
        locker = here.locker()
        lock = locker.lock("graph", ttl=TTL, listen=False)
        wire = locker._runtime.wire
        late, commit = slow(here, TTL, 2), wire.commit
        wire.commit = lambda request: late(lambda: commit(request))  # type: ignore[method-assign]
        assert lock.acquire(blocking=False)
        assert lock.held
        lock.release()


def test_function_is_not_entered_when_its_run_limit_is_over_already() -> None:
    """
    The grant's answer comes after the run limit: others may run it from now on, so this call does not.
    """
    with world() as here:
        locker, job = here.locker(), Job()
        run = once(locker, name="charge", key="e1", ttl=TTL, run_limit=2 * TTL)(job.run)
        wire = locker._runtime.wire
        late, commit = slow(here, 3 * TTL, 1), wire.commit
        wire.commit = lambda request: late(lambda: commit(request))  # type: ignore[method-assign]
        with pytest.raises(LockBusyError):
            run()
        assert job.ran == 0
        here.cloud.advance(seconds=TTL)
        assert run() == 1
