"""
A deployment with a record of every sort.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

from gcp_oncetask import LockedModel, once
from gcp_oncetask.rules.document_paths import key_path
from gcp_oncetask.rules.verbs import Sort
from gcp_oncetask.tasks import Recurrence, TaskData, every
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import Killed
from tests.support.tasks import Latest, Other, Service, Work


class Parcel(LockedModel, collection="parcels"):
    pass


class Pulled(TaskData, kind="pulled-verb", pull=True):
    pass


class Daily(TaskData, kind="daily-verb"):
    def task_id(self) -> str:
        return "d"

    def recurrence(self) -> Recurrence:
        return every(timedelta(days=1))


class Records:
    """
    A deployment with a record of every sort, in every state that people meet.

    Attributes:
        paths: Name -> path and sort.
    """

    def __init__(self, cloud: OncetaskCloud) -> None:
        self.service = service = Service(cloud, targets=("https://nobody.test",))
        self.locker = locker = service.manager.locker
        self.paths: dict[str, tuple[str, Sort]] = {}
        service.handle(Work).handle(Latest).handle(Daily).handle_keys(Other)
        self._add("chain", "parcels/1", Sort.CHAIN)
        locker.schedule(Parcel(id="1"), "https://nobody.test", delay=60 * 60 * 24 * 90)
        self._tasks()
        self._locks()
        self._calls()

    def _add(self, name: str, path: str, sort: Sort) -> None:
        self.paths[name] = path, sort

    def _tasks(self) -> None:
        service, manager = self.service, self.service.manager
        manager.create_task(Daily())
        service.create("freed", key="free")
        service.act = lambda task, attempt: None
        service.cloud.advance(days=1)
        [occurrence] = [task.id for task in service.tasks if task.kind == "daily-verb"]
        service.create("a", at=service.cloud.clock_now() + timedelta(days=90))
        service.create("latest", model=Latest, at=service.cloud.clock_now() + timedelta(days=90))
        manager.create_task(pulled := Pulled())
        service.die_once()
        for name in ("leader", "rider"):
            service.create(name, model=Other, key="held")
        service.deliver("leader", Other)
        assert service.lock("rider", Other).rides
        self._add("once-task", service.path("a"), Sort.ONCE_TASK)
        self._add("newest wins", service.path("latest", Latest), Sort.ONCE_TASK)
        self._add("pulled", manager._name_of(Pulled, pulled.task_id()).path, Sort.ONCE_TASK)
        self._add("occurrence", service.path(occurrence, Daily), Sort.ONCE_TASK)
        self._add("batch rider", service.path("rider", Other), Sort.ONCE_TASK)
        self._add("generator", service.path("d", Daily), Sort.RECURRING)
        self._add("key held", key_path("DEFAULT", "held"), Sort.RESOURCE_KEY)
        self._add("key free", key_path("DEFAULT", "free"), Sort.RESOURCE_KEY)

    def _locks(self) -> None:
        for name, lock in (
            ("ttl", self.locker.lock("a/b \n", ttl=600)),
            ("endless", self.locker.lock("endless")),
            ("elsewhere", self.locker.lock("x", ttl=600, collection="customers/7/locks")),
            ("released", self.locker.lock("released")),
            ("long name", self.locker.lock("x" * 900)),
        ):
            assert lock.acquire(blocking=False)
            if name == "released":
                lock.release()
            self._add(f"lock {name}", lock.document, Sort.NAMED_LOCK)

    def _calls(self) -> None:
        @once(self.locker, key=lambda how: how, name="book")
        def book(how: str) -> str:
            match how:
                case "raised":
                    raise ValueError(how)
                case "running":
                    raise Killed
            return how

        seen = set(self._calls_stored())
        for how in ("done", "raised", "running"):
            with suppress(ValueError, Killed):
                book(how)
            [new] = set(self._calls_stored()) - seen
            seen.add(new)
            self._add(f"@once {how}", new, Sort.ONCE_KEY)

    def _calls_stored(self) -> list[str]:
        return [
            f"onceLocks/{each.id}"
            for each in self.locker.client.collection("onceLocks").stream()
            if ":once:" in each.id
        ]

    def version(self, path: str) -> Any:
        found = self.locker.client.document(path).get()
        return found.update_time if found.exists else None
