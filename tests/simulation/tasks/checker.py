"""
The promise for once-tasks: one task per resource key at a time, no hand-over lost, no occurrence twice or missing, completed
stays completed, the newest payload runs; checked after every commit and at the end.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from gcp_oncetask import Attempt, Status
from gcp_oncetask.rules.document_paths import is_key, key_path, parse_task_path
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.tasks import OnceTask, Recurrence
from tests.simulation.chains.checker import MOST_DISPATCHES, Checker, Running
from tests.simulation.checks.belief import Lease
from tests.simulation.checks.generators import check_occurrence, check_step
from tests.simulation.checks.wrong_ttl import WrongTtl
from tests.simulation.clients import path_of
from tests.simulation.network import MOST_REFUSALS
from tests.simulation.tasks.plan import TasksPlan
from tests.simulation.world import Process

PROMPT = 30.0
"""Virtual seconds within which a key that was given back is handed over, where nothing goes wrong."""
_SLACK = timedelta(seconds=60)
"""How much older than the server's time an estimate of it may be."""
_CALLS = ("refused_calls", "lost_answers", "late_calls", "crashes", "freezes", "outages")


@dataclass(frozen=True)
class Key:
    """
    A resource key as stored.

    Attributes:
        lock: Its record.
        waiting: Whether it says that others wait.
        writes: How often its document was written since its present holder took it.
    """

    lock: Lock
    waiting: bool
    writes: int = 0


@dataclass
class TasksChecker(Checker):
    """
    Watches one world of once-tasks.

    Attributes:
        plan: Of this history.
        wanted: Documents that somebody creates.
        seen: Documents that were there at some time.
        owners: Of each idempotency key the document, and which of its lives it belongs to.
        left: Traces of the attempts that had a key when their documents were deleted.
        keys: Every resource key as it was last seen.
        freed: Attempts (document, token) whose key a person has freed while they had it.
        unfreed: Attempts (document, token) whose end leaves their key to the next claim or sweep: a person has made their
            damaged record anew, or has damaged their key, or the commits of their end were refused too often.
        passed_over: Tasks that wait for a key, and were damaged while they did: (document, place).
        forgotten: Keys whose documents were deleted, and do not know of those that wait yet.
        moves: Of each attempt (document, token), how often its document was written since its grant.
        stored: Of each document its user fields as last seen.
        revisions: Of each document the payloads' revisions in the order in which they were stored.
        ended_with: Of each document the revision that completed last, as an index of *revisions*.
        cancelled_at: Of each document how many revisions were stored when it was cancelled last.
        occurrences: (generator, nominal time) -> documents.
        lasts: Of each generator the occurrence that it had made last before the present commit.
        went_on: When each document that had ended went on last, micros.
        retired: Documents that TTL deletes.
        wrong_ttl: Documents whose time of expiry a person has written.
    """

    plan: TasksPlan
    wanted: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    owners: dict[str, str] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    keys: dict[str, Key] = field(default_factory=dict)
    freed: set[tuple[str, int]] = field(default_factory=set)
    unfreed: set[tuple[str, int]] = field(default_factory=set)
    passed_over: set[tuple[str, str]] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)
    moves: Counter[tuple[str, int]] = field(default_factory=Counter)
    stored: dict[str, dict[str, Any]] = field(default_factory=dict)
    revisions: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    ended_with: dict[str, int] = field(default_factory=dict)
    cancelled_at: dict[str, int] = field(default_factory=dict)
    occurrences: dict[tuple[str, Any], str] = field(default_factory=dict)
    lasts: dict[str, str | None] = field(default_factory=dict)
    went_on: dict[str, int] = field(default_factory=dict)
    retired: set[str] = field(default_factory=set)
    wrong_ttl: WrongTtl = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.wrong_ttl = WrongTtl(self.broken)

    # --- after each call ---

    def observe(self, process: Process | None, name: str, request: Any) -> None:
        """
        Look at every document that a commit has touched, then at what holds between them.
        """
        if name not in ("Commit", "BatchWrite"):
            return
        paths = [path_of(write) for write in request.writes]
        tasks = [path for path in dict.fromkeys(paths) if path.startswith("onceTasks/")]
        created = {path for path in tasks if path not in self.locks}
        before = dict(self.locks)
        for path in paths:
            if path.startswith("effects/"):
                self._took_effect(path)
        for path in tasks:
            self._changed(process, path)
        for path in dict.fromkeys(paths):
            if is_key(path):
                self._key_changed(process, path, before)
        for path in tasks:
            check_step(self, path, before.get(path), created)
            self.lasts[path] = self.stored.get(path, {}).get("lastOccurrence")
        if tasks or any(map(is_key, paths)):
            self._between()

    def _changed(self, process: Process | None, path: str) -> None:
        before = self.locks.get(path)
        if self._is_damaged(process, path):
            if before is not None and before.parked is not None:
                self.passed_over.add((path, before.parked))
            return
        lock, fields = self.read(path)
        if lock is None:
            if before is not None:
                self._deleted(path, before)
            return
        fresh = before is None
        if fresh and self.world.landing:
            self.late.add(f"{path} life {self.lives[path]}")
        self.seen.add(path)
        self.erased.discard(path)
        self.locks[path] = lock
        self.moves[path, lock.token] += 1
        self.owed |= {(path, str(owed.event), owed.sequence) for owed in lock.owed}
        told = (lock.sequence, lock.status, lock.parked, lock.wanted, lock.cancel_requested_at)
        if before is None or told != (
            before.sequence,
            before.status,
            before.parked,
            before.wanted,
            before.cancel_requested_at,
        ):
            self._tell(process, path, lock)
        if not self.wrong_ttl.hides(process, path, lock, fields, self.stored.get(path, {})):
            self._expiry(path, lock, fields)
        self._payload(path, before, lock, fields)
        anew = self.damages.is_made_anew(path, before, lock)
        if before is not None and anew:
            self.unfreed.add((path, before.token))
        if before is not None and self._is_refused_end(process, path, before, lock):
            self.unfreed.add((path, before.token))
        if before is not None and before.finished and not lock.finished:
            self.went_on[path] = self.world.hub.now
        if before is not None and not anew:
            self._step(process, path, before, lock, fields)
            self._count(before, lock)
        self._always(process, path, before, lock, anew=anew)
        self._state(path, lock, fields)
        self.belief.committed(process, path, before, lock)
        if fresh:
            self._created(path, fields)

    def _is_refused_end(self, process: Process | None, path: str, before: Lock, lock: Lock) -> bool:
        """
        Whether the commit ends an attempt, and was refused so often before that the library leaves the key alone.
        """
        ends = before.status is Status.LEASED and lock.status is not Status.LEASED
        return ends and process is not None and process.refused_commits[path] >= MOST_REFUSALS

    def _tell(self, process: Process | None, path: str, lock: Lock) -> None:
        marks = [name for name in ("rides", "cancelling", "paused") if getattr(lock, name)]
        marks += [f"parked at {lock.parked}"] if lock.parked else []
        marks += ["cancellation asked"] if lock.cancel_requested_at else []
        self.world.tell(
            "a user" if process is None else process.name,
            f"{path} is {lock.status}, sequence {lock.sequence}, token {lock.token}, due {lock.due}"
            f"{', ' if marks else ''}{', '.join(marks)}",
        )

    def _deleted(self, path: str, before: Lock) -> None:
        self.world.tell("a user", f"{path} is deleted")
        self.world.counts["deleted"] += 1
        self.world.counts["deleted while running"] += before.status is Status.LEASED
        self.world.counts["deleted while parked"] += before.parked is not None
        self.orphans.add((path, before.token, before.holder))
        if before.status is Status.LEASED and not before.rides and before.trace is not None:
            self.left.add(before.trace)
        self.orphans |= {one for one in self.granted if one[0] == path}
        self.erased.add(path)
        self.wrong_ttl.now.discard(path)
        self.lives[path] += 1
        for known in (self.locks, self.stored, self.revisions, self.ended_with, self.cancelled_at):
            known.pop(path, None)  # type: ignore[attr-defined]
        self.expected = {k: v for k, v in self.expected.items() if k[0] != path}
        # One that is made again has keys of its own.
        self.effects = {k: v for k, v in self.effects.items() if not k[0].startswith(f"{path} ")}
        if path in self.retired:
            self.retired.remove(path)
            return
        # Nobody can be told of what was deleted before it was told.
        self.owed = {one for one in self.owed if one[0] != path}

    def retires(self, path: str) -> None:
        """
        TTL deletes the document at *path*: only what has ended, and of which everybody was told.
        """
        lock = self.locks[path]
        self.retired.add(path)
        self.world.counts["retired by TTL"] += 1
        self.world.counts["retired by TTL after an alert"] += any(one[0] == path for one in self.owed)
        self.world.counts["occurrences retired by TTL"] += "occurrenceAt" in self.stored[path]
        if not lock.finished or lock.owed:
            self.broken(path, f"TTL deletes it, {lock.status}, with {len(lock.owed)} alerts owed")

    def _expiry(self, path: str, lock: Lock, fields: dict[str, Any]) -> None:
        """
        It expires from its end on, once nothing is owed, and not before its retention is over.
        """
        expires, before = fields.get("expireAt"), self.stored.get(path, {}).get("expireAt")
        stays = not lock.finished or bool(lock.owed)
        if "retentionSeconds" in fields and stays is not (expires is None):
            self.broken(path, f"{lock.status}, {len(lock.owed)} alerts owed, and it expires: {expires}")
        again = lock.status is Status.SCHEDULED and fields.get("data") == self.stored.get(path, {}).get("data")
        if again and before is not None and self._prompt() and before + _SLACK < self.world.hub.time():
            self.broken(path, f"it was reset, and TTL may have deleted it since {before}")
        if expires is None or expires == before:
            return
        if expires < fields["doneAt"] + timedelta(seconds=fields["retentionSeconds"]):
            self.broken(path, f"it expires at {expires}, before its retention is over")
        if self._prompt() and expires < self.world.hub.time():
            self.broken(path, f"it expires at {expires}, at once")

    def _prompt(self) -> bool:
        """
        Whether no commit is held up after it was decided.
        """
        return not any(self.plan.has(trouble) for trouble in ("freezes", "late_calls", "delays"))

    def _count(self, before: Lock, lock: Lock) -> None:
        counts = self.world.counts
        running = before.status is Status.LEASED
        asked = lock.cancel_requested_at is not None and before.cancel_requested_at is None
        ended = lock.status is Status.CANCELLED and before.status is Status.SCHEDULED and not before.cancelling
        if asked or (ended and before.cancel_requested_at is None):
            where = "running" if running else "parked" if before.parked else "scheduled"
            counts[f"cancelled while {where}"] += 1
        if lock.wanted > before.wanted:
            where = "running" if running else "ended" if before.finished else "scheduled"
            counts[f"replaced while {where}"] += 1
        by_others = running and lock.status is not Status.LEASED and lock.settled_by == before.settled_by
        if by_others and before.key is not None and not before.rides:
            key = self.keys.get(key_path(before.env, before.key))
            counts["parked, then freed by a takeover"] += key is not None and key.waiting
        counts["parked"] += lock.parked is not None and before.parked is None
        if running and before.rides and lock.status is Status.LEASED and lock.token > before.token:
            self.broken("a rider", "was granted anew without its key")
        expired = bool(lock.errors) and "lease expired" in lock.errors[-1].message
        if running and before.rides and lock.errors != before.errors and expired:
            counts["riders lost"] += 1

    # --- one task ---

    def _step(self, process: Process | None, path: str, before: Lock, lock: Lock, fields: dict[str, Any]) -> None:
        same = lock.sequence == before.sequence
        if lock.token not in (before.token, before.token + 1):
            self.broken(path, f"the token went from {before.token} to {lock.token}")
        if lock.sequence not in (before.sequence, before.sequence + 1):
            self.broken(path, f"the sequence went from {before.sequence} to {lock.sequence}")
        found = before.status is Status.FAILED and lock.status is Status.COMPLETED and path in self.revivals.happened
        if before.finished and same and lock.status is not before.status and not found:
            self.broken(path, f"{before.status} did not stay: {lock.status}")
        if before.finished and not same and lock.status is not Status.SCHEDULED:
            self.broken(path, f"{before.status} became {lock.status}")
        if before.status is Status.COMPLETED and same and lock.result != before.result:
            self.broken(path, f"its result changed from {before.result} to {lock.result}")
        if lock.status is Status.COMPLETED and before.cancelling:
            self.broken(path, "its cancellation handler completed it")
        if lock.status is Status.COMPLETED and before.status is not Status.COMPLETED:
            self._completed(path, lock)
        if lock.token > before.token:
            # A cancellation handler, and a newer payload, have attempts of their own.
            anew = (lock.cancelling and not before.cancelling) or lock.granted > before.granted
            attempts = 0 if anew else before.attempts
            self._granted(process, path, before.but(attempts=attempts), lock)
        held = before.status is Status.LEASED
        moved = (lock.status, lock.holder, lock.sequence) != (before.status, before.holder, before.sequence)
        if held and moved and (process is None or process.name != before.instance):
            self._ended_by_others(path, before, lock)
        goes_on = lock.cancelling or lock.wanted > before.granted
        if before.cancel_requested_at is not None and held and lock.status is Status.SCHEDULED and not goes_on:
            self.broken(path, "it was cancelled, and goes on")
        if lock.status is Status.FAILED and moved and path not in self.by_hand:
            self._must_owe(path, "failure", lock.sequence)
        if before.parked is not None and lock.parked is not None and lock.parked != before.parked:
            self.broken(path, "it lost its place among those that wait")

    def _completed(self, path: str, lock: Lock) -> None:
        if isinstance(lock.result, dict):
            order = self.revisions[path]
            self.ended_with[path] = len(order) - 1 - order[::-1].index(lock.result["revision"])

    def _must_owe(self, path: str, event: str, sequence: int) -> None:
        # Attempts used up owe a failure, and a newer payload may follow at once.
        if any((path, told, one) in self.owed for told in (event, "failure") for one in (sequence, sequence - 1)):
            return
        if not self.world.refusals.tells_instead(path):
            self.broken(path, f"the {event} of sequence {sequence} owes nobody an alert")

    def _granted(self, process: Process | None, path: str, before: Lock, lock: Lock) -> None:
        super()._granted(process, path, before, lock)
        if lock.rides:
            # It begins only when all others of its batch are gathered.
            self.expected.pop((path, lock.token), None)
        if before.parked is not None:
            self.world.counts["granted from the queue of a key"] += 1
        if lock.key is None:
            return
        for other in self.running:
            attempt = other.attempt
            one = attempt._running.context.document
            if one == path or attempt._running.granted.key != lock.key or not self._believes(other):
                continue
            if lock.rides and attempt._running.context.trace == lock.trace:
                continue
            # A person has freed the key of its batch, or deleted the task that had it: nobody fences that batch.
            if lock.rides and (self._leader_is_freed(lock) or lock.trace in self.left):
                continue
            if self._is_freed(attempt):
                self.world.counts["keys taken from those that a person had freed"] += 1
                continue
            # Deleting the task that has the key of a batch lets the whole batch go.
            if self.is_orphan(attempt) or self._leader_is_gone(attempt):
                self.world.counts["keys taken from deleted holders"] += 1
                continue
            self.broken(
                path,
                f"token {lock.token} is granted with the key {lock.key} while token {attempt.token} of {one} still believes "
                "in it",
            )

    def _leader_is_gone(self, attempt: Attempt) -> bool:
        """
        Whether *attempt* rides with a task that had the key, and whose document was deleted.
        """
        leader = attempt._running.leader
        if (
            leader is not None
            and (leader.context.document, leader.context.token, leader.context.holder) in self.orphans
        ):
            return True
        return attempt._running.granted.rides and attempt._running.context.trace in self.left

    def _is_freed(self, attempt: Attempt) -> bool:
        """
        Whether a person has freed the key under which this attempt runs, or that with which it rides.
        """
        leader = attempt._running.leader or attempt._running
        return (leader.context.document, leader.granted.token) in self.freed

    def _leader_is_freed(self, rider: Lock) -> bool:
        """
        Whether a person has freed the key with which *rider* is to ride.
        """
        leaders = [(self.locks.get(path), token) for path, token in self.freed]
        return any(one and one.token == token and one.trace and one.trace == rider.trace for one, token in leaders)

    def may_be_refused(self, lease: Lease) -> bool:
        """
        Whether it may have lost its resource key instead.
        """
        lock = self.locks.get(lease[0])
        freed = lease[:2] in self.freed or (lock is not None and (lock.rides or lock.status is Status.QUARANTINED))
        return lock is not None and lock.key is not None and freed

    def _believes(self, running: Running) -> bool:
        attempt = running.attempt
        return (
            not running.process.dead
            and attempt._running.settled is None
            and not attempt.lost.is_set()
            and attempt.held_for() > 0
        )

    def _state(self, path: str, lock: Lock, fields: dict[str, Any]) -> None:
        live = lock.status in (Status.SCHEDULED, Status.LEASED)
        if live and lock.due is None and lock.parked is None and not lock.paused:
            self.broken(path, f"{lock.status} with nobody to look at it")
        if lock.parked is not None and lock.status is not Status.SCHEDULED:
            self.broken(path, f"{lock.status} and parked")
        if lock.finished and not lock.owed and lock.due is not None:
            self.broken(path, f"{lock.status}, and still due")
        if lock.owed and lock.due is None:
            self.broken(path, "an alert is owed, and nobody is to send it")
        most = self._most(lock)
        if lock.attempts > most and lock.status is Status.LEASED:
            self.broken(path, f"attempt {lock.attempts} of {most}")
        if lock.dispatches > MOST_DISPATCHES:
            self.broken(path, f"{lock.dispatches} dispatches of one sequence")

    def _most(self, lock: Lock) -> int:
        return self.plan.cancel_attempts if lock.cancelling else self.plan.max_attempts

    def _payload(self, path: str, before: Lock | None, lock: Lock, fields: dict[str, Any]) -> None:
        old, new = self.stored.get(path, {}).get("data"), fields.get("data")
        if before is not None and "recurrence" in fields:
            self._schedule(path, before, lock, fields)
        self.stored[path] = fields
        if not isinstance(new, dict):
            self.broken(path, "its payload is gone")
            return
        if before is None or lock.wanted > before.wanted:
            self.revisions[path].append(new["revision"])
        elif isinstance(old, dict) and new["revision"] != old["revision"]:
            self.broken(path, f"its payload went from {old} to {new} by itself")
        gone = lock.status is Status.CANCELLED and (before is None or before.status is not Status.CANCELLED)
        asked = lock.cancel_requested_at is not None and (before is None or before.cancel_requested_at is None)
        if before is not None and (asked or (gone and before.cancel_requested_at is None)):
            self.cancelled_at[path] = len(self.revisions[path])

    # --- keys ---

    def _key_changed(self, process: Process | None, path: str, tasks: dict[str, Lock]) -> None:
        before = self.keys.get(path)
        if self._is_damaged(process, path):
            if before is not None:
                self.unfreed.add((before.lock.holder or "", before.lock.token))
            return
        lock, fields = self.read(path)
        if lock is None:
            self._key_deleted(process, path, before)
            return
        same = before is not None and (before.lock.holder, before.lock.token) == (lock.holder, lock.token)
        now = Key(lock, bool(fields.get("waiting")), before.writes + 1 if same and before is not None else 0)
        self.keys[path] = now
        if now.waiting:
            self.forgotten.discard(path)
        self.world.tell(
            "a user" if process is None else process.name,
            f"{path} is {lock.status} of {lock.holder} token {lock.token}, waiting {now.waiting}, due {lock.due}",
        )
        if before is None:
            return
        held, holds = (one.lock.status is Status.LEASED for one in (before, now))
        counts = self.world.counts
        if held and not holds and now.waiting:
            counts["given back with others waiting"] += 1
            self._promptly(process, path)
        if holds and lock.holder is not None and (not held or before.lock.holder != lock.holder):
            was, task = tasks.get(lock.holder), self.locks.get(lock.holder)
            if was is not None and was.parked is not None and task is not None and task.status is Status.SCHEDULED:
                counts["hand-overs"] += 1
                self._in_order(path, was, tasks)
        if held and holds and before.lock.holder == lock.holder and lock.token > before.lock.token:
            counts["moved to the next attempt"] += 1
        if held and before.lock.holder is not None and (not holds or before.lock.holder != lock.holder):
            self._still_handed(path, before.lock, tasks)
        if held and holds and before.lock.holder != lock.holder:
            counts["taken from a holder that was past it"] += 1

    def _key_deleted(self, process: Process | None, path: str, before: Key | None) -> None:
        if process is not None or before is None:
            self.broken(path, "the key's document lost its record")
            return
        self.world.tell("a user", f"{path} is deleted")
        self.world.counts["keys freed by a person"] += 1
        self.world.counts["keys freed with others waiting"] += before.waiting
        del self.keys[path]
        self.forgotten.add(path)
        holder = self.locks.get(before.lock.holder or "")
        if before.lock.status is not Status.LEASED or holder is None:
            return
        assert before.lock.holder is not None
        self.freed.add((before.lock.holder, before.lock.token))
        if holder.status is Status.LEASED and holder.token == before.lock.token:
            self.world.counts["keys freed while held"] += 1

    def _still_handed(self, path: str, before: Lock, tasks: dict[str, Lock]) -> None:
        """
        What was handed over is not given to others while the task that has it may claim it.
        """
        assert before.holder is not None
        task = tasks.get(before.holder)
        if task is None or task.status is not Status.SCHEDULED or self.locks.get(before.holder) != task:
            return
        ready = task.parked is None and task.wait_until is None and task.token == before.token - 1
        if ready and task.sequence == 1 and not any(one[0] == before.holder for one in self.orphans):
            self.broken(path, f"it was handed to {before.holder}, and is given away before that claimed it")

    def _in_order(self, where: str, chosen: Lock, tasks: dict[str, Lock]) -> None:
        assert chosen.parked is not None
        refuses = self.world.refusals.refuses_lately
        first = min(
            one.parked
            for path, one in tasks.items()
            # One that can't be written any more is passed over, and one that can't be read.
            if one.parked is not None
            and one.key == chosen.key
            and (one is chosen or (not refuses(path) and (path, one.parked) not in self.passed_over))
        )
        if chosen.parked != first:
            self.broken(where, f"{chosen.parked} was handed the key before {first}")

    def _promptly(self, process: Process | None, path: str) -> None:
        """
        Unless something goes wrong, a key that is given back is handed over. If a person damages the key then, it is repaired
        first.
        """
        if process is None or self.world.landing or process.dead:
            return
        if process.hurt_until >= self.world.hub.now:
            # It was frozen in this call, and does not hear that the commit was applied.
            return
        if self.world.trouble and any(self.plan.has(trouble) for trouble in _CALLS):
            return
        left = self.keys[path]

        def look() -> None:
            if path in self.damages.now:
                return
            waiting = [
                where
                for where, one in self.locks.items()
                if self._waits(one, path)
                and where not in self.damages.now
                and (where, one.parked) not in self.passed_over
            ]
            if self.keys.get(path) is left and waiting:
                self.broken(path, "it was given back while others waited, and nobody was handed it")

        self.world.hub.spawn(self.world.cloud, look, after=PROMPT)

    @staticmethod
    def _waits(lock: Lock, path: str) -> bool:
        return lock.parked is not None and lock.key is not None and key_path(lock.env, lock.key) == path

    def _between(self) -> None:
        """
        What holds between tasks and keys after every commit.
        """
        for where, key in self.keys.items():
            if where in self.damages.now:
                continue
            task = self.locks.get(key.lock.holder or "") if key.lock.status is Status.LEASED else None
            ended = task is not None and task.token == key.lock.token and task.status is not Status.LEASED
            # Others that wrote the key or the task may have refused its end as often.
            refused = task is not None and key.writes + self.moves[key.lock.holder or "", task.token] >= MOST_REFUSALS
            refused = refused or (key.lock.holder or "", key.lock.token) in self.unfreed
            if ended and not refused and not any(one[0] == key.lock.holder for one in self.orphans):
                self.broken(where, f"{key.lock.holder} has ended its attempt, and still has it")
        holders: dict[str, str] = {}
        for path, lock in self.locks.items():
            if lock.key is None:
                continue
            where = key_path(lock.env, lock.key)
            key = self.keys.get(where)
            if where in self.damages.now:
                continue
            if lock.status is Status.LEASED and not lock.rides and (path, lock.token) not in self.freed:
                if where in holders:
                    self.broken(path, f"it and {holders[where]} are leased under the key {lock.key}")
                holders[where] = path
                names = None if key is None else (key.lock.status, key.lock.holder, key.lock.token)
                if names != (Status.LEASED, path, lock.token):
                    self.broken(path, f"token {lock.token} is leased, and its key says {names}")
            forgotten = where in self.forgotten and (key is None or not key.waiting)
            forgotten = forgotten or (path, lock.parked) in self.passed_over
            if lock.parked is not None and not forgotten and (key is None or not key.waiting or key.lock.due is None):
                self.broken(path, "it is parked under a key that nobody looks after")

    # --- effects ---

    def _took_effect(self, path: str) -> None:
        """
        What a handler writes in its transaction is fenced: by its own lease, and so by its key.
        """
        _, fields = self.read(path)
        document, token = str(fields["path"]), fields["token"]
        lock = self.read(document)[0]
        if lock is None or lock.token != token or lock.status not in (Status.LEASED, Status.QUARANTINED):
            self.broken(document, f"token {token} wrote when it was not the holder")
            return
        rides = [one.attempt for one in self.running if one.lease == (document, token, lock.holder)]
        if lock.key is None or (lock.rides and lock.trace in self.left) or any(map(self._leader_is_gone, rides)):
            return
        where = key_path(lock.env, lock.key)
        key = None if where in self.damages.now else self.read(where)[0]
        mine = key is not None and key.status is Status.LEASED and (key.holder == document or lock.rides)
        if not mine:
            self.broken(document, f"token {token} wrote when its key {lock.key} was somebody else's")

    def effect(self, attempt: Attempt) -> None:
        """
        A handler does something to the outside.
        """
        path, lock = attempt._running.context.document, attempt._running.granted
        if not self.is_orphan(attempt):
            life = f"{path} life {self.lives[path]}"
            self.effects.setdefault((f"{life} revision {lock.granted}", attempt.sequence), []).append(attempt.key)
            owner = self.owners.setdefault(attempt.key, life)
            if owner != life and life not in self.late:
                self.broken(path, f"sequence {attempt.sequence} has the idempotency key of {owner}")

    # --- handlers ---

    def begins(self, running: Running, task: OnceTask[Any], *, cleans: bool) -> None:
        """
        A handler is entered for *task*.
        """
        attempt = running.attempt
        path, lock = attempt._running.context.document, attempt._running.granted
        self.running.append(running)
        self.started.add((path, attempt.token, lock.holder))
        self.idempotency.starts(attempt)
        if (path, attempt.token, lock.holder) not in self.granted:
            self.broken(path, f"token {attempt.token} runs, and was never granted")
        if attempt.held_for() <= 0 and not lock.rides:
            self.broken(path, f"token {attempt.token} starts when its lease is over")
        if cleans is not lock.cancelling and self.plan.cleanup and not lock.rides:
            self.broken(path, f"token {attempt.token}: cancelling is {lock.cancelling}, its cleanup runs: {cleans}")
        now = self.locks.get(path)
        if now is None or self.is_orphan(attempt):
            return
        self.belief.look(path)
        if lock.rides and now.token == attempt.token and now.status is Status.LEASED:
            self._rides(path, attempt, now)
        order, revision = self.revisions[path], task.data.revision
        if revision not in order:
            self.broken(path, f"it runs with revision {revision}, which was never stored")
            return
        place = len(order) - 1 - order[::-1].index(revision)
        if cleans:
            return
        if place < self.ended_with.get(path, 0):
            self.broken(path, f"revision {revision} runs after a newer one has completed")

    def _rides(self, path: str, attempt: Attempt, lock: Lock) -> None:
        assert lock.key is not None
        # If the task that has the key is deleted while it runs, nobody fences its batch.
        if self._is_freed(attempt) or lock.trace in self.left:
            return
        key = self.keys[key_path(lock.env, lock.key)].lock
        leader = self.locks.get(key.holder or "")
        if leader is not None and leader.trace != attempt._running.context.trace and self._is_first(attempt):
            self.broken(path, f"it rides with a batch that does not have the key: {key.holder} does")

    def _is_first(self, attempt: Attempt) -> bool:
        same = [one for one in self.running if one.attempt._running.context.trace == attempt._running.context.trace]
        return all(self._believes(one) for one in same)

    # --- generators ---

    def _created(self, path: str, fields: dict[str, Any]) -> None:
        if "occurrenceAt" not in fields:
            return
        which = (fields["parentRecurrenceId"], fields["occurrenceAt"])
        if self.occurrences.setdefault(which, path) != path:
            self.broken(path, f"the occurrence of {which[1]} exists twice, as {self.occurrences[which]} too")
        name = parse_task_path(path)
        assert name is not None
        generator = next((one for one, f in self.stored.items() if f.get("id") == which[0] and "recurrence" in f), None)
        if generator is not None:
            rule = Recurrence.from_data(self.stored[generator]["recurrence"])
            if rule.first(which[1]) != which[1]:
                self.broken(path, f"{which[1]} is no run of its generator")
            check_occurrence(self, path, generator, rule)
        self.world.counts["occurrences"] += 1

    def _schedule(self, path: str, before: Lock, lock: Lock, fields: dict[str, Any]) -> None:
        """
        A generator waits for a run of the schedule that is stored, and that replaced no other one which owed something.
        """
        replaced = fields["recurrence"] != self.stored[path]["recurrence"]
        waits = lock.status is Status.SCHEDULED and lock.wait_until is not None
        if waits and Recurrence.from_data(fields["recurrence"]).first(lock.wait_until) != lock.wait_until:
            self.broken(path, f"it waits for {lock.wait_until}, which is no run of its schedule")
        self.world.counts["schedules replaced"] += replaced
        # A commit that is held up was decided when nothing was owed yet.
        owing = before.status is Status.SCHEDULED and not before.paused and before.wait_until is not None
        if replaced and owing and self._prompt() and before.wait_until + _SLACK < self.world.hub.time():
            self.broken(path, f"its schedule was replaced, and owed the run of {before.wait_until}")

    def is_declared(self, path: str, revision: int, *, since: int) -> None:
        """
        A generator was declared anew by a call that began at *since*, and whoever did so has his answer: unless it had ended at
        some time of the call, that is stored.
        """
        lock = self.locks.get(path)
        deleted = any(one[0] == path for one in self.orphans)
        ended = lock is None or lock.finished or self.went_on.get(path, 0) >= since
        if not ended and not deleted and revision not in self.revisions[path]:
            self.broken(path, f"revision {revision} was declared, and is not there")

    # --- the end ---

    def ended(self, chains: list[str]) -> bool:
        """
        Whether nothing is left to do.
        """
        there = all(path in self.locks or path in self.erased for path in chains) and not self.damages.now
        return there and all(lock.finished and not lock.owed for lock in self.locks.values())

    def at_the_end(self, chains: list[str]) -> None:
        """
        Once troubles have stopped and time has passed.
        """
        super().at_the_end([*self.locks, *(path for path in chains if path not in self.seen)])
        for path, lock in self.locks.items():
            self._newest(path, lock)

    def _newest(self, path: str, lock: Lock) -> None:
        """
        The newest payload is the one that completed, or failed, or was cancelled; unless a person took its word for it.
        """
        order = self.revisions[path]
        if path in self.by_hand or not order or "recurrence" in self.stored[path]:
            return
        # A document that is too large for its record is ended, and a person is told: no newer payload can run.
        large = lock.status is Status.FAILED and self.world.refusals.was_large(path)
        if lock.wanted > lock.granted and not large:
            self.broken(path, f"revision {order[-1]} was asked for and is forgotten")
        if lock.status is Status.COMPLETED and lock.result["revision"] != order[-1]:
            self.broken(path, f"it ended with revision {lock.result['revision']}, and {order[-1]} is the newest")
        if lock.status is Status.CANCELLED and self.cancelled_at.get(path, 0) < len(order):
            self.broken(path, f"revision {order[-1]}, the newest, never ran: what was cancelled were older ones")
