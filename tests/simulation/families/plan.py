"""
What a history of durable handlers with families is made of: children, lists, pages, named transactions and polls; pushed or
pulled.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from tests.simulation.chains.plan import Plan
from tests.simulation.durables.plan import DurablesPlan, durables_plan_of

_FIRST = 1_000_000
"""The histories are other ones than those of durable handlers without families."""
_NOT_PULLED = {"lost_deliveries", "duplicates", "delays", "paused_queue", "purges"}


@dataclass(frozen=True)
class FamiliesPlan(DurablesPlan):
    """
    One history of durable handlers with families.

    Attributes:
        pull: Whether workers pull the tasks.
    """

    pull: bool = False

    def smaller(self) -> list[Plan]:
        """
        The same history with one thing less, the greatest relief first.
        """
        found: list[Plan] = [replace(self, pull=False)] if self.pull else []
        return found + super().smaller()


def families_plan_of(seed: int) -> FamiliesPlan:
    """
    The history of *seed*.
    """
    drawn = durables_plan_of(_FIRST + seed)
    given = {each.name: getattr(drawn, each.name) for each in fields(drawn)} | {"seed": seed}
    pull = seed % 4 == 3 and not drawn.calls
    troubles = frozenset(t for t in drawn.troubles if not (pull and t in _NOT_PULLED))
    given |= {"pull": pull, "troubles": troubles, "words": min(drawn.words, 5), "works": min(drawn.works, 3)}
    return FamiliesPlan(**given)
