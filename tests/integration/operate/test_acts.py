"""
The acts that the command line and the console share.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gcp_oncetask import AlreadyScheduledError, Fail, UsageError
from gcp_oncetask.operate.acts import VERBS, Decision, Performed, consequence, perform
from gcp_oncetask.rules.record import Person
from gcp_oncetask.tasks import bulk
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.tasks import Service, Work

ANN = Person("ann@example.com", proven=True, claimed="ann")


@pytest.fixture
def failed(oncetask_cloud: OncetaskCloud) -> Service:
    """
    A service with the failed task ``a``; later attempts complete.
    """
    service = Service(oncetask_cloud).handle()
    service.act = lambda task, attempt: Fail("declined")
    service.create("a")
    oncetask_cloud.run_until_idle()
    service.act = lambda task, attempt: {"params": attempt.params}
    return service


@pytest.mark.parametrize(
    ("decision", "words", "after"),
    [
        (Decision("reset", note="again"), "with the same idempotency key", "completed"),
        (Decision("happened", {"n": 1}, end=True), "ends as completed with the given result", "completed"),
        (Decision("happened", {"n": 1}, next="."), "runs as sequence 2 at the same target", "completed"),
        (Decision("dismiss"), "leaves the list", "failed"),
        (Decision("ack", until=timedelta(hours=4)), "No reminder names it", "failed"),
    ],
)
def test_act_does_what_its_sentence_says_and_is_kept(
    oncetask_cloud: OncetaskCloud, failed: Service, decision: Decision, words: str, after: str
) -> None:
    locker, path = failed.manager.locker, failed.path("a")
    [row] = locker.find().items
    assert words in consequence(locker, path, decision)
    assert path in perform(locker, path, decision, ANN, row.version).said
    oncetask_cloud.run_until_idle()

    lock = failed.lock("a")
    assert str(lock.status) == after
    [act] = lock.acts
    assert (act.verb, act.by, act.proven, act.claimed, act.status, act.note) == (
        decision.verb,
        ANN.name,
        True,
        "ann",
        "failed",
        decision.note,
    )
    with pytest.raises(AlreadyScheduledError) as told:
        perform(locker, path, decision, ANN, row.version)
    assert told.value.facts["refusal"] == "moved"


def test_deletion_is_conditional_and_leaves_nothing(failed: Service) -> None:
    locker, path = failed.manager.locker, failed.path("a")
    [row] = locker.find().items
    perform(locker, path, Decision("ack", until=60), ANN)
    with pytest.raises(AlreadyScheduledError, match="has changed since version"):
        perform(locker, path, Decision("delete"), ANN, row.version)
    assert "deleted" in consequence(locker, path, Decision("delete"))
    assert perform(locker, path, Decision("delete"), ANN).said.startswith(f"{path}: deleted.")
    assert failed.manager.get_task(Work, "a") is None


@pytest.mark.parametrize("versioned", [True, False])
def test_deletion_is_of_the_version_that_was_read(
    failed: Service, monkeypatch: pytest.MonkeyPatch, versioned: bool
) -> None:
    """
    The record changes between the read and the deletion: with a version it stays, without one it is read again.
    """
    locker, path = failed.manager.locker, failed.path("a")
    [row] = locker.find().items
    deletion = bulk.delete_unchanged

    def after_a_change(runtime: Any, snapshot: Any) -> bool:
        monkeypatch.setattr(bulk, "delete_unchanged", deletion)
        locker.client.document(path).update({"note": "changed"})
        return deletion(runtime, snapshot)

    monkeypatch.setattr(bulk, "delete_unchanged", after_a_change)
    if versioned:
        with pytest.raises(AlreadyScheduledError, match="has changed since version"):
            perform(locker, path, Decision("delete"), ANN, row.version)
        assert failed.manager.get_task(Work, "a") is not None
    else:
        assert perform(locker, path, Decision("delete"), ANN) == Performed(f"{path}: deleted.")
        assert failed.manager.get_task(Work, "a") is None


def test_deletion_hands_the_resource_key_over(oncetask_cloud: OncetaskCloud) -> None:
    """
    The task that holds the key is deleted while it runs; the one that waits for it is dispatched at once.
    """
    service = Service(oncetask_cloud).handle()
    waiting: list[int] = []

    def act(task: Any, attempt: Any) -> None:
        if task.id == "a":
            service.deliver("b")
            waiting.append(len(service.bodies()))
            perform(service.manager.locker, service.path("a"), Decision("delete"), ANN)
            waiting.append(len(service.bodies()))

    service.act = act
    service.create("a", key="k")
    service.create("b", key="k")
    assert service.deliver("a") is not None
    assert waiting == [0, 1]
    oncetask_cloud.run_until_idle()
    assert service.ran == ["a", "b"]


def test_reset_of_a_damaged_record_keeps_the_person_and_obeys_the_version(
    oncetask_cloud: OncetaskCloud, failed: Service
) -> None:
    locker, path = failed.manager.locker, failed.path("a")
    locker.client.document(path).update({"lock.dispatches": "x"})
    with pytest.raises(AlreadyScheduledError, match=r"has changed since version 1\.0"):
        perform(locker, path, Decision("reset"), ANN, "1.0")
    assert perform(locker, path, Decision("reset", note="mended"), ANN, None).done
    [act] = failed.lock("a").acts
    assert (act.verb, act.by, act.status, act.sequence, act.note) == ("reset", ANN.name, "damaged", 1, "mended")


@pytest.mark.parametrize(
    ("verb", "more"),
    [
        ("odd", {}),
        ("happened", {}),
        ("happened", {"next": ".", "end": True}),
        ("ack", {}),
        ("reset", {"until": 5}),
        ("run", {"result": 1}),
        ("complete", {"next": "."}),
        ("fail", {"new_key": True}),
        ("cancel", {"step": 1}),
    ],
)
def test_decision_that_makes_no_sense_is_refused(verb: str, more: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Decision(verb, **more).check()


def test_each_verb_has_a_sentence(failed: Service) -> None:
    """
    Verbs that a once-task does not have are refused in the sentence of the verb.
    """
    locker, path = failed.manager.locker, failed.path("a")
    more: dict[str, dict[str, Any]] = {"happened": {"end": True}, "ack": {"until": 5}}
    more |= {"answer": {"run": "charge"}, "not-done": {"run": "charge"}}
    for verb in VERBS:
        decision = Decision(verb, **more.get(verb, {}))
        if verb in ("pause", "resume"):
            with pytest.raises(UsageError, match="has no"):
                consequence(locker, path, decision)
        else:
            assert consequence(locker, path, decision).startswith(f"{path} is failed, at step 1 (sequence 1). ")
