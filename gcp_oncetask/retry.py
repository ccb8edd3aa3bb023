"""
Retry policies: whether a failed attempt is followed by another, and when.

Pure: chance comes in as one number. The defaults are those of the oncetask ancestor (3 attempts, 1 s, doubled, at most
5 minutes), with jitter added.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class RetryPolicy(Protocol):
    """
    Decides after a failed attempt.
    """

    @property
    def max_attempts(self) -> int:
        """
        Executions in all, the first one included.
        """

    def should_retry(self, attempt: int, error: BaseException | None) -> bool:
        """
        Whether the task is tried again after *attempt* (1-based) ended in *error* (None: its process died).
        """

    def next_delay(self, attempt: int, error: BaseException | None, chance: float) -> timedelta:
        """
        How long to wait after *attempt*; *chance* in [0, 1) spreads it.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ExponentialBackoff:
    """
    ``initial * multiplier ** (attempt - 1)``, at most ``maximum``, less up to ``jitter`` of it.

    Attributes:
        max_attempts: Executions in all.
        initial: Delay after the first failure.
        multiplier: Growth per failure.
        maximum: Upper bound of the delay.
        jitter: Share of the delay that chance may take away, 0 to 1.
    """

    max_attempts: int = 3
    initial: timedelta = timedelta(seconds=1)
    multiplier: float = 2.0
    maximum: timedelta = timedelta(minutes=5)
    jitter: float = 0.1

    def __post_init__(self) -> None:
        _check(self.max_attempts)
        if self.initial < timedelta(0) or self.maximum < self.initial or self.multiplier < 1:
            raise ValueError("a backoff needs 0 <= initial <= maximum and a multiplier of at least 1")
        if not 0 <= self.jitter <= 1:
            raise ValueError("jitter is a share between 0 and 1")

    def should_retry(self, attempt: int, error: BaseException | None) -> bool:
        return attempt < self.max_attempts

    def next_delay(self, attempt: int, error: BaseException | None, chance: float) -> timedelta:
        # 2.0 ** 1024 overflows; no delay needs more than 63 doublings.
        grown = self.initial.total_seconds() * self.multiplier ** min(attempt - 1, 63)
        return timedelta(seconds=min(grown, self.maximum.total_seconds()) * (1 - self.jitter * chance))


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedDelay:
    """
    The same delay after every failure.
    """

    delay: timedelta
    max_attempts: int = 3

    def __post_init__(self) -> None:
        _check(self.max_attempts)

    def should_retry(self, attempt: int, error: BaseException | None) -> bool:
        return attempt < self.max_attempts

    def next_delay(self, attempt: int, error: BaseException | None, chance: float) -> timedelta:
        return self.delay


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRetry:
    """
    One execution; its failure is final.
    """

    max_attempts: int = 1

    def should_retry(self, attempt: int, error: BaseException | None) -> bool:
        return False

    def next_delay(self, attempt: int, error: BaseException | None, chance: float) -> timedelta:
        return timedelta(0)


def _check(max_attempts: int) -> None:
    if max_attempts < 1:
        raise ValueError("max_attempts counts executions and must be at least 1")


def to_data(policy: RetryPolicy | None) -> dict[str, Any] | None:
    """
    *policy* as the data that is kept in the lock, so that a process without the handler can judge.

    A policy of the user's own is kept as its attempt limit and no delay.
    """
    match policy:
        case None:
            return None
        case ExponentialBackoff():
            return {
                "kind": "exponential",
                "initial": policy.initial.total_seconds(),
                "multiplier": policy.multiplier,
                "maximum": policy.maximum.total_seconds(),
                "jitter": policy.jitter,
            }
        case FixedDelay():
            return {"kind": "fixed", "delay": policy.delay.total_seconds()}
        case _:
            return {"kind": "fixed", "delay": 0.0}


def delay_of(data: dict[str, Any], attempt: int, chance: float) -> float:
    """
    Seconds to wait after *attempt* whose holder died, by a policy kept with ``to_data``.
    """
    if data.get("kind") == "exponential":
        policy = ExponentialBackoff(
            max_attempts=2**31,
            initial=timedelta(seconds=data["initial"]),
            multiplier=data["multiplier"],
            maximum=timedelta(seconds=data["maximum"]),
            jitter=data["jitter"],
        )
        return policy.next_delay(attempt, None, chance).total_seconds()
    return float(data.get("delay", 0.0))
