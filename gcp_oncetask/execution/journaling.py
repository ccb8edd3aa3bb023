"""
The journal of a running attempt: the answers that earlier attempts have kept, and the commits that keep new ones.

Guarantee
    A word returns its answer only after the answer is committed under the fence, or waits in memory for the next commit. The
    second is for answers that another attempt would find again (an event in the mailbox, a wait that a grant has ended), and
    for values that no other system has seen yet (a time, a random number): they are committed before the next run is called.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from gcp_oncetask.checks import tagged
from gcp_oncetask.checks.tagged import NotTaggableError, Tagged
from gcp_oncetask.checks.told import said_by
from gcp_oncetask.clock import elapsed
from gcp_oncetask.errors import JournalFullError, JournalMismatchError, UsageError
from gcp_oncetask.execution.journal_commits import weight_of
from gcp_oncetask.execution.journal_ends import JournalEnds
from gcp_oncetask.execution.running import RunningAttempt, Stop
from gcp_oncetask.observe.log_context import current
from gcp_oncetask.rules import journal as journals
from gcp_oncetask.rules import met_words
from gcp_oncetask.rules.journal import MAX_ENTRIES, MAX_ENTRY, MAX_JOURNAL, SEAL, EntrySort, JournalEntry

LONGEST_NAME: Final = 200
"""Most characters of a name."""
_NEARLY: Final = 0.8

_inside: ContextVar[tuple[object, str] | None] = ContextVar("oncetask_run", default=None)
"""The attempt and the name of the run whose function is being called in this context."""


class Journal(JournalEnds):
    """
    The journal as the words of a handler use it: they begin here, and their answers are read and kept here.
    """

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
                page.extend((name,) if was is None else (name, was))
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
        self.meet((name,))
        entry = self.kept.get(name)
        if entry is None:
            self.tell()
        return entry

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

    def room(self, name: str, entries: int = 1) -> None:
        """
        Check that the journal has room for so many new *entries*, before anything is called.

        Raises:
            JournalFullError: The journal has no room.
        """
        size = journals.size(self.lock)
        left = self._room - weight_of(self.lock)
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

    # --- answers ---

    def keep(self, name: str, value: Any, as_: Any, *, given: bool) -> Tagged:
        """
        Return the form in which the answer *value* is kept.

        Raises:
            NotTaggableError: It can't be kept.
        """
        kept = tagged.keep(value, as_, given=given)
        try:
            size = len(JournalEntry(name, EntrySort.RUN, 0, 0, self.now(), value=kept.data).to_bytes())
        except (ValueError, RecursionError) as error:
            raise NotTaggableError(f"JSON can't hold it: {said_by(error)}") from None
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
        Return the idempotency key of a run; it is as stable as ``attempt.key``. A run that is in the journal with a key keeps
        that one: a cancellation takes newer payloads with it, whose number is in ``attempt.key``.
        """
        return journals.key_in(self.kept.get(name)) or journals.run_key(self.attempt.key, name)

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
        logged = current.get()
        lines = None if logged is None else current.set(logged.calling(name))
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
            if lines is not None:
                current.reset(lines)


def inside_run() -> str | None:
    """
    Return the name of the run whose function is being called in this context; None: no run's function is.
    """
    inside = _inside.get()
    return None if inside is None else inside[1]


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
