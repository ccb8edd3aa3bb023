"""
The Cloud Functions under functions-framework, as Cloud Run serves them: real HTTP, real CloudEvents, the local cloud.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from google.cloud.firestore import Client

from gcp_emulator.cloud import LocalCloud
from gcp_emulator.ports import free_port
from gcp_oncetask import Config, Locker
from gcp_oncetask.rules.document_paths import collection_path
from gcp_oncetask.tasks import TaskManager
from tests.support.branches import Branch
from tests.support.functions import ROOT, as_json, post, send_written, serving, stored
from tests.support.orders import Order
from tests.support.parcels import Parcel

APP = ROOT / "tests" / "support" / "functions_app.py"
ACCOUNT = "functions@demo-local.iam.gserviceaccount.com"
DATABASES = ("(default)", "orders-eu")


class World:
    """
    A local cloud whose tasks are delivered when the test says so, and a locker of the test's own.
    """

    def __init__(self, cloud: LocalCloud, database: str, port: int) -> None:
        self.cloud, self.url = cloud, f"http://127.0.0.1:{port}"
        self.environment = {
            **cloud.environment(),
            "ONCETASK_LOCATION": cloud.location,
            "ONCETASK_BASE_URL": self.url,
            "ONCETASK_SERVICE_ACCOUNT": ACCOUNT,
            "ONCETASK_DATABASE": database,
            "ONCETASK_DISPATCH_GRACE_SECONDS": "30",
        }
        self.locker = Locker(config=Config.from_env(self.environment))

    @property
    def client(self) -> Client:
        return self.locker.client

    def names(self, id_: str) -> list[str]:
        """
        The queued tasks of one order.
        """
        return [t.name for t in self.cloud.tasks.tasks() if f"orders%2F{id_}&" in t.http_request.url]

    def undispatched(self, id_: str) -> bytes:
        """
        An order whose schedule was committed and whose Cloud Task was not made, as stored.
        """
        self.cloud.faults.fail("CreateTask", times=2)
        assert not self.locker.schedule(Order(id=id_), "/tasks/order").dispatched
        assert self.names(id_) == []
        document = stored(self.client, f"orders/{id_}")
        assert document is not None
        return document


@pytest.fixture(scope="module", params=DATABASES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """
    For each database a cloud of its own.
    """
    with LocalCloud(auto=False, smtp=False) as cloud, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRESTORE_EMULATOR_HOST", cloud.firestore.address)
        yield World(cloud, request.param, free_port())


@pytest.fixture(scope="module")
def dispatch(world: World) -> Iterator[str]:
    """
    URL of the outbox trigger.
    """
    with serving("dispatch", world.environment) as url:
        yield url


def test_written_document_is_dispatched_once(world: World, dispatch: str) -> None:
    """
    The event of a commit whose dispatch was lost makes the task, under the writer's name; the same event again makes none.
    """
    after = world.undispatched("1")
    assert send_written(dispatch, world.client, "orders/1", after=after)[0] == 200
    [name] = world.names("1")
    assert send_written(dispatch, world.client, "orders/1", after=after)[0] == 200

    assert world.names("1") == [name]


def test_event_of_a_dispatched_document_finds_its_task(world: World, dispatch: str) -> None:
    """
    The name is the same as the writer's, to the letter.
    """
    made = world.locker.schedule(Order(id="2"), "/tasks/order")
    assert send_written(dispatch, world.client, "orders/2", after=stored(world.client, "orders/2"))[0] == 200

    assert world.names("2") == [made.task_name]


@pytest.mark.parametrize("kind", ["deleted", "users-own-write", "no-lock"])
def test_events_that_owe_nothing(world: World, dispatch: str, kind: str) -> None:
    """
    A deletion, a write of the user's beside the schedule, and a document without a lock are answered 200, nothing is made.
    """
    before = world.undispatched(kind)
    world.client.document(f"plain/{kind}").set({"amount": 1})
    world.client.document(f"orders/{kind}").update({"note": "mine"})
    path, old, new = {
        "deleted": (f"orders/{kind}", before, None),
        "users-own-write": (f"orders/{kind}", before, stored(world.client, f"orders/{kind}")),
        "no-lock": (f"plain/{kind}", None, stored(world.client, f"plain/{kind}")),
    }[kind]

    assert send_written(dispatch, world.client, path, before=old, after=new)[0] == 200
    assert world.names(kind) == []


def test_refusing_queue_does_not_fail_the_function(world: World, dispatch: str) -> None:
    """
    A failed event would not come again; the sweeper has it.
    """
    after = world.undispatched("3")
    world.cloud.faults.fail("CreateTask", times=2)

    assert send_written(dispatch, world.client, "orders/3", after=after)[0] == 200
    assert world.names("3") == []


def test_sweep_dispatches_what_is_overdue(world: World) -> None:
    """
    Cloud Scheduler's request sweeps all collections in which somebody has scheduled, in the configured database, though the
    function has imported no model; one that can't be asked fails the call when the others are done.
    """
    hasty = Locker(config=Config.from_env({**world.environment, "ONCETASK_DISPATCH_GRACE_SECONDS": "0.001"}))
    world.cloud.faults.fail("CreateTask", times=2)
    assert not hasty.schedule(Order(id="4"), "/tasks/order").dispatched
    header = {"X-CloudScheduler-JobName": "firebase-schedule-sweep"}
    with serving("sweep", world.environment) as url:
        assert post(url, headers=header)[0] == 200
        assert len(world.names("4")) == 1
        world.cloud.faults.fail("CreateTask", times=2)
        assert not hasty.schedule(Branch(id="4b", shop="7"), "/tasks/branch").dispatched
        hasty._runtime.registry.register("an/odd")
        status, _ = post(url, headers=header)

    world.client.document(collection_path("DEFAULT", "an/odd")).delete()
    assert status == 500
    assert [task for task in world.cloud.tasks.tasks() if "branches%2F4b&" in task.http_request.url]


def test_task_queue_function_serves_the_handlers(world: World) -> None:
    """
    Deliveries with real identity tokens reach the handlers: below the function's URL by their route, at its own URL by that
    of the once-tasks. The duplicate is acknowledged, the stranger is not, and is not told what is configured.
    """
    port = int(world.url.rpartition(":")[2])
    with serving("deliver", world.environment, source=APP, port=port) as url:
        world.locker.schedule(Order(id="5"), "/tasks/order")
        manager = TaskManager(world.locker, path=f"{url}/")
        manager.create_task(Parcel(number=6))
        [task] = [t for t in world.cloud.tasks.tasks() if "orders%2F5&" in t.http_request.url]
        world.cloud.tasks.run_due()
        statuses = [d.status for d in world.cloud.tasks.dispatches if "orders%2F5&" in d.url or "parcel" in d.url]
        foreign = f"Bearer {world.cloud.oidc.token('https://else.where', ACCOUNT)}"
        headers = {"Content-Type": "application/json", "Authorization": foreign}
        stranger = post(task.http_request.url, task.http_request.body, headers)
        lost = post(f"{url}/nowhere", b"{}")

    assert statuses == [200, 200]
    assert world.locker.result(Order, "5")["done"] == "5"
    assert manager.result(Parcel, "6") == {"sent": 6}
    assert (stranger[0], as_json(stranger[1])["outcome"]) == (401, "unauthorised")
    assert not [told for told in (url, ACCOUNT, "else.where") if told in stranger[1]]
    assert lost[0] == 404


# --- what is deployed -------------------------------------------------------------------------------------------------

_LOADED = """
import sys
{before}
known = set(sys.modules)
import main
print(*sorted(set(sys.modules) - known))
"""


def loaded(before: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """
    Modules that ``import main`` loads after *before*.
    """
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    run = [sys.executable, "-c", _LOADED.format(before=before)]
    return set(subprocess.check_output(run, cwd=ROOT / "functions", text=True).split())


def test_import_loads_nothing_heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Beyond the SDK, which itself loads gRPC and the Firestore client, nothing is loaded until something is asked for.
    """
    sdk = "from firebase_functions import firestore_fn, params, scheduler_fn, tasks_fn"
    own = loaded(sdk, monkeypatch)
    every = loaded("", monkeypatch)

    assert own == {"main"}
    heavy = {"gcp_oncetask", "pydantic", "google.cloud.tasks_v2", "google.cloud.logging_v2", "google.cloud.firestore"}
    assert not heavy & every
    assert {"grpc", "google.cloud.firestore_v1"} <= every


def test_discovery_declares_every_function() -> None:
    """
    What ``firebase deploy`` is told: triggers, the database of ``functions/.env``, a queue that leaves limits to the library.
    """
    code = "from firebase_functions.private import serving; print(serving.functions_as_yaml(serving.get_functions()))"
    text = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT / "functions", text=True)
    told = yaml.safe_load(text)
    endpoints = told["endpoints"]
    trigger = endpoints["dispatch"]["eventTrigger"]

    assert set(endpoints) == {"deliver", "dispatch", "sweep"}
    assert trigger["eventType"] == "google.cloud.firestore.document.v1.written"
    assert trigger["eventFilters"]["database"] == "{{ params.ONCETASK_DATABASE }}"
    assert [param["name"] for param in told["params"]] == ["ONCETASK_DATABASE"]
    assert trigger["eventFilterPathPatterns"] == {"document": "{collection}/{id}"}
    assert endpoints["sweep"]["scheduleTrigger"]["schedule"] == "every 1 minutes"
    retry = endpoints["deliver"]["taskQueueTrigger"]["retryConfig"]
    assert (retry["maxAttempts"], retry["maxRetrySeconds"], retry["maxBackoffSeconds"]) == (-1, 0, 60)


def test_requirements_name_the_wheel_that_is_built(tmp_path: Path) -> None:
    """
    ``make functions`` puts it there; it has the library in it, and what it needs besides is named in it.
    """
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    [line] = [
        line for line in (ROOT / "functions" / "requirements.txt").read_text().splitlines() if line.startswith("./")
    ]
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    [wheel] = tmp_path.iterdir()

    assert line == f"./wheels/{wheel.name}"
    assert version in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"gcp_oncetask/outbox.py", "gcp_oncetask/store/indexes.py", "gcp_oncetask/py.typed"} <= names
