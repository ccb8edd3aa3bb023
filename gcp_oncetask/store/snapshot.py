"""
A document as it is known, and the conditional write that changes it to the record of a decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from google.cloud.firestore_v1.types import write as _write
from google.protobuf.timestamp_pb2 import Timestamp

from gcp_oncetask.errors import ConflictError, StoreError
from gcp_oncetask.rules import features
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.store.codec import Document, DocumentType, Value, get_timestamp
from gcp_oncetask.store.lock_codec import ATTRIBUTES, FIELD_PATHS, decode_lock, encode_lock

WriteType: Final = _write.Write.pb()
_REQUEST_TIME: Final = 1
_MAX_DEPTH: Final = 8
"""Most writes since the last whole document that are kept, for an attempt that writes often."""


@dataclass(slots=True)
class Snapshot:
    """
    A document as it was read, or as it is known to be after this process's commit. Its values never change.

    Attributes:
        path: Path below the database.
        version: Update time; None if the document is missing (or unknown after a transaction).
        source: Its fields, or the committed update from which they follow; None if the document is missing.
        lock: Its lock; None if it has none.
        read: Server time of the read; None if the read did not return it, or after a commit.
        whole: Whether ``document`` has all that is stored at ``version``.
    """

    path: str
    version: Any
    source: Document | Update | None
    lock: Lock | None
    read: datetime | None = None
    whole: bool = True

    @property
    def exists(self) -> bool:
        """
        Tell whether the document exists.
        """
        return self.source is not None

    @property
    def fields(self) -> dict[str, Value]:
        """
        Return the user's fields, by stored name.
        """
        source = self.source
        if isinstance(source, Update):
            return source.fields()
        return {} if source is None else {key: source.fields[key] for key in source.fields if key != "lock"}

    @property
    def document(self) -> Document | None:
        """
        Return the fields, lock included; None if the document is missing.
        """
        # After a commit most callers never look at the fields, so they are put together at the first call.
        if isinstance(self.source, Update):
            self.source = self.source.document()
        return self.source


@dataclass(frozen=True, slots=True)
class Changes:
    """
    User fields to write in the same commit, by stored name.

    Attributes:
        values: New values; None deletes the field.
        seen: The stored values that were loaded (None: the field was missing); None instead of a mapping: the fields were
            not loaded, so no other writer's change can be overlooked.
    """

    values: Mapping[str, Value | None] = field(default_factory=dict)
    seen: Mapping[str, Value | None] | None = None

    def with_(self, more: Mapping[str, Value | None]) -> Changes:
        """
        Return these changes and *more*, which are of fields that only the library writes.
        """
        return Changes({**self.values, **more}, self.seen) if more else self

    def conflicts(self, fields: Mapping[str, Value]) -> list[str]:
        """
        Return the fields that another writer has changed since they were loaded, unless to the new values.
        """
        found: list[str] = []
        if self.seen is None:
            return found
        for name, new in self.values.items():
            now = fields.get(name)
            if now not in (self.seen.get(name), new):
                found.append(name)
        return found


NO_CHANGES: Final = Changes()


def check_conflicts(snapshot: Snapshot, changes: Changes) -> None:
    """
    Check that no other writer has changed the fields of *changes* since they were loaded.

    Raises:
        ConflictError: Another writer has changed one of them.
    """
    if not changes.values or changes.seen is None or not snapshot.exists:
        return
    clash = changes.conflicts(snapshot.fields)
    if clash:
        raise ConflictError(
            f"{snapshot.path}: {', '.join(clash)} changed while the handler ran; nothing was saved.",
            document=snapshot.path,
            fields=clash,
        )


class Update:
    """
    The write that takes *snapshot* to *lock*, on condition that the document has not moved.

    Args:
        message: A ``Write`` with the document's name, to be filled.
        snapshot: The snapshot on which the decision was made.
        lock: The record to write; None: the document has no record, and gets none.
        changes: User fields to write in the same commit.
        precondition: False inside a transaction that has read the document; the transaction is the stronger check.

    Attributes:
        message: The plain ``Write``.
        before: The snapshot.
        lock: The record.
        changes: The user fields.
        changed: Stored names of the lock's fields that it sets or deletes; None: the whole lock.
        stamped: Stored names of the lock's fields that the server's clock fills, in their order.
        result: Result of the write, once it is committed.
        depth: Number of commits since the document was last put together, this one included.
    """

    __slots__ = ("before", "changed", "changes", "depth", "lock", "message", "result", "stamped")

    def __init__(
        self,
        message: Any,
        snapshot: Snapshot,
        lock: Lock | None,
        changes: Changes,
        *,
        precondition: bool = True,
    ) -> None:
        self.message = message
        if features.WRITTEN and lock is not None:
            lock = features.in_written_form(lock, snapshot.lock)
        self.before, self.lock, self.changes = snapshot, lock, changes
        self.changed: tuple[str, ...] | None = ()
        self.stamped: tuple[str, ...] = ()
        self.result: Any = None
        self.depth = 0
        fields = message.update.fields
        if lock is not None:
            self.changed, self.stamped = encode_lock(fields["lock"], lock, snapshot.lock)
            if snapshot.lock is None:
                self.changed = None
        for key, value in changes.values.items():
            if value is not None:
                fields[key].CopyFrom(value)
        exists = snapshot.source is not None
        message.MergeFromString(_frame(exists, self.changed, tuple(changes.values), self.stamped))
        if exists and precondition:
            message.current_document.update_time.CopyFrom(snapshot.version)
        elif precondition:
            message.current_document.exists = False

    def applied(self, result: Any) -> Snapshot:
        """
        Return the document after a commit that gave *result* for this write.
        """
        lock = self.lock
        if self.stamped and lock is not None:
            # A commit has one request time, so the first result has the time of all of them.
            at = get_timestamp(result.transform_results[0].timestamp_value)
            lock = lock.but(**{ATTRIBUTES[stored]: at for stored in self.stamped})
        before = self.before
        self.result = result
        self.depth = before.source.depth + 1 if isinstance(before.source, Update) else 1
        if self.depth > _MAX_DEPTH:
            _, self.depth = before.document, 1
        return Snapshot(before.path, result.update_time, self, lock, None, before.whole)

    def fields(self) -> dict[str, Value]:
        """
        Return the user's fields after the write.
        """
        fields = self.before.fields
        written = self.message.update.fields
        for name, value in self.changes.values.items():
            if value is None:
                fields.pop(name, None)
            else:
                fields[name] = written[name]
        return fields

    def document(self) -> Document:
        """
        Return the fields after the write, lock included.
        """
        before = self.before.document
        if before is None and not self.stamped:
            # The written message is the whole document; the name is no part of its contents.
            self.message.update.ClearField("name")
            return self.message.update
        done = DocumentType()
        written = self.message.update.fields
        if before is not None:
            done.fields.MergeFrom(before.fields)
        if self.changed is None:
            done.fields["lock"].CopyFrom(written["lock"])
        elif self.changed or self.stamped:
            _move(done.fields["lock"].map_value.fields, written["lock"].map_value.fields, self.changed)
        _move(done.fields, written, self.changes.values)
        for stored, value in zip(self.stamped, self.result.transform_results, strict=True):
            done.fields["lock"].map_value.fields[stored].CopyFrom(value)
        return done


@lru_cache
def _frame(exists: bool, changed: tuple[str, ...] | None, fields: tuple[str, ...], stamped: tuple[str, ...]) -> bytes:
    """
    Return the part that all writes of the same fields have in common: their mask, and the fields that the server's clock
    fills.

    Args:
        exists: Whether the document exists; a new one is written whole, without a mask.
        changed: Stored names of the lock's fields; None: the whole lock.
        fields: Stored names of the user's fields.
        stamped: Stored names of the lock's fields that the clock fills.
    """
    write = WriteType()
    if exists:
        # The mask is set even if it is empty: without a mask all fields that are not written would be deleted.
        write.update_mask.SetInParent()
        write.update_mask.field_paths.extend(["lock"] if changed is None else [FIELD_PATHS[name] for name in changed])
        write.update_mask.field_paths.extend(quoted(name) for name in fields)
    for stored in stamped:
        write.update_transforms.add(field_path=FIELD_PATHS[stored], set_to_server_value=_REQUEST_TIME)
    return bytes(write.SerializeToString())


def _move(target: Any, source: Any, names: Any) -> None:
    for name in names:
        if name in source:
            target[name].CopyFrom(source[name])
        else:
            target.pop(name, None)


def snapshot_of(path: str, document: Document | None, read: datetime | None) -> Snapshot:
    """
    Return the snapshot of a document as it was read.

    Raises:
        DamagedError: Its lock can't be decoded.
    """
    if document is None:
        return Snapshot(path, None, None, None, read)
    return Snapshot(path, document.update_time, document, decode_lock(document, path), read)


def trusted(path: str, version: str, contents: bytes) -> Snapshot:
    """
    Return the snapshot in the contents of a delivery.

    Raises:
        StoreError: The contents or the version can't be decoded.
        DamagedError: The lock can't be decoded.
    """
    try:
        document = DocumentType.FromString(contents)
        stamp = parse_version(version)
    except Exception as error:
        raise StoreError(f"The contents in the delivery are damaged: {error}.", unknown=False) from error
    return Snapshot(path, stamp, document, decode_lock(document, path))


def contents_of(snapshot: Snapshot) -> bytes:
    """
    Return the whole document of *snapshot*, lock included, serialized.
    """
    document = snapshot.document
    assert document is not None
    if document.name:
        # The message was read from the server: its name and times are not contents.
        bare = DocumentType()
        bare.fields.MergeFrom(document.fields)
        document = bare
    return bytes(document.SerializeToString())


def version_of(stamp: Any) -> str:
    """
    Convert an update time to text.
    """
    return f"{stamp.seconds}.{stamp.nanos}"


def parse_version(text: str) -> Any:
    """
    Read an update time from *text*, which ``version_of`` made.

    Raises:
        ValueError: *text* has another form.
    """
    seconds, nanos = text.split(".")
    return Timestamp(seconds=int(seconds), nanos=int(nanos))


def time_of(version: str) -> datetime:
    """
    Return the update time in *version*, to the microsecond.

    Raises:
        ValueError: *version* has another form.
    """
    stamp = parse_version(version)
    return datetime.fromtimestamp(stamp.seconds, UTC) + timedelta(microseconds=stamp.nanos // 1000)


def quoted(name: str) -> str:
    """
    Return a field's name as a field path.
    """
    if name.isascii() and name.isidentifier():
        return name
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"
