"""
``list``, ``running``, and the acts of people by the command line.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.cloud.firestore import DELETE_FIELD

from gcp_oncetask import Fail, Retry
from gcp_oncetask.cli import lists, main
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.tasks import Service


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> Service:
    """
    A service whose handlers fail; the command line has its locker.
    """
    made = Service(oncetask_cloud).handle()
    made.act = lambda task, attempt: Fail("declined")
    return made.have_commands(monkeypatch)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """
    Exit code, standard output and standard error of a command.
    """
    code = main(list(arguments))
    told = capsys.readouterr()
    return code, told.out, told.err


def test_op_02_nothing_needs_a_person(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """
    No row, a sentence on standard error, exit code 0.
    """
    code, out, err = said(capsys, "list", "--json")
    assert (code, out) == (0, "")
    assert "needs a person" in err


def test_op_06_odd_ids_are_harmless_and_exact_in_json(
    oncetask_cloud: OncetaskCloud, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = "a\x1b[31m\u202eb"
    service.create(odd)
    oncetask_cloud.run_until_idle()
    code, out, _ = said(capsys, "list")
    assert code == 0
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert out.splitlines()[0].split()[:4] == ["TASK", "REASON", "STATUS", "SINCE"]
    assert "declined" in out
    [line] = said(capsys, "list", "--json")[1].splitlines()
    row: dict[str, Any] = json.loads(line)
    assert (row["schema"], row["id"], row["kind"], row["reason"]) == ("oncetask.record/1", odd, "work", "failed")
    assert line.isascii()
    assert "declined" in row["last_error"]
    assert "lock" not in row


def test_acts_by_the_command_line(
    oncetask_cloud: OncetaskCloud, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    With the version of the list, each is done once; the second gets exit code 3 and reads who has acted.
    """
    service.create("a")
    oncetask_cloud.run_until_idle()
    version = json.loads(said(capsys, "list", "--json")[1])["version"]
    arguments = ("a", "--kind", "work", "--if-version", version)
    assert said(capsys, "ack", *arguments, "--for", "4h", "--as", "ann")[0] == 0
    code, _, err = said(capsys, "dismiss", *arguments, "--as", "bob")
    assert code == 3
    assert "as ann, chose ack" in err
    assert "(ann until" in said(capsys, "list")[1]
    assert said(capsys, "dismiss", "a", "--kind", "work", "--as", "bob", "--note", "known")[0] == 0
    assert said(capsys, "list")[1] == ""
    assert "a" in said(capsys, "list", "--dismissed")[1]
    code, out, err = said(capsys, "resolve", "a", "--kind", "work", "happened", "--result", '{"n": 1}', "--end")
    assert (code, out.split(": ")[-1]) == (0, "completed\n")
    assert "ends as completed with the given result" in err
    acts = service.lock("a").acts
    assert [(act.verb, act.claimed, act.note) for act in acts][:2] == [
        ("ack", "ann", None),
        ("dismiss", "bob", "known"),
    ]
    assert [act.verb for act in acts] == ["ack", "dismiss", "happened"]


def test_op_07_running_ones_by_lease_left(
    oncetask_cloud: OncetaskCloud, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The one with the least lease is first; the one past its lease is late.
    """
    seen: list[tuple[str, str]] = []

    def act(task: Any, attempt: Any) -> None:
        if task.id == "outer":
            service.create("inner")
            oncetask_cloud.advance(seconds=5)
        code, out, _ = said(capsys, "running")
        assert code == 0
        seen.append((task.id, out))
        oncetask_cloud.advance(hours=1)
        seen.append((task.id, said(capsys, "running")[1]))

    service.act = act
    service.create("outer")
    oncetask_cloud.run_until_idle()
    first, late = seen[0][1], seen[1][1]
    assert first.splitlines()[1].startswith("work outer")
    assert "late" not in first
    assert "late: ended" in late
    assert "No record" in said(capsys, "running")[2]


def test_op_07_evidence_so_far_is_asked_of_the_logs_only_on_demand(
    oncetask_cloud: OncetaskCloud, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Each leased record has a verdict; logs that can't be read are said, and the rows are shown all the same.
    """
    seen: list[tuple[int, str, str]] = []

    def act(task: Any, attempt: Any) -> None:
        seen.append(said(capsys, "running", "--evidence"))
        seen.append(said(capsys, "running", "--evidence", "--json"))
        oncetask_cloud.local.faults.fail("ListLogEntries", message="logging is disabled", times=None)
        seen.append(said(capsys, "running"))
        seen.append(said(capsys, "running", "--evidence"))

    service.act = act
    service.create("a")
    oncetask_cloud.run_until_idle()
    table, line, without, denied = (out for _, out, _ in seen)
    assert [code for code, _, _ in seen] == [0, 0, 0, 0]
    assert "EVIDENCE SO FAR" in table
    assert json.loads(line)["finding"] == "unknown"
    assert json.loads(line)["evidence"]
    assert "EVIDENCE" not in without
    assert "the logs could not be asked" in denied
    assert denied.splitlines()[1].startswith("work a")


def test_op_05_rebuild_finds_what_an_older_release_has_failed(
    oncetask_cloud: OncetaskCloud, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Once-tasks and entities without an entry are counted, then found, since their last failure; a second run changes nothing.
    """
    service.create("a", "b", "c")
    oncetask_cloud.run_until_idle()
    locker = service.manager.locker
    failed_at = locker.show(service.path("a")).errors[-1].at
    orders = locker.client.collection("orders")
    stored = service.stored("a")["lock"]
    del stored["attention"]
    orders.document("1").set({"lock": stored | {"status": "quarantined"}})
    orders.document("2").set({"lock": stored | {"status": "completed"}})
    for name in ("a", "b"):
        locker.client.document(service.path(name)).update({"lock.attention": DELETE_FIELD})
    oncetask_cloud.advance(hours=1)
    asked = ["attention", "rebuild", "--collection"]
    assert said(capsys, "attention", "rebuild")[0] == 2
    code, out, err = said(capsys, *asked, "onceTasks", "--dry-run", "--yes")
    assert (code, out) == (0, "onceTasks: 3 read, 2 wrong\n")
    code, out, err = said(capsys, *asked, "orders", "--dry-run", "--yes")
    assert (code, out) == (0, "orders: 2 read, 1 wrong\n")
    assert "orders: 2 documents are read, at one read each." in err
    assert [row.id for row in locker.find(collection="onceTasks").items] == ["c"]

    for collection, told in (("onceTasks", "3 read, 2 wrong, mended"), ("orders", "2 read, 1 wrong, mended")):
        assert said(capsys, *asked, collection, "--yes")[:2] == (0, f"{collection}: {told}\n")
    assert {row.id: row.since for row in locker.find(collection="onceTasks").items}["a"] == failed_at
    assert [(row.path, row.reason) for row in locker.find(collection="orders").items] == [("orders/1", "quarantined")]
    assert said(capsys, *asked, "onceTasks", "--yes")[1] == "onceTasks: 3 read, 0 wrong\n"
    assert said(capsys, *asked, "orders", "--yes")[1] == "orders: 2 read, 0 wrong\n"


def reads(cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch, before: Callable[[int], None]) -> list[int]:
    """
    Call *before* with the number of each read of a list that is watched; returns those numbers.
    """
    made, screen = list[int](), lists._screen

    def counted(*arguments: Any) -> Any:
        made.append(len(made) + 1)
        before(made[-1])
        return screen(*arguments)

    monkeypatch.setattr(lists, "_screen", counted)
    return made


def test_op_08_list_that_is_watched_ends_after_three_failed_reads(
    oncetask_cloud: OncetaskCloud,
    service: Service,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A minute of reads, then the account loses its right: told once, with the age of the last rows, and exit code 1.
    """
    service.create("a")
    oncetask_cloud.run_until_idle()

    def before(number: int) -> None:
        if number == 12:
            oncetask_cloud.faults.fail("RunQuery", code=grpc.StatusCode.PERMISSION_DENIED, times=None)

    made, start = reads(oncetask_cloud, monkeypatch, before), oncetask_cloud.clock_now()
    code, out, err = said(capsys, "list", "--watch")
    assert (code, made) == (1, list(range(1, 15)))
    assert round((oncetask_cloud.clock_now() - start).total_seconds()) == 13 * 5
    assert [line.split(" at ")[0] for line in out.splitlines()[::3]] == ["Read"] * 11
    assert [line.split()[1] for line in out.splitlines()[2::3]] == ["a"] * 11
    assert "\x1b" not in out
    told = err.splitlines()
    assert ["The list can't be read: " in line for line in told] == [True, False, False, False]
    assert "PERMISSION_DENIED" in told[0]
    assert told[1:3] == ["The rows above are 5 s old.", "The rows above are 10 s old."]
    assert told[3] == "The rows above are 15 s old. The list ends after 3 failed reads."


def test_list_that_is_watched_goes_on_after_a_failed_read(
    oncetask_cloud: OncetaskCloud,
    service: Service,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Two failures, then a read, begin the count again; a new row is there at the next read; Ctrl-C ends it with exit code 0.
    """

    def before(number: int) -> None:
        if number in (2, 3, 5, 6):
            oncetask_cloud.faults.fail("RunQuery", code=grpc.StatusCode.PERMISSION_DENIED)
        if number == 4:
            service.create("late")
            oncetask_cloud.run_until_idle()
        if number == 8:
            os.kill(os.getpid(), signal.SIGINT)

    made = reads(oncetask_cloud, monkeypatch, before)
    code, out, err = said(capsys, "list", "--watch", "--every", "2s")
    assert (code, made[-1]) == (0, 8)
    assert err.count("The list can't be read: ") == 2
    assert err.count("The rows above are") == 4
    assert out.count("every 2 s") == 4
    assert out.splitlines()[1].startswith("No record of environment DEFAULT needs a person")
    assert out.count("declined") == 3


def test_list_that_is_watched_clears_a_terminal(
    service: Service, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service.create("a")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    reads(service.cloud, monkeypatch, lambda number: os.kill(os.getpid(), signal.SIGINT))
    code, out, _ = said(capsys, "list", "--watch")
    assert code == 0
    assert out.startswith("\x1b[H\x1b[2JRead at ")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--watch", "--json"], "--watch is for people"),
        (["--every", "5s"], "give both, or neither"),
        (["--watch", "--every", "1s"], "at least 2 s"),
        (["--watch", "--every", "2m"], "at most 60 s"),
        (["--watch", "--key", "k"], "say which kind"),
    ],
)
def test_watching_that_makes_no_sense_is_refused(
    service: Service, capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    code, out, err = said(capsys, "list", *arguments)
    assert (code, out) == (2, "")
    assert why in err


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("since", ["c", "a", "b", "d"]),
        ("newest", ["d", "b", "a", "c"]),
        ("task", ["a", "b", "c", "d"]),
        ("key", ["b", "a", "c", "d"]),
        ("status", ["a", "b", "c", "d"]),
        ("reason", ["a", "b", "c", "d"]),
        ("attempts", ["d", "a", "b", "c"]),
    ],
)
def test_rows_are_sorted(
    oncetask_cloud: OncetaskCloud,
    service: Service,
    capsys: pytest.CaptureFixture[str],
    order: str,
    names: list[str],
) -> None:
    """
    Of all that fit, and not of a page; rows without a value are last, and equal ones are in the order of their paths.
    """
    for name, key in (("c", None), ("a", "y"), ("b", "x"), ("d", None)):
        if name == "d":
            service.act = lambda task, attempt: Retry("again", delay=1) if attempt.number == 1 else Fail("declined")
        service.create(name, key=key)
        oncetask_cloud.advance(seconds=5)
    for most in (4, 2):
        code, out, err = said(capsys, "list", "--sort", order, "--json", "--limit", str(most))
        assert code == 0
        by_path = sorted(names, key=service.path) if order in ("status", "reason") else None
        found = [json.loads(line)["id"] for line in out.splitlines()]
        if order == "attempts":
            assert found[0] == "d"
        elif order == "key":
            assert found == [*names[:2], *sorted(names[2:], key=service.path)][:most]
        else:
            assert found == (by_path or names)[:most]
    assert err == ""
    assert "There are more than 2" in said(capsys, "list", "--sort", order, "--limit", "2")[2]
