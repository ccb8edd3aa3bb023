"""
Match log entries with a filter.

Text is compared without regard to case, except by regular expressions. A comparison with a missing key of a payload or of
labels is false, for every operator; other fields of a log entry count as present with their default value. ``field:*`` asks
for presence.

Source:
    The service's query language documentation, sections on values, missing fields and case.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import re2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gcp_emulator.clock import micros_of
from gcp_emulator.logging.functions import function, term
from gcp_emulator.logging.leaves import ANY, STRUCT, fields, unknown, unpacked, within
from gcp_emulator.logging.lexer import FilterError
from gcp_emulator.logging.messages import SEVERITIES, LogEntry, nanos
from gcp_emulator.logging.parser import And, Call, Comparison, Node, Not, Or, Term, Value, parse

Matches = Callable[[Any], bool]
Reader = Callable[[Any], Any]

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    ":": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_INTEGERS = (
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
)
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)(?:[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:?\d\d))?")
_LENGTH = re.compile(r"(-?\d+(?:\.\d+)?)(ns|us|ms|s|m|h)")
_MOST_STEPS = 5000
"""Of a compiled regular expression: with each, the longest text takes a millisecond more."""
_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


@dataclass(frozen=True, slots=True)
class Filter:
    """
    A filter, ready for use.

    Attributes:
        matches: Whether an entry matches.
        since: Entries before this instant never match; nanoseconds since the epoch.
        until: Nor do entries after this one.
    """

    matches: Matches
    since: int
    until: int


def compiled(text: str) -> Filter:
    """
    Understand a filter.

    Raises:
        FilterError: The filter is not understood; the message has the reason and the place.
    """
    tree = parse(text)
    since, until = _bounds(tree, text)
    return Filter(_matches(tree, text), since, until)


def instant(text: str) -> int:
    """
    Nanoseconds since the epoch of an RFC 3339 instant, or of a date's first moment in UTC.

    Raises:
        ValueError: Neither.
    """
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is no RFC 3339 instant")
    date, time, fraction, zone = match.groups()
    moment = datetime.fromisoformat(f"{date}T{time or '00:00:00'}{(zone or 'Z').upper()}")
    return micros_of(moment) * 1000 + int((fraction or "0").ljust(9, "0"))


def _bounds(tree: Node, text: str) -> tuple[int, int]:
    since, until = -(2**63), 2**63
    for part in tree.parts if isinstance(tree, And) else (tree,):
        if isinstance(part, And):
            inner = _bounds(part, text)
            since, until = max(since, inner[0]), min(until, inner[1])
        elif isinstance(part, Comparison) and part.path == ("timestamp",) and part.value.text != "*":
            moment = _literal(instant, part.value, text)
            if part.operator in ("=", ">", ">="):
                since = max(since, moment)
            if part.operator in ("=", "<", "<="):
                until = min(until, moment)
    return since, until


def _matches(tree: Node, text: str) -> Matches:
    if isinstance(tree, And):
        all_of = [_matches(part, text) for part in tree.parts]
        return lambda entry: all(part(entry) for part in all_of)
    if isinstance(tree, Or):
        any_of = [_matches(part, text) for part in tree.parts]
        return lambda entry: any(part(entry) for part in any_of)
    if isinstance(tree, Not):
        inner = _matches(tree.part, text)
        return lambda entry: not inner(entry)
    if isinstance(tree, Term):
        return term(tree.value)
    if isinstance(tree, Call):
        return function(tree, text)
    return _Compared(tree, text).matches()


def _literal(read: Callable[[str], Any], value: Value, text: str) -> Any:
    try:
        return read(value.text)
    except (ValueError, OverflowError, KeyError) as error:
        raise FilterError(f"{error}.", text, value.offset) from None


class _Compared:
    """
    One comparison: walks the path through the message types to the compared field, whose type decides how to compare.
    """

    def __init__(self, comparison: Comparison, text: str) -> None:
        self._path = comparison.path
        self._operator = comparison.operator
        self._value = comparison.value
        self._offset = comparison.offset
        self._text = text
        self._presence = comparison.operator == ":" and comparison.value.text == "*" and not comparison.value.quoted

    def _error(self, message: str) -> FilterError:
        return FilterError(message, self._text, self._offset)

    def matches(self) -> Matches:
        return self._walk(LogEntry.DESCRIPTOR, self._path, lambda entry: entry)

    def _walk(self, kind: Descriptor, path: tuple[str, ...], read: Reader) -> Matches:
        """
        The comparison for *path* below a message of *kind*, which *read* takes from an entry.
        """
        field = fields(kind).get(path[0])
        if field is None:
            raise self._error(unknown(self._path, kind, path[0]))
        name, rest = field.name, path[1:]
        below = field.message_type
        if below is None:
            if rest:
                raise self._error(f"'{'.'.join(self._path)}' is no field: '{path[0]}' has no parts.")
            return self._scalar(field, read)
        full_name = below.full_name
        if below.GetOptions().map_entry and rest:
            return self._label(lambda entry: getattr(read(entry), name), ".".join(rest))
        if full_name == STRUCT and rest:
            return self._payload(lambda entry: getattr(read(entry), name), rest)
        if full_name == ANY and rest:
            return self._payload(lambda entry: unpacked(getattr(read(entry), name)), rest)
        if full_name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
            literal = instant if full_name.endswith("Timestamp") else _duration
            return self._ordered(literal, lambda entry: nanos(getattr(read(entry), name)))
        if rest:
            return self._walk(below, rest, lambda entry: getattr(read(entry), name))
        if not self._presence:
            raise self._error(
                f"'{'.'.join(self._path)}' is a message; name a part of it, or ask for presence with ':*'."
            )
        if below.GetOptions().map_entry:
            return lambda entry: len(getattr(read(entry), name)) > 0
        return lambda entry: bool(read(entry).HasField(name))

    def _scalar(self, field: FieldDescriptor, read: Reader) -> Matches:
        name = field.name
        if self._presence:
            if field.has_presence:
                return lambda entry: bool(read(entry).HasField(name))
            return lambda entry: bool(getattr(read(entry), name))
        if field.containing_oneof is not None:  # textPayload: absent from an entry with another payload
            compare = self._textual()
            return lambda entry: read(entry).HasField(name) and compare(getattr(read(entry), name))
        if field.enum_type is not None:
            return self._ordered(_severity, lambda entry: getattr(read(entry), name))
        if field.cpp_type in _INTEGERS:
            return self._ordered(_number, lambda entry: getattr(read(entry), name))
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return self._ordered(_boolean, lambda entry: getattr(read(entry), name))
        compare = self._textual()
        return lambda entry: compare(getattr(read(entry), name))

    def _ordered(self, literal: Callable[[str], Any], read: Reader) -> Matches:
        """
        A comparison of numbers, instants, lengths of time, severities or truth values.
        """
        if self._presence:
            return lambda entry: bool(read(entry))
        holds = _ORDER.get(self._operator)
        if holds is None:
            raise self._error(f"'{'.'.join(self._path)}' is no text; '{self._operator}' needs text.")
        right = _literal(literal, self._value, self._text)
        return lambda entry: holds(read(entry), right)

    def _textual(self) -> Callable[[str], bool]:
        if self._operator in ("=~", "!~"):
            search = self._expression().search
            wanted = self._operator == "=~"
            return lambda left: (search(left) is not None) is wanted
        right = self._value.text.casefold()
        if self._operator == ":":
            return lambda left: right in left.casefold()
        holds = _ORDER[self._operator]
        return lambda left: holds(left.casefold(), right)

    def _expression(self) -> Any:
        # The engine is the service's own: it accepts the same expressions, and takes time linear in the length of the text.
        options = re2.Options()
        options.log_errors = False
        try:
            expression = re2.compile(self._value.text, options)
        except (re2.error, UnicodeError) as error:
            said = error.args[0].decode(errors="replace") if isinstance(error, re2.error) else "no Unicode text"
            raise FilterError(f"bad regular expression: {said}.", self._text, self._value.offset) from None
        if expression.programsize > _MOST_STEPS:
            raise FilterError(
                f"a regular expression of {expression.programsize} steps; this local server takes {_MOST_STEPS}.",
                self._text,
                self._value.offset,
            )
        return expression

    def _label(self, read: Reader, key: str) -> Matches:
        if self._presence:
            return lambda entry: key in read(entry)
        compare = self._textual()

        def labelled(entry: Any) -> bool:
            labels = read(entry)
            return key in labels and compare(labels[key])

        return labelled

    def _payload(self, read: Reader, path: tuple[str, ...]) -> Matches:
        compare: Callable[[Any], bool] = (lambda _: True) if self._presence else self._json()

        def found(entry: Any) -> bool:
            return any(compare(value) for value in within(read(entry), path))

        return found

    def _json(self) -> Callable[[Any], bool]:
        """
        The comparison with one JSON value, whose type decides how the right side is read.
        """
        textual = self._textual()
        holds = _ORDER.get(self._operator)
        number = _or_none(_number, self._value.text)
        truth = _or_none(_boolean, self._value.text)
        null = self._value.text == "NULL_VALUE"

        def compare(value: Any) -> bool:
            kind = value.WhichOneof("kind")
            if kind == "string_value":
                return textual(value.string_value)
            if holds is None:
                return False
            if kind == "number_value":
                return holds(value.number_value, number) if number is not None else self._operator == "!="
            if kind == "bool_value":
                return holds(value.bool_value, truth) if truth is not None else self._operator == "!="
            if kind == "null_value" and self._operator in ("=", ":", "!="):
                return null is not (self._operator == "!=")
            return False

        return compare


def _or_none(read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except ValueError:
        return None


def _number(text: str) -> float:
    if re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", text) is None:
        raise ValueError(f"'{text}' is no number")
    return int(text) if text.isdecimal() else float(text)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"'{text}' is neither true nor false")
    return text.lower() == "true"


def _severity(text: str) -> int:
    if text.isdecimal():
        return int(text)
    if text.upper() not in SEVERITIES:
        raise ValueError(f"'{text}' is no severity; there are {', '.join(SEVERITIES)}")
    return SEVERITIES[text.upper()]


def _duration(text: str) -> int:
    match = _LENGTH.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is no length of time; write one such as 1.5s or 300ms")
    return round(float(match[1]) * _UNITS[match[2]])
