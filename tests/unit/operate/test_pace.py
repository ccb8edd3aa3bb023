"""
The rate of acts on many records.
"""

from __future__ import annotations

import itertools

import pytest

from gcp_oncetask.clock import Mark, SystemClock, Wakeup
from gcp_oncetask.operate.many import Pace


class Lonely(SystemClock):
    """
    A clock that moves while its only thread waits, and whose waits may end too early.
    """

    def __init__(self, early: float) -> None:
        self.now, self.early = 100.0, early

    def mark(self) -> Mark:
        return Mark(self.now, self.now, self.now)

    def wait(self, wakeup: Wakeup, timeout: float) -> bool:
        self.now += max(timeout * self.early, 1e-6)
        return wakeup.is_set()


@pytest.mark.parametrize("early", [1.0, 0.4])
@pytest.mark.parametrize("work", [0.0, 0.003, 0.019, 0.5])
def test_op_35_rate_is_never_exceeded(early: float, work: float) -> None:
    """
    At 50 a second there are at least 20 ms from the beginning of an act to that of the next, also after a slow one.
    """
    clock = Lonely(early)
    pace = Pace(clock, 50)
    starts = []
    for number in range(50):
        assert pace.turn()
        starts.append(clock.now)
        clock.now += 1.0 if number == 10 else work
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert min(gaps) >= 0.02
    assert max(gaps[:10]) < max(0.021, work + 1e-9)


def test_stopped_run_has_no_turn() -> None:
    """
    Before the first act, between two, and without a rate.
    """
    stop = Wakeup()
    pace, free = Pace(Lonely(1.0), 50, stop), Pace(Lonely(1.0), stop=stop)
    assert pace.turn()
    assert free.turn()
    stop.set()
    assert not pace.turn()
    assert not free.turn()
