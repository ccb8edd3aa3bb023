"""
Gather entries from several threads of a process, so that one of them writes all: the others need not take turns at the same
document.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Generic, TypeVar

from gcp_oncetask import forks

T = TypeVar("T")


class Brought(Generic[T]):
    """
    An entry that a thread has brought.

    Attributes:
        thing: Its contents.
        first: Whether the thread that brought it must write all entries of its name.
        written: Whether it was written. False, too, while that is not known.
    """

    def __init__(self, thing: T, *, first: bool) -> None:
        self.thing = thing
        self.first = first
        self.written = False
        self._over = threading.Event()

    def wait(self) -> bool:
        """
        Wait until another thread has written the entry or has failed to; return whether it was written.
        """
        self._over.wait()
        return self.written

    def end(self, *, written: bool) -> None:
        """
        Let the thread that brought the entry go on.
        """
        self.written = written
        self._over.set()


class Gathering(Generic[T]):
    """
    Entries that wait to be written, by name. A forked child begins with none; its parent writes those of the parent.
    """

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._forks = forks.generation
        self._guard = threading.Lock()
        self._brought: dict[str, list[Brought[T]]] = {}

    def bring(self, name: str, thing: T) -> Brought[T]:
        """
        Add *thing* to the entries of *name*. If the new entry is the first one, the caller must write these entries, by
        ``take`` until it returns none, and end each of them. Otherwise the caller must wait for the entry.
        """
        if self._forks != forks.generation:
            self._start()
        with self._guard:
            entry = Brought(thing, first=name not in self._brought)
            self._brought.setdefault(name, []).append(entry)
            return entry

    def take(self, name: str) -> list[Brought[T]]:
        """
        Return the entries that were added since the last call; empty: there are none, and the caller need not write more.
        """
        with self._guard:
            found, self._brought[name] = self._brought[name], []
            if not found:
                del self._brought[name]
            return found

    def leave(self, name: str, taken: Iterable[Brought[T]]) -> None:
        """
        Let the caller stop writing: the entries that were not taken, and those of *taken*, are ended as not written.
        """
        with self._guard:
            left = self._brought.pop(name, [])
        for entry in (*taken, *left):
            entry.end(written=False)
