"""
Faults on demand, repeatable from a seed: RPCs that fail before or after their effect, and deliveries that are
duplicated, delayed, reordered or lost.
"""

from __future__ import annotations

import random  # noqa: TID251 - the type only; numbers come from clock.rng
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, get_args

import grpc

from gcp_emulator import words
from gcp_emulator.clock import rng

When = Literal["before", "after", "late"]


@dataclass(frozen=True, slots=True)
class Fault:
    """
    A fault of one call.

    Attributes:
        when: ``before`` the effect (nothing happens), ``after`` it (applied, and the answer lost), or ``late``: the caller
            sees the failure at once, and the call takes effect *delay* seconds later.
        code: The status the caller sees.
        message: Its text.
        delay: Seconds that the answer, or with ``late`` the effect, is held back.

    Raises:
        ValueError: *when* is another word.
    """

    when: When = "before"
    code: grpc.StatusCode | None = grpc.StatusCode.UNAVAILABLE
    message: str = "injected fault"
    delay: float = 0.0

    def __post_init__(self) -> None:
        words.check("when", self.when, get_args(When))


@dataclass(slots=True)
class _Rule:
    method: str
    fault: Fault
    skip: int
    times: int | None
    probability: float


@dataclass(slots=True)
class DeliveryFaults:
    """
    Rates between 0 and 1, drawn for every dispatch of a task.

    Attributes:
        duplicate: A second copy is delivered while the first may still run.
        delay: The dispatch is held back by up to ``delay_seconds``; this also reorders.
        lose: Nothing is sent; the queue sees a failed attempt.
        lose_answer: The connection is dropped after the request was sent; the handler goes on running.
    """

    duplicate: float = 0.0
    delay: float = 0.0
    delay_seconds: float = 1.0
    lose: float = 0.0
    lose_answer: float = 0.0


@dataclass(slots=True)
class Faults:
    """
    A list of rules; each call takes the first one that applies to it.

    Attributes:
        seed: Repeats the same decisions for the same order of calls.
        deliveries: Rates for the deliveries of Cloud Tasks.
        injected: Number of uses of each fault, by ``"{method} {when}"`` or the delivery fault's name.
    """

    seed: int = 0
    deliveries: DeliveryFaults = field(default_factory=DeliveryFaults)
    injected: Counter[str] = field(default_factory=Counter)
    _rules: list[_Rule] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _rng: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._rng = rng(self.seed)

    def fail(
        self,
        method: str,
        *,
        when: When = "before",
        code: grpc.StatusCode | None = grpc.StatusCode.UNAVAILABLE,
        message: str = "injected fault",
        delay: float = 0.0,
        skip: int = 0,
        times: int | None = 1,
        probability: float = 1.0,
    ) -> None:
        """
        Add a rule for an RPC.

        Args:
            method: Name of the RPC, such as ``Commit`` or ``CreateTask``; ``*`` for every one. The name of a delivery fault
                makes that fault strike regardless of its rate; then only *skip*, *times* and *probability* count.
            when: Fail before or after the effect, or with an effect that comes late.
            code: Status of the failure; None only delays.
            message: Its text.
            delay: Seconds before the answer goes out; with ``late``, before the effect.
            skip: Calls that pass unharmed first.
            times: Calls that are hurt, then the rule is spent; None for ever.
            probability: Chance that a call the rule applies to is hurt.

        Raises:
            ValueError: *when* is another word.
        """
        with self._lock:
            self._rules.append(_Rule(method, Fault(when, code, message, delay), skip, times, probability))

    def clear(self) -> None:
        """
        Forget every rule and every delivery fault; the counts stay.
        """
        with self._lock:
            self._rules.clear()
            self.deliveries = DeliveryFaults()

    def take(self, method: str) -> Fault | None:
        """
        The fault of this call, if one applies; uses it up.
        """
        if not self._rules:
            return None
        with self._lock:
            fault = self._use(method, "*")
            if fault is not None:
                self.injected[f"{method} {fault.when}"] += 1
            return fault

    def strikes(self, name: str, rate: float) -> bool:
        """
        Tell whether the delivery fault *name* strikes now, by a rule of that name or at *rate*; if so, it is counted.
        """
        with self._lock:
            if self._use(name) is None and (rate <= 0 or self._draw() >= rate):
                return False
            self.injected[name] += 1
            return True

    def amount(self, most: float) -> float:
        """
        A number between 0 and *most*.
        """
        with self._lock:
            return self._draw() * most

    def _use(self, *names: str) -> Fault | None:
        for rule in self._rules:
            if rule.method not in names:
                continue
            if rule.skip > 0:
                rule.skip -= 1
                continue
            if rule.times == 0 or self._draw() >= rule.probability:
                continue
            if rule.times is not None:
                rule.times -= 1
            return rule.fault
        return None

    def _draw(self) -> float:
        return self._rng.random()
