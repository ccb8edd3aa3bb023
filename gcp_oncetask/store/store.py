"""
The one way to change a document: read it, or trust the version that came with the delivery; let a pure function decide;
commit the decision on condition that the document has not moved.

The rules never see Firestore, this module never sees a rule but ``lease.was_applied``, and no caller can forget the
fence: it is part of what the deciding function judges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from google.cloud.firestore_v1.types import write as _write
from google.protobuf.timestamp_pb2 import Timestamp

from gcp_oncetask import lease
from gcp_oncetask.clock import Clock, elapsed, pause
from gcp_oncetask.decision import NeedTime, Put
from gcp_oncetask.errors import ConflictError, ContentionError, StoreError
from gcp_oncetask.record import Lock
from gcp_oncetask.store.codec import (
    Document,
    DocumentType,
    Value,
    ValueType,
    decode_lock,
    encode_lock,
    encode_lock_changes,
    get_timestamp,
)
from gcp_oncetask.store.wire import Fate, Wire, WireError

_WriteType: Final = _write.Write.pb()
_REQUEST_TIME: Final = 1
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    A document as it was read, or as it is known to be after our commit.

    Attributes:
        path: Path below the database.
        version: Update time; None if the document is missing (or unknown after a transaction).
        document: Its fields; None if missing. The ``lock`` in it may be older than the next attribute.
        lock: Its lock; None if it has none.
        read: Server time of the read; None if the read did not tell.
        whole: Whether ``document`` is all that is stored at ``version``.
    """

    path: str
    version: Any
    document: Document | None
    lock: Lock | None
    read: datetime | None = None
    whole: bool = True

    @property
    def exists(self) -> bool:
        """
        Whether there is a document.
        """
        return self.document is not None


@dataclass(frozen=True, slots=True)
class Changes:
    """
    User fields to write along, by stored name.

    Attributes:
        values: New values; None deletes the field.
        seen: The stored values they were loaded with (None where there was none); None instead of a mapping: nothing
            was loaded, so nobody's change can be overlooked.
    """

    values: Mapping[str, Value | None] = field(default_factory=dict)
    seen: Mapping[str, Value | None] | None = None

    def conflicts(self, document: Document) -> list[str]:
        """
        Fields that somebody else has changed since they were loaded, to something other than we would.
        """
        found: list[str] = []
        if self.seen is None:
            return found
        for name, new in self.values.items():
            now = document.fields.get(name)
            if now not in (self.seen.get(name), new):
                found.append(name)
        return found


NO_CHANGES: Final = Changes()


@dataclass(frozen=True, slots=True)
class Changed(Generic[T]):
    """
    What became of a change.

    Attributes:
        decision: What the rule decided last; a ``Put`` has been committed.
        snapshot: The document after the commit, or as it was when the rule refused.
    """

    decision: T
    snapshot: Snapshot


class Store:
    """
    Documents of one database.

    Args:
        wire: The remote calls.
        clock: For pauses and chance.
        patience: Total seconds for a change and its retries.
    """

    def __init__(self, wire: Wire, clock: Clock, patience: float) -> None:
        self.wire = wire
        self._clock = clock
        self._patience = patience

    # --- reading ---

    def get(self, path: str) -> Snapshot:
        """
        Read by a unary call, without server time.

        Raises:
            StoreError: Firestore was unreachable or refused, or the lock can't be decoded.
        """
        document = self._patiently(lambda: self.wire.get(path), f"reading {path}")
        return snapshot_of(path, document, None)

    def read(self, path: str) -> Snapshot:
        """
        Read with the server's time.

        Raises:
            StoreError: As ``get``.
        """
        document, read = self._patiently(lambda: self.wire.batch_get([path])[path], f"reading {path}")
        return snapshot_of(path, document, read)

    def reference(self, name: str) -> Any:
        """
        The client's document reference of a full name.
        """
        return self.wire.client.document(name.split("/documents/", 1)[-1])

    def estimate(self) -> datetime:
        """
        ``Wire.estimate``, patiently.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        return self._patiently(self.wire.estimate, "asking for the time")

    def _patiently(self, call: Callable[[], T], what: str) -> T:
        """
        Repeat a call without effect until it answers, twice at most.
        """
        start = self._clock.mark()
        tries = 0
        while True:
            try:
                return call()
            except WireError as error:
                tries += 1
                spent = elapsed(start, self._clock.mark())
                # Reads decide nothing that can't be decided later: the caller's caller retries.
                if error.fate in (Fate.REFUSED, Fate.MOVED) or tries >= 3 or spent >= self._patience:
                    raise error.translated(what, unknown=False) from error
            self._pause(tries)

    def _pause(self, tries: int) -> None:
        longest = min(_FIRST_PAUSE * 2**tries, _LONGEST_PAUSE)
        pause(self._clock, longest * (0.5 + self._clock.random() / 2))

    # --- changing ---

    def change(
        self,
        path: str,
        decide: Callable[[Snapshot], T],
        *,
        start: Snapshot | None = None,
        changes: Changes | Callable[[Snapshot], Changes] = NO_CHANGES,
        alive: Callable[[], bool] = lambda: False,
    ) -> Changed[T]:
        """
        Decide, and commit the decision on the very document it was decided on.

        Args:
            path: The document.
            decide: Pure, called again on each new reading. A ``Put`` is committed, ``NeedTime`` reads again with the
                server's time, anything else ends the change with nothing written.
            start: What to decide on first; None reads.
            changes: User fields to write along with a ``Put``.
            alive: Whether the caller's own lease surely still holds; decides about lost answers.

        Returns:
            The last decision. If it is a ``Put``, it is applied, once, though errors may have been seen on the way.

        Raises:
            ConflictError: One of *changes* was changed by somebody else.
            ContentionError: Too many writers until patience ran out; nothing was written.
            StoreError: Firestore was unreachable or refused; ``unknown`` if it may still be applied.
        """
        begun = self._clock.mark()
        snapshot = start if start is not None else self.get(path)
        unsure: tuple[Put, Snapshot] | None = None
        tries = 0
        while True:
            decision = decide(snapshot)
            if isinstance(decision, NeedTime):
                snapshot = self.read(path)
                continue
            if not isinstance(decision, Put):
                return Changed(decision, snapshot)
            extra = changes(snapshot) if callable(changes) else changes
            check_conflicts(snapshot, extra)
            write, stamped = make_write(self.wire.name(path), snapshot, decision.lock, extra)
            try:
                response = self.wire.commit((write,))
            except WireError as failed:
                error = failed
            else:
                return Changed(decision, after(snapshot, response.write_results[0], decision.lock, extra, stamped))
            tries += 1
            if error.fate is Fate.AMBIGUOUS:
                unsure = (decision, snapshot)
            elif error.fate is Fate.MOVED or unsure is not None:
                snapshot = self._read_back(path, unsure=unsure is not None)
                if unsure is not None:
                    if lease.was_applied(unsure[0].lock, unsure[1].lock, snapshot.lock, alive=alive()):
                        return Changed(decision, snapshot)
                    # Moved by somebody else: ours can't land any more. Not moved: it still can, so write it again.
                    unsure = unsure if snapshot.version == unsure[1].version else None
            elif error.fate is Fate.REFUSED:
                raise error.translated(f"writing {path}", unknown=False) from error
            if elapsed(begun, self._clock.mark()) >= self._patience:
                raise self._gave_up(path, error, unsure=unsure is not None) from error
            if error.fate is not Fate.MOVED or tries > 1:
                self._pause(tries)

    def save(self, known: Snapshot, changes: Changes) -> Snapshot | None:
        """
        Write user fields alone, if nobody else has changed them since *known*; None if the document is gone.

        Raises:
            As ``change``.
        """
        if not changes.values:
            return known
        begun = self._clock.mark()
        snapshot, tries = known, 0
        while snapshot.document is not None:
            check_conflicts(snapshot, changes)
            write = _WriteType()
            write.update.name = self.wire.name(known.path)
            write.current_document.update_time.CopyFrom(snapshot.version)
            _put_fields(write, changes)
            try:
                response = self.wire.commit((write,))
            except WireError as error:
                tries += 1
                if error.fate is Fate.REFUSED or elapsed(begun, self._clock.mark()) >= self._patience:
                    raise self._gave_up(known.path, error, unsure=error.fate is Fate.AMBIGUOUS) from error
                # Writing the same values again is harmless, so a lost answer needs no more than another look.
                self._pause(tries)
                snapshot = self.get(known.path)
            else:
                lock = snapshot.lock
                done = after(snapshot, response.write_results[0], lock, changes, []) if lock is not None else None
                return done or self.get(known.path)
        return None

    def _read_back(self, path: str, *, unsure: bool) -> Snapshot:
        try:
            return self.get(path)
        except StoreError as error:
            error.facts["unknown"] = unsure
            raise

    def _gave_up(self, path: str, error: WireError, *, unsure: bool) -> Exception:
        if unsure or error.fate is not Fate.CONTENTION:
            return error.translated(f"writing {path}", unknown=unsure)
        return ContentionError(
            f"{path}: gave up after {self._patience:g} s of contention ({error.message}); nothing was written.",
            document=path,
        )

    def write_raw(self, path: str, version: Any, fields: Mapping[str, Value]) -> bool:
        """
        Write fields of a document whose lock can't be decoded, if it has not moved; returns whether it was written.

        Args:
            path: The document.
            version: Its update time.
            fields: Dotted field path -> value; each name must be a plain identifier.
        """
        write = _WriteType()
        write.update.name = self.wire.name(path)
        write.current_document.update_time.CopyFrom(version)
        for dotted, value in fields.items():
            write.update_mask.field_paths.append(dotted)
            outer, inner = dotted.split(".")
            write.update.fields[outer].map_value.fields[inner].CopyFrom(value)
        try:
            self.wire.commit((write,))
        except WireError as error:
            if error.fate is Fate.MOVED:
                return False
            raise error.translated(f"writing {path}", unknown=error.fate is Fate.AMBIGUOUS) from error
        return True


def check_conflicts(snapshot: Snapshot, changes: Changes) -> None:
    """
    Raises:
        ConflictError: One of *changes* was changed by somebody else.
    """
    path = snapshot.path
    clash = [] if snapshot.document is None else changes.conflicts(snapshot.document)
    if clash:
        raise ConflictError(
            f"{path}: {', '.join(clash)} changed while the handler ran; nothing was saved.", document=path, fields=clash
        )


# --- messages ---------------------------------------------------------------------------------------------------------


def snapshot_of(path: str, document: Document | None, read: datetime | None) -> Snapshot:
    """
    The snapshot of a document as read.

    Raises:
        StoreError: Its lock can't be decoded.
    """
    if document is None:
        return Snapshot(path, None, None, None, read)
    return Snapshot(path, document.update_time, document, decode_lock(document), read)


def trusted(path: str, version: str, contents: bytes) -> Snapshot:
    """
    The snapshot that travelled in a delivery.

    Raises:
        StoreError: It can't be decoded.
    """
    try:
        document = DocumentType.FromString(contents)
        stamp = parse_version(version)
    except Exception as error:
        raise StoreError(f"The contents in the delivery are damaged: {error}.", unknown=False) from error
    return Snapshot(path, stamp, document, decode_lock(document))


def version_of(stamp: Any) -> str:
    """
    An update time as text.
    """
    return f"{stamp.seconds}.{stamp.nanos}"


def parse_version(text: str) -> Any:
    """
    The inverse of ``version_of``.

    Raises:
        ValueError: *text* has another form.
    """
    seconds, nanos = text.split(".")
    return Timestamp(seconds=int(seconds), nanos=int(nanos))


def make_write(
    name: str, snapshot: Snapshot, lock: Lock, changes: Changes, *, precondition: bool = True
) -> tuple[Any, list[str]]:
    """
    The conditional write that takes *snapshot* to *lock*.

    Args:
        name: Full name of the document.
        snapshot: What the decision was made on.
        lock: The record as it shall be.
        changes: User fields to write along.
        precondition: False inside a transaction that has read the document: that is the stronger check.

    Returns:
        A plain ``Write``, and the stored names of the lock's fields that the server's clock fills, in their order.
    """
    write = _WriteType()
    update = write.update
    update.name = name
    fields = update.fields
    mask: list[str] = []
    if not snapshot.exists or snapshot.lock is None:
        stamped = encode_lock(fields["lock"], lock)
        mask.append("lock")
    else:
        changed, stamped = encode_lock_changes(fields["lock"], snapshot.lock, lock)
        mask.extend("lock." + stored for stored in changed)
    if snapshot.exists:
        write.update_mask.field_paths.extend(mask)
        if precondition:
            write.current_document.update_time.CopyFrom(snapshot.version)
    elif precondition:
        write.current_document.exists = False
    _put_fields(write, changes, masked=snapshot.exists)
    for stored in stamped:
        write.update_transforms.add(field_path="lock." + stored, set_to_server_value=_REQUEST_TIME)
    return write, stamped


def _put_fields(write: Any, changes: Changes, *, masked: bool = True) -> None:
    for key, value in changes.values.items():
        if masked:
            write.update_mask.field_paths.append(quoted(key))
        if value is not None:
            write.update.fields[key].CopyFrom(value)


def after(snapshot: Snapshot, result: Any, lock: Lock, changes: Changes, stamped: list[str]) -> Snapshot:
    """
    The document as it is after a commit that gave *result*.
    """
    if stamped:
        times = {
            name: get_timestamp(v.timestamp_value) for name, v in zip(stamped, result.transform_results, strict=True)
        }
        lock = lock.but(**{_TIMES[name]: at for name, at in times.items()})
    document = DocumentType()
    if snapshot.document is not None:
        for key, value in snapshot.document.fields.items():
            if key != "lock" and key not in changes.values:
                document.fields[key].CopyFrom(value)
    for key, value in changes.values.items():
        if value is not None:
            document.fields[key].CopyFrom(value)
    return Snapshot(snapshot.path, result.update_time, document, lock, None, snapshot.whole)


_TIMES: Final = {"leasedAt": "leased_at", "grantedAt": "granted_at"}


def contents_of(snapshot: Snapshot) -> bytes:
    """
    All that is stored, serialized, lock included.
    """
    whole = DocumentType()
    assert snapshot.document is not None
    for key, value in snapshot.document.fields.items():
        if key != "lock":
            whole.fields[key].CopyFrom(value)
    if snapshot.lock is not None:
        encode_lock(whole.fields["lock"], snapshot.lock)
    return bytes(whole.SerializeToString())


def quoted(name: str) -> str:
    """
    A field's name as a field path.
    """
    if name.isascii() and name.isidentifier():
        return name
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


__all__ = ["NO_CHANGES", "Changed", "Changes", "Snapshot", "Store", "ValueType", "Wire"]
