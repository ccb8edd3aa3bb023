"""
Every verb of people on every sort of record, through the library and through the command line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest

from gcp_oncetask import LockedModel, OncetaskError, UsageError, once
from gcp_oncetask.cli import main
from gcp_oncetask.delivery import instant
from gcp_oncetask.documents import key_path
from gcp_oncetask.lease.verbs import Sort
from gcp_oncetask.record import Status
from gcp_oncetask.tasks import Recurrence, TaskData, every
from gcp_oncetask.testing.cloud import ACCOUNT, OncetaskCloud
from tests.support.orders import Killed
from tests.support.tasks import Latest, Other, Service, Work
from tests.support.verbs import TABLE


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
        self.service = service = Service(cloud)
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
        self._add("pulled", manager.name_of(Pulled, pulled.task_id()).path, Sort.ONCE_TASK)
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


@pytest.fixture
def records(cloud_on_ports: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> Records:
    """
    All of them, and the environment of the person on call.
    """
    made = Records(cloud_on_ports)
    for name in [name for name in os.environ if name.startswith(("ONCE", "GOOGLE"))]:
        monkeypatch.delenv(name)
    for name, value in (
        ("FIRESTORE_EMULATOR_HOST", cloud_on_ports.local.firestore.address),
        ("CLOUD_TASKS_EMULATOR_HOST", cloud_on_ports.local.tasks.address),
        ("GOOGLE_CLOUD_PROJECT", cloud_on_ports.local.project),
        ("ONCETASK_SERVICE_ACCOUNT", ACCOUNT),
        ("ONCETASK_AUDIENCE", "https://oncetask.test"),
    ):
        monkeypatch.setenv(name, value)
    return made


def test_there_is_a_record_of_every_sort(records: Records) -> None:
    assert {sort for _, sort in records.paths.values()} == set(Sort)


@pytest.mark.parametrize("verb", ["cancel", "reset", "resolve"])
def test_by_path_a_verb_is_done_or_refused(records: Records, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """
    Refused where the table says no: exit code 2 and UsageError with the same words, and nothing is written. Elsewhere it is never
    wrong use: it is done, or the record's state does not allow it (exit code 1).
    """
    locker = records.locker
    calls: dict[str, Callable[[str], Any]] = {
        "cancel": locker.cancel_path,
        "reset": locker.reset_path,
        "resolve": lambda path: locker.resolve_path(path, "run"),
    }
    more = ["run"] if verb == "resolve" else []
    for name, (path, sort) in records.paths.items():
        before = records.version(path)
        code = main([verb, path, *more])
        out, err = capsys.readouterr()
        if TABLE[verb][sort]:
            assert code in (0, 1), (name, err)
            assert bool(out) is (code == 0)
            continue
        with pytest.raises(UsageError, match=f"which has no {verb}. ") as refused:
            calls[verb](path)
        assert (code, out, "\n" in err[:-1]) == (2, "", False), (name, err)
        assert err.startswith(f"gcp_oncetask: {path} is the ")
        assert str(refused.value).split("which")[1] == err.removesuffix("\n").split("which")[1]
        assert records.version(path) == before, name


def test_a_named_lock_is_freed_as_the_refusal_says(records: Records, capsys: pytest.CaptureFixture[str]) -> None:
    """
    The person who asked for a cancellation reads who holds it until when, deletes the document, and the next one gets the lock.
    """
    path, _ = records.paths["lock ttl"]
    assert main(["cancel", path]) == 2
    told = capsys.readouterr().err
    until = records.locker.show(path).leased_at
    assert until is not None
    assert "the named lock 'a/b \\n'" in told
    assert (until + timedelta(seconds=600)).strftime("its ttl ends at %Y-%m-%dT%H:%M:%S.%fZ") in told
    assert records.locker.lock("a/b \n", ttl=60).acquire(blocking=False) is False
    records.locker.client.document(path).delete()
    assert records.locker.lock("a/b \n", ttl=60).acquire(blocking=False)


def test_by_id_only_a_recurring_task_is_paused_and_resumed(records: Records) -> None:
    """
    pause and resume of once-tasks of all kinds are refused, the recurring one's are done; what is had is done in the end.
    """
    manager = records.service.manager
    for model, id_ in ((Work, "a"), (Latest, "latest"), (Other, "rider")):
        for call in (manager.pause, manager.resume):
            with pytest.raises(UsageError, match="does not recur"):
                call(model, id_)
    assert manager.pause(Daily, "d")
    assert manager.resume(Daily, "d")
    assert manager.cancel_task(Daily, "d")
    assert manager.reset_task(Daily, "d")
    assert manager.get_task(Daily, "d") is not None
    for model, id_ in ((Work, "a"), (Latest, "latest"), (Daily, "d")):
        assert manager.cancel_task(model, id_)
        assert manager.delete_task(model, id_)


def test_cancelling_and_resetting_a_recurring_task(records: Records) -> None:
    """
    A cancelled one makes no occurrences; one that is reset goes on.
    """
    service = records.service
    locker, path = service.manager.locker, records.paths["generator"][0]
    assert locker.cancel_path(path)
    assert locker.show(path).status is Status.CANCELLED
    assert locker.reset_path(path).dispatched
    before = len(service.ran)
    service.cloud.advance(days=2)
    assert len(service.ran) > before


def test_show_works_on_every_record(records: Records, capsys: pytest.CaptureFixture[str]) -> None:
    """
    What may not be cancelled may be looked at; as JSON with all that is stored in the library's documents, and by name.
    """
    names: dict[str, Any] = {}
    for name, (path, sort) in records.paths.items():
        assert main(["show", path]) == 0, name
        assert path.split(":")[0] in capsys.readouterr().out
        assert main(["show", path, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        stored = records.locker.client.document(path).get().to_dict()
        assert stored is not None
        assert (said["document"], said["sort"]) == (path, str(sort))
        assert said["fields"].keys() == (set() if sort is Sort.CHAIN else stored.keys() - {"lock"})
        for field, value in stored.items() if sort is not Sort.CHAIN else ():
            if isinstance(value, datetime):
                # Google's client counts nanoseconds.
                assert said["fields"][field] == instant(value), name
        names[name], lock = said["name"], stored["lock"]
        assert said["status"] == lock["status"]
        assert {said[each] for each in ("granted_at", "leased_at")} <= {
            None,
            *(instant(lock[each]) for each in ("grantedAt", "leasedAt") if each in lock),
        }
    assert {name: said for name, said in names.items() if isinstance(said, str)} == {
        "key held": "held",
        "key free": "free",
        "lock ttl": "a/b \n",
        "lock elsewhere": "x",
        "lock long name": "x" * 900,
        **{f"lock {name}": name for name in ("endless", "released")},
        **{f"@once {how}": "book" for how in ("done", "raised", "running")},
    }
    assert (names["chain"], names["once-task"]) == (None, {"kind": "work", "id": "a"})
    with pytest.raises(OncetaskError):
        records.locker.show("onceLocks/00:DEFAULT:lock:nobody")
