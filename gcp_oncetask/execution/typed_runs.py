"""
The words of a durable handler, with the types that a type checker follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload

from gcp_oncetask.execution.durable_runs import Run, RunOptions
from gcp_oncetask.execution.journaling import journal_of
from gcp_oncetask.execution.mapping import CONCURRENCY, ItemFailure, Mapping
from gcp_oncetask.execution.running import RunningAttempt

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M")
I = TypeVar("I")  # noqa: E741 - an item


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

    @overload
    def map(
        self,
        name: str,
        fn: Callable[[I], R],
        items: Iterable[I],
        *,
        key: Callable[[I], Any] | None = None,
        concurrency: int = CONCURRENCY,
        tolerate: Literal[0] = 0,
    ) -> list[R]: ...
    @overload
    def map(
        self,
        name: str,
        fn: Callable[[I], R],
        items: Iterable[I],
        *,
        key: Callable[[I], Any] | None = None,
        concurrency: int = CONCURRENCY,
        tolerate: int,
    ) -> list[R | ItemFailure]: ...
    def map(
        self,
        name: str,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        key: Callable[[Any], Any] | None = None,
        concurrency: int = CONCURRENCY,
        tolerate: int = 0,
    ) -> Any:
        """
        Call *fn* for each item that has no result in the journal; see ``Attempt.map``.
        """
        return Mapping(
            journal_of(self._running),
            name,
            fn,
            items,
            self._options,
            key=key,
            concurrency=concurrency,
            tolerate=tolerate,
        ).answer()


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

    @overload
    def map(
        self,
        name: str,
        fn: Callable[[I], Any],
        items: Iterable[I],
        *,
        key: Callable[[I], Any] | None = None,
        concurrency: int = CONCURRENCY,
        tolerate: Literal[0] = 0,
    ) -> list[M]: ...
    @overload
    def map(
        self,
        name: str,
        fn: Callable[[I], Any],
        items: Iterable[I],
        *,
        key: Callable[[I], Any] | None = None,
        concurrency: int = CONCURRENCY,
        tolerate: int,
    ) -> list[M | ItemFailure]: ...
    def map(
        self,
        name: str,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        key: Callable[[Any], Any] | None = None,
        concurrency: int = CONCURRENCY,
        tolerate: int = 0,
    ) -> Any:
        """
        Call *fn* for each item that has no result in the journal; see ``Attempt.map``.
        """
        return Mapping(
            journal_of(self._running),
            name,
            fn,
            items,
            self._options,
            key=key,
            concurrency=concurrency,
            tolerate=tolerate,
        ).answer()
