"""
Words of several threads, and journals that are full or nearly so.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest

from gcp_oncetask import Status
from tests.support.durable import SECOND, Calls, play
from tests.support.tasks import Service

WORDS = {
    "sleep": lambda attempt: attempt.sleep("w", 600),
    "event": lambda attempt: attempt.wait_event("w", dict, timeout=600),
    "map": lambda attempt: attempt.map("w", int, [1]),
    "pages": lambda attempt: attempt.pages("w", lambda cursor: ([], None)),
    "poll": lambda attempt: attempt.poll("w", lambda state: 1, until=bool, every=1, timeout=None),
}


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("joins", [True, False])
def test_du_107_a_word_that_waits_beside_a_run_is_a_mistake(service: Service, word: str, joins: bool) -> None:
    """
    The run of the other thread ends, and is kept, whether the handler waits for its thread or not.
    """
    begun, refused = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert refused.wait(10)
        return "kept"

    def act(task: Any, attempt: Any) -> None:
        pool = ThreadPoolExecutor(1)
        pool.submit(attempt.run, "slow", slow)
        assert begun.wait(10)
        try:
            WORDS[word](attempt)
        finally:
            refused.set()
            pool.shutdown(wait=joins)

    play(service, act)
    lock = service.lock("a")
    assert (lock.status, lock.attempts) == (Status.FAILED, 1)
    assert "another thread of the handler is in a run" in lock.errors[-1].message
    assert [b'"n":"slow"' in entry for entry in lock.journal] == [True]


def test_du_107_runs_of_several_threads_are_kept(service: Service) -> None:
    calls = Calls()

    def act(task: Any, attempt: Any) -> list[str]:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda n: attempt.run(f"run-{n}", calls, n), range(20)))
        if len(service.ran) == 1:
            raise ValueError("again")
        return found

    play(service, act)
    assert (service.lock("a").result, len(calls.seen)) == (["done"] * 20, 20)


def test_du_97_a_nearly_full_journal_is_told_once(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    def act(task: Any, attempt: Any) -> None:
        attempt.map("fill", int, range(3_998))
        caplog.clear()
        for number in range(3):
            attempt.run(f"run-{number}", int)

    play(service, act)
    assert [record.getMessage().split(": ")[1] for record in caplog.records if "full to" in record.getMessage()] == [
        "its journal is full to 80 %; 'run-0' still fits."
    ]


def test_du_97_a_run_that_does_not_fit_is_refused_before_its_call(service: Service) -> None:
    calls = Calls()

    def act(task: Any, attempt: Any) -> None:
        attempt.map("fill", int, range(4998), concurrency=2)
        attempt.run("fits", calls)
        attempt.run("does-not", calls)

    play(service, act)
    lock = service.lock("a")
    assert (lock.status, lock.attempts, len(calls.seen)) == (Status.FAILED, 1, 1)
    assert "'does-not' was not called" in lock.errors[-1].message


def test_du_72_a_map_that_fits_up_to_the_last_entry(service: Service) -> None:
    fits, refused = Calls(*[int] * 5), Calls()

    def act(task: Any, attempt: Any) -> None:
        attempt.map("fill", int, range(4990), concurrency=2)
        attempt.map("fits", fits, range(5))
        attempt.map("refused", refused, range(3))

    play(service, act)
    lock = service.lock("a")
    assert (lock.status, lock.attempts, len(fits.seen), refused.seen) == (Status.FAILED, 1, 5, [])
    assert "'refused' was not called" in lock.errors[-1].message


class Work:
    """
    Counts the calls of Python functions in all threads.
    """

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            self.calls += "gcp_oncetask" in frame.f_code.co_filename


def work(act: Any) -> int:
    """
    The calls of the library that *act* takes.
    """
    counter, before = Work(), sys.getprofile()
    sys.setprofile(counter)
    try:
        act()
    finally:
        sys.setprofile(before)
    return counter.calls


def test_du_98_the_work_of_a_journal_is_linear(service: Service) -> None:
    """
    Neither the replay of 4,800 entries nor a new run behind them takes more than its share: four times the calls of 1,200 for
    the replay, and no more for the run than that a slow machine commits it by itself.
    """
    sizes, replays, runs = [1200, 4800], [], []

    def act(task: Any, attempt: Any) -> None:
        size = sizes[int(task.id)]

        def replay() -> None:
            assert len(attempt.map("fill", int, range(size))) == size

        if attempt.number == 1:
            attempt.map("fill", int, range(size))
            raise ValueError("again")
        replays.append(work(replay))
        runs.append(work(lambda: [attempt.run(f"run-{n}", int) for n in range(30)]))

    service.handle(retry=SECOND).create("0", "1")
    service.act = act
    service.settle(10)
    assert [service.lock(name).status for name in "01"] == [Status.COMPLETED] * 2
    assert replays[1] < replays[0] * 4.4
    assert runs[1] < runs[0] * 2.2
