"""
Convert Python values <-> Firestore values, on plain protobuf messages.

Plain messages cost a tenth of the client's wrapped ones, and every delivery uses this module three times.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import Any, Final, TypeAlias

from google.cloud.firestore import GeoPoint
from google.cloud.firestore_v1.base_document import BaseDocumentReference
from google.cloud.firestore_v1.types import document as _document
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic_core import to_jsonable_python

from gcp_oncetask.checks.ordered import arranged
from gcp_oncetask.checks.told import text_of
from gcp_oncetask.errors import UsageError
from gcp_oncetask.rules.record import Status
from gcp_oncetask.store.part_forms import PART_FORMS

Value: TypeAlias = Any
"""A plain ``google.firestore.v1.Value``; the generated classes have no types."""
Document: TypeAlias = Any
"""A plain ``google.firestore.v1.Document``."""

ValueType: Final = _document.Value.pb()
DocumentType: Final = _document.Document.pb()

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_FIRST, _LAST = -62_135_596_800, 253_402_300_799  # 0001-01-01T00:00:00Z, 9999-12-31T23:59:59Z


def encode(value: Any) -> Value:
    """
    Convert *value* to a Firestore value.

    Raises:
        UsageError: Firestore can't hold *value*.
    """
    target = ValueType()
    put(target, value)
    return target


def put(target: Value, value: Any) -> None:
    """
    Set the empty *target* to *value*.

    Raises:
        UsageError: Firestore can't hold *value*.
    """
    put_all([(target, value)])


def put_all(places: Iterable[tuple[Value, Any]]) -> None:
    """
    Set the empty targets in *places* to their values: one call for a whole record or map, because most of its values are
    plain.

    Raises:
        UsageError: Firestore can't hold one of the values.
    """
    for target, value in places:
        kind = type(value)
        # Most values are texts and numbers; a status is a text.
        if kind is str or kind is Status:
            try:
                target.string_value = value
            except ValueError:
                raise UsageError(
                    f"The text {value!r:.60} holds half a surrogate pair; Firestore can't store it."
                ) from None
        elif kind is int and _INT_MIN <= value <= _INT_MAX:
            target.integer_value = value
        else:
            setter = _SETTERS.get(kind)
            if setter is None:
                form = PART_FORMS.get(kind)
                if form is not None:
                    _put_map(target, form(value))
                    continue
                setter = next((s for kind, s in _SETTERS.items() if isinstance(value, kind)), _put_other)
            setter(target, value)


def _put_none(target: Value, _: None) -> None:
    target.null_value = 0


def _put_bool(target: Value, value: bool) -> None:
    target.boolean_value = value


def _put_int(target: Value, value: int) -> None:
    if not _INT_MIN <= value <= _INT_MAX:
        raise UsageError(f"{value} does not fit into 64 bits; store it as a text.")
    target.integer_value = value


def _put_float(target: Value, value: float) -> None:
    target.double_value = value


def _put_str(target: Value, value: str) -> None:
    put(target, str(value))


def _put_bytes(target: Value, value: bytes) -> None:
    target.bytes_value = value


def _put_datetime(target: Value, value: datetime) -> None:
    aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    set_timestamp(target.timestamp_value, aware)
    if not _FIRST <= target.timestamp_value.seconds <= _LAST:
        raise UsageError(f"{value.isoformat()} is not in the years 1 to 9999 in UTC.")


def _put_enum(target: Value, value: Enum) -> None:
    put(target, value.value)


def _put_map(target: Value, value: Mapping[Any, Any]) -> None:
    target.map_value.SetInParent()
    inner = target.map_value.fields
    places: list[tuple[Value, Any]] = []
    for key, item in value.items():
        if not isinstance(key, str):
            raise UsageError(f"Map keys must be texts; {key!r} is not.")
        try:
            places.append((inner[key], item))
        except ValueError:
            raise UsageError(
                f"The map key {key!r:.60} holds half a surrogate pair; Firestore can't store it."
            ) from None
    put_all(places)


def _put_list(target: Value, value: Iterable[Any]) -> None:
    target.array_value.SetInParent()
    inner = target.array_value.values
    put_all([(inner.add(), item) for item in value])


def _put_set(target: Value, value: Iterable[Any]) -> None:
    # Equal sets may iterate in different orders; without one fixed order they would look like a change.
    _put_list(target, arranged(value, lambda item: encode(item).SerializeToString(deterministic=True)))


def _put_geo(target: Value, value: GeoPoint) -> None:
    target.geo_point_value.latitude = value.latitude
    target.geo_point_value.longitude = value.longitude


def _put_reference(target: Value, value: BaseDocumentReference) -> None:
    target.reference_value = value._document_path  # noqa: SLF001 - the full name has no public spelling


def _put_other(target: Value, value: Any) -> None:
    put(target, _jsonable(value))


def _jsonable(value: Any) -> Any:
    # Types that pydantic can write as JSON (dates, decimals, UUIDs, paths, nested models) are stored in that form.
    try:
        return to_jsonable_python(value)
    except Exception as error:  # noqa: BLE001 - a user's type may raise anything
        raise UsageError(f"Firestore can't hold {type(value).__name__} values: {text_of(error)}") from None


_SETTERS: Final[dict[type, Callable[[Any, Any], None]]] = {
    type(None): _put_none,
    bool: _put_bool,
    Enum: _put_enum,
    int: _put_int,
    float: _put_float,
    str: _put_str,
    bytes: _put_bytes,
    datetime: _put_datetime,
    date: _put_other,
    dict: _put_map,
    list: _put_list,
    tuple: _put_list,
    set: _put_set,
    frozenset: _put_set,
    GeoPoint: _put_geo,
    BaseDocumentReference: _put_reference,
}


def decode(value: Value, reference: Callable[[str], Any] | None = None) -> Any:  # noqa: PLR0911 - a table
    """
    Convert a Firestore value to a Python value.

    Args:
        value: A Firestore value.
        reference: Makes a document reference of a full name; None keeps the name.
    """
    match value.WhichOneof("value_type"):
        case "string_value":
            return value.string_value
        case "integer_value":
            return value.integer_value
        case "timestamp_value":
            return get_timestamp(value.timestamp_value)
        case "double_value":
            return value.double_value
        case "boolean_value":
            return value.boolean_value
        case "map_value":
            inner = value.map_value.fields
            return {key: decode(inner[key], reference) for key in inner}
        case "array_value":
            return [decode(item, reference) for item in value.array_value.values]
        case "bytes_value":
            return value.bytes_value
        case "geo_point_value":
            return GeoPoint(value.geo_point_value.latitude, value.geo_point_value.longitude)
        case "reference_value":
            return value.reference_value if reference is None else reference(value.reference_value)
        case _:
            return None


def as_loaded(value: Any) -> Any:
    """
    Return *value* in the form in which it would be loaded after it was stored. It is ``decode(encode(value))`` without the
    messages, but for the order of sets.

    Raises:
        UsageError: Firestore can't hold *value*.
    """
    kind = type(value)
    if kind in _UNCHANGED:
        return value
    if isinstance(value, Mapping):
        return {key: as_loaded(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_loaded(item) for item in value]
    if isinstance(value, Enum):
        return as_loaded(value.value)
    if isinstance(value, datetime):
        try:
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        except OverflowError:
            raise UsageError(
                f"{value} is outside of the calendar in UTC; Firestore holds the years 1 to 9999."
            ) from None
    if isinstance(value, GeoPoint | BaseDocumentReference):
        return value
    plain = next((base for base in (bool, int, float, str, bytes) if isinstance(value, base)), None)
    return as_loaded(_jsonable(value)) if plain is None else plain(value)


_UNCHANGED: Final = frozenset({str, int, float, bool, bytes, type(None)})


def pack(value: Value) -> str:
    """
    Convert *value* to text, for a log line.
    """
    return base64.b64encode(value.SerializeToString()).decode()


def unpack(text: str) -> Value:
    """
    Read a value from *text*, which ``pack`` made.

    Raises:
        ValueError: *text* has another form.
    """
    try:
        return ValueType.FromString(base64.b64decode(text, validate=True))
    except DecodeError as error:
        raise ValueError(f"not a packed value: {error}") from error


def set_timestamp(target: Timestamp, at: datetime) -> None:
    """
    Set *target* to an aware instant.
    """
    passed = at - _EPOCH
    target.seconds = passed.days * 86_400 + passed.seconds
    target.nanos = passed.microseconds * 1000


def get_timestamp(stamp: Timestamp, passed: float = 0.0) -> datetime:
    """
    Return the instant *passed* seconds after *stamp*, aware, cut to microseconds.
    """
    return _EPOCH + timedelta(0, stamp.seconds, stamp.nanos // 1000 + int(passed * 1e6))
