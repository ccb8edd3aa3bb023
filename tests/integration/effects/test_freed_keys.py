"""
Resource keys whose documents a person deletes: a way of freeing a key, after which the attempt that had it leaves it alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from gcp_oncetask import Attempt, FixedDelay, LeaseLostError, Status, StoreError
from gcp_oncetask.rules.document_paths import key_path
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import Killed
from tests.support.patience import patient
from tests.support.tasks import Service

SECOND = FixedDelay(delay=timedelta(seconds=1))
KEY = key_path("DEFAULT", "K")


class Stage:
    """
    Tasks of one resource key whose handlers end on their cue.

    Attributes:
        service: Handles them.
        does: What a handler does on its cue, by the id of its task.
    """

    def __init__(self, service: Service, pool: ThreadPoolExecutor) -> None:
        self.service = service
        self.does: dict[str, Callable[[Attempt], Any]] = {}
        self._pool = pool
        self._running: dict[str, Future[Any]] = {}
        self._entered: dict[str, threading.Event] = {}
        self._cues: dict[str, threading.Event] = {}
        service.act = self._act

    def _act(self, task: Any, attempt: Attempt) -> Any:
        cue = self._cues.get(task.id)
        if cue is None or cue.is_set():
            return None
        self._entered[task.id].set()
        assert cue.wait(patient(30))
        return self.does.pop(task.id, lambda attempt: None)(attempt)

    def start(self, name: str, **headers: str) -> None:
        """
        Deliver the task, and return when its handler runs.
        """
        self._entered[name], self._cues[name] = threading.Event(), threading.Event()
        body = self.service.body(name)
        for task in self.service.cloud.local.tasks.tasks():
            if bytes(task.http_request.body) == body:
                self.service.cloud.drop(task.name)
        self._running[name] = self._pool.submit(self.service.post, body, **headers)
        assert self._entered[name].wait(patient(30))

    def finish(self, name: str) -> str:
        """
        Give the handler its cue; returns how its delivery ended.
        """
        return str(self.cue(name).json["outcome"])

    def cue(self, name: str) -> Any:
        """
        Give the handler its cue; returns the answer to its delivery.
        """
        self._cues[name].set()
        return self._running.pop(name).result(patient(30))

    def kill(self, name: str) -> None:
        """
        The process of the handler dies.
        """

        def die(attempt: Attempt) -> None:
            raise Killed

        self.does[name] = die
        assert self.cue(name).status_code == 503
        self.service.cloud.write_system("Container called exit(137).")

    def close(self) -> None:
        """
        Let every handler end.
        """
        for cue in self._cues.values():
            cue.set()

    def free(self, key: str = "K") -> None:
        """
        What a person does.
        """
        self.service.manager.locker.client.document(key_path("DEFAULT", key)).delete()

    def park(self, name: str) -> None:
        """
        Deliver a task whose key is held.
        """
        assert self.service.deliver(name).json["outcome"] == "parked"

    def holder(self) -> str | None:
        """
        The task that the key's document names.
        """
        return self.service.key("K")["lock"].get("holder")

    def rest(self) -> list[str]:
        """
        Let what is left run; returns who ran, in order.
        """
        self.service.settle(10)
        return self.service.ran


@pytest.fixture
def stage(oncetask_cloud: OncetaskCloud) -> Iterator[Stage]:
    """
    Three tasks that need the same key.
    """
    service = Service(oncetask_cloud).handle(lease_duration=60, retry=SECOND)
    service.create("a", "b", "c", key="K")
    with ThreadPoolExecutor(3) as pool:
        stage = Stage(service, pool)
        try:
            yield stage
        finally:
            stage.close()


# --- the end of the one that had it -----------------------------------------------------------------------------------


def test_first_holder_does_not_free_the_key_of_the_second(stage: Stage) -> None:
    """
    The key's document is deleted while its holder runs, and a second task is granted: a third does not run beside that.
    """
    stage.start("a")
    stage.free()
    stage.start("b")
    assert stage.finish("a") == "completed"
    assert stage.holder() == stage.service.path("b")
    stage.park("c")
    assert stage.finish("b") == "completed"
    stage.service.cloud.run_until_idle()
    assert stage.service.ran == ["a", "b", "c"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("skip", [0, 1])
def test_end_without_the_key_whose_answer_is_lost(stage: Stage, when: Any, skip: int) -> None:
    stage.start("a")
    stage.free()
    stage.start("b")
    stage.service.cloud.faults.fail("Commit", when=when, skip=skip)
    assert stage.finish("a") == "completed"
    stage.service.cloud.faults.clear()
    assert stage.holder() == stage.service.path("b")
    stage.park("c")
    stage.finish("b")
    assert stage.rest() == ["a", "b", "c"]


def fail(attempt: Attempt) -> None:
    raise ValueError("no")


def test_failed_attempt_leaves_the_key_of_the_second_and_waits_for_it(stage: Stage) -> None:
    stage.does["a"] = fail
    stage.start("a")
    stage.free()
    stage.start("b")
    assert stage.finish("a") == "retrying"
    stage.service.cloud.advance(seconds=5)
    assert (stage.service.ran, stage.service.lock("a").parked is not None) == (["a", "b"], True)
    assert stage.holder() == stage.service.path("b")
    stage.finish("b")
    assert stage.rest() == ["a", "b", "c", "a"]


def test_key_that_is_free_stays_gone_until_the_next_task_makes_it(stage: Stage) -> None:
    """
    Nobody has taken it since: the end of its old holder does not make its document again.
    """
    stage.start("a")
    stage.free()
    assert stage.finish("a") == "completed"
    assert KEY not in stage.service.cloud.local.firestore.documents(stage.service.cloud.local.project)  # type: ignore[union-attr]  # it is the embedded one
    assert stage.rest() == ["a", "b", "c"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("skip", [0, 1, 2])
def test_end_with_waiters_whose_answer_is_lost(stage: Stage, when: Any, skip: int) -> None:
    """
    The first commit is refused, since they have written the key's document; the second one ends, the third hands over.
    """
    stage.start("a")
    stage.park("b")
    stage.park("c")
    stage.service.cloud.faults.fail("Commit", when=when, skip=skip)
    assert stage.finish("a") == "completed"
    stage.service.cloud.run_until_idle()
    assert stage.rest() == ["a", "b", "c"]


def test_claim_whose_answer_was_lost_has_its_key_read_at_the_end(stage: Stage) -> None:
    stage.service.cloud.faults.fail("Commit", when="after")
    stage.start("a")
    stage.service.start_counting()
    assert stage.finish("a") == "completed"
    assert stage.service.firestore() == {"BatchGetDocuments": 1, "Commit": 1}
    assert stage.holder() is None


@pytest.mark.parametrize("waiters", [0, 2])
def test_end_that_is_refused_three_times_leaves_the_key(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, waiters: int
) -> None:
    """
    Somebody writes the key's document before each commit: the fourth try ends the attempt, and the key is found free.
    """
    stage.start("a")
    for name in ("b", "c")[:waiters]:
        stage.park(name)
    wire = stage.service.manager.locker._runtime.wire
    real, tried = wire.commit, []

    def busy(request: Any, **options: Any) -> Any:
        names = [write.update.name for write in request.writes]
        if names and names[0].endswith(stage.service.path("a")):
            tried.append(len(names))
            wire.client.document(KEY).update({"busy": len(tried)})
        return real(request, **options)

    monkeypatch.setattr(wire, "commit", busy)
    assert stage.finish("a") == "completed"
    monkeypatch.undo()
    assert tried == [2, 2, 2, 1]
    if not waiters:
        assert stage.holder() is None
    assert stage.rest() == ["a", "b", "c"]


# --- those that wait --------------------------------------------------------------------------------------------------


def test_end_of_the_one_that_had_it_wakes_those_that_wait(stage: Stage) -> None:
    stage.start("a")
    stage.park("b")
    stage.park("c")
    stage.free()
    assert stage.finish("a") == "completed"
    stage.service.cloud.run_until_idle()
    assert stage.service.ran == ["a", "b", "c"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_hand_over_of_a_deleted_key_whose_answer_is_lost(stage: Stage, when: Any) -> None:
    """
    Commits: the one that is refused, the one that ends, the one that hands over.
    """
    stage.start("a")
    stage.park("b")
    stage.park("c")
    stage.free()
    stage.service.cloud.faults.fail("Commit", when=when, skip=2)
    assert stage.finish("a") == "completed"
    assert stage.rest() == ["a", "b", "c"]


def test_sweep_gives_a_freed_key_to_those_that_wait(stage: Stage) -> None:
    """
    The holder goes on and on, so a person frees its key: the next sweep lets the first of those that wait go on.
    """
    stage.start("a")
    stage.park("b")
    stage.park("c")
    stage.free()
    assert stage.service.cloud.sweep().handed_over == 1
    stage.start("b")
    assert stage.finish("a") == "completed"
    assert stage.holder() == stage.service.path("b")
    stage.finish("b")
    stage.service.cloud.run_until_idle()
    assert stage.service.ran == ["a", "b", "c"]


@pytest.mark.parametrize("sweeps", [True, False])
def test_waiters_of_before_are_not_forgotten_behind_a_new_holder(stage: Stage, sweeps: bool) -> None:
    """
    The document that the next task makes does not know of them: a sweep tells it, or the end of the one that had the key.
    """
    stage.start("a")
    stage.park("b")
    stage.free()
    stage.start("c")
    if sweeps:
        assert stage.service.cloud.sweep().handed_over == 0
        assert stage.service.key("K")["waiting"] == 1
    stage.finish("a")
    assert stage.service.key("K")["waiting"] == 1
    stage.finish("c")
    stage.service.cloud.run_until_idle()
    assert stage.service.ran == ["a", "c", "b"]


def test_sweep_finds_those_that_wait_for_many_keys(
    oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    More of them than a page holds, for one key and for several.
    """
    monkeypatch.setattr("gcp_oncetask.store.queries._WAITERS", 3)
    service = Service(oncetask_cloud).handle(lease_duration=60)
    waiters = {"K": 5, "L/1": 1, "M": 2, "Ö": 2}
    with ThreadPoolExecutor(len(waiters)) as pool:
        stage = Stage(service, pool)
        for key, count in waiters.items():
            names = [f"{key} {number}" for number in range(count)]
            service.create(f"{key} first", *names, key=key)
            stage.start(f"{key} first")
            for name in names:
                stage.park(name)
        for key in waiters:
            stage.free(key)
        assert service.cloud.sweep().handed_over == len(waiters)
        service.cloud.run_until_idle()
        assert len(service.ran) == len(waiters) + sum(waiters.values())
        stage.close()


@pytest.mark.parametrize("others", [(), ("c",)], ids=["alone", "with another"])
@pytest.mark.parametrize("value", [7, ["K/ä"]], ids=["number", "list"])
def test_damaged_waiter_of_a_deleted_key_is_told_of(
    oncetask_cloud: OncetaskCloud, others: tuple[str, ...], value: object
) -> None:
    """
    The name of the key is damaged in the record of the first task that waits for it, and the holder goes on and on. A sweep
    finds the key in the place of the task in its queue. A person is told once, and the key goes to the next task.
    """
    service = Service(oncetask_cloud, alert_window=0.0).handle(lease_duration=60, retry=SECOND)
    service.create("a", "b", *others, key="K/ä")
    with ThreadPoolExecutor(1) as pool:
        stage = Stage(service, pool)
        stage.start("a")
        for name in ("b", *others):
            stage.park(name)
        service.manager.locker.client.document(service.path("b")).update({"lock.key": value})
        stage.free("K/ä")
        swept = service.cloud.sweep()
        told = [(alert.document, "damaged: key" in alert.reason) for alert in oncetask_cloud.alerts.sent]
        stage.finish("a")
    assert (told, swept.handed_over) == ([(service.path("b"), True)], len(others))
    service.settle(90)
    assert len(oncetask_cloud.alerts.sent) == 1
    assert service.ran == ["a", *others]


@pytest.mark.parametrize("place", ["here", "DEFAULT/", "DEFAULT/%ff/x/y", "DEFAULT//x/y", "DEFAULT/M"])
def test_places_that_a_person_wrote_hide_no_key(stage: Stage, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """
    Pages of one task: the place of one task was written by hand; the others wait for a key whose document was deleted.
    """
    monkeypatch.setattr("gcp_oncetask.store.queries._WAITERS", 1)
    stage.start("a")
    stage.park("b")
    stage.park("c")
    stage.service.manager.locker.client.document(stage.service.path("b")).update({"lock.parked": place})
    stage.free()
    assert stage.service.cloud.sweep().handed_over == 1
    stage.finish("a")
    stage.service.settle(90)
    assert stage.service.ran == ["a", "c"]


# --- takeovers --------------------------------------------------------------------------------------------------------


def killed(stage: Stage) -> None:
    """
    Let *a* die when its key is somebody else's.
    """
    stage.start("a")
    stage.free()
    stage.start("b")
    stage.kill("a")


@pytest.mark.parametrize("lost", [None, "before", "after"])
def test_sweepers_takeover_leaves_the_key_of_the_second(stage: Stage, lost: Any) -> None:
    killed(stage)
    stage.service.attempts[1].renew()
    stage.service.cloud.clock.advance(40)
    stage.service.attempts[1].renew()
    stage.service.cloud.clock.advance(22 + 125)
    if lost is not None:
        stage.service.cloud.faults.fail("Commit", when=lost)
    assert stage.service.cloud.sweep().taken_over == 1
    assert (stage.service.lock("a").status, stage.holder()) == (Status.SCHEDULED, stage.service.path("b"))
    stage.park("c")
    stage.finish("b")
    assert sorted(stage.rest()) == ["a", "a", "b", "c"]
    assert stage.service.ran[:2] == ["a", "b"]


@pytest.mark.parametrize("taken", [True, False])
def test_delivery_takes_over_only_with_its_key(stage: Stage, taken: bool) -> None:
    """
    The redelivery of one that died is granted its lease anew together with its key; without it, it claims anew.
    """
    body = stage.service.body("a")
    if taken:
        killed(stage)
    else:
        stage.start("a")
        stage.kill("a")
        stage.free()
    stage.service.cloud.clock.advance(40)
    if taken:
        stage.service.attempts[1].renew()
    stage.service.cloud.clock.advance(22 + 125)
    answer = stage.service.post(body, **{"X-CloudTasks-TaskRetryCount": "1"})
    assert answer.json["outcome"] == "retrying"
    assert stage.service.ran == ["a", "b"][: 1 + taken]
    stage.service.cloud.advance(seconds=5)
    if taken:
        assert (stage.service.ran, stage.holder()) == (["a", "b"], stage.service.path("b"))
        stage.finish("b")
    assert sorted(stage.rest()) == ["a", "a", "b", "c"]


@pytest.mark.parametrize("when", [None, "before", "after"])
def test_takeover_by_a_delivery_keeps_the_key_and_knows_its_version(stage: Stage, when: Any) -> None:
    body = stage.service.body("a")
    stage.start("a")
    stage.park("b")
    stage.kill("a")
    stage.service.cloud.clock.advance(62 + 125)
    if when is not None:
        stage.service.cloud.faults.fail("Commit", when=when)
    assert stage.service.post(body).json["outcome"] == "completed"
    assert stage.service.key("K")["lock"]["status"] in ("completed", "leased")
    assert stage.rest() == ["a", "a", "b", "c"]


# --- transactions -----------------------------------------------------------------------------------------------------


def note(stage: Stage) -> Any:
    """
    A document of the handler's.
    """
    return stage.service.manager.locker.client.document("notes/1")


def in_transaction(stage: Stage, refused: list[LeaseLostError]) -> Callable[[Attempt], Any]:
    """
    A handler that writes another document, and goes on when that is refused.
    """

    def act(attempt: Attempt) -> str:
        try:
            with attempt.transaction() as txn:
                txn.set(note(stage), {"by": "a"})
        except LeaseLostError as error:
            refused.append(error)
        return "done"

    return act


def test_transaction_is_not_broken_off_by_those_that_come_to_wait(stage: Stage) -> None:
    def act(attempt: Attempt) -> None:
        with attempt.transaction() as txn:
            txn.set(note(stage), {"by": "a"})
            stage.park("b")

    stage.does["a"] = act
    stage.start("a")
    assert stage.finish("a") == "completed"
    assert note(stage).get().exists
    assert stage.rest() == ["a", "b", "c"]


@pytest.mark.parametrize("taken", [True, False])
def test_transaction_that_writes_other_documents_needs_the_key(stage: Stage, taken: bool) -> None:
    """
    Its own lease still holds: the attempt ends as it would have.
    """
    refused: list[LeaseLostError] = []
    stage.does["a"] = in_transaction(stage, refused)
    stage.start("a")
    stage.free()
    if taken:
        stage.start("b")
    assert stage.finish("a") == "completed"
    assert (len(refused), note(stage).get().exists, stage.service.lock("a").result) == (1, False, "done")
    assert "'K'" in str(refused[0])
    if taken:
        assert stage.holder() == stage.service.path("b")
        stage.finish("b")
    assert stage.rest() == ["a", "b", "c"]


@pytest.mark.parametrize("late", [True, False])
def test_key_that_is_freed_while_a_transaction_is_open_refuses_its_commit(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """
    Between the look at the key and the commit as well, since the commit is made on its version.
    """
    store = stage.service.manager.locker._runtime.store
    real: Any = store.read

    def write(txn: Any) -> None:
        txn.set(note(stage), {"by": "a"})
        if not late:
            stage.free()
            stage.start("b")

    def read(path: str) -> Any:
        found = real(path)
        if path == KEY:
            monkeypatch.undo()
            stage.free()
            stage.start("b")
        return found

    def act(attempt: Attempt) -> None:
        if late:
            monkeypatch.setattr(store, "read", read)
        attempt.run_transaction(write)

    stage.does["a"] = act
    stage.start("a")
    assert stage.finish("a") == "lost"
    assert not note(stage).get().exists
    assert stage.holder() == stage.service.path("b")
    stage.finish("b")


def test_transaction_that_writes_the_attempts_own_document_alone_needs_no_key(stage: Stage) -> None:
    def act(attempt: Attempt) -> str:
        with attempt.transaction():
            pass
        return "done"

    stage.does["a"] = act
    stage.start("a")
    stage.free()
    stage.start("b")
    assert stage.finish("a") == "completed"
    assert stage.holder() == stage.service.path("b")
    stage.finish("b")


def test_transaction_of_a_rider_needs_the_key_of_the_one_it_rides_with(oncetask_cloud: OncetaskCloud) -> None:
    service = Service(oncetask_cloud).handle_keys(lease_duration=60, retry=SECOND)
    service.create("a", "b", key="K")
    refused: list[str] = []

    def act(tasks: Any, attempts: list[Attempt]) -> None:
        service.manager.locker.client.document(KEY).delete()
        for task, attempt in zip(tasks, attempts, strict=True):
            with pytest.raises(LeaseLostError), attempt.transaction() as txn:
                txn.set(service.manager.locker.client.document("notes/1"), {"by": task.id})
            refused.append(task.id)

    service.act = act
    assert service.deliver("a").json["outcome"] == "completed"
    assert sorted(refused) == ["a", "b"]
    assert [service.lock(name).status for name in "ab"] == [Status.COMPLETED, Status.COMPLETED]


# --- deletions --------------------------------------------------------------------------------------------------------


def test_deletion_that_comes_late_spares_the_task_that_was_made_anew(stage: Stage) -> None:
    """
    Its answer is lost, so it is asked for again; then the id is used again, and the first deletion lands.
    """
    service = stage.service
    service.cloud.faults.fail("BatchWrite", when="late", delay=5)
    with pytest.raises(StoreError, match="deleting"):
        service.manager.delete_task(type(service.get("a").data), "a")
    assert service.manager.delete_task(type(service.get("a").data), "a")
    service.create("a", key="K")
    service.cloud.clock.advance(10)
    assert service.lock("a").status is Status.SCHEDULED


def test_deletion_of_a_task_that_moves_meanwhile(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    service = stage.service
    real, moved = service.manager.locker._runtime.wire.batch_write, []

    def between(writes: Any, **options: Any) -> Any:
        if not moved:
            moved.append(service.manager.cancel_task(type(service.get("a").data), "a"))
        return real(writes, **options)

    monkeypatch.setattr(service.manager.locker._runtime.wire, "batch_write", between)
    assert service.manager.delete_tasks_by_ids(type(service.get("a").data), ["a", "b"]) == 2
    assert moved == [True]
    assert service.manager.get_tasks_by_ids(type(service.get("c").data), ["a", "b"]) == []
