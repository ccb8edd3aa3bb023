"""
What several threads of a process bring, written by one of them: the others need not wait for their turn at the same document.
"""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

from gcp_oncetask import forks

T = TypeVar("T")


class Gathering(Generic[T]):
    """
    Things that wait to be written, by name. A forked child begins anew: what was brought to its parent is the parent's.
    """

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._forks = forks.generation
        self._guard = threading.Lock()
        self._brought: dict[str, list[T]] = {}

    def bring(self, name: str, thing: T) -> bool:
        """
        Returns whether the caller is to write what is brought for *name*, by ``take`` until nothing is left; False: another
        one does.
        """
        if self._forks != forks.generation:
            self._start()
        with self._guard:
            first = name not in self._brought
            self._brought.setdefault(name, []).append(thing)
            return first

    def take(self, name: str) -> list[T]:
        """
        What was brought since; empty: nothing, and the caller's part is over.
        """
        with self._guard:
            found, self._brought[name] = self._brought[name], []
            if not found:
                del self._brought[name]
            return found

    def leave(self, name: str) -> None:
        """
        The caller writes no more; what it has not taken is lost.
        """
        with self._guard:
            self._brought.pop(name, None)
