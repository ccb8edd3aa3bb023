"""
What the tests of workers share: threads at work, a ledger of what was run, a holder that died.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from gcp_oncetask.tasks import TaskManager
from gcp_oncetask.worker import Worker
from tests.support.patience import patient


@contextmanager
def at_work(*workers: Worker) -> Iterator[None]:
    threads = [threading.Thread(target=worker.run, daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        # On threads of their own: on a virtual clock the test's own thread would not wait.
        stoppers = [threading.Thread(target=worker.stop) for worker in workers]
        for stopper in stoppers:
            stopper.start()
        for thread in (*stoppers, *threads):
            thread.join(patient(30))
            assert not thread.is_alive()


class Ledger:
    """
    What was run, and how often.
    """

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.news = threading.Condition()

    def note(self, id_: str) -> None:
        with self.news:
            self.runs[id_] += 1
            self.news.notify_all()

    def wait(self, count: int, timeout: float = 60) -> None:
        with self.news:
            assert self.news.wait_for(lambda: len(self.runs) >= count, patient(timeout)), (
                f"only {len(self.runs)} of {count} ran"
            )

    def until(self, true: Callable[[], bool], timeout: float = 60) -> None:
        """
        Wait for something that tells nobody.
        """
        deadline = time.monotonic() + patient(timeout)
        while not true():
            assert time.monotonic() < deadline
            threading.Event().wait(0.02)


def expire(manager: TaskManager, path: str) -> None:
    """
    Let the waiting task at *path* look like one whose holder died three minutes ago and left no trace.
    """
    reference = manager.locker.client.document(path)
    lock = reference.get().to_dict()["lock"]
    then = manager.locker._runtime.store.estimate() - timedelta(minutes=3)
    held = {
        "status": "leased",
        "holder": "0" * 24,
        "token": lock.get("token", 0) + 1,
        "attempts": 1,
        "maxAttempts": 3,
        "grantedAt": then,
        "leasedAt": then,
        "leaseSeconds": 60.0,
        "timeoutSeconds": 3600.0,
        "runLimitSeconds": 3600.0,
    }
    reference.update({f"lock.{name}": value for name, value in held.items()})
