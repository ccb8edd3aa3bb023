"""
Structured queries: read into plain data, and what isn't done rightly refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import grpc

from gcp_emulator.firestore.filters import Conjunct, Filters, Range, name_key, read_filters
from gcp_emulator.firestore.messages import AnyQuery, StructuredQuery
from gcp_emulator.firestore.paths import (
    NAME,
    FieldPath,
    Segments,
    check_collection,
    database_of,
    field_path,
    invalid,
    parent_segments,
)
from gcp_emulator.firestore.sorted_keys import TOP
from gcp_emulator.firestore.store import Scope
from gcp_emulator.firestore.values import Key, sort_key
from gcp_emulator.rpc import RpcError, unimplemented

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
class Query:
    """
    A query that this server answers.

    Attributes:
        scope: Collection or group.
        parent: Ids of the document that the results descend from.
        conjuncts: Filters; a result satisfies at least one.
        orders: Every order, implied ones included; the last one is by name.
        limit: At most so many results; None for all.
        projection: Fields to return; None for all.
    """

    scope: Scope
    parent: Segments
    conjuncts: tuple[Conjunct, ...]
    orders: tuple[Order, ...]
    start: Cursor | None
    end: Cursor | None
    offset: int
    limit: int | None
    projection: list[FieldPath] | None

    def having(self, paths: Iterable[FieldPath]) -> Query:
        """
        The same among documents that have all fields at *paths*.
        """
        there = tuple(Range(path, (), (TOP,)) for path in paths)
        return replace(self, conjuncts=tuple(replace(each, ranges=(*each.ranges, *there)) for each in self.conjuncts))


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
    filters = read_filters(message.where, database) if message.HasField("where") else Filters()
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
        conjuncts=filters.conjuncts,
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


def _orders(message: AnyQuery, filters: Filters) -> tuple[Order, ...]:
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
    implied = [path for path in filters.inequalities if path not in paths and path != NAME]
    if implied and NAME in paths:
        raise invalid("order by clause cannot contain more fields after the key")
    orders.extend(Order(path, descending) for path in implied)
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
