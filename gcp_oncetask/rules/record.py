"""
The lock: one record, embedded as the map field ``lock`` in every document that takes part.

Data only. What may happen to it is decided in ``lease``; how it is stored, in ``store/codec.py``.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

SERVER_TIME: Final = datetime.max.replace(tzinfo=UTC)
"""Stands, in a record to be written, for the server's own time of that commit."""

SCHEMA: Final = 1


class Status(StrEnum):
    """
    Stored life cycle, by name.
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
    What a person can be alerted of.
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
        message: What went wrong, bounded.
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
        event: What happened.
        at: When it was decided (estimate of the server's clock).
        until: Before this instant its present sender is trusted to send it; then anybody may.
        tries: Sendings that were begun.
        sequence: The step it is about.
        attempt: The attempt it is about.
        reason: Why, in a sentence.
        evidence: Log lines that the verdict rests on, bounded.
        digest: It is told by the digest with this id; with ``wait-`` before a group: by one to come; None: by a mail of its own,
            or nobody has begun to send it.
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
    A text about one sequence as one grant left it. It counts for that one alone: an older process that goes on with the
    record does not clear it.

    Attributes:
        sequence: The sequence.
        token: The token of its last grant.
        text: What is said.
    """

    sequence: int
    token: int
    text: str


@dataclass(frozen=True, slots=True)
class Since:
    """
    An instant that counts for one sequence as one grant left it, as a ``Note`` does.

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
    The model by which a payload was written. It counts for that payload alone: an older process that stores another one does
    not clear it.

    Attributes:
        data_hash: Of the payload; of an entity, which has none, the sequence as a text.
        model: Digest of the model's fields.
    """

    data_hash: str
    model: str


class Result(NamedTuple):
    """
    What a completed run has returned, as it is recorded.

    Attributes:
        value: JSON data that Firestore can hold.
        text: JSON text of data that only JSON can say: a list in a list, an empty or a reserved key, a large integer.
        lost: Why neither could be stored; the run is completed all the same.
    """

    value: Any = None
    text: str | None = None
    lost: str | None = None

    def data(self) -> Any:
        """
        JSON data; None also for a lost one.
        """
        return self.value if self.text is None else json.loads(self.text)


NO_RESULT: Final = Result()


@dataclass(frozen=True, kw_only=True)
class Lock:
    """
    The lock record of one document.

    Attributes:
        env: Environment; deliveries of another one are refused.
        sequence: What is scheduled or running, 1-based; +1 on each schedule, never goes back.
        base: ``step = sequence - base`` counts within the present chain.
        keyed: The number that ``attempt.key`` is made of: begins at the server's epoch milliseconds and goes up by one with each
            sequence (documents of older releases: the sequence), kept when a failed, cancelled or quarantined one is reset.
        status: Life cycle.
        token: Fencing token: +1 per grant, never reset, absolute.
        scheduled_token: The token that was current when this sequence was scheduled.
        holder: Nonce of the attempt granted last.
        scheduled_by: Nonce of the schedule that made this sequence.
        settled_by: Nonce of the settling, release or checkpoint applied last.
        granted_at: Server time of the last grant.
        leased_at: Server time of the last grant or renewal.
        lease_seconds: Length of the lease after ``leased_at``.
        timeout_seconds: After this many seconds from the grant it is taken over whatever the logs say; ``rules.timeout_at`` may
            be later.
        run_limit_seconds: After this many seconds from the grant the lease counts as expired however fresh.
        max_attempts: Grants allowed per sequence.
        on_unknown: ``takeover`` or ``quarantine``, when nothing is known of an expired holder.
        alert_on: Events that owe an alert.
        retry: Retry policy as data; None: the queue retries.
        attempts: Grants of this sequence.
        errors: The last failures of this sequence, oldest first.
        wait_until: Not to be run before this instant.
        due: ``"{env}/{lane}/{shard}/{instant}"``: when and by whom this document must be looked at next; None: nothing
            is owed.
        dispatches: Cloud Tasks made for this sequence.
        url: Absolute target of this sequence.
        queue: Full name of its queue.
        params: What ``schedule`` was given for this sequence; JSON.
        headers: Extra headers of its deliveries.
        traceparent: W3C trace context of its schedule; None: that had no span.
        trace: Trace id of the holder's request.
        instance: Where the holder runs.
        result: What the last completed run returned; JSON data that Firestore can hold. Read it by ``returned``.
        result_json: The same as JSON text, where Firestore can't hold it.
        result_lost: Why the result of a completed run could not be stored at all.
        owed: Alerts not yet sent.
        cancel_requested_at: A cancellation arrived while it was leased, or is to be handled by a delivery.
        cleanup: A cancelled one is delivered once more, for its cancellation handler.
        cancelling: Its present attempts are those of the cancellation handler.
        wanted: Revision of the payload that was asked for last (newest-wins kinds).
        wanted_by: Nonce of the request that asked for it.
        granted: Revision that the last grant ran.
        key: The resource key that it needs; while it is leased, that key's document names it.
        rides: Leased as part of the batch of another task, which holds the key.
        parked: ``"{env}/{key}/{not before}/{created}"`` while it waits for its resource key; nothing is due then: the key's
            document is, until it is handed over.
        erase_seconds: So long after its end the payload is erased and a tombstone stays; None: it is not.
        erased: The payload is gone.
        paused: A generator that makes no occurrences until it is resumed; nothing is due then.
        needs: Features without which the record must not be touched, but by its own holder.
        ready_at: When this sequence, retry or key could first have been claimed.
        attention: ``"{env}/{reason}/{shard}/{since}"`` while a person is needed.
        fingerprint: The model by which the payload was written.
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
    # What a document does not have is as it says here: these defaults hold for stored records, and never change.
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

    @property
    def step(self) -> int:
        """
        Step within the present chain, 1-based.
        """
        return self.sequence - self.base

    def step_of(self, sequence: int) -> int:
        """
        Step of a sequence, 1-based; 0: it is not of the present chain.
        """
        return sequence - self.base if self.base < sequence <= self.sequence else 0

    @property
    def returned(self) -> Result:
        """
        What the completed run of this sequence has returned.
        """
        return Result(self.result, self._of_this(self.result_json), self._of_this(self.result_lost))

    def _of_this(self, note: Note | None) -> str | None:
        return note.text if note is not None and (note.sequence, note.token) == (self.sequence, self.token) else None

    @property
    def ready_since(self) -> datetime | None:
        """
        ``ready_at`` if it is of this sequence and its last grant; None: not known.
        """
        since = self.ready_at
        mine = since is not None and (since.sequence, since.token) == (self.sequence, self.token)
        return since.at if since is not None and mine else None

    def written_by(self, data_hash: str) -> str | None:
        """
        Digest of the model by which the payload with *data_hash* was written; None: not known.
        """
        found = self.fingerprint
        return found.model if found is not None and found.data_hash == data_hash else None

    def note(self, text: str | None) -> Note | None:
        """
        *text* as a note on this sequence and its last grant; None if there is none.
        """
        return None if text is None else Note(self.sequence, self.token, text)

    @property
    def finished(self) -> bool:
        """
        Whether the status is terminal: completed, failed or cancelled.
        """
        return self.status in TERMINAL

    @classmethod
    def of(cls, values: dict[str, Any]) -> Lock:
        """
        A record of stored *values*, the rest by default; the attributes are not checked.
        """
        lock = object.__new__(cls)
        # Every record has all of its attributes: that makes two of them quick to compare.
        lock.__dict__.update(DEFAULTS)
        lock.__dict__.update(values)
        return lock

    def but(self, **changes: Any) -> Lock:
        """
        The same record with *changes*.
        """
        # dataclasses.replace() costs 15 times as much with this many fields, and this is called on every delivery.
        lock = object.__new__(Lock)
        lock.__dict__.update(self.__dict__, **changes)
        return lock


def superseded(lock: Lock | None) -> bool:
    """
    Whether a newer payload was stored while the attempt runs: what the attempt says of the payload is out of date.
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
"""What an attribute is when the stored map does not have it; None for the three that it always has."""
