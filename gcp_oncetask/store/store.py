"""
The documents of one database. ``flow`` has the protocol of a change; ``Store`` answers its requests, on the caller's thread.

The rules never see Firestore, and ``flow`` uses no rule but ``rules.was_applied``. No caller can forget the fence, because
the function that decides checks it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Final, TypeVar

from gcp_oncetask.clock import Clock, Mark, elapsed, pause
from gcp_oncetask.rules.decisions import Put
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.statuses import FailureClass
from gcp_oncetask.store.coalescing import Coalescer
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
        clock: Measures and makes pauses, and draws random numbers.
        patience: Seconds for which a call is tried again after its first failure.
        coalescer: Sends the commits that may share calls.
    """

    def __init__(self, wire: Wire, clock: Clock, patience: float, coalescer: Coalescer) -> None:
        self.wire = wire
        self._clock = clock
        self._patience = patience
        self._coalescer = coalescer
        # Called with the document after a commit that has ended a child, or that owes the cancellation of children.
        self.after_kin: Callable[[Snapshot], object] | None = None

    # --- reading ---

    def get(self, path: str) -> Snapshot:
        """
        Read a document by a unary call, without the server's time.

        Raises:
            StoreError: Firestore was unreachable or refused.
            DamagedError: The lock can't be decoded.
        """
        return snapshot_of(path, self.document(path), None)

    def read(self, path: str) -> Snapshot:
        """
        Read a document with the server's time.

        Raises:
            StoreError, DamagedError: As ``get``.
        """
        document, read = self._patiently(lambda: self.wire.batch_get([path])[path], f"reading {path}")
        return snapshot_of(path, document, read)

    def document(self, path: str) -> Document | None:
        """
        Return the document at *path* as it is stored, also if its lock is damaged; None if the document is missing.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        return self._patiently(lambda: self.wire.get(path), f"reading {path}")

    def documents(self, paths: Sequence[str]) -> dict[str, tuple[Document | None, datetime]]:
        """
        Return several documents by one call, each as ``document`` does, and with the server's time.
        """
        return self._patiently(lambda: self.wire.batch_get(paths), f"reading {len(paths)} documents")

    def read_all(self, paths: Sequence[str]) -> dict[str, Snapshot]:
        """
        Read several documents by one call, each with the server's time.

        Raises:
            StoreError, DamagedError: As ``get``.
        """
        return {path: snapshot_of(path, document, read) for path, (document, read) in self.documents(paths).items()}

    def commit_both(self, request: Any) -> Any | None:
        """
        Commit writes with conditions of their own. Return None if a condition does not hold, or if the fate of the commit is
        not known.

        Raises:
            StoreError: Firestore refused.
        """
        try:
            return self.wire.commit(request)
        except WireError as error:
            if error.failure is FailureClass.REFUSED:
                raise error.translated("writing", unknown=False) from error
            return None

    def reference(self, name: str) -> Any:
        """
        Return the client's document reference of a full name.
        """
        return self.wire.client.document(name.split("/documents/", 1)[-1])

    def estimate(self) -> datetime:
        """
        Return an instant that the server's clock has reached already.

        The first one in a process costs an empty Commit, and so does one about an hour after the latest answer.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        # Another thread that opens its channel at this moment may have dropped the answer: then ask again.
        while (known := self.wire.estimate()) is None:
            self._patiently(lambda: self.wire.commit(self.wire.request()), "asking for the time")
        return known

    def _patiently(self, call: Callable[[], T], what: str) -> T:
        """
        Make a call that has no effect; after a failure repeat it, twice at most.
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
                # A failed read loses nothing: a later delivery or sweep tries again.
                impatient = tries >= 3 or elapsed(failed, now) >= self._patience
                if impatient or error.failure in (FailureClass.REFUSED, FailureClass.MOVED):
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
        shares: bool = False,
    ) -> Changed[T]:
        """
        Decide about a document, and commit the decision on condition that the document has not changed since it was read.

        Args:
            path: The document.
            decide: Pure; it is called again after each read. A ``Put`` is committed, ``NeedTime`` reads again with the
                server's time, any other decision ends the change with nothing written.
            start: The snapshot for the first decision; None: it is read.
            changes: User fields to write in the same commit as a ``Put``.
            alive: Tells whether the caller's own lease surely still holds; used to judge a lost answer.
            along: Other documents to write in the same commit.
            own: Whether *decide* checks the caller's own lease first. The holder of a lease may go on even if the record
                needs a newer release.
            hold: The resource key of the attempt, as far as it is known; None: it is read if it is needed.
            room: Whether a decision that schedules must leave room for the records of its run.
            shares: Whether the commit may share a call with those of other callers, where ``rules.sharing`` allows it.

        Returns:
            The last decision. If it is a ``Put``, it is applied, once, even if calls have failed meanwhile.

        Raises:
            ConflictError: Another writer has changed one of *changes*.
            ContentionError: Too many writers until patience ran out; nothing was written.
            StoreError: Firestore was unreachable or refused; ``unknown`` if the write may still be applied.
            UnknownFeatureError: The record needs a newer release, and is not the caller's *own*.
            UsageError: The document does not have the *room*; nothing was written.
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
            shares=shares and self._coalescer.on,
        )
        changed = drive(flow.run(), self._answer)
        if changed.kin and self.after_kin is not None:
            self.after_kin(changed.snapshot)
        return changed

    def transaction(self, path: str) -> AbstractContextManager[None]:
        """
        Within the block an attempt has a transaction open, which has read the document at *path*: no write of this thread or
        of that document shares a call.
        """
        return self._coalescer.transaction(path)

    def _answer(self, request: FlowRequest) -> Any:
        match request:
            case Commit():
                if request.path is None:
                    return self.wire.commit(request.message)
                return self._coalescer.commit(request.path, request.message)
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
        Return the write to the resource key's document that belongs to the step to *after*: at most one.

        Args:
            more: The consequences of the step.
            hold: The key of the attempt; it is read if nothing is known of it.
            after: The record that is written.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        return drive(key_writes(self.wire, more, hold, after), self._answer)

    def put(self, snapshot: Snapshot, put: Put, changes: Changes = NO_CHANGES) -> Snapshot | None:
        """
        Commit *put* if the record is still that of *snapshot*, on which it was decided. Return the document after the
        commit, or None if the record has changed.

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
        Return the additional writes of a commit that takes *snapshot* to the record *lock*.
        """
        return consequences(snapshot, lock, self.estimate()) if needs_time(snapshot, lock) else NOTHING

    def save(self, known: Snapshot, changes: Changes) -> Snapshot | None:
        """
        Write user fields alone, if no other writer has changed them since *known*. Return the document after it; None if it
        is gone.

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
                if error.failure is FailureClass.REFUSED or elapsed(failed, now) >= self._patience:
                    unsure = error.failure is FailureClass.AMBIGUOUS
                    raise gave_up(known.path, error, self._patience, unsure=unsure) from error
                # Writing the same values again is harmless, so a lost answer needs only another read.
                self._pause(tries)
                snapshot = self.get(known.path)
            else:
                return update.applied(response.write_results[0])
        return None

    def ensure(self, paths: Sequence[str], wanted: Callable[[Mapping[str, Snapshot]], Any | None]) -> None:
        """
        Bring the documents at *paths* into a wanted state, by one read and one commit. Other processes may do so at the same
        time.

        Args:
            paths: The documents.
            wanted: Returns the request for that, on condition that no document was written since the read; None: they are
                in the wanted state.

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
                if error.failure is FailureClass.REFUSED or elapsed(failed, now) >= self._patience:
                    raise error.translated(f"writing {' and '.join(paths)}", unknown=False) from error
                # Another process was quicker, or the answer was lost: the next read shows it.
                self._pause(tries)
            else:
                return

    def put_fields(self, known: Snapshot, values: Mapping[str, Any]) -> Snapshot | None:
        """
        Write a whole document of the library's own that has no lock, if it still is as *known*. Return None if another
        process has changed it.

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
            if error.failure is FailureClass.MOVED:
                return None
            raise error.translated(f"writing {known.path}", unknown=error.failure is FailureClass.AMBIGUOUS) from error
        return Snapshot(known.path, response.write_results[0].update_time, None, None)

    def raw_write(self, path: str, version: Any, fields: Mapping[str, Value]) -> Any:
        """
        Return the write that ``write_raw`` would send, to be sent together with others.
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
        Write fields of a document whose lock can't be decoded, if it has not moved; return whether it was written.

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
            if error.failure is FailureClass.MOVED:
                return False
            raise error.translated(f"writing {path}", unknown=error.failure is FailureClass.AMBIGUOUS) from error
        return True
