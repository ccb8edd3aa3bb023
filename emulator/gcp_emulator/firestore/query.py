"""
Read structured queries into plain data; queries that this server can't answer correctly are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

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
from gcp_emulator.firestore.store import EVERYTHING, Scope
from gcp_emulator.firestore.values import Key, sort_key
from gcp_emulator.rpc import RpcError, unimplemented

MAX_PARTS = 100
_DESCENDING = StructuredQuery.Direction.Value("DESCENDING")


class Order(NamedTuple):
    path: FieldPath
    descending: bool


class Cursor(NamedTuple):
    """
    A place in the results: keys for the first orders, and whether the place is before or behind the results with these
    keys.
    """

    keys: tuple[Key, ...]
    before: bool


class Query(NamedTuple):
    """
    A query that this server answers.

    Attributes:
        scope: Collection, group, or everything.
        depth: Number of ids in the results' paths; None if the scope or the filters determine it.
        conjuncts: Filters; a result satisfies at least one.
        orders: Every order, implied ones included; the last one is by name.
        limit: At most so many results; None for all.
        projection: Fields to return; None for all.
        named: Whether it filters or orders by name itself.
    """

    scope: Scope
    depth: int | None
    conjuncts: tuple[Conjunct, ...]
    orders: tuple[Order, ...]
    start: Cursor | None
    end: Cursor | None
    offset: int
    limit: int | None
    projection: tuple[FieldPath, ...] | None
    named: bool = False

    def having(self, paths: Iterable[FieldPath]) -> Query:
        """
        The same among documents that have all fields at *paths*, which also order the results, before their names.

        Raises:
            RpcError: INVALID_ARGUMENT: the query orders by name already, or it has a projection.
        """
        paths = list(paths)
        if paths and self.projection is not None:
            _refuse_projection(self.projection, paths)
        wanted = sorted(set(paths) - {order.path for order in self.orders})
        if wanted and self.named:
            raise invalid(
                f"This query requires an index that has fields [{', '.join(map('.'.join, wanted))}] after __name__ and "
                "Firestore does not currently support such an index. Please try the query again with additional ordering "
                "on those fields."
            )
        return self._replace(
            conjuncts=_narrowed(self.conjuncts, *(Range(path, (), (TOP,)) for path in paths)),
            orders=(*self.orders[:-1], *(Order(path, self.orders[-1].descending) for path in wanted), self.orders[-1]),
        )


def read_query(message: AnyQuery, parent: str) -> tuple[str, Query]:
    """
    The database and the query that *message* asks for below the resource *parent*.

    Raises:
        RpcError: Wrong in itself (INVALID_ARGUMENT), or right but not done here (UNIMPLEMENTED).
    """
    return _read(message.SerializeToString(deterministic=True), parent)


@lru_cache(maxsize=256)
def _read(contents: bytes, parent: str) -> tuple[str, Query]:
    # Programs that look for work send the same query again and again.
    message: AnyQuery = StructuredQuery.FromString(contents)
    database = database_of(parent, "Document parent")
    segments = parent_segments(parent, database)
    if message.HasField("find_nearest"):
        raise unimplemented("find_nearest")
    scope = _scope(message, segments)
    # A request with several faults is refused for the one that Google's emulator finds first.
    projection = None
    if message.HasField("select"):
        projection = tuple(field_path(field.field_path) for field in message.select.fields)
    filters = read_filters(message.where, database) if message.HasField("where") else Filters()
    paths = [field_path(order.field.field_path) for order in message.order_by]
    start, end = (_cursor(message, name, paths, database) for name in ("start_at", "end_at"))
    if message.offset < 0:
        raise invalid("offset is negative")
    limit = message.limit.value if message.HasField("limit") else None
    if limit is not None and limit < 0:
        raise invalid("limit is negative")
    _check_scope(message, scope, segments, filters)
    _check_count(message, segments, filters)
    orders = _orders(message, filters)
    conjuncts = filters.conjuncts
    if scope.group and segments:
        conjuncts = _narrowed(conjuncts, Range(NAME, (segments, TOP), ((*segments, TOP),)))
    return database, Query(
        scope=scope,
        depth=len(segments) + 2 if scope == EVERYTHING and not _selects_descendants(message) else None,
        conjuncts=conjuncts,
        orders=orders,
        start=start,
        end=end,
        offset=message.offset,
        limit=limit,
        projection=projection,
        named=NAME in filters.fields or any(order.field.field_path == "__name__" for order in message.order_by),
    )


def everything_below(prefix: Segments) -> Query:
    """
    Every document whose path begins with *prefix*, by name.
    """
    below = Conjunct((Range(NAME, (prefix,), ((*prefix, TOP),)),))
    return Query(EVERYTHING, None, (below,), (Order(NAME, descending=False),), None, None, 0, None, None)


def _scope(message: AnyQuery, parent: Segments) -> Scope:
    if len(message.from_) > 1:
        raise invalid("StructuredQuery.from cannot have more than one collection selector.")
    collection = message.from_[0].collection_id if message.from_ else ""
    if not collection:
        return EVERYTHING
    check_collection(collection)
    if _selects_descendants(message):
        return Scope(collection, group=True)
    return Scope("/".join((*parent, collection)), group=False)


def _selects_descendants(message: AnyQuery) -> bool:
    return bool(message.from_) and bool(message.from_[0].all_descendants)


def _narrowed(conjuncts: tuple[Conjunct, ...], *ranges: Range) -> tuple[Conjunct, ...]:
    return tuple(each._replace(ranges=(*each.ranges, *ranges)) for each in conjuncts)


def _check_scope(message: AnyQuery, scope: Scope, parent: Segments, filters: Filters) -> None:
    """
    Check that a query of all collections, or of a group below a document, filters and orders by name alone.
    """
    named = filters.fields <= {NAME} and all(field_path(o.field.field_path) == NAME for o in message.order_by)
    if scope == EVERYTHING:
        if any(field_path(o.field.field_path) != NAME or o.direction == _DESCENDING for o in message.order_by):
            raise invalid("kind is required for all orders except __key__ ascending")
        if other := next(iter(sorted(filters.fields - {NAME})), None):
            raise invalid(f"kind is required for filter: {'.'.join(other)}")
    elif scope.group and parent and not named:
        raise invalid("collection group queries are only allowed at the root parent")


def _check_count(message: AnyQuery, parent: Segments, filters: Filters) -> None:
    if filters.count + len(message.order_by) + bool(parent) > MAX_PARTS:
        raise invalid(
            f"The query may not have more than {MAX_PARTS} filters + sort orders + ancestor total. Currently there are "
            f"{filters.count} filters, {len(message.order_by)} sort orders, and {'one' if parent else 'no'} "
            "ancestor filter."
        )


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


def _refuse_projection(projection: tuple[FieldPath, ...], paths: list[FieldPath]) -> None:
    if set(projection) <= {NAME}:
        raise invalid("Aggregation over non-key properties is not supported for base query that only returns keys.")
    for path in paths:
        if path not in projection:
            raise invalid(
                f"The aggregation property {'.'.join(path)} is not present in the base query's property mask."
            )
    raise invalid("Cannot apply property masks when aggregation fields are present.")


def _cursor(message: AnyQuery, name: str, paths: list[FieldPath], database: str) -> Cursor | None:
    if not message.HasField(name):
        return None
    cursor = getattr(message, name)
    if len(cursor.values) > len(paths):
        raise invalid("Cursor has too many values.")
    keys = []
    for path, value in zip(paths, cursor.values, strict=False):
        if value.WhichOneof("value_type") is None:
            raise invalid("A cursor's values must be set.")
        if path != NAME:
            keys.append(sort_key(value))
        elif value.WhichOneof("value_type") != "reference_value":
            raise invalid("Cursor __key__ value is not a document reference.")
        else:
            keys.append(name_key(value, database))
    return Cursor(tuple(keys), cursor.before)
