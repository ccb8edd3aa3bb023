"""
Convert values to canonical texts. Equal values of one type have the same text in every process; all other values have
different texts.

Pure. A value that JSON can express has its JSON text, compact and with sorted keys. Every other value has ``!``, a tag, and
the canonical text of its parts, such as ``!Decimal"1.5"`` or ``!tuple[1,2]``. JSON has no ``!`` outside of its texts, and
each text can be read in one way only. So different values have different texts, however deep the difference lies.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from pathlib import PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel

_MAX_DEPTH: Final = 50


class NotCanonicalError(Exception):
    """
    A value has no canonical text; the message names the value and the reason.
    """


class _UnknownTypeError(NotCanonicalError):
    pass


def canonical(value: Any) -> str:
    """
    Return the canonical text of *value*.

    JSON, byte for byte as it always was: None, booleans, integers, finite floats, texts, lists, and mappings whose keys are
    texts, of any class of mapping. 1, 1.0, True and "1" differ; so do 0.0 and -0.0.

    Tagged: tuples, sets, frozensets, bytes, bytearrays, dates, times, datetimes, timedeltas, decimals, UUIDs, paths; enum
    members, by class and name, those of an ``IntEnum`` or ``StrEnum`` too; pydantic models and dataclasses, by class, with
    all their fields; and instances of classes derived from one of these or of JSON's own, by class (named tuples,
    subclasses of ``str``). If the value of a model's field has no canonical form, the value that the model dumps for the
    field is used.

    Equal values of one type have the same text: one instant in two time zones, Decimal 1.0 and 1.00, sets in any order. A
    naive datetime equals no aware one. Values of different types have different texts.

    Raises:
        NotCanonicalError: *value* is or holds an object of another type, a float or Decimal that is not finite, a mapping
            with a key that is no text, half a surrogate pair, or an instant outside of the calendar; or it is nested too
            deeply.
    """
    return _form(value, 0)


def text_form(text: str) -> str:
    """
    Return *text* as JSON.

    Raises:
        NotCanonicalError: *text* holds half a surrogate pair.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotCanonicalError("a text holds half a surrogate pair, which no encoding has") from None
    return json.dumps(text, ensure_ascii=False)


def mapping_form(forms: Mapping[str, str]) -> str:
    """
    Return the form of a mapping whose values are canonical texts already.
    """
    return "{" + ",".join(f"{text_form(key)}:{forms[key]}" for key in sorted(forms)) + "}"


def _form(value: Any, depth: int) -> str:
    if depth > _MAX_DEPTH:
        raise NotCanonicalError("it is nested too deeply, or holds itself")
    writer = _WRITERS.get(type(value))
    if writer is not None:
        return writer(value, depth)
    match value:
        case Enum():
            return _tagged("enum", [text_form(_name_of(type(value))), _member(value)])
        case BaseModel():
            return _model(value, depth)
        case Mapping():
            return _mapping(value, depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _dataclass(value, depth)
    for base in type(value).__mro__:
        if base in _WRITERS:
            return _tagged("as", [text_form(_name_of(type(value))), _WRITERS[base](value, depth)])
    raise _UnknownTypeError(f"a {type(value).__qualname__} has no canonical form")


def _name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _tagged(tag: str, parts: Iterable[str]) -> str:
    return f"!{tag}[{','.join(parts)}]"


# --- values that JSON can express
# ------------------------------------------------------------------------------------------------


def _int(value: int, _: int) -> str:
    try:
        return int.__repr__(value)
    except ValueError:
        raise NotCanonicalError("an integer has too many digits") from None


def _float(value: float, _: int) -> str:
    if not math.isfinite(value):
        raise NotCanonicalError(f"{value} equals nothing, not even itself")
    return float.__repr__(value)


def _items(value: Iterable[Any], depth: int) -> list[str]:
    return [_form(item, depth + 1) for item in value]


def _mapping(value: Mapping[Any, Any], depth: int) -> str:
    for key in value:
        if not isinstance(key, str):
            raise NotCanonicalError(f"the map key {key!r} is not a text")
    if all(type(key) is str for key in value):
        return mapping_form({key: _form(item, depth + 1) for key, item in value.items()})
    pairs = (f"[{_form(key, depth + 1)},{_form(item, depth + 1)}]" for key, item in value.items())
    return _tagged("map", sorted(pairs))


# --- other values ----------------------------------------------------------------------------------------------------


def _datetime(value: datetime, _: int) -> str:
    try:
        # The form is in UTC, so that one instant in two zones, or with another fold, is one key.
        at = value if value.utcoffset() is None else value.astimezone(UTC)
    except OverflowError:
        raise NotCanonicalError(f"{value} is outside of the calendar in UTC") from None
    return f'!datetime"{at.isoformat()}"'


def _time(value: time, _: int) -> str:
    offset = value.utcoffset()
    if offset is None:
        return f'!time"{value.isoformat()}"'
    passed = timedelta(0, value.second, value.microsecond, 0, value.minute, value.hour) - offset
    return _tagged("time", map(str, (passed.days, passed.seconds, passed.microseconds)))


def _timedelta(value: timedelta, _: int) -> str:
    return _tagged("timedelta", map(str, (value.days, value.seconds, value.microseconds)))


def _decimal(value: Decimal, _: int) -> str:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise NotCanonicalError(f"{value} equals nothing, not even itself")
    shown = "".join(map(str, digits)).lstrip("0")
    short = shown.rstrip("0")
    if not short:
        return '!Decimal"0"'
    # The constructor is exact; arithmetic would round to the precision of the context.
    exact = Decimal((sign, tuple(map(int, short)), exponent + len(shown) - len(short)))
    return f'!Decimal"{exact}"'


def _set(value: Iterable[Any], depth: int) -> list[str]:
    return sorted(set(_items(value, depth)))


def _path(tag: str) -> Callable[[Any, int], str]:
    return lambda value, _: f"!{tag}{text_form(str(value))}"


def _windows_path(tag: str) -> Callable[[Any, int], str]:
    # Windows paths are equal regardless of case.
    return lambda value, _: f"!{tag}{text_form(str(value).lower())}"


def _member(value: Enum) -> str:
    # A combination of flags may have no name.
    return _form(value.value, 0) if isinstance(value, Flag) else text_form(value.name)


def _model(value: BaseModel, depth: int) -> str:
    cls = type(value)
    fields = {name: _field(value, name, depth + 1) for name in cls.model_fields if name in vars(value)}
    parts = [text_form(_name_of(cls)), mapping_form(fields)]
    if value.model_extra:
        parts.append(_mapping(value.model_extra, depth))
    return _tagged("model", parts)


def _field(value: BaseModel, name: str, depth: int) -> str:
    # The value is dumped only if it must be: a serializer may leave out or mask data, or dump two values alike.
    held = vars(value)[name]
    try:
        return _form(held, depth)
    except _UnknownTypeError:
        dumped = value.model_dump(include={name}, warnings=False)
        if name not in dumped or dumped[name] is held:
            raise
        return _tagged("dumped", [text_form(_name_of(type(held))), _form(dumped[name], depth)])


def _dataclass(value: Any, depth: int) -> str:
    cls = type(value)
    fields = [each.name for each in dataclasses.fields(cls) if each.compare and hasattr(value, each.name)]
    forms = mapping_form({name: _form(getattr(value, name), depth + 1) for name in fields})
    return _tagged("dataclass", [text_form(_name_of(cls)), forms])


_WRITERS: Final[dict[type, Callable[[Any, int], str]]] = {
    type(None): lambda _, __: "null",
    bool: lambda value, _: "true" if value else "false",
    int: _int,
    float: _float,
    str: lambda value, _: text_form(value),
    list: lambda value, depth: f"[{','.join(_items(value, depth))}]",
    dict: _mapping,
    tuple: lambda value, depth: _tagged("tuple", _items(value, depth)),
    set: lambda value, depth: _tagged("set", _set(value, depth)),
    frozenset: lambda value, depth: _tagged("frozenset", _set(value, depth)),
    bytes: lambda value, _: f'!bytes"{value.hex()}"',
    bytearray: lambda value, _: f'!bytearray"{value.hex()}"',
    datetime: _datetime,
    date: lambda value, _: f'!date"{value.isoformat()}"',
    time: _time,
    timedelta: _timedelta,
    Decimal: _decimal,
    UUID: lambda value, _: f'!UUID"{value}"',
    PurePath: _path("PurePath"),
    PurePosixPath: _path("PurePosixPath"),
    PosixPath: _path("PosixPath"),
    PureWindowsPath: _windows_path("PureWindowsPath"),
    WindowsPath: _windows_path("WindowsPath"),
}
"""The writer of each type; a subclass has that of its first base that is here."""
