"""
``import go``: the task manager that it names, its questions, its lines, its exit codes.
"""

from __future__ import annotations

import json
import sys
import types

import pytest

from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.integration.cli.conftest import Run
from tests.integration.importing.test_go_oncetask import DONE, ENDED, LIVE, Office, SendMail, fill

COMMAND = ("import", "go", "onceTasks", "--manager", "office:tasks")


@pytest.fixture
def office(oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> Office:
    """
    A deployment that the command finds as the module ``office``.
    """
    made = Office(oncetask_cloud)
    module = types.ModuleType("office")
    module.tasks = made.manager  # type: ignore[attr-defined]  # the app's own name
    monkeypatch.setitem(sys.modules, "office", module)
    # The command itself needs a project; it works where the manager does.
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "demo-local")
    return made


def test_lines_and_exit_codes(office: Office, run: Run) -> None:
    """
    First a look; then without a promise, with deletion, and at last a document that can't be taken.
    """
    fill(office)
    code, out, err = run(*COMMAND, "--dry-run")
    assert (code, len(out)) == (3, 9)
    assert "ready    onceTasks/completed: completed" in out
    assert (
        err[0] == "LOCAL project demo-local, database (default), environment DEFAULT" or "environment DEFAULT" in err[0]
    )
    assert "import: 3 ready, 0 exists, 6 left, 0 refused; 0 of other environments or types passed over." in err
    assert "--workers-stopped" in err[-1]

    code, out, err = run(*COMMAND, "--yes")
    assert (code, len(out)) == (3, 9)
    assert "onceTasks: 9 documents are read, at one read each; they are only read." in err
    code, out, err = run(*COMMAND, "--yes", "--delete-imported")
    assert code == 3
    assert "imported onceTasks/due: due, deleted" in out
    assert "exists   onceTasks/failed: failed, deleted" in out
    assert office.left() == {"leased"}

    office.cloud.advance(minutes=9)
    assert run(*COMMAND, "--yes", "--delete-imported")[0] == 0
    office.put("bad", type="fax")
    code, out, _ = run(*COMMAND, "--yes", "--workers-stopped")
    assert (code, out) == (1, ["refused  onceTasks/bad: the task manager has no handler for the kind 'fax'"])


def test_json_lines(office: Office, run: Run) -> None:
    """
    One object for each document.
    """
    fill(office)
    _, out, _ = run(*COMMAND, "--yes", "--workers-stopped", "--json", "--kind", "send-mail")
    found = [json.loads(line) for line in out]

    assert {each["schema"] for each in found} == {"oncetask.import/1"}
    assert {each["path"].partition("/")[2] for each in found if each["outcome"] == "imported"} == ENDED | LIVE
    assert found[0] == {
        "schema": "oncetask.import/1",
        "path": "onceTasks/cancelled",
        "kind": "send-mail",
        "outcome": "imported",
        "said": "cancelled",
        "deleted": False,
    }


def test_types_are_renamed_and_chosen(office: Office, run: Run) -> None:
    """
    ``--kind TYPE=KIND``, and the environment of the documents.
    """
    office.put("a", type="SendMail", env="prod")
    office.put("b", type="other", env="prod", doneAt=DONE)
    code, out, err = run(*COMMAND, "--yes", "--workers-stopped", "--kind", "SendMail=send-mail", "--from-env", "prod")

    assert (code, out) == (0, ["imported onceTasks/a: due"])
    assert "1 of other environments or types passed over" in err[-1]


@pytest.mark.parametrize(
    ("manager", "said"),
    [
        ("office", "--manager is 'office'; it is a module and a name in it, like app:tasks."),
        ("nowhere:tasks", "--manager nowhere:tasks: No module named 'nowhere'."),
        ("office:app", "--manager office:app: app of office is None, and no TaskManager."),
    ],
)
def test_wrong_manager_is_told(office: Office, run: Run, manager: str, said: str) -> None:
    """
    Nothing is read, and the exit code is 2.
    """
    code, out, err = run(*COMMAND[:-1], manager, "--yes")

    assert (code, out) == (2, [])
    assert said in err[0]


def test_without_a_terminal_yes_is_needed(office: Office, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    As for each command that writes many records.
    """
    office.put("a")
    code, _, err = run(*COMMAND, "--workers-stopped")
    assert code == 2
    assert "give --yes" in err[-1]
    assert office.manager.find(status="scheduled").items == ()


def test_imported_tasks_can_be_shown_and_reset(
    cloud_on_ports: OncetaskCloud, office: Office, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Records with attempts of another system, and none of their own.
    """
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", cloud_on_ports.local.firestore.address)
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", cloud_on_ports.local.tasks.address)
    fill(office)
    office.take(delete=True)
    for id_ in sorted(ENDED | LIVE):
        code, out, err = run("show", "--kind", "send-mail", id_)
        assert code == 0, err
        assert any(line.startswith("status: ") for line in out)
        code, out, err = run("timeline", "--kind", "send-mail", id_)
        assert code == 0, err
    for id_ in sorted(ENDED):
        assert office.manager.reset_task(SendMail, id_)
    office.cloud.run_until_idle()
    assert set(office.ran) >= ENDED
