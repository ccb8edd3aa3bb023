"""
Run a query on a store: use the index that reads the fewest entries, then the filters and orders that the index does not
cover.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from gcp_emulator.firestore.filters import Conjunct, Position, Range
from gcp_emulator.firestore.paths import NAME, Segments
from gcp_emulator.firestore.query import Cursor, Order, Query
from gcp_emulator.firestore.sorted_keys import TOP
from gcp_emulator.firestore.store import Store, element_keys, field_key
from gcp_emulator.firestore.values import Key
from gcp_emulator.firestore.writes import Stored

Row = tuple[tuple[Key, ...], Stored]


@dataclass(slots=True)
class Answer:
    """
    Results of a query.

    Attributes:
        documents: In order, offset and limit applied, projection not.
        skipped: Results passed over because of the offset.
        examined: Index entries looked at.
    """

    documents: list[Stored]
    skipped: int
    examined: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """
    Attributes:
        range: The part of an index that holds all results.
        ordered: Whether it also yields them in their order.
        cost: Entries that will be looked at, at most.
    """

    range: Range
    ordered: bool
    cost: int


def run(store: Store, query: Query) -> Answer:
    """
    The results of *query* on *store* as it is.
    """
    answer = Answer([], 0, 0)
    if query.limit == 0:
        return answer
    most = None if query.limit is None else query.offset + query.limit
    if len(query.conjuncts) == 1:
        rows = _of_one(store, query, query.conjuncts[0], answer)
    else:
        found: dict[Segments, Row] = {}
        for conjunct in query.conjuncts:
            found.update((row[1].segments, row) for row in islice(_of_one(store, query, conjunct, answer), most))
        rows = iter(_sorted(list(found.values()), query.orders))
    answer.skipped = sum(1 for _ in islice(rows, query.offset))
    answer.documents = [stored for _, stored in islice(rows, query.limit)]
    return answer


def count(store: Store, query: Query) -> int | None:
    """
    Count the results of *query* by the entries of one index, without a look at a document; None: the entries alone don't tell.
    """
    if query.limit is not None or query.offset or query.depth is not None or len(query.conjuncts) != 1:
        return None
    [conjunct] = query.conjuncts
    if conjunct.excluded or len(conjunct.ranges) > 1 or query.start is not None or query.end is not None:
        return None
    used = conjunct.ranges[0] if conjunct.ranges else Range(query.orders[0].path, (), (TOP,))
    # A document without a field by which results are ordered is no result, and an array is in an index several times.
    if used.array or any(order.path not in (used.path, NAME) for order in query.orders):
        return None
    return store.index(query.scope, used.path, array=False).count(used.low, used.high)


def selects(query: Query, stored: Stored) -> bool:
    """
    Tell whether *stored* matches the filters of *query*; its cursors and its limit don't count.
    """
    if query.depth is not None and len(stored.segments) != query.depth:
        return False
    return query.scope.holds("/".join(stored.segments[:-1])) and any(
        all(_lies_in(stored, each) for each in conjunct.ranges) and not _is_excluded(stored, conjunct)
        for conjunct in query.conjuncts
    )


def _of_one(store: Store, query: Query, conjunct: Conjunct, answer: Answer) -> Iterator[Row]:
    """
    Yield the documents that satisfy *conjunct*, in order, between the cursors.
    """
    plan = _plan(store, query, conjunct)
    rows = _rows(store, query, conjunct, plan, answer)
    if not plan.ordered:
        rows = iter(_sorted(list(rows), query.orders))
    return _between_cursors(rows, query)


def _plan(store: Store, query: Query, conjunct: Conjunct) -> _Plan:
    whole = Range(query.orders[0].path, (), (TOP,))
    candidates = list(conjunct.ranges)
    if all(each.path != whole.path or each.array for each in candidates):
        candidates.append(whole)
    plans = [_priced(store, query, conjunct, candidate) for candidate in candidates]
    return min(plans, key=lambda plan: (plan.cost, not plan.ordered))


def _priced(store: Store, query: Query, conjunct: Conjunct, candidate: Range) -> _Plan:
    # A field with one value in all results does not order them.
    orders = [order for order in query.orders if order.path not in conjunct.equal]
    constant = candidate.array or candidate.path in conjunct.equal or candidate.path == NAME
    walked = [NAME] if constant else [candidate.path, NAME]
    descending = query.orders[-1].descending
    ordered = [order.path for order in orders] == walked and all(o.descending is descending for o in orders)
    if ordered and len(orders) == len(query.orders) and not candidate.array:
        candidate = _narrowed(candidate, query, descending=descending)
    cost = store.index(query.scope, candidate.path, array=candidate.array).count(candidate.low, candidate.high)
    return _Plan(candidate, ordered, cost)


def _narrowed(candidate: Range, query: Query, *, descending: bool) -> Range:
    """
    The part of *candidate*'s range that lies between the cursors.
    """
    low, high = candidate.low, candidate.high
    start, end = (query.end, query.start) if descending else (query.start, query.end)
    if query.orders[0].path != candidate.path:
        return candidate
    if start is not None:
        low = max(low, _position(start, behind=start.before is descending))
    if end is not None:
        high = min(high, _position(end, behind=end.before is descending))
    return Range(candidate.path, low, high)


def _position(cursor: Cursor, *, behind: bool) -> Position:
    """
    Position in an index before or behind all that the cursor names.
    """
    return (*cursor.keys, TOP) if behind else cursor.keys


def _rows(store: Store, query: Query, conjunct: Conjunct, plan: _Plan, answer: Answer) -> Iterator[Row]:
    index = store.index(query.scope, plan.range.path, array=plan.range.array)
    used = plan.range
    others = [each for each in conjunct.ranges if each != used]
    descending = query.orders[-1].descending and plan.ordered
    for entry in index.between(used.low, used.high, descending=descending):
        answer.examined += 1
        segments = entry[1]
        if query.depth is not None and len(segments) != query.depth:
            continue
        stored = store.get("/".join(segments))
        assert stored is not None
        if not all(_lies_in(stored, each) for each in others) or _is_excluded(stored, conjunct):
            continue
        keys = _order_keys(stored, query.orders)
        if keys is not None:
            yield keys, stored


def _lies_in(stored: Stored, filtered: Range) -> bool:
    if filtered.array:
        return filtered.low[0] in element_keys(stored, filtered.path)
    key = field_key(stored, filtered.path)
    return key is not None and filtered.low <= (key, stored.segments) < filtered.high


def _is_excluded(stored: Stored, conjunct: Conjunct) -> bool:
    return any(field_key(stored, path) in keys for path, keys in conjunct.excluded)


def _order_keys(stored: Stored, orders: tuple[Order, ...]) -> tuple[Key, ...] | None:
    keys = []
    for order in orders:
        key = field_key(stored, order.path)
        if key is None:
            return None
        keys.append(key)
    return tuple(keys)


def _sorted(rows: list[Row], orders: tuple[Order, ...]) -> list[Row]:
    for number in range(len(orders) - 1, -1, -1):
        rows.sort(key=lambda row: row[0][number], reverse=orders[number].descending)
    return rows


def _between_cursors(rows: Iterator[Row], query: Query) -> Iterator[Row]:
    for row in rows:
        if query.start is not None:
            side = _compare(row[0], query.start, query.orders)
            if side < 0 or (side == 0 and not query.start.before):
                continue
        if query.end is not None:
            side = _compare(row[0], query.end, query.orders)
            if side > 0 or (side == 0 and query.end.before):
                return
        yield row


def _compare(keys: tuple[Key, ...], cursor: Cursor, orders: tuple[Order, ...]) -> int:
    for key, other, order in zip(keys, cursor.keys, orders, strict=False):
        if key != other:
            return -1 if (key < other) is not order.descending else 1
    return 0
