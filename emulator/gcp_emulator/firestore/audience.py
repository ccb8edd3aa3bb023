"""
The listeners of a database, by the documents that concern each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TypeAlias

from gcp_emulator.firestore.store import EVERYTHING, Scope

Told: TypeAlias = Callable[[Collection[str]], None]
Interest: TypeAlias = str | Scope
"""
The path of a document, or the collections of a query.
"""


class Audience:
    """
    The listeners of one database, found by the documents and collections that each is interested in.
    """

    def __init__(self) -> None:
        self._told: dict[Interest, dict[Told, None]] = {}

    def add(self, told: Told, interests: Iterable[Interest]) -> Callable[[], None]:
        """
        Call *told* after each commit that concerns one of *interests*, with the paths of those documents; returns a function
        that ends that.
        """
        keys = tuple(interests)
        for key in keys:
            self._told.setdefault(key, {})[told] = None

        def leave() -> None:
            for key in keys:
                others = self._told.get(key, {})
                others.pop(told, None)
                if not others:
                    self._told.pop(key, None)

        return leave

    def tell(self, paths: Iterable[str]) -> None:
        """
        Tell those concerned that the documents at *paths* were written.
        """
        if not self._told:
            return
        concerned: dict[Told, list[str]] = {}
        for path in paths:
            parent = path.rpartition("/")[0]
            scopes = (Scope(parent, group=False), Scope(parent.rpartition("/")[2], group=True), EVERYTHING)
            for told in {told: None for key in (path, *scopes) for told in self._told.get(key, ())}:
                concerned.setdefault(told, []).append(path)
        for told, found in concerned.items():
            told(found)
