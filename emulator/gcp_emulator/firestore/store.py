"""
The documents of one database and the indexes over them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gcp_emulator.firestore.paths import NAME, FieldPath
from gcp_emulator.firestore.sorted_keys import SortedKeys
from gcp_emulator.firestore.values import Key, find, sort_key
from gcp_emulator.firestore.writes import Stored


class Scope(NamedTuple):
    """
    The collections of a query.

    Attributes:
        collection: Path of a collection, or the id that the collections of a group share; empty for all collections.
        group: Whether it is a group.
    """

    collection: str
    group: bool

    def holds(self, path: str) -> bool:
        """
        Tell whether the collection at *path* is part of the scope.
        """
        if not self.group:
            return path == self.collection
        return self.collection in ("", path.rpartition("/")[2])


EVERYTHING = Scope("", group=True)


def field_key(stored: Stored, path: FieldPath) -> Key | None:
    """
    Return the key by which *stored* sorts at *path*; None if it has no such field.
    """
    if path == NAME:
        return stored.segments
    value = find(stored.document.fields, path)
    return None if value is None else sort_key(value)


class Store:
    """
    Documents by collection, and an index per scope and field, built when a query first asks for it.

    An index holds ``(key, segments)`` of every document that has the field; one of a field's elements, of every element.
    """

    def __init__(self) -> None:
        self._collections: dict[str, dict[str, Stored]] = {}
        self._indexes: dict[Scope, dict[tuple[FieldPath, bool], SortedKeys]] = {}

    def get(self, path: str) -> Stored | None:
        """
        The document at *path*.
        """
        collection = self._collections.get(path.rpartition("/")[0])
        return None if collection is None else collection.get(path)

    def put(self, path: str, stored: Stored | None) -> None:
        """
        Store a version of the document at *path*, or delete it with None.
        """
        parent = path.rpartition("/")[0]
        collection = self._collections.get(parent)
        if collection is None:
            collection = self._collections[parent] = {}
        before = collection.get(path)
        if stored is None:
            collection.pop(path, None)
            if not collection:
                del self._collections[parent]
        else:
            collection[path] = stored
        for scope in (Scope(parent, group=False), Scope(parent.rpartition("/")[2], group=True), EVERYTHING):
            for field, index in self._indexes.get(scope, {}).items():
                _move(index, field, before, stored)

    def all(self) -> Iterator[Stored]:
        """
        Every document.
        """
        for collection in self._collections.values():
            yield from collection.values()

    def collections(self) -> Iterator[str]:
        """
        Paths of the collections that have documents.
        """
        yield from self._collections

    def in_collection(self, path: str) -> Iterator[Stored]:
        """
        The documents of the collection at *path*, in no particular order.
        """
        yield from self._collections.get(path, {}).values()

    def within(self, scope: Scope) -> Iterator[Stored]:
        """
        Every document of *scope*, in no particular order.
        """
        if not scope.group:
            yield from self._collections.get(scope.collection, {}).values()
            return
        for path, collection in self._collections.items():
            if scope.holds(path):
                yield from collection.values()

    def index(self, scope: Scope, field: FieldPath, *, array: bool = False) -> SortedKeys:
        """
        The index of *field*, or of its elements, over *scope*.
        """
        fields = self._indexes.setdefault(scope, {})
        index = fields.get((field, array))
        if index is None:
            index = fields[field, array] = SortedKeys(
                (key, stored.segments) for stored in self.within(scope) for key in _keys(stored, field, array)
            )
        return index


def element_keys(stored: Stored, path: FieldPath) -> set[Key]:
    """
    Return the keys by which the elements of the array at *path* sort; none if it is no array.
    """
    value = find(stored.document.fields, path)
    if value is None or value.WhichOneof("value_type") != "array_value":
        return set()
    return {sort_key(element) for element in value.array_value.values}


def _keys(stored: Stored | None, field: FieldPath, array: bool) -> set[Key]:
    if stored is None:
        return set()
    if array:
        return element_keys(stored, field)
    key = field_key(stored, field)
    return set() if key is None else {key}


def _move(index: SortedKeys, field: tuple[FieldPath, bool], before: Stored | None, after: Stored | None) -> None:
    old, new = _keys(before, *field), _keys(after, *field)
    for key in old - new:
        assert before is not None
        index.remove((key, before.segments))
    for key in new - old:
        assert after is not None
        index.add((key, after.segments))
