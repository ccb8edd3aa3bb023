"""
What the histories of workers have found, as small as it gets.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gcp_emulator.firestore.messages import Document
from gcp_oncetask import Config, Locker
from gcp_oncetask.tasks import TaskManager
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker, fetcher
from gcp_oncetask.worker.listening import Listener
from tests.simulation.workers.history import PulledNewest, PulledWork

TTL = 60.0


@pytest.fixture
def worker(oncetask_cloud: OncetaskCloud) -> Worker:
    """
    One that has begun its session, for two kinds.
    """
    locker = Locker(config=Config())
    oncetask_cloud.use(locker)
    manager = TaskManager(locker)
    for model in (PulledWork, PulledNewest):
        manager.register_task_handler(model, lambda task, attempt: None)
    made = Worker(manager, listen=False, session_ttl=TTL)
    made._start()
    assert made._membership is not None
    made._membership.beat()
    return made


@pytest.mark.parametrize(("seconds", "kinds"), [(TTL / 2, 2), (TTL, 1)])
def test_worker_whose_session_dies_between_two_questions_asks_no_more(
    oncetask_cloud: OncetaskCloud, worker: Worker, monkeypatch: pytest.MonkeyPatch, seconds: float, kinds: int
) -> None:
    """
    The question for the first kind takes so long that its shards may be others' by now: it does not ask for the second.
    """
    asked = []

    def slow(store: Any, env: str, kind: str, shards: Any, limit: int, *_: Any) -> list[Any]:
        asked.append(kind)
        oncetask_cloud.advance(seconds=seconds * (len(asked) == 1))
        return []

    monkeypatch.setattr(fetcher, "due_for_workers", slow)
    worker._fill()

    assert len(asked) == kinds


@pytest.mark.parametrize(("seconds", "questions"), [(TTL / 2, 2), (TTL, 1)])
def test_worker_whose_session_dies_between_two_parts_of_a_question_asks_no_more(
    oncetask_cloud: OncetaskCloud, worker: Worker, monkeypatch: pytest.MonkeyPatch, seconds: float, questions: int
) -> None:
    """
    It asks for some shards first, so that the others can't starve; that takes so long that all may be others' by now.
    """
    asked = []

    def slow(store: Any, env: str, kind: str, shards: Any, limit: int, *_: Any) -> list[Any]:
        asked.append(shards)
        oncetask_cloud.advance(seconds=seconds * (len(asked) == 1))
        return []

    monkeypatch.setattr(fetcher, "due_for_workers", slow)
    kind = worker.kinds[0]
    assert worker._membership is not None
    worker._looking._kinds[kind].next_shard = worker._membership.watched[kind][1]
    worker._due(kind, 1)

    assert len(asked) == questions


def test_worker_without_a_session_waits_for_its_heartbeat(oncetask_cloud: OncetaskCloud, worker: Worker) -> None:
    """
    Its session has died and the next heartbeat has failed: it does not look, again and again, for what it may not take.
    """
    worker._polled = worker._runtime.clock.mark()
    oncetask_cloud.advance(seconds=TTL)
    oncetask_cloud.faults.fail("Commit", when="before")
    assert worker._membership is not None
    worker._membership.beat()

    assert not worker._membership.alive()
    assert worker._patience() > 0


def test_listener_forgets_a_task_that_is_due_no_more(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A task was shown while it was leased, and has ended: the end of that lease is no reason to look for tasks.
    """
    leased, other = _due("leased", second=10), _due("other", second=20)
    changes = [(0, leased.name, leased), (1, other.name, other), (0, leased.name, None), (1, leased.name, None)]
    monkeypatch.setattr(worker._runtime.wire, "listen", lambda queries: (iter(changes), lambda: None))
    listener = Listener(worker._runtime, {worker.kinds[0]: (0, 1)}, lambda: None)
    listener._thread.join()

    assert listener.first_due() == datetime(2026, 1, 1, 0, 0, 20, tzinfo=UTC)


def _due(name: str, second: int) -> Any:
    document = Document(name=name)
    document.fields["lock"].map_value.fields["due"].string_value = f"DEFAULT/kind/000/2026-01-01T00:00:{second}.000000Z"
    return document
