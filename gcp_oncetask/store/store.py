"""
The documents of one database. ``flow`` says how a document is changed; ``Store`` answers its requests, on the caller's thread.

The rules never see Firestore, ``flow`` sees no rule but ``rules.was_applied``, and no caller can forget the fence: it is part of
what the deciding function judges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from gcp_oncetask.clock import Clock, Mark, elapsed, pause
from gcp_oncetask.rules.decisions import Put
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.statuses import FailureClass
from gcp_oncetask.store.codec import Document, Value, encode
from gcp_oncetask.store.failures import WireError, gave_up
from gcp_oncetask.store.flow import (
    Along,
    Backoff,
    Changed,
    ChangeFlow,
    Commit,
    FlowRequest,
    Get,
    Read,
    ReadAll,
    ReadAlong,
    ServerTime,
    drive,
    key_writes,
)
from gcp_oncetask.store.side_writes import NOTHING, Consequences, Hold, consequences, needs_time
from gcp_oncetask.store.snapshot import NO_CHANGES, Changes, Snapshot, Update, check_conflicts, snapshot_of
from gcp_oncetask.store.wire import Wire

_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 1.0

T = TypeVar("T")


class Store:
    """
    Documents of one database.

    Args:
        wire: The remote calls.
        clock: For pauses and chance.
        patience: Seconds for which a call is tried again after its first failure.
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
            StoreError: Firestore was unreachable or refused.
            DamagedError: The lock can't be decoded.
        """
        return snapshot_of(path, self.document(path), None)

    def read(self, path: str) -> Snapshot:
        """
        Read with the server's time.

        Raises:
            StoreError: As ``get``.
        """
        document, read = self._patiently(lambda: self.wire.batch_get([path])[path], f"reading {path}")
        return snapshot_of(path, document, read)

    def document(self, path: str) -> Document | None:
        """
        The document at *path* as it is stored, whatever its lock; None if it is missing.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        return self._patiently(lambda: self.wire.get(path), f"reading {path}")

    def documents(self, paths: Sequence[str]) -> dict[str, tuple[Document | None, datetime]]:
        """
        As ``document``, of several by one call, each with the server's time.
        """
        return self._patiently(lambda: self.wire.batch_get(paths), f"reading {len(paths)} documents")

    def read_all(self, paths: Sequence[str]) -> dict[str, Snapshot]:
        """
        Read several documents by one call, each with the server's time.

        Raises:
            StoreError: As ``get``.
        """
        return {path: snapshot_of(path, document, read) for path, (document, read) in self.documents(paths).items()}

    def commit_both(self, request: Any) -> Any | None:
        """
        Commit writes with conditions of their own; None if one of the conditions does not hold, or may not.

        Raises:
            StoreError: Firestore refused.
        """
        try:
            return self.wire.commit(request)
        except WireError as error:
            if error.fate is FailureClass.REFUSED:
                raise error.translated("writing", unknown=False) from error
            return None

    def reference(self, name: str) -> Any:
        """
        The client's document reference of a full name.
        """
        return self.wire.client.document(name.split("/documents/", 1)[-1])

    def estimate(self) -> datetime:
        """
        An instant that the server's clock has reached already.

        The first one of a process costs an empty Commit.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        # Again where another thread that opens its channel at this moment has forgotten the answer.
        while (known := self.wire.estimate()) is None:
            self._patiently(lambda: self.wire.commit(self.wire.request()), "asking for the time")
        return known

    def _patiently(self, call: Callable[[], T], what: str) -> T:
        """
        Repeat a call without effect until it answers, twice at most.
        """
        failed: Mark | None = None
        tries = 0
        while True:
            try:
                return call()
            except WireError as error:
                tries += 1
                now = self._clock.mark()
                failed = failed or now
                # Reads decide nothing that can't be decided later: the caller's caller retries.
                impatient = tries >= 3 or elapsed(failed, now) >= self._patience
                if impatient or error.fate in (FailureClass.REFUSED, FailureClass.MOVED):
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
        along: Along | None = None,
        own: bool = False,
        hold: Hold | None = None,
        room: bool = False,
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
            along: Other documents to write in the same commit.
            own: *decide* asks for the caller's own lease first, whose holder may go on whatever the record needs.
            hold: What is known of the resource key that the attempt has; None: it is read where it is needed.
            room: A decision that schedules must leave room for what its run records.

        Returns:
            The last decision. If it is a ``Put``, it is applied, once, though errors may have been seen on the way.

        Raises:
            ConflictError: One of *changes* was changed by somebody else.
            ContentionError: Too many writers until patience ran out; nothing was written.
            StoreError: Firestore was unreachable or refused; ``unknown`` if it may still be applied.
            UnknownFeatureError: The record needs a newer release, and is not the caller's *own*.
            UsageError: It must have *room*, and has not; nothing was written.
        """
        flow = ChangeFlow(
            self.wire,
            self._clock,
            self._patience,
            path,
            decide,
            start=start,
            changes=changes,
            alive=alive,
            along=along,
            own=own,
            hold=hold,
            room=room,
        )
        return drive(flow.run(), self._answer)

    def _answer(self, request: FlowRequest) -> Any:
        match request:
            case Commit():
                return self.wire.commit(request.message)
            case Get():
                return self.get(request.path)
            case Read():
                return self.read(request.path)
            case ReadAll():
                return self.read_all(request.paths)
            case ServerTime():
                return self.estimate()
            case Backoff():
                return self._pause(request.tries)
            case ReadAlong():
                return request.along.again()

    def key_writes(self, more: Consequences, hold: Hold | None, after: Lock) -> tuple[Any, ...]:
        """
        What is written to the resource key's document along with the step to *after*: at most one write.

        Args:
            more: What the step has for consequence.
            hold: The key of the attempt; read if nothing is known of it.
            after: The record as it shall be.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        return drive(key_writes(self.wire, more, hold, after), self._answer)

    def put(self, snapshot: Snapshot, put: Put, changes: Changes = NO_CHANGES) -> Snapshot | None:
        """
        Commit *put* if the record is still that of *snapshot*, on which it was decided; the document after it, or None.

        Raises:
            As ``change``.
        """
        before = snapshot.lock
        changed = self.change(
            snapshot.path, lambda seen: put if seen.lock == before else None, start=snapshot, changes=changes
        )
        return None if changed.decision is None else changed.snapshot

    def consequences(self, snapshot: Snapshot, lock: Lock) -> Consequences:
        """
        What a commit that takes *snapshot* to the record *lock* writes along.
        """
        return consequences(snapshot, lock, self.estimate()) if needs_time(snapshot, lock) else NOTHING

    def save(self, known: Snapshot, changes: Changes) -> Snapshot | None:
        """
        Write user fields alone, if nobody else has changed them since *known*; None if the document is gone.

        Raises:
            As ``change``.
        """
        if not changes.values:
            return known
        failed: Mark | None = None
        snapshot, tries = known, 0
        while snapshot.exists:
            check_conflicts(snapshot, changes)
            request = self.wire.request()
            update = Update(self.wire.write(known.path, request), snapshot, snapshot.lock, changes)
            try:
                response = self.wire.commit(request)
            except WireError as error:
                tries += 1
                now = self._clock.mark()
                failed = failed or now
                if error.fate is FailureClass.REFUSED or elapsed(failed, now) >= self._patience:
                    unsure = error.fate is FailureClass.AMBIGUOUS
                    raise gave_up(known.path, error, self._patience, unsure=unsure) from error
                # Writing the same values again is harmless, so a lost answer needs no more than another look.
                self._pause(tries)
                snapshot = self.get(known.path)
            else:
                return update.applied(response.write_results[0])
        return None

    def ensure(self, paths: Sequence[str], wanted: Callable[[Mapping[str, Snapshot]], Any | None]) -> None:
        """
        Let the documents at *paths* be as they must be, whoever else sees to that at the same time: one read, one commit.

        Args:
            paths: The documents.
            wanted: The request that makes them so, on condition that nobody has written them since the reading; None: they are.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        failed: Mark | None = None
        tries = 0
        while (request := wanted(self.read_all(paths))) is not None:
            try:
                self.wire.commit(request)
            except WireError as error:
                tries += 1
                now = self._clock.mark()
                failed = failed or now
                if error.fate is FailureClass.REFUSED or elapsed(failed, now) >= self._patience:
                    raise error.translated(f"writing {' and '.join(paths)}", unknown=False) from error
                # Another one was quicker, or the answer was lost: the next reading tells.
                self._pause(tries)
            else:
                return

    def put_fields(self, known: Snapshot, values: Mapping[str, Any]) -> Snapshot | None:
        """
        Write all of a document of the library's own that has no lock, if it still is as *known*; None: somebody was quicker.

        Raises:
            StoreError: Firestore was unreachable or refused; ``unknown`` if it may have been written.
        """
        request = self.wire.request()
        write = self.wire.write(known.path, request)
        if known.version is None:
            write.current_document.exists = False
        else:
            write.current_document.update_time.CopyFrom(known.version)
        for name, value in values.items():
            write.update.fields[name].CopyFrom(encode(value))
        try:
            response = self.wire.commit(request)
        except WireError as error:
            if error.fate is FailureClass.MOVED:
                return None
            raise error.translated(f"writing {known.path}", unknown=error.fate is FailureClass.AMBIGUOUS) from error
        return Snapshot(known.path, response.write_results[0].update_time, None, None)

    def raw_write(self, path: str, version: Any, fields: Mapping[str, Value]) -> Any:
        """
        A write as ``write_raw`` makes it, to be sent with others.
        """
        return self._raw(self.wire.write(path), version, fields)

    @staticmethod
    def _raw(write: Any, version: Any, fields: Mapping[str, Value]) -> Any:
        write.current_document.update_time.CopyFrom(version)
        for dotted, value in fields.items():
            write.update_mask.field_paths.append(dotted)
            outer, inner = dotted.split(".")
            write.update.fields[outer].map_value.fields[inner].CopyFrom(value)
        return write

    def write_raw(self, path: str, version: Any, fields: Mapping[str, Value]) -> bool:
        """
        Write fields of a document whose lock can't be decoded, if it has not moved; returns whether it was written.

        Args:
            path: The document.
            version: Its update time.
            fields: Dotted field path -> value; each name must be a plain identifier.
        """
        request = self.wire.request()
        self._raw(self.wire.write(path, request), version, fields)
        try:
            self.wire.commit(request)
        except WireError as error:
            if error.fate is FailureClass.MOVED:
                return False
            raise error.translated(f"writing {path}", unknown=error.fate is FailureClass.AMBIGUOUS) from error
        return True
