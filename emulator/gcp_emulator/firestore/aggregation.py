"""
Counts, sums and averages over the results of a query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any

from gcp_emulator.firestore.messages import AnyValue, Value
from gcp_emulator.firestore.paths import NAME, FieldPath, field_path, invalid, is_reserved
from gcp_emulator.firestore.values import check_name, find
from gcp_emulator.firestore.writes import Stored

MAX_AGGREGATIONS = 5
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class Aggregation:
    """
    One number asked for.

    Attributes:
        kind: ``count``, ``sum`` or ``avg``.
        path: Field that is summed; None for a count.
        up_to: Number at which a count stops.
    """

    kind: str
    path: FieldPath | None
    up_to: int | None

    def of(self, count: int) -> AnyValue:
        """
        Compute a count of so many results.
        """
        return Value(integer_value=count if self.up_to is None else min(self.up_to, count))

    def over(self, documents: Sequence[Stored]) -> AnyValue:
        """
        Compute the value over *documents*; missing fields and values that are no numbers are left out.
        """
        if self.path is None:
            return self.of(len(documents))
        numbers = [number for stored in documents if (number := _number(stored, self.path)) is not None]
        if self.kind == "sum":
            return _sum(numbers)
        if not numbers:
            return Value(null_value=0)
        return Value(double_value=_total(numbers) / len(numbers))


def read_aggregations(messages: Any) -> dict[str, Aggregation]:
    """
    Aggregations by alias.

    Raises:
        RpcError: INVALID_ARGUMENT: they are wrong in themselves.
    """
    if not messages:
        raise invalid("Aggregations can not be empty.")
    if len(messages) > MAX_AGGREGATIONS:
        raise invalid(f"An aggregation query has at most {MAX_AGGREGATIONS} aggregations.")
    found: dict[str, Aggregation] = {}
    unnamed = 0
    for message in messages:
        kind = message.WhichOneof("operator")
        if kind is None:
            raise invalid("Operator field in Aggregation is not set.")
        up_to = path = None
        if kind == "count":
            up_to = message.count.up_to.value if message.count.HasField("up_to") else None
            if up_to is not None and up_to <= 0:
                # Google's emulator takes zero; the service documents that it does not.
                raise invalid("The `up_to` value in a COUNT aggregation must be greater than zero.")
        else:
            path = field_path(getattr(message, kind).field.field_path)
            if path == NAME:
                raise invalid("Aggregations are not supported for the property: __key__")
        unnamed += not message.alias
        alias = message.alias or f"field_{unnamed}"
        if is_reserved(alias):
            raise invalid(f'The property.name "{alias}" is reserved.')
        check_name(alias)
        if alias in found:
            raise invalid(f"Aggregation aliases contain duplicate alias: {alias}.")
        found[alias] = Aggregation(kind, path, up_to)
    return found


def _number(stored: Stored, path: FieldPath) -> float | None:
    value = find(stored.document.fields, path)
    if value is None:
        return None
    match value.WhichOneof("value_type"):
        case "integer_value":
            return int(value.integer_value)
        case "double_value":
            return float(value.double_value)
        case _:
            return None


def _sum(numbers: Sequence[float]) -> AnyValue:
    if all(isinstance(number, int) for number in numbers):
        total = sum(numbers)
        if _INT_MIN <= total <= _INT_MAX:
            return Value(integer_value=int(total))
    return Value(double_value=_total(numbers))


def _total(numbers: Sequence[float]) -> float:
    try:
        return fsum(numbers)
    except (OverflowError, ValueError):
        # Beyond the largest double, or infinities of both signs: added up one by one, as IEEE 754 says.
        total = 0.0
        for number in numbers:
            total += float(number)
        return total
