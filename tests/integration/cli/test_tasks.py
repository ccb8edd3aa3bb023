"""
The command line on once-tasks: ids as they are, and the alert's commands pasted into a shell.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from gcp_oncetask import Config, Locker, NoRetry
from gcp_oncetask.cli import main
from gcp_oncetask.flask import blueprint
from gcp_oncetask.rules.record import Event
from gcp_oncetask.tasks import TaskData, TaskManager
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import Killed, Mortal

URL = "https://tasks.test"
ACCOUNT = "caller@demo-local.iam.gserviceaccount.com"
IDS = ["42", "a/b:c%d  'é' \"$HOME\" `x` --kind \\ #;&\n", "100%:"]
QUIET = {name: value for name, value in os.environ.items() if not name.startswith(("ONCE", "GOOGLE"))}


class Charge(TaskData, kind="charge-card"):
    order: str

    def task_id(self) -> str:
        return self.order

    def resource_key(self) -> str:
        return "till"


class Desk:
    """
    A deployment whose handler does what ``work`` says, and the environment of the person on call.
    """

    def __init__(self, cloud: OncetaskCloud, **options: Any) -> None:
        self.cloud = cloud
        self.work: Any = lambda: None
        self.manager = TaskManager(Locker(config=Config(base_url=URL, service_account=ACCOUNT)))
        self.manager.register_task_handler(Charge, lambda task, attempt: self.work(), retry=NoRetry(), **options)
        app = Flask("tasks")
        app.register_blueprint(blueprint(self.manager))
        cloud.use(self.manager.locker)
        cloud.mount(URL, Mortal(app))
        self.environ = {
            **QUIET,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "FIRESTORE_EMULATOR_HOST": cloud.local.firestore.address,
            "CLOUD_TASKS_EMULATOR_HOST": cloud.local.tasks.address,
        }

    def paste(self, command: str) -> str:
        """
        Run a line in a shell that has none of our settings.
        """
        done = subprocess.run(command, shell=True, env=self.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self, id_: str) -> str:
        task = self.manager.get_task(Charge, id_)
        assert task is not None
        return str(task.status(self.cloud.clock_now()))


@pytest.mark.parametrize("id_", IDS)
def test_commands_of_a_failure_alert_run_the_task_again(cloud_on_ports: OncetaskCloud, id_: str) -> None:
    """
    Pasted into a shell as they stand, whatever the id is made of: shown, reset, delivered with an accepted identity.
    """
    desk = Desk(cloud_on_ports)
    desk.work = lambda: 1 // 0
    desk.manager.create_task(Charge(order=id_))
    cloud_on_ports.run_until_idle()
    assert desk.status(id_) == "failed"
    desk.work = lambda: "paid"

    [alert] = cloud_on_ports.alerts.sent
    show, reset, *_ = alert.commands
    assert f"once-task:   charge-card {id_!r}" in desk.paste(show)
    assert "scheduled as sequence 2, dispatched" in desk.paste(reset)
    cloud_on_ports.run_until_idle()

    assert desk.manager.result(Charge, id_) == "paid"


def test_commands_of_a_quarantine_alert_resolve_the_task(cloud_on_ports: OncetaskCloud) -> None:
    """
    Of a task whose holder is gone without a trace: run again, called done, called failed.
    """
    desk = Desk(cloud_on_ports, on_unknown="quarantine")
    for number, (how, status) in enumerate((("run", "pending"), ("complete", "completed"), ("fail", "failed"))):
        desk.work = die
        desk.manager.create_task(Charge(order=f"{number}:%"))
        cloud_on_ports.run_until_idle()
        cloud_on_ports.advance(minutes=13)
        cloud_on_ports.sweep()
        alert = cloud_on_ports.alerts.sent[-1]
        assert alert.event is Event.QUARANTINE
        show, *resolve = alert.commands
        assert "status:      quarantined" in desk.paste(show)
        desk.paste(next(line for line in resolve if f" {how} --if-version " in line))
        assert desk.status(f"{number}:%") == status
        desk.work = lambda: None
        cloud_on_ports.run_until_idle()


def test_sweep_visits_once_tasks_unasked(cloud_on_ports: OncetaskCloud) -> None:
    """
    A task whose enqueue was lost is dispatched by the command's sweep, without naming a collection.
    """
    desk = Desk(cloud_on_ports)
    cloud_on_ports.faults.fail("CreateTask", times=None)
    assert not desk.manager.create_task(Charge(order="42")).dispatched
    cloud_on_ports.faults.clear()
    cloud_on_ports.advance(minutes=2)
    sweep = (
        f"GOOGLE_CLOUD_PROJECT={cloud_on_ports.local.project} ONCETASK_SERVICE_ACCOUNT={ACCOUNT} "
        "ONCETASK_AUDIENCE=https://oncetask.test python -m gcp_oncetask sweep"
    )

    assert "1 dispatched" in desk.paste(sweep)
    cloud_on_ports.run_until_idle()
    assert desk.status("42") == "completed"


def die() -> None:
    raise Killed


def test_a_person_gives_kind_and_id(
    cloud_on_ports: OncetaskCloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    show, cancel, reset and resolve take an id with --kind; a path that names no document hints at it, a bad kind is wrong use.
    """
    desk = Desk(cloud_on_ports)
    for name, value in (
        *desk.environ.items(),
        ("GOOGLE_CLOUD_PROJECT", cloud_on_ports.local.project),
        ("ONCETASK_SERVICE_ACCOUNT", ACCOUNT),
        ("ONCETASK_AUDIENCE", "https://oncetask.test"),
    ):
        monkeypatch.setenv(name, value)
    for name in [name for name in os.environ if name.startswith("ONCE") and name not in desk.environ]:
        if name not in ("ONCETASK_SERVICE_ACCOUNT", "ONCETASK_AUDIENCE"):
            monkeypatch.delenv(name)
    id_ = IDS[1]
    desk.manager.create_task(Charge(order=id_))

    assert main(["show", "--kind", "charge-card", id_]) == 0
    assert "needs key:   till" in capsys.readouterr().out
    assert main(["cancel", id_, "--kind", "charge-card"]) == 0
    assert desk.status(id_) == "cancellationPending"
    cloud_on_ports.run_until_idle()
    assert desk.status(id_) == "cancelled"
    assert main(["reset", id_, "--kind", "charge-card"]) == 0
    assert desk.status(id_) == "pending"
    assert main(["resolve", "--kind", "charge-card", id_, "run"]) == 1
    assert "only quarantined ones are resolved" in capsys.readouterr().err

    assert main(["show", "charge-card/42"]) == 1
    assert capsys.readouterr().err.endswith("never scheduled. A once-task is given by its id, with --kind.\n")
    assert main(["show", "42", "--kind", "charge-card"]) == 1
    assert "onceTasks/" in (said := capsys.readouterr().err)
    assert "--kind" not in said
    with pytest.raises(SystemExit) as stopped:
        main(["show", "42", "--kind", "charge:card"])
    assert stopped.value.code == 2
