"""
Convert Python values <-> Firestore values, and the lock <-> its stored map, on plain protobuf messages.

Plain messages cost a tenth of the client's wrapped ones, and every delivery uses this module three times.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from functools import lru_cache
from typing import Any, Final, NoReturn, TypeAlias

from google.cloud.firestore import GeoPoint
from google.cloud.firestore_v1.base_document import BaseDocumentReference
from google.cloud.firestore_v1.types import document as _document
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic_core import to_jsonable_python

from gcp_oncetask.checks.ordered import arranged
from gcp_oncetask.checks.told import text_of
from gcp_oncetask.checks.values import LATEST
from gcp_oncetask.errors import DamagedError, UsageError
from gcp_oncetask.rules import features
from gcp_oncetask.rules.journal import JournalEntry
from gcp_oncetask.rules.record import (
    DEFAULTS,
    SERVER_TIME,
    STORED_NAMES,
    Acknowledgement,
    Act,
    Chunk,
    Event,
    Failure,
    Fingerprint,
    HandlerWait,
    Intent,
    Lock,
    Note,
    PendingAlert,
    Since,
    Status,
    WaitFor,
    Woken,
)
from gcp_oncetask.rules.waits import SentEvent
from gcp_oncetask.store import forms

Value: TypeAlias = Any
"""A plain ``google.firestore.v1.Value``; the generated classes have no types."""
Document: TypeAlias = Any
"""A plain ``google.firestore.v1.Document``."""

ValueType: Final = _document.Value.pb()
DocumentType: Final = _document.Document.pb()

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_FIRST, _LAST = -62_135_596_800, 253_402_300_799  # 0001-01-01T00:00:00Z, 9999-12-31T23:59:59Z
_LATEST: Final = round((LATEST - _EPOCH).total_seconds())
_MOST: Final = 2**62
"""Numbers of a record must be less. Real ones are far less; and a greater one, counted up, could exceed 64 bits."""
_STATUSES: Final = {str(status): status for status in Status}
WHOLE: Final = "lock"
"""Name in an error, instead of an attribute's, if the lock is no map."""
_LONGEST_SHOWN: Final = 60
_LONGEST_TROUBLE: Final = 200
_MOST_TOLD: Final = 3


# --- values -----------------------------------------------------------------------------------------------------------


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
        # Most values are texts and numbers.
        if kind is str:
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


def _put_status(target: Value, value: Status) -> None:
    target.string_value = str(value)


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


def _put_failure(target: Value, failure: Failure) -> None:
    _put_map(
        target,
        {"at": failure.at, "attempt": failure.attempt, "sequence": failure.sequence, "message": failure.message},
    )


def _put_owed(target: Value, owed: PendingAlert) -> None:
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
            # It is absent if there is none; releases that do not know it ignore it.
            **({} if owed.digest is None else {"digest": owed.digest}),
        },
    )


def _put_note(target: Value, note: Note) -> None:
    _put_map(target, {"sequence": note.sequence, "token": note.token, "text": note.text})


def _put_since(target: Value, since: Since) -> None:
    _put_map(target, {"sequence": since.sequence, "token": since.token, "at": since.at})


def _put_fingerprint(target: Value, fingerprint: Fingerprint) -> None:
    _put_map(target, {"dataHash": fingerprint.data_hash, "model": fingerprint.model})


def _put_act(target: Value, act: Act) -> None:
    told = {"claimed": act.claimed, "note": act.note}
    _put_map(
        target,
        {
            "at": act.at,
            "verb": act.verb,
            "by": act.by,
            "proven": act.proven,
            "status": act.status,
            "sequence": act.sequence,
            **{name: text for name, text in told.items() if text is not None},
        },
    )


def _put_acknowledgement(target: Value, known: Acknowledgement) -> None:
    _put_map(target, {"sequence": known.sequence, "token": known.token, "by": known.by, "until": known.until})


def _put_chunk(target: Value, chunk: Chunk) -> None:
    _put_map(target, {"id": chunk.id, "first": chunk.first, "last": chunk.last, "size": chunk.size})


def _put_intent(target: Value, intent: Intent) -> None:
    _put_map(target, {"name": intent.name, "token": intent.token, "begun": intent.begun, "over": intent.over})


def _put_wait(target: Value, wait: HandlerWait) -> None:
    may_be = {"until": wait.until, "nonce": wait.nonce, "ended": wait.ended, "event": wait.event}
    _put_map(
        target,
        {
            "name": wait.name,
            "sort": wait.sort.value,
            "ordinal": wait.ordinal,
            "since": wait.since,
            **({"events": list(wait.events)} if wait.events else {}),
            **({"tolerate": wait.tolerate} if wait.tolerate else {}),
            **{name: value for name, value in may_be.items() if value is not None},
        },
    )


_SETTERS: Final[dict[type, Callable[[Any, Any], None]]] = {
    type(None): _put_none,
    Status: _put_status,
    Failure: _put_failure,
    PendingAlert: _put_owed,
    Note: _put_note,
    Since: _put_since,
    Fingerprint: _put_fingerprint,
    Act: _put_act,
    Acknowledgement: _put_acknowledgement,
    Chunk: _put_chunk,
    Intent: _put_intent,
    HandlerWait: _put_wait,
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


# --- the lock ---------------------------------------------------------------------------------------------------------


def _text(value: Value) -> str:
    text: str = value.string_value
    return text if text or value.WhichOneof("value_type") == "string_value" else _odd(value)


def _status(value: Value) -> Status:
    return _STATUSES.get(value.string_value) or Status(_text(value))


def _number(value: Value) -> int:
    number: int = value.integer_value
    if 0 < number < _MOST:
        return number
    return number if number == 0 and value.WhichOneof("value_type") == "integer_value" else _odd(value)


def _flag(value: Value) -> bool:
    flag: bool = value.boolean_value
    return flag if flag or value.WhichOneof("value_type") == "boolean_value" else _odd(value)


def _seconds(value: Value) -> float:
    found: float = decode(value)
    return found if type(found) in (int, float) and 0 <= found <= forms.LONGEST else _odd(value)


def _instant(value: Value) -> datetime:
    stamp = value.timestamp_value
    known = stamp.seconds < _LATEST and value.HasField("timestamp_value")
    return get_timestamp(stamp) if known else _odd(value)


def _odd(value: Value) -> NoReturn:
    raise TypeError(f"it is {_shown(value)}")


def _shown(value: Value) -> str:
    match value.WhichOneof("value_type"):
        case "string_value":
            return repr(value.string_value[:_LONGEST_SHOWN])
        case "map_value":
            return "a map"
        case "array_value":
            return "a list"
        case "bytes_value":
            return "bytes"
        case None | "null_value":
            return "null"
    return repr(decode(value))


def _list(value: Value) -> Iterable[Value]:
    items: Iterable[Value] = value.array_value.values
    return items if value.HasField("array_value") else _odd(value)


def _inner(value: Value, *names: str) -> list[Value]:
    """
    Return the values of *names* in *value*, a map inside the lock.
    """
    inner = value.map_value.fields if value.HasField("map_value") else _odd(value)
    found: list[Value] = []
    for name in names:
        # Reading a missing key would add it.
        if name not in inner:
            raise ValueError(f"{name} is missing")
        found.append(inner[name])
    return found


def _texts(value: Value) -> tuple[str, ...]:
    return tuple([_text(item) for item in _list(value)])


def _failures(value: Value) -> tuple[Failure, ...]:
    return tuple(_failure(item) for item in _list(value))


def _failure(value: Value) -> Failure:
    at, attempt, sequence, message = _inner(value, "at", "attempt", "sequence", "message")
    return Failure(_instant(at), _number(attempt), _number(sequence), _text(message))


def _owed(value: Value) -> tuple[PendingAlert, ...]:
    return tuple(_one_owed(item) for item in _list(value))


def _one_owed(value: Value) -> PendingAlert:
    id_, event, at, until = _inner(value, "id", "event", "at", "until")
    sequence, attempt, reason, tries, evidence = _inner(value, "sequence", "attempt", "reason", "tries", "evidence")
    inner = value.map_value.fields
    return PendingAlert(
        _text(id_),
        Event(_text(event)),
        _instant(at),
        _instant(until),
        _number(sequence),
        _number(attempt),
        _text(reason),
        _number(tries),
        _texts(evidence),
        _text(inner["digest"]) if "digest" in inner else None,
    )


def _note(value: Value) -> Note:
    sequence, token, text = _inner(value, "sequence", "token", "text")
    return Note(_number(sequence), _number(token), _text(text))


def _since(value: Value) -> Since:
    sequence, token, at = _inner(value, "sequence", "token", "at")
    return Since(_number(sequence), _number(token), _instant(at))


def _fingerprint(value: Value) -> Fingerprint:
    data_hash, model = _inner(value, "dataHash", "model")
    return Fingerprint(_text(data_hash), _text(model))


def _acts(value: Value) -> tuple[Act, ...]:
    return tuple(_act(item) for item in _list(value))


def _act(value: Value) -> Act:
    at, verb, by, proven = _inner(value, "at", "verb", "by", "proven")
    status, sequence = _inner(value, "status", "sequence")
    inner = value.map_value.fields
    claimed, note = (_text(inner[name]) if name in inner else None for name in ("claimed", "note"))
    return Act(_instant(at), _text(verb), _text(by), _flag(proven), claimed, _text(status), _number(sequence), note)


def _acknowledgement(value: Value) -> Acknowledgement:
    sequence, token, by, until = _inner(value, "sequence", "token", "by", "until")
    return Acknowledgement(_number(sequence), _number(token), _text(by), _instant(until))


def _bytes(value: Value) -> bytes:
    found: bytes = value.bytes_value
    return found if found or value.HasField("bytes_value") else _odd(value)


def _many_bytes(value: Value) -> tuple[bytes, ...]:
    return tuple([_bytes(item) for item in _list(value)])


def _rows_of(parse: Callable[[bytes], Any]) -> Callable[[Value], tuple[bytes, ...]]:
    def read(value: Value) -> tuple[bytes, ...]:
        # A row that can't be read later would hold up its record again and again.
        rows = _many_bytes(value)
        for row in rows:
            parse(row)
        return rows

    return read


def _chunks(value: Value) -> tuple[Chunk, ...]:
    return tuple([_chunk(item) for item in _list(value)])


def _chunk(value: Value) -> Chunk:
    id_, first, last, size = _inner(value, "id", "first", "last", "size")
    return Chunk(_text(id_), _number(first), _number(last), _number(size))


def _intents(value: Value) -> tuple[Intent, ...]:
    return tuple([_intent(item) for item in _list(value)])


def _intent(value: Value) -> Intent:
    name, token, begun, over = _inner(value, "name", "token", "begun", "over")
    return Intent(_text(name), _number(token), _instant(begun), _instant(over))


def _wait(value: Value) -> HandlerWait:
    name, sort, ordinal, since = _inner(value, "name", "sort", "ordinal", "since")
    inner = value.map_value.fields
    nonce, ended, event = (_text(inner[name]) if name in inner else None for name in ("nonce", "ended", "event"))
    return HandlerWait(
        _text(name),
        WaitFor(_text(sort)),
        _number(ordinal),
        _instant(since),
        _instant(inner["until"]) if "until" in inner else None,
        _texts(inner["events"]) if "events" in inner else (),
        nonce,
        None if ended is None else Woken(ended),
        event,
        _number(inner["tolerate"]) if "tolerate" in inner else 0,
    )


def _headers(value: Value) -> dict[str, str]:
    # Headers may have the user's data, so no error shows them.
    found = decode(value)
    if not isinstance(found, dict) or not all(type(text) is str for text in found.values()):
        raise TypeError("it is no map of texts")
    return found


def _retry(value: Value) -> dict[str, Any]:
    # Many tasks have one of few policies, so decoded policies are cached.
    return _policy(value.SerializeToString())


@lru_cache
def _policy(serialized: bytes) -> dict[str, Any]:
    data = decode(ValueType.FromString(serialized))
    forms.check_policy(data)
    return dict(data)


def _of_form(check: Callable[[str], None]) -> Callable[[Value], str]:
    def read(value: Value) -> str:
        # The empty text is never valid.
        text: str = value.string_value or _odd(value)
        check(text)
        return text

    return read


_READERS: Final[dict[str, Callable[[Value], Any]]] = {
    "Status": _status,
    "str": _text,
    "int": _number,
    "bool": _flag,
    "float": _seconds,
    "datetime": _instant,
    "Note": _note,
    "Since": _since,
    "Fingerprint": _fingerprint,
    "tuple[Act, ...]": _acts,
    "Acknowledgement": _acknowledgement,
    "bytes": _bytes,
    "tuple[bytes, ...]": _many_bytes,
    "tuple[Chunk, ...]": _chunks,
    "tuple[Intent, ...]": _intents,
    "HandlerWait": _wait,
    "tuple[str, ...]": _texts,
    "tuple[Failure, ...]": _failures,
    "tuple[PendingAlert, ...]": _owed,
    "dict[str, str]": _headers,
    "dict[str, Any]": _retry,
}
"""Type of an attribute -> its reader. An attribute of another type is only decoded: it is JSON data of the user's."""
_FORMS: Final[dict[str, Callable[[Value], Any]]] = {name: _of_form(check) for name, check in forms.TEXTS.items()} | {
    "journal": _rows_of(JournalEntry.of),
    "mailbox": _rows_of(SentEvent.of),
}
"""Attribute -> its reader, if its text must have a certain form."""
ATTRIBUTES: Final = {stored: name for name, stored in STORED_NAMES.items()}
"""Name inside the stored map -> attribute of ``Lock``."""
FIELD_PATHS: Final = {stored: f"lock.{stored}" for stored in ATTRIBUTES}
"""Name inside the stored map -> its path in the document."""
_REQUIRED: Final = frozenset({"env", "sequence", "status"})
_FIELDS: Final[dict[str, tuple[str, Callable[[Value], Any]]]] = {
    STORED_NAMES[field.name]: (
        field.name,
        _FORMS.get(field.name) or _READERS.get(str(field.type).removesuffix(" | None"), decode),
    )
    for field in fields(Lock)
}
"""Name inside the stored map -> (attribute, its reader)."""
_UNREADABLE: Final = (ArithmeticError, LookupError, TypeError, ValueError)


def decode_lock(document: Document, path: str = "") -> Lock | None:
    """
    Return the lock in *document*, which is at *path*; None if the document has none, or null.

    Raises:
        DamagedError: The document has a field ``lock``, but it is no valid record.
    """
    if "lock" not in document.fields:
        return None
    value = document.fields["lock"]
    if not value.HasField("map_value"):
        if value.HasField("null_value"):
            return None
        raise _damaged(document, path, {WHOLE: f"it is {_shown(value)}, and no map"})
    values: dict[str, Any] = {}
    try:
        stored = value.map_value.fields
        for key in stored:
            found = _FIELDS.get(key)
            if found is not None:
                name, read = found
                values[name] = read(stored[key])
    except _UNREADABLE as error:
        return _of_newer(document, path, error)
    if not values.keys() >= _REQUIRED:
        return _of_newer(document, path, None)
    lock = Lock.of(values)
    misfit = forms.misfit(lock, path, document)
    if misfit is not None and not features.unknown(lock):
        raise _damaged(document, path, dict([misfit]))
    return lock


def _of_newer(document: Document, path: str, cause: Exception | None) -> Lock:
    """
    Return a record that can't be decoded, with the attributes that can be read, if it needs a newer release: then only its
    own holder may change it.

    Raises:
        DamagedError: The record does not need a newer release.
    """
    values, troubles = salvage(document)
    if not features.of(values.get("needs", ())):
        raise _damaged(document, path, troubles) from cause
    return Lock.of({"env": "", "sequence": 0, "status": Status.SCHEDULED} | values)


def salvage(document: Document) -> tuple[dict[str, Any], dict[str, str]]:
    """
    Return the values of a damaged lock that can be read, by attribute, and the trouble with each attribute that can't be
    read.
    """
    values: dict[str, Any] = {}
    troubles: dict[str, str] = {}
    stored = document.fields["lock"].map_value.fields
    for key in stored:
        if key in _FIELDS:
            name, read = _FIELDS[key]
            try:
                values[name] = read(stored[key])
            except _UNREADABLE as error:
                troubles[name] = str(error)[:_LONGEST_TROUBLE].rstrip(".")
    return values, troubles | dict.fromkeys(_REQUIRED - values.keys() - troubles.keys(), "it is missing")


def _damaged(document: Document, path: str, troubles: Mapping[str, str]) -> DamagedError:
    """
    Return the error for a lock that can't be decoded.
    """
    env = document.fields["lock"].map_value.fields.get("env")
    # The order of the map varies, this one does not. ``due`` is last: it is made anew if it alone is damaged.
    names = sorted(troubles, key=lambda name: (name == "due", name))
    told = "; ".join(f"{STORED_NAMES.get(name, name)}: {troubles[name]}" for name in names[:_MOST_TOLD])
    return DamagedError(
        f"{f'{path}: its lock' if path else 'The lock'} is damaged: {told}.",
        document=path,
        field=STORED_NAMES.get(names[0], names[0]),
        trouble=told,
        env=None if env is None else env.string_value or None,
        unknown=False,
    )


def encode_lock(target: Value, lock: Lock, before: Lock | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """
    Write into the empty map *target* the attributes that differ between *before* and *lock*; None: between the defaults and
    *lock*.

    Returns:
        Stored names of the changed fields (those missing in *target* have their defaults, and are deleted), and stored names
        of the fields that the server's clock must fill.
    """
    target.map_value.SetInParent()
    inner = target.map_value.fields
    changed: list[str] = []
    stamped: list[str] = []
    places: list[tuple[Value, Any]] = []
    old, new = DEFAULTS if before is None else before.__dict__, lock.__dict__
    for name, value in new.items():
        known = old[name]
        # Most values are unchanged, the very same objects.
        if value is known or (known is not None and value == known):
            continue
        if value is SERVER_TIME:
            stamped.append(STORED_NAMES[name])
            continue
        stored = STORED_NAMES[name]
        changed.append(stored)
        default = DEFAULTS[name]
        if value is default or (default is not None and value == default):
            continue
        places.append((inner[stored], value))
    put_all(places)
    return tuple(changed), tuple(stamped)
