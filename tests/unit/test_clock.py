"""
Time between two marks: clocks that stand, step and drift.
"""

from __future__ import annotations

import pytest

from gcp_oncetask.clock import DRIFT, Mark, at_least, elapsed

START = Mark(100.0, 500.0, 1_767_225_600.0)
HOUR = 3600.0


def after(monotonic: float, boottime: float, wall: float) -> Mark:
    """
    The mark when so much has passed on each of the clocks.
    """
    return Mark(START.monotonic + monotonic, START.boottime + boottime, START.wall + wall)


@pytest.mark.parametrize(
    ("passed", "most"),
    [
        ((60.0, 60.0, 60.0), 60.0),
        ((60.0, 960.0, 60.0), 960.0),
        ((60.0, 60.0, 960.0), 960.0),
        ((60.0, 60.0, -86_400.0), 60.0),
    ],
    ids=["all agree", "suspended", "restored", "wall clock set back"],
)
def test_the_clock_on_which_most_time_has_passed_counts(passed: tuple[float, float, float], most: float) -> None:
    """
    A machine that was suspended, or restored from a snapshot, does not take less time for passed than has.
    """
    assert elapsed(START, after(*passed)) == pytest.approx(most, rel=2 * DRIFT)
    assert elapsed(START, after(*passed)) >= most


@pytest.mark.parametrize("rate", [1 - DRIFT, 1.0, 1 + DRIFT])
@pytest.mark.parametrize("true", [1.0, 60.0, HOUR, 24 * HOUR])
def test_both_bounds_hold_on_clocks_that_drift(true: float, rate: float) -> None:
    """
    However wrong the clock runs, the time that has passed lies between the bounds, and they are no wider than they must be.
    """
    now = after(*(true * rate,) * 3)

    assert at_least(START, now) <= true * (1 + 1e-12)
    assert elapsed(START, now) >= true * (1 - 1e-12)
    assert elapsed(START, now) - at_least(START, now) == pytest.approx(2 * DRIFT * true * rate, rel=1e-3)


def test_the_wall_clock_proves_no_time() -> None:
    """
    A wall clock that was set forward makes no estimate of the server's time run ahead; suspended time counts.
    """
    assert at_least(START, after(1.0, 1.0, 86_400.0)) <= 1.0
    assert at_least(START, after(1.0, 900.0, 1.0)) == pytest.approx(900.0, rel=2 * DRIFT)


def test_a_clock_that_does_not_drift_is_exact() -> None:
    """
    Tests that move a virtual clock find the very times to which they have moved it.
    """
    exact = after(HOUR, HOUR, HOUR)._replace(drift=0.0)

    assert elapsed(START, exact) == at_least(START, exact) == HOUR
