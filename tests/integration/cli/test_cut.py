"""
``reset`` of a durable handler: it goes on, begins at a name, or begins anew.
"""

from __future__ import annotations

from typing import Any

import pytest

from gcp_oncetask import Fail, Status
from tests.integration.cli.conftest import Run
from tests.support.durable import Calls, play
from tests.support.tasks import Service, Work

NAMES = ("a", "b", "c", "d")


class Steps:
    """
    A handler of four runs, each of so many characters; the run ``b`` is begun once. It fails after the last one.
    """

    def __init__(self, size: int = 10, verify: Any = None) -> None:
        self.size, self.verify = size, verify
        self.called: list[str] = []
        self.keys: list[str] = []

    def __call__(self, task: Any, attempt: Any) -> Any:
        self.keys.append(attempt.key)
        for name in NAMES:
            options = {"once": True, "verify": self.verify} if name == "b" else {}
            attempt.options(**options).run(name, self.step, name)
        return Fail("no") if len(self.keys) == 1 else "done"

    def step(self, name: str) -> str:
        self.called.append(name)
        return name * self.size


def test_du_100_reset_goes_on(service: Service, run: Run) -> None:
    steps = Steps()
    play(service, steps)
    assert run("reset", service.path("a"))[0] == 0
    service.settle(5)
    assert (steps.called, len(set(steps.keys)), service.lock("a").result) == ([*NAMES], 1, "done")


@pytest.mark.parametrize("size", [10, 9_000], ids=["in the record", "sealed"])
@pytest.mark.parametrize("name", ["c", "d"])
def test_du_100_reset_from_a_name(service: Service, run: Run, name: str, size: int) -> None:
    steps = Steps(size)
    play(service, steps)
    before = service.lock("a")
    assert bool(before.chunks) is (size > 10)
    assert run("reset", service.path("a"), "--from", name)[0] == 0
    service.settle(5)
    after = service.lock("a")
    assert steps.called == [*NAMES, *NAMES[NAMES.index(name) :]]
    assert (len(set(steps.keys)), after.result) == (1, "done")
    stored = {each.id for each in service.manager.locker.client.collection("onceJournals").stream()}
    assert stored == {chunk.id for chunk in after.chunks}


def test_du_100_a_once_run_that_is_forgotten_is_verified(service: Service, run: Run) -> None:
    verify = Calls("seen")
    steps = Steps(verify=verify)
    play(service, steps)
    code, out, _ = run("reset", service.path("a"), "--from", "b", "--dry-run")
    assert code == 0
    assert "These are verified before a call: 'b' of" in out[-1]
    assert run("reset", service.path("a"), "--from", "b")[0] == 0
    service.settle(5)
    assert (steps.called, len(verify.seen), len(set(steps.keys))) == ([*NAMES, "c", "d"], 1, 1)
    assert service.lock("a").result == "done"


def test_du_100_a_once_run_without_a_verification_asks_a_person(service: Service, run: Run) -> None:
    steps = Steps()
    play(service, steps)
    assert run("reset", service.path("a"), "--from", "a")[0] == 0
    service.settle(5)
    lock = service.lock("a")
    assert (lock.status, [intent.name for intent in lock.open]) == (Status.QUARANTINED, ["b"])
    assert steps.called == [*NAMES, "a"]
    assert run("resolve", service.path("a"), "--run", "b", "--not-done")[0] == 0
    service.settle(5)
    assert (steps.called, service.lock("a").result) == ([*NAMES, *NAMES], "done")


def test_du_100_a_fresh_reset_asks_and_repeats_all(service: Service, run: Run) -> None:
    steps = Steps(9_000)
    play(service, steps)
    path = service.path("a")
    code, out, _ = run("reset", path, "--fresh", "--dry-run")
    assert code == 0
    assert "These effects are repeated, with new keys: 'b' of" in out[-1]
    assert "a new idempotency key" in out[-1]
    assert run("reset", path, "--fresh", "--yes")[0] == 0
    service.settle(5)
    assert (steps.called, len(set(steps.keys)), service.lock("a").result) == ([*NAMES, *NAMES], 2, "done")


def test_du_100_an_unknown_name_and_a_contradiction_are_refused(service: Service, run: Run) -> None:
    play(service, Steps())
    code, _, err = run("reset", service.path("a"), "--from", "z")
    assert code == 2
    assert "the last ones are 'a', 'b', 'c', 'd'" in err[-1]
    assert run("reset", service.path("a"), "--from", "b", "--fresh", "--yes")[0] == 2
    assert run("reset", "--from", "b")[0] == 2


def test_du_100_a_journal_with_a_missing_part_is_not_reset(service: Service, run: Run) -> None:
    play(service, Steps(9_000))
    for each in service.manager.locker.client.collection("onceJournals").stream():
        each.reference.delete()
    before = service.stored("a")
    for more in ((), ("--from", "d")):
        code, _, err = run("reset", service.path("a"), *more)
        assert code != 0
        assert "is missing" in err[-1]
    assert service.stored("a") == before
    assert service.manager.reset_task(Work, "a", fresh=True)
