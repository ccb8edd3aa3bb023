"""
The cost of a test on Google Cloud: documents, operations, calls, and their list price.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

MILLION: Final = 1_000_000
PRICES: Final = {"reads": 0.30, "writes": 0.90, "cloud_tasks": 0.40}
"""
List prices in US dollars per million, without free tiers: Firestore's Standard edition in a region of the United States
(twice as much in the multi-region), and Cloud Tasks. Source: Google's price pages of 2026.
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """
    A use of Firestore and Cloud Tasks.

    Attributes:
        reads: Documents read, as Firestore bills them: a missing document counts, and so does a query without results.
        writes: Writes and deletes of documents.
        cloud_tasks: Operations of Cloud Tasks: each call, and each attempt to deliver a task.
        calls: The calls of each RPC, by name.
    """

    reads: int = 0
    writes: int = 0
    cloud_tasks: int = 0
    calls: Mapping[str, int] = field(default_factory=dict)

    @property
    def price(self) -> float:
        """
        The list price in US dollars; see ``PRICES``.
        """
        used: dict[str, int] = {name: getattr(self, name) for name in PRICES}
        return sum(used[name] * price for name, price in PRICES.items()) / MILLION

    def __sub__(self, before: Cost) -> Cost:
        """
        Return the use since *before*.
        """
        calls = Counter(self.calls)
        calls.subtract(before.calls)
        return Cost(
            self.reads - before.reads,
            self.writes - before.writes,
            self.cloud_tasks - before.cloud_tasks,
            {name: count for name, count in calls.items() if count},
        )

    def __str__(self) -> str:
        calls = ", ".join(f"{count} {name}" for name, count in sorted(self.calls.items())) or "no call"
        return (
            f"{self.reads} reads, {self.writes} writes, {self.cloud_tasks} operations of Cloud Tasks ({calls}): "
            f"${self.price * MILLION:.2f} per million times"
        )


def check(cost: Cost, most: Mapping[str, int | None]) -> None:
    """
    Fail if *cost* is more than the numbers in *most*, by attribute; None is no limit.

    Raises:
        AssertionError: The message has each number that is too high, and the whole cost.
    """
    wrong = [
        f"{getattr(cost, name)} {name}, at most {limit} are allowed"
        for name, limit in most.items()
        if limit is not None and getattr(cost, name) > limit
    ]
    if wrong:
        raise AssertionError(f"The test costs too much: {'; '.join(wrong)}. It has used {cost}.")
