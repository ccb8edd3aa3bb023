"""
The journal of a running attempt: the answers that earlier attempts have kept, and the commits that keep new ones.

Guarantee
    A word returns its answer only after the answer is committed under the fence, or waits in memory for the next commit. The
    second is for answers that another attempt would find again (an event in the mailbox, a wait that a grant has ended), and
    for values that no other system has seen yet (a time, a random number): they are committed before the next run is called.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, Final

from gcp_oncetask import rules
from gcp_oncetask.checks import tagged
from gcp_oncetask.checks.tagged import NotTaggableError, Tagged
from gcp_oncetask.clock import elapsed, pause
from gcp_oncetask.errors import (
    AlreadySettledError,
    JournalFullError,
    JournalMismatchError,
    LeaseLostError,
    UsageError,
)
from gcp_oncetask.execution.results import CancelledByRequest, Snooze, Suspended
from gcp_oncetask.execution.running import Pending, RunningAttempt, Stop
from gcp_oncetask.rules import journal as journals
from gcp_oncetask.rules import met_words
from gcp_oncetask.rules.decisions import CallRefused, Lost, Put, Settlement, SettlementKind
from gcp_oncetask.rules.journal import (
    MAX_ENTRIES,
    MAX_ENTRY,
    MAX_JOURNAL,
    SEAL,
    Dropped,
    EntrySort,
    EntryState,
    JournalEntry,
    JournalWrite,
)
from gcp_oncetask.rules.record import HandlerWait, Intent, Lock, WaitFor
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.store import journals as stored_journals
from gcp_oncetask.store.flow import Along
from gcp_oncetask.store.sizes import room_of
from gcp_oncetask.store.snapshot import Snapshot

LONGEST_NAME: Final = 200
"""Most characters of a name."""
IN_PLACE: Final = 5.0
"""Waits of at most this many seconds are spent in the request, if a quarter of its remaining time is enough."""
_SHARE: Final = 4
_NEARLY: Final = 0.8
_CHUNK: Final = 150
"""Most bytes by which a chunk is named in the record."""

_inside: ContextVar[tuple[object, str] | None] = ContextVar("oncetask_run", default=None)
"""The attempt and the name of the run whose function is being called in this context."""


class Journal(Pending):
    """
    The journal of *attempt*.

    Attributes:
        kept: The entries that are committed, by name.
        replaying: Whether every word so far had its answer in the journal.
        pages: The names that were said on the present page of each loop over pages, the outermost first.
        unmet: Names of entries that no word has asked for yet.
    """

    def __init__(self, attempt: RunningAttempt) -> None:
        super().__init__()
        self.attempt: Final = attempt
        self._guard: Final = threading.Lock()
        self._met: Final[set[str]] = set()
        self.pages: Final[list[list[str]]] = []
        self._calls = 0
        self._warned = False
        self._calm: Final = threading.Condition(self._guard)
        lock = self.lock
        rows = stored_journals.read(attempt.runtime.store, attempt.snapshot.path, lock)
        self.kept: Final[dict[str, JournalEntry]] = journals.latest(rows)
        ended = journals.entry_of(lock)
        if ended is not None:
            self.kept[ended.name] = ended
        over = [dropped.last for entry in self.kept.values() if (dropped := journals.dropped_by(entry)) is not None]
        self._ordinal = max([entry.ordinal for entry in self.kept.values()] + over, default=0)
        self.replaying = bool(self.kept)
        self._fresh = None if ended is None else ended.name
        # The document is measured once; then only the journal and the mailbox grow.
        self._room: Final = room_of(attempt.snapshot) + _weight(lock)
        self._new_entries = 0
        self._longest = IN_PLACE

    @property
    def lock(self) -> Lock:
        """
        The record as this process knows it.
        """
        lock = self.attempt.snapshot.lock
        return self.attempt.granted if lock is None else lock

    @property
    def last_ordinal(self) -> int:
        """
        Place of the newest entry; 0: there is none.
        """
        return self._ordinal

    @property
    def short(self) -> bool:
        """
        True if the request may end before another call like the longest one so far.
        """
        return self.attempt.remaining() < self._longest

    @property
    def forward(self) -> bool:
        """
        True if this attempt has kept anything new.
        """
        return bool(self._new_entries)

    @property
    def unmet(self) -> tuple[str, ...]:
        """
        Names of the entries that no word of this attempt has asked for, in the order of the journal.
        """
        left = [entry for name, entry in self.kept.items() if name not in self._met]
        return tuple(entry.name for entry in sorted(left, key=lambda entry: entry.ordinal))

    def now(self) -> datetime:
        """
        Return the estimate of the server's clock.
        """
        return self.attempt.runtime.store.estimate()

    # --- the beginning of a word ---

    def enter(
        self, name: str, sort: EntrySort, *, suspends: bool = False, was: str | None = None
    ) -> JournalEntry | None:
        """
        Begin a word.

        Args:
            name: Its name.
            sort: Its sort.
            suspends: Whether it may end the request. Then no other word may be under way in another thread.
            was: The name that it had in an earlier version of the code.

        Returns:
            Its entry; None if the word is new.

        Raises:
            Suspended, CancelledByRequest, LeaseLostError: The attempt is over; or it is told of its cancellation.
            UsageError: The name is invalid, or was used before in this attempt; or words can't be said here.
            JournalMismatchError: The name has an entry of another sort.
        """
        watch = self.attempt.runtime.watch
        if watch is not None:
            watch.said(self, name, sort)
        self.check()
        self._check_place(name, suspends=suspends)
        checked_name(name)
        with self._guard:
            twice = name in self._met
            self._met.add(name)
            for page in self.pages:
                page.append(name)
        if twice:
            raise self.fail(
                UsageError(
                    f"The name {name!r} is used twice in this attempt. Each word has a name of its own; in a loop, put the "
                    f'number into the name: f"{name}-{{i}}".'
                )
            )
        entry = self.kept.get(name)
        if entry is None and was is not None:
            entry = self.kept.get(was)
            self._met.add(was)
        met = met_words.fits(entry, sort)
        if entry is None:
            self.tell()
            return None
        if name == self._fresh:
            # The grant of this attempt, or of one that has kept nothing, has ended the wait: no code has seen that before.
            self.replaying = False
        if met is not None:
            raise self.ask(
                JournalMismatchError(
                    f"{name!r} is a {entry.sort} in the journal, and a {sort} in the code. The code was changed under a task "
                    "under way; put the word back, or give the new one another name.",
                    name=name,
                )
            )
        return entry

    def enter_again(self, name: str) -> JournalEntry | None:
        """
        Begin a word that may come several times in an attempt; *name* has brackets, as no name of a user's word has.

        Returns:
            Its entry, which may wait for a commit; None if the word is new.

        Raises:
            As ``enter``.
        """
        self.check()
        self._check_place(name, suspends=False)
        with self._guard:
            self._met.add(name)
        entry = self.kept.get(name)
        if entry is None:
            self.tell()
        return entry

    def check(self) -> None:
        """
        Check that the attempt may still say words: it is neither stopped nor settled, and holds its lease.

        Raises:
            Suspended, LeaseLostError, AlreadySettledError: It may not.
        """
        attempt = self.attempt
        if attempt.stop is not None:
            raise attempt.stop.error
        if attempt.settled is not None:
            raise AlreadySettledError("The attempt is settled; its journal is closed.")
        self.check_held()

    def check_held(self) -> None:
        """
        Check by this process's own clock that the attempt still holds its lease.

        Raises:
            LeaseLostError: It does not, as far as this process can know.
        """
        attempt = self.attempt
        if attempt.lost.is_set() or attempt.held_for() <= 0:
            raise LeaseLostError(
                f"{attempt.context.document}: the lease is over by this process's clock. Stop; nothing was called.",
                document=attempt.context.document,
                sequence=attempt.granted.sequence,
                token=attempt.granted.token,
                finished=False,
                removed=False,
            )

    def _check_place(self, name: str, *, suspends: bool) -> None:
        attempt = self.attempt
        inside = _inside.get()
        if inside is not None and inside[0] is attempt:
            raise self.fail(
                UsageError(
                    f"{name!r} is said inside the run {inside[1]!r}. A run's function can't use the journal itself."
                )
            )
        if attempt.open is not None:
            raise self.fail(
                UsageError(f"{name!r} is said inside a transaction of the attempt; say it before or after.")
            )
        if attempt.leader is not None or (suspends and attempt.batched):
            raise UsageError(
                f"{name!r} is said in a batch handler. There only the attempt of the leader has a journal, and no word waits."
            )
        if suspends and self._calls:
            raise self.fail(
                UsageError(
                    f"{name!r} may end the request, and was said while another thread of the handler is in a run. Wait for "
                    "your threads first."
                )
            )

    def tell(self) -> None:
        """
        Note that a word has no answer yet, and tell the handler of a cancellation, once.

        Raises:
            CancelledByRequest: A cancellation was requested.
        """
        self.replaying = False
        attempt = self.attempt
        if not attempt.cancelled or attempt.told:
            return
        attempt.told = True
        if not self.lock.cancelling:
            self.commit((), told=True)
        raise CancelledByRequest("The task is cancelled; compensate, and return.")

    def next_ordinal(self) -> int:
        """
        Return the place of a new entry.
        """
        with self._guard:
            self._ordinal += 1
            return self._ordinal

    def entry(self, name: str, sort: EntrySort, before: JournalEntry | None = None, **rest: Any) -> JournalEntry:
        """
        Return a new entry, or a new state of the entry *before*.
        """
        ordinal = self.next_ordinal() if before is None else before.ordinal
        return JournalEntry(name, sort, ordinal, self.attempt.granted.token, self.now(), **rest)

    # --- commits ---

    def commit(
        self,
        entries: Sequence[JournalEntry],
        *,
        opened: Intent | None = None,
        closed: str | None = None,
        progress: bool = True,
        told: bool = False,
        dropped: Dropped | None = None,
        also: Along | None = None,
    ) -> None:
        """
        Commit *entries* under the fence, with all that waits for a commit, and with other documents of *also*. If there are
        such, nothing is written once a cancellation was requested of which the handler has not been told.

        Raises:
            LeaseLostError: The attempt does not hold its lease any more; nothing was written.
            StoreError: Firestore was unreachable or refused; the attempt is over.
        """
        attempt = self.attempt
        runtime = attempt.runtime
        with attempt.mutex:
            if attempt.settled is not None:
                raise AlreadySettledError("The attempt is settled; its journal is closed.")
            write = JournalWrite(
                (*self.entries, *entries),
                tuple(self.taken),
                opened,
                closed,
                progress or journals.forward(self.entries),
                told,
                self.said,
                dropped,
            )
            nonce = attempt.nonce()
            sealing = stored_journals.Sealing(runtime.wire, attempt.snapshot.path, write, also)

            def decide(seen: Snapshot) -> Put | Lost | CallRefused:
                sealing.seen = seen
                if also is not None and _is_stopped(attempt, seen.lock):
                    return CallRefused(Refusal.CANCELLING, "its cancellation is under way")
                return rules.journaled(seen.lock, attempt.fence, write, nonce)

            try:
                changed = runtime.store.change(
                    attempt.snapshot.path, decide, start=attempt.snapshot, alive=attempt.alive, along=sealing, own=True
                )
            except Exception as error:
                # Whether the entry is there is not known, so this attempt can't go on from it.
                attempt.stop = attempt.stop or Stop(error)
                raise
            if not isinstance(changed.decision, CallRefused):
                attempt.took(changed)
                self.note_kept(write)
                return
            attempt.snapshot, attempt.cancelled = changed.snapshot, True
        self.tell()

    def note_kept(self, write: JournalWrite) -> None:
        """
        Note that *write* is committed, with all that has waited for a commit.
        """
        self.kept.update((entry.name, entry) for entry in write.entries)
        if write.dropped is not None:
            for name in [name for name, entry in self.kept.items() if write.dropped.has(entry.ordinal)]:
                del self.kept[name]
        self._new_entries += write.progress
        self.clear()

    def meet(self, names: Sequence[str]) -> None:
        """
        Note that *names*, which belong to a word, are asked for by this attempt.
        """
        with self._guard:
            self._met.update(names)
            for page in self.pages:
                page.extend(names)

    def forget(self, names: Iterable[str]) -> None:
        """
        Let *names* be said again in this attempt; they belong to a page that is over.
        """
        with self._guard:
            self._met.difference_update(names)

    def later(self, entry: JournalEntry, taken: str | None = None) -> None:
        """
        Keep *entry* in memory for the next commit; *taken* is the id of an event that it takes.
        """
        with self.attempt.mutex:
            self.entries.append(entry)
            if taken is not None:
                self.taken.append(taken)
            self.kept[entry.name] = entry

    def flush(self) -> None:
        """
        Commit the entries that are kept in memory.
        """
        wait = self.lock.wait
        if self.entries or self.taken or (wait is not None and wait.ended is not None):
            self.commit((), progress=False)

    def room(self, name: str, entries: int = 1) -> None:
        """
        Check that the journal has room for so many new *entries*, before anything is called.

        Raises:
            JournalFullError: The journal has no room.
        """
        size = journals.size(self.lock)
        left = self._room - _weight(self.lock)
        if left < MAX_ENTRY + SEAL:
            raise self.fail(
                JournalFullError(
                    f"The document has {left:,} bytes left, and an entry of the journal may need {MAX_ENTRY + SEAL:,}; "
                    f"{name!r} was not called. Keep large contents elsewhere (Cloud Storage).",
                    name=name,
                )
            )
        if len(self.kept) + entries > MAX_ENTRIES or size + MAX_ENTRY > MAX_JOURNAL:
            raise self.fail(
                JournalFullError(
                    f"The journal has {len(self.kept):,} entries and {size:,} bytes, and may have "
                    f"{MAX_ENTRIES:,} and {MAX_JOURNAL:,}; {name!r} was not called. Group quick steps into one run, or use "
                    "attempt.pages().",
                    name=name,
                )
            )
        full = max((len(self.kept) + entries) / MAX_ENTRIES, size / MAX_JOURNAL)
        if full >= _NEARLY and not self._warned:
            self._warned = True
            self.attempt.context.log(logging.WARNING, "its journal is full to %d %%; %r still fits.", full * 100, name)

    # --- the end of an attempt by a word ---

    def suspend(
        self, wait: HandlerWait | None, entries: Sequence[JournalEntry] = (), *, progress: bool = False
    ) -> BaseException:
        """
        End the request until *wait* has ended; None: until a fresh delivery comes, at once. Return the exception to raise.
        """
        attempt = self.attempt
        if attempt.batched:
            # Its riders can't wait with it, so all of them run again at the time.
            self.commit(entries, progress=False)
            until = self.now() if wait is None or wait.until is None else wait.until
            return Snooze(max(timedelta(), until - self.now()))
        with attempt.mutex:
            write = JournalWrite(
                (*self.entries, *entries),
                tuple(self.taken),
                progress=progress or journals.forward(self.entries),
                said=self.said,
            )
        error = Suspended("it goes on in a fresh delivery" if wait is None else f"it waits for {wait.name!r}")
        how = Settlement(kind=SettlementKind.SUSPEND, nonce=attempt.nonce(), wait=wait, journal=write)
        attempt.stop = Stop(error, how)
        return error

    def hand_over(self) -> None:
        """
        End the request if it may end before another call like the longest one so far, and go on in a fresh delivery. An
        attempt that has kept nothing new goes on, so that each delivery brings the handler forward.

        Raises:
            Suspended: The request ends here.
        """
        if self.forward and not self.attempt.batched and self.short:
            raise self.suspend(None)

    def fail(self, error: UsageError) -> UsageError:
        """
        End the task as failed with *error*, because no other attempt can succeed. Return *error*.
        """
        how = Settlement(kind=SettlementKind.FAIL, nonce=self.attempt.nonce(), message=str(error))
        self.attempt.stop = Stop(error, how)
        return error

    def ask(self, error: Exception) -> Exception:
        """
        Set the task aside until a person has decided on *error*. Return *error*.
        """
        how = Settlement(kind=SettlementKind.ASK, nonce=self.attempt.nonce(), message=str(error))
        self.attempt.stop = Stop(error, how)
        return error

    def wait_for(
        self, name: str, sort: WaitFor, until: datetime | None, before: JournalEntry | None = None, **rest: Any
    ) -> HandlerWait:
        """
        Return a wait that begins now.
        """
        ordinal = self.next_ordinal() if before is None else before.ordinal
        return HandlerWait(name, sort, ordinal, self.now(), until, **rest)

    def pause(self, seconds: float) -> bool:
        """
        Wait in the request, if that is short; return False if it is too long.
        """
        if not self.is_short(seconds):
            return False
        if seconds > 0:
            pause(self.attempt.runtime.clock, seconds)
            self.check()
        return True

    def is_short(self, seconds: float) -> bool:
        """
        Tell whether a wait of so many *seconds* is spent in the request.
        """
        return seconds <= min(IN_PLACE, self.attempt.remaining() / _SHARE)

    # --- answers ---

    def keep(self, name: str, value: Any, as_: Any, *, given: bool) -> Tagged:
        """
        Return the form in which the answer *value* is kept.

        Raises:
            NotTaggableError: It can't be kept.
        """
        kept = tagged.keep(value, as_, given=given)
        size = len(JournalEntry(name, EntrySort.RUN, 0, 0, self.now(), value=kept.data).to_bytes())
        if size > MAX_ENTRY:
            raise NotTaggableError(
                f"it has {size:,} bytes; an entry has at most {MAX_ENTRY:,}. Store it elsewhere, and return its name"
            )
        return kept

    def answer(self, entry: JournalEntry, as_: Any) -> Any:
        """
        Return the answer in *entry*: a fresh object each time.

        Raises:
            UsageError: The type can't read it; the task is left to a version of the program that can.
        """
        try:
            return tagged.read(Tagged(entry.value, entry.model), as_)
        except NotTaggableError as trouble:
            error = UsageError(f"The answer of {entry.name!r} in the journal can't be read here: {trouble}.")
            self.attempt.stop = Stop(error, unread=str(error))
            raise error from None

    def key_of(self, name: str) -> str:
        """
        Return the idempotency key of a run; it is as stable as ``attempt.key``.
        """
        return journals.run_key(self.attempt.key, name)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """
        Within the block a word is under way, beside which no other thread may end the request.
        """
        with self._calm:
            self._calls += 1
        try:
            yield
        finally:
            with self._calm:
                self._calls -= 1
                self._calm.notify_all()

    def settle_down(self) -> None:
        with self._calm:
            while self._calls:
                self._calm.wait()

    @contextmanager
    def calling(self, name: str, operation: str = "run", call: tuple[Any, ...] | None = None) -> Iterator[None]:
        """
        Within the block the function of the run *name* is called, or the one that verifies the run; *call* is the function,
        its arguments, and its options.
        """
        watch = self.attempt.runtime.watch
        seen = None if watch is None else watch.calling(self, name, call)
        self.replaying = False
        token = _inside.set((self.attempt, name))
        clock = self.attempt.runtime.clock
        begun = clock.mark()
        try:
            with self.attempt.runtime.events.calling(self.attempt, operation, name):
                yield
            if watch is not None:
                watch.called(seen, self, call)
        finally:
            self._longest = max(self._longest, elapsed(begun, clock.mark()))
            _inside.reset(token)


def _is_stopped(attempt: RunningAttempt, lock: Lock | None) -> bool:
    """
    Tell whether a cancellation was requested of which the handler has not been told.
    """
    return lock is not None and lock.cancel_requested_at is not None and not attempt.told


def inside_run() -> str | None:
    """
    Return the name of the run whose function is being called in this context; None: no run's function is.
    """
    inside = _inside.get()
    return None if inside is None else inside[1]


def _weight(lock: Lock) -> int:
    """
    Return the bytes of the parts of *lock* that grow while a handler runs.
    """
    return sum(map(len, lock.journal)) + sum(map(len, lock.mailbox)) + _CHUNK * len(lock.chunks)


def checked_name(name: object) -> str:
    """
    Return *name*.

    Raises:
        UsageError: It is no name of a word.
    """
    if not isinstance(name, str) or not name or len(name) > LONGEST_NAME:
        raise UsageError(f"{name!r:.80} is no name of a word: it must be a text of 1 to {LONGEST_NAME} characters.")
    if "[" in name or "]" in name or not name.isprintable():
        raise UsageError(f"The name {name!r} has brackets or unprintable characters; brackets name the items of a map.")
    return name


def journal_of(attempt: RunningAttempt) -> Journal:
    """
    Return the journal of *attempt*, which is loaded at the first call.

    Raises:
        DamagedError, StoreError: A sealed part can't be read.
    """
    with attempt.mutex:
        found = attempt.journaled
        if not isinstance(found, Journal):
            found = attempt.journaled = Journal(attempt)
        return found


def until_of(journal: Journal, delay: timedelta) -> datetime:
    """
    Return the instant *delay* from now.

    Raises:
        UsageError: It is outside of the calendar.
    """
    try:
        return journal.now() + delay
    except OverflowError:
        raise UsageError(f"{delay} from now is outside of the calendar.") from None


def is_done(entry: JournalEntry | None) -> bool:
    """
    Tell whether *entry* has an answer.
    """
    return entry is not None and entry.state is EntryState.DONE
