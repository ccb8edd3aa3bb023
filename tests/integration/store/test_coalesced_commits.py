"""
Threads whose commits share a call, against the local cloud: what is written, what each is told, and what it costs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from gcp_oncetask import Status
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.patience import patient
from tests.support.tasks import Service, Work


class Crowd:
    """
    A deployment with threads that create and deliver tasks at once: the answers of the first two are held back, until the
    others wait.
    """

    def __init__(self, cloud: OncetaskCloud, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
        self.service = Service(cloud, coalesce=True).handle()
        self.service.create("known")
        self.cloud = cloud
        self._pool = pool
        runtime = self.service.manager.locker._runtime
        self._traffic = runtime.store._coalescer._traffic
        self._answered = [threading.Event(), threading.Event()]
        self._gates = list(self._answered)
        self._commit = runtime.wire.commit
        monkeypatch.setattr(runtime.wire, "commit", self._held)

    def _held(self, request: Any) -> Any:
        answer = self._commit(request)
        if self._gates:
            assert self._gates.pop(0).wait(patient(20))
        return answer

    def create(self, *names: str) -> list[Any]:
        """
        Create tasks, each on a thread of its own; return what each call returned.
        """
        self.cloud.reset_cost()
        held = [self._start(name, self._traffic.calls) for name in ("held-1", "held-2")]
        more = [self._start(name, self._traffic.waiting) for name in names]
        self._answered[0].set()
        found = [one.result(patient(20)) for one in more]
        self._answered[1].set()
        assert [one.result(patient(20)).created for one in held] == [True, True]
        return found

    def _start(self, name: str, grows: Sequence[Any]) -> Future[Any]:
        before = len(grows)
        found = self._pool.submit(self.service.manager.create_task, Work(name=name))
        while len(grows) == before and not found.done():
            threading.Event().wait(0.001)
        return found

    @property
    def calls(self) -> dict[str, int]:
        return dict(self.cloud.cost.calls)


@pytest.fixture
def crowd(oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crowd]:
    with ThreadPoolExecutor(8) as pool:
        yield Crowd(oncetask_cloud, pool, monkeypatch)


NAMES = ("a", "b", "c", "d")


def test_creates_share_a_call(crowd: Crowd) -> None:
    """
    Four writes in one call, each billed as a write; each task is there, with a delivery.
    """
    made = crowd.create(*NAMES)

    assert [one.created for one in made] == [True] * 4
    assert crowd.calls == {"Commit": 2, "BatchWrite": 1, "CreateTask": 6}
    assert crowd.cloud.cost.writes == 6
    crowd.cloud.run_until_idle()
    assert sorted(crowd.service.ran) == ["a", "b", "c", "d", "held-1", "held-2", "known"]
    assert all(crowd.service.lock(name).status is Status.COMPLETED for name in NAMES)


def test_each_recognises_its_write_after_a_lost_answer(crowd: Crowd) -> None:
    crowd.cloud.local.faults.fail("BatchWrite", when="after")
    made = crowd.create(*NAMES)

    assert [one.created for one in made] == [True] * 4
    assert crowd.calls["CreateTask"] == 6
    crowd.cloud.run_until_idle()
    assert sorted(crowd.service.ran) == ["a", "b", "c", "d", "held-1", "held-2", "known"]


def test_one_that_exists_among_others_that_do_not(crowd: Crowd) -> None:
    made = crowd.create("a", "known", "c")

    assert [one.created for one in made] == [True, False, True]
    assert crowd.calls["BatchWrite"] == 1
    crowd.cloud.run_until_idle()
    assert sorted(crowd.service.ran) == ["a", "c", "held-1", "held-2", "known"]


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED])
def test_call_that_is_refused_as_a_whole(crowd: Crowd, code: grpc.StatusCode) -> None:
    """
    Each write is committed by itself.
    """
    crowd.cloud.local.faults.fail("BatchWrite", code=code)
    made = crowd.create(*NAMES)

    assert [one.created for one in made] == [True] * 4
    assert crowd.calls == {"Commit": 6, "BatchWrite": 1, "CreateTask": 6}


def test_two_creates_of_one_task_make_it_once(crowd: Crowd) -> None:
    made = crowd.create("a", "a", "b", "a")

    assert sorted(one.created for one in made) == [False, False, True, True]
    crowd.cloud.run_until_idle()
    assert sorted(crowd.service.ran) == ["a", "b", "held-1", "held-2", "known"]
