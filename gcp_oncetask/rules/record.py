"""
The lock: one record, embedded as the map field ``lock`` in every document that takes part.

Data only. ``rules`` decides about its changes; ``store/lock_codec.py`` defines its stored form.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

SERVER_TIME: Final = datetime.max.replace(tzinfo=UTC)
"""In a record to be written, it is replaced by the server's own time of that commit."""

SCHEMA: Final = 1


class Status(StrEnum):
    """
    The life cycle, stored by these names.
    """

    SCHEDULED = "scheduled"
    LEASED = "leased"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    QUARANTINED = "quarantined"


TERMINAL: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})


class Event(StrEnum):
    """
    The events of which a person can be alerted.
    """

    TAKEOVER = "takeover"
    FAILURE = "failure"
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class Failure:
    """
    One failed attempt, as kept in ``Lock.errors``.

    Attributes:
        at: Server's clock, estimated by the process that recorded it.
        attempt: 1-based number of the attempt within its sequence.
        sequence: The step that failed.
        message: The error, limited in length.
    """

    at: datetime
    attempt: int
    sequence: int
    message: str


@dataclass(frozen=True, slots=True)
class PendingAlert:
    """
    An alert that was decided with a commit and is not yet known to be sent.

    Attributes:
        id: Unique within the document; the mail's Message-ID is made of it.
        event: The event.
        at: Time at which the alert was decided (estimate of the server's clock).
        until: Before this instant the present sender is trusted to send the alert; then any process may.
        tries: Number of sendings that were begun.
        sequence: The step that the alert is about.
        attempt: The attempt that the alert is about.
        reason: The reason as a sentence.
        evidence: Log lines on which the verdict rests, limited in number and length.
        digest: Id of the digest that sends the alert; ``wait-`` and a group: the alert waits for a digest; None: it is sent
            by a mail of its own, or no process has begun to send it.
    """

    id: str
    event: Event
    at: datetime
    until: datetime
    sequence: int
    attempt: int
    reason: str
    tries: int = 0
    evidence: tuple[str, ...] = ()
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """
    A text about one sequence and its last grant. It does not count for later ones, because a process of an older release
    that goes on with the record does not clear it.

    Attributes:
        sequence: The sequence.
        token: The token of its last grant.
        text: The text.
    """

    sequence: int
    token: int
    text: str


@dataclass(frozen=True, slots=True)
class Since:
    """
    An instant that counts for one sequence and its last grant, as a ``Note`` does.

    Attributes:
        sequence: The sequence.
        token: The token of its last grant.
        at: Server's clock, estimated by the process that recorded it.
    """

    sequence: int
    token: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """
    The model by which a payload was written. It does not count for other payloads, because a process of an older release
    that stores another one does not clear it.

    Attributes:
        data_hash: Hash of the payload; for an entity, which has no such hash, the sequence as a text.
        model: Digest of the model's fields.
    """

    data_hash: str
    model: str


class Person(NamedTuple):
    """
    The person, or the program of a person, who acts on a record.

    Attributes:
        name: Account or user.
        proven: Whether an identity provider vouches for *name*; if not, the person has given it.
        claimed: Name that the person gives beside a proven account.
    """

    name: str
    proven: bool
    claimed: str | None = None

    @property
    def said(self) -> str:
        """
        The name, with the one that is claimed beside it; it says if the name is not proven.
        """
        beside = f", as {self.claimed}" if self.claimed else ""
        return f"{self.name}{'' if self.proven else ' (unproven)'}{beside}"


@dataclass(frozen=True, slots=True)
class Act:
    """
    An act of a person on a record.

    Attributes:
        at: Server's clock, estimated by the process that recorded it.
        verb: The act, such as ``reset`` or ``happened``.
        by: Account or user.
        proven: Whether an identity provider vouches for *by*.
        claimed: Name that the person gave beside a proven account.
        status: Status of the record before the act.
        sequence: Sequence of the record before the act.
        note: The person's own words, limited in length.
    """

    at: datetime
    verb: str
    by: str
    proven: bool
    claimed: str | None
    status: str
    sequence: int
    note: str | None = None

    @property
    def person(self) -> Person:
        """
        The person who has acted.
        """
        return Person(self.by, self.proven, self.claimed)


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """
    A person's promise to attend to a record; until it ends, no reminder names the record. It counts for one sequence and
    its last grant, as a ``Note`` does.

    Attributes:
        sequence: The sequence.
        token: The token of its last grant.
        by: The person.
        until: Time at which it ends.
    """

    sequence: int
    token: int
    by: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Chunk:
    """
    A full part of a journal, sealed in a document of its own: ``onceJournals/{id}``.

    Attributes:
        id: Id of the document; it is made of the nonce of the commit that sealed it.
        first: Least ordinal of its entries.
        last: Greatest ordinal of its entries.
        size: Bytes of its entries.
    """

    id: str
    first: int
    last: int
    size: int


@dataclass(frozen=True, slots=True)
class Intent:
    """
    A run with ``once=True`` that was begun and whose result is not known.

    Attributes:
        name: Name of the run.
        token: Token of the attempt that has begun it.
        begun: Time of its commit (estimate of the server's clock).
        over: From this instant on the attempt that has begun it is surely over.
    """

    name: str
    token: int
    begun: datetime
    over: datetime


class WaitFor(StrEnum):
    """
    The sorts of waits.
    """

    SLEEP = "sleep"
    EVENT = "event"
    CHILDREN = "children"
    RETRY = "retry"
    """The next try of a run."""
    VERIFY = "verify"
    """The time from which a run that was begun may be verified."""
    POLL = "poll"


class Woken(StrEnum):
    """
    The ends of a wait.
    """

    TIME = "time"
    EVENT = "event"
    CHILDREN = "children"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class HandlerWait:
    """
    The wait of a suspended sequence.

    Attributes:
        name: Its name in the journal.
        sort: Its sort.
        ordinal: Its place in the journal.
        since: Time at which it began (estimate of the server's clock).
        until: Time at which it ends in any case; None: it has no time-out.
        events: Names of the events that end it.
        nonce: Nonce of the children that end it; None: it waits for none.
        ended: Its end, as the grant that followed has found it; None: it goes on, or no grant has followed.
        event: Id of the event that ended it.
        tolerate: Number of failures of children that do not end it.
    """

    name: str
    sort: WaitFor
    ordinal: int
    since: datetime
    until: datetime | None = None
    events: tuple[str, ...] = ()
    nonce: str | None = None
    ended: Woken | None = None
    event: str | None = None
    tolerate: int = 0


class Result(NamedTuple):
    """
    The result of a completed run, in the form in which it is recorded.

    Attributes:
        value: JSON data that Firestore can hold.
        text: JSON text of data that Firestore can't hold: a list in a list, an empty or a reserved key, a large integer.
        lost: Reason for which neither could be stored; the run is completed nevertheless.
    """

    value: Any = None
    text: str | None = None
    lost: str | None = None

    def data(self) -> Any:
        """
        Return the JSON data; None also if the result is lost.
        """
        return self.value if self.text is None else json.loads(self.text)


NO_RESULT: Final = Result()


@dataclass(frozen=True, kw_only=True)
class Lock:
    """
    The lock record of one document.

    Attributes:
        env: Environment; deliveries of another one are refused.
        sequence: Number of the step that is scheduled or runs, or ran last, 1-based; +1 on each schedule, never goes back.
        base: Sequence before the present chain: ``step = sequence - base`` counts within the chain.
        keyed: Number of which ``attempt.key`` is made. It begins at ``rules.writes.first_number`` (documents of older
            releases: the server's epoch milliseconds, or the sequence) and goes up by one with each sequence. It is kept
            when a failed, cancelled or quarantined sequence is reset.
        status: Life cycle.
        token: Fencing token: +1 per grant, never reset, absolute.
        scheduled_token: The token that was current when this sequence was scheduled; 0 also if a person has scheduled it.
        holder: Nonce of the attempt granted last.
        scheduled_by: Nonce of the schedule that made this sequence.
        settled_by: Nonce of the settling, release or checkpoint applied last.
        granted_at: Server time of the last grant.
        leased_at: Server time of the last grant or renewal.
        lease_seconds: Length of the lease after ``leased_at``.
        timeout_seconds: After this many seconds from the grant, an expired lease is taken over even without evidence;
            ``rules.timeout_at`` may be later.
        run_limit_seconds: After this many seconds from the grant, the lease counts as expired even if it was renewed.
        max_attempts: Grants allowed per sequence.
        on_unknown: ``takeover`` or ``quarantine``, if the logs show no end of an expired holder.
        alert_on: Events that owe an alert.
        retry: Retry policy as data; None: the queue retries.
        attempts: Grants of this sequence.
        errors: The last failures of this sequence, oldest first.
        wait_until: Earliest instant at which the sequence may run.
        due: ``"{env}/{lane}/{shard}/{instant}"``: the lane and the time of the next look at this document; None: nothing
            is owed.
        dispatches: Cloud Tasks made for this sequence.
        url: Absolute target of this sequence.
        queue: Full name of its queue.
        params: Parameters of this sequence, as ``schedule`` got them; JSON.
        headers: Extra headers of its deliveries.
        traceparent: W3C trace context of its schedule; None: the schedule had no span.
        trace: Trace id of the holder's request.
        instance: Machine and process of the holder.
        result: Result of the last completed run; JSON data that Firestore can hold. Read it by ``returned``.
        result_json: The result as JSON text, if Firestore can't hold it as data.
        result_lost: Reason for which the result of a completed run could not be stored at all.
        owed: Alerts not yet sent.
        cancel_requested_at: Time of a cancellation that arrived while the sequence was leased, or that a delivery handles.
        cleanup: Whether a cancelled chain is delivered once more, for its cancellation handler.
        cancelling: Whether the present attempts are those of the cancellation handler.
        wanted: Revision of the payload that was requested last (newest-wins kinds).
        wanted_by: Nonce of the request for that payload.
        granted: Revision of the payload that the last grant ran.
        key: The resource key that the task needs; while the task is leased, the key's document names it.
        rides: Whether the task is leased as part of the batch of another task, which holds the key.
        parked: ``"{env}/{key}/{not before}/{created}"`` while the task waits for its resource key. Then the task is not due;
            the key's document is, until the key is handed over.
        erase_seconds: Seconds after the end at which the payload is erased, so that only a tombstone stays; None: never.
        erased: Whether the payload was erased.
        paused: Whether a generator is paused: it makes no occurrences until it is resumed, and is not due.
        needs: Features without which only the record's own holder may change it.
        ready_at: Time since which this sequence could have been claimed, first or after a retry or a key's hand-over.
        attention: ``"{env}/{reason}/{shard}/{since}"`` while a person is needed.
        fingerprint: The model by which the payload was written.
        acts: The last acts of people, oldest first.
        acknowledged: Promise of a person to attend to the record.
        journal: Entries of the journal that are not sealed yet, each a JSON text (``rules.journal.Entry``).
        chunks: The sealed parts of the journal, oldest first.
        journaled_by: Nonce of the commit that wrote the journal last.
        open: Runs that were begun once and whose results are not known.
        wait: The wait of a suspended sequence, or of one that a grant has ended and that is not in the journal yet.
        mailbox: Events that no wait has taken yet, oldest first, each a JSON text (``rules.waits.Event``).
        received: The last ids of events, as digests with the days on which they came (``rules.waits``).
        progress_at: The attempt that brought the last new entry of the journal.
        progress: Text that the handler has left about its progress, as JSON.
        releases: Number of times for which the lease of this sequence was released unused.
        children: Nonces of the groups of children that may be open, and a mark if some are over (``rules.family``).
        orphans: Nonces of the groups of children whose cancellation is owed, and a mark if their earlier expiry is owed.
    """

    env: str
    sequence: int
    status: Status
    base: int = 0
    keyed: int = 0
    token: int = 0
    scheduled_token: int = 0
    holder: str | None = None
    scheduled_by: str | None = None
    settled_by: str | None = None
    granted_at: datetime | None = None
    leased_at: datetime | None = None
    # A missing attribute of a stored record has the default below, so the defaults never change.
    lease_seconds: float = 60.0
    timeout_seconds: float = 630.0
    run_limit_seconds: float = 630.0
    max_attempts: int = 11
    on_unknown: str = "takeover"
    alert_on: tuple[str, ...] = tuple(Event)
    retry: dict[str, Any] | None = None
    attempts: int = 0
    errors: tuple[Failure, ...] = ()
    wait_until: datetime | None = None
    due: str | None = None
    dispatches: int = 0
    url: str | None = None
    queue: str | None = None
    params: Any = None
    headers: dict[str, str] | None = None
    traceparent: str | None = None
    trace: str | None = None
    instance: str | None = None
    result: Any = None
    result_json: Note | None = None
    result_lost: Note | None = None
    owed: tuple[PendingAlert, ...] = ()
    cancel_requested_at: datetime | None = None
    cleanup: bool = False
    cancelling: bool = False
    wanted: int = 0
    wanted_by: str | None = None
    granted: int = 0
    key: str | None = None
    rides: bool = False
    parked: str | None = None
    erase_seconds: float | None = None
    erased: bool = False
    paused: bool = False
    needs: tuple[str, ...] = ()
    ready_at: Since | None = None
    attention: str | None = None
    fingerprint: Fingerprint | None = None
    acts: tuple[Act, ...] = ()
    acknowledged: Acknowledgement | None = None
    journal: tuple[bytes, ...] = ()
    chunks: tuple[Chunk, ...] = ()
    journaled_by: str | None = None
    open: tuple[Intent, ...] = ()
    wait: HandlerWait | None = None
    mailbox: tuple[bytes, ...] = ()
    received: bytes = b""
    progress_at: int = 0
    progress: str | None = None
    releases: int = 0
    children: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()

    @property
    def durable(self) -> bool:
        """
        Tell whether the sequence has a journal or waits, so that its handler has begun to remember.
        """
        return bool(self.journal or self.chunks or self.wait)

    @property
    def tries(self) -> int:
        """
        Return the number of attempts since the last one that brought the journal forward.
        """
        return self.attempts - self.progress_at

    @property
    def step(self) -> int:
        """
        Return the step within the present chain, 1-based.
        """
        return self.sequence - self.base

    def step_of(self, sequence: int) -> int:
        """
        Return the step of a sequence, 1-based; 0 if the sequence is not of the present chain.
        """
        return sequence - self.base if self.base < sequence <= self.sequence else 0

    @property
    def returned(self) -> Result:
        """
        Return the result of the completed run of this sequence.
        """
        return Result(self.result, self.read(self.result_json), self.read(self.result_lost))

    def read(self, note: Note | None) -> str | None:
        """
        Return the text of *note* if it counts for this sequence and its last grant; else None.
        """
        return note.text if note is not None and (note.sequence, note.token) == (self.sequence, self.token) else None

    @property
    def ready_since(self) -> datetime | None:
        """
        Return the time of ``ready_at`` if that is of this sequence and its last grant, else None.
        """
        since = self.ready_at
        mine = since is not None and (since.sequence, since.token) == (self.sequence, self.token)
        return since.at if since is not None and mine else None

    @property
    def acknowledgement(self) -> Acknowledgement | None:
        """
        Return the promise of a person to attend to this sequence and its last grant, else None.
        """
        known = self.acknowledged
        return known if known is not None and (known.sequence, known.token) == (self.sequence, self.token) else None

    def written_by(self, data_hash: str) -> str | None:
        """
        Return the digest of the model by which the payload with *data_hash* was written; None: not known.
        """
        found = self.fingerprint
        return found.model if found is not None and found.data_hash == data_hash else None

    def note(self, text: str | None) -> Note | None:
        """
        Return *text* as a note on this sequence and its last grant; None if there is no text.
        """
        return None if text is None else Note(self.sequence, self.token, text)

    @property
    def finished(self) -> bool:
        """
        Tell whether the status is completed, failed or cancelled.
        """
        return self.status in TERMINAL

    @classmethod
    def of(cls, values: dict[str, Any]) -> Lock:
        """
        Make a record of stored *values*; the other attributes have their defaults. The values are not checked.
        """
        lock = object.__new__(cls)
        # Every record has all of its attributes, so that two records are quick to compare.
        lock.__dict__.update(DEFAULTS)
        lock.__dict__.update(values)
        return lock

    def but(self, **changes: Any) -> Lock:
        """
        Return a copy of the record with *changes*.
        """
        # dataclasses.replace() costs 15 times as much with this many fields, and this is called on every delivery.
        lock = object.__new__(Lock)
        lock.__dict__.update(self.__dict__, **changes)
        return lock


def superseded(lock: Lock | None) -> bool:
    """
    Tell whether a newer payload was stored while the attempt runs; if so, the attempt's own payload is out of date.
    """
    return lock is not None and lock.wanted > lock.granted


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


STORED_NAMES: Final[dict[str, str]] = {field.name: _camel(field.name) for field in fields(Lock)}
"""Attribute of ``Lock`` -> its name inside the stored map."""

DEFAULTS: Final[dict[str, Any]] = {
    field.name: None if field.default is MISSING else field.default for field in fields(Lock)
}
"""Value of an attribute that the stored map does not have; None for the three attributes that it always has."""
