"""
Readers of the values that a stored lock has, by the type of the attribute. Each raises an error if the value is of another form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NoReturn

from gcp_oncetask.checks.values import LATEST
from gcp_oncetask.rules.journal import JournalEntry
from gcp_oncetask.rules.record import (
    Acknowledgement,
    Act,
    Chunk,
    Event,
    Failure,
    Fingerprint,
    HandlerWait,
    Intent,
    Note,
    PendingAlert,
    Since,
    Status,
    WaitFor,
    Woken,
)
from gcp_oncetask.rules.waits import SentEvent
from gcp_oncetask.store import forms
from gcp_oncetask.store.codec import Value, ValueType, decode, get_timestamp

_LATEST: Final = round(LATEST.timestamp())
_MOST: Final = 2**62
"""Numbers of a record must be less. Real ones are far less; and a greater one, counted up, could exceed 64 bits."""
_STATUSES: Final = {str(status): status for status in Status}
_LONGEST_SHOWN: Final = 60


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
    raise TypeError(f"it is {shown(value)}")


def shown(value: Value) -> str:
    """
    Return *value* for an error: a short text, or the name of its type.
    """
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


def reader_of(attribute: str, of_type: str) -> Callable[[Value], Any]:
    """
    Return the reader of an attribute of ``Lock``, whose annotation is *of_type*.
    """
    return _FORMS.get(attribute) or _READERS.get(of_type.removesuffix(" | None"), decode)
