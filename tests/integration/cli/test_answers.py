"""
A person's answer about a run that was begun once, by the command line and by code.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from gcp_oncetask import AlreadyScheduledError, Status, UsageError, rules
from gcp_oncetask.rules.decisions import CallRefused, Put
from gcp_oncetask.rules.journal import EntrySort, EntryState, JournalEntry, latest
from tests.integration.cli.conftest import Run
from tests.support.durable import Calls, play
from tests.support.orders import Killed
from tests.support.tasks import Service, Work


class Receipt(BaseModel):
    number: int


def asked(service: Service, pay: Any) -> str:
    """
    Quarantine the task ``a``, whose run was begun once; return its path.
    """
    play(service, lambda task, attempt: attempt.options(once=True).run("charge", pay))
    lock = service.lock("a")
    assert (lock.status, [intent.name for intent in lock.open]) == (Status.QUARANTINED, ["charge"])
    return service.path("a")


def test_du_33_a_result_of_a_person_goes_on(service: Service, run: Run) -> None:
    pay = Calls(Killed())
    path, before = asked(service, pay), service.lock("a")
    code, out, _ = run(
        "resolve", path, "--run", "charge", "--result", '{"receipt": 7}', "--as", "ann", "--note", "seen"
    )
    assert (code, out) == (0, [f"{path}: scheduled as sequence 2, dispatched"])
    service.settle(5)
    lock = service.lock("a")
    assert (len(pay.seen), lock.status, lock.result, lock.keyed) == (1, Status.COMPLETED, {"receipt": 7}, before.keyed)
    [act] = lock.acts
    assert (act.verb, act.claimed or act.by, act.status, act.note) == ("answer", "ann", "quarantined", "charge: seen")
    entry = latest(lock.journal)["charge"]
    assert entry.more is not None
    assert entry.more["answered"] is True


def test_du_33_not_done_calls_with_the_same_key(service: Service, run: Run) -> None:
    keys: list[str] = []

    def act(task: Any, attempt: Any) -> Any:
        keys.append(attempt.key_of("charge"))
        return attempt.options(once=True).run("charge", pay)

    pay = Calls(Killed(), "paid")
    play(service, act)
    path = service.path("a")
    assert run("resolve", path, "--run", "charge", "--not-done", "--as", "ann")[0] == 0
    service.settle(5)
    lock = service.lock("a")
    assert (len(pay.seen), lock.status, lock.result, len(set(keys))) == (2, Status.COMPLETED, "paid", 1)
    assert [act.verb for act in lock.acts] == ["not-done"]


def test_du_33_not_done_is_refused_while_the_attempt_may_run(service: Service) -> None:
    path, runtime = asked(service, Calls(Killed())), service.manager.locker._runtime
    seen = runtime.store.read(path)
    lock, at = service.lock("a"), runtime.decision_context(seen)
    lock = lock.but(open=(replace(lock.open[0], over=at.now + timedelta(seconds=1)),))
    entry = JournalEntry("charge", EntrySort.RUN, 1, 1, at.now, EntryState.WITHDRAWN)
    refused = rules.answer(lock, "charge", entry, "n", at)
    assert isinstance(refused, CallRefused)
    assert "may still run until" in refused.reason
    assert isinstance(rules.answer(lock, "charge", entry._replace(state=EntryState.DONE), "n", at), Put)


def test_du_34_a_result_that_does_not_fit_is_refused(service: Service, run: Run) -> None:
    def pay() -> Receipt:
        raise Killed

    path = asked(service, pay)
    before = service.stored("a")
    code, _, err = run("resolve", path, "--run", "charge", "--result", '{"number": "x"}')
    assert (code, "not checked" in "".join(err)) == (2, False)
    assert "number" in err[-1]
    with pytest.raises(UsageError, match="number"):
        service.manager.resolve_task(Work, "a", run="charge", result={"numbr": 7})
    assert service.stored("a") == before
    assert service.manager.resolve_task(Work, "a", run="charge", result=Receipt(number=7))
    service.settle(5)
    assert service.lock("a").result == {"number": 7}


def test_du_34_a_result_of_an_unknown_type_is_left_to_the_handler(
    service: Service, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The handler's type can't read the result, so the task waits for a version of the program that can.
    """

    class Local(BaseModel):
        number: int

    def pay() -> Any:
        raise Killed

    pay.__annotations__["return"] = Local
    path = asked(service, pay)
    code, _, err = run("resolve", path, "--run", "charge", "--result", "[]")
    assert code == 0
    assert [line for line in err if "The result is not checked here, because" in line and "Local is not loaded" in line]
    service.settle(5)
    lock = service.lock("a")
    assert (lock.status, latest(lock.journal)["charge"].value) == (Status.SCHEDULED, [])


def test_du_35_the_second_of_two_people_is_told_of_the_first(service: Service, run: Run) -> None:
    path = asked(service, Calls(Killed()))
    assert run("resolve", path, "--run", "charge", "--result", "7", "--as", "ann")[0] == 0
    code, _, err = run("resolve", path, "--run", "charge", "--not-done", "--as", "bob")
    assert code == 1
    assert "ann" in err[-1]
    assert "chose answer" in err[-1]
    with pytest.raises(AlreadyScheduledError, match="chose answer"):
        service.manager.resolve_task(Work, "a", run="charge", not_done=True)


def test_du_35_a_version_that_has_moved_is_refused(service: Service, run: Run) -> None:
    path = asked(service, Calls(Killed()))
    shown = run("show", path)[1]
    [command] = [line for line in shown if "--not-done" in line]
    words = command.split("gcp_oncetask ")[1].split()
    assert run("resolve", path, "--run", "charge", "--result", "7", "--as", "ann")[0] == 0
    code, _, err = run(*words)
    assert code == 3
    assert "ann" in err[-1]


def test_show_has_the_question_and_its_commands(service: Service, run: Run) -> None:
    keys: list[str] = []

    def act(task: Any, attempt: Any) -> Any:
        keys.append(attempt.key_of("charge"))
        return attempt.options(once=True).run("charge", Calls(Killed()))

    play(service, act)
    shown = " ".join(run("show", service.path("a"))[1]).replace("| ", "")
    assert f"'charge', key {keys[0]}, begun" in " ".join(shown.split())
    assert "--run charge --result JSON --if-version" in shown
    assert "--run charge --not-done --if-version" in shown
    assert " run --if-version" not in shown
    assert "--run charge --not-done" in str(service.cloud.alerts.sent[-1].commands)
    assert keys[0] in service.cloud.alerts.sent[-1].question


@pytest.mark.parametrize(
    "words",
    [
        ["--run", "charge"],
        ["--run", "charge", "--not-done", "--result", "1"],
        ["--not-done"],
        ["run", "--run", "charge", "--result", "1"],
        [],
    ],
)
def test_an_answer_in_part_is_refused(service: Service, run: Run, words: list[str]) -> None:
    assert run("resolve", service.path("a"), *words)[0] == 2


def test_another_run_has_no_question(service: Service, run: Run) -> None:
    path = asked(service, Calls(Killed()))
    code, _, err = run("resolve", path, "--run", "refund", "--result", json.dumps(None))
    assert code == 1
    assert "no question about a run 'refund'" in err[-1]
