"""
Documents in the library's collections that are not of this deployment: of other programs, and of another environment. People
call verbs with their paths, and deliveries name them by mistake.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from gcp_emulator.firestore.messages import CommitRequest
from gcp_oncetask.rules.delivery import Delivery, delivery_url
from gcp_oncetask.rules.document_paths import TaskName, key_path, parse_task_path
from gcp_oncetask.store.codec import encode
from tests.simulation.clients import DATABASE, ROOT, path_of
from tests.simulation.tasks.plan import TasksPlan
from tests.simulation.world import Process

if TYPE_CHECKING:
    from tests.simulation.chains.history import History

OTHER = "DEFAULT2"
"""Another environment, whose name begins with that of this one."""
_OURS = "DEFAULT"
_FOUND_BY = ("due", "attention", "parked")
_TASK_FOUND_BY = ("state", "resource")
"""Texts of a record, and beside it, by which queries find a document; they begin with the environment."""
_NO_RECORD: dict[str, Any] = {"note": "mine"}
_A_TEXT: dict[str, Any] = {"note": "mine", "lock": "held by cron"}
_A_MAP: dict[str, Any] = {"note": "mine", "lock": {"owner": "cron", "due": 17, "env": None}}


class Foreigners:
    """
    Writes them past everything that watches, and looks at each write of the library.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._paths: set[str] = set()
        self._addressed: list[str] = []

    def set_up(self) -> None:
        """
        Let them begin.
        """
        if self._history.plan.has("foreigners"):
            self._history.hub.spawn(self._history.world.cloud, self._course)

    def observe(self, process: Process | None, name: str, request: Any) -> None:
        """
        A call took effect.
        """
        if not self._paths or process is None or name not in ("Commit", "BatchWrite"):
            return
        for write in request.writes:
            path = path_of(write)
            if path in self._paths:
                self._history.checker.broken(path, f"{process.name} writes to it, and it is not of this deployment")

    def _course(self) -> None:
        history, world, draw = self._history, self._history.world, self._history.draw
        without, text = self._path("no-record"), self._path("a-text")
        self._write(without, _NO_RECORD)
        self._write(text, _A_TEXT)
        self._addressed += [without, text]
        # The one is told as damaged, the other as a once-task whose lock was removed.
        history.watch.outside.update((text, without) if isinstance(history.plan, TasksPlan) else (text,))
        self._write(self._path("a-map"), _A_MAP)
        self._write("onceLocks/a-map", _A_MAP)
        while world.trouble:
            history.hub.sleep(draw.expovariate(1 / 150))
            if history.checker.locks and world.trouble:
                self._copy(draw.choice(sorted(history.checker.locks)))
                self._copy_keys()
            if draw.random() < 0.5:
                self._address(draw.choice(self._addressed))

    def _path(self, name: str) -> str:
        tasks = isinstance(self._history.plan, TasksPlan)
        return TaskName(_OURS, "work", name).path if tasks else f"jobs/{name}"

    def _copy(self, path: str) -> None:
        """
        Write the task at *path* as another environment would have written it.
        """
        name = parse_task_path(path)
        other = f"{path}-of-others" if name is None else TaskName(OTHER, name.kind, name.id).path
        if self._copied(path, other) and other not in self._addressed:
            self._addressed.append(other)

    def _copy_keys(self) -> None:
        plan = self._history.plan
        for number in range(plan.keys if isinstance(plan, TasksPlan) else 0):
            self._copied(key_path(_OURS, f"k{number}"), key_path(OTHER, f"k{number}"))

    def _copied(self, path: str, other: str) -> bool:
        document = self._history.world.stored(path)
        if document is None:
            return False
        request = CommitRequest(database=DATABASE)
        written = request.writes.add().update
        for field, value in document.fields.items():
            written.fields[field].CopyFrom(value)
        written.name = ROOT + other
        lock = written.fields["lock"].map_value.fields
        lock["env"].string_value = OTHER
        for fields, names in ((lock, _FOUND_BY), (written.fields, _TASK_FOUND_BY)):
            for field in (name for name in names if name in fields):
                fields[field].string_value = fields[field].string_value.replace(f"{_OURS}/", f"{OTHER}/", 1)
        self._commit(request, other)
        self._history.world.counts["documents of another environment"] += 1
        return True

    def _write(self, path: str, fields: dict[str, Any]) -> None:
        request = CommitRequest(database=DATABASE)
        written = request.writes.add().update
        written.name = ROOT + path
        for field, value in fields.items():
            written.fields[field].CopyFrom(encode(value))
        self._commit(request, path)
        self._history.world.counts["documents of other programs"] += 1

    def _commit(self, request: Any, path: str) -> None:
        self._history.world.firestore.service.call("Commit", request)
        self._paths.add(path)

    def _address(self, path: str) -> None:
        """
        Cancel the document at *path*, or deliver it.
        """
        history, world = self._history, self._history.world
        if history.draw.random() < 0.3:
            world.tell("a person", f"cancels {path}, which is not theirs")
            world.counts["verbs for documents of others"] += 1
            history.on_some(partial(_cancel, path=path))
            return
        records = world.tasks.dispatches
        if not records:
            return
        dispatch = history.draw.choice(records).dispatch
        delivery = Delivery.from_json(dispatch.body)._replace(document=path, version=None, contents=None)
        url = delivery_url(delivery, dispatch.url.partition("?")[0])
        world.counts["deliveries of documents of others"] += 1
        world.deliver_as(f"foreign-{history.hub.now}", dispatch, url, delivery.to_json())


def _cancel(process: Process, *, path: str) -> Any:
    return process.locker.cancel_path(path)
