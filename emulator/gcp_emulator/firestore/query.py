"""
Structured queries: read into plain data, and what isn't done rightly refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc

from gcp_emulator.firestore.messages import AnyQuery, AnyValue, StructuredQuery
from gcp_emulator.firestore.paths import (
    NAME,
    FieldPath,
    Segments,
    check_collection,
    database_of,
    document_segments,
    field_path,
    invalid,
    parent_segments,
)
from gcp_emulator.firestore.sorted_keys import TOP
from gcp_emulator.firestore.store import Scope
from gcp_emulator.firestore.values import NAN, NULL, Key, sort_key, type_range
from gcp_emulator.rpc import RpcError, unimplemented

Position = tuple[Any, ...]

_OPERATORS = StructuredQuery.FieldFilter.Operator
_UNARY = StructuredQuery.UnaryFilter.Operator
_DESCENDING = StructuredQuery.Direction.Value("DESCENDING")


@dataclass(frozen=True, slots=True)
class Order:
    path: FieldPath
    descending: bool


@dataclass(frozen=True, slots=True)
class Cursor:
    """
    A place in the results: keys for the first orders, and whether it lies before or behind what has them.
    """

    keys: tuple[Key, ...]
    before: bool


@dataclass(frozen=True, slots=True)
class Range:
    """
    Filters on one field as positions in its index.
    """

    path: FieldPath
    low: Position
    high: Position


@dataclass(frozen=True, slots=True)
class Query:
    """
    A query that this server answers.

    Attributes:
        scope: Collection or group.
        parent: Ids of the document that the results descend from.
        ranges: What each filtered field must lie in; equalities are ranges of one key.
        equal: The fields with an equality.
        orders: Every order, implied ones included; the last one is by name.
        limit: At most so many results; None for all.
        projection: Fields to return; None for all.
    """

    scope: Scope
    parent: Segments
    ranges: tuple[Range, ...]
    equal: frozenset[FieldPath]
    orders: tuple[Order, ...]
    start: Cursor | None
    end: Cursor | None
    offset: int
    limit: int | None
    projection: list[FieldPath] | None


def read_query(message: AnyQuery, parent: str) -> tuple[str, Query]:
    """
    The database and the query that *message* asks for below the resource *parent*.

    Raises:
        RpcError: Wrong in itself (INVALID_ARGUMENT), or right but not done here (UNIMPLEMENTED).
    """
    database = database_of(parent, "Document parent")
    segments = parent_segments(parent, database)
    if message.HasField("find_nearest"):
        raise unimplemented("find_nearest")
    scope = _scope(message, segments)
    filters = _Filters(database)
    if message.HasField("where"):
        filters.add(message.where)
    orders = _orders(message, filters)
    if message.offset < 0:
        raise invalid("offset is negative")
    limit = message.limit.value if message.HasField("limit") else None
    if limit is not None and limit < 0:
        raise invalid("limit is negative")
    projection = None
    if message.HasField("select"):
        projection = [field_path(field.field_path) for field in message.select.fields]
    return database, Query(
        scope=scope,
        parent=segments,
        ranges=tuple(filters.ranges()),
        equal=frozenset(path for path, _ in filters.equalities),
        orders=orders,
        start=_cursor(message, "start_at", orders, database),
        end=_cursor(message, "end_at", orders, database),
        offset=message.offset,
        limit=limit,
        projection=projection,
    )


def _scope(message: AnyQuery, parent: Segments) -> Scope:
    if len(message.from_) != 1:
        raise unimplemented("A query that isn't over exactly one collection selector")
    selector = message.from_[0]
    if not selector.collection_id:
        raise unimplemented("A query without a collection id")
    check_collection(selector.collection_id)
    if selector.all_descendants:
        return Scope(selector.collection_id, group=True)
    return Scope("/".join((*parent, selector.collection_id)), group=False)


class _Filters:
    def __init__(self, database: str) -> None:
        self._database = database
        self.equalities: list[tuple[FieldPath, Key]] = []
        self.bounded: FieldPath | None = None
        self._lows: list[Position] = []
        self._highs: list[Position] = []

    def add(self, message: AnyQuery) -> None:
        match message.WhichOneof("filter_type"):
            case "composite_filter":
                composite = message.composite_filter
                if composite.op != StructuredQuery.CompositeFilter.AND:
                    raise unimplemented("A composite filter other than AND")
                for inner in composite.filters:
                    self.add(inner)
            case "field_filter":
                self._add_field(message.field_filter)
            case "unary_filter":
                self._add_unary(message.unary_filter)
            case _:
                raise invalid("A filter must be a composite, field or unary filter.")

    def ranges(self) -> list[Range]:
        ranges = [Range(path, (key,), (key, TOP)) for path, key in self.equalities]
        if self.bounded is not None:
            ranges.append(Range(self.bounded, max(self._lows), min(self._highs)))
        return ranges

    def _add_field(self, message: AnyQuery) -> None:
        operator = _name(_OPERATORS, message.op)
        if operator in ("OPERATOR_UNSPECIFIED", ""):
            raise invalid("Unknown FieldFilter operator.")
        if operator not in ("EQUAL", "LESS_THAN", "LESS_THAN_OR_EQUAL", "GREATER_THAN", "GREATER_THAN_OR_EQUAL"):
            raise unimplemented(f"The filter operator {operator}")
        path = field_path(message.field.field_path)
        key = name_key(message.value, self._database) if path == NAME else _filter_key(message.value)
        if operator == "EQUAL":
            self.equalities.append((path, key))
            return
        if self.bounded not in (None, path):
            raise unimplemented("A query with range filters on more than one field")
        self.bounded = path
        if path == NAME:
            first: Position = ()
            after: Position = (TOP,)
        else:
            lowest, behind = type_range(key)
            first, after = (lowest,), (behind,)
        self._lows.append({"GREATER_THAN": (key, TOP), "GREATER_THAN_OR_EQUAL": (key,)}.get(operator, first))
        self._highs.append({"LESS_THAN": (key,), "LESS_THAN_OR_EQUAL": (key, TOP)}.get(operator, after))

    def _add_unary(self, message: AnyQuery) -> None:
        operator = _name(_UNARY, message.op)
        path = field_path(message.field.field_path)
        if operator not in ("IS_NULL", "IS_NAN"):
            raise unimplemented(f"The filter operator {operator}")
        self.equalities.append((path, NULL if operator == "IS_NULL" else NAN))


def _name(enum: Any, number: int) -> str:
    return str(enum.Name(number)) if number in enum.values() else ""


def _filter_key(value: AnyValue) -> Key:
    if value.WhichOneof("value_type") is None:
        raise invalid("A filter's value must be set.")
    key = sort_key(value)
    if key in (NULL, NAN):
        raise unimplemented("A field filter on null or NaN (use IS_NULL or IS_NAN)")
    return key


def name_key(value: AnyValue, database: str) -> Key:
    """
    What a document with the name *value* sorts by.
    """
    if value.WhichOneof("value_type") != "reference_value":
        raise invalid("__key__ filter value must be a Key")
    return document_segments(value.reference_value, database, "Resource")


def _orders(message: AnyQuery, filters: _Filters) -> tuple[Order, ...]:
    orders: list[Order] = []
    for order in message.order_by:
        path = field_path(order.field.field_path)
        if any(path == earlier.path for earlier in orders):
            raise invalid(f"order by clause cannot contain duplicate fields {order.field.field_path}")
        if orders and orders[-1].path == NAME:
            raise invalid("order by clause cannot contain more fields after the key")
        orders.append(Order(path, order.direction == _DESCENDING))
    descending = orders[-1].descending if orders else False
    paths = [order.path for order in orders]
    if filters.bounded is not None and filters.bounded not in paths and filters.bounded != NAME:
        if NAME in paths:
            raise invalid("order by clause cannot contain more fields after the key")
        orders.append(Order(filters.bounded, descending))
    if NAME not in paths:
        orders.append(Order(NAME, descending))
    elif len(orders) == 1 and descending and not message.HasField("where"):
        raise RpcError(grpc.StatusCode.FAILED_PRECONDITION, "Firestore does not support descending key scans")
    return tuple(orders)


def _cursor(message: AnyQuery, name: str, orders: tuple[Order, ...], database: str) -> Cursor | None:
    if not message.HasField(name):
        return None
    cursor = getattr(message, name)
    if len(cursor.values) > len(message.order_by):
        raise invalid("Cursor has too many values.")
    if not cursor.values:
        raise unimplemented("A cursor without values")
    keys = []
    for order, value in zip(orders, cursor.values, strict=False):
        if value.WhichOneof("value_type") is None:
            raise invalid("A cursor's values must be set.")
        if order.path != NAME:
            keys.append(sort_key(value))
        elif value.WhichOneof("value_type") != "reference_value":
            raise invalid("Cursor __key__ value is not a document reference.")
        else:
            keys.append(name_key(value, database))
    return Cursor(tuple(keys), cursor.before)
