"""
Retry policies: whether and when another attempt follows, and their stored form.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gcp_oncetask import ConfigError, ExponentialBackoff, FixedDelay, NoRetry
from gcp_oncetask.rules.retry_policy import check_data, delay_of, to_data

POLICY = ExponentialBackoff(max_attempts=4, initial=2, multiplier=3, maximum=30, jitter=0.5)


@pytest.mark.parametrize(
    ("attempt", "chance", "seconds"), [(1, 0, 2), (2, 0, 6), (3, 0, 18), (4, 0, 30), (9, 0, 30), (9, 0.5, 22.5)]
)
def test_backoff_grows_to_its_maximum_and_chance_shortens_it(attempt: int, chance: float, seconds: float) -> None:
    """
    The stored form of the policy has the same delays, for the takeover of an attempt whose process died.
    """
    data = to_data(POLICY)

    assert data is not None
    check_data(data)
    assert POLICY.next_delay(attempt, None, chance) == timedelta(seconds=seconds)
    assert delay_of(data, attempt, chance) == seconds


@pytest.mark.parametrize(
    ("policy", "attempts"), [(POLICY, 4), (FixedDelay(delay=5, max_attempts=2), 2), (NoRetry(), 1)]
)
def test_attempts_end_at_the_most(policy: Any, attempts: int) -> None:
    """
    Another attempt follows each one but the last.
    """
    tried = [policy.should_retry(attempt, None) for attempt in range(1, attempts + 2)]

    assert policy.max_attempts == attempts
    assert tried == [attempt < attempts for attempt in range(1, attempts + 2)]


def test_fixed_delay_and_none() -> None:
    """
    Each with its stored form; a policy of the user's own is stored without a delay.
    """
    assert FixedDelay(delay=5).next_delay(7, None, 0.9) == timedelta(seconds=5)
    assert NoRetry().next_delay(1, None, 0.9) == timedelta(0)
    assert delay_of(to_data(FixedDelay(delay=5)) or {}, 7, 0.9) == 5
    assert delay_of(to_data(NoRetry()) or {}, 1, 0.9) == 0
    assert to_data(None) is None


@pytest.mark.parametrize(
    "made",
    [
        lambda: ExponentialBackoff(multiplier=0.5),
        lambda: ExponentialBackoff(jitter=1.5),
        lambda: ExponentialBackoff(initial=60, maximum=30),
        lambda: ExponentialBackoff(max_attempts=0),
        lambda: FixedDelay(delay=-1),
        lambda: FixedDelay(delay=1, max_attempts=0),
        lambda: NoRetry(max_attempts=0),
    ],
)
def test_impossible_policies_are_refused(made: Any) -> None:
    """
    When they are made.
    """
    with pytest.raises(ConfigError):
        made()


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"kind": ["fixed"]},
        {"kind": "fixed"},
        {"kind": "fixed", "delay": True},
        {"kind": "fixed", "delay": "5"},
        {"kind": "fixed", "delay": float("nan")},
        {"kind": "exponential", "initial": 1, "multiplier": 2, "maximum": -1, "jitter": 0},
    ],
)
def test_damaged_data_is_refused(data: dict[str, Any]) -> None:
    """
    A takeover could not go by it.
    """
    with pytest.raises((ValueError, TypeError)):
        check_data(data)
