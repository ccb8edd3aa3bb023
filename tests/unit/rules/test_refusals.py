"""
Calls of persons and programs that are refused, against the tables of ``docs/reference/rules.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from gcp_oncetask import rules
from gcp_oncetask.rules import named, retention, verbs
from gcp_oncetask.rules.decisions import CallRefused, Claimant, Fence, Policy, Put, Target
from gcp_oncetask.rules.document_paths import TaskName
from gcp_oncetask.rules.record import NO_RESULT, Lock, Status
from gcp_oncetask.rules.refusals import ERRORS, Refusal
from gcp_oncetask.rules.waits import SentEvent
from gcp_oncetask.store.codec import encode
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.tasks import TaskData, creation
from gcp_oncetask.tasks.data import kind_of
from gcp_oncetask.tasks.draft import Draft
from tests.support.rules import combinations, first_match, table
from tests.unit.rules.test_rules import NOW, STATUSES, leased, moment

TARGET = Target(url="https://x", queue="q", wait_until=NOW)
CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "of another environment": {"env": "OTHER"},
    "not loaded": {},
    "moved on since it was loaded": {"sequence": 6},
    "its cancellation is under way": {"cancel_requested_at": NOW},
    "its payload was erased": {"erased": True},
    "never scheduled": {"scheduled_by": None},
    "paused": {"paused": True},
    "without a run left": {},
}
OF_ANY = ("schedule", "complete")
"""Calls that find out themselves whether there is a record, and whose it is."""
OF_ONE = ("cancel", "reset", "resolve", "happened", "dismiss", "acknowledge", "pause", "resume", "declare anew")


def asked(case: dict[str, str]) -> Put | CallRefused:
    """
    What the rule of the call decides in *case*.
    """
    lock, at, more = None, moment(), case["moreover"]
    if case["record"] != "none":
        lock = leased(status=Status(case["record"]), **CHANGES[more])
    loaded = None if more == "not loaded" else 5
    match case["call"]:
        case "schedule":
            return rules.schedule(lock, loaded, TARGET, "n", at)
        case "complete":
            return rules.finish(lock, loaded, NO_RESULT, "n", at)
    assert lock is not None
    match case["call"]:
        case "cancel":
            return rules.cancel(lock, at)
        case "reset":
            return rules.reset(lock, "n", at)
        case "resolve":
            return rules.resolve(lock, "fail", "n", at)
        case "happened":
            return rules.happened(lock, TARGET, "n", at, result=NO_RESULT)
        case "dismiss":
            return rules.dismiss(lock, at)
        case "acknowledge":
            return rules.acknowledge(lock, "ann", at.now + timedelta(hours=1), at)
        case "pause":
            return rules.pause(lock, at)
        case "resume":
            return rules.resume(lock, at)
        case _:
            target = TARGET._replace(wait_until=None) if more == "without a run left" else TARGET
            return rules.redeclare(lock, target, "n", at)


def cases() -> Iterator[dict[str, str]]:
    """
    Every call of every record that it may be asked of.
    """
    yield from combinations(call=OF_ANY, record=STATUSES, moreover=tuple(CHANGES))
    ours = tuple(more for more in CHANGES if more != "of another environment")
    yield from combinations(call=OF_ONE, record=STATUSES[1:], moreover=ours)


def test_calls_are_decided_as_the_table_says() -> None:
    """
    Each call of a record in each state is decided by its row, and each row decides some.
    """
    rows, used = table("rules.admin"), set()
    for case in cases():
        row = first_match(rows, case)
        used.add(row)
        decision = asked(case)
        assert rows[row]["decision"] == ("done" if isinstance(decision, Put) else decision.refusal), case
    assert set(range(len(rows))) == used


def test_every_refusal_is_an_error() -> None:
    """
    None is left out: a new one without an error would be a KeyError where it is raised.
    """
    assert list(ERRORS) == list(Refusal)
    told = {row["refusal"]: row["error"].strip("`") for row in table("rules.refusals")}
    assert told == {str(refusal): error.__name__ for refusal, error in ERRORS.items()}


# --- those of other rules ---------------------------------------------------------------------------------------------


class Letter(TaskData, kind="letter", unique="running"):
    """
    A second request is refused while the first one runs.
    """


class Card(TaskData, kind="card"):
    """
    What is there is kept.
    """


def created(model: type[TaskData]) -> Any:
    """
    What becomes of a request for a task that is there, and runs.
    """
    kind = kind_of(model)
    name = TaskName("E", kind.name, "1")
    made = Draft(name, kind, TARGET, {}, encode({}), "d", "n")
    seen = Snapshot(name.path, None, encode({}).map_value, leased())
    runtime: Any = SimpleNamespace(decision_context=lambda *_: moment())
    return creation.decide(runtime, made, seen)


def begun(lock: Lock, *, same: bool = True) -> object:
    """
    What becomes of a call of a function that runs once.
    """
    return named.begin(lock, same=same, policy=Policy(), claimant=Claimant("n"), at=moment())


def sent(before: object, id_: str = "e") -> object:
    """
    What becomes of an event for a task.
    """
    lock = before.lock if isinstance(before, Put) else before
    assert isinstance(lock, Lock)
    return rules.send(lock, SentEvent(id_, "approval", NOW), "n", moment())


OTHERS: dict[Refusal, Callable[[], object]] = {
    Refusal.NO_VERB: lambda: verbs.refusal_of("pause", verbs.Record("orders/1", verbs.Sort.CHAIN), leased()),
    Refusal.EXISTS: lambda: created(Card),
    Refusal.UNIQUE: lambda: created(Letter),
    Refusal.RETENTION_OVER: lambda: retention.too_late(NOW - timedelta(seconds=1), moment()),
    Refusal.DAMAGED: lambda: rules.repair({"url": "https://x"}, {"sequence"}, rules.Wishes(), "n", moment()),
    Refusal.OTHER_PAYLOAD: lambda: begun(leased(), same=False),
    Refusal.HELD: lambda: begun(leased()),
    Refusal.DUPLICATE: lambda: sent(sent(leased()), "e"),
    Refusal.FULL: lambda: sent(leased(mailbox=(SentEvent("e", "n", NOW).to_bytes(),) * 100)),
    Refusal.NOT_HELD: lambda: named.free(leased(sequence=6), Fence(5, 7, "h"), "n", mine=leased()),
}


@pytest.mark.parametrize("refusal", OTHERS)
def test_refusals_of_other_rules(refusal: Refusal) -> None:
    """
    Each is the answer to a call that fits it.
    """
    decision = OTHERS[refusal]()
    assert isinstance(decision, CallRefused)
    assert (decision.refusal, decision.reason != "") == (refusal, True)


def test_every_refusal_has_a_rule() -> None:
    """
    None is left over that no rule gives.
    """
    assert {row["decision"] for row in table("rules.admin")} - {"done"} | set(OTHERS) == set(Refusal)
