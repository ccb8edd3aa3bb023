"""
The import of documents of the Go library oncetask: of each state, twice, interrupted, and while its workers go on.
"""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask

from gcp_oncetask import Attempt, Config, ConfigError, Locker, StoreError
from gcp_oncetask.clock import Wakeup
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.flask import blueprint
from gcp_oncetask.importing import go_oncetask
from gcp_oncetask.importing.go_oncetask import GoImport, ImportPlan, ImportReport
from gcp_oncetask.operate.many import Pace
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.tasks import OnceTask, Recurrence, TaskData, TaskManager, TaskStatus
from gcp_oncetask.tasks.moving import Move
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.go_oncetask import COLLECTION, NO_WAIT, OldWorker, old, stamp

URL = "https://imported.test"
DONE = "2025-12-01T08:00:00Z"
ERROR = {"at": "2025-12-01T07:00:00Z", "error": "no route"}


class SendMail(TaskData, kind="send-mail"):
    to: str
    size: int

    def task_id(self) -> str:
        return self.to

    def recurrence(self) -> Recurrence | None:
        return None


class Gone(TaskData, kind="gone", retention=86_400, on_conflict="replace"):
    to: str
    size: int

    def task_id(self) -> str:
        return self.to


class Keyed(TaskData, kind="keyed"):
    to: str
    size: int

    def task_id(self) -> str:
        return self.to

    def resource_key(self) -> str:
        return "till"


class Limited(TaskData, kind="limited", max_running=2):
    to: str
    size: int

    def task_id(self) -> str:
        return self.to


class Office:
    """
    A deployment with the documents that the Go library has left in the same collection.
    """

    def __init__(self, cloud: OncetaskCloud) -> None:
        self.cloud = cloud
        self.ran: list[str] = []
        self.cleaned: list[str] = []
        self.manager = TaskManager(Locker(config=Config(base_url=URL)))
        self.manager.register_task_handler(SendMail, self._send, on_cancel=self._clean)
        for model in (Gone, Keyed, Limited):
            self.manager.register_task_handler(model, self._send)
        app = Flask("office")
        app.register_blueprint(blueprint(self.manager))
        cloud.use(self.manager.locker)
        cloud.mount(URL, app)
        self.client = self.manager.locker.client
        self.tasks = self.client.collection(COLLECTION)

    def _send(self, task: OnceTask[Any], attempt: Attempt) -> str:
        self.ran.append(task.id)
        return "sent"

    def _clean(self, task: OnceTask[Any], attempt: Attempt) -> None:
        self.cleaned.append(task.id)

    def put(self, id_: str, **fields: Any) -> None:
        self.tasks.document(id_).set(old(id_, **fields))

    def take(self, pace: Pace | None = None, **plan: Any) -> dict[str, ImportReport]:
        """
        Import; the reports by id.
        """
        work = GoImport(self.manager, ImportPlan(COLLECTION, "DEFAULT", **plan), pace)
        found = list(work.run())
        self.passed_over = work.passed_over
        assert len({each.path for each in found}) == len(found)
        return {each.path.rpartition("/")[2]: each for each in found}

    def outcomes(self, **plan: Any) -> dict[str, str]:
        return {id_: each.outcome for id_, each in self.take(**plan).items()}

    def left(self) -> set[str]:
        """
        The ids of the old documents.
        """
        return {found.id for found in self.tasks.stream() if "lock" not in found.to_dict()}

    def task(self, id_: str, model: type[TaskData] = SendMail) -> OnceTask[Any]:
        found = self.manager.get_task(model, id_)
        assert found is not None
        return found

    def status(self, id_: str) -> TaskStatus:
        return self.task(id_).status(self.cloud.clock_now())

    def until(self, at: datetime) -> None:
        self.cloud.advance(seconds=(at - self.cloud.clock_now()).total_seconds() + 60)

    def in_(self, **length: float) -> str:
        return stamp(self.cloud.clock_now() + timedelta(**length))


@pytest.fixture
def office(oncetask_cloud: OncetaskCloud) -> Office:
    return Office(oncetask_cloud)


def fill(office: Office) -> None:
    """
    One document of each state.
    """
    office.put("due")
    office.put("waits", waitUntil=office.in_(hours=2))
    office.put("failed-once", attempts=1, errors=[ERROR], waitUntil=office.in_(minutes=-5))
    office.put("leased", leasedUntil=office.in_(minutes=8), attempts=1)
    office.put("crashed", leasedUntil=office.in_(minutes=-8), attempts=1)
    office.put("completed", doneAt=DONE, attempts=2, errors=[ERROR], result={"id": "m-1"})
    office.put("failed", doneAt=DONE, attempts=1, errors=[ERROR])
    office.put("cancelled", doneAt=DONE, isCancelled=True, cancelledAt=DONE)
    office.put("cancelling", isCancelled=True, cancelledAt=DONE, waitUntil=NO_WAIT)


ENDED = {"completed", "failed", "cancelled"}
LIVE = {"due", "waits", "failed-once", "crashed", "cancelling"}


@pytest.mark.parametrize("way", ["stopped", "delete"])
def test_each_state_goes_on_here(office: Office, way: str) -> None:
    """
    Ended tasks stay ended, with result, failures and end; others run once, at their time; a leased one is left.
    """
    fill(office)
    reports = office.take(**{way: True})

    assert {id_ for id_, each in reports.items() if each.outcome == "imported"} == ENDED | LIVE
    assert reports["leased"].outcome == "left"
    assert "has its lease until 20" in reports["leased"].said
    assert office.left() == ({"leased"} if way == "delete" else ENDED | LIVE | {"leased"})
    assert all(each.deleted is (way == "delete" and id_ != "leased") for id_, each in reports.items())
    assert (office.status("completed"), office.manager.result(SendMail, "completed")) == ("completed", {"id": "m-1"})
    assert (office.status("failed"), office.status("cancelled")) == ("failed", "cancelled")
    assert office.task("failed").errors[0].message == "no route"
    assert office.task("completed").done_at == datetime(2025, 12, 1, 8, tzinfo=UTC)
    assert office.task("completed").created_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert office.manager.find().items == ()
    assert [each.id for each in office.manager.find(dismissed=True).items] == ["failed"]

    office.cloud.advance(minutes=1)
    assert sorted(office.ran) == ["crashed", "due", "failed-once"]
    assert office.cleaned == ["cancelling"]
    assert office.task("failed-once").lock.attempts == 2
    office.cloud.advance(hours=3)
    assert sorted(office.ran) == ["crashed", "due", "failed-once", "waits"]
    assert office.cloud.alerts.sent == []
    for id_ in ENDED | LIVE:
        assert office.manager.locker.show(f"{office.task(id_).path}").status in ("completed", "failed", "cancelled")


@pytest.mark.parametrize("way", ["stopped", "delete"])
def test_second_import_creates_nothing(office: Office, way: str) -> None:
    """
    An id that exists is not created again in any state of its task; a task that was leased is taken later.
    """
    fill(office)
    office.take(**{way: True})
    office.cloud.advance(minutes=9)
    ran = sorted(office.ran)
    again = office.outcomes(**{way: True})

    assert again.pop("leased") == "imported"
    assert again == ({} if way == "delete" else dict.fromkeys(ENDED | LIVE, "exists"))
    office.cloud.run_until_idle()
    assert sorted(office.ran) == sorted([*ran, "leased"])


def test_without_a_promise_only_ended_tasks_are_taken(office: Office) -> None:
    """
    The documents are not written, so a worker of the Go library could still take the others.
    """
    fill(office)
    before = {found.id: found.update_time for found in office.tasks.stream()}
    reports = office.take()

    assert {id_ for id_, each in reports.items() if each.outcome == "imported"} == ENDED
    assert {id_ for id_, each in reports.items() if each.outcome == "left"} == LIVE | {"leased"}
    assert reports["due"].said == "it is due, and a worker of the Go library could still run it"
    assert {id_: office.tasks.document(id_).get().update_time for id_ in before} == before
    assert office.cloud.run_until_idle() == 0


def test_dry_run_writes_nothing(office: Office) -> None:
    """
    It tells the same outcomes, also in a second import.
    """
    fill(office)
    office.take(delete=True)
    office.put("new")
    office.put("completed", doneAt=DONE, attempts=1)
    before = {found.id: found.update_time for found in office.tasks.stream()}

    assert office.outcomes(write=False, stopped=True) == {"leased": "left", "new": "ready", "completed": "exists"}
    assert {found.id: found.update_time for found in office.tasks.stream()} == before


@pytest.mark.parametrize("way", ["stopped", "delete"])
def test_interrupted_import_goes_on(office: Office, way: str) -> None:
    """
    It ends after the present document; the next call takes the others, and each task runs once.
    """
    for number in range(12):
        office.put(f"m{number:02}")
    stop = Wakeup()
    pace = Pace(runtime_of(office.manager.locker).clock, stop=stop)
    work = GoImport(office.manager, ImportPlan(COLLECTION, "DEFAULT", **{way: True}), pace)
    for number, _ in enumerate(work.run()):
        if number == 4:
            stop.set()
    assert number == 4
    outcomes = Counter(office.outcomes(**{way: True}).values())

    assert outcomes == ({"imported": 7} if way == "delete" else {"imported": 7, "exists": 5})
    office.cloud.run_until_idle()
    assert sorted(office.ran) == [f"m{number:02}" for number in range(12)]


@pytest.mark.parametrize("when", ["before the commit", "after the commit"])
def test_import_dies_at_any_commit(office: Office, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A process that dies beside a commit leaves the old document or the new task, never both and never none.
    """
    office.put("due")
    wire = runtime_of(office.manager.locker).wire
    commit = wire.commit

    def dying(request: Any, **options: Any) -> Any:
        if request.writes and any(each.delete for each in request.writes):
            if when == "after the commit":
                commit(request, **options)
            raise KeyboardInterrupt
        return commit(request, **options)

    monkeypatch.setattr(wire, "commit", dying)
    with pytest.raises(KeyboardInterrupt):
        office.take(delete=True)
    monkeypatch.undo()
    there = office.manager.get_task(SendMail, "due") is not None
    assert there is (when == "after the commit")
    assert office.left() == (set() if there else {"due"})

    assert office.outcomes(delete=True) == ({} if there else {"due": "imported"})
    # The sweep makes the Cloud Task that the dead process owed.
    office.cloud.advance(minutes=10)
    office.cloud.sweep()
    office.cloud.run_until_idle()
    assert office.ran == ["due"]


# --- while workers of the Go library go on ----------------------------------------------------------------------------


def old_worker(office: Office, ran: list[str]) -> OldWorker:
    return OldWorker(office.client, office.cloud.clock_now, ran.append)


@pytest.mark.parametrize("ends", [False, True])
def test_task_that_an_old_worker_claims_meanwhile_is_left(
    office: Office, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The claim comes between the read of the document and the commit of the import: the commit is refused.
    """
    ran: list[str] = []
    worker = old_worker(office, ran)
    office.put("due")
    writes, claims = Move.writes, []

    def late(move: Move, put: Any) -> Any:
        if not claims:
            claims.append(worker.claim())
            if ends:
                worker.complete("due")
        return writes(move, put)

    monkeypatch.setattr(Move, "writes", late)
    report = office.take(delete=True)["due"]

    assert claims == ["due"]
    assert report.outcome == ("imported" if ends else "left")
    if not ends:
        assert office.manager.get_task(SendMail, "due") is None
        worker.complete("due")
        assert office.outcomes(delete=True) == {"due": "imported"}
    office.cloud.run_until_idle()
    assert (ran, office.ran) == (["due"], [])
    assert (office.status("due"), office.manager.result(SendMail, "due")) == ("completed", "by Go")


def test_each_task_runs_in_one_of_the_two_systems(office: Office) -> None:
    """
    Old workers claim, run and complete while the import moves the same documents.
    """
    ids = [f"m{number:02}" for number in range(40)]
    for id_ in ids:
        office.put(id_)
    ran: list[str] = []
    started = threading.Event()

    def work(worker: OldWorker) -> None:
        for _ in range(60):
            id_ = worker.claim()
            if id_ is not None:
                worker.complete(id_)
            started.set()

    threads = [threading.Thread(target=work, args=(old_worker(office, ran),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    started.wait()
    while office.left():
        office.take(delete=True)
        if not any(thread.is_alive() for thread in threads):
            office.take(delete=True)
            break
    for thread in threads:
        thread.join()
    office.take(delete=True)
    office.cloud.run_until_idle()

    assert office.left() == set()
    assert sorted(ran + office.ran) == ids
    assert ran
    assert all(office.status(id_) == "completed" for id_ in ids)


def test_task_that_go_has_completed_after_a_promise_is_told(office: Office) -> None:
    """
    The person has said that the workers are stopped, and one was not: the task here, which has not run, is named.
    """
    ran: list[str] = []
    office.put("due", waitUntil=office.in_(hours=1))
    assert office.outcomes(stopped=True) == {"due": "imported"}
    office.tasks.document("due").update({"waitUntil": NO_WAIT})
    worker = old_worker(office, ran)
    assert worker.claim() == "due"
    worker.complete("due")
    report = office.take(stopped=True)["due"]

    path = office.task("due").path
    assert report.outcome == "refused"
    assert report.said.endswith(f"is scheduled: cancel that one by python -m gcp_oncetask cancel {path}")


def test_task_that_ends_after_its_page_was_read_does_not_run(office: Office) -> None:
    """
    A worker that is about to stop completes its last task; without deletion, each document is read again before it is taken.
    """
    office.put("a")
    office.put("b")
    found = {}
    for each in GoImport(office.manager, ImportPlan(COLLECTION, "DEFAULT", stopped=True)).run():
        found[each.path.rpartition("/")[2]] = each.said
        office.tasks.document("b").update({"doneAt": DONE, "attempts": 1})
    office.cloud.run_until_idle()

    assert found == {"a": "due", "b": "completed"}
    assert office.ran == ["a"]


# --- generators -------------------------------------------------------------------------------------------------------


class Report(TaskData, kind="report"):
    name: str

    def task_id(self) -> str:
        return self.name

    def recurrence(self) -> Recurrence | None:
        return Recurrence("FREQ=DAILY", "2026-01-01T09:00:00Z")


def daily(office: Office, **fields: Any) -> datetime:
    """
    A daily generator with the occurrences of two days; the time of its next one.
    """
    office.manager.register_task_handler(Report, office._send)
    at = office.cloud.clock_now().replace(hour=9, minute=0, second=0, microsecond=0) + timedelta(days=1)
    rule = {"rrule": "FREQ=DAILY", "dtstart": stamp(at - timedelta(days=30)), "exdates": []}
    data = {"type": "report", "data": {"name": "report"}}
    office.put("report", recurrence=rule, attempts=30, **{"waitUntil": stamp(at), **data, **fields})
    for days in (2, 1):
        occurrence(office, at - timedelta(days=days), doneAt=DONE, attempts=1)
    return at


def occurrence(office: Office, at: datetime, **fields: Any) -> str:
    id_ = f"report_occ_{stamp(at)}"
    of = {"parentRecurrenceId": "report", "occurrenceTimestamp": stamp(at), "waitUntil": stamp(at)}
    office.put(id_, type="report", data={"name": "report"}, **of, **fields)
    return id_


def test_generator_goes_on_at_its_next_time(office: Office) -> None:
    """
    No run of the past is made again, and the next occurrence has the id that the Go library would have given it.
    """
    at = daily(office)
    outcomes = office.outcomes(delete=True)

    assert list(outcomes.values()) == ["imported"] * 3
    assert list(outcomes)[-1] == "report"
    occurrence_ = office.task(f"report_occ_{stamp(at - timedelta(days=1))}", Report)
    assert (occurrence_.parent_id, occurrence_.occurrence_at) == ("report", at - timedelta(days=1))
    assert office.task("report", Report).lock.wait_until == at
    office.cloud.run_until_idle()
    assert office.ran == []
    office.until(at + timedelta(days=1))
    assert office.ran == [f"report_occ_{stamp(at + timedelta(days=days))}" for days in (0, 1)]


@pytest.mark.parametrize("state", ["completed", "due", "leased"])
def test_occurrence_that_exists_is_not_made_again(office: Office, state: str) -> None:
    """
    The Go library has made the occurrence and died before it advanced the generator; the occurrence comes after the page.
    """
    at = daily(office)
    fields: dict[str, Any] = {
        "completed": {"doneAt": DONE, "attempts": 1},
        "due": {},
        "leased": {"leasedUntil": stamp(at + timedelta(minutes=5)), "attempts": 1},
    }[state]
    work = GoImport(office.manager, ImportPlan(COLLECTION, "DEFAULT", delete=True))
    found = []
    for each in work.run():
        if not found:
            made = occurrence(office, at, **fields)
        found.append(each)
    outcomes = {each.path.rpartition("/")[2]: each.outcome for each in found}

    assert outcomes["report"] == ("left" if state == "leased" else "imported")
    assert outcomes[made] == ("left" if state == "leased" else "imported")
    office.until(at + timedelta(hours=1))
    assert office.ran.count(made) == (1 if state == "due" else 0)


def test_model_must_recur_for_a_generator(office: Office) -> None:
    """
    A handler without recurrence() can't run a generator, so the document is refused; a cancelled generator has ended.
    """
    rule = {"rrule": "FREQ=DAILY", "dtstart": "2026-01-01T09:00:00Z", "exdates": None}
    office.put("a", type="gone", recurrence=rule)
    office.put("b", recurrence=rule, isCancelled=True, cancelledAt=DONE, waitUntil=NO_WAIT)
    reports = office.take(stopped=True)

    assert (reports["a"].outcome, reports["a"].said) == ("refused", "it recurs, and Gone has no recurrence()")
    assert (reports["b"].outcome, office.status("b")) == ("imported", "cancelled")


# --- what is refused, and what is passed over -------------------------------------------------------------------------


def test_each_refused_document_has_its_reason(office: Office) -> None:
    """
    One document stops no other.
    """
    office.put("good")
    office.put("no-handler", type="fax")
    office.put("unfit", data={"to": "unfit", "cc": "x"})
    office.put("other-id", data={"to": "mine", "size": 1.0})
    office.put("other-key", type="keyed", resourceKey="desk")
    office.put("limited", type="limited", resourceKey="desk")
    office.put("unreadable", waitUntil="soon")
    office.tasks.document("alien").set({"name": "x"})
    reports = office.take(stopped=True)

    assert reports.pop("good").outcome == "imported"
    assert {each.outcome for each in reports.values()} == {"refused"}
    said = {id_: each.said for id_, each in reports.items()}
    assert said["no-handler"] == "the task manager has no handler for the kind 'fax'"
    assert "onceTasks/unfit does not fit SendMail" in said["unfit"]
    assert "SendMail.task_id() is 'mine', so another request" in said["other-id"]
    assert said["other-key"] == "Keyed.resource_key() is 'till', and the document has 'desk'"
    assert said["limited"] == "it has the resource key 'desk', and Limited has max_running= in place of keys"
    assert said["unreadable"] == "its field waitUntil is 'soon', which is no time"
    assert said["alien"].startswith("it is no task of the Go library")
    assert office.left() == {"good", "alien", *said}

    again = office.outcomes(stopped=True, as_stored=True)
    assert [id_ for id_, outcome in again.items() if outcome == "imported"] == ["other-id", "other-key"]
    assert office.task("other-key", Keyed).resource_key == "desk"


def test_all_pages_are_read(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Also where the tasks here come between the old documents.
    """
    monkeypatch.setattr(go_oncetask, "_PAGE", 4)
    ids = {f"{number:x}{number:x}" for number in range(16)}
    for id_ in ids:
        office.put(id_)

    assert office.outcomes(stopped=True) == dict.fromkeys(ids, "imported")
    assert office.outcomes(stopped=True) == dict.fromkeys(ids, "exists")


def test_kinds_and_environments_are_chosen(office: Office) -> None:
    """
    A type may have another name here; documents of other types and environments are counted, and the tasks here are not.
    """
    office.put("a", type="SendMail")
    office.put("b", type="other")
    office.put("c", type="SendMail", env="staging")
    office.manager.create_task(SendMail(to="new", size=1))

    assert office.outcomes(stopped=True, kinds={"SendMail": "send-mail"}) == {"a": "imported"}
    assert office.passed_over == 2
    assert office.task("a").kind == "send-mail"


def test_newest_wins_kind_keeps_the_task_here(office: Office) -> None:
    """
    The document is older than the task, so it replaces nothing; and its retention counts from its end.
    """
    office.put("a", type="gone")
    office.put("b", type="gone", doneAt=DONE, attempts=1)
    office.manager.create_task(Gone(to="a", size=9))
    reports = office.take(delete=True)

    assert reports["a"].outcome == "exists"
    assert reports["a"].said == "due; the task here has another payload (size)"
    assert not reports["a"].deleted
    assert office.task("a", Gone).data.size == 9
    stored = office.client.document(office.task("b", Gone).path).get().to_dict()
    assert stored["expireAt"] > office.cloud.clock_now()
    assert stored["expireAt"] - office.cloud.clock_now() <= timedelta(hours=1, seconds=1)


def test_missing_setting_ends_the_import(oncetask_cloud: OncetaskCloud) -> None:
    """
    No document is refused for it.
    """
    office = Office(oncetask_cloud)
    office.put("due")
    runtime_of(office.manager.locker).config = Config(project="demo-local", location="us-central1")
    with pytest.raises(ConfigError):
        office.take(stopped=True)


def extend(found: list[ImportReport], work: GoImport) -> None:
    for each in work.run():
        found.append(each)  # noqa: PERF402 - those before an error count


def test_import_ends_when_firestore_keeps_failing(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Three documents in a row, each with its reason; then the error.
    """
    for number in range(5):
        office.put(f"m{number}")
    work = GoImport(office.manager, ImportPlan(COLLECTION, "DEFAULT", stopped=True))
    store = runtime_of(office.manager.locker).store

    def fail(path: str, *rest: Any, **more: Any) -> Any:
        raise StoreError(f"{path}: unreachable.", unknown=False)

    monkeypatch.setattr(store, "change", fail)
    found: list[ImportReport] = []
    with pytest.raises(StoreError, match="unreachable"):
        extend(found, work)
    assert [each.outcome for each in found] == ["refused"] * 3
    assert office.cloud.run_until_idle() == 0


def test_result_that_cannot_be_stored_is_dismissed(office: Office) -> None:
    """
    The task is completed all the same, and needs no person.
    """
    office.put("big", doneAt=DONE, attempts=1, result="x" * 70_000)
    assert office.outcomes() == {"big": "imported"}
    lock: Lock = office.task("big").lock

    assert (lock.status, lock.owed) == (Status.COMPLETED, ())
    assert office.manager.find().items == ()
