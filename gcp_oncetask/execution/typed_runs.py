"""
The words of a durable handler, with the types that a type checker follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

from gcp_oncetask.execution.durable_runs import Run, RunOptions
from gcp_oncetask.execution.journaling import journal_of
from gcp_oncetask.execution.running import RunningAttempt

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M")


class Runs:
    """
    Runs with options; ``attempt.options(...)`` makes it.
    """

    def __init__(self, running: RunningAttempt, options: RunOptions) -> None:
        self._running = running
        self._options = options

    def run(self, name: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """
        Call *fn* unless the journal has its result; see ``Attempt.run``.
        """
        found: R = Run(journal_of(self._running), name, fn, args, kwargs, self._options).answer()
        return found


class RunsOf(Generic[M]):
    """
    Runs whose results are read by a model; ``attempt.options(result=Model)`` makes it.
    """

    def __init__(self, running: RunningAttempt, options: RunOptions) -> None:
        self._running = running
        self._options = options

    def run(self, name: str, fn: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> M:
        """
        Call *fn* unless the journal has its result; see ``Attempt.run``.
        """
        found: M = Run(journal_of(self._running), name, fn, args, kwargs, self._options).answer()
        return found
