"""
The check of the order of all calls of one lock, on small histories.
"""

from __future__ import annotations

import math

import pytest

from tests.simulation.checks.linearisable import Kind, LockCall, LockCalls, Result, linearisable

LEASE = 100


def call(kind: Kind, begun: int, end: float, result: Result = Result.DONE, token: int = 0) -> LockCall:
    """
    A call from *begun* to *end*.
    """
    return LockCall(kind, begun, LEASE, LEASE, token, end, result)


def acquired(begun: int, end: float, token: int) -> LockCall:
    return call(Kind.ACQUIRE, begun, end, token=token)


def released(begun: int, end: float, token: int, result: Result = Result.DONE) -> LockCall:
    return call(Kind.RELEASE, begun, end, result, token)


def read(begun: int, end: int, *, held: bool) -> LockCall:
    return call(Kind.READ, begun, end, Result.DONE if held else Result.REFUSED)


@pytest.mark.parametrize(
    ("calls", "right"),
    [
        pytest.param([], True, id="nothing"),
        pytest.param([acquired(0, 5, 1), released(6, 9, 1), acquired(10, 12, 2)], True, id="one after the other"),
        pytest.param([acquired(0, 5, 1), acquired(10, 12, 2)], False, id="granted twice"),
        pytest.param([acquired(0, 5, 1), acquired(50, 101, 2)], True, id="granted again at its end"),
        pytest.param([acquired(0, 5, 1), acquired(50, 99, 2)], False, id="granted again before its end"),
        pytest.param([acquired(0, 5, 2), released(6, 9, 2), acquired(10, 12, 1)], False, id="the token goes back"),
        pytest.param([acquired(0, 5, 1), released(6, 20, 1), acquired(10, 12, 2)], True, id="released meanwhile"),
        pytest.param([acquired(0, 5, 1), released(13, 20, 1), acquired(10, 12, 2)], False, id="released too late"),
        pytest.param(
            [acquired(0, 5, 1), released(6, math.inf, 1, Result.UNKNOWN), acquired(10, 12, 2)],
            True,
            id="released by one who died",
        ),
        pytest.param([acquired(0, 5, 1), released(6, 9, 1, Result.REFUSED)], False, id="told lost, and it is not"),
        pytest.param(
            [acquired(0, 5, 1), acquired(110, 115, 2), released(120, 125, 1, Result.REFUSED)], True, id="told lost"
        ),
        pytest.param([acquired(0, 5, 1), acquired(110, 115, 2), released(120, 125, 1)], False, id="a zombie releases"),
        pytest.param(
            [acquired(0, 5, 1), call(Kind.REFRESH, 90, 95, token=1), acquired(110, 115, 2)],
            False,
            id="taken after a refresh",
        ),
        pytest.param(
            [acquired(0, 5, 1), call(Kind.REFRESH, 90, 95, token=1), read(150, 155, held=True)],
            True,
            id="seen after a refresh",
        ),
        pytest.param([acquired(0, 5, 1), read(150, 155, held=True)], False, id="seen held after its end"),
        pytest.param([acquired(0, 5, 1), read(50, 55, held=False)], False, id="seen free before its end"),
        pytest.param([acquired(0, 5, 1), read(50, 101, held=False)], True, id="seen free at its end"),
        pytest.param([read(50, 55, held=True)], False, id="seen held, and nobody was granted it"),
        pytest.param(
            [call(Kind.ACQUIRE, 0, math.inf, Result.UNKNOWN), read(50, 55, held=True)],
            True,
            id="perhaps held by one who died",
        ),
        pytest.param(
            [acquired(0, 5, 1), call(Kind.DELETE, 10, 10), acquired(20, 25, 2)], True, id="deleted, and granted again"
        ),
    ],
)
def test_order(calls: list[LockCall], right: bool) -> None:
    assert linearisable(calls) is right


def test_release_whose_answer_was_lost_may_find_the_document_deleted() -> None:
    times = iter((6, 12, 12, 20))
    calls = LockCalls(lambda: next(times))
    calls.of["a"] = [acquired(0, 5, 1), read(10, 11, held=False)]
    release = calls.begin("a", Kind.RELEASE, token=1)
    calls.deleted("a")
    calls.end(release, Result.REFUSED)

    assert linearisable(calls.of["a"])
    release.erased = False
    assert not linearisable(calls.of["a"])


def test_acquire_that_missed_a_grant_is_two_holdings() -> None:
    """
    The first one is seen by others, and no other is granted the lock before its end.
    """
    times = iter((0, 1, 300, 301, 302))
    calls = LockCalls(lambda: next(times))
    acquire = calls.begin("a", Kind.ACQUIRE, lease=LEASE, least=LEASE)
    calls.granted("a", "h", 1)
    calls.of["a"] += [read(10, 11, held=True), read(120, 121, held=False), acquired(150, 155, 2), released(160, 165, 2)]
    calls.granted("a", "h", 3)
    calls.acquired("a", acquire, 3, "h")

    assert linearisable(calls.of["a"])
    assert not linearisable([*calls.of["a"], read(20, 21, held=False)])
    assert not linearisable([one for one in calls.of["a"] if one.token != 1])


def test_grant_that_came_late_is_ended_by_the_next_one_of_its_holder() -> None:
    times = iter((0, 20, 30, 35))
    calls = LockCalls(lambda: next(times))
    acquire = calls.begin("a", Kind.ACQUIRE, lease=LEASE, least=LEASE)
    calls.granted("a", "h", 1)
    calls.granted("a", "h", 2, ended=1)
    calls.acquired("a", acquire, 2, "h")

    assert linearisable(calls.of["a"])
    assert linearisable([*calls.of["a"], read(25, 26, held=True)])
    assert not linearisable([*calls.of["a"], read(25, 26, held=False)])


@pytest.mark.parametrize(("renewed", "right"), [(True, True), (False, False)])
def test_refresh_that_is_told_of_a_loss_may_have_been_applied(*, renewed: bool, right: bool) -> None:
    """
    Only if it was: then the lock is seen held for longer.
    """
    times = iter((50, 51, 260) if renewed else (50, 260))
    calls = LockCalls(lambda: next(times))
    calls.of["a"] = [acquired(0, 5, 1), read(120, 121, held=True), acquired(200, 205, 2)]
    refresh = calls.begin("a", Kind.REFRESH, lease=LEASE, least=LEASE, token=1)
    if renewed:
        calls.renewed("a", 1)
    calls.lost("a", refresh)

    assert linearisable(calls.of["a"]) is right


def test_first_call_that_has_no_place_is_named() -> None:
    calls = LockCalls(lambda: 0)
    calls.of["a"] = [acquired(0, 5, 1), acquired(10, 12, 2), acquired(20, 22, 3)]
    calls.of["b"] = [acquired(0, 5, 1)]

    [(path, first)] = calls.wrong()

    assert path == "a"
    assert f"{first}" == "acquire of token 2 from 0.000 to 0.000: done"
