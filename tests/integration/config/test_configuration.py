"""
What is missing or wrong in the configuration is told at once, when a process starts: servers, commands, workers, functions.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from gcp_oncetask import Config, ConfigError, Locker, sweep
from gcp_oncetask.cli import main
from gcp_oncetask.flask import blueprint, locked_handler
from gcp_oncetask.runtime import addressing
from gcp_oncetask.runtime.requirements import SERVE, serving
from gcp_oncetask.tasks import OnceTask, TaskData, TaskManager
from gcp_oncetask.testing.cloud import OncetaskCloud
from gcp_oncetask.worker import Worker
from tests.support.orders import Order

ROOT = Path(__file__).parents[3]
PROJECT, LOCATION = "GOOGLE_CLOUD_PROJECT", "ONCETASK_LOCATION"
BASE_URL, ACCOUNT = "ONCETASK_BASE_URL", "ONCETASK_SERVICE_ACCOUNT"
SET = {
    PROJECT: "demo-local",
    LOCATION: "us-central1",
    BASE_URL: "https://orders.test",
    ACCOUNT: "tasks@demo-local.iam.gserviceaccount.com",
}
NOWHERE = {"GCE_METADATA_HOST": "127.0.0.1:1", "GCE_METADATA_IP": "127.0.0.1:1", "NO_GCE_CHECK": "true"}
"""No metadata server, and none is waited for."""
OWN = re.compile(r"ONCE_?TASK_|GOOGLE_|GCLOUD_|K_SERVICE|.*_EMULATOR_HOST")

APP = """
from flask import Flask
from gcp_oncetask import Attempt, LockedModel, Locker
from gcp_oncetask.flask import blueprint, locked_handler


class Order(LockedModel, collection="orders"):
    amount: int


locker = Locker.from_env()
app = Flask(__name__)
app.register_blueprint(blueprint(locker))


@app.post("/tasks/order")
@locked_handler(locker, Order)
def fulfil(order: Order, attempt: Attempt) -> None:
    pass
"""


def bare(home: Path, **extra: str) -> dict[str, str]:
    """
    The environment of a process for which nothing is configured, and nothing can be found out.
    """
    kept = {name: value for name, value in os.environ.items() if not OWN.match(name)}
    return {**kept, **NOWHERE, "HOME": str(home), **extra}


@pytest.fixture
def unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """
    This process as ``bare`` describes it.
    """
    for name in [name for name in os.environ if OWN.match(name)]:
        monkeypatch.delenv(name)
    for name, value in {**NOWHERE, "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    # google.auth reads NO_GCE_CHECK when it is first imported, and another test may have imported it.
    monkeypatch.setattr("google.auth.compute_engine._metadata._NO_GCE_CHECK", True)
    return monkeypatch


def told(text: str) -> set[str]:
    """
    The settings that the lines of a message begin with.
    """
    return set(
        re.findall(
            r"^(?:  - |gcp_oncetask: |\S*ConfigError: )?([A-Z][A-Z_]+[A-Z]) (?:is|has|must)\b", text, re.MULTILINE
        )
    )


# --- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", fields(Config), ids=lambda field: field.name)
def test_each_setting_that_can_be_wrong_is_named(field: Any) -> None:
    """
    A value that can't be is refused in one line, which begins with the setting's name: of every setting, whatever its type.
    """
    name = field.metadata["env"]
    said: list[str] = []
    for value in ("no such thing!", "-1", "nan"):
        try:
            Config.from_env({name: value})
        except ConfigError as error:
            said.append(str(error))
    assert all(re.fullmatch(rf"{name} (is|must|has) .*\.", sentence) for sentence in said), said
    assert len(said) == 3 or field.type not in ("float", "int", "bool"), "anything is a value of this setting"


WRONG = {
    "ONCETASK_QUEU": "mail",
    "ONCE_TASK_ENV": "a b",
    "ONCETASK_VERIFY": "maybe",
    "ONCETASK_DISPATCH_DEADLINE_SECONDS": "5",
    "ONCETASK_PATIENCE_SECONDS": "soon",
    "ONCETASK_LOG_CONTENTS": "perhaps",
    "ONCETASK_BASE_URL": "orders.test",
    "ONCETASK_SHARDS": "0",
    "ONCETASK_ALERT_TO": "ann,bob@example.com",
    "ONCETASK_ALERT_FROM": "nobody",
    "ONCETASK_SMTP_URL": "mail.example.com",
}


def test_everything_wrong_is_told_at_once(unset: pytest.MonkeyPatch) -> None:
    """
    One error names each wrong setting, those of mail included; and nothing that is only a consequence of another mistake.
    """
    for name, value in WRONG.items():
        unset.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        Locker.from_env()

    assert told(str(caught.value)) == set(WRONG)
    assert len(caught.value.problems) == len(WRONG)
    assert str(caught.value).startswith("11 settings are missing or wrong:\n  - ")


def test_configuration_made_in_code_is_told_whole() -> None:
    """
    Config() and a locker on it name all that is wrong as well; one mistake is one sentence.
    """
    with pytest.raises(ConfigError) as caught:
        Config(shards=0, patience=1.0, margin=0.5)
    assert len(caught.value.problems) == 3
    with pytest.raises(ConfigError) as caught:
        Locker(config=Config(smtp_url="smtp://relay", alert_to=("ann", "bob"), alert_from="eve"))
    assert [problem.split()[0] for problem in caught.value.problems] == ["ONCETASK_ALERT_TO", "ONCETASK_ALERT_FROM"]
    assert all(text in str(caught.value) for text in ("'ann'", "'bob'", "'eve'"))
    with pytest.raises(ConfigError, match=r"^ONCETASK_SHARDS is 0; it must be a whole number, from 1 to 1000\.$"):
        Config(shards=0)


def test_contradicting_options_of_a_handler_are_told_at_once() -> None:
    """
    Every relation between a handler's durations that does not hold is told, and every option that makes no sense.
    """
    with pytest.raises(ConfigError) as caught:
        locked_handler(
            Locker(config=Config()),
            Order,
            lease_duration=1,
            lease_timeout=120,
            run_limit=500,
            max_attempts=0,
            on_unknown="shrug",  # type: ignore[arg-type]  # that is the point
            alert_on=("everything",),
        )
    assert len(caught.value.problems) == 6


# --- what is missing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "missing"),
    [
        ({}, {PROJECT, LOCATION, BASE_URL, ACCOUNT}),
        ({PROJECT: "p"}, {LOCATION, BASE_URL, ACCOUNT}),
        ({PROJECT: "p", "ONCETASK_QUEUE": "projects/p/locations/l/queues/q"}, {BASE_URL, ACCOUNT}),
        ({**SET, BASE_URL: ""}, {BASE_URL}),
        ({**SET, BASE_URL: "", "ONCETASK_AUDIENCE": "https://orders.test"}, set()),
        ({**SET, ACCOUNT: "", "ONCETASK_CALLERS": "a@b.test"}, {ACCOUNT}),
        ({PROJECT: "p", LOCATION: "l", "ONCETASK_VERIFY": "off"}, set()),
        (SET, set()),
    ],
)
def test_server_needs_what_it_needs(unset: pytest.MonkeyPatch, environ: Mapping[str, str], missing: set[str]) -> None:
    """
    In a web server the locker, or the blueprint, names all that is missing to serve; and nothing else.
    """
    unset.setattr(sys, "argv", ["/usr/bin/gunicorn", "app:app"])
    for name, value in environ.items():
        unset.setenv(name, value)
    found: set[str] = set()
    try:
        Flask("app").register_blueprint(blueprint(Locker.from_env()))
    except ConfigError as error:
        found = told(str(error))

    assert found == missing


@pytest.mark.parametrize(
    ("argv", "environ", "serves"),
    [
        (["/opt/bin/gunicorn", "app:app"], {}, True),
        (["/opt/lib/gunicorn/__main__.py", "app:app"], {}, True),
        (["waitress-serve", "app:app"], {}, True),
        (["/opt/bin/flask", "--app", "app", "run"], {}, True),
        (["/opt/bin/flask", "--app", "app", "routes"], {}, False),
        (["serve.py"], {"SERVER_SOFTWARE": "gunicorn/23.0.0"}, True),
        (["serve.py"], {"K_SERVICE": "orders"}, True),
        (["serve.py"], {}, False),
        (["/opt/lib/pytest/__main__.py"], {}, False),
        ([], {}, False),
    ],
)
def test_servers_are_known(
    unset: pytest.MonkeyPatch, argv: list[str], environ: Mapping[str, str], serves: bool
) -> None:
    """
    A process that loads an application to serve it is told from one that imports it for another purpose.
    """
    unset.setattr(sys, "argv", argv)
    for name, value in environ.items():
        unset.setenv(name, value)

    assert serving() is serves


@pytest.mark.parametrize("server", [["gunicorn", "app:app", "--bind", "127.0.0.1:0"], ["flask", "run", "--port", "0"]])
def test_server_does_not_start_without_its_settings(tmp_path: Path, server: list[str]) -> None:
    """
    A real server ends before it answers anything, with one message: a misspelt name, a wrong value and all that is missing.
    """
    (tmp_path / "app.py").write_text(APP)
    environ = bare(tmp_path, ONCETASK_QUEU="mail", ONCETASK_SHARDS="0", GOOGLE_CLOUD_PROJECT="p")
    command = [sys.executable, "-m", *server]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode != 0
    [message, *_] = done.stderr.split("ConfigError: ")[1:]
    lines = message.partition("\nOn your own machine gcp-emulator sets all that is missing")[0]
    assert told(lines) == {"ONCETASK_QUEU", "ONCETASK_SHARDS", LOCATION, BASE_URL, ACCOUNT}
    assert lines.count("for example") + lines.count("Did you mean") + lines.count("it must be") == 5
    assert "Traceback" in done.stderr.split("ConfigError: ")[0]


def test_import_for_another_purpose_needs_nothing(unset: pytest.MonkeyPatch, oncetask_cloud: OncetaskCloud) -> None:
    """
    Without any setting an application is imported, and used on a cloud that is given later.
    """
    names: dict[str, Any] = {"__name__": "app"}
    exec(compile(APP, "app.py", "exec"), names)
    oncetask_cloud.use(names["locker"])
    oncetask_cloud.mount("https://orders.test", names["app"])
    names["locker"].schedule(names["Order"](id="1", amount=1), "/tasks/order")
    oncetask_cloud.run_until_idle()

    assert names["locker"].show("orders/1").status == "completed"


def test_call_names_all_that_it_needs(unset: pytest.MonkeyPatch) -> None:
    """
    Where nothing was asked for at start, the first call names all that it needs; a full queue name and URL need less.
    """
    locker = Locker.from_env()
    with pytest.raises(ConfigError) as caught:
        locker.schedule(Order(id="1"), "/tasks/order")
    assert told(str(caught.value)) == {PROJECT, LOCATION, BASE_URL, ACCOUNT}
    with pytest.raises(ConfigError) as caught:
        locker.schedule(Order(id="1"), "https://orders.test/x", queue="projects/p/locations/l/queues/q")
    assert told(str(caught.value)) == {ACCOUNT}
    with pytest.raises(ConfigError) as caught:
        locker._runtime.verifier()
    assert told(str(caught.value)) == {PROJECT, LOCATION, BASE_URL, ACCOUNT}
    with pytest.raises(ConfigError) as caught:
        locker.get(Order, "1")
    assert told(str(caught.value)) == {PROJECT}


def test_queue_s_id_is_beside_the_configured_queue_where_no_region_is_known(unset: pytest.MonkeyPatch) -> None:
    """
    A full name in ONCETASK_QUEUE makes the region needless; another queue, given by its id, is in the same region.
    """
    for name, text in {PROJECT: "p", "ONCETASK_QUEUE": "projects/p/locations/l/queues/q"}.items():
        unset.setenv(name, text)
    runtime = Locker()._runtime

    assert addressing.queue_name(runtime, "other") == "projects/p/locations/l/queues/other"
    assert addressing.queue_name(runtime, None) == "projects/p/locations/l/queues/q"


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        (["sweep"], {PROJECT, ACCOUNT}),
        (["show", "orders/1"], {PROJECT}),
        (["cancel", "orders/1"], {PROJECT}),
        (["reset", "orders/1"], {PROJECT, ACCOUNT}),
        (["resolve", "orders/1", "run"], {PROJECT, ACCOUNT}),
        (["effects", "orders/1"], {PROJECT}),
        (["send", "orders/1", "approval"], {PROJECT, ACCOUNT}),
        (["delete", "orders/1"], {PROJECT}),
        (["dismiss", "orders/1"], {PROJECT}),
        (["ack", "orders/1", "--for", "4h"], {PROJECT}),
        (["list"], {PROJECT}),
        (["running"], {PROJECT}),
        (["attention", "rebuild"], {PROJECT}),
        (["import", "go", "onceTasks", "--manager", "app:tasks"], {PROJECT, ACCOUNT}),
        (["replay", "app:tasks", "--kind", "work"], {PROJECT}),
        (["timeline", "orders/1"], set()),
        (["acts"], {PROJECT}),
        (["locks", "list"], {PROJECT}),
        (["once", "list"], {PROJECT}),
        (["indexes", "write", "--file", os.devnull], set()),
        (["explain", "0 9 * * *"], set()),
        (["collections", "list"], {PROJECT}),
        (["targets", "list"], {PROJECT}),
    ],
)
def test_command_says_at_once_what_is_missing_and_wrong(
    unset: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str], missing: set[str]
) -> None:
    """
    Every command names all that it needs and all that is wrong in one message, and ends with 2.
    """
    if command[0] == "explain":
        assert main(command) == 0
        return
    if missing:
        assert main(command) == 2
        assert told(capsys.readouterr().err) == missing
    unset.setenv("ONCETASK_SHARDS", "0")
    assert main(command) == 2
    assert told(capsys.readouterr().err) == missing | {"ONCETASK_SHARDS"}


def test_every_command_is_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """
    No command of the command line is left out above.
    """
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = set(re.findall(r"^    ([a-z]+)(?: |$)", capsys.readouterr().out, re.MULTILINE))
    marks: Any = test_command_says_at_once_what_is_missing_and_wrong.pytestmark  # type: ignore[attr-defined]  # pytest's own

    assert listed == {row[0][0] for row in marks[0].args[1]}


class Parcel(TaskData, kind="parcel-of-nobody", pull=True):
    number: int


def test_worker_does_not_start_without_a_project(unset: pytest.MonkeyPatch) -> None:
    """
    A worker needs a project and nothing else; without one it says so, and does not run.
    """
    manager = TaskManager(Locker.from_env())

    @manager.handler(Parcel)
    def send(task: OnceTask[Parcel], attempt: Any) -> None:
        """
        Nothing.
        """

    with pytest.raises(ConfigError) as caught:
        Worker(manager).run()
    assert told(str(caught.value)) == {PROJECT}


def test_sweep_without_an_account_writes_nothing(unset: pytest.MonkeyPatch, oncetask_cloud: OncetaskCloud) -> None:
    """
    A sweep that would have to make a Cloud Task without an account says so before it changes the document.
    """
    locker = Locker.from_env()
    oncetask_cloud.use(locker)
    oncetask_cloud.mount("https://orders.test", Flask("orders"))
    made = locker.schedule(Order(id="1"), "/tasks/order")
    assert made.task_name is not None
    oncetask_cloud.drop(made.task_name)
    oncetask_cloud.clock.advance(300)
    before = locker.show("orders/1")
    account, locker._runtime.config = locker.config, Config(project="demo-local", location="us-central1")
    with pytest.raises(ConfigError) as caught:
        sweep(locker, collections=("orders",))
    assert told(str(caught.value)) == {ACCOUNT}
    assert locker.show("orders/1") == before

    locker._runtime.config = account
    assert sweep(locker, collections=("orders",)).dispatched == 1


@pytest.mark.parametrize(
    ("function", "missing"),
    [("deliver", {LOCATION, BASE_URL, ACCOUNT}), ("dispatch", {ACCOUNT}), ("sweep", set())],
)
def test_function_does_not_start_without_its_settings(tmp_path: Path, function: str, missing: set[str]) -> None:
    """
    An instance ends at start and names all that its function needs; while functions are only looked for, nothing is needed.
    """
    environ = bare(tmp_path, ONCETASK_QUEU="mail", GOOGLE_CLOUD_PROJECT="p", PYTHONPATH=str(ROOT))
    look = [sys.executable, "-c", "import main"]
    options: dict[str, Any] = {"cwd": ROOT / "functions", "capture_output": True, "text": True, "timeout": 60}
    instance = subprocess.run(look, env={**environ, "FUNCTION_TARGET": function}, check=False, **options)

    assert instance.returncode == 1
    assert told(instance.stderr.split("ConfigError: ")[1]) == missing | {"ONCETASK_QUEU"}
    if function == "sweep":
        assert subprocess.run(look, env=environ, check=False, **options).returncode == 0


def test_serving_is_all_that_a_server_does() -> None:
    """
    What a server is asked for suffices for all that the library does in it but for paths, which a base URL serves.
    """
    locker = Locker(config=Config(project="p", location="l", service_account="a@b.test", base_url="https://x.test"))
    locker._runtime.require(SERVE)
    locker._runtime.verifier()
    assert (
        addressing.target(locker._runtime, "/x", queue=None, params=None, headers=None, delay=None, at=None).url
        == "https://x.test/x"
    )
