"""
The entries of a running attempt's journal, and the commits that add to them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from gcp_oncetask import rules
from gcp_oncetask.errors import AlreadySettledError, LeaseLostError
from gcp_oncetask.execution.results import CancelledByRequest
from gcp_oncetask.execution.running import Pending, RunningAttempt, Stop
from gcp_oncetask.rules import journal as journals
from gcp_oncetask.rules.decisions import CallRefused, Lost, Put
from gcp_oncetask.rules.journal import Dropped, EntrySort, JournalEntry, JournalWrite
from gcp_oncetask.rules.record import Intent, Lock
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.store import journals as stored_journals
from gcp_oncetask.store.flow import Along
from gcp_oncetask.store.sizes import room_of
from gcp_oncetask.store.snapshot import Snapshot

IN_PLACE: Final = 5.0
"""Waits of at most this many seconds are spent in the request, if a quarter of its remaining time is enough."""
_CHUNK: Final = 150
"""Most bytes by which a chunk is named in the record."""


class JournalCommits(Pending):
    """
    The entries of the journal of *attempt*.

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
        self._room: Final = room_of(attempt.snapshot) + weight_of(lock)
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
            write = self.write_with(entries, progress=progress)
            write = write._replace(opened=opened, closed=closed, told=told, dropped=dropped)
            nonce = attempt.runtime.clock.nonce()
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


def _is_stopped(attempt: RunningAttempt, lock: Lock | None) -> bool:
    """
    Tell whether a cancellation was requested of which the handler has not been told.
    """
    return lock is not None and lock.cancel_requested_at is not None and not attempt.told


def weight_of(lock: Lock) -> int:
    """
    Return the bytes of the parts of *lock* that grow while a handler runs.
    """
    return sum(map(len, lock.journal)) + sum(map(len, lock.mailbox)) + _CHUNK * len(lock.chunks)
