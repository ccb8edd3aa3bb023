"""
The promise, checked after every commit and at the end.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

from gcp_emulator.clock import micros_of
from gcp_oncetask import Attempt, Status
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.store.codec import decode
from gcp_oncetask.store.lock_codec import decode_lock
from tests.simulation import named_checks
from tests.simulation.chains.plan import Plan
from tests.simulation.checks.attempts import Attempts
from tests.simulation.checks.belief import Belief, Believer, Lease
from tests.simulation.checks.damages import Damages
from tests.simulation.checks.idempotency import Idempotency
from tests.simulation.checks.late import Late
from tests.simulation.checks.quarantines import Quarantines
from tests.simulation.checks.revivals import Revivals
from tests.simulation.checks.unknown_fields import UnknownFields
from tests.simulation.clients import path_of
from tests.simulation.outlets import LOG_GRACE
from tests.simulation.troubles.deployments import LEASE, LONGER, most_of
from tests.simulation.world import Process, World

MOST_DISPATCHES = 80
"""Cloud Tasks of one sequence, more than hours of a paused queue and lost calls can need."""


@dataclass(eq=False)
class Running:
    """
    A handler that has been entered and not left.
    """

    process: Process
    attempt: Attempt

    @property
    def lease(self) -> Lease:
        """
        Its lease.
        """
        context = self.attempt._running.context
        return context.document, self.attempt.token, context.holder


@dataclass
class Checker:
    """
    Watches one world.

    Attributes:
        collection: Where the documents are that it looks at.
        violations: What broke the promise, in sentences.
        tripped: Names of the checks that said so.
        effects: What handlers did to the outside: (document, sequence) -> idempotency keys, one per call.
        by_hand: Documents that a person has resolved.
        dismissing: Documents that a person wanted to dismiss.
        dismissed: Documents that a person has dismissed -> life and sequence.
        locks: Every lock as it was last seen.
        undated: Documents whose present state the release before has made: it does not say since when.
        granted: Every lease that was ever granted: (document, token, holder).
        owed: Every alert that was ever owed: (document, event, sequence).
        expected: Leases that their process must have heard of: (document, token) -> process.
        started: Every lease whose handler was entered.
        erased: Documents that were deleted and are not there.
        orphans: Leases whose documents were deleted: nobody hears them any more.
        lives: How often each document was deleted.
        late: Lives that began with a commit that landed long after it was sent: two calls of one millisecond have one key.
        belief: Compares what holders believe with what is stored.
        late_holders: Looks whether late holders are told.
    """

    collection: ClassVar[str] = "jobs/"

    plan: Plan
    world: World = field(init=False)
    violations: list[str] = field(default_factory=list)
    tripped: list[str] = field(default_factory=list)
    effects: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    running: list[Running] = field(default_factory=list)
    by_hand: set[str] = field(default_factory=set)
    dismissing: set[str] = field(default_factory=set)
    dismissed: dict[str, tuple[int, int]] = field(default_factory=dict)
    locks: dict[str, Lock] = field(default_factory=dict)
    undated: set[str] = field(default_factory=set)
    granted: set[tuple[str, int, str | None]] = field(default_factory=set)
    owed: set[tuple[str, str, int]] = field(default_factory=set)
    expected: dict[tuple[str, int], Process] = field(default_factory=dict)
    started: set[tuple[str, int, str | None]] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)
    orphans: set[tuple[str, int, str | None]] = field(default_factory=set)
    lives: Counter[str] = field(default_factory=Counter)
    late: set[str] = field(default_factory=set)
    quarantines: Quarantines = field(init=False)
    idempotency: Idempotency = field(init=False)
    attempts: Attempts = field(init=False)
    revivals: Revivals = field(default_factory=Revivals)
    damages: Damages = field(init=False)
    belief: Belief = field(init=False)
    late_holders: Late = field(init=False)
    unknown_fields: UnknownFields = field(init=False)
    _read: dict[str, tuple[Any, Lock | None, dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.belief = Belief(self)
        self.late_holders = Late(self)
        self.unknown_fields = UnknownFields(self.broken)
        self.quarantines = Quarantines(self.broken, lambda grant: grant in self.started)
        self.idempotency = Idempotency(self.broken, self._count_one, self.late)
        self.damages = Damages(self.broken)
        self.attempts = Attempts(
            self.broken, lambda grant: grant in self.started, lambda grant: grant[2] in self.world.returned
        )

    def _count_one(self, name: str) -> None:
        self.world.counts[name] += 1

    def broken(self, path: str, sentence: str) -> None:
        """
        Note a violation.
        """
        self.world.tell("CHECKER", f"{path}: {sentence}")
        self.violations.append(f"{path}: {sentence}")
        self.tripped.append(named_checks.name_of(sys._getframe(1)))

    # --- after each call ---

    def observe(self, process: Process | None, name: str, request: Any) -> None:
        """
        Look at every document that a commit has touched.
        """
        if name not in ("Commit", "BatchWrite"):
            return
        for path in map(path_of, request.writes):
            if path.startswith(self.collection):
                self._changed(process, path)

    def read(self, path: str) -> tuple[Lock | None, dict[str, Any]]:
        """
        Lock and user fields as they are stored now.
        """
        document = self.world.stored(path)
        if document is None:
            return None, {}
        known = self._read.get(path)
        # A version of a document is never changed: the very same message holds the same.
        if known is None or known[0] is not document:
            fields = {k: decode(v) for k, v in document.fields.items() if k != "lock"}
            known = self._read[path] = (document, decode_lock(document, path), fields)
        return known[1], known[2]

    def _changed(self, process: Process | None, path: str) -> None:
        if self._is_damaged(process, path):
            return
        lock, fields = self.read(path)
        before = self.locks.get(path)
        if lock is None:
            if before is not None:
                self._deleted(path, before)
            return
        if before is None and self.world.landing:
            self.late.add(f"{path} life {self.lives[path]}")
        self.erased.discard(path)
        self.locks[path] = lock
        self.owed |= {(path, str(owed.event), owed.sequence) for owed in lock.owed}
        if before is None or lock.sequence != before.sequence or lock.status is not before.status:
            who = "a user" if process is None else process.name
            self.world.tell(
                who, f"{path} is {lock.status}, sequence {lock.sequence}, token {lock.token}, due {lock.due}"
            )
        anew = self.damages.is_made_anew(path, before, lock)
        if process is not None and (before is None or anew):
            (self.undated.add if process.released else self.undated.discard)(path)
        if before is not None and not anew:
            self._step(process, path, before, lock, fields)
        self._always(process, path, before, lock, anew=anew)
        self._state(path, lock, fields)
        self.unknown_fields.changed(self.world, process, path, before, fields)
        self.belief.committed(process, path, before, lock)

    def believers(self, path: str) -> Iterator[Believer]:
        """
        Those that run the document's handler; without those whose document was deleted, which is told to nobody.
        """
        for one in self.running:
            attempt = one.attempt._running
            over = (
                one.process.dead or attempt.settled is not None or attempt.lost.is_set() or self.is_orphan(one.attempt)
            )
            if attempt.context.document == path and not over:
                yield Believer(one.process, one.lease, attempt.held_for())

    def may_be_refused(self, lease: Lease) -> bool:
        """
        Whether a holder may be told that its lease is lost although it is not.
        """
        return False

    def looked_at_in_time(self) -> dict[str, Lock]:
        """
        The locks without the damaged ones; one that a person has repaired is looked at when it was to be as a damaged one.
        """
        hidden = self.damages.now.keys() | self.damages.repaired
        return {path: lock for path, lock in self.locks.items() if path not in hidden}

    def _is_damaged(self, process: Process | None, path: str) -> bool:
        return path in self.damages.now and self.damages.hides(process, path, self.world.stored(path))

    def _deleted(self, path: str, before: Lock) -> None:
        self.world.tell("a user", f"{path} is deleted")
        self.world.counts["deleted"] += 1
        self.world.counts["deleted while running"] += before.status is Status.LEASED
        self.orphans |= {one for one in self.granted if one[0] == path}
        self.erased.add(path)
        self.lives[path] += 1
        self.locks.pop(path)
        self.by_hand.discard(path)
        self.dismissing.discard(path)
        self.expected = {k: v for k, v in self.expected.items() if k[0] != path}
        # One that is made again has keys of its own.
        self.effects = {k: v for k, v in self.effects.items() if k[0].partition(" ")[0] != path}
        # Nobody can be told of what was deleted before it was told.
        self.owed = {one for one in self.owed if one[0] != path}
        self.revivals.offsets.pop(path, None)

    def is_orphan(self, attempt: Attempt) -> bool:
        """
        Whether the document of *attempt* was deleted since its grant.
        """
        return (attempt._running.context.document, attempt.token, attempt._running.granted.holder) in self.orphans

    def _always(self, process: Process | None, path: str, before: Lock | None, lock: Lock, *, anew: bool) -> None:
        """
        What holds for the records of all kinds.
        """
        if before is not None:
            self.quarantines.changed(self.world, process, path, before, lock)
        self.idempotency.changed(path, self.lives[path], before, lock, anew=anew)
        self.attempts.changed(process, path, self.lives[path], before, lock, most_of(process, self._most(lock)))

    def asked(self, path: str) -> None:
        """
        A person calls a verb for the document at *path*.
        """
        self.quarantines.asked[path] = self.world.hub.now

    def _most(self, lock: Lock) -> int:
        return self.plan.max_attempts

    def _step(self, process: Process | None, path: str, before: Lock, lock: Lock, fields: dict[str, Any]) -> None:
        if lock.token not in (before.token, before.token + 1):
            self.broken(path, f"the token went from {before.token} to {lock.token}")
        if lock.sequence not in (before.sequence, before.sequence + 1):
            self.broken(path, f"the sequence went from {before.sequence} to {lock.sequence}")
        stays = (lock.sequence, lock.status) == (before.sequence, before.status)
        saved = fields.get("count", 0)
        if before.finished and not stays and not self.revivals.allow(path, self.lives[path], before, lock, saved):
            self.broken(path, f"{before.status} did not stay: {lock.status}, sequence {lock.sequence}")
        if lock.token > before.token:
            self._granted(process, path, before, lock)
        held = before.status is Status.LEASED
        moved = (lock.status, lock.holder, lock.sequence) != (before.status, before.holder, before.sequence)
        if held and moved and (process is None or process.name != before.instance):
            self._ended_by_others(path, before, lock)
        self._waits(process, path, before, lock)
        again = lock.status is Status.SCHEDULED and (
            lock.sequence > before.sequence or lock.dispatches > before.dispatches
        )
        if before.cancel_requested_at is not None and again and held:
            self.broken(path, "it was cancelled, and goes on")
        if lock.status is Status.FAILED and moved and path not in self.by_hand:
            self._must_owe(path, "failure", lock.sequence)

    def _waits(self, process: Process | None, path: str, before: Lock, lock: Lock) -> None:
        """
        Each one that can be claimed says since when, unless the release before has made it so; looks don't move that, and
        nobody's attention is asked for what runs.
        """
        same = (
            before.status,
            before.sequence,
            before.token,
            before.parked,
            before.wanted,
            before.cancelling,
            before.paused,
        )
        moved = same != (lock.status, lock.sequence, lock.token, lock.parked, lock.wanted, lock.cancelling, lock.paused)
        if process is not None and moved:
            (self.undated.add if process.released else self.undated.discard)(path)
        if lock.status is not Status.SCHEDULED or lock.parked is not None or lock.paused:
            noted = self.damages.is_noted(path, lock) or path in self.undated
            if lock.status is Status.LEASED and lock.attention is not None and not noted:
                self.broken(path, "it runs, and asks for a person's attention")
            return
        if path in self.undated:
            self.world.counts["made ready by the release before"] += moved
            return
        if lock.ready_since is None:
            self.broken(path, "it can be claimed, and does not say since when")
        if not moved and lock.ready_since != before.ready_since:
            self.broken(path, f"a look moved the time since when it can be claimed: {before.ready_at} {lock.ready_at}")

    def _ended_by_others(self, path: str, before: Lock, lock: Lock) -> None:
        """
        Only after its end, by the server's clock; before its timeout only if its code is over, and not past what it said at
        its end; and a person is told.
        """
        assert before.leased_at is not None
        assert before.granted_at is not None
        now = self.world.hub.time()
        lease = LONGER if before.instance in self.world.later else LEASE
        ends = before.leased_at + timedelta(seconds=lease), before.granted_at + timedelta(seconds=630)
        # No end line is evidence only after it had its time.
        timeout = ends[1] + timedelta(seconds=LOG_GRACE)
        if now < min(ends):
            self.broken(path, f"the lease of token {before.token} was ended before its end")
        for other in self.running:
            # A document that was deleted and made again grants the same tokens once more.
            ours = other.lease == (path, before.token, before.holder)
            ended = other.attempt._running.settled is not None
            over = other.process.dead or ended or before.holder in self.world.returned
            if ours and not over and now <= timeout:
                self.broken(path, f"token {before.token} was taken over without evidence while its handler runs")
        said = self.world.in_time.get(before.holder or "")
        settled = lock.settled_by != before.settled_by
        # What a document has no room for can't be settled from the evidence.
        in_time = said is not None and said <= min(ends) and not self.world.refusals.was_large(path)
        if in_time and not settled and now <= timeout:
            self.broken(path, f"token {before.token} had finished, and its end line was not waited for")
        heard = self.expected.get((path, before.token))
        unhurt = heard is not None and not heard.dead and heard.hurt_until < micros_of(before.granted_at)
        if unhurt and not self._has_started(before):
            self.broken(path, f"token {before.token} was granted, and its process never began")
        if not settled and lock.status is not Status.QUARANTINED and self._has_started(before):
            self._must_owe(path, "failure" if lock.status is Status.FAILED else "takeover", lock.sequence)
        self.world.counts["leases ended by others"] += 1

    def _has_started(self, lock: Lock) -> bool:
        return any(who == lock.holder for _, _, who in self.started)

    def _must_owe(self, path: str, event: str, sequence: int) -> None:
        if (path, event, sequence) not in self.owed and not self.world.refusals.tells_instead(path):
            self.broken(path, f"the {event} of sequence {sequence} owes nobody an alert")

    def _granted(self, process: Process | None, path: str, before: Lock, lock: Lock) -> None:
        if lock.status is not Status.LEASED:
            self.broken(path, f"token {lock.token} was granted to nobody")
        if lock.attempts != before.attempts + 1:
            self.broken(path, f"a grant took the attempts from {before.attempts} to {lock.attempts}")
        if before.wait_until is not None and self.world.hub.time() < before.wait_until:
            self.broken(path, f"token {lock.token} was granted before its time, {before.wait_until}")
        self.granted.add((path, lock.token, lock.holder))
        if process is not None and not self.world.landing and process.hurt_until < self.world.hub.now:
            self.expected[path, lock.token] = process
        for other in self.running:
            attempt = other.attempt
            if self.is_orphan(attempt):
                continue
            if other.process.frozen and attempt._running.context.document == path:
                # The worst moment to come back: while a successor runs.
                world = self.world
                world.hub.spawn(world.cloud, world.thaw, other.process, after=world.hub.rng.random() * 20)

    def _state(self, path: str, lock: Lock, fields: dict[str, Any]) -> None:
        live = lock.status in (Status.SCHEDULED, Status.LEASED)
        if live and lock.due is None:
            self.broken(path, f"{lock.status} with nobody to look at it")
        if lock.finished and not lock.owed and lock.due is not None:
            self.broken(path, f"{lock.status}, and still due")
        if lock.owed and lock.due is None:
            self.broken(path, "an alert is owed, and nobody is to send it")
        if lock.attempts > self.plan.max_attempts:
            self.broken(path, f"attempt {lock.attempts} of {self.plan.max_attempts}")
        if lock.dispatches > MOST_DISPATCHES:
            self.broken(path, f"{lock.dispatches} dispatches of one sequence")
        self._fields(path, lock, fields)

    def _fields(self, path: str, lock: Lock, fields: dict[str, Any]) -> None:
        """
        What handlers saved came with the settling of their step, once.
        """
        if path in self.by_hand:
            return
        if fields.get("count") not in self.revivals.steps(path, self.lives[path], lock):
            self.broken(path, f"{lock.status} at step {lock.step}, and its handlers saved {fields.get('count')} steps")
        moved = self.read(f"moves/{path.removeprefix('jobs/')}")[1].get("n", 0)
        if fields.get("moved") != moved:
            self.broken(path, f"{fields.get('moved')} transactions were recorded, and {moved} took effect")

    # --- handlers ---

    def starts(self, running: Running, count: int, note: str) -> None:
        """
        A handler is entered, with an entity that has *count* and *note*.
        """
        attempt = running.attempt
        path, lock = attempt._running.context.document, attempt._running.granted
        self.running.append(running)
        self.started.add((path, attempt.token, lock.holder))
        self.idempotency.starts(attempt)
        if (path, attempt.token, lock.holder) not in self.granted:
            self.broken(path, f"token {attempt.token} runs, and was never granted")
        if attempt.held_for() <= 0:
            self.broken(path, f"token {attempt.token} starts when its lease is over")
        self.belief.look(path)
        stored = self.world.stored(path)
        if stored.update_time == attempt._running.snapshot.version:
            found = (decode(stored.fields["count"]), decode(stored.fields["note"]))
            if found != (count, note):
                self.broken(path, f"token {attempt.token} was given {(count, note)}, and {found} is stored")

    def effect(self, attempt: Attempt) -> None:
        """
        A handler does something to the outside.
        """
        path = attempt._running.context.document
        if self.is_orphan(attempt):
            return
        self.effects.setdefault((path, attempt.sequence), []).append(attempt.key)
        if self.world.trouble is False and self.locks[path].finished and self.locks[path].token > attempt.token:
            self.world.counts["effects of zombies"] += 1

    # --- the end ---

    def ended(self, chains: list[str]) -> bool:
        """
        Whether nothing is left to do.
        """
        there = all(path in self.locks or path in self.erased for path in chains) and not self.damages.now
        return there and all(lock.finished and not lock.owed for lock in self.locks.values())

    def at_the_end(self, chains: list[str]) -> None:
        """
        Once troubles have stopped and time has passed: everything ended, once, and was told.
        """
        for path in self.damages.now:
            self.broken(path, "it is damaged, and nobody was told of it")
        for path in chains:
            lock = self.locks.get(path)
            if lock is None and path in self.erased:
                if self.read(f"moves/{path.removeprefix('jobs/')}")[1]:
                    self.broken(path, "its handler wrote on after it was deleted")
            elif lock is None:
                self.broken(path, "it was never scheduled")
            elif not lock.finished or lock.owed or lock.due is not None:
                self.broken(path, f"it never ended: {lock.status}, due {lock.due}, {len(lock.owed)} alerts owed")
        for (path, sequence), keys in self.effects.items():
            if len(set(keys)) != 1:
                self.broken(path, f"sequence {sequence} used {len(set(keys))} idempotency keys")
            self.world.counts["effects repeated with their key"] += len(keys) - 1
        self.world.refusals.at_the_end(self.broken)
