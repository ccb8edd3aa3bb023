"""
Read filters into disjunctions of conditions, one of which each result must satisfy.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from gcp_emulator.firestore.messages import AnyQuery, AnyValue, StructuredQuery
from gcp_emulator.firestore.paths import NAME, FieldPath, document_segments, field_path, invalid
from gcp_emulator.firestore.sorted_keys import TOP
from gcp_emulator.firestore.values import NAN, NULL, Key, sort_key, type_range
from gcp_emulator.rpc import unimplemented

Position = tuple[Any, ...]

MAX_DISJUNCTIONS = 30
MAX_NOT_IN = 10
MAX_INEQUALITIES = 10
BEHIND_NULL: Key = (NULL[0] + 1,)
_UNEQUAL = (NULL, NAN)
"""
Nothing is equal to these, nor less or greater; only IS_NULL and IS_NAN find them.
"""
_COMPOSITE = StructuredQuery.CompositeFilter
_OPERATORS = {number: name for name, number in StructuredQuery.FieldFilter.Operator.items()}
_UNARY = {number: name for name, number in StructuredQuery.UnaryFilter.Operator.items()}
_NEGATIONS = ("NOT_EQUAL", "NOT_IN", "IS_NOT_NULL", "IS_NOT_NAN")
_RANGES = ("LESS_THAN", "LESS_THAN_OR_EQUAL", "GREATER_THAN", "GREATER_THAN_OR_EQUAL")


class Range(NamedTuple):
    """
    A filter on one field as positions in its index.

    Attributes:
        array: The index is that of the field's elements, and the range one of them.
    """

    path: FieldPath
    low: Position
    high: Position
    array: bool = False


class Condition(NamedTuple):
    """
    One filter.

    Attributes:
        range: Range of keys in which the field's value, or an element, must be.
        excluded: Keys that the value must not have.
        inequality: Whether results are ordered by the field.
    """

    range: Range
    excluded: frozenset[Key] = frozenset()
    inequality: bool = False


class Conjunct(NamedTuple):
    """
    Filters that hold together.

    Attributes:
        ranges: The range in which each field must be; several filters of one field are one range.
        equal: The fields with an equality.
        excluded: Values that a field must not have.
    """

    ranges: tuple[Range, ...] = ()
    equal: frozenset[FieldPath] = frozenset()
    excluded: tuple[tuple[FieldPath, frozenset[Key]], ...] = ()


@dataclass(frozen=True, slots=True)
class Filters:
    """
    All filters of a query.

    Attributes:
        conjuncts: A result satisfies at least one.
        inequalities: Fields with an inequality, in the order of their paths.
        fields: Every field with a filter.
        count: Number of filters; a filter with several values counts once for each.
    """

    conjuncts: tuple[Conjunct, ...] = (Conjunct(),)
    inequalities: tuple[FieldPath, ...] = ()
    fields: frozenset[FieldPath] = frozenset()
    count: int = 0


def read_filters(message: AnyQuery, database: str) -> Filters:
    """
    The filters in *message*, of a query on *database*.

    Raises:
        RpcError: INVALID_ARGUMENT: they are wrong in themselves.
    """
    used: list[str] = []
    normal = _normal(message, database, used)
    _check_together(used)
    if len(normal) > MAX_DISJUNCTIONS:
        raise invalid(f"The query has {len(normal)} disjunctions; at most {MAX_DISJUNCTIONS} are supported.")
    if any(len({condition.range for condition in each if condition.range.array}) > 1 for each in normal):
        raise invalid("A maximum of 1 'ARRAY_CONTAINS' filter is allowed per disjunction.")
    inequalities = {condition.range.path for each in normal for condition in each if condition.inequality}
    if len(inequalities) > MAX_INEQUALITIES:
        raise invalid(
            f"The query contains {len(inequalities)} distinct inequality fields. "
            f"A query may not have more than {MAX_INEQUALITIES} distinct inequality fields."
        )
    conditions = {condition for each in normal for condition in each}
    return Filters(
        tuple(_conjunct(each) for each in normal),
        tuple(sorted(inequalities)),
        frozenset(condition.range.path for condition in conditions),
        sum(max(1, len(condition.excluded)) for condition in conditions),
    )


def _normal(message: AnyQuery, database: str, used: list[str]) -> list[list[Condition]]:
    """
    The disjunctive normal form.
    """
    match message.WhichOneof("filter_type"):
        case "composite_filter":
            composite = message.composite_filter
            if not composite.filters:
                raise invalid("A composite filter needs at least one filter.")
            parts = [_normal(inner, database, used) for inner in composite.filters]
            if composite.op == _COMPOSITE.AND:
                return [[c for part in parts_ for c in part] for parts_ in product(*parts)]
            if composite.op == _COMPOSITE.OR:
                used.append("OR")
                return [each for part in parts for each in part]
            raise invalid("Unknown CompositeFilter operator.")
        case "field_filter":
            return _field(message.field_filter, database, used)
        case "unary_filter":
            return [[_unary(message.unary_filter, used)]]
        case _:
            raise invalid("A filter must be a composite, field or unary filter.")


def _field(message: AnyQuery, database: str, used: list[str]) -> list[list[Condition]]:
    operator = _OPERATORS.get(message.op, "")
    if operator in ("OPERATOR_UNSPECIFIED", ""):
        raise invalid("Unknown FieldFilter operator.")
    used.append(operator)
    path = field_path(message.field.field_path)
    if operator in _RANGES:
        key = _key(path, message.value, database)
        return [[_never(path) if key in _UNEQUAL else _ranged(path, key, operator)]]
    match operator:
        case "EQUAL":
            key = _key(path, message.value, database)
            return [[_never(path) if key in _UNEQUAL else _equal(path, key)]]
        case "NOT_EQUAL":
            return [[_excluding(path, _without_nan([_key(path, message.value, database)]))]]
        case "IN":
            return [[_equal(path, key)] for key in _keys(path, message.value, database, MAX_DISJUNCTIONS, operator)]
        case "NOT_IN":
            return [[_excluding(path, _without_nan(_keys(path, message.value, database, MAX_NOT_IN, operator)))]]
        case "ARRAY_CONTAINS":
            return [[_element(path, _element_key(path, message.value))]]
        case "ARRAY_CONTAINS_ANY":
            values = _values(message.value, MAX_DISJUNCTIONS, operator)
            return [[_element(path, _element_key(path, value))] for value in values]
        case _:
            raise unimplemented(f"The filter operator {operator}")


def _unary(message: AnyQuery, used: list[str]) -> Condition:
    operator = _UNARY.get(message.op, "")
    used.append(operator)
    path = field_path(message.field.field_path)
    match operator:
        case "IS_NULL":
            return _equal(path, NULL)
        case "IS_NAN":
            return _equal(path, NAN)
        case "IS_NOT_NULL":
            return _excluding(path, [])
        case "IS_NOT_NAN":
            return _excluding(path, [NAN])
        case _:
            raise invalid("Unknown UnaryFilter operator.")


def _check_together(used: list[str]) -> None:
    if sum(operator in _NEGATIONS for operator in used) > 1:
        raise invalid("Only a single 'NOT_EQUAL', 'NOT_IN', 'IS_NOT_NAN', or 'IS_NOT_NULL' filter allowed per query.")
    if "NOT_IN" in used and any(operator in used for operator in ("IN", "ARRAY_CONTAINS_ANY", "OR")):
        raise invalid("'NOT_IN' cannot be used in the same query with 'IN', 'ARRAY_CONTAINS_ANY' or 'OR'.")


def _equal(path: FieldPath, key: Key) -> Condition:
    return Condition(Range(path, (key,), (key, TOP)))


def _element(path: FieldPath, key: Key) -> Condition:
    return Condition(Range(path, (key,), (key, TOP), array=True))


def _without_nan(keys: list[Key]) -> list[Key]:
    # NaN is unequal to NaN, too.
    return [key for key in keys if key != NAN]


def _never(path: FieldPath) -> Condition:
    return Condition(Range(path, (TOP,), (TOP,)))


def _excluding(path: FieldPath, keys: list[Key]) -> Condition:
    low: Position = () if path == NAME else (BEHIND_NULL,)
    # A comparison with null never holds for "unequal".
    high = low if NULL in keys else (TOP,)
    return Condition(Range(path, low, high), frozenset(keys), inequality=True)


def _ranged(path: FieldPath, key: Key, operator: str) -> Condition:
    if path == NAME:
        first: Position = ()
        after: Position = (TOP,)
    else:
        lowest, behind = type_range(key)
        first, after = (lowest,), (behind,)
    at, behind_it = (key,), (key, TOP)
    low = at if operator == "GREATER_THAN_OR_EQUAL" else behind_it if operator == "GREATER_THAN" else first
    high = behind_it if operator == "LESS_THAN_OR_EQUAL" else at if operator == "LESS_THAN" else after
    return Condition(Range(path, low, high), inequality=True)


def _conjunct(conditions: list[Condition]) -> Conjunct:
    merged: dict[FieldPath, Range] = {}
    arrays: list[Range] = []
    excluded: list[tuple[FieldPath, frozenset[Key]]] = []
    equal = set()
    for condition in conditions:
        new = condition.range
        if condition.excluded:
            excluded.append((new.path, condition.excluded))
        if new.array:
            arrays.append(new)
            continue
        if not condition.inequality:
            equal.add(new.path)
        old = merged.get(new.path, new)
        merged[new.path] = Range(new.path, max(old.low, new.low), min(old.high, new.high))
    return Conjunct((*merged.values(), *arrays), frozenset(equal), tuple(excluded))


def _values(value: AnyValue, most: int, operator: str) -> list[AnyValue]:
    if value.WhichOneof("value_type") != "array_value":
        raise invalid(f"'{operator}' requires an ArrayValue.")
    if not value.array_value.values:
        raise invalid(f"'{operator}' requires an non-empty ArrayValue.")
    if len(value.array_value.values) > most:
        raise invalid(f"'{operator}' supports up to {most} comparison values.")
    return list(value.array_value.values)


def _keys(path: FieldPath, value: AnyValue, database: str, most: int, operator: str) -> list[Key]:
    found: list[Key] = []
    for each in _values(value, most, operator):
        key = name_key(each, database) if path == NAME else _set_key(each)
        if operator == "IN" and key in _UNEQUAL:
            continue
        if key not in found:
            found.append(key)
    return found


def _element_key(path: FieldPath, value: AnyValue) -> Key:
    if path == NAME:
        raise invalid("__name__ holds no array.")
    key = _set_key(value)
    return (TOP,) if key in _UNEQUAL else key


def _key(path: FieldPath, value: AnyValue, database: str) -> Key:
    if path == NAME:
        return name_key(value, database)
    return _set_key(value)


def _set_key(value: AnyValue) -> Key:
    if value.WhichOneof("value_type") is None:
        raise invalid("A filter's value must be set.")
    return sort_key(value)


def name_key(value: AnyValue, database: str) -> Key:
    """
    Return the key by which a document with the name *value* sorts.
    """
    if value.WhichOneof("value_type") != "reference_value":
        raise invalid("__key__ filter value must be a Key")
    return document_segments(value.reference_value, database, "Resource")
