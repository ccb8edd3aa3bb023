"""
The registry of collections: sweeps find the chains of processes that they never imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from flask import Flask
from pydantic import Field

from gcp_emulator.cloud import LocalCloud
from gcp_emulator.testing import InProcessCloud
from gcp_oncetask import Attempt, Config, Continue, LockedModel, Locker, Status, StoreError, sweep
from gcp_oncetask.checks.paths import valid_path
from gcp_oncetask.cli import main
from gcp_oncetask.errors import AlreadyScheduledError, TaskNotFoundError, UsageError
from gcp_oncetask.flask import blueprint, locked_handler
from gcp_oncetask.rules.document_paths import collection_path, fitting
from gcp_oncetask.store import registry
from gcp_oncetask.store.indexes import definition, override, to_text
from gcp_oncetask.store.registry import Registry
from gcp_oncetask.testing.cloud import ACCOUNT, OncetaskCloud, TestClock
from tests.integration.entities.test_interface import cli

ROOT = Path(__file__).parents[3]
URL = "https://errands.test"
TEMPLATE = "customers/{customer_id}/errands"


class Errand(LockedModel, collection="errands"):
    """Of a top-level collection."""


class Visit(LockedModel, collection=TEMPLATE):
    """Of a subcollection."""

    customer_id: str
    note: dict[str, int] = Field(default_factory=dict)


@pytest.fixture
def locker(oncetask_cloud: OncetaskCloud) -> Locker:
    """
    The first process.
    """
    return process(oncetask_cloud)


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    This process has imported no model.
    """
    monkeypatch.setattr(registry, "DECLARED", {})


def process(cloud: OncetaskCloud, **settings: Any) -> Locker:
    """
    A locker that has made no call yet.
    """
    made = Locker(config=Config(base_url=URL, **settings))
    cloud.use(made)
    return made


def undispatched(cloud: OncetaskCloud | InProcessCloud, locker: Locker, entity: LockedModel) -> str:
    """
    Schedule *entity* and lose its Cloud Task; its path.
    """
    cloud.faults.fail("CreateTask", times=2)
    assert not locker.schedule(entity, "/errand").dispatched
    return entity.document_path


def document(locker: Locker, collection: str, env: str = "DEFAULT") -> dict[str, Any] | None:
    """
    What the registry has of a collection.
    """
    found: dict[str, Any] | None = locker.client.document(collection_path(env, collection)).get().to_dict()
    return found


def registered(locker: Locker) -> list[str]:
    return [each.collection for each in locker._runtime.registry.all()[0]]


def counts(cloud: OncetaskCloud) -> dict[str, int]:
    """
    RPCs of Firestore since the last call.
    """
    firestore: Any = cloud.local.firestore
    found = dict(firestore.counts)
    firestore.reset_counts()
    return found


# --- registering ------------------------------------------------------------------------------------------------------


def test_first_schedule_of_a_process_costs_one_read(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    And one write where nobody has scheduled before; the next ones cost what they always did, and an hour later one reads again.
    """
    other = process(oncetask_cloud)
    for each in (locker, other):
        each._runtime.store.estimate()
    counts(oncetask_cloud)

    locker.schedule(Errand(id="1"), "/errand")
    assert counts(oncetask_cloud) == {"BatchGetDocuments": 1, "Commit": 2}
    for number in range(2, 5):
        locker.schedule(Errand(id=f"{number}"), "/errand")
    assert counts(oncetask_cloud) == {"Commit": 3}
    other.schedule(Errand(id="5"), "/errand")
    assert counts(oncetask_cloud) == {"BatchGetDocuments": 1, "Commit": 1}
    oncetask_cloud.clock.advance(3599)
    locker.schedule(Errand(id="6"), "/errand")
    assert counts(oncetask_cloud) == {"Commit": 1}
    oncetask_cloud.clock.advance(1)
    locker.schedule(Errand(id="7"), "/errand")
    assert counts(oncetask_cloud) == {"BatchGetDocuments": 1, "Commit": 1}


def test_registry_is_one_document_per_environment_and_collection(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    Templates are registered as they are declared; another environment has documents of its own, and no document is ever due.
    """
    staging = process(oncetask_cloud, env="staging")
    for each in (locker, process(oncetask_cloud)):
        each.schedule(Visit(id="1", customer_id=f"{id(each)}"), "/errand")
    staging.schedule(Errand(id="1"), "/errand")

    assert (registered(locker), registered(staging)) == ([TEMPLATE], ["errands"])
    found = document(locker, TEMPLATE)
    assert found is not None
    assert found.pop("createdAt") <= oncetask_cloud.clock_now()
    assert found == {"registry": "DEFAULT", "collection": TEMPLATE, "schema": 1}
    assert (document(locker, "errands"), document(locker, "errands", "staging") is None) == (None, False)
    oncetask_cloud.clock.advance(86_400)
    assert sweep(locker, collections=("onceLocks",)).looked == 0


@pytest.mark.parametrize("when", ["before", "after", "late"])
def test_lost_answer_of_the_creation(oncetask_cloud: OncetaskCloud, locker: Locker, when: Any) -> None:
    """
    Whether or not it was applied: the schedule goes on, and there is one document.
    """
    locker._runtime.store.estimate()
    oncetask_cloud.faults.fail("Commit", when=when, delay=5 if when == "late" else 0)
    assert locker.schedule(Errand(id="1"), "/errand").sequence == 1
    oncetask_cloud.clock.advance(10)

    assert registered(locker) == ["errands"]
    assert locker.show("errands/1").status is Status.SCHEDULED


def test_two_processes_create_it_at_once(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    The slower one finds that it exists, and writes nothing over it.
    """
    other, path = process(oncetask_cloud), collection_path("DEFAULT", "errands")
    first: list[Any] = []

    def missing(seen: Any) -> Any:
        request = locker._runtime.registry._remembered({path: "errands"}, seen)
        if not first:
            other._runtime.registry.register("errands")
            first.append(document(other, "errands"))
            oncetask_cloud.clock.advance(1)
        return request

    locker._runtime.store.ensure([path], missing)

    assert first == [document(locker, "errands")] != [None]


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("BatchGetDocuments", grpc.StatusCode.UNAVAILABLE),
        ("BatchGetDocuments", grpc.StatusCode.PERMISSION_DENIED),
        ("Commit", grpc.StatusCode.UNAVAILABLE),
        ("Commit", grpc.StatusCode.PERMISSION_DENIED),
    ],
)
@pytest.mark.parametrize("in_transaction", [False, True])
def test_failure_fails_the_schedule(
    oncetask_cloud: OncetaskCloud, locker: Locker, method: str, code: grpc.StatusCode, in_transaction: bool
) -> None:
    """
    Nothing is scheduled in a collection that no sweep knows; the next call tries again.
    """
    from google.cloud import firestore

    locker._runtime.store.estimate()

    @firestore.transactional
    def joined(transaction: Any) -> None:
        locker.schedule(Errand(id="1"), "/errand", transaction=transaction)

    # The transaction reads the chain's own document before.
    skip = 1 if in_transaction and method == "BatchGetDocuments" else 0
    oncetask_cloud.faults.fail(method, code=code, times=None, skip=skip)
    with pytest.raises(StoreError) as failed:
        joined(locker.client.transaction()) if in_transaction else locker.schedule(Errand(id="1"), "/errand")
    oncetask_cloud.faults.clear()

    assert not failed.value.unknown
    assert not locker.client.document("errands/1").get().exists
    assert locker.schedule(Errand(id="1"), "/errand").sequence == 1
    assert registered(locker) == ["errands"]


@pytest.mark.usefixtures("stranger")
def test_crash_between_registry_and_schedule(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    The collection is known though nothing is there: sweeps find nothing, and the next process only reads.
    """
    locker._runtime.store.estimate()
    oncetask_cloud.faults.fail("Commit", skip=1, times=None)
    with pytest.raises(StoreError):
        locker.schedule(Errand(id="1"), "/errand")
    oncetask_cloud.faults.clear()
    heir = process(oncetask_cloud)
    swept = sweep(heir)
    assert (swept.looked, swept.collections) == (0, ("errands", "onceLocks", "onceTasks"))
    counts(oncetask_cloud)

    undispatched(oncetask_cloud, heir, Errand(id="1"))
    assert counts(oncetask_cloud) == {"BatchGetDocuments": 1, "Commit": 1}
    oncetask_cloud.clock.advance(120)
    assert sweep(heir).dispatched == 1


def test_transaction_of_the_caller_does_not_hold_the_registry(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    It is written before that transaction commits, and stays if it never does.
    """
    from google.cloud import firestore

    @firestore.transactional
    def body(transaction: Any) -> None:
        locker.schedule(Errand(id="1"), "/errand", transaction=transaction)
        assert registered(locker) == ["errands"]
        raise LookupError

    with pytest.raises(LookupError):
        body(locker.client.transaction())
    assert not locker.client.document("errands/1").get().exists
    assert registered(locker) == ["errands"]


def test_what_is_refused_registers_nothing(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    A schedule or a reset that the rules refuse, of what does not exist, and of what can't be stored.
    """
    locker.schedule(Errand(id="1"), "/errand")
    locker.client.document(collection_path("DEFAULT", "errands")).delete()
    other = process(oncetask_cloud)
    with pytest.raises(AlreadyScheduledError):
        other.schedule(other.get(Errand, "1"), "/errand")
    with pytest.raises(AlreadyScheduledError):
        other.reset(Errand, "1")
    with pytest.raises(TaskNotFoundError):
        other.reset_path("erands/1")
    with pytest.raises(UsageError):
        other.schedule(Visit(id="2", customer_id="7", note={"": 1}), "/errand")

    assert registered(other) == []


@pytest.mark.parametrize("how", ["schedule", "transaction", "verdict"])
def test_next_step_registers_as_well(oncetask_cloud: OncetaskCloud, locker: Locker, how: str) -> None:
    """
    A chain that an older release has begun is known from its next step on; a registry that can't be read is no failed attempt.
    """
    server = process(oncetask_cloud)
    app = Flask("errands")

    @app.post("/errand")
    @locked_handler(server, Errand)
    def view(errand: Errand, attempt: Attempt) -> Any:
        if attempt.step == 2:
            return "done"
        if how == "verdict":
            return Continue()
        if how == "schedule":
            return server.schedule(errand) and None
        with attempt.transaction() as transaction:
            server.schedule(errand, transaction=transaction)
        return None

    oncetask_cloud.mount(URL, app)
    process(oncetask_cloud).schedule(Errand(id="1"), "/errand")
    locker.client.document(collection_path("DEFAULT", "errands")).delete()
    # The transaction reads the task's own document before.
    oncetask_cloud.faults.fail("BatchGetDocuments", times=3, skip=how == "transaction")
    oncetask_cloud.advance(minutes=12)
    oncetask_cloud.sweep()
    oncetask_cloud.run_until_idle()

    lock = locker.show("errands/1")
    assert (lock.status, lock.sequence) == (Status.COMPLETED, 2)
    assert oncetask_cloud.faults.injected["BatchGetDocuments before"] == 3
    assert registered(locker) == ["errands"]
    if how != "transaction":
        assert lock.errors == ()


@pytest.mark.usefixtures("stranger")
def test_reset_by_path_registers_the_template_that_fits(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    Of the models at hand, else of the configured ones, else of the registry; in any other the record does not count.
    """
    paths = []
    for entity in (Visit(id="1", customer_id="7"), Errand(id="1")):
        locker.schedule(entity, "/errand")
        locker.cancel_path(entity.document_path)
        paths.append(entity.document_path)
    locker.client.document(collection_path("DEFAULT", "errands")).delete()
    stranger = process(oncetask_cloud)
    assert registered(stranger) == [TEMPLATE]
    with pytest.raises(UsageError, match="set ONCETASK_COLLECTIONS=errands"):
        stranger.reset_path("errands/1")
    assert registered(stranger) == [TEMPLATE]
    operator = process(oncetask_cloud, collections=("errands",))
    for path in paths:
        operator.reset_path(path)
    assert registered(operator) == [TEMPLATE, "errands"]

    registry.DECLARED["errands"] = Errand
    process(oncetask_cloud).cancel_path("errands/1")
    locker.client.document(collection_path("DEFAULT", "errands")).delete()
    counts(oncetask_cloud)
    process(oncetask_cloud).reset_path("errands/1")
    assert "RunQuery" not in counts(oncetask_cloud)
    assert registered(operator) == [TEMPLATE, "errands"]


def test_registry_that_was_damaged_by_hand_is_mended(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    A document by which no sweep finds the collection is none: the next process writes it anew.
    """
    locker.schedule(Errand(id="1"), "/errand")
    reference = locker.client.document(collection_path("DEFAULT", "errands"))
    for damage in ({"registry": "other"}, {"collection": 7}, {"schema": "x"}):
        reference.update(damage)
        process(oncetask_cloud).schedule(Errand(id=next(iter(damage))), "/errand")
        assert registered(locker) == ["errands"]


_FORKS = """
import os, sys
from gcp_oncetask import LockedModel, Locker

class Errand(LockedModel, collection="errands"): pass
class Other(LockedModel, collection="others"): pass

locker = Locker.from_env()
locker.schedule(Errand(id="parent"), "https://errands.test/errand")
child = os.fork()
if child and os.waitpid(child, 0)[1]:
    sys.exit("the child failed")
locker.schedule(Errand(id=f"{child == 0}"), "https://errands.test/errand")
locker.schedule(Other(id=f"{child == 0}"), "https://errands.test/errand")
os._exit(0)
"""


def test_forked_child_knows_what_its_parent_knew(loopback: LocalCloud) -> None:
    """
    And reads for itself where neither has scheduled before.
    """
    environ = {**os.environ, **loopback.environment(), "PYTHONPATH": str(ROOT), "ONCETASK_VERIFY": "off"}
    environ["ONCETASK_BASE_URL"] = URL
    done = subprocess.run([sys.executable, "-c", _FORKS], env=environ, capture_output=True, check=False)

    assert done.returncode == 0, done.stderr
    # The parent's errands and origin, and the others of both; not the child's errands and origin.
    assert loopback.firestore.counts["BatchGetDocuments"] == 3
    found = loopback.firestore.documents(loopback.project)
    assert sum(path.startswith("onceLocks/") for path in found) == 3
    assert {path for path in found if path.startswith("errands/")} == {
        "errands/parent",
        "errands/True",
        "errands/False",
    }


# --- sweeping ---------------------------------------------------------------------------------------------------------


def test_command_sweeps_what_it_never_imported(cloud_on_ports: OncetaskCloud, locker: Locker) -> None:
    """
    A collection and a template, without any of them being named to it.
    """
    undispatched(cloud_on_ports, locker, Errand(id="1"))
    undispatched(cloud_on_ports, locker, Visit(id="1", customer_id="7"))
    cloud_on_ports.clock.advance(120)
    swept = cli(cloud_on_ports, "sweep")

    assert swept.returncode == 0, swept.stderr
    assert "2 dispatched" in swept.stdout
    assert swept.stdout.endswith(f"(in {TEMPLATE}, errands, onceLocks, onceTasks)\n")


@pytest.mark.usefixtures("stranger")
def test_route_sweeps_what_it_never_imported(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    The blueprint's route, in a service that has no handler of theirs; a query that is refused is answered 500, the rest is done.
    """
    undispatched(oncetask_cloud, locker, Errand(id="1"))
    oncetask_cloud.clock.advance(120)
    app = Flask("other")
    app.register_blueprint(blueprint(process(oncetask_cloud)))
    token = oncetask_cloud.local.oidc.token("https://oncetask.test", ACCOUNT)
    headers = {"Authorization": f"Bearer {token}"}

    answer = app.test_client().post("/oncetask/sweep", headers=headers)
    assert (answer.status_code, answer.json["dispatched"]) == (200, 1)
    assert answer.json["collections"] == ["errands", "onceLocks", "onceTasks"]
    locker._runtime.registry.register("an/odd")
    undispatched(oncetask_cloud, locker, Errand(id="2"))
    oncetask_cloud.clock.advance(120)
    answer = app.test_client().post("/oncetask/sweep", headers=headers)
    assert (answer.status_code, "an/odd can't be looked at" in answer.json["error"]) == (500, True)
    assert locker.show("errands/2").dispatches == 2


def test_of_a_group_only_paths_that_fit_count(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    Collections of the same name elsewhere are somebody else's, unless a template or a path of theirs is known.
    """
    [one, other, third] = [
        undispatched(oncetask_cloud, locker, entity)
        for entity in (Visit(id="1", customer_id="7"), Visit(id="2", customer_id="8"), Errand(id="3"))
    ]
    # As if another model had made it.
    stored = locker.client.document(other).get().to_dict()
    foreign = "shops/berlin/errands/2"
    locker.client.document(other).delete()
    locker.client.document(foreign).set(stored)
    oncetask_cloud.clock.advance(120)

    assert sweep(locker, collections=(TEMPLATE,)).looked == 1
    assert (locker.show(one).dispatches, locker.show(foreign).dispatches, locker.show(third).dispatches) == (2, 1, 1)
    assert sweep(locker, collections=(TEMPLATE, "shops/{shop}/errands")).looked == 1
    assert locker.show(foreign).dispatches == 2
    assert sweep(locker, collections=("errands",)).looked == 1


@pytest.mark.parametrize(
    ("template", "path", "fits"),
    [
        ("errands", "errands/1", True),
        ("errands", "shops/1/errands/1", False),
        ("customers/{c}/errands", "customers/7/errands/1", True),
        ("customers/{c}/errands", "customers/7/x/8/errands/1", False),
        ("customers/{c}/errands", "shops/7/errands/1", False),
        ("customers/{c}/errands", "customers/7/errands", False),
        ("customers/c-{c}/errands", "customers/c-7/errands/1", True),
        ("customers/c-{c}/errands", "customers/7/errands/1", False),
        ("a.b/{c}/errands", "axb/7/errands/1", False),
        ("a/{c}/errands", "a/\n/errands/1", True),
    ],
)
def test_which_paths_fit(template: str, path: str, fits: bool) -> None:
    """
    A field stands for one or more characters of an id, never for a part of the path.
    """
    assert (fitting(template).fullmatch(path) is not None) is fits


@pytest.mark.parametrize("collection", ["errands", TEMPLATE, "ä/{x}/" + "y" * 900, "x" * 1500])
def test_id_of_every_collection_fits(collection: str) -> None:
    """
    Two digits, environment, a word, and the template, or its hash.
    """
    path = collection_path("E" * 100, collection)

    assert valid_path(path)
    assert ":collection:" in path
    assert path != collection_path("E" * 99, collection)


def indexed(*collections: str) -> tuple[InProcessCloud, Locker]:
    """
    A cloud that has the indexes of *collections* alone, and a process that has scheduled in two.
    """
    cloud = InProcessCloud(indexes=to_text(definition(collections)))
    config = Config(project=cloud.project, location="us-central1", base_url=URL, verify="off")
    made = Locker(cloud.firestore_client(), config=config, tasks=cloud.tasks_client(), clock=TestClock(cloud.clock))
    undispatched(cloud, made, Errand(id="1"))
    undispatched(cloud, made, Visit(id="1", customer_id="7"))
    cloud.clock.advance(120)
    return cloud, made


def without(group: str, field: str) -> str:
    """
    The definition less one index.
    """
    data = definition(["errands", TEMPLATE])
    for each in data["fieldOverrides"]:
        if (each["collectionGroup"], each["fieldPath"]) == (group, field):
            each["indexes"] = []
    return to_text(data)


def test_refused_query_holds_up_no_other_collection(caplog: pytest.LogCaptureFixture) -> None:
    """
    What can be asked is swept; what can't is logged and raised with the line that the index file lacks, for all that is asked.
    """
    _, locker = indexed("errands")
    with pytest.raises(StoreError) as failed:
        sweep(locker, collections=(TEMPLATE, "errands"))

    assert failed.value.swept.dispatched == 1
    assert locker.show("errands/1").dispatches == 2
    line = json.loads(str(failed.value).partition("deploy it: ")[2])
    assert line == override("errands", "lock.due", ["errands", TEMPLATE])
    assert [each["queryScope"] for each in line["indexes"]] == ["COLLECTION", "COLLECTION_GROUP"]
    assert str(failed.value) in caplog.text
    _, mended = indexed("errands", TEMPLATE)
    assert sweep(mended, collections=(TEMPLATE, "errands")).dispatched == 2


@pytest.mark.parametrize(("group", "field"), [("onceTasks", "lock.due"), ("onceLocks", "registry")])
def test_refused_query_of_the_librarys_own(group: str, field: str) -> None:
    """
    The once-tasks or the registry itself can't be asked: the collections that are known are swept.
    """
    cloud = InProcessCloud(indexes=without(group, field))
    config = Config(project=cloud.project, location="us-central1", base_url=URL, verify="off")
    locker = Locker(cloud.firestore_client(), config=config, tasks=cloud.tasks_client(), clock=TestClock(cloud.clock))
    undispatched(cloud, locker, Errand(id="1"))
    cloud.clock.advance(120)
    with pytest.raises(StoreError) as failed:
        sweep(locker)

    assert f'"collectionGroup": "{group}", "fieldPath": "{field}", "indexes": [{{"order"' in str(failed.value)
    assert locker.show("errands/1").dispatches == 2


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (grpc.StatusCode.UNAVAILABLE, "The index can't be reached"),
        (grpc.StatusCode.FAILED_PRECONDITION, "The database is in Datastore Mode"),
    ],
)
def test_failure_of_another_sort_is_told_as_it_is(
    oncetask_cloud: OncetaskCloud, locker: Locker, code: grpc.StatusCode, message: str
) -> None:
    """
    Unreachable is no reason to leave the rest out, and no index is to blame.
    """
    undispatched(oncetask_cloud, locker, Visit(id="1", customer_id="7"))
    oncetask_cloud.clock.advance(120)
    oncetask_cloud.faults.fail("RunQuery", times=1, code=code, message=message)
    with pytest.raises(StoreError) as failed:
        sweep(locker, collections=(TEMPLATE, "errands", "onceTasks"))

    assert "firestore.indexes.json" not in str(failed.value)
    assert failed.value.swept.looked == 1


@pytest.mark.usefixtures("stranger")
def test_sweep_that_knows_no_chains_says_so(
    oncetask_cloud: OncetaskCloud, locker: Locker, caplog: pytest.LogCaptureFixture
) -> None:
    """
    As long as nothing is registered, imported or configured.
    """
    caplog.set_level("INFO", "gcp_oncetask")
    assert str(sweep(locker)).endswith("(in onceLocks, onceTasks)")
    assert "knows no collection but the library's own" in caplog.text
    caplog.clear()
    locker.schedule(Errand(id="1"), "/errand")
    sweep(locker)
    assert "knows no collection" not in caplog.text


@pytest.mark.usefixtures("stranger")
def test_registry_document_that_names_nothing_holds_up_nobody(
    oncetask_cloud: OncetaskCloud, locker: Locker, caplog: pytest.LogCaptureFixture
) -> None:
    """
    It is told; what else is registered is swept.
    """
    undispatched(oncetask_cloud, locker, Errand(id="1"))
    locker.client.document("onceLocks/00:DEFAULT:collection:x").set({"registry": "DEFAULT", "collection": 7})
    oncetask_cloud.clock.advance(120)

    assert sweep(locker).dispatched == 1
    assert "onceLocks/00:DEFAULT:collection:x registers no collection" in caplog.text


# --- forgetting -------------------------------------------------------------------------------------------------------


class Operator:
    """
    A person at the command line.
    """

    def __init__(self, cloud: OncetaskCloud, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        for name in ("ONCETASK_COLLECTIONS", "ONCE_TASK_ENV"):
            patch.delenv(name, raising=False)
        patch.setenv("FIRESTORE_EMULATOR_HOST", cloud.local.firestore.address)
        patch.setenv("CLOUD_TASKS_EMULATOR_HOST", cloud.local.tasks.address)
        patch.setenv("GOOGLE_CLOUD_PROJECT", cloud.local.project)
        patch.setenv("ONCETASK_VERIFY", "off")

    def types(self, *arguments: str) -> tuple[int, str, str]:
        """
        Exit code, standard output and error of a command.
        """
        code = main(arguments)
        said = self._capsys.readouterr()
        return code, said.out, said.err


@pytest.fixture
def operator(
    cloud_on_ports: OncetaskCloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Operator:
    """
    At the test's cloud.
    """
    return Operator(cloud_on_ports, monkeypatch, capsys)


@pytest.mark.usefixtures("stranger")
def test_a_person_lists_and_forgets(cloud_on_ports: OncetaskCloud, locker: Locker, operator: Operator) -> None:
    """
    Refused while a document has a due time, also one to come; one that is not registered is no typing error of the program.
    """
    assert operator.types("collections", "list") == (0, "", "")
    locker.schedule(Errand(id="1"), "/errand")
    locker.schedule(Visit(id="1", customer_id="7"), "/errand", delay=timedelta(days=3))
    assert operator.types("collections", "list") == (0, f"{TEMPLATE}\nerrands\n", "")

    for template, path in ((TEMPLATE, "customers/7/errands/1"), ("errands", "errands/1")):
        code, out, err = operator.types("collections", "forget", template)
        assert (code, out) == (1, "")
        assert (
            f"{template} can be forgotten when nothing is due there: {path} has a due time. Nothing was written." in err
        )
    code, _, err = operator.types("collections", "forget", "errand")
    assert (code, "Did you mean errands?" in err) == (1, True)
    locker.cancel(Errand, "1")
    code, out, _ = operator.types("collections", "forget", "errands")
    assert (code, out.startswith("errands (forgotten at 20")) == (0, True)
    assert operator.types("collections", "list") == (0, f"{TEMPLATE}\n{out}", "")
    cloud_on_ports.clock.advance(60)
    assert operator.types("collections", "forget", "errands") == (0, out, "")
    with pytest.raises(SystemExit) as helped:
        operator.types("collections", "forget", "--help")
    assert helped.value.code == 0


def test_command_fails_if_a_query_is_refused(cloud_on_ports: OncetaskCloud, locker: Locker, operator: Operator) -> None:
    """
    It prints what it did and why it could not do the rest, and exits 1.
    """
    undispatched(cloud_on_ports, locker, Visit(id="1", customer_id="7"))
    cloud_on_ports.clock.advance(120)
    cloud_on_ports.faults.fail(
        "RunQuery", code=grpc.StatusCode.FAILED_PRECONDITION, message="The query requires an index."
    )
    code, out, err = operator.types("sweep", "--collection", TEMPLATE, "--collection", "errands")

    assert (code, "1 dispatched" in out) == (1, True)
    assert '"fieldPath": "lock.due"' in err


def visited(cloud: OncetaskCloud) -> bool:
    """
    Whether a sweep that has imported nothing looks at the errands.
    """
    return "errands" in sweep(process(cloud)).collections


@pytest.mark.usefixtures("stranger")
def test_forgotten_collection_is_swept_for_a_day(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    Then no more; it stays listed, and its next schedule, by a process that begins, brings it back.
    """
    locker._runtime.registry.register("errands")
    locker._runtime.registry.forget("errands")
    oncetask_cloud.clock.advance(86_390)
    assert visited(oncetask_cloud)
    oncetask_cloud.clock.advance(20)
    assert not visited(oncetask_cloud)
    assert registered(locker) == ["errands"]

    process(oncetask_cloud).schedule(Errand(id="1"), "/errand")
    assert visited(oncetask_cloud)
    [found] = locker._runtime.registry.all()[0]
    assert found.forgotten_at is None


@pytest.mark.usefixtures("stranger")
def test_process_that_knew_it_before_learns_within_an_hour(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    Its next schedule after that takes the mark away.
    """
    locker._runtime.registry.register("errands")
    Registry(locker._runtime.store, locker._runtime.clock, "DEFAULT").forget("errands")
    locker.schedule(Errand(id="1"), "/errand")
    assert "forgottenAt" in (document(locker, "errands") or {})
    oncetask_cloud.clock.advance(3600)
    locker.schedule(Errand(id="2"), "/errand")

    assert "forgottenAt" not in (document(locker, "errands") or {})


@pytest.mark.usefixtures("stranger")
def test_sweep_that_finds_something_due_remembers(oncetask_cloud: OncetaskCloud, locker: Locker) -> None:
    """
    Of a process that did not know and never schedules again: its chain, due in three days, is not lost after one.
    """
    locker._runtime.registry.register("errands")
    Registry(locker._runtime.store, locker._runtime.clock, "DEFAULT").forget("errands")
    oncetask_cloud.faults.fail("CreateTask", times=2)
    locker.schedule(Errand(id="1"), "/errand", delay=timedelta(days=3))
    oncetask_cloud.clock.advance(3600)
    assert sweep(process(oncetask_cloud)).looked == 0
    oncetask_cloud.clock.advance(4 * 86_400)

    assert sweep(process(oncetask_cloud)).dispatched == 1
