"""
Retry policies: decide whether another attempt follows a failed one, and when.

Pure: a random number comes in as an argument. The defaults are those of the oncetask ancestor (3 attempts, 1 s, doubled, at
most 5 minutes), with jitter added.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Protocol, runtime_checkable

from gcp_oncetask.checks import values
from gcp_oncetask.checks.values import Duration
from gcp_oncetask.errors import ConfigError

_MOST_GROWTH: Final = 1000.0
_NUMBERS: Final = {"exponential": ("initial", "multiplier", "maximum", "jitter"), "fixed": ("delay",)}
"""Numbers that are stored with each kind of policy."""


@runtime_checkable
class RetryPolicy(Protocol):
    """
    Decides after a failed attempt whether and when the next one follows.
    """

    @property
    def max_attempts(self) -> int:
        """
        Most executions, the first one included.
        """

    def should_retry(self, attempt: int, error: BaseException | None) -> bool:
        """
        Tell whether the task is tried again after *attempt* (1-based) ended in *error* (None: its process died).
        """

    def next_delay(self, attempt: int, error: BaseException | None, chance: float) -> timedelta:
        """
        Return the delay after *attempt*; *chance*, a random number in [0, 1), spreads it.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ExponentialBackoff:
    """
    ``initial * multiplier ** (attempt - 1)``, at most ``maximum``, less up to ``jitter`` of it.

    Attributes:
        max_attempts: Most executions, the first one included.
        initial: Delay after the first failure; seconds or a timedelta.
        multiplier: Growth per failure.
        maximum: Upper bound of the delay; seconds or a timedelta.
        jitter: Share of the delay that chance may take away, 0 to 1.

    Raises:
        ConfigError: An argument is invalid, or the initial delay is longer than the maximum.
    """

    max_attempts: int = 3
    initial: Duration = timedelta(seconds=1)
    multiplier: float = 2.0
    maximum: Duration = timedelta(minutes=5)
    jitter: float = 0.1

    def __post_init__(self) -> None:
        _check(self, "initial", "maximum")
        with values.as_config_errors():
            values.number(self.multiplier, "multiplier", least=1, most=_MOST_GROWTH)
            values.number(self.jitter, "jitter", least=0, most=1)
        initial, maximum = values.seconds(self.initial, "initial"), values.seconds(self.maximum, "maximum")
        if maximum < initial:
            raise ConfigError(f"initial ({initial:g} s) must be at most the maximum ({maximum:g} s).")

    def should_retry(self, attempt: int, error: BaseException | None) -> bool:
        return attempt < self.max_attempts

    def next_delay(self, attempt: int, error: BaseException | None, chance: float) -> timedelta:
        # 2.0 ** 1024 overflows; no delay needs more than 63 growths.
        grown = values.seconds(self.initial, "initial") * self.multiplier ** min(attempt - 1, 63)
        longest = values.seconds(self.maximum, "maximum")
        return timedelta(seconds=min(grown, longest) * (1 - self.jitter * chance))


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedDelay:
    """
    The same delay, seconds or a timedelta, after every failure.

    Raises:
        ConfigError: The delay or the number of attempts is invalid.
    """

    delay: Duration
    max_attempts: int = 3

    def __post_init__(self) -> None:
        _check(self, "delay")

    def should_retry(self, attempt: int, error: BaseException | None) -> bool:
        return attempt < self.max_attempts

    def next_delay(self, attempt: int, error: BaseException | None, chance: float) -> timedelta:
        return values.length(self.delay, "delay")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRetry:
    """
    One execution; its failure is final.
    """

    max_attempts: int = 1

    def __post_init__(self) -> None:
        _check(self)

    def should_retry(self, attempt: int, error: BaseException | None) -> bool:
        return False

    def next_delay(self, attempt: int, error: BaseException | None, chance: float) -> timedelta:
        return timedelta(0)


def _check(policy: Any, *delays: str) -> None:
    """
    Check the number of attempts and the *delays* of a policy, and convert the delays to timedeltas, so that equal policies
    compare equal.
    """
    with values.as_config_errors():
        values.whole(policy.max_attempts, "max_attempts")
        for name in delays:
            object.__setattr__(policy, name, values.length(getattr(policy, name), name))


def to_data(policy: RetryPolicy | None) -> dict[str, Any] | None:
    """
    Return *policy* as the data that is stored in the lock, so that a process without the handler can apply it.

    A custom policy is stored as its attempt limit, without a delay.
    """
    match policy:
        case None:
            return None
        case ExponentialBackoff():
            return {
                "kind": "exponential",
                "initial": values.seconds(policy.initial, "initial"),
                "multiplier": policy.multiplier,
                "maximum": values.seconds(policy.maximum, "maximum"),
                "jitter": policy.jitter,
            }
        case FixedDelay():
            return {"kind": "fixed", "delay": values.seconds(policy.delay, "delay")}
        case _:
            return {"kind": "fixed", "delay": 0.0}


def check_data(data: dict[str, Any]) -> None:
    """
    Refuse data that is not a policy stored by some release with ``to_data``.

    Raises:
        ValueError, TypeError: The data has another form.
    """
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in _NUMBERS:
        raise ValueError(f"its kind is {kind!r:.60}")
    for name in _NUMBERS[kind]:
        number = data.get(name)
        if isinstance(number, bool) or not isinstance(number, int | float) or not number >= 0:
            raise ValueError(f"its {name} is {number!r:.60}")
    delay_of(data, 1, 0.0)


def delay_of(data: dict[str, Any], attempt: int, chance: float) -> float:
    """
    Return the delay in seconds after *attempt*, whose holder died, by the data of a policy made with ``to_data``.
    """
    if data.get("kind") == "exponential":
        policy = ExponentialBackoff(
            max_attempts=2**31,
            initial=min(data["initial"], values.LONGEST),
            multiplier=min(data["multiplier"], _MOST_GROWTH),
            maximum=min(data["maximum"], values.LONGEST),
            jitter=data["jitter"],
        )
        return policy.next_delay(attempt, None, chance).total_seconds()
    return min(float(data.get("delay", 0.0)), values.LONGEST)
