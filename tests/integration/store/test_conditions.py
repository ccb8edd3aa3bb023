"""
No write of the library is unconditional: each commit that it sends, in a run over all its parts, is looked at.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.cloud import firestore

import gcp_oncetask
from gcp_emulator import rpc
from gcp_oncetask import Attempt, Fail, FixedDelay, Snooze, once
from gcp_oncetask.rules.document_paths import key_path
from gcp_oncetask.store import sessions
from gcp_oncetask.store.store import Store
from gcp_oncetask.store.wire import Wire
from gcp_oncetask.tasks import OnceTask, TaskData
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker
from gcp_oncetask.worker.membership import Membership
from tests.integration.importing.test_go_oncetask import Office
from tests.support.crowd import Crowd
from tests.support.orders import Killed, Order, make_shop
from tests.support.tasks import DAILY, Fleeting, Grave, Latest, Other, Repeat, Service, Work

OWN = ("notes/", "onceJournals/")
"""Documents of the caller's own choice: what user code writes in a transaction of its attempt is on the caller's terms. And
sealed parts of journals: they are written in the conditional commit of the record that lists them."""


class Resize(TaskData, kind="resize-conditions", pull=True):
    number: int


class Recorder:
    """
    Every write that reaches Firestore, and who in the library has sent it.

    Attributes:
        writes: Each with the documents that its transaction has read.
        senders: Functions of the library that have called the wire, as ``module.function``.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.writes: list[tuple[Any, frozenset[str]]] = []
        self.senders: set[str] = set()
        self._read: dict[bytes, set[str]] = {}
        self._resting = False
        self._listen(monkeypatch)
        for owner, name in ((Wire, "commit"), (Wire, "batch_write"), (Store, "commit_both")):
            self._note(monkeypatch, owner, name)

    def _listen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = rpc.Service.begin

        def heard(service: rpc.Service, name: str, request: Any) -> Any:
            if name == "BatchGetDocuments":
                self._read.setdefault(request.transaction, set()).update(request.documents)
            elif name in ("Commit", "BatchWrite") and not self._resting:
                transaction = request.transaction if name == "Commit" else b""
                read = frozenset(self._read[transaction]) if transaction else frozenset()
                for write in request.writes:
                    self.writes.append((type(write).FromString(write.SerializeToString()), read))
            return real(service, name, request)

        monkeypatch.setattr(rpc.Service, "begin", heard)

    def _note(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        real = getattr(owner, name)

        def called(self_: Any, *args: Any, **options: Any) -> Any:
            frame = sys._getframe(1)
            if frame.f_code.co_name == "<lambda>":
                frame = frame.f_back.f_back  # type: ignore[union-attr,assignment]  # what has made it and hands it on
            self.senders.add(f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}")
            return real(self_, *args, **options)

        monkeypatch.setattr(owner, name, called)

    @contextmanager
    def by_a_person(self) -> Iterator[None]:
        """
        What is written in here is not the library's.
        """
        self._resting = True
        try:
            yield
        finally:
            self._resting = False

    def unconditional(self) -> list[str]:
        """
        Documents that the library has written without a condition: neither one of the write itself, nor a transaction that has
        read the document.
        """
        found = []
        for write, read in self.writes:
            name = write.update.name or write.delete
            path = name.split("/documents/", 1)[1]
            if not (write.HasField("current_document") or name in read or path.startswith(OWN)):
                found.append(path)
        return found


def senders() -> set[str]:
    """
    Functions of the library that hand writes to the wire, by its source.
    """
    found = set()
    for file in Path(gcp_oncetask.__file__).parent.rglob("*.py"):
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, ast.FunctionDef):
                for call in ast.walk(function):
                    if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(
                        ("wire.commit", "wire.batch_write", "commit_both")
                    ):
                        found.add(f"{file.stem}.{function.name}")
    return found


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(monkeypatch)


@pytest.fixture
def cloud(recorder: Recorder) -> Iterator[OncetaskCloud]:
    """
    A cloud that is listened to from its beginning.
    """
    cloud = OncetaskCloud()
    yield cloud
    cloud.stop()


def test_every_write_of_the_library_has_a_condition(
    recorder: Recorder, cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = make_shop()
    cloud.use(shop.locker)
    cloud.mount("https://app.test", shop.app)
    chains(cloud, shop, recorder)
    locks(shop.locker)
    tasks(cloud, recorder)
    workers(cloud)
    standstill(cloud, shop)
    crowds(cloud, monkeypatch)
    imports(cloud, recorder)
    assert recorder.unconditional() == []
    places = {path_of(write).split("/")[0] for write, _ in recorder.writes}
    assert {"orders", "onceTasks", "onceLocks", "onceSessions"} <= places
    assert recorder.senders == senders(), "a function that writes was not in the run"


def imports(cloud: OncetaskCloud, recorder: Recorder) -> None:
    """
    A document of the Go library that is taken, and is deleted by the next import.
    """
    office = Office(cloud)
    with recorder.by_a_person():
        office.put("from-go")
    assert office.outcomes(stopped=True) == {"from-go": "imported"}
    assert office.outcomes(delete=True) == {"from-go": "exists"}
    assert office.left() == set()


def crowds(cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Writes that share a call, and writes whose call is refused.
    """
    with ThreadPoolExecutor(8) as pool:
        crowd = Crowd(cloud, pool, monkeypatch)
        crowd.create("c-1", "c-2", "c-3")
        cloud.faults.fail("BatchWrite", code=grpc.StatusCode.INVALID_ARGUMENT)
        crowd.create("d-1", "d-2", "d-3")


def path_of(write: Any) -> str:
    return str((write.update.name or write.delete).split("/documents/", 1)[1])


def standstill(cloud: OncetaskCloud, shop: Any) -> None:
    """
    A paused queue with more tasks in it than a sweep asks for.
    """
    shop.on_charge = None
    cloud.local.tasks_client().pause_queue(name=cloud.local.queue)
    for number in range(25):
        shop.locker.schedule(Order(id=f"stands{number}"), "https://app.test/tasks/order")
    cloud.clock.advance(3600)
    cloud.sweep()
    cloud.local.tasks_client().resume_queue(name=cloud.local.queue)
    cloud.run_until_idle()


def chains(cloud: OncetaskCloud, shop: Any, recorder: Recorder) -> None:
    """
    Schedules, claims, renewals, checkpoints, transactions, settlings, alerts, takeovers, people, damage.
    """
    locker, client = shop.locker, shop.locker.client

    def charge(order: Order, attempt: Attempt) -> Any:
        attempt.renew()
        order.note = "seen"
        locker.save(order)
        if order.id == "fails":
            raise Fail("no")
        if order.id == "dies" and attempt.number == 1:
            raise Killed

        def both(txn: firestore.Transaction) -> None:
            txn.set(client.document(f"notes/{order.id}"), {"at": 1})
            locker.schedule(order, "/tasks/order", transaction=txn)

        attempt.run_transaction(both)
        return None

    shop.on_charge = charge
    for id_ in ("runs", "fails", "dies", "cancelled"):
        locker.schedule(Order(id=id_), "https://app.test/tasks/order")
    locker.cancel(Order, "cancelled")

    @firestore.transactional
    def join(txn: firestore.Transaction) -> None:
        locker.schedule(Order(id="joined"), "https://app.test/tasks/order", transaction=txn)

    join(client.transaction())
    cloud.run_until_idle()
    cloud.write_system("Container called exit(137).")
    cloud.advance(hours=2)
    cloud.sweep()
    locker.reset(Order, "fails")
    with recorder.by_a_person():
        client.document("orders/runs").update({"lock.status": "nonsense", "lock.due": "DEFAULT/push/000/2026-01-01"})
    cloud.sweep()


def locks(locker: Any) -> None:
    """
    Named locks, functions that run once, entities without a schedule.
    """
    with locker.lock("graph", ttl=10) as lock:
        lock.refresh()

    @once(locker, key=lambda event: event)
    def book(event: str) -> str:
        return event

    assert book("e1") == book("e1") == "e1"

    loaded = locker.get(Order, "joined")
    loaded.note = "written by a person"
    locker.save(loaded)


def tasks(cloud: OncetaskCloud, recorder: Recorder) -> None:
    """
    Creations, keys, hand-overs, batches, replacements, recurrence, erasures, deletions, takeovers, lost answers.
    """
    service = Service(cloud, url="https://tasks.test").handle(retry=FixedDelay(delay=timedelta(seconds=1)))
    manager = service.manager
    for model in (Latest, Repeat, Grave, Fleeting):
        service.handle(model)
    service.handle_keys(Other)

    def free() -> None:
        with recorder.by_a_person():
            manager.locker.client.document(key_path("DEFAULT", "K")).delete()

    def act(task: OnceTask[Any], attempt: Attempt) -> Any:
        service.act = lambda task, attempt: None
        for name in ("b", "c"):
            assert service.deliver(name).json["outcome"] == "parked"
        attempt.run_transaction(lambda txn: txn.set(manager.locker.client.document("notes/t"), {"at": 1}))
        free()
        cloud.sweep()
        return Snooze(1)

    service.create("a", "b", "c", key="K")
    service.act = act
    service.deliver("a")
    cloud.run_until_idle()

    def forgets(task: OnceTask[Any], attempt: Attempt) -> None:
        # Freed and taken anew, by one that does not know of those that wait.
        service.act = lambda task, attempt: None
        service.deliver("e")
        free()
        service.act = lambda task, attempt: cloud.sweep() and None
        service.deliver("f")

    service.create("d", "e", "f", key="K")
    service.act = forgets
    service.deliver("d")
    service.act = lambda task, attempt: None
    cloud.run_until_idle()

    service.create("dies", key="K")
    service.die_once()
    service.deliver("dies")
    cloud.write_system("Container called exit(137).")
    cloud.advance(hours=2)
    cloud.sweep()
    manager.create_tasks([Other(name=str(number), key="B") for number in range(4)])
    service.create("n", model=Latest)
    assert manager.create_task(Latest(name="n", note="newer")).replaced
    service.create("g", model=Grave)
    manager.create_task(Repeat(rule=DAILY))
    manager.pause(Repeat, "r")
    manager.resume(Repeat, "r")
    cloud.faults.fail("Commit", when="after", probability=0.5, times=4)
    cloud.advance(days=2)
    cloud.faults.clear()
    assert manager.delete_task(Repeat, "r")
    cloud.advance(days=31)
    cloud.sweep()
    service.create("durable")
    service.act = lambda task, attempt: [attempt.run(f"step-{each}", lambda: "x" * 6_000) for each in range(3)] and None
    service.deliver("durable")
    service.act = lambda task, attempt: None
    assert service.lock("durable").chunks
    assert manager.delete_task(Work, "durable")
    service.create("parent")
    service.act = lambda task, attempt: (
        attempt.run_task("child", Fleeting(name="made")) if task.data.name == "parent" else None
    )
    cloud.run_until_idle()
    assert service.lock("parent").finished
    service.create("last")
    manager.cancel_task(Work, "last")
    manager.delete_tasks_by_ids(Work, ["a", "b", "last"])


def workers(cloud: OncetaskCloud) -> None:
    """
    A task that is pulled; a session, its heartbeats and its end, one heartbeat's answer being lost.
    """
    service = Service(cloud, url="https://pull.test").handle(Resize)
    service.manager.create_task(Resize(number=1))
    assert Worker(service.manager).drain() == 1
    session = Membership(service.manager.locker._runtime, ["resize"], 30.0)
    assert session.beat()
    cloud.faults.fail("Commit", when="after")
    session.beat()
    session.beat()
    session.end()


def test_heartbeat_that_comes_late_revives_no_session(oncetask_cloud: OncetaskCloud) -> None:
    """
    Its answer is lost, the session ends, and then it lands: the shards stay free.
    """
    service = Service(oncetask_cloud, url="https://pull.test").handle(Resize)
    runtime = service.manager.locker._runtime
    session = Membership(runtime, ["resize"], 30.0)
    assert session.beat()
    oncetask_cloud.faults.fail("Commit", when="late", delay=2)
    assert not session.beat()
    session.end()
    oncetask_cloud.clock.advance(5)
    assert sessions.all_of(runtime.store, "DEFAULT")[0] == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_session_ends_though_the_answer_to_its_last_heartbeat_is_lost(oncetask_cloud: OncetaskCloud, when: Any) -> None:
    service = Service(oncetask_cloud, url="https://pull.test").handle(Resize)
    runtime = service.manager.locker._runtime
    session = Membership(runtime, ["resize"], 30.0)
    assert session.beat()
    oncetask_cloud.faults.fail("Commit", when=when)
    assert not session.beat()
    session.end()
    assert sessions.all_of(runtime.store, "DEFAULT")[0] == []
