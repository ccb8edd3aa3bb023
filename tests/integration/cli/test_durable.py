"""
The journal on the command line: effects, events, and what ``show`` and ``timeline`` tell.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from gcp_oncetask import NotDone, Status
from tests.integration.cli.conftest import Run
from tests.support.durable import Calls, play
from tests.support.orders import Killed
from tests.support.tasks import Service


def test_du_41_the_effects_of_a_task_that_ended_a_week_ago(service: Service, run: Run) -> None:
    keys: dict[str, str] = {}

    def act(task: Any, attempt: Any) -> Any:
        keys.update({name: attempt.key_of(name) for name in ("charge", "mail")})
        attempt.run("plain", lambda: "x" * 9_000)
        attempt.options(once=True, verify=verify).run("charge", charge)
        attempt.run("more", lambda: "x" * 9_000)
        return attempt.options(once=True).run("mail", mail)

    charge, verify, mail = Calls(Killed()), Calls({"receipt": 7}), Calls(NotDone("busy"), "sent")
    play(service, act)
    service.cloud.advance(days=7)
    lock = service.lock("a")
    assert (lock.status, len(lock.chunks)) == (Status.COMPLETED, 1)
    path = service.path("a")
    code, out, _ = run("effects", path, "--json")
    assert code == 0
    first, second = map(json.loads, out)
    assert (first["name"], first["key"], first["state"], first["receipt"], first["known_by"]) == (
        "charge",
        keys["charge"],
        "done",
        {"receipt": 7},
        "verify",
    )
    assert (second["name"], second["key"], second["receipt"], second["known_by"]) == (
        "mail",
        keys["mail"],
        "sent",
        "call",
    )
    assert first["begun"] < first["ended"] < second["begun"]
    assert (first["token"] < second["token"], second["token"]) == (True, lock.token)
    lines = run("effects", "--kind", "work", "a")[1]
    assert [line.split(", begun")[0] for line in lines] == [f"{name}: key {key}" for name, key in keys.items()]


def test_effects_of_an_open_run_and_of_none(service: Service, run: Run) -> None:
    play(service, lambda task, attempt: attempt.options(once=True).run("charge", Calls(Killed())))
    [line] = run("effects", service.path("a"))[1]
    assert "its result is not known" in line
    service.create("b")
    assert run("effects", service.path("b")) == (
        0,
        [],
        [f"{service.path('b')}: its journal has no run with once=True."],
    )


def test_send_wakes_a_handler_once(service: Service, run: Run) -> None:
    play(service, lambda task, attempt: attempt.wait_event("approval", dict, timeout=timedelta(days=3)))
    path = service.path("a")
    code, [said], _ = run("send", path, "approval", '{"by": "ann"}', "--id", "e-1")
    assert (code, said) == (0, f"{path}: event 'approval', id e-1: stored; the handler waited for it, and is delivered")
    assert "stored before" in run("send", path, "approval", '{"by": "bob"}', "--id", "e-1")[1][0]
    service.settle(5)
    assert service.lock("a").result == {"by": "ann"}
    code, _, err = run("send", path, "approval")
    assert code == 1
    assert "completed" in err[-1]


def test_show_and_timeline_know_the_journal(service: Service, run: Run) -> None:
    def act(task: Any, attempt: Any) -> Any:
        attempt.run("first", lambda: 1)
        attempt.progress({"done": 1})
        return attempt.wait_event("approval", dict, timeout=timedelta(days=3))

    play(service, act)
    path = service.path("a")
    assert run("send", path, "other", '"secret"', "--id", "e-2")[0] == 0
    shown = run("show", path)[1]
    assert [line for line in shown if line.startswith("waits for:   'approval': the event 'approval', until ")]
    assert 'progress:    {"done":1}' in [line.replace(": 1", ":1") for line in shown]
    assert [line for line in shown if line.startswith("unread:      'other' of ")]
    assert [line for line in shown if line.startswith("journal:     run 'first': done, ")]
    assert "secret" not in "".join(shown)
    data = json.loads("\n".join(run("show", path, "--json")[1]))
    assert [entry["name"] for entry in data["journal"]] == ["first"]
    assert [(event["name"], event["data"]) for event in data["mailbox"]] == [("other", "secret")]
    assert service.get("a").progress == {"done": 1}
    told = "\n".join(run("timeline", path)[1])
    assert "run 'first': done" in told
    assert "unread: the event 'other'" in told
    assert "it waits for 'approval'" in told


def test_a_wait_without_an_end_is_listed_after_a_month(service: Service, run: Run) -> None:
    play(service, lambda task, attempt: attempt.wait_event("approval", dict, timeout=None))
    assert run("list")[1][1:] == []
    service.cloud.advance(days=31)
    service.cloud.sweep()
    listed = run("list", "--reason", "waiting", "--json")[1]
    assert [json.loads(line)["reason"] for line in listed] == ["waiting"]
    assert "waiting" in "".join(run("show", service.path("a"))[1])
    assert run("send", service.path("a"), "approval", "{}")[0] == 0
    service.settle(5)
    assert run("list", "--json")[1] == []
