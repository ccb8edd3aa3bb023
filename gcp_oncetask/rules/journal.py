"""
The journal of a durable handler: the words that it has said, by name, with their answers. Pure.

Shape:
    An entry is a JSON text. The open part is in ``lock.journal``. Once it has more than ``SEAL`` bytes, the commit seals it in
    a document ``onceJournals/{id}``, which ``lock.chunks`` lists. A later entry of a name replaces the earlier one.

Source:
    Journals keyed by position replayed wrong results in silence when code was changed (the durable SDKs of AWS and Azure);
    keyed by name, added, removed and reordered runs are harmless.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final, NamedTuple

from gcp_oncetask.rules import family, waits
from gcp_oncetask.rules.record import Chunk, HandlerWait, Intent, Lock, WaitFor, Woken
from gcp_oncetask.rules.timestamps import instant, parse_instant

SEAL: Final = 16_384
"""Bytes of the open part from which it is sealed."""
MAX_ENTRY: Final = 65_536
"""Most bytes of an entry."""
MAX_ENTRIES: Final = 5_000
"""Most entries of a journal."""
MAX_JOURNAL: Final = 4 * 1024 * 1024
"""Most bytes of a journal."""


class EntrySort(StrEnum):
    """
    The sorts of entries.
    """

    RUN = "run"
    SLEEP = "sleep"
    EVENT = "event"
    VALUE = "value"
    """A time, a random number or a UUID."""
    MAP = "map"
    TASKS = "tasks"
    PAGES = "pages"
    POLL = "poll"


class EntryState(StrEnum):
    """
    The states of an entry.
    """

    DONE = "done"
    FAILED = "failed"
    """The retries are used up; the failure is the answer."""
    OPEN = "open"
    """A run was begun with ``once=True``, and its result is not known."""
    TRYING = "trying"
    """A run has failed, and is tried again."""
    UNDER_WAY = "under-way"
    """A map, pages or a poll has begun."""
    WITHDRAWN = "withdrawn"
    """A run was begun with ``once=True``, and surely did not happen."""
    TIMED_OUT = "timed-out"
    BEGUN = "begun"
    """Children were begun, and are waited for."""
    REJECTED = "rejected"
    """A run was done, and its result could not be kept."""


class JournalEntry(NamedTuple):
    """
    One word of a handler, and its answer.

    Attributes:
        name: Its name, unique in the journal.
        sort: Its sort.
        ordinal: Its place among the names of the journal, 1-based.
        token: Token of the attempt that wrote it.
        at: Time of that (estimate of the server's clock).
        state: Its state.
        value: Its answer as tagged JSON data (``checks.tagged``).
        model: Whether the answer was dumped by a model, and not tagged.
        args: Digest of its arguments; None: they have no canonical form.
        more: Further data of its sort; JSON data.
    """

    name: str
    sort: EntrySort
    ordinal: int
    token: int
    at: datetime
    state: EntryState = EntryState.DONE
    value: Any = None
    model: bool = False
    args: str | None = None
    more: dict[str, Any] | None = None

    def to_bytes(self) -> bytes:
        """
        Return the stored form: compact JSON.
        """
        told: dict[str, Any] = {
            "n": self.name,
            "s": str(self.sort),
            "o": self.ordinal,
            "t": self.token,
            "a": instant(self.at),
            "v": self.value,
        }
        if self.state is not EntryState.DONE:
            told["e"] = str(self.state)
        if self.model:
            told["m"] = True
        if self.args is not None:
            told["g"] = self.args
        if self.more:
            told["x"] = self.more
        # A half surrogate, which a text of the user may hold, has an escape in ASCII alone.
        return json.dumps(told, separators=(",", ":")).encode()

    @classmethod
    def of(cls, stored: bytes) -> JournalEntry:
        """
        Read the form that ``to_bytes`` made.

        Raises:
            KeyError, TypeError, ValueError: ``to_bytes`` did not make it.
        """
        told = json.loads(stored)
        return cls(
            told["n"],
            EntrySort(told["s"]),
            int(told["o"]),
            int(told["t"]),
            parse_instant(told["a"]),
            EntryState(told.get("e", "done")),
            told["v"],
            bool(told.get("m")),
            told.get("g"),
            told.get("x"),
        )


class Dropped(NamedTuple):
    """
    The entries that are over with a page of ``attempt.pages``: those whose place is after *first*, up to *last*.

    Attributes:
        first: Place of the word under which they were made; its own entry stays, in its present state.
        last: The last place that is over.
    """

    first: int
    last: int

    def has(self, ordinal: int) -> bool:
        """
        Tell whether the entry at this place is over.
        """
        return self.first < ordinal <= self.last

    def whole(self, chunk: Chunk) -> bool:
        """
        Tell whether *chunk* has nothing but entries that are over, and former states of the word.
        """
        return self.first <= chunk.first and chunk.last <= max(self.first, self.last)


class JournalWrite(NamedTuple):
    """
    The write of the journal by one commit.

    Attributes:
        entries: New entries, and new states of present ones.
        taken: Ids of the events that waits have taken out of the mailbox.
        opened: A run that is begun once.
        closed: Name of a run whose fate is known now.
        progress: Whether it brings the handler forward: attempts are counted anew from here.
        told: Whether the handler is told of its cancellation.
        said: The handler's words about its progress, as JSON text; None: unchanged.
        dropped: Entries that the journal need not keep any longer; None: it keeps all.
    """

    entries: tuple[JournalEntry, ...] = ()
    taken: tuple[str, ...] = ()
    opened: Intent | None = None
    closed: str | None = None
    progress: bool = False
    told: bool = False
    said: str | None = None
    dropped: Dropped | None = None

    def to_data(self) -> dict[str, Any]:
        """
        Return the write as JSON data.
        """
        opened = self.opened
        return {
            "entries": [entry.to_bytes().decode() for entry in self.entries],
            "taken": list(self.taken),
            "opened": None
            if opened is None
            else [opened.name, opened.token, instant(opened.begun), instant(opened.over)],
            "closed": self.closed,
            "progress": self.progress,
            "told": self.told,
            "said": self.said,
            "dropped": None if self.dropped is None else list(self.dropped),
        }

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> JournalWrite:
        """
        Read the write from *data*, which ``to_data`` made.

        Raises:
            KeyError, TypeError, ValueError: ``to_data`` did not make *data*.
        """
        opened = data["opened"]
        return cls(
            tuple(JournalEntry.of(text.encode()) for text in data["entries"]),
            tuple(data["taken"]),
            None
            if opened is None
            else Intent(opened[0], int(opened[1]), parse_instant(opened[2]), parse_instant(opened[3])),
            data["closed"],
            bool(data["progress"]),
            bool(data["told"]),
            data["said"],
            None if data.get("dropped") is None else Dropped(*map(int, data["dropped"])),
        )


NOTHING: Final = JournalWrite()
_SIZE: Final[Callable[[Chunk], int]] = attrgetter("size")


def open_entries(lock: Lock) -> tuple[JournalEntry, ...]:
    """
    Return the entries that are not sealed yet, oldest first.
    """
    return tuple(JournalEntry.of(stored) for stored in lock.journal)


def latest(stored: Iterable[bytes]) -> dict[str, JournalEntry]:
    """
    Return the entries of a whole journal by name; of several with one name, the last one. Entries that are over with a page
    are left out.
    """
    found: dict[str, JournalEntry] = {}
    for each in stored:
        entry = JournalEntry.of(each)
        found[entry.name] = entry
    over = [dropped for entry in found.values() if (dropped := dropped_by(entry)) is not None]
    return without(found, *over) if over else found


def dropped_by(entry: JournalEntry) -> Dropped | None:
    """
    Return the entries that are over with the pages of *entry*; None: there are none.
    """
    last = (entry.more or {}).get("over") if entry.sort is EntrySort.PAGES else None
    return None if last is None else Dropped(entry.ordinal, int(last))


def without(entries: dict[str, JournalEntry], *over: Dropped) -> dict[str, JournalEntry]:
    """
    Return *entries* without those that are over.
    """
    return {name: entry for name, entry in entries.items() if not any(each.has(entry.ordinal) for each in over)}


def size(lock: Lock) -> int:
    """
    Return the bytes of the journal.
    """
    return sum(map(_SIZE, lock.chunks)) + sum(map(len, lock.journal))


def entry_of(lock: Lock) -> JournalEntry | None:
    """
    Return the entry of the wait that a grant has ended; None if there is no such wait, or if its sort has no entry of its
    own. The entry of children is there from their beginning, and its word ends it.
    """
    wait = lock.wait
    if wait is None or wait.ended is None or wait.ended is Woken.CANCELLED:
        return None
    if wait.sort is WaitFor.SLEEP:
        return JournalEntry(wait.name, EntrySort.SLEEP, wait.ordinal, lock.token, wait.since, more=_times(wait))
    if wait.sort is not WaitFor.EVENT:
        return None
    event = next((e for e in waits.events(lock) if e.id == wait.event), None)
    if event is None:
        return JournalEntry(
            wait.name, EntrySort.EVENT, wait.ordinal, lock.token, wait.since, EntryState.TIMED_OUT, more=_times(wait)
        )
    return of_event(event, wait.name, wait.ordinal, lock.token)


def of_event(event: waits.SentEvent, name: str, ordinal: int, token: int) -> JournalEntry:
    """
    Return the entry of a wait that *event* has ended.
    """
    more = {"event": event.name, "id": event.id}
    return JournalEntry(name, EntrySort.EVENT, ordinal, token, event.at, value=event.data, more=more)


def _times(wait: HandlerWait) -> dict[str, Any]:
    return {} if wait.until is None else {"until": instant(wait.until)}


_SORT: Final = b'","s":"'
"""The bytes between the name and the sort; within a name the quotes are escaped."""


def forward(entries: Iterable[JournalEntry]) -> bool:
    """
    Tell whether *entries*, which were kept for a later commit, bring the handler forward: a wait or an event does.
    """
    return any(entry.sort is not EntrySort.VALUE for entry in entries)


def _finishes(wait: HandlerWait) -> bool:
    """
    Tell whether the end of *wait* brings the handler forward. The next try of a run does not, nor does a cancellation.
    """
    return wait.ended is not Woken.CANCELLED and wait.sort not in (WaitFor.RETRY, WaitFor.VERIFY)


def merged(lock: Lock, write: JournalWrite) -> tuple[bytes, ...]:
    """
    Return the open part of the journal with the entries of *write*; the wait that a grant has ended is moved into it.
    """
    ended = entry_of(lock)
    entries = (
        write.entries if ended is None or ended.name in [e.name for e in write.entries] else (ended, *write.entries)
    )
    if not entries:
        return lock.journal
    # Each commit comes here, so the rows are not parsed, and no function is called for each: all begin with the name.
    present = {row.partition(_SORT)[0]: row for row in lock.journal}
    for entry in entries:
        stored = entry.to_bytes()
        present[stored.partition(_SORT)[0]] = stored
    rows = list(present.values())
    over = write.dropped
    return tuple(rows if over is None else [row for row in rows if not over.has(json.loads(row)["o"])])


def applied(lock: Lock, write: JournalWrite, nonce: str, *, seals: str | None = None) -> Lock:
    """
    Return *lock* after *write*, the commit with that *nonce*.

    Args:
        lock: The record.
        write: The write.
        nonce: Recognises the commit.
        seals: Id for a chunk, so that a full open part is sealed; None: it is not.
    """
    rows, chunks = merged(lock, write), lock.chunks
    if write.dropped is not None:
        chunks = tuple(chunk for chunk in chunks if not write.dropped.whole(chunk))
    if seals is not None and sum(map(len, rows)) > SEAL:
        ordinals = [json.loads(row)["o"] for row in rows]
        chunks = (*chunks, Chunk(seals, min(ordinals), max(ordinals), sum(map(len, rows))))
        rows = ()
    taken, wait, progress = write.taken, lock.wait, write.progress
    if wait is not None and wait.ended is not None:
        progress = progress or _finishes(wait)
        taken, wait = taken if wait.event is None else (*taken, wait.event), None
    gone = {write.closed, None if write.opened is None else write.opened.name}
    still = tuple(intent for intent in lock.open if intent.name not in gone)
    after = waits.without(lock, taken).but(
        journal=rows,
        chunks=chunks,
        journaled_by=nonce,
        wait=wait,
        open=still if write.opened is None else (*still, write.opened),
        progress=lock.progress if write.said is None else write.said,
    )
    groups = [entry for entry in write.entries if entry.sort is EntrySort.TASKS and entry.more]
    if groups:
        after = _grouped(after, groups)
    if write.told and not lock.cancelling:
        after = after.but(cancelling=True, attempts=1, progress_at=0)
    elif progress:
        after = after.but(progress_at=after.attempts)
    return needing(after)


def _grouped(lock: Lock, entries: list[JournalEntry]) -> Lock:
    """
    Return *lock* with the groups of children that *entries* begin or end. A group of which some are still open stays, so that
    a cancellation reaches them.
    """
    begun = [e.more["nonce"] for e in entries if e.more and e.state is EntryState.BEGUN]
    over = [e.more["nonce"] for e in entries if e.more and e.state is not EntryState.BEGUN and not e.more.get("left")]
    return family.with_group(lock, begun, over)


def left(lock: Lock) -> Lock:
    """
    Return *lock* without its wait, for an end that a person may undo: a wait that a grant has ended is moved into the journal.
    """
    wait = lock.wait
    if wait is None:
        return lock
    if entry_of(lock) is None:
        return needing(lock.but(wait=None))
    taken = () if wait.event is None else (wait.event,)
    return needing(waits.without(lock, taken).but(journal=merged(lock, NOTHING), wait=None))


def sealed(before: Lock, after: Lock, write: JournalWrite) -> tuple[Chunk, tuple[bytes, ...]] | None:
    """
    Return the chunk that the step from *before* to *after* seals, with its entries; None if it seals none.
    """
    last = after.chunks[-1:]
    if last == before.chunks[-1:] or not last or any(chunk.id == last[0].id for chunk in before.chunks):
        return None
    return last[0], merged(before, write)


def left_out(before: Lock, after: Lock) -> tuple[Chunk, ...]:
    """
    Return the chunks that the step from *before* to *after* leaves out, because all of their entries are over.
    """
    if before.chunks == after.chunks[: len(before.chunks)]:
        return ()
    kept = {chunk.id for chunk in after.chunks}
    return tuple(chunk for chunk in before.chunks if chunk.id not in kept)


def chunk_id(env: str, nonce: str) -> str:
    """
    Return the id of the chunk that the commit with *nonce* seals.
    """
    return f"{hashlib.sha256(nonce.encode()).hexdigest()[:2]}:{env}:{nonce}"


def run_key(key: str, name: str) -> str:
    """
    Return the idempotency key of the run *name*, in a sequence whose own key is *key*.
    """
    return "otk_" + hashlib.sha256(f"{key}\n{name}".encode()).hexdigest()[:40]


def key_in(entry: JournalEntry | None) -> str | None:
    """
    Return the idempotency key that *entry* keeps; None: there is no entry, or it is not of a run with ``once=True``.
    """
    key = None if entry is None or entry.sort is not EntrySort.RUN else (entry.more or {}).get("key")
    return None if key is None else str(key)


def over(lock: Lock, token: int, now: datetime) -> Lock:
    """
    Return *lock* after the orderly end of the attempt with *token*: the runs that it has begun are surely not under way any
    more.
    """
    if not any(intent.token == token and intent.over > now for intent in lock.open):
        return lock
    return lock.but(open=tuple(replace(i, over=now) if i.token == token else i for i in lock.open))


def intent(name: str, lock: Lock, now: datetime, log_grace: float) -> Intent:
    """
    Return the intent of a run that the holder of *lock* begins at *now*. Its attempt is over at the run limit, and its
    last log line is visible a grace later.
    """
    assert lock.granted_at is not None
    end = max(now, lock.granted_at + timedelta(seconds=lock.run_limit_seconds)) + timedelta(seconds=log_grace)
    return Intent(name, lock.token, now, end)


_FEATURES: Final = ("journal", "mailbox", "wait")


def needing(lock: Lock) -> Lock:
    """
    Return *lock* with the features of durable handlers that it needs, and without those that it no longer needs.
    """
    has = {"journal": lock.journal or lock.chunks, "mailbox": lock.mailbox, "wait": lock.wait}
    wanted = [name for name in _FEATURES if has[name]]
    kept = [need for need in lock.needs if need not in _FEATURES]
    needs = (*kept, *wanted)
    return lock if needs == lock.needs else lock.but(needs=needs)


def begun_anew(lock: Lock, *, mailbox: bool) -> Lock:
    """
    Return *lock* without its journal and wait, for a sequence that begins; its events stay with *mailbox*, without the one that
    has ended its wait.
    """
    # A dictionary's look-ups alone: this is called for each schedule.
    if not (lock.journal or lock.chunks or lock.wait or lock.mailbox or lock.progress_at or lock.open or lock.progress):
        return lock if not lock.children else lock.but(children=())
    return needing(
        lock.but(
            journal=(),
            # The commit deletes the parts that it drops (store/chunk_life.py).
            chunks=(),
            open=(),
            wait=None,
            mailbox=left(lock).mailbox if mailbox else (),
            progress_at=0,
            progress=None,
            children=(),
        )
    )
