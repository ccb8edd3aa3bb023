"""
Threads whose commits share a call.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.patience import patient
from tests.support.tasks import Service, Work


class Crowd:
    """
    A deployment with threads that create and deliver tasks at once: the answers of the first two are held back, until the
    others wait.

    Attributes:
        service: The deployment.
        cloud: Its cloud.
        held: Names of the tasks of the first two threads.
    """

    def __init__(self, cloud: OncetaskCloud, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
        self.service = Service(cloud, coalesce=True).handle()
        self.service.create("known")
        self.cloud = cloud
        self.held: list[str] = []
        self._pool = pool
        runtime = self.service.manager.locker._runtime
        self._traffic = runtime.store._coalescer._traffic
        self._gates: list[threading.Event] = []
        self._call = runtime.wire._unary
        monkeypatch.setattr(runtime.wire, "_unary", self._held)

    def _held(self, call: Any, calls: Any, *more: Any) -> Any:
        answer = self._call(call, calls, *more)
        if call is calls.commit and self._gates:
            assert self._gates.pop(0).wait(patient(20))
        return answer

    def create(self, *names: str) -> list[Any]:
        """
        Create tasks, each on a thread of its own; return what each call returned.
        """
        self.cloud.reset_cost()
        self.held = [f"held-{names[0]}-1", f"held-{names[0]}-2"]
        answered = [threading.Event(), threading.Event()]
        self._gates = list(answered)
        held = [self._start(name, self._traffic.calls) for name in self.held]
        more = [self._start(name, self._traffic.waiting) for name in names]
        answered[0].set()
        found = [one.result(patient(20)) for one in more]
        answered[1].set()
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
