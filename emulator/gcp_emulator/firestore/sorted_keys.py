"""
Tuples kept in order, in chunks, so that an insertion moves little however many there are.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from typing import Any

CHUNK = 512


class _Top:
    """
    Greater than any key; ends a range behind all entries with the same beginning.
    """

    def __lt__(self, _: object) -> bool:
        return False

    def __gt__(self, _: object) -> bool:
        return True

    def __le__(self, other: object) -> bool:
        return self is other

    def __ge__(self, _: object) -> bool:
        return True


TOP = _Top()


class SortedKeys:
    """
    A sorted set of tuples.

    A position is any tuple: entries less than it lie before it.
    """

    def __init__(self, keys: Iterable[tuple[Any, ...]] = ()) -> None:
        ordered = sorted(keys)
        self._chunks = [ordered[at : at + CHUNK] for at in range(0, len(ordered), CHUNK)]
        self._lasts = [chunk[-1] for chunk in self._chunks]

    def add(self, key: tuple[Any, ...]) -> None:
        """
        Add *key*, which is not yet there.
        """
        if not self._chunks:
            self._chunks.append([key])
            self._lasts.append(key)
            return
        at = min(bisect_left(self._lasts, key), len(self._chunks) - 1)
        chunk = self._chunks[at]
        insort(chunk, key)
        if len(chunk) > 2 * CHUNK:
            self._chunks[at : at + 1] = [chunk[:CHUNK], chunk[CHUNK:]]
            self._lasts[at : at + 1] = [chunk[CHUNK - 1], chunk[-1]]
        else:
            self._lasts[at] = chunk[-1]

    def remove(self, key: tuple[Any, ...]) -> None:
        """
        Remove *key*, which is there.
        """
        at = bisect_left(self._lasts, key)
        chunk = self._chunks[at]
        del chunk[bisect_left(chunk, key)]
        if chunk:
            self._lasts[at] = chunk[-1]
        else:
            del self._chunks[at], self._lasts[at]

    def count(self, low: tuple[Any, ...], high: tuple[Any, ...]) -> int:
        """
        Count the entries from position *low* up to position *high*.
        """
        (first, start), (last, end) = self._find(low), self._find(high)
        if (first, start) >= (last, end):
            return 0
        return sum(len(chunk) for chunk in self._chunks[first:last]) - start + end

    def between(
        self, low: tuple[Any, ...], high: tuple[Any, ...], *, descending: bool = False
    ) -> Iterator[tuple[Any, ...]]:
        """
        The entries from position *low* up to position *high*, in order; nothing may change meanwhile.
        """
        (first, start), (last, end) = self._find(low), self._find(high)
        if (first, start) >= (last, end):
            return
        numbers = range(first, min(last, len(self._chunks) - 1) + 1)
        for number in reversed(numbers) if descending else numbers:
            chunk = self._chunks[number]
            begin = start if number == first else 0
            stop = end if number == last else len(chunk)
            for at in range(stop - 1, begin - 1, -1) if descending else range(begin, stop):
                yield chunk[at]

    def _find(self, position: tuple[Any, ...]) -> tuple[int, int]:
        number = bisect_left(self._lasts, position)
        if number == len(self._chunks):
            return number, 0
        return number, bisect_left(self._chunks[number], position)
