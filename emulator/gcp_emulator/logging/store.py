"""
Log entries in memory, in the order in which they are listed.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from gcp_emulator.logging.messages import nanos

Position = tuple[int, str, int]


class Stored(NamedTuple):
    """
    One entry.

    Attributes:
        nanos: Its timestamp, nanoseconds since the epoch.
        insert_id: Orders entries of the same timestamp.
        number: Orders entries that share both; counts up.
        visible: When it can be listed, microseconds since the epoch.
        entry: The ``LogEntry``; never changed once stored.
    """

    nanos: int
    insert_id: str
    number: int
    visible: int
    entry: Any

    @property
    def position(self) -> Position:
        return self.nanos, self.insert_id, self.number


class Store:
    """
    Entries by parent (``projects/P``); safe for many threads.

    Beyond ``most`` entries of one parent the oldest tenth is forgotten, so that a server that runs for weeks stays
    small.
    """

    def __init__(self, most: int = 500_000) -> None:
        self.changed = threading.Condition()
        self._most = most
        self._number = 0
        self._known: set[tuple[str, int, str]] = set()
        self._parents: dict[str, list[Stored]] = {}
        self._observers: dict[object, Callable[[Stored], None]] = {}

    def observe(self, call: Callable[[Stored], None]) -> Callable[[], None]:
        """
        Have *call* told each new entry, in the writer's thread; it must not wait. Returns a function that ends that.
        """
        key = object()
        with self.changed:
            self._observers[key] = call

        def leave() -> None:
            with self.changed:
                self._observers.pop(key, None)

        return leave

    def add(self, entry: Any, visible: int) -> None:
        """
        Store *entry*, unless one with the same log name, timestamp and insert id is there.
        """
        parent = entry.log_name.partition("/logs/")[0]
        key = _key(entry)
        with self.changed:
            if key in self._known:
                return
            self._known.add(key)
            self._number += 1
            kept = self._parents.setdefault(parent, [])
            stored = Stored(key[1], entry.insert_id, self._number, visible, entry)
            insort(kept, stored)
            if len(kept) > self._most:
                forgotten = kept[: self._most // 10 + 1]
                del kept[: len(forgotten)]
                self._known.difference_update(_key(one.entry) for one in forgotten)
            self.changed.notify_all()
            for tell in self._observers.values():
                tell(stored)

    def between(self, parent: str | None, since: int, until: int) -> list[Stored]:
        """
        Entries with ``since <= timestamp <= until`` (nanoseconds), oldest first; of all parents for None.
        """
        found: list[Stored] = []
        with self.changed:
            for kept in self._parents.values() if parent is None else (self._parents.get(parent, []),):
                first = bisect_left(kept, since, key=lambda one: one.nanos)
                last = bisect_right(kept, until, key=lambda one: one.nanos)
                found.extend(kept[first:last])
        return found

    def everything(self) -> list[Any]:
        """
        Every entry, listable or not, by parent and time.
        """
        with self.changed:
            return [one.entry for kept in self._parents.values() for one in kept]

    def log_names(self, parents: Iterable[str], now: int) -> list[str]:
        """
        Names of the logs that have entries, sorted.
        """
        with self.changed:
            return sorted({one.entry.log_name for one in self._of(parents) if one.visible <= now})

    def delete_log(self, name: str) -> bool:
        """
        Forget a log's entries; whether there were any.
        """
        parent = name.partition("/logs/")[0]
        with self.changed:
            kept = self._parents.get(parent, [])
            gone = [one for one in kept if one.entry.log_name == name]
            self._parents[parent] = [one for one in kept if one.entry.log_name != name]
            self._known.difference_update(_key(one.entry) for one in gone)
            return bool(gone)

    def _of(self, parents: Iterable[str]) -> Iterator[Stored]:
        for parent in parents:
            yield from self._parents.get(parent, [])


def _key(entry: Any) -> tuple[str, int, str]:
    return entry.log_name, nanos(entry.timestamp), entry.insert_id
