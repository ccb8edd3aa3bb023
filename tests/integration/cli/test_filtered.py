"""
Acts on all records that fit a filter, by the command line.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gcp_oncetask import Fail, Status
from gcp_oncetask.cli import main
from gcp_oncetask.operate import many
from gcp_oncetask.rules.document_paths import TaskName
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.integration.cli.test_asking import Terminal
from tests.support.tasks import Service


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> Service:
    """
    A service with six failed tasks; the command line has its locker.
    """
    made = Service(oncetask_cloud).handle()
    made.act = lambda task, attempt: Fail("declined")
    made.have_commands(monkeypatch)
    failing(oncetask_cloud, made, *"abcdef")
    return made


def failing(cloud: OncetaskCloud, service: Service, *ids: str) -> None:
    """
    Create tasks that fail.
    """
    for each in ids:
        service.create(each)
    cloud.run_until_idle()


def path_of(id_: str) -> str:
    """
    The path of a task.
    """
    return TaskName("DEFAULT", "work", id_).path


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """
    Exit code, standard output and standard error of a command.
    """
    code = main(list(arguments))
    told = capsys.readouterr()
    return code, told.out, told.err


def statuses(service: Service, *ids: str) -> list[str]:
    """
    The statuses of tasks.
    """
    return [str(service.manager.locker.show(path_of(each)).status) for each in ids]


def test_op_31_dry_run_then_the_same_records_alone(
    oncetask_cloud: OncetaskCloud, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The dry run counts, and prints the command; the command takes none that has failed after it, and none of another kind.
    """
    code, out, err = said(capsys, "reset", "--kind", "work", "--reason", "failed", "--dry-run")
    assert code == 0
    assert "environment DEFAULT" in err
    assert "6 records fit at " in out
    assert "6 work, failed" in out
    assert statuses(service, *"abcdef") == ["failed"] * 6
    oncetask_cloud.advance(minutes=5)
    failing(oncetask_cloud, service, "g")
    command = shlex.split(out.splitlines()[-1])
    assert command[:4] == ["python", "-m", "gcp_oncetask", "reset"]

    code, out, err = said(capsys, *command[3:], "--json")
    reports = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert sorted(each["path"] for each in reports) == sorted(map(path_of, "abcdef"))
    assert {(each["schema"], each["verb"], each["outcome"]) for each in reports} == {
        ("oncetask.act/1", "reset", "done")
    }
    assert "reset: 6 done, 0 skipped, 0 refused." in err
    assert statuses(service, *"abcdefg") == ["scheduled"] * 6 + ["failed"]
    code, out, err = said(capsys, *command[3:])
    assert (code, out) == (0, "")
    assert "0 done" in err
    assert said(capsys, "reset", "--kind", "other", "--dry-run")[1].startswith("No record fits the filters at ")


def test_op_32_stopped_run_goes_on_where_it_ended(
    service: Service, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    Ctrl-C lets the record be finished at which it comes; the same command does the others; one report has both runs.
    """
    report, perform, done = tmp_path / "report.jsonl", many.perform, list[str]()

    def stop(locker: Any, path: str, *args: Any) -> Any:
        if len(done) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        made = perform(locker, path, *args)
        done.append(path)
        return made

    monkeypatch.setattr(many, "perform", stop)
    arguments = ["dismiss", "--reason", "failed", "--yes", "--report", str(report)]
    code, _, err = said(capsys, *arguments)
    assert code == 130
    assert "dismiss: 2 done, 0 skipped, 0 refused." in err
    assert "To go on:" in err
    again = shlex.split(err.splitlines()[-1])[3:]
    code, _, err = said(capsys, *again, "--report", str(report))
    assert code == 0
    assert "dismiss: 4 done, 0 skipped, 0 refused." in err
    told = [json.loads(line) for line in report.read_text().splitlines()]
    assert sorted(each["path"] for each in told) == sorted(map(path_of, "abcdef"))
    assert said(capsys, "list", "--json")[1] == ""


def test_op_33_records_that_can_t_be_acted_on_are_told(
    service: Service, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    An undecodable one, and one that has changed since it was found: a line each; the others are done.
    """
    locker = service.manager.locker
    locker.client.document(path_of("b")).update({"lock.base": "one"})
    perform = many.perform

    def meddle(locker: Any, path: str, *args: Any) -> Any:
        if path == path_of("c"):
            locker.reset_path(path)
        return perform(locker, path, *args)

    code, out, err = said(capsys, "resolve", "run", "--kind", "work", "--yes")
    assert code == 1
    assert "0 done, 0 skipped, 6 refused" in err, out
    monkeypatch.setattr(many, "perform", meddle)
    code, out, err = said(capsys, "reset", "--kind", "work", "--yes")
    assert code == 1
    assert "4 done, 1 skipped, 1 refused" in err, out
    lines = {line.split()[0] for line in out.splitlines() if path_of("c") in line or path_of("b") in line}
    assert lines == {"skipped", "refused"}
    assert locker.show(path_of("a")).status is Status.SCHEDULED


def test_op_34_bulk_delete_without_a_terminal_does_nothing(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = said(capsys, "delete", "--reason", "failed")
    assert (code, out) == (2, "")
    assert "give --yes if you mean it. Nothing was done." in err
    assert statuses(service, *"abcdef") == ["failed"] * 6


def test_op_35_rate_is_never_exceeded(
    oncetask_cloud: OncetaskCloud, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Six acts at two a second take two and a half seconds by the locker's clock.
    """
    before = oncetask_cloud.clock_now()
    code, out, _ = said(capsys, "reset", "--reason", "failed", "--rate", "2/s", "--json", "--yes")
    assert code == 0
    times = [json.loads(line)["at"] for line in out.splitlines()]
    assert len(times) == 6
    assert times == sorted(set(times))
    assert timedelta(seconds=2.5) <= oncetask_cloud.clock_now() - before <= timedelta(seconds=4)


def test_a_person_is_asked_and_types_the_number_of_deletions(
    service: Service, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for typed, left in (("y\n", True), ("6\n", False)):
        monkeypatch.setattr("sys.stdin", Terminal(typed))
        code, _, err = said(capsys, "delete", "--kind", "work", "--status", "failed")
        assert ("Delete 6 records?" in err, code) == (True, int(left))
        assert (service.manager.locker.find(kind="work").items != ()) is left


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reset"], "give a document, or a filter"),
        (["reset", "--kind", "parcel", "--if-version", "1.0"], "--if-version is for one document"),
        (["reset", "orders/1", "--reason", "failed"], "--reason: for all records that fit, leave the document out"),
        (["resolve", "happened", "--reason", "failed", "--end"], "give one document"),
    ],
)
def test_wrong_use_changes_nothing(
    service: Service, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, _, err = said(capsys, *arguments)
    assert code == 2
    assert message in err
    assert statuses(service, *"abcdef") == ["failed"] * 6


def test_options_may_stand_between_document_and_decision(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--kind", "work", "a", "complete"], ["a", "--kind", "work", "complete"]):
        code, _, err = said(capsys, "resolve", *arguments)
        assert code == 1
        assert re.search("is failed; only quarantined", err), err
