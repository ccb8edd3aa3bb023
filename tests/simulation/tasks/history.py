"""
One history of once-tasks: resource keys, cancellation, newest payloads, batches and recurrence, on the same world.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

from flask import Flask
from google.cloud import firestore

from gcp_oncetask import Attempt, Continue, Fail, Retry, Snooze
from gcp_oncetask.flask import blueprint
from gcp_oncetask.rules import retention
from gcp_oncetask.rules.document_paths import TaskName, is_key, key_path
from gcp_oncetask.rules.retry_policy import FixedDelay
from gcp_oncetask.tasks import OnceTask, PerTask, Recurrence, TaskData, TaskManager
from gcp_oncetask.tasks.bulk import CreatedMany
from gcp_oncetask.tasks.data import kind_of
from gcp_oncetask.tasks.draft import Created
from tests.simulation.chains.checker import Running
from tests.simulation.chains.history import BOUND, FLOOD, History
from tests.simulation.chains.plan import Plan
from tests.simulation.clients import ROOT, path_of
from tests.simulation.tasks.checker import TasksChecker
from tests.simulation.tasks.plan import TasksPlan
from tests.simulation.troubles import damage, deployments, misroutes, wrong_ttl
from tests.simulation.troubles.people import verb
from tests.simulation.world import Process, World

RETENTION = timedelta(seconds=120)
"""Of the kinds of a history with retirements; less than troubles last."""
AHEAD = timedelta(seconds=100)
"""How far ahead a document expires there at the least; more than a call is late there."""


class Keyed(TaskData):
    """
    A payload with an id, a resource key, and what tells it from others of the same id.
    """

    name: str
    key: str | None = None
    revision: int = 0
    step: int = 1

    def task_id(self) -> str:
        """
        Its name.
        """
        return self.name

    def resource_key(self) -> str | None:
        """
        As given.
        """
        return self.key


class Work(Keyed, kind="work"):
    """
    Run once.
    """


class Newest(Keyed, kind="newest", on_conflict="replace"):
    """
    The newest payload runs.
    """

    at: datetime | None = None

    def scheduled_at(self) -> datetime | None:
        """
        As given.
        """
        return self.at


class Pile(Keyed, kind="pile"):
    """
    Run in batches of its resource key.
    """


class Tick(Keyed, kind="tick", on_conflict="replace"):
    """
    Run every few minutes.
    """

    start: str
    runs: int
    misfire: Any
    overlap: Any
    every: int = 2

    def recurrence(self) -> Recurrence:
        """
        The rule, which ends.
        """
        rule = f"FREQ=MINUTELY;INTERVAL={self.every};COUNT={self.runs}"
        return Recurrence(rule, self.start, misfire=self.misfire, misfire_limit=5, overlap=self.overlap)


@dataclass(frozen=True)
class Item:
    """
    A task of the history.

    Attributes:
        data: Its first payload.
        after: When it is created, in seconds.
    """

    data: Keyed
    after: float

    @property
    def path(self) -> str:
        """
        Its document.
        """
        kind = self.data.__kind__
        assert kind is not None
        return TaskName("DEFAULT", kind.name, self.data.name).path


class TasksHistory(History):
    """
    Plays one plan of once-tasks.

    Attributes:
        models: Kinds of its tasks: ordinary ones, newest-wins, batches, generators.
        others: Kinds of tasks that handlers make.
    """

    models: ClassVar[tuple[type[Keyed], ...]] = (Work, Newest, Pile, Tick)
    others: tuple[type[Keyed], ...] = ()
    checker: TasksChecker

    def __init__(self, plan: Plan) -> None:
        assert isinstance(plan, TasksPlan)
        super().__init__(plan)
        self.tasks_plan = plan
        self.checker = TasksChecker(plan)
        self.checker.world = self.world
        self.managers: dict[Process, TaskManager] = {}
        self.items = self._items()
        self.chains = [item.path for item in self.items]
        self.revisions = 0

    def replaced(self) -> list[tuple[Any, str, Any]]:
        """
        What of the library runs otherwise here.
        """
        found = super().replaced()
        if self.plan.has("retirements"):
            found.append((retention, "AHEAD", AHEAD))
            found += [(model, "__kind__", replace(kind_of(model), retention=RETENTION)) for model in self.models]
        return found

    def _items(self) -> list[Item]:
        plan, draw = self.tasks_plan, random.Random(f"items {self.plan.seed}")
        found = []
        start = self.hub.time() + timedelta(seconds=90)
        counts = (plan.works, plan.newest, plan.piles, plan.ticks)
        for model, count in zip(self.models, counts, strict=True):
            for number in range(count):
                named: dict[str, Any] = {"name": f"{model.__name__.lower()}{number}"}
                if issubclass(model, Pile) or draw.random() < (0.5 if issubclass(model, Tick) else 0.85):
                    named["key"] = f"k{draw.randrange(plan.keys)}"
                if issubclass(model, Tick):
                    named |= {"start": f"{start:%Y%m%dT%H%M%SZ}", "runs": draw.randint(2, 6)}
                    named |= {"misfire": plan.misfire, "overlap": plan.overlap}
                early = draw.random() * (60 if draw.random() < 0.6 or issubclass(model, Tick) else plan.minutes * 25)
                found.append(Item(model(**named), early))
        return found

    def _set_up(self) -> None:
        self.chains, chains = [], self.chains
        super()._set_up()
        self.chains = chains
        hub, plan, draw, cloud = self.hub, self.plan, self.draw, self.world.cloud
        if plan.has("retirements"):
            self.world.latest = 90.0
            hub.spawn(cloud, self._janitor)
        for item in self.items:
            hub.spawn(cloud, self._create, item, after=draw.random() if plan.calls else item.after)
            within = item.after + draw.random() * plan.minutes * 50
            if isinstance(item.data, Newest):
                hub.spawn(cloud, self._renewed, item)
            if plan.has("cancels") and draw.random() < 0.5:
                hub.spawn(cloud, self._cancelled, item, after=draw.choice((within, item.after + draw.random() * 40)))
            if plan.has("deletes") and draw.random() < 0.3:
                hub.spawn(cloud, self._deleted, item, after=within)
            if plan.has("resets") and draw.random() < 0.5 and not isinstance(item.data, Tick):
                hub.spawn(cloud, self._reset, item, after=within)
            if isinstance(item.data, Tick) and plan.has("pauses"):
                hub.spawn(cloud, self._paused, item, after=within)
            if isinstance(item.data, Tick) and plan.has("recreations"):
                hub.spawn(cloud, self._recreated, item, after=within)
            if isinstance(item.data, Tick) and plan.has("schedules"):
                hub.spawn(cloud, self._redeclared, item)
        self._set_up_frees()
        damage.set_up_keys(self)
        wrong_ttl.set_up(self)

    def _set_up_frees(self) -> None:
        if self.plan.has("frees"):
            for number in range(self.tasks_plan.keys):
                self.hub.spawn(self.world.cloud, self._freed, key_path("DEFAULT", f"k{number}"))

    def observe(self, process: Process | None, name: str, request: Any) -> None:
        """
        After every call that took effect.
        """
        super().observe(process, name, request)
        if process is None or process.frozen or process.dead or name != "Commit" or self.world.landing:
            return
        locks = [self.checker.locks.get(path_of(write)) for write in request.writes]
        gathers = any(lock is not None and lock.rides and lock.instance == process.name for lock in locks)
        if gathers and self.world.hit("freezes", 0.1):
            self.world.freeze(process, self.draw.choice((30, 90, 400, 1000)), "while it gathers")

    # --- the app ---

    def begin(self, world: World, process: Process) -> None:
        """
        A process that has a manager.
        """
        super().begin(world, process)
        self.managers[process] = self._manager(process)

    def app(self, world: World, process: Process) -> Flask:
        """
        The Flask app of one process.
        """
        app = Flask("simulated", static_folder=None)
        app.register_blueprint(blueprint(self.managers[process]))
        misroutes.add_route(self, process, app)

        @app.errorhandler(Exception)
        def escaped(error: Exception) -> tuple[str, int]:
            self.checker.broken("the app", f"an error escaped: {type(error).__name__}: {error}")
            return "escaped", 500

        return app

    def _manager(self, process: Process) -> TaskManager:
        plan, manager = self.tasks_plan, TaskManager(process.locker)
        most, cancels = (deployments.most_of(process, each) for each in (plan.max_attempts, plan.cancel_attempts))
        options: dict[str, Any] = {
            "retry": FixedDelay(delay=timedelta(seconds=5), max_attempts=most),
            "lease_duration": deployments.lease_of(process),
            "on_unknown": "quarantine" if plan.quarantine else "takeover",
            "cancel_retry": FixedDelay(delay=timedelta(seconds=5), max_attempts=cancels),
        }
        if plan.cleanup:
            options["on_cancel"] = lambda task, attempt: self._one(process, task, attempt, cleans=True)
        work, newest, pile, tick = self.models
        for model in (work, newest, tick, *self.others):
            manager.register_task_handler(
                model, lambda task, attempt: self._one(process, task, attempt, cleans=False), **options
            )
        manager.register_resource_key_handler(
            pile, lambda tasks, attempts: self._batch(process, tasks, attempts), **options
        )
        return manager

    def _one(self, process: Process, task: OnceTask[Any], attempt: Attempt, *, cleans: bool) -> Any:
        running = Running(process, attempt)
        self.watch.begins(attempt, cleans=cleans)
        self.checker.begins(running, task, cleans=cleans)
        try:
            return self._act(running, task, attempt, cleans=cleans)
        except Snooze:
            self.checker.attempts.snoozes(attempt)
            raise
        finally:
            self.checker.running.remove(running)
            self.checker.late_holders.leaves(running)

    def _batch(self, process: Process, tasks: list[OnceTask[Any]], attempts: list[Attempt]) -> Any:
        everybody = [Running(process, attempt) for attempt in attempts]
        for running, task in zip(everybody, tasks, strict=True):
            self.watch.begins(running.attempt)
            self.checker.begins(running, task, cleans=False)
        self.world.counts["riders"] += len(tasks) - 1
        self.world.counts["batches with riders"] += len(tasks) > 1
        try:
            outcomes: dict[str, Any] = {}
            for task, running in zip(tasks, everybody, strict=True):
                outcomes[task.id] = self._attempted(running, task, running.attempt)
            for task, attempt in zip(tasks, attempts, strict=True):
                if isinstance(outcomes[task.id], Snooze):
                    self.checker.attempts.snoozes(attempt)
            return PerTask(outcomes)
        finally:
            for running in everybody:
                self.checker.running.remove(running)
                self.checker.late_holders.leaves(running)

    def _attempted(self, running: Running, task: OnceTask[Any], attempt: Attempt) -> Any:
        try:
            return self._act(running, task, attempt, cleans=False)
        except (Retry, Snooze, Fail) as verdict:
            return verdict

    def _act(self, running: Running, task: OnceTask[Any], attempt: Attempt, *, cleans: bool) -> Any:
        world, draw, path, process = self.world, self.draw, task.path, running.process
        what = "cleans up" if cleans else "runs"
        world.tell(
            process.name,
            f"{what} {path} sequence {attempt.sequence}, attempt {attempt.number}, token {attempt.token}, "
            f"revision {task.data.revision}",
        )
        world.counts["cleanup runs"] += cleans
        for _ in range(draw.randint(0, 2)):
            self.hub.sleep(draw.expovariate(0.3))
            self.checker.effect(attempt)
        if world.hit("long_runs", 0.15 if attempt.number == 1 else 0.5):
            self.hub.sleep(draw.choice((15.0, 50.0, 100.0, 400.0, 900.0)))
            self.checker.effect(attempt)
        if world.hit("hangs", 0.04):
            self.hub.sleep(10 * BOUND)
        if draw.random() < 0.3:
            with self.checker.late_holders.call(running.lease, attempt.sequence, "transaction"):
                world.transactions.run(attempt, lambda txn: self._in_transaction(process, attempt, txn))
        if attempt.cancelled and not cleans and draw.random() < 0.5:
            world.counts["cancellations heeded"] += 1
            raise Retry("it is cancelled", after=1.0)
        if self.plan.floods and world.trouble and draw.random() < FLOOD:
            raise Fail("it can't be done")
        if world.hit("failing_handlers", 0.25):
            self._refuse()
        if (
            not cleans
            and isinstance(task.data, Work | Newest)
            and task.data.step < self.plan.steps
            and draw.random() < 0.7
        ):
            return Continue(data=task.data.model_copy(update={"step": task.data.step + 1}))
        return {"revision": task.data.revision, "token": attempt.token}

    def _refuse(self) -> None:
        match self.draw.randrange(8):
            case 0:
                raise Fail("it can't be done")
            case 1 | 2:
                raise Snooze(self.draw.choice((3.0, 30.0)))
            case 3 | 4:
                raise Retry("not now", after=10.0)
            case _:
                raise ValueError("a bug of the app's")

    def _in_transaction(self, process: Process, attempt: Attempt, txn: Any) -> None:
        client = process.locker.client
        where = client.document(f"effects/{attempt._running.context.document.rpartition('/')[2]}")
        holds = {"path": attempt._running.context.document, "token": attempt.token, "n": firestore.Increment(1)}
        txn.set(where, holds, merge=True)
        self.world.counts["transactions"] += 1

    # --- people ---

    def _by(self, run: Callable[[TaskManager], Any], tries: int = 4) -> Any:
        """
        Have the manager of some process do it, again if it fails; None if it never could.
        """
        return self._tried(lambda process: run(self.managers[process]), tries)

    def _tried(self, run: Callable[[Process], Any], tries: int = 4) -> Any:
        for _ in range(tries):
            done = self.on_some(run)
            if done is not None and not isinstance(done, Exception):
                return done
            self.hub.sleep(20)
        return None

    def recurs(self, path: str) -> bool:
        """
        Whether *path* is a generator, or made by one.
        """
        return bool({"recurrence", "occurrenceAt"} & set(self.checker.stored.get(path, ())))

    def is_unused(self, path: str) -> bool:
        """
        Whether *path* is a resource key that no task needs any more: whether it is damaged shows nowhere.
        """
        tasks = [lock for lock in self.checker.locks.values() if lock.key is not None and not lock.finished]
        return is_key(path) and all(key_path(lock.env, lock.key or "") != path for lock in tasks)

    def _create(self, item: Item) -> None:
        self.checker.wanted.add(item.path)
        piles = [other.data for other in self.items if isinstance(other.data, Pile)]
        while item.path not in self.checker.seen:
            if isinstance(item.data, Pile) and self.draw.random() < 0.5:
                self._created_many(self._by(lambda manager: manager.create_tasks(piles, parallel=1)))
            else:
                self._by(lambda manager: manager.create_task(item.data))
            self.hub.sleep(5)
        if self.draw.random() < 0.3 and isinstance(item.data, Work):
            other = item.data.model_copy(update={"revision": 99})
            self._by(lambda manager: manager.create_task(other))
            self.world.counts["created again"] += 1

    def _created_many(self, made: CreatedMany | None) -> None:
        """
        What a bulk creation says to be there was there.
        """
        self.world.counts["bulk creations"] += 1
        for found in made or ():
            path = (
                TaskName("DEFAULT", kind_of(self.models[2]).name, found.id).path if isinstance(found, Created) else None
            )
            if path is not None and path not in self.checker.seen:
                self.checker.broken(path, "it was said to be created, and is not there")

    def _renewed(self, item: Item) -> None:
        while self.world.trouble and self.plan.has("newer"):
            self.hub.sleep(self.draw.expovariate(1 / 90))
            if item.path in self.checker.locks and self.world.trouble:
                self.revisions += 1
                at = (
                    None
                    if self.draw.random() < 0.6
                    else self.hub.time() + timedelta(seconds=self.draw.choice((1, 5, 40)))
                )
                newer = item.data.model_copy(update={"revision": self.revisions, "at": at})
                self._by(lambda manager, newer=newer: manager.create_task(newer))

    def _cancelled(self, item: Item) -> None:
        model, name, key = type(item.data), item.data.name, item.data.key
        for other in self.items:
            self.checker.asked(other.path)
        if key is not None and self.draw.random() < 0.3:
            self._by(lambda manager: manager.cancel_tasks_by_resource_key(model, key))
        else:
            self._by(lambda manager: manager.cancel_task(model, name))

    def _deleted(self, item: Item) -> None:
        self._by(lambda manager: manager.delete_task(type(item.data), item.data.name))

    def _freed(self, path: str) -> None:
        """
        A person deletes a key's document, whoever has it.
        """
        while self.world.trouble:
            self.hub.sleep(self.draw.expovariate(1 / 150))
            if self.world.trouble and path in self.checker.keys:
                self.world.write(delete=ROOT + path)

    def _reset(self, item: Item) -> None:
        self.checker.asked(item.path)
        if self._tried(lambda process: self._reset_on(process, item)):
            self.world.counts["resets"] += 1

    def _reset_on(self, process: Process, item: Item) -> Any:
        self.checker.damages.asked(process, item.path)
        return self.managers[process].reset_task(type(item.data), item.data.name)

    def _paused(self, item: Item) -> None:
        self._by(lambda manager: manager.pause(type(item.data), item.data.name), tries=1)
        self.hub.sleep(self.draw.choice((30, 300)))
        # The pause may take effect late.
        while not self.over:
            lock = self.checker.locks.get(item.path)
            if lock is not None and lock.paused:
                self.world.counts["pauses"] += 1
                self._by(lambda manager: manager.resume(type(item.data), item.data.name))
            self.hub.sleep(60)

    def _redeclared(self, item: Item) -> None:
        while self.world.trouble:
            self.hub.sleep(self.draw.expovariate(1 / 150))
            if item.path in self.checker.locks and self.world.trouble:
                self.revisions += 1
                newer = item.data.model_copy(update={"revision": self.revisions, "every": self.draw.choice((1, 2, 3))})
                done = self._by(lambda manager, newer=newer: (self.hub.now, manager.create_task(newer)))
                if done is not None:
                    self.checker.is_declared(item.path, newer.revision, since=done[0])

    def _janitor(self) -> None:
        """
        Deletes what has expired, as a TTL policy would, as soon as it may.
        """
        while not self.over:
            self.hub.sleep(10)
            for path in list(self.checker.stored):
                # A reset may have taken time since the documents were listed.
                fields = self.checker.stored.get(path, {})
                expired = "expireAt" in fields and fields["expireAt"] <= self.hub.time()
                if expired and path not in self.checker.wrong_ttl.now:
                    if self.world.trouble and self.plan.has("late_ttl") and self.draw.random() < 0.95:
                        # Firestore deletes within a day, not at once.
                        self.world.counts["late_ttl"] += 1
                        if self.draw.random() < 0.1:
                            self.checker.asked(path)
                            self.on_some(verb(self, path, "reset"))
                        continue
                    self.checker.retires(path)
                    self.world.write(delete=ROOT + path)

    def _recreated(self, item: Item) -> None:
        self._deleted(item)
        self._by(lambda manager: manager.create_task(item.data))
        self.world.counts["recreations"] += 1
