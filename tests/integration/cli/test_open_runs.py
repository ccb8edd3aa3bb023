"""
A run that was begun once and whose result is not known: no act of a person, and no call, loses the record of that effect
unasked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from gcp_oncetask import OncetaskError, Status, TaskError
from gcp_oncetask.operate import many
from gcp_oncetask.operate.acts import Decision, perform
from gcp_oncetask.rules.record import Person
from gcp_oncetask.testing.cloud import ACCOUNT, OncetaskCloud
from tests.integration.cli.conftest import Run
from tests.support.damages import Damage, damage, repair
from tests.support.durable import SECOND, Calls
from tests.support.orders import Killed
from tests.support.tasks import Latest, Service

ANN = Person("ann@example.com", proven=True)
OTHERS = ("b", "c")
BROKEN = Damage("attempts", -1)


@pytest.fixture
def service(oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> Service:
    """
    A deployment with a quarantined task, ``a``, which has begun ``charge``, and two that have completed. The command line has
    its locker.
    """
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", oncetask_cloud.local.project)
    monkeypatch.setenv("ONCETASK_SERVICE_ACCOUNT", ACCOUNT)
    made = Service(oncetask_cloud, service_account=ACCOUNT)
    monkeypatch.setattr("gcp_oncetask.cli.Locker", lambda config: made.manager.locker)
    pay = Calls(Killed(), "paid", "paid", "paid")
    made.handle(Latest, retry=SECOND)
    made.act = lambda task, attempt: attempt.options(once=True).run("charge", pay)
    for name in ("a", *OTHERS):
        made.create(name, model=Latest)
        made.settle(60)
    assert [made.lock(name, Latest).status for name in ("a", *OTHERS)] == [Status.QUARANTINED, *[Status.COMPLETED] * 2]
    return made


def left(service: Service) -> list[str]:
    return [task.id for task in service.manager.get_tasks_by_ids(Latest, ["a", *OTHERS])]


def key_of(service: Service) -> str:
    return service.attempts[0].key_of("charge")


@pytest.mark.parametrize(
    "act",
    [
        lambda manager, more: manager.delete_task(Latest, "a", **more),
        lambda manager, more: manager.delete_tasks_by_ids(Latest, ["b", "a", "c"], **more),
        lambda manager, more: manager.clear(Latest, **more),
    ],
    ids=["one", "by ids", "clear"],
)
def test_a_deletion_in_code_names_run_and_key_and_asks(service: Service, act: Callable[..., Any]) -> None:
    key, path = key_of(service), service.path("a", Latest)
    with pytest.raises(TaskError) as told:
        act(service.manager, {})
    said = str(told.value)
    assert f"{path}: it has begun 'charge' (key {key}) once" in said
    assert f"resolve {path} --run charge" in said
    assert "open_runs=True (--open-runs)" in said
    assert "a" in left(service)
    act(service.manager, {"open_runs": True})
    assert "a" not in left(service)


def test_a_deletion_of_many_deletes_the_others(service: Service) -> None:
    with pytest.raises(TaskError):
        service.manager.clear(Latest)
    assert left(service) == ["a"]


def test_a_deletion_while_the_run_is_called_asks(service: Service) -> None:
    told: list[str] = []

    def pay() -> None:
        with pytest.raises(TaskError) as refused:
            service.manager.delete_task(Latest, "d")
        told.append(str(refused.value))

    service.act = lambda task, attempt: attempt.options(once=True).run("pay", pay)
    service.create("d", model=Latest)
    service.settle(5)
    [said] = told
    assert f"effects {service.path('d', Latest)}" in said
    assert service.manager.delete_task(Latest, "d")


def test_the_command_line_asks_and_deletes_with_its_option(service: Service, run: Run) -> None:
    path = service.path("a", Latest)
    code, _, err = run("delete", path, "--yes", "--as", "ann")
    assert (code, "--open-runs" in err[-1], key_of(service) in err[-1]) == (1, True, True)
    code, out, err = run("delete", "--kind", "latest", "--status", "quarantined", "--dry-run")
    assert [line for line in out if line.startswith("going to be refused: 1, such as")]
    code, out, _ = run("delete", "--kind", "latest", "--status", "quarantined", "--yes", "--as", "ann")
    assert (code, [line.split()[0] for line in out]) == (1, ["refused"])
    assert "a" in left(service)
    code, out, _ = run("delete", "--kind", "latest", "--status", "quarantined", "--open-runs", "--dry-run")
    assert "--open-runs" in out[-1]
    assert not [line for line in out if line.startswith("going to be refused")]
    code, _, err = run("delete", path, "--yes", "--open-runs", "--as", "ann")
    assert (code, [line for line in err if "the only record" in line and "'charge'" in line] != []) == (0, True)
    assert "a" not in left(service)


def test_open_runs_are_for_a_deletion_alone() -> None:
    with pytest.raises(OncetaskError, match="for delete alone"):
        Decision("reset", open_runs=True).check()


ACTS: dict[str, Callable[[Service], Any]] = {
    **{
        verb: lambda service, verb=verb: perform(service.manager.locker, service.path("a", Latest), Decision(verb), ANN)
        for verb in many.VERBS
    },
    "happened": lambda service: perform(
        service.manager.locker, service.path("a", Latest), Decision("happened", end=True), ANN
    ),
    "fresh": lambda service: service.manager.reset_task(Latest, "a", fresh=True),
    "from": lambda service: service.manager.reset_task(Latest, "a", from_name="charge"),
    "newer payload": lambda service: service.manager.create_task(Latest(name="a", note="newer")),
    "all": lambda service: list(
        many.perform_all(
            service.manager.locker, service.manager.find(Latest, status="quarantined").items, Decision("delete"), ANN
        )
    ),
}


@pytest.mark.parametrize("act", ACTS)
def test_no_act_loses_the_question(service: Service, act: str) -> None:
    """
    After each of these acts the record says which run was begun, and by which key.
    """
    before = service.lock("a", Latest)
    with contextlib.suppress(OncetaskError):
        ACTS[act](service)
    service.settle(10)
    after = service.lock("a", Latest)
    assert (after.open, after.journal, after.keyed) == (before.open, before.journal, before.keyed)
    assert after.status is Status.QUARANTINED


def test_a_damaged_record_is_reset_with_a_new_key_alone(service: Service, run: Run) -> None:
    """
    A reset writes a damaged record anew, without its journal.
    """
    path, before = service.path("a", Latest), service.lock("a", Latest)
    client = service.manager.locker.client
    stored = service.stored("a", Latest)["lock"]
    damage(client, path, BROKEN)
    code, _, err = run("reset", path, "--as", "ann")
    assert (code, "'charge'" in err[-1], "--fresh" in err[-1]) == (1, True, True)
    with pytest.raises(TaskError, match="'charge' once"):
        service.manager.delete_task(Latest, "a")
    repair(client, path, stored, BROKEN)
    assert service.lock("a", Latest).open == before.open
    damage(client, path, BROKEN)
    assert run("reset", path, "--fresh", "--yes", "--as", "ann")[0] == 0
    service.settle(5)
    after = service.lock("a", Latest)
    assert (after.status, after.result) == (Status.COMPLETED, "paid")
    assert after.keyed > before.keyed
