"""
Parents and children: the group of a child, its state, the times of asking, and the end of a wait for children.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gcp_oncetask.rules import family, parents, retention
from gcp_oncetask.rules.decisions import CallRefused, DecisionContext, Put
from gcp_oncetask.rules.record import HandlerWait, Lock, Status, WaitFor, Woken
from gcp_oncetask.rules.refusals import Refusal

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CHILDREN = HandlerWait("label", WaitFor.CHILDREN, 1, T0, nonce="n1")
AT = DecisionContext(T0 + MINUTE, None, "E/d/0", "E")


def parent(status: Status = Status.SCHEDULED, **values: Any) -> Lock:
    given = {"sequence": 1, "base": 1, "token": 2, "wait": CHILDREN, "dispatches": 3, "scheduled_by": "n"}
    return Lock.of({"env": "E", "status": status, "url": "https://x/y", "queue": "q"} | given | values)


def test_a_group_is_of_one_parent_and_one_nonce() -> None:
    assert family.group_of("a/1", "n1") == family.group_of("a/1", "n1")
    assert len({family.group_of(*each) for each in (("a/1", "n1"), ("a/1", "n2"), ("a/2", "n1"))}) == 3


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (Status.SCHEDULED, "open"),
        (Status.LEASED, "open"),
        (Status.QUARANTINED, "open"),
        (Status.COMPLETED, "ended"),
        (Status.FAILED, "failed"),
        (Status.CANCELLED, "failed"),
    ],
)
def test_state_of_a_child_is_what_its_parent_asks_for(status: Status, state: str) -> None:
    child = parent(status, wait=None)

    assert family.state_of_child(child) == state
    assert family.parent_text("group", child) == f"group/{state}"


@pytest.mark.parametrize(("now", "asked"), [(0, 5), (4, 5), (5, 15), (15, 35), (35, 75), (75, 135), (200, 255)])
def test_children_are_asked_for_after_longer_and_longer_times(now: int, asked: int) -> None:
    assert family.next_ask(CHILDREN, T0 + now * MINUTE) == T0 + asked * MINUTE


@pytest.mark.parametrize(
    ("lock", "does"),
    [
        (parent(), True),
        (parent(Status.LEASED), False),
        (parent(wait=None), False),
        (parent(wait=replace(CHILDREN, ended=Woken.CHILDREN)), False),
        (parent(wait=HandlerWait("pause", WaitFor.SLEEP, 1, T0)), False),
    ],
)
def test_parent_awaits_children_that_have_not_ended(lock: Lock, does: bool) -> None:
    assert family.awaits(lock) is does


def test_groups_are_kept_while_they_are_under_way_and_owed_when_cancelled() -> None:
    lock = family.with_group(parent(children=("n1", "n2")), ["n2", "n3"], ["n1"])

    assert lock.children == ("n2", "n3", family.RELEASED)
    owing = family.orphaning(lock.but(orphans=("n0",)))
    assert (owing.children, owing.orphans) == ((family.RELEASED,), ("n0", "n2", "n3"))
    assert family.orphaning(owing) is owing


def test_end_of_the_children_ends_the_wait_for_their_group() -> None:
    group = family.group_of("a/1", "n1")
    put = parents.children_ended(parent(), "a/1", group, AT)

    assert isinstance(put, Put)
    assert put.dispatch
    assert (put.lock.wait, put.lock.dispatches) == (replace(CHILDREN, ended=Woken.CHILDREN), 4)
    for lock, of in ((None, group), (parent(wait=None), group), (parent(), family.group_of("a/1", "n2"))):
        refused = parents.children_ended(lock, "a/1", of, AT)
        assert isinstance(refused, CallRefused)
        assert refused.refusal is Refusal.NOT_NEEDED


def test_cancellation_of_children_is_owed_until_it_is_done() -> None:
    lock = parent(Status.CANCELLED, wait=None, orphans=("n1", "n2"))
    put = parents.orphans_cancelled(lock, {"n1"}, AT)

    assert isinstance(put, Put)
    assert put.lock.orphans == ("n2",)
    assert isinstance(parents.orphans_cancelled(lock, {"n3"}, AT), CallRefused)
    assert isinstance(parents.orphans_cancelled(None, {"n1"}, AT), CallRefused)


def test_task_that_owes_the_cancellation_of_its_children_stays() -> None:
    assert retention.kept(parent(Status.CANCELLED, wait=None, orphans=("n1",)))
    assert retention.kept(parent())
    assert not retention.kept(parent(Status.CANCELLED, wait=None))


def test_a_child_that_was_granted_once_has_begun() -> None:
    assert [family.has_begun(parent(token=token)) for token in (0, 1)] == [False, True]


def test_outcomes_are_needed_while_the_parent_has_their_group() -> None:
    group = family.group_of("a/1", "n1")
    waiting = parent(children=("n1",))
    assert family.is_over(waiting, "a/1", group) is False
    others = (None, waiting.but(status=Status.COMPLETED), waiting.but(children=("n2", family.RELEASED)))
    assert [family.is_over(lock, "a/1", group) for lock in others] == [True, True, True]


def test_the_expiry_of_a_child_only_comes_forward() -> None:
    kept = (family.KEPT + MINUTE).total_seconds()
    assert family.brought_forward(T0 + family.KEPT, T0, kept) == T0 + MINUTE
    assert family.brought_forward(T0 + MINUTE, T0, kept) is None


def test_groups_are_the_nonces_without_their_marks() -> None:
    assert family.groups(("n1", f"n2{family.NOT_BEGUN}", family.RELEASED, "n1")) == ("n1", "n2")


@pytest.mark.parametrize(
    ("status", "children", "orphans"),
    [
        (Status.CANCELLED, (), ("n0", "n1", family.RELEASED)),
        (Status.FAILED, ("n1",), ("n0", f"n1{family.NOT_BEGUN}", family.RELEASED)),
        (Status.COMPLETED, (), ("n0", family.RELEASED)),
    ],
)
def test_an_end_owes_the_children_what_fits_it(
    status: Status, children: tuple[str, ...], orphans: tuple[str, ...]
) -> None:
    ended = family.parting(parent(children=("n1",), orphans=("n0",)), status)
    assert (ended.children, ended.orphans) == (children, orphans)
    assert family.parting(parent(), status) == parent()
