"""
Many events at once, on a cloud with real servers, threads and clocks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore

import pytest

from gcp_emulator.clock import rng
from gcp_oncetask import Attempt
from gcp_oncetask.tasks import OnceTask, TaskManager
from gcp_oncetask.worker import Worker
from tests.support.patience import patient
from tests.support.tasks import Pull
from tests.support.workers import at_work

SENDERS = 4


@pytest.mark.parametrize(
    ("tasks", "events"), [(4, 3), pytest.param(100, 20, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_no_event_of_many_senders_is_lost_or_taken_twice(
    make_manager: Callable[..., TaskManager], tasks: int, events: int
) -> None:
    """
    Each event is sent twice, by two of four threads, in an order of its own; two workers take them meanwhile.
    """
    manager = make_manager()
    taken: Counter[tuple[str, int]] = Counter()
    ended = Semaphore(0)

    def collect(task: OnceTask[Pull], attempt: Attempt) -> list[int]:
        found = []
        for number in range(events):
            event = attempt.wait_event(f"wait-{number}", dict, event="news", timeout=None)
            found.append(event["number"])
        taken.update((task.id, number) for number in found)
        ended.release()
        return sorted(found)

    manager.register_task_handler(Pull, collect)
    names = [f"t{number}" for number in range(tasks)]
    assert manager.create_tasks(Pull(name=name) for name in names).created == tasks
    sent = [(name, number) for name in names for number in range(events)] * 2
    rng(7).shuffle(sent)

    def send(event: tuple[str, int]) -> bool:
        name, number = event
        return manager.send(Pull, name, "news", {"number": number}, id=str(number)).stored

    with ThreadPoolExecutor(SENDERS) as pool, at_work(*(Worker(manager, concurrency=4) for _ in range(2))):
        stored = sum(pool.map(send, sent))
        for _ in names:
            assert ended.acquire(timeout=patient(120))
    # The workers have stopped, so that what their handlers returned is stored.
    for name in names:
        found = manager.get_task(Pull, name)
        assert found is not None
        assert (found.result, found.lock.mailbox) == (list(range(events)), ())
    assert stored == tasks * events
    assert taken == Counter((name, number) for name in names for number in range(events))
