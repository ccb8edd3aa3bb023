"""
When a worker relies on its listener: once it has shown all, and not after heartbeats that failed.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker
from gcp_oncetask.worker.listening import Listener, ListenerSupervisor
from tests.support.patience import patient
from tests.support.tasks import Pull, Service

Change = tuple[int, str, None]


class Stream:
    """
    A stream of Firestore that shows what the test puts in.

    Attributes:
        woken: Set after each change that was seen.
    """

    def __init__(self) -> None:
        self.woken = threading.Event()
        self._changes: queue.Queue[Change | None] = queue.Queue()

    def listen(self, queries: Sequence[Any]) -> tuple[Iterator[Change], Callable[[], None]]:
        """
        Open it.
        """
        ended: Iterator[Any] = iter(self._changes.get, None)
        return ended, lambda: self._changes.put(None)

    def show(self, change: Change) -> None:
        """
        Show *change*, and return once it was seen.
        """
        self.woken.clear()
        self._changes.put(change)
        assert self.woken.wait(patient(10))


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud) -> Service:
    """
    A deployment.
    """
    return Service(oncetask_cloud).handle(Pull)


def test_listener_is_healthy_once_each_of_its_queries_is_up_to_date(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Two shards, and the sessions that end: three queries.
    """
    stream, runtime = Stream(), service.manager.locker._runtime
    monkeypatch.setattr(runtime.wire, "listen", stream.listen)
    listener = Listener(runtime, {"work": (0, 1)}, stream.woken.set)
    healthy = [listener.healthy]
    for place in (0, 1, 2):
        stream.show((-1 - place, "", None))
        healthy.append(listener.healthy)
    listener.close()

    assert healthy == [False, False, False, True]
    assert not listener.healthy


@pytest.mark.parametrize("failed", [True, False])
def test_listener_is_opened_again_after_heartbeats_that_failed(
    service: Service, monkeypatch: pytest.MonkeyPatch, failed: bool
) -> None:
    """
    The connection was in doubt, and a stream may hang without an error.
    """

    class Beating:
        failing = failed

        def beat(self) -> bool:
            """
            It succeeds, and no shard changes.
            """
            self.failing = False
            return False

    stream, runtime = Stream(), service.manager.locker._runtime
    monkeypatch.setattr(runtime.wire, "listen", stream.listen)
    worker = Worker(service.manager, listen=True)
    worker._listening = ListenerSupervisor(runtime, stream.woken.set)
    worker._listening.to({"work": (0,)})
    opened = worker._listening.listener
    assert opened is not None
    worker._beat(Beating())  # type: ignore[arg-type]  # as much of a membership as a heartbeat needs
    broken = opened.broken
    opened.close()

    assert broken is failed
