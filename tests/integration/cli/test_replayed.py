"""
``replay``: today's code over the journals of tasks under way. The old code has run on the local cloud; the new one is a module
that the command imports in a process of its own.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.integration.cli.conftest import Run
from tests.support.durable import SECOND
from tests.support.tasks import Service

Replay = Callable[..., tuple[int, list[dict[str, Any]], list[str]]]

HEAD = """
import os, socket, urllib.request
from datetime import timedelta
from gcp_oncetask import Config, Locker
from gcp_oncetask.tasks import TaskData, TaskManager

class Work(TaskData, kind="work"):
    name: str
    note: str = ""
    key: str | None = None
    at: str | None = None

class Other(Work, kind="other"):
    pass

tasks = TaskManager(Locker(config=Config(base_url="https://tasks.test")))

def never(*args, **kwargs):
    raise AssertionError("a replay calls nothing")

@tasks.handler(Work)
def fulfil(task, attempt):
"""

FIRST = HEAD.count("\n") + 1
"""Number of the first line of the new body."""


def old(task: Any, attempt: Any) -> Any:
    """
    The handler under which the tasks of these tests were begun.
    """
    receipt = attempt.options(once=True).run("charge", lambda: "receipt")
    attempt.run("pack", lambda box: box, 3)
    attempt.sleep("cooling-off", timedelta(days=3))
    return receipt


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> Service:
    """
    A task that has slept for a day, and the command line with its locker.
    """
    made = Service(oncetask_cloud).handle(retry=SECOND)
    made.have_commands(monkeypatch)
    made.act = old
    made.create("a")
    oncetask_cloud.run_until_idle()
    oncetask_cloud.advance(days=1)
    return made


@pytest.fixture
def replay(service: Service, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Replay:
    """
    Replay the tasks with a new body of their handler; the exit code, the answers and standard error.
    """
    repository = str(Path(__file__).parents[3])
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{repository}:{repository}/emulator")
    monkeypatch.chdir(tmp_path)

    def made(body: str, *arguments: str, head: str = HEAD) -> tuple[int, list[dict[str, Any]], list[str]]:
        (tmp_path / "shop.py").write_text(head + textwrap.indent(textwrap.dedent(body), "    "))
        before = service.cloud.local.firestore.writes
        code, out, err = run("replay", "shop:tasks", *(arguments or ("--kind", "work")), "--json")
        assert service.cloud.local.firestore.writes == before
        return code, [json.loads(line) for line in out], err

    return made


SAME = """
attempt.options(once=True).run("charge", never)
attempt.run("pack", never, 3)
attempt.sleep("cooling-off", timedelta(days=3))
attempt.run("ship", never)
"""


def test_du_94_a_task_that_sleeps_waits_and_goes_on_once_its_time_has_come(service: Service, replay: Replay) -> None:
    """
    Nothing is called and nothing is written; after the time, and after the end of the code, the answer is another.
    """
    [found] = replay(SAME)[1]
    assert (found["verdict"], found["name"], found["until"][:10]) == ("waits", "cooling-off", "2026-01-04"), found
    service.cloud.clock.advance(3 * 86_400)
    code, [found], _ = replay(SAME)
    assert (code, found["verdict"], found["name"], found["unmet"]) == (0, "goes on", "ship", [])
    code, [found], _ = replay(SAME.replace('attempt.run("ship", never)', "return 7"), service.path("a"))
    assert (code, found["verdict"]) == (0, "completes")


def test_du_94_the_limit_and_the_id_choose_the_tasks(service: Service, replay: Replay) -> None:
    service.create("b", "c")
    service.cloud.run_until_idle()
    code, found, err = replay(SAME, "--kind", "work", "--limit", "2")
    assert (code, len(found)) == (0, 2)
    assert err[-1] == "replay: 2 tasks with a journal: 2 waits."
    _, [one], _ = replay(SAME, "b", "--kind", "work")
    assert one["path"] == service.path("b")


def test_du_91_added_reordered_and_removed_words_go_on_and_are_listed(replay: Replay) -> None:
    """
    A run that was added in front is the next call; those that were done after it are not met before.
    """
    code, [found], _ = replay(
        """
        attempt.run("pack", never, 3)
        attempt.options(once=True).run("reserve", never)
        attempt.options(once=True).run("charge", never)
        """
    )
    assert (code, found["verdict"], found["name"]) == (0, "goes on", "reserve"), found
    assert found["unmet"] == ["charge"]
    code, [found], _ = replay('attempt.options(once=True).run("charge", never)\nattempt.run("ship", never)')
    assert (code, found["name"], found["unmet"]) == (0, "ship", ["pack"])


@pytest.mark.parametrize(("was", "code"), [("", 1), (', was="charge"', 0)])
def test_du_92_a_renamed_once_run_is_found_before_it_is_called_again(replay: Replay, was: str, code: int) -> None:
    body = f'attempt.options(once=True{was}).run("charge-card", never)\nattempt.run("ship", never)'
    exit_code, [found], _ = replay(body)
    assert (exit_code, found["verdict"]) == (code, "no longer fits" if code else "goes on"), found
    assert not code or ("was='charge'" in found["said"] and found["line"].endswith(f":{FIRST}"))


def test_du_46_a_sleep_that_was_deleted_is_passed_over(service: Service, replay: Replay) -> None:
    """
    Before its time it is no entry yet; after it, it is listed as not met.
    """
    body = 'attempt.options(once=True).run("charge", never)\nattempt.run("pack", never, 3)\nattempt.run("ship", never)'
    service.cloud.clock.advance(3 * 86_400)
    code, [found], _ = replay(body)
    assert (code, found["verdict"], found["name"], found["unmet"]) == (0, "goes on", "ship", ["cooling-off"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('attempt.sleep("pack", 60)', "is a run in the journal, and a sleep in the code"),
        ('attempt.wait_event("cooling-off", int, timeout=None)', "waits as a sleep in the record"),
        ('attempt.run("pack", never, 3)\nattempt.run("pack", never, 3)', "used twice in this attempt"),
    ],
)
def test_another_sort_no_longer_fits(replay: Replay, body: str, said: str) -> None:
    code, [found], _ = replay(body)
    assert (code, found["verdict"]) == (1, "no longer fits")
    assert said in found["said"]


def test_du_12_other_arguments_are_told(replay: Replay) -> None:
    code, [found], _ = replay('attempt.run("pack", never, 4)\nattempt.run("ship", never)')
    assert (code, found["name"]) == (0, "ship")
    assert "'pack' was called with other arguments" in found["notes"][0]


EFFECTS = [
    'urllib.request.urlopen("http://127.0.0.1:1/")',
    'tasks.create_task(Work(name="b"))',
    "tasks.locker.client.document('orders/1').set({})",
    'open("receipt.txt", "w")',
    'os.system("true")',
    'try: socket.create_connection(("127.0.0.1", 1))',
    "except: pass",
]


def test_an_effect_outside_a_run_is_found_with_its_line(service: Service, replay: Replay) -> None:
    """
    Sockets, Firestore, files and processes; also if the handler swallows the refusal.
    """
    service.create("b", "c", "d", "e", "f")
    service.cloud.run_until_idle()
    lines = [
        each if each.startswith(("try", "except")) else f"if task.id == {i!r}: {each}"
        for i, each in zip("abcdefg", EFFECTS, strict=True)
    ]
    code, found, _ = replay("\n".join(lines))
    assert code == 1
    assert {each["verdict"] for each in found} == {"effect outside a run"}, found
    assert not [(each["path"][-1], each["said"]) for each in found if not each["line"]]
    at = {each["path"][-1]: each["line"].split(" ")[0].rpartition(":")[2] for each in found}
    assert at == {name: str(FIRST + place) for place, name in enumerate("abcdef")}, found


def test_a_handler_that_ends_its_process_costs_its_own_task_alone(service: Service, replay: Replay) -> None:
    service.create("b")
    service.cloud.run_until_idle()
    body = (
        'attempt.run("pack", never, 3)\nif task.id == "a":\n    os._exit(3)\nprint("noise")\nattempt.run("ship", never)'
    )
    code, found, _ = replay(body)
    assert (code, [each["verdict"] for each in found]) == (1, ["raises", "goes on"])


def test_an_error_and_a_missing_handler_do_not_fit(replay: Replay) -> None:
    code, [found], _ = replay('attempt.run("pack", never, 3)\nraise KeyError("gone")')
    assert (code, found["verdict"], found["line"].endswith(f"shop.py:{FIRST + 1}")) == (1, "raises", True)
    code, [found], _ = replay("pass", head=HEAD.replace("handler(Work)", "handler(Other)"))
    assert (code, found["verdict"]) == (1, "no longer fits")
    assert "no handler is registered for the kind 'work'" in found["said"]


def test_wrong_use_is_said(service: Service, run: Run, replay: Replay) -> None:
    assert run("replay", "shop:tasks")[0] == 2
    code, _, err = run("replay", "nowhere:tasks", "--kind", "work")
    assert (code, "nowhere" in err[-1]) == (2, True)
    replay("pass")
    assert run("replay", "shop:tasks", "work/1/2")[0] in (1, 2)


def test_lines_for_people(service: Service, replay: Replay, run: Run) -> None:
    replay(SAME)
    _, [line], _ = run("replay", "shop:tasks", "--kind", "work")
    assert line.startswith(f"{service.path('a')}: waits for cooling-off until 2026-01-04")
