"""
Find queries that production would refuse because an index is missing.

Google's emulator answers every query, so it can't show that an index file is complete; this can.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from gcp_emulator.firestore.filters import Conjunct
from gcp_emulator.firestore.messages import AnyDocument, AnyValue
from gcp_emulator.firestore.paths import NAME, FieldPath, field_path, invalid, name_size, path_size
from gcp_emulator.firestore.query import Query
from gcp_emulator.firestore.values import is_vector, value_size
from gcp_emulator.rpc import RpcError

_ASCENDING, _DESCENDING, _CONTAINS = "ASCENDING", "DESCENDING", "CONTAINS"
_COLLECTION, _GROUP = "COLLECTION", "COLLECTION_GROUP"
_AUTOMATIC = frozenset({(_COLLECTION, kind) for kind in (_ASCENDING, _DESCENDING, _CONTAINS)})
Part = tuple[FieldPath, str]
ENTRIES = 40_000
ENTRIES_BYTES = 8 * 1024 * 1024
INDEXED_BYTES = 1500
"""
Bytes of a value that an index keeps; a longer value is cut.
"""


@dataclass(frozen=True, slots=True)
class Composite:
    """
    A composite index.

    Attributes:
        group: Id of its collections.
        scope: ``COLLECTION`` or ``COLLECTION_GROUP``.
        parts: Fields, each with ``ASCENDING``, ``DESCENDING`` or ``CONTAINS``; the name only where it is not implied.
    """

    group: str
    scope: str
    parts: tuple[Part, ...]


class IndexCheck:
    """
    The indexes of one ``firestore.indexes.json``, and the automatic ones that it does not switch off.

    Source: Firestore's documentation: index types, index merging, exemptions (an exempted map exempts its fields).

    Attributes:
        ttl: Collection group -> field at whose time its documents expire.
    """

    def __init__(
        self,
        composites: tuple[Composite, ...],
        overrides: dict[tuple[str, FieldPath], frozenset[tuple[str, str]]],
        ttl: dict[str, FieldPath],
    ) -> None:
        self._composites = composites
        self._overrides = overrides
        self.ttl = ttl

    @classmethod
    def from_json(cls, text: str) -> IndexCheck:
        """
        Read the file as firebase-tools does.

        Raises:
            ValueError: It is not such a file; the message says where.
        """
        try:
            data = json.loads(text)
            composites = tuple(_composite(each) for each in data.get("indexes", []))
            overrides = {
                (each["collectionGroup"], _path(each["fieldPath"])): frozenset(
                    (one.get("queryScope", _COLLECTION), _kind(one)) for one in each.get("indexes", [])
                )
                for each in data.get("fieldOverrides", [])
            }
            ttl = {
                each["collectionGroup"]: _path(each["fieldPath"])
                for each in data.get("fieldOverrides", [])
                if each.get("ttl")
            }
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"This is no firestore.indexes.json: {error!r}.") from None
        return cls(composites, overrides, ttl)

    def check(self, query: Query) -> None:
        """
        Refuse *query* if an index is missing.

        Raises:
            RpcError: FAILED_PRECONDITION, with the index to be added.
        """
        group = query.scope.collection.rpartition("/")[2]
        scope = _GROUP if query.scope.group else _COLLECTION
        for conjunct in query.conjuncts:
            missing = self._missing(query, conjunct, group, scope)
            if missing is not None:
                raise RpcError(grpc.StatusCode.FAILED_PRECONDITION, f"The query requires an index. Add: {missing}")

    def check_entries(self, document: AnyDocument) -> None:
        """
        Refuse a document that would have too many index entries, or too large ones.

        Raises:
            RpcError: INVALID_ARGUMENT.
        """
        segments = tuple(document.name.split("/")[5:])
        # No entry comes of less than four bytes of a document, and none holds more than its names and two cut texts.
        most = document.ByteSize() // 4 * (2 + len(self._composites))
        if most <= ENTRIES and most * (2 * name_size(segments) + 2 * INDEXED_BYTES + 48) <= ENTRIES_BYTES:
            return
        count, size = self.entries(document)
        if count > ENTRIES:
            raise invalid(f"too many index entries for {document.name}: {count}; at most {ENTRIES} are supported.")
        if size > ENTRIES_BYTES:
            raise invalid(f"the index entries of {document.name} take {size} bytes; at most {ENTRIES_BYTES} may.")

    def entries(self, document: AnyDocument) -> tuple[int, int]:
        """
        Index entries that *document* has: how many, and their bytes.

        Source:
            Firestore, Understand storage size calculations: index entry size.
        """
        segments = tuple(document.name.split("/")[5:])
        group, name = segments[-2], name_size(segments)
        fixed = {_COLLECTION: name + (name_size(segments[:-2]) if segments[:-2] else 0) + 32, _GROUP: name + 48}
        count = size = 0
        leaves = dict(_leaves(document.fields, ()))
        for path, value in leaves.items():
            for scope, kind in self._single(group, path):
                values = _indexed(value, kind)
                count += len(values)
                size += len(values) * (fixed[scope] + path_size(path) + 1) + sum(values)
        fixed[_GROUP] = name + 32
        for each in self._composites:
            if each.group != group or not all(path in leaves or path == NAME for path, _ in each.parts):
                continue
            parts = [_indexed(leaves[path], kind) if path != NAME else [0] for path, kind in each.parts]
            combined = math.prod(len(part) for part in parts)
            count += combined
            size += combined * fixed[each.scope] + sum(sum(part) * combined // len(part) for part in parts if part)
        return count, size

    def _single(self, group: str, path: FieldPath) -> frozenset[tuple[str, str]]:
        # The setting of the nearest field above counts; "*" is every field.
        for depth in range(len(path), 0, -1):
            if (group, path[:depth]) in self._overrides:
                return self._overrides[group, path[:depth]]
        return self._overrides.get((group, ("*",)), _AUTOMATIC)

    def _missing(self, query: Query, conjunct: Conjunct, group: str, scope: str) -> str | None:
        arrays = {each.path for each in conjunct.ranges if each.array}
        equal: dict[FieldPath, str] = {path: _ASCENDING for path in conjunct.equal if path != NAME}
        equal.update((path, _CONTAINS) for path in arrays)
        ordered = _ordered(query, conjunct)
        if not equal and not ordered:
            return None
        if not ordered:
            return self._missing_merge(equal, group, scope)
        if not equal and len(ordered) == 1:
            path = ordered[0][0]
            if {(scope, _ASCENDING), (scope, _DESCENDING)} & self._single(group, path):
                return None
        covered = False
        reached: set[FieldPath] = set()
        for parts in self._parts(group, scope):
            prefix, suffix = parts[: -len(ordered)], parts[-len(ordered) :]
            if suffix in (ordered, _flipped(ordered)) and all(equal.get(path) == _plain(kind) for path, kind in prefix):
                covered = True
                reached.update(path for path, _ in prefix)
        if covered and reached == set(equal):
            return None
        return _wanted(group, scope, (*sorted(equal.items()), *ordered))

    def _missing_merge(self, equal: dict[FieldPath, str], group: str, scope: str) -> str | None:
        """
        A query with equalities alone is served by merging any indexes that have these fields.
        """
        for path, kind in equal.items():
            if any(s == scope and _plain(k) == kind for s, k in self._single(group, path)):
                continue
            helping = (
                parts
                for parts in self._parts(group, scope)
                if (path in dict(parts)) and all(equal.get(p) == _plain(k) for p, k in parts)
            )
            if next(helping, None) is None:
                return _wanted(group, scope, tuple(sorted(equal.items())))
        return None

    def _parts(self, group: str, scope: str) -> Iterator[tuple[Part, ...]]:
        return (each.parts for each in self._composites if (each.group, each.scope) == (group, scope))


AUTOMATIC = IndexCheck((), {}, {})
"""
The indexes of a database without an index file.
"""


def _ordered(query: Query, conjunct: Conjunct) -> tuple[Part, ...]:
    """
    Return the end that an index must have: the orders, and the fields with filters other than equality.
    """
    parts = [
        (order.path, _DESCENDING if order.descending else _ASCENDING)
        for order in query.orders
        if order.path != NAME and order.path not in conjunct.equal
    ]
    known = {path for path, _ in parts}
    others = {each.path for each in conjunct.ranges if not each.array} - conjunct.equal - known - {NAME}
    parts.extend((path, _ASCENDING) for path in sorted(others))
    name = _DESCENDING if query.orders[-1].descending else _ASCENDING
    if parts and parts[-1][1] != name:
        parts.append((NAME, name))
    return tuple(parts)


def _flipped(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    other = {_ASCENDING: _DESCENDING, _DESCENDING: _ASCENDING}
    return tuple((path, other.get(kind, kind)) for path, kind in parts)


def _plain(kind: str) -> str:
    # An equality does not care in which direction it is indexed.
    return _CONTAINS if kind == _CONTAINS else _ASCENDING


def _wanted(group: str, scope: str, parts: tuple[Part, ...]) -> str:
    fields = [
        {"fieldPath": ".".join(path), **({"arrayConfig": kind} if kind == _CONTAINS else {"order": kind})}
        for path, kind in parts
    ]
    return json.dumps({"collectionGroup": group, "queryScope": scope, "fields": fields})


def _composite(data: dict[str, Any]) -> Composite:
    parts = [(_path(each["fieldPath"]), _kind(each)) for each in data["fields"]]
    if parts and parts[-1][0] == NAME and (len(parts) == 1 or parts[-1][1] == parts[-2][1]):
        parts.pop()
    return Composite(data["collectionGroup"], data.get("queryScope", _COLLECTION), tuple(parts))


def _kind(data: dict[str, Any]) -> str:
    if "arrayConfig" in data:
        return _CONTAINS
    order = str(data.get("order", _ASCENDING)).upper()
    if order not in (_ASCENDING, _DESCENDING):
        raise ValueError(f"An index's order is ASCENDING or DESCENDING, not {order}.")
    return order


def _path(text: str) -> FieldPath:
    return ("*",) if text == "*" else field_path(text)


def _indexed(value: AnyValue, kind: str) -> list[int]:
    """
    Bytes of each value that an index of *kind* has of this one.
    """
    if kind != _CONTAINS:
        return [min(value_size(value), INDEXED_BYTES)]
    if value.WhichOneof("value_type") != "array_value":
        return []
    return [min(value_size(each), INDEXED_BYTES) for each in value.array_value.values]


def _leaves(fields: Any, above: FieldPath) -> Iterator[tuple[FieldPath, AnyValue]]:
    for name in fields:
        value = fields[name]
        inner = value.map_value.fields if value.WhichOneof("value_type") == "map_value" else None
        if inner and not is_vector(inner):
            yield from _leaves(inner, (*above, name))
        else:
            yield (*above, name), value
