"""
The command line on hostile names: no line that it prints is obeyed by a terminal, nor forged by what is stored.
"""

from __future__ import annotations

from typing import Any

import pytest

from gcp_oncetask import NoRetry
from gcp_oncetask.cli import main
from gcp_oncetask.tasks import TaskData
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.tasks import Service

NASTY = "x\x1b[2J\x1b]0;t\x07\x9b31m\r\n\u2028\u202e\u2066\u200b\x85\x7f status: completed"
FORGED = f"{NASTY}\ngcp_oncetask: orders/1: all is well"


class Hostile(TaskData, kind="hostile"):
    name: str

    def task_id(self) -> str:
        return self.name

    def resource_key(self) -> str:
        return f"key {self.name}"


@pytest.fixture
def service(cloud_of_commands: OncetaskCloud) -> Service:
    """
    A deployment with a failed task of a hostile id, whose error is hostile too, and the environment of its commands.
    """
    made = Service(cloud_of_commands).handle(Hostile, retry=NoRetry())

    def act(task: Any, attempt: Any) -> Any:
        raise ValueError(FORGED)

    made.act = act
    made.manager.create_task(Hostile(name=FORGED))
    cloud_of_commands.run_until_idle()
    return made


COMMANDS = [
    ["show", "--kind", "hostile", FORGED],
    ["show", "{path}"],
    ["show", "{path}", "--json"],
    ["show", FORGED],
    ["show", f"orders/{FORGED}"],
    ["show", "--kind", "hostile", f"{FORGED}2"],
    ["show", "--kind", FORGED, "1"],
    ["timeline", "--kind", "hostile", FORGED],
    ["timeline", "{path}"],
    ["timeline", "{path}", "--json"],
    ["timeline", f"orders/{FORGED}"],
    ["timeline", FORGED],
    ["timeline", "{path}", "--from", FORGED],
    ["timeline", "{path}", "--since", FORGED],
    ["acts", "--kind", "hostile", FORGED],
    ["acts", "--by", FORGED],
    ["acts", FORGED],
    ["cancel", "--kind", "hostile", FORGED],
    ["reset", "--kind", "hostile", FORGED],
    ["reset", f"orders/{FORGED}"],
    ["reset", "--kind", "hostile", "--dry-run"],
    ["reset", "--kind", "hostile", "--note", FORGED, "--dry-run"],
    ["cancel", "--kind", "hostile", "--key", FORGED, "--dry-run"],
    ["dismiss", "--kind", "hostile", "--yes"],
    ["dismiss", "--kind", "hostile", "--yes", "--json"],
    ["delete", "--kind", "hostile", FORGED, "--dry-run"],
    ["delete", "--kind", "hostile", FORGED, "--yes"],
    ["delete", "--kind", "hostile", "--yes"],
    ["reset", "--collection", FORGED, "--dry-run"],
    ["reset", "--kind", "hostile", "--rate", FORGED],
    ["reset", "--kind", "hostile", "--cut-off", FORGED],
    ["reset", "--kind", "hostile", "--report", f"/nowhere/{FORGED}", "--yes"],
    ["list", "--sort", FORGED],
    ["list", "--sort", "task"],
    ["resolve", "{path}", "complete"],
    ["resolve", "{path}", FORGED],
    ["resolve", "{path}", "complete", "--result", FORGED],
    ["sweep", "--collection", FORGED],
    ["sweep", "--collection", f"a/{FORGED}/b"],
    ["sweep", "--limit", FORGED],
    ["sweep", FORGED],
    [FORGED],
    ["collections", "forget", FORGED],
    ["locks", "list", FORGED],
    ["locks", "show", FORGED],
    ["locks", "release", FORGED, "--yes"],
    ["locks", "list", "--collection", FORGED],
    ["once", "list", FORGED],
    ["once", "show", FORGED, FORGED],
    ["once", "forget", FORGED, FORGED, "--yes", "--as", FORGED],
    ["locks", "list", "--tz", FORGED],
    ["explain", FORGED],
    ["explain", f"FREQ=DAILY;{FORGED}=1", "--dtstart", "20260101T000000Z"],
    ["explain", "FREQ=DAILY", "--dtstart", FORGED],
    ["explain", "FREQ=DAILY", "--dtstart", "20260101T000000", "--tz", FORGED],
    ["explain", "FREQ=DAILY", "--dtstart", "20260101T000000Z", "--exdate", FORGED, "--after", FORGED],
    ["indexes", "write", "--file", f"/nowhere/{FORGED}"],
    ["indexes", "write", "--collection", FORGED, "--file", "/nowhere/x"],
]


@pytest.mark.parametrize(
    "arguments", COMMANDS, ids=[" ".join(each)[:40].encode("unicode_escape").decode() for each in COMMANDS]
)
def test_no_line_is_obeyed_or_forged(
    service: Service, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """
    Of every command, whatever its arguments and the record that it is about: each printed line is printable, and none is one of
    a text that was stored or given.
    """
    path = service.path(FORGED, Hostile)
    capsys.readouterr()
    try:
        code = main([path if each == "{path}" else each for each in arguments])
    except SystemExit as ended:
        code = int(str(ended.code))
    out, err = capsys.readouterr()
    lines = [*out.split("\n"), *err.split("\n")]
    assert code in (0, 1, 2)
    assert any(lines)
    assert [line for line in lines if not line.isprintable()] == []
    assert [
        line
        for line in lines
        if line.startswith("gcp_oncetask: orders/1") or line.lstrip().startswith("status: completed")
    ] == []
