"""
Python values <-> Firestore values, and the lock <-> its stored map, on plain protobuf messages.

Plain messages cost a tenth of the client's wrapped ones, and every delivery passes here three times.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import Any, Final, NoReturn, TypeAlias

from google.cloud.firestore import GeoPoint
from google.cloud.firestore_v1.base_document import BaseDocumentReference
from google.cloud.firestore_v1.types import document as _document
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic_core import to_jsonable_python

from gcp_oncetask.errors import StoreError, UsageError
from gcp_oncetask.ordered import arranged
from gcp_oncetask.record import (
    DEFAULTS,
    SERVER_TIME,
    STORED_NAMES,
    Event,
    Failure,
    Fingerprint,
    Lock,
    Note,
    Owed,
    Since,
    Status,
)

Value: TypeAlias = Any
"""A plain ``google.firestore.v1.Value``; the generated classes have no types."""
Document: TypeAlias = Any
"""A plain ``google.firestore.v1.Document``."""

ValueType: Final = _document.Value.pb()
DocumentType: Final = _document.Document.pb()

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_FIRST, _LAST = -62_135_596_800, 253_402_300_799  # 0001-01-01T00:00:00Z, 9999-12-31T23:59:59Z


# --- values -----------------------------------------------------------------------------------------------------------


def encode(value: Any) -> Value:
    """
    A Firestore value.

    Raises:
        UsageError: Firestore can't hold it.
    """
    target = ValueType()
    put(target, value)
    return target


def put(target: Value, value: Any) -> None:
    """
    Set the empty *target* to *value*.

    Raises:
        UsageError: Firestore can't hold it.
    """
    setter = _SETTERS.get(type(value))
    if setter is None:
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
    try:
        target.string_value = value
    except ValueError:
        raise UsageError(f"The text {value!r:.60} holds half a surrogate pair; Firestore can't store it.") from None


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
    for key, item in value.items():
        if not isinstance(key, str):
            raise UsageError(f"Map keys must be texts; {key!r} is not.")
        try:
            place = inner[key]
        except ValueError:
            raise UsageError(
                f"The map key {key!r:.60} holds half a surrogate pair; Firestore can't store it."
            ) from None
        put(place, item)


def _put_list(target: Value, value: Iterable[Any]) -> None:
    target.array_value.SetInParent()
    inner = target.array_value.values
    for item in value:
        put(inner.add(), item)


def _put_set(target: Value, value: Iterable[Any]) -> None:
    # In one order: equal sets may iterate in two, and would look like a change.
    _put_list(target, arranged(value, lambda item: encode(item).SerializeToString(deterministic=True)))


def _put_geo(target: Value, value: GeoPoint) -> None:
    target.geo_point_value.latitude = value.latitude
    target.geo_point_value.longitude = value.longitude


def _put_reference(target: Value, value: BaseDocumentReference) -> None:
    target.reference_value = value._document_path  # noqa: SLF001 - the full name has no public spelling


def _put_other(target: Value, value: Any) -> None:
    put(target, _jsonable(value))


def _jsonable(value: Any) -> Any:
    # What pydantic writes as JSON (dates, decimals, UUIDs, paths, nested models) is stored in that form.
    try:
        return to_jsonable_python(value)
    except Exception as error:  # noqa: BLE001 - whatever a user's type raises
        raise UsageError(f"Firestore can't hold {type(value).__name__} values: {error}") from None


def _put_failure(target: Value, failure: Failure) -> None:
    _put_map(
        target,
        {"at": failure.at, "attempt": failure.attempt, "sequence": failure.sequence, "message": failure.message},
    )


def _put_owed(target: Value, owed: Owed) -> None:
    _put_map(
        target,
        {
            "id": owed.id,
            "event": owed.event.value,
            "at": owed.at,
            "until": owed.until,
            "sequence": owed.sequence,
            "attempt": owed.attempt,
            "reason": owed.reason,
            "tries": owed.tries,
            "evidence": list(owed.evidence),
        },
    )


def _put_note(target: Value, note: Note) -> None:
    _put_map(target, {"sequence": note.sequence, "token": note.token, "text": note.text})


def _put_since(target: Value, since: Since) -> None:
    _put_map(target, {"sequence": since.sequence, "token": since.token, "at": since.at})


def _put_fingerprint(target: Value, fingerprint: Fingerprint) -> None:
    _put_map(target, {"dataHash": fingerprint.data_hash, "model": fingerprint.model})


_SETTERS: Final[dict[type, Callable[[Any, Any], None]]] = {
    type(None): _put_none,
    Status: _put_str,
    Failure: _put_failure,
    Owed: _put_owed,
    Note: _put_note,
    Since: _put_since,
    Fingerprint: _put_fingerprint,
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
    The Python value.

    Args:
        value: A Firestore value.
        reference: Makes a document reference of a full name; None leaves the name.
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
    What is loaded when *value* was stored: as ``decode(encode(value))``, without the detour; sets in any order.

    Raises:
        UsageError: Firestore can't hold it.
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
    *value* as text, for a log line.
    """
    return base64.b64encode(value.SerializeToString()).decode()


def unpack(text: str) -> Value:
    """
    The inverse of ``pack``.

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
    The instant *passed* seconds after *stamp*, aware, cut to microseconds.
    """
    return _EPOCH + timedelta(0, stamp.seconds, stamp.nanos // 1000 + int(passed * 1e6))


# --- the lock ---------------------------------------------------------------------------------------------------------


def _text(value: Value) -> str:
    text: str = value.string_value
    return text if text or value.WhichOneof("value_type") == "string_value" else _odd(value)


def _number(value: Value) -> int:
    number: int = value.integer_value
    return number if number or value.WhichOneof("value_type") == "integer_value" else _odd(value)


def _seconds(value: Value) -> float:
    found: float = decode(value)
    return found if type(found) in (int, float) else _odd(value)


def _instant(value: Value) -> datetime:
    return get_timestamp(value.timestamp_value) if value.HasField("timestamp_value") else _odd(value)


def _odd(value: Value) -> NoReturn:
    raise TypeError(f"it is {decode(value)!r}")


def _texts(value: Value) -> tuple[str, ...]:
    return tuple(decode(value))


def _failures(value: Value) -> tuple[Failure, ...]:
    return tuple(Failure(e["at"], e["attempt"], e["sequence"], e["message"]) for e in decode(value))


def _owed(value: Value) -> tuple[Owed, ...]:
    return tuple(
        Owed(
            o["id"],
            Event(o["event"]),
            o["at"],
            o["until"],
            o["sequence"],
            o["attempt"],
            o["reason"],
            o["tries"],
            tuple(o["evidence"]),
        )
        for o in decode(value)
    )


def _note(value: Value) -> Note:
    fields = value.map_value.fields
    return Note(_number(fields["sequence"]), _number(fields["token"]), _text(fields["text"]))


def _since(value: Value) -> Since:
    fields = value.map_value.fields
    return Since(_number(fields["sequence"]), _number(fields["token"]), _instant(fields["at"]))


def _fingerprint(value: Value) -> Fingerprint:
    fields = value.map_value.fields
    return Fingerprint(_text(fields["dataHash"]), _text(fields["model"]))


_READERS: Final[dict[str, Callable[[Value], Any]]] = {
    "Status": lambda value: Status(_text(value)),
    "str": _text,
    "int": _number,
    "float": _seconds,
    "datetime": _instant,
    "Note": _note,
    "Since": _since,
    "Fingerprint": _fingerprint,
    "tuple[str, ...]": _texts,
    "tuple[Failure, ...]": _failures,
    "tuple[Owed, ...]": _owed,
}
"""By the type of an attribute; what has no reader here is as it is decoded."""
ATTRIBUTES: Final = {stored: name for name, stored in STORED_NAMES.items()}
"""Name inside the stored map -> attribute of ``Lock``."""
FIELD_PATHS: Final = {stored: f"lock.{stored}" for stored in ATTRIBUTES}
"""Name inside the stored map -> its path in the document."""
_REQUIRED: Final = ("env", "sequence", "status")
_FIELDS: Final[dict[str, tuple[str, Callable[[Value], Any]]]] = {
    STORED_NAMES[field.name]: (field.name, _READERS.get(str(field.type).removesuffix(" | None"), decode))
    for field in fields(Lock)
}
"""Name inside the stored map -> (attribute, what reads it)."""


def decode_lock(document: Document) -> Lock | None:
    """
    The lock in *document*; None if it has none.

    Raises:
        StoreError: There is a field ``lock``, but it is not our record.
    """
    if "lock" not in document.fields:
        return None
    values: dict[str, Any] = {}
    key = ""
    try:
        stored = document.fields["lock"].map_value.fields
        for key in stored:
            found = _FIELDS.get(key)
            if found is not None:
                name, read = found
                values[name] = read(stored[key])
        for key in _REQUIRED:
            if key not in values:
                raise ValueError("it is missing")
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"The field 'lock' is not a lock record: {key}: {error}.", unknown=False) from error
    return Lock.of(values)


def encode_lock(target: Value, lock: Lock, before: Lock | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """
    Write into the empty map *target* what *lock* has changed since *before*; None: all of it.

    Returns:
        Stored names of the changed fields (those missing in *target* have their defaults, and are deleted), and of those that
        the server's clock must fill.
    """
    target.map_value.SetInParent()
    inner = target.map_value.fields
    changed: list[str] = []
    stamped: list[str] = []
    old, new = DEFAULTS if before is None else before.__dict__, lock.__dict__
    for name, value in new.items():
        # Most of it is what it was, the very same object.
        if value is old[name] or value == old[name]:
            continue
        if value is SERVER_TIME:
            stamped.append(STORED_NAMES[name])
            continue
        stored = STORED_NAMES[name]
        changed.append(stored)
        if value == DEFAULTS[name]:
            continue
        put(inner[stored], value)
    return tuple(changed), tuple(stamped)
