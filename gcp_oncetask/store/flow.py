"""
The protocol by which a document is changed: read it, let a pure function decide, commit the decision on condition that the
document has not moved, and find out whether a commit whose answer was lost was applied.

A flow is a generator and makes no calls: it yields a request (``Commit``, ``Get``, ``Backoff``, ...) and is resumed with the
answer, or with the error of the call. So the protocol is written once: ``Store`` answers on the caller's thread, an event
loop can answer as well, and a test answers without a store.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from gcp_oncetask import rules
from gcp_oncetask.clock import Clock, Mark, elapsed
from gcp_oncetask.errors import DamagedError, StoreError
from gcp_oncetask.rules.decisions import NeedTime, Put
from gcp_oncetask.rules.family import PARENT
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.sharing import may_share
from gcp_oncetask.rules.statuses import FailureClass
from gcp_oncetask.store.chunk_life import chunk_writes
from gcp_oncetask.store.failures import WireError, gave_up
from gcp_oncetask.store.needs import check_needs
from gcp_oncetask.store.side_writes import NOTHING, Consequences, Freed, Hold, consequences, needs_time
from gcp_oncetask.store.sizes import check_room, needs_room
from gcp_oncetask.store.snapshot import NO_CHANGES, Changes, Snapshot, Update, check_conflicts

_REFUSALS: Final = 3
"""Refused commits after which an attempt ends without a write to its resource key."""

T = TypeVar("T")


class Changed(NamedTuple, Generic[T]):
    """
    The outcome of a change.

    Attributes:
        decision: The rule's last decision; a ``Put`` has been committed.
        snapshot: The document after the commit, or as it was when the rule refused.
        freed: A resource key that was given back and for which tasks wait, or may wait; None: there is none.
        hold: The resource key that has moved on to another attempt of the task; None: none has.
        kin: Whether it has ended a child, or owes the cancellation of children.
    """

    decision: T
    snapshot: Snapshot
    freed: Freed | None = None
    hold: Hold | None = None
    kin: bool = False


class Along(Protocol):
    """
    Other documents that are written in the same commit, on conditions of their own.
    """

    def writes(self, put: Put) -> Sequence[Any]:
        """
        Return the plain writes for the decision *put*.
        """

    def done(self, results: Sequence[Any] | None) -> None:
        """
        Note that the commit is applied, with the *results* of these writes; None: the answer was lost.
        """

    def again(self) -> None:
        """
        Read these documents again, because the commit was refused or its fate is unknown.
        """


class Messages(Protocol):
    """
    The functions by which a flow puts a commit together; none of them makes a call.
    """

    def request(self, path: str) -> Any:
        """
        Return a plain ``CommitRequest`` with one write, of the document at *path*, to be filled.
        """

    def name(self, path: str) -> str:
        """
        Return the full name of the document at *path*.
        """

    def estimate(self) -> datetime | None:
        """
        Return an instant that the server's clock has reached already; None if no answer has had one yet.
        """


# --- requests ---------------------------------------------------------------------------------------------------------


class Get(NamedTuple):
    """
    Read the document at *path* by a unary call; the answer is its snapshot.
    """

    path: str


class Read(NamedTuple):
    """
    Read the document at *path* with the server's time; the answer is its snapshot.
    """

    path: str


class ReadAll(NamedTuple):
    """
    Read several documents by one call; the answer is their snapshots by path.
    """

    paths: Sequence[str]


class ServerTime(NamedTuple):
    """
    Ask the server for its time; the answer is an instant that its clock has reached.
    """


class Commit(NamedTuple):
    """
    Send the ``CommitRequest`` *message*, once; the answer is the server's response, the error ``WireError``. If the write of
    *path*, its only one, may share a call, the answer has nothing but ``write_results``; None: it must not.
    """

    message: Any
    path: str | None = None


class Backoff(NamedTuple):
    """
    Wait after so many failed *tries*.
    """

    tries: int


class ReadAlong(NamedTuple):
    """
    Call ``again`` of *along*, the documents that are written in the same commit.
    """

    along: Along


FlowRequest: TypeAlias = Get | Read | ReadAll | ServerTime | Commit | Backoff | ReadAlong
Flow: TypeAlias = Generator[FlowRequest, Any, T]


def drive(flow: Flow[T], answer: Callable[[FlowRequest], Any]) -> T:
    """
    Run *flow* on this thread to its end, and return its result; *answer* answers each of its requests.
    """
    try:
        request = next(flow)
        while True:
            try:
                given = answer(request)
            except Exception as error:  # noqa: BLE001 - the flow judges it
                request = flow.throw(error)
            else:
                request = flow.send(given)
    except StopIteration as end:
        value: T = end.value
        return value


# --- flows ------------------------------------------------------------------------------------------------------------


def key_writes(
    messages: Messages, more: Consequences, hold: Hold | None, after: Lock, refusals: int = 0
) -> Flow[tuple[Any, ...]]:
    """
    Return the write to the resource key's document that belongs to the step to *after*: at most one.

    Args:
        messages: Makes names.
        more: The consequences of the step.
        hold: The key of the attempt; it is read if nothing is known of it.
        after: The record that is written.
        refusals: Number of refused commits with such a write. The end of an attempt must not be held up by tasks that come
            for the key, nor by a damage of the key. So it leaves the key alone after the third refusal, and if the key
            can't be read. The next task that wants the key finds the holder past the key's token.

    Raises:
        DamagedError: The key can't be read, and it is to move on to another attempt.
        StoreError: Firestore was unreachable or refused.
    """
    if more.key is None or hold is None:
        return ()
    if more.frees and refusals >= _REFUSALS:
        return ()
    if not hold.known:
        try:
            hold.learn((yield ReadAll([hold.path]))[hold.path])
        except DamagedError:
            if not more.frees:
                raise
            return ()
    return () if hold.lost else (hold.write(messages.name(hold.path), more.effect, after),)


class _Try(NamedTuple):
    """
    One commit, with all that is needed for the outcome once it is applied.

    Attributes:
        message: The ``CommitRequest``.
        decision: The ``Put``.
        update: The write of the document.
        more: The consequences of the step.
        hold: The resource key of the attempt.
        keyed: The writes of the key's document.
        along: Other documents that it writes.
    """

    message: Any
    decision: Put
    update: Update
    more: Consequences
    hold: Hold | None
    keyed: tuple[Any, ...]
    along: Along | None

    def applied(self, snapshot: Snapshot, results: Sequence[Any] | None) -> Changed[Any]:
        """
        Return the outcome of a commit that is applied.

        Args:
            snapshot: The document after the commit.
            results: The server's answer; None: it was lost.
        """
        if self.along is not None:
            self.along.done(None if results is None else results[1 + len(self.keyed) :])
        lock, before = self.decision.lock, self.update.before.lock
        kin = bool(lock.orphans) and (before is None or lock.orphans != before.orphans)
        if self.more is NOTHING:
            return Changed(self.decision, snapshot, kin=kin)
        key = results[1] if results is not None and self.keyed else None
        moved = self.more.moved(self.hold, self.decision.lock, key)
        return Changed(self.decision, snapshot, self.more.freed(key), moved, kin or PARENT in self.more.fields)


class ChangeFlow(Generic[T]):
    """
    One change of a document; the arguments are those of ``Store.change``.

    Args:
        messages: Makes messages.
        clock: Measures the time of the tries.
        patience: Seconds for which a commit is tried again after its first failure.
    """

    def __init__(
        self,
        messages: Messages,
        clock: Clock,
        patience: float,
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
    ) -> None:
        self._messages, self._clock, self._patience = messages, clock, patience
        self._path, self._decide, self._start, self._changes = path, decide, start, changes
        self._alive, self._along, self._own, self._hold, self._room = alive, along, own, hold, room
        self._shares = shares
        self._tries = self._refusals = 0
        self._failed: Mark | None = None
        self._unsure: tuple[Put, Snapshot] | None = None

    def run(self) -> Flow[Changed[T]]:
        """
        Run the change, as a flow.

        Raises:
            OncetaskError: As ``Store.change``.
        """
        snapshot: Snapshot = self._start if self._start is not None else (yield Get(self._path))
        while True:
            before = snapshot.lock
            if not self._own and before is not None and before.needs:
                check_needs(snapshot)
            decision = self._decide(snapshot)
            if isinstance(decision, NeedTime):
                with self._told():
                    snapshot = yield Read(self._path)
                continue
            if not isinstance(decision, Put):
                return Changed(decision, snapshot)
            tried = yield from self._try(snapshot, decision)
            try:
                shares = self._shares and not self._tries and len(tried.message.writes) == 1
                shares = shares and may_share(before, decision.lock)
                response = yield Commit(tried.message, self._path if shares else None)
            except WireError as error_:
                error = error_
            else:
                results = response.write_results
                return tried.applied(tried.update.applied(results[0]), results)
            self._tries += 1
            self._failed = self._failed or self._clock.mark()
            self._refusals += bool(tried.keyed) and error.failure in (FailureClass.MOVED, FailureClass.CONTENTION)
            if error.failure is FailureClass.AMBIGUOUS:
                self._unsure = (decision, snapshot)
            elif error.failure is FailureClass.MOVED or self._unsure is not None:
                with self._told():
                    snapshot = yield from self._again(tried)
                if self._landed(snapshot):
                    return tried.applied(snapshot, None)
            elif error.failure is FailureClass.REFUSED:
                refused = error.translated(f"writing {self._path}", unknown=False)
                refused.seen = snapshot
                raise refused from error
            if elapsed(self._failed, self._clock.mark()) >= self._patience:
                raise gave_up(self._path, error, self._patience, unsure=self._unsure is not None) from error
            if error.failure is not FailureClass.MOVED or self._tries > 1:
                yield Backoff(self._tries)
            if self._along is not None:
                with self._told():
                    yield ReadAlong(self._along)

    def _try(self, snapshot: Snapshot, put: Put) -> Flow[_Try]:
        """
        Put together the commit of *put*, which was decided on *snapshot*.
        """
        extra = self._changes(snapshot) if callable(self._changes) else self._changes
        if extra.values and extra.seen is not None:
            check_conflicts(snapshot, extra)
        messages = self._messages
        message = messages.request(self._path)
        more = NOTHING
        if needs_time(snapshot, put.lock):
            more = consequences(snapshot, put.lock, messages.estimate() or (yield ServerTime()))
            extra = extra.with_(more.fields)
        hold = self._hold = self._hold if more is NOTHING else more.hold_in(snapshot, self._hold)
        keyed: tuple[Any, ...] = ()
        if more.key is not None:
            with self._told():
                keyed = yield from key_writes(messages, more, hold, put.lock, self._refusals)
        update = Update(message.writes[0], snapshot, put.lock, extra)
        if self._room and needs_room(snapshot.lock, put.lock):
            whole = snapshot
            if not snapshot.whole:
                # A transaction may have written fields that the snapshot does not have.
                with self._told():
                    whole = yield Get(self._path)
            check_room(whole, [update.message])
        message.writes.extend(keyed)
        if self._along is not None:
            message.writes.extend(self._along.writes(put))
        before = snapshot.lock
        if before is not None and before.chunks:
            message.writes.extend(chunk_writes(messages.name, before, put.lock, more.fields))
        return _Try(message, put, update, more, hold, keyed, self._along)

    def _again(self, tried: _Try) -> Flow[Snapshot]:
        """
        Read the document again, and the resource key if the commit writes it.
        """
        hold = tried.hold
        if hold is not None and tried.keyed:
            try:
                found: dict[str, Snapshot] = yield ReadAll([self._path, hold.path])
            except DamagedError as error:
                if error.document != hold.path or not tried.more.frees:
                    raise
                # The end of an attempt leaves such a key alone.
                self._refusals = _REFUSALS
            else:
                hold.learn(found[hold.path])
                return found[self._path]
        alone: Snapshot = yield Get(self._path)
        return alone

    def _landed(self, snapshot: Snapshot) -> bool:
        """
        Tell whether the commit whose answer was lost was applied, by the document in *snapshot*, which was read since.
        """
        if self._unsure is None:
            return False
        put, before = self._unsure
        if rules.was_applied(put.lock, before.lock, snapshot.lock, alive=self._alive()):
            return True
        if snapshot.version != before.version:
            # Another writer has moved the document, so this commit can't be applied any more. If the document has not moved,
            # the commit still can be, so the doubt stays, and the commit is sent again.
            self._unsure = None
        return False

    @contextmanager
    def _told(self) -> Iterator[None]:
        """
        Add to a failure in the block whether a commit whose answer was lost may still be applied.
        """
        try:
            yield
        except StoreError as error:
            error.facts["unknown"] = self._unsure is not None
            raise
