"""
Tasks of the simulation in place of the threads of ``attempt.map``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, Self

from tests.simulation.hub import Hub, Signal, Task, Thread


class Condition:
    """
    A condition between tasks. One task runs at a time, so its lock is none.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._waiting: list[Task] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """
        Nothing is to be released.
        """

    def wait(self) -> None:
        """
        Let others run until they notify.
        """
        assert self._hub.task is not None
        self._waiting.append(self._hub.task)
        self._hub.sleep(1e9)

    def notify_all(self) -> None:
        """
        Let those that wait run.
        """
        while self._waiting:
            self._hub.wake(self._waiting.pop())


class Pool:
    """
    An executor whose calls are tasks of the process of the caller.
    """

    def __init__(self, hub: Hub, workers: int, *, thread_name_prefix: str) -> None:
        self._hub = hub
        self._workers, self._name = workers, thread_name_prefix
        self._over: list[Signal] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for over in self._over:
            over.wait()

    def submit(self, run: Callable[..., Any], *arguments: Any) -> None:
        """
        Call *run* beside the caller.
        """
        assert len(self._over) < self._workers, self._name
        over = Signal(self._hub)
        self._over.append(over)

        def call() -> None:
            run(*arguments)
            over.set()

        Thread(self._hub, target=call).start()


def threading_of(hub: Hub) -> SimpleNamespace:
    """
    What ``attempt.map`` needs of ``threading``.
    """
    return SimpleNamespace(Condition=partial(Condition, hub))
