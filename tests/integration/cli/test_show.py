"""
``show``: all that decides about a record, on one screen.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from gcp_oncetask import Fail, Retry, Status
from gcp_oncetask.cli import main
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.orders import Killed
from tests.support.tasks import Pull, Repeat, Service, Work

SECRET = "4111-1111-1111-1111"
Show = Callable[..., str]


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> Service:
    """
    Tasks of which nothing is known when their holder dies; the command line has their locker.
    """
    made = Service(oncetask_cloud).handle(on_unknown="quarantine")
    return made.have_commands(monkeypatch)


@pytest.fixture
def show(
    service: Service, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """
    Prints a task on a terminal of so many columns; returns the lines.
    """

    def run(name: str, *more: str, columns: int = 100) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        capsys.readouterr()
        assert main(["show", "--kind", "work", name, *more]) == 0
        return capsys.readouterr().out.splitlines()

    return run


def said(lines: list[str]) -> dict[str, str]:
    """
    The facts, by their labels; a second row of one belongs to it.
    """
    text = re.sub(r"\n {13}\| ", " ", "\n".join(lines))
    return dict(re.findall(r"^([a-z][a-z -]*): +(.*)$", text, re.MULTILINE))


def rows(lines: list[str], columns: int) -> int:
    """
    Rows of a terminal that the lines take.
    """
    return sum(max(1, -(-len(line) // columns)) for line in lines)


def quarantined(service: Service, name: str = "a") -> None:
    def die(task: Any, attempt: Any) -> None:
        raise Killed

    service.act = die
    service.create(name, note=SECRET)
    service.cloud.run_until_idle()
    service.cloud.advance(minutes=13)
    service.cloud.sweep()


@pytest.mark.parametrize("columns", [80, 100])
def test_op_10_show_of_a_quarantined_task_fits_a_screen(
    service: Service, show: Callable[..., list[str]], columns: int
) -> None:
    """
    80 x 24 and 100 x 24: the question, the key, since when, the verdict and its lines, the lease, the logs, and four commands
    with their effects. Only links and commands are longer than a row.
    """
    quarantined(service)
    service.cloud.advance(minutes=7)
    lines = show("a", columns=columns)
    assert rows(lines, columns) <= 24, "\n".join(lines)
    assert [line for line in lines if len(line) > columns and "https://" not in line and "python -m" not in line] == []
    facts = said(lines)
    assert facts["question"].startswith("Did step 1 happen?")
    assert facts["key"] == service.attempts[0].key
    assert facts["status"] == "quarantined, 7 min ago, 00:13:00 UTC"
    assert facts["verdict"] == "It has started; nothing is known of its end."
    assert "stdout" in facts["log line"]
    assert facts["lease"].startswith("from 00:00:00 UTC until 00:10:00 UTC, ")
    assert facts["logs"].startswith("https://console.cloud.google.com/logs/query;query=jsonPayload.oncetask.holder")
    commands = [line for line in lines if line.startswith("  python -m gcp_oncetask ")]
    assert [shlex.split(line)[7] for line in commands] == ["run", "happened", "complete", "fail"]
    assert [lines[lines.index(line) + 1][:8] for line in commands] == ["    The "] * 4
    assert SECRET not in "\n".join(lines)


@pytest.mark.parametrize(
    ("how", "status"), [("run", "scheduled"), ("happened", "completed"), ("complete", "completed"), ("fail", "failed")]
)
def test_command_of_a_screen_is_done_as_it_says(
    service: Service, show: Callable[..., list[str]], how: str, status: str
) -> None:
    """
    The sweeper looks at the record in between.
    """
    quarantined(service)
    [line] = [line for line in show("a") if f" a {how} " in line]
    service.cloud.advance(minutes=20)
    service.cloud.sweep()
    assert main(shlex.split(line)[3:]) == 0
    assert str(service.lock("a").status) == status
    assert main(shlex.split(line)[3:]) == 3


@pytest.mark.parametrize("columns", [80, 100])
def test_show_of_a_failed_task_fits_a_screen(service: Service, show: Callable[..., list[str]], columns: int) -> None:
    """
    With its last failure in two rows, and the last acts of people.
    """
    service.act = lambda task, attempt: Fail("declined " + "by the bank " * 40)
    service.create("a", note=SECRET)
    service.cloud.run_until_idle()
    for person in ("ann", "bob", "eve"):
        assert main(["ack", "--kind", "work", "a", "--for", "4h", "--as", person, "--note", "I look"]) == 0
    lines = show("a", columns=columns)
    assert rows(lines, columns) <= 24, "\n".join(lines)
    facts = said(lines)
    assert facts["status"] == "failed, 0 s ago, 00:00:00 UTC (eve until 04:00:00 UTC)"
    assert facts["failed"].startswith("attempt 1, 0 s ago: declined by the bank")
    assert facts["failed"].endswith("...")
    assert [line[13:] for line in lines if line.startswith("act:")] == [
        f"0 s ago ops@test, as {person}, ack, from failed: I look" for person in ("bob", "eve")
    ]
    assert [shlex.split(line)[3] for line in lines if "python -m" in line] == ["reset", "resolve", "dismiss"]
    assert SECRET not in "\n".join(lines)


def test_show_of_a_running_and_of_a_waiting_task(service: Service, show: Callable[..., list[str]]) -> None:
    """
    The time that is left, the next run, and how to stop it; the logs of a waiting one are not asked.
    """
    seen: list[dict[str, str]] = []

    def act(task: Any, attempt: Any) -> Any:
        seen.append(said(show("a")))
        service.cloud.advance(seconds=5)
        seen.append(said(show("a", "--tz", "Europe/Berlin")))
        return Retry("later", delay=600)

    service.act = act
    service.create("a", key="till")
    service.cloud.run_until_idle()
    assert seen[0]["lease"].startswith("ends in 9 min, 00:10:00 UTC; since 00:00:00 UTC, ")
    assert seen[1]["lease"].startswith("ends in 9 min, 01:10:00 CET; since 01:00:00 CET, ")
    assert seen[0]["needs key"] == "till"
    before = dict(service.cloud.local.logging.counts)
    lines = show("a")
    assert said(lines)["waits until"].startswith("in ")
    assert [shlex.split(line)[3] for line in lines if "python -m" in line] == ["cancel"]
    assert dict(service.cloud.local.logging.counts) == before


def test_stored_text_forges_no_row(service: Service, show: Callable[..., list[str]]) -> None:
    """
    Wherever a row ends, the next one has a mark.
    """
    service.act = lambda task, attempt: Fail("x" * 50 + " status:      completed " * 9)
    service.create("a")
    service.cloud.run_until_idle()
    for columns in range(60, 100):
        lines = show("a", columns=columns)
        assert [line for line in lines if line.lstrip().startswith("status:")] == [
            "status:      failed, 0 s ago, 00:00:00 UTC"
        ]


def test_show_says_that_the_logs_could_not_be_asked(service: Service, show: Callable[..., list[str]]) -> None:
    quarantined(service)
    service.cloud.faults.fail("ListLogEntries", times=None, code=grpc.StatusCode.PERMISSION_DENIED)
    lines = show("a")
    service.cloud.faults.clear()
    assert said(lines)["verdict"].startswith("the logs could not be asked: ")
    assert rows(lines, 100) <= 24


def test_show_of_all_attributes(service: Service, show: Callable[..., list[str]]) -> None:
    service.create("a")
    facts = said(show("a", "--all"))
    assert {"environment", "token", "due", "queue", "dispatches"} <= facts.keys()
    assert facts["status"] == "scheduled"


def test_show_of_tasks_of_other_sorts(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """
    One that workers pull has no target; one that recurs can be paused by another command.
    """
    service.handle(Repeat)
    service.create("p", model=Pull)
    service.manager.create_task(Repeat(rule={"rrule": "FREQ=DAILY", "dtstart": "2026-01-02T00:00:00Z"}))
    assert main(["show", "--kind", "pulled", "p"]) == 0
    assert "target" not in said(capsys.readouterr().out.splitlines())
    assert main(["show", "--kind", "repeat", "r"]) == 0
    facts = said(capsys.readouterr().out.splitlines())
    assert facts["once-task"] == "repeat 'r' (recurring)"
    assert facts["waits until"] == "in 23 h, 2026-01-02 00:00:00 UTC"


def test_show_of_an_id_that_no_shell_takes(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """
    The command then has the path, in which the id is escaped.
    """
    service.act = lambda task, attempt: Fail("no")
    for name in ("-x", "a\n"):
        service.create(name)
        service.cloud.run_until_idle()
        path = service.path(name, Work)
        assert main(["show", path]) == 0
        [line] = [line for line in capsys.readouterr().out.splitlines() if " reset " in line]
        assert shlex.split(line)[4] == path
        assert main(shlex.split(line)[3:]) == 0
        capsys.readouterr()


def test_note_of_an_act_is_on_one_row(service: Service, show: Callable[..., list[str]]) -> None:
    """
    Beside the act, or below it if there is no room.
    """
    service.act = lambda task, attempt: Fail("no")
    service.create("a")
    service.cloud.run_until_idle()
    note = "the bank has seen it at 03:12"
    assert main(["ack", "--kind", "work", "a", "--for", "4h", "--as", "ann", "--note", note]) == 0
    found = [show("a", columns=columns) for columns in range(60, 100)]
    assert all(sum(note in line for line in lines) == 1 for lines in found)
    assert {line[:5] for lines in found for line in lines if note in line} == {"act: ", "note:"}


def test_op_20_a_child_names_its_parent_which_wakes_with_the_result_that_a_person_gives(
    service: Service, show: Callable[..., list[str]]
) -> None:
    def act(task: Any, attempt: Any) -> Any:
        if task.data.name == "kid":
            raise Killed
        return attempt.run_task("one", Work(name="kid"))

    service.create("a")
    service.act = act
    service.settle(40)
    [group] = service.lock("a").children
    child = f"{group}-0"
    assert service.lock(child).status is Status.QUARANTINED
    assert said(show(child))["child of"] == service.path("a")
    assert "child of" not in said(show("a"))
    service.manager.resolve_task(Work, child, "complete", result="by hand")
    service.cloud.run_until_idle()
    assert service.lock("a").result == "by hand"
