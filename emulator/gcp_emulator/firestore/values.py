"""
The order of values, their limits, and the search of fields by path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from gcp_emulator.firestore.messages import AnyDocument, AnyFields, AnyValue, Document
from gcp_emulator.firestore.paths import (
    PATH_BYTES,
    FieldPath,
    database_of,
    document_segments,
    ids_of,
    invalid,
    is_reserved,
    name_size,
)

Key = tuple[Any, ...]
"""
A key that sorts as Firestore sorts: first the type's rank, then the type's own key.
"""

DOCUMENT_BYTES = 1024 * 1024 - 4
VALUE_BYTES = 1_048_487
DEPTH = 20
DIMENSIONS = 2048
VECTOR = "__vector__"

_NULL, _BOOLEAN, _NUMBER, _TIME, _STRING, _BYTES, _REFERENCE, _GEO, _ARRAY, _VECTOR, _MAP = range(11)
NAN: Key = (_NUMBER, 0)
NULL: Key = (_NULL, False)
FIRST_TIME: Key = (_TIME,)


def sort_key(value: AnyValue) -> Key:
    """
    The key that compares as *value* does; equal keys are equal values (3 and 3.0 are).
    """
    return _KEYS[value.WhichOneof("value_type")](value)


def time_key(micros: int) -> Key:
    """
    The key of a timestamp, *micros* since the epoch.
    """
    seconds, rest = divmod(micros, 1_000_000)
    return (_TIME, seconds, rest * 1000)


def type_range(key: Key) -> tuple[Key, Key]:
    """
    Return the first key that a range filter with *key* can match, and the key after the last one. NaN does not match.
    """
    rank = key[0]
    return ((rank, 1) if rank == _NUMBER else (rank,)), (rank + 1,)


def _number_key(number: float) -> Key:
    return NAN if number != number else (_NUMBER, 1, number)  # noqa: PLR0124 - NaN differs from itself


def _map_key(value: AnyValue) -> Key:
    fields = value.map_value.fields
    if is_vector(fields):
        numbers = fields["value"].array_value.values
        return (_VECTOR, len(numbers), tuple(_number_key(n.double_value) for n in numbers))
    return (_MAP, tuple(sorted((name, sort_key(field)) for name, field in fields.items())))


_KEYS: dict[str, Callable[[AnyValue], Key]] = {
    "null_value": lambda _: NULL,
    "boolean_value": lambda v: (_BOOLEAN, v.boolean_value),
    "integer_value": lambda v: (_NUMBER, 1, v.integer_value),
    "double_value": lambda v: _number_key(v.double_value),
    "timestamp_value": lambda v: (_TIME, v.timestamp_value.seconds, v.timestamp_value.nanos),
    "string_value": lambda v: (_STRING, v.string_value),
    "bytes_value": lambda v: (_BYTES, v.bytes_value),
    "reference_value": lambda v: (_REFERENCE, ids_of(v.reference_value)),
    "geo_point_value": lambda v: (_GEO, v.geo_point_value.latitude, v.geo_point_value.longitude),
    "array_value": lambda v: (_ARRAY, tuple(sort_key(element) for element in v.array_value.values)),
    "map_value": _map_key,
}


def is_vector(fields: AnyFields) -> bool:
    """
    Tell whether a map has the form in which vectors are stored.
    """
    marker = fields.get("__type__")
    return marker is not None and marker.string_value == VECTOR


def find(fields: AnyFields, path: FieldPath) -> AnyValue | None:
    """
    The value at *path*, or None.
    """
    value = fields.get(path[0])
    for name in path[1:]:
        if value is None or value.WhichOneof("value_type") != "map_value":
            return None
        value = value.map_value.fields.get(name)
    return value


def place(fields: AnyFields, path: FieldPath) -> AnyValue:
    """
    Return the value at *path* for writing; any other value on the way becomes a map.
    """
    for name in path[:-1]:
        value = fields[name]
        if value.WhichOneof("value_type") != "map_value":
            value.map_value.SetInParent()
        fields = value.map_value.fields
    return fields[path[-1]]


def drop(fields: AnyFields, path: FieldPath) -> None:
    """
    Delete the field at *path*, if there is one.
    """
    for name in path[:-1]:
        value = fields.get(name)
        if value is None or value.WhichOneof("value_type") != "map_value":
            return
        fields = value.map_value.fields
    if path[-1] in fields:
        del fields[path[-1]]


def masked(document: AnyDocument, paths: Iterable[FieldPath]) -> AnyDocument:
    """
    A copy of *document* with no fields but those at *paths*.
    """
    copy = Document(name=document.name, create_time=document.create_time, update_time=document.update_time)
    for path in paths:
        value = find(document.fields, path)
        if value is not None:
            place(copy.fields, path).CopyFrom(value)
    return copy


def check_name(name: str) -> None:
    """
    Refuse a field name that can't be stored.
    """
    if not name:
        raise invalid("The property.name is the empty string.")
    if is_reserved(name):
        raise invalid(f"field name {name} is reserved")
    if len(name) > 375 and len(name.encode()) > 1500:
        raise invalid("The property.name is longer than 1500 bytes.")


def settle(value: AnyValue, name: str, depth: int = 0, above: int = 0) -> None:
    """
    Check a value that is about to be stored, and cut its timestamps to microseconds, in place.

    Args:
        value: Ours to change.
        name: The field it stands in.
        depth: Number of maps and arrays of this document that contain it.
        above: Bytes of the field's path before its own name.

    Raises:
        RpcError: It breaks a limit or has no storable type.
    """
    kind = value.WhichOneof("value_type")
    check = _CHECKS.get(kind)
    if check is not None:
        check(value, name)
    elif kind == "map_value":
        fields = value.map_value.fields
        _check_depth(name, depth)
        if "__type__" in fields and is_vector(fields):
            _check_vector(fields)
            return
        below = above + len(name.encode()) + 1
        for inner, field in fields.items():
            if not inner:
                raise invalid(f"Property {name} contains an invalid nested entity.")
            if is_reserved(inner):
                raise invalid(f"field name '{inner}' is reserved.")
            check_name(inner)
            if below + 4 * len(inner) > PATH_BYTES and below + len(inner.encode()) > PATH_BYTES:
                raise invalid(
                    f"Property {name} contains an invalid nested entity: its path exceeds {PATH_BYTES} bytes."
                )
            settle(field, inner, depth + 1, below)
    elif kind == "array_value":
        _check_depth(name, depth)
        for element in value.array_value.values:
            if element.WhichOneof("value_type") == "array_value":
                raise invalid("Cannot convert an array value in an array value.")
            settle(element, name, depth + 1, above)
    elif kind is None:
        raise invalid("Cannot convert firestore.v1.Value with type unset.")
    elif kind not in _KEYS:
        raise invalid(f"Value type is not supported: {kind.upper()}")


def _check_depth(name: str, depth: int) -> None:
    if depth >= DEPTH:
        raise invalid(f"Property {name} contains an invalid nested entity: more than {DEPTH} levels deep.")


def _check_vector(fields: AnyFields) -> None:
    numbers = fields.get("value")
    if len(fields) != 2 or numbers is None:
        raise invalid("A vector is a map of __type__ and value.")
    if any(n.WhichOneof("value_type") != "double_value" for n in numbers.array_value.values):
        raise invalid("Vector must only contain values of type 'double'")
    if not 1 <= len(numbers.array_value.values) <= DIMENSIONS:
        raise invalid(f"A vector has 1 to {DIMENSIONS} dimensions.")


def _check_string(value: AnyValue, name: str) -> None:
    text = value.string_value
    if len(text) > VALUE_BYTES // 4 and len(text.encode()) > VALUE_BYTES:
        raise invalid(f'The value of property "{name}" is longer than {VALUE_BYTES} bytes.')


def _check_bytes(value: AnyValue, name: str) -> None:
    if len(value.bytes_value) > VALUE_BYTES:
        raise invalid(f'The value of property "{name}" is longer than {VALUE_BYTES} bytes.')


def _check_time(value: AnyValue, _: str) -> None:
    time = value.timestamp_value
    if not -62_135_596_800 <= time.seconds <= 253_402_300_799:
        raise invalid("Timestamp seconds exceeds limit for field.")
    if not 0 <= time.nanos <= 999_999_999:
        raise invalid("Timestamp nanos exceeds limit for field.")
    if time.nanos % 1000:
        time.nanos -= time.nanos % 1000


def _check_geo(value: AnyValue, _: str) -> None:
    point = value.geo_point_value
    if not -90 <= point.latitude <= 90:
        raise invalid(f"Geo point latitude '{point.latitude}' outside permitted range -90.0 to 90.0.")
    if not -180 <= point.longitude <= 180:
        raise invalid(f"Geo point longitude '{point.longitude}' outside permitted range -180.0 to 180.0.")


def _check_reference(value: AnyValue, _: str) -> None:
    document_segments(value.reference_value, database_of(value.reference_value, "Resource"), "Resource")


_CHECKS: dict[str, Callable[[AnyValue, str], None]] = {
    "string_value": _check_string,
    "integer_value": lambda *_: None,
    "boolean_value": lambda *_: None,
    "null_value": lambda *_: None,
    "double_value": lambda *_: None,
    "timestamp_value": _check_time,
    "bytes_value": _check_bytes,
    "geo_point_value": _check_geo,
    "reference_value": _check_reference,
}


def check_size(document: AnyDocument) -> None:
    """
    Refuse a document that is larger than Firestore stores.

    Source:
        Firestore, Understand storage size calculations.
    """
    # Nothing takes more than eight times the room in the calculation that it takes on the wire.
    if document.ByteSize() * 8 < DOCUMENT_BYTES:
        return
    size = name_size(tuple(document.name.split("/")[5:])) + _fields_size(document.fields)
    if size > DOCUMENT_BYTES:
        raise invalid(
            f"Document '{document.name}' cannot be written because its size ({size:,} bytes) exceeds "
            f"the maximum allowed size of {DOCUMENT_BYTES:,} bytes."
        )


def _fields_size(fields: AnyFields) -> int:
    return 32 + sum(len(name.encode()) + 1 + value_size(value) for name, value in fields.items())


def value_size(value: AnyValue) -> int:
    match value.WhichOneof("value_type"):
        case "null_value" | "boolean_value":
            return 1
        case "string_value":
            return len(value.string_value.encode()) + 1
        case "bytes_value":
            return len(value.bytes_value)
        case "reference_value":
            return name_size(tuple(value.reference_value.split("/")[5:]))
        case "geo_point_value":
            return 16
        case "array_value":
            return sum(value_size(element) for element in value.array_value.values)
        case "map_value":
            return _fields_size(value.map_value.fields)
        case _:
            return 8


def add_numbers(value: AnyValue, other: AnyValue) -> None:
    """
    Add *other* to the number *value*, in place: whole numbers stay whole and stop at the ends of 64 bits.
    """
    if value.WhichOneof("value_type") == other.WhichOneof("value_type") == "integer_value":
        total = value.integer_value + other.integer_value
        value.integer_value = max(-(2**63), min(2**63 - 1, total))
        return
    value.double_value = _as_float(value) + _as_float(other)


def is_number(value: AnyValue | None) -> bool:
    """
    Tell whether the value is an integer or a double.
    """
    return value is not None and value.WhichOneof("value_type") in ("integer_value", "double_value")


def _as_float(value: AnyValue) -> float:
    if value.WhichOneof("value_type") == "integer_value":
        return float(value.integer_value)
    return float(value.double_value)


def is_nan(value: AnyValue) -> bool:
    """
    Tell whether the value is the double NaN.
    """
    return value.WhichOneof("value_type") == "double_value" and math.isnan(value.double_value)
