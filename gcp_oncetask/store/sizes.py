"""
Compute the size of a document as Firestore counts it, and the room that a schedule must leave in it for its run's records.

Source:
    Firestore, "Understand storage size calculations".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from google.cloud.firestore_v1.field_path import parse_field_path

from gcp_oncetask.errors import UsageError
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.store.codec import Document, DocumentType, Value
from gcp_oncetask.store.snapshot import Snapshot, Update

DOCUMENT: Final = 1_048_576
"""Most bytes of a document in Firestore: 1 MiB."""
HEAD_ROOM: Final = 131_072
"""Bytes that a schedule leaves free for the run's records: its result, alerts, errors, acts and journal."""
ROOM: Final = DOCUMENT - HEAD_ROOM
"""Most bytes of a document when it is scheduled."""
OCCURRENCE: Final = 8_192
"""Most bytes by which an occurrence is larger than its generator: its id, key and times."""
_FACTOR: Final = 8
"""A value's size in Firestore is at most so many times its size in a message; an empty map is the worst case."""


def needs_room(before: Lock | None, after: Lock) -> bool:
    """
    Tell whether a commit schedules: it makes a sequence that will run, or stores a payload for such a run.
    """
    if before is None or before.sequence != after.sequence:
        return after.status is Status.SCHEDULED
    return before.wanted_by != after.wanted_by


def check_room(snapshot: Snapshot, writes: Iterable[Any], *, keep: int = 0) -> None:
    """
    Refuse to schedule a document that would be too large to record its run.

    The check is cheap if the document is small. Concurrent writes by others are not counted.

    Args:
        snapshot: The document before.
        writes: Plain writes of the document, in their order.
        keep: Bytes to leave free besides.

    Raises:
        UsageError: The document would be too large; the error has its size and the limit.
    """
    writes, most = list(writes), ROOM - keep
    if (_bound(snapshot) + sum([write.ByteSize() for write in writes])) * _FACTOR <= most:
        return
    document = DocumentType()
    if snapshot.document is not None:
        document.fields.MergeFrom(snapshot.document.fields)
    for write in writes:
        apply(document, write)
    size = size_of(snapshot.path, document.fields)
    if size > most:
        raise UsageError(
            f"{snapshot.path} would have {size:,} bytes with this schedule, and may have {most:,}: the rest of the "
            f"{DOCUMENT:,} that Firestore stores is left for the records of its run. Keep large contents "
            "elsewhere (Cloud Storage) and their name in the document. Nothing was written.",
            document=snapshot.path,
            size=size,
            limit=most,
        )


def room_of(snapshot: Snapshot) -> int:
    """
    Return the bytes that the document *snapshot* has left; if it is small, a few too few.
    """
    most = _bound(snapshot) * _FACTOR
    if most <= DOCUMENT // 2 or snapshot.document is None:
        return max(0, DOCUMENT - most)
    return max(0, DOCUMENT - size_of(snapshot.path, snapshot.document.fields))


def _bound(snapshot: Snapshot) -> int:
    source, bound = snapshot.source, 0
    while isinstance(source, Update):
        bound += source.message.ByteSize()
        source = source.before.source
    return bound if source is None else bound + int(source.ByteSize())


def apply(document: Document, write: Any) -> None:
    """
    Apply a plain write to *document*, as the server does to the stored one; server times and increments are left out.
    """
    kind = write.WhichOneof("operation")
    if kind == "transform":
        return
    if kind == "delete" or not write.HasField("update_mask"):
        document.fields.clear()
        document.fields.MergeFrom(write.update.fields)
        return
    for path in write.update_mask.field_paths:
        *outer, last = parse_field_path(path)
        source: Any = write.update.fields
        target: Any = document.fields
        for name in outer:
            source = source[name].map_value.fields if name in source else {}
            target = target[name].map_value.fields
        if last in source:
            target[last].CopyFrom(source[last])
        else:
            target.pop(last, None)


def size_of(path: str, fields: Mapping[str, Value]) -> int:
    """
    Return the size in bytes of the document at *path*.
    """
    return _name(path.split("/")) + _fields(fields)


def _name(segments: list[str]) -> int:
    return 16 + sum(_text(segment) for segment in segments)


def _text(text: str) -> int:
    return len(text.encode()) + 1


def _fields(fields: Mapping[str, Value]) -> int:
    return 32 + sum(_text(name) + _value(fields[name]) for name in fields)


def _value(value: Value) -> int:
    match value.WhichOneof("value_type"):
        case None | "null_value" | "boolean_value":
            return 1
        case "string_value":
            return _text(value.string_value)
        case "bytes_value":
            return len(value.bytes_value)
        case "reference_value":
            return _name(value.reference_value.split("/")[5:])
        case "geo_point_value":
            return 16
        case "array_value":
            return sum(map(_value, value.array_value.values))
        case "map_value":
            return _fields(value.map_value.fields)
        case _:
            return 8
