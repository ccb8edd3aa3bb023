"""
Gather entries from several threads of a process, so that one of them writes all: the others need not wait for their turn at
the same document.
"""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

from gcp_oncetask import forks

T = TypeVar("T")


class Gathering(Generic[T]):
    """
    Entries that wait to be written, by name. A forked child begins with none; its parent writes those of the parent.
    """

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._forks = forks.generation
        self._guard = threading.Lock()
        self._brought: dict[str, list[T]] = {}

    def bring(self, name: str, thing: T) -> bool:
        """
        Add *thing* to the entries of *name*. Return True if the caller must write these entries, by ``take`` until it
        returns none; False if another thread writes them.
        """
        if self._forks != forks.generation:
            self._start()
        with self._guard:
            first = name not in self._brought
            self._brought.setdefault(name, []).append(thing)
            return first

    def take(self, name: str) -> list[T]:
        """
        Return the entries that were added since the last call; empty: there are none, and the caller need not write more.
        """
        with self._guard:
            found, self._brought[name] = self._brought[name], []
            if not found:
                del self._brought[name]
            return found

    def leave(self, name: str) -> None:
        """
        Let the caller stop writing; entries that were not taken are lost.
        """
        with self._guard:
            self._brought.pop(name, None)
