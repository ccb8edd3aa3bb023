"""
The words in which the rules of ``lease`` are asked and answer. Data only.

What is made anew for every decision is a named tuple: a frozen dataclass takes twice as long to make.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import NO_RESULT, Fingerprint, Lock, Result
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.timestamps import instant, parse_instant


class DecisionContext(NamedTuple):
    """
    When and where a rule is applied.

    Attributes:
        now: Estimate of the server's clock that is never later than it.
        read: Server time of the read that showed the record; None for a record that is trusted unread. The only time by
            which a lease can expire.
        place: ``"{env}/{lane}/{shard}"``, the beginning of ``due``.
        env: Environment of the process.
        grace: Seconds that an unclaimed task may be overdue before it is dispatched again.
        alert_retry: Seconds for which the sender of an alert is trusted.
        stuck: Seconds for which a task may wait unclaimed before a person is told.
        log_grace: Seconds that log lines may take to become visible.
        chance: A number in [0, 1) for jitter, where a rule needs one (takeover).
    """

    now: datetime
    read: datetime | None
    place: str
    env: str
    grace: float = 60.0
    alert_retry: float = 120.0
    stuck: float = 900.0
    log_grace: float = 120.0
    chance: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """
    How a handler wants its leases, in seconds; stored with each grant where it differs from the record's defaults.
    """

    lease: float = Lock.lease_seconds
    timeout: float = Lock.timeout_seconds
    run_limit: float = Lock.run_limit_seconds
    max_attempts: int = Lock.max_attempts
    on_unknown: str = Lock.on_unknown
    alert_on: tuple[str, ...] = Lock.alert_on
    retry: dict[str, Any] | None = Lock.retry
    cleanup: bool = Lock.cleanup


class Claimant(NamedTuple):
    """
    Who asks for a lease: a fresh nonce, and where to look for evidence about its bearer.
    """

    nonce: str
    trace: str | None = None
    instance: str | None = None


class Fence(NamedTuple):
    """
    What a holder must still find in the record for any of its writes to count.
    """

    sequence: int
    token: int
    holder: str


class Target(NamedTuple):
    """
    Where a sequence goes (without a URL: to the workers that pull its kind), with what, when, and the W3C trace context of who
    asked for it.
    """

    url: str | None
    queue: str | None
    params: Any = None
    headers: dict[str, str] | None = None
    wait_until: datetime | None = None
    traceparent: str | None = None


class SettlementKind(StrEnum):
    """
    The ways to settle an attempt.
    """

    COMPLETE = "complete"
    CONTINUE = "continue"
    SNOOZE = "snooze"
    RETRY = "retry"
    FAIL = "fail"
    RELEASE = "release"
    CHECKPOINT = "checkpoint"


class Settlement(NamedTuple):
    """
    All that a settling commit will say, decided before it is tried: also what recovery commits from the log.

    Attributes:
        kind: How the attempt ends.
        nonce: Recognises this settling.
        next_nonce: Recognises the schedule it makes, if any.
        target: Where the next sequence goes (``CONTINUE``).
        result: What a completed run returned, as it is to be recorded.
        wait_until: When the same sequence is tried again (``SNOOZE``, ``RETRY``).
        message: Why the attempt failed (``RETRY``, ``FAIL``).
        by_queue: The queue redelivers by itself (``RETRY``), no new task is made.
        fingerprint: The model by which the fields that it saves were written; None: the one that is stored stays.
        wanted: ``Lock.wanted`` of the grant: the payload that the attempt ran with. None: of an entity, or of an older release.
    """

    kind: SettlementKind
    nonce: str
    next_nonce: str | None = None
    target: Target | None = None
    result: Result = NO_RESULT
    wait_until: datetime | None = None
    message: str | None = None
    by_queue: bool = False
    fingerprint: Fingerprint | None = None
    wanted: int | None = None

    def to_data(self) -> dict[str, Any]:
        """
        JSON data, texts and numbers only.
        """
        data: dict[str, Any] = {"kind": str(self.kind), "nonce": self.nonce}
        if self.next_nonce is not None:
            data["nextNonce"] = self.next_nonce
        if self.target is not None:
            t = self.target
            data["target"] = {
                "url": t.url,
                "queue": t.queue,
                "params": t.params,
                "headers": t.headers,
                "waitUntil": None if t.wait_until is None else instant(t.wait_until),
            }
            if t.traceparent is not None:
                data["target"]["traceparent"] = t.traceparent
        value, text, lost = self.result
        if value is not None:
            data["result"] = value
        if text is not None:
            data["resultJson"] = text
        if lost is not None:
            data["resultLost"] = lost
        if self.wait_until is not None:
            data["waitUntil"] = instant(self.wait_until)
        if self.message is not None:
            data["message"] = self.message
        if self.by_queue:
            data["byQueue"] = True
        if self.fingerprint is not None:
            data["fingerprint"] = [self.fingerprint.data_hash, self.fingerprint.model]
        if self.wanted is not None:
            data["wanted"] = self.wanted
        return data

    def instead(self, refusal: str) -> Settlement:
        """
        What is written where Firestore refuses this settlement for good: the same without its result, and where that is
        refused too, a failed attempt.

        Args:
            refusal: Firestore's own sentence.
        """
        if self.result.value is not None or self.result.text is not None:
            return self._replace(result=Result(lost=refusal))
        return Settlement(kind=SettlementKind.RETRY, nonce=self.nonce, message=f"it could not be recorded: {refusal}")

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Settlement:
        """
        The inverse of ``to_data``.

        Raises:
            KeyError, TypeError, ValueError: The data was not written by ``to_data``.
        """
        target = data.get("target")
        return cls(
            kind=SettlementKind(data["kind"]),
            nonce=str(data["nonce"]),
            next_nonce=data.get("nextNonce"),
            target=None
            if target is None
            else Target(
                url=target["url"],
                queue=target["queue"],
                params=target.get("params"),
                headers=target.get("headers"),
                wait_until=None if target.get("waitUntil") is None else parse_instant(target["waitUntil"]),
                traceparent=target.get("traceparent"),
            ),
            result=Result(data.get("result"), data.get("resultJson"), data.get("resultLost")),
            wait_until=None if data.get("waitUntil") is None else parse_instant(data["waitUntil"]),
            message=data.get("message"),
            by_queue=bool(data.get("byQueue")),
            fingerprint=None if data.get("fingerprint") is None else Fingerprint(*data["fingerprint"]),
            wanted=None if data.get("wanted") is None else int(data["wanted"]),
        )


class Put(NamedTuple):
    """
    Write this record.

    Attributes:
        lock: The record as it shall be.
        outcome: How a delivery ends by it; None: it goes on by it (a grant), or it is nobody's delivery.
        dispatch: Whether a Cloud Task must be made once it is committed.
    """

    lock: Lock
    outcome: Outcome | None = None
    dispatch: bool = False


class Refused(NamedTuple):
    """
    Write nothing: the answer to a delivery.

    Attributes:
        outcome: Why, as the delivery ends.
        reason: The same as a sentence.
        until: When asking again makes sense.
    """

    outcome: Outcome
    reason: str
    until: datetime | None = None


class CallRefused(NamedTuple):
    """
    Write nothing: the answer to a call of a person or a program.

    Attributes:
        refusal: Why.
        reason: The same as a sentence.
        until: When asking again makes sense.
    """

    refusal: Refusal
    reason: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class NeedTime:
    """
    Read again, with the server's time: this record can't be judged without.
    """


@dataclass(frozen=True, slots=True)
class Expired:
    """
    The lease has expired: judge its holder by the evidence.
    """

    lock: Lock


@dataclass(frozen=True, slots=True)
class Lost:
    """
    The fence does not hold.

    Attributes:
        reason: What was found instead.
        finished: Whether nothing more is to be done for this sequence.
    """

    reason: str
    finished: bool


class SweepAction(StrEnum):
    """
    The ways to deal with a document whose due time has come.
    """

    LEAVE = "leave"
    """It is not due after all."""
    PUT = "put"
    """A write settles it."""
    ALERT = "alert"
    """Alerts that are owed are to be sent."""
    DISPATCH = "dispatch"
    """Its Cloud Task is looked for, and made again if it is gone."""
    JUDGE = "judge"
    """The holder of its expired or quarantined lease is to be judged."""
    ERASE = "erase"
    """Its retention is over: its payload and result are erased."""


@dataclass(frozen=True, slots=True)
class Look:
    """
    What the sweeper has to do with a document whose due time has come.

    Attributes:
        action: What is to be done.
        put: The record to write (``PUT``, ``ERASE``).
        owed: Ids of the alerts to send.
    """

    action: SweepAction
    put: Put | None = None
    owed: tuple[str, ...] = field(default=())
