"""
The arguments and answers of the rules. Data only.

Objects that are made anew for every decision are named tuples: a frozen dataclass takes twice as long to make.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from gcp_oncetask.rules import waits
from gcp_oncetask.rules.journal import JournalWrite
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import NO_RESULT, Fingerprint, HandlerWait, Lock, Result
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.timestamps import instant, parse_instant


class DecisionContext(NamedTuple):
    """
    The time and place at which a rule is applied.

    Attributes:
        now: Estimate of the server's clock; never later than that clock.
        read: Server time of the read that showed the record; None for a record that is trusted without a read. Leases are
            judged expired by this time alone.
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
    The settings of a handler's leases; times are in seconds. A grant stores those that differ from the record's defaults.
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
    The process that asks for a lease: a fresh nonce, and the trace and the instance by which the logs have evidence of it.
    """

    nonce: str
    trace: str | None = None
    instance: str | None = None


class Fence(NamedTuple):
    """
    The values that the record must still have for a holder's write to count.
    """

    sequence: int
    token: int
    holder: str


class Target(NamedTuple):
    """
    The target of a sequence: URL (None: the workers that pull its kind), queue, parameters, headers, the time before which
    it must not run, and the W3C trace context of its request.
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
    SUSPEND = "suspend"
    ASK = "ask"
    """Set the sequence aside until a person has answered a question."""
    RETRY = "retry"
    FAIL = "fail"
    RELEASE = "release"
    CHECKPOINT = "checkpoint"


class Settlement(NamedTuple):
    """
    All that a settling commit will write, decided before the commit is tried. Recovery commits the same from the log.

    Attributes:
        kind: The way to settle the attempt.
        nonce: Recognises this settling.
        next_nonce: Recognises the schedule that it makes, if any.
        target: Target of the next sequence (``CONTINUE``).
        result: Result of a completed run, in the form in which it is recorded.
        wait_until: Time of the next try of the same sequence (``SNOOZE``, ``RETRY``).
        message: Reason of the failure (``RETRY``, ``FAIL``), or of a release that does not count (``RELEASE``).
        by_queue: Whether the queue redelivers by itself (``RETRY``), so that no new task is made.
        fingerprint: The model by which the fields that it saves were written; None: the stored one stays.
        wanted: ``Lock.wanted`` of the grant: the revision of the payload with which the attempt ran. None: the settlement
            is an entity's, or was written by an older release.
        wait: The wait of a suspension (``SUSPEND``); None: the sequence goes on at once in a fresh delivery.
        journal: The write of the journal that the commit makes; None: it makes none.
        swallowed: Whether user code went on after the suspension.
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
    wait: HandlerWait | None = None
    journal: JournalWrite | None = None
    swallowed: bool = False

    def to_data(self) -> dict[str, Any]:
        """
        Convert the settlement to JSON data.
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
        if self.wait is not None:
            data["wait"] = waits.to_data(self.wait)
        if self.journal is not None:
            data["journal"] = self.journal.to_data()
        return data

    def instead(self, refusal: str) -> Settlement:
        """
        Return the settlement that replaces this one when Firestore refuses it for good: the same without its result, and if
        it has no result, a failed attempt.

        Args:
            refusal: Firestore's own sentence.
        """
        if self.result.value is not None or self.result.text is not None:
            return self._replace(result=Result(lost=refusal))
        return Settlement(kind=SettlementKind.RETRY, nonce=self.nonce, message=f"it could not be recorded: {refusal}")

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Settlement:
        """
        Read a settlement from *data*, which ``to_data`` made.

        Raises:
            KeyError, TypeError, ValueError: ``to_data`` did not make *data*.
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
            wait=None if data.get("wait") is None else waits.from_data(data["wait"]),
            journal=None if data.get("journal") is None else JournalWrite.from_data(data["journal"]),
        )


class Put(NamedTuple):
    """
    The decision to write a record.

    Attributes:
        lock: The record to write.
        outcome: Outcome of the delivery; None: the delivery goes on (a grant), or there is no delivery.
        dispatch: Whether a Cloud Task must be made after the commit.
    """

    lock: Lock
    outcome: Outcome | None = None
    dispatch: bool = False


class Refused(NamedTuple):
    """
    The decision to write nothing: the answer to a delivery.

    Attributes:
        outcome: Outcome of the delivery.
        reason: The reason as a sentence.
        until: Time from which another try makes sense, if there is one.
    """

    outcome: Outcome
    reason: str
    until: datetime | None = None


class CallRefused(NamedTuple):
    """
    The decision to write nothing: the answer to a call of a person or a program.

    Attributes:
        refusal: The reason.
        reason: The reason as a sentence.
        until: Time from which another try makes sense, if there is one.
    """

    refusal: Refusal
    reason: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class NeedTime:
    """
    The request to read again with the server's time: without it, this record can't be judged.
    """


@dataclass(frozen=True, slots=True)
class Expired:
    """
    The answer that the lease has expired: its holder must be judged by the evidence.
    """

    lock: Lock


@dataclass(frozen=True, slots=True)
class Lost:
    """
    The answer that the fence does not hold.

    Attributes:
        reason: The state of the record, as a sentence.
        finished: Whether nothing more is to be done for this sequence.
    """

    reason: str
    finished: bool


class SweepAction(StrEnum):
    """
    The ways to deal with a document whose due time has come.
    """

    LEAVE = "leave"
    """Do nothing: the document is not due."""
    PUT = "put"
    """Write a record, and nothing else."""
    ALERT = "alert"
    """Send the alerts that are owed."""
    DISPATCH = "dispatch"
    """Look for the Cloud Task, and make it again if it is gone."""
    JUDGE = "judge"
    """Judge the holder of the expired or quarantined lease."""
    ERASE = "erase"
    """Erase the payload and the result, because the time for which they are kept is over."""
    CHILDREN = "children"
    """Ask whether the children have ended for which the task waits."""
    ORPHANS = "orphans"
    """Cancel the children whose cancellation is owed."""


@dataclass(frozen=True, slots=True)
class Look:
    """
    The answer of ``rules.look`` about a document whose due time has come.

    Attributes:
        action: The action.
        put: The record to write (``PUT``, ``ERASE``).
        owed: Ids of the alerts to send.
    """

    action: SweepAction
    put: Put | None = None
    owed: tuple[str, ...] = field(default=())
