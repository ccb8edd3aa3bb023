"""
Acts on many records by the command line, in processes of their own that are killed and stopped, and on records that are refused.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from gcp_oncetask import Fail
from gcp_oncetask.cli import filtered
from gcp_oncetask.tasks.data import kind_of
from gcp_oncetask.testing.cloud import ACCOUNT, OncetaskCloud
from tests.integration.cli.conftest import Run
from tests.integration.cli.test_asking import Terminal
from tests.support.tasks import Other, Service, Strict, Work

pytestmark = pytest.mark.usefixtures("service")


@pytest.fixture
def environ(cloud_on_ports: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """
    The environment of the person on call, who has no terminal.
    """
    local = cloud_on_ports.local
    for name in [name for name in os.environ if name.startswith(("ONCE", "GOOGLE"))]:
        monkeypatch.delenv(name)
    made = {
        "FIRESTORE_EMULATOR_HOST": local.firestore.address,
        "CLOUD_TASKS_EMULATOR_HOST": local.tasks.address,
        "CLOUD_LOGGING_EMULATOR_HOST": local.logging.address,
        "GOOGLE_CLOUD_PROJECT": local.project,
        "ONCETASK_SERVICE_ACCOUNT": ACCOUNT,
        "ONCETASK_LOCATION": "us-central1",
        "ONCETASK_AUDIENCE": "https://oncetask.test",
    }
    for name, value in made.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    return made


@pytest.fixture
def service(cloud_on_ports: OncetaskCloud, environ: dict[str, str]) -> Service:
    """
    A service whose handlers fail.
    """
    made = Service(cloud_on_ports).handle().handle(Other)
    made.act = lambda task, attempt: Fail("declined")
    return made


def fail(service: Service, names: range, *models: type[Work], **fields: Any) -> None:
    service.manager.create_tasks([model(name=str(name), **fields) for model in models or (Work,) for name in names])
    service.cloud.run_until_idle()


def statuses(service: Service, model: type[Work] = Work) -> Counter[str]:
    """
    The number of stored tasks of a kind by their status.
    """
    kind, found = kind_of(model).name, service.manager.locker.client.collection("onceTasks").get()
    return Counter(each.to_dict()["lock"]["status"] for each in found if kind in each.id.split(":"))


def command_in(lines: list[str]) -> list[str]:
    """
    The arguments of the command that a dry run prints.
    """
    return shlex.split(lines[-1].removeprefix("python -m gcp_oncetask "))


def sequences(service: Service, names: range, model: type[Work] = Work) -> Counter[int]:
    return Counter(service.lock(str(name), model).sequence for name in names)


def test_op_31_those_counted_are_reset_and_no_others(run: Run, service: Service, tmp_path: Path) -> None:
    """
    1,000 failed of two kinds: the 500 of one kind are, and none that fails after the dry run. The report adds up.
    """
    fail(service, range(500), Work, Other)
    service.cloud.advance(seconds=5)
    code, out, err = run("reset", "--kind", "work", "--dry-run", "--report", str(tmp_path / "report"))
    assert (code, len(err)) == (0, 1)
    assert err[0].startswith("LOCAL project ")
    assert out[0].startswith("500 records fit at 2026-")
    assert "later ones are left alone" in out[0]
    assert sum(line.count(":work:") for line in out if line.startswith("the oldest")) == 5
    assert "with the same idempotency key" in " ".join(out)
    assert statuses(service) == {"failed": 500}
    assert not (tmp_path / "report").exists()

    service.cloud.advance(seconds=5)
    fail(service, range(500, 510))
    code, out, err = run(*command_in(out), "--rate", "100000", "--as", "ann")
    assert code == 0, err
    assert len(out) == 500
    assert out[0].startswith("done     onceTasks/")
    assert out[0].endswith(": scheduled as sequence 2, dispatched.")
    assert err[-1] == "reset: 500 done, 0 skipped, 0 refused."
    assert statuses(service) == {"scheduled": 500, "failed": 10}
    assert statuses(service, Other) == {"failed": 500}
    lines = [json.loads(line) for line in (tmp_path / "report").read_text().splitlines()]
    assert {each["path"] for each in lines} == {service.path(str(name)) for name in range(500)}
    assert {each["outcome"] for each in lines} == {"done"}
    [act] = service.lock("7").acts
    assert (act.verb, act.by) == ("reset", "ann")


def test_op_32_killed_run_is_repeated(run: Run, service: Service, environ: dict[str, str], tmp_path: Path) -> None:
    """
    A run of 500 is killed after 300 of them; the same command does the rest, nothing twice, and the report has both runs.
    """
    fail(service, range(500))
    service.cloud.advance(seconds=5)
    report = tmp_path / "report"
    command = command_in(run("reset", "--kind", "work", "--dry-run", "--rate", "100000", "--report", str(report))[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "gcp_oncetask", *command], env=os.environ | environ, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout as lines:
        for _ in range(300):
            assert lines.readline().startswith("done")
        process.kill()
        process.wait(30)
    before = sequences(service, range(500))
    assert 300 <= before[2] < 500
    code, out, err = run(*command)

    assert (code, len(out)) == (0, before[1])
    assert err[-1] == f"reset: {before[1]} done, 0 skipped, 0 refused."
    assert sequences(service, range(500)) == {2: 500}
    told = [json.loads(line) for line in report.read_text().splitlines()]
    assert len({each["path"] for each in told}) >= 499
    assert len(told) == len({each["path"] for each in told})
    code, out, err = run(*command)
    assert (code, out) == (0, [])
    assert err[-1] == "reset: 0 done, 0 skipped, 0 refused."


def test_op_33_those_that_are_refused_do_not_stop_the_rest(run: Run, service: Service) -> None:
    """
    One can't be decoded, one is erased, one runs: three lines with reasons, the others are done, exit code 1.
    """
    fail(service, range(5), key="k")
    service.create("runs", key="k")
    client = service.manager.locker.client
    client.document(service.path("0")).update({"lock.url": 7})
    client.document(service.path("1")).update({"lock.erased": True})
    said: list[Any] = []

    def act(task: Any, attempt: Any) -> None:
        service.act = lambda task, attempt: None
        said.append(run("reset", "--kind", "work", "--key", "k", "--yes"))

    service.act = act
    service.cloud.run_until_idle()
    [(code, out, err)] = said
    failed = [line for line in out if line.startswith("refused")]
    assert code == 1, err[-2:]
    assert [any(why in line for line in failed) for why in ("its url can't be read", "was erased", "is leased")] == [
        True
    ] * 3
    assert err[-1]
    assert err[-1] == "reset: 3 done, 0 skipped, 3 refused."


def test_op_34_without_a_terminal_and_yes_nothing_is_done(run: Run, service: Service) -> None:
    """
    Of many records and of one deletion: exit code 2, after the place and the effect.
    """
    fail(service, range(3))
    for arguments in (
        ["delete", "--kind", "work"],
        ["reset", "--kind", "work"],
        ["dismiss", "--reason", "failed"],
        ["delete", service.path("1")],
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, [])
        assert err[0].startswith("LOCAL project ")
        assert "give --yes if you mean it. Nothing was done." in err[-1]
    assert statuses(service) == {"failed": 3}
    assert service.lock("1").acts == ()


@pytest.mark.parametrize(("typed", "code"), [("3\n", 0), ("y\n", 1), ("\n", 1)])
def test_deletion_over_a_filter_asks_for_the_number(
    run: Run, service: Service, monkeypatch: pytest.MonkeyPatch, typed: str, code: int
) -> None:
    fail(service, range(3))
    service.cloud.advance(seconds=1)
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    found, _, err = run("delete", "--kind", "work")
    assert found == code
    assert "Type the number, 3, to go on:" in " ".join(err)
    assert statuses(service) == ({} if code == 0 else {"failed": 3})


def test_on_a_terminal_the_effect_is_said_and_asked(
    run: Run, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Of one document and of many: only yes goes on.
    """
    fail(service, range(2))
    service.cloud.advance(seconds=1)
    for arguments in (["reset", "0", "--kind", "work"], ["dismiss", "--kind", "work"]):
        monkeypatch.setattr("sys.stdin", Terminal("n\n"))
        code, out, err = run(*arguments)
        assert (code, out) == (1, [])
        assert err[-1].endswith("[y/N] Nothing was done.")
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    code, out, err = run("reset", "0", "--kind", "work")
    assert (code, out) == (0, [f"{service.path('0')}: scheduled as sequence 2, dispatched"])
    assert "with the same idempotency key" in err[1]


def test_op_35_ctrl_c_ends_after_the_record_with_a_report(
    service: Service, environ: dict[str, str], run: Run, tmp_path: Path
) -> None:
    """
    Of 200 at 20 a second, stopped after ten: the process ends with 130, has reported all that it did, and tells how to go on.
    """
    fail(service, range(200))
    service.cloud.advance(seconds=1)
    report = tmp_path / "report"
    command = ["reset", "--kind", "work", "--yes", "--rate", "20/s", "--json", "--report", str(report)]
    process = subprocess.Popen(
        [sys.executable, "-m", "gcp_oncetask", *command],
        env=os.environ | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout as out, process.stderr as err:
        first = [json.loads(out.readline()) for _ in range(10)]
        process.send_signal(signal.SIGINT)
        lines = [*first, *map(json.loads, out)]
        told = err.read().splitlines()
        assert process.wait(30) == 130
    done = len(lines)
    assert 10 <= done < 200
    assert {(each["schema"], each["outcome"]) for each in lines} == {("oncetask.act/1", "done")}
    assert statuses(service) == {"scheduled": done, "failed": 200 - done}
    assert len(report.read_text().splitlines()) == done
    assert told[-3] == f"reset: {done} done, 0 skipped, 0 refused."
    assert run(*command_in(told), "--limit", "3")[2][-1] == "reset: 3 done, 0 skipped, 0 refused."


def test_record_that_has_moved_on_is_skipped(run: Run, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Another person resets one record after it was found: the command skips it, says so, and ends with exit code 3.
    """
    fail(service, range(3))
    service.cloud.advance(seconds=1)
    locker, perform_all = service.manager.locker, filtered.many.perform_all

    def after_another(*arguments: Any) -> Any:
        rows = list(arguments[1])
        locker.reset_path(rows[1].path)
        return perform_all(arguments[0], rows, *arguments[2:])

    monkeypatch.setattr(filtered.many, "perform_all", after_another)
    code, out, err = run("reset", "--kind", "work", "--yes")
    assert code == 3
    assert [line.split()[0] for line in out] == ["done", "skipped", "done"]
    assert "it has changed since version" in out[1]
    assert err[-1] == "reset: 2 done, 1 skipped, 0 refused."


def test_outage_ends_the_run(run: Run, service: Service) -> None:
    """
    Firestore refuses every write, after it was asked for its time: after three in a row the run ends, with the sum and the error.
    """
    fail(service, range(10))
    service.cloud.advance(seconds=1)
    service.cloud.faults.fail("Commit", code=grpc.StatusCode.PERMISSION_DENIED, skip=1, times=None)
    code, out, err = run("dismiss", "--kind", "work", "--yes")
    assert code == 1
    assert len(out) == 3
    assert err[-2] == "dismiss: 0 done, 0 skipped, 3 refused."
    assert err[-1].startswith("gcp_oncetask: ")


def test_tasks_of_tomorrow_are_cancelled_and_later_ones_are_not(run: Run, service: Service) -> None:
    """
    The cut-off time is compared with the time at which a waiting task was written, and not with its time to run.
    """
    service.create("a", "b", at=service.cloud.clock_now() + timedelta(days=1))
    service.cloud.advance(seconds=1)
    command = command_in(run("cancel", "--kind", "work", "--status", "scheduled", "--dry-run")[1])
    service.cloud.advance(seconds=1)
    service.create("c", at=service.cloud.clock_now() + timedelta(days=1))
    code, out, _ = run(*command)
    assert (code, len(out)) == (0, 2)
    assert [service.lock(name).cancel_requested_at is None for name in "abc"] == [False, False, True]


def test_quarantined_ones_are_resolved_over_a_filter(run: Run, service: Service) -> None:
    """
    With one decision for all; a dry run for programs is one line, which tells the refusals.
    """
    quarantined = Service(service.cloud, url="https://other.test").handle(Strict, on_unknown="quarantine")
    for name in ("a", "b"):
        quarantined.die_once()
        quarantined.create(name, model=Strict)
        quarantined.cloud.run_until_idle()
    quarantined.cloud.advance(minutes=13)
    quarantined.cloud.sweep()
    fail(service, range(1))
    words = ("complete", "--result", '{"n": 1}', "--json", "--as", "ann", "--note", "known")
    [line] = run("resolve", *words, "--dry-run", "--older-than", "1s")[1]
    service.cloud.advance(seconds=2)
    [line] = run("resolve", *words, "--dry-run", "--older-than", "1s")[1]
    found = json.loads(line)
    assert (found["schema"], found["verb"], found["count"], found["more"]) == (
        "oncetask.dry-run/1",
        "resolve",
        3,
        False,
    )
    assert [(each["count"], "only quarantined ones" in each["example"]) for each in found["refused"]] == [(1, True)]
    code, out, _ = run(*shlex.split(found["command"])[3:])
    said = [json.loads(each) for each in out]
    assert code == 1
    assert [each["outcome"] for each in said] == ["done", "done", "refused"]
    assert quarantined.manager.result(Strict, "a") == {"n": 1}
    [act] = quarantined.lock("a", Strict).acts
    assert (act.verb, act.by, act.note) == ("complete", "ann", "known")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["reset", "orders/1", "--rate", "5"], "leave the document out"),
        (["reset", "--key", "k"], "say which kind"),
        (["reset", "--status", "failed", "--limit", "0"], "--limit is 0"),
        (
            ["resolve", "run", "--result", "1", "--reason", "quarantined"],
            "for happened, complete and a run (--run) alone",
        ),
        (["resolve", "orders/1", "happened"], "give one"),
        (["reset", "--status", "failed", "--yes", "--report", "/nowhere/x"], "can't be written to /nowhere/x"),
        (["acts", "--kind", "work"], "give its id too"),
    ],
)
def test_contradictions_are_wrong_use(run: Run, arguments: list[str], why: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, [])
    assert why in err[-1]


def test_deletion_of_one_is_asked_and_leaves_its_acts(run: Run, service: Service) -> None:
    """
    By id, with --yes; the task is gone, and the trail has the act.
    """
    fail(service, range(1))
    assert run("delete", "0", "--kind", "work", "--dry-run")[1][0].endswith("with its payload, result and history.")
    code, out, _ = run("delete", "0", "--kind", "work", "--yes", "--as", "ann", "--json")
    assert (code, json.loads(out[0])["said"]) == (0, f"{service.path('0')}: deleted.")
    assert service.manager.get_task(Work, "0") is None
    assert any("ann" in line and "delete" in line for line in run("acts")[1])
    assert run("delete", "0", "--kind", "work", "--yes")[0] == 1


def test_progress_is_told_on_standard_error(run: Run, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(service, range(3))
    service.cloud.advance(seconds=1)
    monkeypatch.setattr(filtered, "_PROGRESS", (0.0, 0.0))
    code, out, err = run("dismiss", "--kind", "work", "--yes")
    assert (code, len(out)) == (0, 3)
    assert [line for line in err if line.startswith("...")] == [
        f"... {number} done, 0 skipped, 0 refused" for number in (1, 2, 3)
    ]
