"""
The promise of named locks and of functions that run once, checked after every commit and at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from gcp_emulator.clock import micros_of
from gcp_oncetask import DamagedError, NamedLock, Status, StoreError
from gcp_oncetask.locks.holding import Holding
from gcp_oncetask.rules.named import UNLIMITED
from gcp_oncetask.rules.record import Lock
from tests.simulation.chains.checker import Checker
from tests.simulation.checks.belief import Believer, Lease, end_of
from tests.simulation.checks.linearisable import Kind, LockCall, LockCalls
from tests.simulation.checks.seizures import Seizures
from tests.simulation.hub import SECOND
from tests.simulation.locks.plan import LocksPlan
from tests.simulation.world import Process

PROMPT = 1000
"""Milliseconds after which a create is late; no person deletes a document that soon after it was made."""
LATEST = 3_000_000
"""Milliseconds within which a create is applied: its process sleeps for up to 1,000 s, its call lasts for up to 900 s."""
_RENEWED = 5.0
"""Seconds that a renewal may take where nothing goes wrong."""


@dataclass(eq=False)
class Holder:
    """
    Somebody who wants a named lock, or has it.

    Attributes:
        lock: Theirs alone.
        kind: ``ttl``, ``keep_alive`` or ``plain``, which has no end.
        length: Of its leases, in seconds; infinity: they have no end.
        token: Of the holding; 0 before it.
        since: When that began, micros.
        nonce: Of the holder, as stored.
    """

    process: Process
    lock: NamedLock
    kind: str
    length: float
    token: int = 0
    since: int = 0
    nonce: str = ""

    @property
    def lease(self) -> Lease:
        """
        Its lease.
        """
        return self.lock.document, self.token, self.nonce


@dataclass(eq=False)
class Execution:
    """
    A function that was entered for a key.

    Attributes:
        holding: Its lease.
        begun: When, micros.
        result: What it returned.
        ended: ``raised``, ``recorded``, ``unrecorded``; None: it runs, or its process died.
    """

    process: Process
    path: str
    payload: int
    holding: Holding
    begun: int
    result: Any = None
    ended: str | None = None

    @property
    def lease(self) -> Lease:
        """
        Its lease.
        """
        return self.path, self.holding.context.token, self.holding.context.holder


@dataclass
class LocksChecker(Checker):
    """
    Watches one world of named locks and runs.

    Attributes:
        holders: Everybody who wants or has a named lock.
        tokens: The greatest token of each document, of whatever generation.
        last: Of each document the holder that was granted that token.
        behind: (document, token) of the creates that were applied late, with a token behind others: nobody begins with it.
        freed: Holdings that were given back: (document, token), and whether their leases were over by then.
        seen: The greatest token that each resource has seen.
        executions: Of each key since its document was made.
        results: Every result that was stored for a key.
        lives: How often each document was deleted; a call of an earlier life may have claimed the next one, unheard of.
        keys: Of each life of a document its idempotency key.
        owners: Of each idempotency key the life of a document.
        calls: What was called on each named lock, and what the callers were told.
        seizures: Holdings whose documents a person has deleted.
        let_expire: Of each document the time of expiry that a person has written last.
        struck: When each document was damaged or repaired last, micros.
    """

    collection: ClassVar[str] = "onceLocks/"

    plan: LocksPlan
    holders: list[Holder] = field(default_factory=list)
    tokens: dict[str, int] = field(default_factory=dict)
    last: dict[str, str | None] = field(default_factory=dict)
    behind: set[tuple[str, int]] = field(default_factory=set)
    freed: dict[tuple[str, int], bool] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    executions: dict[str, list[Execution]] = field(default_factory=dict)
    results: dict[str, list[Any]] = field(default_factory=dict)
    keys: dict[tuple[str, int], str] = field(default_factory=dict)
    owners: dict[str, tuple[str, int]] = field(default_factory=dict)
    calls: LockCalls = field(init=False)
    seizures: Seizures = field(init=False)
    let_expire: dict[str, datetime] = field(default_factory=dict)
    struck: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.calls = LockCalls(lambda: self.world.hub.now)
        self.seizures = Seizures(self.broken)

    # --- after each call ---

    def _changed(self, process: Process | None, path: str) -> None:
        if path in self.damages.now:
            self.struck[path] = self.world.hub.now
        if self._is_damaged(process, path):
            return
        lock, _ = self.read(path)
        before = self.locks.get(path)
        if process is None and lock is not None and lock == before:
            # A person has repaired it.
            return
        who = "a user" if process is None else process.name
        if lock is None:
            self._gone(path, before)
            return
        self.locks[path] = lock
        self.belief.committed(process, path, before, lock)
        self.world.tell(who, f"{path} is {lock.status}, sequence {lock.sequence}, token {lock.token}")
        if before is None or lock.token != before.token:
            self._granted_anew(process, path, before, lock)
        elif process is None or process.name != before.instance:
            self.broken(path, f"{who} changed what token {before.token} of {before.instance} has")
        else:
            self._same_token(path, before, lock)

    def has_run(self, path: str) -> bool:
        """
        Whether the document has a result, in its present life.
        """
        lock = self.locks.get(path)
        return lock is not None and lock.status is Status.COMPLETED

    def _gone(self, path: str, before: Lock | None) -> None:
        if before is None:
            return
        self.world.tell("a user", f"{path} is deleted")
        if before.status is Status.LEASED:
            for one in self.believers(path):
                if one.left > 0:
                    self.broken(path, f"it is deleted while {one.process.name} still believes in {one.lease[1]}")
        del self.locks[path]
        self.calls.deleted(path)
        self.executions.pop(path, None)
        self.lives[path] += 1

    def _granted_anew(self, process: Process | None, path: str, before: Lock | None, lock: Lock) -> None:
        counts, known = self.world.counts, self.tokens.get(path)
        again = before is not None and before.status is Status.LEASED and before.holder == lock.holder
        if known is not None and lock.token <= known:
            self._behind(process, path, before, lock, known)
        else:
            ended = before.token if before and again and (path, before.token) not in self.behind else 0
            self.calls.granted(path, lock.holder or "", lock.token, ended)
        if before is not None and lock.token <= before.token:
            self.broken(path, f"the token went from {before.token} to {lock.token}")
        if lock.token > self.world.hub.now // 1000 + 1:
            self.broken(path, f"token {lock.token} is ahead of the time")
        if known is None or lock.token >= known:
            self.tokens[path], self.last[path] = lock.token, lock.holder
        if lock.status is not Status.LEASED or process is None or lock.instance != process.name:
            self.broken(path, f"token {lock.token} was granted to nobody")
        counts["documents made again"] += before is None and known is not None
        if before is None:
            return
        if before.status is Status.COMPLETED:
            self.broken(path, "it has run, and is run again")
        if again:
            counts["granted again because the create came late"] += 1
        elif before.status is Status.LEASED:
            end = end_of(before)
            if end is None or self.world.hub.time() < end:
                self.broken(path, f"token {before.token} was taken over before its end, {end}")
            counts["runs taken over" if ":once:" in path else "locks taken over"] += 1

    def _behind(self, process: Process | None, path: str, before: Lock | None, lock: Lock, known: int) -> None:
        """
        Only a create that is applied late has a token that is not beyond all others, and its holder does not begin with it.
        """
        again = lock.token == known and lock.holder == self.last.get(path)
        late = PROMPT < self.world.hub.now // 1000 - lock.token < LATEST
        # Only a call without an answer, or a process that stood still after it had made the token, holds a create up.
        since = 0 if process is None else max(process.hurt_until, process.failed_at)
        held_up = self.world.landing or since // 1000 >= lock.token
        if before is not None or not ((late and held_up) or again):
            self.broken(path, f"token {lock.token} was granted after {known}")
        if late:
            self.behind.add((path, lock.token))
            # Its caller may have been answered long ago, for another try.
            self.calls.begin(path, Kind.ACQUIRE, lease=lock.lease_seconds * SECOND)
        self.world.counts["documents made late with an old token"] += 1

    def believers(self, path: str) -> Iterator[Believer]:
        """
        Those that have the lock, and those that run the function for the key; without those that can't know yet that a person
        has deleted the document.
        """
        held = [(one.process, one.lock._holding) for one in self.holders if one.lock.document == path]
        held += [(run.process, run.holding) for run in self.executions.get(path, ()) if run.ended is None]
        for process, holding in held:
            if holding is None or process.dead:
                continue
            context = holding.context
            if not self.seizures.may_believe(path, context.token, self.world.hub.now):
                yield Believer(process, (path, context.token, context.holder), holding.held_for())

    def _same_token(self, path: str, before: Lock, lock: Lock) -> None:
        """
        What its own holder has done: refreshed it, or ended it.
        """
        if before.status is Status.LEASED and lock.status is Status.LEASED:
            if lock.holder != before.holder or lock.leased_at is None or lock.sequence != before.sequence:
                self.broken(path, f"token {lock.token} changed hands")
            self.calls.renewed(path, lock.token)
            self.world.counts["refreshes"] += 1
        elif before.status is not Status.LEASED:
            self.broken(path, f"{before.status} became {lock.status} with the token {lock.token}")
        elif ":once:" in path:
            if lock.status is Status.COMPLETED:
                self.results.setdefault(path, []).append(lock.result)
        else:
            if (lock.status, lock.sequence) != (Status.SCHEDULED, before.sequence + 1):
                self.broken(path, f"{lock.status} at sequence {lock.sequence} is no lock that was given back")
            end = end_of(before)
            self.freed[path, lock.token] = end is not None and self.world.hub.time() >= end

    # --- named locks ---

    def is_told(self, path: str, error: StoreError, begun: int) -> None:
        """
        A call that began then has failed; if it says that the document is damaged, that is right.
        """
        if not isinstance(error, DamagedError):
            return
        self.world.counts["callers told of a damage"] += 1
        if path not in self.damages.now and self.struck.get(path, 0) < begun:
            self.broken(path, f"a call is told that it is damaged, and it is not: {error}")

    def acquired(self, holder: Holder, call: LockCall) -> None:
        """
        The library says that it is theirs, by the acquire *call*.
        """
        path, token = holder.lock.document, holder.lock.token
        holder.token, holder.since = token, self.world.hub.now
        assert holder.lock._holding is not None
        holder.nonce = holder.lock._holding.context.holder
        self.calls.acquired(path, call, token, holder.nonce)
        if not holder.lock.held:
            self.broken(path, f"token {token} was acquired, and its holder may not believe in it")
        if (path, token) in self.behind:
            self.broken(path, f"token {token} was acquired, and is behind others")
        if (known := self.tokens.get(path, 0)) < token:
            self.broken(path, f"token {token} is held, and {known} was the last one granted")
        self.belief.look(path)
        self._begins_in_time(path, token)
        lock = self.locks.get(path)
        if lock is not None and lock.token == token and lock.holder in holder.process.unheard:
            self.world.counts["lost answers of acquire recognised"] += 1

    def _begins_in_time(self, path: str, token: int) -> None:
        """
        By the world's own clock at least half of a lease is left when its holder begins.
        """
        lock = self.locks.get(path)
        if lock is None or lock.token != token or lock.leased_at is None or lock.lease_seconds >= UNLIMITED:
            return
        passed = (self.world.hub.now - micros_of(lock.leased_at)) / 1_000_000
        if passed > lock.lease_seconds / 2:
            self.broken(
                path, f"the holder of token {token} begins {passed:g} s after a lease of {lock.lease_seconds:g} s"
            )

    def kept_alive(self, holder: Holder) -> None:
        """
        What is renewed in the background is held for as long as nothing goes wrong, and again once all goes well.
        """
        lock, policy = self.locks.get(holder.lock.document), holder.lock._policy
        hurt_until = max(holder.process.hurt_until, self.struck.get(holder.lock.document, 0))
        since = max(holder.since, hurt_until) + round((policy.lease / 3 + _RENEWED) * SECOND)
        unhurt = hurt_until < holder.since or since < self.world.hub.now
        unhurt = unhurt and holder.lock.document not in self.damages.now
        its = lock is not None and holder.lease[1:] == (lock.token, lock.holder)
        if holder.kind == "keep_alive" and its and not holder.lock.held and unhurt and not self._any_call_fails():
            self.broken(holder.lock.document, f"token {holder.token} is kept alive, and is not held any more")

    def effect(self, holder: Holder, *, believed: bool) -> None:  # type: ignore[override]
        """
        A write that carries a token; the resource refuses all but the greatest it has seen.
        """
        path, token = holder.lock.document, holder.token
        if token >= self.seen.get(path, 0):
            self.seen[path] = token
            self.world.counts["fenced writes"] += 1
            return
        self.world.counts["zombie writes refused"] += 1
        if holder.lock.held and not self.seizures.may_believe(path, token, self.world.hub.now):
            self.broken(path, f"the write of token {token} was refused while its holder may believe in it")
        self.world.counts["zombie writes that were sent in time"] += believed

    def released(self, holder: Holder, *, late: bool) -> None:
        """
        The library says that it was given back; *late*: after the end of its lease.
        """
        path, token = holder.lock.document, holder.token
        if (path, token) not in self.freed:
            self.broken(path, f"token {token} was given back, and nothing was written")
            return
        lock, over = self.locks.get(path), self.freed[path, token]
        known = lock is not None and lock.holder == holder.nonce
        # A document that a person has repaired since tells no time of its release.
        repaired = late and self.struck.get(path, 0) >= holder.since
        if late is not over and (late or known) and not repaired:
            self.broken(path, f"token {token} was given back; its lease was over: {over}, its holder was told: {late}")

    # --- runs ---

    def enters(self, run: Execution) -> None:
        """
        The function is entered for a key.
        """
        path, lock, token = run.path, self.locks.get(run.path), run.holding.context.token
        counts = self.world.counts
        if token > self.tokens.get(path, 0):
            self.broken(path, f"it runs with token {token}, which was never granted")
        if run.holding.held_for() <= 0:
            self.broken(path, f"it runs with token {token}, whose lease is over")
        if (path, token) in self.behind:
            self.broken(path, f"it runs with token {token}, which is behind others")
        seized = self.seizures.may_believe(path, token, self.world.hub.now)
        if (lock is None or (lock.token, lock.status) != (token, Status.LEASED)) and not seized:
            self.broken(path, f"it runs with token {token}, which is not the holder")
        if self.seizures.has(path, token):
            return
        self._keyed(path, run.holding.key)
        self._begins_in_time(path, token)
        earlier = self.executions.setdefault(path, [])
        for other in earlier:
            if other.payload != run.payload:
                self.broken(path, f"it runs with payload {run.payload} after {other.payload}")
            if other.ended == "recorded":
                self.broken(path, "it runs after its result was recorded")
            hurt_until = max(other.process.hurt_until, self.struck.get(path, 0))
            unhurt = not other.process.dead and hurt_until < other.begun
            in_time = self.world.hub.now < other.begun + round(other.holding.policy.run_limit * 1_000_000)
            if other.ended is None and unhurt and in_time and not self._any_call_fails():
                self.broken(path, "it runs again, and nothing had happened to the process that runs it")
        if earlier:
            last = earlier[-1]
            why = "an error" if last.ended == "raised" else "a crash" if last.process.dead else "a loss"
            counts[f"runs after {why}"] += 1
        earlier.append(run)

    def _keyed(self, path: str, key: str) -> None:
        """
        The idempotency key is the same over retries and takeovers, and never the same for two lives of a document.
        """
        life = (path, self.lives[path])
        if self.keys.setdefault(life, key) != key:
            self.broken(path, "it runs with another idempotency key than before")
        if self.owners.setdefault(key, life) != life:
            self.broken(path, "it runs with the idempotency key of an earlier life of its document")

    def _any_call_fails(self) -> bool:
        return any(self.plan.has(name) for name in ("refused_calls", "lost_answers", "late_calls", "skews"))

    def returns(self, path: str, value: Any, run: Execution | None) -> None:
        """
        A call has returned *value*; *run*: it was this call that ran it.
        """
        stored = self.results.get(path, [])
        if value not in stored:
            self.broken(path, f"a call returned {value}, and {stored} was stored")
        lock = self.locks.get(path)
        if lock is not None and lock.status is Status.COMPLETED and run is None and lock.result != value:
            self.broken(path, f"a call returned {value}, and {lock.result} is stored")
        self.world.counts["replays"] += run is None

    # --- the end ---

    def ended(self, chains: list[str]) -> bool:
        """
        Whether nobody holds anything any more.
        """
        return not any(one for one in self.holders if not one.process.dead)

    def at_the_end(self, chains: list[str]) -> None:
        """
        Effects of one key are keyed by it, and happened once unless something came between them and their record.
        """
        for path, first in self.calls.wrong():
            self.broken(
                path, f"no order of the calls of this lock explains what they were told; the first such is {first}"
            )
        for path, runs in self.executions.items():
            lock = self.locks.get(path)
            if lock is None:
                continue
            recorded = [run for run in runs if run.ended == "recorded"]
            if len(recorded) > 1:
                self.broken(path, f"it was recorded {len(recorded)} times")
            if lock.status is Status.COMPLETED and lock.result not in [run.result for run in runs]:
                self.broken(path, f"its result {lock.result} was made by nobody")
