"""
One history of named locks and of functions that run once, on the same world.
"""

from __future__ import annotations

import math
from typing import Any

from flask import Flask
from google.cloud.firestore import DocumentReference

from gcp_oncetask import LeaseLostError, LockBusyError, OncetaskError, Status, StoreError, TaskConflictError, once
from gcp_oncetask.decorators import document_id
from gcp_oncetask.locks import lock as lock_module
from gcp_oncetask.locks import runs as runs_module
from gcp_oncetask.locks.holding import Holding
from gcp_oncetask.rules.named import UNLIMITED
from tests.simulation.chains.history import BOUND, History
from tests.simulation.chains.plan import Plan
from tests.simulation.checks.linearisable import Kind, LockCall, Result
from tests.simulation.checks.waking import check_waiters
from tests.simulation.clients import ROOT
from tests.simulation.hub import SECOND, Promise, Signal
from tests.simulation.locks.checker import Execution, Holder, LocksChecker
from tests.simulation.locks.plan import LocksPlan
from tests.simulation.troubles import lock_people, wrong_ttl
from tests.simulation.troubles.listeners import watching
from tests.simulation.world import Process, World

RETENTION = 7200.0
"""Seconds for which unused documents are kept here; longer than any call can be late."""
LONGEST = 60.0
"""The longest ttl, where leases are not long."""
LONG = 6000.0
"""A ttl within which clocks that drift go wrong by more than the margin."""
RUN_LIMIT = 300.0


class LocksHistory(History):
    """
    Plays one plan of named locks and runs.
    """

    checker: LocksChecker

    def __init__(self, plan: Plan) -> None:
        assert isinstance(plan, LocksPlan)
        super().__init__(plan)
        self.locks_plan = plan
        self.checker = LocksChecker(plan)
        self.checker.world = self.world
        self.names = [f"lock{number}" for number in range(plan.names)]
        self.keys = [f"key{number}" for number in range(plan.keys)]
        self.claims: list[Holding] = []
        self.idle_from = self.idle_until = 0

    def replaced(self) -> list[tuple[Any, str, Any]]:
        """
        What of the library runs otherwise here.
        """
        return [
            *super().replaced(),
            (lock_module, "_RETENTION", RETENTION),
            (runs_module, "Holding", self._claimed),
            (lock_module, "Wakeup", lambda: Signal(self.hub)),
            (DocumentReference, "on_snapshot", watching(self.world)),
        ]

    def _claimed(self, *args: Any, **kwargs: Any) -> Holding:
        holding = Holding(*args, **kwargs)
        self.claims.append(holding)
        return holding

    def app(self, world: World, process: Process) -> Flask:
        """
        Nothing is pushed here.
        """
        raise AssertionError("there was a delivery")

    def _set_up(self) -> None:
        hub, plan, cloud, draw = self.hub, self.locks_plan, self.world.cloud, self.draw
        for _ in range(plan.holders):
            hub.spawn(cloud, self._holds, after=draw.random() * 60)
        for _ in range(plan.callers):
            hub.spawn(cloud, self._calls, after=draw.random() * 60)
        if plan.has("reads"):
            hub.spawn(cloud, self._reads)
        hub.spawn(cloud, self._janitor)
        lock_people.set_up(self)
        wrong_ttl.set_up_locks(self)
        hub.spawn(cloud, self._chaos)
        if plan.has("final_refusals"):
            hub.spawn(cloud, self.world.refusals.course, None)
        minutes = plan.minutes * 60.0
        if plan.has("retirements"):
            self.idle_from = hub.now + round(minutes / 2 * SECOND)
            self.idle_until = self.idle_from + round((2 * RETENTION + 1200) * SECOND)
            minutes += 2 * RETENTION + 1200
        hub.spawn(cloud, self._peace, after=minutes)

    def _rest(self, mean: float) -> None:
        self.hub.sleep(self.draw.expovariate(1 / mean))
        if self.idle_from <= self.hub.now < self.idle_until and self.world.trouble:
            self.hub.sleep((self.idle_until - self.hub.now) / SECOND)

    # --- named locks ---

    def _holds(self) -> None:
        while self.world.trouble:
            name = self.draw.choice(self.names)
            self.on_some(lambda process, name=name: self._hold(process, name), timeout=self.draw.choice((30.0, 200.0)))
            self._rest(20)

    def _hold(self, process: Process, name: str) -> None:
        draw = self.draw
        kind = draw.choice(("ttl", "ttl", "keep_alive", "keep_alive", "plain"))
        length = draw.choice((20.0, 30.0, LONGEST))
        if self.world.hit("long_leases", 0.3):
            kind, length = draw.choice(("ttl", "ttl", "keep_alive")), LONG
        lengths = {} if kind == "plain" else {kind: length}
        lock = process.locker.lock(name, **lengths, listen=self.locks_plan.listen)
        holder = Holder(process, lock, kind=kind, length=lengths.get(kind, math.inf))
        self.checker.holders.append(holder)
        try:
            for _ in range(draw.randint(1, 2)):
                if not self._acquire(holder):
                    return
                self._use(holder)
                if length == LONG and self.world.hit("long_leases", 0.5):
                    self.world.counts["long stays"] += 1
                    self.hub.sleep(draw.choice((LONG / 2, LONG + 60, LONG + 60)))
                    self._write(holder)
                if kind == "ttl" and self.world.hit("forgets", 0.1):
                    self.world.tell(process.name, f"forgets the token {holder.token} of {name}")
                    return
                self._release(holder)
        finally:
            self.checker.holders.remove(holder)

    def _begin(self, holder: Holder, kind: Kind) -> LockCall:
        """
        Record that the call of a holder begins.
        """
        length = holder.length * SECOND
        lease = math.inf if holder.kind == "keep_alive" else length
        return self.checker.calls.begin(holder.lock.document, kind, lease=lease, least=length, token=holder.token)

    def _reads(self) -> None:
        while self.world.trouble:
            name = self.draw.choice(self.names)
            self.on_some(lambda process, name=name: self._read(process, name))
            self._rest(8)

    def _read(self, process: Process, name: str) -> None:
        lock = process.locker.lock(name, listen=False)
        call = self.checker.calls.begin(lock.document, Kind.READ)
        held = lock.locked()
        self.checker.calls.end(call, Result.DONE if held else Result.REFUSED)
        self.world.counts["locks seen held" if held else "locks seen free"] += 1

    def _acquire(self, holder: Holder) -> bool:
        counts, lock = self.world.counts, holder.lock
        begun = self.hub.now
        # An acquire of unknown fate that is repeated is recognised, so both are one call.
        call = self._begin(holder, Kind.ACQUIRE)
        for _ in range(3):
            try:
                if not lock.acquire(timeout=self.draw.choice((0.0, 10.0, 100.0))):
                    counts["busy locks refused"] += 1
                    # A process that slept may have been granted the lock, and have lost it before it knew.
                    hurt = holder.process.hurt_until >= begun
                    self.checker.calls.end(call, Result.UNKNOWN if hurt else Result.REFUSED)
                    return False
            except StoreError as error:
                self.checker.is_told(lock.document, error, begun)
                if self.draw.random() < 0.8:
                    return self._give_up(holder, unknown=bool(error.facts.get("unknown")))
                continue
            self.checker.acquired(holder, call)
            counts["waited and was granted"] += self.hub.now > begun + SECOND
            return True
        return self._give_up(holder, unknown=False)

    def _give_up(self, holder: Holder, *, unknown: bool) -> bool:
        """
        What it may have got is given back.
        """
        call = self._begin(holder, Kind.RELEASE)
        try:
            holder.lock.release()
        except OncetaskError:
            # Nothing is unknown; or Firestore is still out of reach.
            return False
        call.returned = self.hub.now
        self.world.counts["acquires of unknown fate given up"] += unknown
        return False

    def _use(self, holder: Holder) -> None:
        world, draw, lock, kind = self.world, self.draw, holder.lock, holder.kind
        world.tell(holder.process.name, f"holds {lock.document} with the token {holder.token}, {kind}")
        for _ in range(draw.randint(1, 3)):
            self.hub.sleep(draw.expovariate(1 / 4))
            self._write(holder)
        if world.hit("long_runs", 0.3):
            self.hub.sleep(draw.choice((15.0, 50.0, 100.0, 400.0)))
            self._write(holder)
        if kind != "ttl" and self.hub.now < self.idle_from and world.hit("retirements", 0.15):
            world.counts["held for longer than documents are kept"] += 1
            self.hub.sleep((self.idle_until - self.hub.now) / SECOND - 300)
            self._write(holder)
        if kind == "ttl" and world.hit("hangs", 0.03):
            self.hub.sleep(10 * BOUND)
        if kind != "plain" and draw.random() < 0.4:
            self._refresh(holder)

    def _write(self, holder: Holder) -> None:
        """
        It looks whether it holds the lock; the write arrives a moment later.
        """
        believed = holder.lock.held
        self.checker.kept_alive(holder)
        if not believed and self.draw.random() < 0.5:
            return
        if self.world.hit("freezes", 0.02):
            self.world.freeze(holder.process, self.draw.choice((30, 90, 400, 800)), "between its look and its write")
        self.hub.sleep(self.draw.expovariate(5))
        if holder.lock.held:
            self.checker.belief.look(holder.lock.document)
        self.checker.effect(holder, believed=believed)

    def _refresh(self, holder: Holder) -> None:
        calls, path = self.checker.calls, holder.lock.document
        call = self._begin(holder, Kind.REFRESH)
        try:
            with self.checker.late_holders.call(holder.lease, 0, "refresh"):
                holder.lock.refresh()
        except LeaseLostError:
            calls.lost(path, call)
            self.world.counts["zombie refreshes refused"] += 1
        except OncetaskError:
            return
        else:
            calls.end(call, Result.DONE)
            self.checker.seizures.goes_on(path, holder.token, renewed=bool(calls.renewed_during(path, call)))
            self.checker.belief.look(path)

    def _release(self, holder: Holder) -> None:
        counts = self.world.counts
        call = self._begin(holder, Kind.RELEASE)
        for _ in range(3):
            try:
                lost = holder.lock.end()
            except OncetaskError:
                self.hub.sleep(1)
                continue
            taken = lost is not None and lost.taken_over
            self.checker.calls.end(call, Result.REFUSED if taken else Result.DONE)
            if lost is None:
                counts["releases"] += 1
                self.checker.released(holder, late=False)
            elif lost.taken_over:
                counts["zombie releases refused"] += 1
                self.checker.late_holders.told(holder.lease, lost)
            else:
                counts["released after its end, nobody had taken it"] += 1
                self.checker.released(holder, late=True)
            return

    # --- functions that run once ---

    def _calls(self) -> None:
        while self.world.trouble:
            self.on_some(self._call, timeout=self.draw.choice((30.0, 200.0)))
            self._rest(30)

    def _call(self, process: Process, key: str | None = None, payload: int | None = None) -> Any:
        """
        Call the function; returns its result, or None if it can't be had now.
        """
        draw, counts, checker = self.draw, self.world.counts, self.checker
        key = key or draw.choice(self.keys)
        path = f"onceLocks/{document_id(process.locker.config.env, 'once', 'charge', key)}"
        payload = int(self.world.hit("conflicts", 0.15)) if payload is None else payload
        runs: list[Execution] = []
        life = checker.lives[path]

        def charge(key: str, payload: int) -> Any:
            runtime = process.locker._runtime
            mine = [one for one in self.claims if one.runtime is runtime and one.context.document == path]
            run = Execution(process, path, payload, mine[-1], self.hub.now)
            runs.append(run)
            return self._charge(run, key)

        call = once(
            process.locker,
            name="charge",
            key=lambda key, payload: key,
            payload=lambda key, payload: payload,
            ttl=30.0,
            run_limit=RUN_LIMIT,
            retention=RETENTION if key == "key1" else None,
        )(charge)
        try:
            value = call(key, payload)
        except LockBusyError:
            counts["busy runs refused"] += 1
        except TaskConflictError:
            counts["conflicts refused"] += 1
            others = any(run.payload != payload for run in checker.executions.get(path, ()))
            if checker.lives[path] == life and checker.has_run(path) and not others:
                checker.broken(path, f"payload {payload} was refused, and no other one was used")
        except LeaseLostError as error:
            counts["results refused, too late"] += 1
            checker.late_holders.told(runs[0].lease, error)
            self._ended(runs, "unrecorded")
        except OncetaskError:
            counts["runs of unknown fate"] += bool(runs)
            self._ended(runs, "unrecorded")
        except ValueError:
            self._ended(runs, "raised")
        else:
            self._ended(runs, "recorded")
            checker.returns(path, value, runs[0] if runs else None)
            if value["payload"] != payload:
                checker.broken(path, f"a call with the payload {payload} was answered with {value}")
            return value
        return None

    @staticmethod
    def _ended(runs: list[Execution], how: str) -> None:
        for run in runs:
            run.ended = how

    def _charge(self, run: Execution, key: str) -> Any:
        world, draw = self.world, self.draw
        self.checker.enters(run)
        world.tell(run.process.name, f"runs {run.path} with the token {run.holding.context.token}")
        self.hub.sleep(draw.expovariate(1))
        world.counts["effects of runs"] += 1
        if world.hit("long_runs", 0.3):
            self.hub.sleep(draw.choice((15.0, 50.0, 100.0, 400.0)))
        if world.hit("hangs", 0.05):
            self.hub.sleep(10 * BOUND)
        if world.hit("failing_handlers", 0.3):
            raise ValueError("a bug of the app's")
        run.result = {"key": key, "payload": run.payload, "made": draw.getrandbits(40)}
        return run.result

    # --- people ---

    def _janitor(self) -> None:
        """
        Deletes what has been unused for too long, as a TTL policy would, and what a dead process holds without an end.
        """
        while not self.over:
            self.hub.sleep(60)
            for path, lock in list(self.checker.locks.items()):
                if path in self.checker.damages.now:
                    continue
                until = self.checker.read(path)[1].get("expireAt")
                if until is not None and until == self.checker.let_expire.get(path):
                    continue
                if until is not None and until < self.hub.time():
                    self.world.counts["documents retired by TTL"] += 1
                    self.world.write(delete=ROOT + path)
                elif lock.status is Status.LEASED and lock.lease_seconds >= UNLIMITED and not self._may_hold(path):
                    self.world.counts["locks of the dead deleted by a person"] += 1
                    self.world.write(delete=ROOT + path)

    def _may_hold(self, path: str) -> bool:
        holders = self.checker.holders
        return any(one.kind == "plain" and one.lock.document == path and not one.process.dead for one in holders)

    def _peace(self) -> None:
        self._no_more_troubles()
        self.hub.sleep(1500 + (LONG if self.plan.has("long_leases") else 0))
        for name in self.names:
            self._free_in_the_end(name)
        for key in self.keys if self.locks_plan.callers else ():
            self._run_in_the_end(key)
        if self.locks_plan.listen:
            check_waiters(self)
        self.over = True

    def _free_in_the_end(self, name: str) -> None:
        def hold(process: Process) -> bool:
            holder = Holder(process, process.locker.lock(name, ttl=LONGEST, listen=False), kind="ttl", length=LONGEST)
            self.checker.holders.append(holder)
            call = self._begin(holder, Kind.ACQUIRE)
            if not holder.lock.acquire(timeout=2 * LONGEST):
                return False
            self.checker.acquired(holder, call)
            self._write(holder)
            self._release(holder)
            self.checker.holders.remove(holder)
            return True

        if self.on_some(hold, timeout=1000.0) is not True:
            self.checker.broken(name, "nobody can have it although all holders are gone")

    def _run_in_the_end(self, key: str) -> None:
        results = []
        path = f"onceLocks/{document_id('DEFAULT', 'once', 'charge', key)}"
        for number in range(40):
            # Which payload the key was claimed with, perhaps by one who died before running it, is not known here.
            result = self.on_some(lambda process, at=number: self._call(process, key, at % 2), timeout=1000.0)
            if isinstance(result, dict):
                results.append((self.checker.lives[path], result["made"]))
            if len(results) == 2:
                break
            self.hub.sleep(20)
        if len(results) < 2:
            self.checker.broken(key, "it could not be run although all troubles are over")
        elif results[0][0] == results[1][0] and results[0] != results[1]:
            self.checker.broken(key, f"two calls returned {results[0]} and {results[1]}")

    def _late_duplicates(self) -> None:
        """
        Nothing is delivered here: the dead come back instead, and change nothing.
        """
        promise = Promise(self.hub)
        before = dict(self.checker.locks)

        def awake() -> None:
            for holder in list(self.checker.holders):
                if holder.token and not holder.process.dead:
                    self._release(holder)
            promise.give(True)

        self.hub.spawn(self.world.cloud, awake)
        self.hub.run(lambda: promise.given or bool(self.checker.violations))
        for path, lock in before.items():
            if self.checker.locks.get(path) != lock:
                self.checker.broken(path, "a zombie changed it at the end")
