"""
A second environment on the same database and queue, with an app of its own: it has documents in the collections of the first
one, and in one more, which another route of the same app serves. Deliveries of one come to the app of the other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask

from gcp_oncetask import Attempt, Continue, LockedModel, Retry
from gcp_oncetask.flask import blueprint, locked_handler
from gcp_oncetask.recovery.sweep import sweep
from gcp_oncetask.rules.document_paths import TaskName
from gcp_oncetask.tasks import OnceTask, TaskData, TaskManager
from tests.simulation.checks.wire import Record, record_of
from tests.simulation.clients import path_of
from tests.simulation.process import ENV
from tests.simulation.tasks.plan import TasksPlan
from tests.simulation.world import ORIGIN, Process

if TYPE_CHECKING:
    from tests.simulation.chains.history import History

NEIGHBOURS = "DEFAULT1"
"""The second environment; the name of the first one is the beginning of its name."""
ADDRESS = "https://neighbours.test"
STEPS = 2
_SHARED = ("/run", "/oncetask/deliver")
"""Routes of both apps."""
_NAMED = ("onceTasks/", "onceLocks/")
"""Collections in which the id of each document has its environment as its second part."""


class Lodger(LockedModel, collection="jobs"):
    """
    A chain in the collection of the first environment.
    """

    count: int = 0


class Elsewhere(LockedModel, collection="elsewhere"):
    """
    A chain in a collection that only the second environment uses; all processes know it.
    """

    count: int = 0


class LodgingWork(TaskData, kind="work"):
    """
    A once-task with the kind, the id and the resource key of one of the first environment.
    """

    name: str

    def task_id(self) -> str:
        """
        Its name.
        """
        return self.name

    def resource_key(self) -> str | None:
        """
        One for all.
        """
        return "k0"


class Neighbours:
    """
    Plays the second environment, and looks at each write of both.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._makes: dict[str, Callable[[Process], Any]] = {}
        self._managers: dict[Process, TaskManager] = {}

    def set_up(self) -> None:
        """
        Let it begin.
        """
        history, world = self._history, self._history.world
        if not history.plan.has("neighbours"):
            return
        world.origins[ADDRESS] = NEIGHBOURS
        world.mailed, world.failed = _of_ours(world.mailed), _of_ours(world.failed)
        self._makes["elsewhere/n"] = lambda process: process.locker.schedule(Elsewhere(id="n"), "/elsewhere")
        if isinstance(history.plan, TasksPlan):
            for name in ("work0", "work1"):
                self._makes[TaskName(NEIGHBOURS, "work", name).path] = partial(self._create, LodgingWork(name=name))
        else:
            self._makes["jobs/n"] = lambda process: process.locker.schedule(Lodger(id="n"), "/run")
        for path, make in self._makes.items():
            history.hub.spawn(world.cloud, self._produce, path, make, after=history.draw.random() * 200)
        history.hub.spawn(world.cloud, self._sweeper, after=history.draw.random() * 60)
        history.hub.spawn(world.cloud, self._stray)

    def begin(self, process: Process) -> None:
        """
        A process of the second environment has started: it has an app with several routes.
        """
        process.app = Flask("neighbours", static_folder=None)
        self._managers[process] = manager = TaskManager(process.locker)
        manager.register_task_handler(LodgingWork, partial(self._work, process))
        process.app.register_blueprint(blueprint(manager))
        for model, route in ((Lodger, "/run"), (Elsewhere, "/elsewhere")):
            run = locked_handler(process.locker, model)(partial(self._step, process))
            process.app.add_url_rule(route, route, run, methods=["POST"])

    def observe(self, process: Process | None, name: str, request: Any) -> bool:
        """
        A call took effect. Returns whether the second environment made it: the other checks look at the first one alone.
        """
        if not self._makes or process is None:
            return False
        if name in ("Commit", "BatchWrite"):
            for write in request.writes:
                path = path_of(write)
                if self._environment(path) != process.env:
                    self._history.checker.broken(
                        path, f"{process.name} of {process.env} writes to it, and it is of another environment"
                    )
        return process.env == NEIGHBOURS

    def ended(self) -> bool:
        """
        Whether the second environment has nothing left to do.
        """
        return not any(self._left().values())

    def at_the_end(self) -> None:
        """
        Troubles have stopped, and time has passed: its own processes have ended all that is theirs.
        """
        for path, state in self._left().items():
            if state:
                self._history.checker.broken(path, f"its environment has not ended it: {state}")
        self._history.world.counts["documents of a second environment ended"] += len(self._makes)

    # --- what is stored ---

    def _environment(self, path: str) -> str:
        if path.startswith(_NAMED):
            return path.split(":")[1]
        return NEIGHBOURS if path in self._makes else ENV

    def _record(self, path: str) -> Record | None:
        document = self._history.world.stored(path)
        return None if document is None else record_of(document)

    def _left(self) -> dict[str, str]:
        """
        The state of each document; empty: it has ended.
        """
        records = {path: self._record(path) for path in self._makes}
        states = {path: "it is missing" if record is None else record.status for path, record in records.items()}
        return {path: "" if state in ("completed", "failed") else state for path, state in states.items()}

    # --- its course ---

    def _on_some(self, run: Callable[[Process], Any]) -> None:
        self._history.on_some(run, origin=ADDRESS)

    def _create(self, data: LodgingWork, process: Process) -> Any:
        return self._managers[process].create_task(data)

    def _produce(self, path: str, make: Callable[[Process], Any]) -> None:
        while self._record(path) is None:
            self._on_some(make)
            self._history.hub.sleep(30)

    def _sweeper(self) -> None:
        while not (self._history.over or self.ended()):
            self._history.hub.sleep(90)
            self._on_some(lambda process: sweep(process.locker._runtime))

    def _work(self, process: Process, task: OnceTask[LodgingWork], attempt: Attempt) -> None:
        self._acts(process, attempt)

    def _step(self, process: Process, entity: Any, attempt: Attempt) -> Any:
        self._acts(process, attempt)
        entity.count += 1
        return Continue() if entity.count < STEPS else None

    def _acts(self, process: Process, attempt: Attempt) -> None:
        world, draw = self._history.world, self._history.draw
        world.tell(process.name, f"runs {attempt._running.context.document} of {NEIGHBOURS}")
        world.counts["steps of a second environment"] += 1
        self._history.hub.sleep(draw.choice((0.0, 2.0, 100.0)))
        if world.trouble and draw.random() < 0.2:
            raise Retry("not now", after=10.0)

    def _stray(self) -> None:
        """
        Deliveries of each environment come to the app of the other one now and then.
        """
        history, world, draw = self._history, self._history.world, self._history.draw
        while world.trouble:
            history.hub.sleep(draw.expovariate(1 / 240))
            if not world.tasks.dispatches or not world.trouble:
                continue
            dispatch = draw.choice(world.tasks.dispatches[-5:]).dispatch
            origin = next(each for each in world.origins if dispatch.url.startswith(f"{each}/"))
            rest = dispatch.url.removeprefix(origin)
            if rest.partition("?")[0] not in _SHARED:
                continue
            world.counts["deliveries at the URL of another environment"] += 1
            url = (ORIGIN if origin == ADDRESS else ADDRESS) + rest
            world.deliver_as(f"stray-{history.hub.now}", dispatch, url)


def _of_ours(told: Callable[..., None]) -> Callable[..., None]:
    """
    The same, without what processes of the second environment tell.
    """

    def tells(process: Process, *rest: Any) -> None:
        if process.env == ENV:
            told(process, *rest)

    return tells
