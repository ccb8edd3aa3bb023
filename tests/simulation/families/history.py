"""
One history of durable handlers with families: handlers that make children, call functions for lists and pages, commit named
transactions and poll, pushed or pulled.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar

from google.cloud import firestore

from gcp_oncetask import Attempt, ChildFailedError, EventTimeoutError, RunFailedError
from gcp_oncetask.execution import mapping as mapping_module
from gcp_oncetask.execution.mapping import ItemFailure
from gcp_oncetask.rules.retry_policy import FixedDelay
from gcp_oncetask.store import wire as wire_module
from gcp_oncetask.tasks import OnceTask
from gcp_oncetask.worker import Worker
from gcp_oncetask.worker import fetcher as fetcher_module
from gcp_oncetask.worker import listening as listening_module
from gcp_oncetask.worker import worker as worker_module
from tests.simulation.chains.checker import Running
from tests.simulation.chains.plan import Plan
from tests.simulation.durables.history import DurablesHistory, NewestSaga, Saga, task_of
from tests.simulation.durables.programs import Word, program
from tests.simulation.families.checker import FamiliesChecker
from tests.simulation.families.plan import FamiliesPlan
from tests.simulation.families.threads import Pool, threading_of
from tests.simulation.hub import Signal
from tests.simulation.outlets import cooperative
from tests.simulation.tasks.history import Keyed, Pile, Tick, Work
from tests.simulation.world import Process, World

SORTS = (
    "run",
    "once",
    "sleep",
    "timed",
    "map",
    "map",
    "tasks",
    "tasks",
    "task",
    "pages",
    "pages",
    "named",
    "named",
    "poll",
)
"""Sorts of the words of a parent."""
CHILD_SORTS = ("run", "retried", "once", "nap", "sleep", "map", "named", "task")
"""Sorts of the words of a child."""
ROUNDS = 3
"""Rounds of a poll."""


class Parcel(Work, kind="parcel"):
    """
    A child. ``depth`` is 1 for the child of a task that a person has made.
    """

    depth: int = 1


class PulledSaga(Saga, kind="pulledsaga", pull=True):
    """
    Run once, by a durable handler that a worker calls.
    """


class PulledNewestSaga(NewestSaga, kind="pullednewestsaga", on_conflict="replace", pull=True):
    """
    The newest payload runs, by a durable handler that a worker calls.
    """


class PulledParcel(Parcel, kind="pulledparcel", pull=True):
    """
    A child that workers pull.
    """


class FamiliesHistory(DurablesHistory):
    """
    Plays one plan of durable handlers with families.
    """

    settings: ClassVar[dict[str, Any]] = {"pull_shards": 3}
    checker: FamiliesChecker

    def __init__(self, plan: Plan) -> None:
        assert isinstance(plan, FamiliesPlan)
        self.pull = plan.pull
        # Before the items are made, which are of these kinds.
        self.models = (PulledSaga, PulledNewestSaga, Pile, Tick) if plan.pull else (Saga, NewestSaga, Pile, Tick)  # type: ignore[misc]
        self.others = (PulledParcel if plan.pull else Parcel,)
        super().__init__(plan)
        self.checker = FamiliesChecker(plan)
        self.checker.world = self.world

    def replaced(self) -> list[tuple[Any, str, Any]]:
        """
        What of the library runs otherwise here.
        """
        found = [
            *super().replaced(),
            (mapping_module, "threading", threading_of(self.hub)),
            (mapping_module, "ThreadPoolExecutor", partial(Pool, self.hub)),
        ]
        if self.pull:
            modules = (worker_module, fetcher_module, listening_module, wire_module)
            found += [(module, "threading", cooperative(self.hub)) for module in modules]
            found.append((worker_module, "Wakeup", lambda: Signal(self.hub)))
        return found

    def words_of(self, data: Keyed, version: int) -> tuple[Word, ...]:
        """
        What the handler of a task with *data* says, in the deployment *version*.
        """
        if not isinstance(data, Parcel):
            return program(self.plan.seed, data.name, self.durables_plan.words, version, SORTS)
        sorts = CHILD_SORTS if data.depth < 2 else CHILD_SORTS[:-1]
        return program(self.plan.seed, data.name, 2, version, sorts)

    # --- workers ---

    def begin(self, world: World, process: Process) -> None:
        """
        A process of some deployment, which has a worker if tasks are pulled.
        """
        super().begin(world, process)
        if self.pull:
            self.hub.spawn(process, self._works, process)

    def _works(self, process: Process) -> None:
        worker = Worker(
            self.managers[process], concurrency=3, poll_interval=15.0, session_ttl=60.0, listen=self.plan.seed % 8 == 3
        )
        worker.run()

    def _set_up(self) -> None:
        super()._set_up()
        self.world.counts["histories of workers"] += self.pull
        if self.pull:
            self.hub.spawn(self.world.cloud, self._keep_alive)

    def _keep_alive(self) -> None:
        while not self.over:
            while len(self.world.processes) < self.plan.instances:
                self.world.start_process()
            self.hub.sleep(20)

    # --- words ---

    def _act(self, running: Running, task: OnceTask[Any], attempt: Attempt, *, cleans: bool) -> Any:
        done = super()._act(running, task, attempt, cleans=cleans)
        return {**done, "name": task.data.name} if isinstance(done, dict) and isinstance(task.data, Parcel) else done

    def _map(self, running: Running, attempt: Attempt, word: Word) -> None:
        """
        A run for each item, some of which may fail.
        """
        number = int(word.name[-1])
        fails = 0.45 if number % 2 else 0.1

        def handle(item: int) -> Any:
            return {"item": item, **self._called(running, Word("run", f"{word.name}[{item}]", 2.0), fails)}

        options: dict[str, Any] = {}
        if number % 2:
            options["retry"] = FixedDelay(delay=timedelta(seconds=word.delay), max_attempts=2)
        tolerate = number % 2
        try:
            found = attempt.options(**options).map(
                word.name, handle, range(3 + number % 3), concurrency=2, tolerate=tolerate
            )
        except RunFailedError:
            self.world.counts["maps failed for good"] += 1
            self._answered(running, word, "failed")
            return
        self.world.counts["maps answered"] += 1
        answer = [None if isinstance(each, ItemFailure) else each for each in found]
        self.checker.mapped(running, word.name, 3 + number % 3, answer, tolerate)
        self._answered(running, word, answer)

    def _tasks(self, running: Running, attempt: Attempt, word: Word) -> None:
        """
        Children, some of which may fail.
        """
        number = int(word.name[-1])
        made = [self._child(running, attempt, word, index) for index in range(1 + number % 3)]
        options: tuple[dict[str, Any], ...] = ({}, {"return_exceptions": True}, {"tolerate": 1})
        try:
            found = attempt.run_tasks(word.name, made, **options[number % 3])
        except ChildFailedError as error:
            self.world.counts["families failed"] += 1
            self._answered(running, word, ("failed", error.child, error.status))
            return
        self.checker.family(running, word.name, made, found)
        self._answered(running, word, list(map(_told, found)))

    def _task(self, running: Running, attempt: Attempt, word: Word) -> None:
        """
        One child.
        """
        made = self._child(running, attempt, word, 0)
        found = attempt.run_task(word.name, made, return_exceptions=True)
        self.checker.family(running, word.name, [made], [found])
        self._answered(running, word, _told(found))

    def _child(self, running: Running, attempt: Attempt, word: Word, index: int) -> Keyed:
        path = task_of(attempt)
        depth = self.checker.depths.get(path, 0) + 1
        name = f"{path.rpartition(':')[2]}>{word.name}.{index}.{attempt.key[:12]}"
        # A parent gives its resource key back while it waits, so that its children may have the same.
        key = self.checker.locks[path].key if path in self.checker.locks and index == 1 else None
        return self.others[0](name=name, key=key, depth=depth)

    def _pages(self, running: Running, attempt: Attempt, word: Word) -> None:
        """
        A run for each item of some pages.
        """
        last = 1 + int(word.name[-1]) % 3

        def fetch(cursor: int | None) -> tuple[Iterator[str], int | None]:
            at = cursor or 0
            self.checker.fetches(running, word.name, at)
            self._spends_time()
            items = [f"{word.name}:{at}.{number}" for number in range(2)]
            return iter(items), at + 1 if at < last else None

        for item in attempt.pages(word.name, fetch):
            self._run(running, attempt, Word("run", item, 2.0))
            self.checker.handled(running, word.name, item)
        self.checker.paged(running, word.name, last)
        self._answered(running, word, "over")

    def _named(self, running: Running, attempt: Attempt, word: Word) -> None:
        """
        A transaction that is kept.
        """
        where = f"sums/{attempt.key_of(word.name)}"
        client = running.process.locker.client

        def add(txn: Any) -> Any:
            txn.set(
                client.document(where),
                {"n": firestore.Increment(1), "path": task_of(attempt), "word": word.name},
                merge=True,
            )
            return self._number()

        answer = attempt.run_transaction(add, name=word.name)
        self.checker.added(running, word.name, where)
        self._answered(running, word, answer)

    def _poll(self, running: Running, attempt: Attempt, word: Word) -> None:
        """
        Rounds, perhaps with a time-out.
        """
        timeout = 60.0 if int(word.name[-1]) % 3 == 2 else None

        def look(before: int | None) -> int:
            self.checker.polls(running, word.name, before)
            self._spends_time()
            return (before or 0) + 1

        try:
            answer: Any = attempt.poll(
                word.name, look, until=lambda rounds: rounds >= ROUNDS, every=word.delay, timeout=timeout
            )
        except EventTimeoutError:
            answer = "timed out"
        self._answered(running, word, answer)


def _told(found: Any) -> Any:
    return ("failed", found.child, found.status) if isinstance(found, ChildFailedError) else found
