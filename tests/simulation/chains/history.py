"""
One history: the app, the people around it, the troubles, and the end that must come.
"""

from __future__ import annotations

import gc
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar
from unittest import mock

from flask import Flask
from google.cloud import firestore

from gcp_emulator.faults import DeliveryFaults
from gcp_emulator.tasks.messages import PauseQueueRequest, ResumeQueueRequest
from gcp_oncetask import Attempt, Continue, Fail, LeaseLostError, LockedModel, OncetaskError, Retry, Snooze, Status
from gcp_oncetask.execution import held_lease, renewal
from gcp_oncetask.flask import locked_handler
from gcp_oncetask.recovery import unclaimed
from gcp_oncetask.recovery.sweep import sweep
from gcp_oncetask.runtime import gathering
from gcp_oncetask.store import coalescing, registry
from tests.simulation.chains.checker import Checker, Running
from tests.simulation.chains.plan import Plan
from tests.simulation.checks.listed import check_listed
from tests.simulation.checks.watch import Watch
from tests.simulation.clients import ROOT
from tests.simulation.hub import SECOND, Promise, Signal
from tests.simulation.named_checks import ESCAPED
from tests.simulation.outlets import Heard, cooperative
from tests.simulation.process import ENV
from tests.simulation.troubles import damage, deployments, misroutes, people
from tests.simulation.troubles.foreigners import Foreigners
from tests.simulation.troubles.neighbours import Elsewhere, Neighbours
from tests.simulation.troubles.standstills import stand_still
from tests.simulation.world import ORIGIN, QUEUE, Process, World

BOUND = 6 * 3600
"""Virtual seconds after the troubles within which everything must have ended."""
DEPLOYED = 3600
"""Virtual seconds between the end of the troubles and the deployment for which a task waits."""
FLOOD = 0.6
"""Share of the handlers that give up for good, in a flood."""
LOGGER = logging.getLogger("gcp_oncetask")
HEARD = Heard()


class Job(LockedModel, collection="jobs"):
    """
    A chain. ``count`` and ``moved`` are saved by its handlers, ``note`` by users.
    """

    steps: int
    count: int = 0
    moved: int = 0
    note: str = ""


class LaterJob(Job, collection="jobs"):
    """
    The same in the later one of two deployments. ``extra`` is saved by its handlers.
    """

    extra: int = 0


@dataclass(frozen=True)
class Told:
    """
    How a history went.

    Attributes:
        violations: None are right.
        counts: What was exercised.
        story: (micros, who, what).
        steps: Times that somebody ran.
        tripped: Names of the checks that found the violations.
    """

    violations: list[str]
    counts: Counter[str]
    story: list[tuple[int, str, str]]
    steps: int
    tripped: list[str]


class History:
    """
    Plays one plan.

    Attributes:
        settings: Of the library.
        findings: Draws of people who find what has happened, and dismiss.
    """

    settings: ClassVar[dict[str, Any]] = {}

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.checker = Checker(plan)
        self.world = World(plan, self.begin, self.app, self.observe, self.settings)
        self.checker.world = self.world
        # The release before breaks what the checks of the wire ask for: no process of it is held to that.
        self._told = self._unheeded if plan.has("versions") else self._broken
        self.watch = Watch(self.world, self._told, lambda path: path in self.checker.damages.now)
        self.foreigners = Foreigners(self)
        self.neighbours = Neighbours(self)
        self.hub = self.world.hub
        self.draw = self.hub.rng
        self.findings = random.Random(f"people {plan.seed}")
        self.chains = [f"jobs/{chr(97 + n)}" for n in range(plan.chains)]
        self._pump_at: int | None = None
        self._sweeping: list[Process] = []
        self.ended = False
        self.over = False

    def _broken(self, path: str, sentence: str) -> None:
        self.checker.broken(path, sentence)

    def _unheeded(self, path: str, sentence: str) -> None:
        self.world.counts["breaches of the wire with two versions"] += 1

    def play(self) -> Told:
        """
        From the first process to the last check.
        """
        world, hub, plan = self.world, self.hub, self.plan
        HEARD.world = world
        world.calls = self.checker.belief.estimates
        world.transactions.broken = self.checker.broken
        with ExitStack() as stack:
            stack.callback(setattr, HEARD, "world", None)
            for module, name, value in self.replaced():
                stack.enter_context(mock.patch.object(module, name, value))
            self._set_up()
            try:
                self._to_the_end()
            except (OncetaskError, AssertionError) as error:
                # The library itself, or the checker's decoder, found what nobody can go on with.
                self.checker.violations.append(str(error) or repr(error))
                self.checker.tripped.append(ESCAPED)
        world.counts["histories"] += 1
        world.counts.update({f"queue: {name}": count for name, count in world.faults.injected.items()})
        world.counts["chains"] += plan.chains
        told = Told(
            list(self.checker.violations),
            Counter(world.counts),
            list(world.story),
            hub.steps,
            list(self.checker.tripped),
        )
        world.close()
        return told

    def _to_the_end(self) -> None:
        self.hub.run(lambda: bool(self.checker.violations) or self.over)
        if not self.checker.violations:
            self._late_duplicates()
        if not self.checker.violations:
            self.checker.at_the_end(self.chains)
            self.watch.at_the_end()
            self.neighbours.at_the_end()
        if not self.checker.violations:
            check_listed(self)

    def replaced(self) -> list[tuple[Any, str, Any]]:
        """
        What of the library runs otherwise here: module, name and value; nothing but threads and lengths of time, and the
        models of other tests of this process, for whose collections sweeps would ask too.
        """
        found: list[tuple[Any, str, Any]] = [
            (held_lease, "threading", cooperative(self.hub)),
            (renewal, "Wakeup", lambda: Signal(self.hub)),
            (registry, "DECLARED", {"jobs": Job}),
            (gathering, "threading", cooperative(self.hub)),
            (coalescing, "threading", cooperative(self.hub)),
            (coalescing, "Wakeup", lambda: Signal(self.hub)),
            (coalescing, "MOST_CALLS", self.plan.calls),
        ]
        if self.plan.has("neighbours"):
            found[2][2]["elsewhere"] = Elsewhere
        if self.plan.has("failed_writes"):
            # A sweep moves due times by one BatchWrite as soon as it knows that a queue stands.
            found.append((unclaimed, "ASKED", 1))
        return found

    def _set_up(self) -> None:
        plan, hub, world = self.plan, self.hub, self.world
        rates = {
            "duplicate": 0.2 if plan.has("duplicates") else 0.0,
            "delay": 0.2 if plan.has("delays") else 0.0,
            "delay_seconds": 120.0,
            "lose": 0.15 if plan.has("lost_deliveries") else 0.0,
            "lose_answer": 0.15 if plan.has("lost_deliveries") else 0.0,
        }
        world.faults.deliveries = DeliveryFaults(**rates)
        people.set_up(self)
        people.set_up_chains(self)
        damage.set_up(self)
        self.foreigners.set_up()
        misroutes.set_up(self)
        self.neighbours.set_up()
        for path in self.chains:
            hub.spawn(
                world.cloud, self.produce, path, after=self.draw.random() * (1 if plan.calls else plan.minutes * 15)
            )
            if plan.has("user_writes"):
                hub.spawn(world.cloud, self._write_notes, path)
            if plan.has("cancels") and self.draw.random() < 0.5:
                hub.spawn(world.cloud, self._cancel, path, after=self.draw.random() * plan.minutes * 60)
        for _ in range(plan.sweepers):
            hub.spawn(world.cloud, self._sweeper, after=self.draw.random() * 60)
        hub.spawn(world.cloud, self._chaos)
        if plan.has("final_refusals"):
            hub.spawn(world.cloud, world.refusals.course, self._documents)
        hub.spawn(world.cloud, self._peace, after=plan.minutes * 60)

    # --- the app ---

    def begin(self, world: World, process: Process) -> None:
        """
        What one process has and does from its start.
        """
        if process.env != ENV:
            self.neighbours.begin(process)

    def app(self, world: World, process: Process) -> Flask:
        """
        The Flask app of one process.
        """
        app = Flask("simulated", static_folder=None)
        plan = self.plan

        @app.post("/run")
        @locked_handler(
            process.locker,
            model_of(process),
            max_attempts=deployments.most_of(process, plan.max_attempts),
            lease_duration=deployments.lease_of(process),
            on_unknown="quarantine" if plan.quarantine else "takeover",
        )
        def run(job: Job, attempt: Attempt) -> Any:
            running = Running(process, attempt)
            self.watch.begins(attempt)
            self.checker.starts(running, job.count, job.note)
            try:
                return self._work(running, job, attempt)
            except LeaseLostError:
                world.counts["zombies refused"] += 1
                raise
            except Snooze:
                self.checker.attempts.snoozes(attempt)
                raise
            finally:
                self.checker.running.remove(running)
                self.checker.late_holders.leaves(running)

        misroutes.add_route(self, process, app)
        return app

    def _work(self, running: Running, job: Job, attempt: Attempt) -> Any:
        world, draw, process = self.world, self.draw, running.process
        world.tell(
            process.name,
            f"runs {job.document_path} step {attempt.step}, attempt {attempt.number}, token {attempt.token}",
        )
        for _ in range(draw.randint(0, 2)):
            self.hub.sleep(draw.expovariate(1))
            self.checker.effect(attempt)
        world.logs.words(process)
        if world.hit("long_runs", 0.2 if attempt.number == 1 else 0.6):
            self.hub.sleep(draw.choice((15.0, 50.0, 100.0, 400.0, 900.0)))
            self.checker.effect(attempt)
            if draw.random() < 0.1:
                with self.checker.late_holders.call(running.lease, attempt.sequence, "renewal"):
                    attempt.renew()
        if world.hit("hangs", 0.05):
            self.hub.sleep(10 * BOUND)
        if self.plan.floods and world.trouble and draw.random() < FLOOD:
            raise Fail("it can't be done")
        if world.hit("failing_handlers", 0.2):
            self._give_up()
        job.count += 1
        if isinstance(job, LaterJob):
            job.extra += 1
        if draw.random() < 0.3:
            with self.checker.late_holders.call(running.lease, attempt.sequence, "transaction"):
                return world.transactions.run(attempt, lambda txn: self._in_transaction(process, job, attempt, txn))
        return self._settle(running, job, attempt)

    def _settle(self, running: Running, job: Job, attempt: Attempt) -> Any:
        draw, locker = self.draw, running.process.locker
        if attempt.step < job.steps:
            if draw.random() < 0.3:
                return Continue(delay=draw.choice((None, 20.0)))
            with self.checker.late_holders.call(running.lease, attempt.sequence, "schedule"):
                locker.schedule(job, "/run", delay=draw.choice((None, None, 30.0)))
        elif draw.random() < 0.5:
            with self.checker.late_holders.call(running.lease, attempt.sequence, "complete"):
                locker.complete(job, result={"count": job.count})
        return None

    def _give_up(self) -> None:
        match self.draw.randrange(12):
            case 0:
                raise Fail("it can't be done")
            case 1 | 2 | 3:
                raise Snooze(15.0)
            case 4 | 5 | 6:
                raise Retry("not now", after=10.0)
            case 7 | 8:
                raise Retry("the queue shall decide")
            case _:
                raise ValueError("a bug of the app's")

    def _in_transaction(self, process: Process, job: Job, attempt: Attempt, txn: Any) -> None:
        moves = process.locker.client.document(f"moves/{job.id}")
        job.moved = attempt_moves(attempt) + 1
        txn.set(moves, {"n": firestore.Increment(1)}, merge=True)
        if self.draw.random() < 0.3:
            txn.update(process.locker.client.document(job.document_path), {"note": f"moved {job.moved}"})
        if attempt.step < job.steps:
            process.locker.schedule(job, "/run", transaction=txn)
        else:
            process.locker.complete(job, transaction=txn)
        self.world.counts["transactions"] += 1

    # --- people ---

    def on_some(self, run: Callable[[Process], Any], *, timeout: float = 120.0, origin: str = ORIGIN) -> Any:
        """
        Run something in some process; None if it fails, or the process dies or sleeps over it.
        """
        process, promise = self.world.some_process(origin), Promise(self.hub)

        def attempt() -> None:
            try:
                promise.give(run(process))
            except OncetaskError as error:
                promise.give(error)

        self.hub.spawn(process, attempt)
        return promise.value if promise.wait(timeout) else None

    def loaded(self, process: Process, path: str) -> Job | None:
        """
        The entity of *path* as *process* reads it.
        """
        found: Job | None = process.locker.get(model_of(process), path.removeprefix("jobs/"))
        return found

    def recurs(self, path: str) -> bool:
        """
        Whether *path* is a generator, or made by one.
        """
        return False

    def is_unused(self, path: str) -> bool:
        """
        Whether *path* is a resource key that no task needs any more: whether it is damaged shows nowhere.
        """
        return False

    def produce(self, path: str) -> None:
        """
        Schedule the chain of *path*, until it is there.
        """
        while path not in self.checker.locks:
            made = {"id": path.removeprefix("jobs/"), "steps": self.plan.steps}
            self.on_some(lambda process, made=made: process.locker.schedule(model_of(process)(**made), "/run"))
            self.hub.sleep(5 if self.world.refusals.now is None else 60)

    def _write_notes(self, path: str) -> None:
        while self.world.trouble:
            self.hub.sleep(self.draw.expovariate(1 / 60))
            if path in self.checker.locks:
                note = {"name": ROOT + path, "fields": {"note": {"string_value": f"{self.hub.now}"}}}
                self.world.write(update=note, update_mask={"field_paths": ["note"]}, current_document={"exists": True})
                self.world.counts["user_writes"] += 1

    def _cancel(self, path: str) -> None:
        for _ in range(5):
            self.checker.asked(path)
            done = self.on_some(lambda process: process.locker.cancel_path(path))
            if isinstance(done, bool):
                self.world.counts["cancelled" if done else "cancelled in vain"] += 1
                return
            self.hub.sleep(30)

    def _sweeper(self) -> None:
        while True:
            self.on_some(self._sweep)
            # When all has ended, sweeping is there to find that nothing is left; that need not be found every minute.
            self.hub.sleep(300 if self.ended else 60)

    def _sweep(self, process: Process) -> None:
        self.world.counts["sweeps"] += 1
        self.world.counts["sweeps beside another"] += any(not other.dead for other in self._sweeping)
        self._sweeping.append(process)
        begun = self.watch.standing.sweep_begins(process)
        try:
            sweep(process.locker._runtime)
            self.watch.standing.swept(begun)
        finally:
            self.watch.standing.sweep_is_over(begun)
            self._sweeping.remove(process)

    def _resolve(self) -> None:
        for path, lock in list(self.checker.locks.items()):
            if lock.status is Status.QUARANTINED:
                if self.plan.has("resolves") and self.draw.random() < 0.85:
                    people.leave(self, path)
                    continue
                how = people.decided(self, self.draw.choice(("run", "complete", "fail")))
                self.checker.by_hand.add(path)
                self.world.tell("a person", f"resolves {path}: {how}")
                self.world.counts[f"resolved: {how}"] += 1
                self.checker.asked(path)
                self.on_some(people.verb(self, path, how))

    # --- the queue ---

    def observe(self, process: Process | None, name: str, request: Any) -> None:
        """
        After every call that took effect.
        """
        self.foreigners.observe(process, name, request)
        if not self.neighbours.observe(process, name, request):
            self.checker.observe(process, name, request)
            self.watch.observe(process, name, request)
        if name == "CreateTask":
            self._pump_soon()

    def _pump_soon(self) -> None:
        due = self.world.tasks.next_due()
        if due is None:
            return
        due = max(due, self.hub.now)
        if self._pump_at is None or due < self._pump_at:
            self._pump_at = due
            self.hub.spawn(self.world.cloud, self._pump, after=(due - self.hub.now) / SECOND)

    def _pump(self) -> None:
        self._pump_at = None
        for deliver in self.world.tasks.take_due():
            self.hub.spawn(self.world.cloud, self._deliver, deliver)
        self._pump_soon()

    def _deliver(self, deliver: Callable[[], Any]) -> None:
        deliver()
        self._pump_soon()

    # --- troubles ---

    def _documents(self) -> list[str]:
        """
        Full names of the documents that may become too large.
        """
        return [ROOT + path for path in self.checker.locks]

    def _chaos(self) -> None:
        world, draw = self.world, self.draw
        while world.trouble:
            self.hub.sleep(draw.expovariate(1 / 45))
            if world.processes and world.hit("crashes", 0.1):
                world.kill(draw.choice(world.processes))
            if world.processes and world.hit("freezes", 0.1):
                world.freeze(draw.choice(world.processes), draw.choice((30, 90, 400, 1000)))
            if world.processes and world.hit("outages", 0.15):
                process = draw.choice(world.processes)
                process.cut_off = self.hub.now + draw.choice((10, 45, 120)) * SECOND
                process.hurt_until = max(process.hurt_until, process.cut_off)
                world.tell(process.name, "has no network")
            if world.processes and world.hit("skews", 0.25):
                process = draw.choice(world.processes)
                days = draw.choice((-1, 0, 1))
                process.skew = timedelta(days=days)
                # Its patience with a call of unknown fate may be over at once: what it claims just now is left to others.
                process.hurt_until = max(process.hurt_until, self.hub.now)
                world.counts[f"wall clock off by {days:+d} days"] += 1
                world.tell(process.name, f"has its wall clock off by {days:+d} days")
            stand_still(world, self._resume)
            if world.hit("paused_queue", 0.1):
                world.tasks.service.call("PauseQueue", PauseQueueRequest(name=QUEUE))
                self.hub.sleep(draw.choice((60, 600)))
                self._resume()
            world.mail_down = world.hit("mail_down", 0.5)

    def _resume(self) -> None:
        self.world.tasks.service.call("ResumeQueue", ResumeQueueRequest(name=QUEUE))
        self._pump_soon()

    def _peace(self) -> None:
        self._no_more_troubles()
        end = self.hub.now + BOUND * SECOND
        self._until_ended(self.hub.now + DEPLOYED * SECOND)
        deployments.complete(self.world, self.checker.locks.values())
        self._until_ended(end)
        self.ended = True
        self.hub.sleep(1200)
        # A call that landed late may have begun something anew.
        self._until_ended(end)
        self.over = True

    def _until_ended(self, end: int) -> None:
        while self.hub.now < end and not (self.checker.ended(self.chains) and self.neighbours.ended()):
            self.hub.sleep(60)
            self._resolve()

    def _no_more_troubles(self) -> None:
        world = self.world
        world.trouble = False
        world.mail_down = False
        world.faults.clear()
        for process in world.processes:
            world.thaw(process)
            process.cut_off = process.starved_until = 0
            process.corrects_its_clocks(self.hub.now)
        world.tell("the world", "has no more troubles")
        world.refusals.until_told(self.checker.looked_at_in_time, self._told)
        self._resume()

    def _late_duplicates(self) -> None:
        ran = {path: lock.token for path, lock in self.checker.locks.items()}
        records = {record.task: record for record in self.world.tasks.dispatches}
        done = Promise(self.hub)

        def again() -> None:
            for record in records.values():
                self.world.tasks.redeliver(record)
            done.give(True)

        self.hub.spawn(self.world.cloud, again)
        self.hub.run(lambda: done.given or bool(self.checker.violations))
        self.world.counts["late duplicates"] += len(records)
        for path, lock in self.checker.locks.items():
            if lock.token != ran[path]:
                self.checker.broken(path, "a late duplicate was granted a lease")


def model_of(process: Process) -> type[Job]:
    """
    The model of the deployment of *process*.
    """
    return LaterJob if process.deployment == deployments.LATER else Job


def attempt_moves(attempt: Attempt) -> int:
    """
    How many transactions the record of the chain knew of when the lease was granted.
    """
    fields = attempt._running.snapshot.fields
    return int(fields["moved"].integer_value) if "moved" in fields else 0


def play(plan: Plan, history: type[History] = History) -> Told:
    """
    Play *plan*; the same plan plays the same way.
    """
    LOGGER.addHandler(HEARD)
    before = LOGGER.propagate, LOGGER.level
    LOGGER.propagate = False
    LOGGER.setLevel(logging.INFO)
    try:
        with _swept_once():
            return history(plan).play()
    finally:
        LOGGER.propagate, LOGGER.level = before
        LOGGER.removeHandler(HEARD)


@contextmanager
def _swept_once() -> Iterator[None]:
    """
    Collect garbage once, at the end, and nothing that is older: a world is small, and all of it is garbage then.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.collect(0)
        if enabled:
            gc.enable()
