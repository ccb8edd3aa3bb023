"""
One history of durable handlers: once-tasks whose handlers run, sleep and wait as random programs say, on the same world.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from gcp_oncetask import (
    NOT_DONE,
    AlreadyFinishedError,
    Attempt,
    CancelledByRequest,
    EventTimeoutError,
    OncetaskError,
    RunFailedError,
    Suspended,
    TaskNotFoundError,
)
from gcp_oncetask.rules.record import Status, WaitFor
from gcp_oncetask.rules.retry_policy import FixedDelay
from gcp_oncetask.tasks import OnceTask
from tests.simulation.chains.checker import Running
from tests.simulation.chains.history import BOUND
from tests.simulation.chains.plan import Plan
from tests.simulation.durables import answers
from tests.simulation.durables.checker import DurablesChecker
from tests.simulation.durables.plan import DurablesPlan
from tests.simulation.durables.programs import Word, program
from tests.simulation.tasks.history import Item, Keyed, Newest, Pile, TasksHistory, Tick, Work
from tests.simulation.world import Process, World

LARGE = "x" * 7000


class DeclinedError(Exception):
    """
    The remote service has done nothing.
    """


class Saga(Work, kind="saga"):
    """
    Run once, by a durable handler.
    """


class NewestSaga(Newest, kind="newestsaga", on_conflict="replace"):
    """
    The newest payload runs, by a durable handler.
    """


class DurablesHistory(TasksHistory):
    """
    Plays one plan of durable handlers.

    Attributes:
        versions: Of each process the version of its programs.
        effects: What the remote service has done, by key.
    """

    models: ClassVar[tuple[type[Keyed], ...]] = (Saga, NewestSaga, Pile, Tick)
    checker: DurablesChecker

    def __init__(self, plan: Plan) -> None:
        assert isinstance(plan, DurablesPlan)
        super().__init__(plan)
        self.durables_plan = plan
        self.checker = DurablesChecker(plan)
        self.checker.world = self.world
        self.versions: dict[Process, int] = {}
        self.effects: dict[str, Any] = {}
        self.numbers = 0

    def _set_up(self) -> None:
        super()._set_up()
        for item in self.items:
            for word in self.words_of(item.data, 0):
                if word.sort in ("wait", "timed"):
                    self.hub.spawn(self.world.cloud, self._sends, item, word, after=self._moment(item))

    def begin(self, world: World, process: Process) -> None:
        """
        A process of some deployment.
        """
        super().begin(world, process)
        later = self.plan.has("edits") and world.trouble and self.draw.random() < 0.5
        self.versions[process] = self.draw.randint(1, 2) if later else 0
        world.counts["processes with edited programs"] += later

    def words_of(self, data: Keyed, version: int) -> tuple[Word, ...]:
        """
        What the handler of a task with *data* says, in the deployment *version*.
        """
        return program(self.plan.seed, data.name, self.durables_plan.words, version)

    # --- the handler ---

    def _act(self, running: Running, task: OnceTask[Any], attempt: Attempt, *, cleans: bool) -> Any:
        if cleans:
            return super()._act(running, task, attempt, cleans=True)
        world, process = self.world, running.process
        world.tell(
            process.name,
            f"runs {task.path} sequence {attempt.sequence}, attempt {attempt.number}, token {attempt.token}, revision "
            f"{task.data.revision}, program {self.versions[process]}",
        )
        try:
            for word in self.words_of(task.data, self.versions[process]):
                try:
                    getattr(self, f"_{word.sort}")(running, attempt, word)
                except Suspended:
                    world.counts["suspensions"] += 1
                    if not world.hit("swallows", 0.1):
                        raise
            return super()._act(running, task, attempt, cleans=False)
        except CancelledByRequest:
            world.counts["handlers told of their cancellation"] += 1
            if self.draw.random() < 0.5:
                self._run(running, attempt, Word("run", "compensation", 2.0))
                return None
            raise

    def _run(self, running: Running, attempt: Attempt, word: Word) -> None:
        """
        A run that is called again after a failure.
        """
        self._answered(running, word, attempt.run(word.name, self._called, running, word))

    def _retried(self, running: Running, attempt: Attempt, word: Word) -> None:
        """
        A run with tries of its own.
        """
        policy = FixedDelay(delay=timedelta(seconds=word.delay), max_attempts=3)
        try:
            answer = attempt.options(retry=policy).run(word.name, self._called, running, word, 0.4)
        except RunFailedError:
            answer = "failed"
            self.world.counts["runs failed for good"] += 1
        self._answered(running, word, answer)

    def _called(self, running: Running, word: Word, fails: float = 0.0) -> Any:
        self.checker.calls(running, word.name)
        self._spends_time()
        if self.draw.random() < fails or self.world.hit("failing_handlers", 0.15):
            raise ValueError("a bug of the app's")
        return self._number()

    def _number(self) -> Any:
        self.numbers += 1
        return {"n": self.numbers, "padding": LARGE if self.durables_plan.large else ""}

    def _spends_time(self) -> None:
        if self.draw.random() < 0.6:
            self.hub.sleep(self.draw.expovariate(0.5))
        if self.world.hit("long_runs", 0.1):
            self.hub.sleep(self.draw.choice((15.0, 100.0, 400.0)))
        if self.world.hit("hangs", 0.02):
            self.hub.sleep(10 * BOUND)

    def _once(self, running: Running, attempt: Attempt, word: Word) -> None:
        """
        A run that is begun once, with a verification.
        """

        def verify(key: str) -> Any:
            self.world.counts["verifications"] += 1
            self.hub.sleep(1.0)
            if self.world.hit("failing_handlers", 0.1):
                raise ConnectionError("the service is away")
            found = self.effects.get(key)
            self.checker.verifies(running, word.name)
            if found is None:
                self.checker.withdraws(running, word.name)
            return NOT_DONE if found is None else found

        self._begun_once(running, attempt, word, verify=verify)

    def _blind(self, running: Running, attempt: Attempt, word: Word) -> None:
        """
        A run that is begun once, about which a person is asked.
        """
        self._begun_once(running, attempt, word)

    def _begun_once(self, running: Running, attempt: Attempt, word: Word, **options: Any) -> None:
        key = attempt.key_of(word.name)

        def pay() -> Any:
            self.checker.calls_once(running, word.name)
            self.world.counts["calls of once-runs"] += 1
            if self.draw.random() < 0.15:
                self.checker.withdraws(running, word.name)
                raise DeclinedError("nothing has happened")
            self.checker.happens(running, word.name)
            value = self.effects[key] = self._number()
            try:
                self._spends_time()
                if self.world.hit("failing_handlers", 0.2):
                    raise ConnectionError("no answer")
            finally:
                self.checker.leaves(running, word.name)
            return value

        if word.name.endswith(("1", "3")):
            options["retry"] = FixedDelay(delay=timedelta(seconds=20), max_attempts=4)
        try:
            answer = attempt.options(once=True, not_done=DeclinedError, **options).run(word.name, pay)
        except RunFailedError:
            answer = "failed"
        self._answered(running, word, answer)
        if answer != "failed" and answer != self.effects.get(key):
            self.checker.broken(task_of(attempt), f"{word.name!r} has another answer than what has happened")

    def _sleep(self, running: Running, attempt: Attempt, word: Word) -> None:
        """
        A sleep of any length.
        """
        self.checker.sleeps(running, word.name)
        attempt.sleep(word.name, word.delay)
        self.checker.wakes(running, word.name, word.delay)

    _nap = _sleep

    def _wait(self, running: Running, attempt: Attempt, word: Word) -> None:
        """
        A wait for an event that comes at some time.
        """
        event = attempt.wait_event(word.name, dict[str, str], timeout=None)
        self.checker.takes(running, word.name, event["id"])
        self._answered(running, word, event)

    def _timed(self, running: Running, attempt: Attempt, word: Word) -> None:
        """
        A wait that has a time-out.
        """
        self.checker.sleeps(running, word.name)
        try:
            event: Any = attempt.wait_event(word.name, dict[str, str], timeout=word.delay)
            self.checker.takes(running, word.name, event["id"])
        except EventTimeoutError:
            event = "timed out"
            self.world.counts["events timed out"] += 1
            self.checker.wakes(running, word.name, word.delay)
        self._answered(running, word, event)

    def _value(self, running: Running, attempt: Attempt, word: Word) -> None:
        """
        A time and a chance.
        """
        found = (attempt.now(f"{word.name} at"), str(attempt.uuid(f"{word.name} id")), attempt.random(word.name))
        self.checker.draws(running, word.name, found)

    def _transaction(self, running: Running, attempt: Attempt, word: Word) -> None:
        """
        A write of the user's own.
        """
        with self.checker.late_holders.call(running.lease, attempt.sequence, "transaction"):
            self.world.transactions.run(attempt, lambda txn: self._in_transaction(running.process, attempt, txn))

    def _answered(self, running: Running, word: Word, answer: Any) -> None:
        self.checker.answered(running, word.name, answer)

    # --- people ---

    def _moment(self, item: Item) -> float:
        within = self.plan.minutes * 60
        if self.plan.has("early_events") and self.draw.random() < 0.6:
            return item.after + self.draw.random() * 10
        if self.plan.has("late_events") and self.draw.random() < 0.6:
            return within + self.draw.random() * 600
        return item.after + self.draw.random() * within

    def _sends(self, item: Item, word: Word) -> None:
        """
        Send an event, until it is there; perhaps twice, and perhaps one more with an id of its own.
        """
        while item.path not in self.checker.seen:
            self.hub.sleep(10)
        ids = [f"{item.data.name} {word.name}"]
        if self.plan.has("events_twice"):
            ids += [self.draw.choice((ids[0], f"{ids[0]} more")) for _ in range(2)]
        for id_ in ids:
            for _ in range(5):
                told = self.on_some(lambda process, id_=id_: self._sent(process, item, word, id_))
                if told is not None and not (isinstance(told, Exception) and not _is_over(told)):
                    break
                self.hub.sleep(self.draw.choice((1, 20, 60)))

    def _sent(self, process: Process, item: Item, word: Word, id_: str) -> Any:
        path, life = item.path, self.checker.lives[item.path]
        sent = self.managers[process].send(type(item.data), item.data.name, word.name, {"id": id_}, id=id_)
        self.world.counts["events sent"] += 1
        self.world.counts["events dropped as known"] += not sent.stored
        self.checker.was_sent(path, life, id_)
        return sent

    def _resolve(self) -> None:
        """
        People answer questions, send the events for which handlers wait, and decide.
        """
        for path, lock in list(self.checker.locks.items()):
            if lock.status is Status.QUARANTINED and lock.open:
                name = lock.open[0].name
                self.checker.asked(path)
                told = self.on_some(lambda process, path=path, name=name: answers.answer(self, process, path, name))
                self.world.tell("a person", f"answers about {name!r} of {path}: {told}")
            wait = lock.wait
            waits = lock.status is Status.SCHEDULED and wait is not None and wait.sort is WaitFor.EVENT
            if not self.world.trouble and waits and wait is not None and wait.until is None:
                for item in (one for one in self.items if one.path == path):
                    word = Word("wait", wait.name, 0.0)
                    id_ = f"{item.data.name} {wait.name} at last {lock.sequence}"
                    self.on_some(lambda process, item=item, word=word, id_=id_: self._sent(process, item, word, id_))
        super()._resolve()


def task_of(attempt: Attempt) -> str:
    """
    The document of *attempt*.
    """
    return attempt._running.context.document


def _is_over(error: Exception) -> bool:
    return isinstance(error, OncetaskError) and isinstance(error, AlreadyFinishedError | TaskNotFoundError)
