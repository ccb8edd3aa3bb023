"""
The calls of the library that processes of the model run for tasks: a delivery, a renewal, a settling, a sweep.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from gcp_oncetask import rules
from gcp_oncetask.effects import keys
from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.execution.claiming import Claim
from gcp_oncetask.execution.ended import Ended
from gcp_oncetask.execution.handler_spec import HandlerSpec
from gcp_oncetask.execution.running import RunningAttempt
from gcp_oncetask.observe.log_context import context_at
from gcp_oncetask.recovery import sweep as sweeping
from gcp_oncetask.rules.decisions import Policy, Put, Settlement, SettlementKind, SweepAction, Target
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.rules.task_headers import TaskHeaders
from gcp_oncetask.store.codec import DocumentType, encode
from gcp_oncetask.store.lock_codec import decode_lock
from gcp_oncetask.store.side_writes import Hold
from gcp_oncetask.store.snapshot import Changes, Snapshot
from tests.model.documents import TICK
from tests.model.replay import PROCESS, RUNTIME, program

POLICY: Final = Policy(lease=2.0 * TICK, run_limit=3.0 * TICK, timeout=3.0 * TICK, max_attempts=50)
URL: Final = "https://app.test/run"
QUEUE: Final = "projects/model/locations/here/queues/default"
_snapshots: list[tuple[str, bytes, bytes]] = []
_numbers: dict[tuple[str, bytes, bytes], int] = {}


class Hand(NamedTuple):
    """
    A resource key as an attempt knows it.
    """

    path: str
    token: int
    version: bytes | None
    lost: bool


class Running(NamedTuple):
    """
    An attempt whose user code runs.

    Attributes:
        path: Its document.
        snapshot: Number of the document as the attempt knows it.
        granted: Time before the claim was sent.
        leased: Time before the last renewal was sent.
        hand: Its resource key.
        lost: Whether it knows that its lease is lost.
    """

    path: str
    snapshot: int
    granted: int
    leased: int
    hand: Hand | None = None
    lost: bool = False

    @property
    def lock(self) -> Lock:
        """
        Its record, as it knows it.
        """
        lock = _snapshot(self.snapshot).lock
        assert lock is not None
        return lock


class _Plain:
    """
    A subject without fields.
    """

    def unread(self, runtime: Any, seen: Snapshot) -> str | None:
        return None


def _number(snapshot: Snapshot) -> int:
    document = snapshot.document
    assert document is not None
    bare = DocumentType()
    bare.fields.MergeFrom(document.fields)
    key = snapshot.path, snapshot.version.SerializeToString(), bare.SerializeToString(deterministic=True)
    number = _numbers.get(key)
    if number is None:
        number = _numbers[key] = len(_snapshots)
        _snapshots.append(key)
    return number


def _snapshot(number: int) -> Snapshot:
    path, version, contents = _snapshots[number]
    document = DocumentType.FromString(contents)
    return Snapshot(path, Timestamp.FromString(version), document, _lock(number))


@cache
def _lock(number: int) -> Lock | None:
    path, _, contents = _snapshots[number]
    return decode_lock(DocumentType.FromString(contents), path)


def _hand(hold: Hold | None) -> Hand | None:
    if hold is None:
        return None
    return Hand(hold.path, hold.token, None if hold.version is None else hold.version.SerializeToString(), hold.lost)


def _attempt(running: Running) -> RunningAttempt:
    """
    The attempt that *running* stands for.
    """
    snapshot = _snapshot(running.snapshot)
    lock = running.lock
    hold = None
    if running.hand is not None:
        version = None if running.hand.version is None else Timestamp.FromString(running.hand.version)
        hold = Hold(running.hand.path, running.path, running.hand.token, version)
        hold.lost = running.hand.lost
    PROCESS.tick, now = running.granted, PROCESS.tick
    mark = PROCESS.mark()
    PROCESS.tick = running.leased
    leased = PROCESS.mark()
    PROCESS.tick = now
    context = context_at(running.path, lock.env, lock)
    attempt = RunningAttempt(RUNTIME, snapshot, context, policy=POLICY, mark=mark)
    attempt.renewing, attempt.hold, attempt.leased_mark = True, hold, leased
    return attempt


@cache
def believes(running: Running, tick: int) -> bool:
    """
    Tell whether the attempt may rely on its lease at *tick*, by its own clock.
    """
    attempt = _attempt(running)
    PROCESS.tick = tick
    return not running.lost and attempt.alive()


@program
def deliver(body: bytes, retries: int) -> Running | Ended:
    """
    Claim the lease for a delivery with *body*.
    """
    delivery = Delivery.from_json(body)
    spec = HandlerSpec(
        subject=_Plain(),  # type: ignore[arg-type]
        run=lambda *_: None,
        policy=POLICY,
        retry=None,
        renew=True,
        keyed=delivery.document.startswith("onceTasks/"),
    )
    headers = TaskHeaders(retry_count=retries)
    begun = PROCESS.tick
    executor: Any = _Executor
    granted = Claim(executor, spec, delivery, headers, None).acquire(None)
    if isinstance(granted, Ended):
        return Ended(granted.outcome, "")
    attempt = granted.attempt
    return Running(attempt.snapshot.path, _number(attempt.snapshot), begun, begun, _hand(attempt.hold))


class _Executor:
    runtime = RUNTIME


@program
def renew(running: Running) -> Running:
    """
    Renew the lease of an attempt.
    """
    attempt = _attempt(running)
    attempt.renew()
    leased = round(attempt.leased_mark.monotonic / TICK)
    return running._replace(snapshot=_number(attempt.snapshot), leased=leased, hand=_hand(attempt.hold))


def settlement(running: Running, seed: int, kind: SettlementKind) -> Settlement:
    """
    Return the settlement by which *running* ends.
    """
    nonce = f"n{seed}.s"
    if kind is SettlementKind.CONTINUE:
        return Settlement(kind=kind, nonce=nonce, next_nonce=f"n{seed}.c", target=Target(URL, QUEUE))
    return Settlement(kind=kind, nonce=nonce, message="it raised" if kind is SettlementKind.RETRY else None)


@program
def settle(running: Running, kind: SettlementKind) -> str:
    """
    Settle an attempt, and dispatch the step that follows.
    """
    attempt = _attempt(running)
    put = attempt.settle(settlement(running, PROCESS.seed, kind))
    if put.dispatch:
        dispatch(RUNTIME, attempt.snapshot)
    return str(put.outcome)


@program
def sweep(path: str) -> str:
    """
    Attend to one document that is due, as a sweep does.
    """
    snapshot = RUNTIME.store.read(path)
    lock = snapshot.lock
    if lock is None:
        return "gone"
    if lock.status in (Status.LEASED, Status.COMPLETED) and path.startswith("onceLocks/"):
        return "handed over" if keys.attend(RUNTIME, snapshot) else "held"
    found = rules.look(lock, RUNTIME.decision_context(snapshot))
    if found.action is SweepAction.PUT:
        assert found.put is not None
        RUNTIME.store.put(snapshot, found.put)
    elif found.action is SweepAction.DISPATCH:
        queued = PROCESS.ask("queued", (path,))
        at = RUNTIME.decision_context(snapshot)
        after = RUNTIME.store.put(snapshot, rules.still_queued(lock, at) if queued else rules.redispatch(lock, at))
        if after is not None and not queued:
            dispatch(RUNTIME, after)
    elif found.action is SweepAction.JUDGE:
        sweeping._judge(RUNTIME, sweeping.Swept(), [snapshot])
    return str(found.action)


@program
def schedule(path: str) -> str:
    """
    Schedule an entity.
    """
    snapshot = Snapshot(path, None, None, None)
    at = RUNTIME.decision_context(snapshot)
    changed = RUNTIME.store.change(
        path, lambda seen: rules.schedule(seen.lock, None, Target(URL, QUEUE), PROCESS.nonce(), at), start=snapshot
    )
    dispatch(RUNTIME, changed.snapshot)
    return "scheduled"


@program
def create(path: str, key: str) -> str:
    """
    Create a once-task that needs a resource key.
    """
    snapshot = Snapshot(path, None, None, None)
    at = RUNTIME.decision_context(snapshot)

    def decide(seen: Snapshot) -> Put:
        put = rules.schedule(seen.lock, None, Target(URL, QUEUE), PROCESS.nonce(), at)
        assert isinstance(put, Put)
        return Put(put.lock.but(key=key), dispatch=True)

    made = Changes({"createdAt": encode(at.now)}, None)
    changed = RUNTIME.store.change(path, decide, start=snapshot, changes=made)
    dispatch(RUNTIME, changed.snapshot)
    return "created"


@program
def look_for_forgotten() -> int:
    """
    Find tasks that wait for a key whose document does not know of them, as a sweep does.
    """
    return keys.look_for_forgotten(RUNTIME)
