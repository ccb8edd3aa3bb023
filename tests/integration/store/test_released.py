"""
The released and the new version take turns over one history: neither sees damage, and what happens is what one alone does.
"""

from __future__ import annotations

import random
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest

from gcp_oncetask import Attempt, Retry, Snooze
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.tasks import OnceTask
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.released import NEW, released
from tests.support.tasks import Latest, Service, Work

STEPS = 40


class Turns:
    """
    Before each request and each call of an application: which of the two it is.
    """

    def __init__(self, app: Any, share: float, seed: int) -> None:
        self._app = app
        self._share = share
        self._draw = random.Random(f"turns {seed}")

    def next(self) -> Any:
        return released() if self._draw.random() < self._share else nullcontext()

    def __call__(self, environ: Any, start_response: Any) -> Any:
        with self.next():
            return list(self._app(environ, start_response))


def act(task: OnceTask[Any], attempt: Attempt) -> Any:
    """
    By name and attempt: fail, wait, die or work.
    """
    draw = random.Random(f"{task.id} {attempt.number}")
    match draw.randrange(6):
        case 0:
            raise Retry("not yet", after=draw.choice([1, 120]))
        case 1 if attempt.number < 2:
            raise Snooze(after=60)
        case 2:
            raise ValueError("it failed")
    return {"n": attempt.number}


def play(cloud: OncetaskCloud, share: float, seed: int) -> tuple[dict[str, tuple[Any, ...]], list[Lock]]:
    """
    One history of which *share* is played by the released version; what became of each task, and all records.
    """
    service = Service(cloud)
    turns = Turns(service.app.wsgi_app, share, seed)
    service.app.wsgi_app = turns  # type: ignore[method-assign]
    service.act = act
    for model in (Work, Latest):
        service.handle(model, on_cancel=lambda task, attempt: None)
    draw = random.Random(seed)
    names: set[tuple[str, type[Work]]] = set()
    for step in range(STEPS):
        model, number, what = draw.choice([Work, Latest]), draw.randrange(8), draw.randrange(8)
        name, key = f"t{number}", "k" if number % 2 else None
        with turns.next():
            if what < 4:
                names.add((name, model))
                service.manager.create_task(model(name=name, key=key, note=str(step)))
            elif what == 4 and names:
                service.manager.cancel_task(model, name)
            elif what == 5:
                service.manager.reset_task(model, name) if (name, model) in names and ended(
                    service, name, model
                ) else None
        if draw.random() < 0.2:
            cloud.faults.fail("CreateTask", times=3)
        cloud.advance(seconds=draw.choice([0, 1, 70, 400]))
        with turns.next():
            cloud.sweep()
        cloud.faults.clear()
    for _ in range(30):
        cloud.advance(hours=1)
        with turns.next():
            cloud.sweep()
    cloud.run_until_idle()
    locks = {name: service.lock(*name) for name in sorted(names, key=str)}
    return {str(name): (lock.status, lock.sequence, lock.returned) for name, lock in locks.items()}, list(
        locks.values()
    )


def ended(service: Service, name: str, model: type[Work]) -> bool:
    return service.lock(name, model).finished


@pytest.mark.parametrize("seed", range(4))
def test_both_versions_over_one_history(seed: int) -> None:
    """
    By the new one alone, by the released one alone, and by both in turns.
    """
    found = []
    for share in (0.0, 1.0, 0.5):
        cloud = OncetaskCloud()
        try:
            outcome, locks = play(cloud, share, seed)
            found.append(outcome)
            if share == 1.0:
                assert all(getattr(lock, name) in (None, ()) for lock in locks for name in NEW)
            assert all(lock.finished for lock in locks)
            assert [alert.reason for alert in cloud.alerts.sent if "not a lock record" in alert.reason] == []
        finally:
            cloud.stop()
    assert found[0] == found[1] == found[2]


def test_time_that_the_released_version_left_behind_counts_for_nothing(oncetask_cloud: OncetaskCloud) -> None:
    """
    The new version says since when; the released one schedules on and leaves that as it is.
    """
    service = Service(oncetask_cloud).handle()
    service.create("a")
    first = service.lock("a")
    oncetask_cloud.run_until_idle()
    oncetask_cloud.clock.advance(timedelta(days=1).total_seconds())
    with released():
        service.manager.reset_task(Work, "a")
    lock = service.lock("a")
    assert lock.ready_at == first.ready_at is not None
    assert (lock.sequence, lock.ready_since) == (2, None)
