"""
The values of a log entry, found by the path of a field or all at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.struct_pb2 import Struct

from gcp_emulator import words
from gcp_emulator.logging.messages import LogEntry
from gcp_emulator.rpc import is_repeated

STRUCT, ANY, VALUE = "google.protobuf.Struct", "google.protobuf.Any", "google.protobuf.Value"
_TIMES = ("google.protobuf.Timestamp", "google.protobuf.Duration")


@cache
def fields(kind: Descriptor) -> dict[str, FieldDescriptor]:
    """
    Fields of a kind of message by their JSON names.
    """
    return {one.json_name: one for one in kind.fields}


def unknown(path: tuple[str, ...], kind: Descriptor, name: str) -> str:
    """
    Return the sentence about a *path* of which *name* is no field of *kind*.
    """
    near = words.hint(name, [one.json_name for one in kind.fields])
    return f"'{'.'.join(path)}' is no field of a log entry.{near}"


def wrong(path: tuple[str, ...]) -> str:
    """
    Return a sentence if a log entry can have no value at *path*, else nothing.
    """
    kind = LogEntry.DESCRIPTOR
    for name in path:
        field = fields(kind).get(name)
        if field is None:
            return unknown(path, kind, name)
        below = field.message_type
        if below is None:
            return "" if name == path[-1] else f"'{'.'.join(path)}' is no field: '{name}' has no parts."
        if below.full_name in (STRUCT, ANY) or below.GetOptions().map_entry:
            return ""
        kind = below
    return ""


def unpacked(payload: Any) -> Struct:
    """
    Return a ``google.protobuf.Any`` as the JSON object that the service shows; only ``@type`` if its type is not known here.
    """
    struct = Struct()
    if not payload.type_url:
        return struct
    try:
        found = json_format.MessageToDict(payload)
    except (TypeError, ValueError):
        found = {"@type": payload.type_url}
    inner = found.pop("value", None) if payload.Is(Struct.DESCRIPTOR) else None
    struct.update(found | (inner or {}))
    return struct


def within(struct: Struct, path: tuple[str, ...]) -> list[Any]:
    """
    The values at *path*; several where a list is on the way.
    """
    at = [struct.fields[path[0]]] if path[0] in struct.fields else []
    for name in (*path[1:], None):
        flat: list[Any] = []
        for value in at:
            flat.extend(value.list_value.values if value.WhichOneof("kind") == "list_value" else (value,))
        if name is None:
            return flat
        at = [
            one.struct_value.fields[name]
            for one in flat
            if one.WhichOneof("kind") == "struct_value" and name in one.struct_value.fields
        ]
    return at


def at(message: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """
    Texts, numbers and truth values at *path*, and below it; *path* was checked with ``wrong``.
    """
    field = fields(message.DESCRIPTOR)[path[0]]
    value, rest = getattr(message, field.name), path[1:]
    below = field.message_type
    if below is None:
        yield from _scalars(field, value)
    elif below.GetOptions().map_entry:
        key = ".".join(rest)
        if not rest:
            yield from value.values()
        elif key in value:
            yield value[key]
    elif below.full_name in (STRUCT, ANY) and rest:
        for one in within(value if below.full_name == STRUCT else unpacked(value), rest):
            yield from leaves(one)
    elif rest:
        yield from at(value, rest)
    else:
        yield from leaves(value)


def leaves(message: Any) -> Iterator[Any]:
    """
    Texts, numbers and truth values anywhere in *message*; the names of enumerated values are texts. Instants and lengths of
    time are left out.
    """
    name = message.DESCRIPTOR.full_name
    if name in _TIMES:
        return
    if name == ANY:
        message = unpacked(message)
    for field, value in message.ListFields():
        below = field.message_type
        if below is None:
            yield from _scalars(field, value)
        elif below.GetOptions().map_entry:
            for one in value.values():
                yield from (one,) if below.fields_by_name["value"].message_type is None else leaves(one)
        elif is_repeated(field):
            for one in value:
                yield from leaves(one)
        else:
            yield from leaves(value)


def _scalars(field: FieldDescriptor, value: Any) -> Iterator[Any]:
    many = value if is_repeated(field) else (value,)
    if field.enum_type is None:
        yield from many
    elif field.enum_type.full_name != "google.protobuf.NullValue":
        names = field.enum_type.values_by_number
        yield from (names[one].name if one in names else one for one in many)
