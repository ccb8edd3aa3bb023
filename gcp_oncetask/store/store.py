"""
The one way to change a document: read it, or trust the version that came with the delivery; let a pure function decide;
commit the decision on condition that the document has not moved.

The rules never see Firestore, this module never sees a rule but ``rules.was_applied``, and no caller can forget the
fence: it is part of what the deciding function judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from gcp_oncetask import rules
from gcp_oncetask.clock import Clock, Mark, elapsed, pause
from gcp_oncetask.errors import ContentionError, StoreError, UnknownFeatureError
from gcp_oncetask.rules import features
from gcp_oncetask.rules.decisions import NeedTime, Put
from gcp_oncetask.rules.documents import is_task
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.statuses import FailureClass
from gcp_oncetask.store.codec import Document, Value, encode
from gcp_oncetask.store.failures import WireError
from gcp_oncetask.store.retiring import retirement, retires
from gcp_oncetask.store.side_writes import NOTHING, Consequences, Freed, Hold, consequences
from gcp_oncetask.store.sizes import check_room, needs_room
from gcp_oncetask.store.snapshot import NO_CHANGES, Changes, Snapshot, Update, check_conflicts, snapshot_of
from gcp_oncetask.store.wire import Wire

_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 1.0
_REFUSALS: Final = 3
"""After so many refused commits an attempt ends without its resource key."""

T = TypeVar("T")


class Changed(NamedTuple, Generic[T]):
    """
    What became of a change.

    Attributes:
        decision: What the rule decided last; a ``Put`` has been committed.
        snapshot: The document after the commit, or as it was when the rule refused.
        freed: A resource key that was given back and that somebody waits for, or may; None: there is none.
        hold: The resource key that has moved on to another attempt of the task; None: none has.
    """

    decision: T
    snapshot: Snapshot
    freed: Freed | None = None
    hold: Hold | None = None


class Along(Protocol):
    """
    Other documents that are written in the same commit, on conditions of their own.
    """

    def writes(self, put: Put) -> Sequence[Any]:
        """
        Plain writes for the decision *put*.
        """

    def done(self, results: Sequence[Any] | None) -> None:
        """
        The commit is applied; *results* of these writes, None: it was, but its answer was lost.
        """

    def again(self) -> None:
        """
        The commit was refused, or its fate is unknown: read again what was decided on.
        """


@contextmanager
def _told(unsure: object | None) -> Iterator[None]:
    """
    A failure in here says whether a commit whose answer was lost may still be applied.
    """
    try:
        yield
    except StoreError as error:
        error.facts["unknown"] = unsure is not None
        raise


def check_needs(snapshot: Snapshot) -> None:
    """
    Refuse a record that needs a newer release.

    Raises:
        UnknownFeatureError: It does.
    """
    unknown = features.unknown(snapshot.lock)
    if unknown:
        raise needs_newer(snapshot.path, unknown)


def needs_newer(path: str, unknown: Sequence[str]) -> UnknownFeatureError:
    """
    The error about a record that needs features that this release does not know.
    """
    said = ", ".join(unknown)
    return UnknownFeatureError(
        f"{path} needs {said}, which this release does not know; deploy a newer one. Nothing was written.",
        document=path,
        needs=tuple(unknown),
    )


def _if_understood(decide: Callable[[Snapshot], T]) -> Callable[[Snapshot], T]:
    def ask(seen: Snapshot) -> T:
        check_needs(seen)
        return decide(seen)

    return ask


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
        ask = decide if own else _if_understood(decide)
        failed: Mark | None = None
        snapshot = start if start is not None else self.get(path)
        unsure: tuple[Put, Snapshot] | None = None
        tries = refusals = 0
        while True:
            decision = ask(snapshot)
            if isinstance(decision, NeedTime):
                with _told(unsure):
                    snapshot = self.read(path)
                continue
            if not isinstance(decision, Put):
                return Changed(decision, snapshot)
            extra = changes(snapshot) if callable(changes) else changes
            check_conflicts(snapshot, extra)
            request = self.wire.request()
            more = self.consequences(snapshot, decision.lock)
            hold = more.hold_in(snapshot, hold)
            with _told(unsure):
                keyed = self.key_writes(more, hold, decision.lock, refusals)
            update = Update(self.wire.write(path, request), snapshot, decision.lock, extra.with_(more.fields))
            with _told(unsure):
                self._check_room(update, room)
            request.writes.extend(keyed)
            if along is not None:
                request.writes.extend(along.writes(decision))
            try:
                response = self.wire.commit(request)
            except WireError as error_:
                error = error_
            else:
                results = response.write_results
                if along is not None:
                    along.done(results[1 + len(keyed) :])
                key = results[1] if keyed else None
                return Changed(
                    decision, update.applied(results[0]), more.freed(key), more.moved(hold, decision.lock, key)
                )
            tries += 1
            failed = failed or self._clock.mark()
            refusals += bool(keyed) and error.fate in (FailureClass.MOVED, FailureClass.CONTENTION)
            if error.fate is FailureClass.AMBIGUOUS:
                unsure = (decision, snapshot)
            elif error.fate is FailureClass.MOVED or unsure is not None:
                with _told(unsure):
                    snapshot = self._again(path, hold if keyed else None)
                if unsure is not None:
                    if rules.was_applied(unsure[0].lock, unsure[1].lock, snapshot.lock, alive=alive()):
                        if along is not None:
                            along.done(None)
                        return Changed(decision, snapshot, more.freed(None), more.moved(hold, decision.lock, None))
                    # Moved by somebody else: ours can't land any more. Not moved: it still can, so write it again.
                    unsure = unsure if snapshot.version == unsure[1].version else None
            elif error.fate is FailureClass.REFUSED:
                refused = error.translated(f"writing {path}", unknown=False)
                refused.seen = snapshot
                raise refused from error
            if elapsed(failed, self._clock.mark()) >= self._patience:
                raise self._gave_up(path, error, unsure=unsure is not None) from error
            if error.fate is not FailureClass.MOVED or tries > 1:
                self._pause(tries)
            if along is not None:
                with _told(unsure):
                    along.again()

    def _again(self, path: str, hold: Hold | None) -> Snapshot:
        """
        Read the document again, and with it the key that was to be written.
        """
        if hold is None:
            return self.get(path)
        found = self.read_all([path, hold.path])
        hold.learn(found[hold.path])
        return found[path]

    def key_writes(self, more: Consequences, hold: Hold | None, after: Lock, refusals: int = 0) -> tuple[Any, ...]:
        """
        What is written to the resource key's document along with the step to *after*: at most one write.

        Args:
            more: What the step has for consequence.
            hold: The key of the attempt; read if nothing is known of it.
            after: The record as it shall be.
            refusals: How often a commit with such a write was refused. An end is not held up by those who come for the key: it
                leaves the key alone from the third time on, and the next who looks finds its holder past its token.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        if more.key is None or hold is None:
            return ()
        if more.frees and refusals >= _REFUSALS:
            return ()
        if not hold.known:
            hold.learn(self.read_all([hold.path])[hold.path])
        return () if hold.lost else (hold.write(self.wire.name(hold.path), more.effect, after),)

    def _check_room(self, update: Update, room: bool) -> None:
        before, lock = update.before, update.lock
        if room and lock is not None and needs_room(before.lock, lock):
            # A transaction may have written more than the snapshot knows.
            check_room(before if before.whole else self.get(before.path), [update.message])

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
        if not is_task(snapshot.path):
            return Consequences(retirement(snapshot, lock, self.estimate())) if retires(snapshot, lock) else NOTHING
        return consequences(snapshot, lock, self.estimate())

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
                    raise self._gave_up(known.path, error, unsure=error.fate is FailureClass.AMBIGUOUS) from error
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

    def _gave_up(self, path: str, error: WireError, *, unsure: bool) -> Exception:
        if unsure or error.fate is not FailureClass.CONTENTION:
            return error.translated(f"writing {path}", unknown=unsure)
        return ContentionError(
            f"{path}: gave up after {self._patience:g} s of contention ({error.message}); nothing was written.",
            document=path,
        )

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
