"""
One history of workers that pull once-tasks: the very loop of ``Worker``, with tasks of the simulation in place of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from gcp_oncetask.rules.document_paths import TaskName
from gcp_oncetask.store import sessions as sessions_module
from gcp_oncetask.store import wire as wire_module
from gcp_oncetask.store.queries import due_for_workers
from gcp_oncetask.tasks.data import kind_of
from gcp_oncetask.worker import Worker
from gcp_oncetask.worker import fetcher as looking_module
from gcp_oncetask.worker import listening as listening_module
from gcp_oncetask.worker import worker as worker_module
from tests.simulation.chains.history import BOUND
from tests.simulation.chains.plan import Plan
from tests.simulation.checks.waking import check_waking
from tests.simulation.hub import SECOND, Owner, Promise, Signal
from tests.simulation.outlets import cooperative
from tests.simulation.tasks.history import Keyed, Newest, Pile, TasksHistory, Tick, Work
from tests.simulation.troubles import session_people
from tests.simulation.workers.checker import BEAT, SLACK, TTL, WorkersChecker
from tests.simulation.workers.plan import WorkersPlan
from tests.simulation.world import Process, World

SHARDS = 5
DRAINED = 12
"""Tasks that are run at the end by one that drains."""


class PulledWork(Work, kind="pulledwork", pull=True):
    """
    Run once.
    """


class PulledNewest(Newest, kind="pullednewest", on_conflict="replace", pull=True):
    """
    The newest payload runs.
    """


class PulledPile(Pile, kind="pulledpile", pull=True):
    """
    Run in batches of its resource key.
    """


class PulledTick(Tick, kind="pulledtick", pull=True, on_conflict="replace"):
    """
    Run every two minutes.
    """


class WorkersHistory(TasksHistory):
    """
    Plays one plan of workers.
    """

    models: ClassVar[tuple[type[Keyed], ...]] = (PulledWork, PulledNewest, PulledPile, PulledTick)
    settings: ClassVar[dict[str, Any]] = {"pull_shards": SHARDS}
    checker: WorkersChecker

    def __init__(self, plan: Plan) -> None:
        assert isinstance(plan, WorkersPlan)
        super().__init__(plan)
        self.workers_plan = plan
        self.checker = WorkersChecker(plan)
        self.checker.world = self.world
        self.world.fetches = self._fetches
        self.closing = False
        self.joined = 0

    def replaced(self) -> list[tuple[Any, str, Any]]:
        """
        What of the library runs otherwise here.
        """
        return [
            *super().replaced(),
            (worker_module, "threading", cooperative(self.hub)),
            (worker_module, "Wakeup", lambda: Signal(self.hub)),
            (looking_module, "threading", cooperative(self.hub)),
            (listening_module, "threading", cooperative(self.hub)),
            (wire_module, "threading", cooperative(self.hub)),
            (looking_module, "due_for_workers", self._looked),
            (sessions_module, "beat", self._beaten(sessions_module.beat)),
        ]

    def _here(self) -> Owner:
        assert self.hub.task is not None
        return self.hub.task.owner

    def _looked(self, store: Any, env: str, kind: str, shards: Any, limit: int, *more: Any) -> Any:
        process = self._here()
        assert isinstance(process, Process)
        if not self.closing:
            self.checker.looks(process, kind, shards)
        return due_for_workers(store, env, kind, shards, limit, *more)

    def _beaten(self, beat: Callable[..., Any]) -> Callable[..., Any]:
        def beats(*args: Any, **kwargs: Any) -> Any:
            process = self._here()
            assert isinstance(process, Process)
            self.checker.beating(process)
            return beat(*args, **kwargs)

        return beats

    # --- workers ---

    def begin(self, world: World, process: Process) -> None:
        """
        A process that serves people, and has a worker.
        """
        super().begin(world, process)
        if not self.closing:
            self.joined = self.hub.now
            self.hub.spawn(process, self._works, process)

    def _works(self, process: Process) -> None:
        worker = Worker(
            self.managers[process],
            concurrency=self.workers_plan.concurrency,
            poll_interval=self.workers_plan.poll,
            session_ttl=TTL,
            listen=self.workers_plan.listen,
        )
        self.checker.workers[process] = worker
        try:
            worker.run()
        except Exception as error:
            self.checker.broken(process.name, f"its worker stops: {error!r}")
        process.dead = True
        self.world.processes.remove(process)
        self.world.tell(process.name, "has ended")
        self.world.counts["workers that ended politely"] += 1

    def _fetches(self) -> bool:
        """
        Whether a worker takes tasks. None does while all that are left were told to stop, and wait for runs that hang.
        """
        workers = [self.checker.workers.get(process) for process in self.world.processes]
        return any(worker is not None and not worker._stopping.is_set() for worker in workers)

    def _stop(self, process: Process, *, within: float | None) -> None:
        """
        SIGTERM, and a second one after a while.
        """
        worker = self.checker.workers.get(process)
        if worker is None or worker._membership is None:
            return
        self.world.tell(process.name, "is told to stop")
        if within is not None:
            self.checker.attempts.stopping.add(process.name)
        self.hub.spawn(process, worker.stop, within)

    def _set_up(self) -> None:
        super()._set_up()
        for _ in range(self.plan.instances):
            self.hub.spawn(self.world.cloud, self.world.start_process, after=self.draw.random() * 30)
        self.hub.spawn(self.world.cloud, self._supervise)
        session_people.set_up(self)

    def _supervise(self) -> None:
        """
        Processes come and go.
        """
        world = self.world
        while world.trouble:
            self.hub.sleep(20)
            self.checker.look_at_shards()
            wanted = self.plan.instances + (2 if world.hit("joins", 0.05) else 0)
            if len(world.processes) < wanted:
                world.start_process()
            if world.processes and world.hit("stops", 0.08):
                self._stop(self.draw.choice(world.processes), within=self.draw.choice((None, 5.0, 30.0)))

    # --- the end ---

    def _peace(self) -> None:
        self._no_more_troubles()
        if not self.world.processes:
            self.world.start_process()
        # A heartbeat that lands late makes a session that is over count once more.
        self.hub.sleep(max(0, self.world.quiet_from - self.hub.now) / SECOND)
        # The session of a dead worker whose time to live a person has changed counts for twice the time at most.
        longest = 2 * TTL if self.plan.has("sessions") else TTL
        self._at_rest(longest + 2 * BEAT + SLACK, "at rest")
        for what in self.workers_plan.drill:
            self._drill(what)
        if not self._fetches():
            # The drills have taken the last worker that takes tasks. Those that are left wait for runs that hang.
            self.world.start_process()
        self._until_ended(self.hub.now + BOUND * SECOND)
        self.hub.sleep(2 * TTL)
        if self.world.processes and self.checker.ended(self.chains):
            if all(self.checker.workers[process]._stopping.is_set() for process in self.world.processes):
                # Those that are left wait for a run that hangs.
                self.world.start_process()
                self._at_rest(BEAT + SLACK, "a heartbeat after all others have stopped")
            check_waking(self)
        self._drained()
        self.over = True

    def created_now(self, name: str) -> str:
        """
        Create a task without a key, in a process that is alive; returns its path.
        """
        process, task = self.draw.choice(self.world.processes), PulledWork(name=name)
        self.hub.spawn(process, self.managers[process].create_task, task)
        return self._path(task)

    def _at_rest(self, seconds: float, when: str) -> None:
        self.hub.sleep(seconds)
        while (left := self.joined + (BEAT + SLACK) * SECOND - self.hub.now) > 0:
            # Whoever wants something done may have started another process meanwhile.
            self.hub.sleep(left / SECOND)
        self.checker.shares([kind_of(model).name for model in self.models], SHARDS, when)

    def _drill(self, what: str) -> None:
        """
        Somebody comes, or goes, while all is quiet: its shards move at once, or when its session has died.
        """
        world = self.world
        world.counts[f"drill: {what}"] += 1
        if what == "join":
            world.start_process()
            self._at_rest(BEAT + SLACK, "a heartbeat after one has joined")
            return
        if len(world.processes) < 2:
            world.start_process()
            self.hub.sleep(BEAT + SLACK)
        process = self.draw.choice(world.processes)
        if what == "kill":
            world.kill(process)
            self._at_rest(TTL + BEAT + SLACK, "a time to live and a heartbeat after one was killed")
            return
        self._stop(process, within=1.0)
        # What it runs may go on; its shards don't wait for that.
        self._at_rest(BEAT + SLACK, "a heartbeat after one was stopped")

    def _drained(self) -> None:
        """
        Workers have gone; a job that drains leaves nothing that is due. A person resolves quarantined tasks.
        """
        world = self.world
        self.closing = True
        for process in list(world.processes):
            world.kill(process)
        process = world.start_process()
        tasks = [PulledWork(name=f"drained{number}") for number in range(DRAINED)]
        if not self._drain(process, tasks):
            return
        left = [task.name for task in tasks if not self.checker.locks[self._path(task)].finished]
        if left:
            self.checker.broken("drain", f"it has ended, and has left {', '.join(left)}")
        end = self.hub.now + BOUND * SECOND
        while self.hub.now < end and self._unfinished():
            self.hub.sleep(60)
            self._resolve()
            if not self._drain(process, ()):
                return

    def _drain(self, process: Process, tasks: Sequence[PulledWork]) -> bool:
        """
        Create *tasks* and drain; returns whether that ends.
        """
        done, manager = Promise(self.hub), self.managers[process]

        def job() -> None:
            for task in tasks:
                manager.create_task(task)
            done.give(Worker(manager, listen=False).drain())

        self.hub.spawn(process, job)
        if not done.wait(600.0):
            self.checker.broken("drain", "it does not end")
            return False
        self.world.counts["tasks drained"] += done.value
        return True

    def _unfinished(self) -> bool:
        """
        Whether a task is quarantined, or is leased by a worker that was killed, whose lease must expire first, or owes an
        alert, which may wait for a digest.
        """
        return any(not lock.finished or lock.owed for lock in self.checker.locks.values())

    @staticmethod
    def _path(task: Keyed) -> str:
        return TaskName("DEFAULT", kind_of(type(task)).name, task.name).path
