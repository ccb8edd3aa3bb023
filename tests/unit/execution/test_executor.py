"""
The attempts that run in a process.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from gcp_oncetask.clock import SystemClock
from gcp_oncetask.execution.executor import Executor


def test_attempts_are_handed_back_in_the_order_in_which_they_began() -> None:
    """
    In a set they would have the order of their addresses, so that a history did not repeat.
    """
    handed_back: list[str] = []

    class Attempt:
        leader = None

        def __init__(self, path: str) -> None:
            self.context = SimpleNamespace(document=path)

        def settle(self, settlement: Any) -> None:
            handed_back.append(self.context.document)

    runtime: Any = SimpleNamespace(clock=SystemClock())
    executor = Executor(runtime)
    paths = [f"jobs/{number}" for number in range(20)]
    kept: Any = [Attempt(path) for path in paths]
    for attempt in reversed(kept):
        executor.attempts[attempt] = None
    assert executor.hand_back(paths) == 20
    assert handed_back == paths[::-1]
