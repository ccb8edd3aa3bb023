"""
The search through all states of a world, breadth first: the first violation found is one with a shortest path.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

S = TypeVar("S", bound=Hashable)


class Step(NamedTuple, Generic[S]):
    """
    One transition.

    Attributes:
        label: Who does what, for a story.
        state: The state after it.
        broken: What it breaks, in a sentence; None: nothing.
    """

    label: str
    state: S
    broken: str | None = None


class ModelWorld(Protocol[S]):
    """
    A world: where it begins, what may happen next, and what must hold in every state.
    """

    def first(self) -> S:
        """
        Return the state in which the world begins.
        """

    def steps(self, state: S) -> Iterable[Step[S]]:
        """
        Yield all transitions from *state*.
        """

    def wrong(self, state: S) -> str | None:
        """
        Return what is wrong in *state*, as a sentence; None: nothing.
        """


@dataclass
class Explored:
    """
    What a search has found.

    Attributes:
        states: Number of states.
        steps: Number of transitions.
        depth: Transitions on the longest of the shortest paths.
        broken: The first violation as a sentence; None: there is none.
        story: The path to it, one transition a line.
        complete: Whether every reachable state was seen.
        met: How often each thing happened, by the first word of the labels.
    """

    states: int = 0
    steps: int = 0
    depth: int = 0
    broken: str | None = None
    story: list[str] = field(default_factory=list)
    complete: bool = True
    met: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        found = f"{self.states} states, {self.steps} transitions, depth {self.depth}"
        if self.broken is None:
            return f"{found}: every invariant holds" if self.complete else f"{found}: not all of them were seen"
        return "\n".join([f"{found}: {self.broken}", *(f"{at:4}. {line}" for at, line in enumerate(self.story, 1))])


def explore(world: ModelWorld[S], *, most: int = 10_000_000) -> Explored:
    """
    Visit every state that *world* can reach, until one is wrong, or until *most* states were seen.
    """
    first = world.first()
    came: dict[S, tuple[S, str] | None] = {first: None}
    found = Explored(states=1, broken=world.wrong(first))
    layer = [first]
    while layer and found.broken is None:
        following: list[S] = []
        for state in layer:
            for label, after, broken in world.steps(state):
                found.steps += 1
                if broken is None and after in came:
                    continue
                came.setdefault(after, (state, label))
                found.broken = broken or world.wrong(after)
                if found.broken is not None:
                    found.story = [*_story(came, state), label]
                    found.states = len(came)
                    found.depth += 1
                    return found
                following.append(after)
            if len(came) > most:
                found.states, found.complete = len(came), False
                return found
        layer = following
        found.depth += bool(layer)
    found.states = len(came)
    return found


def _story(came: dict[S, tuple[S, str] | None], state: S) -> list[str]:
    lines = []
    while (step := came[state]) is not None:
        state, label = step
        lines.append(label)
    return lines[::-1]
