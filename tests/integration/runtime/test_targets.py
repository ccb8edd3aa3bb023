"""
Who may say where a task goes: not whoever may write a document. Records that a browser has made up, at each way into Cloud Tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from flask import Flask
from google.cloud import firestore

from gcp_oncetask import Attempt, Config, Continue, LockedModel, Locker, sweep
from gcp_oncetask.cli import main
from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.errors import StoreError, UsageError
from gcp_oncetask.flask import locked_handler
from gcp_oncetask.outbox import dispatch_written
from gcp_oncetask.rules.document_paths import origin_path
from gcp_oncetask.store import registry
from gcp_oncetask.sweeper import Swept
from gcp_oncetask.tasks import TaskData, TaskManager
from gcp_oncetask.testing.cloud import ACCOUNT, OncetaskCloud

URL = "https://letters.test"
EVIL = "https://evil.test"
OTHERS = "projects/evil/locations/us-central1/queues/default"


class Letter(LockedModel, collection="letters"):
    pass


class Card(LockedModel, collection="people/{person}/cards"):
    person: str


class Stamp(TaskData, kind="stamp"):
    name: str = "s"
    recurs: bool = False

    def task_id(self) -> str:
        return self.name


@pytest.fixture(autouse=True)
def as_in_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Models are found by the registry alone: in a sweeper, a function or a command nobody has imported them.
    """
    monkeypatch.setattr(registry, "DECLARED", {})


@pytest.fixture
def post(oncetask_cloud: OncetaskCloud) -> Locker:
    """
    A service that has scheduled letters and cards.
    """
    made = process(oncetask_cloud, base_url=URL)
    made.schedule(Letter(id="first"), "/letter")
    made.schedule(Card(id="first", person="ann"), "/card")
    for task in oncetask_cloud.local.tasks.tasks():
        oncetask_cloud.drop(task.name)
    for path in ("letters/first", "people/ann/cards/first"):
        made.client.document(path).delete()
    return made


def process(cloud: OncetaskCloud, **settings: Any) -> Locker:
    """
    A locker that has made no call yet.
    """
    made = Locker(config=Config(**settings))
    cloud.use(made)
    return made


def made(cloud: OncetaskCloud) -> list[Any]:
    """
    The Cloud Tasks that exist.
    """
    return list(cloud.local.tasks.tasks())


def forge(cloud: OncetaskCloud, post: Locker, path: str, **lock: Any) -> dict[str, Any]:
    """
    What a browser writes at *path*: the record of a letter that was scheduled and not dispatched, with *lock* in it.
    """
    cloud.faults.fail("CreateTask", times=2)
    post.schedule(Letter(id="pattern"), "/letter")
    pattern = post.client.document("letters/pattern")
    fields = pattern.get().to_dict()
    assert fields is not None
    pattern.delete()
    fields["lock"] = {name: value for name, value in {**fields["lock"], **lock}.items() if value is not None}
    post.client.document(path).set(fields)
    return fields


def swept(cloud: OncetaskCloud, locker: Locker) -> Swept:
    """
    A sweep when all is overdue.
    """
    cloud.clock.advance(120)
    return sweep(locker)


ELSEWHERE = {
    "url": {"url": f"{EVIL}/letter"},
    "other-port": {"url": f"{URL}:8443/letter"},
    "lookalike": {"url": f"{URL}.evil.test/letter"},
    "userinfo": {"url": f"{URL}@evil.test/letter"},
    "backslash": {"url": f"{EVIL}\\@letters.test/letter"},
    "unencrypted": {"url": "http://letters.test/letter"},
    "queue": {"queue": OTHERS},
    "headers": {"headers": {"Authorization": "Bearer x"}},
    "serverless": {"headers": {"X-Serverless-Authorization": "Bearer x"}},
}
"""What a document may say that no Cloud Task is made of."""
NO_COLLECTION = (
    "comments/x",
    "comments/x/letters/y",
    "letters/x/comments/y",
    "people/ann/cards/x/cards/y",
    "people/ann/letters/x",
    "comments/x/onceTasks/00:DEFAULT:stamp:s",
    "onceTasks/00:DEFAULT:stamp:s/comments/y",
    "onceTasks/x/onceTasks/00:DEFAULT:stamp:s",
    "comments/x/onceLocks/00:DEFAULT:key:k",
)
"""Where no record counts, whatever it says."""


def by_event(cloud: OncetaskCloud, post: Locker, path: str, fields: dict[str, Any]) -> None:
    assert not dispatch_written(process(cloud), path, None, fields)


def by_sweep(cloud: OncetaskCloud, post: Locker, path: str, fields: dict[str, Any]) -> None:
    assert swept(cloud, process(cloud)).dispatched == 0


def by_sweep_of_the_service(cloud: OncetaskCloud, post: Locker, path: str, fields: dict[str, Any]) -> None:
    assert swept(cloud, post).dispatched == 0


def by_reset(cloud: OncetaskCloud, post: Locker, path: str, fields: dict[str, Any]) -> None:
    fields["lock"]["status"] = "failed"
    del fields["lock"]["due"]
    post.client.document(path).set(fields)
    with pytest.raises(UsageError):
        process(cloud).reset_path(path)


def by_reset_of_a_damaged_one(cloud: OncetaskCloud, post: Locker, path: str, fields: dict[str, Any]) -> None:
    fields["lock"].update(attempts="many")
    post.client.document(path).set(fields)
    with pytest.raises(UsageError):
        process(cloud).reset_path(path)


def by_resolve(cloud: OncetaskCloud, post: Locker, path: str, fields: dict[str, Any]) -> None:
    now = cloud.clock_now()
    fields["lock"].update(status="quarantined", token=1, holder="h", grantedAt=now, leasedAt=now, leaseSeconds=60.0)
    post.client.document(path).set(fields)
    with pytest.raises(UsageError):
        process(cloud).resolve_path(path, "run")


WAYS: list[Callable[..., None]] = [
    by_event,
    by_sweep,
    by_sweep_of_the_service,
    by_reset,
    by_reset_of_a_damaged_one,
    by_resolve,
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("lock", ELSEWHERE.values(), ids=ELSEWHERE)
def test_record_that_names_another_place_makes_no_task(
    oncetask_cloud: OncetaskCloud, post: Locker, lock: dict[str, Any], way: Callable[..., None]
) -> None:
    """
    In a collection that is ours. Nor is the queue that it names asked for anything.
    """
    for path in ("letters/x", "people/ann/cards/x"):
        fields = forge(oncetask_cloud, post, path, **lock)
        calls = dict(oncetask_cloud.local.tasks.counts)
        way(oncetask_cloud, post, path, fields)

        assert dict(oncetask_cloud.local.tasks.counts) == calls
        assert not dispatch_written(process(oncetask_cloud, base_url=URL), path, None, fields)
        assert made(oncetask_cloud) == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", NO_COLLECTION)
def test_record_counts_in_no_other_collection(
    oncetask_cloud: OncetaskCloud, post: Locker, path: str, way: Callable[..., None]
) -> None:
    """
    Though it names our own URL: no task, nothing written to it, and its collection is not registered by it.
    """
    known = [each.collection for each in post._runtime.registry.all()[0]]
    way(oncetask_cloud, post, path, forge(oncetask_cloud, post, path))

    assert made(oncetask_cloud) == []
    assert [each.collection for each in post._runtime.registry.all()[0]] == known
    assert not dispatch_written(post, path, None, post.client.document(path).get().to_dict())


def test_collections_that_are_ours_count(oncetask_cloud: OncetaskCloud, post: Locker) -> None:
    """
    A registered one, a registered template, a configured one, and the once-tasks.
    """
    function = process(oncetask_cloud, collections=("comments",))
    for path in ("letters/x", "people/bob/cards/x", "comments/x", "onceTasks/00:DEFAULT:stamp:s"):
        fields = forge(oncetask_cloud, post, path)
        assert dispatch_written(function, path, None, fields), path
    assert len(made(oncetask_cloud)) == 4


# --- what a sweep leaves ----------------------------------------------------------------------------------------------


def test_what_is_left_is_moved_told_and_taken_by_a_process_that_may(
    oncetask_cloud: OncetaskCloud, post: Locker, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Looked at ever less often; a person is told once, after a quarter of an hour; then a process that has it configured delivers.
    """
    forge(oncetask_cloud, post, "letters/x", url="https://branch.test/letter")
    for minute in range(40):
        oncetask_cloud.clock.advance(60)
        found = sweep(process(oncetask_cloud))
        assert (found.dispatched, found.failed, found.damaged) == (0, 0, 0)
        assert (minute >= 15) is (len(oncetask_cloud.alerts.sent) == 1), minute
    [alert] = oncetask_cloud.alerts.sent
    assert "set ONCETASK_TARGETS=https://branch.test (or https://branch.test=AUDIENCE)" in alert.reason
    assert "it is left to a process that may make its task" in caplog.text
    assert sum("it is left" in line for line in caplog.messages) < 20
    oncetask_cloud.clock.advance(3600)
    assert "1 left" in str(sweep(process(oncetask_cloud)))
    oncetask_cloud.clock.advance(3600)
    heir = process(oncetask_cloud, targets=("https://branch.test=stamps",))
    assert sweep(heir).dispatched == 1
    [task] = made(oncetask_cloud)
    assert task.http_request.oidc_token.audience == "stamps"


def test_many_forged_records_keep_no_sweep_from_others(oncetask_cloud: OncetaskCloud, post: Locker) -> None:
    """
    300 of as many origins and queues: one query of the registry, no look into a queue, one alert, and what is ours is dispatched.
    """
    fields = forge(oncetask_cloud, post, "letters/x")
    batch = post.client.batch()
    for number in range(300):
        lock = {
            **fields["lock"],
            "url": f"https://{number}.evil.test/",
            "queue": f"projects/e{number}/locations/l/queues/q",
        }
        if number % 2:
            lock["queue"] = fields["lock"]["queue"]
        batch.set(post.client.document(f"letters/evil{number}"), {"lock": lock})
    batch.commit()
    oncetask_cloud.clock.advance(1800)
    sweeper = process(oncetask_cloud)
    counts = oncetask_cloud.local.firestore.counts
    before = counts["Commit"], counts["BatchWrite"], counts["RunQuery"]
    found = sweep(sweeper, limit=50)

    assert (found.left, found.dispatched, found.failed) == (300, 1, 0)
    assert (counts["Commit"] - before[0] < 30, counts["BatchWrite"] - before[1]) == (True, 2)
    # One for each collection that is swept or may have records that need a person; none for a forged record.
    assert counts["RunQuery"] - before[2] < 60
    [reason] = [alert.reason for alert in oncetask_cloud.alerts.sent if "may not make" in alert.reason]
    assert len(reason) < 2000
    assert [task.http_request.url.partition("?")[0] for task in made(oncetask_cloud)] == [f"{URL}/letter"]


def test_many_forged_events_cost_one_query(oncetask_cloud: OncetaskCloud, post: Locker) -> None:
    """
    In ten seconds, in each instance; and a collection that is new is known after them.
    """
    fields = forge(oncetask_cloud, post, "letters/x")
    function = process(oncetask_cloud)
    function._runtime.store.estimate()
    counts(oncetask_cloud)
    for number in range(50):
        assert not dispatch_written(function, f"comments/{number}", None, fields)
    assert counts(oncetask_cloud) == {"RunQuery": 1}
    post._runtime.register("comments", None)
    oncetask_cloud.clock.advance(10)
    assert dispatch_written(function, "comments/x", None, fields)


def test_registry_that_can_not_be_read_leaves_it_due(oncetask_cloud: OncetaskCloud, post: Locker) -> None:
    """
    Nothing is known then: no task, no moved due time, and the next sweep dispatches.
    """
    fields = forge(oncetask_cloud, post, "letters/x")
    sweeper = process(oncetask_cloud)
    oncetask_cloud.clock.advance(120)
    refused: list[bool] = []
    audience = sweeper._runtime.registry.audience

    def fails(origin: str) -> str | None:
        refused.append(True)
        raise StoreError(f"{origin}: no registry today", unknown=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeper._runtime.registry, "audience", fails)
        assert (sweep(sweeper).failed, made(oncetask_cloud), refused) == (1, [], [True])
        assert not dispatch(sweeper._runtime, sweeper._runtime.store.get("letters/x"))
    assert sweeper.show("letters/x").due == fields["lock"]["due"]
    assert audience(URL) == "https://oncetask.test"
    assert sweep(sweeper).dispatched == 1


# --- scheduling -------------------------------------------------------------------------------------------------------


def entity(locker: Locker, url: str, **options: Any) -> None:
    locker.schedule(Letter(id="new"), url, **options)


def entity_in_a_transaction(locker: Locker, url: str, **options: Any) -> None:
    @firestore.transactional
    def body(transaction: Any) -> None:
        locker.schedule(Letter(id="new"), url, transaction=transaction, **options)

    body(locker.client.transaction())


def once_task(locker: Locker, url: str, **_: Any) -> None:
    TaskManager(locker, path=url).create_task(Stamp())


def once_task_in_a_transaction(locker: Locker, url: str, **_: Any) -> None:
    @firestore.transactional
    def body(transaction: Any) -> None:
        TaskManager(locker, path=url).create_task(Stamp(), transaction=transaction)

    body(locker.client.transaction())


def many_once_tasks(locker: Locker, url: str, **_: Any) -> None:
    TaskManager(locker, path=url).create_tasks([Stamp(name="a"), Stamp(name="b")])


SCHEDULES: list[Callable[..., None]] = [
    entity,
    entity_in_a_transaction,
    once_task,
    once_task_in_a_transaction,
    many_once_tasks,
]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedule_elsewhere_is_refused(
    oncetask_cloud: OncetaskCloud, post: Locker, schedule: Callable[..., None]
) -> None:
    """
    With the setting that would allow it; nothing is written. Once it is set, the task has that origin's audience, and the origin
    is registered before the task is stored.
    """
    before = set(stored(oncetask_cloud))
    for url in (f"{EVIL}/x", f"{URL}:8443/x", "http://letters.test/x"):
        with pytest.raises(UsageError, match=r"set ONCETASK_TARGETS=http"):
            schedule(post, url)
    assert set(stored(oncetask_cloud)) == before

    allowed = process(oncetask_cloud, base_url=URL, targets=("https://branch.test=stamps",))
    schedule(allowed, "https://branch.test/x")
    fresh = set(stored(oncetask_cloud)) - before
    assert origin_path("DEFAULT", "https://branch.test") in fresh
    oncetask_cloud.clock.advance(120)
    sweep(process(oncetask_cloud))
    assert {task.http_request.oidc_token.audience for task in made(oncetask_cloud)} == {"stamps"}


def stored(cloud: OncetaskCloud) -> dict[str, Any]:
    found: Any = cloud.local.firestore
    documents: dict[str, Any] = found.documents(cloud.local.project)
    return documents


@pytest.mark.parametrize("options", [{"queue": OTHERS}, {"headers": {"X-Serverless-Authorization": "x"}}])
def test_schedule_with_what_is_not_ours_is_refused(
    oncetask_cloud: OncetaskCloud, post: Locker, options: dict[str, Any]
) -> None:
    for schedule in (entity, entity_in_a_transaction):
        with pytest.raises(UsageError):
            schedule(post, "/letter", **options)
    assert not post.client.document("letters/new").get().exists


@pytest.mark.parametrize("how", ["raised", "returned", "scheduled"])
def test_next_step_elsewhere_is_a_failed_attempt(oncetask_cloud: OncetaskCloud, post: Locker, how: str) -> None:
    """
    A step may not go where a first one may not.
    """
    app = Flask("letters")

    @app.post("/letter")
    @locked_handler(post, Letter, max_attempts=1)
    def view(letter: Letter, attempt: Attempt) -> Any:
        if how == "scheduled":
            post.schedule(letter, f"{EVIL}/x")
        if how == "raised":
            raise Continue(f"{EVIL}/x")
        return Continue(f"{EVIL}/x")

    oncetask_cloud.mount(URL, app)
    post.schedule(Letter(id="1"), "/letter")
    oncetask_cloud.run_until_idle()
    lock = post.show("letters/1")
    assert (str(lock.status), lock.url) == ("failed", f"{URL}/letter")
    assert "ONCETASK_TARGETS" in lock.errors[-1].message


def test_next_step_registers_where_it_goes(oncetask_cloud: OncetaskCloud) -> None:
    """
    As the first one does: a sweeper that has nothing configured dispatches it.
    """
    office = process(oncetask_cloud, base_url=URL, targets=("https://branch.test=stamps",))
    app = Flask("letters")

    @app.post("/letter")
    @locked_handler(office, Letter)
    def view(letter: Letter, attempt: Attempt) -> Any:
        oncetask_cloud.faults.fail("CreateTask", times=2)
        return Continue("https://branch.test/letter")

    oncetask_cloud.mount(URL, app)
    office.schedule(Letter(id="1"), "/letter")
    assert office._runtime.registry.origins() == {URL: "https://oncetask.test"}
    oncetask_cloud.run_until_idle()
    assert office._runtime.registry.origins() == {URL: "https://oncetask.test", "https://branch.test": "stamps"}
    assert swept(oncetask_cloud, process(oncetask_cloud)).dispatched == 1


def test_next_step_at_the_present_url_is_no_failed_attempt(oncetask_cloud: OncetaskCloud, post: Locker) -> None:
    """
    A chain that an older release has sent to where tasks may not go any more: what was done is kept, and its next step is left
    until a process knows that it may.
    """
    app, steps = Flask("letters"), []

    @app.post("/letter")
    @locked_handler(post, Letter)
    def view(letter: Letter, attempt: Attempt) -> Any:
        steps.append(attempt.step)
        return Continue() if attempt.step == 1 else None

    oncetask_cloud.mount("https://old.test", app)
    old = process(oncetask_cloud, targets=("https://old.test=https://oncetask.test",))
    old.schedule(Letter(id="1"), "https://old.test/letter")
    old.client.document(origin_path("DEFAULT", "https://old.test")).delete()
    oncetask_cloud.run_until_idle()
    assert (steps, post.show("letters/1").attempts, post.show("letters/1").step) == ([1], 0, 2)
    assert swept(oncetask_cloud, post).left == 1
    assert swept(oncetask_cloud, old).dispatched == 1
    oncetask_cloud.run_until_idle()
    assert (steps, str(post.show("letters/1").status)) == ([1, 2], "completed")


# --- the registry of origins ------------------------------------------------------------------------------------------


def counts(cloud: OncetaskCloud) -> dict[str, int]:
    found: Any = cloud.local.firestore
    taken = dict(found.counts)
    found.reset_counts()
    return taken


def test_origin_costs_what_its_collection_costs(oncetask_cloud: OncetaskCloud) -> None:
    """
    Both are one read and one commit of a process's first schedule, and one read an hour later; the next ones cost nothing.
    """
    first, second = process(oncetask_cloud, base_url=URL), process(oncetask_cloud, base_url=URL)
    for each in (first, second):
        each._runtime.store.estimate()
    counts(oncetask_cloud)
    first.schedule(Letter(id="1"), "/letter")
    assert counts(oncetask_cloud) == {"BatchGetDocuments": 1, "Commit": 2}
    first.schedule(Letter(id="2"), "/letter")
    TaskManager(first).create_task(Stamp())
    assert counts(oncetask_cloud) == {"Commit": 2}
    second.schedule(Letter(id="3"), "/letter")
    assert counts(oncetask_cloud) == {"BatchGetDocuments": 1, "Commit": 1}
    oncetask_cloud.clock.advance(3600)
    second.schedule(Letter(id="4"), "/letter")
    assert counts(oncetask_cloud) == {"BatchGetDocuments": 1, "Commit": 1}
    found = first.client.document(origin_path("DEFAULT", URL)).get().to_dict()
    assert found is not None
    assert found.pop("createdAt") < oncetask_cloud.clock_now()
    assert found == {
        "registry": "DEFAULT/origin",
        "origin": URL,
        "audience": "https://oncetask.test",
        "schema": 1,
    }


@pytest.mark.parametrize("method", ["BatchGetDocuments", "Commit"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_origin_that_can_not_be_registered_fails_the_schedule(
    oncetask_cloud: OncetaskCloud, method: str, schedule: Callable[..., None]
) -> None:
    """
    Else a task might be stored that no sweeper dispatches; the next call tries again.
    """
    locker = process(oncetask_cloud, base_url=URL)
    locker._runtime.store.estimate()
    oncetask_cloud.faults.fail(method, code=grpc.StatusCode.PERMISSION_DENIED, times=None)
    with pytest.raises(StoreError, match="PERMISSION_DENIED"):
        schedule(locker, "/letter")
    oncetask_cloud.faults.clear()
    assert stored(oncetask_cloud) == {}
    schedule(locker, "/letter")
    assert locker._runtime.registry.origins() == {URL: "https://oncetask.test"}


def test_sweeper_without_a_base_url_serves_several_services(oncetask_cloud: OncetaskCloud) -> None:
    """
    Each task gets the audience of its own service, none that of another; nobody else's settings are needed.
    """
    for name in ("red", "blue"):
        service = process(oncetask_cloud, base_url=f"https://{name}.test/shop", audience=(name,))
        oncetask_cloud.faults.fail("CreateTask", times=4)
        service.schedule(Letter(id=name), "/letter")
        TaskManager(service).create_task(Stamp(name=name))
    sweeper = process(oncetask_cloud, audience=("sweeper",))
    assert swept(oncetask_cloud, sweeper).dispatched == 4
    found = {(task.http_request.url[:16], task.http_request.oidc_token.audience) for task in made(oncetask_cloud)}
    assert found == {("https://red.test", "red"), ("https://blue.tes", "blue")}
    assert sweeper._runtime.registry.origins() == {"https://blue.test": "blue", "https://red.test": "red"}


def test_process_registers_only_what_it_has_configured(oncetask_cloud: OncetaskCloud, post: Locker) -> None:
    """
    One that sends tasks to a registered origin does not write it, and writes nothing over another audience.
    """
    other = process(oncetask_cloud, base_url="https://branch.test", audience=("branch",))
    other.schedule(Letter(id="1"), f"{URL}/letter")
    assert other._runtime.registry.origins() == {URL: "https://oncetask.test"}
    assert [task.http_request.oidc_token.audience for task in made(oncetask_cloud)] == ["https://oncetask.test"]
    post.client.document(origin_path("DEFAULT", URL)).delete()
    other.schedule(Letter(id="2"), f"{URL}/letter")
    assert other._runtime.registry.origins() == {}
    oncetask_cloud.clock.advance(3600)
    with pytest.raises(UsageError):
        other.schedule(Letter(id="3"), f"{URL}/letter")


def test_changed_audience_is_registered_anew(oncetask_cloud: OncetaskCloud, post: Locker) -> None:
    process(oncetask_cloud, base_url=URL, audience=("new",)).schedule(Letter(id="1"), "/letter")
    assert post._runtime.registry.origins() == {URL: "new"}


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("onceLocks/00:DEFAULT:origin:x", {"origin": f"{EVIL}/x", "audience": "a"}),
        ("onceLocks/00:DEFAULT:origin:x", {"origin": "https://EVIL.test", "audience": "a"}),
        ("onceLocks/00:DEFAULT:origin:x", {"origin": EVIL, "audience": 5}),
        ("onceLocks/00:DEFAULT:origin:x", {"origin": EVIL, "audience": ""}),
        ("onceLocks/00:DEFAULT:origin:x", {"origin": EVIL}),
        ("onceLocks/00:DEFAULT:origin:x", {"origin": ["x"], "audience": "a"}),
        ("onceLocks/00:DEFAULT:origin:x", {"origin": EVIL, "audience": "a", "registry": "DEFAULT"}),
        ("onceLocks/00:DEFAULT:origin:x", {"origin": EVIL, "audience": "a", "registry": "other/origin"}),
        ("comments/x/onceLocks/00:DEFAULT:origin:x", {"origin": EVIL, "audience": "a"}),
        ("comments/x", {"origin": EVIL, "audience": "a"}),
    ],
)
def test_what_is_no_registered_origin_counts_for_nothing(
    oncetask_cloud: OncetaskCloud, post: Locker, path: str, fields: dict[str, Any]
) -> None:
    """
    Damaged ones, and documents of that form outside of the registry; the sound ones still do.
    """
    post.client.document(path).set({"registry": "DEFAULT/origin", "schema": 1, **fields})
    forge(oncetask_cloud, post, "letters/x", url=f"{EVIL}/x")
    found = swept(oncetask_cloud, process(oncetask_cloud))
    assert (found.left, found.dispatched) == (1, 0)
    assert process(oncetask_cloud)._runtime.registry.origins() == {URL: "https://oncetask.test"}


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def types(
    cloud_on_ports: OncetaskCloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """
    What a person types, in an environment that names neither URLs nor collections: exit code and output.
    """
    for name, value in (
        ("FIRESTORE_EMULATOR_HOST", cloud_on_ports.local.firestore.address),
        ("CLOUD_TASKS_EMULATOR_HOST", cloud_on_ports.local.tasks.address),
        ("GOOGLE_CLOUD_PROJECT", cloud_on_ports.local.project),
        ("ONCETASK_SERVICE_ACCOUNT", ACCOUNT),
    ):
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[int, str]:
        code = main(arguments)
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def test_person_is_told_why_a_record_is_not_run(
    cloud_on_ports: OncetaskCloud, post: Locker, types: Callable[..., tuple[int, str]]
) -> None:
    """
    Who asks for a reset of a made-up record is refused, with the setting that would allow it; cancelling it makes no task either.
    """
    forge(cloud_on_ports, post, "comments/x", status="failed", due=None)
    forge(cloud_on_ports, post, "letters/x", status="failed", due=None, url=f"{EVIL}/x")
    forge(cloud_on_ports, post, "comments/y")
    code, said = types("reset", "comments/x")
    assert (code, "set ONCETASK_COLLECTIONS=comments" in said) == (2, True), said
    code, said = types("reset", "letters/x")
    assert (code, "set ONCETASK_TARGETS=https://evil.test" in said) == (2, True), said
    assert types("cancel", "comments/y")[0] == 2
    assert types("show", "comments/y")[0] == 0
    cloud_on_ports.clock.advance(120)
    assert types("sweep")[0] == 0
    assert made(cloud_on_ports) == []


def test_person_lists_and_forgets_origins(
    cloud_on_ports: OncetaskCloud, post: Locker, types: Callable[..., tuple[int, str]]
) -> None:
    """
    What is forgotten is known to no process that begins then, until one that has it configured schedules.
    """
    assert types("targets", "list") == (0, f"{URL}=https://oncetask.test\n")
    assert types("targets", "forget", "https://letter.test")[1].endswith("Did you mean https://letters.test?\n")
    assert types("targets", "forget", URL) == (0, f"{URL} is forgotten\n")
    assert types("targets", "list") == (0, "")
    assert types("targets", "forget", URL)[0] == 1
    with pytest.raises(UsageError):
        process(cloud_on_ports).schedule(Letter(id="1"), f"{URL}/letter")
    process(cloud_on_ports, base_url=URL).schedule(Letter(id="1"), "/letter")
    assert types("targets", "list") == (0, f"{URL}=https://oncetask.test\n")
