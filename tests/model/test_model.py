"""
The promise in every state that small worlds can reach, explored on the library's own rules, flow and calls.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.model.explorer import Explored, explore
from tests.model.memory import forget
from tests.model.mistakes import MISTAKES, Mistake, made
from tests.model.replay import alone
from tests.model.worlds import LARGE, WORLDS


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with alone():
        yield
    forget()


def told(name: str, found: Explored) -> Explored:
    """
    Print what a search has found.
    """
    print(f"{name}: {found}")
    return found


@pytest.mark.parametrize("name", WORLDS)
def test_every_state_keeps_the_promise(name: str) -> None:
    """
    One holder, tokens that rise, ends that stay, callers that are told the truth, keys that are looked after, and alerts for
    takeovers, in each state; and the world was large enough to show it.
    """
    world = WORLDS[name]()
    found = told(name, explore(world))

    assert found.broken is None, str(found)
    assert found.complete
    assert found.states > 1_000
    for happened in MET[name]:
        assert world.met[happened] > 0, happened


MET = {
    "one step": (
        "deliver: granted, token 2",
        "deliver: recovered",
        "deliver: unknown",
        "deliver: short-lease",
        "renew: LeaseLostError",
        "settle: LeaseLostError",
        "settle: retrying",
        "sweep: judge",
    ),
    "two steps": ("settle: continued", "settle: completed", "deliver: granted, token 3", "sweep: dispatch"),
    "shared key": ("deliver: parked", "settle: completed", "deliver: granted, token 1"),
}
"""What must happen in each world: else it proves nothing."""


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", LARGE)
def test_every_state_of_a_large_world_keeps_the_promise(name: str) -> None:
    """
    The same with two faults on one path, or with more time.
    """
    found = told(name, explore(LARGE[name]()))

    assert found.broken is None, str(found)


def _marked(mistake: Mistake) -> object:
    return pytest.param(mistake, id=mistake.what, marks=[pytest.mark.slow] if mistake.slow else [])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mistake", [_marked(mistake) for mistake in MISTAKES])
def test_mistake_is_found(mistake: Mistake) -> None:
    """
    Each mistake leads to a state that is wrong, and the shortest way there is told.
    """
    with made(mistake):
        found = told(mistake.what, explore({**WORLDS, **LARGE}[mistake.world]()))

    assert found.broken is not None, f"{mistake.what} was not found in {found}"
    assert len(found.story) == found.depth > 1


def test_story_says_who_does_what() -> None:
    """
    The shortest way to a violation can be read.
    """
    mistake = next(mistake for mistake in MISTAKES if mistake.what.startswith("a lease that is held is granted"))
    with made(mistake):
        found = explore(WORLDS["one step"]())

    assert [line.split(":")[0] for line in found.story][-1].endswith("commits")
    assert str(found).splitlines()[0].endswith("the lease of token 1 was ended before its end")
